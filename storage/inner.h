/*
 * inner.h - what the files of storage/ know of each other.  For storage/ only.
 */
#ifndef STORAGE_INNER_H
#define STORAGE_INNER_H

#include "core/base/buf.h"
#include "core/base/json.h"
#include "storage/audit.h"
#include "storage/blob.h"
#include "storage/db.h"
#include "storage/hold.h"
#include "storage/job.h"
#include "storage/recent.h"
#include "storage/stmt.h"
#include "storage/token.h"
#include "storage/upload.h"
#include "storage/used.h"
#include "storage/webhook.h"

#include <pthread.h>

enum { AUDIT_WAITING = 64, USED_WAITING = 512 };

struct store {
    char *dir;                      /* the data folder and two below it, as paths */
    char *blobs, *scratch;
    int dir_fd, blobs_fd, scratch_fd;       /* the same three, open */
    int lock_fd;                    /* flock'ed while we live */
    int backup_fd;                  /* flock'ed while blobs are removed; by a backup, so that none are */
    char boot_id[40];
    struct db *db;
    struct spooler *spooler;
    struct recent *recent;
    struct store_limits limits;
    store_revoked_fn *revoked;      /* set before threads exist */
    void *revoked_arg;
    struct {
        pthread_mutex_t mu;         /* guards the rest; a leaf */
        struct audit rows[AUDIT_WAITING];
        int n;
        int64_t dropped;
    } audit;                        /* refusals on their way to the table */
    struct {
        pthread_mutex_t mu;         /* guards the rest; a leaf */
        int n;
        struct used { char id[ID_SIZE]; enum sql which; int64_t at; } notes[USED_WAITING];      /* id "": free */
    } used;
    pthread_mutex_t publish_mu;     /* orders the naming of blobs against their removal; taken before a write */
    pthread_mutex_t room_mu;        /* orders those who take disk space; guards the list below */
    struct hold *holds;             /* what requests under way take of their teams' quotas */
    pthread_mutex_t parts_mu;       /* guards the list below and what upload.h says; taken before a part's own lock */
    pthread_cond_t parts_changed;
    struct upload_part *parts;      /* uploads somebody is writing to */
};

/*
 * Takes disk space for bytes [from, from + bytes) of a file under blobs/ without changing its size.  ERR_DISK if there is not
 * that much left.
 */
bool disk_take(struct store *s, int fd, uint64_t from, uint64_t bytes, struct err *e);
/* In the transaction that queues the job: promises what its end will need, *ret_bytes for its row, or ERR_DISK. */
bool disk_promise_job(struct store *s, struct conn *c, const char *team, const struct job_request *r, uint64_t *ret_bytes, struct err *e);

/* audit.c for db.c, in a transaction that has changed something: the row of the request it belongs to, if that has none yet; *ret_joined: there is
 * one, and audit_joined() is to be called when it is committed. */
bool audit_join(struct conn *c, bool *ret_joined, struct err *e);
void audit_joined(void);

/* In the transaction that made `made`, whose id is `id`; nothing without a key.  ERR_CONFLICT at IDEMPOTENCY_FIELD: another request used the key. */
bool idempotency_insert(struct conn *c, const char *team, const struct idempotency *key, const char *id, const void *made, struct err *e);
bool idempotency_expire(struct conn *c, struct err *e);

/* Announces that rows older than `before` go, if there are any: see audit.h. */
bool audit_forget(struct store *s, int64_t before, struct err *e);

/* A token (SQL_TOKEN_USED) or session (SQL_SESSION_USED) was used: see used.h.  Waits for nothing. */
void used_note(struct store *s, enum sql which, const char *id, int64_t at);

/* After the commit that took the right of a token or session. */
void store_revoked(struct store *s, const char *id);

/* Adds an event to a job, and to the outbox of who wants to hear of it.  Takes `data`; NULL is out of memory. */
bool event_add(struct conn *c, const char *team, const char *job_id, const char *type, json_t *data, struct err *e);

/* A job about to change its state, as read in the same transaction. */
struct moving {
    char id[ID_SIZE], team[TEAM_SIZE];
    enum job_state state;
    int attempt, max_attempts;
};
struct move {
    enum job_state to;
    const char *problem;            /* JSON or NULL */
    bool give_back;                 /* the attempt does not count */
};
/* The only place where jobs.state changes, the claim aside: one arrow of job.h and its event.  Updates m. */
bool job_move(struct conn *c, struct moving *m, struct move move, struct err *e);

/* Where an attempt that was lost leads: CANCELING -> CANCELED, else QUEUED while attempts are left, else FAILED. */
struct move job_move_lost(const struct moving *m, const char *problem);

/* job_store.c: a job as a transaction sees it, and the end of a transaction that read *job for its caller. */
bool job_read(struct conn *c, const char *team, const char *id, struct job *ret, struct err *e);
bool end_with_job(struct conn *c, bool ok, struct job *job, struct err *e);
/* What job_cancel() does, inside a transaction. */
bool job_end(struct conn *c, const struct job *job, const char *by, const char *reason, struct err *e);

/* ---- webhooks: webhook.c, outbox.c and delivery.c for each other and for who changes jobs ---- */

bool webhook_read(struct conn *c, const char *team, const char *id, struct webhook *ret, struct err *e);
bool webhook_is_enabled(const struct webhook *h, struct err *e);            /* ERR_CONFLICT */
/* job_id "": for all jobs. */
bool webhook_add(struct conn *c, const char *team, const char *job_id, const struct webhook_request *r, char ret_id[ID_SIZE],
                 char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e);
/* The hooks of one job become another's, too. */
bool webhook_copy(struct conn *c, const char *team, const char *from_job, const char *to_job, struct err *e);
bool webhook_disable(struct conn *c, const char *id, const char *why, struct err *e);
/* Puts an event that this transaction added to a job into the outbox of the hooks that want it.  event: its data, borrowed. */
bool outbox_add(struct conn *c, const char *team, const char *job_id, const char *type, json_t *event, int64_t at, struct err *e);
/* Tells one hook the latest event of a job, if there still is one. */
bool outbox_repeat(struct conn *c, const char *team, const char *job_id, const char *hook, struct err *e);
bool delivery_read(struct conn *c, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e);

/* Reads a row of JOB_COLUMNS. */
bool job_of_row(struct stmt *s, struct job *ret, struct err *e);

/* Reads a row of SQL_RUN_LEFT's or SQL_RUN_EXPIRED's shape. */
void moving_of_row(struct stmt *s, struct moving *ret);

/* True if nothing failed; else hands `why` on to e.  A loop over rows cannot ask e itself, which may be NULL. */
bool err_clean(const struct err *why, struct err *e);

/* The id a page starts behind, for "id < ?" or "id > ?". */
const char *page_start(struct page page);

/*
 * 256 random bits in base 62 behind a prefix of three characters; what is stored of them, in hexadecimal; whether a text could be
 * such a secret.
 */
bool secret_make(const char *prefix, char ret[TOKEN_TEXT_SIZE], struct err *e);
void secret_hash(const char *text, char ret[HASH_HEX_SIZE]);
bool secret_well_formed(const char *prefix, const char *text);

/* hold.c: what requests of a team hold.  From when it was read on, `rows` that are written of it are not to be counted. */
struct held {
    uint64_t bytes;
    int uploads;
    struct buf rows;                /* ids and digests */
};
bool held_read(struct store *s, const char *team, struct held *ret, struct err *e);
void held_release(struct held *h);
const char *held_rows(const struct held *h);        /* accepts NULL; never is */

/* The team's row, made if there is none. */
bool team_ensure(struct conn *c, const char *team, struct err *e);
/* A team that has no row has no limits. */
struct team;
struct quota;
bool team_read(struct conn *c, const char *name, struct team *ret, struct err *e);
/* held: is added, and its rows are not counted; NULL: nothing is held. */
bool team_read_used(struct conn *c, const char *name, const struct held *held, struct quota *ret, struct err *e);

/* May the team queue one more job, store `more` bytes more?  ERR_QUOTA says which limit, and what helps. */
bool quota_admit_job(struct conn *c, const char *team, struct err *e);
bool quota_admit_bytes(struct conn *c, const char *team, uint64_t more, struct err *e);
/* May it take `need` bytes beside what is held?  Then *bytes, which are not fewer, become as many as there is room for. */
bool quota_grant(struct conn *c, const char *team, const struct held *held, uint64_t need, uint64_t *bytes, struct err *e);

/* Makes room for items[n] in the malloc'd array that `items` points to; zeroes it. */
bool list_grow(void *items, size_t n, size_t size, struct err *e);

/* Opens a folder, made if need be, and makes its name durable.  The one above must be there, and may be closed to us where it was not us who made this
 * one.  make: what is told where it cannot be made. */
bool store_folder(const char *path, const char *make, int *ret_fd, struct err *e);
/* blobs/00 to blobs/ff. */
bool store_fan_out(int blobs_fd, const char *path, struct err *e);

/* Reads fd from its start, piece by piece. */
bool blob_each_piece(int fd, bool (*use)(void *arg, const void *p, size_t n, struct err *e), void *arg, struct err *e);
/* Adds the first `most` bytes of a file, or all if it has fewer. */
bool blob_copy_pieces(int fd, uint64_t most, struct newfile *to, struct err *e);

/* "ab/<64 hex>" of a digest text that hash_parse() accepts; false if it does not. */
enum { BLOB_PATH_SIZE = 3 + HASH_HEX_SIZE };
bool blob_path(const char *digest, char ret[BLOB_PATH_SIZE]);

/* The rows of a blob whose file has its name.  ERR_QUOTA if the team may have no more, unless it owned the bytes or is exempt.
 * Fills b->existed. */
bool blob_add_rows(struct conn *c, const char *team, bool exempt, struct blob *b, struct err *e);
/* The same of one the team owns already. */
bool blob_renew(struct conn *c, const char *team, struct blob *b, struct err *e);
/* After rows that were not written: takes the file's name away again if nobody owns the bytes, so that nothing is left.  Where a commit may have
 * reached the disk all the same (store_broken()) the next start decides.  With s->publish_mu. */
bool blob_withdraw(struct store *s, const char *path, const struct err *why);
/*
 * Into the blob's row: its bytes were found to have rotted, or to be right again.  fd: the file that was read, -1: there is none.  Nothing happens if by now a
 * new upload has put another file there, or the blob is deleted.  Takes publish_mu, so not within a write.  True: that is news.
 */
bool blob_mark(struct store *s, const char *digest, int fd, bool corrupt);
/* A blob's file for reading, -1 with errno. */
int blob_file(struct store *s, const char *digest);
/* ERR_CORRUPT; how: what has become of the bytes. */
bool blob_rotted(const char *digest, const char *how, struct err *e);
/* Makes a name in blobs/xx/ durable. */
bool blob_sync_folder(struct store *s, const char *path, struct err *e);

/* ---- uploads: upload_file.c and upload_row.c for upload.c, but the last ---- */

/* Opens the file as the row knows it: what came after the offset was never acknowledged.  hash: as the row has it.  A file that has been given a
 * digest's name is left alone and its bytes below the offset are copied, which takes the space and time of as many. */
bool upload_file_open(struct upload_part *p, const char *hash, struct err *e);
/* Before it gets its digest's name: has the bytes that came, no others, and no space but theirs, all on disk. */
bool upload_file_seal(const struct upload_state *st, struct err *e);

/* The row of an upload that has not expired.  ret_hash (HASH_STATE_SIZE) and ret_want (HASH_TEXT_SIZE) may be NULL. */
bool upload_row_get(struct store *s, const char *team, const char *id, struct upload *ret, char *ret_hash, char *ret_want, struct err *e);
bool upload_row_insert(struct store *s, struct conn *c, const struct upload_state *st, const char *digest, struct err *e);
bool upload_row_update(struct store *s, struct conn *c, const struct upload_state *st, struct err *e);
bool upload_row_end(struct store *s, struct conn *c, const struct upload_state *st, const char *digest, struct err *e);
bool upload_row_delete(struct store *s, const char *team, const char *id, bool *ret_was, struct err *e);
/* ERR_QUOTA when the team has as many unfinished ones as it may. */
bool upload_few_enough(struct store *s, const char *team, const struct held *held, struct err *e);
bool upload_none(const char *id, struct err *e);            /* ERR_NOT_FOUND */
bool upload_is_written(struct store *s, const char *id);    /* whether a part is open */

/* Removes files of uploads that no row names. */
void upload_sweep_files(struct store *s);

/* Reserves the space of DIR/ballast if there is plenty; else does nothing. */
void ballast_make(struct store *s);
void ballast_drop(void *store);

/* Removes files in blobs/ that no row names. */
bool blob_sweep_files(struct store *s, int *ret_removed, struct err *e);
/* Removes what uploads left that never ended. */
void blob_sweep_unfinished(struct store *s);

/* Removes scratch that no queued job needs. */
bool scratch_sweep(struct store *s, int *ret_removed, struct err *e);

/* Removes dir/name and everything in it, following nothing; `keep`, if not NULL, stays. */
void tree_remove(int dir, const char *name, const char *keep);

#endif
