/*
 * pool.c - helper threads sleep on `work` until the generation changes, then all, the caller
 * too, draw piece numbers from `next` until none is left.
 *
 * LOCKING  p->mu guards every field below it except `next` and `failed`, which are atomic
 * because they are touched once per piece.
 */
#include "core/base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct pool {
    int threads;
    pthread_t *helpers;             /* threads - 1 of them */
    int started;

    pthread_mutex_t mu;
    pthread_cond_t work, done;
    uint64_t generation;            /* changes with every task */
    int busy;                       /* helpers that have not finished the current task */
    bool stopping;
    size_t failed_piece;
    struct err error;

    pool_fn *fn;
    void *arg;
    size_t pieces;
    atomic_size_t next;
    atomic_bool failed;
};

struct helper { struct pool *pool; int index; };

static void work_off(struct pool *p, int thread)
{
    for (;;) {
        size_t piece = atomic_fetch_add(&p->next, 1);
        if (piece >= p->pieces || atomic_load(&p->failed))
            return;
        struct err e = { 0 };
        if (p->fn(p->arg, piece, thread, &e))
            continue;
        pthread_mutex_lock(&p->mu);
        if (!atomic_load(&p->failed) || piece < p->failed_piece) {
            p->error = e;
            p->failed_piece = piece;
        }
        atomic_store(&p->failed, true);
        pthread_mutex_unlock(&p->mu);
    }
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct pool *p = h->pool;
    int index = h->index;
    uint64_t seen = 0;
    free(h);

    pthread_mutex_lock(&p->mu);
    for (;;) {
        /* p->mu is held here, at the top of every round. */
        while (p->generation == seen && !p->stopping)
            pthread_cond_wait(&p->work, &p->mu);
        if (p->stopping)
            break;
        seen = p->generation;
        pthread_mutex_unlock(&p->mu);
        work_off(p, index);
        pthread_mutex_lock(&p->mu);
        if (--p->busy == 0)
            pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->mu);
    return NULL;
}

struct pool *pool_new(int threads, struct err *e)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p) {
        err_sys(e, "threads", "allocate");
        return NULL;
    }
    p->threads = threads < 1 ? 1 : threads;
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->helpers = calloc((size_t)p->threads, sizeof *p->helpers);
    for (int i = 1; p->helpers && i < p->threads; i++) {
        struct helper *h = malloc(sizeof *h);
        if (h)
            *h = (struct helper){ p, i };
        if (!h || pthread_create(&p->helpers[p->started], NULL, helper_main, h) != 0) {
            free(h);
            break;
        }
        p->started++;
    }
    if (p->started == p->threads - 1 && p->helpers)
        return p;
    err_set(e, ERR_MEMORY, "threads", "the system refused %d threads; use --threads with a smaller number", p->threads);
    pool_free(p);
    return NULL;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mu);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mu);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->helpers[i], NULL);
    free(p->helpers);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->mu);
    free(p);
}

int pool_threads(const struct pool *p) { return p ? p->threads : 1; }

static bool run_alone(size_t pieces, pool_fn *fn, void *arg, struct err *e)
{
    for (size_t i = 0; i < pieces; i++)
        if (!fn(arg, i, 0, e))
            return false;
    return true;
}

bool pool_run(struct pool *p, size_t pieces, pool_fn *fn, void *arg, struct err *e)
{
    if (!p)
        return run_alone(pieces, fn, arg, e);
    pthread_mutex_lock(&p->mu);
    p->fn = fn;
    p->arg = arg;
    p->pieces = pieces;
    p->error = (struct err){ 0 };
    atomic_store(&p->next, 0);
    atomic_store(&p->failed, false);
    bool alone = pieces <= 1 || p->threads == 1;
    if (!alone) {
        p->generation++;
        p->busy = p->started;
        pthread_cond_broadcast(&p->work);
    }
    pthread_mutex_unlock(&p->mu);

    work_off(p, 0);

    pthread_mutex_lock(&p->mu);
    while (!alone && p->busy)
        pthread_cond_wait(&p->done, &p->mu);
    bool ok = !atomic_load(&p->failed);
    if (!ok && e && e->code == ERR_NONE)
        *e = p->error;
    pthread_mutex_unlock(&p->mu);
    return ok;
}
