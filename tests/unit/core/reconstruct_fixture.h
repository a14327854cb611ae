/*
 * reconstruct_fixture.h - random problems of reconstruction and plain loops that judge their solutions.
 */
#ifndef TESTS_RECONSTRUCT_FIXTURE_H
#define TESTS_RECONSTRUCT_FIXTURE_H

#include "core/kernel/kernel.h"
#include "core/quant/reconstruct.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint64_t state_of_random = 1;
static struct arena *mem;

static inline double uniform(double lo, double hi)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (double)(state_of_random >> 40) * 0x1p-24;
}

static inline void *array(size_t n, size_t size)
{
    void *p = arena_array(mem, n, size, NULL);
    assert_non_null(p);
    return p;
}

static inline struct reconstruct_result solve_with(const struct reconstruct_task *t, struct pool *pool)
{
    struct err e = { 0 };
    struct reconstruct_result r = { 0 };
    if (!reconstruct(t, pool, mem, &r, &e))
        fail_msg("%s: %s", e.where, e.text);
    return r;
}

static inline struct reconstruct_result solve(const struct reconstruct_task *t) { return solve_with(t, NULL); }

/* ---- plain loops ---- */

static inline double moment(const struct reconstruct_task *t, size_t i, size_t j)
{
    return t->h[i * t->k + j];
}

static inline double mean_diagonal(const struct reconstruct_task *t)
{
    double m = 0;
    for (size_t i = 0; i < t->k; i++)
        m += t->h[i * t->k + i] / (double)t->k;
    return m;
}

static inline double weight_of(const struct reconstruct_task *t, const struct reconstruct_result *r, size_t row, size_t i)
{
    size_t at = row * r->groups + i / (t->k / r->groups);
    return (double)(r->codes[row * t->k + i] - r->zero[at]) * (double)r->scale[at];
}

/* e^T (H + damping m I) e of one row against `target`. */
static inline double row_error(const struct reconstruct_task *t, const struct reconstruct_result *r, const float *target, size_t row, double damping)
{
    double sum = 0, m = mean_diagonal(t);
    for (size_t i = 0; i < t->k; i++)
        for (size_t j = 0; j < t->k; j++) {
            double a = weight_of(t, r, row, i) - (double)target[row * t->k + i], b = weight_of(t, r, row, j) - (double)target[row * t->k + j];
            sum += a * b * (moment(t, i, j) + (i == j ? damping * m : 0));
        }
    return sum;
}

static inline double error_of(const struct reconstruct_task *t, const struct reconstruct_result *r, double damping)
{
    double sum = 0;
    for (size_t row = 0; row < t->n; row++)
        sum += row_error(t, r, r->target, row, damping);
    return sum;
}

static inline void near(double got, double want, double bound, const char *what)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: %.9g instead of %.9g", what, got, want);
}

/* ---- random problems ---- */

/* Correlated inputs of unlike size, weights near 0.1; `c` is that of a target some noise away from V a. */
static inline struct reconstruct_task problem(size_t n, size_t k)
{
    size_t rows = 2 * k + 5;
    float *v = array(n * k, sizeof *v);
    double *a = array(rows * k, sizeof *a), *h = array(k * k, sizeof *h);
    for (size_t i = 0; i < n * k; i++)
        v[i] = (float)(uniform(-.1, .1) + uniform(-.1, .1));
    for (size_t r = 0; r < rows; r++) {
        double common = uniform(-3, 3);
        for (size_t i = 0; i < k; i++)
            a[r * k + i] = (common + uniform(-3, 3)) * (1 + (double)(i % 4));
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++)
            for (size_t r = 0; r < rows; r++)
                h[i * k + j] += a[r * k + i] * a[r * k + j] / (double)rows;
    return (struct reconstruct_task){ .v = v, .n = n, .k = k, .h = h, .bits = 4, .grid = { .rows = 1 }, .search = true,
                                      .rounding = ROUND_GPTQ, .damping = .01 };
}

/* V H + noise */
static inline double *cross(const struct reconstruct_task *t, double noise)
{
    double *c = array(t->n * t->k, sizeof *c);
    for (size_t r = 0; r < t->n; r++)
        for (size_t i = 0; i < t->k; i++) {
            c[r * t->k + i] = uniform(-noise, noise);
            for (size_t j = 0; j < t->k; j++)
                c[r * t->k + i] += (double)t->v[r * t->k + j] * moment(t, j, i);
        }
    return c;
}

static inline void check_codes(const struct reconstruct_task *t, const struct reconstruct_result *r)
{
    int half = 1 << (t->bits - 1);
    for (size_t row = 0; row < t->n; row++) {
        assert_true(r->scale[row] > 0 && isfinite(r->scale[row]));
        assert_true(t->symmetric ? r->zero[row] == 0 : r->zero[row] >= -half && r->zero[row] < half);
        assert_true(t->grid.rows == 1 || (r->scale[row] == r->scale[0] && r->zero[row] == r->zero[0]));
    }
    for (size_t i = 0; i < t->n * t->k; i++)
        assert_true(r->codes[i] >= -half && r->codes[i] < half);
}

static inline int set_up(void **state)
{
    (void)state;
    mem = arena_new(UINT64_MAX / 2);
    return mem && blas_init(NULL) ? 0 : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    arena_free(mem);
    return 0;
}

#endif
