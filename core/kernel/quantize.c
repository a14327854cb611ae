/*
 * QuantizeLinear and DequantizeLinear, bit-exact with ONNX Runtime: an IEEE
 * division (the product with 1/scale differs in one code of 6,000), rounding half to even.
 */
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>

/* The limits of code - zero, as floats. */
struct limits { float lo, hi; };

KERNEL_INLINE struct limits limits(int zero, int qmin, int qmax)
{
    return (struct limits){ (float)(qmin - zero), (float)(qmax - zero) };
}

/* code - zero.  The limits are integers, so clamping first changes nothing and keeps the conversion to int defined. */
KERNEL_INLINE float centred(float x, float scale, struct limits l)
{
    float v = x / scale;
    v = v > l.lo ? v : l.lo;    /* so that NaN gives lo */
    v = v > l.hi ? l.hi : v;
    return rintf(v);
}

KERNEL_CLONES
void quantize_u8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, uint8_t *q)
{
    struct limits l = limits(zero, qmin, qmax);
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        q[i] = (uint8_t)((int)centred(x[i], scale, l) + zero);
}

KERNEL_CLONES
void quantize_i8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, int8_t *q)
{
    struct limits l = limits(zero, qmin, qmax);
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)((int)centred(x[i], scale, l) + zero);
}

KERNEL_CLONES
void quantize_to_float(size_t n, const float *x, float scale, int zero, int qmin, int qmax, float *q)
{
    struct limits l = limits(zero, qmin, qmax);
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        q[i] = centred(x[i], scale, l);
}

KERNEL_CLONES
void fake_quantize(size_t n, const float *x, float scale, float first, float last, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++) {
        float level = rintf(x[i] / scale);
        level = level > first ? level : first;
        y[i] = (level > last ? last : level) * scale;
    }
}

KERNEL_CLONES
void level_codes(size_t n, const float *x, float into, float first, float back, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++) {
        float level = rintf(x[i] * into);
        y[i] = (level > first ? level : first) * back;
    }
}

KERNEL_CLONES
void dequantize_u8(size_t n, const uint8_t *q, float scale, int zero, float *x)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(q[i] - zero) * scale;
}

KERNEL_CLONES
void dequantize_i8(size_t n, const int8_t *q, float scale, int zero, float *x)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(q[i] - zero) * scale;
}

KERNEL_INLINE float sum_at(const void *sums, bool floats, size_t c)
{
    return floats ? ((const float *)sums)[c] : (float)((const int32_t *)sums)[c];
}

/* One row; the four cases are loops of their own so that each is vectorised. */
KERNEL_INLINE void scale_row(size_t n, const void *sums, bool floats, const float *scale, bool per_column,
                             const float *bias, float *y)
{
    if (per_column && bias) {
        KERNEL_LOOP
        for (size_t c = 0; c < n; c++)
            y[c] = sum_at(sums, floats, c) * scale[c] + bias[c];
    } else if (per_column) {
        KERNEL_LOOP
        for (size_t c = 0; c < n; c++)
            y[c] = sum_at(sums, floats, c) * scale[c];
    } else if (bias) {
        KERNEL_LOOP
        for (size_t c = 0; c < n; c++)
            y[c] = sum_at(sums, floats, c) * scale[0] + bias[c];
    } else {
        KERNEL_LOOP
        for (size_t c = 0; c < n; c++)
            y[c] = sum_at(sums, floats, c) * scale[0];
    }
}

KERNEL_CLONES
void dequantize_acc(size_t rows, size_t n, const int32_t *acc, size_t ldacc, const float *scale, size_t scale_n,
                    const float *bias, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++, acc += ldacc, y += ldy)
        scale_row(n, acc, false, scale, scale_n > 1, bias, y);
}

KERNEL_CLONES
void dequantize_sums(size_t rows, size_t n, const float *sums, size_t ldsums, const float *scale, size_t scale_n,
                     const float *bias, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++, sums += ldsums, y += ldy)
        scale_row(n, sums, true, scale, scale_n > 1, bias, y);
}
