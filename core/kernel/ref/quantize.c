/* ONNX's QuantizeLinear and DequantizeLinear as ONNX Runtime computes them. */
#include "core/kernel/ref/ref.h"

#include <math.h>

static int code(float x, float scale, int zero, int qmin, int qmax)
{
    float ratio = x / scale;    /* in float: the division's rounding is part of the meaning */
    double q = isnan(ratio) ? qmin : rint((double)ratio) + zero;
    return q < qmin ? qmin : q > qmax ? qmax : (int)q;
}

void ref_quantize_u8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, uint8_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (uint8_t)code(x[i], scale, zero, qmin, qmax);
}

void ref_quantize_i8(size_t n, const float *x, float scale, int zero, int qmin, int qmax, int8_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)code(x[i], scale, zero, qmin, qmax);
}

void ref_quantize_to_float(size_t n, const float *x, float scale, int zero, int qmin, int qmax, float *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (float)(code(x[i], scale, zero, qmin, qmax) - zero);
}

void ref_fake_quantize(size_t n, const float *x, float scale, float first, float last, float *y)
{
    for (size_t i = 0; i < n; i++) {
        double level = rint((double)(x[i] / scale));
        y[i] = (float)fmin(fmax(level, (double)first), (double)last) * scale;
    }
}

void ref_level_codes(size_t n, const float *x, float into, float first, float back, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)fmax(rint((double)(x[i] * into)), (double)first) * back;
}

void ref_dequantize_u8(size_t n, const uint8_t *q, float scale, int zero, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(q[i] - zero) * scale;
}

void ref_dequantize_i8(size_t n, const int8_t *q, float scale, int zero, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(q[i] - zero) * scale;
}

void ref_dequantize_acc(size_t rows, size_t n, const int32_t *acc, size_t ldacc, const float *scale, size_t scale_n,
                        const float *bias, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n; c++) {
            float product = (float)acc[r * ldacc + c] * scale[scale_n == 1 ? 0 : c];
            y[r * ldy + c] = bias ? product + bias[c] : product;
        }
}
