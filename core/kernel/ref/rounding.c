/* Rounding to evenly spaced levels. */
#include "core/kernel/ref/ref.h"

#include <math.h>

static double level(double x, double lo, double scale, int top) { return rint(fmax(0, fmin(top, (x - lo) / scale))); }

double ref_rounding_error(size_t n, const float *x, const float *weight, float lo, float scale, int top)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double off = ((double)x[i] - (double)lo) / (double)scale - level(x[i], lo, scale, top);
        sum += (weight ? (double)weight[i] : 1) * off * off;
    }
    return sum;
}

void ref_round_columns(size_t rows, size_t cols, const float *x, const float *lo, const float *scale, int top, float *y)
{
    for (size_t i = 0; i < rows * cols; i++) {
        float l = lo[i % cols], s = scale[i % cols];
        y[i] = l + s * rintf(fmaxf(0, fminf((float)top, (x[i] - l) / s)));
    }
}
