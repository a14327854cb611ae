/* test_teams.c - what a team has is there for it and for nobody else, whichever way it is asked for. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/clock.h"
#include "storage/audit.h"
#include "storage/idempotency.h"
#include "storage/result.h"
#include "storage/session.h"
#include "storage/team.h"
#include "storage/upload.h"
#include "storage/webhook.h"

static const struct page down = { .limit = 10 }, up = { .limit = 10, .ascending = true };
static const struct webhook_request hook_request = { .url = "https://hooks.example/", .origin = "hooks.example:443" };

/* One of each. */
struct things { char model[ID_SIZE], spare[ID_SIZE], queued[ID_SIZE], done[ID_SIZE], artifact[ID_SIZE], token[ID_SIZE], session[ID_SIZE],
                     hook[ID_SIZE], delivery[ID_SIZE], upload[ID_SIZE]; };
typedef bool ask_fn(struct store *s, const char *team, const struct things *x, struct err *e);

/* ---- lists: whether there is something in them ---- */

#define LIST(name, type, call, release)                                                                             \
    static bool name(struct store *s, const char *team, const struct things *x, struct err *e)                      \
    {                                                                                                               \
        type l = { 0 };                                                                                             \
        (void)x;                                                                                                    \
        bool some = (call) && l.n > 0;                                                                              \
        release(&l);                                                                                                \
        return some;                                                                                                \
    }
LIST(jobs_down, struct job_list, job_list(s, team, &(struct job_filter){ 0 }, down, &l, e), job_list_release)
LIST(jobs_up, struct job_list, job_list(s, team, &(struct job_filter){ 0 }, up, &l, e), job_list_release)
LIST(models_down, struct asset_list, asset_list(s, team, ASSET_MODEL, down, &l, e), asset_list_release)
LIST(models_up, struct asset_list, asset_list(s, team, ASSET_MODEL, up, &l, e), asset_list_release)
LIST(events, struct event_list, event_list(s, team, x->done, 0, 10, &l, e), event_list_release)
LIST(layers_up, struct layer_list, layer_list(s, team, x->done, LAYER_INDEX, false, &l, e), layer_list_release)
LIST(layers_down, struct layer_list, layer_list(s, team, x->done, LAYER_INDEX, true, &l, e), layer_list_release)
LIST(metrics, struct metric_list, metric_list(s, team, x->done, &l, e), metric_list_release)
LIST(artifacts, struct artifact_list, artifact_list(s, team, x->done, &l, e), artifact_list_release)
LIST(tokens_down, struct token_list, token_list(s, team, down, &l, e), token_list_release)
LIST(tokens_up, struct token_list, token_list(s, team, up, &l, e), token_list_release)
LIST(sessions_down, struct session_list, session_list(s, team, NULL, down, &l, e), session_list_release)
LIST(sessions_up, struct session_list, session_list(s, team, NULL, up, &l, e), session_list_release)
LIST(sessions_of_token, struct session_list, session_list(s, team, x->token, down, &l, e), session_list_release)
LIST(hooks_down, struct webhook_list, webhook_list(s, team, NULL, down, &l, e), webhook_list_release)
LIST(hooks_up, struct webhook_list, webhook_list(s, team, NULL, up, &l, e), webhook_list_release)
LIST(deliveries_down, struct delivery_list, delivery_list(s, team, x->hook, NULL, down, &l, e), delivery_list_release)
LIST(deliveries_up, struct delivery_list, delivery_list(s, team, x->hook, NULL, up, &l, e), delivery_list_release)
LIST(log_oldest, struct audit_list, audit_list(s, &(struct audit_wish){ .team = team, .limit = 10 }, &l, e), audit_list_release)
LIST(log_newest, struct audit_list, audit_list(s, &(struct audit_wish){ .team = team, .limit = 10, .newest_first = true }, &l, e), audit_list_release)

/* ---- one thing ---- */

#define ONE(name, type, call, release)                                                                              \
    static bool name(struct store *s, const char *team, const struct things *x, struct err *e)                      \
    {                                                                                                               \
        type one = { 0 };                                                                                           \
        (void)x, (void)one;                                                                                         \
        bool ok = (call);                                                                                           \
        if (ok)                                                                                                     \
            release(&one);                                                                                          \
        return ok;                                                                                                  \
    }
static void keep(void *one) { (void)one; }
ONE(a_job, struct job, job_get(s, team, x->queued, &one, e), job_release)
ONE(a_place, int64_t, queue_position(s, team, x->queued, &one, e), keep)
ONE(a_model, struct asset, asset_get(s, team, ASSET_MODEL, x->model, &one, e), asset_release)
ONE(a_blob, struct blob, blob_get(s, team, FIXTURE_DIGEST, &one, e), keep)
ONE(an_artifact, struct artifact, artifact_get(s, team, x->artifact, &one, e), keep)
ONE(an_artifact_by_job, struct artifact, artifact_find(s, team, x->done, "model.onnx", &one, e), keep)
ONE(a_token, struct token, token_get(s, team, x->token, &one, e), keep)
ONE(a_hook, struct webhook, webhook_get(s, team, x->hook, &one, e), keep)
ONE(a_delivery, struct delivery, delivery_get(s, team, x->hook, x->delivery, &one, e), delivery_release)
ONE(an_upload, struct upload, upload_get(s, team, x->upload, &one, e), upload_release)
ONE(counts, struct queue_counts, queue_count(s, team, &one, e) && one.jobs[JOB_QUEUED], keep)
ONE(history, struct queue_point, queue_history(s, team, clock_now_us(), 1000000, 1, &one, e) && one.depth, keep)
ONE(usage, struct team, team_get(s, team, &one, e) && one.used.queued && one.used.bytes, keep)

static bool an_estimate(struct store *s, const char *team, const struct things *x, struct err *e)
{
    char *text = NULL;
    (void)x;
    bool ok = job_estimate_find(s, team, "same", &text, e) && text;
    free(text);
    return ok;
}

static char *answer(const void *made, int *ret_status)
{
    (void)made;
    *ret_status = 202;
    return strdup("{}");
}

static const struct idempotency key = { .key = "key", .answer = answer };

static bool an_answer(struct store *s, const char *team, const struct things *x, struct err *e)
{
    struct answer a;
    (void)x;
    bool ok = idempotency_find(s, team, &key, &a, e) && a.body;
    free(a.body);
    return ok;
}

/* ---- changes ---- */

static bool model_of_bytes(struct store *s, const char *team, const struct things *x, struct err *e)
{
    struct asset_file file = { .path = "file", .digest = FIXTURE_DIGEST };
    struct asset a = { .kind = ASSET_MODEL, .name = "x", .format = "onnx", .files = &file, .nfiles = 1 };
    (void)x;
    return asset_insert(s, team, &a, NULL, e);
}

static bool submit(struct store *s, const char *team, const struct things *x, struct job_request r, struct err *e)
{
    struct job job;
    (void)x;
    r.type = "quantize";
    r.recipe = "{}";
    bool ok = job_insert(s, team, &r, &job, e);
    if (ok)
        job_release(&job);
    return ok;
}

static bool job_of_model(struct store *s, const char *team, const struct things *x, struct err *e)
{
    return submit(s, team, x, (struct job_request){ .model_id = x->spare }, e);
}

static bool part(struct store *s, const char *team, const struct things *x, struct err *e)
{
    struct upload_part p;
    bool ok = upload_resume(&p, s, team, x->upload, 2, e);
    if (ok)
        upload_abandon(&p);
    return ok;
}

static bool new_secret(struct store *s, const char *team, const struct things *x, struct err *e)
{
    struct webhook h;
    char secret[WEBHOOK_SECRET_SIZE];
    return webhook_rotate(s, team, x->hook, &h, secret, e);
}

ONE(hook_is_changed, struct webhook, webhook_change(s, team, x->hook, &(struct webhook_change){ .name = "n", .enabled = -1 }, &one, e), keep)
ONE(hook_is_pinged, struct delivery, webhook_ping(s, team, x->hook, &one, e), delivery_release)
ONE(delivered_again, struct delivery, delivery_again(s, team, x->hook, x->delivery, &one, e), delivery_release)
ONE(job_is_canceled, struct job, job_cancel(s, team, x->queued, NULL, NULL, &one, e), job_release)
ONE(job_is_retried, struct job, job_retry(s, team, x->queued, NULL, "", &one, e), job_release)
ONE(job_is_deleted, int, job_delete(s, team, x->done, e), keep)
ONE(hook_is_deleted, int, webhook_delete(s, team, x->hook, e), keep)
ONE(upload_is_deleted, int, upload_delete(s, team, x->upload, e), keep)
ONE(model_is_deleted, int, asset_delete(s, team, ASSET_MODEL, x->model, e), keep)
ONE(session_is_ended, int, session_delete(s, team, NULL, x->session, e), keep)
ONE(token_is_deleted, int, token_delete(s, team, x->token, e), keep)

/* In an order in which each finds what it needs. */
static const struct { const char *label; ask_fn *ask; } asks[] = {
#define A(name) { #name, name }
    A(jobs_down), A(jobs_up), A(models_down), A(models_up), A(events), A(layers_up), A(layers_down), A(metrics), A(artifacts),
    A(tokens_down), A(tokens_up), A(sessions_down), A(sessions_up), A(sessions_of_token), A(hooks_down), A(hooks_up),
    A(deliveries_down), A(deliveries_up), A(log_oldest), A(log_newest), A(a_job), A(a_place), A(a_model), A(a_blob), A(an_artifact),
    A(an_artifact_by_job), A(a_token), A(a_hook), A(a_delivery), A(an_upload), A(counts), A(history), A(usage), A(an_estimate),
    A(an_answer), A(model_of_bytes), A(job_of_model), A(part), A(new_secret), A(hook_is_changed), A(hook_is_pinged),
    A(delivered_again), A(job_is_canceled), A(job_is_retried), A(job_is_deleted), A(hook_is_deleted), A(upload_is_deleted),
    A(session_is_ended), A(token_is_deleted), A(model_is_deleted),
#undef A
};

/* ---- a team that has everything ---- */

static void must(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s: %s", e->where, e->text);
}

static void fill_job(struct fixture *f, struct things *x)
{
    struct claim_terms terms = { .worker = "w", .lease_us = 30000000 };
    struct claim c;
    struct job job;
    struct artifact_list l;
    struct err e = { 0 };
    struct result r = { .name = "model.onnx", .media_type = "x/y", .digest = FIXTURE_DIGEST, .size = 5 };
    fixture_job(f, 0, x->done);
    must(run_claim(f->store, &terms, &c, &job, &e), &e);
    job_release(&job);
    must(run_layer(f->store, &c, 0, "{}", &e) && run_metric(f->store, &c, "top1", 1, 1, 1, &e) && run_finish(f->store, &c, &r, 1, "{}", &e)
         && artifact_list(f->store, TEAM_LOCAL, x->done, &l, &e), &e);
    memcpy(x->artifact, l.items[0].id, ID_SIZE);
    artifact_list_release(&l);
    struct job_request again = fixture_request(f);
    again.fingerprint = "same";
    again.estimate = "{}";
    again.idempotency = key;
    again.model_id = x->spare;
    must(job_insert(f->store, TEAM_LOCAL, &again, &job, &e), &e);
    memcpy(x->queued, job.id, ID_SIZE);
    job_release(&job);
}

static struct things filled(struct fixture *f)
{
    struct things x;
    struct token token;
    struct session session;
    struct webhook hook;
    struct delivery delivery;
    struct upload_part p;
    struct upload upload;
    char text[TOKEN_TEXT_SIZE], secret[WEBHOOK_SECRET_SIZE];
    struct err e = { 0 };
    memcpy(x.model, f->model, ID_SIZE);
    fixture_asset(f, ASSET_MODEL, x.spare);
    fill_job(f, &x);
    must(token_create(f->store, TEAM_LOCAL, "t", "jobs:read", 0, &token, text, &e) && session_create(f->store, &token, &session, text, &e), &e);
    must(webhook_create(f->store, TEAM_LOCAL, &hook_request, &hook, secret, &e) && webhook_ping(f->store, TEAM_LOCAL, hook.id, &delivery, &e), &e);
    must(upload_begin(&p, f->store, TEAM_LOCAL, &(struct upload_wish){ .length = 5 }, &e) && upload_write(&p, "wo", 2, &e) && upload_end(&p, &upload, &e), &e);
    must(audit_add(f->store, &(struct audit){ .at = clock_now_us(), .team = TEAM_LOCAL, .method = "GET", .status = 403 }, &e), &e);
    must(team_create(f->store, "other", &(struct quota){ QUOTA_NONE, QUOTA_NONE, QUOTA_NONE }, &e), &e);
    memcpy(x.token, token.id, ID_SIZE);
    memcpy(x.session, session.id, ID_SIZE);
    memcpy(x.hook, hook.id, ID_SIZE);
    memcpy(x.delivery, delivery.id, ID_SIZE);
    memcpy(x.upload, upload.id, ID_SIZE);
    delivery_release(&delivery);
    return x;
}

static void what_a_team_has_is_nobody_elses(void **state)
{
    struct fixture *f = *state;
    struct things x = filled(f);
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        struct err e = { 0 };
        if (asks[i].ask(f->store, "other", &x, &e))
            fail_msg("another team: %s", asks[i].label);
        if (e.code && e.code != ERR_NOT_FOUND)
            fail_msg("another team: %s: %s", asks[i].label, e.text);
    }
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        struct err e = { 0 };
        if (!asks[i].ask(f->store, TEAM_LOCAL, &x, &e))
            fail_msg("the team itself: %s: %s", asks[i].label, e.text);
    }
}

static void a_job_is_told_to_its_own_teams_webhooks(void **state)
{
    struct fixture *f = *state;
    struct webhook hook;
    struct err e = { 0 };
    char secret[WEBHOOK_SECRET_SIZE], job[ID_SIZE];
    must(webhook_create(f->store, "other", &hook_request, &hook, secret, &e), &e);
    fixture_job(f, 0, job);
    assert_int_equal(fixture_pending(f), 0);
    must(webhook_create(f->store, TEAM_LOCAL, &hook_request, &hook, secret, &e), &e);
    fixture_job(f, 0, job);
    assert_int_equal(fixture_pending(f), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = { T(what_a_team_has_is_nobody_elses), T(a_job_is_told_to_its_own_teams_webhooks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
