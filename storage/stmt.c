#include "storage/stmt.h"

#include <assert.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stmt {
    sqlite3 *db;
    sqlite3_stmt *lite;
    struct conn *conn;
    bool open;            /* between stmt_begin() and stmt_end() */
    int bound;            /* the first failure of a bind, reported by the step */
};

static const char *const texts[SQL_COUNT] = {
#define X(name, text) [SQL_##name] = text,
    SQL_STATEMENTS(X)
#undef X
};

struct stmt *stmt_prepare_all(sqlite3 *lite, struct err *e)
{
    struct stmt *all = calloc(SQL_COUNT, sizeof *all);
    if (!all) {
        err_sys(e, "database", "prepare");
        return NULL;
    }
    for (int i = 0; i < SQL_COUNT; i++) {
        all[i].db = lite;
        if (sqlite3_prepare_v3(lite, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &all[i].lite, NULL) != SQLITE_OK) {
            db_fail(lite, e, texts[i]);
            stmt_finalize_all(all);
            return NULL;
        }
    }
    return all;
}

void stmt_finalize_all(struct stmt *all)
{
    for (int i = 0; all && i < SQL_COUNT; i++)
        sqlite3_finalize(all[i].lite);
    free(all);
}

struct stmt *stmt_begin(struct conn *c, enum sql which)
{
    struct stmt *s = &conn_stmts(c)[which];
    assert(!s->open);
    s->conn = c;
    s->open = true;
    s->bound = SQLITE_OK;
    return s;
}

static void note(struct stmt *s, int rc)
{
    if (s->bound == SQLITE_OK)
        s->bound = rc;
}

void stmt_text(struct stmt *s, int at, const char *text)
{
    note(s, sqlite3_bind_text(s->lite, at, text, -1, SQLITE_STATIC));
}

void stmt_int(struct stmt *s, int at, int64_t n) { note(s, sqlite3_bind_int64(s->lite, at, n)); }

/* SQLite itself turns NaN into NULL. */
void stmt_real(struct stmt *s, int at, double x) { note(s, sqlite3_bind_double(s->lite, at, x)); }

static bool fail(struct stmt *s, int kind, const char *doing, struct err *e)
{
    conn_failed(s->conn, kind);
    return db_fail(s->db, e, doing);
}

/* SQLITE_ROW, SQLITE_DONE, or SQLITE_ERROR with *e set. */
static int step(struct stmt *s, struct err *e)
{
    if (conn_lost(s->conn, e))
        return SQLITE_ERROR;
    int rc = s->bound != SQLITE_OK ? s->bound : sqlite3_step(s->lite);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return rc;
    fail(s, rc, s->bound != SQLITE_OK ? "bind" : sqlite3_sql(s->lite), e);
    return SQLITE_ERROR;
}

bool stmt_row(struct stmt *s, struct err *e) { return step(s, e) == SQLITE_ROW; }

bool stmt_run(struct stmt *s, struct err *e)
{
    int rc = step(s, e);
    return rc == SQLITE_DONE || (rc == SQLITE_ROW && fail(s, SQLITE_MISUSE, sqlite3_sql(s->lite), e));
}

int64_t stmt_changed(const struct stmt *s) { return sqlite3_changes64(s->db); }

void stmt_get_text(struct stmt *s, int column, char *ret, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s->lite, column);
    snprintf(ret, size, "%s", text ? (const char *)text : "");
}

bool stmt_dup_text(struct stmt *s, int column, char **ret, struct err *e)
{
    const unsigned char *text = sqlite3_column_text(s->lite, column);
    *ret = text ? strdup((const char *)text) : NULL;
    bool lost = !*ret && sqlite3_column_type(s->lite, column) != SQLITE_NULL;
    return !lost || err_sys(e, "database", "copy a row");
}

int64_t stmt_get_int(struct stmt *s, int column) { return sqlite3_column_int64(s->lite, column); }

bool stmt_is_null(struct stmt *s, int column) { return sqlite3_column_type(s->lite, column) == SQLITE_NULL; }

double stmt_get_real(struct stmt *s, int column)
{
    return stmt_is_null(s, column) ? NAN : sqlite3_column_double(s->lite, column);
}

void stmt_end(struct stmt *s)
{
    sqlite3_reset(s->lite);             /* its code repeats what the step reported */
    sqlite3_clear_bindings(s->lite);
    s->open = false;
}

bool stmt_exec(struct conn *c, enum sql which, const char *text1, const char *text2, struct err *e)
{
    struct stmt *s = stmt_begin(c, which);
    stmt_text(s, 1, text1);
    if (text2)
        stmt_text(s, 2, text2);
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}
