/* watch.h - following a job by its events, through restarts of the service and of the network. */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

#include "client/client.h"

struct watch {
    const char *job;
    int64_t after;                  /* the last event seen */
    int64_t timeout_s;              /* 0: none */
    /* Each event, once, in order.  False ends the watching: nobody wants to know any more. */
    bool (*event)(struct client *c, const json_t *event, void *arg);
    void *arg;
    bool once;                      /* only what there is */
};

/* Returns when the job has ended (or, once: when all there is has been told).  Interrupted, or out of time, it fails and the job goes on. */
bool watch_job(struct client *c, struct watch *w);

/* Follows a job with progress on stderr to its end; the job, which the caller decrefs, or NULL with c->f.  After a Ctrl-C the job is
 * canceled, if that was asked for, or the failure says how to go on. */
json_t *await_job(struct client *c, const char *job);
int job_exit(const json_t *job);    /* 0 only if it has succeeded */

#endif
