/* Grams, cross products and factorizations against plain loops, on odd sizes. */
#include "core/base/pool.h"
#include "core/kernel/kernel.h"
#include "core/kernel/linalg.h"
#include "core/kernel/ref/ref.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint64_t state_of_random = 1;

static uint32_t random_bits(void)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_random >> 32);
}

static double uniform(double lo, double hi) { return lo + (hi - lo) * (double)random_bits() * 0x1p-32; }

static void *array(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

static const size_t sizes[] = { 1, 2, 3, 7, 31, 32, 33, 64, 65, 129, 200 };

/* ---- sums of products ---- */

static float code(int max, bool extreme)
{
    return extreme ? (float)max : (float)((int)(random_bits() % (2 * (unsigned)max + 1)) - max);
}

static void check_gram(size_t rows, size_t n, int a_max, bool extreme)
{
    size_t lda = n + 3;
    float *a = array((rows + 1) * lda, sizeof *a), *scratch = array(n * n, sizeof *scratch);
    double *got = array(n * n, sizeof *got), *want = array(n * n, sizeof *want), *parts = array(n * n, sizeof *parts);
    for (size_t i = 0; i < (rows + 1) * lda; i++)
        a[i] = code(a_max, extreme);
    for (size_t i = 0; i < n * n; i++)
        got[i] = want[i] = parts[i] = (double)(random_bits() % 1000);
    gram_exact(rows, n, a + 1, lda, a_max, got, scratch);
    ref_gram_exact(rows, n, a + 1, lda, want);
    assert_memory_equal(got, want, n * n * sizeof *got);    /* below the diagonal, too */
    size_t cut = rows / 3;
    gram_exact(rows - cut, n, a + 1 + cut * lda, lda, a_max, parts, scratch);
    gram_exact(cut, n, a + 1, lda, a_max, parts, scratch);
    assert_memory_equal(parts, want, n * n * sizeof *got);
    free(a);
    free(scratch);
    free(got);
    free(want);
    free(parts);
}

static void a_gram_of_integers_is_exact_however_its_rows_are_dealt_out(void **state)
{
    (void)state;
    static const struct { size_t rows, n; int a_max; } cases[] = {
        { 0, 3, 255 }, { 1, 1, 255 }, { 5, 0, 15 }, { 257, 7, 255 }, { 258, 9, 255 }, { 259, 5, 255 }, { 1031, 33, 255 }, { 777, 65, 128 },
        { 900, 31, 15 }, { 75000, 3, 15 }, { 10, 3, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int extreme = 0; extreme < 2; extreme++)
            check_gram(cases[i].rows, cases[i].n, cases[i].a_max, extreme);
}

static void check_cross(size_t rows, size_t m, size_t n)
{
    size_t ldy = m + 2, lda = n + 1;
    float *y = array((rows + 1) * ldy, sizeof *y), *a = array((rows + 1) * lda, sizeof *a), *scratch = array(m * n, sizeof *scratch);
    double *c = array(m * n, sizeof *c), *want = array(m * n, sizeof *want);
    for (size_t i = 0; i < rows * ldy; i++)
        y[i] = (float)uniform(-1, 1);
    for (size_t i = 0; i < rows * lda; i++)
        a[i] = (float)uniform(-1, 1);
    for (size_t i = 0; i < m * n; i++)
        c[i] = want[i] = (double)i;
    cross_add(rows, m, n, y, ldy, a, lda, c, scratch);
    ref_cross_add(rows, m, n, y, ldy, a, lda, want);
    for (size_t i = 0; i < m * n; i++)
        if (!(fabs(c[i] - want[i]) <= 1e-6 * (double)(rows + 1)))
            fail_msg("%zu rows, %zux%zu: element %zu is %g instead of %g", rows, m, n, i, c[i], want[i]);
    free(want);
    free(y);
    free(a);
    free(scratch);
    free(c);
}

static void a_cross_product_is_added_to_what_was_there(void **state)
{
    (void)state;
    static const size_t cases[][3] = { { 0, 3, 2 }, { 1, 1, 1 }, { 5, 3, 7 }, { 129, 31, 17 }, { 2048, 5, 33 }, { 4, 0, 3 } };
    for (size_t i = 0; i < COUNT(cases); i++)
        check_cross(cases[i][0], cases[i][1], cases[i][2]);
}

/* ---- factorizations ---- */

enum { JUNK = -777 };    /* below the diagonal */

/* A random positive definite matrix, whole. */
static double *definite(size_t n)
{
    double *b = array(n * n, sizeof *b), *a = array(n * n, sizeof *a);
    for (size_t i = 0; i < n * n; i++)
        b[i] = uniform(-1, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < n; k++)
                a[i * n + j] += (b[k * n + i] * b[k * n + j] + (k == 0 && i == j)) / (double)n;
    free(b);
    return a;
}

/* Its upper triangle over junk. */
static double *upper_of(size_t n, const double *a)
{
    double *u = array(n * n, sizeof *u);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            u[i * n + j] = j >= i ? a[i * n + j] : JUNK;
    return u;
}

static void check_below(size_t n, const double *a)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert_true(a[i * n + j] == JUNK);
}

/* (r^T r)[i,j] of an upper triangle. */
static double square(size_t n, const double *r, size_t i, size_t j)
{
    double sum = 0;
    for (size_t k = 0; k <= i && k <= j; k++)
        sum += r[k * n + i] * r[k * n + j];
    return sum;
}

static void a_factor_times_its_transpose_is_the_matrix(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        double *a = definite(n), *r = upper_of(n, a);
        assert_true(cholesky(n, r));
        check_below(n, r);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i; j < n; j++)
                assert_true(fabs(square(n, r, i, j) - a[i * n + j]) < 1e-12 * (double)(n + 9));
        free(a);
        free(r);
    }
}

/* x[n] times the whole matrix a. */
static double row_times(size_t n, const double *x, const double *a, size_t j)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * a[i * n + j];
    return sum;
}

static void check_inverse(size_t n, const double *a, const double *inverse, double bound)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double got = row_times(n, inverse + i * n, a, j);
            if (!(fabs(got - (i == j)) < bound))
                fail_msg("n %zu: inverse times matrix at (%zu,%zu) is %g", n, i, j, got);
        }
}

static void inverses_and_their_factors_agree_with_the_matrix(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        double *a = definite(n), *r = upper_of(n, a), *u = upper_of(n, a), *inverse = array(n * n, sizeof *inverse);
        assert_true(cholesky(n, r) && cholesky_inverse(n, r));
        check_below(n, r);
        mirror_upper(n, r);
        check_inverse(n, a, r, 1e-9);
        assert_true(inverse_factor(n, u));
        check_below(n, u);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                inverse[i * n + j] = square(n, u, i, j);
        check_inverse(n, a, inverse, 1e-9);
        free(a);
        free(r);
        free(u);
        free(inverse);
    }
}

static void check_solves(size_t n, size_t rows)
{
    size_t ldb = n + 3;
    double *a = definite(n), *r = upper_of(n, a), *b = array((rows + 1) * ldb, sizeof *b), *x = array((rows + 1) * ldb, sizeof *x);
    for (size_t i = 0; i < (rows + 1) * ldb; i++)
        b[i] = x[i] = uniform(-1, 1);
    assert_true(cholesky(n, r));
    cholesky_solve(n, r, rows, x, ldb);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++)
            assert_true(fabs(row_times(n, x + i * ldb, a, j) - b[i * ldb + j]) < 1e-9);
    for (size_t i = 0; i < (rows + 1) * ldb; i++)    /* what lies between rows */
        assert_true((i < rows * ldb && i % ldb < n) || x[i] == b[i]);
    double *y = array((rows + 1) * ldb, sizeof *y);
    memcpy(y, b, rows * ldb * sizeof *y);
    triangular_solve(n, r, false, rows, y, ldb);    /* a^-1 = r^-1 r^-T */
    triangular_solve(n, r, true, rows, y, ldb);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++)
            assert_true(fabs(y[i * ldb + j] - x[i * ldb + j]) < 1e-10);
    free(a);
    free(r);
    free(b);
    free(x);
    free(y);
}

static void rows_are_solved_for(void **state)
{
    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++)
        check_solves(sizes[s], s % 4);
    check_solves(65, 64);
}

static void what_is_not_positive_definite_is_refused(void **state)
{
    (void)state;
    enum { N = 37 };
    static const struct { const char *label; size_t i, j; double x; } cases[] = {
        { "a negative diagonal", 5, 5, -1 },       { "a zero at the end", N - 1, N - 1, 0 }, { "a zero at the start", 0, 0, 0 },
        { "an off-diagonal too large", 3, 8, 99 }, { "NaN on the diagonal", 7, 7, NAN },     { "NaN off the diagonal", 0, N - 1, NAN },
        { "infinity", 2, 2, INFINITY },            { "minus infinity", 2, 9, -INFINITY },
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int inverse = 0; inverse < 2; inverse++) {
            double *a = definite(N);
            a[cases[i].i * N + cases[i].j] = cases[i].x;
            if (inverse ? inverse_factor(N, a) : cholesky(N, a))
                fail_msg("%s was taken (%s)", cases[i].label, inverse ? "inverse_factor" : "cholesky");
            free(a);
        }
    assert_true(cholesky(0, NULL) && inverse_factor(0, NULL) && cholesky_inverse(0, NULL));
}

/* Tridiagonal, so that the test is quick and the answer known: (u^T u)^-1 = a. */
static void four_thousand_rows_work(void **state)
{
    (void)state;
    enum { N = 4096 };
    double *a = array((size_t)N * N, sizeof *a), *x = array(N, sizeof *x);
    for (size_t i = 0; i < N; i++) {
        a[i * N + i] = 3;
        if (i + 1 < N)
            a[i * N + i + 1] = -1;
        x[i] = (double)(i % 5);
    }
    assert_true(cholesky(N, a));
    cholesky_solve(N, a, 1, x, N);
    for (size_t i = 0; i < N; i++) {
        double back = 3 * x[i] - (i > 0 ? x[i - 1] : 0) - (i + 1 < N ? x[i + 1] : 0);
        assert_true(fabs(back - (double)(i % 5)) < 1e-12);
    }
    free(a);
    free(x);
}

struct shared { size_t n; const double *a; double *got[8]; };

static bool factor_piece(void *arg, size_t piece, int thread, struct err *e)
{
    (void)thread;
    struct shared *s = arg;
    memcpy(s->got[piece], s->a, s->n * s->n * sizeof(double));
    return inverse_factor(s->n, s->got[piece]) || err_set(e, ERR_BUG, "", "not positive definite");
}

static void threads_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct shared s = { .n = 150 };
    double *a = definite(s.n);
    s.a = a;
    for (size_t i = 0; i < COUNT(s.got); i++)
        s.got[i] = array(s.n * s.n, sizeof(double));
    struct pool *pool = pool_new(4, NULL);
    assert_non_null(pool);
    assert_true(pool_run(pool, COUNT(s.got), factor_piece, &s, NULL));
    for (size_t i = 1; i < COUNT(s.got); i++)
        assert_memory_equal(s.got[i], s.got[0], s.n * s.n * sizeof(double));
    pool_free(pool);
    for (size_t i = 0; i < COUNT(s.got); i++)
        free(s.got[i]);
    free(a);
}

static int set_up(void **state)
{
    (void)state;
    return blas_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gram_of_integers_is_exact_however_its_rows_are_dealt_out),
        cmocka_unit_test(a_cross_product_is_added_to_what_was_there),
        cmocka_unit_test(a_factor_times_its_transpose_is_the_matrix),
        cmocka_unit_test(inverses_and_their_factors_agree_with_the_matrix),
        cmocka_unit_test(rows_are_solved_for),
        cmocka_unit_test(what_is_not_positive_definite_is_refused),
        cmocka_unit_test(four_thousand_rows_work),
        cmocka_unit_test(threads_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
