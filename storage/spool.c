/*
 * spool.c - a queue of errands, a pool of buffers, and the threads.
 *
 * An open spool has at most two errands on their way, one that hashes its pieces and one that writes them, each in order; a
 * piece's buffer goes back when both have passed it.  The writer takes as many pieces at once as have gathered, so the
 * slower the disk, the larger the writes.
 *
 * LOCKING  s->mu guards the queue, the pool and what struct spool says.  It is a leaf and never held while bytes are hashed or written.
 */
#include "storage/spool.h"

#include "core/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 4, BLOCK = 4096, FLUSH = 8 << 20 };

struct spooler {
    pthread_mutex_t mu;
    pthread_cond_t queued, moved;   /* an errand came; an errand got on */
    struct spool_errand *first, **last;
    char *buffers, *unused[SPOOL_BUFFERS];
    int nunused, started;
    bool stopping;
    pthread_t thread[THREADS];
};

/* ---- hashing ---- */

/* The hash may be behind by what was in the file before. */
static bool catch_up(struct spool *x, uint64_t upto)
{
    char piece[16 << 10];
    while (x->hash_at < upto) {
        uint64_t n = upto - x->hash_at < sizeof piece ? upto - x->hash_at : sizeof piece;
        ssize_t got = pread(x->fd, piece, (size_t)n, (off_t)x->hash_at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return false;
        hash_add(&x->hash, piece, (size_t)got);
        x->hash_at += (uint64_t)got;
    }
    return true;
}

static bool hash_piece(struct spool *x, const struct spool_piece *piece)
{
    if (!catch_up(x, piece->at))
        return false;
    hash_add(&x->hash, piece->p, piece->n);
    x->hash_at += piece->n;
    return true;
}

/* ---- writing ---- */

static bool whole_blocks(const struct spool_piece *piece) { return piece->at % BLOCK == 0 && piece->n % BLOCK == 0; }

/* The same file, opened again: O_DIRECT belongs to an open file, and other bytes are written the ordinary way. */
static bool open_direct(struct spool *x)
{
    char path[40];
    if (x->direct != -1)
        return x->direct >= 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", x->fd);
    x->direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (x->direct < 0)
        x->direct = -2;
    return x->direct >= 0;
}

static void close_direct(struct spool *x)
{
    if (x->direct >= 0)
        close(x->direct);
    x->direct = -2;
}

/* The disk works while the rest is still on its way, so that the sync at the end finds little to do. */
static void flush_behind(struct spool *x, uint64_t upto)
{
    if (upto < x->asked + FLUSH)
        return;
    sync_file_range(x->fd, (off_t)x->asked, (off_t)(upto - x->asked), SYNC_FILE_RANGE_WRITE);
    x->asked = upto;
}

static bool write_cached(struct spool *x, struct iovec *io, int n, uint64_t at)
{
    size_t all = 0;
    for (int i = 0; i < n; i++)
        all += io[i].iov_len;
    if (io_pwrite_all(x->fd, io, n, (off_t)at) != 0)
        return false;
    flush_behind(x, at + all);
    return true;
}

static bool write_pieces(struct spool *x, const struct spool_piece *pieces, int n)
{
    struct iovec io[SPOOL_OWN_MAX];
    for (int i = 0; i < n; i++)
        io[i] = (struct iovec){ pieces[i].p, pieces[i].n };
    if (!whole_blocks(pieces) || !open_direct(x))
        return write_cached(x, io, n, pieces->at);
    if (io_pwrite_all(x->direct, io, n, (off_t)pieces->at) == 0)
        return true;
    if (errno != EINVAL)
        return false;
    close_direct(x);                        /* a file system that takes the flag and then refuses; what was written is written again */
    return write_pieces(x, pieces, n);
}

/* ---- errands ---- */

static void queue(struct spooler *s, struct spool *x, int which)
{
    struct spool_errand *e = &x->errand[which];
    if (e->state != SPOOL_IDLE)
        return;
    *e = (struct spool_errand){ .spool = x, .state = SPOOL_QUEUED };
    *s->last = e;
    s->last = &e->next;
    pthread_cond_signal(&s->queued);
}

static void give_back(struct spooler *s, struct spool *x)
{
    while (x->given_back != x->done[SPOOL_HASH] && x->given_back != x->done[SPOOL_WRITE])
        s->unused[s->nunused++] = x->piece[x->given_back++ % SPOOL_OWN_MAX].p;
}

/* What an errand takes on at once: pieces that lie in whole blocks go together, and a hash shows its progress often. */
static int take_pieces(const struct spool *x, int which, struct spool_piece *ret)
{
    int n = 0;
    for (unsigned i = x->done[which]; i != x->put; i++) {
        const struct spool_piece *piece = &x->piece[i % SPOOL_OWN_MAX];
        if (n && (which == SPOOL_HASH || !whole_blocks(piece) || !whole_blocks(ret)))
            break;
        ret[n++] = *piece;
    }
    return n;
}

/* s->mu is held, but not while it works. */
static void run(struct spooler *s, struct spool_errand *e)
{
    struct spool *x = e->spool;
    struct spool_piece pieces[SPOOL_OWN_MAX];
    int which = (int)(e - x->errand);
    e->state = SPOOL_RUNNING;
    for (int n; (n = take_pieces(x, which, pieces)) > 0;) {
        bool failed = x->error;             /* then the rest only gives its buffers back */
        pthread_mutex_unlock(&s->mu);
        bool ok = failed || (which == SPOOL_HASH ? hash_piece(x, pieces) : write_pieces(x, pieces, n));
        int error = ok ? 0 : errno;
        pthread_mutex_lock(&s->mu);
        if (!x->error)
            x->error = error;
        x->done[which] += (unsigned)n;
        give_back(s, x);
        pthread_cond_broadcast(&s->moved);
    }
    e->state = SPOOL_IDLE;
    pthread_cond_broadcast(&s->moved);
}

static void *spooler_main(void *arg)
{
    struct spooler *s = arg;
    pthread_mutex_lock(&s->mu);
    for (;;) {
        /* s->mu is held here, at the top of every round. */
        struct spool_errand *e = s->first;
        if (!e && s->stopping)
            break;
        if (!e) {
            pthread_cond_wait(&s->queued, &s->mu);
            continue;
        }
        s->first = e->next;
        if (!s->first)
            s->last = &s->first;
        run(s, e);
    }
    pthread_mutex_unlock(&s->mu);
    return NULL;
}

/* ---- the receiving side ---- */

void spool_begin(struct spool *x, struct spooler *s, int fd, uint64_t at, const struct hash *hash)
{
    *x = (struct spool){ .owner = s, .fd = fd, .at = at, .hash_at = hash ? at : 0, .direct = -1, .asked = at };
    if (hash)
        x->hash = *hash;
    else
        hash_init(&x->hash);
}

static void put(struct spool *x)
{
    struct spooler *s = x->owner;
    pthread_mutex_lock(&s->mu);
    x->piece[x->put++ % SPOOL_OWN_MAX] = x->filling;
    for (int i = 0; i < SPOOL_ERRANDS; i++)
        queue(s, x, i);
    pthread_mutex_unlock(&s->mu);
    x->filling.p = NULL;
}

/* Waits only for buffers of its own; false: it has none, and there is none. */
static bool take_buffer(struct spool *x)
{
    struct spooler *s = x->owner;
    x->filling = (struct spool_piece){ .at = x->at };
    pthread_mutex_lock(&s->mu);
    while (x->put != x->given_back && (x->put - x->given_back == SPOOL_OWN_MAX || !s->nunused))
        pthread_cond_wait(&s->moved, &s->mu);
    if (s->nunused)
        x->filling.p = s->unused[--s->nunused];
    pthread_mutex_unlock(&s->mu);
    return x->filling.p;
}

static bool failed(struct spool *x)
{
    pthread_mutex_lock(&x->owner->mu);
    errno = x->error;
    pthread_mutex_unlock(&x->owner->mu);
    return errno;
}

/* On this thread, when no other works on it. */
static bool work_here(struct spool *x, const struct spool_piece *piece, struct err *e)
{
    struct iovec io = { piece->p, piece->n };
    spool_rest(x);
    if (failed(x))
        return err_sys(e, "upload", "write");
    if (!hash_piece(x, piece))
        return err_sys(e, "upload", "read back");
    return write_cached(x, &io, 1, piece->at) || err_sys(e, "upload", "write");
}

/* Buffers end at multiples of their size, so that only an upload's first and last bytes can miss whole blocks. */
static size_t fill(struct spool *x, const char *p, size_t n)
{
    size_t room = SPOOL_BUFFER - (size_t)(x->at % SPOOL_BUFFER);
    n = n < room ? n : room;
    memcpy(x->filling.p + x->filling.n, p, n);
    x->filling.n += n;
    x->at += n;
    if (n == room)
        put(x);
    return n;
}

bool spool_add(struct spool *x, const void *p, size_t n, struct err *e)
{
    const char *from = p;
    if (failed(x))
        return err_sys(e, "upload", "write");
    while (n) {
        if (!x->filling.p && !take_buffer(x)) {
            struct spool_piece here = { (char *)(uintptr_t)from, x->at, n };
            x->at += n;
            return work_here(x, &here, e);
        }
        size_t took = fill(x, from, n);
        from += took;
        n -= took;
    }
    return true;
}

static void drop_buffer(struct spool *x)
{
    struct spooler *s = x->owner;
    pthread_mutex_lock(&s->mu);
    if (x->filling.p)
        s->unused[s->nunused++] = x->filling.p;
    pthread_mutex_unlock(&s->mu);
    x->filling.p = NULL;
}

bool spool_flush(struct spool *x, struct err *e)
{
    struct spool_piece rest = x->filling.p ? x->filling : (struct spool_piece){ .at = x->at };
    bool ok = work_here(x, &rest, e);
    drop_buffer(x);
    return ok;
}

void spool_rest(struct spool *x)
{
    struct spooler *s = x->owner;
    if (!s)
        return;
    pthread_mutex_lock(&s->mu);
    while (x->errand[SPOOL_HASH].state != SPOOL_IDLE || x->errand[SPOOL_WRITE].state != SPOOL_IDLE)
        pthread_cond_wait(&s->moved, &s->mu);
    pthread_mutex_unlock(&s->mu);
}

void spool_end(struct spool *x)
{
    if (!x->owner)
        return;
    spool_rest(x);
    drop_buffer(x);
    close_direct(x);
    *x = SPOOL_NONE;
}

/* ---- beginning and end ---- */

static bool make_buffers(struct spooler *s)
{
    void *at = mmap(NULL, (size_t)SPOOL_BUFFERS * SPOOL_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return false;
    s->buffers = at;
    while (s->nunused < SPOOL_BUFFERS) {
        s->unused[s->nunused] = s->buffers + (size_t)s->nunused * SPOOL_BUFFER;
        s->nunused++;
    }
    return true;
}

struct spooler *spooler_start(struct err *e)
{
    struct spooler *s = calloc(1, sizeof *s);
    if (!s) {
        err_sys(e, "uploads", "start");
        return NULL;
    }
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->queued, NULL);
    pthread_cond_init(&s->moved, NULL);
    s->last = &s->first;
    bool ok = make_buffers(s) || err_sys(e, "uploads", "allocate buffers");
    for (; ok && s->started < THREADS; s->started += ok)
        ok = pthread_create(&s->thread[s->started], NULL, spooler_main, s) == 0
          || err_set(e, ERR_MEMORY, "uploads", "the system refused a thread");
    if (ok)
        return s;
    spooler_stop(s);
    return NULL;
}

void spooler_stop(struct spooler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->mu);
    s->stopping = true;
    pthread_cond_broadcast(&s->queued);
    pthread_mutex_unlock(&s->mu);
    for (int i = 0; i < s->started; i++)
        pthread_join(s->thread[i], NULL);
    if (s->buffers)
        munmap(s->buffers, (size_t)SPOOL_BUFFERS * SPOOL_BUFFER);
    pthread_cond_destroy(&s->moved);
    pthread_cond_destroy(&s->queued);
    pthread_mutex_destroy(&s->mu);
    free(s);
}
