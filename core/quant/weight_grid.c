#include "core/quant/weight_grid.h"

#include "core/quant/quantizer.h"

#include <float.h>
#include <math.h>

enum { LEAST_GROUP = 16, UNITS = 119 };
/* So much of a step may be missing at the ends. */
static const double spared = 0.3;

static bool wants_groups(const struct recipe *r) { return r->weights.granularity == RECIPE_PER_GROUP || r->weights.granularity == RECIPE_TWO_LEVEL; }

static size_t largest_power(size_t k, size_t most)
{
    size_t best = 0;
    for (size_t p = LEAST_GROUP; p <= most && p < k; p *= 2)
        best = k % p == 0 ? p : best;
    return best;
}

/* 0: no groups. */
static size_t group_of(const struct recipe *r, const struct layer *l)
{
    size_t k = (size_t)l->k, size = (size_t)r->weights.group_size;
    if (l->kind != LAYER_LINEAR || size >= k)
        return 0;
    return k % size == 0 ? size : largest_power(k, size);
}

struct weight_grid weight_grid_of(const struct recipe *r, const struct layer *l, int bits)
{
    switch (r->weights.granularity) {
    case RECIPE_PER_TENSOR: return (struct weight_grid){ 0 };
    case RECIPE_PER_CHANNEL: break;
    case RECIPE_PER_ROWS: return (struct weight_grid){ .rows = (size_t)r->weights.group_size };
    case RECIPE_PER_GROUP: return (struct weight_grid){ .rows = 1, .group = group_of(r, l) };
    case RECIPE_TWO_LEVEL:
        if (bits <= TWO_LEVEL_MOST_BITS && group_of(r, l))
            return (struct weight_grid){ 1, group_of(r, l), true };
    }
    return (struct weight_grid){ .rows = 1 };
}

bool weight_grid_falls_back(const struct recipe *r, const struct layer *l)
{
    return wants_groups(r) && l->kind == LAYER_LINEAR && l->k > r->weights.group_size && !group_of(r, l);
}

float weight_unit(float reach) { return reach > 0 ? fmaxf(reach / UNITS, FLT_MIN) : 1.0f; }

static int whole_step(double codes, int top) { return (int)fmax(1, ceil(codes / top - spared)); }

static int within(double x, int lo, int hi) { return x < lo ? lo : x > hi ? hi : (int)x; }

static struct weight_range second_level(float lo, float hi, int bits, bool symmetric, float unit)
{
    int half = 1 << (bits - 1), steps = 2 * half - 1;
    double low = rint((double)fminf(lo, 0) / (double)unit), high = rint((double)fmaxf(hi, 0) / (double)unit);
    struct weight_range r = { .step = symmetric ? whole_step(fmax(-low, high), half - 1) : whole_step(high - low, steps) };
    r.zero = symmetric ? 0 : within(rint(-low / r.step), 0, steps) - half;
    r.lo = within(-half - r.zero, -128 / r.step, 0);
    r.hi = within(half - 1 - r.zero, 0, 127 / r.step);
    r.scale = unit * (float)r.step;
    return r;
}

struct weight_range weight_range_of(float lo, float hi, int bits, bool symmetric, float unit)
{
    if (unit > 0)
        return second_level(lo, hi, bits, symmetric, unit);
    struct affine a = quantizer_from_range(lo, hi, bits, symmetric);
    return (struct weight_range){ a.scale, a.zero - (symmetric ? 0 : 1 << (bits - 1)), a.qmin - a.zero, a.qmax - a.zero, 1 };
}
