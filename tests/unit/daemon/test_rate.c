/* Buckets: what they let through, and that many keys cost no more memory than few. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api/rate.h"

#include <stdio.h>

enum { SECOND = 1000000 };
static const struct rate_limit TEN = { .per_second = 10, .burst = 20 };

/* How many of `n` requests of the key pass at the same moment. */
static int passed(struct rate_table *t, const char *key, int n, int64_t now)
{
    struct rate_state s;
    int ok = 0;
    for (int i = 0; i < n; i++)
        ok += rate_take(t, key, now, &s);
    return ok;
}

static void a_burst_passes_and_then_so_many_a_second(void **state)
{
    struct rate_table *t = rate_new(TEN, 100, NULL);
    struct rate_state s;
    int64_t now = 77 * SECOND;
    (void)state;
    assert_non_null(t);
    assert_true(rate_take(t, "a", now, &s));
    assert_int_equal(s.remaining, 19);
    assert_int_equal(s.full_us, SECOND / 10);
    assert_int_equal(passed(t, "a", 100, now), 19);
    assert_false(rate_take(t, "a", now, &s));
    assert_int_equal(s.remaining, 0);
    assert_int_equal(s.wait_us, SECOND / 10);
    assert_false(rate_take(t, "a", now + s.wait_us - 1, &s));
    assert_int_equal(s.wait_us, 1);
    assert_true(rate_take(t, "a", now + SECOND / 10, &s));
    assert_int_equal(passed(t, "b", 100, now), 20);             /* somebody else's is full */
    for (int i = 2; i < 12; i++)                                /* for a second in steps: ten */
        assert_int_equal(passed(t, "a", 5, now + i * (SECOND / 10)), 1);
    assert_int_equal(passed(t, "a", 100, now + 3600ll * SECOND), 20);
    assert_int_equal(passed(t, "a", 100, now), 0);              /* a clock that steps back gives nothing */
    rate_free(t);
}

static void the_largest_limits_do_not_overflow(void **state)
{
    static const struct rate_limit limits[] = { { 1, 1000000 }, { 1000000, 1 }, { 1000000, 1000000 }, { 1, 1 } };
    struct rate_state s;
    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rate_table *t = rate_new(limits[i], 1, NULL);
        assert_true(rate_take(t, "a", 1, &s));
        assert_true(rate_take(t, "a", INT64_MAX / 16, &s));     /* as long as a clock may run */
        assert_true(s.full_us >= 0 && s.remaining >= 0 && s.wait_us == 0);
        rate_free(t);
    }
}

static void ten_thousand_keys_do_not_help_the_one_that_asks_too_much(void **state)
{
    struct rate_table *t = rate_new(TEN, 512, NULL);
    struct rate_state s;
    char key[16];
    (void)state;
    assert_int_equal(passed(t, "greedy", 100, SECOND), 20);
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_true(rate_take(t, key, SECOND, &s));             /* a stranger among many still gets in */
    }
    assert_int_equal(passed(t, "greedy", 100, SECOND), 0);      /* its bucket is the emptiest of its row: it stays */
    rate_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_passes_and_then_so_many_a_second),
        cmocka_unit_test(the_largest_limits_do_not_overflow),
        cmocka_unit_test(ten_thousand_keys_do_not_help_the_one_that_asks_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
