/*
 * kernel.h - the numeric inner loops, on plain arrays.
 *
 * Shapes are row-major and written [rows, cols].  Nothing here allocates,
 * locks or knows a graph.  Every kernel has a plain version in kernel/ref/ that is its meaning; the fast
 * one must agree with it within the bound its comment states (tests/unit/core/test_kernel.c checks all of them on odd
 * sizes, unaligned pointers, NaN, infinities and denormals).  Instruction sets
 * are chosen at run time (KERNEL_CLONES in kernel/clones.h).
 *
 * Rounding is to nearest, ties to even.  Floating-point contraction is off:
 * an fma appears only where it is written.  Different instruction sets may differ in the last bits of
 * functions marked [approx]; everything else is bit-exact everywhere.
 */
#ifndef CORE_KERNEL_KERNEL_H
#define CORE_KERNEL_KERNEL_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- matrix products (gemm.c, the only <cblas.h>) ---- */

/* One-time set-up: one BLAS thread per call, denormals kept.  Checks BLAS against plain loops on
 * odd shapes (all transposes, beta = 0 over NaN); ERR_BLAS names the case that failed. */
bool blas_init(struct err *e);
const char *blas_kernel(void);         /* "Haswell": what OpenBLAS chose */
const char *blas_config(void);

/* c[m,n] = a[m,k] * b[k,n] (+ c if accumulate); op(b) is b[n,k] transposed if b_trans; lda.. in elements.  [approx] */
void gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
          const float *b, size_t ldb, bool accumulate, float *c, size_t ldc);

/*
 * acc[m,n] = sum_k a[m,k] * b[k,n] over integers, exact (returned in int32).
 * Values are given as floats that hold integers, |a| <= 255, |b| <= 255; the K
 * loop is cut so that every partial sum stays <= 2^24 and each sgemm is exact.
 *   b_trans: b is [n,k].  scratch: m*n floats.
 * Requires the true result to fit int32 (k <= 33025 at the extremes).
 */
void gemm_exact(bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda, int a_max,
                const float *b, size_t ldb, int b_max, int32_t *acc, size_t ldc, float *scratch);

/* ---- rows: normalisation and softmax ---- */

/* y = (x - mean) / sqrt(var + eps) * gamma + beta over each row of n; gamma/beta may be NULL.  mean and var in double
 * or compensated: agrees with the double reference to 2e-6 relative to max|y|.  [approx] */
void layernorm(size_t rows, size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y);
void rmsnorm(size_t rows, size_t n, const float *x, const float *gamma, float eps, float *y);
/* Max-subtracted; a row of all -inf or with a +inf gives NaN as the formula does.  Relative error 1e-6 + 6e-8 |x - max|
 * (the subtraction's own rounding); log_softmax 1e-6 max(1, |y|).  [approx] */
void softmax(size_t rows, size_t n, const float *x, float *y);
void log_softmax(size_t rows, size_t n, const float *x, float *y);

/* ---- elements: y may equal x ---- */
void vec_exp(size_t n, const float *x, float *y);        /* 2 ulp of expf in the normal range  [approx] */
void vec_erf(size_t n, const float *x, float *y);        /* 4e-7 absolute  [approx] */
void vec_tanh(size_t n, const float *x, float *y);       /* 4e-7 absolute  [approx] */
void vec_sigmoid(size_t n, const float *x, float *y);    /* 4e-7 absolute  [approx] */
void vec_gelu(size_t n, const float *x, float *y);       /* 0.5 x (1 + erf(x / sqrt 2))  [approx] */
void vec_silu(size_t n, const float *x, float *y);       /* x * sigmoid(x)  [approx] */
void vec_add_row(size_t rows, size_t n, const float *x, const float *row, float *y);   /* y = x + row[n] */

/* ---- layout ---- */
/* y[c,r] = x[r,c] for 4-byte elements, blocked. */
void transpose_2d(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy);
/* im2col of one image [c,h,w] -> [oh*ow, c*kh*kw] (rows = output positions), zero padding. */
struct conv_shape {
    size_t c, h, w, kh, kw, stride_h, stride_w, pad_top, pad_left, dil_h, dil_w, oh, ow;
};
void im2col(const struct conv_shape *s, const float *x, float *cols);

/* ---- quantization: bit-exact with ONNX Runtime ---- */

/* q = saturate(rint(x / scale) + zero) in [qmin, qmax]; NaN gives qmin, as ORT does. */
void quantize_u8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, uint8_t *q);
void quantize_i8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, int8_t *q);
/* As above but the code minus the zero point, kept in a float: what gemm_exact() takes. */
void quantize_to_float(size_t n, const float *x, float scale, int zero, int qmin, int qmax, float *q);
/* x' = (q - zero) * scale. */
void dequantize_u8(size_t n, const uint8_t *q, float scale, int zero, float *x);
void dequantize_i8(size_t n, const int8_t *q, float scale, int zero, float *x);
/* y = (float)acc * scale[c] + bias[c], multiplied and added with two roundings (never an fma);
 * scale has 1 (scale_n == 1) or n entries; bias may be NULL. */
void dequantize_acc(size_t rows, size_t n, const int32_t *acc, size_t ldacc, const float *scale, size_t scale_n,
                    const float *bias, float *y, size_t ldy);

/* ---- statistics ---- */
struct range { float lo, hi; size_t nan, inf; };         /* lo > hi: no finite element seen */
#define RANGE_EMPTY ((struct range){ .lo = 3.402823466e38f, .hi = -3.402823466e38f })
/* Extends r by the finite elements of x and counts the others. */
void range_of(size_t n, const float *x, struct range *r);
/* Per column of [rows, cols]: lo[c], hi[c] extended (start from +FLT_MAX / -FLT_MAX). */
void range_of_columns(size_t rows, size_t cols, const float *x, float *lo, float *hi);

/* "avx2 fma" style list of what the machine has and the kernels may use. */
const char *cpu_features(void);
bool cpu_has_vnni(void);

#endif
