#include "storage/result.h"

#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An empty list and a job that does not exist are different answers. */
static bool job_exists(struct conn *c, const char *team, const char *job_id, struct err *e)
{
    struct err why = { 0 };
    struct stmt *s = stmt_begin(c, SQL_JOB_EXISTS);
    stmt_text(s, 1, team);
    stmt_text(s, 2, job_id);
    bool got = stmt_row(s, &why);
    stmt_end(s);
    return got || (err_clean(&why, e) && err_set(e, ERR_NOT_FOUND, "id", "there is no job %.40s", job_id));
}

static struct stmt *begin_of_job(struct conn *c, enum sql which, const char *team, const char *job_id)
{
    struct stmt *s = stmt_begin(c, which);
    stmt_text(s, 1, team);
    stmt_text(s, 2, job_id);
    return s;
}

/* ---- events ---- */

bool event_list(struct store *s, const char *team, const char *job_id, int64_t after_seq, int limit, struct event_list *ret, struct err *e)
{
    struct event_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    if (!job_exists(c, team, job_id, e)) {
        db_read_end(c);
        return false;
    }
    struct stmt *q = begin_of_job(c, SQL_EVENT_LIST, team, job_id);
    stmt_int(q, 3, after_seq);
    stmt_int(q, 4, (int64_t)limit + 1);
    while (stmt_row(q, &why)) {
        l.more = l.n == (size_t)limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        struct event *x = &l.items[l.n++];
        x->seq = stmt_get_int(q, 0);
        x->at = stmt_get_int(q, 1);
        stmt_get_text(q, 2, x->type, sizeof x->type);
        stmt_get_text(q, 4, x->trace, sizeof x->trace);
        if (!stmt_dup_text(q, 3, &x->data, &why))
            break;
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        event_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void event_list_release(struct event_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].data);
    free(l->items);
    *l = (struct event_list){ 0 };
}

/* ---- layers ---- */

static const struct { const char *name, *path; } sorts[LAYER_SORTS] = {
#define X(name, member) [LAYER_##name] = { member, "$." member },
    LAYER_SORTS_(X)
#undef X
};

const char *layer_sort_name(enum layer_sort sort) { return sorts[sort].name; }

bool layer_sort_parse(const char *text, enum layer_sort *ret)
{
    for (int i = 0; i < LAYER_SORTS; i++)
        if (strcmp(text, sorts[i].name) == 0) {
            *ret = (enum layer_sort)i;
            return true;
        }
    return false;
}

bool layer_list(struct store *s, const char *team, const char *job_id, enum layer_sort sort, bool descending, struct layer_list *ret, struct err *e)
{
    struct layer_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    if (!job_exists(c, team, job_id, e)) {
        db_read_end(c);
        return false;
    }
    struct stmt *q = begin_of_job(c, descending ? SQL_LAYER_LIST_DOWN : SQL_LAYER_LIST_UP, team, job_id);
    stmt_text(q, 3, sort == LAYER_INDEX ? NULL : sorts[sort].path);     /* NULL: the statement falls back to the index */
    while (stmt_row(q, &why)) {
        if (!list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        struct layer *x = &l.items[l.n++];
        x->index = stmt_get_int(q, 0);
        if (!stmt_dup_text(q, 1, &x->row, &why))
            break;
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        layer_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void layer_list_release(struct layer_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].row);
    free(l->items);
    *l = (struct layer_list){ 0 };
}

/* ---- metrics ---- */

json_t *metric_json(double x_float, double x_quantized, int64_t samples)
{
    return json_pack("{s:o, s:o, s:I}", "float", json_finite(x_float), "quantized", json_finite(x_quantized), "samples", (json_int_t)samples);
}

bool metric_list(struct store *s, const char *team, const char *job_id, struct metric_list *ret, struct err *e)
{
    struct metric_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    if (!job_exists(c, team, job_id, e)) {
        db_read_end(c);
        return false;
    }
    struct stmt *q = begin_of_job(c, SQL_METRIC_LIST, team, job_id);
    while (stmt_row(q, &why)) {
        if (!list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        struct metric *x = &l.items[l.n++];
        stmt_get_text(q, 0, x->name, sizeof x->name);
        x->x_float = stmt_get_real(q, 1);
        x->x_quantized = stmt_get_real(q, 2);
        x->samples = stmt_get_int(q, 3);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        metric_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void metric_list_release(struct metric_list *l)
{
    free(l->items);
    *l = (struct metric_list){ 0 };
}

/* ---- artifacts ---- */

static void artifact_of_row(struct stmt *s, struct artifact *a)
{
    *a = (struct artifact){ .size = (uint64_t)stmt_get_int(s, 5), .created_at = stmt_get_int(s, 6), .corrupt = stmt_get_int(s, 7) != 0 };
    stmt_get_text(s, 0, a->id, sizeof a->id);
    stmt_get_text(s, 1, a->job_id, sizeof a->job_id);
    stmt_get_text(s, 2, a->name, sizeof a->name);
    stmt_get_text(s, 3, a->media_type, sizeof a->media_type);
    stmt_get_text(s, 4, a->digest, sizeof a->digest);
}

bool artifact_list(struct store *s, const char *team, const char *job_id, struct artifact_list *ret, struct err *e)
{
    struct artifact_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    if (!job_exists(c, team, job_id, e)) {
        db_read_end(c);
        return false;
    }
    struct stmt *q = begin_of_job(c, SQL_ARTIFACT_LIST, team, job_id);
    while (stmt_row(q, &why)) {
        if (!list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        artifact_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        artifact_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void artifact_list_release(struct artifact_list *l)
{
    free(l->items);
    *l = (struct artifact_list){ 0 };
}

/* ?2 is the artifact's id or, with a name as ?3, the job's. */
static bool one_artifact(struct store *s, enum sql which, const char *team, const char *id, const char *name,
                         struct artifact *ret, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = begin_of_job(c, which, team, id);
    if (name)
        stmt_text(q, 3, name);
    bool got = stmt_row(q, &why);
    if (got)
        artifact_of_row(q, ret);
    stmt_end(q);
    db_read_end(c);
    return got || (err_clean(&why, e)
                   && err_set(e, ERR_NOT_FOUND, "id", "there is no artifact %s%s%.80s", name ? name : "", name ? " of " : "", id));
}

bool artifact_get(struct store *s, const char *team, const char *id, struct artifact *ret, struct err *e)
{
    return one_artifact(s, SQL_ARTIFACT_GET, team, id, NULL, ret, e);
}

bool artifact_find(struct store *s, const char *team, const char *job_id, const char *name, struct artifact *ret, struct err *e)
{
    return one_artifact(s, SQL_ARTIFACT_FIND, team, job_id, name, ret, e);
}
