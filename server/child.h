/*
 * child.h - one `repquant job` process: start it, listen to it, end it.
 *
 *   child_run():  spawn --> poll: events, diagnostics, exit, stop, clocks --> kill the group --> reap
 *
 * Whatever happens, when child_run() returns no process of the child's session, and none of its control group, is left and nothing
 * needs to be reaped.  See docs/job.md for what the two ends say to each other.
 */
#ifndef SERVER_CHILD_H
#define SERVER_CHILD_H

#include "core/base/err.h"
#include "server/cgroup.h"
#include "server/child_event.h"
#include "server/launcher.h"

#include <stdatomic.h>
#include <stdint.h>

/* Why somebody else wants the child to end.  The first reason wins. */
enum stop { STOP_NO, STOP_CANCEL, STOP_DRAIN };

/* The handle for that: given to child_run(), used by any thread. */
struct stopper {
    atomic_int why;                 /* enum stop */
    int wake;                       /* eventfd */
};
bool stopper_init(struct stopper *s, struct err *e);
void stopper_release(struct stopper *s);
void stopper_reset(struct stopper *s);                  /* between two children */
void stopper_stop(struct stopper *s, enum stop why);
enum stop stopper_why(struct stopper *s);

struct child_spec {
    struct launch launch;           /* `grouped` is child_run()'s to say */
    const struct cgroups *cgroups;  /* where its group is made; NULL: it has none */
    struct cgroup_bounds bounds;    /* of that */
    int scratch;                    /* its folder */
    const int *inputs;              /* launch.inputs of them; the child sees them from LAUNCH_FIRST_INPUT_FD on */
    int64_t deadline_us, silence_us;
    /* Called for every event but `done` and `problem`, and every beat_us.  False with *e set ends the child. */
    bool (*event)(void *arg, const struct child_event *event, struct err *e);
    bool (*beat)(void *arg, struct err *e);
    int64_t beat_us;
    void *arg;
};

enum child_end {
    CHILD_DONE,                     /* it said so, and what files it left */
    CHILD_PROBLEM,                  /* it said what is wrong */
    CHILD_STOPPED,                  /* the stopper's doing */
    CHILD_LOST,                     /* it ended, or had to be ended, without either */
    CHILD_REFUSED,                  /* a callback of ours failed; it was killed */
};

enum { CHILD_MAX_FILES = 16, CHILD_FILE_NAME_SIZE = 64, CHILD_LOG_SIZE = 64 << 10 };

struct child_outcome {
    enum child_end end;
    struct err problem;             /* unless DONE */
    bool retryable;                 /* whether another attempt may help */
    char files[CHILD_MAX_FILES][CHILD_FILE_NAME_SIZE];
    int nfiles;
    int64_t peak_bytes;             /* what it said it took */
    double cpu_seconds;
    char *log;                      /* malloc'd: the end of its diagnostics, NUL-terminated; may be NULL */
};

/* False with *e only if no child could be started. */
bool child_run(const struct child_spec *spec, struct stopper *stopper, struct child_outcome *ret, struct err *e);
void child_outcome_release(struct child_outcome *o);

#endif
