#include "core/quant/quantizer.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Codes of biases: at most so large, which leaves room for the sums, and of channels without weights so large at least. */
#define BIAS_MOST 0x1p28
#define BIAS_FINE 0x1p24

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
    const struct value *v = &g->values[l->weight];
    bool rows_are_outputs = l->transposed || l->kind == LAYER_CONV;
    return (struct weight_source){ .w = v->data, .half = v->narrow, .half_as = v->narrow_as, .step_k = rows_are_outputs ? 1 : (size_t)l->n,
                                   .step_n = rows_are_outputs ? (size_t)l->k : 1 };
}

static float source_at(const struct weight_source *s, size_t k, size_t channel)
{
    float x = weight_at(s, k, channel);
    return s->mul ? x / s->mul[k] : x;
}

static bool not_finite(const struct graph *g, const struct layer *l, size_t channel, struct err *e)
{
    return err_set(e, ERR_NUMERIC_NONFINITE, g->values[l->weight].name,
                   "the weight of layer '%s' holds NaN or infinity in output channel %zu; export a trained model", l->name, channel);
}

/* The same as floats, some inputs at a time. */
static bool transpose_half(const struct weight_source *s, size_t k, size_t n, float *ret, struct err *e)
{
    enum { INPUTS = 16 };
    float *some = malloc((INPUTS * n + 1) * sizeof *some);
    for (size_t i = 0; some && i < k; i += INPUTS) {
        size_t rows = k - i < INPUTS ? k - i : INPUTS;
        vec_widen(rows * n, s->half_as, s->half + i * n, some);
        transpose_2d(rows, n, some, n, ret + i, k);
    }
    free(some);
    return some || err_set(e, ERR_MEMORY, "", "no memory for a layer's weights");
}

static bool copy_rows(const struct weight_source *s, size_t k, size_t n, float *ret, struct err *e)
{
    if (s->step_k != 1 && !s->w)
        return transpose_half(s, k, n, ret, e);
    if (s->step_k != 1)
        transpose_2d(k, n, s->w, n, ret, k);
    else if (s->w)
        memcpy(ret, s->w, k * n * sizeof *ret);
    else
        vec_widen(k * n, s->half_as, s->half, ret);
    return true;
}

bool weight_rows(const struct graph *g, const struct layer *l, float *ret, struct err *e)
{
    struct weight_source s = weight_source_of(g, l);
    size_t k = (size_t)l->k, n = (size_t)l->n;
    if (!copy_rows(&s, k, n, ret, e))
        return false;
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

enum { SOME = 1024 };

/* The nearest numbers in the ranges, before their zero points, and what they stand for. */
KERNEL_CLONES
static void round_some(size_t n, const float *restrict x, const struct weight_range *restrict range, float *restrict q,
                       float *restrict back)
{
    for (size_t i = 0; i < n; i++) {
        float lo = (float)range[i].lo, hi = (float)range[i].hi, at = rintf(x[i] / range[i].scale);
        at = at < hi ? at : hi;
        q[i] = at > lo ? at : lo;
        back[i] = q[i] * range[i].scale;
    }
}

/* Weights of input k and n <= SOME channels from `first` on. */
static void round_row(const struct layer *l, const struct rounding *r, size_t k, size_t first, size_t n, struct qweight *w)
{
    const struct weight_range *range = &r->range[k / r->group * w->n + first];
    float x[SOME], q[SOME], back[SOME];
    for (size_t i = 0; i < n; i++)
        x[i] = source_at(&r->s, k, first + i);
    round_some(n, x, range, q, back);
    for (size_t i = 0; i < n; i++) {
        double off = (double)x[i] - (double)back[i];
        w->codes[qweight_at(l, first + i, k)] = (int8_t)(w->step ? (int)q[i] * range[i].step : (int)q[i] + range[i].zero);
        w->signal += (double)x[i] * (double)x[i];
        w->error += off * off;
    }
}

static void round_codes(const struct layer *l, const struct rounding *r, struct qweight *w)
{
    for (size_t k = 0; k < w->k; k++)
        for (size_t c = 0; c < w->n; c += SOME)
            round_row(l, r, k, c, w->n - c < SOME ? w->n - c : SOME, w);
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

/* Counts on n equal bins over [lo, hi]. */
struct bins { float lo, hi; size_t n; uint64_t *count; };

KERNEL_CLONES
static void find_bins(size_t n, const float *restrict x, float lo, float hi, float bins, int *restrict bin)
{
    for (size_t i = 0; i < n; i++) {
        float at = hi > lo ? (x[i] - lo) / (hi - lo) * bins : 0;
        at = at > 0 ? at : 0;
        bin[i] = (int)(at < bins - 1 ? at : bins - 1);
    }
}

/* n <= SOME */
static void count_bins(size_t n, const float *x, const struct bins *b)
{
    int bin[SOME];
    find_bins(n, x, b->lo, b->hi, (float)b->n, bin);
    for (size_t i = 0; i < n; i++)
        b->count[bin[i]]++;
}

/* Up to SOME weights from number `from` on, as they lie; those of 16 bits are widened into room[SOME]. */
static const float *source_some(const struct weight_source *s, size_t from, size_t n, float *room)
{
    if (s->w)
        return s->w + from;
    vec_widen(n, s->half_as, s->half + from, room);
    return room;
}

/* The largest |w|. */
static float source_reach(const struct weight_source *s, size_t n)
{
    struct range seen = RANGE_EMPTY;
    float room[SOME];
    for (size_t i = 0, some; i < n; i += some) {
        some = n - i < SOME ? n - i : SOME;
        range_of(some, source_some(s, i, some, room), &seen);
    }
    return fmaxf(0, fmaxf(-seen.lo, seen.hi));
}

/* Up to SOME weights from `first` on of those that `codes` has in a row: of an input, or with by_output of an output channel. */
static void row_weights(const struct qweight *w, size_t row, bool by_output, size_t first, size_t n, const float *mul, float *ret)
{
    const int8_t *codes = w->codes + row * (by_output ? w->k : w->n) + first;
    for (size_t i = 0; i < n; i++) {
        size_t k = by_output ? first + i : row, at = qweight_scale_at(w, by_output ? row : first + i, k);
        ret[i] = (float)(codes[i] - (w->zero ? w->zero[at] : 0)) * w->scale[at] * (mul ? mul[k] : 1);
    }
}

void qweight_histogram(const struct graph *g, const struct layer *l, const struct qweight *w, const float *mul, size_t n,
                       float *ret_lo, float *ret_hi, uint64_t *before, uint64_t *after)
{
    struct weight_source s = weight_source_of(g, l);
    bool by_output = l->kind == LAYER_CONV;
    size_t outer = by_output ? w->n : w->k, inner = by_output ? w->k : w->n;
    float room[SOME], reach = source_reach(&s, w->k * w->n);
    struct bins b = { -reach, reach, n, before };
    for (size_t i = 0, some; i < w->k * w->n; i += some) {
        some = w->k * w->n - i < SOME ? w->k * w->n - i : SOME;
        count_bins(some, source_some(&s, i, some, room), &b);
    }
    b.count = after;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0, some; j < inner; j += some) {
            some = inner - j < SOME ? inner - j : SOME;
            row_weights(w, i, by_output, j, some, mul, room);
            count_bins(some, room, &b);
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

/* ---- a bias in units of the sums ---- */

static bool all_zero(const struct layer *l, const struct qweight *w, size_t channel)
{
    for (size_t k = 0; k < w->k; k++)
        if (w->codes[qweight_at(l, channel, k)] != (w->zero ? w->zero[channel] : 0))
            return false;
    return true;
}

/* The least scale that the biases of n channels with one scale need; 0: theirs will do. */
static float scale_for_bias(const struct layer *l, const struct qweight *w, const float *bias, float x_scale, size_t first, size_t n)
{
    double largest = 0, scale = (double)w->scale[first];
    bool zero = true;
    for (size_t c = first; c < first + n; c++) {
        largest = fmax(largest, fabs((double)bias[c]));
        zero = zero && all_zero(l, w, c);
    }
    double reach = largest / (double)x_scale;
    if (reach > scale * BIAS_MOST)
        return (float)fmin(reach / BIAS_MOST, FLT_MAX);
    return zero && largest > 0 && reach < scale * BIAS_FINE ? (float)fmax(reach / BIAS_FINE, FLT_MIN) : 0;
}

static void change_scale(const struct layer *l, struct qweight *io, size_t channel, float scale)
{
    int zero = io->zero ? io->zero[channel] : 0;
    double ratio = (double)io->scale[channel] / (double)scale;
    for (size_t k = 0; k < io->k; k++) {
        int8_t *code = &io->codes[qweight_at(l, channel, k)];
        *code = (int8_t)(rint((*code - zero) * ratio) + zero);
    }
    io->scale[channel] = scale;
}

bool qweight_fit_bias(const struct graph *g, const struct layer *l, size_t rows, float x_scale, struct qweight *io)
{
    const float *bias = qweight_bias(io, g, l);
    bool changed = false;
    rows = rows ? rows : io->n;
    for (size_t first = 0; bias && first < io->n; first += rows) {
        size_t n = io->n - first < rows ? io->n - first : rows;
        float scale = scale_for_bias(l, io, bias, x_scale, first, n);
        for (size_t c = first; scale > 0 && c < first + n; c++)
            change_scale(l, io, c, scale);
        changed = changed || scale > 0;
    }
    return changed;
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
