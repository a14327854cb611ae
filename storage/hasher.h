/*
 * hasher.h - the SHA-256 of a file that is still being written, computed by threads that follow the writer.
 *
 * The thread that receives bytes only writes them; hashing on the same thread would halve its speed.  The bytes are read back
 * while they are still in the page cache.
 *
 *   hashing_begin() -> hashing_follow()* -> hashing_reach() -> the hash of all bytes below the position
 *                                       \-> hashing_rest()    nobody uses it any more: it may move, and its file be closed
 */
#ifndef STORAGE_HASHER_H
#define STORAGE_HASHER_H

#include "core/base/err.h"
#include "core/base/hash.h"

struct hasher;                      /* the threads */

struct hasher *hasher_start(struct err *e);
void hasher_stop(struct hasher *h);                         /* NULL is fine; nothing may be followed any more */

/* Part of the caller's object.  Must not move between hashing_follow() and hashing_rest(). */
struct hashing {
    struct hash hash;
    uint64_t at;                    /* `hash` is of the bytes below */

    /* guarded by the hasher's lock */
    uint64_t upto;                  /* bytes below exist */
    int fd;
    enum { HASHING_IDLE, HASHING_QUEUED, HASHING_RUNNING } state;
    struct hashing *next;
};

/* hash: of the bytes below `at`; NULL: of none, at 0. */
void hashing_begin(struct hashing *x, const struct hash *hash, uint64_t at);
/* The bytes of fd below `upto` are written; may be asked for as they grow. */
void hashing_follow(struct hasher *h, struct hashing *x, int fd, uint64_t upto);
/* Waits until no thread works on it. */
void hashing_rest(struct hasher *h, struct hashing *x);
/* The same, and then the rest up to `upto` here.  ERR_IO when a byte cannot be read. */
bool hashing_reach(struct hasher *h, struct hashing *x, int fd, uint64_t upto, struct err *e);

#endif
