/* Functions of one element. */
#include "core/kernel/approx.h"
#include "core/kernel/kernel.h"

KERNEL_CLONES
void vec_exp(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = exp_of(x[i]);
}

KERNEL_CLONES
void vec_erf(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = erf_of(x[i]);
}

KERNEL_CLONES
void vec_tanh(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = tanh_of(x[i]);
}

KERNEL_CLONES
void vec_sigmoid(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = sigmoid_of(x[i]);
}

KERNEL_CLONES
void vec_gelu(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = 0.5f * x[i] * (1 + erf_of(x[i] * 0x1.6a09e6p-1f));
}

KERNEL_CLONES
void vec_silu(size_t n, const float *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * sigmoid_of(x[i]);
}

KERNEL_CLONES
void vec_affine_row(size_t rows, size_t n, const float *x, const float *mul, const float *shift, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        if (shift) {
            KERNEL_LOOP
            for (size_t i = 0; i < n; i++)
                y[i] = x[i] * mul[i] + shift[i];
        } else {
            KERNEL_LOOP
            for (size_t i = 0; i < n; i++)
                y[i] = x[i] * mul[i];
        }
    }
}

KERNEL_CLONES
void vec_threshold(size_t n, const float *x, float alpha, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > alpha ? x[i] : 0;
}

KERNEL_CLONES
void vec_add_row(size_t rows, size_t n, const float *x, const float *row, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        KERNEL_LOOP
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] + row[i];
    }
}
