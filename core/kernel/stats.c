/* Ranges of finite elements. */
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>

/* Range of one block.  0 * x adds up to 0, or to NaN if any x is not finite. */
struct extent { float lo, hi, zero; };

KERNEL_INLINE struct extent block_extent(size_t n, const float *x)
{
    float lo[LANES], hi[LANES], zero[LANES];
    struct extent e = { FLT_MAX, -FLT_MAX, 0 };
    size_t i = 0;
    for (size_t j = 0; j < LANES; j++) {
        lo[j] = FLT_MAX;
        hi[j] = -FLT_MAX;
        zero[j] = 0;
    }
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            lo[j] = x[i + j] < lo[j] ? x[i + j] : lo[j];
            hi[j] = x[i + j] > hi[j] ? x[i + j] : hi[j];
            zero[j] += 0 * x[i + j];
        }
    for (size_t j = 0; j < LANES; j++) {
        e.lo = lo[j] < e.lo ? lo[j] : e.lo;
        e.hi = hi[j] > e.hi ? hi[j] : e.hi;
        e.zero += zero[j];
    }
    for (; i < n; i++) {
        e.lo = x[i] < e.lo ? x[i] : e.lo;
        e.hi = x[i] > e.hi ? x[i] : e.hi;
        e.zero += 0 * x[i];
    }
    return e;
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
        if (e.zero == 0) {
            r->lo = e.lo < r->lo ? e.lo : r->lo;
            r->hi = e.hi > r->hi ? e.hi : r->hi;
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
