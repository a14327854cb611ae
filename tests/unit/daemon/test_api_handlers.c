/* Handlers, called as the HTTP server calls them but without sockets, on a real store. */
#include "tests/unit/daemon/api_fixture.h"

#include "api/handlers.h"
#include "core/base/io.h"
#include "core/base/metric.h"
#include "storage/result.h"

#include <errno.h>

#define DIGEST_A "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"      /* of "a" */

static void bytes_are_stored_under_their_digest_once(void **state)
{
    struct api a;
    api_open(&a, *state);
    assert_int_equal(api_upload(&a, "/v1/blobs/" DIGEST_A, "a"), 201);
    assert_string_equal(api_text(&a, "digest"), DIGEST_A);
    assert_int_equal(api_upload(&a, "/v1/blobs/" DIGEST_A, "a"), 200);
    assert_int_equal(api_call(&a, "GET", "/v1/blobs/" DIGEST_A, NULL), 200);
    assert_int_equal(a.reply.length, 1);
    api_close(&a);
}

static void bytes_that_are_not_those_announced_are_not_kept(void **state)
{
    struct api a;
    api_open(&a, *state);
    assert_int_equal(api_upload(&a, "/v1/blobs/" DIGEST_A, "b"), 422);
    assert_string_equal(api_text(&a, "code"), "upload.digest_mismatch");
    assert_int_equal(api_call(&a, "GET", "/v1/blobs/" DIGEST_A, NULL), 404);
    assert_int_equal(api_upload(&a, "/v1/blobs/sha256:CA", "b"), 400);
    api_close(&a);
}

static void another_teams_rows_do_not_exist(void **state)
{
    struct api a;
    struct token token;
    char text[TOKEN_TEXT_SIZE], path[128];
    api_open(&a, *state);
    assert_true(token_create(a.fixture->store, "other", "o", "admin", 0, &token, text, NULL));
    a.token = text;
    assert_int_equal(api_call(&a, "GET", "/v1/blobs/" FIXTURE_DIGEST, NULL), 404);
    snprintf(path, sizeof path, "/v1/models/%s", a.fixture->model);
    assert_int_equal(api_call(&a, "GET", path, NULL), 404);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 404);
    assert_int_equal(api_call(&a, "GET", "/v1/models", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 0);
    assert_int_equal(api_upload(&a, "/v1/blobs/" FIXTURE_DIGEST, "hello"), 201);     /* not 200: it tells nothing of the first team */
    api_close(&a);
}

static void a_model_is_registered_from_blobs_with_its_inventory(void **state)
{
    struct api a;
    char path[128];
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "POST", "/v1/models",
                              "{\"name\":\"deit\",\"format\":\"onnx\",\"files\":[{\"path\":\"m.onnx\",\"digest\":\"" FIXTURE_DIGEST "\"}]}"), 201);
    assert_true(json_is_object(json_object_get(json_object_get(a.json, "inventory"), "ops")));
    snprintf(path, sizeof path, "%s", api_field(&a, "Location"));
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(api_text(&a, "name"), "deit");
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 204);
    assert_int_equal(api_call(&a, "GET", path, NULL), 404);
    api_close(&a);
}

static void a_wrong_member_is_named_by_its_pointer(void **state)
{
    static const struct { const char *body, *pointer; int status; } cases[] = {
        { "{\"name\":\"x\",\"files\":[{\"path\":\"m\",\"digest\":\"" DIGEST_A "\"}]}", "/files/0/digest", 422 },   /* nobody uploaded it */
        { "{\"name\":\"x\",\"files\":[{\"path\":\"m\",\"digest\":\"sha256:0\"}]}", "/files/0/digest", 400 },
        { "{\"name\":\"x\",\"files\":[{\"path\":\"../m\",\"digest\":\"" FIXTURE_DIGEST "\"}]}", "/files/0/path", 400 },
        { "{\"name\":\"x\",\"files\":[{\"path\":\"/m\",\"digest\":\"" FIXTURE_DIGEST "\"}]}", "/files/0/path", 400 },
        { "{\"name\":\"x\",\"files\":[{\"path\":\"a/..\",\"digest\":\"" FIXTURE_DIGEST "\"}]}", "/files/0/path", 400 },
        { "{\"name\":\"x\",\"files\":[{\"path\":\"m\",\"digest\":\"" FIXTURE_DIGEST "\",\"size\":3}]}", "/files/0/size", 400 },
        { "{\"name\":\"x\",\"files\":[{\"path\":\"m\",\"digest\":\"" FIXTURE_DIGEST "\"},{\"path\":\"m\",\"digest\":\"" FIXTURE_DIGEST "\"}]}",
          "/files/1/path", 400 },
        { "{\"name\":\"x\",\"files\":[7]}", "/files/0", 400 },
        { "{\"name\":\"x\",\"files\":[]}", "/files", 400 },
        { "{\"name\":\"x\"}", "/files", 400 },
        { "{\"name\":\"\",\"digest\":\"" FIXTURE_DIGEST "\"}", "/name", 400 },
        { "{\"name\":\"a\\nb\",\"digest\":\"" FIXTURE_DIGEST "\"}", "/name", 400 },
        { "{\"name\":7,\"digest\":\"" FIXTURE_DIGEST "\"}", "/name", 400 },
        { "{\"digest\":\"" FIXTURE_DIGEST "\"}", "/name", 400 },
        { "{\"name\":\"x\",\"format\":\"gguf\",\"digest\":\"" FIXTURE_DIGEST "\"}", "/format", 400 },
        { "{\"name\":\"x\",\"digest\":\"" FIXTURE_DIGEST "\",\"files\":[]}", "/digest", 400 },
        { "{\"name\":\"x\",\"digest\":\"" FIXTURE_DIGEST "\",\"colour\":1}", "/colour", 400 },
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = api_call(&a, "POST", "/v1/models", cases[i].body);
        if (status != cases[i].status || strcmp(api_text(&a, "pointer"), cases[i].pointer) != 0)
            fail_msg("%s: %d at %s: %s", cases[i].body, status, api_text(&a, "pointer"), api_text(&a, "detail"));
    }
    assert_int_equal(a.server.inspections, 0);
    api_close(&a);
}

static void a_body_that_is_not_the_json_we_take_is_refused(void **state)
{
    static char deep[40001];
    static const char *const bodies[] = { "", "[]", "7", "{", "{}x", "{\"a\":1,\"a\":2}", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "\xef\xbb\xbf{}",
                                          "{\"a\":NaN}", "{\"a\":\"\xff\"}", deep };
    struct api a;
    api_open(&a, *state);
    memset(deep, '[', sizeof deep - 1);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        if (api_call(&a, "POST", "/v1/jobs", bodies[i]) != 400 || strcmp(api_text(&a, "code"), "request.json") != 0)
            fail_msg("%.40s: %d %s", bodies[i], a.status, api_text(&a, "code"));
    }
    api_close(&a);
}

static void a_file_that_cannot_be_used_leaves_no_model(void **state)
{
    struct api a;
    api_open(&a, *state);
    a.server.inventory = NULL;
    assert_int_equal(api_upload(&a, "/v1/models?name=broken", "not onnx"), 422);
    assert_string_equal(api_text(&a, "code"), "model.format");
    assert_int_equal(api_call(&a, "GET", "/v1/models", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 1);         /* the fixture's */
    api_close(&a);
}

static void one_step_uploads_take_their_name_from_the_query_or_the_path(void **state)
{
    struct api a;
    api_open(&a, *state);
    assert_int_equal(api_upload(&a, "/v1/models?name=deit%20tiny", "m"), 201);
    assert_string_equal(api_text(&a, "name"), "deit tiny");
    assert_int_equal(api_upload(&a, "/v1/models/vit.onnx", "m"), 201);
    assert_string_equal(api_text(&a, "name"), "vit.onnx");
    a.server.inventory = "{\"format\":\"npz\",\"samples\":4}";
    assert_int_equal(api_upload(&a, "/v1/datasets/calib.npz?name=calib", "d"), 201);
    assert_string_equal(api_text(&a, "name"), "calib");
    assert_string_equal(api_text(&a, "format"), "npz");
    assert_int_equal(api_upload(&a, "/v1/datasets?format=safetensors", "d"), 422);
    assert_string_equal(api_text(&a, "code"), "dataset.format");
    api_close(&a);
}

/* {"type": "quantize", model, data set, recipe, more} of the fixture's model and data set. */
static const char *job_body(const struct api *a, const char *recipe, const char *more)
{
    static char text[2048];
    snprintf(text, sizeof text, "{\"type\":\"quantize\",\"model_id\":\"%s\",\"dataset_id\":\"%s\",\"recipe\":%s%s}", a->fixture->model,
             a->fixture->dataset, recipe, more);
    return text;
}

static void a_job_is_queued_with_its_complete_recipe(void **state)
{
    struct api a;
    char path[96];
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", ",\"priority\":9,\"labels\":{\"team\":\"vision\"}")), 202);
    assert_int_equal(a.server.kicks, 1);
    assert_string_equal(api_text(&a, "state"), "queued");
    assert_string_equal(api_text(&a, "request.labels.team"), "vision");
    assert_string_equal(api_text(&a, "recipe.method"), "minmax");
    snprintf(path, sizeof path, "%s", api_field(&a, "Location"));
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "queue"), "ahead")), 0);
    assert_string_equal(api_text(&a, "urls.self"), path);
    char created[40];              /* the id was made a moment before, perhaps in another millisecond */
    snprintf(created, sizeof created, "%s", api_text(&a, "created_at"));
    assert_true(strcmp(created, api_text(&a, "timestamps.queued")) <= 0);
    api_close(&a);
}

static void a_job_that_could_not_run_is_refused_when_it_is_asked_for(void **state)
{
    static const struct { const char *recipe, *more, *pointer; int status; } cases[] = {
        { "\"minmax-w9a9\"", "", "/recipe", 422 },
        { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":64}}", "", "/recipe/weights/bits", 422 },
        { "{\"preset\":\"minmax-w8a8\",\"colour\":1}", "", "/recipe/colour", 422 },
        { "7", "", "/recipe", 422 },
        { "\"minmax-w8a8\"", ",\"priority\":10", "/priority", 400 },
        { "\"minmax-w8a8\"", ",\"priority\":1.5", "/priority", 400 },
        { "\"minmax-w8a8\"", ",\"labels\":[]", "/labels", 400 },
        { "\"minmax-w8a8\"", ",\"labels\":{\"a\":1}", "/labels", 400 },
        { "\"minmax-w8a8\"", ",\"labels\":{\"a:b\":\"c\"}", "/labels", 400 },
        { "\"minmax-w8a8\"", ",\"eval_dataset_id\":\"ds_00000000000000000000000000\"", "/eval_dataset_id", 422 },
        { "\"minmax-w8a8\"", ",\"webhook\":\"https://h.example\"", "/webhook", 400 },
        { "\"minmax-w8a8\"", ",\"webhook\":{}", "/webhook/url", 400 },
        { "\"minmax-w8a8\"", ",\"webhook\":{\"events\":[\"job.succeeded\",\"job.done\"]}", "/webhook/events/1", 400 },
        { "\"minmax-w8a8\"", ",\"webhook\":{\"events\":[]}", "/webhook/events", 400 },
        { "\"minmax-w8a8\"", ",\"webhook\":{\"secret\":\"whsec_c2hvcnQ=\"}", "/webhook/secret", 400 },
        { "\"minmax-w8a8\"", ",\"hook\":{}", "/hook", 400 },
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = api_call(&a, "POST", "/v1/jobs", job_body(&a, cases[i].recipe, cases[i].more));
        if (status != cases[i].status || strcmp(api_text(&a, "pointer"), cases[i].pointer) != 0)
            fail_msg("%s%s: %d at %s: %s", cases[i].recipe, cases[i].more, status, api_text(&a, "pointer"), api_text(&a, "detail"));
    }
    assert_int_equal(api_call(&a, "POST", "/v1/jobs",
                              "{\"type\":\"quantize\",\"model_id\":\"mdl_x\",\"dataset_id\":\"ds_x\",\"recipe\":\"minmax-w8a8\"}"), 422);
    assert_string_equal(api_text(&a, "pointer"), "/model_id");
    assert_int_equal(a.server.kicks, 0);
    api_close(&a);
}

static int post_with_key_to(struct api *a, const char *path, const char *body, const char *key)
{
    const char *const fields[] = { "Content-Type", "application/json", "Idempotency-Key", key, NULL };
    return api_call_with(a, "POST", path, body, fields);
}

static int post_with_key(struct api *a, const char *body, const char *key) { return post_with_key_to(a, "/v1/jobs", body, key); }

static bool foresee_numbers_at_the_ends(void *server, const char *team, const struct foresight *of, char **ret_json, struct err *e)
{
    (void)server, (void)team, (void)of, (void)e;
    *ret_json = strdup("{\"estimate\": {\"memory_bytes\": 9223372036854775807, \"fixed_bytes\": -4611686018427387904, \"budget_bytes\": -1,"
                       " \"samples\": 4611686018427387904}, \"problems\": []}");
    return *ret_json;
}

/* The process that looks into a stranger's model may no longer be ours. */
static void an_estimate_that_no_machine_could_give_refuses_the_job_in_numbers_that_do_not_overflow(void **state)
{
    struct api a;
    api_open(&a, *state);
    a.app.foresee = foresee_numbers_at_the_ends;
    a.app.jobs_memory = 1 << 30;
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", "")), err_http_status(ERR_MEMORY_LIMIT));
    assert_string_equal(api_text(&a, "code"), err_slug(ERR_MEMORY_LIMIT));
    if (!strstr(api_text(&a, "detail"), "about 8589934592 MiB") || !strstr(api_text(&a, "detail"), "about 1073741824 of the 9007199254740992"))
        fail_msg("%s", api_text(&a, "detail"));
    api_close(&a);
}

static void a_repeated_request_with_the_same_key_makes_one_job(void **state)
{
    struct api a;
    char id[ID_SIZE], body[2048], path[96];
    api_open(&a, *state);
    snprintf(body, sizeof body, "%s", job_body(&a, "\"minmax-w8a8\"", ""));
    assert_int_equal(post_with_key(&a, body, "k1"), 202);
    assert_string_equal(api_field(&a, "Idempotency-Replayed"), "");
    snprintf(id, sizeof id, "%s", api_text(&a, "id"));
    char *first = strdup(a.reply.text);
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", id);
    assert_int_equal(api_call(&a, "POST", path, NULL), 202);         /* the answer stays what it was */
    assert_int_equal(post_with_key(&a, body, "k1"), 202);
    assert_string_equal(api_field(&a, "Idempotency-Replayed"), "true");
    assert_string_equal(api_field(&a, "Location") + 9, id);
    assert_string_equal(a.reply.text, first);
    free(first);
    assert_int_equal(post_with_key(&a, job_body(&a, "\"percentile-w8a8\"", ""), "k1"), 422);
    assert_string_equal(api_text(&a, "code"), "idempotency.key_reused");
    assert_int_equal(post_with_key(&a, body, "k2"), 202);
    assert_string_not_equal(api_text(&a, "id"), id);
    assert_int_equal(a.server.kicks, 2);
    api_close(&a);
}

static void a_key_also_covers_models_and_data_sets(void **state)
{
    static const char *const paths[] = { "/v1/models", "/v1/datasets" };
    struct api a;
    char body[256], first[64], path[96];
    api_open(&a, *state);
    struct blob blob = fixture_blob(a.fixture, TEAM_LOCAL, "once");
    snprintf(body, sizeof body, "{\"name\":\"once\",\"digest\":\"%s\"}", blob.digest);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(post_with_key_to(&a, paths[i], body, paths[i]), 201);
        assert_string_equal(api_field(&a, "Idempotency-Replayed"), "");
        snprintf(first, sizeof first, "%s", api_text(&a, "id"));
        char *text = strdup(a.reply.text);
        snprintf(path, sizeof path, "%s/%s", paths[i], first);
        assert_int_equal(api_call(&a, "DELETE", path, NULL), 204);      /* the answer stays what it was */
        assert_int_equal(post_with_key_to(&a, paths[i], body, paths[i]), 201);
        assert_string_equal(api_field(&a, "Idempotency-Replayed"), "true");
        assert_string_equal(api_field(&a, "Location"), path);
        assert_string_equal(a.reply.text, text);
        free(text);
        assert_int_equal(api_call(&a, "GET", path, NULL), 404);
        assert_int_equal(post_with_key_to(&a, paths[i], body, "another"), i ? 422 : 201);       /* of the models' path already */
        assert_int_equal(post_with_key_to(&a, paths[i], "{\"name\":\"x\",\"digest\":\"\"}", paths[i]), 422);
        assert_string_equal(api_text(&a, "code"), "idempotency.key_reused");
    }
    api_close(&a);
}

static void a_key_also_covers_a_retry(void **state)
{
    const char *const fields[] = { "Idempotency-Key", "again", NULL };
    struct api a;
    char id[ID_SIZE], second[ID_SIZE], path[96];
    api_open(&a, *state);
    fixture_job(a.fixture, 5, id);
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", id);
    assert_int_equal(api_call(&a, "POST", path, "{\"reason\":\"wrong data\"}"), 202);
    assert_string_equal(api_text(&a, "cancellation.reason"), "wrong data");
    assert_non_null(strstr(api_text(&a, "cancellation.by"), "tok_"));
    snprintf(path, sizeof path, "/v1/jobs/%s/retry", id);
    assert_int_equal(api_call_with(&a, "POST", path, NULL, fields), 202);
    snprintf(second, sizeof second, "%s", api_text(&a, "id"));
    assert_int_equal(api_call_with(&a, "POST", path, NULL, fields), 202);
    assert_string_equal(api_text(&a, "id"), second);
    assert_string_equal(api_field(&a, "Idempotency-Replayed"), "true");
    api_close(&a);
}

static void a_job_is_deleted_once_it_has_ended(void **state)
{
    struct api a;
    char id[ID_SIZE], path[96], cancel[96];
    api_open(&a, *state);
    fixture_job(a.fixture, 5, id);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    snprintf(cancel, sizeof cancel, "/v1/jobs/%s/cancel", id);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 409);
    assert_int_equal(api_call(&a, "POST", cancel, NULL), 202);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 204);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 404);
    assert_int_equal(api_call(&a, "GET", path, NULL), 404);
    api_close(&a);
}

static void what_a_job_waits_for_is_checked_and_shown(void **state)
{
    static const struct { const char *more, *pointer; } cases[] = {
        { ",\"not_before\":\"tomorrow\"", "/not_before" }, { ",\"not_before\":\"2026-02-30T00:00:00Z\"", "/not_before" },
        { ",\"not_before\":7", "/not_before" }, { ",\"deadline_s\":0", "/deadline_s" }, { ",\"deadline_s\":1.5", "/deadline_s" },
        { ",\"max_attempts\":0", "/max_attempts" }, { ",\"max_attempts\":101", "/max_attempts" }, { ",\"dedupe\":\"always\"", "/dedupe" },
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", cases[i].more)) != 400
            || strcmp(api_text(&a, "pointer"), cases[i].pointer) != 0)
            fail_msg("%s: %d at %s", cases[i].more, a.status, api_text(&a, "pointer"));
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", ",\"not_before\":\"2126-01-31T18:00:00.5+01:00\""
                                                               ",\"deadline_s\":60,\"max_attempts\":7")), 202);
    assert_string_equal(api_text(&a, "request.not_before"), "2126-01-31T17:00:00.500Z");
    assert_string_equal(api_text(&a, "deadline"), "2126-01-31T17:01:00.500Z");
    assert_int_equal(json_integer_value(json_object_get(a.json, "max_attempts")), 7);
    api_close(&a);
}

static void the_same_job_is_found_by_its_fingerprint(void **state)
{
    struct api a;
    char id[ID_SIZE];
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", ",\"dedupe\":\"reuse\"")), 202);
    assert_string_equal(api_text(&a, "cache"), "miss");
    snprintf(id, sizeof id, "%s", api_text(&a, "id"));
    /* A preset and the same recipe written out are one recipe; labels do not change the bytes. */
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "{\"preset\":\"minmax-w8a8\"}", ",\"labels\":{\"a\":\"b\"},\"dedupe\":\"reuse\"")), 202);
    assert_string_equal(api_text(&a, "cache"), "hit");
    assert_string_equal(api_text(&a, "id"), id);
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", ",\"dedupe\":\"reject\"")), 409);
    assert_non_null(strstr(api_text(&a, "detail"), id));
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"percentile-w8a8\"", ",\"dedupe\":\"reject\"")), 202);
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", "")), 202);
    assert_string_not_equal(api_text(&a, "id"), id);
    assert_string_equal(api_text(&a, "cache"), "miss");
    api_close(&a);
}

static void a_queued_job_is_canceled_and_asked_for_again(void **state)
{
    struct api a;
    char id[ID_SIZE], path[96];
    api_open(&a, *state);
    fixture_job(a.fixture, 5, id);
    snprintf(path, sizeof path, "/v1/jobs/%s/retry", id);
    assert_int_equal(api_call(&a, "POST", path, NULL), 409);        /* it has not ended */
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", id);
    assert_int_equal(api_call(&a, "POST", path, "{\"why\":1}"), 400);
    assert_int_equal(api_call(&a, "POST", path, NULL), 202);
    assert_string_equal(api_text(&a, "state"), "canceled");
    assert_int_equal(api_call(&a, "POST", path, "{}"), 202);
    snprintf(path, sizeof path, "/v1/jobs/%s/retry", id);
    assert_int_equal(api_call(&a, "POST", path, NULL), 202);
    assert_string_equal(api_text(&a, "retry_of"), id);
    assert_string_not_equal(api_text(&a, "id"), id);
    api_close(&a);
}

static void a_running_job_is_canceled_through_its_worker(void **state)
{
    struct api a;
    char id[ID_SIZE], path[96];
    struct claim claim;
    struct job job;
    struct err e = { 0 };
    api_open(&a, *state);
    fixture_job(a.fixture, 5, id);
    assert_true(run_claim(a.fixture->store, &(struct claim_terms){ .worker = "w", .lease_us = 1000000 }, &claim, &job, &e));
    job_release(&job);
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", id);
    assert_int_equal(api_call(&a, "POST", path, NULL), 202);
    assert_string_equal(api_text(&a, "state"), "canceling");
    assert_int_equal(a.server.cancels, 1);
    api_close(&a);
}

static void lists_are_cut_into_pages_and_filtered(void **state)
{
    struct api a;
    char id[ID_SIZE], path[128];
    int seen = 0;
    api_open(&a, *state);
    for (int i = 0; i < 5; i++)
        fixture_job(a.fixture, 5, id);
    snprintf(path, sizeof path, "/v1/jobs?limit=2&order=asc");
    for (;;) {
        assert_int_equal(api_call(&a, "GET", path, NULL), 200);
        seen += (int)json_array_size(api_data(&a));
        if (!*api_text(&a, "next_cursor"))
            break;
        snprintf(path, sizeof path, "/v1/jobs?limit=2&order=asc&cursor=%s", api_text(&a, "next_cursor"));
    }
    assert_int_equal(seen, 5);
    assert_int_equal(api_call(&a, "GET", "/v1/jobs?state=running,failed", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 0);
    assert_int_equal(api_call(&a, "GET", "/v1/jobs?state=queued&label=a:b", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 0);
    api_close(&a);
}

static void a_query_that_is_not_understood_is_refused(void **state)
{
    static const char *const targets[] = {
        "/v1/jobs?limit=0", "/v1/jobs?limit=201", "/v1/jobs?limit=5x", "/v1/jobs?limit=+5", "/v1/jobs?limit=", "/v1/jobs?limit=-1",
        "/v1/jobs?limit=99999999999999999999", "/v1/jobs?state=done", "/v1/jobs?state=", "/v1/jobs?state=queued,", "/v1/jobs?label=x",
        "/v1/jobs?label=:x", "/v1/jobs?cursor=1%27%20OR%201=1--", "/v1/jobs?cursor=mdl_00000000000000000000000000", "/v1/jobs?order=up",
        "/v1/jobs?colour=red", "/v1/models?state=queued", "/healthz?verbose=1", "/v1/jobs/x/layers?sort=1;drop", "/v1/jobs/x/layers?order=up",
        "/v1/jobs/x/events?after=-1", "/v1/jobs/x/report?format=pdf",
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (api_call(&a, "GET", targets[i], NULL) != 400)
            fail_msg("%s: %d", targets[i], a.status);
    api_close(&a);
}

static void results_exist_once_the_job_has_succeeded(void **state)
{
    struct api a;
    char id[ID_SIZE], path[128];
    struct claim claim;
    struct job job;
    struct err e = { 0 };
    struct result results[2] = { { .name = "report.json", .media_type = "application/json" },
                                 { .name = "details.json", .media_type = "application/json" } };
    api_open(&a, *state);
    struct blob report = fixture_blob(a.fixture, TEAM_LOCAL, "{\"layers\":[]}");
    struct blob details = fixture_blob(a.fixture, TEAM_LOCAL, "[{\"index\":0,\"name\":\"fc1\"}]");
    memcpy(results[0].digest, report.digest, sizeof report.digest);
    memcpy(results[1].digest, details.digest, sizeof details.digest);
    results[0].size = report.size;
    results[1].size = details.size;
    fixture_job(a.fixture, 5, id);
    snprintf(path, sizeof path, "/v1/jobs/%s/report", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 409);
    assert_true(run_claim(a.fixture->store, &(struct claim_terms){ .worker = "w", .lease_us = 1000000 }, &claim, &job, &e));
    job_release(&job);
    assert_true(run_layer(a.fixture->store, &claim, 1, "{\"name\":\"fc2\",\"cosine\":0.5}", &e));
    assert_true(run_layer(a.fixture->store, &claim, 0, "{\"name\":\"fc1\",\"cosine\":0.9}", &e));
    assert_true(run_finish(a.fixture->store, &claim, results, 2, "{\"top1\":0.7}", &e));

    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(a.reply.type, "application/json");
    snprintf(path, sizeof path, "/v1/jobs/%s/layers/0/details", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(api_text(&a, "name"), "fc1");
    snprintf(path, sizeof path, "/v1/jobs/%s/layers/7/details", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 404);
    snprintf(path, sizeof path, "/v1/jobs/%s/layers?sort=cosine&order=asc", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(api_data(&a), 0), "index")), 1);
    snprintf(path, sizeof path, "/v1/jobs/%s/artifacts", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 2);
    const json_t *one = json_array_get(api_data(&a), 0);
    snprintf(path, sizeof path, "/v1/artifacts/%s/content", json_string_value(json_object_get(one, "id")));
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(a.reply.type, "application/octet-stream");
    snprintf(path, sizeof path, "/v1/jobs/%s/events?after=1", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(api_data(&a), 0), "seq")), 2);
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(api_text(&a, "state"), "succeeded");
    assert_true(json_is_object(json_object_get(a.json, "result")));
    api_close(&a);
}

static void a_service_that_shuts_down_takes_no_new_work(void **state)
{
    struct api a;
    api_open(&a, *state);
    atomic_store(&a.app.draining, true);
    assert_int_equal(api_call(&a, "POST", "/v1/jobs", job_body(&a, "\"minmax-w8a8\"", "")), 503);
    assert_string_equal(api_text(&a, "code"), "service.draining");
    assert_string_not_equal(api_field(&a, "Retry-After"), "");
    assert_int_equal(api_upload(&a, "/v1/models?name=x", "m"), 503);
    assert_int_equal(api_call(&a, "GET", "/readyz", NULL), 503);
    assert_int_equal(api_call(&a, "GET", "/healthz", NULL), 200);
    assert_int_equal(api_call(&a, "GET", "/v1/jobs", NULL), 200);
    api_close(&a);
}

static bool at_hand(struct api *a)
{
    struct reply reply = REPLY_INIT;
    bool ok = readyz_at_hand(&a->app, &a->req, &reply);
    assert_true(!ok || (reply.status == 200 && strstr(reply.text, "\"ready\":true")));
    reply_release(&reply);
    return ok;
}

static void one_look_at_what_is_ready_serves_all_who_ask_within_a_second(void **state)
{
    struct api a;
    struct metric_histogram before, after;
    api_open(&a, *state);
    assert_false(at_hand(&a));
    metric_histogram(METRIC_COMMIT_SECONDS, 0, &before);
    for (int i = 0; i < 20; i++)
        assert_int_equal(api_call(&a, "GET", "/readyz", NULL), 200);
    metric_histogram(METRIC_COMMIT_SECONDS, 0, &after);
    assert_in_range(after.count - before.count, 1, 5);              /* 1, but on a machine that takes a second for some of them */
    atomic_store(&a.app.ready_until, INT64_MAX);
    assert_true(at_hand(&a));
    atomic_store(&a.app.draining, true);                            /* what is not well is said at once */
    assert_false(at_hand(&a));
    assert_int_equal(api_call(&a, "GET", "/readyz", NULL), 503);
    atomic_store(&a.app.draining, false);
    atomic_store(&a.app.ready_until, 0);
    assert_false(at_hand(&a));
    api_close(&a);
}

static int failing_fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void a_broken_store_is_said_at_once(void **state)
{
    struct api a;
    api_open(&a, *state);
    atomic_store(&a.app.ready_until, INT64_MAX);
    assert_true(at_hand(&a));
    int (*fsync_was)(int) = sys.fsync;
    sys.fsync = failing_fsync;
    assert_false(io_sync(0));
    sys.fsync = fsync_was;
    assert_false(at_hand(&a));
    assert_int_equal(api_call(&a, "GET", "/readyz", NULL), 503);
    io_sync_forget();
    api_close(&a);
}

static void about_the_service_is_told_to_whom_it_concerns(void **state)
{
    struct api a;
    char id[ID_SIZE];
    api_open(&a, *state);
    fixture_job(a.fixture, 5, id);
    assert_int_equal(api_call(&a, "GET", "/v1/queue", NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "jobs"), "queued")), 1);
    static const char *const bounds[] = { "memory", "pids", NULL };
    a.app.cgroup = bounds;
    assert_int_equal(api_call(&a, "GET", "/v1/capabilities", NULL), 200);
    assert_true(json_is_object(json_object_get(a.json, "recipe_schema")));
    const json_t *groups = json_object_get(json_object_get(a.json, "sandbox"), "cgroup");
    assert_int_equal(json_array_size(groups), 2);
    assert_string_equal(json_string_value(json_array_get(groups, 1)), "pids");
    assert_int_equal(api_call(&a, "GET", "/v1/recipes", NULL), 200);
    assert_true(json_array_size(api_data(&a)) > 0);
    assert_int_equal(api_call(&a, "GET", "/v1/recipes/minmax-w8a8", NULL), 200);
    assert_int_equal(api_call(&a, "GET", "/v1/recipes/none", NULL), 404);
    a.token = NULL;
    assert_int_equal(api_call(&a, "GET", "/", NULL), 200);
    api_close(&a);
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(bytes_are_stored_under_their_digest_once),
        WITH_STORE(bytes_that_are_not_those_announced_are_not_kept),
        WITH_STORE(another_teams_rows_do_not_exist),
        WITH_STORE(a_model_is_registered_from_blobs_with_its_inventory),
        WITH_STORE(a_wrong_member_is_named_by_its_pointer),
        WITH_STORE(a_body_that_is_not_the_json_we_take_is_refused),
        WITH_STORE(a_file_that_cannot_be_used_leaves_no_model),
        WITH_STORE(one_step_uploads_take_their_name_from_the_query_or_the_path),
        WITH_STORE(a_job_is_queued_with_its_complete_recipe),
        WITH_STORE(a_job_that_could_not_run_is_refused_when_it_is_asked_for),
        WITH_STORE(an_estimate_that_no_machine_could_give_refuses_the_job_in_numbers_that_do_not_overflow),
        WITH_STORE(a_repeated_request_with_the_same_key_makes_one_job),
        WITH_STORE(a_key_also_covers_models_and_data_sets),
        WITH_STORE(a_key_also_covers_a_retry),
        WITH_STORE(a_job_is_deleted_once_it_has_ended),
        WITH_STORE(what_a_job_waits_for_is_checked_and_shown),
        WITH_STORE(the_same_job_is_found_by_its_fingerprint),
        WITH_STORE(a_queued_job_is_canceled_and_asked_for_again),
        WITH_STORE(a_running_job_is_canceled_through_its_worker),
        WITH_STORE(lists_are_cut_into_pages_and_filtered),
        WITH_STORE(a_query_that_is_not_understood_is_refused),
        WITH_STORE(results_exist_once_the_job_has_succeeded),
        WITH_STORE(a_service_that_shuts_down_takes_no_new_work),
        WITH_STORE(one_look_at_what_is_ready_serves_all_who_ask_within_a_second),
        WITH_STORE(a_broken_store_is_said_at_once),
        WITH_STORE(about_the_service_is_told_to_whom_it_concerns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
