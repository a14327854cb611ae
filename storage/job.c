/*
 * job.c - the states, and the one function that moves a job along an arrow.
 */
#include "storage/job.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name, *event; unsigned next; } states[JOB_STATES] = {
#define X(name, text, next) [JOB_##name] = { text, "job." text, next },
    JOB_STATES_(X)
#undef X
};

/* Two arrows are events of another name than the state they lead to. */
static const char *event_of(enum job_state to)
{
    return to == JOB_RUNNING ? "job.started" : to == JOB_CANCELING ? "job.cancel_requested" : states[to].event;
}

static const char *const stages[JOB_STAGES] = {
#define X(name, text) [STAGE_##name] = text,
    JOB_STAGES_(X)
#undef X
};

bool job_may_move(enum job_state from, enum job_state to) { return states[from].next & 1u << to; }
bool job_state_terminal(enum job_state s) { return states[s].next == 0; }
const char *job_state_name(enum job_state s) { return states[s].name; }
const char *job_stage_name(enum job_stage s) { return stages[s]; }

bool job_state_parse(const char *text, enum job_state *ret)
{
    for (int i = 0; i < JOB_STATES; i++)
        if (strcmp(text, states[i].name) == 0) {
            *ret = (enum job_state)i;
            return true;
        }
    return false;
}

bool job_stage_parse(const char *text, enum job_stage *ret)
{
    for (int i = STAGE_NONE + 1; i < JOB_STAGES; i++)
        if (strcmp(text, stages[i]) == 0) {
            *ret = (enum job_stage)i;
            return true;
        }
    return false;
}

void job_release(struct job *job)
{
    free(job->recipe);
    free(job->labels);
    free(job->engine);
    free(job->problem);
    free(job->summary);
    free(job->estimate);
    free(job->cancel_reason);
    explicit_bzero(job->webhook_secret, sizeof job->webhook_secret);
    *job = (struct job){ 0 };
}

static const char *const dedupes[DEDUPES] = {
#define X(name, text) [DEDUPE_##name] = text,
    DEDUPES_(X)
#undef X
};

bool dedupe_parse(const char *text, enum dedupe *ret)
{
    for (int i = 0; i < DEDUPES; i++)
        if (strcmp(text, dedupes[i]) == 0) {
            *ret = (enum dedupe)i;
            return true;
        }
    return false;
}

/* ---- moving ---- */

static bool change_state(struct conn *c, const struct moving *m, struct move move, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_JOB_MOVE);
    stmt_text(s, 1, m->id);
    stmt_text(s, 2, states[move.to].name);
    stmt_int(s, 3, clock_now_us());
    stmt_text(s, 4, move.problem);
    stmt_int(s, 5, move.give_back ? -1 : 0);
    stmt_text(s, 6, states[m->state].name);
    bool ok = stmt_run(s, e);
    if (ok && stmt_changed(s) != 1)
        ok = err_set(e, ERR_CONFLICT, m->id, "the job is no longer %s", states[m->state].name);
    stmt_end(s);
    return ok;
}

static json_t *move_data(const struct moving *m, const char *problem)
{
    json_t *why = problem ? json_read(problem, JSON_REJECT_DUPLICATES) : NULL;
    return json_pack("{s:s, s:i, s:o*}", "state", states[m->state].name, "attempt", m->attempt, "problem", why);
}

/* What a worker spent on the job is the team's share of the workers. */
static bool charge(struct conn *c, const struct moving *m, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_SHARE_CHARGE);
    stmt_text(s, 1, m->team);
    stmt_text(s, 2, m->id);
    stmt_int(s, 3, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

bool job_move(struct conn *c, struct moving *m, struct move move, struct err *e)
{
    assert(job_may_move(m->state, move.to));
    bool ran = m->state == JOB_RUNNING || m->state == JOB_CANCELING;
    if ((ran && move.to != JOB_CANCELING && !charge(c, m, e)) || !change_state(c, m, move, e))
        return false;
    if (job_state_terminal(move.to) && !stmt_exec(c, SQL_DISK_PROMISE_KEPT, m->id, NULL, e))
        return false;
    m->state = move.to;
    m->attempt -= move.give_back;
    return event_add(c, m->team, m->id, event_of(move.to), move_data(m, move.problem), e);
}

struct move job_move_lost(const struct moving *m, const char *problem)
{
    enum job_state to = m->state == JOB_CANCELING ? JOB_CANCELED : m->attempt < m->max_attempts ? JOB_QUEUED : JOB_FAILED;
    return (struct move){ .to = to, .problem = to == JOB_CANCELED ? NULL : problem };
}

bool event_add(struct conn *c, const char *team, const char *job_id, const char *type, json_t *data, struct err *e)
{
    int64_t now = clock_now_us();
    char *text = data ? json_text(data, JSON_COMPACT) : NULL;
    bool ok = text || err_set(e, ERR_MEMORY, job_id, "no memory for an event; try again");
    struct stmt *s = stmt_begin(c, SQL_EVENT_INSERT);
    stmt_text(s, 1, job_id);
    stmt_text(s, 2, team);
    stmt_int(s, 3, now);
    stmt_text(s, 4, type);
    stmt_text(s, 5, text);
    ok = ok && stmt_run(s, e);
    stmt_end(s);
    ok = ok && outbox_add(c, team, job_id, type, data, now, e);
    free(text);
    json_decref(data);
    if (ok)
        db_touch(c, team, job_id);
    return ok;
}

/* ---- rows ---- */

static enum job_state state_of_column(struct stmt *s, int column)
{
    char text[16];
    enum job_state state = JOB_QUEUED;
    stmt_get_text(s, column, text, sizeof text);
    job_state_parse(text, &state);          /* the table's CHECK allows no other text */
    return state;
}

static bool texts_of_row(struct stmt *s, struct job *job, struct err *e)
{
    return stmt_dup_text(s, 7, &job->recipe, e) && stmt_dup_text(s, 8, &job->labels, e)
        && stmt_dup_text(s, 28, &job->engine, e) && stmt_dup_text(s, 29, &job->problem, e)
        && stmt_dup_text(s, 30, &job->summary, e) && stmt_dup_text(s, 35, &job->estimate, e)
        && stmt_dup_text(s, 38, &job->cancel_reason, e);
}

static void names_of_row(struct stmt *s, struct job *job)
{
    char stage[16];
    stmt_get_text(s, 0, job->id, sizeof job->id);
    stmt_get_text(s, 1, job->team, sizeof job->team);
    stmt_get_text(s, 2, job->type, sizeof job->type);
    stmt_get_text(s, 3, job->model_id, sizeof job->model_id);
    stmt_get_text(s, 4, job->dataset_id, sizeof job->dataset_id);
    stmt_get_text(s, 5, job->eval_dataset_id, sizeof job->eval_dataset_id);
    stmt_get_text(s, 6, job->retry_of, sizeof job->retry_of);
    stmt_get_text(s, 22, job->boot_id, sizeof job->boot_id);
    stmt_get_text(s, 23, job->worker, sizeof job->worker);
    stmt_get_text(s, 24, stage, sizeof stage);
    stmt_get_text(s, 34, job->fingerprint, sizeof job->fingerprint);
    stmt_get_text(s, 39, job->trace, sizeof job->trace);
    stmt_get_text(s, 37, job->cancel_by, sizeof job->cancel_by);
    job_stage_parse(stage, &job->stage);
}

bool job_of_row(struct stmt *s, struct job *ret, struct err *e)
{
    struct job job = {
        .priority = (int)stmt_get_int(s, 9), .max_attempts = (int)stmt_get_int(s, 10),
        .state = state_of_column(s, 11), .cancel_requested_at = stmt_get_int(s, 18),
        .attempt = (int)stmt_get_int(s, 19), .claim_token = stmt_get_int(s, 20), .lease_until = stmt_get_int(s, 21),
        .done = stmt_get_int(s, 25), .total = stmt_get_int(s, 26), .warnings = (int)stmt_get_int(s, 27),
        .not_before = stmt_get_int(s, 31), .deadline_s = stmt_get_int(s, 32), .deadline = stmt_get_int(s, 33),
        .memory = stmt_get_int(s, 36),
    };
    for (int i = 0; i < JOB_STATES; i++)
        job.at[i] = stmt_get_int(s, 12 + i);        /* JOB_COLUMNS has them in the order of the enum */
    names_of_row(s, &job);
    if (!texts_of_row(s, &job, e)) {
        job_release(&job);
        return false;
    }
    *ret = job;
    return true;
}

void moving_of_row(struct stmt *s, struct moving *ret)
{
    stmt_get_text(s, 0, ret->id, sizeof ret->id);
    stmt_get_text(s, 1, ret->team, sizeof ret->team);
    ret->state = state_of_column(s, 2);
    ret->attempt = (int)stmt_get_int(s, 3);
    ret->max_attempts = (int)stmt_get_int(s, 4);
}
