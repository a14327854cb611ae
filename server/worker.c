/*
 * worker.c - threads that turn QUEUED jobs into finished ones.
 *
 * DESIGN
 *
 * The queue is the `jobs` table; this file only knows when to look at it.  A worker never computes:
 * it claims a job and supervises a child that does (attempt.c).  HTTP threads that queue a job call
 * workers_kick(); a counter, not the signal, carries the news, so a kick that comes before we wait is
 * not lost.  A thread of its own sleeps until the next queued job's time comes, to start or to be too late.  An idle worker also
 * looks once in the time of a lease: where the end of an attempt could not be written, nothing but that frees the job.
 *
 * LOCKING  pool->mu guards what struct workers says.  It is never held while claiming or running, so it
 * never meets storage's locks.
 */
#include "server/worker.h"

#include "core/base/clock.h"
#include "core/base/cond.h"
#include "core/base/log.h"
#include "core/base/metric.h"
#include "server/attempt.h"
#include "server/task.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const int64_t LEASE_US = 30 * 1000000;
static const int64_t RETRY_US = 5 * 1000000, LONGEST_SLEEP_US = 60 * 1000000;

struct worker {
    struct workers *pool;
    pthread_t thread;
    char name[64];
    struct stopper stopper;
    char running[ID_SIZE];          /* guarded by pool->mu; "": idle */
};

struct workers {
    const struct config *config;
    struct store *store;
    char *program;
    int64_t memory;                 /* bytes that all jobs may take */

    pthread_mutex_t mu;             /* guards the three below and every worker's `running` */
    pthread_cond_t changed;
    unsigned long kicks;
    bool stopping;

    int started;                    /* threads that run; the starting thread's own knowledge */
    pthread_t clock;
    bool clock_started;             /* likewise */
    int n;
    struct worker worker[];
};

/* ---- the threads ---- */

static void set_running(struct worker *w, const char *job_id)
{
    pthread_mutex_lock(&w->pool->mu);
    snprintf(w->running, sizeof w->running, "%s", job_id);
    stopper_reset(&w->stopper);
    if (w->pool->stopping && job_id[0])
        stopper_stop(&w->stopper, STOP_DRAIN);
    pthread_mutex_unlock(&w->pool->mu);
}

/* Claims and runs one job; false if there was none.  *ret_failed: the table could not be asked. */
static bool work_once(struct worker *w, bool *ret_failed)
{
    struct err e = { 0 };
    struct claim claim;
    struct job job;
    struct workers *pool = w->pool;
    *ret_failed = false;
    struct claim_terms terms = { .worker = w->name, .lease_us = LEASE_US, .memory = pool->memory };
    if (!run_claim(pool->store, &terms, &claim, &job, &e)) {
        *ret_failed = e.code != ERR_NONE;
        if (*ret_failed)
            log_line(LOG_ERROR, "queue.claim", "%s: %s", e.where, e.text);
        return false;
    }
    set_running(w, claim.job);
    metric_observe(METRIC_QUEUE_WAIT, 0, (double)(job.at[JOB_RUNNING] - job.at[JOB_QUEUED]) / 1e6);
    metric_add(METRIC_WORKERS_BUSY, 1);
    attempt_run(&(struct attempt_of){
        .config = pool->config, .store = pool->store, .program = pool->program, .stopper = &w->stopper,
        .lease_us = LEASE_US, .claim = &claim, .job = &job,
    });
    metric_add(METRIC_WORKERS_BUSY, -1);
    set_running(w, "");
    job_release(&job);
    workers_kick(pool);                     /* the memory it had may be what another job waits for */
    return true;
}

/* Until somebody has news or us_or_ever microseconds have passed; < 0: ever.  pool->mu is held. */
static void wait_for_news(struct workers *pool, unsigned long seen, int64_t us_or_ever)
{
    struct timespec until = cond_in(us_or_ever < 0 ? 0 : us_or_ever);
    while (pool->kicks == seen && !pool->stopping) {
        if (us_or_ever < 0)
            pthread_cond_wait(&pool->changed, &pool->mu);
        else if (pthread_cond_timedwait(&pool->changed, &pool->mu, &until) != 0)
            return;
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct workers *pool = w->pool;

    pthread_mutex_lock(&pool->mu);
    for (;;) {
        /* pool->mu is held here, at the top of every round. */
        if (pool->stopping)
            break;
        unsigned long seen = pool->kicks;       /* before claiming: a later kick means "look again" */
        bool failed;
        pthread_mutex_unlock(&pool->mu);
        bool worked = work_once(w, &failed);
        pthread_mutex_lock(&pool->mu);
        if (!worked)
            wait_for_news(pool, seen, failed ? RETRY_US : LEASE_US);
    }
    pthread_mutex_unlock(&pool->mu);
    return NULL;
}

/* How long until the wall clock says `next` (0: never); not too long, because that clock may be set. */
static int64_t sleep_until(int64_t next)
{
    int64_t us = next - clock_now_us();
    return !next ? -1 : us < 0 ? 0 : us < LONGEST_SLEEP_US ? us : LONGEST_SLEEP_US;
}

/* What time does to queued jobs happens here, even while every worker is busy. */
static void *clock_main(void *arg)
{
    struct workers *pool = arg;

    pthread_mutex_lock(&pool->mu);
    while (!pool->stopping) {
        /* pool->mu is held here, at the top of every round. */
        unsigned long seen = pool->kicks;
        int released = 0;
        int64_t next = 0;
        struct err e = { 0 };
        pthread_mutex_unlock(&pool->mu);
        bool ok = queue_due(pool->store, &released, &next, &e);
        if (!ok)
            log_line(LOG_ERROR, "queue.due", "%s: %s", e.where, e.text);
        if (released)
            workers_kick(pool);
        pthread_mutex_lock(&pool->mu);
        wait_for_news(pool, seen, ok ? sleep_until(next) : RETRY_US);
    }
    pthread_mutex_unlock(&pool->mu);
    return NULL;
}

/* ---- the pool ---- */

static struct workers *pool_make(const struct config *config, struct store *store)
{
    size_t n = (size_t)config->workers;
    struct workers *pool = calloc(1, sizeof *pool + n * sizeof pool->worker[0]);
    if (!pool)
        return NULL;
    pool->config = config;
    pool->store = store;
    pool->n = (int)n;
    pool->memory = task_jobs_memory(config);
    pthread_mutex_init(&pool->mu, NULL);
    cond_init(&pool->changed);
    for (int i = 0; i < pool->n; i++)
        pool->worker[i].stopper.wake = -1;
    return pool;
}

static bool start_one(struct workers *pool, int i, struct err *e)
{
    struct worker *w = &pool->worker[i];
    w->pool = pool;
    snprintf(w->name, sizeof w->name, "pid%d-worker%d", (int)getpid(), i);
    if (!stopper_init(&w->stopper, e))
        return false;
    int rc = pthread_create(&w->thread, NULL, worker_main, w);
    if (rc)
        return err_set(e, ERR_MEMORY, "workers", "the system refused a thread; use a smaller --workers");
    pool->started++;
    return true;
}

struct workers *workers_start(const struct config *config, struct store *store, struct err *e)
{
    struct workers *pool = pool_make(config, store);
    if (!pool) {
        err_sys(e, "workers", "start");
        return NULL;
    }
    bool ok = (pool->program = task_program(config, e)) != NULL;
    for (int i = 0; ok && i < pool->n; i++)
        ok = start_one(pool, i, e);
    pool->clock_started = ok && pthread_create(&pool->clock, NULL, clock_main, pool) == 0;
    if (ok && !pool->clock_started)
        ok = err_set(e, ERR_MEMORY, "workers", "the system refused a thread");
    if (ok)
        return pool;
    workers_stop(pool);     /* safe on a half-started pool */
    return NULL;
}

void workers_kick(struct workers *pool)
{
    pthread_mutex_lock(&pool->mu);
    pool->kicks++;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mu);
}

void workers_cancel(struct workers *pool, const char *job_id)
{
    pthread_mutex_lock(&pool->mu);
    for (int i = 0; i < pool->n; i++)
        if (strcmp(pool->worker[i].running, job_id) == 0)
            stopper_stop(&pool->worker[i].stopper, STOP_CANCEL);
    pthread_mutex_unlock(&pool->mu);
}

void workers_drain(struct workers *pool)
{
    pthread_mutex_lock(&pool->mu);
    pool->stopping = true;
    for (int i = 0; i < pool->n; i++)
        if (pool->worker[i].running[0])
            stopper_stop(&pool->worker[i].stopper, STOP_DRAIN);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mu);
}

void workers_stop(struct workers *pool)
{
    if (!pool)
        return;
    workers_drain(pool);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->worker[i].thread, NULL);
    if (pool->clock_started)
        pthread_join(pool->clock, NULL);
    for (int i = 0; i < pool->n; i++)
        stopper_release(&pool->worker[i].stopper);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mu);
    free(pool->program);
    free(pool);
}
