/* What is decided from the head of a request: framing, host, site, token, type, length. */
#include "tests/unit/daemon/api_fixture.h"

#include "storage/audit.h"

#include <sqlite3.h>

struct head { const char *name, *value; };

/* Admits a request of exactly these fields; returns the status of the refusal, 0 if its body may come. */
static int admit(struct api *a, const char *method, const char *target, const struct head *fields)
{
    api_forget(a);
    request_open(&a->req, target);
    a->req.method = method;
    for (; fields->name; fields++)
        request_field(&a->req, fields->name, fields->value, strlen(fields->value));
    bool admitted = request_admit(&a->app, &a->req, &a->reply);
    memset(a->req.header, 0, sizeof a->req.header);
    a->json = a->reply.text ? json_loads(a->reply.text, 0, NULL) : NULL;
    a->closed = a->reply.close;
    return admitted ? 0 : a->reply.status;
}

#define HOST { "Host", "localhost" }

static void a_message_whose_ends_are_in_doubt_is_refused_and_the_connection_closed(void **state)
{
    static const struct head heads[][5] = {
        { { "Content-Length", "0" } },                                                      /* no Host */
        { { "Host", "" } },
        { HOST, HOST },
        { HOST, { "Content-Length", "0" }, { "Content-Length", "0" } },
        { HOST, { "content-length", "0" }, { "CONTENT-LENGTH", "1" } },
        { HOST, { "Content-Length", "0" }, { "Transfer-Encoding", "chunked" } },
        { HOST, { "Transfer-Encoding", "chunkedx" } },
        { HOST, { "Transfer-Encoding", "gzip, chunked" } },
        { HOST, { "Transfer-Encoding", "identity" } },
        { HOST, { "Transfer-Encoding", "chunked" }, { "Transfer-Encoding", "chunked" } },
        { HOST, { "Content-Length", "+5" } },
        { HOST, { "Content-Length", "5 " } },
        { HOST, { "Content-Length", "0x5" } },
        { HOST, { "Content-Length", "" } },
        { HOST, { "Content-Length", "-1" } },
        { HOST, { "Content-Length", "5,5" } },
        { HOST, { "Content-Length", "18446744073709551616" } },
        { HOST, { "Authorization", "Bearer a" }, { "Authorization", "Bearer b" } },
        { HOST, { "X-Anything ", "space before the colon" } },
        { HOST, { "X-Anything", "a\x01z" } },
        { HOST, { "X-Anything", "folded\r\n line" } },
    };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (admit(&a, "GET", "/healthz", heads[i]) != 400 || strcmp(api_text(&a, "code"), "request.framing") != 0 || !a.closed)
            fail_msg("head %zu: %d %s", i, a.reply.status, api_text(&a, "detail"));
    }
    assert_int_equal(admit(&a, "GET", "/healthz", (struct head[]){ HOST, { NULL } }), 0);
    api_close(&a);
}

/* The library takes any bytes. */
static void a_method_that_is_no_word_is_refused_before_anything_else(void **state)
{
    static const char *const bad[] = { "\xff\xfe", "G\xd0\x96T", "", "GE(T", "G\x01T", "GET/", "A23456789012345678901234567890123" };
    static const char *const good[] = { "FOO", "M-SEARCH", "get", "!#$%&'*+-.^_`|~09", "A2345678901234567890123456789012" };
    struct api a;
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (admit(&a, bad[i], "/v1/jobs", (struct head[]){ { "Host", "evil.example" }, { NULL } }) != 400
            || strcmp(api_text(&a, "code"), "request.framing") != 0 || strcmp(api_text(&a, "where"), "method") != 0 || !a.closed)
            fail_msg("%s: %d %s", bad[i], a.reply.status, api_text(&a, "detail"));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (admit(&a, good[i], "/v1/jobs", (struct head[]){ HOST, { NULL } }) != 405)
            fail_msg("%s: %d", good[i], a.reply.status);
    api_close(&a);
}

/* One that is in the log would be for ever: rows cannot be taken out. */
static void bytes_that_are_no_text_do_not_end_the_audit_log(void **state)
{
    struct fixture *f = *state;
    struct api a;
    struct audit row = { .at = 1, .method = "\xff\xfe", .target = "/\xd0", .status = 421 };
    char path[300];
    sqlite3 *lite;
    api_open(&a, f);
    assert_true(audit_add(f->store, &row, NULL));
    assert_int_equal(api_call(&a, "GET", "/v1/audit", NULL), 200);
    assert_non_null(strstr(a.reply.text, "\"method\":\"??\""));
    snprintf(path, sizeof path, "%s/repquant.db", f->dir);
    assert_int_equal(sqlite3_open(path, &lite), SQLITE_OK);
    assert_int_equal(sqlite3_exec(lite, "INSERT INTO audit SELECT seq + 1, at, 'req', team, token, session, peer, CAST(x'fefe' AS TEXT), action,"
                                  " target, 422, code, hash, hash FROM audit ORDER BY seq DESC LIMIT 1", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(lite);
    assert_int_equal(api_call(&a, "GET", "/v1/audit?order=desc", NULL), 200);
    assert_non_null(strstr(a.reply.text, "\"method\":\"??\",\"action\":\"/v1/audit\",\"target\":\"/v1/audit\",\"status\":422"));
    api_close(&a);
}

static void only_the_hosts_we_are_are_served(void **state)
{
    static const char *const ours[] = { "localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "localhost.", "quant.example:443" };
    static const char *const others[] = { "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "[::1", "127.0.0.2",
                                          "xlocalhost", ":8080", "quant.example.org", "user@localhost" };
    static const char *const hosts[] = { "quant.example", NULL };
    struct api a;
    api_open(&a, *state);
    a.app.hosts = hosts;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (admit(&a, "GET", "/", (struct head[]){ { "Host", ours[i] }, { NULL } }) != 0)
            fail_msg("%s is refused", ours[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (admit(&a, "GET", "/", (struct head[]){ { "Host", others[i] }, { NULL } }) != 421)
            fail_msg("%s is served", others[i]);
    assert_int_equal(admit(&a, "GET", "/healthz", (struct head[]){ { "Host", "10.1.2.3:8080" }, { NULL } }), 0);    /* a probe */
    api_close(&a);
}

static void a_page_of_another_site_cannot_act_without_a_token(void **state)
{
    static const struct { struct head head; int status; } cases[] = {
        { { "Sec-Fetch-Site", "cross-site" }, 403 }, { { "Sec-Fetch-Site", "same-site" }, 403 }, { { "Sec-Fetch-Site", "" }, 403 },
        { { "Sec-Fetch-Site", "same-origin" }, 404 }, { { "Sec-Fetch-Site", "none" }, 404 },
        { { "Origin", "http://evil.example" }, 403 }, { { "Origin", "null" }, 403 }, { { "Origin", "http://localhost.evil.example" }, 403 },
        { { "Origin", "http://localhost" }, 404 }, { { "User-Agent", "curl" }, 404 },
    };
    struct api a;
    api_open(&a, *state);
    a.app.auth = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct head heads[] = { HOST, cases[i].head, { NULL } };
        int status = admit(&a, "DELETE", "/v1/models/mdl_00000000000000000000000000", heads);
        if (status == 0) {
            request_answer(&a.app, &a.req, &a.reply);       /* admitted: the handler finds no such model */
            status = a.reply.status;
        }
        if (status != cases[i].status)
            fail_msg("%s: %s: %d", cases[i].head.name, cases[i].head.value, status);
    }
    assert_int_equal(admit(&a, "GET", "/v1/models", (struct head[]){ HOST, { "Sec-Fetch-Site", "cross-site" }, { NULL } }), 0);
    api_close(&a);
}

static void every_kind_of_bad_token_gets_the_same_answer(void **state)
{
    static char large[70000];
    static const char *const values[] = { "", "Bearer", "Bearer ", "Basic cnE6eA==", "Bearer x", "Bearer rq_", "bearer rq_1", large,
                                          "Bearer rq_' OR 1=1--", "Bearer rq_00000000000000000000000000000000000000000000" };
    struct api a;
    api_open(&a, *state);
    memset(large, 'a', sizeof large - 1);
    memcpy(large, "Bearer rq_", 10);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (admit(&a, "GET", "/v1/jobs", (struct head[]){ HOST, { "Authorization", values[i] }, { NULL } }) != 401)
            fail_msg("%.30s: %d", values[i], a.reply.status);
        assert_string_equal(api_text(&a, "code"), "auth.required");
    }
    assert_int_equal(admit(&a, "GET", "/v1/jobs?token=rq_1", (struct head[]){ HOST, { NULL } }), 401);
    api_close(&a);
}

static void a_body_of_the_wrong_type_or_length_is_refused_before_it_is_read(void **state)
{
    static const struct { const char *method, *target; struct head heads[3]; int status; } cases[] = {
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "application/json" } }, 0 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "Application/JSON; charset=utf-8" } }, 0 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" } }, 415 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "text/plain" } }, 415 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "application/json-seq" } }, 415 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "application/x-www-form-urlencoded" } }, 415 },
        { "POST", "/v1/jobs", { { "Content-Length", "9" }, { "Content-Type", "application/json" }, { "Content-Encoding", "gzip" } }, 415 },
        { "POST", "/v1/jobs", { { "Content-Length", "99999999" }, { "Content-Type", "application/json" } }, 413 },
        { "PUT", "/v1/models", { { "Content-Length", "9" } }, 0 },
        { "PUT", "/v1/models", { { "Transfer-Encoding", "chunked" } }, 0 },
        { "PUT", "/v1/models", { { "Content-Length", "9" }, { "Content-Type", "multipart/form-data; boundary=x" } }, 415 },
        { "PUT", "/v1/models", { { "Content-Length", "9" }, { "Content-Encoding", "gzip" } }, 415 },
        { "PUT", "/v1/models", { { NULL, NULL } }, 411 },
        { "PUT", "/v1/models", { { "Content-Length", "1048577" } }, 413 },          /* the fixture's limit and one */
        { "PUT", "/v1/models", { { "Content-Length", "18446744073709551600" } }, 413 },
        { "GET", "/v1/jobs", { { "Content-Length", "1" } }, 413 },
    };
    struct api a;
    char bearer[TOKEN_TEXT_SIZE + 8];
    api_open(&a, *state);
    snprintf(bearer, sizeof bearer, "Bearer %s", a.admin);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct head heads[6] = { HOST, { "Authorization", bearer }, cases[i].heads[0], cases[i].heads[1], cases[i].heads[2] };
        int status = admit(&a, cases[i].method, cases[i].target, heads);
        if (status != cases[i].status)
            fail_msg("case %zu: %d %s", i, status, api_text(&a, "detail"));
        if (status && cases[i].heads[0].name)
            assert_true(a.closed);          /* what follows is a body nobody reads */
    }
    api_close(&a);
}

static void more_than_the_disk_has_is_refused_before_it_is_sent(void **state)
{
    struct api a;
    char bearer[TOKEN_TEXT_SIZE + 8];
    api_open(&a, *state);
    a.app.max_upload = UINT64_MAX;
    snprintf(bearer, sizeof bearer, "Bearer %s", a.admin);
    assert_int_equal(admit(&a, "PUT", "/v1/models", (struct head[]){ HOST, { "Authorization", bearer },
                                                                     { "Content-Length", "1152921504606846976" }, { NULL } }), 507);
    api_close(&a);
}

static void a_chunked_body_over_the_limit_is_discarded_and_then_cut(void **state)
{
    static char piece[64 * 1024];
    struct api a;
    char bearer[TOKEN_TEXT_SIZE + 8];
    int pieces = 0;
    api_open(&a, *state);
    snprintf(bearer, sizeof bearer, "Bearer %s", a.admin);
    assert_int_equal(admit(&a, "PUT", "/v1/models", (struct head[]){ HOST, { "Authorization", bearer },
                                                                     { "Transfer-Encoding", "chunked" }, { NULL } }), 0);
    while (request_body(&a.app, &a.req, piece, sizeof piece) && pieces < 1000)
        pieces++;
    assert_true(pieces > 16 && pieces < 100);       /* beyond 1 MiB, not beyond 1 + 4 */
    request_answer(&a.app, &a.req, &a.reply);
    assert_int_equal(a.reply.status, 413);
    assert_int_equal(a.server.inspections, 0);
    api_forget(&a);
    a.reply = REPLY_INIT;
    assert_int_equal(admit(&a, "POST", "/v1/jobs", (struct head[]){ HOST, { "Authorization", bearer }, { "Content-Type", "application/json" },
                                                                    { "Transfer-Encoding", "chunked" }, { NULL } }), 0);
    for (pieces = 0; request_body(&a.app, &a.req, piece, sizeof piece) && pieces < 1000; pieces++)
        assert_true(a.req.body.n <= a.req.route->body_limit);       /* what is kept */
    assert_true(pieces < 100);
    request_answer(&a.app, &a.req, &a.reply);
    assert_int_equal(a.reply.status, 413);
    api_close(&a);
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_message_whose_ends_are_in_doubt_is_refused_and_the_connection_closed),
        WITH_STORE(a_method_that_is_no_word_is_refused_before_anything_else),
        WITH_STORE(bytes_that_are_no_text_do_not_end_the_audit_log),
        WITH_STORE(only_the_hosts_we_are_are_served),
        WITH_STORE(a_page_of_another_site_cannot_act_without_a_token),
        WITH_STORE(every_kind_of_bad_token_gets_the_same_answer),
        WITH_STORE(a_body_of_the_wrong_type_or_length_is_refused_before_it_is_read),
        WITH_STORE(more_than_the_disk_has_is_refused_before_it_is_sent),
        WITH_STORE(a_chunked_body_over_the_limit_is_discarded_and_then_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
