#include "core/method/method.h"

#include <math.h>

static const struct method *const methods[] = {
    [RECIPE_METHOD_MINMAX] = &method_minmax,
    [RECIPE_METHOD_PERCENTILE] = &method_percentile,
    [RECIPE_METHOD_REPQUANT] = &method_repquant,
    [RECIPE_METHOD_REPQ_VIT] = &method_repq_vit,
    [RECIPE_METHOD_SMOOTHQUANT] = &method_smoothquant, [RECIPE_METHOD_ZEROQUANT] = &method_zeroquant,
};

const struct method *method_find(enum recipe_method m) { return methods[m]; }

bool method_never(const struct recipe *r)
{
    (void)r;
    return false;
}

bool method_rebuilds(const struct recipe *r) { return r->weights.rounding != RECIPE_NEAREST || r->reconstruction.bias_correction; }

bool method_no_rows(const struct recipe *r, enum site_kind kind)
{
    (void)r;
    (void)kind;
    return false;
}

/* With a free offset the zero point is the middle code, so signed codes around 0 are the same quantizer. */
static struct affine affine_of(const struct channel_fold *f, int bits, bool symmetric)
{
    int half = 1 << (bits - 1);
    return symmetric ? (struct affine){ f->scale, f->zero - half, -half, half - 1, DT_I8 }
                     : (struct affine){ f->scale, f->zero, 0, 2 * half - 1, DT_U8 };
}

void method_take_fold(const struct channel_fold *f, int bits, bool shift, bool symmetric, struct site_choice *ret)
{
    ret->a = affine_of(f, bits, symmetric);
    ret->mul = f->mul;
    ret->shift = shift ? f->add : NULL;
}

bool method_levels(const struct recipe *r, const struct site_view *v, struct site_choice *ret, struct err *e)
{
    ret->levels = (struct log_levels){ .bits = v->bits, .steps_per_octave = r->attention.softmax == RECIPE_SOFTMAX_LOG2 ? 1 : 2,
                                       .extra_zero = r->codes == RECIPE_CODES_PUBLISHED && v->bits < 8 };
    return log_levels_search(v->o, &ret->levels, e);
}

/* Of [1-p, p] for RepQ-ViT's three p the one with the least squared error; the first of equals. */
static bool best_percentile(const struct site_view *v, bool symmetric, float *ret_lo, float *ret_hi, struct err *e)
{
    double least = INFINITY;
    for (size_t i = 0; i < CLIP_PERCENTILES; i++) {
        float lo = observer_quantile(v->o, 1 - clip_percentiles[i]), hi = observer_quantile(v->o, clip_percentiles[i]);
        double error;
        if (!observer_range_error(v->o, lo, hi, v->bits, symmetric, &error, e))
            return false;
        if (error < least) {
            least = error;
            *ret_lo = lo;
            *ret_hi = hi;
        }
    }
    return true;
}

/* A percentile p keeps [quantile(1 - p/100), quantile(p/100)] of what the site showed over all calibration samples. */
static bool find_range(const struct recipe *r, const struct site_view *v, float *ret_lo, float *ret_hi, struct err *e)
{
    double p = r->activations.percentile / 100;
    switch (r->activations.observer) {
    case RECIPE_OBSERVER_PERCENTILE:
        *ret_lo = observer_quantile(v->o, 1 - p);
        *ret_hi = observer_quantile(v->o, p);
        return true;
    case RECIPE_OBSERVER_MSE:
        return observer_search_range(v->o, v->bits, r->activations.symmetric, ret_lo, ret_hi, e);
    case RECIPE_OBSERVER_PERCENTILES:
        return best_percentile(v, r->activations.symmetric, ret_lo, ret_hi, e);
    default:
        *ret_lo = v->o->range.lo;
        *ret_hi = v->o->range.hi;
        return true;
    }
}

bool method_site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e)
{
    float lo = 0, hi = 0;
    (void)pool;
    (void)mem;
    if (v->o->count && !find_range(r, v, &lo, &hi, e))
        return false;
    *ret = (struct site_choice){ .a = quantizer_from_range(lo, hi, v->bits, r->activations.symmetric) };
    return true;
}

bool method_round_weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                          struct qweight *ret, struct err *e)
{
    (void)pool;
    struct weight_grid grid = weight_grid_of(r, v->l, v->bits);
    return qweight_round(v->g, v->l, v->mul, v->bits, &grid, r->weights.symmetric, mem, ret, e);
}

double method_folded_bias(const struct weight_view *v, const float *w, double unit, size_t channel)
{
    size_t k = (size_t)v->l->k;
    double sum = 0;
    for (size_t i = 0; v->shift && i < k; i++)
        sum += (double)w[channel * k + i] * (double)v->shift[i];
    const float *own = layer_bias(v->g, v->l);
    return (own ? (double)own[channel] : 0) - sum / unit;
}

bool method_fold_bias(const struct weight_view *v, const float *w, double unit, struct arena *mem, struct qweight *ret, struct err *e)
{
    if (!v->shift)
        return true;
    ret->bias = arena_array(mem, ret->n, sizeof *ret->bias, e);
    for (size_t c = 0; ret->bias && c < ret->n; c++)
        ret->bias[c] = (float)method_folded_bias(v, w, unit, c);
    return ret->bias != NULL;
}
