/* The matrix products, one element at a time. */
#include "core/kernel/ref/ref.h"

void ref_gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
              const float *b, size_t ldb, bool accumulate, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = accumulate ? c[i * ldc + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)(a_trans ? a[p * lda + i] : a[i * lda + p]) *
                       (double)(b_trans ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = (float)sum;
        }
}

void ref_gemm_exact(bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
                    const float *b, size_t ldb, int32_t *acc, size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            int64_t sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (int64_t)a[i * lda + p] * (int64_t)(b_trans ? b[j * ldb + p] : b[p * ldb + j]);
            acc[i * ldc + j] = (int32_t)sum;
        }
}

void ref_gram_exact(size_t rows, size_t n, const float *a, size_t lda, double *h)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            int64_t sum = 0;
            for (size_t r = 0; r < rows; r++)
                sum += (int64_t)a[r * lda + i] * (int64_t)a[r * lda + j];
            h[i * n + j] += (double)sum;
        }
}

void ref_cross_add(size_t rows, size_t m, size_t n, const float *y, size_t ldy, const float *a, size_t lda, double *c)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t r = 0; r < rows; r++)
                c[i * n + j] += (double)y[r * ldy + i] * (double)a[r * lda + j];
}
