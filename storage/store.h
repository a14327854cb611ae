/*
 * store.h - what survives the process: one data folder, opened by one daemon at a time.
 *
 *     DIR/lock                         flock'ed while a daemon has the folder
 *     DIR/repquant.db                  SQLite: every row of the service
 *     DIR/blobs/<2 hex>/<64 hex>       bytes by their SHA-256, 0400, never changed
 *     DIR/blobs/new.*                  uploads under way; swept at start
 *     DIR/blobs/upl_*                  what has arrived of uploads in parts (upload.h)
 *     DIR/scratch/<job>/<claim>/       the folder of one attempt, see scratch.h
 *     DIR/ballast                      space that is given back when the disk is full, so that a job
 *                                      can still be canceled and a model deleted
 *     DIR/backup                       flock'ed while blobs are removed or copied, see backup.h; when that was last complete
 *     DIR/token                        the first administrator's token, 0600
 *
 * RULES for everything in storage/
 *
 *  - Every row belongs to a team, and every function takes the team right after the store.  Rows
 *    of another team are not found; there is no other answer that could tell they exist.  Only
 *    what a worker does to the job it holds (run.h) and recovery are not asked by a team.
 *  - A file first, its row second: a row never names bytes that are not on disk.
 *  - Rows are copied into the caller's structs; text in them is malloc'd and freed by the
 *    struct's _release function, which accepts {0}.  Nothing borrowed from SQLite leaves.
 *  - Times are microseconds since the epoch, UTC; 0 means "has not happened".
 *  - All functions are thread-safe unless they say otherwise.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "core/base/err.h"

#include <stdint.h>

#define TEAM_LOCAL "local"          /* the one team of a daemon without further configuration */

struct store;

/*
 * Opens DIR, making it and all below it if need be: takes the lock, migrates and checks the
 * database, sweeps uploads that never ended.  NULL with *e: ERR_CONFLICT if another daemon has
 * the folder.
 */
struct store *store_open(const char *dir, struct err *e);
void store_close(struct store *s);                 /* NULL is fine */

const char *store_dir(const struct store *s);

/* What an operator may bound.  Set once, before threads exist. */
struct store_limits {
    uint64_t keep_free;             /* bytes of disk that no upload and no job may take */
    int64_t upload_expiry_us;       /* how long an unfinished upload waits for its next part */
    int uploads_per_team;           /* unfinished at a time */
    int webhooks_per_team;          /* those of single jobs aside */
    const char *public_url;         /* what links and sources in webhooks begin with; borrowed */
};
#define STORE_LIMITS_DEFAULT                                                                                                 \
    ((struct store_limits){ .upload_expiry_us = 24LL * 3600 * 1000000, .uploads_per_team = 100, .webhooks_per_team = 20, .public_url = "" })
void store_limit(struct store *s, const struct store_limits *limits);

/*
 * What a dead daemon left: jobs it was running go back to the queue, or fail when their attempts
 * are used up; jobs being canceled are canceled; scratch that no attempt needs and blobs that
 * nobody owns are removed.  Called once, before the first worker and the first request.
 */
struct recovery { int requeued, failed, canceled, blobs_removed, folders_removed; };
bool store_recover(struct store *s, struct recovery *ret, struct err *e);

/*
 * fn is called after every commit that added an event to a job: the moment to wake whoever
 * streams that job's events.  It runs in the writing thread, without storage's locks, and must be quick.
 * Set once, before threads exist.
 */
typedef void store_watch_fn(void *arg, const char *team, const char *job_id);
void store_watch(struct store *s, store_watch_fn *fn, void *arg);

/*
 * fn is called when a token has been deleted or a session ended, with its id: whoever reads on with it must be looked at again.  What ends by the
 * clock is not told.  Likewise.
 */
typedef void store_revoked_fn(void *arg, const char *id);
void store_on_revoked(struct store *s, store_revoked_fn *fn, void *arg);

/* fn is called after every commit that left something to send in the outbox (webhook.h); likewise. */
void store_on_post(struct store *s, void (*fn)(void *arg), void *arg);

/*
 * The calling thread serves many connections: from now on what it reads, which must be little, does not wait for the long reads of other threads,
 * because some readers are kept for such as it.
 */
void store_serve_many(void);

/* Bytes that SQLite holds, for all stores of the process. */
uint64_t store_memory(void);

/* Removes blobs that no model, data set, artifact or upload younger than `grace_us` owns. */
bool store_sweep(struct store *s, int64_t grace_us, int *ret_removed, struct err *e);

/*
 * Removes what was kept long enough, counted from the end of its job: whole jobs, their events, their artifacts (whose
 * bytes the next store_sweep() frees).  0 keeps for ever.  Jobs that have not ended are left alone.
 */
struct retention { int64_t jobs_us, events_us, artifacts_us, deliveries_us /* since they were made */, audit_us /* likewise, whole days */; };
struct forgotten { int64_t jobs, events, artifacts, deliveries, webhooks, audit; };
bool store_forget(struct store *s, const struct retention *keep, struct forgotten *ret, struct err *e);

/* One trivial write and read: is the database alive?  For readiness. */
bool store_ping(struct store *s, struct err *e);

/* A write or fsync has failed: the process must end, because only a new start knows what is on the disk. */
bool store_broken(const struct store *s);

/* Free bytes of the file system under DIR; 0 if unknown. */
uint64_t store_free_bytes(const struct store *s);

/* When a backup was last complete, in seconds since the epoch; 0: never. */
int64_t store_last_backup(const struct store *s);

/* Bytes of disk an upload or a job may still take: free, less what waiting jobs were promised and what is kept free. */
uint64_t store_room(struct store *s);

/* Where a page of a list starts and how long it is. */
struct page {
    const char *cursor;             /* the last id of the page before; NULL or "": the first page */
    int limit;                      /* 1 to 1000 */
    bool ascending;                 /* oldest first; the default is newest first */
};

#endif
