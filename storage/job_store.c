/*
 * job_store.c - jobs as clients see them: looking, asking for the end, removing.  Asking for a job is in submit.c.
 */
#include "core/base/clock.h"
#include "storage/inner.h"
#include "storage/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool no_job(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no job %.40s", id);
}

bool job_read(struct conn *c, const char *team, const char *id, struct job *ret, struct err *e)
{
    struct err why = { 0 };
    struct stmt *s = stmt_begin(c, SQL_JOB_GET);
    stmt_text(s, 1, team);
    stmt_text(s, 2, id);
    bool got = stmt_row(s, &why) && job_of_row(s, ret, &why);
    stmt_end(s);
    return got || (err_clean(&why, e) && no_job(id, e));
}

/* Ends the transaction that filled *job; a job that was not committed does not exist. */
bool end_with_job(struct conn *c, bool ok, struct job *job, struct err *e)
{
    bool ended = db_write_end(c, ok, e);
    if (ok && !ended)
        job_release(job);
    return ended;
}

bool job_get(struct store *s, const char *team, const char *id, struct job *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    bool ok = job_read(c, team, id, ret, e);
    db_read_end(c);
    return ok;
}

/* ---- canceling ---- */

static bool note_request(struct conn *c, const struct job *job, const char *by, const char *reason, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_JOB_CANCEL_REQUESTED);
    stmt_text(s, 1, job->team);
    stmt_text(s, 2, job->id);
    stmt_int(s, 3, clock_now_us());
    stmt_text(s, 4, by ? by : "");
    stmt_text(s, 5, reason);
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

bool job_end(struct conn *c, const struct job *job, const char *by, const char *reason, struct err *e)
{
    struct moving m = { .state = job->state, .attempt = job->attempt };
    if (job->state == JOB_CANCELING || job->state == JOB_CANCELED)
        return true;
    if (job_state_terminal(job->state))
        return err_set(e, ERR_CONFLICT, "state", "the job has already %s", job_state_name(job->state));
    snprintf(m.id, sizeof m.id, "%s", job->id);
    snprintf(m.team, sizeof m.team, "%s", job->team);
    struct move move = { .to = job->state == JOB_QUEUED ? JOB_CANCELED : JOB_CANCELING };
    return note_request(c, job, by, reason, e) && job_move(c, &m, move, e);
}

bool job_cancel(struct store *s, const char *team, const char *id, const char *by, const char *reason, struct job *ret, struct err *e)
{
    struct job before = { 0 };
    struct conn *c = db_write(s->db, e);
    bool ok = c && end_with_job(c, job_read(c, team, id, &before, e) && job_end(c, &before, by, reason, e)
                                       && job_read(c, team, id, ret, e), ret, e);
    if (ok && before.state == JOB_QUEUED)
        scratch_forget(s, id);
    job_release(&before);
    return ok;
}

bool job_delete(struct store *s, const char *team, const char *id, struct err *e)
{
    struct job job = { 0 };
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    bool ok = job_read(c, team, id, &job, e);
    if (ok && !job_state_terminal(job.state))
        ok = err_set(e, ERR_CONFLICT, "state", "the job is %s; cancel it first", job_state_name(job.state));
    job_release(&job);
    return db_write_end(c, ok && stmt_exec(c, SQL_JOB_DELETE, team, id, e), e);
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

/* One job: it waited from `queued` to `left`, and ran from `started` (0: it did not). */
static void count_wait(struct queue_point *points, size_t n, int64_t span, int64_t queued, int64_t left, int64_t started)
{
    for (size_t i = 0; i < n; i++) {
        struct queue_point *p = &points[i];
        bool here = started > p->at - span && started <= p->at;
        p->depth += queued <= p->at && left > p->at;
        p->started += here;
        p->waited_us += here && started > queued ? started - queued : 0;
    }
}

bool queue_history(struct store *s, const char *team, int64_t now, int64_t span_us, size_t n, struct queue_point *ret, struct err *e)
{
    struct err why = { 0 };
    for (size_t i = 0; i < n; i++)
        ret[i] = (struct queue_point){ .at = now - (int64_t)(n - 1 - i) * span_us };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_JOB_WAITS);
    stmt_text(q, 1, team);
    stmt_int(q, 2, now - (int64_t)n * span_us);
    stmt_int(q, 3, INT64_MAX);
    while (stmt_row(q, &why))
        count_wait(ret, n, span_us, stmt_get_int(q, 0), stmt_get_int(q, 1), stmt_get_int(q, 2));
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

bool queue_position(struct store *s, const char *team, const char *id, int64_t *ret, struct err *e)
{
    struct job job = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    bool ok = job_read(c, team, id, &job, e);
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
