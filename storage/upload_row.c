/*
 * upload_row.c - the rows of uploads, and what becomes of those that were abandoned.
 */
#include "storage/upload.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void upload_release(struct upload *u)
{
    free(u->problem);
    u->problem = NULL;
}

bool upload_none(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no upload %.40s, or it has expired; begin a new one", id);
}

/* Of UPLOAD_COLUMNS; ret_hash and ret_want may be NULL. */
static bool of_row(struct stmt *q, struct upload *u, char ret_hash[HASH_STATE_SIZE], char ret_want[HASH_TEXT_SIZE], struct err *e)
{
    *u = (struct upload){ .length = stmt_get_int(q, 1), .offset = (uint64_t)stmt_get_int(q, 2),
                          .created_at = stmt_get_int(q, 9), .expires_at = stmt_get_int(q, 10) };
    stmt_get_text(q, 0, u->id, sizeof u->id);
    stmt_get_text(q, 5, u->metadata, sizeof u->metadata);
    stmt_get_text(q, 6, u->source, sizeof u->source);
    stmt_get_text(q, 7, u->digest, sizeof u->digest);
    if (ret_hash)
        stmt_get_text(q, 3, ret_hash, HASH_STATE_SIZE);
    if (ret_want)
        stmt_get_text(q, 4, ret_want, HASH_TEXT_SIZE);
    return stmt_dup_text(q, 8, &u->problem, e);
}

bool upload_row_get(struct store *s, const char *team, const char *id, struct upload *ret, char *ret_hash,
                     char *ret_want, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool got = stmt_row(q, &why) && of_row(q, ret, ret_hash, ret_want, &why);
    stmt_end(q);
    db_read_end(c);
    if (got && ret->expires_at >= clock_now_us())
        return true;
    if (got)
        upload_release(ret);
    return err_clean(&why, e) && upload_none(id, e);
}

bool upload_row_insert(struct store *s, struct conn *c, const struct upload_state *st, const char *digest, struct err *e)
{
    char hash[HASH_STATE_SIZE];
    int64_t now = clock_now_us();
    if (!digest[0] && st->length > 0 && !quota_admit_bytes(c, st->team, (uint64_t)st->length, e))
        return false;           /* what is on its way counts, see SQL_TEAM_USED: as many begin as can end */
    hash_save(&st->spool.hash, hash);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_INSERT);
    stmt_text(q, 1, st->team);
    stmt_text(q, 2, st->id);
    stmt_int(q, 3, st->length);
    stmt_int(q, 4, (int64_t)st->at);
    stmt_text(q, 5, hash);
    stmt_text(q, 6, st->want);
    stmt_text(q, 7, st->metadata);
    stmt_text(q, 8, st->source);
    stmt_text(q, 9, digest);
    stmt_int(q, 10, now);
    stmt_int(q, 11, now + s->limits.upload_expiry_us);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

bool upload_row_update(struct store *s, struct conn *c, const struct upload_state *st, struct err *e)
{
    char hash[HASH_STATE_SIZE];
    hash_save(&st->spool.hash, hash);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_PROGRESS);
    stmt_text(q, 1, st->team);
    stmt_text(q, 2, st->id);
    stmt_int(q, 3, (int64_t)st->at);
    stmt_text(q, 4, hash);
    stmt_int(q, 5, clock_now_us() + s->limits.upload_expiry_us);
    stmt_int(q, 6, st->length);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

bool upload_row_delete(struct store *s, const char *team, const char *id, bool *ret_was, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool ok = stmt_run(q, e);
    *ret_was = ok && stmt_changed(q) > 0;
    stmt_end(q);
    return db_write_end(c, ok, e);
}

bool upload_few_enough(struct store *s, const char *team, const struct held *held, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read_briefly(s->db);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_OPEN);
    stmt_text(q, 1, team);
    stmt_int(q, 2, clock_now_us());
    stmt_text(q, 3, held_rows(held));
    int64_t open = stmt_row(q, &why) ? stmt_get_int(q, 0) + held->uploads : 0;
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        return err_clean(&why, e);
    return open < s->limits.uploads_per_team
        || err_set(e, ERR_QUOTA, "uploads", "the team has %lld unfinished uploads, at most %d are kept; finish or delete some",
                   (long long)open, s->limits.uploads_per_team);
}

bool upload_row_end(struct store *s, struct conn *c, const struct upload_state *st, const char *digest, struct err *e)
{
    if (st->fresh)
        return upload_row_insert(s, c, st, digest, e);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_FINISH);
    stmt_text(q, 1, st->team);
    stmt_text(q, 2, st->id);
    stmt_int(q, 3, (int64_t)st->at);
    stmt_text(q, 4, digest);
    stmt_int(q, 5, clock_now_us() + s->limits.upload_expiry_us);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

bool upload_known(struct store *s, const char *team, const struct upload_wish *w, struct upload *ret, struct err *e)
{
    struct upload_state st = { .length = w->length, .at = (uint64_t)w->length, .fresh = true };
    hash_init(&st.spool.hash);
    id_new("upl", st.id);
    snprintf(st.team, sizeof st.team, "%s", team);
    snprintf(st.metadata, sizeof st.metadata, "%s", w->metadata ? w->metadata : "");
    struct blob b = { 0 };
    snprintf(b.digest, sizeof b.digest, "%s", w->want);
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, blob_renew(c, team, &b, e) && upload_row_insert(s, c, &st, w->want, e), e)
        && upload_row_get(s, team, st.id, ret, NULL, NULL, e);
}

static bool set_problem(struct store *s, enum sql which, const char *one, const char *two, const char *three, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, which);
    stmt_text(q, 1, one);
    if (two) {
        stmt_text(q, 2, two);
        stmt_text(q, 3, three);
    }
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}

bool upload_fail(struct store *s, const char *team, const char *id, const char *problem, struct err *e)
{
    if (!set_problem(s, SQL_UPLOAD_FAIL, team, id, problem, e))
        return false;
    if (id_valid(id, "upl"))
        unlinkat(s->blobs_fd, id, 0);
    return true;
}

bool upload_fail_imports(struct store *s, const char *problem, struct err *e)
{
    return set_problem(s, SQL_UPLOAD_FAIL_IMPORTS, problem, NULL, NULL, e);
}

/* ---- sweeping ---- */

/* The first expired upload after *id, whose place it takes; "" when there is none. */
static bool next_expired(struct store *s, char id[ID_SIZE], char team[TEAM_SIZE], struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_EXPIRED);
    stmt_int(q, 1, clock_now_us());
    stmt_text(q, 2, id);
    bool got = stmt_row(q, &why);
    if (got) {
        stmt_get_text(q, 0, id, ID_SIZE);
        stmt_get_text(q, 1, team, TEAM_SIZE);
    } else {
        id[0] = '\0';
    }
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

bool upload_sweep(struct store *s, struct err *e)
{
    char id[ID_SIZE] = "", team[TEAM_SIZE];
    bool was, ok;
    while ((ok = next_expired(s, id, team, e)) && id[0]) {
        if (upload_is_written(s, id))
            continue;                       /* a part that takes long; it will get a new time to live */
        if (!upload_row_delete(s, team, id, &was, e))
            return false;
        unlinkat(s->blobs_fd, id, 0);
    }
    return ok;
}

static bool has_row(struct store *s, const char *id)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_UPLOAD_KNOWN);
    stmt_text(q, 1, id);
    bool got = stmt_row(q, &why);
    stmt_end(q);
    db_read_end(c);
    return got || why.code;                 /* in doubt it stays */
}

void upload_sweep_files(struct store *s)
{
    DIR *dir = opendir(s->blobs);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (id_valid(entry->d_name, "upl") && !has_row(s, entry->d_name))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}
