/*
 * submit.c - asking for a job: its idempotency key, the jobs that are like it, its row.  All of it is one transaction.
 */
#include "core/base/clock.h"
#include "storage/inner.h"
#include "storage/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what it refers to ---- */

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
    return has_asset(c, team, "model", r->model_id, e)
        && (!r->dataset_id || !r->dataset_id[0] || has_asset(c, team, "dataset", r->dataset_id, e))
        && (!r->eval_dataset_id || !r->eval_dataset_id[0] || has_asset(c, team, "dataset", r->eval_dataset_id, e));
}

/* ---- jobs like it ---- */

/* The id of a job with this fingerprint, "" if there is none. */
static bool find_twin(struct conn *c, enum sql which, const char *team, const char *fingerprint, char ret[ID_SIZE], struct err *e)
{
    struct err why = { 0 };
    ret[0] = '\0';
    if (!fingerprint || !fingerprint[0])
        return true;
    struct stmt *s = stmt_begin(c, which);
    stmt_text(s, 1, team);
    stmt_text(s, 2, fingerprint);
    if (stmt_row(s, &why))
        stmt_get_text(s, 0, ret, ID_SIZE);
    stmt_end(s);
    return err_clean(&why, e);
}

static bool cancel_twin(struct conn *c, const char *team, const char *id, const char *by_job, struct err *e)
{
    char reason[ID_SIZE + 16];
    struct job job = { 0 };
    snprintf(reason, sizeof reason, "replaced by %s", by_job);
    bool ok = job_read(c, team, id, &job, e) && job_end(c, &job, NULL, reason, e);
    job_release(&job);
    return ok;
}

/* Their journals go before the commit: a twin that is queued after all, because it failed, starts over. */
static bool cancel_twins(struct store *s, struct conn *c, const char *team, const char *fingerprint, const char *by_job, struct err *e)
{
    char twin[ID_SIZE];
    for (;;) {
        if (!find_twin(c, SQL_JOB_TWIN_QUEUED, team, fingerprint, twin, e))
            return false;
        if (!twin[0])
            return true;
        if (!cancel_twin(c, team, twin, by_job, e))
            return false;
        scratch_forget(s, twin);
    }
}

/* ---- inserting ---- */

static bool insert_job(struct conn *c, const char *team, const char *id, const char *retry_of,
                       const struct job_request *r, uint64_t reserved, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_JOB_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    stmt_text(s, 3, r->type);
    stmt_text(s, 4, r->model_id);
    stmt_text(s, 5, r->dataset_id ? r->dataset_id : "");
    stmt_text(s, 6, r->eval_dataset_id ? r->eval_dataset_id : "");
    stmt_text(s, 7, retry_of);
    stmt_text(s, 8, r->recipe);
    stmt_text(s, 9, r->labels ? r->labels : "{}");
    stmt_int(s, 10, r->priority);
    stmt_int(s, 11, r->max_attempts > 0 ? r->max_attempts : JOB_MAX_ATTEMPTS);
    stmt_int(s, 12, clock_now_us());
    stmt_int(s, 13, r->not_before);
    stmt_int(s, 14, r->deadline_s);
    stmt_text(s, 15, r->fingerprint ? r->fingerprint : "");
    stmt_text(s, 16, r->estimate);
    stmt_int(s, 17, r->memory);
    stmt_text(s, 18, r->trace ? r->trace : "");
    stmt_int(s, 19, (int64_t)reserved);
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

static bool make_job(struct store *s, struct conn *c, const char *team, const char *retry_of, const struct job_request *r, struct job *ret,
                     struct err *e)
{
    char id[ID_SIZE], hook[ID_SIZE] = "", secret[WEBHOOK_SECRET_SIZE] = "";
    uint64_t reserved;
    id_new("job", id);
    bool ok = (r->dedupe != DEDUPE_REPLACE_QUEUED || cancel_twins(s, c, team, r->fingerprint, id, e))
        && quota_admit_job(c, team, e) && stmt_exec(c, SQL_SHARE_JOIN, team, NULL, e)
        && disk_promise_job(s, c, team, r, &reserved, e) && insert_job(c, team, id, retry_of, r, reserved, e)
        && (!r->webhook || webhook_add(c, team, id, r->webhook, hook, secret, e))
        && (!retry_of[0] || webhook_copy(c, team, retry_of, id, e))
        && event_add(c, team, id, "job.queued", json_pack("{s:s, s:i}", "state", "queued", "attempt", 0), e)
        && job_read(c, team, id, ret, e);
    if (ok) {
        memcpy(ret->webhook_id, hook, sizeof hook);
        memcpy(ret->webhook_secret, secret, sizeof secret);
    }
    explicit_bzero(secret, sizeof secret);
    return ok;
}

/* A job that was there, in the place of a new one. */
static bool use_job(struct conn *c, const char *team, const char *id, const struct job_request *r, struct job *ret, struct err *e)
{
    if (!job_read(c, team, id, ret, e))
        return false;
    ret->reused = true;
    return !r->webhook || (webhook_add(c, team, id, r->webhook, ret->webhook_id, ret->webhook_secret, e)
                           && (!job_state_terminal(ret->state) || outbox_repeat(c, team, id, ret->webhook_id, e)));
}

static bool queue_job(struct store *s, struct conn *c, const char *team, const char *retry_of, const struct job_request *r,
                      struct job *ret, struct err *e)
{
    char twin[ID_SIZE] = "";
    struct job job = { 0 };
    if (!has_assets(c, team, r, e))
        return false;
    if ((r->dedupe == DEDUPE_REUSE || r->dedupe == DEDUPE_REJECT) && !find_twin(c, SQL_JOB_TWIN, team, r->fingerprint, twin, e))
        return false;
    if (twin[0] && r->dedupe == DEDUPE_REJECT)
        return err_set(e, ERR_CONFLICT, "/dedupe", "%s is the same job; use it, or ask with \"dedupe\": \"reuse\" or \"new\"", twin);
    bool ok = twin[0] ? use_job(c, team, twin, r, &job, e) : make_job(s, c, team, retry_of, r, &job, e);
    if (ok && idempotency_insert(c, team, &r->idempotency, job.id, &job, e)) {
        *ret = job;
        return true;
    }
    job_release(&job);
    return false;
}

bool job_insert(struct store *s, const char *team, const struct job_request *request, struct job *ret, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && end_with_job(c, queue_job(s, c, team, "", request, ret, e), ret, e);
}

static bool queue_again(struct store *s, struct conn *c, const char *team, const struct job *old, const struct idempotency *key,
                        const char *trace, struct job *ret, struct err *e)
{
    if (old->state != JOB_FAILED && old->state != JOB_CANCELED)
        return err_set(e, ERR_CONFLICT, "state", "the job is %s; only failed and canceled jobs can be retried",
                       job_state_name(old->state));
    struct job_request r = {
        .type = old->type, .model_id = old->model_id, .dataset_id = old->dataset_id,
        .eval_dataset_id = old->eval_dataset_id, .recipe = old->recipe, .labels = old->labels,
        .priority = old->priority, .max_attempts = old->max_attempts, .deadline_s = old->deadline_s,
        .fingerprint = old->fingerprint, .estimate = old->estimate, .memory = old->memory,
        .trace = trace,
    };
    if (key)
        r.idempotency = *key;
    return queue_job(s, c, team, old->id, &r, ret, e);
}

bool job_retry(struct store *s, const char *team, const char *id, const struct idempotency *key, const char *trace, struct job *ret,
               struct err *e)
{
    struct job old = { 0 };
    struct conn *c = db_write(s->db, e);
    bool ok = c && end_with_job(c, job_read(c, team, id, &old, e) && queue_again(s, c, team, &old, key, trace, ret, e), ret, e);
    job_release(&old);
    return ok;
}

bool job_estimate_find(struct store *s, const char *team, const char *fingerprint, char **ret, struct err *e)
{
    struct err why = { 0 };
    *ret = NULL;
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_JOB_ESTIMATE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, fingerprint);
    if (stmt_row(q, &why))
        stmt_dup_text(q, 0, ret, &why);
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}
