/* channel_data.h - tensors whose channels differ as those of a transformer do, for tests. */
#ifndef TESTS_UNIT_CORE_CHANNEL_DATA_H
#define TESTS_UNIT_CORE_CHANNEL_DATA_H

#include "core/kernel/kernel.h"
#include "core/quant/clip.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint64_t state_of_random = 1;

static inline float uniform(float lo, float hi)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(state_of_random >> 40) * 0x1p-24f;
}

/* Nearly normal. */
static inline float bell(void)
{
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += uniform(0, 1);
    return sum;
}

/* Channel 0 is constant, 1 is constantly 0, 2 and 3 are outliers; one value in a hundred lies far out. */
static inline void fill_channels(size_t n, size_t channels, float unit, float *x)
{
    for (size_t c = 0; c < channels; c++) {
        float middle = bell(), width = c < 2 ? 0 : expf(0.7f * bell()) * (c < 4 ? 12 : 1);
        middle = c == 1 ? 0 : middle;
        for (size_t i = 0; i < n; i++)
            x[i * channels + c] = unit * (middle + width * bell() * (uniform(0, 1) < 0.01f ? 4 : 1));
    }
}

static inline struct ranges extremes_of(size_t n, size_t channels, const float *x, struct arena *mem)
{
    struct err e = { 0 };
    struct ranges r;
    if (!ranges_new(channels, mem, &r, &e))
        return r;
    for (size_t c = 0; c < channels; c++) {
        r.lo[c] = FLT_MAX;
        r.hi[c] = -FLT_MAX;
    }
    range_of_columns(n, channels, x, r.lo, r.hi);
    return r;
}

/* Rows over these values, ready for the searches. */
static inline struct rows prepared(const float *values, size_t n, size_t channels, const float *weights, struct arena *mem)
{
    struct err e = { 0 };
    struct rows r = { values, n, channels, weights, NULL };
    if (!rows_prepare(&r, mem, &e))
        fail_msg("%s", e.text);
    return r;
}

/* Of tests whose state is an arena. */
static inline int teardown(void **state)
{
    arena_free(*state);
    return 0;
}

/* Squared error of a channel's quantizer by the formula, over all rows. */
static inline double channel_error(const struct rows *r, size_t c, float lo, float hi, int bits)
{
    double top = (1 << bits) - 1, step = ((double)hi - (double)lo) / top, sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        double x = (double)r->x[i * r->channels + c];
        double level = step > 0 ? (double)lo + step * rint(fmax(0, fmin(top, (x - (double)lo) / step))) : (double)lo;
        sum += (r->weight ? (double)r->weight[i] : 1) * (x - level) * (x - level);
    }
    return sum;
}

#endif
