/*
 * db.h - the SQLite file: one connection that writes, a few that read.  For storage/ only.
 *
 *     struct conn *c = db_write(db, e);              // locked, inside BEGIN IMMEDIATE; NULL: *e is set
 *     if (!c)
 *         return false;
 *     bool ok = ...statements of stmt.h...;
 *     return db_write_end(c, ok, e);                 // COMMIT if ok, else ROLLBACK; unlocked
 *
 *     struct conn *c = db_read(db);                  // waits for a free reader, see db_serve_many(); never NULL
 *     bool ok = ...statements...;
 *     db_read_end(c);
 *
 * A write sees its own changes; a read sees the last commit.
 */
#ifndef STORAGE_DB_H
#define STORAGE_DB_H

#include "storage/store.h"
#include "storage/ulid.h"

struct db;
struct conn;

/* Opens or makes the file, migrates it and checks it. */
struct db *db_open(const char *path, struct err *e);
void db_close(struct db *db);                               /* NULL and half-open are fine */

/* Whether something could not be made durable; then nothing more is written. */
bool db_broken(const struct db *db);

struct conn *db_write(struct db *db, struct err *e);
bool db_write_end(struct conn *c, bool ok, struct err *e);

/* Readers, and how many of them are free as long as only threads read that have not called db_serve_many(). */
enum { DB_READERS = 6, DB_READERS_KEPT = 2 };
void db_serve_many(void);

struct conn *db_read(struct db *db);
/* For one short look behind a lock that threads which serve many wait for: any reader will do. */
struct conn *db_read_briefly(struct db *db);
void db_read_end(struct conn *c);

/* Transactions committed so far; counted before db_write_end() returns. */
uint64_t db_commits(const struct db *db);

/* Bytes that SQLite holds, for all databases of the process. */
uint64_t db_memory(void);

/* Remembers a job whose event this transaction added; after COMMIT the watcher hears of it. */
void db_touch(struct conn *c, const char *team, const char *job_id);
void db_watch(struct db *db, store_watch_fn *fn, void *arg);

/* What links in what is sent begin with; borrowed.  Set once, before threads exist. */
void db_set_public_url(struct db *db, const char *url);
const char *db_public_url(const struct conn *c);

/* Remembers that this transaction left something to send; after COMMIT whoever sends it hears of it. */
void db_post(struct conn *c);
void db_on_post(struct db *db, void (*fn)(void *arg), void *arg);

/* fn is called when a write found the disk full, with no lock held.  Set once, before threads exist. */
void db_on_full(struct db *db, void (*fn)(void *arg), void *arg);

/* schema.c: brings an open database to the newest version, one transaction a step. */
struct sqlite3;
bool schema_migrate(struct sqlite3 *lite, struct err *e);
int schema_version(void);
/* Lets triggers run, if there are none but ours; else ERR_CONFIG. */
bool schema_trust_code(struct sqlite3 *lite, struct err *e);

/* Opens a connection with what holds for all of them: no code of the file's runs.  *ret is to be closed even after a failure. */
bool db_connect(const char *path, int flags, struct sqlite3 **ret, struct err *e);

/* Runs statements that give no rows. */
bool db_exec(struct sqlite3 *lite, const char *sql, struct err *e);

/* Fills *e from the connection's last error.  Always false. */
bool db_fail(struct sqlite3 *lite, struct err *e, const char *doing);
#define db_fail(...) (db_fail(__VA_ARGS__), err_false())      /* see core/base/err.h */

#endif
