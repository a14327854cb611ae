/* Ranges of finite elements. */
#include "core/kernel/ref/ref.h"

#include <math.h>

static void extend(float x, float *lo, float *hi)
{
    *lo = x < *lo ? x : *lo;
    *hi = x > *hi ? x : *hi;
}

void ref_range_of(size_t n, const float *x, struct range *r)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]))
            extend(x[i], &r->lo, &r->hi);
        r->nan += isnan(x[i]) != 0;
        r->inf += isinf(x[i]) != 0;
    }
}

void ref_range_of_columns(size_t rows, size_t cols, const float *x, float *lo, float *hi)
{
    for (size_t i = 0; i < rows * cols; i++)
        if (isfinite(x[i]))
            extend(x[i], &lo[i % cols], &hi[i % cols]);
}
