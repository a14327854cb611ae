#include "server/http_io.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum { MAX_THREADS = 32 };

struct io_lane {
    pthread_mutex_t mu;         /* guards the rest; a leaf, never held while a task runs */
    pthread_cond_t changed;
    struct io_task *first, **last;
    int queued, queue_max, threads;
    bool stopping;
    pthread_t thread[MAX_THREADS];
};

static void *lane_main(void *arg)
{
    struct io_lane *lane = arg;
    pthread_mutex_lock(&lane->mu);
    for (;;) {
        /* lane->mu is held here, at the top of every round. */
        struct io_task *task = lane->first;
        if (!task && lane->stopping)
            break;
        if (!task) {
            pthread_cond_wait(&lane->changed, &lane->mu);
            continue;
        }
        lane->first = task->next;
        if (!lane->first)
            lane->last = &lane->first;
        lane->queued--;
        pthread_mutex_unlock(&lane->mu);
        task->run(task);
        pthread_mutex_lock(&lane->mu);
    }
    pthread_mutex_unlock(&lane->mu);
    return NULL;
}

struct io_lane *io_lane_new(int threads, int queue_max, struct err *e)
{
    struct io_lane *lane = calloc(1, sizeof *lane);
    assert(threads <= MAX_THREADS);
    if (!lane) {
        err_sys(e, "http", "start the I/O workers");
        return NULL;
    }
    pthread_mutex_init(&lane->mu, NULL);
    pthread_cond_init(&lane->changed, NULL);
    lane->last = &lane->first;
    lane->queue_max = queue_max;
    for (; lane->threads < threads; lane->threads++)
        if (pthread_create(&lane->thread[lane->threads], NULL, lane_main, lane) != 0) {
            err_set(e, ERR_MEMORY, "http", "no thread for the I/O workers");
            io_lane_free(lane);
            return NULL;
        }
    return lane;
}

bool io_lane_submit(struct io_lane *lane, struct io_task *task)
{
    pthread_mutex_lock(&lane->mu);
    bool room = lane->queued < lane->queue_max;
    if (room) {
        task->next = NULL;
        *lane->last = task;
        lane->last = &task->next;
        lane->queued++;
        pthread_cond_signal(&lane->changed);
    }
    pthread_mutex_unlock(&lane->mu);
    return room;
}

void io_lane_free(struct io_lane *lane)
{
    if (!lane)
        return;
    pthread_mutex_lock(&lane->mu);
    lane->stopping = true;
    pthread_cond_broadcast(&lane->changed);
    pthread_mutex_unlock(&lane->mu);
    for (int i = 0; i < lane->threads; i++)
        pthread_join(lane->thread[i], NULL);
    pthread_cond_destroy(&lane->changed);
    pthread_mutex_destroy(&lane->mu);
    free(lane);
}
