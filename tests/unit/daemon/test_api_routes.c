/* The route table: the same routes as api/openapi.yaml, and no route without its checks. */
#include "tests/unit/daemon/api_fixture.h"

#include "api/embed.h"

static json_t *document;

static int load_document(void **state)
{
    struct embedded file = embed_openapi();
    (void)state;
    document = json_loadb(file.data, file.size, JSON_REJECT_DUPLICATES, NULL);
    return document ? 0 : -1;
}

static int drop_document(void **state)
{
    (void)state;
    json_decref(document);
    return 0;
}

/* {"$ref": "#/a/b"} -> what it names. */
static const json_t *resolve(const json_t *v)
{
    const char *ref = json_string_value(json_object_get(v, "$ref"));
    if (!ref)
        return v;
    char names[128];
    snprintf(names, sizeof names, "%s", ref + 2);
    v = document;
    char *rest = names;
    for (char *name; (name = strsep(&rest, "/"));)
        v = json_object_get(v, name);
    assert_non_null(v);
    return v;
}

static const json_t *operation(const struct route *r)
{
    char method[16];
    size_t i = 0;
    for (; r->method[i]; i++)
        method[i] = (char)(r->method[i] | 0x20);
    method[i] = '\0';
    return json_object_get(json_object_get(json_object_get(document, "paths"), r->pattern), method);
}

static void every_route_is_described(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++)
        if (!operation(&routes[i]))
            fail_msg("%s %s is not in api/openapi.yaml", routes[i].method, routes[i].pattern);
}

static bool is_method(const char *key) { return route_lists("get put post delete patch", key); }

static void everything_described_is_a_route(void **state)
{
    const char *path, *method;
    json_t *item, *op;
    size_t described = 0;
    (void)state;
    json_object_foreach(json_object_get(document, "paths"), path, item)
        json_object_foreach(item, method, op)
            described += is_method(method);
    assert_int_equal(described, routes_count);      /* with the test above: the same ones */
}

static void the_same_query_parameters_are_described_and_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        size_t k, described = 0, taken = routes[i].query[0] != '\0';
        json_t *item;
        json_array_foreach(json_object_get(operation(&routes[i]), "parameters"), k, item) {
            const json_t *p = resolve(item);
            if (strcmp(json_string_value(json_object_get(p, "in")), "query") != 0)
                continue;
            described++;
            if (!route_lists(routes[i].query, json_string_value(json_object_get(p, "name"))))
                fail_msg("%s does not take %s", routes[i].pattern, json_string_value(json_object_get(p, "name")));
        }
        for (const char *s = routes[i].query; *s; s++)
            taken += *s == ' ';
        if (described != taken)
            fail_msg("%s %s: %zu query parameters described, %zu taken", routes[i].method, routes[i].pattern, described, taken);
    }
}

static void bodies_and_open_routes_are_described_as_they_are(void **state)
{
    static const char *const types[] = { [BODY_JSON] = "application/json", [BODY_BLOB] = "application/octet-stream",
                                         [BODY_PART] = "application/offset+octet-stream" };
    (void)state;
    for (size_t i = 0; i < routes_count; i++) {
        const struct route *r = &routes[i];
        const json_t *op = operation(r), *body = resolve(json_object_get(op, "requestBody"));
        const json_t *security = json_object_get(op, "security");
        if ((r->body == BODY_NONE) != !body || (body && !json_object_get(json_object_get(body, "content"), types[r->body])))
            fail_msg("%s %s: the body is described wrongly", r->method, r->pattern);
        if (!r->scope != (security && json_array_size(security) == 0))
            fail_msg("%s %s: whether a token is needed is described wrongly", r->method, r->pattern);
    }
}

static void only_the_pages_for_everybody_need_no_token(void **state)
{
    (void)state;
    for (size_t i = 0; i < routes_count; i++)
        if (!routes[i].scope && !route_lists("/ /dashboard/{file} /healthz /readyz", routes[i].pattern))
            fail_msg("%s %s is open", routes[i].method, routes[i].pattern);
}

/* The pattern with something in the place of each {name}. */
static void some_target(const char *pattern, char *ret, size_t size)
{
    size_t n = 0;
    for (const char *s = pattern; *s && n + 2 < size; s++) {
        if (*s == '{') {
            ret[n++] = 'x';
            s += strcspn(s, "}");
        } else {
            ret[n++] = *s;
        }
    }
    ret[n] = '\0';
}

static int ask(struct api *a, const struct route *r)
{
    char target[128];
    some_target(r->pattern, target, sizeof target);
    return r->body == BODY_BLOB ? api_upload(a, target, "x") : api_call(a, r->method, target, r->body == BODY_JSON ? "{}" : NULL);
}

static void every_other_route_refuses_no_token_and_a_token_without_the_scope(void **state)
{
    struct api a;
    struct token token;
    char text[TOKEN_TEXT_SIZE];
    api_open(&a, *state);
    assert_true(token_create(a.fixture->store, TEAM_LOCAL, "none", "nothing:read", 0, &token, text, NULL));
    for (size_t i = 0; i < routes_count; i++) {
        if (!routes[i].scope)
            continue;
        a.token = NULL;
        assert_int_equal(ask(&a, &routes[i]), 401);
        assert_string_equal(api_field(&a, "WWW-Authenticate"), "Bearer realm=\"repquant\"");
        a.token = "rq_00000000000000000000000000000000000000000000";
        assert_int_equal(ask(&a, &routes[i]), 401);
        a.token = text;
        if (routes[i].scope[0] && ask(&a, &routes[i]) != 403)
            fail_msg("%s %s: %d for a token without the scope", routes[i].method, routes[i].pattern, a.status);
        assert_int_equal(a.server.inspections + a.server.kicks, 0);
    }
    api_close(&a);
}

static void a_method_a_path_does_not_take_is_refused_with_those_it_takes(void **state)
{
    struct api a;
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "DELETE", "/v1/jobs", NULL), 405);
    assert_string_equal(api_field(&a, "Allow"), "POST, GET, HEAD, OPTIONS");
    assert_int_equal(api_call(&a, "TRACE", "/healthz", NULL), 405);
    assert_int_equal(api_call(&a, "get", "/healthz", NULL), 405);       /* methods are case-sensitive */
    assert_int_equal(api_call(&a, "OPTIONS", "/v1/jobs/x/cancel", NULL), 204);
    assert_string_equal(api_field(&a, "Allow"), "POST, OPTIONS");
    assert_int_equal(api_call(&a, "OPTIONS", "/nowhere", NULL), 404);
    assert_int_equal(api_call(&a, "HEAD", "/healthz", NULL), 200);
    api_close(&a);
}

static void what_is_not_exactly_a_path_of_the_table_is_not_found(void **state)
{
    static const char *const paths[] = { "/v1", "/v1/", "/v1/jobs/", "//v1/jobs", "/v1//jobs", "/V1/jobs", "/v1/jobs;x=1", "/v1/jobs/a/b",
                                         "/v1/jobs/x/layers//details", "/healthz/", "/v2/jobs" };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (api_call(&a, "GET", paths[i], NULL) != 404)
            fail_msg("%s: %d", paths[i], a.status);
    api_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_described),
        cmocka_unit_test(everything_described_is_a_route),
        cmocka_unit_test(the_same_query_parameters_are_described_and_taken),
        cmocka_unit_test(bodies_and_open_routes_are_described_as_they_are),
        cmocka_unit_test(only_the_pages_for_everybody_need_no_token),
        cmocka_unit_test_setup_teardown(every_other_route_refuses_no_token_and_a_token_without_the_scope, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_method_a_path_does_not_take_is_refused_with_those_it_takes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_exactly_a_path_of_the_table_is_not_found, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, load_document, drop_document);
}
