/*
 * events.h - what a long computation tells whoever watches it.  See docs/job.md for the lines they become.
 *
 * Every member may be NULL.  Calls come from one thread.
 */
#ifndef CORE_REPORT_EVENTS_H
#define CORE_REPORT_EVENTS_H

#include "core/base/json.h"

struct events {
    void *arg;
    void (*stage)(void *arg, const char *stage);
    void (*progress)(void *arg, int done, int total, int64_t samples);
    void (*resumed)(void *arg, int sites, int weights);
    void (*layer)(void *arg, int index, const json_t *row);
    void (*warning)(void *arg, const char *code, const char *where, const char *detail);
    void (*metric)(void *arg, const char *name, double reference, double quantized, int64_t samples);
};

void events_stage(const struct events *ev, const char *stage);
void events_progress(const struct events *ev, int done, int total, int64_t samples);
/* So many were taken from the journal of an attempt before. */
void events_resumed(const struct events *ev, int sites, int weights);
void events_layer(const struct events *ev, int index, const json_t *row);
void events_warning(const struct events *ev, const char *code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* reference may be NaN: there is none. */
void events_metric(const struct events *ev, const char *name, double reference, double quantized, int64_t samples);

#endif
