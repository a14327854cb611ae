/* Functions of one element: libm's, in double, rounded once. */
#include "core/kernel/ref/ref.h"

#include <math.h>

void ref_vec_exp(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)exp(x[i]);
}

void ref_vec_erf(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)erf(x[i]);
}

void ref_vec_tanh(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)tanh(x[i]);
}

void ref_vec_sigmoid(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(1 / (1 + exp(-(double)x[i])));
}

void ref_vec_gelu(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(0.5 * x[i] * (1 + erf(x[i] / sqrt(2))));
}

void ref_vec_silu(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] / (1 + exp(-(double)x[i])));
}

void ref_vec_affine_row(size_t rows, size_t n, const float *x, const float *mul, const float *shift, float *y)
{
    for (size_t i = 0; i < rows * n; i++)
        y[i] = shift ? x[i] * mul[i % n] + shift[i % n] : x[i] * mul[i % n];
}

void ref_vec_threshold(size_t n, const float *x, float alpha, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > alpha ? x[i] : 0;
}

void ref_vec_add_row(size_t rows, size_t n, const float *x, const float *row, float *y)
{
    for (size_t i = 0; i < rows * n; i++)
        y[i] = x[i] + row[i % n];
}
