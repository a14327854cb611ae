/*
 * claim.c - which queued job runs next, and what time does to those that wait.
 *
 * FAIR SHARE  Teams take turns; a job's priority is about its own team's other jobs.  The next job is the first one of the team
 * that runs the fewest jobs now and, among those, was served least.  What a team was served is counted in
 * microseconds of workers, and a second for each claim.  A team that had nothing to run does not save up: its count starts at the
 * virtual time, which is where the team stood that was claimed last (start-time fair queueing).
 *
 * MEMORY  The next job waits until what the running ones are expected to take leaves room for it, and
 * nobody passes it meanwhile: a large job is not starved by small ones.  A job that runs alone always fits.
 */
#include "core/base/clock.h"
#include "storage/inner.h"
#include "storage/problem.h"
#include "storage/run.h"
#include "storage/scratch.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t CLAIM_COST_US = 1000000;

struct next { char job[ID_SIZE], team[TEAM_SIZE]; int64_t memory; };

static bool requeue_expired(struct store *s, struct conn *c, int64_t now, struct err *e)
{
    struct moving expired[8];
    struct err why = { 0 }, lost = { 0 };
    int n = 0;
    struct stmt *q = stmt_begin(c, SQL_RUN_EXPIRED);
    stmt_int(q, 1, now);
    stmt_text(q, 2, s->boot_id);
    while (n < 8 && stmt_row(q, &why))
        moving_of_row(q, &expired[n++]);
    stmt_end(q);
    if (n == 0 || why.code)
        return err_clean(&why, e);
    err_set(&lost, ERR_WORKER_LOST, "", "the worker let its lease expire");
    char *problem = problem_text(&lost);
    bool ok = problem || err_sys(e, "lease", "report");
    for (int i = 0; ok && i < n; i++)
        ok = job_move(c, &expired[i], job_move_lost(&expired[i], problem), e);
    free(problem);
    return ok;
}

/* ---- time ---- */

static bool release_due(struct conn *c, int64_t now, int *ret, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_QUEUE_RELEASE);
    stmt_int(q, 1, now);
    bool ok = stmt_run(q, e);
    *ret = ok ? (int)stmt_changed(q) : 0;
    stmt_end(q);
    return ok;
}

/* What is too late, as many as fit. */
struct overdue { struct moving job[8]; int n; };

static bool fail_overdue(struct conn *c, int64_t now, struct overdue *ret, struct err *e)
{
    struct moving *late = ret->job;
    struct err why = { 0 }, over = { 0 };
    int n = 0;
    struct stmt *q = stmt_begin(c, SQL_QUEUE_OVERDUE);
    stmt_int(q, 1, now);
    while (n < (int)(sizeof ret->job / sizeof *ret->job) && stmt_row(q, &why))
        moving_of_row(q, &late[n++]);
    stmt_end(q);
    ret->n = n;
    if (n == 0 || why.code)
        return err_clean(&why, e);
    err_set(&over, ERR_DEADLINE, "/deadline_s", "the deadline passed while the job was waiting; give it more time or a higher priority");
    char *problem = problem_text(&over);
    bool ok = problem || err_sys(e, "deadline", "report");
    for (int i = 0; ok && i < n; i++)
        ok = job_move(c, &late[i], (struct move){ .to = JOB_FAILED, .problem = problem }, e);
    free(problem);
    return ok;
}

static bool next_due(struct conn *c, int64_t *ret, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_QUEUE_DUE);
    bool ok = stmt_row(q, e);
    *ret = ok ? stmt_get_int(q, 0) : 0;
    stmt_end(q);
    return ok;
}

bool queue_due(struct store *s, int *ret_released, int64_t *ret_next, struct err *e)
{
    struct overdue late;
    int released = 0;
    struct conn *c = db_read(s->db);
    bool ok = next_due(c, ret_next, e);
    db_read_end(c);
    *ret_released = 0;
    while (ok && *ret_next && *ret_next <= clock_now_us()) {
        if (!(c = db_write(s->db, e)))
            return false;
        int64_t now = clock_now_us();
        ok = fail_overdue(c, now, &late, e) && release_due(c, now, &released, e) && next_due(c, ret_next, e);
        ok = db_write_end(c, ok, e);
        *ret_released += ok ? released : 0;
        for (int i = 0; ok && i < late.n; i++)
            scratch_forget(s, late.job[i].id);
    }
    return ok;
}

/* ---- claiming ---- */

/* False without an error: nothing is queued. */
static bool find_next(struct conn *c, struct next *ret, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_QUEUE_NEXT);
    bool got = stmt_row(q, why);
    if (got) {
        stmt_get_text(q, 0, ret->job, sizeof ret->job);
        ret->memory = stmt_get_int(q, 1);
        stmt_get_text(q, 2, ret->team, sizeof ret->team);
    }
    stmt_end(q);
    return got;
}

static bool fits(struct conn *c, const struct next *next, int64_t memory, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_QUEUE_MEMORY);
    int64_t taken = stmt_row(q, why) ? stmt_get_int(q, 0) : INT64_MAX;
    stmt_end(q);
    return memory == 0 || taken == 0 || (taken <= memory && next->memory <= memory - taken);
}

static bool serve(struct conn *c, const struct next *next, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_SHARE_CLAIM);
    stmt_text(q, 1, next->team);
    stmt_int(q, 2, CLAIM_COST_US);
    bool ok = stmt_exec(c, SQL_SHARE_VIRTUAL, next->team, NULL, e) && stmt_run(q, e);
    stmt_end(q);
    return ok;
}

static bool take(struct store *s, struct conn *c, const struct next *next, const char *worker, int64_t lease_until, struct job *ret,
                 struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_RUN_CLAIM);
    stmt_int(q, 1, clock_now_us());
    stmt_int(q, 2, lease_until);
    stmt_text(q, 3, s->boot_id);
    stmt_text(q, 4, worker);
    stmt_text(q, 5, next->job);
    bool got = stmt_row(q, why) && job_of_row(q, ret, why);
    /* A statement with RETURNING has done its work at the first row but is not over before DONE. */
    if (got)
        stmt_row(q, why);
    stmt_end(q);
    return got && why->code == ERR_NONE;
}

static bool claim_next(struct store *s, struct conn *c, const struct claim_terms *terms, int64_t now, struct job *ret, struct err *why)
{
    struct next next;
    return find_next(c, &next, why) && fits(c, &next, terms->memory, why) && serve(c, &next, why)
        && take(s, c, &next, terms->worker, now + terms->lease_us, ret, why)
        && event_add(c, ret->team, ret->id, "job.started", json_pack("{s:s, s:i}", "state", "running", "attempt", ret->attempt), why);
}

bool run_claim(struct store *s, const struct claim_terms *terms, struct claim *ret_claim, struct job *ret_job, struct err *e)
{
    struct job job = { 0 };
    struct err why = { 0 };
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    int64_t now = clock_mono_us();
    bool ok = requeue_expired(s, c, now, e);
    bool got = ok && claim_next(s, c, terms, now, &job, &why);
    ok = ok && err_clean(&why, e);
    if (!db_write_end(c, ok, e) || !got) {
        job_release(&job);
        return false;
    }
    *ret_claim = (struct claim){ .token = job.claim_token };
    snprintf(ret_claim->job, sizeof ret_claim->job, "%s", job.id);
    snprintf(ret_claim->team, sizeof ret_claim->team, "%s", job.team);
    *ret_job = job;
    return true;
}
