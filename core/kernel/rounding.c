/* Rounding to evenly spaced levels from any offset: what it costs, and what it gives. */
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>

/* The place of x on the levels 0..top, and the level it is rounded to; clamping first rounds the same. */
KERNEL_INLINE float place_of(float x, float lo, float scale) { return (x - lo) / scale; }
KERNEL_INLINE float level_of(float place, float top)
{
    float p = place > 0 ? place : 0;
    return rintf(p < top ? p : top);
}

/* Measured in steps, where squares neither overflow nor vanish whatever the unit of x. */
KERNEL_INLINE float off_by(float x, float lo, float per_unit, float top)
{
    float place = (x - lo) * per_unit;
    return place - level_of(place, top);
}

/* Lanes side by side, so that a block costs a few additions of registers and no chain of LANES. */
KERNEL_INLINE void move_on(const float part[LANES], double sum[WIDTH])
{
    for (size_t j = 0; j < LANES; j += WIDTH)
        for (size_t i = 0; i < WIDTH; i++)
            sum[i] += (double)part[j + i];
}

KERNEL_INLINE void block_error(size_t n, const float *x, float lo, float per_unit, float top, double sum[WIDTH])
{
    float part[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            float d = off_by(x[i + j], lo, per_unit, top);
            part[j] += d * d;
        }
    for (size_t j = 0; i < n; i++, j++) {
        float d = off_by(x[i], lo, per_unit, top);
        part[j] += d * d;
    }
    move_on(part, sum);
}

KERNEL_INLINE void weighted_block_error(size_t n, const float *x, const float *weight, float lo, float per_unit, float top, double sum[WIDTH])
{
    float part[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            float d = off_by(x[i + j], lo, per_unit, top);
            part[j] += weight[i + j] * (d * d);
        }
    for (size_t j = 0; i < n; i++, j++) {
        float d = off_by(x[i], lo, per_unit, top);
        part[j] += weight[i] * (d * d);
    }
    move_on(part, sum);
}

KERNEL_CLONES
double rounding_error(size_t n, const float *x, const float *weight, float lo, float scale, int top)
{
    double sum[WIDTH] = { 0 }, all = 0;
    float per_unit = 1 / scale;
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t len = n - at < BLOCK ? n - at : BLOCK;
        if (weight)
            weighted_block_error(len, x + at, weight + at, lo, per_unit, (float)top, sum);
        else
            block_error(len, x + at, lo, per_unit, (float)top, sum);
    }
    for (size_t i = 0; i < WIDTH; i++)
        all += sum[i];
    return all;
}

KERNEL_CLONES
void round_columns(size_t rows, size_t cols, const float *x, const float *lo, const float *scale, int top, float *y)
{
    float last = (float)top;
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        KERNEL_LOOP
        for (size_t c = 0; c < cols; c++)
            y[c] = lo[c] + scale[c] * level_of(place_of(x[c], lo[c], scale[c]), last);
    }
}
