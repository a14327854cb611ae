/*
 * Two ends per channel, learnt on the error of the consumers' outputs.
 *
 * With E = X' - X the loss is tr(E G E^T) and its gradient 2 E G, one matrix product a step.  Through the
 * rounding goes the straight-through estimate: the difference between a value and its level is taken as fixed
 * in steps, so inside the range
 *     d x' / d hi = (x' - x) / (hi - lo),    d x' / d lo = -d x' / d hi,
 * while a clipped value follows the end it is clipped to (as in LSQ+, arXiv 2004.09576).
 */
#include "core/quant/clip.h"

#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

enum { STEPS = 64, LATE = STEPS / 2, BATCH = 256 };

static const double rate = 5e-3, decay_mean = 0.9, decay_square = 0.99;   /* rate: in widths of the channel */

/* d x' / d lo and d x' / d hi. */
struct slope { float lo, hi; };

static struct slope slope_of(float x, float off, float lo, float hi)
{
    if (x > hi)
        return (struct slope){ 0, 1 };
    if (x < lo)
        return (struct slope){ 1, 0 };
    float inside = hi > lo ? off / (hi - lo) : 0;
    return (struct slope){ -inside, inside };
}

void clip_gradient(size_t n, const float *x, float lo, float hi, int bits, double *ret_lo, double *ret_hi)
{
    float scale = clip_step(lo, hi, bits);
    *ret_lo = *ret_hi = 0;
    for (size_t i = 0; i < n; i++) {
        float level;
        round_columns(1, 1, x + i, &lo, &scale, (1 << bits) - 1, &level);
        struct slope s = slope_of(x[i], level - x[i], lo, hi);
        *ret_lo += 2 * (double)(level - x[i]) * (double)s.lo / (double)n;
        *ret_hi += 2 * (double)(level - x[i]) * (double)s.hi / (double)n;
    }
}

/* What Adam knows of one end. */
struct moment { double mean, square; };

struct learner {
    const struct rows *r;
    const float *gram;
    int bits;
    struct ranges now;
    float *scale, *width;               /* [channels]; width: of the range at the start */
    struct moment *lo, *hi;             /* [channels] */
    double *to_lo, *to_hi;              /* [channels] gradients */
    float *x, *off, *pull, *weight;     /* [BATCH, channels] rows, E, E G; [BATCH] */
    uint64_t random;
};

static bool learner_init(struct learner *l, struct arena *mem, struct err *e)
{
    size_t c = l->r->channels, block = BATCH * c;
    l->scale = arena_array(mem, c, sizeof *l->scale, e);
    l->width = arena_array(mem, c, sizeof *l->width, e);
    l->lo = arena_array(mem, c, sizeof *l->lo, e);
    l->hi = arena_array(mem, c, sizeof *l->hi, e);
    l->to_lo = arena_array(mem, c, sizeof *l->to_lo, e);
    l->to_hi = arena_array(mem, c, sizeof *l->to_hi, e);
    l->x = arena_array(mem, block, sizeof *l->x, e);
    l->off = arena_array(mem, block, sizeof *l->off, e);
    l->pull = arena_array(mem, block, sizeof *l->pull, e);
    l->weight = arena_array(mem, BATCH, sizeof *l->weight, e);
    return l->scale && l->width && l->lo && l->hi && l->to_lo && l->to_hi && l->x && l->off && l->pull && l->weight
        && ranges_new(c, mem, &l->now, e);
}

static void take_row(struct learner *l, size_t place, size_t row)
{
    size_t c = l->r->channels;
    memcpy(l->x + place * c, l->r->x + row * c, c * sizeof *l->x);
    l->weight[place] = l->r->weight ? l->r->weight[row] : 1;
}

/* E and E G of the first n rows in l->x. */
static void push(struct learner *l, size_t n)
{
    size_t channels = l->r->channels;
    for (size_t c = 0; c < channels; c++)
        l->scale[c] = clip_step(l->now.lo[c], l->now.hi[c], l->bits);
    round_columns(n, channels, l->x, l->now.lo, l->scale, (1 << l->bits) - 1, l->off);
    for (size_t i = 0; i < n * channels; i++)
        l->off[i] -= l->x[i];
    gemm(false, false, n, channels, channels, l->off, channels, l->gram, channels, false, l->pull, channels);
}

/* The loss over all rows. */
static double loss(struct learner *l)
{
    size_t channels = l->r->channels;
    double sum = 0;
    for (size_t at = 0; at < l->r->n; at += BATCH) {
        size_t n = l->r->n - at < BATCH ? l->r->n - at : BATCH;
        for (size_t i = 0; i < n; i++)
            take_row(l, i, at + i);
        push(l, n);
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < channels; c++)
                sum += (double)l->weight[i] * (double)l->off[i * channels + c] * (double)l->pull[i * channels + c];
    }
    return sum;
}

static size_t draw(struct learner *l, size_t n)
{
    l->random = l->random * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(((l->random >> 32) * (uint64_t)n) >> 32);
}

static size_t take_batch(struct learner *l)
{
    size_t n = l->r->n < BATCH ? l->r->n : BATCH;
    for (size_t i = 0; i < n; i++)
        take_row(l, i, l->r->n > BATCH ? draw(l, l->r->n) : i);
    return n;
}

static void find_gradients(struct learner *l, size_t n)
{
    size_t channels = l->r->channels;
    memset(l->to_lo, 0, channels * sizeof *l->to_lo);
    memset(l->to_hi, 0, channels * sizeof *l->to_hi);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < channels; c++) {
            size_t at = i * channels + c;
            struct slope s = slope_of(l->x[at], l->off[at], l->now.lo[c], l->now.hi[c]);
            double pull = (double)(l->weight[i] * l->pull[at]);
            l->to_lo[c] += pull * (double)s.lo;
            l->to_hi[c] += pull * (double)s.hi;
        }
}

/* Adam's direction before the correction of its start: about -1 to 1, whatever the unit of the gradient. */
static double direction(struct moment *m, double gradient)
{
    m->mean = decay_mean * m->mean + (1 - decay_mean) * gradient;
    m->square = decay_square * m->square + (1 - decay_square) * gradient * gradient;
    return m->square > 0 ? m->mean / sqrt(m->square) : 0;
}

static void move(struct learner *l, int step)
{
    double pace = rate * (1 - (double)step / STEPS) * sqrt(1 - pow(decay_square, step)) / (1 - pow(decay_mean, step));
    for (size_t c = 0; c < l->r->channels; c++) {
        float far = (float)pace * l->width[c];
        float lo = l->now.lo[c] - far * (float)direction(&l->lo[c], l->to_lo[c]);
        float hi = l->now.hi[c] - far * (float)direction(&l->hi[c], l->to_hi[c]);
        if (hi - lo > 0.01f * l->width[c]) {     /* also keeps a NaN out */
            l->now.lo[c] = lo;
            l->now.hi[c] = hi;
        }
    }
}

/* The mean of what the second half of the steps passed through is steadier than where they end. */
static void remember(const struct learner *l, const struct ranges *start, struct ranges *way)
{
    for (size_t c = 0; c < l->r->channels; c++) {
        way->lo[c] += (l->now.lo[c] - start->lo[c]) / LATE;
        way->hi[c] += (l->now.hi[c] - start->hi[c]) / LATE;
    }
}

static void learn(struct learner *l, const struct ranges *start, struct ranges *ret_way)
{
    for (int step = 1; step <= STEPS; step++) {
        size_t n = take_batch(l);
        push(l, n);
        find_gradients(l, n);
        move(l, step);
        if (step > LATE)
            remember(l, start, ret_way);
    }
}

/* now = from + share * way; now may be from. */
static void go(size_t channels, const struct ranges *from, const struct ranges *way, float share, struct ranges *now)
{
    for (size_t c = 0; c < channels; c++) {
        now->lo[c] = from->lo[c] + share * way->lo[c];
        now->hi[c] = from->hi[c] + share * way->hi[c];
    }
}

/* The part of the way that helps most on all rows: what was learnt from batches may overshoot. */
static const float parts[] = { 0, 1, .5f, .25f };

bool clip_learn(const struct rows *r, const float *gram, int bits, uint64_t seed, struct arena *mem, struct ranges *io,
                double *ret_gain_db, struct err *e)
{
    struct learner l = { .r = r, .gram = gram, .bits = bits, .random = seed };
    struct ranges way;
    if (!learner_init(&l, mem, e) || !ranges_new(r->channels, mem, &way, e))
        return false;
    for (size_t c = 0; c < r->channels; c++)
        l.width[c] = io->hi[c] - io->lo[c];
    go(r->channels, io, &way, 0, &l.now);
    learn(&l, io, &way);
    double losses[sizeof parts / sizeof parts[0]];
    size_t best = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        go(r->channels, io, &way, parts[i], &l.now);
        losses[i] = loss(&l);
        best = losses[i] < losses[best] ? i : best;
    }
    *ret_gain_db = best ? losses[best] > 0 ? fmin(10 * log10(losses[0] / losses[best]), 100) : 100 : 0;
    if (best)
        go(r->channels, io, &way, parts[best], io);
    return true;
}
