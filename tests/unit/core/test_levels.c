/* Ranges of a whole tensor by squared error, and logarithmic levels of attention probabilities. */
#include "core/quant/levels.h"
#include "core/quant/quantizer.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint64_t state_of_random = 1;

static float uniform(float lo, float hi)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(state_of_random >> 40) * 0x1p-24f;
}

/* Nearly normal, with a tail where `far` is above 0. */
static float bell(float far)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform(0, 1);
    return uniform(0, 1) < 0.01f ? sum * (1 + far) : sum;
}

enum { N = 20000 };
static float values[N];

static void observe(struct observer *o, size_t n, const float *x)
{
    struct err e = { 0 };
    if (!observer_init(o, 0, &e))
        fail_msg("%s", e.text);
    observer_add(o, x, n);
}

/* ---- ranges ---- */

static double exact_error(size_t n, const float *x, float lo, float hi, int bits, bool symmetric)
{
    struct affine a = quantizer_from_range(lo, hi, bits, symmetric);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float q;
        quantize_to_float(1, x + i, a.scale, a.zero, a.qmin, a.qmax, &q);
        double off = (double)x[i] - (double)(q * a.scale);
        sum += off * off;
    }
    return sum / (double)n;
}

static void the_histogram_tells_the_error_of_a_range(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (size_t i = 0; i < N; i++)
        values[i] = bell(3) + 0.5f;
    struct observer o;
    observe(&o, N, values);
    for (int bits = 2; bits <= 8; bits++)
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            double got, want = exact_error(N, values, -3, 3.5f, bits, symmetric);
            assert_true(observer_range_error(&o, -3, 3.5f, bits, symmetric, &got, &e));
            if (!(fabs(got / want - 1) < 0.03))
                fail_msg("%d bits: %g, in truth %g", bits, got, want);
        }
    observer_release(&o);
}

static void check_search(const char *label, size_t n, const float *x, int bits, bool symmetric)
{
    struct err e = { 0 };
    struct observer o;
    observe(&o, n, x);
    float lo, hi;
    double found, extremes;
    assert_true(observer_search_range(&o, bits, symmetric, &lo, &hi, &e));
    assert_true(observer_range_error(&o, lo, hi, bits, symmetric, &found, &e));
    assert_true(observer_range_error(&o, o.range.lo, o.range.hi, bits, symmetric, &extremes, &e));
    if (!(lo <= hi && lo >= o.range.lo && hi <= o.range.hi && found <= extremes))
        fail_msg("%s at %d bits: [%g, %g] costs %g, the extremes %g", label, bits, (double)lo, (double)hi, found, extremes);
    observer_release(&o);
}

static void a_searched_range_is_never_worse_than_the_extremes(void **state)
{
    (void)state;
    static const struct { const char *label; float unit, offset, far; size_t n; } rows[] = {
        { "a bell", 1, 0, 0, N }, { "a bell with a tail", 1, 0, 8, N }, { "above zero", 1, 20, 3, N }, { "below zero", 1, -20, 3, N },
        { "tiny", 1e-30f, 0, 3, N }, { "huge", 1e30f, 0, 3, N }, { "one value", 1, 2, 0, 1 }, { "two values", 1, 0, 0, 2 },
        { "all equal", 0, 3, 0, 100 }, { "all zero", 0, 0, 0, 100 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        for (size_t k = 0; k < rows[i].n; k++)
            values[k] = rows[i].unit * bell(rows[i].far) + rows[i].offset;
        for (int bits = 2; bits <= 8; bits++) {
            check_search(rows[i].label, rows[i].n, values, bits, false);
            check_search(rows[i].label, rows[i].n, values, bits, true);
        }
    }
}

static void a_tail_is_given_up_at_four_bits(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (size_t i = 0; i < N; i++)
        values[i] = bell(8);
    struct observer o;
    observe(&o, N, values);
    float lo, hi;
    assert_true(observer_search_range(&o, 4, false, &lo, &hi, &e));
    double gain = exact_error(N, values, o.range.lo, o.range.hi, 4, false) / exact_error(N, values, lo, hi, 4, false);
    if (!(gain > 1.5))
        fail_msg("the range found is better by %g only", gain);
    observer_release(&o);
}

/* A tail on one side only: shrinking both ends alike cannot give it up. */
static void each_end_is_found_for_itself(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (size_t i = 0; i < N; i++)
        values[i] = expf(bell(0)) - 4;
    struct observer o;
    observe(&o, N, values);
    float lo, hi, median = observer_quantile(&o, 0.5), share = 1;
    double alike = INFINITY;
    assert_true(observer_search_range(&o, 4, false, &lo, &hi, &e));
    for (int k = 0; k < 20; k++, share *= 0.9f)
        alike = fmin(alike, exact_error(N, values, median - share * (median - o.range.lo), median + share * (o.range.hi - median), 4, false));
    double found = exact_error(N, values, lo, hi, 4, false);
    if (!(found < 0.98 * alike))
        fail_msg("%g with both ends alike, %g", alike, found);
    observer_release(&o);
}

static void nothing_seen_gives_an_empty_range_and_the_highest_levels(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct observer o;
    observe(&o, 0, values);
    float lo = 1, hi = 2;
    double error = 3;
    struct log_levels l = { 4, 0, 2, false };
    assert_true(observer_search_range(&o, 4, false, &lo, &hi, &e) && lo == 0 && hi == 0);
    assert_true(observer_range_error(&o, -1, 1, 4, false, &error, &e) && error == 0);
    assert_true(log_levels_search(&o, &l, &e) && l.j == 0 && l.bits == 4 && l.steps_per_octave == 2);
    observer_release(&o);
}

/* ---- logarithmic levels ---- */

/* Worked by hand: probabilities, their codes and levels in base sqrt 2 at 4 bits, code 15 being zero. */
static const float probabilities[] = { .55f, .21f, .11f, .06f, .04f, .02f, .0065f, .0035f, 0 };
static const struct { int j; uint8_t codes[9]; double error; } worked[] = {
    { 0, { 2, 5, 6, 8, 9, 11, 15, 15, 15 }, 4.346141e-4 },
    { 2, { 0, 3, 4, 6, 7, 9, 13, 14, 15 }, 4.286827e-4 },
};

static void a_row_of_probabilities_takes_the_worked_codes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(worked); i++) {
        struct log_levels l = { 4, worked[i].j, 2, false };
        uint8_t codes[9];
        float y[9];
        double error = 0;
        log_levels_quantize(&l, 9, probabilities, codes, y);
        assert_memory_equal(codes, worked[i].codes, sizeof codes);
        for (int k = 0; k < 9; k++)
            error += ((double)y[k] - (double)probabilities[k]) * ((double)y[k] - (double)probabilities[k]) / 9;
        if (!(fabs(error - worked[i].error) < 1e-9))
            fail_msg("j %d: error %.7g", l.j, error);
    }
}

/* As published: 16 levels at 4 bits and a zero beside them, which the same worked row needs. */
static void a_zero_beside_all_levels_is_as_published(void **state)
{
    (void)state;
    struct log_levels l = { 4, 0, 2, true };
    const uint8_t want[] = { 2, 5, 6, 8, 9, 11, 15, 16, 16 };
    uint8_t codes[9];
    float y[9];
    double error = 0;
    log_levels_quantize(&l, 9, probabilities, codes, y);
    assert_memory_equal(codes, want, sizeof want);
    for (int k = 0; k < 9; k++)
        error += ((double)y[k] - (double)probabilities[k]) * ((double)y[k] - (double)probabilities[k]) / 9;
    assert_true(fabs(error - 4.300254e-4) < 1e-9);
    assert_true(fabs((double)log_levels_form(&l).alpha - exp2(-7.75)) < 1e-9);
}

static void levels_change_half_a_step_apart(void **state)
{
    (void)state;
    for (int m = 1; m <= 2; m++)
        for (int bits = 2; bits <= 8; bits++)
            for (int j = 0; j <= LOG_MOST_J; j += 8) {
                struct log_levels l = { bits, j, m, false };
                for (int q = 0; q < (1 << bits) - 1; q++) {
                    double end = exp2(-(j + q + 0.5) / m);
                    float around[2] = { (float)(end * (1 + 1e-5)), (float)(end * (1 - 1e-5)) };
                    uint8_t codes[2];
                    if (end < (double)FLT_MIN)
                        continue;
                    log_levels_quantize(&l, 2, around, codes, NULL);
                    assert_int_equal(codes[0], q);
                    assert_int_equal(codes[1], q + 1);
                }
                assert_true(log_levels_value(&l, (1 << bits) - 1) == 0 && log_levels_value(&l, 0) == exp2(-(double)j / m));
            }
}

static void values_at_the_edge_have_codes_too(void **state)
{
    (void)state;
    struct log_levels l = { 4, 3, 2, false };
    const float x[] = { 0, -0.0f, 1, 2, FLT_MAX, FLT_TRUE_MIN, FLT_MIN };
    const uint8_t want[] = { 15, 15, 0, 0, 0, 15, 15 };
    uint8_t codes[COUNT(x)];
    log_levels_quantize(&l, COUNT(x), x, codes, NULL);
    assert_memory_equal(codes, want, sizeof want);
}

/* Sums with shifts and one product with sqrt 2 are sums of levels; the first by hand, at 5 bits, where code 15 is a level. */
static void the_parity_split_is_worked_out_by_hand(void **state)
{
    (void)state;
    const float v[9][2] = { { .1f, .2f }, { -.3f, 0 }, { .4f, -.1f }, { 0, .5f }, { .2f, .2f }, { -.6f, .1f }, { .7f, -.7f },
                            { .3f, .3f }, { .1f, .1f } };
    const uint8_t codes[9] = { 2, 5, 6, 8, 9, 11, 15, 31, 31 };
    const double even[2] = { .1, .11875 }, odd[2] = { -.0378906, .0050781 }, out[2] = { .046415, .125932 };
    struct log_levels l = { 5, 0, 2, false };
    for (int d = 0; d < 2; d++) {
        struct log_parity p = log_levels_dot(&l, 9, codes, v[0] + d, 2);
        assert_true(fabs(p.even - even[d]) < 1e-7 && fabs(p.odd - odd[d]) < 1e-7 && fabs(log_parity_value(&l, p) - out[d]) < 1e-6);
    }
}

static void the_parity_split_is_the_table(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct log_levels l = { 2 + i % 7, i % (LOG_MOST_J + 1), 1 + i % 2, false };
        uint8_t codes[64];
        float v[64];
        double sum = 0, size = 0;
        for (int k = 0; k < 64; k++) {
            codes[k] = (uint8_t)uniform(0, (float)(1 << l.bits));
            v[k] = uniform(-1, 1);
            sum += log_levels_value(&l, codes[k]) * (double)v[k];
            size += fabs(log_levels_value(&l, codes[k]) * (double)v[k]);
        }
        assert_true(fabs(log_parity_value(&l, log_levels_dot(&l, 64, codes, v, 1)) - sum) <= 1e-14 * size);
    }
}

/* A row of probabilities of random logits, peaked the more the larger `reach`. */
static void probabilities_of(size_t n, float reach, float *logits, float *y)
{
    for (size_t i = 0; i < n; i++)
        logits[i] = reach * uniform(-1, 1);
    softmax(1, n, logits, y);
}

/* What the operators do to one row. */
static void run_form(const struct log_form *f, size_t n, const float *logits, float *y)
{
    log_softmax(1, n, logits, y);
    for (size_t i = 0; i < n; i++)
        y[i] = fmaxf(rintf(y[i] * f->to_steps), f->first) * f->from_steps;
    vec_exp(n, y, y);
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] > f->alpha ? y[i] : 0;
}

static void the_operators_compute_the_levels(void **state)
{
    (void)state;
    enum { ROW = 197 };
    float logits[ROW], p[ROW], want[ROW], got[ROW];
    for (int i = 0; i < 2000; i++) {
        struct log_levels l = { 2 + i % 7, i % (LOG_MOST_J + 1), 1 + i % 2, false };
        struct log_form f = log_levels_form(&l);
        probabilities_of(ROW, (float)(i % 12), logits, p);
        log_levels_quantize(&l, ROW, p, NULL, want);
        run_form(&f, ROW, logits, got);
        for (int k = 0; k < ROW; k++) {
            double steps = -l.steps_per_octave * log2((double)p[k]);
            if (fabs(steps - floor(steps) - 0.5) < 1e-4)
                continue;       /* between two levels either is right */
            if (!(fabs((double)got[k] - (double)want[k]) <= 3e-6 * (double)want[k]))
                fail_msg("%d bits, j %d: %g gives %g, not %g", l.bits, l.j, (double)p[k], (double)got[k], (double)want[k]);
        }
    }
}

static double level_error(const struct log_levels *l, size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float y;
        log_levels_quantize(l, 1, x + i, NULL, &y);
        sum += ((double)y - (double)x[i]) * ((double)y - (double)x[i]) / (double)n;
    }
    return sum;
}

static void the_levels_chosen_have_the_least_error(void **state)
{
    (void)state;
    static const float reaches[] = { 0.1f, 1, 3, 6, 20 };
    struct err e = { 0 };
    float logits[200];
    for (size_t r = 0; r < COUNT(reaches); r++) {
        for (size_t i = 0; i + 200 <= N; i += 200)
            probabilities_of(200, reaches[r], logits, values + i);
        struct observer o;
        observe(&o, N, values);
        for (int m = 1; m <= 2; m++)
            for (int bits = 3; bits <= 8; bits++) {
                struct log_levels l = { .bits = bits, .steps_per_octave = m };
                double least = INFINITY;
                assert_true(log_levels_search(&o, &l, &e));
                for (int j = 0; j <= LOG_MOST_J; j++)
                    least = fmin(least, level_error(&(struct log_levels){ bits, j, m, false }, N, values));
                if (!(l.j >= 0 && l.j <= LOG_MOST_J && level_error(&l, N, values) <= 1.05 * least))
                    fail_msg("logits to %g, %d bits: j %d costs %g, the best %g", (double)reaches[r], bits, l.j,
                             level_error(&l, N, values), least);
            }
        observer_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_histogram_tells_the_error_of_a_range),
        cmocka_unit_test(a_searched_range_is_never_worse_than_the_extremes),
        cmocka_unit_test(a_tail_is_given_up_at_four_bits),
        cmocka_unit_test(each_end_is_found_for_itself),
        cmocka_unit_test(nothing_seen_gives_an_empty_range_and_the_highest_levels),
        cmocka_unit_test(a_row_of_probabilities_takes_the_worked_codes),
        cmocka_unit_test(a_zero_beside_all_levels_is_as_published),
        cmocka_unit_test(levels_change_half_a_step_apart),
        cmocka_unit_test(values_at_the_edge_have_codes_too),
        cmocka_unit_test(the_parity_split_is_worked_out_by_hand),
        cmocka_unit_test(the_parity_split_is_the_table),
        cmocka_unit_test(the_operators_compute_the_levels),
        cmocka_unit_test(the_levels_chosen_have_the_least_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
