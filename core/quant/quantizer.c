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

/* max|w| of one output channel, or a negative number if it holds something that is not finite. */
static float channel_reach(const struct weight_source *s, size_t k, size_t channel)
{
    float reach = 0;
    for (size_t i = 0; i < k; i++) {
        float x = source_at(s, i, channel);
        if (!isfinite(x))
            return -1;
        reach = fmaxf(reach, fabsf(x));
    }
    return reach;
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
    for (size_t c = 0; c < n; c++)
        if (channel_reach(&s, k, c) < 0)
            return not_finite(g, l, c, e);
    return true;
}

static bool find_scales(const struct graph *g, const struct layer *l, const struct weight_source *s, bool per_channel,
                        struct qweight *w, struct err *e)
{
    float top = (float)((1 << (w->bits - 1)) - 1), widest = 0;
    for (size_t c = 0; c < w->n; c++) {
        float reach = channel_reach(s, w->k, c);
        if (reach < 0)
            return not_finite(g, l, c, e);
        widest = fmaxf(widest, reach);
        w->zero_channels += reach == 0;
        w->scale[c] = reach > 0 ? fmaxf(reach / top, FLT_MIN) : 1.0f;
    }
    for (size_t c = 0; c < w->n && !per_channel; c++)
        w->scale[c] = widest > 0 ? fmaxf(widest / top, FLT_MIN) : 1.0f;
    return true;
}

static int8_t round_code(float x, float scale, int bits)
{
    float top = (float)((1 << (bits - 1)) - 1);
    return (int8_t)fmaxf(-top - 1, fminf(top, rintf(x / scale)));
}

bool qweight_round(const struct graph *g, const struct layer *l, const float *mul, int bits, bool per_channel, struct arena *mem,
                   struct qweight *ret, struct err *e)
{
    struct qweight w = { .k = (size_t)l->k, .n = (size_t)l->n, .bits = bits };
    w.codes = arena_array(mem, (uint64_t)w.k * w.n, 1, e);
    w.scale = arena_array(mem, w.n, sizeof *w.scale, e);
    struct weight_source s = weight_source_of(g, l);
    s.mul = mul;
    if (!w.codes || !w.scale || !find_scales(g, l, &s, per_channel, &w, e))
        return false;
    for (size_t k = 0; k < w.k; k++)
        for (size_t n = 0; n < w.n; n++) {
            float x = source_at(&s, k, n);
            int8_t q = round_code(x, w.scale[n], bits);
            double off = (double)x - (double)((float)q * w.scale[n]);
            w.codes[qweight_at(l, n, k)] = q;
            w.signal += (double)x * x;
            w.error += off * off;
        }
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
    struct weight_source s = weight_source_of(g, l);
    float reach = 0;
    for (size_t c = 0; c < w->n; c++)
        reach = fmaxf(reach, channel_reach(&s, w->k, c));
    for (size_t k = 0; k < w->k; k++)
        for (size_t c = 0; c < w->n; c++) {
            int code = w->codes[qweight_at(l, c, k)] - (w->zero ? w->zero[c] : 0);
            before[bin_of(s.w[k * s.step_k + c * s.step_n], -reach, reach, n)]++;
            after[bin_of((float)code * w->scale[c] * (mul ? mul[k] : 1), -reach, reach, n)]++;
        }
    *ret_lo = -reach;
    *ret_hi = reach;
}

int qweight_reach(const struct qweight *w) { return w->zero ? (1 << w->bits) - 1 : 1 << (w->bits - 1); }

float *qweight_floats(const struct qweight *w, const struct layer *l, struct arena *mem, struct err *e)
{
    float *f = arena_array(mem, w->k * w->n, sizeof *f, e);
    for (size_t i = 0; f && i < w->k * w->n; i++)
        f[i] = (float)w->codes[i];
    for (size_t c = 0; f && w->zero && c < w->n; c++)
        for (size_t k = 0; k < w->k; k++)
            f[qweight_at(l, c, k)] -= (float)w->zero[c];
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
