/*
 * job_store.c - the queue as clients see it: asking for a job, looking, asking for its end.
 */
#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool no_job(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no job %.40s", id);
}

static bool read_job(struct conn *c, const char *team, const char *id, struct job *ret, struct err *e)
{
    struct err why = { 0 };
    struct stmt *s = stmt_begin(c, SQL_JOB_GET);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    bool got = stmt_row(s, &why) && job_of_row(s, ret, &why);
    stmt_end(s);
    return got || (err_clean(&why, e) && no_job(id, e));
}

bool job_get(struct store *s, const char *team, const char *id, struct job *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    bool ok = read_job(c, team, id, ret, e);
    db_read_end(c);
    return ok;
}

/* ---- idempotency ---- */

bool idempotency_find(struct store *s, const char *team, const struct idempotency *key, char ret_id[ID_SIZE], struct err *e)
{
    char want[HASH_HEX_SIZE], have[HASH_HEX_SIZE] = "";
    struct err why = { 0 };
    ret_id[0] = '\0';
    if (!key->key)
        return true;
    hash_hex(key->fingerprint, want);
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_IDEMPOTENCY_FIND);
    stmt_text(q, 1, team);
    stmt_text(q, 2, key->key);
    if (stmt_row(q, &why)) {
        stmt_get_text(q, 0, have, sizeof have);
        stmt_get_text(q, 1, ret_id, ID_SIZE);
    }
    stmt_end(q);
    db_read_end(c);
    if (!err_clean(&why, e))
        return false;
    return !have[0] || strcmp(have, want) == 0
        || err_set(e, ERR_REQUEST_INVALID, "Idempotency-Key", "this key was used for another request; use a new one");
}

static bool insert_key(struct conn *c, const char *team, const struct idempotency *key, const char *id, struct err *e)
{
    char fingerprint[HASH_HEX_SIZE];
    if (!key || !key->key)
        return true;
    hash_hex(key->fingerprint, fingerprint);
    struct stmt *s = stmt_begin(c, SQL_IDEMPOTENCY_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, key->key);
    stmt_text(s, 3, fingerprint);
    stmt_text(s, 4, id);
    stmt_int(s, 5, clock_now_us());
    bool ok = stmt_run(s, e);
    if (ok && stmt_changed(s) == 0)
        ok = err_set(e, ERR_CONFLICT, "Idempotency-Key", "another request is using this key; ask again");
    stmt_end(s);
    return ok;
}

/* ---- inserting ---- */

static bool has_asset(struct conn *c, const char *team, const char *kind, const char *id, struct err *e)
{
    struct err why = { 0 };
    char pointer[16];
    struct stmt *s = stmt_begin(c, SQL_ASSET_GET);
    stmt_text(s, 1, team);
    stmt_text(s, 2, kind);
    stmt_text(s, 3, id);
    bool got = stmt_row(s, &why);
    stmt_end(s);
    snprintf(pointer, sizeof pointer, "/%s_id", kind);
    return got || (err_clean(&why, e)
                   && err_set(e, ERR_NOT_FOUND, pointer, "there is no %s %.40s; register it first", kind, id));
}

static bool has_assets(struct conn *c, const char *team, const struct job_request *r, struct err *e)
{
    return has_asset(c, team, "model", r->model_id, e) && has_asset(c, team, "dataset", r->dataset_id, e)
        && (!r->eval_dataset_id || !r->eval_dataset_id[0] || has_asset(c, team, "dataset", r->eval_dataset_id, e));
}

static bool insert_job(struct conn *c, const char *team, const char *id, const char *retry_of,
                       const struct job_request *r, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_JOB_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    stmt_text(s, 3, r->type);
    stmt_text(s, 4, r->model_id);
    stmt_text(s, 5, r->dataset_id);
    stmt_text(s, 6, r->eval_dataset_id ? r->eval_dataset_id : "");
    stmt_text(s, 7, retry_of);
    stmt_text(s, 8, r->recipe);
    stmt_text(s, 9, r->labels ? r->labels : "{}");
    stmt_int(s, 10, r->priority);
    stmt_int(s, 11, r->max_attempts > 0 ? r->max_attempts : JOB_MAX_ATTEMPTS);
    stmt_int(s, 12, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

static bool queue_job(struct store *s, struct conn *c, const char *team, const char *retry_of, const struct job_request *r,
                      struct job *ret, struct err *e)
{
    char id[ID_SIZE];
    id_new("job", id);
    return has_assets(c, team, r, e) && insert_key(c, team, &r->idempotency, id, e)
        && quota_admit_job(c, team, e) && insert_job(c, team, id, retry_of, r, e) && disk_promise_job(s, c, team, id, r, e)
        && event_add(c, team, id, "job.queued", json_pack("{s:s, s:i}", "state", "queued", "attempt", 0), e)
        && read_job(c, team, id, ret, e);
}

/* Ends the transaction that filled *job; a job that was not committed does not exist. */
static bool end_with_job(struct conn *c, bool ok, struct job *job, struct err *e)
{
    bool ended = db_write_end(c, ok, e);
    if (ok && !ended)
        job_release(job);
    return ended;
}

bool job_insert(struct store *s, const char *team, const struct job_request *request, struct job *ret, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && end_with_job(c, queue_job(s, c, team, "", request, ret, e), ret, e);
}

static bool queue_again(struct store *s, struct conn *c, const char *team, const struct job *old, const struct idempotency *key,
                        struct job *ret, struct err *e)
{
    if (old->state != JOB_FAILED && old->state != JOB_CANCELED)
        return err_set(e, ERR_CONFLICT, "state", "the job is %s; only failed and canceled jobs can be retried",
                       job_state_name(old->state));
    struct job_request r = {
        .type = old->type, .model_id = old->model_id, .dataset_id = old->dataset_id,
        .eval_dataset_id = old->eval_dataset_id, .recipe = old->recipe, .labels = old->labels,
        .priority = old->priority, .max_attempts = old->max_attempts,
    };
    if (key)
        r.idempotency = *key;
    return queue_job(s, c, team, old->id, &r, ret, e);
}

bool job_retry(struct store *s, const char *team, const char *id, const struct idempotency *key, struct job *ret, struct err *e)
{
    struct job old = { 0 };
    struct conn *c = db_write(s->db, e);
    bool ok = c && end_with_job(c, read_job(c, team, id, &old, e) && queue_again(s, c, team, &old, key, ret, e), ret, e);
    job_release(&old);
    return ok;
}

/* ---- canceling ---- */

static bool note_request(struct conn *c, const char *team, const char *id, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_JOB_CANCEL_REQUESTED);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    stmt_int(s, 3, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

static bool cancel(struct conn *c, const struct job *job, struct err *e)
{
    struct moving m = { .state = job->state, .attempt = job->attempt };
    if (job->state == JOB_CANCELING || job->state == JOB_CANCELED)
        return true;
    if (job_state_terminal(job->state))
        return err_set(e, ERR_CONFLICT, "state", "the job has already %s", job_state_name(job->state));
    snprintf(m.id, sizeof m.id, "%s", job->id);
    snprintf(m.team, sizeof m.team, "%s", job->team);
    struct move move = { .to = job->state == JOB_QUEUED ? JOB_CANCELED : JOB_CANCELING };
    return note_request(c, job->team, job->id, e) && job_move(c, &m, move, e);
}

bool job_cancel(struct store *s, const char *team, const char *id, struct job *ret, struct err *e)
{
    struct job before = { 0 };
    struct conn *c = db_write(s->db, e);
    bool ok = c && end_with_job(c, read_job(c, team, id, &before, e) && cancel(c, &before, e)
                                       && read_job(c, team, id, ret, e), ret, e);
    job_release(&before);
    return ok;
}

/* ---- lists and counts ---- */

/* ",queued,running," for the SQL; "" for any. */
static void states_text(unsigned states, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; i < JOB_STATES; i++)
        if (states & 1u << i)
            n += (size_t)snprintf(buf + n, size - n, n ? "%s," : ",%s,", job_state_name((enum job_state)i));
}

bool job_list(struct store *s, const char *team, const struct job_filter *filter, struct page page, struct job_list *ret, struct err *e)
{
    struct job_list l = { 0 };
    struct err why = { 0 };
    char states[96];
    bool first = !page.cursor || !page.cursor[0];
    states_text(filter->states, states, sizeof states);
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_JOB_LIST_UP : SQL_JOB_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, first ? (page.ascending ? "" : "~") : page.cursor);    /* '~' sorts behind every id */
    stmt_text(q, 3, states[0] ? states : NULL);
    stmt_text(q, 4, filter->labels);
    stmt_text(q, 5, filter->model_id && filter->model_id[0] ? filter->model_id : NULL);
    stmt_int(q, 6, (int64_t)page.limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why) || !job_of_row(q, &l.items[l.n], &why))
            break;
        l.n++;
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code) {
        job_list_release(&l);
        return err_clean(&why, e);
    }
    *ret = l;
    return true;
}

void job_list_release(struct job_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        job_release(&l->items[i]);
    free(l->items);
    *l = (struct job_list){ 0 };
}

bool queue_count(struct store *s, const char *team, struct queue_counts *ret, struct err *e)
{
    struct queue_counts counts = { 0 };
    struct err why = { 0 };
    char text[16];
    enum job_state state;
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_JOB_COUNT);
    stmt_text(q, 1, team);
    while (stmt_row(q, &why)) {
        stmt_get_text(q, 0, text, sizeof text);
        if (!job_state_parse(text, &state))
            continue;
        counts.jobs[state] = stmt_get_int(q, 1);
        if (state == JOB_QUEUED)
            counts.oldest_queued_at = stmt_get_int(q, 2);
    }
    stmt_end(q);
    db_read_end(c);
    if (!err_clean(&why, e))
        return false;
    *ret = counts;
    return true;
}

bool queue_position(struct store *s, const char *team, const char *id, int64_t *ret, struct err *e)
{
    struct job job = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    bool ok = read_job(c, team, id, &job, e);
    if (ok && job.state != JOB_QUEUED) {
        *ret = -1;
    } else if (ok) {
        struct stmt *q = stmt_begin(c, SQL_JOB_POSITION);
        stmt_text(q, 1, team);
        stmt_text(q, 2, id);
        if (stmt_row(q, &why))
            *ret = stmt_get_int(q, 0);
        stmt_end(q);
        ok = err_clean(&why, e);
    }
    db_read_end(c);
    job_release(&job);
    return ok;
}
