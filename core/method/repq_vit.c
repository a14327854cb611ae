/*
 * repq_vit.c - RepQ-ViT as its authors published it (Li et al., arXiv 2212.08254, and its code).
 *
 *   norms         a range per channel, of three percentiles the one with the least squared error, folded whole
 *   softmax       powers of sqrt 2
 *   weights       rounded to nearest in the range of a row chosen by the same percentiles; nothing rebuilt or corrected
 *
 * Everything is calibrated behind layers that are not folded yet; their folded weights are rounded last.  What others
 * compare with: RepQuant (repquant.c) is what to use.
 */
#include "core/method/method.h"

#include <math.h>
#include <string.h>

static bool wants_rows(const struct recipe *r, enum site_kind kind)
{
    (void)r;
    return kind == SITE_NORM;
}

/* ---- sites ---- */

/*
 * The published zero point is the mean of the channels', a fraction off a code: the values' grid moves by it against
 * the codes at both ends.
 */
static void add_fraction(const struct channel_fold *f, const struct ranges *range, size_t channels, int bits, struct site_choice *io)
{
    double sum = 0;
    for (size_t c = 0; c < channels; c++)
        sum -= rint((double)range->lo[c] / (double)clip_step(range->lo[c], range->hi[c], bits));
    double mean = sum / (double)channels;
    io->fraction = (float)(mean - rint(mean));
    for (size_t c = 0; c < channels; c++)
        io->shift[c] -= io->fraction * f->scale;
}

static bool norm_site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem,
                      struct site_choice *ret, struct err *e)
{
    struct rows rows = v->rows;
    struct ranges full = { v->o->lo, v->o->hi }, range;
    struct channel_fold f;
    enum channel_offset offset = r->activations.symmetric ? OFFSET_FREE : OFFSET_INTEGER;
    if (!rows_prepare(&rows, mem, e) || !ranges_new(rows.channels, mem, &range, e)
        || !clip_channels(CLIP_PERCENTILE, &rows, &full, v->bits, pool, mem, &range, e)
        || !(v->can_shift ? channel_fold(&range, rows.channels, v->bits, offset, mem, &f, e)
                          : channel_fold_scales(&range, rows.channels, v->bits, NULL, 0, mem, &f, e)))
        return false;
    method_take_fold(&f, v->bits, v->can_shift, r->activations.symmetric, ret);
    ret->exponent = 1;
    if (v->can_shift && r->codes == RECIPE_CODES_PUBLISHED)
        add_fraction(&f, &range, rows.channels, v->bits, ret);
    return true;
}

static bool site(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem, struct site_choice *ret,
                 struct err *e)
{
    *ret = (struct site_choice){ 0 };
    if (v->kind == SITE_SOFTMAX && r->attention.softmax != RECIPE_SOFTMAX_UNIFORM)
        return method_levels(r, v, ret, e);
    bool folds = v->kind == SITE_NORM && v->rows.n && (v->can_shift || !r->activations.symmetric);
    return folds ? norm_site(r, v, pool, mem, ret, e) : method_site(r, v, pool, mem, ret, e);
}

/* ---- weights ---- */

/* One row of w to codes; ret_at: where they go. */
static void round_row(const struct weight_view *v, size_t row, const float *w, float lo, float hi, bool symmetric, struct qweight *ret)
{
    int half = 1 << (v->bits - 1);
    struct affine a = quantizer_from_range(lo, hi, v->bits, symmetric);
    int shift = symmetric ? 0 : half;      /* uint8 codes to the int8 ones of weights */
    ret->scale[row] = a.scale;
    if (ret->zero)
        ret->zero[row] = (int8_t)(a.zero - shift);
    for (size_t i = 0; i < ret->k; i++) {
        double code = fmin(fmax(rint((double)(w[i] / a.scale)) + a.zero, a.qmin), a.qmax);
        double off = (double)w[i] - (code - a.zero) * (double)a.scale;
        ret->codes[qweight_at(v->l, row, i)] = (int8_t)((int)code - shift);
        ret->signal += (double)w[i] * (double)w[i];
        ret->error += off * off;
    }
}

/* The weights for the layer's input as it is scaled, rows of output channels. */
static float *scaled_weights(const struct weight_view *v, struct arena *mem, struct err *e)
{
    size_t n = (size_t)v->l->n, k = (size_t)v->l->k;
    float *w = arena_array(mem, n * k, sizeof *w, e);
    if (!w || !weight_rows(v->g, v->l, w, e))
        return NULL;
    for (size_t i = 0; v->mul && i < n * k; i++)
        w[i] /= v->mul[i % k];
    return w;
}

/* The percentiles' ranges of rows; the extremes are the full range. */
static bool row_ranges(const float *w, size_t n, size_t k, int bits, struct pool *pool, struct arena *mem, struct ranges *ret, struct err *e)
{
    struct rows rows = { .x = w, .n = k, .channels = n, .columns = w };    /* only the columns are read */
    if (!ranges_new(n, mem, ret, e))
        return false;
    for (size_t row = 0; row < n; row++) {
        struct range r = RANGE_EMPTY;
        range_of(k, w + row * k, &r);
        ret->lo[row] = r.lo;
        ret->hi[row] = r.hi;
    }
    return clip_channels(CLIP_PERCENTILE, &rows, ret, bits, pool, mem, ret, e);
}

static bool weights(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem, struct qweight *ret,
                    struct err *e)
{
    size_t n = (size_t)v->l->n, k = (size_t)v->l->k;
    struct ranges range;
    float *w = scaled_weights(v, mem, e);
    if (!w || !row_ranges(w, n, k, v->bits, pool, mem, &range, e))
        return false;
    *ret = (struct qweight){ .codes = arena_alloc(mem, n * k, e), .scale = arena_array(mem, n, sizeof *ret->scale, e),
                             .zero = r->weights.symmetric ? NULL : arena_alloc(mem, n, e), .k = k, .n = n, .bits = v->bits };
    if (!ret->codes || !ret->scale || (!r->weights.symmetric && !ret->zero))
        return false;
    for (size_t row = 0; row < n; row++)
        round_row(v, row, w + row * k, range.lo[row], range.hi[row], r->weights.symmetric, ret);
    return method_fold_bias(v, w, 1, mem, ret, e);
}

const struct method method_repq_vit = {
    "repq-vit", .conv_bits = 8, .folds_last = true, .wants_rows = wants_rows, .wants_moments = method_never, .site = site, .weights = weights,
};
