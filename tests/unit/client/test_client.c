/* The client's parts that need no service: what it reads, what it refuses, how long it waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail      /* cmocka's macro; ours is a function */

#include "client/client.h"
#include "client/fetch.h"
#include "client/sha256.h"
#include "client/show.h"
#include "tests/unit/scarce_curl.h"

#include <stdio.h>
#include <string.h>

/* The commands of the program, without what they do. */
const struct command commands[] = {
    { "submit", "MODEL", "", "", 1, 256, NULL },
    { "wait", "JOB", "", "", 1, 1, NULL },
    { "events", "JOB", "", "", 1, 1, NULL },
};
const int commands_count = sizeof commands / sizeof *commands;

static void sha256_is_that_of_the_standard(void **state)
{
    static const struct { const char *text; int times; const char *digest; } cases[] = {
        { "", 1, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", 1, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
          "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "aaaaaaaaaa", 100000, "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sha256 s;
        char digest[DIGEST_SIZE];
        sha256_init(&s);
        for (int k = 0; k < cases[i].times; k++)
            sha256_add(&s, cases[i].text, strlen(cases[i].text));
        sha256_end(&s, digest);
        assert_string_equal(digest, cases[i].digest);
        assert_true(digest_valid(digest));
    }
}

/* Every length around the block's, in every cut. */
static void sha256_does_not_depend_on_the_pieces(void **state)
{
    char text[200], whole[DIGEST_SIZE], cut[DIGEST_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    for (size_t n = 0; n <= sizeof text; n++)
        for (size_t at = 0; at <= n; at += 13) {
            struct sha256 a, b;
            sha256_init(&a);
            sha256_add(&a, text, n);
            sha256_end(&a, whole);
            sha256_init(&b);
            sha256_add(&b, text, at);
            sha256_add(&b, text + at, n - at);
            sha256_end(&b, cut);
            assert_string_equal(whole, cut);
        }
}

static void retry_after_is_a_number_or_a_date(void **state)
{
    const int64_t now = 784111777;          /* Sun, 06 Nov 1994 08:49:37 GMT */
    (void)state;
    assert_int_equal(retry_after("7", now), 7);
    assert_int_equal(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), 10);
    assert_int_equal(retry_after("Sun, 06 Nov 1994 08:49:27 GMT", now), 0);
    assert_int_equal(retry_after("99999999999999999999", now), 3600);
    assert_int_equal(retry_after("Sun, 06 Nov 2094 08:49:47 GMT", now), 3600);
    assert_int_equal(retry_after("-1", now), 0);
    assert_int_equal(retry_after("7 apples", now), 0);
    assert_int_equal(retry_after("soon", now), 0);
    assert_int_equal(retry_after("", now), 0);
}

static void delays_grow_to_a_bound_and_obey_the_service(void **state)
{
    (void)state;
    for (int n = 0; n < 50; n++) {
        int64_t most = n < 6 ? 250 << n : 15000;
        assert_int_equal(backoff_delay(n, 0, 0), most / 2);
        for (uint32_t r = 1; r < UINT32_MAX / 7; r *= 7)
            assert_in_range(backoff_delay(n, 0, r), most / 2, most);
        assert_in_range(backoff_delay(n, 60, 12345), 60000, 60250);
    }
}

static void patience_ends(void **state)
{
    (void)state;
    struct failure f = { .exit = 3, .again = true, .wait_s = 2 };
    struct backoff b = { .patience_ms = 1000 };
    assert_false(backoff_again(&b, &f));
    assert_int_equal(f.exit, 3);
    f = (struct failure){ .exit = 1 };
    assert_false(backoff_again(&(struct backoff){ .patience_ms = 100000 }, &f));
}

static void a_url_is_made_plain_or_refused(void **state)
{
    static const char *const good[][2] = {
        { "http://127.0.0.1:8080", "http://127.0.0.1:8080" }, { "HTTPS://Quant.Example/", "https://quant.example" },
        { "https://quant.example/repquant//", "https://quant.example/repquant" }, { "http://[::1]:80/", "http://[::1]:80" },
    };
    static const char *const bad[] = { "quant.example", "ftp://quant.example", "https://a:b@quant.example", "https://a@quant.example",
                                       "https://quant.example?x=1", "https://quant.example/#x", "https://", "", "https://a b", "file:///etc/passwd" };
    char url[512];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct failure f = { 0 };
        assert_true(service_url(good[i][0], url, sizeof url, &f));
        assert_string_equal(url, good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct failure f = { 0 };
        assert_false(service_url(bad[i], url, sizeof url, &f));
        assert_int_equal(f.exit, EXIT_USAGE);
    }
}

static void a_token_goes_by_tls_or_stays_here(void **state)
{
    static const struct { const char *url; bool ok; } cases[] = {
        { "https://quant.example", true }, { "http://localhost:8080", true }, { "http://127.0.0.1", true }, { "http://127.255.0.9:1/x", true },
        { "http://[::1]:8080", true }, { "http://quant.example", false }, { "http://128.0.0.1", false }, { "http://127.0.0.1.example", false },
        { "http://localhost.example", false }, { "http://0.0.0.0", false }, { "http://[::2]", false }, { "http://[::ffff:127.0.0.1]", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct service s = { .token = "rq_x" };
        struct failure f = { 0 };
        snprintf(s.url, sizeof s.url, "%s", cases[i].url);
        assert_int_equal(service_check(&s, &f), cases[i].ok);
        s.token[0] = '\0';
        assert_true(service_check(&s, &(struct failure){ 0 }));
    }
}

static void names_of_files_lead_nowhere_else(void **state)
{
    static const char *const bad[] = { "", ".", "..", ".bashrc", "a/b", "/a", "a\nb", "a\033b", "\177" };
    (void)state;
    assert_true(fetch_name_ok("model.onnx"));
    assert_true(fetch_name_ok("a b-\303\244"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(fetch_name_ok(bad[i]));
}

static void a_range_is_the_one_asked_for(void **state)
{
    (void)state;
    assert_true(fetch_range_ok("bytes 3-9/10", 3, 10));
    assert_false(fetch_range_ok("bytes 3-8/10", 3, 10));
    assert_false(fetch_range_ok("bytes 2-9/10", 3, 10));
    assert_false(fetch_range_ok("bytes 3-9/*", 3, 10));
    assert_false(fetch_range_ok("", 0, 10));
}

static bool parse(const char *const *words, int n, struct options *o, const struct command **command, struct failure *f)
{
    char *argv[16] = { (char[]){ "repquantctl" } };
    for (int i = 0; i < n; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    return options_parse(n + 1, argv, o, command, f);
}
#define PARSE(...) parse((const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), &o, &command, &f)

static void options_come_in_any_order(void **state)
{
    struct options o;
    const struct command *command;
    struct failure f = { 0 };
    (void)state;
    assert_true(PARSE("--json", "submit", "m.onnx", "--label", "a=b", "w.bin", "--priority", "0", "--label=c=d=e"));
    assert_ptr_equal(command, &commands[0]);
    assert_int_equal(o.nwords, 2);
    assert_string_equal(o.words[1], "w.bin");
    assert_string_equal(o.labels[1], "c=d=e");
    assert_true(o.json && o.priority == 0 && o.patience_s == -1);
    assert_true(PARSE("--help"));
    assert_null(command);
}

static void options_that_are_wrong_are_usage(void **state)
{
    struct options o;
    const struct command *command;
    struct failure f = { 0 };
    (void)state;
#define WRONG(...) do { f = (struct failure){ 0 }; assert_false(PARSE(__VA_ARGS__)); assert_int_equal(f.exit, EXIT_USAGE); } while (0)
    WRONG("wait");
    WRONG("wait", "a", "b");
    WRONG("nothing");
    WRONG("wait", "a", "--recipe", "x");
    WRONG("wait", "a", "--follow");
    WRONG("events", "a", "--after", "-1");
    WRONG("events", "a", "--after", "1x");
    WRONG("events", "a", "--after", "99999999999999999999");
    WRONG("submit", "m", "--priority", "10");
    WRONG("submit", "m", "--label", "=x");
    WRONG("submit", "m", "--name", "");
    WRONG("submit", "m", "--name");
#undef WRONG
}

static void a_problem_becomes_an_exit_code(void **state)
{
    static const struct { long status; const char *code; int exit; bool again; } cases[] = {
        { 401, "auth.required", EXIT_ENVIRONMENT, false }, { 403, "auth.forbidden", EXIT_ENVIRONMENT, false },
        { 403, "quota.exceeded", EXIT_ENVIRONMENT, false }, { 429, "quota.rate", EXIT_ENVIRONMENT, true },
        { 422, "model.unsupported_op", EXIT_INPUT, false }, { 422, "recipe.field", EXIT_INPUT, false },
        { 404, "resource.not_found", EXIT_INPUT, false }, { 503, "service.draining", EXIT_ENVIRONMENT, true },
        { 507, "resource.disk", EXIT_ENVIRONMENT, false }, { 500, "internal.bug", EXIT_ENVIRONMENT, false },
        { 422, "something.new", EXIT_INPUT, false }, { 423, "upload.busy", EXIT_ENVIRONMENT, true },
        { 410, "storage.corrupt", EXIT_ENVIRONMENT, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct failure f = { 0 };
        json_t *doc = json_pack("{s:s, s:s, s:s, s:s}", "code", cases[i].code, "title", "T", "detail", "D", "pointer", "/p");
        assert_false(fail_problem(&f, cases[i].status, doc));
        json_decref(doc);
        assert_int_equal(f.exit, cases[i].exit);
        assert_int_equal(f.again, cases[i].again);
        assert_string_equal(f.code, cases[i].code);
        json_t *back = failure_json(&f);
        assert_string_equal(text_of(back, "pointer"), "/p");
        json_decref(back);
    }
    struct failure f = { 0 };
    fail_problem(&f, 302, NULL);            /* a proxy's page */
    assert_int_equal(f.exit, EXIT_ENVIRONMENT);
    assert_string_equal(f.code, "http.302");
    f = (struct failure){ .exit = EXIT_INPUT, .code = "client.file", .what = "cut \303", .where = "m\377.onnx" };
    json_t *odd = failure_json(&f);         /* is JSON all the same */
    assert_string_equal(text_of(odd, "where"), "m?.onnx");
    assert_string_equal(text_of(odd, "title"), "cut ");
    json_decref(odd);
}

static void a_request_that_lacks_something_is_not_sent(void **state)
{
    const struct http_request requests[] = {
        { .method = "GET", .path = "/v1/jobs", .fields = { "Range: bytes=1-", "If-Range: x" }, .single = true },
        { .method = "POST", .path = "/v1/jobs", .json = "{}", .single = true },
        { .method = "PATCH", .path = "/v1/uploads/x", .fields = { "Upload-Offset: 0" }, .fd = 1, .length = 5, .single = true },
    };
    struct service s = { .url = "https://localhost", .token = "rq_x", .ca = "/dev/null" };
    struct failure f = { 0 };
    (void)state;
    assert_true(service_open(&s, &f));
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (scarce.refuse = 1;; scarce.refuse++) {
            struct http_answer answer;
            f = (struct failure){ 0 };
            scarce.told = scarce.performed = 0;
            assert_false(http_send(&s, &requests[i], &answer, &f));
            http_release(&answer);
            if (scarce.told < scarce.refuse)
                break;
            assert_int_equal(scarce.performed, 0);
            assert_string_equal(f.code, "client.memory");
        }
        assert_int_equal(scarce.performed, 1);
        assert_in_range(scarce.refuse, 15, 60);
    }
    service_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_is_that_of_the_standard),
        cmocka_unit_test(sha256_does_not_depend_on_the_pieces),
        cmocka_unit_test(retry_after_is_a_number_or_a_date),
        cmocka_unit_test(delays_grow_to_a_bound_and_obey_the_service),
        cmocka_unit_test(patience_ends),
        cmocka_unit_test(a_url_is_made_plain_or_refused),
        cmocka_unit_test(a_token_goes_by_tls_or_stays_here),
        cmocka_unit_test(names_of_files_lead_nowhere_else),
        cmocka_unit_test(a_range_is_the_one_asked_for),
        cmocka_unit_test(options_come_in_any_order),
        cmocka_unit_test(options_that_are_wrong_are_usage),
        cmocka_unit_test(a_problem_becomes_an_exit_code),
        cmocka_unit_test(a_request_that_lacks_something_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
