/*
 * spool.h - bytes on their way into a file: hashed and written by threads that follow whoever receives them.
 *
 *   spool_begin() -> spool_add()* -> spool_flush() -> all bytes are in the file (not synced), and `hash` is theirs
 *                                \-> spool_end()      what was not flushed may be lost; accepts SPOOL_NONE
 *
 * The thread that receives bytes only copies them into a buffer.  A full buffer is hashed and, at the same time, written past the
 * page cache (O_DIRECT): the cache's pages would cost more processor time than receiving, and would still be to write when
 * the file is synced.  Where the file system does not do that, and where bytes do not fill whole blocks, they are
 * written in the ordinary way.
 *
 * MEMORY  SPOOL_BUFFERS buffers for all, allocated once.  Who gets none while it has none of its own hashes and writes where it
 * is: slower, but never waiting for somebody else's client.
 */
#ifndef STORAGE_SPOOL_H
#define STORAGE_SPOOL_H

#include "core/base/err.h"
#include "core/base/hash.h"

enum { SPOOL_BUFFER = 256 << 10, SPOOL_BUFFERS = 32, SPOOL_OWN_MAX = 12 };

struct spooler;                     /* the threads and the buffers */

struct spooler *spooler_start(struct err *e);
void spooler_stop(struct spooler *s);                       /* NULL is fine; no spool may be open any more */

struct spool_piece {
    char *p;                        /* a buffer; NULL: none */
    uint64_t at;                    /* where in the file */
    size_t n;
};

struct spool_errand {
    struct spool_errand *next;
    struct spool *spool;
    enum { SPOOL_IDLE, SPOOL_QUEUED, SPOOL_RUNNING } state;
};

enum { SPOOL_HASH, SPOOL_WRITE, SPOOL_ERRANDS };

/* Part of the caller's object, used by one thread at a time.  Must not move between spool_add() and spool_rest(). */
struct spool {
    struct spooler *owner;          /* NULL: not open */
    int fd;                         /* the caller's */
    uint64_t at;                    /* bytes below have come */
    struct spool_piece filling;

    /* the hashing errand's, while there is one */
    struct hash hash;
    uint64_t hash_at;               /* `hash` is of the bytes below */

    /* the writing errand's, while there is one */
    int direct;                     /* the file once more, past the page cache; -1: not opened yet, -2: cannot be */
    uint64_t asked;                 /* bytes below the disk was asked to write */

    /* guarded by the spooler's lock; piece i is piece[i % SPOOL_OWN_MAX] */
    struct spool_piece piece[SPOOL_OWN_MAX];
    unsigned put, done[SPOOL_ERRANDS], given_back;
    struct spool_errand errand[SPOOL_ERRANDS];
    int error;                      /* errno of what failed; 0: nothing */
};
#define SPOOL_NONE ((struct spool){ .fd = -1, .direct = -1 })

/* Goes on at `at` of fd, which must be readable; hash: of the bytes below, NULL: they are read again. */
void spool_begin(struct spool *x, struct spooler *s, int fd, uint64_t at, const struct hash *hash);
/* May wait for the disk.  ERR_DISK, ERR_IO: also of bytes that came before. */
bool spool_add(struct spool *x, const void *p, size_t n, struct err *e);
bool spool_flush(struct spool *x, struct err *e);
/* Waits until no thread works on it. */
void spool_rest(struct spool *x);
void spool_end(struct spool *x);

#endif
