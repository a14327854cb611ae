/*
 * kernel.h - the numeric inner loops, on plain arrays.
 *
 * Shapes are row-major and written [rows, cols].  Nothing here allocates (blas_init() aside), locks or
 * knows a graph.  Every kernel has a plain version in kernel/ref/ that is its meaning; the fast one must
 * agree with it within the bound its comment states (tests/unit/core/test_kernel.c, test_rounding.c and test_gemm.c
 * check all of them on odd sizes, unaligned pointers, NaN, infinities, denormals and in place).
 *
 * Instruction sets are chosen at run time (KERNEL_CLONES in kernel/clones.h) and do not show: rounding
 * is to nearest, ties to even, contraction is off, and sums have a fixed order, so all but gemm() and
 * cross_add() give the same bits on every x86-64.  What is marked [approx] differs from the reference within its bound;
 * everything else is bit-exact.
 *
 * Where y may be x, the two are equal or do not overlap at all.  Other outputs overlap nothing.
 */
#ifndef CORE_KERNEL_KERNEL_H
#define CORE_KERNEL_KERNEL_H

#include "core/base/err.h"
#include "core/base/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- matrix products (gemm.c, the only <cblas.h>) ---- */

/*
 * One-time set-up, by the first thread and before others: one BLAS thread per call, denormals kept, the
 * packing buffers warmed for a thread a core (about 3 ms).  Checks BLAS against plain loops on odd shapes
 * (all transposes, beta = 0 over NaN); ERR_BLAS names the case that failed.
 */
bool blas_init(struct err *e);
/*
 * After it: the calling thread, and those it starts, take denormals for zero.  Where somebody else's model is worked on for long, for a processor
 * takes up to a hundred times as long for one.
 */
void flush_denormals(void);
const char *blas_kernel(void);         /* "Haswell": what OpenBLAS chose */
const char *blas_config(void);

/*
 * c[m,n] = a[m,k] * b[k,n] (+ c if accumulate).  a_trans: a is [k,m]; b_trans: b is [n,k].  lda.. are
 * elements from row to row as stored.  All sizes < 2^31; without accumulate c may hold NaN.
 * The last bits depend on the machine's BLAS kernel and on m and n, not on threads.  [approx]
 */
void gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
          const float *b, size_t ldb, bool accumulate, float *c, size_t ldc);

/*
 * acc[m,n] = sum_k a[m,k] * b[k,n] over integers, exact (returned in int32).
 * Values are given as floats that hold integers, |a| <= a_max <= 255, |b| <= b_max <= 255; the K
 * loop is cut so that every partial sum stays <= 2^24 and each sgemm is exact.
 *   b_trans: b is [n,k].  scratch: m*n floats.
 * Requires the true result to fit int32 (k <= 33025 at the extremes).
 */
void gemm_exact(bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda, int a_max,
                const float *b, size_t ldb, int b_max, int32_t *acc, size_t ldc, float *scratch);
/* Is one sgemm exact for all k terms?  Then gemm() gives the integers as floats. */
bool gemm_is_exact(size_t k, int a_max, int b_max);

/*
 * h[n,n] += a^T a over integers, exact: a [rows, n] holds integers as floats, |a| <= a_max <= 255.  The rows are
 * cut into chunks so that every partial sum stays <= 2^24 and each ssyrk is exact; chunks are added in double,
 * exact while the rows of all calls times a_max^2 stay < 2^53.  So neither the order of calls nor how rows are dealt out to them shows.
 * Only the upper triangle (h[i*n + j], j >= i) is read or written: see mirror_upper().  scratch: n*n floats.
 */
void gram_exact(size_t rows, size_t n, const float *a, size_t lda, int a_max, double *h, float *scratch);

/*
 * c[m,n] += y^T a for y [rows, m] and a [rows, n]: one sgemm, added in double.  Its rounding grows with the
 * square root of rows, so give at most some 2048 at a time.  scratch: m*n floats.  [approx]
 */
void cross_add(size_t rows, size_t m, size_t n, const float *y, size_t ldy, const float *a, size_t lda,
               double *c, float *scratch);

/* c[m,n] = a[m,k] * b[k,n] with a as it is and everything else in double; scratch: m*k doubles.  [approx] */
void gemm_double(size_t m, size_t n, size_t k, const float *a, const double *b, double *c, double *scratch);

/* ---- rows: normalisation and softmax; y may be x ---- */

/*
 * y = (x - mean) / sqrt(var + eps) * gamma + beta over each row of n; gamma/beta may be NULL.
 * Agrees with the double formula to 2e-6 of max|y|, for |x| < 1e18.  [approx]
 */
void layernorm(size_t rows, size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y);
/* y = x / sqrt(mean(x^2) + eps) * gamma; 1e-6 relative.  [approx] */
void rmsnorm(size_t rows, size_t n, const float *x, const float *gamma, float eps, float *y);
/*
 * Max-subtracted.  A row of all -inf or with a +inf gives NaN as the formula does.  softmax: relative
 * error 1e-6 + 6e-8 |x - max| (the subtraction's own rounding), 0 below e^-87 of the largest;
 * log_softmax: 1e-6 max(1, |y|).  [approx]
 */
void softmax(size_t rows, size_t n, const float *x, float *y);
/* softmax() of x * scale + mask; mask: [mask_rows, n] for the rows in turn, or NULL.  y may be x, not the mask. */
void softmax_masked(size_t rows, size_t n, const float *x, float scale, const float *mask, size_t mask_rows, float *y);
void log_softmax(size_t rows, size_t n, const float *x, float *y);

/* ---- elements; y may be x ---- */

void vec_widen(size_t n, enum dtype from, const void *x, float *y);    /* DT_F16 or DT_BF16 as float, exactly */
void vec_exp(size_t n, const float *x, float *y);        /* 2 ulp; denormal results are kept  [approx] */
void vec_erf(size_t n, const float *x, float *y);        /* 4e-7, also relative  [approx] */
void vec_tanh(size_t n, const float *x, float *y);       /* 4e-7, also relative  [approx] */
void vec_sigmoid(size_t n, const float *x, float *y);    /* 4e-7 absolute  [approx] */
void vec_gelu(size_t n, const float *x, float *y);       /* 0.5 x (1 + erf(x / sqrt 2)); 4e-7 max(1, |x|)  [approx] */
void vec_silu(size_t n, const float *x, float *y);       /* x * sigmoid(x); 4e-7 max(1, |x|)  [approx] */
void vec_add_row(size_t rows, size_t n, const float *x, const float *row, float *y);   /* y = x + row[n] */
/* y = x * mul[n] + shift[n], two roundings; shift may be NULL. */
void vec_affine_row(size_t rows, size_t n, const float *x, const float *mul, const float *shift, float *y);
void vec_threshold(size_t n, const float *x, float alpha, float *y);    /* y = x > alpha ? x : 0; NaN gives 0 */

/* ---- layout ---- */

/* y[c,r] = x[r,c] for 4-byte elements, blocked. */
void transpose_2d(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy);

struct conv_shape {
    size_t c, h, w, kh, kw, stride_h, stride_w, pad_top, pad_left, dil_h, dil_w, oh, ow;
};
/* im2col of one image [c,h,w] -> [oh*ow, c*kh*kw] (rows = output positions), zero padding. */
void im2col(const struct conv_shape *s, const float *x, float *cols);

/* ---- quantization: bit-exact with ONNX Runtime ---- */

/*
 * q = saturate(rint(x / scale) + zero) in [qmin, qmax]; infinities saturate, NaN gives qmin, as in ORT.
 * qmin - zero and qmax - zero must be exact in float.
 */
void quantize_u8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, uint8_t *q);
void quantize_i8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, int8_t *q);
/* As above but the code minus the zero point, kept in a float: what gemm_exact() takes.  q may be x. */
void quantize_to_float(size_t n, const float *x, float scale, int zero, int qmin, int qmax, float *q);
/* y = clamp(rint(x / scale), first, last) * scale, where first and last need not be whole: NaN gives the lowest.  y may be x. */
void fake_quantize(size_t n, const float *x, float scale, float first, float last, float *y);
/* y = max(rint(x * into), first) * back: logarithms to the nearest level, -inf included; NaN gives first * back. */
void level_codes(size_t n, const float *x, float into, float first, float back, float *y);
/* x' = (q - zero) * scale. */
void dequantize_u8(size_t n, const uint8_t *q, float scale, int zero, float *x);
void dequantize_i8(size_t n, const int8_t *q, float scale, int zero, float *x);
/*
 * y = (float)acc * scale[c] + bias[c], multiplied and added with two roundings (never an fma);
 * scale has 1 (scale_n == 1) or n entries; bias may be NULL.
 */
void dequantize_acc(size_t rows, size_t n, const int32_t *acc, size_t ldacc, const float *scale, size_t scale_n,
                    const float *bias, float *y, size_t ldy);
/* The same of sums that are floats already (gemm_is_exact()). */
void dequantize_sums(size_t rows, size_t n, const float *sums, size_t ldsums, const float *scale, size_t scale_n,
                     const float *bias, float *y, size_t ldy);

/*
 * Rounding to the levels lo + scale * {0..top}, lo being any number: no level need be zero.  A finite x of
 * [n] is (x - lo) / scale steps from lo; scale > 0, top <= 255.
 *
 * rounding_error: the sum of weight * d^2, d being what rounding changes, IN STEPS (times scale^2 it is in units
 * of x^2); weight NULL: 1 each.  Agrees with the double formula to 1e-6 max(1, p^2) n max(weight),
 * p being the largest |x - lo| / scale.  [approx]
 * round_columns: y = the level nearest to x of [rows, cols], lo and scale per column; y may be x.
 */
double rounding_error(size_t n, const float *x, const float *weight, float lo, float scale, int top);
void round_columns(size_t rows, size_t cols, const float *x, const float *lo, const float *scale, int top, float *y);

/* ---- statistics ---- */

struct range { float lo, hi; size_t nan, inf; };         /* lo > hi: no finite element seen */
#define RANGE_EMPTY ((struct range){ .lo = 3.402823466e38f, .hi = -3.402823466e38f })
/* Extends r by the finite elements of x and counts the others. */
void range_of(size_t n, const float *x, struct range *r);
/* Per column of [rows, cols]: lo[c], hi[c] extended by the finite elements (start from +FLT_MAX / -FLT_MAX). */
void range_of_columns(size_t rows, size_t cols, const float *x, float *lo, float *hi);
/* The sum of x^2 over [n]; the double formula to 1e-15 n relative. */
double sum_of_squares(size_t n, const float *x);

/* ---- the machine ---- */

const char *cpu_features(void);        /* "sse4.2 avx avx2 fma": what it has that the kernels or the BLAS may use */
bool cpu_has_vnni(void);               /* where this is false, ONNX Runtime's u8 x s8 products saturate */

#endif
