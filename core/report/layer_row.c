#include "core/report/layer_row.h"

#include "core/kernel/clones.h"

#include <math.h>
#include <stdlib.h>

KERNEL_INLINE double within(double lo, double hi, double x) { return x < lo ? lo : x > hi ? hi : x; }

KERNEL_INLINE double through(const struct affine *a, double per_unit, double x)
{
    return (within(a->qmin, a->qmax, rint(x * per_unit) + a->zero) - a->zero) * (double)a->scale;
}

/* Bins in a unit of the histogram's axis; 0: all values are one. */
static double bins_per_unit(const struct site_summary *s)
{
    double width = (double)s->hist_hi - (double)s->hist_lo;
    return width > 0 ? DETAIL_BINS / width : 0;
}

KERNEL_INLINE int bin_of(const struct site_summary *s, double per_unit, double x)
{
    return (int)within(0, DETAIL_BINS - 1, (x - (double)s->hist_lo) * per_unit);
}

/* Where the values end up: each fine bin's middle, quantized. */
static void summarize_affine(const struct observer *o, const struct affine *a, struct site_summary *s)
{
    enum { FINE = 4096 };
    uint64_t fine[FINE];
    float lo, hi;
    double width = ((double)s->hist_hi - (double)s->hist_lo) / FINE, steps = 1 / (double)a->scale, bins = bins_per_unit(s);
    observer_rebin(o, s->hist_lo, s->hist_hi, FINE, fine);
    for (size_t i = 0; i < FINE; i++)
        s->hist_after[bin_of(s, bins, through(a, steps, s->hist_lo + ((double)i + 0.5) * width))] += fine[i];
    quantizer_limits(a, &lo, &hi);
    s->outside = observer_outside(o, lo, hi);
}

/* Channels with factors of their own: the bin each value ends up in; returns how many are cut off. */
KERNEL_CLONES
static int channel_bins(size_t n, const float *restrict x, const float *restrict mul, const float *restrict shift, const struct affine *a,
                        const struct site_summary *s, int *restrict bin)
{
    float lo, hi;
    int outside = 0;
    quantizer_limits(a, &lo, &hi);
    double half = (double)a->scale / 2, least = (double)lo - half, most = (double)hi + half;
    double steps = 1 / (double)a->scale, bins = bins_per_unit(s);
    for (size_t c = 0; c < n; c++) {
        double y = (double)x[c] * (double)mul[c] + (double)shift[c];
        outside += (y < least) | (y > most);
        bin[c] = bin_of(s, bins, (through(a, steps, y) - (double)shift[c]) / (double)mul[c]);
    }
    return outside;
}

enum { SOME = 256 };
static size_t count_channels(const struct site_codes *q, const float *row, const struct site_summary *s, uint64_t *after)
{
    static const float none[SOME];
    size_t outside = 0;
    int bin[SOME];
    for (size_t c = 0; c < q->rows->channels; c += SOME) {
        size_t n = q->rows->channels - c < SOME ? q->rows->channels - c : SOME;
        outside += (size_t)channel_bins(n, row + c, q->mul + c, q->shift ? q->shift + c : none, q->a, s, bin);
        for (size_t i = 0; i < n; i++)
            after[bin[i]]++;
    }
    return outside;
}

/* The same as summarize_affine(), from some of the sampled rows. */
static void summarize_channels(const struct observer *o, const struct site_codes *q, struct site_summary *s)
{
    enum { MOST_ROWS = 512 };
    size_t rows = q->rows->n < MOST_ROWS ? q->rows->n : MOST_ROWS, n = rows * q->rows->channels, outside = 0;
    uint64_t after[DETAIL_BINS] = { 0 };
    double each = n ? (double)o->count / (double)n : 0;
    for (size_t r = 0; r < rows; r++)
        outside += count_channels(q, q->rows->x + r * q->rows->channels, s, after);
    for (size_t i = 0; i < DETAIL_BINS; i++)
        s->hist_after[i] = (uint64_t)llrint((double)after[i] * each);
    s->outside = n ? (double)outside / (double)n : 0;
}

/* Counts of codes: a bin of the observer lies in one level, but for those on a border. */
static void summarize_levels(const struct observer *o, const struct log_levels *l, struct site_summary *s)
{
    double above = 0, top = log_levels_value(l, 0) * exp2(0.5 / l->steps_per_octave), bins = bins_per_unit(s);
    s->n_codes = (uint32_t)log_levels_zero(l) + 1;
    for (uint32_t bin = 0; bin < OBSERVER_BINS; bin++) {
        uint8_t code;
        float y, x = observer_bin_middle(o, bin);
        if (!o->bins[bin])
            continue;
        log_levels_quantize(l, 1, &x, &code, &y);
        s->codes[code] += o->bins[bin];
        s->hist_after[bin_of(s, bins, (double)y)] += o->bins[bin];
        above += (double)x > top ? (double)o->bins[bin] : 0;
    }
    s->outside = o->count ? above / (double)o->count : 0;
}

/* The same for each head, as far as its counts go. */
static bool summarize_heads(const struct observer *o, const struct log_levels *l, struct arena *mem, struct site_summary *s, struct err *e)
{
    s->heads = (uint32_t)o->heads;
    s->heads_kept = s->heads * s->n_codes <= DETAIL_MAX_HEAD_CODES ? s->heads : DETAIL_MAX_HEAD_CODES / s->n_codes;
    s->head_codes = arena_array(mem, (uint64_t)s->heads_kept * s->n_codes, sizeof *s->head_codes, e);
    if (!s->head_codes)
        return false;
    for (uint32_t bin = 0; bin < OBSERVER_HEAD_BINS; bin++) {
        uint8_t code;
        float x = observer_bin_middle(o, OBSERVER_HEAD_FIRST + bin);
        if (!o->bins[OBSERVER_HEAD_FIRST + bin])
            continue;
        log_levels_quantize(l, 1, &x, &code, NULL);
        for (uint32_t h = 0; h < s->heads_kept; h++)
            s->head_codes[h * s->n_codes + code] += o->head_bins[(size_t)h * OBSERVER_HEAD_BINS + bin];
    }
    return true;
}

static void keep_channels(const struct observer *o, struct site_summary *s)
{
    s->channels = (uint32_t)o->channels;
    s->kept = s->channels < DETAIL_MAX_CHANNELS ? s->channels : DETAIL_MAX_CHANNELS;
    for (uint32_t i = 0; i < s->kept; i++) {
        size_t c = (size_t)i * o->channels / s->kept;
        s->channel_lo[i] = o->lo[c];
        s->channel_hi[i] = o->hi[c];
    }
}

bool site_summarize(const struct observer *o, const struct site_codes *q, struct arena *mem, struct site_summary *ret, struct err *e)
{
    bool seen = o->count > 0;
    *ret = (struct site_summary){ .lo = seen ? o->range.lo : 0, .hi = seen ? o->range.hi : 0, .count = o->count };
    ret->hist_lo = ret->lo;
    ret->hist_hi = ret->hi;
    observer_rebin(o, ret->hist_lo, ret->hist_hi, DETAIL_BINS, ret->hist);
    keep_channels(o, ret);
    if (q->levels)
        summarize_levels(o, q->levels, ret);
    else if (q->mul)
        summarize_channels(o, q, ret);
    else
        summarize_affine(o, q->a, ret);
    if (q->levels && o->heads && !summarize_heads(o, q->levels, mem, ret, e))
        return false;
    return observer_channel_ratio(o, NULL, &ret->channel_ratio, e) && observer_channel_ratio(o, q->mul, &ret->channel_ratio_after, e);
}

void weight_summarize(const struct graph *g, const struct layer *l, const struct qweight *w, const float *mul, struct weight_summary *ret)
{
    *ret = (struct weight_summary){ .signal = w->signal, .noise = w->error, .zero_channels = w->zero_channels,
                                    .rounding_gain_db = w->rounding_gain_db, .bias_gain_db = w->bias_gain_db,
                                    .bits = w->bits, .scale_min = w->scale[0], .scale_max = w->scale[0] };
    for (size_t c = 0; c < qweight_scales(w); c++) {
        ret->scale_min = fminf(ret->scale_min, w->scale[c]);
        ret->scale_max = fmaxf(ret->scale_max, w->scale[c]);
    }
    qweight_histogram(g, l, w, mul, DETAIL_BINS, &ret->lo, &ret->hi, ret->before, ret->after);
}

static void set_real(json_t *o, const char *key, double x) { json_object_set_new(o, key, json_finite(x)); }
static void set_int(json_t *o, const char *key, int64_t x) { json_object_set_new(o, key, json_integer(x)); }
static void set_str(json_t *o, const char *key, const char *s) { json_object_set_new(o, key, json_string(s)); }

/* Members a layer that stayed in float has no value for are null. */
static void set_if(json_t *o, const char *key, bool there, double x) { set_real(o, key, there ? x : NAN); }

json_t *layer_row_json(const struct layer_row *r)
{
    json_t *o = json_object();
    bool run = r->accumulated.n > 0, quantized = r->weight_bits || r->act_bits;
    double accumulated = errors_sqnr_db(r->accumulated.signal, r->accumulated.noise);
    set_str(o, "name", r->name);
    set_str(o, "op", r->op);
    set_str(o, "block", r->block);
    set_str(o, "role", r->role);
    json_object_set_new(o, "part", r->part ? json_string(r->part) : json_null());
    set_int(o, "weight_bits", r->has_weight && r->weight_bits ? r->weight_bits : r->has_weight ? 32 : 0);
    set_int(o, "act_bits", r->act_bits ? r->act_bits : 32);
    json_object_set_new(o, "weight_group", r->group ? json_integer(r->group) : json_null());
    set_str(o, "planned_precision", r->planned);
    set_str(o, "actual_precision", r->actual);
    set_str(o, "skip_reason", r->skip_reason);
    set_if(o, "weight_sqnr_db", r->weight, r->weight ? errors_sqnr_db(r->weight->signal, r->weight->noise) : 0);
    set_if(o, "output_sqnr_db", run, accumulated);
    set_if(o, "output_mse", run, errors_mse(&r->accumulated));
    set_if(o, "cosine", run, errors_cosine(&r->accumulated));
    set_if(o, "isolated_sqnr_db", r->isolated.n > 0, errors_sqnr_db(r->isolated.signal, r->isolated.noise));
    set_if(o, "accumulated_sqnr_db", run, accumulated);
    set_if(o, "act_min", r->x, r->x ? (double)r->x->lo : 0);
    set_if(o, "act_max", r->x, r->x ? (double)r->x->hi : 0);
    set_if(o, "channel_range_ratio_before", r->x && r->x->channels, r->x ? r->x->channel_ratio : 0);
    set_if(o, "channel_range_ratio_after", r->x && r->x->channels, r->x ? r->x->channel_ratio_after : 0);
    set_if(o, "saturation_pct", r->x && quantized, r->x ? 100 * r->x->outside : 0);
    bool scaled = r->x && r->exponent > 0, levels = r->x && r->x->n_codes > 0;
    set_if(o, "channel_exponent", scaled, r->exponent);
    set_if(o, "clip_gain_db", scaled, r->clip_gain_db);
    set_if(o, "reconstruction_gain_db", r->weight, r->weight ? r->weight->rounding_gain_db : 0);
    set_if(o, "bias_correction_gain_db", r->weight, r->weight ? r->weight->bias_gain_db : 0);
    json_object_set_new(o, "residual_target", json_boolean(r->residual_target));
    set_if(o, "zero_code_pct", levels, levels ? 100 * (double)r->x->codes[r->x->n_codes - 1] / (double)r->x->count : 0);
    set_int(o, "params", r->params);
    set_int(o, "bytes_before", r->bytes_before);
    set_int(o, "bytes_after", r->bytes_after);
    set_real(o, "seconds", r->seconds);
    return o;
}

static json_t *counts_json(const uint64_t *counts, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(a, json_integer((json_int_t)counts[i]));
    return a;
}

static json_t *histogram_json(double lo, double hi, const uint64_t *counts, size_t n)
{
    json_t *o = json_object();
    set_real(o, "min", lo);
    set_real(o, "max", hi);
    json_object_set_new(o, "counts", counts_json(counts, n));
    return o;
}

/* Four significant digits are enough for a plot and keep 512 channels within the bound. */
static json_t *short_real(float x)
{
    double scale = x == 0 ? 1 : pow(10, 3 - floor(log10(fabs((double)x))));
    return json_finite(round(x * scale) / scale);
}

static json_t *floats_json(const float *x, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(a, short_real(x[i]));
    return a;
}

static json_t *affine_json(const struct affine *a)
{
    float lo, hi;
    quantizer_limits(a, &lo, &hi);
    json_t *o = json_object();
    set_real(o, "scale", (double)a->scale);
    set_int(o, "zero_point", a->zero);
    set_int(o, "qmin", a->qmin);
    set_int(o, "qmax", a->qmax);
    set_str(o, "type", dtype_name(a->dtype));
    set_real(o, "clip_low", (double)lo);
    set_real(o, "clip_high", (double)hi);
    return o;
}

static json_t *levels_json(const struct log_levels *l)
{
    json_t *o = json_object();
    set_str(o, "type", l->steps_per_octave == 2 ? "log_sqrt2" : "log2");
    set_int(o, "bits", l->bits);
    set_real(o, "highest", log_levels_value(l, 0));
    set_real(o, "lowest", log_levels_value(l, log_levels_zero(l) - 1));
    return o;
}

/* What the quantizer makes of each kept channel's ends, in units of x. */
static void set_clipped_channels(json_t *o, const struct site_codes *q, const struct site_summary *s)
{
    json_t *low = json_array(), *high = json_array();
    float lo = -INFINITY, hi = INFINITY;
    if (q && !q->levels)
        quantizer_limits(q->a, &lo, &hi);
    for (uint32_t i = 0; i < s->kept; i++) {
        size_t c = (size_t)i * s->channels / s->kept;
        float mul = q && q->mul ? q->mul[c] : 1, shift = q && q->shift ? q->shift[c] : 0;
        json_array_append_new(low, short_real(fmaxf((lo - shift) / mul, s->channel_lo[i])));
        json_array_append_new(high, short_real(fminf((hi - shift) / mul, s->channel_hi[i])));
    }
    json_object_set_new(o, "min_after", low);
    json_object_set_new(o, "max_after", high);
}

/* Channel factors, for who wants to see the ranges that they make. */
static void set_factors(json_t *o, const struct site_codes *q, const struct site_summary *s)
{
    json_t *mul = json_array(), *shift = json_array();
    for (uint32_t i = 0; i < s->kept; i++) {
        size_t c = (size_t)i * s->channels / s->kept;
        json_array_append_new(mul, short_real(q->mul[c]));
        json_array_append_new(shift, short_real(q->shift ? q->shift[c] : 0));
    }
    json_object_set_new(o, "mul", mul);
    json_object_set_new(o, "shift", shift);
}

static json_t *heads_json(const struct site_summary *s)
{
    json_t *o = json_object(), *codes = json_array();
    for (uint32_t h = 0; h < s->heads_kept; h++)
        json_array_append_new(codes, counts_json(s->head_codes + (size_t)h * s->n_codes, s->n_codes));
    set_int(o, "count", s->heads);
    json_object_set_new(o, "codes", codes);
    return o;
}

static json_t *activation_json(const struct site_codes *q, const struct site_summary *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "quantizer", !q ? json_null() : q->levels ? levels_json(q->levels) : affine_json(q->a));
    json_object_set_new(o, "histogram_before", histogram_json((double)s->hist_lo, (double)s->hist_hi, s->hist, DETAIL_BINS));
    json_object_set_new(o, "histogram_after", histogram_json((double)s->hist_lo, (double)s->hist_hi, s->hist_after, DETAIL_BINS));
    if (s->n_codes)
        json_object_set_new(o, "codes", counts_json(s->codes, s->n_codes));
    if (s->heads_kept)
        json_object_set_new(o, "heads", heads_json(s));
    if (s->kept) {
        json_t *channels = json_object();
        set_int(channels, "count", s->channels);
        json_object_set_new(channels, "min_before", floats_json(s->channel_lo, s->kept));
        json_object_set_new(channels, "max_before", floats_json(s->channel_hi, s->kept));
        set_clipped_channels(channels, q, s);
        if (q && q->mul)
            set_factors(channels, q, s);
        json_object_set_new(o, "channels", channels);
    }
    return o;
}

/* Of each output channel, the widest of its groups'; of many channels every few. */
static json_t *scales_json(const struct qweight *w)
{
    json_t *a = json_array();
    size_t groups = qweight_groups(w), kept = w->n < DETAIL_MAX_CHANNELS ? w->n : DETAIL_MAX_CHANNELS;
    for (size_t i = 0; i < kept; i++) {
        size_t c = i * w->n / kept;
        float widest = w->scale[c];
        for (size_t g = 1; g < groups; g++)
            widest = fmaxf(widest, w->scale[g * w->n + c]);
        json_array_append_new(a, short_real(widest));
    }
    return a;
}

static json_t *weight_json(const struct weight_summary *w, const struct qweight *codes)
{
    json_t *o = json_object();
    json_object_set_new(o, "histogram_before", histogram_json((double)w->lo, (double)w->hi, w->before, DETAIL_BINS));
    json_object_set_new(o, "histogram_after", histogram_json((double)w->lo, (double)w->hi, w->after, DETAIL_BINS));
    set_real(o, "scale_min", (double)w->scale_min);
    set_real(o, "scale_max", (double)w->scale_max);
    if (codes)
        json_object_set_new(o, "scales", scales_json(codes));
    set_int(o, "zero_channels", w->zero_channels);
    set_int(o, "bits", w->bits);
    return o;
}

json_t *layer_detail_json(const struct layer_row *r, int index, const struct site_codes *x, const struct site_codes *other,
                          const struct site_summary *other_summary)
{
    json_t *o = json_object();
    set_int(o, "index", index);
    set_str(o, "name", r->name);
    if (r->x)
        json_object_set_new(o, "activation", activation_json(x, r->x));
    if (other_summary)
        json_object_set_new(o, "other_activation", activation_json(other, other_summary));
    if (r->weight)
        json_object_set_new(o, "weight", weight_json(r->weight, r->codes));
    return o;
}
