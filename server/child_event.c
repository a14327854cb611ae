#include "server/child_event.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 8, TEXT_MAX = 8 << 10 };

static const char *const names[EVENT_KINDS] = {
#define X(name, text) [EVENT_##name] = text,
    CHILD_EVENTS(X)
#undef X
};

static enum child_event_kind kind_of(const char *name)
{
    for (int i = EVENT_OTHER + 1; i < EVENT_KINDS; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum child_event_kind)i;
    return EVENT_OTHER;
}

static bool text(const struct child_event *ev, const char *key, bool optional, const char **ret, struct err *e)
{
    return json_get_str(ev->line, key, "", optional, TEXT_MAX, ret, ERR_BUG, e);
}

static bool count(const struct child_event *ev, const char *key, bool optional, int64_t *ret, struct err *e)
{
    return json_get_int(ev->line, key, "", optional, 0, INT64_C(1) << 53, ret, ERR_BUG, e);
}

/* null and absent are unknown */
static bool number(const struct child_event *ev, const char *key, double *ret, struct err *e)
{
    if (json_is_null(json_object_get(ev->line, key)))
        return true;
    return json_get_real(ev->line, key, "", true, -HUGE_VAL, HUGE_VAL, ret, ERR_BUG, e);
}

static bool parse_stage(struct child_event *ev, struct err *e) { return text(ev, "stage", false, &ev->name, e); }

static bool parse_progress(struct child_event *ev, struct err *e)
{
    return count(ev, "done", false, &ev->done, e) && count(ev, "total", false, &ev->total, e)
        && count(ev, "samples", true, &ev->samples, e);
}

static bool parse_resumed(struct child_event *ev, struct err *e)
{
    return count(ev, "sites", false, &ev->sites, e) && count(ev, "weights", false, &ev->weights, e);
}

static bool parse_layer(struct child_event *ev, struct err *e)
{
    return json_get_int(ev->line, "index", "", false, 0, 1 << 20, &ev->index, ERR_BUG, e);
}

static bool parse_warning(struct child_event *ev, struct err *e)
{
    return text(ev, "code", false, &ev->code, e) && text(ev, "where", true, &ev->where, e)
        && text(ev, "detail", true, &ev->detail, e);
}

static bool parse_metric(struct child_event *ev, struct err *e)
{
    return text(ev, "name", false, &ev->name, e) && number(ev, "float", &ev->x_float, e)
        && number(ev, "quantized", &ev->x_quantized, e) && count(ev, "samples", true, &ev->samples, e);
}

static bool parse_done(struct child_event *ev, struct err *e)
{
    ev->files = json_object_get(ev->line, "files");
    bool ok = json_is_array(ev->files);
    for (size_t i = 0; ok && i < json_array_size(ev->files); i++)
        ok = json_is_string(json_array_get(ev->files, i));
    if (!ok)
        return err_set(e, ERR_BUG, "/files", "\"files\" must be an array of strings");
    return count(ev, "peak_bytes", true, &ev->peak_bytes, e) && number(ev, "cpu_seconds", &ev->cpu_seconds, e);
}

static bool parse_problem(struct child_event *ev, struct err *e)
{
    return parse_warning(ev, e) && json_get_bool(ev->line, "retryable", "", true, &ev->retryable, ERR_BUG, e);
}

static bool parse_other(struct child_event *ev, struct err *e)
{
    (void)ev, (void)e;
    return true;
}

bool child_event_parse(const char *line, size_t n, struct child_event *ret, struct err *e)
{
    static bool (*const parsers[EVENT_KINDS])(struct child_event *, struct err *) = {
        [EVENT_OTHER] = parse_other, [EVENT_STAGE] = parse_stage, [EVENT_PROGRESS] = parse_progress,
        [EVENT_RESUMED] = parse_resumed,
        [EVENT_LAYER] = parse_layer, [EVENT_WARNING] = parse_warning, [EVENT_METRIC] = parse_metric,
        [EVENT_DONE] = parse_done, [EVENT_PROBLEM] = parse_problem,
    };
    const char *name;
    struct child_event ev = { .name = "", .code = "", .where = "", .detail = "", .x_float = NAN, .x_quantized = NAN, .cpu_seconds = NAN };
    ev.line = json_parse(line, n, MAX_DEPTH, ERR_BUG, e);
    bool ok = ev.line && text(&ev, "event", false, &name, e);
    if (ok) {
        ev.kind = kind_of(name);
        ok = parsers[ev.kind](&ev, e);
    }
    if (!ok) {
        json_decref(ev.line);
        return false;
    }
    *ret = ev;
    return true;
}

void child_event_release(struct child_event *ev)
{
    json_decref(ev->line);
    ev->line = NULL;
}

char *child_event_row(const struct child_event *ev)
{
    json_t *row = json_copy(ev->line);
    if (!row)
        return NULL;
    json_object_del(row, "event");
    json_object_del(row, "index");
    char *dumped = json_text(row, JSON_COMPACT);
    json_decref(row);
    return dumped;
}
