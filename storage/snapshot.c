#include "storage/snapshot.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct snapshot {
    sqlite3 *lite;
    sqlite3_stmt *blobs, *names;
};

static bool prepare(struct snapshot *s, const char *sql, sqlite3_stmt **ret, struct err *e)
{
    return sqlite3_prepare_v2(s->lite, sql, -1, ret, NULL) == SQLITE_OK || db_fail(s->lite, e, "read");
}

/* The number that a statement gives; this read is also what fixes the moment. */
static bool number(struct snapshot *s, const char *sql, int *ret, struct err *e)
{
    sqlite3_stmt *q = NULL;
    bool ok = prepare(s, sql, &q, e) && (sqlite3_step(q) == SQLITE_ROW || db_fail(s->lite, e, "read"));
    if (ok)
        *ret = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return ok;
}

static bool is_ours(struct snapshot *s, const char *path, struct err *e)
{
    int version = 0, tables = 0;
    if (!number(s, "PRAGMA user_version", &version, e)
        || !number(s, "SELECT count(*) FROM sqlite_schema WHERE name IN ('blobs', 'jobs', 'assets')", &tables, e))
        return false;
    if (version < 1 || tables != 3)
        return err_set(e, ERR_CONFIG, path, "this is not a database of repquantd");
    return version <= schema_version()
        || err_set(e, ERR_CONFIG, path, "its schema has version %d, this program knows %d; use a newer repquantd", version, schema_version());
}

struct snapshot *snapshot_open(const char *path, struct err *e)
{
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s || access(path, R_OK) != 0) {
        err_sys(e, path, "open");
        free(s);
        return NULL;
    }
    bool ok = db_connect(path, SQLITE_OPEN_READONLY, &s->lite, e)
           && (sqlite3_db_config(s->lite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK || db_fail(s->lite, e, "open"))
           && db_exec(s->lite, "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; BEGIN", e) && is_ours(s, path, e)
           && prepare(s, "SELECT digest, size FROM blobs ORDER BY digest", &s->blobs, e)
           && prepare(s, "SELECT 1 FROM blobs WHERE digest = ?1", &s->names, e);
    if (ok)
        return s;
    snapshot_close(s);
    return NULL;
}

void snapshot_close(struct snapshot *s)
{
    if (!s)
        return;
    sqlite3_finalize(s->blobs);
    sqlite3_finalize(s->names);
    sqlite3_close(s->lite);
    free(s);
}

/* True if the check gives no row, or "ok"; else the row says what is wrong. */
static bool clean(struct snapshot *s, const char *check, struct err *e)
{
    sqlite3_stmt *q = NULL;
    bool ok = prepare(s, check, &q, e);
    int rc = ok ? sqlite3_step(q) : SQLITE_DONE;
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(q, 0);
        ok = text && strcmp(text, "ok") == 0;
        if (!ok)
            err_set(e, ERR_IO, "database", "%s finds: %.200s", check + strlen("PRAGMA "), text ? text : "NULL");
    } else if (rc != SQLITE_DONE) {
        ok = db_fail(s->lite, e, "check");
    }
    sqlite3_finalize(q);
    return ok;
}

bool snapshot_check(struct snapshot *s, struct err *e)
{
    return clean(s, "PRAGMA integrity_check(1)", e) && clean(s, "PRAGMA foreign_key_check", e);
}

/* All pages in one step: the reading transaction holds the moment still, however long that takes. */
static bool copy_pages(struct snapshot *s, sqlite3 *to, struct err *e)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", s->lite, "main");
    if (!b)
        return db_fail(to, e, "copy");
    int rc = sqlite3_backup_step(b, -1);
    int finished = sqlite3_backup_finish(b);
    return (rc == SQLITE_DONE && finished == SQLITE_OK) || db_fail(to, e, "copy");
}

bool snapshot_save(struct snapshot *s, const char *path, struct err *e)
{
    sqlite3 *to = NULL;
    bool ok = db_connect(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &to, e) && copy_pages(s, to, e)
           && db_exec(to, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"
                          "DELETE FROM uploads WHERE digest = '' AND problem IS NULL", e);
    return (sqlite3_close(to) == SQLITE_OK || (ok && err_set(e, ERR_IO, "database", "the copy could not be closed"))) && ok;
}

bool snapshot_next_blob(struct snapshot *s, char ret_digest[HASH_TEXT_SIZE], uint64_t *ret_size, struct err *e)
{
    int rc = sqlite3_step(s->blobs);
    if (rc != SQLITE_ROW) {
        sqlite3_reset(s->blobs);
        return rc != SQLITE_DONE && db_fail(s->lite, e, "list the blobs");
    }
    const char *text = (const char *)sqlite3_column_text(s->blobs, 0);
    snprintf(ret_digest, HASH_TEXT_SIZE, "%s", text ? text : "");
    *ret_size = (uint64_t)sqlite3_column_int64(s->blobs, 1);
    return true;
}

bool snapshot_names(struct snapshot *s, const char *digest)
{
    sqlite3_bind_text(s->names, 1, digest, -1, SQLITE_STATIC);
    bool none = sqlite3_step(s->names) == SQLITE_DONE;
    sqlite3_reset(s->names);
    return !none;
}
