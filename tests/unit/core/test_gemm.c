/* Matrix products against plain loops: near for floats, exact for integers. */
#include "core/kernel/kernel.h"
#include "core/kernel/ref/ref.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { ROOM = 16384 };
static float in[ROOM], in2[ROOM], got[ROOM], want[ROOM];

static uint64_t state_of_random = 1;

static uint32_t random_bits(void)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_random >> 32);
}

static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(random_bits() >> 8) * 0x1p-24f; }

static void fill(size_t n, float *x, float lo, float hi)
{
    for (size_t i = 0; i < n; i++)
        x[i] = uniform(lo, hi);
}

static void the_blas_passes_its_self_test(void **state)
{
    (void)state;
    struct err e = { 0 };
    if (!blas_init(&e))
        fail_msg("%s: %s", e.where, e.text);
    assert_true(strlen(blas_kernel()) > 0);
    assert_non_null(strstr(blas_config(), "OpenBLAS"));
}

static void check_gemm(const size_t *s, bool a_trans, bool b_trans, bool accumulate)
{
    size_t m = s[0], n = s[1], k = s[2], lda = (a_trans ? m : k) + 3, ldb = (b_trans ? k : n) + 1, ldc = n + 2;
    fill(ROOM, in, -1, 1);
    fill(ROOM, in2, -1, 1);
    for (size_t i = 0; i < (m + 1) * ldc; i++)
        got[i] = want[i] = accumulate ? uniform(-1, 1) : NAN;
    gemm(a_trans, b_trans, m, n, k, in + 1, lda, in2 + 1, ldb, accumulate, got, ldc);
    ref_gemm(a_trans, b_trans, m, n, k, in + 1, lda, in2 + 1, ldb, accumulate, want, ldc);
    for (size_t i = 0; i < (m + 1) * ldc; i++)    /* what lies between rows, too */
        if (!(isnan(got[i]) && isnan(want[i])) && !(fabsf(got[i] - want[i]) <= 1e-6f * (float)(k + 1)))
            fail_msg("%zux%zux%zu: element %zu is %g instead of %g", m, n, k, i, (double)got[i], (double)want[i]);
}

static void gemm_agrees_with_plain_loops_in_every_orientation(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {
        { 0, 3, 2 }, { 3, 0, 2 }, { 1, 1, 1 }, { 1, 17, 9 }, { 17, 1, 9 }, { 3, 5, 7 }, { 33, 31, 63 }, { 64, 48, 65 }, { 7, 100, 16 },
    };
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int bits = 0; bits < 8; bits++)
            check_gemm(shapes[i], bits & 1, bits & 2, bits & 4);
}

static void gemm_of_no_terms_is_zero_or_what_was_there(void **state)
{
    (void)state;
    float c[4] = { NAN, 1, 2, NAN };
    gemm(false, false, 2, 1, 0, in, 0, in2, 0, true, c + 1, 1);
    assert_true(c[1] == 1 && c[2] == 2);
    gemm(false, false, 2, 1, 0, in, 0, in2, 0, false, c + 1, 1);
    assert_true(isnan(c[0]) && c[1] == 0 && c[2] == 0 && isnan(c[3]));
}

struct exact_case { size_t m, n, k; int a_max, b_max; };

/* mode 0: all at the positive extreme, 1: random signs at the extreme, 2: random integers. */
static void fill_integers(size_t n, float *x, int max, int mode)
{
    for (size_t i = 0; i < n; i++)
        x[i] = mode == 0 ? (float)max : mode == 1 ? (random_bits() & 1u << 20 ? (float)max : (float)-max) :
               (float)((int)(random_bits() % (2 * (unsigned)max + 1)) - max);
}

static void check_exact(const struct exact_case *t, bool b_trans, int mode)
{
    size_t lda = t->k + 1, ldb = (b_trans ? t->k : t->n) + 2, ldc = t->n + 1;
    float *a = malloc(t->m * lda * sizeof *a), *b = malloc((b_trans ? t->n : t->k) * ldb * sizeof *b);
    int32_t *acc = malloc(t->m * ldc * sizeof *acc), *sum = malloc(t->m * ldc * sizeof *sum);
    float *scratch = malloc(t->m * t->n * sizeof *scratch);
    assert_true(a && b && acc && sum && scratch);
    fill_integers(t->m * lda, a, t->a_max, mode);
    fill_integers((b_trans ? t->n : t->k) * ldb, b, t->b_max, mode);
    memset(acc, 0x55, t->m * ldc * sizeof *acc);
    memset(sum, 0x55, t->m * ldc * sizeof *sum);
    gemm_exact(b_trans, t->m, t->n, t->k, a, lda, t->a_max, b, ldb, t->b_max, acc, ldc, scratch);
    assert_true(gemm_is_exact(t->k, t->a_max, t->b_max) == ((uint64_t)t->k * (uint64_t)t->a_max * (uint64_t)t->b_max <= 1 << 24));
    ref_gemm_exact(b_trans, t->m, t->n, t->k, a, lda, b, ldb, sum, ldc);
    assert_memory_equal(acc, sum, t->m * ldc * sizeof *acc);
    free(a);
    free(b);
    free(acc);
    free(sum);
    free(scratch);
}

static void exact_products_equal_integer_sums_at_the_extremes(void **state)
{
    (void)state;
    static const struct exact_case cases[] = {
        { 3, 5, 1, 255, 127 },   { 5, 3, 513, 255, 127 }, { 7, 9, 514, 255, 127 },  { 9, 7, 515, 255, 127 },
        { 17, 33, 518, 255, 127 }, { 17, 33, 519, 255, 127 }, { 13, 31, 3072, 255, 127 }, { 4, 4, 514, 255, 128 },
        { 2, 3, 33025, 255, 255 }, { 8, 8, 4096, 15, 7 },  { 6, 5, 1000, 63, 31 },    { 197, 64, 64, 255, 255 },
        { 64, 197, 197, 255, 128 }, { 3, 3, 100, 0, 127 },  { 1, 1, 258, 255, 255 },   { 1, 2, 259, 255, 255 },
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int mode = 0; mode < 3; mode++) {
            check_exact(&cases[i], false, mode);
            check_exact(&cases[i], true, mode);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_blas_passes_its_self_test),
        cmocka_unit_test(gemm_agrees_with_plain_loops_in_every_orientation),
        cmocka_unit_test(gemm_of_no_terms_is_zero_or_what_was_there),
        cmocka_unit_test(exact_products_equal_integer_sums_at_the_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
