#include "core/quant/channels.h"

#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

/* ---- steps ---- */

static float median_of(size_t n, const float *x, float *scratch)
{
    memcpy(scratch, x, n * sizeof *x);
    return clip_select(n, scratch, (n - 1) / 2);
}

static double mean_of(size_t n, const float *x)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    return sum / (double)n;
}

static void raise_to(size_t n, float *step, double least)
{
    for (size_t c = 0; c < n; c++)
        step[c] = fmaxf(step[c], (float)least);
}

/*
 * Keeps steps within [1e-3, 1e3] of their mean, in place, by raising the smallest: raising costs resolution
 * where there is plenty, lowering would clip.  The mean moves as they do, hence the margin.
 */
static void level_out(size_t n, float *step, float *scratch)
{
    raise_to(n, step, fmax(1e-8, 1e-3 * (double)median_of(n, step, scratch)));
    double mean = mean_of(n, step), most = 0;
    for (size_t c = 0; c < n; c++)
        most = fmax(most, (double)step[c]);
    raise_to(n, step, most > 999 * mean ? 1.01e-3 * most : 1.01e-3 * mean);
}

bool channel_steps(const struct ranges *r, size_t channels, int bits, struct arena *mem, float *ret_step, struct err *e)
{
    float *scratch = arena_array(mem, channels, sizeof *scratch, e);
    if (!scratch)
        return false;
    for (size_t c = 0; c < channels; c++)
        ret_step[c] = clip_step(r->lo[c], r->hi[c], bits);
    level_out(channels, ret_step, scratch);
    return true;
}

/* ---- folds ---- */

static bool fold_new(size_t channels, struct arena *mem, struct channel_fold *ret, struct err *e)
{
    *ret = (struct channel_fold){ .mul = arena_array(mem, channels, sizeof *ret->mul, e),
                                  .add = arena_array(mem, channels, sizeof *ret->add, e) };
    return ret->mul && ret->add;
}

/* lo_c / s_c of the range with its step widened around its middle. */
static double start_of(const struct ranges *r, size_t c, float step, int bits)
{
    double middle = ((double)r->lo[c] + (double)r->hi[c]) / 2;
    return middle / (double)step - (double)((1 << bits) - 1) / 2;
}

static double clamp(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

static int common_zero(const struct ranges *r, const float *step, size_t channels, int bits)
{
    double sum = 0;
    for (size_t c = 0; c < channels; c++)
        sum += rint(-start_of(r, c, step[c], bits));
    return (int)clamp(rint(sum / (double)channels), 0, (1 << bits) - 1);
}

bool channel_fold(const struct ranges *r, size_t channels, int bits, enum channel_offset offset, struct arena *mem,
                  struct channel_fold *ret, struct err *e)
{
    float *step = arena_array(mem, channels, sizeof *step, e);
    if (!step || !fold_new(channels, mem, ret, e) || !channel_steps(r, channels, bits, mem, step, e))
        return false;
    bool whole = offset == OFFSET_INTEGER;
    double scale = mean_of(channels, step);
    ret->scale = (float)scale;
    ret->zero = whole ? common_zero(r, step, channels, bits) : 1 << (bits - 1);
    for (size_t c = 0; c < channels; c++) {
        double start = start_of(r, c, step[c], bits);
        ret->mul[c] = (float)(scale / (double)step[c]);
        ret->add[c] = (float)(-scale * (ret->zero + (whole ? rint(start) : start)));
    }
    return true;
}

/* ---- a factor, no offset ---- */

void channel_energy(const float *w, size_t outputs, size_t channels, float *ret)
{
    memset(ret, 0, channels * sizeof *ret);
    for (size_t o = 0; o < outputs; o++, w += channels)
        for (size_t c = 0; c < channels; c++)
            ret[c] += w[c] * w[c];
}

static float quantile(size_t n, const float *x, double p, float *scratch)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at, next = i + 1 < n ? i + 1 : i;
    memcpy(scratch, x, n * sizeof *x);
    double low = (double)clip_select(n, scratch, i), high = (double)clip_select(n, scratch, next);
    return (float)(low + (high - low) * (at - (double)i));
}

/* The step with which `zero` codes below 0 and the others above it reach both ends; the lower one by rounding. */
static double reaching(float lo, float hi, int zero, int top)
{
    double below = lo < 0 ? -(double)lo / (zero + 0.5) : 0;
    double above = hi <= 0 ? 0 : zero == top ? INFINITY : (double)hi / (top - zero);
    return fmax(below, above);
}

static double cost_of_zero(const struct ranges *r, size_t channels, const float *energy, double least, int zero, int top)
{
    double sum = 0;
    for (size_t c = 0; c < channels; c++) {
        double step = fmax(reaching(r->lo[c], r->hi[c], zero, top), least);
        sum += (energy ? (double)energy[c] : 1) * step * step;
    }
    return sum;
}

/* The zero point with the least uniform noise, step^2 / 12 a channel. */
static int best_zero(const struct ranges *r, size_t channels, const float *energy, double least, int top)
{
    int best = 0;
    double lowest = INFINITY;
    for (int zero = 0; zero <= top; zero++) {
        double cost = cost_of_zero(r, channels, energy, least, zero, top);
        if (cost < lowest) {
            lowest = cost;
            best = zero;
        }
    }
    return best;
}

/* Steps and the zero point that go with them. */
static bool cover(const struct ranges *r, size_t channels, int bits, const float *energy, double floor, struct arena *mem,
                  float *ret_step, int *ret_zero, struct err *e)
{
    float *scratch = arena_array(mem, channels, sizeof *scratch, e);
    if (!scratch)
        return false;
    int top = (1 << bits) - 1;
    for (size_t c = 0; c < channels; c++)
        ret_step[c] = clip_step(fminf(r->lo[c], 0), fmaxf(r->hi[c], 0), bits);
    double least = floor > 0 ? (double)quantile(channels, ret_step, floor, scratch) : 0;
    *ret_zero = best_zero(r, channels, energy, least, top);
    for (size_t c = 0; c < channels; c++)
        ret_step[c] = (float)fmax(reaching(r->lo[c], r->hi[c], *ret_zero, top), least);
    level_out(channels, ret_step, scratch);
    return true;
}

static void fold_steps(size_t channels, const float *step, double factor, int zero, struct channel_fold *ret)
{
    double scale = mean_of(channels, step);
    ret->scale = (float)(scale * factor);
    ret->zero = zero;
    for (size_t c = 0; c < channels; c++)
        ret->mul[c] = (float)(scale / (double)step[c]);
}

bool channel_fold_scales(const struct ranges *r, size_t channels, int bits, const float *energy, double floor, struct arena *mem,
                         struct channel_fold *ret, struct err *e)
{
    float *step = arena_array(mem, channels, sizeof *step, e);
    int zero;
    if (!step || !fold_new(channels, mem, ret, e) || !cover(r, channels, bits, energy, floor, mem, step, &zero, e))
        return false;
    fold_steps(channels, step, 1, zero, ret);
    return true;
}

static const double factors[] = { .25, .3, .36, .43, .52, .62, .75, .9, 1, 1.2, 1.5, 2, 3, 4.5, 6, 8, 12 };
enum { FACTORS = sizeof factors / sizeof factors[0], FACTOR_ONE = 8 };

/* Candidate 2 i keeps the zero point with factor i, candidate 2 i + 1 lets it follow the lower end. */
struct anchors {
    const float *step;
    size_t first;                   /* index of the first factor tried */
    int zero[2 * FACTORS];
};

static void anchor(const void *arg, size_t choice, size_t channel, float *ret_lo, float *ret_step)
{
    const struct anchors *a = arg;
    *ret_step = (float)((double)a->step[channel] * factors[a->first + choice / 2]);
    *ret_lo = -(float)a->zero[choice] * *ret_step;
}

/* The zero point at which the lowest value, in steps times factor, still rounds to a code. */
static int following_zero(const struct ranges *r, size_t channels, const float *step, double factor, int top)
{
    double most = 0;
    for (size_t c = 0; c < channels; c++)
        most = fmax(most, -(double)r->lo[c] / ((double)step[c] * factor));
    return (int)clamp(rint(most), 0, top);
}

static size_t least_of(size_t n, const double *x)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] < x[best])
            best = i;
    return best;
}

bool channel_fold_anchored(const struct rows *r, const struct ranges *full, int bits, const float *energy, double floor,
                           struct pool *pool, struct arena *mem, struct channel_fold *ret, double *ret_factor, struct err *e)
{
    float *step = arena_array(mem, r->channels, sizeof *step, e);
    int zero, top = (1 << bits) - 1;
    if (!step || !fold_new(r->channels, mem, ret, e) || !cover(full, r->channels, bits, energy, floor, mem, step, &zero, e))
        return false;
    struct anchors a = { .step = step, .first = bits >= 8 ? FACTOR_ONE : 0 };
    size_t choices = 2 * (FACTORS - a.first);
    double costs[2 * FACTORS];
    for (size_t i = 0; i < choices; i++)
        a.zero[i] = i % 2 ? following_zero(full, r->channels, step, factors[a.first + i / 2], top) : zero;
    if (!channel_costs(r, bits, energy, choices, anchor, &a, pool, mem, costs, e))
        return false;
    size_t best = least_of(choices, costs);
    *ret_factor = factors[a.first + best / 2];
    fold_steps(r->channels, step, *ret_factor, a.zero[best], ret);
    return true;
}

/* ---- costs of candidates ---- */

struct cost_task {
    const struct rows *r;
    int top;
    const float *energy;
    size_t choices;
    channel_level *level;
    const void *arg;
    double *cost;               /* [channels, choices] */
};

static bool cost_one(void *arg, size_t channel, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    struct cost_task *t = arg;
    const float *x = t->r->columns + channel * t->r->n;
    double energy = t->energy ? (double)t->energy[channel] : 1;
    for (size_t i = 0; i < t->choices; i++) {
        float lo, step;
        t->level(t->arg, i, channel, &lo, &step);
        double error = rounding_error(t->r->n, x, t->r->weight, lo, step, t->top) * (double)step * (double)step;
        t->cost[channel * t->choices + i] = energy * error;
    }
    return true;
}

bool channel_costs(const struct rows *r, int bits, const float *energy, size_t choices, channel_level *level, const void *arg,
                   struct pool *pool, struct arena *mem, double *ret, struct err *e)
{
    struct cost_task t = { r, (1 << bits) - 1, energy, choices, level, arg,
                           arena_array(mem, (uint64_t)r->channels * choices, sizeof(double), e) };
    if (!t.cost || !pool_run(pool, r->channels, cost_one, &t, e))
        return false;
    memset(ret, 0, choices * sizeof *ret);
    for (size_t c = 0; c < r->channels; c++)
        for (size_t i = 0; i < choices; i++)
            ret[i] += t.cost[c * choices + i];
    return true;
}
