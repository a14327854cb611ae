/*
 * How much of the spread of channel scales to move into the weights.
 *
 * With exponent 1 every channel has its own step and the columns of the weights differ as much as the channels
 * did, which rounding them by rows pays for; with exponent 0 all channels share a range.  The error of both
 * together is measured, on the outputs, with the cheapest weight rounding there is.
 */
#include "core/quant/channels.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

enum { SAMPLE = 576 };

static const double alphas[] = { 1, .85, .7, .5, .3, .15, 0 };
static const double factors[] = { .8, .9, 1, 1.15, 1.32, 1.55, 1.8, 2.1, 2.5, 3, 3.6, 4.5, 6, 8 };
enum { ALPHAS = sizeof alphas / sizeof alphas[0], FACTORS = sizeof factors / sizeof factors[0] };

/* ---- candidates: a range per channel for each exponent ---- */

/* Step number choice % FACTORS of exponent number 1 + choice / FACTORS; exponent 1 itself needs no search. */
struct powers { const float *middle, *step; double centre; double half; };

static double power_of(const struct powers *p, size_t c, double alpha, double factor)
{
    return factor * p->centre * pow((double)p->step[c] / p->centre, alpha);
}

static void power_level(const void *arg, size_t choice, size_t c, float *ret_lo, float *ret_step)
{
    const struct powers *p = arg;
    double step = power_of(p, c, alphas[1 + choice / FACTORS], factors[choice % FACTORS]);
    *ret_step = (float)step;
    *ret_lo = (float)((double)p->middle[c] - step * p->half);
}

static double geometric_mean(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += log((double)x[i]);
    return exp(sum / (double)n);
}

/* The factor of each exponent but the last, whose range is found otherwise. */
static bool find_factors(const struct rows *r, const struct powers *p, int bits, const float *energy, struct pool *pool,
                         struct arena *mem, double *ret_factor, struct err *e)
{
    enum { CHOICES = (ALPHAS - 2) * FACTORS };
    double costs[CHOICES];
    if (!channel_costs(r, bits, energy, CHOICES, power_level, p, pool, mem, costs, e))
        return false;
    ret_factor[0] = 1;
    for (size_t a = 1; a < ALPHAS - 1; a++) {
        const double *cost = costs + (a - 1) * FACTORS;
        size_t best = 0;
        for (size_t i = 1; i < FACTORS; i++)
            if (cost[i] < cost[best])
                best = i;
        ret_factor[a] = factors[best];
    }
    return true;
}

static bool find_candidates(const struct rows *r, const struct ranges *full, const struct ranges *from, const float *energy, int bits,
                            struct pool *pool, struct arena *mem, struct ranges *ret, struct err *e)
{
    size_t n = r->channels;
    float *step = arena_array(mem, n, sizeof *step, e), *middle = arena_array(mem, n, sizeof *middle, e), lo, hi;
    double factor[ALPHAS];
    if (!step || !middle || !channel_steps(from, n, bits, mem, step, e))
        return false;
    for (size_t c = 0; c < n; c++)
        middle[c] = from->lo[c] + (from->hi[c] - from->lo[c]) / 2;
    struct powers p = { middle, step, geometric_mean(n, step), ((1 << bits) - 1) / 2.0 };
    if (!find_factors(r, &p, bits, energy, pool, mem, factor, e) || !clip_common(r, full, bits, pool, mem, &lo, &hi, e))
        return false;
    for (size_t a = 0; a < ALPHAS; a++) {
        if (!ranges_new(n, mem, &ret[a], e))
            return false;
        bool common = a == ALPHAS - 1;
        for (size_t c = 0; c < n; c++) {
            double reach = common ? 0 : power_of(&p, c, alphas[a], factor[a]) * p.half;
            ret[a].lo[c] = common ? lo : (float)((double)middle[c] - reach);
            ret[a].hi[c] = common ? hi : (float)((double)middle[c] + reach);
        }
    }
    return true;
}

/* ---- what a candidate costs at the output ---- */

struct judge {
    size_t rows, channels, outputs;
    int bits, weight_bits;
    const float *x, *weight, *w;        /* [rows, channels], [rows] or NULL, [outputs, channels] */
    float *y;                           /* [rows, outputs] */
    const struct ranges *candidate;     /* [ALPHAS] */
    struct bench { float *a, *w, *y, *step, *row; double *sum, *squares; } *bench;     /* per thread */
    double error[ALPHAS];
};

static bool bench_init(struct bench *b, const struct judge *j, struct arena *mem, struct err *e)
{
    b->a = arena_scratch(mem, (uint64_t)j->rows * j->channels, sizeof *b->a, e);
    b->w = arena_scratch(mem, (uint64_t)j->outputs * j->channels, sizeof *b->w, e);
    b->y = arena_scratch(mem, (uint64_t)j->rows * j->outputs, sizeof *b->y, e);
    b->step = arena_array(mem, j->channels, sizeof *b->step, e);
    b->row = arena_array(mem, j->channels, sizeof *b->row, e);
    b->sum = arena_array(mem, j->outputs, sizeof *b->sum, e);
    b->squares = arena_array(mem, j->outputs, sizeof *b->squares, e);
    return b->a && b->w && b->y && b->step && b->row && b->sum && b->squares;
}

static const float shares[] = { 1, .9f, .8f, .7f };

/* Rounds a row to the best of a few asymmetric ranges around 0, in place. */
static void round_row(size_t n, float *row, int bits)
{
    struct range reach = RANGE_EMPTY;
    int top = (1 << bits) - 1, zero = 0;
    float scale = 1;
    double least = INFINITY;
    range_of(n, row, &reach);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        float lo = fminf(reach.lo, 0) * shares[i], s = clip_step(lo, fmaxf(reach.hi, 0) * shares[i], bits);
        int z = (int)fminf((float)top, rintf(-lo / s));
        double error = rounding_error(n, row, NULL, -(float)z * s, s, top) * (double)s * (double)s;
        if (error < least) {
            least = error;
            scale = s;
            zero = z;
        }
    }
    quantize_to_float(n, row, scale, zero, 0, top, row);
    for (size_t c = 0; c < n; c++)
        row[c] *= scale;
}

/* The weights a linear would have: scaled by the steps, rounded, scaled back. */
static void round_weights(const struct judge *j, const struct bench *b)
{
    for (size_t o = 0; o < j->outputs; o++) {
        const float *w = j->w + o * j->channels;
        float *rounded = b->w + o * j->channels;
        for (size_t c = 0; c < j->channels; c++)
            b->row[c] = w[c] * b->step[c];
        round_row(j->channels, b->row, j->weight_bits);
        for (size_t c = 0; c < j->channels; c++)
            rounded[c] = b->row[c] / b->step[c];
    }
}

/* Adds a row's part, weighing w, to the sums of each output and of its square. */
KERNEL_CLONES
static void add_row(size_t n, const float *off, double w, double *restrict sum, double *restrict squares)
{
    for (size_t i = 0; i < n; i++) {
        double d = (double)off[i];
        sum[i] += w * d;
        squares[i] += w * d * d;
    }
}

/* Squared error of b->y, which is off from nothing, around its mean per output: the bias takes the mean. */
static double spread_of(const struct judge *j, const struct bench *b)
{
    double rows = 0, total = 0;
    memset(b->sum, 0, j->outputs * sizeof *b->sum);
    memset(b->squares, 0, j->outputs * sizeof *b->squares);
    for (size_t i = 0; i < j->rows; i++) {
        double w = j->weight ? (double)j->weight[i] : 1;
        rows += w;
        add_row(j->outputs, b->y + i * j->outputs, w, b->sum, b->squares);
    }
    for (size_t o = 0; o < j->outputs && rows > 0; o++)
        total += b->squares[o] - b->sum[o] * b->sum[o] / rows;
    return total;
}

static bool judge_one(void *arg, size_t number, int thread, struct err *e)
{
    (void)e;
    struct judge *j = arg;
    const struct ranges *r = &j->candidate[number];
    struct bench *b = &j->bench[thread];
    for (size_t c = 0; c < j->channels; c++)
        b->step[c] = clip_step(r->lo[c], r->hi[c], j->bits);
    round_columns(j->rows, j->channels, j->x, r->lo, b->step, (1 << j->bits) - 1, b->a);
    round_weights(j, b);
    for (size_t i = 0; i < j->rows * j->outputs; i++)
        b->y[i] = -j->y[i];
    gemm(false, true, j->rows, j->outputs, j->channels, b->a, j->channels, b->w, j->channels, true, b->y, j->outputs);
    j->error[number] = spread_of(j, b);
    return true;
}

/* The true outputs of some rows. */
enum { PIECES = 4 };
static bool outputs_piece(void *arg, size_t piece, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    struct judge *j = arg;
    size_t first = piece * j->rows / PIECES, end = (piece + 1) * j->rows / PIECES;
    gemm(false, true, end - first, j->outputs, j->channels, j->x + first * j->channels, j->channels, j->w, j->channels, false,
         j->y + first * j->outputs, j->outputs);
    return true;
}

/* Rows spread evenly over the sample, their true outputs, and room to work in. */
static bool judge_init(struct judge *j, const struct rows *r, struct pool *pool, struct arena *mem, struct err *e)
{
    size_t threads = (size_t)pool_threads(pool);
    j->rows = r->n < SAMPLE ? r->n : SAMPLE;
    float *x = arena_scratch(mem, j->rows * r->channels, sizeof *x, e), *weight = arena_array(mem, j->rows, sizeof *weight, e);
    float *y = arena_scratch(mem, (uint64_t)j->rows * j->outputs, sizeof *y, e);
    j->bench = arena_array(mem, threads, sizeof *j->bench, e);
    if (!x || !weight || !y || !j->bench)
        return false;
    for (size_t t = 0; t < threads; t++)
        if (!bench_init(&j->bench[t], j, mem, e))
            return false;
    for (size_t i = 0; i < j->rows; i++) {
        size_t from = i * r->n / j->rows;
        memcpy(x + i * r->channels, r->x + from * r->channels, r->channels * sizeof *x);
        weight[i] = r->weight ? r->weight[from] : 1;
    }
    j->x = x;
    j->weight = weight;
    j->y = y;
    return pool_run(pool, PIECES, outputs_piece, j, e);
}

bool channel_exponent(const struct rows *r, const struct ranges *full, const float *w, size_t outputs, int bits, int weight_bits,
                      struct pool *pool, struct arena *mem, struct ranges *io, double *ret_alpha, struct err *e)
{
    struct ranges candidate[ALPHAS];
    struct judge j = { .channels = r->channels, .outputs = outputs, .bits = bits, .weight_bits = weight_bits, .w = w,
                       .candidate = candidate };
    float *energy = arena_array(mem, r->channels, sizeof *energy, e);
    if (!energy)
        return false;
    channel_energy(w, outputs, r->channels, energy);
    if (!find_candidates(r, full, io, energy, bits, pool, mem, candidate, e)
        || !judge_init(&j, r, pool, mem, e) || !pool_run(pool, ALPHAS, judge_one, &j, e))
        return false;
    size_t best = 0;
    for (size_t a = 1; a < ALPHAS; a++)
        if (j.error[a] < j.error[best])
            best = a;
    memcpy(io->lo, candidate[best].lo, r->channels * sizeof *io->lo);
    memcpy(io->hi, candidate[best].hi, r->channels * sizeof *io->hi);
    *ret_alpha = alphas[best];
    return true;
}
