#include "core/report/layer_row.h"

#include <math.h>
#include <stdlib.h>

/* Where the values end up: each fine bin's middle, quantized. */
static void quantized_histogram(const struct observer *o, const struct affine *a, struct site_summary *s)
{
    enum { FINE = 4096 };
    static const size_t per = FINE / DETAIL_BINS;
    uint64_t fine[FINE];
    double width = ((double)s->hist_hi - (double)s->hist_lo) / FINE;
    observer_rebin(o, s->hist_lo, s->hist_hi, FINE, fine);
    for (size_t i = 0; i < FINE; i++) {
        double x = s->hist_lo + ((double)i + 0.5) * width;
        double q = fmin(a->qmax, fmax(a->qmin, rint(x / (double)a->scale) + a->zero));
        double at = width > 0 ? ((q - a->zero) * (double)a->scale - s->hist_lo) / width : 0;
        s->hist_after[(size_t)fmin(FINE - 1, fmax(0, at)) / per] += fine[i];
    }
}

bool site_summarize(const struct observer *o, const struct affine *a, struct site_summary *ret, struct err *e)
{
    struct err ratio_error = { 0 };
    float lo, hi;
    bool seen = o->count > 0;
    quantizer_limits(a, &lo, &hi);
    *ret = (struct site_summary){ .lo = seen ? o->range.lo : 0, .hi = seen ? o->range.hi : 0, .count = o->count };
    ret->hist_lo = ret->lo;
    ret->hist_hi = ret->hi;
    observer_rebin(o, ret->hist_lo, ret->hist_hi, DETAIL_BINS, ret->hist);
    quantized_histogram(o, a, ret);
    ret->outside = observer_outside(o, lo, hi);
    ret->channel_ratio = observer_channel_ratio(o, &ratio_error);
    ret->channels = (uint32_t)o->channels;
    ret->kept = ret->channels < DETAIL_MAX_CHANNELS ? ret->channels : DETAIL_MAX_CHANNELS;
    for (uint32_t i = 0; i < ret->kept; i++) {
        size_t c = (size_t)i * o->channels / ret->kept;
        ret->channel_lo[i] = o->lo[c];
        ret->channel_hi[i] = o->hi[c];
    }
    if (ratio_error.code != ERR_NONE)
        return err_set(e, ratio_error.code, ratio_error.where, "%s", ratio_error.text);
    return true;
}

void weight_summarize(const struct graph *g, const struct layer *l, const struct qweight *w, struct weight_summary *ret)
{
    *ret = (struct weight_summary){ .signal = w->signal, .noise = w->error, .zero_channels = w->zero_channels,
                                    .bits = w->bits, .scale_min = w->scale[0], .scale_max = w->scale[0] };
    for (size_t c = 0; c < w->n; c++) {
        ret->scale_min = fminf(ret->scale_min, w->scale[c]);
        ret->scale_max = fmaxf(ret->scale_max, w->scale[c]);
    }
    qweight_histogram(g, l, w, DETAIL_BINS, &ret->lo, &ret->hi, ret->before, ret->after);
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
    set_int(o, "weight_bits", r->has_weight && r->weight_bits ? r->weight_bits : r->has_weight ? 32 : 0);
    set_int(o, "act_bits", r->act_bits ? r->act_bits : 32);
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
    set_if(o, "channel_range_ratio_after", r->x && r->x->channels, r->x ? r->x->channel_ratio : 0);
    set_if(o, "saturation_pct", r->x && quantized, r->x ? 100 * r->x->outside : 0);
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

/* n numbers, clipped to [lo, hi]. */
static json_t *floats_json(const float *x, size_t n, float lo, float hi)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(a, short_real(fminf(hi, fmaxf(lo, x[i]))));
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

static json_t *activation_json(const struct affine *a, const struct site_summary *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "quantizer", a ? affine_json(a) : json_null());
    json_object_set_new(o, "histogram_before", histogram_json((double)s->hist_lo, (double)s->hist_hi, s->hist, DETAIL_BINS));
    json_object_set_new(o, "histogram_after", histogram_json((double)s->hist_lo, (double)s->hist_hi, s->hist_after, DETAIL_BINS));
    if (s->kept) {
        json_t *channels = json_object();
        set_int(channels, "count", s->channels);
        float lo = -INFINITY, hi = INFINITY;
        if (a)
            quantizer_limits(a, &lo, &hi);
        json_object_set_new(channels, "min_before", floats_json(s->channel_lo, s->kept, -INFINITY, INFINITY));
        json_object_set_new(channels, "max_before", floats_json(s->channel_hi, s->kept, -INFINITY, INFINITY));
        json_object_set_new(channels, "min_after", floats_json(s->channel_lo, s->kept, lo, hi));
        json_object_set_new(channels, "max_after", floats_json(s->channel_hi, s->kept, lo, hi));
        json_object_set_new(o, "channels", channels);
    }
    return o;
}

static json_t *weight_json(const struct weight_summary *w)
{
    json_t *o = json_object();
    json_object_set_new(o, "histogram_before", histogram_json((double)w->lo, (double)w->hi, w->before, DETAIL_BINS));
    json_object_set_new(o, "histogram_after", histogram_json((double)w->lo, (double)w->hi, w->after, DETAIL_BINS));
    set_real(o, "scale_min", (double)w->scale_min);
    set_real(o, "scale_max", (double)w->scale_max);
    set_int(o, "zero_channels", w->zero_channels);
    set_int(o, "bits", w->bits);
    return o;
}

json_t *layer_detail_json(const struct layer_row *r, int index, const struct affine *x, const struct affine *other,
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
        json_object_set_new(o, "weight", weight_json(r->weight));
    return o;
}
