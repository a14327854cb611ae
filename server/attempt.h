/*
 * attempt.h - one attempt at one job, from the claim to whatever end it takes.
 */
#ifndef SERVER_ATTEMPT_H
#define SERVER_ATTEMPT_H

#include "server/child.h"
#include "server/config.h"
#include "storage/run.h"

/* All borrowed for the duration of the call. */
struct attempt_of {
    const struct config *config;
    struct store *store;
    const char *program;            /* the quantizer */
    struct stopper *stopper;        /* ends it early */
    int64_t lease_us;               /* how far each heartbeat reaches */
    const struct claim *claim;
    const struct job *job;
};

/* Runs it and writes its end into the job's row, unless the claim has become stale.  Logs; returns nothing to decide. */
void attempt_run(const struct attempt_of *of);

#endif
