#include "storage/asset.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *text, *prefix, *noun; } kinds[] = {
    [ASSET_MODEL] = { "model", "mdl", "model" },
    [ASSET_DATASET] = { "dataset", "ds", "data set" },
};

void asset_release(struct asset *a)
{
    free(a->inventory);
    free(a->files);
    *a = (struct asset){ 0 };
}

static bool not_found(enum asset_kind kind, const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no %s %.40s", kinds[kind].noun, id);
}

/* ---- inserting ---- */

static bool check_files(const struct asset *a, struct err *e)
{
    if (a->nfiles < 1 || a->nfiles > ASSET_MAX_FILES)
        return err_set(e, ERR_REQUEST_INVALID, "/files", "give 1 to %d files", (int)ASSET_MAX_FILES);
    for (size_t i = 0; i < a->nfiles; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(a->files[i].path, a->files[j].path) == 0)
                return err_set(e, ERR_REQUEST_INVALID, "/files", "the path \"%.100s\" is given twice", a->files[i].path);
    return true;
}

static void digest_of_set(struct asset *a)
{
    struct hash h;
    uint8_t digest[HASH_SIZE];
    if (a->nfiles == 1) {
        snprintf(a->digest, sizeof a->digest, "%s", a->files[0].digest);
        return;
    }
    hash_init(&h);
    for (size_t i = 0; i < a->nfiles; i++) {
        hash_add(&h, a->files[i].path, strlen(a->files[i].path) + 1);       /* the NUL separates */
        hash_add(&h, a->files[i].digest, strlen(a->files[i].digest) + 1);
    }
    hash_end(&h, digest);
    hash_text(digest, a->digest);
}

static bool look_up_files(struct conn *c, const char *team, struct asset *a, struct err *e)
{
    a->bytes = 0;
    for (size_t i = 0; i < a->nfiles; i++) {
        struct err why = { 0 };
        struct stmt *s = stmt_begin(c, SQL_BLOB_GET);
        stmt_text(s, 1, team);
        stmt_text(s, 2, a->files[i].digest);
        bool got = stmt_row(s, &why);
        if (got)
            a->files[i].size = (uint64_t)stmt_get_int(s, 0);
        stmt_end(s);
        if (!got && why.code)
            return err_clean(&why, e);
        if (!got)
            return err_set(e, ERR_NOT_FOUND, "/files", "there is no blob %.80s for \"%.100s\"; upload it first",
                           a->files[i].digest, a->files[i].path);
        a->bytes += a->files[i].size;
    }
    return true;
}

static bool insert_asset(struct conn *c, const char *team, const struct asset *a, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_ASSET_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, a->id);
    stmt_text(s, 3, kinds[a->kind].text);
    stmt_text(s, 4, a->name);
    stmt_text(s, 5, a->format);
    stmt_text(s, 6, a->digest);
    stmt_int(s, 7, (int64_t)a->bytes);
    stmt_int(s, 8, a->created_at);
    stmt_text(s, 9, a->inventory ? a->inventory : "{}");
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

static bool insert_file(struct conn *c, const char *team, const struct asset *a, size_t i, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_ASSET_FILE_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, a->id);
    stmt_int(s, 3, (int64_t)i);
    stmt_text(s, 4, a->files[i].path);
    stmt_text(s, 5, a->files[i].digest);
    stmt_int(s, 6, (int64_t)a->files[i].size);
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

bool asset_insert(struct store *s, const char *team, struct asset *a, const struct idempotency *key, struct err *e)
{
    if (!check_files(a, e))
        return false;
    id_new(kinds[a->kind].prefix, a->id);
    snprintf(a->team, sizeof a->team, "%s", team);
    a->created_at = clock_now_us();
    digest_of_set(a);
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = look_up_files(c, team, a, e) && insert_asset(c, team, a, e);
    for (size_t i = 0; ok && i < a->nfiles; i++)
        ok = insert_file(c, team, a, i, e);
    return db_write_end(c, ok && (!key || idempotency_insert(c, team, key, a->id, a, e)), e);
}

/* ---- reading ---- */

static void asset_of_row(struct stmt *s, enum asset_kind kind, struct asset *a)
{
    *a = (struct asset){ .kind = kind };
    stmt_get_text(s, 0, a->id, sizeof a->id);
    stmt_get_text(s, 1, a->team, sizeof a->team);
    stmt_get_text(s, 3, a->name, sizeof a->name);
    stmt_get_text(s, 4, a->format, sizeof a->format);
    stmt_get_text(s, 5, a->digest, sizeof a->digest);
    a->bytes = (uint64_t)stmt_get_int(s, 6);
    a->created_at = stmt_get_int(s, 7);
    a->corrupt = stmt_get_int(s, 8) != 0;
}

static bool read_files(struct conn *c, const char *team, struct asset *a, struct err *e)
{
    struct err why = { 0 };
    struct stmt *s = stmt_begin(c, SQL_ASSET_FILES);
    stmt_text(s, 1, team);
    stmt_text(s, 2, a->id);
    while (stmt_row(s, &why)) {
        if (!list_grow(&a->files, a->nfiles, sizeof *a->files, &why))
            break;
        struct asset_file *f = &a->files[a->nfiles++];
        stmt_get_text(s, 0, f->path, sizeof f->path);
        stmt_get_text(s, 1, f->digest, sizeof f->digest);
        f->size = (uint64_t)stmt_get_int(s, 2);
        f->corrupt = stmt_get_int(s, 3) != 0;
    }
    stmt_end(s);
    return err_clean(&why, e);
}

/* An inventory may be large: it is read if it is wanted. */
static bool read_row(struct conn *c, const char *team, enum asset_kind kind, const char *id, bool inventory, struct asset *ret, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_ASSET_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, kinds[kind].text);
    stmt_text(q, 3, id);
    bool got = stmt_row(q, why);
    if (got)
        asset_of_row(q, kind, ret);
    got = got && (!inventory || stmt_dup_text(q, 9, &ret->inventory, why));
    stmt_end(q);
    return got;
}

static bool get(struct store *s, const char *team, enum asset_kind kind, const char *id, bool whole, struct asset *ret, struct err *e)
{
    struct asset a = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    bool got = read_row(c, team, kind, id, whole, &a, &why) && (!whole || read_files(c, team, &a, &why));
    db_read_end(c);
    if (got) {
        *ret = a;
        return true;
    }
    asset_release(&a);
    return why.code ? err_clean(&why, e) : not_found(kind, id, e);
}

bool asset_get_row(struct store *s, const char *team, enum asset_kind kind, const char *id, struct asset *ret, struct err *e)
{
    return get(s, team, kind, id, false, ret, e);
}

bool asset_get(struct store *s, const char *team, enum asset_kind kind, const char *id, struct asset *ret, struct err *e)
{
    return get(s, team, kind, id, true, ret, e);
}

bool asset_list(struct store *s, const char *team, enum asset_kind kind, struct page page, struct asset_list *ret, struct err *e)
{
    struct asset_list l = { 0 };
    struct err why = { 0 };
    bool first = !page.cursor || !page.cursor[0];
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_ASSET_LIST_UP : SQL_ASSET_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, kinds[kind].text);
    stmt_text(q, 3, first ? (page.ascending ? "" : "~") : page.cursor);    /* '~' sorts behind every id */
    stmt_int(q, 4, (int64_t)page.limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        asset_of_row(q, kind, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code) {
        asset_list_release(&l);
        return err_clean(&why, e);
    }
    *ret = l;
    return true;
}

void asset_list_release(struct asset_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        asset_release(&l->items[i]);
    free(l->items);
    *l = (struct asset_list){ 0 };
}

/* ---- deleting ---- */

static bool unused(struct conn *c, const char *team, enum asset_kind kind, const char *id, struct err *e)
{
    char job[ID_SIZE] = "";
    struct err why = { 0 };
    struct stmt *s = stmt_begin(c, SQL_ASSET_BUSY);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    if (stmt_row(s, &why))
        stmt_get_text(s, 0, job, sizeof job);
    stmt_end(s);
    if (why.code)
        return err_clean(&why, e);
    return !job[0] || err_set(e, ERR_CONFLICT, "id", "%s uses this %s; wait for it or cancel it", job, kinds[kind].noun);
}

bool asset_delete(struct store *s, const char *team, enum asset_kind kind, const char *id, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = unused(c, team, kind, id, e);
    struct stmt *q = stmt_begin(c, SQL_ASSET_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, kinds[kind].text);
    stmt_text(q, 3, id);
    ok = ok && stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = not_found(kind, id, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}
