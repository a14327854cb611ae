/* Normalisation and softmax, as their formulas are written. */
#include "core/kernel/ref/ref.h"

#include <math.h>

static double mean_of(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

static double mean_square(size_t n, const float *x, double centre)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - centre) * (x[i] - centre);
    return sum / (double)n;
}

void ref_layernorm(size_t rows, size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double mean = mean_of(n, x), deviation = sqrt(mean_square(n, x, mean) + eps);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)((x[i] - mean) / deviation * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0));
    }
}

void ref_rmsnorm(size_t rows, size_t n, const float *x, const float *gamma, float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double rms = sqrt(mean_square(n, x, 0) + eps);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)(x[i] / rms * (gamma ? gamma[i] : 1));
    }
}

static double largest(size_t n, const float *x)
{
    double max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static double sum_of_exp(size_t n, const float *x, double max)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return sum;
}

void ref_softmax(size_t rows, size_t n, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double max = largest(n, x), sum = sum_of_exp(n, x, max);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)(exp(x[i] - max) / sum);
    }
}

void ref_softmax_masked(size_t rows, size_t n, const float *x, float scale, const float *mask, size_t mask_rows, float *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++)
            y[r * n + i] = x[r * n + i] * scale + (mask ? mask[r % mask_rows * n + i] : 0);
    ref_softmax(rows, n, y, y);
}

void ref_log_softmax(size_t rows, size_t n, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double max = largest(n, x), log_sum = log(sum_of_exp(n, x, max));
        for (size_t i = 0; i < n; i++)
            y[i] = (float)(x[i] - max - log_sum);
    }
}
