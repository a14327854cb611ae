/*
 * fuzz_job.c - libFuzzer over what is asked for in POST /v1/jobs, against a store with a model and a data set, which MODEL and DATA stand for in the
 * input.  Whatever is asked, the answer is a document and no failure of ours.
 */
#include "tests/unit/daemon/api_fixture.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUTS = 2000 };         /* to a store: it keeps what was accepted */

static char *with_ids(const uint8_t *data, size_t size, const struct fixture *f)
{
    static const char *const names[] = { "MODEL", "DATA" };
    const char *const ids[] = { f->model, f->dataset };
    char *text = strndup((const char *)data, size);
    for (int i = 0; i < 2; i++) {
        char *at = text ? strstr(text, names[i]) : NULL, *more = NULL;
        if (at && asprintf(&more, "%.*s%s%s", (int)(at - text), text, ids[i], at + strlen(names[i])) > 0) {
            free(text);
            text = more;
        }
    }
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *state;
    static struct api api;
    static int inputs;
    if (state && inputs++ % INPUTS == INPUTS - 1) {
        api_close(&api);
        fixture_teardown(&state);
        state = NULL;
    }
    if (!state) {
        assert(fixture_setup(&state) == 0);
        api_open(&api, state);
    }
    char *body = with_ids(data, size, state);
    assert(body);
    int status = api_call(&api, "POST", "/v1/jobs", body);
    assert(status >= 200 && (status < 500 || status == 507) && json_is_object(api.json));
    assert(status < 400 || (json_object_get(api.json, "code") && json_object_get(api.json, "detail")));
    free(body);
    return 0;
}
