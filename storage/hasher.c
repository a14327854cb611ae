/*
 * hasher.c - a queue of files to follow, and two threads.
 *
 * LOCKING  h->mu guards the queue and what struct hashing says.  While an item is RUNNING its hash and `at` belong to the thread
 * that runs it; a lock is never held while bytes are read.
 */
#include "storage/hasher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 2, PIECE = 256 << 10 };

struct hasher {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct hashing *first, **last;
    bool stopping;
    int started;
    pthread_t thread[THREADS];
};

void hashing_begin(struct hashing *x, const struct hash *hash, uint64_t at)
{
    *x = (struct hashing){ .at = at, .fd = -1 };
    if (hash)
        x->hash = *hash;
    else
        hash_init(&x->hash);
}

/* False with *e when the file has fewer bytes. */
static bool hash_upto(struct hashing *x, int fd, uint64_t upto, void *piece, struct err *e)
{
    while (x->at < upto) {
        uint64_t n = upto - x->at < PIECE ? upto - x->at : PIECE;
        ssize_t got = pread(fd, piece, (size_t)n, (off_t)x->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got ? errno : EIO;
            return err_sys(e, "upload", "read back");
        }
        hash_add(&x->hash, piece, (size_t)got);
        x->at += (uint64_t)got;
    }
    return true;
}

/* What cannot be read now is tried again by hashing_reach(), which can say so. */
static void run(struct hasher *h, struct hashing *x, void *piece)
{
    bool ok = true;
    x->state = HASHING_RUNNING;
    while (ok && x->at < x->upto) {
        uint64_t upto = x->upto;
        int fd = x->fd;
        pthread_mutex_unlock(&h->mu);
        ok = hash_upto(x, fd, upto, piece, NULL);
        pthread_mutex_lock(&h->mu);
    }
    x->state = HASHING_IDLE;
    pthread_cond_broadcast(&h->changed);
}

static void *hasher_main(void *arg)
{
    struct hasher *h = arg;
    void *piece = malloc(PIECE);
    pthread_mutex_lock(&h->mu);
    for (;;) {
        /* h->mu is held here, at the top of every round. */
        struct hashing *x = h->first;
        if (!x && h->stopping)
            break;
        if (!x) {
            pthread_cond_wait(&h->changed, &h->mu);
            continue;
        }
        h->first = x->next;
        if (!h->first)
            h->last = &h->first;
        if (piece)
            run(h, x, piece);
        else
            x->state = HASHING_IDLE;
    }
    pthread_mutex_unlock(&h->mu);
    free(piece);
    return NULL;
}

void hashing_follow(struct hasher *h, struct hashing *x, int fd, uint64_t upto)
{
    pthread_mutex_lock(&h->mu);
    x->fd = fd;
    x->upto = upto;
    if (x->state == HASHING_IDLE) {
        x->state = HASHING_QUEUED;
        x->next = NULL;
        *h->last = x;
        h->last = &x->next;
        pthread_cond_broadcast(&h->changed);
    }
    pthread_mutex_unlock(&h->mu);
}

static void take_out(struct hasher *h, struct hashing *x)
{
    struct hashing **at = &h->first;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    if (!*at)
        h->last = at;
    x->state = HASHING_IDLE;
}

void hashing_rest(struct hasher *h, struct hashing *x)
{
    pthread_mutex_lock(&h->mu);
    if (x->state == HASHING_QUEUED)
        take_out(h, x);
    while (x->state == HASHING_RUNNING)
        pthread_cond_wait(&h->changed, &h->mu);
    pthread_mutex_unlock(&h->mu);
}

bool hashing_reach(struct hasher *h, struct hashing *x, int fd, uint64_t upto, struct err *e)
{
    hashing_rest(h, x);
    if (x->at >= upto)
        return true;
    void *piece = malloc(PIECE);
    bool ok = piece ? hash_upto(x, fd, upto, piece, e) : err_sys(e, "upload", "read back");
    free(piece);
    return ok;
}

struct hasher *hasher_start(struct err *e)
{
    struct hasher *h = calloc(1, sizeof *h);
    if (!h) {
        err_sys(e, "hasher", "start");
        return NULL;
    }
    pthread_mutex_init(&h->mu, NULL);
    pthread_cond_init(&h->changed, NULL);
    h->last = &h->first;
    for (; h->started < THREADS; h->started++)
        if (pthread_create(&h->thread[h->started], NULL, hasher_main, h) != 0) {
            err_set(e, ERR_MEMORY, "hasher", "the system refused a thread");
            hasher_stop(h);
            return NULL;
        }
    return h;
}

void hasher_stop(struct hasher *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->mu);
    h->stopping = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mu);
    for (int i = 0; i < h->started; i++)
        pthread_join(h->thread[i], NULL);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->mu);
    free(h);
}
