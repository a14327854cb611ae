#include "core/quant/clip.h"

#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool rows_prepare(struct rows *r, struct arena *mem, struct err *e)
{
    if (r->columns)
        return true;
    float *columns = arena_scratch(mem, (uint64_t)r->n * r->channels, sizeof *columns, e);
    if (!columns)
        return false;
    transpose_2d(r->n, r->channels, r->x, r->channels, columns, r->n);
    r->columns = columns;
    return true;
}

bool ranges_new(size_t channels, struct arena *mem, struct ranges *ret, struct err *e)
{
    ret->lo = arena_array(mem, channels, sizeof *ret->lo, e);
    ret->hi = arena_array(mem, channels, sizeof *ret->hi, e);
    return ret->lo && ret->hi;
}

float clip_step(float lo, float hi, int bits)
{
    /* In double: hi - lo may overflow a float, and hi / n - lo / n would cancel. */
    double step = ((double)hi - (double)lo) / ((1 << bits) - 1);
    return (float)fmax(step, (double)FLT_MIN);
}

/* ---- order statistics ---- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float middle_of(float a, float b, float c)
{
    float lo = fminf(a, b), hi = fmaxf(a, b);
    return fmaxf(lo, fminf(hi, c));
}

static void swap(float *a, float *b)
{
    float t = *a;
    *a = *b;
    *b = t;
}

/* Hoare's partition narrows [from, to] around k; an input made to defeat it is sorted instead. */
float clip_select(size_t n, float *x, size_t k)
{
    long from = 0, to = (long)n - 1, at = (long)k;
    for (int rounds = 0; from < to; rounds++) {
        if (rounds == 64) {
            qsort(x + from, (size_t)(to - from + 1), sizeof *x, by_value);
            break;
        }
        float pivot = middle_of(x[from], x[from + (to - from) / 2], x[to]);
        long i = from, j = to;
        while (i <= j) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i <= j)
                swap(&x[i++], &x[j--]);
        }
        if (at <= j)
            to = j;
        else if (at >= i)
            from = i;
        else
            break;      /* between the two lies the pivot only */
    }
    return x[k];
}

/* ---- one channel ---- */

struct column {
    size_t n;
    const float *x, *weight;
    float lo, hi;           /* the extremes of all data */
    int bits;
    float *scratch;         /* [n] */
};

struct interval { float lo, hi; };

static double error_of(const struct column *c, struct interval i)
{
    double step = (double)clip_step(i.lo, i.hi, c->bits);
    return rounding_error(c->n, c->x, c->weight, i.lo, (float)step, (1 << c->bits) - 1) * step * step;
}

static struct interval whole(const struct column *c) { return (struct interval){ c->lo, c->hi }; }

/* Quantile p of x, of which the ends that it may touch are sorted. */
static float quantile(size_t n, const float *x, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at, next = i + 1 < n ? i + 1 : i;
    return (float)((double)x[i] + ((double)x[next] - (double)x[i]) * (at - (double)i));
}

const double clip_percentiles[CLIP_PERCENTILES] = { .999, .9999, .99999 };

/* Sorts what lies outside the lowest percentile at both ends of x, with a neighbour each to interpolate with. */
static void sort_tails(size_t n, float *x)
{
    size_t tail = (size_t)((1 - clip_percentiles[0]) * (double)(n - 1)) + 3;
    if (2 * tail >= n) {
        qsort(x, n, sizeof *x, by_value);
        return;
    }
    clip_select(n, x, tail - 1);
    clip_select(n - tail, x + tail, n - 2 * tail);
    qsort(x, tail, sizeof *x, by_value);
    qsort(x + n - tail, tail, sizeof *x, by_value);
}

static struct interval best_percentile(const struct column *c)
{
    struct interval best = whole(c);
    double least = INFINITY;
    memcpy(c->scratch, c->x, c->n * sizeof *c->x);
    sort_tails(c->n, c->scratch);
    for (size_t i = 0; i < CLIP_PERCENTILES; i++) {
        struct interval now = { quantile(c->n, c->scratch, 1 - clip_percentiles[i]), quantile(c->n, c->scratch, clip_percentiles[i]) };
        double error = error_of(c, now);
        if (error < least) {
            least = error;
            best = now;
        }
    }
    return best;
}

enum { UPPER = 1, LOWER = 2 };
static const int turns[] = { UPPER | LOWER, UPPER, LOWER, UPPER, LOWER };

/* Positions of an interval's ends and what each costs. */
enum { MOST_FACTORS = 20 };
struct positions {
    const struct column *c;
    struct interval at[MOST_FACTORS];
    double error[MOST_FACTORS];
};

static bool cost_position(void *arg, size_t k, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    struct positions *p = arg;
    p->error[k] = error_of(p->c, p->at[k]);
    return true;
}

/* The best of `factors` positions of the ends that `side` names, each a share .9^k of the way from the median outwards. */
static bool shrink(const struct column *c, float median, int side, int factors, struct pool *pool, struct interval *best, double *least,
                   struct err *e)
{
    struct positions p = { .c = c };
    float share = 1;
    for (int k = 0; k < factors; k++, share *= 0.9f)       /* rounding may push an end past the extreme */
        p.at[k] = (struct interval){ side & LOWER ? fmaxf(c->lo, median - share * (median - c->lo)) : best->lo,
                                     side & UPPER ? fminf(c->hi, median + share * (c->hi - median)) : best->hi };
    if (!pool_run(pool, (size_t)factors, cost_position, &p, e))
        return false;
    for (int k = 0; k < factors; k++)
        if (p.error[k] < *least) {
            *least = p.error[k];
            *best = p.at[k];
        }
    return true;
}

static bool search(const struct column *c, int factors, struct pool *pool, struct interval *ret, struct err *e)
{
    double least = error_of(c, *ret = whole(c));
    bool ok = true;
    memcpy(c->scratch, c->x, c->n * sizeof *c->x);
    float median = clip_select(c->n, c->scratch, (c->n - 1) / 2);
    for (size_t i = 0; ok && i < sizeof turns / sizeof turns[0]; i++)
        ok = shrink(c, median, turns[i], factors, pool, ret, &least, e);
    return ok;
}

static struct interval grid(const struct column *c)
{
    struct interval best;
    search(c, 13, NULL, &best, NULL);
    return best;
}

/* ---- all channels ---- */

static struct interval (*const rules[])(const struct column *) = {
    [CLIP_MINMAX] = whole, [CLIP_PERCENTILE] = best_percentile, [CLIP_GRID] = grid,
};

struct task {
    enum clip_rule rule;
    const struct rows *r;
    const struct ranges *full;
    struct ranges *ret;
    int bits;
    float *scratch;         /* [threads, n] */
};

static bool clip_one(void *arg, size_t channel, int thread, struct err *e)
{
    (void)e;
    struct task *t = arg;
    size_t n = t->r->n;
    struct column c = { n, t->r->columns + channel * n, t->r->weight, t->full->lo[channel], t->full->hi[channel], t->bits,
                        t->scratch + (size_t)thread * n };
    struct interval i = rules[t->rule](&c);
    t->ret->lo[channel] = i.lo;
    t->ret->hi[channel] = i.hi;
    return true;
}

bool clip_channels(enum clip_rule rule, const struct rows *r, const struct ranges *full, int bits, struct pool *pool,
                   struct arena *mem, struct ranges *ret, struct err *e)
{
    struct task t = { rule, r, full, ret, bits, arena_scratch(mem, r->n * (size_t)pool_threads(pool), sizeof(float), e) };
    return t.scratch && pool_run(pool, r->channels, clip_one, &t, e);
}

bool clip_common(const struct rows *r, const struct ranges *full, int bits, struct pool *pool, struct arena *mem, float *ret_lo,
                 float *ret_hi, struct err *e)
{
    struct column all = { .lo = full->lo[0], .hi = full->hi[0], .bits = bits };
    for (size_t c = 1; c < r->channels; c++) {
        all.lo = fminf(all.lo, full->lo[c]);
        all.hi = fmaxf(all.hi, full->hi[c]);
    }
    *ret_lo = all.lo;
    *ret_hi = all.hi;
    if (bits >= 8)
        return true;
    size_t most = 65536 / r->channels + 1, rows = r->n < most ? r->n : most;
    float *x = arena_scratch(mem, (uint64_t)rows * r->channels, sizeof *x, e);
    all.scratch = arena_scratch(mem, (uint64_t)rows * r->channels, sizeof *x, e);
    if (!x || !all.scratch)
        return false;
    for (size_t i = 0; i < rows; i++)
        memcpy(x + i * r->channels, r->x + i * r->n / rows * r->channels, r->channels * sizeof *x);
    all.x = x;
    all.n = rows * r->channels;
    struct interval best;
    if (!search(&all, MOST_FACTORS, pool, &best, e))
        return false;
    *ret_lo = best.lo;
    *ret_hi = best.hi;
    return true;
}

/* ---- few rows ---- */

/* Deviations either side: of a normal distribution the range of least squared error, with some head-room. */
static const float deviations[] = { [2] = 1.5f, [3] = 2.1f, [4] = 2.68f, [5] = 2.99f, [6] = 3.3f, [7] = 3.63f, [8] = 3.95f };

static void moments_of(const struct rows *r, size_t c, double *ret_mean, double *ret_deviation)
{
    const float *x = r->columns + c * r->n;
    double sum = 0, total = 0, squares = 0;
    for (size_t i = 0; i < r->n; i++) {
        double w = r->weight ? (double)r->weight[i] : 1;
        total += w;
        sum += w * (double)x[i];
    }
    double mean = total > 0 ? sum / total : 0;
    for (size_t i = 0; i < r->n; i++) {
        double w = r->weight ? (double)r->weight[i] : 1, off = (double)x[i] - mean;
        squares += w * off * off;
    }
    *ret_mean = mean;
    *ret_deviation = total > 0 && r->n > 1 ? sqrt(squares / total * (double)r->n / (double)(r->n - 1)) : 0;
}

void clip_deviation(const struct rows *r, const struct ranges *full, int bits, struct ranges *ret)
{
    double mean, deviation, typical = 0;
    for (size_t c = 0; c < r->channels; c++) {
        moments_of(r, c, &mean, &deviation);
        typical += deviation / (double)r->channels;
    }
    for (size_t c = 0; c < r->channels; c++) {
        moments_of(r, c, &mean, &deviation);
        double reach = (double)deviations[bits] * fmax(deviation, 0.5 * (deviation + typical));
        float lo = (float)fmax(mean - reach, -(double)FLT_MAX), hi = (float)fmin(mean + reach, (double)FLT_MAX);
        ret->lo[c] = bits > 4 ? fminf(lo, full->lo[c]) : lo;
        ret->hi[c] = bits > 4 ? fmaxf(hi, full->hi[c]) : hi;
    }
}
