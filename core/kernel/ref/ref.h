/*
 * ref.h - the meaning of every kernel in kernel.h, as plain loops in double where that is the better truth.
 * Nothing here is tuned; a fast kernel that disagrees is wrong.
 */
#ifndef CORE_KERNEL_REF_REF_H
#define CORE_KERNEL_REF_REF_H

#include "core/kernel/kernel.h"

void ref_gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
              const float *b, size_t ldb, bool accumulate, float *c, size_t ldc);
/* Sums in int64; the caller's promise that the result fits int32 is kept by it, too. */
void ref_gemm_exact(bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
                    const float *b, size_t ldb, int32_t *acc, size_t ldc);
/* Sums in int64. */
void ref_gram_exact(size_t rows, size_t n, const float *a, size_t lda, double *h);
void ref_cross_add(size_t rows, size_t m, size_t n, const float *y, size_t ldy, const float *a, size_t lda, double *c);

void ref_layernorm(size_t rows, size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y);
void ref_rmsnorm(size_t rows, size_t n, const float *x, const float *gamma, float eps, float *y);
void ref_softmax(size_t rows, size_t n, const float *x, float *y);
void ref_softmax_masked(size_t rows, size_t n, const float *x, float scale, const float *mask, size_t mask_rows, float *y);
void ref_log_softmax(size_t rows, size_t n, const float *x, float *y);

void ref_vec_exp(size_t n, const float *x, float *y);
void ref_vec_erf(size_t n, const float *x, float *y);
void ref_vec_tanh(size_t n, const float *x, float *y);
void ref_vec_sigmoid(size_t n, const float *x, float *y);
void ref_vec_gelu(size_t n, const float *x, float *y);
void ref_vec_silu(size_t n, const float *x, float *y);
void ref_vec_add_row(size_t rows, size_t n, const float *x, const float *row, float *y);
void ref_vec_affine_row(size_t rows, size_t n, const float *x, const float *mul, const float *shift, float *y);
void ref_vec_threshold(size_t n, const float *x, float alpha, float *y);

void ref_transpose_2d(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy);
void ref_im2col(const struct conv_shape *s, const float *x, float *cols);

void ref_quantize_u8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, uint8_t *q);
void ref_quantize_i8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, int8_t *q);
void ref_quantize_to_float(size_t n, const float *x, float scale, int zero, int qmin, int qmax, float *q);
void ref_fake_quantize(size_t n, const float *x, float scale, float first, float last, float *y);
void ref_level_codes(size_t n, const float *x, float into, float first, float back, float *y);
void ref_dequantize_u8(size_t n, const uint8_t *q, float scale, int zero, float *x);
void ref_dequantize_i8(size_t n, const int8_t *q, float scale, int zero, float *x);
void ref_dequantize_acc(size_t rows, size_t n, const int32_t *acc, size_t ldacc, const float *scale, size_t scale_n,
                        const float *bias, float *y, size_t ldy);

double ref_rounding_error(size_t n, const float *x, const float *weight, float lo, float scale, int top);
void ref_round_columns(size_t rows, size_t cols, const float *x, const float *lo, const float *scale, int top, float *y);

void ref_range_of(size_t n, const float *x, struct range *r);
void ref_range_of_columns(size_t rows, size_t cols, const float *x, float *lo, float *hi);

#endif
