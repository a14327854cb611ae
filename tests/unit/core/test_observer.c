/* Statistics that may be gathered in any order by any number of threads, against sorted data. */
#include "core/quant/observer.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
enum { N = 4001 };

static uint64_t state_of_random = 1;

static float uniform(float lo, float hi)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(state_of_random >> 40) * 0x1p-24f;
}

static void make(struct observer *o, size_t channels)
{
    struct err e = { 0 };
    assert_true(observer_init(o, channels, &e));
}

static void heads_add_up_to_the_whole_tensor(void **state)
{
    (void)state;
    enum { IMAGES = 3, HEADS = 4, POSITIONS = 50 };
    static float x[IMAGES * HEADS * POSITIONS];
    struct observer split, whole, merged, one;
    struct err e = { 0 };
    for (size_t i = 0; i < COUNT(x); i++)
        x[i] = i == 7 ? NAN : i == 70 ? INFINITY : i == 77 ? 3 : i == 78 ? -1 : ldexpf(uniform(0, 1), (int)uniform(-60, 0));
    make(&split, 0), make(&whole, 0), make(&merged, 0);
    assert_true(observer_split(&split, HEADS, &e) && observer_split(&merged, HEADS, &e));
    observer_add_heads(&split, x, IMAGES, POSITIONS);
    observer_add(&whole, x, COUNT(x));
    observer_merge(&merged, &split);
    observer_merge(&merged, &split);
    assert_true(split.count == whole.count && split.range.nan == 1 && split.range.inf == 1);
    assert_memory_equal(split.bins, whole.bins, OBSERVER_BINS * sizeof *whole.bins);
    for (size_t h = 0; h < HEADS; h++) {
        make(&one, 0);
        for (size_t i = 0; i < IMAGES; i++)
            observer_add(&one, x + (i * HEADS + h) * POSITIONS, POSITIONS);
        assert_memory_equal(split.head_bins + h * OBSERVER_HEAD_BINS, one.bins + OBSERVER_HEAD_FIRST, OBSERVER_HEAD_BINS * sizeof *one.bins);
        for (size_t b = 0; b < OBSERVER_HEAD_BINS; b++)
            assert_true(merged.head_bins[h * OBSERVER_HEAD_BINS + b] == 2 * one.bins[OBSERVER_HEAD_FIRST + b]);
        observer_release(&one);
    }
    observer_release(&split), observer_release(&whole), observer_release(&merged);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Values of many sizes and both signs. */
static float spread(int kind)
{
    switch (kind) {
    case 0: return uniform(-1, 1);
    case 1: return ldexpf(uniform(-1, 1), (int)uniform(-140, 120));
    case 2: return uniform(0, 1) < 0.999f ? uniform(0, 0.01f) : 1000;
    case 3: return -uniform(3, 4);
    case 4: return (float)(int)uniform(-3, 4);
    default: return FLT_MAX * uniform(-1, 1);
    }
}

/* A bin is at most 1/128 of its value wide. */
static bool within_a_bin(float got, float lo, float hi)
{
    double slack = 1.0 / 128;
    return (double)got >= (double)lo - slack * fabs((double)lo) - 1e-38 && (double)got <= (double)hi + slack * fabs((double)hi) + 1e-38;
}

static void a_quantile_lies_within_a_bin_of_the_sorted_data(void **state)
{
    (void)state;
    static const double ps[] = { 0, 1e-6, 1e-4, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999, 1 - 1e-6, 1 };
    static float x[N];
    for (int kind = 0; kind < 6; kind++)
        for (size_t n = 1; n <= N; n = n * 10 + 1) {
            struct observer o;
            make(&o, 0);
            for (size_t i = 0; i < n; i++)
                x[i] = spread(kind);
            observer_add(&o, x, n);
            qsort(x, n, sizeof *x, by_value);
            float before = -INFINITY;
            for (size_t i = 0; i < COUNT(ps); i++) {
                double rank = ps[i] * (double)(n - 1);
                float got = observer_quantile(&o, ps[i]), lo = x[(size_t)floor(rank)], hi = x[(size_t)ceil(rank)];
                if (!within_a_bin(got, lo, hi) || got < before || got < x[0] || got > x[n - 1])
                    fail_msg("kind %d, %zu values, p %g: %g, sorted %g..%g", kind, n, ps[i], (double)got, (double)lo, (double)hi);
                before = got;
            }
            observer_release(&o);
        }
}

static void a_quantile_never_decreases_with_p(void **state)
{
    (void)state;
    static float x[200];
    struct observer o;
    make(&o, 0);
    for (size_t i = 0; i < 200; i++)
        x[i] = i < 5 ? 1 + (float)i * 0x1p-7f : 1.0390625f + uniform(0, 0.005f);      /* lone values, then a full bin */
    observer_add(&o, x, 200);
    float before = 0;
    for (int i = 0; i <= 10000; i++) {
        float got = observer_quantile(&o, i * 1e-4);
        if (got < before)
            fail_msg("p %g: %.8g after %.8g", i * 1e-4, (double)got, (double)before);
        before = got;
    }
    observer_release(&o);
}

static void nothing_seen_and_one_value_seen_are_no_special_cases(void **state)
{
    (void)state;
    struct observer o;
    uint64_t bins[4];
    make(&o, 0);
    assert_true(observer_quantile(&o, 0.5) == 0 && observer_outside(&o, -1, 1) == 0);
    observer_rebin(&o, -1, 1, 4, bins);
    assert_true(bins[0] + bins[1] + bins[2] + bins[3] == 0);
    observer_add(&o, &(float){ -0.3f }, 1);
    assert_true(observer_quantile(&o, 0) == -0.3f && observer_quantile(&o, 1) == -0.3f && observer_quantile(&o, 0.5) == -0.3f);
    assert_true(o.range.lo == -0.3f && o.range.hi == -0.3f && o.count == 1);
    observer_rebin(&o, -0.3f, -0.3f, 4, bins);
    assert_true(bins[0] + bins[1] + bins[2] + bins[3] == 1);
    observer_release(&o);
}

static bool same(const struct observer *a, const struct observer *b)
{
    return a->range.lo == b->range.lo && a->range.hi == b->range.hi && a->range.nan == b->range.nan && a->range.inf == b->range.inf
        && a->count == b->count && memcmp(a->bins, b->bins, OBSERVER_BINS * sizeof *a->bins) == 0
        && memcmp(a->lo, b->lo, a->channels * sizeof *a->lo) == 0 && memcmp(a->hi, b->hi, a->channels * sizeof *a->hi) == 0;
}

/* However rows are dealt out to threads and in whichever order these are merged. */
static void any_split_and_any_order_of_merging_gives_the_same_statistics(void **state)
{
    (void)state;
    enum { CHANNELS = 7, ROWS = 143, PARTS = 5 };
    static float x[ROWS * CHANNELS];
    for (size_t i = 0; i < COUNT(x); i++)
        x[i] = i % 97 == 5 ? NAN : i % 101 == 7 ? -INFINITY : spread((int)(i % 6));
    struct observer whole;
    make(&whole, CHANNELS);
    observer_add(&whole, x, ROWS);
    for (int round = 0; round < 8; round++) {
        struct observer part[PARTS], sum;
        make(&sum, CHANNELS);
        for (int i = 0; i < PARTS; i++)
            make(&part[i], CHANNELS);
        for (size_t r = 0; r < ROWS; ) {
            size_t rows = 1 + (size_t)uniform(0, 20);
            rows = rows > ROWS - r ? ROWS - r : rows;
            observer_add(&part[(size_t)uniform(0, PARTS)], x + r * CHANNELS, rows);
            r += rows;
        }
        for (int i = 0; i < PARTS; i++)
            observer_merge(&sum, &part[(i * 2 + round) % PARTS]);
        assert_true(same(&whole, &sum));
        for (int i = 0; i < PARTS; i++)
            observer_release(&part[i]);
        observer_release(&sum);
    }
    observer_release(&whole);
}

static void nan_and_infinity_are_counted_and_are_no_values(void **state)
{
    (void)state;
    static const float x[] = { 1, NAN, -2, INFINITY, 3, -INFINITY, -NAN, 0.0f, -0.0f };
    struct observer o;
    uint64_t bins[8], sum = 0;
    make(&o, 0);
    observer_add(&o, x, COUNT(x));
    assert_true(o.range.nan == 2 && o.range.inf == 2 && o.count == 5 && o.range.lo == -2 && o.range.hi == 3);
    observer_rebin(&o, -2, 3, 8, bins);
    for (int i = 0; i < 8; i++)
        sum += bins[i];
    assert_true(sum == 5);
    assert_true(observer_quantile(&o, 0) <= -2 + 1.0f / 64 && observer_quantile(&o, 1) == 3);
    observer_release(&o);
}

static void rebinning_keeps_every_count(void **state)
{
    (void)state;
    static float x[N];
    static uint64_t bins[4096];
    static const float ranges[][2] = { { -1, 1 }, { 0, 0 }, { -FLT_MAX, FLT_MAX }, { 1e-40f, 2e-40f }, { 5, 6 }, { -9, -8 } };
    for (int kind = 0; kind < 6; kind++) {
        struct observer o;
        make(&o, 0);
        for (size_t i = 0; i < N; i++)
            x[i] = spread(kind);
        observer_add(&o, x, N);
        for (size_t r = 0; r < COUNT(ranges); r++)
            for (size_t n = 1; n <= 4096; n *= 16) {
                uint64_t sum = 0;
                observer_rebin(&o, ranges[r][0], ranges[r][1], n, bins);
                for (size_t i = 0; i < n; i++)
                    sum += bins[i];
                assert_true(sum == N);
            }
        observer_release(&o);
    }
}

static void what_lies_outside_is_the_share_of_the_data_to_a_bin(void **state)
{
    (void)state;
    static float x[N];
    struct observer o;
    make(&o, 0);
    for (size_t i = 0; i < N; i++)
        x[i] = uniform(-1, 1);
    observer_add(&o, x, N);
    assert_true(observer_outside(&o, -1, 1) == 0 && observer_outside(&o, o.range.lo, o.range.hi) == 0);
    assert_true(observer_outside(&o, 2, 3) == 1);
    for (float lo = -0.9f; lo < 0; lo += 0.2f) {
        size_t out = 0;
        for (size_t i = 0; i < N; i++)
            out += x[i] < lo || x[i] > 0.5f;
        assert_true(fabs(observer_outside(&o, lo, 0.5f) - (double)out / N) < 0.01);
    }
    observer_release(&o);
}

static void the_channel_ratio_is_the_widest_channel_over_the_median_one(void **state)
{
    (void)state;
    static const float x[] = { 0, 0, 0, 5, 0, 1, 2, 80, 5, 4 };      /* widths 1, 2, 80, 0 (left out), 4 */
    struct observer o, none;
    struct err e = { 0 };
    make(&o, 5);
    make(&none, 0);
    observer_add(&o, x, 2);
    assert_true(o.lo[2] == 0 && o.hi[2] == 80 && o.lo[3] == 5 && o.hi[3] == 5);
    static const float mul[] = { 1, 1, 0.05f, 1, 0.5f };             /* widths 1, 2, 4, 0, 2 */
    double ratio, scaled, of_none;
    assert_true(observer_channel_ratio(&o, NULL, &ratio, &e) && observer_channel_ratio(&o, mul, &scaled, &e)
                && observer_channel_ratio(&none, NULL, &of_none, &e));
    assert_true(ratio == 20 && fabs(scaled - 2) < 1e-6 && of_none == 1);
    observer_release(&o);
    observer_release(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quantile_lies_within_a_bin_of_the_sorted_data),
        cmocka_unit_test(a_quantile_never_decreases_with_p),
        cmocka_unit_test(nothing_seen_and_one_value_seen_are_no_special_cases),
        cmocka_unit_test(any_split_and_any_order_of_merging_gives_the_same_statistics),
        cmocka_unit_test(heads_add_up_to_the_whole_tensor),
        cmocka_unit_test(nan_and_infinity_are_counted_and_are_no_values),
        cmocka_unit_test(rebinning_keeps_every_count),
        cmocka_unit_test(what_lies_outside_is_the_share_of_the_data_to_a_bin),
        cmocka_unit_test(the_channel_ratio_is_the_widest_channel_over_the_median_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
