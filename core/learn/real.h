/*
 * real.h - the number that gradients are computed in.
 *
 * The product has one instance, in float.  Derivatives cannot be told from rounding by finite differences in float, so the unit
 * test compiles the same sources once more with LEARN_DOUBLE, in double, in place of the product's.
 */
#ifndef CORE_LEARN_REAL_H
#define CORE_LEARN_REAL_H

#include "core/base/tensor.h"
#include "core/kernel/kernel.h"

#include <math.h>

#ifdef LEARN_DOUBLE

typedef double real;
#define REAL_TYPE DT_F64

static inline double at_double(const double *x, size_t ld, bool trans, size_t i, size_t k) { return trans ? x[k * ld + i] : x[i * ld + k]; }

/* As gemm(). */
static inline void real_gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b,
                             size_t ldb, bool accumulate, double *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t l = 0; l < k; l++)
                sum += at_double(a, lda, a_trans, i, l) * at_double(b, ldb, b_trans, l, j);
            c[i * ldc + j] = sum;
        }
}
static inline void real_exp(size_t n, const double *x, double *y) { for (size_t i = 0; i < n; i++) y[i] = exp(x[i]); }
static inline void real_erf(size_t n, const double *x, double *y) { for (size_t i = 0; i < n; i++) y[i] = erf(x[i]); }
static inline double real_round(double x) { return rint(x); }
static inline void real_codes(size_t n, const double *x, float scale, int zero, int qmin, int qmax, double *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = fmin(qmax - zero, fmax(qmin - zero, rint(x[i] / (double)scale)));
}
static inline double real_sqrt(double x) { return sqrt(x); }

#else

typedef float real;
#define REAL_TYPE DT_F32
#define real_gemm gemm
#define real_exp vec_exp
#define real_erf vec_erf
#define real_round rintf
#define real_codes quantize_to_float
#define real_sqrt sqrtf

#endif
#endif
