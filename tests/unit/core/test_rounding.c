/* Rounding to evenly spaced levels from any offset, against the double formula. */
#include "core/kernel/kernel.h"
#include "core/kernel/ref/ref.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { ROOM = 4096 };
static float in[ROOM], weight[ROOM], got[ROOM], want[ROOM], lo[ROOM], scale[ROOM];

static uint64_t state_of_random = 1;

static float uniform(float from, float to)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return from + (to - from) * (float)(state_of_random >> 40) * 0x1p-24f;
}

static const size_t sizes[] = { 0, 1, 2, 7, 31, 32, 33, 63, 255, 511, 512, 513, 1024, 2047 };
static const int tops[] = { 3, 15, 63, 255 };

/* Bound of the header; p is the farthest place in steps. */
static void check_error(size_t n, const float *x, const float *w, float from, float step, int top)
{
    double most = 1, heaviest = w ? 0 : 1, a = rounding_error(n, x, w, from, step, top), b = ref_rounding_error(n, x, w, from, step, top);
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs(((double)x[i] - (double)from) / (double)step));
        heaviest = fmax(heaviest, w ? (double)w[i] : 1);
    }
    if (!(fabs(a - b) <= 1e-6 * most * most * (double)n * heaviest))
        fail_msg("n %zu, from %g in steps of %g to code %d: %.9g, by the formula %.9g", n, (double)from, (double)step, top, a, b);
}

static void the_error_of_rounding_agrees_with_the_double_formula(void **state)
{
    (void)state;
    static const float units[] = { 1, 1e-30f, 1e-8f, 1e20f };
    for (size_t u = 0; u < COUNT(units); u++)
        for (size_t i = 0; i < COUNT(sizes) * COUNT(tops); i++) {
            int top = tops[i % COUNT(tops)];
            for (size_t k = 0; k < ROOM; k++) {
                in[k] = units[u] * uniform(-3, 5);
                weight[k] = uniform(0, 8);
            }
            float from = units[u] * uniform(-3, 0), step = units[u] * uniform(0.1f, 8) / (float)top;
            check_error(sizes[i / COUNT(tops)], in + 1, NULL, from, step, top);
            check_error(sizes[i / COUNT(tops)], in + 1, weight + 3, from, step, top);
        }
}

static void a_value_on_a_level_costs_nothing_and_one_between_two_a_quarter(void **state)
{
    (void)state;
    for (size_t i = 0; i < 16; i++)
        in[i] = -2 + 0.25f * (float)i;
    assert_true(rounding_error(16, in, NULL, -2, 0.25f, 15) == 0);
    for (size_t i = 0; i < 15; i++)
        in[i] += 0.125f;
    assert_true(rounding_error(15, in, NULL, -2, 0.25f, 15) == 15 * 0.25);
    assert_true(rounding_error(1, (float[]){ 5 }, NULL, 0, 1, 3) == 4);
    assert_true(rounding_error(1, (float[]){ -3 }, (float[]){ 2 }, 0, 1, 3) == 18);
}

static void columns_are_rounded_by_their_own_levels_in_place_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t rows = 0; rows * sizes[i] < ROOM - 1 && rows < 4; rows++) {
            size_t n = sizes[i];
            for (size_t k = 0; k < ROOM; k++) {
                in[k] = uniform(-4, 4);
                lo[k] = uniform(-3, 1);
                scale[k] = uniform(0.01f, 1);
            }
            int top = tops[i % COUNT(tops)];
            round_columns(rows, n, in + 1, lo + 1, scale + 1, top, got + 1);
            ref_round_columns(rows, n, in + 1, lo + 1, scale + 1, top, want + 1);
            assert_memory_equal(got + 1, want + 1, rows * n * sizeof *got);
            round_columns(rows, n, in + 1, lo + 1, scale + 1, top, in + 1);
            assert_memory_equal(in + 1, want + 1, rows * n * sizeof *got);
        }
}

static void infinities_take_the_outermost_levels_and_nan_the_lowest(void **state)
{
    (void)state;
    const float x[] = { INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX }, ends[] = { 5, -2.5f, -2.5f, 5, -2.5f };
    for (size_t i = 0; i < COUNT(x); i++) {
        float y, from = -2.5f, step = 0.5f;
        round_columns(1, 1, x + i, &from, &step, 15, &y);
        assert_true(y == ends[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_error_of_rounding_agrees_with_the_double_formula),
        cmocka_unit_test(a_value_on_a_level_costs_nothing_and_one_between_two_a_quarter),
        cmocka_unit_test(columns_are_rounded_by_their_own_levels_in_place_too),
        cmocka_unit_test(infinities_take_the_outermost_levels_and_nan_the_lowest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
