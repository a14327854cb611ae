/*
 * run.c - what the holders of claims write; claiming is in claim.c.
 *
 * Every write is one transaction that begins by looking whether the claim still holds; nothing can
 * change that before it commits, because there is one writer.  The UPDATEs repeat the condition.
 */
#include "storage/run.h"

#include "core/base/clock.h"
#include "storage/inner.h"

/* ---- writing while it runs ---- */

static bool stale(const struct claim *c, struct err *e)
{
    return err_set(e, ERR_CONFLICT, c->job, "claim %lld of the job is over", (long long)c->token);
}

static struct stmt *held_begin(struct conn *k, enum sql which, const struct claim *c)
{
    struct stmt *s = stmt_begin(k, which);
    stmt_text(s, 1, c->job);
    stmt_int(s, 2, c->token);
    return s;
}

/* The job as it is, if the claim still holds. */
static bool held(struct conn *k, const struct claim *c, struct moving *ret, struct err *e)
{
    struct err why = { 0 };
    struct stmt *s = held_begin(k, SQL_RUN_HELD, c);
    bool got = stmt_row(s, &why);
    if (got)
        moving_of_row(s, ret);
    stmt_end(s);
    return got || (err_clean(&why, e) && stale(c, e));
}

/* A write transaction in which the claim holds, or NULL. */
static struct conn *hold(struct store *s, const struct claim *c, struct moving *ret, struct err *e)
{
    struct conn *k = db_write(s->db, e);
    if (k && !held(k, c, ret, e)) {
        db_write_end(k, false, NULL);
        return NULL;
    }
    return k;
}

/* Runs an UPDATE of the HELD kind whose parameters are bound. */
static bool held_run(struct stmt *s, const struct claim *c, struct err *e)
{
    bool ok = stmt_run(s, e);
    if (ok && stmt_changed(s) != 1)
        ok = stale(c, e);
    stmt_end(s);
    return ok;
}

bool run_heartbeat(struct store *s, const struct claim *c, int64_t lease_us, bool *ret_canceling, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    struct stmt *q = held_begin(k, SQL_RUN_HEARTBEAT, c);
    stmt_int(q, 3, clock_mono_us() + lease_us);
    if (!db_write_end(k, held_run(q, c, e), e))
        return false;
    *ret_canceling = m.state == JOB_CANCELING;
    return true;
}

static bool set_text(struct conn *k, enum sql which, const struct claim *c, const char *text, struct err *e)
{
    struct stmt *q = held_begin(k, which, c);
    stmt_text(q, 3, text);
    return held_run(q, c, e);
}

bool run_engine(struct store *s, const struct claim *c, const char *engine_json, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    return k && db_write_end(k, set_text(k, SQL_RUN_ENGINE, c, engine_json, e), e);
}

bool run_stage(struct store *s, const struct claim *c, enum job_stage stage, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    return k && db_write_end(k, set_text(k, SQL_RUN_STAGE, c, job_stage_name(stage), e)
        && event_add(k, c->team, c->job, "job.stage_changed", json_pack("{s:s}", "stage", job_stage_name(stage)), e), e);
}

bool run_progress(struct store *s, const struct claim *c, int64_t done, int64_t total, int64_t samples, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    struct stmt *q = held_begin(k, SQL_RUN_PROGRESS, c);
    stmt_int(q, 3, done);
    stmt_int(q, 4, total);
    return db_write_end(k, held_run(q, c, e)
        && event_add(k, c->team, c->job, "job.progress", json_pack("{s:I, s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total,
                                                                   "samples", (json_int_t)samples), e), e);
}

bool run_resumed(struct store *s, const struct claim *c, int64_t sites, int64_t weights, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    json_t *data = k ? json_pack("{s:I, s:I, s:i}", "sites", (json_int_t)sites, "weights", (json_int_t)weights, "attempt", m.attempt) : NULL;
    return k && db_write_end(k, event_add(k, c->team, c->job, "job.resumed", data, e), e);
}

bool run_layer(struct store *s, const struct claim *c, int64_t index, const char *row_json, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    struct stmt *q = stmt_begin(k, SQL_LAYER_PUT);
    stmt_text(q, 1, c->job);
    stmt_int(q, 2, index);
    stmt_text(q, 3, c->team);
    stmt_text(q, 4, row_json);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return db_write_end(k, ok && event_add(k, c->team, c->job, "job.layer_completed",
                                           json_pack("{s:I, s:o}", "index", (json_int_t)index, "layer", json_read(row_json, JSON_REJECT_DUPLICATES)),
                                           e), e);
}

bool run_metric(struct store *s, const struct claim *c, const char *name, double x_float, double x_quantized, int64_t samples, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    struct stmt *q = stmt_begin(k, SQL_METRIC_PUT);
    stmt_text(q, 1, c->job);
    stmt_text(q, 2, name);
    stmt_text(q, 3, c->team);
    stmt_real(q, 4, x_float);
    stmt_real(q, 5, x_quantized);
    stmt_int(q, 6, samples);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return db_write_end(k, ok
        && event_add(k, c->team, c->job, "job.metric", json_pack("{s:s, s:o, s:o, s:I}", "name", name, "float", json_finite(x_float),
                                                                 "quantized", json_finite(x_quantized), "samples", (json_int_t)samples), e), e);
}

bool run_warning(struct store *s, const struct claim *c, const char *code, const char *where, const char *detail, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    return db_write_end(k, held_run(held_begin(k, SQL_RUN_WARNING, c), c, e)
        && event_add(k, c->team, c->job, "job.warning", json_pack("{s:s, s:s, s:s}", "code", code, "where", where, "detail", detail), e), e);
}

/* ---- the end of an attempt ---- */

static bool insert_artifact(struct conn *k, const struct claim *c, const struct result *r, struct err *e)
{
    char id[ID_SIZE];
    id_new("art", id);
    struct stmt *s = stmt_begin(k, SQL_ARTIFACT_INSERT);
    stmt_text(s, 1, id);
    stmt_text(s, 2, c->team);
    stmt_text(s, 3, c->job);
    stmt_text(s, 4, r->name);
    stmt_text(s, 5, r->media_type);
    stmt_text(s, 6, r->digest);
    stmt_int(s, 7, (int64_t)r->size);
    stmt_int(s, 8, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok && event_add(k, c->team, c->job, "artifact.created", json_pack("{s:s, s:s, s:s, s:I}", "id", id, "name", r->name, "digest", r->digest,
                                                                             "size", (json_int_t)r->size), e);
}

bool run_finish(struct store *s, const struct claim *c, const struct result *results, size_t n, const char *summary_json, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    bool ok = m.state == JOB_RUNNING || err_set(e, ERR_CANCELED, c->job, "the job was canceled before it finished");
    ok = ok && set_text(k, SQL_RUN_SUMMARY, c, summary_json, e);
    for (size_t i = 0; ok && i < n; i++)
        ok = insert_artifact(k, c, &results[i], e);
    return db_write_end(k, ok && job_move(k, &m, (struct move){ .to = JOB_SUCCEEDED }, e), e);
}

/* What would end a running job otherwise ends a canceled one as canceled. */
static bool end_attempt(struct store *s, const struct claim *c, struct move move, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    if (m.state == JOB_CANCELING)
        move = (struct move){ .to = JOB_CANCELED };
    bool ok = job_may_move(m.state, move.to) || err_set(e, ERR_CONFLICT, c->job, "nobody has asked to cancel the job");
    return db_write_end(k, ok && job_move(k, &m, move, e), e);
}

bool run_fail(struct store *s, const struct claim *c, const char *problem_json, struct err *e)
{
    return end_attempt(s, c, (struct move){ .to = JOB_FAILED, .problem = problem_json }, e);
}

bool run_lost(struct store *s, const struct claim *c, const char *problem_json, enum job_state *ret, struct err *e)
{
    struct moving m;
    struct conn *k = hold(s, c, &m, e);
    if (!k)
        return false;
    if (!db_write_end(k, job_move(k, &m, job_move_lost(&m, problem_json), e), e))
        return false;
    *ret = m.state;
    return true;
}

bool run_requeue(struct store *s, const struct claim *c, struct err *e)
{
    return end_attempt(s, c, (struct move){ .to = JOB_QUEUED, .give_back = true }, e);
}

bool run_canceled(struct store *s, const struct claim *c, struct err *e)
{
    return end_attempt(s, c, (struct move){ .to = JOB_CANCELED }, e);
}
