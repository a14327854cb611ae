/*
 * repquant.c - quantize with complex quantizers, infer with simple ones.
 *
 *   norms         a range per channel, clipped at either end, its exponent traded against the weights', folded to one scale
 *                 and one zero point (channels.h; RepQ-ViT, arXiv 2212.08254; RepQuant, arXiv 2402.05628)
 *   activations   factors for outlier channels behind GELU and its like, by one Mul
 *   softmax       levels that are powers of sqrt 2, or of 2, and a zero (levels.h)
 *   weights       rebuilt against the quantized inputs towards the float model's outputs (reconstruct.h)
 *
 * Which parts a recipe switches off falls back to what the plain methods do.
 */
#include "core/method/method.h"

#include "core/quant/reconstruct.h"

#include <math.h>

/* Fewer rows than this (class tokens) do not show their extremes. */
enum { FEW_ROWS = 1024 };
/* GELU's quiet channels share this quantile of the channels' steps: they are not always quiet. */
static const double step_floor = 0.98;

static bool wants_rows(const struct recipe *r, enum site_kind kind)
{
    return (kind == SITE_NORM && r->channels.norms != RECIPE_NORMS_OFF) || (kind == SITE_ACTIVATION && r->channels.activations);
}

/* Weights behind channel factors are no longer the model's, so the plain rounding of those would be wrong. */
static bool wants_moments(const struct recipe *r)
{
    return r->weights.rounding != RECIPE_NEAREST || r->reconstruction.bias_correction || r->channels.norms != RECIPE_NORMS_OFF
        || r->channels.activations;
}

/* ---- sites ---- */

static bool learn(const struct site_view *v, struct arena *mem, struct ranges *io, struct err *e)
{
    double gain;               /* over the grid; the report tells the gain over the extremes */
    size_t c = v->rows.channels;
    float *gram = arena_array(mem, c * c, sizeof *gram, e);
    if (!gram)
        return false;
    gemm(true, false, c, c, v->n, v->w, c, v->w, c, false, gram, c);
    return clip_learn(&v->rows, gram, v->bits, v->seed, mem, io, &gain, e);
}

/* Squared error of ranges per channel on some of the sampled rows: for the report. */
static double error_of(const struct rows *r, const struct ranges *range, int bits)
{
    double sum = 0;
    size_t n = r->n < 512 ? r->n : 512;
    for (size_t c = 0; c < r->channels; c++) {
        float step = clip_step(range->lo[c], range->hi[c], bits);
        sum += rounding_error(n, r->columns + c * r->n, r->weight, range->lo[c], step, (1 << bits) - 1) * (double)step * (double)step;
    }
    return sum;
}

static double gain_db(double before, double after) { return before > 0 && after > 0 ? 10 * log10(before / after) : 0; }

static bool clip(const struct recipe *r, const struct site_view *v, const struct ranges *full, struct pool *pool, struct arena *mem,
                 struct ranges *ret, struct err *e)
{
    static const enum clip_rule rules[] = {
        [RECIPE_CLIP_MINMAX] = CLIP_MINMAX, [RECIPE_CLIP_PERCENTILE] = CLIP_PERCENTILE, [RECIPE_CLIP_GRID] = CLIP_GRID,
        [RECIPE_CLIP_LEARNED] = CLIP_GRID,      /* where learning starts */
    };
    if (v->all_rows < FEW_ROWS) {
        clip_deviation(&v->rows, full, v->bits, ret);
        return true;
    }
    return clip_channels(rules[r->channels.clipping], &v->rows, full, v->bits, pool, mem, ret, e)
        && (r->channels.clipping != RECIPE_CLIP_LEARNED || learn(v, mem, ret, e));
}

static bool norm_site(const struct recipe *r, const struct site_view *v, const struct ranges *full, struct pool *pool,
                      struct arena *mem, struct site_choice *ret, struct err *e)
{
    struct ranges range;
    struct channel_fold f;
    double alpha = 1;
    if (!ranges_new(v->rows.channels, mem, &range, e) || !clip(r, v, full, pool, mem, &range, e))
        return false;
    ret->clip_gain_db = gain_db(error_of(&v->rows, full, v->bits), error_of(&v->rows, &range, v->bits));
    if (r->channels.norms == RECIPE_NORMS_SEARCH && v->all_rows >= FEW_ROWS
        && !channel_exponent(&v->rows, full, v->w, v->n, v->bits, v->weight_bits, pool, mem, &range, &alpha, e))
        return false;
    ret->exponent = alpha;
    if (v->can_shift ? !channel_fold(&range, v->rows.channels, v->bits, OFFSET_FREE, mem, &f, e)
                     : !channel_fold_scales(&range, v->rows.channels, v->bits, NULL, 0, mem, &f, e))
        return false;
    method_take_fold(&f, v->bits, v->can_shift, r->activations.symmetric, ret);
    return true;
}

static bool activation_site(const struct site_view *v, const struct ranges *full, struct pool *pool, struct arena *mem,
                            struct site_choice *ret, struct err *e)
{
    struct channel_fold f;
    double factor;
    float *energy = arena_array(mem, v->rows.channels, sizeof *energy, e);
    if (!energy)
        return false;
    channel_energy(v->w, v->n, v->rows.channels, energy);
    if (!channel_fold_anchored(&v->rows, full, v->bits, energy, step_floor, pool, mem, &f, &factor, e))
        return false;
    method_take_fold(&f, v->bits, false, false, ret);
    return true;
}

/* The weights take a factor for each output channel at no cost, and a Mul undoes it. */
static bool conv_site(const struct site_view *v, const struct ranges *full, struct arena *mem, struct site_choice *ret, struct err *e)
{
    struct channel_fold f;
    if (!channel_fold_scales(full, v->o->channels, v->bits, NULL, 0.5, mem, &f, e))
        return false;
    method_take_fold(&f, v->bits, false, false, ret);
    return true;
}

/* Of one sample's class token no channel does, and where others lie only the whole tensor's range can tell. */
static bool most_channels_vary(const struct ranges *full, size_t channels)
{
    size_t vary = 0;
    for (size_t c = 0; c < channels; c++)
        vary += full->hi[c] > full->lo[c];
    return 2 * vary > channels;
}

static bool site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e)
{
    struct site_view prepared = *v;
    struct ranges full = { v->o->lo, v->o->hi };
    *ret = (struct site_choice){ 0 };
    if (v->kind == SITE_SOFTMAX && r->attention.softmax != RECIPE_SOFTMAX_UNIFORM)
        return method_levels(r, v, ret, e);
    if (v->conv_output && r->channels.activations && !r->activations.symmetric)
        return conv_site(v, &full, mem, ret, e);
    /* Without an offset a symmetric quantizer's zero cannot be moved to the middle. */
    bool fits = !r->activations.symmetric || (v->kind == SITE_NORM && v->can_shift);
    if (!wants_rows(r, v->kind) || v->rows.n == 0 || !fits || !most_channels_vary(&full, v->rows.channels))
        return method_site(r, v, pool, mem, ret, e);
    if (!rows_prepare(&prepared.rows, mem, e))
        return false;
    return v->kind == SITE_NORM ? norm_site(r, &prepared, &full, pool, mem, ret, e)
                                : activation_site(&prepared, &full, pool, mem, ret, e);
}

/* ---- weights ---- */

/* V: the weights for codes in place of values, so that V . (code - zero point) is the layer's output. */
static float *code_weights(const struct weight_view *v, struct arena *mem, struct err *e)
{
    size_t n = (size_t)v->l->n, k = (size_t)v->l->k;
    float *w = arena_scratch(mem, n * k, sizeof *w, e);
    if (!w || !weight_rows(v->g, v->l, w, e))
        return NULL;
    for (size_t i = 0; i < n * k; i++)
        w[i] *= v->a.scale / (v->mul ? v->mul[i % k] : 1);
    return w;
}

/* The rebuilt weight of an output channel and an input, in units of codes. */
static double rebuilt(const struct reconstruct_result *q, size_t channel, size_t input, size_t k)
{
    size_t at = channel * q->groups + input / (k / q->groups);
    return (double)(q->codes[channel * k + input] - q->zero[at]) * (double)q->scale[at];
}

/* The mean of the target less what the codes give on average.  The gain is against method_folded_bias(), the other error being q's. */
static bool correct_bias(const struct weight_view *v, const struct reconstruct_result *q, const float *code_w, struct arena *mem,
                         struct qweight *ret, struct err *e)
{
    size_t k = (size_t)v->l->k;
    double moved = 0;
    ret->bias = arena_array(mem, ret->n, sizeof *ret->bias, e);
    for (size_t c = 0; ret->bias && c < ret->n; c++) {
        double sum = 0;
        for (size_t i = 0; i < k; i++)
            sum += rebuilt(q, c, i, k) * v->mean[i];
        double best = v->mean_y[c] - sum, off = best - method_folded_bias(v, code_w, (double)v->a.scale, c);
        moved += off * off;
        ret->bias[c] = (float)best;
    }
    ret->bias_gain_db = gain_db(q->error_final + moved, q->error_final);
    return ret->bias != NULL;
}

/* From rows of output channels in units of codes to the layer's own layout in units of its scaled input. */
static void unpack_scales(const struct weight_view *v, const struct reconstruct_result *q, struct qweight *ret)
{
    int8_t *zero = ret->step ? ret->stored_zero : ret->zero;
    for (size_t c = 0; c < ret->n; c++) {
        for (size_t g = 0; g < q->groups; g++) {
            size_t from = c * q->groups + g, to = g * ret->n + c;
            if (ret->step)
                ret->step[to] = q->step[from];
            else
                ret->scale[to] = q->scale[from] / v->a.scale;
            if (zero)
                zero[to] = q->zero[from];
        }
        if (ret->step)
            ret->scale[c] = q->unit[c] / v->a.scale;
    }
}

/* The codes of an output channel and a group of inputs, and what rounding changed. */
static void unpack_group(const struct layer *l, const struct reconstruct_result *q, size_t channel, size_t group, const float *code_w,
                         struct qweight *ret)
{
    size_t k = (size_t)l->k, len = k / q->groups, at = channel * q->groups + group;
    int zero = q->zero[at], step = ret->step ? q->step[at] : 0;
    double scale = (double)q->scale[at];
    for (size_t i = group * len; i < (group + 1) * len; i++) {
        int code = q->codes[channel * k + i];
        ret->codes[qweight_at(l, channel, i)] = (int8_t)(step ? (code - zero) * step : code);
        double w = (double)code_w[channel * k + i], off = w - (double)(code - zero) * scale;
        ret->signal += w * w;
        ret->error += off * off;
    }
}

static bool unpack(const struct weight_view *v, const struct reconstruct_result *q, const float *code_w, const struct reconstruct_task *t,
                   struct arena *mem, struct qweight *ret, struct err *e)
{
    if (!qweight_new(v->l, v->bits, &t->grid, t->symmetric, mem, ret, e))
        return false;
    ret->rounding_gain_db = gain_db(q->error_nearest, q->error_final);
    unpack_scales(v, q, ret);
    for (size_t c = 0; c < t->n; c++)
        for (size_t g = 0; g < q->groups; g++)
            unpack_group(v->l, q, c, g, code_w, ret);
    return true;
}

/* x [rows, k] plus the products of two vectors of means: moments about zero in place of covariances. */
static const double *about_zero(size_t rows, size_t k, const double *x, const double *left, const double *right, struct arena *mem, struct err *e)
{
    double *sum = arena_scratch(mem, rows * k, sizeof *sum, e);
    for (size_t i = 0; sum && i < rows; i++)
        for (size_t j = 0; j < k; j++)
            sum[i * k + j] = x[i * k + j] + left[i] * right[j];
    return sum;
}

/* Where the bias stays as it is the weights have to give the mean as well: what never varies counts like anything else. */
static bool keep_means(const struct weight_view *v, const float *code_w, struct arena *mem, struct reconstruct_task *io, struct err *e)
{
    double *mean_y = arena_array(mem, io->n, sizeof *mean_y, e);
    for (size_t c = 0; mean_y && c < io->n; c++)
        mean_y[c] = v->mean_y[c] - method_folded_bias(v, code_w, (double)v->a.scale, c);
    return mean_y && (io->h = about_zero(io->k, io->k, io->h, v->mean, v->mean, mem, e))
        && (!io->c || (io->c = about_zero(io->n, io->k, io->c, mean_y, v->mean, mem, e)));
}

bool method_rebuild_weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                            struct qweight *ret, struct err *e)
{
    static const enum reconstruct_rounding roundings[] = {
        [RECIPE_NEAREST] = ROUND_NEAREST, [RECIPE_GPTQ] = ROUND_GPTQ, [RECIPE_ADAROUND] = ROUND_LEARNED,
    };
    struct reconstruct_result q;
    if (v->rows == 0)
        return method_round_weights(r, v, pool, mem, ret, e);
    float *w = code_weights(v, mem, e);
    bool rebuild = r->weights.rounding != RECIPE_NEAREST, correct = r->reconstruction.bias_correction;
    struct reconstruct_task t = {
        .v = w, .n = (size_t)v->l->n, .k = (size_t)v->l->k, .h = v->h, .c = rebuild ? v->c : NULL, .mean = correct ? v->mean : NULL, .bits = v->bits,
        .symmetric = r->weights.symmetric, .grid = weight_grid_of(r, v->l, v->bits), .search = true, .act_order = true,
        .rounding = roundings[r->weights.rounding], .ridge = r->reconstruction.ridge, .damping = r->reconstruction.damping,
        .descents = rebuild ? r->reconstruction.descents : 0, .steps = METHOD_ADAROUND_STEPS,
    };
    return w && (correct || keep_means(v, w, mem, &t, e)) && reconstruct(&t, pool, mem, &q, e) && unpack(v, &q, w, &t, mem, ret, e)
        && (correct ? correct_bias(v, &q, w, mem, ret, e) : method_fold_bias(v, w, (double)v->a.scale, mem, ret, e));
}

const struct method method_repquant = {
    "repquant", .conv_bits = 8, .wants_rows = wants_rows, .wants_moments = wants_moments, .site = site, .weights = method_rebuild_weights,
};
