#include "core/report/events.h"

#include "core/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

void events_stage(const struct events *ev, const char *stage)
{
    if (ev && ev->stage)
        ev->stage(ev->arg, stage);
}

void events_progress(const struct events *ev, int done, int total, int64_t samples)
{
    if (ev && ev->progress)
        ev->progress(ev->arg, done, total, samples);
}

void events_resumed(const struct events *ev, int sites, int weights)
{
    if (ev && ev->resumed)
        ev->resumed(ev->arg, sites, weights);
}

void events_layer(const struct events *ev, int index, const json_t *row)
{
    if (ev && ev->layer)
        ev->layer(ev->arg, index, row);
}

void events_warning(const struct events *ev, const char *code, const char *where, const char *fmt, ...)
{
    if (!ev || !ev->warning)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ev->warning(ev->arg, code, where, utf8_mend(text));
}

void events_metric(const struct events *ev, const char *name, double reference, double quantized, int64_t samples)
{
    if (ev && ev->metric)
        ev->metric(ev->arg, name, reference, quantized, samples);
}
