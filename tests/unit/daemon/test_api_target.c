/* The request target: one decoder, and what it cannot decode without doubt it refuses. */
#include "api/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void a_path_is_split_and_decoded_once(void **state)
{
    struct target t;
    struct err e = { 0 };
    (void)state;
    assert_true(target_parse("/v1/models/a%20b%2541?name=x%26y+z&limit=5", &t, &e));
    assert_int_equal(t.segments, 3);
    assert_string_equal(t.segment[2], "a b%41");        /* %25 gives a percent sign, and that is not decoded again */
    assert_int_equal(t.queries, 2);
    assert_string_equal(t.query[0].name, "name");
    assert_string_equal(t.query[0].value, "x&y z");
    assert_string_equal(t.query[1].value, "5");
    assert_string_equal(t.path, "/v1/models/a%20b%2541");
    target_release(&t);
}

static void the_root_has_no_segments_and_a_last_slash_adds_an_empty_one(void **state)
{
    struct target t;
    (void)state;
    assert_true(target_parse("/", &t, NULL));
    assert_int_equal(t.segments, 0);
    target_release(&t);
    assert_true(target_parse("/v1/", &t, NULL));
    assert_int_equal(t.segments, 2);
    assert_string_equal(t.segment[1], "");
    target_release(&t);
}

static void doubtful_targets_are_refused(void **state)
{
    static const char *const doubtful[] = {
        "", "v1/models", "*", "http://127.0.0.1/healthz", "/a%", "/a%4", "/a%zz", "/a%00b", "/a%0a", "/a%7f", "/a%2fb", "/a%5Cb",
        "/a\\b", "/a#b", "/a b", "/a\tb", "/\x80", "/..", "/a/../b", "/%2e%2e/b", "/.", "/a/%2E", "/%c0%ae", "/%ff", "/%ed%a0%80",
        "/a?x=%00", "/a?x=%zz", "/a?x=1&x=2", "/1/2/3/4/5/6/7/8/9",
        "/?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17",
    };
    (void)state;
    for (size_t i = 0; i < sizeof doubtful / sizeof *doubtful; i++) {
        struct target t;
        struct err e = { 0 };
        if (target_parse(doubtful[i], &t, &e))
            fail_msg("taken: %s", doubtful[i]);
        assert_int_equal(e.code, ERR_REQUEST_FRAMING);
        target_release(&t);
    }
}

static void a_target_that_is_too_long_is_refused_and_logged_in_part(void **state)
{
    static char raw[REQUEST_MAX_TARGET + 2];
    struct target t;
    (void)state;
    memset(raw, 'a', sizeof raw - 1);
    raw[0] = '/';
    assert_false(target_parse(raw, &t, NULL));
    assert_int_equal(strlen(t.path), sizeof t.path - 1);
    target_release(&t);
}

static void decoding_an_encoded_text_gives_the_text(void **state)
{
    (void)state;
    for (int c = 0x20; c < 0x7f; c++) {
        char raw[32];
        struct target t;
        if (c == '/' || c == '\\' || c == '.')
            continue;
        snprintf(raw, sizeof raw, "/x?k=%%%02X", c);
        assert_true(target_parse(raw, &t, NULL));
        assert_int_equal(t.query[0].value[0], c);
        target_release(&t);
        snprintf(raw, sizeof raw, "/%%%02x", c);
        assert_true(target_parse(raw, &t, NULL));
        assert_int_equal(t.segment[0][0], c);
        target_release(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_split_and_decoded_once),
        cmocka_unit_test(the_root_has_no_segments_and_a_last_slash_adds_an_empty_one),
        cmocka_unit_test(doubtful_targets_are_refused),
        cmocka_unit_test(a_target_that_is_too_long_is_refused_and_logged_in_part),
        cmocka_unit_test(decoding_an_encoded_text_gives_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
