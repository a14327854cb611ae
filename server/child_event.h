/*
 * child_event.h - one line of a child's event pipe, checked.  The child reads strangers' files, so its
 * lines are a stranger's too: bounded, typed, and never used before they have been looked at.
 */
#ifndef SERVER_CHILD_EVENT_H
#define SERVER_CHILD_EVENT_H

#include "core/base/err.h"
#include "core/base/json.h"

enum { CHILD_LINE_MAX = 16 << 10 };

#define CHILD_EVENTS(X) X(STAGE, "stage") X(PROGRESS, "progress") X(RESUMED, "resumed") X(LAYER, "layer") X(WARNING, "warning") \
    X(METRIC, "metric") X(DONE, "done") X(PROBLEM, "problem")
enum child_event_kind {
    EVENT_OTHER,                    /* one we do not know: ignored */
#define X(name, text) EVENT_##name,
    CHILD_EVENTS(X)
#undef X
    EVENT_KINDS
};

struct child_event {
    enum child_event_kind kind;
    json_t *line;                   /* owned; the strings below are borrowed from it */
    const char *name;               /* stage, metric; "" otherwise */
    const char *code, *where, *detail;      /* warning, problem */
    int64_t done, total, samples;   /* progress; metric has samples */
    int64_t sites, weights;         /* resumed */
    int64_t index;                  /* layer */
    double x_float, x_quantized;    /* metric; NaN: unknown */
    bool retryable;                 /* problem */
    const json_t *files;            /* done: an array of strings */
    int64_t peak_bytes;             /* done: what it took; 0 and NaN: unknown */
    double cpu_seconds;
};

/* False with *e: not an event.  On success child_event_release() it. */
bool child_event_parse(const char *line, size_t n, struct child_event *ret, struct err *e);
void child_event_release(struct child_event *ev);

/* The layer's row, without what only the event needs; malloc'd, NULL without memory. */
char *child_event_row(const struct child_event *ev);

#endif
