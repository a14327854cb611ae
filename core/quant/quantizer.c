#include "core/quant/quantizer.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* Element (k, n) of a layer's weight as it lies in the model. */
struct source { const float *w; size_t step_k, step_n; };

static struct source source_of(const struct graph *g, const struct layer *l)
{
    const float *w = g->values[l->weight].data;
    bool rows_are_outputs = l->transposed || l->kind == LAYER_CONV;
    return rows_are_outputs ? (struct source){ w, 1, (size_t)l->k } : (struct source){ w, (size_t)l->n, 1 };
}

/* max|w| of one output channel, or a negative number if it holds something that is not finite. */
static float channel_reach(const struct source *s, size_t k, size_t channel)
{
    float reach = 0;
    for (size_t i = 0; i < k; i++) {
        float x = s->w[i * s->step_k + channel * s->step_n];
        if (!isfinite(x))
            return -1;
        reach = fmaxf(reach, fabsf(x));
    }
    return reach;
}

static bool find_scales(const struct graph *g, const struct layer *l, const struct source *s, bool per_channel,
                        struct qweight *w, struct err *e)
{
    float top = (float)((1 << (w->bits - 1)) - 1), widest = 0;
    for (size_t c = 0; c < w->n; c++) {
        float reach = channel_reach(s, w->k, c);
        if (reach < 0)
            return err_set(e, ERR_NUMERIC_NONFINITE, g->values[l->weight].name,
                           "the weight of layer '%s' holds NaN or infinity in output channel %zu; export a trained model", l->name, c);
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

bool qweight_round(const struct graph *g, const struct layer *l, int bits, bool per_channel, struct arena *mem,
                   struct qweight *ret, struct err *e)
{
    struct qweight w = { .k = (size_t)l->k, .n = (size_t)l->n, .bits = bits };
    w.codes = arena_array(mem, (uint64_t)w.k * w.n, 1, e);
    w.scale = arena_array(mem, w.n, sizeof *w.scale, e);
    struct source s = source_of(g, l);
    if (!w.codes || !w.scale || !find_scales(g, l, &s, per_channel, &w, e))
        return false;
    bool conv = l->kind == LAYER_CONV;
    size_t to_k = conv ? 1 : w.n, to_n = conv ? w.k : 1;
    for (size_t k = 0; k < w.k; k++)
        for (size_t n = 0; n < w.n; n++) {
            float x = s.w[k * s.step_k + n * s.step_n];
            int8_t q = round_code(x, w.scale[n], bits);
            double off = (double)x - (double)((float)q * w.scale[n]);
            w.codes[k * to_k + n * to_n] = q;
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

void qweight_histogram(const struct graph *g, const struct layer *l, const struct qweight *w, size_t n,
                       float *ret_lo, float *ret_hi, uint64_t *before, uint64_t *after)
{
    struct source s = source_of(g, l);
    float reach = 0;
    for (size_t c = 0; c < w->n; c++)
        reach = fmaxf(reach, channel_reach(&s, w->k, c));
    bool conv = l->kind == LAYER_CONV;
    size_t to_k = conv ? 1 : w->n, to_n = conv ? w->k : 1;
    for (size_t k = 0; k < w->k; k++)
        for (size_t c = 0; c < w->n; c++) {
            before[bin_of(s.w[k * s.step_k + c * s.step_n], -reach, reach, n)]++;
            after[bin_of((float)w->codes[k * to_k + c * to_n] * w->scale[c], -reach, reach, n)]++;
        }
    *ret_lo = -reach;
    *ret_hi = reach;
}

const float *qweight_floats(const struct qweight *w, struct arena *mem, struct err *e)
{
    size_t n = w->k * w->n;
    float *f = arena_array(mem, n, sizeof *f, e);
    for (size_t i = 0; f && i < n; i++)
        f[i] = (float)w->codes[i];
    return f;
}
