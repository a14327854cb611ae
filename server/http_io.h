/*
 * http_io.h - the workers that run handlers which may wait.
 *
 * HTTP threads hand a suspended request over and go on; when its task has run, the request is
 * resumed.  The queue is bounded: a service that cannot keep up says so at once instead of
 * answering late.  A lane is one queue with its own threads, so a minute of inspecting cannot delay a
 * millisecond of database.
 */
#ifndef SERVER_HTTP_IO_H
#define SERVER_HTTP_IO_H

#include "core/base/err.h"

struct io_lane;

/* Part of the caller's object; in the queue until run() is called, which happens exactly once. */
struct io_task {
    void (*run)(struct io_task *task);
    struct io_task *next;
};

struct io_lane *io_lane_new(int threads, int queue_max, struct err *e);

/* False if the queue is full: the task will not run. */
bool io_lane_submit(struct io_lane *lane, struct io_task *task);

/* Runs what is queued, joins, frees.  Nobody may submit any more; NULL is fine. */
void io_lane_free(struct io_lane *lane);

#endif
