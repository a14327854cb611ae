/* SmoothQuant's factors: worked examples done by hand, and the laws behind them. */
#include "core/kernel/kernel.h"
#include "core/quant/quantizer.h"
#include "core/quant/smooth.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct arena *mem;

/* Two tokens of three channels, two outputs. */
static const float x[] = { .6f, -9, 1, -1, 16, .3f };
static const float w[] = { .5f, .25f, -.9f, -.2f, .11f, .4f };
static float lo[] = { -1, -9, .3f }, hi[] = { .6f, 16, 1 };
static const struct rows rows = { .x = x, .n = 2, .channels = 3 };
static const struct ranges full = { lo, hi };
static const struct smooth_reader reader = { 2, 8, { .rows = 0 } };

static struct smooth_task task(void)
{
    return (struct smooth_task){ .rows = &rows, .full = &full, .w = w, .readers = &reader, .n_readers = 1, .bits = 8, .symmetric = true };
}

static void near(float got, double want, const char *what)
{
    if (!(fabs((double)got - want) <= 1e-6 * fmax(1, fabs(want))))
        fail_msg("%s: %.9g, not %.9g", what, (double)got, want);
}

static void factors(const struct smooth_task *t, double alpha, float *ret)
{
    struct err e = { 0 };
    if (!smooth_factors(t, alpha, mem, ret, &e))
        fail_msg("%s", e.text);
}

static void the_worked_example_has_these_factors(void **state)
{
    (void)state;
    static const struct { double alpha, s[3]; } want[] = {
        { .5, { 1.4142135, 8, 1.0540926 } }, { .8, { 1.1486983, 12.125732, 1.0212957 } }, { 1, { 1, 16, 1 } }, { 0, { 2, 4, 1.1111112 } },
    };
    struct smooth_task t = task();
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        float s[3];
        factors(&t, want[i].alpha, s);
        for (int c = 0; c < 3; c++)
            near(s[c], want[i].s[c], "s");
    }
}

static void the_worked_example_is_shared_like_this(void **state)
{
    (void)state;
    static const double x_hat[] = { .4242641, -1.125, .9486833, -.70710677, 2, .284605 };
    static const double w_hat[] = { .70710677, 2, -.94868326, -.28284273, .88, .42163703 };
    struct smooth_task t = task();
    float s[3], low, high;
    factors(&t, .5, s);
    for (int i = 0; i < 6; i++) {
        near(x[i] / s[i % 3], x_hat[i], "x / s");
        near(w[i] * s[i % 3], w_hat[i], "W s");
    }
    smooth_range(&full, s, 3, &low, &high);
    near(low, -1.125, "low");
    near(high, 2, "high");
    for (int o = 0; o < 2; o++) {        /* codes of W s, a scale per output */
        static const int codes[2][3] = { { 45, 127, -60 }, { -41, 127, 61 } };
        static const double scales[] = { .015748031, .006929134 };
        float row[3], reach = 0;
        for (int c = 0; c < 3; c++)
            reach = fmaxf(reach, fabsf(row[c] = w[o * 3 + c] * s[c]));
        struct affine a = quantizer_from_range(-reach, reach, 8, true);
        near(a.scale, scales[o], "scale");
        quantize_to_float(3, row, a.scale, 0, a.qmin, a.qmax, row);
        for (int c = 0; c < 3; c++)
            assert_int_equal((int)row[c], codes[o][c]);
    }
}

static double error_with(const struct smooth_task *t, const float *s)
{
    double error;
    struct err e = { 0 };
    assert_true(smooth_error(t, s, mem, &error, &e));
    return error;
}

static void the_worked_example_loses_this_much(void **state)
{
    (void)state;
    struct smooth_task t = task();
    float s[3], one[3] = { 1, 1, 1 };
    factors(&t, .5, s);
    double raw = error_with(&t, one) / 4, smooth = error_with(&t, s) / 4;
    if (!(fabs(raw / 9.360e-4 - 1) < 1e-3 && fabs(smooth / 1.377e-4 - 1) < 1e-3))
        fail_msg("mean squared error %g, smoothed %g", raw, smooth);
}

static void a_norm_that_takes_up_factors_gives_the_smoothed_values(void **state)
{
    (void)state;
    static const float in[] = { 1, 3, 5 }, gamma[] = { 1, 2, .5f }, beta[] = { .1f, 0, -.2f }, s[] = { 2, .5f, 4 };
    static const double own[] = { -1.12474258, 0, .41237129 }, folded[] = { -.56237129, 0, .10309282 };
    float y[3], g[3], b[3];
    layernorm(1, 3, in, gamma, beta, 1e-5f, y);
    for (int c = 0; c < 3; c++) {
        assert_true(fabs((double)y[c] - own[c]) < 1e-5);
        g[c] = gamma[c] / s[c];
        b[c] = beta[c] / s[c];
    }
    layernorm(1, 3, in, g, b, 1e-5f, y);
    for (int c = 0; c < 3; c++)
        assert_true(fabs((double)y[c] - folded[c]) < 1e-5);
}

static void a_dead_channel_and_a_dead_column_do_no_harm(void **state)
{
    (void)state;
    float low[] = { 0, -2, -FLT_MAX, -1 }, high[] = { 0, 1, FLT_MAX, 1 }, s[4];
    const float values[] = { 0, 1, 1, 1 }, weights[] = { .5f, 0, FLT_MAX, 1 };
    struct rows r = { .x = values, .n = 1, .channels = 4 };
    struct ranges range = { low, high };
    struct smooth_reader one = { 1, 8, { .rows = 0 } };
    struct smooth_task t = { .rows = &r, .full = &range, .w = weights, .readers = &one, .n_readers = 1, .bits = 8 };
    factors(&t, .5, s);
    assert_true(s[0] == 1);            /* never seen: x / s would explode should it wake up */
    near(s[1], sqrt(2) / sqrt(1e-5), "a column of zeros");
    assert_true(s[2] == 1);            /* W s would not be finite */
    near(s[3], 1, "the last");
    t.w = (const float[]){ .5f, 0, 1, 1 };
    factors(&t, 1, s);
    near(s[2], 1e8, "the most");
}

static void channels_of_a_group_share_a_factor_and_a_floor_spares_the_quiet(void **state)
{
    (void)state;
    static const int group[] = { 0, 1, 0 };
    struct smooth_task t = task();
    float s[3];
    t.group = group;
    t.groups = 2;
    factors(&t, .5, s);
    assert_true(s[0] == s[2]);
    near(s[0], 1 / sqrt(.9), "of the widest of both");
    near(s[1], 8, "the other");
    t = task();
    t.floor = 1;
    factors(&t, 1, s);
    for (int c = 0; c < 3; c++)
        near(s[c], 16, "as if all were as wide as the widest");
}

/* Rows with some loud channels; what comes out must not depend on threads, and be no worse than any alpha and than none. */
static void the_search_takes_the_best_and_threads_do_not_show(void **state)
{
    (void)state;
    enum { N = 400, K = 24, OUT = 30 };
    static float values[N * K], weights[OUT * K], low[K], high[K];
    struct err e = { 0 };
    assert_true(blas_init(&e));
    uint64_t random = 5;
    for (int i = 0; i < N * K + OUT * K; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        float u = (float)(random >> 40) * 0x1p-23f - 1;
        *(i < N * K ? &values[i] : &weights[i - N * K]) = i < N * K && i % K % 7 == 0 ? 40 * u : u;
    }
    for (int c = 0; c < K; c++) {
        low[c] = FLT_MAX;
        high[c] = -FLT_MAX;
    }
    range_of_columns(N, K, values, low, high);
    struct ranges range = { low, high };
    for (size_t i = 0; i < 6; i++) {
        size_t run = i % 3;                          /* all, one, two rows in a range */
        struct rows r = { .x = values, .n = i < 3 ? N / 2 : N, .channels = K };      /* so few that all are looked at at once, or not */
        const struct smooth_reader readers[] = { { 20, 8, { .rows = run } }, { OUT, 8, { .rows = run } } };
        struct smooth_task t = { .rows = &r, .full = &range, .w = weights, .readers = readers, .n_readers = 2, .bits = 8 };
        float s[K], again[K], one[K];
        double alpha, second;
        struct pool *pool = pool_new(3, &e);
        assert_true(smooth_search(&t, 1, NULL, mem, s, &alpha, &e) && smooth_search(&t, 1, pool, mem, again, &second, &e));
        pool_free(pool);
        assert_memory_equal(s, again, sizeof s);
        assert_true(alpha == second && alpha > 0);
        double best = error_with(&t, s);
        for (int a = 0; a <= 10; a++) {
            factors(&t, a / 10.0, again);
            assert_true(error_with(&t, again) >= best);
        }
        for (int c = 0; c < K; c++)
            one[c] = 1;
        if (!(best < 0.5 * error_with(&t, one)))
            fail_msg("%g against %g with none", best, error_with(&t, one));
        assert_true(smooth_search(&t, 0.01, NULL, mem, s, &alpha, &e));
        assert_true(alpha == SMOOTH_NONE);     /* nothing gains so much */
        assert_memory_equal(s, one, sizeof s);
    }
}

static int set_up(void **state)
{
    (void)state;
    mem = arena_new((uint64_t)1 << 30);
    return mem == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example_has_these_factors),
        cmocka_unit_test(the_worked_example_is_shared_like_this),
        cmocka_unit_test(the_worked_example_loses_this_much),
        cmocka_unit_test(a_norm_that_takes_up_factors_gives_the_smoothed_values),
        cmocka_unit_test(a_dead_channel_and_a_dead_column_do_no_harm),
        cmocka_unit_test(channels_of_a_group_share_a_factor_and_a_floor_spares_the_quiet),
        cmocka_unit_test(the_search_takes_the_best_and_threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
