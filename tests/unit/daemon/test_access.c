/* Tokens, roles and teams, asked for as clients do but without sockets. */
#include "tests/unit/daemon/api_fixture.h"

#include "api/access.h"
#include "api/role.h"
#include "core/base/clock.h"
#include "storage/session.h"
#include "storage/team.h"
#include "storage/used.h"

/* A token of `team` with `role`, for the calls that follow. */
static const char *as(struct api *a, const char *team, const char *role)
{
    static char texts[8][TOKEN_TEXT_SIZE];
    static int next;
    char *text = texts[next++ % 8];
    struct token token;
    struct err e = { 0 };
    if (!token_create(a->fixture->store, team, role, role_scopes(role), 0, &token, text, &e))
        fail_msg("%s: %s", e.where, e.text);
    return a->token = text;
}

static int post_token(struct api *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int post_token(struct api *a, const char *fmt, ...)
{
    char body[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(body, sizeof body, fmt, ap);
    va_end(ap);
    return api_call(a, "POST", "/v1/tokens", body);
}

static void each_role_holds_what_the_one_before_holds(void **state)
{
    const char *missing;
    (void)state;
    for (const char *const *role = role_names; *role; role++) {
        assert_string_equal(role_of(role_scopes(*role)), *role);
        for (const char *const *less = role_names; less < role; less++) {
            assert_true(scopes_cover(role_scopes(*role), role_scopes(*less), &missing));
            assert_false(scopes_cover(role_scopes(*less), role_scopes(*role), &missing));
        }
    }
    assert_null(role_scopes("owner"));
    assert_string_equal(role_of("jobs:read"), "custom");
    assert_true(scopes_hold("jobs:read", SCOPE_ANY));
    assert_false(scopes_hold("team:admin", SCOPE_ADMIN));       /* a word, not a part of one */
    assert_false(scopes_hold("", "jobs:read"));
}

static void a_token_is_shown_once_and_opens_until_it_is_deleted(void **state)
{
    struct api a;
    char text[TOKEN_TEXT_SIZE], path[80];
    api_open(&a, *state);
    assert_int_equal(post_token(&a, "{\"name\":\"ci\",\"role\":\"member\",\"expires_at\":\"2100-01-31T01:00:00+01:00\"}"), 201);
    snprintf(text, sizeof text, "%s", api_text(&a, "token"));
    snprintf(path, sizeof path, "%s", api_field(&a, "Location"));
    assert_string_equal(api_text(&a, "expires_at"), "2100-01-31T00:00:00.000Z");
    assert_string_equal(api_text(&a, "role"), "member");
    a.token = text;
    assert_int_equal(api_call(&a, "GET", "/v1/whoami", NULL), 200);
    assert_string_equal(api_text(&a, "team"), TEAM_LOCAL);
    assert_string_equal(api_text(&a, "role"), "member");
    assert_string_equal(api_text(&a, "name"), "ci");
    a.token = a.admin;
    assert_true(used_flush(a.app.store, NULL));
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_null(json_object_get(a.json, "token"));
    assert_true(api_text(&a, "created_by")[0] && api_text(&a, "last_used_at")[0]);
    assert_int_equal(api_call(&a, "GET", "/v1/tokens?limit=1", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 1);
    assert_null(strstr(a.reply.text, text));
    assert_true(api_text(&a, "next_cursor")[0]);                /* the administrator's is on the next page */
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 204);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 404);
    a.token = text;
    assert_int_equal(api_call(&a, "GET", "/v1/whoami", NULL), 401);
    api_close(&a);
}

static void a_wrong_wish_for_a_token_is_named_by_its_pointer(void **state)
{
    static const struct { const char *body, *pointer; int status; } cases[] = {
        { "{\"role\":\"member\"}", "/name", 400 },
        { "{\"name\":\"\",\"role\":\"member\"}", "/name", 400 },
        { "{\"name\":\"x\"}", "/role", 400 },
        { "{\"name\":\"x\",\"role\":\"owner\"}", "/role", 400 },
        { "{\"name\":\"x\",\"role\":\"member\",\"scopes\":[\"jobs:read\"]}", "/role", 400 },
        { "{\"name\":\"x\",\"scopes\":[]}", "/scopes", 400 },
        { "{\"name\":\"x\",\"scopes\":\"admin\"}", "/scopes", 400 },
        { "{\"name\":\"x\",\"scopes\":[\"jobs:read\",\"admin \"]}", "/scopes/1", 400 },
        { "{\"name\":\"x\",\"scopes\":[\"jobs:read\",7]}", "/scopes/1", 400 },
        { "{\"name\":\"x\",\"role\":\"member\",\"team\":\"none\"}", "/team", 422 },
        { "{\"name\":\"x\",\"role\":\"member\",\"expires_at\":\"tomorrow\"}", "/expires_at", 400 },
        { "{\"name\":\"x\",\"role\":\"member\",\"expires_at\":\"2001-01-01T00:00:00Z\"}", "/expires_at", 400 },
        { "{\"name\":\"x\",\"role\":\"member\",\"expires_at\":4102444800}", "/expires_at", 400 },
        { "{\"name\":\"x\",\"role\":\"member\",\"admin\":true}", "/admin", 400 },
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = post_token(&a, "%s", cases[i].body);
        if (status != cases[i].status || strcmp(api_text(&a, "pointer"), cases[i].pointer) != 0)
            fail_msg("%s: %d at %s: %s", cases[i].body, status, api_text(&a, "pointer"), api_text(&a, "detail"));
    }
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"scopes\":[\"jobs:write\",\"models:read\",\"jobs:write\"]}"), 201);
    assert_int_equal(json_array_size(json_object_get(a.json, "scopes")), 2);
    assert_string_equal(api_text(&a, "role"), "custom");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"scopes\":[\"artifacts:read\",\"jobs:read\",\"models:read\"]}"), 201);
    assert_string_equal(api_text(&a, "role"), "viewer");        /* the same set, however it was spelled */
    api_close(&a);
}

static void nobody_makes_a_token_that_can_do_more_than_theirs(void **state)
{
    static const char *const too_much[] = { "\"role\":\"admin\"", "\"scopes\":[\"admin\"]" };
    struct api a;
    struct token token;
    char text[TOKEN_TEXT_SIZE];
    api_open(&a, *state);
    as(&a, "red", "team_admin");
    for (size_t i = 0; i < sizeof too_much / sizeof *too_much; i++)
        assert_int_equal(post_token(&a, "{\"name\":\"x\",%s}", too_much[i]), 403);
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"viewer\",\"identity\":\"alice\"}"), 403);       /* whom the proxy names is not a team's matter */
    assert_string_equal(api_text(&a, "pointer"), "/identity");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"team_admin\"}"), 201);
    assert_string_equal(api_text(&a, "team"), "red");
    /* A set that leaves something out does not give it either. */
    assert_true(token_create(a.fixture->store, "red", "x", "models:read team:admin", clock_now_us() + 3600000000, &token, text, NULL));
    a.token = text;
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"viewer\"}"), 403);
    assert_string_equal(api_text(&a, "pointer"), "/role");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"scopes\":[\"models:read\"],\"expires_at\":\"2100-01-01T00:00:00Z\"}"), 403);
    assert_string_equal(api_text(&a, "pointer"), "/expires_at");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"scopes\":[\"models:read\"]}"), 201);
    assert_true(api_text(&a, "expires_at")[0]);                 /* it ends with the one that made it */
    as(&a, "red", "member");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"viewer\"}"), 403);
    api_close(&a);
}

static void another_teams_tokens_are_an_administrators_business_alone(void **state)
{
    struct api a;
    struct token token;
    char text[TOKEN_TEXT_SIZE], path[96], absent[96], in_team[112];
    api_open(&a, *state);
    as(&a, "red", "team_admin");
    assert_true(token_create(a.fixture->store, "blue", "x", "jobs:read", 0, &token, text, NULL));
    snprintf(path, sizeof path, "/v1/tokens/%s", token.id);
    snprintf(absent, sizeof absent, "there is no token %s", token.id);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(api_call(&a, i ? "DELETE" : "GET", path, NULL), 404);
        assert_string_equal(api_text(&a, "detail"), absent);
    }
    assert_int_equal(api_call(&a, "GET", "/v1/tokens?team=blue", NULL), 404);
    assert_string_equal(api_text(&a, "detail"), "there is no team \"blue\"");
    assert_int_equal(api_call(&a, "GET", "/v1/tokens?team=none", NULL), 404);
    assert_string_equal(api_text(&a, "detail"), "there is no team \"none\"");
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"viewer\",\"team\":\"blue\"}"), 422);
    a.token = a.admin;
    snprintf(in_team, sizeof in_team, "%s?team=blue", path);
    assert_int_equal(api_call(&a, "GET", path, NULL), 404);     /* of the own team there is none */
    assert_int_equal(api_call(&a, "GET", in_team, NULL), 200);
    assert_int_equal(post_token(&a, "{\"name\":\"x\",\"role\":\"admin\",\"team\":\"blue\"}"), 201);
    assert_int_equal(api_call(&a, "GET", "/v1/tokens?team=blue", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 2);
    assert_int_equal(api_call(&a, "DELETE", in_team, NULL), 204);
    api_close(&a);
}

static void the_last_administrators_token_stays(void **state)
{
    struct api a;
    struct token token, old;
    char text[TOKEN_TEXT_SIZE], path[96], mine[96];
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "GET", "/v1/whoami", NULL), 200);
    snprintf(mine, sizeof mine, "/v1/tokens/%s", api_text(&a, "token_id"));
    assert_true(token_create(a.fixture->store, TEAM_LOCAL, "old", "admin", clock_now_us() - 1, &old, text, NULL));
    struct token_request proxied = { .name = "p", .scopes = "admin", .identity = "alice" };
    assert_true(token_issue(a.fixture->store, TEAM_LOCAL, &proxied, &old, text, NULL));
    assert_int_equal(api_call(&a, "DELETE", mine, NULL), 409);  /* one that has expired, or needs a proxy, does not count */
    as(&a, TEAM_LOCAL, "team_admin");
    assert_int_equal(api_call(&a, "DELETE", mine, NULL), 403);  /* nor does a team's administrator end an administrator */
    as(&a, "red", "team_admin");
    assert_int_equal(api_call(&a, "DELETE", mine, NULL), 404);
    a.token = a.admin;
    assert_true(token_create(a.fixture->store, "red", "next", "admin", 0, &token, text, NULL));
    assert_int_equal(api_call(&a, "DELETE", mine, NULL), 204);
    a.token = text;
    snprintf(path, sizeof path, "/v1/tokens/%s", token.id);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 409);
    api_close(&a);
}

/* Else one that is about to end would make its successor, and so for ever. */
static void a_session_opens_no_session(void **state)
{
    struct api a;
    struct token token;
    struct session session;
    char text[TOKEN_TEXT_SIZE], secret[TOKEN_TEXT_SIZE], cookie[TOKEN_TEXT_SIZE + 32], csrf[HASH_HEX_SIZE];
    api_open(&a, *state);
    assert_true(token_create(a.app.store, TEAM_LOCAL, "t", "jobs:read", 0, &token, text, NULL));
    assert_true(session_create(a.app.store, &token, &session, secret, NULL));
    snprintf(cookie, sizeof cookie, ACCESS_COOKIE "=%s", secret);
    access_csrf(secret, csrf);
    const char *const fields[] = { "Cookie", cookie, "Sec-Fetch-Site", "same-origin", "X-Repquant-Csrf", csrf, NULL };
    a.token = NULL;
    assert_int_equal(api_call_with(&a, "GET", "/v1/session", NULL, fields), 200);
    assert_int_equal(api_call_with(&a, "POST", "/v1/session", NULL, fields), 403);
    a.token = text;
    assert_int_equal(api_call(&a, "POST", "/v1/session", NULL), 201);
    assert_int_equal(api_call_with(&a, "DELETE", "/v1/session", NULL, (const char *const[]){ NULL }), 404);        /* a token is no session */
    a.token = NULL;
    assert_int_equal(api_call_with(&a, "DELETE", "/v1/session", NULL, fields), 204);
    assert_int_equal(api_call_with(&a, "GET", "/v1/session", NULL, fields), 401);
    api_close(&a);
}

static void a_token_has_only_so_many_sessions(void **state)
{
    struct api a;
    struct token token, other;
    struct session session;
    char text[TOKEN_TEXT_SIZE];
    struct err e = { 0 };
    api_open(&a, *state);
    assert_true(token_create(a.app.store, TEAM_LOCAL, "t", "jobs:read", 0, &token, text, &e));
    assert_true(token_create(a.app.store, TEAM_LOCAL, "o", "jobs:read", 0, &other, text, &e));
    for (int i = 0; i < SESSIONS_PER_TOKEN; i++)
        assert_true(session_create(a.app.store, &token, &session, text, &e));
    assert_false(session_create(a.app.store, &token, &session, text, &e));
    assert_int_equal(e.code, ERR_QUOTA);
    assert_true(session_create(a.app.store, &other, &session, text, NULL));
    assert_true(session_delete(a.app.store, TEAM_LOCAL, other.id, session.id, NULL));
    api_close(&a);
}

static void teams_are_made_limited_and_deleted_by_administrators(void **state)
{
    static const struct { const char *body, *pointer; int status; } cases[] = {
        { "{}", "/name", 400 },
        { "{\"name\":\"\"}", "/name", 400 },
        { "{\"name\":\"Red\"}", "/name", 400 },
        { "{\"name\":\"-red\"}", "/name", 400 },
        { "{\"name\":\"a/b\"}", "/name", 400 },
        { "{\"name\":\"local\"}", "/name", 409 },
        { "{\"name\":\"x\",\"quota\":{\"max_jobs\":1}}", "/quota/max_jobs", 400 },
        { "{\"name\":\"x\",\"quota\":{\"max_queued\":-1}}", "/quota/max_queued", 400 },
        { "{\"name\":\"x\",\"quota\":{\"max_queued\":1.5}}", "/quota/max_queued", 400 },
        { "{\"name\":\"x\",\"quota\":7}", "/quota", 400 },
    };
    struct api a;
    char id[ID_SIZE];
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = api_call(&a, "POST", "/v1/teams", cases[i].body);
        if (status != cases[i].status || strcmp(api_text(&a, "pointer"), cases[i].pointer) != 0)
            fail_msg("%s: %d at %s: %s", cases[i].body, status, api_text(&a, "pointer"), api_text(&a, "detail"));
    }
    assert_int_equal(api_call(&a, "POST", "/v1/teams", "{\"name\":\"red\",\"quota\":{\"max_queued\":3,\"max_bytes\":null}}"), 201);
    assert_string_equal(api_field(&a, "Location"), "/v1/teams/red");
    const json_t *quota = json_object_get(a.json, "quota");
    assert_int_equal(json_integer_value(json_object_get(quota, "max_queued")), 3);
    assert_true(json_is_null(json_object_get(quota, "max_running")) && json_is_null(json_object_get(quota, "max_bytes")));
    assert_int_equal(api_call(&a, "PUT", "/v1/teams/red/quota", "{\"max_running\":0}"), 200);
    quota = json_object_get(a.json, "quota");
    assert_true(json_is_integer(json_object_get(quota, "max_running")) && json_is_null(json_object_get(quota, "max_queued")));
    assert_int_equal(api_call(&a, "PUT", "/v1/teams/none/quota", "{}"), 404);
    fixture_job(a.fixture, 5, id);
    assert_int_equal(api_call(&a, "GET", "/v1/teams/local", NULL), 200);
    const json_t *used = json_object_get(a.json, "used");
    assert_int_equal(json_integer_value(json_object_get(used, "queued")), 1);
    assert_int_equal(json_integer_value(json_object_get(used, "bytes")), 5);        /* hello */
    assert_int_equal(api_call(&a, "GET", "/v1/teams", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 2);
    assert_int_equal(api_call(&a, "DELETE", "/v1/teams/local", NULL), 409);
    assert_int_equal(api_call(&a, "DELETE", "/v1/teams/red", NULL), 204);
    assert_int_equal(api_call(&a, "DELETE", "/v1/teams/red", NULL), 404);
    as(&a, "blue", "viewer");
    assert_int_equal(api_call(&a, "GET", "/v1/teams", NULL), 200);
    assert_int_equal(json_array_size(api_data(&a)), 1);
    assert_int_equal(api_call(&a, "GET", "/v1/teams/blue", NULL), 200);
    assert_int_equal(api_call(&a, "GET", "/v1/teams/local", NULL), 404);
    api_close(&a);
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_role_holds_what_the_one_before_holds),
        WITH_STORE(a_token_is_shown_once_and_opens_until_it_is_deleted),
        WITH_STORE(a_wrong_wish_for_a_token_is_named_by_its_pointer),
        WITH_STORE(nobody_makes_a_token_that_can_do_more_than_theirs),
        WITH_STORE(another_teams_tokens_are_an_administrators_business_alone),
        WITH_STORE(the_last_administrators_token_stays),
        WITH_STORE(a_session_opens_no_session),
        WITH_STORE(a_token_has_only_so_many_sessions),
        WITH_STORE(teams_are_made_limited_and_deleted_by_administrators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
