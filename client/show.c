#include "client/show.h"

#include "core/base/utf8.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TEXT = 2000, BAR = 30 };

const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

double number_of(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

/* `but`: a control character that stays. */
static char *clean(char *text, char but)
{
    for (char *c = text; *c; c++) {
        unsigned char u = (unsigned char)*c;
        /* C1 control characters are C2 80..9F in UTF-8. */
        bool c1 = u == 0xc2 && (unsigned char)c[1] >= 0x80 && (unsigned char)c[1] < 0xa0;
        if (c1)
            *c++ = '?';
        if ((u < 0x20 && *c != but) || u == 0x7f || c1)
            *c = '?';
    }
    return text;
}

char *show_plain(char *text) { return clean(utf8_mend(text), '\0'); }

static void show_v(FILE *to, const char *fmt, va_list ap)
{
    char text[MAX_TEXT];
    vsnprintf(text, sizeof text, fmt, ap);
    fputs(clean(text, '\n'), to);
}

void show(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    show_v(to, fmt, ap);
    va_end(ap);
}

void show_note(struct client *c, const char *fmt, ...)
{
    va_list ap;
    if (c->o.quiet || c->o.json)
        return;
    show_bar_end(c);
    va_start(ap, fmt);
    show_v(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void show_bar(struct client *c, const char *text, double done, double total)
{
    static const char full[] = "##############################", none[] = "..............................";
    if (!c->terminal)
        return;
    int n = total > 0 ? (int)(BAR * (done < total ? done / total : 1)) : 0;
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", total > 0 ? 40 : 60, text);
    show_plain(plain);          /* names of files, and stages as the service calls them */
    if (total > 0)
        fprintf(stderr, "\r\033[K%-14s [%.*s%.*s] %3.0f %%", plain, n, full, BAR - n, none, 100 * done / total);
    else
        fprintf(stderr, "\r\033[K%s", plain);
    (void)fflush(stderr);
}

void show_bar_end(struct client *c)
{
    if (c->terminal)
        fputs("\r\033[K", stderr);
}

void show_failure(FILE *to, const struct failure *f)
{
    const char *advice = failure_advice(f);
    show(to, "repquantctl: %s%s%s [%s]\n", f->what, f->what[0] ? "" : f->text, "", f->code);
    if (f->where[0])
        show(to, "  where:       %s\n", f->where);
    if (f->what[0])
        show(to, "  details:     %s\n", f->text);
    if (advice[0])
        show(to, "  what to do:  %s\n", advice);
    if (f->request_id[0])
        show(to, "  request id:  %s\n", f->request_id);
}

/* ---- events ---- */

static void event_progress(const json_t *d, char *ret, size_t size)
{
    snprintf(ret, size, "%.0f of %.0f sites", number_of(d, "done"), number_of(d, "total"));
}

static void event_stage(const json_t *d, char *ret, size_t size) { snprintf(ret, size, "%s", text_of(d, "stage")); }

static void event_layer(const json_t *d, char *ret, size_t size)
{
    const json_t *layer = json_object_get(d, "layer"), *sqnr = json_object_get(layer, "output_sqnr_db");
    int n = snprintf(ret, size, "layer %.0f %s %s", number_of(d, "index"), text_of(layer, "name"), text_of(layer, "actual_precision"));
    if (json_is_number(sqnr) && n > 0 && (size_t)n < size)
        snprintf(ret + n, size - (size_t)n, ", %.1f dB", json_number_value(sqnr));
}

static void event_warning(const json_t *d, char *ret, size_t size)
{
    snprintf(ret, size, "warning: %s%s%s [%s]", text_of(d, "where"), *text_of(d, "where") ? ": " : "", text_of(d, "detail"), text_of(d, "code"));
}

static void event_metric(const json_t *d, char *ret, size_t size)
{
    const json_t *before = json_object_get(d, "float");
    if (json_is_number(before))
        snprintf(ret, size, "%s: float %.5g, quantized %.5g", text_of(d, "name"), json_number_value(before), number_of(d, "quantized"));
    else
        snprintf(ret, size, "%s: %.5g", text_of(d, "name"), number_of(d, "quantized"));
}

static void event_artifact(const json_t *d, char *ret, size_t size)
{
    snprintf(ret, size, "made %s, %.0f bytes", text_of(d, "name"), number_of(d, "size"));
}

static void event_state(const json_t *d, char *ret, size_t size)
{
    const char *detail = text_of(json_object_get(d, "problem"), "detail");
    snprintf(ret, size, "%s%s%s", text_of(d, "state"), *detail ? ": " : "", detail);
}

static const struct {
    const char *type;
    void (*say)(const json_t *data, char *ret, size_t size);
} events[] = {
    { "job.progress", event_progress },   { "job.stage_changed", event_stage }, { "job.layer_completed", event_layer },
    { "job.warning", event_warning },     { "job.metric", event_metric },       { "artifact.created", event_artifact },
    { "job.queued", event_state },        { "job.started", event_state },       { "job.cancel_requested", event_state },
    { "job.canceled", event_state },      { "job.failed", event_state },        { "job.succeeded", event_state },
};

void show_event(const json_t *event, char *ret, size_t size)
{
    const char *type = text_of(event, "type");
    ret[0] = '\0';
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (strcmp(events[i].type, type) == 0) {
            events[i].say(json_object_get(event, "data"), ret, size);
            return;
        }
    snprintf(ret, size, "%s", type);        /* newer than this program */
}

/* ---- jobs ---- */

/* {"top1": {"float": 0.75, "quantized": 0.5, "samples": 4}}: what was lost is the point of it. */
static void show_metrics(FILE *to, const json_t *metrics)
{
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metrics, name, value) {
        const json_t *before = json_object_get(value, "float"), *after = json_object_get(value, "quantized");
        if (json_is_number(before))
            show(to, "  %-16s %.5g -> %.5g\n", name, json_number_value(before), json_number_value(after));
        else if (json_is_number(after))
            show(to, "  %-16s %.5g\n", name, json_number_value(after));
    }
}

void show_job(FILE *to, const json_t *job)
{
    const json_t *problem = json_object_get(job, "problem"), *progress = json_object_get(job, "progress"), *queue = json_object_get(job, "queue");
    show(to, "%s %s", text_of(job, "id"), text_of(job, "state"));
    if (*text_of(job, "stage"))
        show(to, ", %s, %.0f %%", text_of(job, "stage"), number_of(progress, "percent"));
    if (json_is_object(queue))
        show(to, ", %.0f ahead", number_of(queue, "ahead"));
    fputc('\n', to);
    if (json_is_object(problem)) {
        struct failure f = { 0 };
        fail_problem(&f, (long)number_of(problem, "status"), problem);
        f.request_id[0] = '\0';
        f.again = false;        /* the job has ended; to repeat it is another command */
        f.status = 0;
        show_failure(to, &f);
    }
    show_metrics(to, json_object_get(json_object_get(job, "result"), "metrics"));
}

void show_jobs(FILE *to, const json_t *list)
{
    const json_t *data = json_object_get(list, "data");
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *job = json_array_get(data, i);
        show(to, "%s  %-9s  %3.0f %%  %s  %s\n", text_of(job, "id"), text_of(job, "state"),
             number_of(json_object_get(job, "progress"), "percent"), text_of(job, "created_at"), text_of(job, "stage"));
    }
}
