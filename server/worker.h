/*
 * worker.h - threads that turn queued jobs into finished ones.  See worker.c for how.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/config.h"
#include "storage/store.h"

struct workers;

/* Starts config->workers threads.  config and store are borrowed and must outlive them. */
struct workers *workers_start(const struct config *config, struct store *store, struct err *e);

/* A job was queued: look again.  Any thread; never blocks for long; a kick is never lost. */
void workers_kick(struct workers *pool);

/* The job's row says CANCELING: end its process now.  Unknown ids are fine. */
void workers_cancel(struct workers *pool, const char *job_id);

/* Stops claiming and asks running children to end; returns at once. */
void workers_drain(struct workers *pool);

/* Stops claiming; running jobs go back to the queue and their attempt does not count.  Joins and frees. */
void workers_stop(struct workers *pool);           /* NULL is fine */

#endif
