/*
 * scrub.h - stored bytes are read again and compared with their digest, because disks forget.
 *
 * A blob is looked at whenever a job or an inspection reads it, when a download asks for it, and by the scrubber, which goes through the
 * whole store once in a period, what was looked at longest ago first.  What has rotted is marked in its row: models, data sets and artifacts made
 * of it say so, and its bytes are given to nobody (ERR_CORRUPT) until an upload, or a job that makes them, brings them anew.
 *
 *     scrub_begin() ---> scrub_turn() about once a second ---> scrub_end()
 *
 * One thread has a scrubber; it is no thread itself.  A turn takes about a tenth of a second at most, less what one read of the disk takes: a blob
 * that was begun is read at up to 8 MiB a second, or faster where the store is so large, and then a rest follows that the period asks for.
 */
#ifndef STORAGE_SCRUB_H
#define STORAGE_SCRUB_H

#include "core/base/hash.h"
#include "storage/store.h"

#include <sys/types.h>

enum { SCRUB_BATCH = 64 };

struct scrub {
    struct store *store;
    int64_t period_us;
    int64_t turned_at, loaded_at;   /* by the monotonic clock */
    double rate;                    /* bytes a microsecond that the period asks for */
    double debt;                    /* bytes read before their time; below 0: they are late */
    struct { char digest[HASH_TEXT_SIZE]; bool corrupt; } blobs[SCRUB_BATCH];      /* the oldest when they were loaded */
    int n, next;                    /* so many; the first that was not looked at.  Those before it are, and their rows do not know yet */
    int fd;                         /* of blobs[next], if >= 0: read up to `at` and hashed so far */
    off_t at;
    struct hash hash;
};

/* period_us: in which the whole store is read once; 0: never.  The store is borrowed until scrub_end(). */
void scrub_begin(struct scrub *s, struct store *store, int64_t period_us);
/* Reads on for a moment, if it is time to.  False with what is to be logged, ERR_CORRUPT or what failed; the next turn goes on behind it. */
bool scrub_turn(struct scrub *s, struct err *e);
/* Writes down what was looked at.  {0} is fine. */
void scrub_end(struct scrub *s);

/* Blobs that are marked. */
bool scrub_count(struct store *s, int64_t *ret, struct err *e);

#endif
