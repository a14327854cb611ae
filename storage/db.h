/*
 * db.h - the SQLite file: one connection that writes, a few that read.  For storage/ only.
 *
 *     struct conn *c = db_write(db, e);              // locked, inside BEGIN IMMEDIATE; NULL: *e is set
 *     if (!c)
 *         return false;
 *     bool ok = ...statements of stmt.h...;
 *     return db_write_end(c, ok, e);                 // COMMIT if ok, else ROLLBACK; unlocked
 *
 *     struct conn *c = db_read(db);                  // waits for a free reader; never NULL
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

struct conn *db_read(struct db *db);
void db_read_end(struct conn *c);

/* Remembers a job whose event this transaction added; after COMMIT the watcher hears of it. */
void db_touch(struct conn *c, const char *team, const char *job_id);
void db_watch(struct db *db, store_watch_fn *fn, void *arg);

/* fn is called when a write found the disk full, with no lock held.  Set once, before threads exist. */
void db_on_full(struct db *db, void (*fn)(void *arg), void *arg);

/* schema.c: brings an open database to the newest version, one transaction a step. */
struct sqlite3;
bool schema_migrate(struct sqlite3 *lite, struct err *e);
int schema_version(void);
/* Lets triggers run, if there are none but ours; else ERR_CONFIG. */
bool schema_trust_code(struct sqlite3 *lite, struct err *e);

/* Fills *e from the connection's last error.  Always false. */
bool db_fail(struct sqlite3 *lite, struct err *e, const char *doing);

#endif
