/* Ranges of finite elements, sums. */
#include "core/kernel/bits.h"
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>

struct extent { int32_t lo, hi; };    /* in the order of floats: NaN and infinities are the ends of it */

KERNEL_INLINE struct extent block_extent(size_t n, const float *x)
{
    int32_t lo = INT32_MAX, hi = INT32_MIN;
    for (size_t i = 0; i < n; i++) {
        int32_t key = order_of(x[i]);
        lo = key < lo ? key : lo;
        hi = key > hi ? key : hi;
    }
    return (struct extent){ lo, hi };
}

static void extend_one_by_one(size_t n, const float *x, struct range *r)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            r->nan++;
        } else if (isinf(x[i])) {
            r->inf++;
        } else {
            r->lo = x[i] < r->lo ? x[i] : r->lo;
            r->hi = x[i] > r->hi ? x[i] : r->hi;
        }
    }
}

KERNEL_CLONES
void range_of(size_t n, const float *x, struct range *r)
{
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t len = n - at < BLOCK ? n - at : BLOCK;
        struct extent e = block_extent(len, x + at);
        float lo = of_order(e.lo), hi = of_order(e.hi);
        if (lo >= -FLT_MAX && hi <= FLT_MAX) {
            r->lo = lo < r->lo ? lo : r->lo;
            r->hi = hi > r->hi ? hi : r->hi;
        } else {
            extend_one_by_one(len, x + at, r);
        }
    }
}

/* Comparing with both ends keeps infinities out; a NaN fails every comparison. */
KERNEL_CLONES
void range_of_columns(size_t rows, size_t cols, const float *x, float *lo, float *hi)
{
    for (size_t r = 0; r < rows; r++, x += cols) {
        KERNEL_LOOP
        for (size_t c = 0; c < cols; c++) {
            float below = x[c] >= -FLT_MAX ? x[c] : FLT_MAX, above = x[c] <= FLT_MAX ? x[c] : -FLT_MAX;
            lo[c] = below < lo[c] ? below : lo[c];
            hi[c] = above > hi[c] ? above : hi[c];
        }
    }
}

KERNEL_CLONES
double sum_of_squares(size_t n, const float *x)
{
    double part[WIDTH] = { 0 }, sum = 0;
    size_t whole = n / WIDTH * WIDTH;
    for (size_t i = 0; i < whole; i += WIDTH)
        for (size_t j = 0; j < WIDTH; j++)
            part[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t i = whole; i < n; i++)
        part[i - whole] += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < WIDTH; j++)
        sum += part[j];
    return sum;
}
