/* test_storage.c - the queue, the fence around a claim, recovery, and what a team can see. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/clock.h"
#include "core/base/metric.h"
#include "storage/inner.h"
#include "storage/result.h"
#include "storage/session.h"

#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

static const int64_t LEASE = 30LL * 1000000;

static struct claim claim_one(struct store *s, struct job *ret_job)
{
    struct claim c;
    struct job job;
    struct err e = { 0 };
    bool got = run_claim(s, &(struct claim_terms){ .worker = "w0", .lease_us = LEASE }, &c, &job, &e);
    if (!got)
        fail_msg("nothing to claim: %s", e.text);
    if (ret_job)
        *ret_job = job;
    else
        job_release(&job);
    return c;
}

static enum job_state state_of(struct store *s, const char *id)
{
    struct job job;
    assert_true(job_get(s, TEAM_LOCAL, id, &job, NULL));
    enum job_state state = job.state;
    job_release(&job);
    return state;
}

static int count_events(struct store *s, const char *id, const char *type)
{
    struct event_list l;
    int n = 0;
    assert_true(event_list(s, TEAM_LOCAL, id, 0, 1000, &l, NULL));
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.items[i].seq, (int64_t)i + 1);       /* no gaps */
        n += strcmp(l.items[i].type, type) == 0;
    }
    event_list_release(&l);
    return n;
}

/* ---- states ---- */

static void a_job_moves_only_along_the_arrows(void **state)
{
    (void)state;
    static const char may[JOB_STATES][JOB_STATES + 1] = {
        /* to:             QRgCFS */
        [JOB_QUEUED]    = ".R.CF.",
        [JOB_RUNNING]   = "Q.g.FS",
        [JOB_CANCELING] = "...C..",
        [JOB_CANCELED]  = "......",
        [JOB_FAILED]    = "......",
        [JOB_SUCCEEDED] = "......",
    };
    for (int from = 0; from < JOB_STATES; from++)
        for (int to = 0; to < JOB_STATES; to++)
            if (job_may_move((enum job_state)from, (enum job_state)to) != (may[from][to] != '.'))
                fail_msg("%s -> %s", job_state_name((enum job_state)from), job_state_name((enum job_state)to));
}

static void names_of_states_and_stages_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < JOB_STATES; i++) {
        enum job_state got;
        assert_true(job_state_parse(job_state_name((enum job_state)i), &got));
        assert_int_equal(got, i);
    }
    for (int i = STAGE_NONE + 1; i < JOB_STAGES; i++) {
        enum job_stage got;
        assert_true(job_stage_parse(job_stage_name((enum job_stage)i), &got));
        assert_int_equal(got, i);
    }
    enum job_state any;
    assert_false(job_state_parse("cancelled", &any));
}

/* ---- ids ---- */

static void ids_of_one_process_only_grow(void **state)
{
    (void)state;
    char last[ID_SIZE], next[ID_SIZE];
    id_new("job", last);
    for (int i = 0; i < 20000; i++) {
        id_new("job", next);
        if (strcmp(last, next) >= 0)
            fail_msg("%s does not sort before %s", last, next);
        memcpy(last, next, sizeof last);
    }
}

static void only_an_id_with_the_right_prefix_is_valid(void **state)
{
    (void)state;
    char id[ID_SIZE];
    id_new("mdl", id);
    assert_true(id_valid(id, "mdl"));
    assert_false(id_valid(id, "job"));
    static const char *const bad[] = { "", "mdl", "mdl_", "mdl_0", "mdl_01JD8Z6W3V7QK5T9N2M4X8C0R", "mdl_01JD8Z6W3V7QK5T9N2M4X8C0RBB",
                                       "mdl_01JD8Z6W3V7QK5T9N2M4X8C0RI", "mdl_../../../../../../../etc/" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (id_valid(bad[i], "mdl"))
            fail_msg("accepted \"%s\"", bad[i]);
}

/* ---- claims ---- */

static void jobs_are_claimed_by_priority_then_age(void **state)
{
    struct fixture *f = *state;
    char first[ID_SIZE], second[ID_SIZE], urgent[ID_SIZE];
    fixture_job(f, 0, first);
    fixture_job(f, 0, second);
    fixture_job(f, 5, urgent);
    int64_t ahead;
    assert_true(queue_position(f->store, TEAM_LOCAL, second, &ahead, NULL));
    assert_int_equal(ahead, 2);
    assert_string_equal(claim_one(f->store, NULL).job, urgent);
    assert_string_equal(claim_one(f->store, NULL).job, first);
    assert_string_equal(claim_one(f->store, NULL).job, second);
    struct err e = { 0 };
    struct claim c;
    struct job job;
    assert_false(run_claim(f->store, &(struct claim_terms){ .worker = "w0", .lease_us = LEASE }, &c, &job, &e));
    assert_int_equal(e.code, ERR_NONE);
}

enum { CLAIM_THREADS = 4, CLAIM_JOBS = 80 };
struct claimer { struct store *store; int got; char jobs[CLAIM_JOBS][ID_SIZE]; };

static void *claim_all(void *arg)
{
    struct claimer *c = arg;
    struct claim claim;
    struct job job;
    struct err e = { 0 };
    while (run_claim(c->store, &(struct claim_terms){ .worker = "w", .lease_us = LEASE }, &claim, &job, &e)) {
        memcpy(c->jobs[c->got++], claim.job, ID_SIZE);
        job_release(&job);
    }
    return NULL;
}

static void four_threads_never_claim_the_same_job(void **state)
{
    struct fixture *f = *state;
    static struct claimer claimers[CLAIM_THREADS];
    pthread_t threads[CLAIM_THREADS];
    char id[ID_SIZE];
    int total = 0;
    for (int i = 0; i < CLAIM_JOBS; i++)
        fixture_job(f, 0, id);
    for (int i = 0; i < CLAIM_THREADS; i++) {
        claimers[i] = (struct claimer){ .store = f->store };
        assert_int_equal(pthread_create(&threads[i], NULL, claim_all, &claimers[i]), 0);
    }
    for (int i = 0; i < CLAIM_THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < CLAIM_THREADS; i++) {
        total += claimers[i].got;
        for (int a = 0; a < claimers[i].got; a++)
            for (int j = 0; j < i; j++)
                for (int b = 0; b < claimers[j].got; b++)
                    assert_string_not_equal(claimers[i].jobs[a], claimers[j].jobs[b]);
    }
    assert_int_equal(total, CLAIM_JOBS);
}

/* Every write there is, by a claim that is over. */
static void try_everything(struct store *s, const struct claim *old)
{
    bool canceling;
    enum job_state to;
    struct result r = { .name = "model.onnx", .media_type = "x/y", .digest = FIXTURE_DIGEST };
    struct err e[12] = { 0 };
    assert_false(run_heartbeat(s, old, LEASE, &canceling, &e[0]));
    assert_false(run_engine(s, old, "{}", &e[1]));
    assert_false(run_stage(s, old, STAGE_EXPORTING, &e[2]));
    assert_false(run_progress(s, old, 99, 99, 99, &e[3]));
    assert_false(run_layer(s, old, 0, "{}", &e[4]));
    assert_false(run_metric(s, old, "top1", 1, 1, 1, &e[5]));
    assert_false(run_warning(s, old, "c", "w", "d", &e[6]));
    assert_false(run_finish(s, old, &r, 1, "{}", &e[7]));
    assert_false(run_fail(s, old, "{}", &e[8]));
    assert_false(run_lost(s, old, "{}", &to, &e[9]));
    assert_false(run_requeue(s, old, &e[10]));
    assert_false(run_canceled(s, old, &e[11]));
    for (int i = 0; i < 12; i++)
        if (e[i].code != ERR_CONFLICT)
            fail_msg("write %d: %s", i, e[i].text);
}

static void a_stale_claim_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job before, after;
    struct claim old, now;
    struct err e = { 0 };
    fixture_job(f, 0, id);
    assert_true(run_claim(f->store, &(struct claim_terms){ .worker = "slow", .lease_us = -1 }, &old, &before, &e));       /* a lease that is over already */
    job_release(&before);
    now = claim_one(f->store, &before);
    assert_string_equal(old.job, now.job);
    assert_true(now.token > old.token);
    assert_int_equal(before.attempt, 2);
    int events = count_events(f->store, id, "job.started");

    try_everything(f->store, &old);

    assert_true(job_get(f->store, TEAM_LOCAL, id, &after, NULL));
    assert_int_equal(after.state, JOB_RUNNING);
    assert_int_equal(after.claim_token, now.token);
    assert_int_equal(after.lease_until, before.lease_until);
    assert_int_equal(after.done, 0);
    assert_int_equal(after.warnings, 0);
    assert_null(after.summary);
    assert_int_equal(count_events(f->store, id, "job.started"), events);
    assert_int_equal(count_events(f->store, id, "job.progress"), 0);
    bool canceling;
    assert_true(run_heartbeat(f->store, &now, LEASE, &canceling, NULL));   /* the new one is fine */
    job_release(&before);
    job_release(&after);
}

static void nothing_is_written_about_a_job_that_has_ended(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    fixture_job(f, 0, id);
    struct claim c = claim_one(f->store, NULL);
    assert_true(run_fail(f->store, &c, "{\"code\":\"model.invalid\"}", NULL));
    try_everything(f->store, &c);
    assert_int_equal(state_of(f->store, id), JOB_FAILED);
}

/* ---- the life of a job ---- */

static void a_finished_job_shows_everything_it_left(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job job;
    fixture_job(f, 0, id);
    struct claim c = claim_one(f->store, NULL);
    struct result r[2] = { { "model.onnx", "application/octet-stream", FIXTURE_DIGEST, 5 },
                           { "report.json", "application/json", FIXTURE_DIGEST, 5 } };
    assert_true(run_stage(f->store, &c, STAGE_QUANTIZING, NULL));
    assert_true(run_progress(f->store, &c, 3, 7, 32, NULL));
    assert_true(run_layer(f->store, &c, 0, "{\"name\":\"b\",\"weight_sqnr_db\":10.5}", NULL));
    assert_true(run_layer(f->store, &c, 1, "{\"name\":\"a\",\"weight_sqnr_db\":null}", NULL));
    assert_true(run_layer(f->store, &c, 2, "{\"name\":\"c\",\"weight_sqnr_db\":30}", NULL));
    assert_true(run_layer(f->store, &c, 2, "{\"name\":\"c\",\"weight_sqnr_db\":40}", NULL));
    assert_true(run_metric(f->store, &c, "top1", 0.8, NAN, 100, NULL));
    assert_true(run_warning(f->store, &c, "shared_weight", "fc", "kept float", NULL));
    struct err e = { 0 };
    if (!run_finish(f->store, &c, r, 2, "{\"ok\":true}", &e))
        fail_msg("%s", e.text);

    assert_true(job_get(f->store, TEAM_LOCAL, id, &job, NULL));
    assert_int_equal(job.state, JOB_SUCCEEDED);
    assert_int_equal(job.stage, STAGE_QUANTIZING);
    assert_int_equal(job.done, 3);
    assert_int_equal(job.warnings, 1);
    assert_string_equal(job.summary, "{\"ok\":true}");
    assert_true(job.at[JOB_QUEUED] && job.at[JOB_RUNNING] >= job.at[JOB_QUEUED] && job.at[JOB_SUCCEEDED] >= job.at[JOB_RUNNING]);
    assert_int_equal(job.at[JOB_FAILED], 0);
    job_release(&job);

    struct artifact_list arts;
    assert_true(artifact_list(f->store, TEAM_LOCAL, id, &arts, NULL));
    assert_int_equal(arts.n, 2);
    struct artifact one;
    assert_true(artifact_get(f->store, TEAM_LOCAL, arts.items[1].id, &one, NULL));
    assert_string_equal(one.name, "report.json");
    assert_true(artifact_find(f->store, TEAM_LOCAL, id, "model.onnx", &one, NULL));
    assert_string_equal(one.id, arts.items[0].id);
    assert_false(artifact_get(f->store, "other", one.id, &one, NULL));
    artifact_list_release(&arts);

    struct metric_list metrics;
    assert_true(metric_list(f->store, TEAM_LOCAL, id, &metrics, NULL));
    assert_int_equal(metrics.n, 1);
    assert_true(metrics.items[0].x_float == 0.8 && isnan(metrics.items[0].x_quantized));
    metric_list_release(&metrics);
    assert_int_equal(count_events(f->store, id, "job.succeeded"), 1);
}

static void layers_sort_by_a_column_and_the_unknown_come_last(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    fixture_job(f, 0, id);
    struct claim c = claim_one(f->store, NULL);
    assert_true(run_layer(f->store, &c, 0, "{\"name\":\"b\",\"weight_sqnr_db\":10.5}", NULL));
    assert_true(run_layer(f->store, &c, 1, "{\"name\":\"a\"}", NULL));
    assert_true(run_layer(f->store, &c, 2, "{\"name\":\"c\",\"weight_sqnr_db\":40}", NULL));
    static const struct { enum layer_sort sort; bool down; int64_t want[3]; } rows[] = {
        { LAYER_INDEX, false, { 0, 1, 2 } }, { LAYER_INDEX, true, { 2, 1, 0 } },
        { LAYER_NAME, false, { 1, 0, 2 } }, { LAYER_NAME, true, { 2, 0, 1 } },
        { LAYER_WEIGHT_SQNR_DB, false, { 0, 2, 1 } }, { LAYER_WEIGHT_SQNR_DB, true, { 2, 0, 1 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct layer_list l;
        assert_true(layer_list(f->store, TEAM_LOCAL, id, rows[i].sort, rows[i].down, &l, NULL));
        assert_int_equal(l.n, 3);
        for (int k = 0; k < 3; k++)
            if (l.items[k].index != rows[i].want[k])
                fail_msg("row %zu: place %d has layer %lld", i, k, (long long)l.items[k].index);
        layer_list_release(&l);
    }
    enum layer_sort sort;
    assert_false(layer_sort_parse("weight_sqnr_db; DROP TABLE jobs", &sort));
    assert_true(layer_sort_parse("cosine", &sort));
}

static void canceling_a_queued_job_ends_it_and_a_running_one_waits(void **state)
{
    struct fixture *f = *state;
    char queued[ID_SIZE], running[ID_SIZE];
    struct job job;
    struct err e = { 0 };
    fixture_job(f, 1, running);
    fixture_job(f, 0, queued);
    struct claim c = claim_one(f->store, NULL);
    assert_true(job_cancel(f->store, TEAM_LOCAL, queued, NULL, NULL, &job, NULL));
    assert_int_equal(job.state, JOB_CANCELED);
    assert_true(job.cancel_requested_at != 0);
    job_release(&job);
    for (int again = 0; again < 2; again++) {
        assert_true(job_cancel(f->store, TEAM_LOCAL, running, NULL, NULL, &job, NULL));
        assert_int_equal(job.state, JOB_CANCELING);
        job_release(&job);
    }
    bool canceling = false;
    assert_true(run_heartbeat(f->store, &c, LEASE, &canceling, NULL));
    assert_true(canceling);
    struct result r = { "model.onnx", "x/y", FIXTURE_DIGEST, 5 };
    assert_false(run_finish(f->store, &c, &r, 1, "{}", &e));                /* too late to succeed */
    assert_int_equal(e.code, ERR_CANCELED);
    assert_true(run_canceled(f->store, &c, NULL));
    assert_int_equal(state_of(f->store, running), JOB_CANCELED);
    struct artifact_list arts;
    assert_true(artifact_list(f->store, TEAM_LOCAL, running, &arts, NULL));
    assert_int_equal(arts.n, 0);
    assert_int_equal(count_events(f->store, running, "job.cancel_requested"), 1);
}

static void a_job_that_ended_otherwise_cannot_be_canceled(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job job;
    struct err e = { 0 };
    fixture_job(f, 0, id);
    struct claim c = claim_one(f->store, NULL);
    assert_true(run_finish(f->store, &c, NULL, 0, "{}", NULL));
    assert_false(job_cancel(f->store, TEAM_LOCAL, id, NULL, NULL, &job, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
}

static void the_third_lost_attempt_fails_the_job(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    enum job_state to;
    struct job job;
    fixture_job(f, 0, id);
    for (int attempt = 1; attempt <= JOB_MAX_ATTEMPTS; attempt++) {
        struct claim c = claim_one(f->store, &job);
        assert_int_equal(job.attempt, attempt);
        job_release(&job);
        assert_true(run_lost(f->store, &c, "{\"code\":\"worker.lost\"}", &to, NULL));
        assert_int_equal(to, attempt < JOB_MAX_ATTEMPTS ? JOB_QUEUED : JOB_FAILED);
    }
    assert_true(job_get(f->store, TEAM_LOCAL, id, &job, NULL));
    assert_string_equal(job.problem, "{\"code\":\"worker.lost\"}");
    job_release(&job);
}

static void a_shutdown_does_not_count_as_an_attempt(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job job;
    fixture_job(f, 0, id);
    for (int i = 0; i < 5; i++) {
        struct claim c = claim_one(f->store, &job);
        assert_int_equal(job.attempt, 1);
        assert_int_equal(job.claim_token, i + 1);
        job_release(&job);
        assert_true(run_requeue(f->store, &c, NULL));
    }
    assert_int_equal(state_of(f->store, id), JOB_QUEUED);
}

static void a_retry_is_a_new_job_like_the_old_one(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job again;
    struct err e = { 0 };
    fixture_job(f, 3, id);
    assert_false(job_retry(f->store, TEAM_LOCAL, id, NULL, "", &again, &e));    /* still queued */
    assert_int_equal(e.code, ERR_CONFLICT);
    struct claim c = claim_one(f->store, NULL);
    assert_true(run_fail(f->store, &c, "{}", NULL));
    assert_true(job_retry(f->store, TEAM_LOCAL, id, NULL, "", &again, NULL));
    assert_string_equal(again.retry_of, id);
    assert_string_not_equal(again.id, id);
    assert_int_equal(again.priority, 3);
    assert_int_equal(again.state, JOB_QUEUED);
    assert_int_equal(again.attempt, 0);
    assert_null(again.problem);
    assert_int_equal(state_of(f->store, id), JOB_FAILED);
    job_release(&again);
}

/* ---- lists ---- */

static void lists_page_without_gaps_and_filter(void **state)
{
    struct fixture *f = *state;
    char ids[7][ID_SIZE];
    struct job_request r = fixture_request(f);
    for (int i = 0; i < 7; i++) {
        struct job job;
        r.labels = i % 2 ? "{\"env\":\"ci\",\"n\":\"odd\"}" : "{\"env\":\"ci\"}";
        assert_true(job_insert(f->store, TEAM_LOCAL, &r, &job, NULL));
        memcpy(ids[i], job.id, ID_SIZE);
        job_release(&job);
    }
    for (int up = 0; up < 2; up++) {
        struct page page = { .limit = 3, .ascending = up };
        struct job_filter any = { 0 };
        char cursor[ID_SIZE] = "";
        int seen = 0;
        for (bool more = true; more;) {
            struct job_list l;
            page.cursor = cursor;
            assert_true(job_list(f->store, TEAM_LOCAL, &any, page, &l, NULL));
            for (size_t i = 0; i < l.n; i++, seen++)
                assert_string_equal(l.items[i].id, ids[up ? seen : 6 - seen]);
            memcpy(cursor, l.items[l.n - 1].id, ID_SIZE);
            more = l.more;
            job_list_release(&l);
        }
        assert_int_equal(seen, 7);
    }
    struct claim c = claim_one(f->store, NULL);
    static const struct { unsigned states; const char *labels; size_t want; } rows[] = {
        { 0, NULL, 7 }, { 1u << JOB_RUNNING, NULL, 1 }, { 1u << JOB_QUEUED | 1u << JOB_RUNNING, NULL, 7 },
        { 1u << JOB_FAILED, NULL, 0 }, { 0, "{\"n\":\"odd\"}", 3 }, { 0, "{\"env\":\"ci\",\"n\":\"odd\"}", 3 },
        { 0, "{\"env\":\"ci\"}", 7 }, { 0, "{\"env\":\"%\"}", 0 }, { 0, "{\"x\":\"ci\"}", 0 },
        { 1u << JOB_RUNNING, "{\"n\":\"odd\"}", 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct job_list l;
        struct job_filter filter = { .states = rows[i].states, .labels = rows[i].labels };
        assert_true(job_list(f->store, TEAM_LOCAL, &filter, (struct page){ .limit = 100 }, &l, NULL));
        if (l.n != rows[i].want)
            fail_msg("row %zu: %zu jobs", i, l.n);
        job_list_release(&l);
    }
    assert_true(run_canceled(f->store, &c, NULL) == false);
}

/* ---- teams ---- */

static void another_team_finds_nothing(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct err e[9] = { 0 };
    struct job job;
    struct asset a;
    struct blob b;
    struct event_list events;
    struct layer_list layers;
    struct artifact_list arts;
    struct job_list jobs;
    int fd;
    uint64_t size;
    fixture_job(f, 0, id);
    assert_false(job_get(f->store, "other", id, &job, &e[0]));
    assert_false(job_cancel(f->store, "other", id, NULL, NULL, &job, &e[1]));
    assert_false(job_retry(f->store, "other", id, NULL, "", &job, &e[2]));
    assert_false(asset_get(f->store, "other", ASSET_MODEL, f->model, &a, &e[3]));
    assert_false(asset_delete(f->store, "other", ASSET_MODEL, f->model, &e[4]));
    assert_false(blob_open(f->store, "other", FIXTURE_DIGEST, false, &fd, &size, &e[5]));
    assert_false(event_list(f->store, "other", id, 0, 10, &events, &e[6]));
    assert_false(layer_list(f->store, "other", id, LAYER_INDEX, false, &layers, &e[7]));
    assert_false(artifact_list(f->store, "other", id, &arts, &e[8]));
    for (int i = 0; i < 9; i++)
        if (e[i].code != ERR_NOT_FOUND)
            fail_msg("%d: %s", i, e[i].text);
    assert_true(job_list(f->store, "other", &(struct job_filter){ 0 }, (struct page){ .limit = 10 }, &jobs, NULL));
    assert_int_equal(jobs.n, 0);
    struct job_request r = fixture_request(f);
    struct err why = { 0 };
    assert_false(job_insert(f->store, "other", &r, &job, &why));
    assert_int_equal(why.code, ERR_NOT_FOUND);
    /* A digest tells another team nothing: the upload is new to it, and then it has its own. */
    assert_false(blob_get(f->store, "other", FIXTURE_DIGEST, &b, NULL));
    b = fixture_blob(f, "other", "hello");
    assert_false(b.existed);
    assert_true(blob_get(f->store, "other", FIXTURE_DIGEST, &b, NULL));
}

/* ---- models and data sets ---- */

static void an_asset_comes_back_as_it_was_stored(void **state)
{
    struct fixture *f = *state;
    struct asset_file files[2] = { { .path = "model.onnx", .digest = FIXTURE_DIGEST }, { .path = "weights.bin" } };
    struct blob b = fixture_blob(f, TEAM_LOCAL, "weights");
    memcpy(files[1].digest, b.digest, sizeof b.digest);
    struct asset a = { .kind = ASSET_MODEL, .name = "deit", .format = "onnx", .inventory = (char *)(uintptr_t)"{\"ops\":[]}",
                       .files = files, .nfiles = 2 };
    struct asset got;
    struct err e = { 0 };
    if (!asset_insert(f->store, TEAM_LOCAL, &a, NULL, &e))
        fail_msg("%s", e.text);
    assert_true(asset_get(f->store, TEAM_LOCAL, ASSET_MODEL, a.id, &got, NULL));
    assert_string_equal(got.name, "deit");
    assert_string_equal(got.inventory, "{\"ops\":[]}");
    assert_int_equal(got.nfiles, 2);
    assert_string_equal(got.files[1].path, "weights.bin");
    assert_int_equal(got.bytes, 5 + 7);
    assert_string_not_equal(got.digest, FIXTURE_DIGEST);
    asset_release(&got);
    assert_false(asset_get(f->store, TEAM_LOCAL, ASSET_DATASET, a.id, &got, NULL));
    memcpy(files[1].path, "model.onnx", 11);
    assert_false(asset_insert(f->store, TEAM_LOCAL, &a, NULL, NULL));
    struct asset_list l;
    assert_true(asset_list(f->store, TEAM_LOCAL, ASSET_MODEL, (struct page){ .limit = 1 }, &l, NULL));
    assert_true(l.n == 1 && l.more);
    asset_list_release(&l);
}

static void an_asset_in_use_stays_until_the_job_has_ended(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct job job;
    struct err e = { 0 };
    fixture_job(f, 0, id);
    assert_false(asset_delete(f->store, TEAM_LOCAL, ASSET_DATASET, f->dataset, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    assert_true(job_cancel(f->store, TEAM_LOCAL, id, NULL, NULL, &job, NULL));
    job_release(&job);
    assert_true(asset_delete(f->store, TEAM_LOCAL, ASSET_DATASET, f->dataset, NULL));
    e = (struct err){ 0 };
    assert_false(asset_delete(f->store, TEAM_LOCAL, ASSET_DATASET, f->dataset, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

/* ---- restarts ---- */

static void a_restart_puts_everything_where_it_belongs(void **state)
{
    struct fixture *f = *state;
    char runs[ID_SIZE], worn[ID_SIZE], stops[ID_SIZE], waits[ID_SIZE];
    struct job job;
    enum job_state to;
    fixture_job(f, 9, worn);
    for (int i = 1; i < JOB_MAX_ATTEMPTS; i++) {
        struct claim c = claim_one(f->store, NULL);
        assert_true(run_lost(f->store, &c, "{}", &to, NULL));
    }
    claim_one(f->store, NULL);
    fixture_job(f, 8, runs);
    claim_one(f->store, NULL);
    fixture_job(f, 7, stops);
    claim_one(f->store, NULL);
    assert_true(job_cancel(f->store, TEAM_LOCAL, stops, NULL, NULL, &job, NULL));
    job_release(&job);
    fixture_job(f, 0, waits);

    for (int again = 0; again < 2; again++) {           /* a second recovery finds nothing to do */
        struct recovery r;
        fixture_reopen(f);
        assert_true(store_recover(f->store, &r, NULL));
        assert_int_equal(r.requeued, again ? 0 : 1);
        assert_int_equal(r.failed, again ? 0 : 1);
        assert_int_equal(r.canceled, again ? 0 : 1);
        assert_int_equal(state_of(f->store, runs), JOB_QUEUED);
        assert_int_equal(state_of(f->store, worn), JOB_FAILED);
        assert_int_equal(state_of(f->store, stops), JOB_CANCELED);
        assert_int_equal(state_of(f->store, waits), JOB_QUEUED);
    }
    assert_true(job_get(f->store, TEAM_LOCAL, worn, &job, NULL));
    assert_non_null(strstr(job.problem, "worker.lost"));
    job_release(&job);
    claim_one(f->store, &job);
    assert_string_equal(job.id, runs);
    assert_int_equal(job.attempt, 2);                   /* the lost attempt counts */
    job_release(&job);
}

static void two_daemons_cannot_have_one_folder(void **state)
{
    struct fixture *f = *state;
    struct err e = { 0 };
    assert_null(store_open(f->dir, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
}

static int user_version(const char *dir, const char *set)
{
    char path[300];
    sqlite3 *lite;
    sqlite3_stmt *s;
    snprintf(path, sizeof path, "%s/repquant.db", dir);
    assert_int_equal(sqlite3_open(path, &lite), SQLITE_OK);
    if (set)
        assert_int_equal(sqlite3_exec(lite, set, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(lite, "PRAGMA user_version", -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int version = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(lite);
    return version;
}

static const char *plan_of(enum sql which, sqlite3 *lite, sqlite3_stmt **ret)
{
    static const char *const texts[] = {
#define X(name, text) [SQL_##name] = text,
        SQL_STATEMENTS(X)
#undef X
    };
    char plan[2000];
    assert_true(snprintf(plan, sizeof plan, "EXPLAIN QUERY PLAN %s", texts[which]) < (int)sizeof plan);
    assert_int_equal(sqlite3_prepare_v2(lite, plan, -1, ret, NULL), SQLITE_OK);
    return texts[which];
}

/* A claim that read the whole queue would cost more with every job in it, a job that read all models of its team with every one of them; one job of
 * each team may be read. */
static void what_each_job_runs_through_is_found_by_an_index(void **state)
{
    static const enum sql each[] = { SQL_QUEUE_NEXT, SQL_JOB_NEEDS, SQL_JOB_ESTIMATE, SQL_WEBHOOK_WANTING, SQL_ASSET_GET };
    struct fixture *f = *state;
    char path[300];
    sqlite3 *lite;
    snprintf(path, sizeof path, "%s/repquant.db", f->dir);
    assert_int_equal(sqlite3_open(path, &lite), SQLITE_OK);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        sqlite3_stmt *s;
        int steps = 0;
        const char *text = plan_of(each[i], lite, &s);
        for (; sqlite3_step(s) == SQLITE_ROW; steps++) {
            const char *step = (const char *)sqlite3_column_text(s, 3);
            if ((strncmp(step, "SCAN", 4) == 0 && strcmp(step, "SCAN s") != 0) || strstr(step, "s_team (team=?)"))
                fail_msg("it reads all: %s: %s", step, text);
        }
        assert_true(steps > 0);
        sqlite3_finalize(s);
    }
    sqlite3_close(lite);
}

static void migrating_twice_changes_nothing_and_a_newer_file_is_refused(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct err e = { 0 };
    fixture_job(f, 0, id);
    fixture_reopen(f);
    assert_int_equal(state_of(f->store, id), JOB_QUEUED);
    store_close(f->store);
    f->store = NULL;
    assert_true(user_version(f->dir, NULL) >= 1);
    user_version(f->dir, "PRAGMA user_version = 999");
    assert_null(store_open(f->dir, &e));
    assert_int_equal(e.code, ERR_CONFIG);
}

/* ---- tokens ---- */

static void a_token_opens_until_it_expires_or_is_deleted(void **state)
{
    struct fixture *f = *state;
    struct token t, got;
    char text[TOKEN_TEXT_SIZE], gone[TOKEN_TEXT_SIZE];
    bool any;
    assert_true(token_any_admin(f->store, &any, NULL) && !any);
    assert_true(token_create(f->store, "red", "ci", "jobs:read jobs:write", 0, &t, text, NULL));
    assert_int_equal(strlen(text), 46);
    assert_true(token_verify(f->store, text, &got, NULL));
    assert_string_equal(got.team, "red");
    assert_string_equal(got.scopes, "jobs:read jobs:write");
    assert_true(token_create(f->store, "red", "old", "admin", clock_now_us() - 1, &got, gone, NULL));
    assert_true(token_any_admin(f->store, &any, NULL) && !any);        /* it has expired */
    struct err e = { 0 };
    assert_false(token_verify(f->store, gone, &got, &e));
    assert_int_equal(e.code, ERR_AUTH_REQUIRED);
    static const char *const bad[] = { "", "rq_", "rq_x", "Bearer", "rq_0000000000000000000000000000000000000000000" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(token_verify(f->store, bad[i], &got, NULL));
    text[10] = text[10] == 'a' ? 'b' : 'a';
    assert_false(token_verify(f->store, text, &got, NULL));
    struct token_list l;
    assert_true(token_list(f->store, "red", (struct page){ .limit = 9, .ascending = true }, &l, NULL));
    assert_int_equal(l.n, 2);
    assert_false(l.more);
    token_list_release(&l);
    assert_false(token_delete(f->store, "blue", t.id, NULL));
    assert_true(token_delete(f->store, "red", t.id, NULL));
    assert_false(token_delete(f->store, "red", t.id, NULL));
}

static uint64_t commits(void)
{
    struct metric_histogram m;
    metric_histogram(METRIC_COMMIT_SECONDS, 0, &m);
    return m.count;
}

static int64_t last_used(struct fixture *f, const char *id)
{
    struct token t;
    assert_true(token_get(f->store, TEAM_LOCAL, id, &t, NULL));
    return t.last_used_at;
}

/* Who lets somebody in must not wait for the disk. */
static void uses_are_noted_without_a_write_and_written_together(void **state)
{
    enum { TOKENS = 2 };
    struct fixture *f = *state;
    struct token t[TOKENS], got;
    struct session session;
    struct session_list l;
    char text[TOKENS][TOKEN_TEXT_SIZE], secret[TOKEN_TEXT_SIZE];
    for (int i = 0; i < TOKENS; i++)
        assert_true(token_create(f->store, TEAM_LOCAL, "ci", "admin", 0, &t[i], text[i], NULL));
    assert_true(session_create(f->store, &t[0], &session, secret, NULL));
    uint64_t before = commits();
    int64_t began = clock_now_us();
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < TOKENS; k++)
            assert_true(token_verify(f->store, text[k], &got, NULL));
    used_note(f->store, SQL_SESSION_USED, session.id, began + 5);
    used_note(f->store, SQL_SESSION_USED, session.id, began + 4);
    assert_int_equal(commits(), before);
    assert_int_equal(last_used(f, t[0].id), 0);
    assert_true(used_flush(f->store, NULL));
    assert_int_equal(commits(), before + 1);
    for (int k = 0; k < TOKENS; k++)
        assert_in_range(last_used(f, t[k].id), began, clock_now_us());
    assert_true(session_list(f->store, TEAM_LOCAL, t[0].id, (struct page){ .limit = 9 }, &l, NULL));
    assert_int_equal(l.items[0].last_used_at, began + 5);
    session_list_release(&l);
    assert_true(token_verify(f->store, text[0], &got, NULL));       /* it is known to have been used a moment ago */
    assert_true(used_flush(f->store, NULL));                        /* nothing waits */
    assert_int_equal(commits(), before + 1);
}

static void of_more_uses_than_there_is_room_for_some_are_noted_later(void **state)
{
    struct fixture *f = *state;
    struct token t;
    char text[TOKEN_TEXT_SIZE], id[ID_SIZE];
    assert_true(token_create(f->store, TEAM_LOCAL, "ci", "admin", 0, &t, text, NULL));
    for (int i = 0; i < 4 * USED_WAITING; i++) {
        snprintf(id, sizeof id, "tok_%d", i);
        used_note(f->store, SQL_TOKEN_USED, id, 1);
    }
    assert_int_equal(f->store->used.n, USED_WAITING);
    used_note(f->store, SQL_TOKEN_USED, t.id, 7);
    assert_true(used_flush(f->store, NULL));
    assert_int_equal(last_used(f, t.id), 0);
    used_note(f->store, SQL_TOKEN_USED, t.id, 8);
    fixture_reopen(f);                                              /* what waits is written at the end, too */
    assert_int_equal(last_used(f, t.id), 8);
}

/* ---- the watcher ---- */

struct heard { int n; char job[ID_SIZE]; };
static void hear(void *arg, const char *team, const char *job_id)
{
    struct heard *h = arg;
    assert_string_equal(team, TEAM_LOCAL);
    h->n++;
    snprintf(h->job, sizeof h->job, "%s", job_id);
}

static void every_commit_with_an_event_is_told_to_the_watcher(void **state)
{
    struct fixture *f = *state;
    struct heard h = { 0 };
    char id[ID_SIZE];
    store_watch(f->store, hear, &h);
    fixture_job(f, 0, id);
    assert_int_equal(h.n, 1);
    assert_string_equal(h.job, id);
    struct claim c = claim_one(f->store, NULL);
    assert_int_equal(h.n, 2);
    assert_true(run_requeue(f->store, &c, NULL));
    assert_int_equal(h.n, 3);
    assert_false(run_requeue(f->store, &c, NULL));      /* rolled back: nothing to hear */
    assert_int_equal(h.n, 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_moves_only_along_the_arrows),
        cmocka_unit_test(names_of_states_and_stages_read_back),
        cmocka_unit_test(ids_of_one_process_only_grow),
        cmocka_unit_test(only_an_id_with_the_right_prefix_is_valid),
        T(jobs_are_claimed_by_priority_then_age),
        T(four_threads_never_claim_the_same_job),
        T(a_stale_claim_changes_nothing),
        T(nothing_is_written_about_a_job_that_has_ended),
        T(a_finished_job_shows_everything_it_left),
        T(layers_sort_by_a_column_and_the_unknown_come_last),
        T(canceling_a_queued_job_ends_it_and_a_running_one_waits),
        T(a_job_that_ended_otherwise_cannot_be_canceled),
        T(the_third_lost_attempt_fails_the_job),
        T(a_shutdown_does_not_count_as_an_attempt),
        T(a_retry_is_a_new_job_like_the_old_one),
        T(lists_page_without_gaps_and_filter),
        T(another_team_finds_nothing),
        T(an_asset_comes_back_as_it_was_stored),
        T(an_asset_in_use_stays_until_the_job_has_ended),
        T(a_restart_puts_everything_where_it_belongs),
        T(two_daemons_cannot_have_one_folder),
        T(what_each_job_runs_through_is_found_by_an_index),
        T(migrating_twice_changes_nothing_and_a_newer_file_is_refused),
        T(a_token_opens_until_it_expires_or_is_deleted),
        T(uses_are_noted_without_a_write_and_written_together),
        T(of_more_uses_than_there_is_room_for_some_are_noted_later),
        T(every_commit_with_an_event_is_told_to_the_watcher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
