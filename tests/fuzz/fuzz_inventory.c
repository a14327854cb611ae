/*
 * fuzz_inventory.c - libFuzzer over what the process that looks into uploads writes, as if it were no longer ours.  The first byte says what it was
 * asked; the rest is its result.json.  What is no result is refused; what is one becomes a row, which can be read, and is part of a job.
 */
#include "tests/unit/daemon/api_fixture.h"

#include "server/inspect.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUTS = 1000 };         /* to a store: it keeps what was registered */

static char *result;            /* of the process */

static bool tell(char **ret_json, struct err *e)
{
    if (!inspect_result_ok(result, strlen(result), e))
        return false;
    *ret_json = strdup(result);
    return true;
}

static bool tell_inventory(void *server, const char *team, enum asset_kind kind, const struct asset_file *files, size_t n,
                           char **ret_json, struct err *e)
{
    (void)server, (void)team, (void)kind, (void)files, (void)n;
    return tell(ret_json, e);
}

static bool tell_verdict(void *server, const char *team, const struct asset *model, const struct asset *data, char **ret_json, struct err *e)
{
    (void)server, (void)team, (void)model, (void)data;
    return tell(ret_json, e);
}

static bool tell_plan(void *server, const char *team, const struct foresight *of, char **ret_json, struct err *e)
{
    (void)server, (void)team, (void)of;
    return tell(ret_json, e);
}

/* An answer that is a document. */
static int call(struct api *a, const char *method, const char *target, const char *body)
{
    int status = api_call(a, method, target, body);
    assert(status >= 200 && status < 600 && json_is_object(a->json));
    assert(status < 400 || (api_text(a, "code")[0] && api_text(a, "detail")[0]));
    return status;
}

static int ask_for_job(struct api *a, const char *model, const char *data, bool dry)
{
    char *body = NULL;
    assert(asprintf(&body, "{\"type\":\"quantize\",\"model_id\":\"%s\",\"dataset_id\":\"%s\",\"recipe\":\"repquant-w4a8\"}", model, data) > 0);
    int status = call(a, "POST", dry ? "/v1/jobs?dry_run=true" : "/v1/jobs", body);
    free(body);
    return status;
}

static void register_it(struct api *a, bool model)
{
    char id[ID_SIZE], target[64];
    int status = call(a, "POST", model ? "/v1/models" : "/v1/datasets",
                      "{\"name\":\"x\",\"files\":[{\"path\":\"x\",\"digest\":\"" FIXTURE_DIGEST "\"}]}");
    if (status != 201) {
        assert(status != 500 || !inspect_result_ok(result, strlen(result), NULL));
        return;
    }
    snprintf(id, sizeof id, "%s", api_text(a, "id"));
    snprintf(target, sizeof target, "%s/%s", model ? "/v1/models" : "/v1/datasets", id);
    status = call(a, "GET", target, NULL);
    assert(status == 200 && json_is_object(json_object_get(a->json, "inventory")));
    status = ask_for_job(a, model ? id : a->fixture->model, model ? a->fixture->dataset : id, false);
    assert(status < 500 || status == 507);
}

static void try_model(struct api *a) { register_it(a, true); }
static void try_dataset(struct api *a) { register_it(a, false); }

static void try_verdict(struct api *a)
{
    char target[96], body[96];
    snprintf(target, sizeof target, "/v1/datasets/%s/validations", a->fixture->dataset);
    snprintf(body, sizeof body, "{\"model_id\":\"%s\"}", a->fixture->model);
    int status = call(a, "POST", target, body);
    assert((status == 200) == inspect_result_ok(result, strlen(result), NULL));
}

static void try_plan(struct api *a)
{
    a->app.foresee = tell_plan;
    int status = ask_for_job(a, a->fixture->model, a->fixture->dataset, true);
    assert((status == 200) == inspect_result_ok(result, strlen(result), NULL));
    ask_for_job(a, a->fixture->model, a->fixture->dataset, false);      /* what the plan says stands in the way may be a failure of ours */
    a->app.foresee = NULL;
}

static void store_open_again(struct api *a)
{
    static void *state;
    static int inputs;
    if (state && ++inputs % INPUTS == 0) {
        api_close(a);
        fixture_teardown(&state);
        state = NULL;
    }
    if (state)
        return;
    assert(fixture_setup(&state) == 0);
    api_open(a, state);
    a->app.inspect = tell_inventory;
    a->app.validate = tell_verdict;
    a->app.jobs_memory = 1 << 30;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(struct api *a) = { try_model, try_dataset, try_verdict, try_plan };
    static struct api api;
    store_open_again(&api);
    if (size < 1)
        return 0;
    struct err e = { 0 };
    bool ok = inspect_result_ok((const char *)data + 1, size - 1, &e);
    assert(ok == (e.code == ERR_NONE) && (ok || (e.code == ERR_BUG && e.text[0])));
    result = strndup((const char *)data + 1, size - 1);
    assert(result);
    tries[data[0] % 4](&api);
    free(result);
    return 0;
}
