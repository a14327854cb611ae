#include "core/quant/quantizer.h"

#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct affine quantizer_unit(int bits, bool symmetric)
{
    int half = 1 << (bits - 1);
    return symmetric ? (struct affine){ 1.0f / (float)(half - 1), 0, -half, half - 1, DT_I8 }
                     : (struct affine){ 1.0f / (float)(half - 1), half, 0, 2 * half - 1, DT_U8 };
}

struct affine quantizer_from_range(float lo, float hi, int bits, bool symmetric)
{
    lo = fminf(lo, 0.0f);
    hi = fmaxf(hi, 0.0f);
    int half = 1 << (bits - 1), steps = 2 * half - 1;
    struct affine a = symmetric ? (struct affine){ 1.0f, 0, -half, half - 1, DT_I8 }
                                : (struct affine){ 1.0f, 0, 0, steps, DT_U8 };
    if (lo == hi)
        return a;
    if (symmetric) {
        a.scale = fmaxf(fmaxf(-lo, hi) / (float)(half - 1), FLT_MIN);
        return a;
    }
    /* Divided before subtracted: hi - lo alone can overflow.  FLT_MIN keeps a
     * range of denormals from becoming a scale of zero. */
    a.scale = fmaxf(hi / (float)steps - lo / (float)steps, FLT_MIN);
    long zero = lrintf(-lo / a.scale);
    a.zero = (int)(zero < 0 ? 0 : zero > steps ? steps : zero);
    return a;
}

void quantizer_limits(const struct affine *a, float *ret_lo, float *ret_hi)
{
    *ret_lo = (float)(a->qmin - a->zero) * a->scale;
    *ret_hi = (float)(a->qmax - a->zero) * a->scale;
}

int32_t quantizer_bias(float b, float scale)
{
    double q = rint((double)b / (double)scale);
    return (int32_t)fmax(INT32_MIN, fmin(INT32_MAX, q));
}

void pack_int4(size_t n, const int8_t *codes, uint8_t *ret)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        ret[i / 2] = (uint8_t)((codes[i] & 15) | (codes[i + 1] & 15) << 4);
    if (n % 2)
        ret[n / 2] = codes[n - 1] & 15;    /* the half beyond the end is 0, so that equal tensors are equal files */
}

struct weight_source weight_source_of(const struct graph *g, const struct layer *l)
{
    const float *w = g->values[l->weight].data;
    bool rows_are_outputs = l->transposed || l->kind == LAYER_CONV;
    return rows_are_outputs ? (struct weight_source){ w, 1, (size_t)l->k, NULL }
                            : (struct weight_source){ w, (size_t)l->n, 1, NULL };
}

static float source_at(const struct weight_source *s, size_t k, size_t channel)
{
    float x = s->w[k * s->step_k + channel * s->step_n];
    return s->mul ? x / s->mul[k] : x;
}

static bool not_finite(const struct graph *g, const struct layer *l, size_t channel, struct err *e)
{
    return err_set(e, ERR_NUMERIC_NONFINITE, g->values[l->weight].name,
                   "the weight of layer '%s' holds NaN or infinity in output channel %zu; export a trained model", l->name, channel);
}

bool weight_rows(const struct graph *g, const struct layer *l, float *ret, struct err *e)
{
    struct weight_source s = weight_source_of(g, l);
    size_t k = (size_t)l->k, n = (size_t)l->n;
    if (s.step_k == 1)
        memcpy(ret, s.w, k * n * sizeof *ret);
    else
        transpose_2d(k, n, s.w, n, ret, k);
    for (size_t c = 0; c < n; c++) {
        struct range r = RANGE_EMPTY;
        range_of(k, ret + c * k, &r);
        if (r.nan || r.inf)
            return not_finite(g, l, c, e);
    }
    return true;
}

/* ---- rounding ---- */

struct rounding {
    struct weight_source s;
    struct weight_grid grid;
    size_t group, groups;              /* grid's, or all of k as one */
    float *lo, *hi;                    /* [groups, n] */
    struct weight_range *range;        /* [groups, n] */
};

/* What every channel covers in each group of inputs, with 0.  The weights are read as they lie. */
static bool cover_channels(const struct graph *g, const struct layer *l, struct rounding *r, struct qweight *w, struct err *e)
{
    bool by_input = r->s.step_n == 1;
    size_t outer = by_input ? w->k : w->n, inner = by_input ? w->n : w->k;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++) {
            size_t k = by_input ? i : j, c = by_input ? j : i, at = k / r->group * w->n + c;
            float x = source_at(&r->s, k, c);
            if (!isfinite(x))
                return not_finite(g, l, c, e);
            r->lo[at] = x < r->lo[at] ? x : r->lo[at];
            r->hi[at] = x > r->hi[at] ? x : r->hi[at];
        }
    for (size_t c = 0; c < w->n; c++) {
        bool zero = true;
        for (size_t at = c; at < r->groups * w->n; at += w->n)
            zero = zero && r->lo[at] == 0 && r->hi[at] == 0;
        w->zero_channels += zero;
    }
    return true;
}

/* Channels of one run cover what any of them does. */
static void share_ranges(const struct weight_grid *grid, size_t n, float *lo, float *hi)
{
    size_t rows = grid->rows ? grid->rows : n;
    for (size_t first = 0; first < n; first += rows) {
        size_t count = n - first < rows ? n - first : rows;
        struct range all = { 0 };
        range_of(count, lo + first, &all);
        range_of(count, hi + first, &all);
        for (size_t c = first; c < first + count; c++) {
            lo[c] = all.lo;
            hi[c] = all.hi;
        }
    }
}

/* max|w| of one output channel. */
static float channel_reach(const struct rounding *r, const struct qweight *w, size_t channel)
{
    float reach = 0;
    for (size_t at = channel; at < r->groups * w->n; at += w->n)
        reach = fmaxf(reach, fmaxf(-r->lo[at], r->hi[at]));
    return reach;
}

static void set_scales(struct rounding *r, bool symmetric, struct qweight *w)
{
    for (size_t c = 0; c < w->n; c++) {
        float unit = w->step ? weight_unit(channel_reach(r, w, c)) : 0;
        for (size_t at = c; at < r->groups * w->n; at += w->n) {
            struct weight_range *range = &r->range[at];
            *range = weight_range_of(r->lo[at], r->hi[at], w->bits, symmetric, unit);
            if (w->step)
                w->step[at] = (uint8_t)range->step;
            else
                w->scale[at] = range->scale;
            if (!symmetric)
                (w->step ? w->stored_zero : w->zero)[at] = (int8_t)range->zero;
        }
        if (w->step)
            w->scale[c] = unit;
    }
}

static void round_codes(const struct layer *l, const struct rounding *r, struct qweight *w)
{
    for (size_t k = 0; k < w->k; k++)
        for (size_t c = 0; c < w->n; c++) {
            const struct weight_range *range = &r->range[k / r->group * w->n + c];
            float x = source_at(&r->s, k, c), q = fmaxf((float)range->lo, fminf((float)range->hi, rintf(x / range->scale)));
            double off = (double)x - (double)(q * range->scale);
            w->codes[qweight_at(l, c, k)] = (int8_t)(w->step ? (int)q * range->step : (int)q + range->zero);
            w->signal += (double)x * (double)x;
            w->error += off * off;
        }
}

bool qweight_new(const struct layer *l, int bits, const struct weight_grid *grid, bool symmetric, struct arena *mem, struct qweight *ret,
                 struct err *e)
{
    struct qweight w = { .k = (size_t)l->k, .n = (size_t)l->n, .bits = bits, .group = grid->two_level ? 0 : grid->group,
                         .step_group = grid->two_level ? grid->group : 0 };
    w.codes = arena_array(mem, (uint64_t)w.k * w.n, 1, e);
    w.scale = arena_array(mem, qweight_scales(&w), sizeof *w.scale, e);
    if (!w.codes || !w.scale || (grid->two_level && !(w.step = arena_alloc(mem, qweight_steps(&w), e))))
        return false;
    int8_t **zero = w.step ? &w.stored_zero : &w.zero;
    if (!symmetric && !(*zero = arena_alloc(mem, w.step ? qweight_steps(&w) : qweight_scales(&w), e)))
        return false;
    *ret = w;
    return true;
}

bool qweight_round(const struct graph *g, const struct layer *l, const float *mul, int bits, const struct weight_grid *grid,
                   bool symmetric, struct arena *mem, struct qweight *ret, struct err *e)
{
    struct qweight w;
    struct rounding r = { .s = weight_source_of(g, l), .grid = *grid, .group = grid->group ? grid->group : (size_t)l->k };
    r.s.mul = mul;
    r.groups = (size_t)l->k / r.group;
    r.lo = arena_array(mem, r.groups * (size_t)l->n, sizeof *r.lo, e);
    r.hi = arena_array(mem, r.groups * (size_t)l->n, sizeof *r.hi, e);
    r.range = arena_array(mem, r.groups * (size_t)l->n, sizeof *r.range, e);
    if (!r.lo || !r.hi || !r.range || !qweight_new(l, bits, grid, symmetric, mem, &w, e) || !cover_channels(g, l, &r, &w, e))
        return false;
    if (grid->rows != 1)
        share_ranges(grid, w.n, r.lo, r.hi);
    set_scales(&r, symmetric, &w);
    round_codes(l, &r, &w);
    *ret = w;
    return true;
}

static size_t bin_of(float x, float lo, float hi, size_t n)
{
    float at = hi > lo ? (x - lo) / (hi - lo) * (float)n : 0;
    return at <= 0 ? 0 : at >= (float)n ? n - 1 : (size_t)at;
}

void qweight_histogram(const struct graph *g, const struct layer *l, const struct qweight *w, const float *mul, size_t n,
                       float *ret_lo, float *ret_hi, uint64_t *before, uint64_t *after)
{
    const float *x = g->values[l->weight].data;
    bool rows_are_outputs = l->kind == LAYER_CONV;                  /* of the codes */
    size_t outer = rows_are_outputs ? w->n : w->k, inner = rows_are_outputs ? w->k : w->n;
    struct range seen = RANGE_EMPTY;
    range_of(w->k * w->n, x, &seen);
    float reach = fmaxf(0, fmaxf(-seen.lo, seen.hi));
    for (size_t i = 0; i < w->k * w->n; i++)
        before[bin_of(x[i], -reach, reach, n)]++;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++) {
            size_t k = rows_are_outputs ? j : i, c = rows_are_outputs ? i : j, at = qweight_scale_at(w, c, k);
            int code = w->codes[i * inner + j] - (w->zero ? w->zero[at] : 0);
            after[bin_of((float)code * w->scale[at] * (mul ? mul[k] : 1), -reach, reach, n)]++;
        }
    *ret_lo = -reach;
    *ret_hi = reach;
}

int qweight_reach(const struct qweight *w) { return w->step ? 128 : w->zero ? (1 << w->bits) - 1 : 1 << (w->bits - 1); }

float *qweight_floats(const struct qweight *w, const struct layer *l, struct arena *mem, struct err *e)
{
    float *f = arena_array(mem, w->k * w->n, sizeof *f, e);
    for (size_t i = 0; f && i < w->k * w->n; i++)
        f[i] = (float)w->codes[i];
    for (size_t c = 0; f && w->zero && c < w->n; c++)
        for (size_t k = 0; k < w->k; k++)
            f[qweight_at(l, c, k)] -= (float)w->zero[qweight_scale_at(w, c, k)];
    return f;
}

bool conv_scales(const struct layer *l, const struct qweight *w, const struct graph *g, float x_scale, const float *mul,
                 struct arena *mem, struct conv_scales *ret, struct err *e)
{
    const float *own = qweight_bias(w, g, l);
    float *all = arena_array(mem, 4 * w->n, sizeof *all, e), *sums = all + w->n, *bias = sums + w->n, *post = bias + w->n;
    for (size_t i = 0; all && i < w->n; i++) {
        float m = mul ? mul[i] : 1;
        all[i] = w->scale[i] * m;
        sums[i] = x_scale * all[i];
        bias[i] = own ? own[i] * m : 0;
        post[i] = 1 / m;
    }
    *ret = (struct conv_scales){ all, sums, own ? bias : NULL, mul ? post : NULL };
    return all != NULL;
}
