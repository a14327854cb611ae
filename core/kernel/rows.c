/*
 * Normalisation and softmax.  Sums run block by block: a block adds up in LANES
 * float lanes, blocks add up in double, which keeps the error of a sum of any
 * length small at the speed of float.
 */
#include "core/kernel/approx.h"
#include "core/kernel/kernel.h"

#include <string.h>

KERNEL_INLINE size_t block_at(size_t at, size_t n) { return n - at < BLOCK ? n - at : BLOCK; }

/* The sum of LANES partial sums, pairwise. */
KERNEL_INLINE float fold(const lanes part[LANES / WIDTH])
{
    float lane[WIDTH];
    lanes all = (part[0] + part[1]) + (part[2] + part[3]);
    memcpy(lane, &all, sizeof lane);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

KERNEL_INLINE float block_sum(size_t n, const float *x)
{
    lanes part[LANES / WIDTH] = { 0 };
    float rest = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES / WIDTH; j++)
            part[j] += *(const loose_lanes *)(x + i + j * WIDTH);
    for (; i + WIDTH <= n; i += WIDTH)
        part[0] += *(const loose_lanes *)(x + i);
    for (; i < n; i++)
        rest += x[i];
    return fold(part) + rest;
}

KERNEL_INLINE double sum(size_t n, const float *x)
{
    double total = 0;
    for (size_t at = 0; at < n; at += BLOCK)
        total += (double)block_sum(block_at(at, n), x + at);
    return total;
}

/* Sums of d and d^2, d = x - centre. */
struct moments { double first, second; };

KERNEL_INLINE struct moments block_moments(size_t n, const float *x, float centre)
{
    lanes one[LANES / WIDTH] = { 0 }, two[LANES / WIDTH] = { 0 };
    float rest_one = 0, rest_two = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES / WIDTH; j++) {
            lanes d = *(const loose_lanes *)(x + i + j * WIDTH) - centre;
            one[j] += d;
            two[j] += d * d;
        }
    for (; i < n; i++) {
        float d = x[i] - centre;
        rest_one += d;
        rest_two += d * d;
    }
    return (struct moments){ (double)(fold(one) + rest_one), (double)(fold(two) + rest_two) };
}

KERNEL_INLINE struct moments moments(size_t n, const float *x, float centre)
{
    struct moments total = { 0, 0 };
    for (size_t at = 0; at < n; at += BLOCK) {
        struct moments part = block_moments(block_at(at, n), x + at, centre);
        total.first += part.first;
        total.second += part.second;
    }
    return total;
}

/* y = (x - centre - shift) * scale * gamma + beta */
KERNEL_INLINE void affine(size_t n, const float *x, float centre, float shift, float scale,
                          const float *gamma, const float *beta, float *y)
{
    if (gamma && beta) {
        KERNEL_LOOP
        for (size_t i = 0; i < n; i++)
            y[i] = (x[i] - centre - shift) * scale * gamma[i] + beta[i];
        return;
    }
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - centre - shift) * scale;
    for (size_t i = 0; gamma && i < n; i++)
        y[i] *= gamma[i];
    for (size_t i = 0; beta && i < n; i++)
        y[i] += beta[i];
}

/*
 * A float near the mean is subtracted first; what it lacks is measured on the differences, which
 * are exact where the mean is large against the deviation.
 */
KERNEL_CLONES
void layernorm(size_t rows, size_t n, const float *x, const float *gamma, const float *beta, float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        float centre = (float)(sum(n, x) / (double)n);
        struct moments m = moments(n, x, centre);
        double shift = m.first / (double)n, variance = m.second / (double)n - shift * shift;
        float scale = (float)(1 / sqrt((variance > 0 ? variance : 0 * variance) + (double)eps));
        affine(n, x, centre, (float)shift, scale, gamma, beta, y);
    }
}

KERNEL_CLONES
void rmsnorm(size_t rows, size_t n, const float *x, const float *gamma, float eps, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        double square = moments(n, x, 0).second / (double)n;
        affine(n, x, 0, 0, (float)(1 / sqrt(square + (double)eps)), gamma, NULL, y);
    }
}

/* A NaN with its sign set is passed over; it comes back in the sum.  A plain NaN is the largest of all. */
KERNEL_INLINE float largest(size_t n, const float *x)
{
    int32_t max = order_of(-INFINITY);
    for (size_t i = 0; i < n; i++) {
        int32_t key = order_of(x[i]);
        max = key > max ? key : max;
    }
    return of_order(max);
}

/* y = e^(x - max) for one block; returns the sum. */
KERNEL_INLINE float block_exp(size_t n, const float *x, float max, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = exp_of_negative(x[i] - max);
    return block_sum(n, y);
}

KERNEL_INLINE void softmax_row(size_t n, const float *x, float *y)
{
    float max = largest(n, x);
    double total = 0;
    for (size_t at = 0; at < n; at += BLOCK)
        total += (double)block_exp(block_at(at, n), x + at, max, y + at);
    float scale = (float)(1 / total);
    for (size_t i = 0; i < n; i++)
        y[i] *= scale;
}

KERNEL_CLONES
void softmax(size_t rows, size_t n, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n)
        softmax_row(n, x, y);
}

/* A row is scaled and masked where it will lie, and is still in the nearest cache. */
KERNEL_CLONES
void softmax_masked(size_t rows, size_t n, const float *x, float scale, const float *mask, size_t mask_rows, float *y)
{
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        const float *m = mask ? mask + r % mask_rows * n : NULL;
        KERNEL_LOOP
        for (size_t i = 0; i < n; i++)
            y[i] = m ? x[i] * scale + m[i] : x[i] * scale;
        softmax_row(n, y, y);
    }
}

KERNEL_CLONES
void log_softmax(size_t rows, size_t n, const float *x, float *y)
{
    float part[BLOCK];    /* y may be x, which is needed again */
    for (size_t r = 0; r < rows; r++, x += n, y += n) {
        float max = largest(n, x);
        double total = 0;
        for (size_t at = 0; at < n; at += BLOCK)
            total += (double)block_exp(block_at(at, n), x + at, max, part);
        float log_total = (float)log(total);
        KERNEL_LOOP
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] - max - log_total;
    }
}
