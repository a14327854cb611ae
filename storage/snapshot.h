/*
 * snapshot.h - a database as it was at one moment, read without disturbing the daemon that has it.  For storage/ only.
 *
 * The connection only reads and never checkpoints (see db.c), so it may be another process's than the daemon's.
 */
#ifndef STORAGE_SNAPSHOT_H
#define STORAGE_SNAPSHOT_H

#include "core/base/hash.h"
#include "storage/db.h"

struct snapshot;

/* Opens a database of ours; what is committed from here on is not seen.  ERR_NO_FILE, ERR_CONFIG if it is none or newer than this program. */
struct snapshot *snapshot_open(const char *path, struct err *e);
void snapshot_close(struct snapshot *s);                    /* NULL is fine */

/* SQLite's own check of every page, index and reference; ERR_IO says what is wrong. */
bool snapshot_check(struct snapshot *s, struct err *e);

/* Writes it to a new file, which then stands alone: no journal beside it, and no uploads whose bytes have not all arrived. */
bool snapshot_save(struct snapshot *s, const char *path, struct err *e);

/* The next blob that rows name, in order of digests; false at the end or with *e set. */
bool snapshot_next_blob(struct snapshot *s, char ret_digest[HASH_TEXT_SIZE], uint64_t *ret_size, struct err *e);
/* Whether a row names it; true if that cannot be found out. */
bool snapshot_names(struct snapshot *s, const char *digest);

#endif
