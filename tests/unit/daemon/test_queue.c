/* test_queue.c - whose turn it is, what time does to the queue, jobs that are alike, keys, and what is kept for a time. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/clock.h"
#include "storage/result.h"

#include <sqlite3.h>

static const int64_t LEASE = 30LL * 1000000;
enum { TEAMS = 5 };
static const char *const teams[TEAMS] = { TEAM_LOCAL, "blue", "green", "red", "white" };

/* ---- a little help ---- */

/* Every team gets a model and a data set of its own. */
struct rig { struct fixture *f; char model[TEAMS][ID_SIZE], dataset[TEAMS][ID_SIZE]; };

static void asset_of(struct fixture *f, const char *team, enum asset_kind kind, char ret[ID_SIZE])
{
    struct asset_file file = { .path = "file", .digest = FIXTURE_DIGEST };
    struct asset a = { .kind = kind, .name = "x", .format = "onnx", .files = &file, .nfiles = 1 };
    assert_true(asset_insert(f->store, team, &a, NULL, NULL));
    memcpy(ret, a.id, ID_SIZE);
}

static struct rig rig_of(void **state)
{
    struct rig r = { .f = *state };
    for (int i = 0; i < TEAMS; i++) {
        fixture_blob(r.f, teams[i], "hello");
        asset_of(r.f, teams[i], ASSET_MODEL, r.model[i]);
        asset_of(r.f, teams[i], ASSET_DATASET, r.dataset[i]);
    }
    return r;
}

static struct job_request request_of(const struct rig *r, int team)
{
    return (struct job_request){ .type = "quantize", .model_id = r->model[team], .dataset_id = r->dataset[team], .recipe = "{}" };
}

static void add(const struct rig *r, int team, const struct job_request *q, char ret[ID_SIZE])
{
    struct job job;
    struct err e = { 0 };
    if (!job_insert(r->f->store, teams[team], q, &job, &e))
        fail_msg("%s: %s", e.where, e.text);
    if (ret)
        memcpy(ret, job.id, ID_SIZE);
    job_release(&job);
}

static void add_many(const struct rig *r, int team, int n)
{
    struct job_request q = request_of(r, team);
    for (int i = 0; i < n; i++)
        add(r, team, &q, NULL);
}

static bool try_claim(struct store *s, int64_t memory, struct claim *ret)
{
    struct job job;
    struct err e = { 0 };
    bool got = run_claim(s, &(struct claim_terms){ .worker = "w", .lease_us = LEASE, .memory = memory }, ret, &job, &e);
    if (e.code)
        fail_msg("%s: %s", e.where, e.text);
    if (got)
        job_release(&job);
    return got;
}

static struct claim next(struct store *s)
{
    struct claim c;
    if (!try_claim(s, 0, &c))
        fail_msg("there is nothing to claim");
    return c;
}

static struct job look(struct store *s, const char *team, const char *id)
{
    struct job job;
    assert_true(job_get(s, team, id, &job, NULL));
    return job;
}

static enum job_state state_of(struct store *s, const char *team, const char *id)
{
    struct job job = look(s, team, id);
    enum job_state state = job.state;
    job_release(&job);
    return state;
}

static int team_number(const char *team)
{
    for (int i = 0; i < TEAMS; i++)
        if (strcmp(teams[i], team) == 0)
            return i;
    return -1;
}

/* Runs SQL behind the store's back. */
static void meddle(struct fixture *f, const char *sql)
{
    char path[300], *why = NULL;
    sqlite3 *lite;
    snprintf(path, sizeof path, "%s/repquant.db", f->dir);
    assert_int_equal(sqlite3_open(path, &lite), SQLITE_OK);
    if (sqlite3_exec(lite, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(lite);
}

/* ---- turns ---- */

static void teams_take_turns_however_much_each_has_asked_for(void **state)
{
    struct rig r = rig_of(state);
    int got[TEAMS] = { 0 };
    for (int i = 0; i < TEAMS; i++)
        add_many(&r, i, i == 0 ? 60 : 20);
    for (int i = 0; i < 100; i++) {
        struct claim c = next(r.f->store);
        got[team_number(c.team)]++;
        assert_true(run_finish(r.f->store, &c, NULL, 0, "{}", NULL));
    }
    for (int i = 0; i < TEAMS; i++)
        if (got[i] < 18 || got[i] > 22)
            fail_msg("%s got %d of 100", teams[i], got[i]);
}

static void a_team_that_comes_later_waits_for_one_job_and_not_for_all(void **state)
{
    struct rig r = rig_of(state);
    add_many(&r, 0, 30);
    for (int i = 0; i < 10; i++) {
        struct claim c = next(r.f->store);
        assert_true(run_finish(r.f->store, &c, NULL, 0, "{}", NULL));
    }
    add_many(&r, 1, 2);
    assert_string_equal(next(r.f->store).team, teams[1]);
    assert_string_equal(next(r.f->store).team, teams[0]);
    assert_string_equal(next(r.f->store).team, teams[1]);       /* it ran nothing before, and has no claim to more for that */
    assert_string_equal(next(r.f->store).team, teams[0]);
}

static void hours_count_and_not_only_jobs(void **state)
{
    struct rig r = rig_of(state);
    add_many(&r, 0, 10);
    add_many(&r, 1, 10);
    struct claim c = next(r.f->store);
    int first = team_number(c.team);
    meddle(r.f, "UPDATE jobs SET running_at = running_at - 5000000 WHERE state = 'running'");      /* it ran for five seconds */
    assert_true(run_finish(r.f->store, &c, NULL, 0, "{}", NULL));
    for (int i = 0; i < 4; i++) {                                /* which the other may spend on small ones */
        c = next(r.f->store);
        assert_int_not_equal(team_number(c.team), first);
        assert_true(run_finish(r.f->store, &c, NULL, 0, "{}", NULL));
    }
}

static void a_priority_is_about_the_teams_own_jobs(void **state)
{
    struct rig r = rig_of(state);
    char urgent[ID_SIZE];
    struct job_request q = request_of(&r, 0);
    add_many(&r, 0, 3);
    add_many(&r, 1, 3);
    q.priority = 9;
    add(&r, 0, &q, urgent);
    add(&r, 0, &q, NULL);
    struct claim a = next(r.f->store), b = next(r.f->store);
    assert_string_not_equal(a.team, b.team);
    assert_string_equal(strcmp(a.team, teams[0]) == 0 ? a.job : b.job, urgent);
}

static void the_position_counts_what_really_comes_first(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 1);
    char mine[ID_SIZE];
    int64_t ahead;
    add_many(&r, 0, 50);
    add_many(&r, 1, 2);
    add(&r, 1, &q, mine);
    assert_true(queue_position(r.f->store, teams[1], mine, &ahead, NULL));
    assert_int_equal(ahead, 4);             /* two of its own, two of the other's */
}

/* Copies of the team's only job until there are n. */
static void multiply(const struct rig *r, int team, int n)
{
    char sql[1400];
    snprintf(sql, sizeof sql, "INSERT INTO jobs (id, team, type, model_id, dataset_id, recipe, priority, max_attempts, queued_at)"
             " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             " SELECT substr(id, 1, 20) || printf('%%010d', %d0000 + i), team, type, model_id, dataset_id, recipe, i %% 10, 3, queued_at"
             " FROM jobs, n WHERE team = '%s' AND (SELECT count(*) FROM jobs j WHERE j.team = jobs.team) = 1", n - 1, team + 1, teams[team]);
    meddle(r->f, sql);
}

static void ten_thousand_jobs_of_five_teams_are_shared_out_fairly(void **state)
{
    static const int jobs[TEAMS] = { 6000, 2000, 1000, 500, 500 };
    struct rig r = rig_of(state);
    struct queue_counts counts;
    struct recovery found;
    int got[TEAMS] = { 0 };
    for (int i = 0; i < TEAMS; i++) {
        add_many(&r, i, 1);
        multiply(&r, i, jobs[i]);
    }
    fixture_reopen(r.f);
    assert_true(store_recover(r.f->store, &found, NULL));
    assert_true(queue_count(r.f->store, NULL, &counts, NULL));
    assert_int_equal(counts.jobs[JOB_QUEUED], 10000);
    for (int i = 0; i < 500; i++) {
        struct claim c = next(r.f->store);
        got[team_number(c.team)]++;
        assert_true(run_finish(r.f->store, &c, NULL, 0, "{}", NULL));
    }
    for (int i = 0; i < TEAMS; i++)
        if (got[i] < 90 || got[i] > 110)
            fail_msg("%s got %d of 500", teams[i], got[i]);
}

/* ---- memory ---- */

static void a_job_waits_until_memory_is_free_and_none_passes_it(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    char large[ID_SIZE];
    struct claim a, b;
    q.memory = 60;
    add(&r, 0, &q, NULL);
    q.memory = 70;
    add(&r, 0, &q, large);
    q.memory = 1;
    add(&r, 0, &q, NULL);
    assert_true(try_claim(r.f->store, 100, &a));
    assert_false(try_claim(r.f->store, 100, &b));
    assert_true(run_finish(r.f->store, &a, NULL, 0, "{}", NULL));
    assert_true(try_claim(r.f->store, 100, &b));
    assert_string_equal(b.job, large);
    assert_true(try_claim(r.f->store, 100, &a));                /* the small one fits beside it */
}

static void a_job_that_runs_alone_always_fits(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct claim c;
    q.memory = 500;                         /* accepted under another limit */
    add(&r, 0, &q, NULL);
    assert_true(try_claim(r.f->store, 100, &c));
}

/* ---- time ---- */

static void a_job_is_not_claimed_before_its_time(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct claim c;
    char id[ID_SIZE];
    int released;
    int64_t due, later = clock_now_us() + 3600LL * 1000000;
    q.not_before = later;
    q.priority = 9;
    add(&r, 0, &q, id);
    assert_false(try_claim(r.f->store, 0, &c));
    assert_true(queue_due(r.f->store, &released, &due, NULL));
    assert_int_equal(released, 0);
    assert_int_equal(due, later);
    meddle(r.f, "UPDATE jobs SET not_before = not_before - 7200000000");
    assert_true(queue_due(r.f->store, &released, &due, NULL));
    assert_int_equal(released, 1);
    assert_int_equal(due, 0);
    assert_string_equal(next(r.f->store).job, id);
}

static void a_job_whose_deadline_passes_while_it_waits_fails(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    char id[12][ID_SIZE], calm[ID_SIZE];
    int released;
    int64_t due;
    q.deadline_s = 100;
    for (int i = 0; i < 12; i++)
        add(&r, 0, &q, id[i]);
    q.deadline_s = 0;
    add(&r, 0, &q, calm);
    assert_true(queue_due(r.f->store, &released, &due, NULL));
    assert_true(due > clock_now_us() + 90 * 1000000 && due <= clock_now_us() + 100 * 1000000);
    meddle(r.f, "UPDATE jobs SET deadline = deadline - 101000000 WHERE deadline > 0");
    assert_true(queue_due(r.f->store, &released, &due, NULL));
    assert_int_equal(due, 0);
    for (int i = 0; i < 12; i++) {
        struct job job = look(r.f->store, teams[0], id[i]);
        assert_int_equal(job.state, JOB_FAILED);
        assert_non_null(strstr(job.problem, "resource.deadline"));
        job_release(&job);
    }
    assert_string_equal(next(r.f->store).job, calm);
}

/* ---- disk space ---- */

static int64_t number_of(const struct fixture *f, const char *sql)
{
    char path[300];
    sqlite3 *lite;
    sqlite3_stmt *s = NULL;
    snprintf(path, sizeof path, "%s/repquant.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &lite, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(lite, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(lite);
    return n;
}

/* What is promised is what jobs that have not ended hold. */
static int64_t promised(const struct rig *r)
{
    int64_t n = number_of(r->f, "SELECT bytes FROM promised");
    assert_int_equal(n, number_of(r->f, "SELECT coalesce(sum(reserved), 0) FROM jobs WHERE state IN ('queued', 'running', 'canceling')"));
    return n;
}

static void a_promise_of_disk_space_ends_with_its_job(void **state)
{
    struct rig r = rig_of(state);
    struct store *s = r.f->store;
    struct job_request q = request_of(&r, 0);
    struct recovery done;
    enum job_state now;
    char waiting[ID_SIZE];
    add(&r, 0, &q, NULL);
    int64_t one = promised(&r);
    assert_true(one > 0);
    add_many(&r, 0, 4);
    assert_int_equal(promised(&r), 5 * one);
    struct claim c = next(s);
    assert_true(run_requeue(s, &c, NULL));
    c = next(s);
    assert_true(run_lost(s, &c, "{}", &now, NULL));
    assert_int_equal(promised(&r), 5 * one);        /* it is queued again */
    c = next(s);
    assert_true(run_fail(s, &c, "{}", NULL));
    assert_int_equal(promised(&r), 4 * one);
    add(&r, 0, &q, waiting);
    struct job canceled = { 0 };
    assert_true(job_cancel(s, TEAM_LOCAL, waiting, "x", "", &canceled, NULL));
    job_release(&canceled);
    assert_int_equal(promised(&r), 4 * one);
    assert_true(job_delete(s, TEAM_LOCAL, waiting, NULL));
    assert_int_equal(promised(&r), 4 * one);
    meddle(r.f, "UPDATE promised SET bytes = 12345");
    assert_true(store_recover(s, &done, NULL));
    assert_int_equal(promised(&r), 4 * one);
}

/* ---- jobs that are alike ---- */

static void finish_next(struct store *s)
{
    struct claim c = next(s);
    struct result result = { "model.onnx", "x/y", FIXTURE_DIGEST, 5 };
    assert_true(run_finish(s, &c, &result, 1, "{}", NULL));
}

static void what_is_there_already_is_used_refused_or_made_again(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct job job;
    struct err e = { 0 };
    char first[ID_SIZE];
    q.fingerprint = "same";
    add(&r, 0, &q, first);
    for (int done = 0; done < 2; done++) {      /* while it waits, and once it has succeeded */
        q.dedupe = DEDUPE_REUSE;
        assert_true(job_insert(r.f->store, teams[0], &q, &job, NULL));
        assert_true(job.reused);
        assert_string_equal(job.id, first);
        assert_int_equal(job.state, done ? JOB_SUCCEEDED : JOB_QUEUED);
        job_release(&job);
        q.dedupe = DEDUPE_REJECT;
        assert_false(job_insert(r.f->store, teams[0], &q, &job, &e));
        assert_int_equal(e.code, ERR_CONFLICT);
        assert_string_equal(e.where, "/dedupe");
        e = (struct err){ 0 };
        if (!done)
            finish_next(r.f->store);
    }
    q = request_of(&r, 1);                      /* another team does not hear of it */
    q.fingerprint = "same";
    q.dedupe = DEDUPE_REUSE;
    assert_true(job_insert(r.f->store, teams[1], &q, &job, NULL));
    assert_false(job.reused);
    job_release(&job);
}

static void what_did_not_succeed_or_lost_its_artifacts_is_not_used(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct job job;
    q.fingerprint = "same";
    q.dedupe = DEDUPE_REUSE;
    add(&r, 0, &q, NULL);
    struct claim c = next(r.f->store);
    assert_true(run_fail(r.f->store, &c, "{}", NULL));
    assert_true(job_insert(r.f->store, teams[0], &q, &job, NULL));
    assert_false(job.reused);
    job_release(&job);
    finish_next(r.f->store);
    meddle(r.f, "DELETE FROM artifacts");
    assert_true(job_insert(r.f->store, teams[0], &q, &job, NULL));
    assert_false(job.reused);
    job_release(&job);
}

static void a_new_job_replaces_those_that_wait(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct job_request theirs = request_of(&r, 1);
    char running[ID_SIZE], waiting[2][ID_SIZE], other[ID_SIZE], mine[ID_SIZE], another[ID_SIZE];
    q.fingerprint = theirs.fingerprint = "same";
    add(&r, 0, &q, running);
    next(r.f->store);
    add(&r, 0, &q, waiting[0]);
    add(&r, 0, &q, waiting[1]);
    add(&r, 1, &theirs, another);
    q.fingerprint = "other";
    add(&r, 0, &q, other);
    q.fingerprint = "same";
    q.dedupe = DEDUPE_REPLACE_QUEUED;
    add(&r, 0, &q, mine);
    for (int i = 0; i < 2; i++) {
        struct job job = look(r.f->store, teams[0], waiting[i]);
        assert_int_equal(job.state, JOB_CANCELED);
        assert_non_null(strstr(job.cancel_reason, mine));
        job_release(&job);
    }
    assert_int_equal(state_of(r.f->store, teams[0], running), JOB_RUNNING);
    assert_int_equal(state_of(r.f->store, teams[0], other), JOB_QUEUED);
    assert_int_equal(state_of(r.f->store, teams[0], mine), JOB_QUEUED);
    assert_int_equal(state_of(r.f->store, teams[1], another), JOB_QUEUED);
}

static void the_last_estimate_of_a_fingerprint_is_found(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    char *text;
    q.fingerprint = "same";
    q.estimate = "{\"memory_bytes\":7}";
    add(&r, 0, &q, NULL);
    assert_true(job_estimate_find(r.f->store, teams[0], "same", &text, NULL));
    assert_string_equal(text, q.estimate);
    free(text);
    assert_true(job_estimate_find(r.f->store, teams[1], "same", &text, NULL));
    assert_null(text);
}

/* ---- keys ---- */

static char *answer_of(const void *made, int *ret_status)
{
    const struct job *job = made;
    *ret_status = 202;
    return strdup(job->id);
}

static void one_idempotency_key_makes_one_job(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct job job, other;
    struct err e = { 0 };
    struct answer found;
    q.idempotency = (struct idempotency){ .key = "k1", .answer = answer_of };
    memset(q.idempotency.fingerprint, 7, HASH_SIZE);
    assert_true(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, NULL));
    assert_null(found.body);
    assert_true(job_insert(r.f->store, teams[0], &q, &job, NULL));
    assert_true(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, NULL));
    assert_string_equal(found.id, job.id);
    assert_string_equal(found.body, job.id);
    assert_int_equal(found.status, 202);
    free(found.body);
    assert_false(job_insert(r.f->store, teams[0], &q, &other, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    struct queue_counts counts;
    assert_true(queue_count(r.f->store, NULL, &counts, NULL));
    assert_int_equal(counts.jobs[JOB_QUEUED], 1);
    assert_int_equal(counts.oldest_queued_at, job.at[JOB_QUEUED]);
    q.idempotency.fingerprint[0] = 8;
    e = (struct err){ 0 };
    assert_false(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, &e));
    assert_int_equal(e.code, ERR_IDEMPOTENCY);
    assert_true(idempotency_find(r.f->store, teams[1], &q.idempotency, &found, NULL));
    assert_null(found.body);
    job_release(&job);
}

static void a_key_is_forgotten_after_a_day_and_not_before(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    struct answer found;
    char first[ID_SIZE], second[ID_SIZE];
    q.idempotency = (struct idempotency){ .key = "k1", .answer = answer_of };
    add(&r, 0, &q, first);
    meddle(r.f, "UPDATE idempotency SET created_at = created_at - 86340000000");       /* a minute less than a day */
    assert_true(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, NULL));
    assert_string_equal(found.id, first);
    free(found.body);
    meddle(r.f, "UPDATE idempotency SET created_at = created_at - 61000000");
    assert_true(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, NULL));
    assert_null(found.body);
    add(&r, 0, &q, second);                     /* without a sweep in between */
    assert_string_not_equal(first, second);
    assert_true(idempotency_find(r.f->store, teams[0], &q.idempotency, &found, NULL));
    assert_string_equal(found.id, second);
    free(found.body);
}

/* ---- what is kept for a time ---- */

static size_t count(struct store *s, const char *id, bool artifacts)
{
    struct artifact_list a;
    struct event_list ev;
    size_t n;
    if (artifacts) {
        assert_true(artifact_list(s, teams[0], id, &a, NULL));
        n = a.n;
        artifact_list_release(&a);
    } else {
        assert_true(event_list(s, teams[0], id, 0, 1000, &ev, NULL));
        n = ev.n;
        event_list_release(&ev);
    }
    return n;
}

static void ended_jobs_are_kept_as_long_as_they_shall_be(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    static const int64_t DAY = 86400LL * 1000000;
    char old[ID_SIZE], young[ID_SIZE], waiting[ID_SIZE];
    struct forgotten gone;
    struct job job;
    int removed;
    add(&r, 0, &q, old);
    finish_next(r.f->store);
    meddle(r.f, "UPDATE jobs SET queued_at = 1, running_at = 2, succeeded_at = succeeded_at - 10 * 86400000000");
    add(&r, 0, &q, young);
    finish_next(r.f->store);
    add(&r, 0, &q, waiting);
    meddle(r.f, "UPDATE jobs SET queued_at = 1 WHERE state = 'queued'");
    assert_true(store_forget(r.f->store, &(struct retention){ 0 }, &gone, NULL));
    assert_true(gone.jobs == 0 && gone.events == 0 && gone.artifacts == 0);

    assert_true(store_forget(r.f->store, &(struct retention){ .events_us = 9 * DAY, .artifacts_us = 9 * DAY }, &gone, NULL));
    assert_true(gone.jobs == 0 && gone.events > 0 && gone.artifacts == 1);
    assert_true(count(r.f->store, old, true) == 0 && count(r.f->store, old, false) == 0);
    assert_true(count(r.f->store, young, true) == 1 && count(r.f->store, young, false) > 0);
    assert_true(count(r.f->store, waiting, false) > 0);

    assert_true(store_forget(r.f->store, &(struct retention){ .jobs_us = 11 * DAY }, &gone, NULL));
    assert_int_equal(gone.jobs, 0);
    assert_true(store_forget(r.f->store, &(struct retention){ .jobs_us = 9 * DAY }, &gone, NULL));
    assert_int_equal(gone.jobs, 1);
    assert_false(job_get(r.f->store, teams[0], old, &job, NULL));
    assert_int_equal(state_of(r.f->store, teams[0], young), JOB_SUCCEEDED);
    assert_int_equal(state_of(r.f->store, teams[0], waiting), JOB_QUEUED);
    assert_true(store_sweep(r.f->store, 0, &removed, NULL));
}

static void the_bytes_of_a_deleted_job_are_freed(void **state)
{
    struct rig r = rig_of(state);
    struct job_request q = request_of(&r, 0);
    char id[ID_SIZE];
    int removed;
    struct err e = { 0 };
    struct blob b = fixture_blob(r.f, teams[0], "an artifact"), got;
    add(&r, 0, &q, id);
    assert_false(job_delete(r.f->store, teams[0], id, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    struct claim c = next(r.f->store);
    struct result result = { .name = "model.onnx", .media_type = "x/y", .size = b.size };
    snprintf(result.digest, sizeof result.digest, "%s", b.digest);
    assert_true(run_finish(r.f->store, &c, &result, 1, "{}", NULL));
    assert_true(store_sweep(r.f->store, -1000000, &removed, NULL));
    assert_true(blob_get(r.f->store, teams[0], b.digest, &got, NULL));
    assert_false(job_delete(r.f->store, teams[1], id, NULL));
    assert_true(job_delete(r.f->store, teams[0], id, NULL));
    assert_true(store_sweep(r.f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_false(blob_get(r.f->store, teams[0], b.digest, &got, NULL));
}

#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(teams_take_turns_however_much_each_has_asked_for),
        T(a_team_that_comes_later_waits_for_one_job_and_not_for_all),
        T(hours_count_and_not_only_jobs),
        T(a_priority_is_about_the_teams_own_jobs),
        T(the_position_counts_what_really_comes_first),
        T(ten_thousand_jobs_of_five_teams_are_shared_out_fairly),
        T(a_job_waits_until_memory_is_free_and_none_passes_it),
        T(a_job_that_runs_alone_always_fits),
        T(a_job_is_not_claimed_before_its_time),
        T(a_job_whose_deadline_passes_while_it_waits_fails),
        T(a_promise_of_disk_space_ends_with_its_job),
        T(what_is_there_already_is_used_refused_or_made_again),
        T(what_did_not_succeed_or_lost_its_artifacts_is_not_used),
        T(a_new_job_replaces_those_that_wait),
        T(the_last_estimate_of_a_fingerprint_is_found),
        T(one_idempotency_key_makes_one_job),
        T(a_key_is_forgotten_after_a_day_and_not_before),
        T(ended_jobs_are_kept_as_long_as_they_shall_be),
        T(the_bytes_of_a_deleted_job_are_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
