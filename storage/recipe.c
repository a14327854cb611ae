#include "storage/recipe.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdlib.h>
#include <string.h>

void saved_recipe_release(struct saved_recipe *r)
{
    free(r->text);
    *r = (struct saved_recipe){ 0 };
}

static bool no_recipe(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "name", "no recipe has this name; GET /v1/recipes lists them");
}

/* ---- reading ---- */

static bool recipe_of_row(struct stmt *q, struct saved_recipe *ret, struct err *e)
{
    *ret = (struct saved_recipe){ .created_at = stmt_get_int(q, 3) };
    stmt_get_text(q, 0, ret->name, sizeof ret->name);
    stmt_get_text(q, 1, ret->description, sizeof ret->description);
    stmt_get_text(q, 4, ret->created_by, sizeof ret->created_by);
    return stmt_dup_text(q, 2, &ret->text, e);
}

static bool read_recipe(struct conn *c, const char *team, const char *name, struct saved_recipe *ret, struct err *e)
{
    struct err why = { 0 };
    struct stmt *q = stmt_begin(c, SQL_RECIPE_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, name);
    bool got = stmt_row(q, &why) && recipe_of_row(q, ret, &why);
    stmt_end(q);
    return got || (why.code ? err_clean(&why, e) : no_recipe(e));
}

bool recipe_get(struct store *s, const char *team, const char *name, struct saved_recipe *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    bool ok = read_recipe(c, team, name, ret, e);
    db_read_end(c);
    return ok;
}

bool recipe_list(struct store *s, const char *team, struct recipe_list *ret, struct err *e)
{
    struct recipe_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_RECIPE_LIST);
    stmt_text(q, 1, team);
    while (stmt_row(q, &why))
        if (!list_grow(&l.items, l.n, sizeof *l.items, &why) || !recipe_of_row(q, &l.items[l.n++], &why))
            break;
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        recipe_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void recipe_list_release(struct recipe_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        saved_recipe_release(&l->items[i]);
    free(l->items);
    *l = (struct recipe_list){ 0 };
}

/* ---- changing ---- */

static bool insert_recipe(struct conn *c, const char *team, const struct saved_recipe *r, bool *ret_new, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_RECIPE_INSERT);
    stmt_text(q, 1, team);
    stmt_text(q, 2, r->name);
    stmt_text(q, 3, r->description);
    stmt_text(q, 4, r->text);
    stmt_int(q, 5, clock_now_us());
    stmt_text(q, 6, r->created_by);
    bool ok = stmt_run(q, e);
    *ret_new = ok && stmt_changed(q) == 1;
    stmt_end(q);
    return ok;
}

static bool has_room(struct conn *c, const char *team, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_RECIPE_COUNT);
    stmt_text(q, 1, team);
    bool got = stmt_row(q, e);
    int64_t n = got ? stmt_get_int(q, 0) : 0;
    stmt_end(q);
    if (got && n > SAVED_PER_TEAM)
        return err_set(e, ERR_QUOTA, "recipes", "a team may save %d recipes; delete one (DELETE /v1/recipes/{name})", (int)SAVED_PER_TEAM);
    return got;
}

bool recipe_save(struct store *s, const char *team, const struct saved_recipe *r, struct saved_recipe *ret, bool *ret_new, struct err *e)
{
    *ret = (struct saved_recipe){ 0 };
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = insert_recipe(c, team, r, ret_new, e) && (!*ret_new || has_room(c, team, e)) && read_recipe(c, team, r->name, ret, e);
    ok = db_write_end(c, ok, e);
    if (!ok)
        saved_recipe_release(ret);
    return ok;
}

bool recipe_delete(struct store *s, const char *team, const char *name, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_RECIPE_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, name);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_recipe(e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}
