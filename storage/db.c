/*
 * db.c - one connection writes, a few read.
 *
 * All writes and all checkpoints happen on one connection behind a mutex.  That is the fastest
 * arrangement for SQLite inside one process, SQLITE_BUSY cannot happen in it, and the
 * WAL-reset defect of SQLite before 3.51.3, which needs a second connection that writes or
 * checkpoints, has no trigger.  Readers have a connection each, read-only, and see the last commit
 * without waiting for the writer's fsync; two are kept for threads that ask who somebody is, so that long reads do not
 * keep everybody outside.
 *
 *  - Those who write at the same time share a commit, and so its fsync: whoever ends while another waits for the
 *    connection leaves the transaction open to that one (a savepoint keeps their changes apart) and sleeps until
 *    it is durable.  Nobody waits for company: alone, each commits at once.  Who is woken needs the connection no
 *    more: behind it the next transaction is under way already.
 *  - Write transactions start with BEGIN IMMEDIATE.  A deferred one that reads first and writes
 *    later fails at once with SQLITE_BUSY_SNAPSHOT when another process wrote in between; the busy
 *    timeout does not apply to that upgrade.
 *  - Never open() the database file by hand: close() would drop SQLite's locks.
 *  - Never use a connection after fork().
 *  - After a failed write or fsync the file may not hold what we believe it does, and asking again
 *    would hear "ok" from a kernel that has dropped the pages.  So nothing more is written until a restart; nor
 *    after a failed fsync of a file elsewhere (io.h): a row must not name what may not be there.
 *
 * LOCKING  write_mu is held from db_write() until db_write_end() has committed or sleeps; read_mu only to take or
 * give back a reader.  Both are leaves, but for the blob store's publish_mu, which is taken before write_mu: so what comes between
 * db_write() and db_write_end() takes no lock that somebody may hold who writes.
 */
#include "storage/db.h"

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/metric.h"
#include "storage/inner.h"

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOUCH_MAX = 16, BUSY_MS = 5000, SHARE_MAX = 64 };

struct conn {
    struct db *db;
    sqlite3 *lite;
    struct stmt *stmts;
    struct conn *next_free;         /* of a reader */
};

struct touched { char team[TEAM_SIZE], job[ID_SIZE]; };

/* A write whose changes are in the open transaction, until that is committed.  On the stack of who waits for it. */
struct sharer {
    struct sharer *next;
    sem_t ended;                    /* posted once the two below hold */
    bool ok;
    struct err why;
};

struct db {
    atomic_int coming;              /* who waits for write_mu */
    pthread_mutex_t write_mu;       /* guards all up to `failed` */
    struct sharer *sharers;         /* of the open transaction, */
    int nsharers;                   /* so many */
    struct conn writer;
    struct touched touched[TOUCH_MAX];
    int ntouched;
    bool posted;
    sqlite3_int64 changes;          /* the connection's count when the transaction began */
    int failed;                     /* the worst kind of failure of a statement of this write; SQLITE_OK: none */

    pthread_mutex_t read_mu;        /* guards the last two below */
    pthread_cond_t read_free, kept_free;
    struct conn readers[DB_READERS];
    struct conn *free_readers;
    int nfree;

    _Atomic uint64_t commits;
    atomic_bool broken;             /* an I/O error while writing: see above */
    atomic_bool full;               /* the disk was, and on_full has not heard of it */
    store_watch_fn *watch;          /* set before threads exist */
    void *watch_arg;
    void (*on_full)(void *arg);     /* likewise */
    void *full_arg;
    void (*on_post)(void *arg);     /* likewise */
    void *post_arg;
    const char *public_url;         /* likewise */
};

static enum err_code code_of(int kind)
{
    static const struct { int kind; enum err_code code; } known[] = {
        { SQLITE_NOMEM, ERR_MEMORY }, { SQLITE_FULL, ERR_DISK }, { SQLITE_BUSY, ERR_BUSY },
        { SQLITE_CANTOPEN, ERR_PERMISSION }, { SQLITE_READONLY, ERR_PERMISSION }, { SQLITE_PERM, ERR_PERMISSION },
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].kind == kind)
            return known[i].code;
    return ERR_IO;
}

bool (db_fail)(sqlite3 *lite, struct err *e, const char *doing)
{
    int rc = sqlite3_extended_errcode(lite);
    if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB)
        return err_set(e, ERR_IO, "database", "the database is damaged (%.100s: %s); restore a backup as docs/durability.md says", doing, sqlite3_errmsg(lite));
    return err_set(e, code_of(rc & 0xff), "database", "%.200s: %s (%d)", doing, sqlite3_errmsg(lite), rc);
}

bool db_exec(sqlite3 *lite, const char *sql, struct err *e)
{
    return sqlite3_exec(lite, sql, NULL, NULL, NULL) == SQLITE_OK || db_fail(lite, e, sql);
}

/* What holds for every connection; a file that was tampered with must not make SQLite run its code. */
static bool harden(sqlite3 *lite, struct err *e)
{
    sqlite3_busy_timeout(lite, BUSY_MS);
    sqlite3_db_config(lite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(lite, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(lite, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_limit(lite, SQLITE_LIMIT_LENGTH, 64 << 20);
    sqlite3_limit(lite, SQLITE_LIMIT_ATTACHED, 0);
    return db_exec(lite, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
                      "PRAGMA mmap_size = 0; PRAGMA foreign_keys = ON", e);
}

bool db_connect(const char *path, int flags, sqlite3 **ret, struct err *e)
{
    if (sqlite3_open_v2(path, ret, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL) != SQLITE_OK)
        return db_fail(*ret, e, "open");
    return harden(*ret, e);
}

static void conn_close(struct conn *c)
{
    stmt_finalize_all(c->stmts);
    sqlite3_close(c->lite);         /* NULL is fine; open_v2 leaves a handle even when it fails */
    *c = (struct conn){ 0 };
}

static int first_column_ok(void *arg, int columns, char **text, char **names)
{
    (void)columns, (void)names;
    *(bool *)arg = text[0] && strcmp(text[0], "ok") == 0;
    return 0;
}

/* Seconds per gigabyte at start are cheaper than building on a damaged file. */
static bool quick_check(sqlite3 *lite, struct err *e)
{
    bool ok = false;
    if (sqlite3_exec(lite, "PRAGMA quick_check(1)", first_column_ok, &ok, NULL) != SQLITE_OK)
        return db_fail(lite, e, "check");
    return ok || err_set(e, ERR_IO, "database", "the database is damaged (quick_check); restore a backup as docs/durability.md says");
}

static bool writer_open(struct db *db, const char *path, struct err *e)
{
    struct conn *c = &db->writer;
    return db_connect(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &c->lite, e)
        && db_exec(c->lite, "PRAGMA journal_mode = WAL;"
                         "PRAGMA synchronous = FULL;"           /* a 202 answer survives a power cut */
                         "PRAGMA journal_size_limit = 67108864", e)
        && quick_check(c->lite, e) && schema_migrate(c->lite, e) && schema_trust_code(c->lite, e)
        && (c->stmts = stmt_prepare_all(c->lite, e)) != NULL;
}

static bool reader_open(struct conn *c, const char *path, struct err *e)
{
    return db_connect(path, SQLITE_OPEN_READONLY, &c->lite, e)
        && db_exec(c->lite, "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0;"
                         "PRAGMA cache_size = -512", e)         /* KiB; the kernel has the pages, and a reader that is seldom needed would fill its own late */
        && (c->stmts = stmt_prepare_all(c->lite, e)) != NULL;
}

struct db *db_open(const char *path, struct err *e)
{
    struct db *db = calloc(1, sizeof *db);
    if (!db) {
        err_sys(e, "database", "open");
        return NULL;
    }
    pthread_mutex_init(&db->write_mu, NULL);
    pthread_mutex_init(&db->read_mu, NULL);
    pthread_cond_init(&db->read_free, NULL);
    pthread_cond_init(&db->kept_free, NULL);
    db->writer.db = db;
    bool ok = writer_open(db, path, e);
    for (int i = 0; ok && i < DB_READERS; i++) {
        struct conn *c = &db->readers[i];
        ok = reader_open(c, path, e);
        c->db = db;
        c->next_free = db->free_readers;
        db->free_readers = c;
        db->nfree++;
    }
    if (ok)
        return db;
    db_close(db);       /* safe on a half-open db */
    return NULL;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (int i = 0; i < DB_READERS; i++)
        conn_close(&db->readers[i]);
    if (db_broken(db))              /* what the log holds is for the next start to read, not for us to write elsewhere */
        sqlite3_db_config(db->writer.lite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    conn_close(&db->writer);        /* last, so that the checkpoint on close is the writer's */
    pthread_mutex_destroy(&db->write_mu);
    pthread_mutex_destroy(&db->read_mu);
    pthread_cond_destroy(&db->read_free);
    pthread_cond_destroy(&db->kept_free);
    free(db);
}

uint64_t db_memory(void) { return (uint64_t)sqlite3_memory_used(); }

struct stmt *conn_stmts(struct conn *c) { return c->stmts; }

static int error_kind(const struct conn *c) { return sqlite3_extended_errcode(c->lite) & 0xff; }

void conn_failed(struct conn *c, int kind)
{
    struct db *db = c->db;
    kind &= 0xff;
    if (c == &db->writer && (!db->failed || kind == SQLITE_IOERR || (kind == SQLITE_FULL && db->failed != SQLITE_IOERR)))
        db->failed = kind;
}

bool conn_lost(struct conn *c, struct err *e)
{
    if (c != &c->db->writer || !sqlite3_get_autocommit(c->lite))
        return false;
    err_set(e, code_of(c->db->failed), "database", "a statement failed, and SQLite has taken back the whole write; try again");
    return true;
}

/* A ROLLBACK needs memory too: one that had none has left its transaction to us. */
static bool begin_alone(sqlite3 *lite, struct err *e)
{
    return (sqlite3_get_autocommit(lite) || db_exec(lite, "ROLLBACK", e)) && db_exec(lite, "BEGIN IMMEDIATE", e);
}

bool db_broken(const struct db *db) { return atomic_load(&db->broken); }

static bool refuse_broken(struct err *e)
{
    return err_set(e, ERR_IO, "database", "an earlier write failed; the daemon stops, and its next start sees what is on the disk");
}

/* ---- the transaction that writes share ---- */

/* Those who share the open transaction, which ends: the next one is others'. */
static struct sharer *take_sharers(struct db *db)
{
    struct sharer *all = db->sharers;
    db->sharers = NULL;
    db->nsharers = 0;
    return all;
}

static void tell(struct sharer *all, bool ok, const struct err *why)
{
    for (struct sharer *sharer = all, *next; sharer; sharer = next) {
        next = sharer->next;        /* before it is told: then it is gone */
        sharer->ok = ok;
        if (!ok)
            sharer->why = *why;
        sem_post(&sharer->ended);
    }
}

static void note_failure(struct db *db, int kind)
{
    if (kind == SQLITE_IOERR || kind == SQLITE_FULL)
        metric_add(METRIC_COMMIT_FAILED, 1);
    if (kind == SQLITE_IOERR)
        atomic_store(&db->broken, true);
    if (kind == SQLITE_FULL)
        atomic_store(&db->full, true);
}

/* COMMIT, or ROLLBACK where it fails. */
static bool commit(struct db *db, struct err *e)
{
    int64_t began = clock_mono_us();
    bool ok = db_exec(db->writer.lite, "COMMIT", e);
    if (ok) {
        atomic_fetch_add(&db->commits, 1);
        metric_observe(METRIC_COMMIT_SECONDS, 0, (double)(clock_mono_us() - began) / 1e6);
    } else {
        note_failure(db, error_kind(&db->writer));
        (void)db_exec(db->writer.lite, "ROLLBACK", NULL);      /* the first error is already in *e */
    }
    return ok;
}

/* Ends a write that failed.  The others' changes stay, unless SQLite has taken back all or an I/O error leaves nothing to believe. */
static void take_back(struct db *db)
{
    sqlite3 *lite = db->writer.lite;
    int kind = db->failed ? db->failed : error_kind(&db->writer);       /* the next statement's bind has made SQLite forget */
    struct err why = { 0 };
    note_failure(db, kind);
    if (db->sharers && kind != SQLITE_IOERR && !sqlite3_get_autocommit(lite)
        && db_exec(lite, "ROLLBACK TO sharer; RELEASE sharer", NULL))
        return;
    (void)db_exec(lite, "ROLLBACK", NULL);
    err_set(&why, code_of(kind), "database", "a write of the same commit failed; try again");
    tell(take_sharers(db), false, &why);
}

static bool others_come(const struct db *db) { return atomic_load(&db->coming) > 0 && db->nsharers < SHARE_MAX; }

/* Leaves the transaction and write_mu to who comes next, and sleeps until it has ended. */
static bool share(struct db *db, struct err *e)
{
    struct sharer me = { .next = db->sharers };
    sem_init(&me.ended, 0, 0);
    db->sharers = &me;
    db->nsharers++;
    pthread_mutex_unlock(&db->write_mu);
    while (sem_wait(&me.ended) != 0)        /* a signal */
        ;
    sem_destroy(&me.ended);
    if (!me.ok && e)
        *e = me.why;
    return me.ok;
}

/* Makes the open transaction durable, now or with those who come, and lets go of write_mu.  False: nothing of it is. */
static bool finish(struct db *db, struct err *e)
{
    if (others_come(db))
        return share(db, e);
    struct err why = { 0 };
    bool ok = commit(db, &why);
    struct sharer *all = take_sharers(db);
    pthread_mutex_unlock(&db->write_mu);
    tell(all, ok, &why);
    if (!ok && e)
        *e = why;
    return ok;
}

/* Of a write that left nothing: what others have in the transaction must not wait for the next one. */
static void leave(struct db *db, struct err *e)
{
    if (db->sharers)
        finish(db, e);
    else
        pthread_mutex_unlock(&db->write_mu);
}

static void come(struct db *db, int n)
{
    atomic_fetch_add(&db->coming, n);
    metric_add(METRIC_WRITES_WAITING, n);
}

struct conn *db_write(struct db *db, struct err *e)
{
    come(db, 1);
    pthread_mutex_lock(&db->write_mu);
    come(db, -1);
    sqlite3 *lite = db->writer.lite;
    bool ok = db_broken(db) || io_sync_failed() ? refuse_broken(e) : db->sharers ? db_exec(lite, "SAVEPOINT sharer", e) : begin_alone(lite, e);
    if (ok) {
        db->ntouched = 0;
        db->posted = false;
        db->failed = SQLITE_OK;
        db->changes = sqlite3_total_changes64(lite);
        return &db->writer;
    }
    leave(db, NULL);
    return NULL;
}

/* Lets go of write_mu. */
static bool end_shared(struct conn *c, bool ok, struct err *e)
{
    struct db *db = c->db;
    ok = ok && !conn_lost(c, e) && (!db->sharers || db_exec(c->lite, "RELEASE sharer", e));
    if (ok)
        return finish(db, e);
    take_back(db);
    leave(db, e);       /* what it failed for may be what another left in this transaction: that is true only when it is durable */
    return false;
}

bool db_write_end(struct conn *c, bool ok, struct err *e)
{
    struct db *db = c->db;
    struct touched touched[TOUCH_MAX];
    int n = db->watch ? db->ntouched : 0;
    bool joined = false, posted = db->posted && db->on_post;

    memcpy(touched, db->touched, (size_t)n * sizeof touched[0]);
    ok = ok && (sqlite3_total_changes64(c->lite) == db->changes || audit_join(c, &joined, e));
    ok = end_shared(c, ok, e);
    if (atomic_exchange(&db->full, false) && db->on_full)
        db->on_full(db->full_arg);
    if (!ok)
        return false;
    if (joined)
        audit_joined();
    for (int i = 0; i < n; i++)
        db->watch(db->watch_arg, touched[i].team, touched[i].job);
    if (posted)
        db->on_post(db->post_arg);
    return true;
}

static _Thread_local bool serves_many;

void db_serve_many(void) { serves_many = true; }

static struct conn *take_reader(struct db *db, bool kept)
{
    pthread_mutex_lock(&db->read_mu);
    while (db->nfree <= (kept ? 0 : DB_READERS_KEPT))
        pthread_cond_wait(kept ? &db->kept_free : &db->read_free, &db->read_mu);
    struct conn *c = db->free_readers;
    db->free_readers = c->next_free;
    db->nfree--;
    pthread_mutex_unlock(&db->read_mu);
    return c;
}

struct conn *db_read(struct db *db) { return take_reader(db, serves_many); }
struct conn *db_read_briefly(struct db *db) { return take_reader(db, true); }

void db_read_end(struct conn *c)
{
    struct db *db = c->db;
    pthread_mutex_lock(&db->read_mu);
    c->next_free = db->free_readers;
    db->free_readers = c;
    pthread_cond_signal(&db->kept_free);
    if (++db->nfree > DB_READERS_KEPT)
        pthread_cond_signal(&db->read_free);
    pthread_mutex_unlock(&db->read_mu);
}

uint64_t db_commits(const struct db *db) { return atomic_load(&db->commits); }

void db_touch(struct conn *c, const char *team, const char *job_id)
{
    struct db *db = c->db;
    struct touched *last = db->ntouched ? &db->touched[db->ntouched - 1] : NULL;
    if (db->ntouched == TOUCH_MAX || (last && strcmp(last->job, job_id) == 0))
        return;
    struct touched *t = &db->touched[db->ntouched++];
    snprintf(t->team, sizeof t->team, "%s", team);
    snprintf(t->job, sizeof t->job, "%s", job_id);
}

void db_set_public_url(struct db *db, const char *url) { db->public_url = url; }
const char *db_public_url(const struct conn *c) { return c->db->public_url ? c->db->public_url : ""; }

void db_post(struct conn *c) { c->db->posted = true; }

void db_on_post(struct db *db, void (*fn)(void *arg), void *arg)
{
    db->on_post = fn;
    db->post_arg = arg;
}

void db_on_full(struct db *db, void (*fn)(void *arg), void *arg)
{
    db->on_full = fn;
    db->full_arg = arg;
}

void db_watch(struct db *db, store_watch_fn *fn, void *arg)
{
    db->watch = fn;
    db->watch_arg = arg;
}
