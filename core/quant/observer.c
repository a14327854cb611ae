#include "core/quant/observer.h"

#include "core/kernel/bits.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A key is the bits of a float as an integer that sorts as the float does, order_of() without a sign; its upper half is the bin. */
static float value_of_key(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The interval of bin i; its ends are finite for every bin that can be filled. */
static void bin_edges(uint32_t i, double *lo, double *hi)
{
    float a = value_of_key(i << 16), b = value_of_key((i << 16) + 0xffffu);
    *lo = a;
    *hi = b;
}

float observer_bin_middle(const struct observer *o, uint32_t bin)
{
    double lo, hi;
    bin_edges(bin, &lo, &hi);
    float x = (float)((lo + hi) / 2);
    return x < o->range.lo ? o->range.lo : x > o->range.hi ? o->range.hi : x;
}

bool observer_init(struct observer *o, size_t channels, struct err *e)
{
    *o = (struct observer){ .range = RANGE_EMPTY, .channels = channels };
    o->bins = calloc(OBSERVER_BINS, sizeof *o->bins);
    o->lo = malloc((channels + 1) * sizeof *o->lo);
    o->hi = malloc((channels + 1) * sizeof *o->hi);
    if (!o->bins || !o->lo || !o->hi) {
        observer_release(o);
        return err_set(e, ERR_MEMORY, "", "no memory for the statistics of a tensor");
    }
    for (size_t c = 0; c < channels; c++) {
        o->lo[c] = FLT_MAX;
        o->hi[c] = -FLT_MAX;
    }
    return true;
}

bool observer_split(struct observer *o, size_t heads, struct err *e)
{
    o->head_bins = calloc(heads + 1, OBSERVER_HEAD_BINS * sizeof *o->head_bins);
    o->heads = o->head_bins ? heads : 0;
    return o->head_bins || err_set(e, ERR_MEMORY, "", "no memory for the statistics of attention's heads");
}

void observer_release(struct observer *o)
{
    free(o->bins);
    free(o->lo);
    free(o->hi);
    free(o->head_bins);
    *o = (struct observer){ .range = RANGE_EMPTY };
}

/* The bins of up to PIECE values. */
enum { PIECE = 4096 };
KERNEL_CLONES
static void bins_of(size_t n, const float *restrict x, uint16_t *restrict ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (uint16_t)((uint32_t)order_of(x[i]) >> 16 ^ 0x8000);
}

static void count(struct observer *o, const float *x, size_t n)
{
    uint16_t bins[PIECE];
    for (size_t at = 0, len; at < n; at += len) {
        len = n - at < PIECE ? n - at : PIECE;
        size_t bad = o->range.nan + o->range.inf;
        range_of(len, x + at, &o->range);
        bad = o->range.nan + o->range.inf - bad;
        bins_of(len, x + at, bins);
        for (size_t i = 0; i < len; i++)
            o->bins[bins[i]]++;
        for (size_t i = 0; bad && i < len; i++)      /* NaN and infinities are no values: take them out again */
            o->bins[bins[i]] -= !isfinite(x[at + i]);
        o->count += len - bad;
    }
}

void observer_add(struct observer *o, const float *x, size_t rows)
{
    count(o, x, rows * (o->channels ? o->channels : 1));
    if (o->channels)
        range_of_columns(rows, o->channels, x, o->lo, o->hi);
}

void observer_add_planes(struct observer *o, const float *x, size_t images, size_t positions)
{
    count(o, x, images * o->channels * positions);
    for (size_t i = 0; i < images * o->channels; i++) {
        size_t c = i % o->channels;
        struct range r = { o->lo[c], o->hi[c], 0, 0 };
        range_of(positions, x + i * positions, &r);
        o->lo[c] = r.lo;
        o->hi[c] = r.hi;
    }
}

/* One head of one image.  What no probability is goes to the whole tensor's counts alone. */
static void count_head(struct observer *o, const float *x, size_t n, uint64_t *now)
{
    uint16_t bins[PIECE];
    size_t bad = o->range.nan + o->range.inf;
    range_of(n, x, &o->range);
    o->count += n - (o->range.nan + o->range.inf - bad);
    for (size_t at = 0, len; at < n; at += len) {
        len = n - at < PIECE ? n - at : PIECE;
        bins_of(len, x + at, bins);
        for (size_t i = 0; i < len; i++) {
            size_t bin = (size_t)bins[i] - OBSERVER_HEAD_FIRST;
            if (bin < OBSERVER_HEAD_BINS)
                now[bin]++;
            else if (isfinite(x[at + i]))
                o->bins[bins[i]]++;
        }
    }
}

void observer_add_heads(struct observer *o, const float *x, size_t images, size_t positions)
{
    uint64_t *now = o->head_bins + o->heads * OBSERVER_HEAD_BINS;
    for (size_t h = 0; h < o->heads; h++) {
        uint64_t *own = o->head_bins + h * OBSERVER_HEAD_BINS;
        memset(now, 0, OBSERVER_HEAD_BINS * sizeof *now);
        for (size_t i = 0; i < images; i++)
            count_head(o, x + (i * o->heads + h) * positions, positions, now);
        for (size_t bin = 0; bin < OBSERVER_HEAD_BINS; bin++) {
            own[bin] += now[bin];
            o->bins[OBSERVER_HEAD_FIRST + bin] += now[bin];
        }
    }
}

void observer_merge(struct observer *o, const struct observer *other)
{
    if (other->range.lo < o->range.lo)
        o->range.lo = other->range.lo;
    if (other->range.hi > o->range.hi)
        o->range.hi = other->range.hi;
    o->range.nan += other->range.nan;
    o->range.inf += other->range.inf;
    o->count += other->count;
    for (size_t i = 0; i < OBSERVER_BINS; i++)
        o->bins[i] += other->bins[i];
    for (size_t i = 0; i < o->heads * OBSERVER_HEAD_BINS; i++)
        o->head_bins[i] += other->head_bins[i];
    for (size_t c = 0; c < o->channels; c++) {
        if (other->lo[c] < o->lo[c])
            o->lo[c] = other->lo[c];
        if (other->hi[c] > o->hi[c])
            o->hi[c] = other->hi[c];
    }
}

static float clamped(const struct observer *o, double x)
{
    return x < o->range.lo ? o->range.lo : x > o->range.hi ? o->range.hi : (float)x;
}

float observer_quantile(const struct observer *o, double p)
{
    if (o->count == 0)
        return 0;
    double rank = p * (double)(o->count - 1), before = 0;
    for (uint32_t i = 0; i < OBSERVER_BINS; i++) {
        double n = (double)o->bins[i], lo, hi;
        if (n > 0 && before + n > rank) {
            bin_edges(i, &lo, &hi);
            return clamped(o, lo + (hi - lo) * fmin(1, (rank - before + 0.5) / n));
        }
        before += n;
    }
    return o->range.hi;
}

void observer_rebin(const struct observer *o, float lo, float hi, size_t n, uint64_t *ret)
{
    memset(ret, 0, n * sizeof *ret);
    double width = hi > lo ? ((double)hi - lo) / (double)n : 1;
    for (uint32_t i = 0; i < OBSERVER_BINS; i++) {
        double a, b;
        if (!o->bins[i])
            continue;
        bin_edges(i, &a, &b);
        double at = ((a + b) / 2 - lo) / width;
        ret[at <= 0 ? 0 : at >= (double)(n - 1) ? n - 1 : (size_t)at] += o->bins[i];
    }
}

double observer_outside(const struct observer *o, float lo, float hi)
{
    double out = 0;
    for (uint32_t i = 0; i < OBSERVER_BINS; i++) {
        double a, b;
        if (!o->bins[i])
            continue;
        bin_edges(i, &a, &b);
        double middle = (a + b) / 2;
        if (clamped(o, middle) < lo || clamped(o, middle) > hi)
            out += (double)o->bins[i];
    }
    return o->count ? out / (double)o->count : 0;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

bool observer_channel_ratio(const struct observer *o, const float *mul, double *ret, struct err *e)
{
    float *width = malloc((o->channels + 1) * sizeof *width);
    size_t n = 0;
    if (!width)
        return err_set(e, ERR_MEMORY, "", "no memory for channel ranges");
    for (size_t c = 0; c < o->channels; c++)
        if (o->hi[c] > o->lo[c])
            width[n++] = (o->hi[c] - o->lo[c]) * (mul ? mul[c] : 1);
    qsort(width, n, sizeof *width, by_value);
    *ret = n ? (double)width[n - 1] / (double)width[n / 2] : 1;
    free(width);
    return true;
}
