/*
 * journal.h - the finished part of a sweep, on disk: what a crash must not undo.
 *
 *   file    = magic "RQJOURN2", 32-byte fingerprint of the task, record*
 *   record  = u32 type, u32 index, u64 size, size bytes, 32-byte SHA-256 of all before it in the record
 *
 * Numbers are in the machine's own order and layout: a journal is read by the
 * engine that wrote it (the fingerprint holds its version), on the same machine.  A torn tail is cut off when
 * the journal is opened.  Records are durable once journal_sync() has returned.
 */
#ifndef CORE_SWEEP_JOURNAL_H
#define CORE_SWEEP_JOURNAL_H

#include "core/base/hash.h"
#include "core/base/io.h"

enum journal_type { JOURNAL_SITE = 1, JOURNAL_WEIGHT = 2, JOURNAL_LAYER = 3, JOURNAL_FACTORS = 4, JOURNAL_BLOCK = 5 };

struct journal {
    int fd;                        /* -1: no journal is kept */
};

/* Is called for every whole record, in order; the bytes are valid during the call. */
typedef bool journal_fn(void *arg, enum journal_type type, uint32_t index, const void *p, uint64_t n, struct err *e);

/*
 * Opens dir/journal, replays it if it belongs to the task, else starts it anew.
 * dir NULL: nothing is read or kept.
 */
bool journal_open(struct journal *j, const char *dir, const uint8_t fingerprint[HASH_SIZE], journal_fn *replay, void *arg,
                  struct err *e);
void journal_close(struct journal *j);

/* One record from `count` pieces (empty ones are left out). */
struct journal_piece { const void *p; size_t n; };
bool journal_append(struct journal *j, enum journal_type type, uint32_t index, const struct journal_piece *pieces, size_t count,
                    struct err *e);
bool journal_sync(struct journal *j, struct err *e);

#endif
