/*
 * pool.h - a fixed team of threads that runs numbered pieces of one task.
 *
 * The only level of threads in a process that computes: BLAS itself runs on
 * one thread per call.  Which thread runs a piece must never show in a result;
 * sums over pieces are taken by the caller, in piece order.
 */
#ifndef CORE_BASE_POOL_H
#define CORE_BASE_POOL_H

#include "core/base/err.h"

struct pool;

/* piece in [0, n); thread in [0, pool_threads()), for scratch memory.  Returns false with *e set to stop the task. */
typedef bool pool_fn(void *arg, size_t piece, int thread, struct err *e);

/* A team of `threads` (>= 1), the caller's thread included; NULL without memory or threads. */
struct pool *pool_new(int threads, struct err *e);
void pool_free(struct pool *p);             /* joins; NULL is fine */
int pool_threads(const struct pool *p);     /* 1 for NULL */

/*
 * Runs fn for every piece, in increasing order of start, and returns when all have ended.
 * False if any failed: then *e is the error of the lowest-numbered failed piece that ran and
 * later pieces may not have run.  Called by one thread at a time, never from inside fn.
 * Without a team (NULL) the caller's thread does all.
 */
bool pool_run(struct pool *p, size_t pieces, pool_fn *fn, void *arg, struct err *e);

#endif
