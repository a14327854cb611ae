/* Ranges per channel: worked gradients, order statistics, and laws of the searches. */
#include "core/quant/clip.h"

#include "channel_data.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 600, CHANNELS = 24 };

static float x[ROWS * CHANNELS], weight[ROWS];

static int setup(void **state)
{
    *state = arena_new(1 << 28);
    return *state ? 0 : -1;
}

static int by_value(const void *a, const void *b)
{
    float p = *(const float *)a, q = *(const float *)b;
    return (p > q) - (p < q);
}

static void selection_is_sorting(void **state)
{
    (void)state;
    enum { N = 300 };
    float in[N], sorted[N], work[N];
    for (int shape = 0; shape < 5; shape++)
        for (size_t n = 1; n < N; n += 7) {
            for (size_t i = 0; i < n; i++)
                in[i] = (float[]){ bell(), 1, (float)i, -(float)i, (float)(i < n / 2 ? i : n - i) }[shape];
            memcpy(sorted, in, sizeof in);
            qsort(sorted, n, sizeof *sorted, by_value);
            for (size_t k = 0; k < n; k += 1 + k / 3) {
                memcpy(work, in, sizeof in);
                assert_true(clip_select(n, work, k) == sorted[k]);
                for (size_t i = 0; i < n; i++)
                    assert_true(i < k ? work[i] <= work[k] : work[i] >= work[k]);
            }
        }
}

/* One channel at 4 bits, by hand. */
static void the_gradient_of_both_ends_is_the_worked_one(void **state)
{
    (void)state;
    static const float values[] = { -3, -1.1f, -.7f, -.2f, 0, .3f, .6f, 1.4f, 1.9f, 6 };
    static const struct { float lo, hi; double error, to_lo, to_hi; } rows[] = {
        { -3, 6, .02, -.0044444, .0044444 },
        { -1.5f, 2.5f, 1.454, .298, -.698 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        double to_lo, to_hi;
        struct rows r = { values, 10, 1, NULL, values };
        clip_gradient(10, values, rows[i].lo, rows[i].hi, 4, &to_lo, &to_hi);
        double error = channel_error(&r, 0, rows[i].lo, rows[i].hi, 4) / 10;
        if (!(fabs(error - rows[i].error) < 1e-3 && fabs(to_lo - rows[i].to_lo) < 1e-3 && fabs(to_hi - rows[i].to_hi) < 1e-3))
            fail_msg("[%g, %g]: error %g, gradient %g %g", (double)rows[i].lo, (double)rows[i].hi, error, to_lo, to_hi);
    }
}

/* ---- the rules ---- */

static double quantile(size_t n, const float *sorted, double p)
{
    double at = p * (double)(n - 1), part = at - floor(at);
    size_t i = (size_t)at;
    return (double)sorted[i] + (i + 1 < n ? part * ((double)sorted[i + 1] - (double)sorted[i]) : 0);
}

static void percentiles_are_interpolated_order_statistics(void **state)
{
    static const size_t sizes[] = { 1, 2, 3, 10, 100, 599 };
    static const double ps[] = { .999, .9999, .99999 };
    struct err e = { 0 };
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        fill_channels(n, CHANNELS, 1, x);
        struct rows r = prepared(x, n, CHANNELS, NULL, *state);
        struct ranges full = extremes_of(n, CHANNELS, x, *state), got;
        assert_true(ranges_new(CHANNELS, *state, &got, &e));
        assert_true(clip_channels(CLIP_PERCENTILE, &r, &full, 4, NULL, *state, &got, &e));
        for (size_t c = 0; c < CHANNELS; c++) {
            float sorted[ROWS], lo = 0, hi = 0;
            double least = INFINITY;
            memcpy(sorted, r.columns + c * n, n * sizeof *sorted);
            qsort(sorted, n, sizeof *sorted, by_value);
            for (size_t i = 0; i < COUNT(ps); i++) {
                float l = (float)quantile(n, sorted, 1 - ps[i]), h = (float)quantile(n, sorted, ps[i]);
                double error = channel_error(&r, c, l, h, 4);
                if (error < least * (1 - 1e-6)) {
                    least = error;
                    lo = l;
                    hi = h;
                }
            }
            if (!(channel_error(&r, c, got.lo[c], got.hi[c], 4) <= least * (1 + 1e-4) + 1e-12))
                fail_msg("%zu rows, channel %zu: [%g, %g], not [%g, %g]", n, c, (double)got.lo[c], (double)got.hi[c], (double)lo, (double)hi);
        }
    }
}

static void check_grid(struct arena *mem, const char *label, size_t n, float unit, const float *weights, int bits)
{
    struct err e = { 0 };
    struct rows r = prepared(x, n, CHANNELS, weights, mem);
    struct ranges full = extremes_of(n, CHANNELS, x, mem), got;
    assert_true(ranges_new(CHANNELS, mem, &got, &e));
    assert_true(clip_channels(CLIP_GRID, &r, &full, bits, NULL, mem, &got, &e));
    for (size_t c = 0; c < CHANNELS; c++) {
        double before = channel_error(&r, c, full.lo[c], full.hi[c], bits), after = channel_error(&r, c, got.lo[c], got.hi[c], bits);
        double slack = (double)n * (double)unit * (double)unit * 1e-9;
        if (!(got.lo[c] >= full.lo[c] && got.hi[c] <= full.hi[c] && got.lo[c] <= got.hi[c] && after <= before * (1 + 1e-4) + slack))
            fail_msg("%s, %d bits, channel %zu: [%g, %g] costs %g, the extremes %g", label, bits, c, (double)got.lo[c],
                     (double)got.hi[c], after, before);
    }
}

static void the_grid_is_never_worse_than_the_extremes(void **state)
{
    static const struct { const char *label; size_t n; float unit; bool weighted; } rows[] = {
        { "ordinary", ROWS, 1, false }, { "weighted", ROWS, 1, true }, { "one row", 1, 1, false }, { "two rows", 2, 1, true },
        { "all zero", 50, 0, false }, { "tiny", 200, 1e-30f, false }, { "huge", 200, 1e30f, true },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        fill_channels(rows[i].n, CHANNELS, rows[i].unit, x);
        for (size_t k = 0; k < ROWS; k++)
            weight[k] = k % 10 ? 1 : 8;
        for (int bits = 2; bits <= 8; bits++)
            check_grid(*state, rows[i].label, rows[i].n, rows[i].unit, rows[i].weighted ? weight : NULL, bits);
    }
}

static double total_error(const struct rows *r, const struct ranges *a, int bits)
{
    double sum = 0;
    for (size_t c = 4; c < r->channels; c++)        /* the outliers would be all of the sum */
        sum += channel_error(r, c, a->lo[c], a->hi[c], bits);
    return sum;
}

static void tails_are_given_up_at_four_bits(void **state)
{
    struct err e = { 0 };
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state), got;
    assert_true(ranges_new(CHANNELS, *state, &got, &e));
    assert_true(clip_channels(CLIP_GRID, &r, &full, 4, NULL, *state, &got, &e));
    assert_true(total_error(&r, &full, 4) > 1.3 * total_error(&r, &got, 4));
    assert_true(clip_channels(CLIP_MINMAX, &r, &full, 4, NULL, *state, &got, &e));
    assert_memory_equal(got.lo, full.lo, CHANNELS * sizeof *got.lo);
    assert_memory_equal(got.hi, full.hi, CHANNELS * sizeof *got.hi);
}

/* A tail on one side only: shrinking both ends alike cannot give it up. */
static void each_end_is_found_for_itself(void **state)
{
    struct err e = { 0 };
    for (size_t i = 0; i < COUNT(x); i++)
        x[i] = expf(bell());
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state), got;
    double found = 0, alike = 0;
    assert_true(ranges_new(CHANNELS, *state, &got, &e));
    assert_true(clip_channels(CLIP_GRID, &r, &full, 4, NULL, *state, &got, &e));
    for (size_t c = 0; c < CHANNELS; c++) {
        float sorted[ROWS];
        memcpy(sorted, r.columns + c * ROWS, sizeof sorted);
        float median = clip_select(ROWS, sorted, (ROWS - 1) / 2), share = 1;
        double least = INFINITY;
        for (int k = 0; k < 13; k++, share *= 0.9f)
            least = fmin(least, channel_error(&r, c, median - share * (median - full.lo[c]), median + share * (full.hi[c] - median), 4));
        alike += least;
        found += channel_error(&r, c, got.lo[c], got.hi[c], 4);
    }
    if (!(found < 0.95 * alike))
        fail_msg("%g with both ends alike, %g", alike, found);
}

static void two_threads_find_the_same_ranges(void **state)
{
    struct err e = { 0 };
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state), one, two;
    struct pool *pool = pool_new(2, &e);
    assert_true(pool && ranges_new(CHANNELS, *state, &one, &e) && ranges_new(CHANNELS, *state, &two, &e));
    for (enum clip_rule rule = CLIP_MINMAX; rule <= CLIP_GRID; rule++) {
        assert_true(clip_channels(rule, &r, &full, 4, NULL, *state, &one, &e));
        assert_true(clip_channels(rule, &r, &full, 4, pool, *state, &two, &e));
        assert_memory_equal(one.lo, two.lo, CHANNELS * sizeof *one.lo);
        assert_memory_equal(one.hi, two.hi, CHANNELS * sizeof *one.hi);
    }
    pool_free(pool);
}

static void a_common_range_covers_at_eight_bits_and_clips_below(void **state)
{
    struct err e = { 0 };
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
    float lo, hi, low, high, least = 0, most = 0;
    for (size_t i = 0; i < COUNT(x); i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    assert_true(clip_common(&r, &full, 8, NULL, *state, &lo, &hi, &e) && lo == least && hi == most);
    assert_true(clip_common(&r, &full, 4, NULL, *state, &low, &high, &e));
    assert_true(low >= lo && high <= hi && high - low < hi - lo);
}

/* ---- few rows ---- */

static void few_rows_get_their_mean_and_some_deviations(void **state)
{
    struct err e = { 0 };
    const float few[] = { 0, 5, 2, 5, 4, 5 };       /* mean 2, deviation 2; and a constant 5 */
    struct rows r = prepared(few, 3, 2, NULL, *state);
    struct ranges full = extremes_of(3, 2, few, *state), got;
    assert_true(ranges_new(2, *state, &got, &e));
    clip_deviation(&r, &full, 4, &got);
    assert_true(fabsf(got.lo[0] - (2 - 2.68f * 2)) < 1e-5f && fabsf(got.hi[0] - (2 + 2.68f * 2)) < 1e-5f);
    assert_true(fabsf(got.lo[1] - (5 - 2.68f * 0.5f)) < 1e-5f && fabsf(got.hi[1] - (5 + 2.68f * 0.5f)) < 1e-5f);
    full.hi[0] = 100;
    clip_deviation(&r, &full, 4, &got);
    assert_true(got.hi[0] < 8);
    clip_deviation(&r, &full, 8, &got);
    assert_true(got.hi[0] == 100 && fabsf(got.lo[0] - (2 - 3.95f * 2)) < 1e-5f);
    struct rows one = prepared(few, 1, 2, NULL, *state);
    clip_deviation(&one, &full, 4, &got);
    assert_true(got.lo[0] == 0 && got.hi[0] == 0 && got.lo[1] == 5 && got.hi[1] == 5);
}

/* ---- learning ---- */

enum { OUTPUTS = 40 };
static float w[OUTPUTS * CHANNELS], gram[CHANNELS * CHANNELS];

static void fill_weights(void)
{
    for (size_t i = 0; i < COUNT(w); i++)
        w[i] = 0.1f * bell();
    gemm(true, false, CHANNELS, CHANNELS, OUTPUTS, w, CHANNELS, w, CHANNELS, false, gram, CHANNELS);
}

/* ||(X - X') W^T||^2 by the formula. */
static double output_error(const struct rows *r, const struct ranges *a, int bits)
{
    double top = (1 << bits) - 1, sum = 0;
    for (size_t i = 0; i < r->n; i++)
        for (size_t o = 0; o < OUTPUTS; o++) {
            double off = 0;
            for (size_t c = 0; c < r->channels; c++) {
                double v = (double)r->x[i * r->channels + c], lo = (double)a->lo[c], step = ((double)a->hi[c] - lo) / top;
                double level = step > 0 ? lo + step * rint(fmax(0, fmin(top, (v - lo) / step))) : lo;
                off += (level - v) * (double)w[o * CHANNELS + c];
            }
            sum += (r->weight ? (double)r->weight[i] : 1) * off * off;
        }
    return sum;
}

static double learn(struct arena *mem, size_t n, float unit, const float *weights, enum clip_rule start, int bits)
{
    struct err e = { 0 };
    fill_channels(n, CHANNELS, unit, x);
    struct rows r = prepared(x, n, CHANNELS, weights, mem);
    struct ranges full = extremes_of(n, CHANNELS, x, mem), from, to;
    double gain;
    assert_true(ranges_new(CHANNELS, mem, &from, &e) && ranges_new(CHANNELS, mem, &to, &e));
    assert_true(clip_channels(start, &r, &full, bits, NULL, mem, &from, &e));
    memcpy(to.lo, from.lo, CHANNELS * sizeof *to.lo);
    memcpy(to.hi, from.hi, CHANNELS * sizeof *to.hi);
    assert_true(clip_learn(&r, gram, bits, 7, mem, &to, &gain, &e));
    double before = output_error(&r, &from, bits), after = output_error(&r, &to, bits);
    for (size_t c = 0; c < CHANNELS; c++)
        assert_true(isfinite(to.lo[c]) && isfinite(to.hi[c]) && to.lo[c] <= to.hi[c]);
    if (!(after <= before * (1 + 1e-4) && gain >= 0))
        fail_msg("%zu rows in units of %g: %g before, %g after", n, (double)unit, before, after);
    if (before > 1e-12 && unit == 1 && !(fabs(10 * log10(before / after) - gain) < 0.01))
        fail_msg("a gain of %g dB is said to be %g", 10 * log10(before / after), gain);
    return gain;
}

static void learning_is_never_worse_than_its_start_and_says_what_it_gains(void **state)
{
    fill_weights();
    for (size_t k = 0; k < ROWS; k++)
        weight[k] = k % 10 ? 1 : 8;
    for (int bits = 3; bits <= 8; bits++) {
        learn(*state, ROWS, 1, NULL, CLIP_GRID, bits);
        learn(*state, ROWS, 1, weight, CLIP_PERCENTILE, bits);
    }
    assert_true(learn(*state, ROWS, 1, NULL, CLIP_MINMAX, 4) > 0.5);
    static const struct { size_t n; float unit; } degenerate[] = { { 1, 1 }, { 2, 1 }, { 100, 0 }, { 300, 1e-18f }, { 300, 1e-30f },
                                                                   { 300, 1e12f }, { 300, 1e25f } };
    for (size_t i = 0; i < COUNT(degenerate); i++)
        learn(*state, degenerate[i].n, degenerate[i].unit, NULL, CLIP_GRID, 4);
}

static void rows_without_weight_teach_nothing(void **state)
{
    struct err e = { 0 };
    double gain;
    fill_weights();
    fill_channels(ROWS, CHANNELS, 1, x);
    for (size_t i = 0; i < ROWS; i++) {
        weight[i] = i % 2 ? 0 : 1;
        for (size_t c = 0; c < CHANNELS && i % 2; c++)
            x[i * CHANNELS + c] *= 3;
    }
    struct rows r = prepared(x, ROWS, CHANNELS, weight, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
    for (size_t c = 0; c < CHANNELS; c++)
        full.hi[c] *= 1.05f;
    assert_true(clip_learn(&r, gram, 4, 3, *state, &full, &gain, &e));
    if (!(gain > 2.3))
        fail_msg("%g dB", gain);
}

static void learning_depends_on_its_seed_only(void **state)
{
    struct err e = { 0 };
    double gain;
    fill_weights();
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges got[3];
    for (int i = 0; i < 3; i++) {
        got[i] = extremes_of(ROWS, CHANNELS, x, *state);
        assert_true(clip_learn(&r, gram, 4, i < 2 ? 1 : 2, *state, &got[i], &gain, &e) && gain > 0);
    }
    assert_memory_equal(got[0].lo, got[1].lo, CHANNELS * sizeof *got[0].lo);
    assert_memory_equal(got[0].hi, got[1].hi, CHANNELS * sizeof *got[0].hi);
    assert_memory_not_equal(got[0].hi, got[2].hi, CHANNELS * sizeof *got[0].hi);
}

static void no_memory_is_an_error(void **state)
{
    (void)state;
    struct arena *small = arena_new(1024);
    struct err e = { 0 };
    struct rows r = { x, ROWS, CHANNELS, NULL, NULL };
    assert_false(rows_prepare(&r, small, &e));
    assert_int_equal(e.code, ERR_MEMORY);
    arena_free(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selection_is_sorting),
        cmocka_unit_test(the_gradient_of_both_ends_is_the_worked_one),
        cmocka_unit_test_setup_teardown(percentiles_are_interpolated_order_statistics, setup, teardown),
        cmocka_unit_test_setup_teardown(the_grid_is_never_worse_than_the_extremes, setup, teardown),
        cmocka_unit_test_setup_teardown(tails_are_given_up_at_four_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(each_end_is_found_for_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(two_threads_find_the_same_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(a_common_range_covers_at_eight_bits_and_clips_below, setup, teardown),
        cmocka_unit_test_setup_teardown(few_rows_get_their_mean_and_some_deviations, setup, teardown),
        cmocka_unit_test_setup_teardown(learning_is_never_worse_than_its_start_and_says_what_it_gains, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_without_weight_teach_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(learning_depends_on_its_seed_only, setup, teardown),
        cmocka_unit_test(no_memory_is_an_error),
    };
    struct err e = { 0 };
    return blas_init(&e) ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
