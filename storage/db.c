/*
 * db.c - one connection writes, a few read.
 *
 * All writes and all checkpoints happen on one connection behind a mutex.  That is the fastest
 * arrangement for SQLite inside one process, SQLITE_BUSY cannot happen in it, and the
 * WAL-reset defect of SQLite before 3.51.3, which needs a second connection that writes or
 * checkpoints, has no trigger.  Readers have a connection each, read-only, and see the last commit
 * without waiting for the writer's fsync.
 *
 *  - Write transactions start with BEGIN IMMEDIATE.  A deferred one that reads first and writes
 *    later fails at once with SQLITE_BUSY_SNAPSHOT when another process wrote in between; the busy
 *    timeout does not apply to that upgrade.
 *  - Never open() the database file by hand: close() would drop SQLite's locks.
 *  - Never use a connection after fork().
 *  - After a failed write or fsync the file may not hold what we believe it does, and asking again
 *    would hear "ok" from a kernel that has dropped the pages.  So nothing more is written until a restart.
 *
 * LOCKING  write_mu is held from db_write() to db_write_end(); read_mu only to take or give back a
 * reader.  Both are leaves, but for the blob store's publish_mu, which is taken before write_mu.
 */
#include "storage/db.h"

#include "core/base/clock.h"
#include "core/base/metric.h"
#include "storage/inner.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READERS = 4, TOUCH_MAX = 16, BUSY_MS = 5000 };

struct conn {
    struct db *db;
    sqlite3 *lite;
    struct stmt *stmts;
    struct conn *next_free;         /* of a reader */
};

struct touched { char team[TEAM_SIZE], job[ID_SIZE]; };

struct db {
    pthread_mutex_t write_mu;       /* guards writer, touched, ntouched, posted, changes */
    struct conn writer;
    struct touched touched[TOUCH_MAX];
    int ntouched;
    bool posted;
    sqlite3_int64 changes;          /* the connection's count when the transaction began */

    pthread_mutex_t read_mu;        /* guards free_readers */
    pthread_cond_t read_free;
    struct conn readers[READERS];
    struct conn *free_readers;

    _Atomic uint64_t commits;
    atomic_bool broken;             /* an I/O error while writing: see above */
    store_watch_fn *watch;          /* set before threads exist */
    void *watch_arg;
    void (*on_full)(void *arg);     /* likewise */
    void *full_arg;
    void (*on_post)(void *arg);     /* likewise */
    void *post_arg;
    const char *public_url;         /* likewise */
};

bool db_fail(sqlite3 *lite, struct err *e, const char *doing)
{
    int rc = sqlite3_extended_errcode(lite);
    enum err_code code;
    if ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB)
        return err_set(e, ERR_IO, "database", "the database is damaged (%.100s: %s); restore a backup as docs/durability.md says", doing, sqlite3_errmsg(lite));
    switch (rc & 0xff) {
    case SQLITE_NOMEM: code = ERR_MEMORY; break;
    case SQLITE_FULL: code = ERR_DISK; break;
    case SQLITE_BUSY: code = ERR_BUSY; break;
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM: code = ERR_PERMISSION; break;
    default: code = ERR_IO;
    }
    return err_set(e, code, "database", "%.200s: %s (%d)", doing, sqlite3_errmsg(lite), rc);
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
        && db_exec(c->lite, "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0", e)
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
    db->writer.db = db;
    bool ok = writer_open(db, path, e);
    for (int i = 0; ok && i < READERS; i++) {
        struct conn *c = &db->readers[i];
        ok = reader_open(c, path, e);
        c->db = db;
        c->next_free = db->free_readers;
        db->free_readers = c;
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
    for (int i = 0; i < READERS; i++)
        conn_close(&db->readers[i]);
    if (db_broken(db))              /* what the log holds is for the next start to read, not for us to write elsewhere */
        sqlite3_db_config(db->writer.lite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    conn_close(&db->writer);        /* last, so that the checkpoint on close is the writer's */
    pthread_mutex_destroy(&db->write_mu);
    pthread_mutex_destroy(&db->read_mu);
    pthread_cond_destroy(&db->read_free);
    free(db);
}

struct stmt *conn_stmts(struct conn *c) { return c->stmts; }

static int error_kind(const struct conn *c) { return sqlite3_extended_errcode(c->lite) & 0xff; }

/* A ROLLBACK needs memory too: one that had none has left its transaction to us. */
static bool begin(sqlite3 *lite, struct err *e)
{
    return (sqlite3_get_autocommit(lite) || db_exec(lite, "ROLLBACK", e)) && db_exec(lite, "BEGIN IMMEDIATE", e);
}

bool db_broken(const struct db *db) { return atomic_load(&db->broken); }

struct conn *db_write(struct db *db, struct err *e)
{
    if (db_broken(db)) {
        err_set(e, ERR_IO, "database", "an earlier write failed; the daemon stops, and its next start sees what is on the disk");
        return NULL;
    }
    pthread_mutex_lock(&db->write_mu);
    if (begin(db->writer.lite, e)) {
        db->ntouched = 0;
        db->posted = false;
        db->changes = sqlite3_total_changes64(db->writer.lite);
        return &db->writer;
    }
    pthread_mutex_unlock(&db->write_mu);
    return NULL;
}

bool db_write_end(struct conn *c, bool ok, struct err *e)
{
    struct db *db = c->db;
    struct touched touched[TOUCH_MAX];
    int n = 0;
    bool joined = false;

    int64_t began = clock_mono_us();
    ok = ok && (sqlite3_total_changes64(c->lite) == db->changes || audit_join(c, &joined, e)) && db_exec(c->lite, "COMMIT", e);
    if (ok && joined)
        audit_joined();
    if (ok)
        atomic_fetch_add(&db->commits, 1);
    if (ok)
        metric_observe(METRIC_COMMIT_SECONDS, 0, (double)(clock_mono_us() - began) / 1e6);
    int kind = ok ? SQLITE_OK : error_kind(c);
    if (kind == SQLITE_IOERR || kind == SQLITE_FULL)
        metric_add(METRIC_COMMIT_FAILED, 1);
    if (kind == SQLITE_IOERR)
        atomic_store(&db->broken, true);
    if (!ok)
        (void)db_exec(c->lite, "ROLLBACK", NULL);      /* the first error is already in *e */
    if (ok && db->watch) {
        n = db->ntouched;
        memcpy(touched, db->touched, (size_t)n * sizeof touched[0]);
    }
    bool posted = ok && db->posted && db->on_post;
    pthread_mutex_unlock(&db->write_mu);
    if (kind == SQLITE_FULL && db->on_full)
        db->on_full(db->full_arg);
    for (int i = 0; i < n; i++)
        db->watch(db->watch_arg, touched[i].team, touched[i].job);
    if (posted)
        db->on_post(db->post_arg);
    return ok;
}

struct conn *db_read(struct db *db)
{
    pthread_mutex_lock(&db->read_mu);
    while (!db->free_readers)
        pthread_cond_wait(&db->read_free, &db->read_mu);
    struct conn *c = db->free_readers;
    db->free_readers = c->next_free;
    pthread_mutex_unlock(&db->read_mu);
    return c;
}

void db_read_end(struct conn *c)
{
    struct db *db = c->db;
    pthread_mutex_lock(&db->read_mu);
    c->next_free = db->free_readers;
    db->free_readers = c;
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
