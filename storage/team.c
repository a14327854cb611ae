#include "storage/team.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdlib.h>
#include <string.h>

static bool no_team(const char *name, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "team", "there is no team \"%.60s\"", name);
}

static bool insert_team(struct conn *c, const char *name, bool *ret_new, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_TEAM_INSERT);
    stmt_text(q, 1, name);
    stmt_int(q, 2, clock_now_us());
    bool ok = stmt_run(q, e);
    *ret_new = ok && stmt_changed(q) == 1;
    stmt_end(q);
    return ok;
}

bool team_ensure(struct conn *c, const char *team, struct err *e)
{
    bool is_new;
    return insert_team(c, team, &is_new, e);
}

static void bind_limit(struct stmt *q, int at, int64_t limit)
{
    if (limit == QUOTA_NONE)
        stmt_text(q, at, NULL);
    else
        stmt_int(q, at, limit);
}

static bool update_quota(struct conn *c, const char *name, const struct quota *quota, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_TEAM_QUOTA);
    stmt_text(q, 1, name);
    bind_limit(q, 2, quota->running);
    bind_limit(q, 3, quota->queued);
    bind_limit(q, 4, quota->bytes);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_team(name, e);
    stmt_end(q);
    return ok;
}

bool team_create(struct store *s, const char *name, const struct quota *quota, struct err *e)
{
    bool is_new = false;
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = insert_team(c, name, &is_new, e);
    if (ok && !is_new)
        ok = err_set(e, ERR_CONFLICT, "/name", "there is a team \"%.60s\" already", name);
    return db_write_end(c, ok && update_quota(c, name, quota, e), e);
}

bool team_set_quota(struct store *s, const char *name, const struct quota *quota, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, update_quota(c, name, quota, e), e);
}

/* ---- reading ---- */

static int64_t limit_of(struct stmt *q, int column)
{
    return stmt_is_null(q, column) ? QUOTA_NONE : stmt_get_int(q, column);
}

static void team_of_row(struct stmt *q, struct team *t)
{
    *t = (struct team){ .created_at = stmt_get_int(q, 1),
                        .quota = { .running = limit_of(q, 2), .queued = limit_of(q, 3), .bytes = limit_of(q, 4) } };
    stmt_get_text(q, 0, t->name, sizeof t->name);
}

bool team_read_used(struct conn *c, const char *name, const struct held *held, struct quota *ret, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_TEAM_USED);
    stmt_text(q, 1, name);
    stmt_text(q, 2, held_rows(held));
    bool got = stmt_row(q, e);
    if (got)
        *ret = (struct quota){ stmt_get_int(q, 0), stmt_get_int(q, 1), stmt_get_int(q, 2) };
    if (got && held && __builtin_add_overflow(ret->bytes, held->bytes, &ret->bytes))
        ret->bytes = INT64_MAX;
    stmt_end(q);
    return got;
}

bool team_read(struct conn *c, const char *name, struct team *ret, struct err *e)
{
    struct err why = { 0 };
    *ret = (struct team){ .quota = { QUOTA_NONE, QUOTA_NONE, QUOTA_NONE } };
    struct stmt *q = stmt_begin(c, SQL_TEAM_GET);
    stmt_text(q, 1, name);
    if (stmt_row(q, &why))
        team_of_row(q, ret);
    stmt_end(q);
    return err_clean(&why, e);
}

bool team_get(struct store *s, const char *name, struct team *ret, struct err *e)
{
    struct held held;
    if (!held_read(s, name, &held, e))
        return false;
    struct conn *c = db_read(s->db);
    bool ok = team_read(c, name, ret, e) && (ret->name[0] || no_team(name, e)) && team_read_used(c, name, &held, &ret->used, e);
    db_read_end(c);
    held_release(&held);
    return ok;
}

bool team_list(struct store *s, struct team_list *ret, struct err *e)
{
    struct team_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_TEAM_LIST);
    while (stmt_row(q, &why)) {
        if (!list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        team_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        team_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void team_list_release(struct team_list *l)
{
    free(l->items);
    *l = (struct team_list){ 0 };
}

/* ---- deleting ---- */

static bool is_empty(struct conn *c, const char *name, struct err *e)
{
    static const char *const things[] = { "tokens", "jobs", "models or data sets", "uploads", "webhooks", "recipes" };
    struct err why = { 0 };
    const char *has = NULL;
    struct stmt *q = stmt_begin(c, SQL_TEAM_HAS);
    stmt_text(q, 1, name);
    bool got = stmt_row(q, &why);
    for (int i = 0; got && !has && i < (int)(sizeof things / sizeof *things); i++)
        if (stmt_get_int(q, i))
            has = things[i];
    stmt_end(q);
    if (why.code)
        return err_clean(&why, e);
    return !has || err_set(e, ERR_CONFLICT, "team", "the team has %s; a team can be deleted once it has nothing", has);
}

bool team_delete(struct store *s, const char *name, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = is_empty(c, name, e) && stmt_exec(c, SQL_WEBHOOK_OF_NO_TEAM, name, NULL, e);      /* those of jobs it had */
    struct stmt *q = stmt_begin(c, SQL_TEAM_DELETE);
    stmt_text(q, 1, name);
    ok = ok && stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_team(name, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}
