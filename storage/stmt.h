/*
 * stmt.h - the only way the rest of storage/ talks to SQLite.  For storage/ only.
 *
 * Every statement of the service is one row of sql.h, prepared when a connection opens.  A use of it
 * is a bracket on a connection that db_write() or db_read() gave:
 *
 *     struct stmt *s = stmt_begin(c, SQL_TOKEN_BY_HASH);
 *     stmt_text(s, 1, hash);
 *     bool got = stmt_row(s, e);          // true: a row.  false: no row, or *e is set
 *     if (got)
 *         token_of_row(s, ret);
 *     stmt_end(s);                        // always; ends the read, frees nothing
 *
 * Text bound with stmt_text() is borrowed until stmt_end(); text read is copied.  A bracket left
 * open would hold a read transaction and let the WAL grow, so stmt_begin() asserts that the last one
 * of its kind was closed.
 *
 * Some failures (of memory, of the disk) make SQLite take back the whole transaction, and what came after would be one of its own.  So in a write
 * nothing runs once it has; db_write_end() tells what the first failure was about.
 */
#ifndef STORAGE_STMT_H
#define STORAGE_STMT_H

#include "storage/db.h"
#include "storage/sql.h"

struct stmt;

struct stmt *stmt_begin(struct conn *c, enum sql which);
void stmt_text(struct stmt *s, int at, const char *text);           /* NULL binds NULL */
void stmt_int(struct stmt *s, int at, int64_t n);
void stmt_real(struct stmt *s, int at, double x);                   /* NaN binds NULL */

bool stmt_row(struct stmt *s, struct err *e);                       /* for statements that give rows */
bool stmt_run(struct stmt *s, struct err *e);                       /* for those that do not: true is success */
int64_t stmt_changed(const struct stmt *s);                         /* rows the last stmt_run() changed */
void stmt_end(struct stmt *s);

void stmt_get_text(struct stmt *s, int column, char *ret, size_t size);   /* "" for NULL */
bool stmt_dup_text(struct stmt *s, int column, char **ret, struct err *e);   /* malloc'd; NULL for NULL */
int64_t stmt_get_int(struct stmt *s, int column);
bool stmt_is_null(struct stmt *s, int column);
double stmt_get_real(struct stmt *s, int column);                   /* NaN for NULL */

/* Begin, one text bound, run, end: the shape of many. */
bool stmt_exec(struct conn *c, enum sql which, const char *text1, const char *text2, struct err *e);

/* For db.c only. */
struct sqlite3;
struct stmt *stmt_prepare_all(struct sqlite3 *lite, struct err *e);
void stmt_finalize_all(struct stmt *all);                           /* NULL is fine */
struct stmt *conn_stmts(struct conn *c);
void conn_failed(struct conn *c, int kind);                         /* kind: SQLite's code */
/* Whether SQLite has taken back the transaction that db_write() began; fills *e then. */
bool conn_lost(struct conn *c, struct err *e);

#endif
