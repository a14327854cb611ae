#include "core/quant/levels.h"

#include "core/kernel/bits.h"
#include "core/quant/quantizer.h"

#include <math.h>
#include <stdlib.h>

/* ---- what was seen, as points with weights ---- */

/* PIECES points a bin, so that the levels of 8 bits do not fall on the grid of the bins. */
enum { PIECES = 4 };

struct points {
    size_t n;
    float *x, *share;       /* values and the fraction of all values that each stands for; one block */
};

static size_t filled_bins(const struct observer *o)
{
    size_t n = 0;
    for (size_t i = 0; i < OBSERVER_BINS; i++)
        n += o->bins[i] > 0;
    return n;
}

/* A bin holds the floats whose place in the order of all floats has the same upper 16 bits; they are evenly spaced. */
static float point_of(const struct observer *o, uint32_t bin, uint32_t piece)
{
    uint32_t low = (2 * piece + 1) * (0x10000u / (2 * PIECES));
    float x = of_order((int32_t)((bin << 16 | low) ^ 0x80000000u));
    return fmaxf(o->range.lo, fminf(o->range.hi, x));
}

/* Freed by free(x). */
static bool points_of(const struct observer *o, struct points *ret, struct err *e)
{
    size_t most = PIECES * filled_bins(o), n = 0;
    float *x = malloc((2 * most + 1) * sizeof *x);
    if (!x)
        return err_set(e, ERR_MEMORY, "", "no memory to search a range");
    for (uint32_t i = 0; i < OBSERVER_BINS; i++)
        for (uint32_t piece = 0; o->bins[i] && piece < PIECES; piece++, n++) {
            x[n] = point_of(o, i, piece);
            x[most + n] = (float)((double)o->bins[i] / (double)o->count / PIECES);
        }
    *ret = (struct points){ n, x, x + most };
    return true;
}

/* ---- affine quantizers ---- */

struct interval { float lo, hi; };

struct search {
    struct points p;
    int bits;
    bool symmetric;
    struct interval extremes, best;
    float median;
    double least;
};

static double error_of(const struct search *s, struct interval i)
{
    struct affine a = quantizer_from_range(i.lo, i.hi, s->bits, s->symmetric);
    float lo, hi;
    quantizer_limits(&a, &lo, &hi);
    double scale = (double)a.scale;
    return rounding_error(s->p.n, s->p.x, s->p.share, lo, a.scale, a.qmax - a.qmin) * scale * scale;
}

enum { UPPER = 1, LOWER = 2, FACTORS = 20 };
static const int turns[] = { UPPER | LOWER, UPPER, LOWER, UPPER, LOWER };

/* Tries the ends that `side` names at shares .9^k of the way from the median outwards. */
static void shrink(struct search *s, int side)
{
    struct interval start = s->best;
    float share = 1;
    for (int k = 0; k < FACTORS; k++, share *= 0.9f) {
        /* Rounding may push an end past the extreme. */
        struct interval now = { side & LOWER ? fmaxf(s->extremes.lo, s->median - share * (s->median - s->extremes.lo)) : start.lo,
                                side & UPPER ? fminf(s->extremes.hi, s->median + share * (s->extremes.hi - s->median)) : start.hi };
        double error = error_of(s, now);
        if (error < s->least) {
            s->least = error;
            s->best = now;
        }
    }
}

bool observer_search_range(const struct observer *o, int bits, bool symmetric, float *ret_lo, float *ret_hi, struct err *e)
{
    *ret_lo = *ret_hi = 0;
    if (o->count == 0)
        return true;
    struct interval whole = { o->range.lo, o->range.hi };
    struct search s = { .bits = bits, .symmetric = symmetric, .extremes = whole, .best = whole, .median = observer_quantile(o, 0.5) };
    if (!points_of(o, &s.p, e))
        return false;
    s.least = error_of(&s, whole);
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++)
        shrink(&s, turns[i]);
    free(s.p.x);
    *ret_lo = s.best.lo;
    *ret_hi = s.best.hi;
    return true;
}

bool observer_range_error(const struct observer *o, float lo, float hi, int bits, bool symmetric, double *ret, struct err *e)
{
    struct search s = { .bits = bits, .symmetric = symmetric };
    *ret = 0;
    if (o->count == 0)
        return true;
    if (!points_of(o, &s.p, e))
        return false;
    *ret = error_of(&s, (struct interval){ lo, hi });
    free(s.p.x);
    return true;
}

/* ---- logarithmic levels ---- */

int log_levels_zero(const struct log_levels *l) { return (1 << l->bits) - (l->extra_zero ? 0 : 1); }

/* Steps below 1, of either base. */
static double level_at(int steps, int steps_per_octave) { return exp2(-(double)steps / steps_per_octave); }

double log_levels_value(const struct log_levels *l, int code)
{
    return code >= log_levels_zero(l) ? 0 : level_at(l->j + code, l->steps_per_octave);
}

enum { FAR = LOG_MOST_J + 256 };    /* more steps below 1 than any level */

/* rint(-m log2 x) within 0..FAR; what is not positive is FAR. */
static int steps_of(double x, int steps_per_octave)
{
    if (!(x > 0))
        return FAR;
    double steps = rint(-steps_per_octave * log2(x));
    return (int)fmax(0, fmin(FAR, steps));
}

/* The code of a value so many steps below 1. */
static int code_at(const struct log_levels *l, int steps)
{
    int code = steps - l->j;
    return code < 0 ? 0 : code > log_levels_zero(l) ? log_levels_zero(l) : code;
}

/* Sums over the values that round to the same number of steps: all that the error of any levels needs. */
struct step_sums { double share, x, square; };

static void sum_steps(const struct points *p, int steps_per_octave, struct step_sums *sums)
{
    for (size_t i = 0; i < p->n; i++) {
        double x = (double)p->x[i], share = (double)p->share[i];
        struct step_sums *s = &sums[steps_of(x, steps_per_octave)];
        s->share += share;
        s->x += share * x;
        s->square += share * x * x;
    }
}

static double log_error(const struct log_levels *l, const struct step_sums *sums)
{
    double error = 0;
    for (int steps = 0; steps <= FAR; steps++) {
        double level = log_levels_value(l, code_at(l, steps));
        error += sums[steps].square - 2 * level * sums[steps].x + level * level * sums[steps].share;
    }
    return error;
}

bool log_levels_search(const struct observer *o, struct log_levels *io, struct err *e)
{
    struct points p;
    struct step_sums sums[FAR + 1] = { 0 };
    io->j = 0;
    if (o->count == 0)
        return true;
    if (!points_of(o, &p, e))
        return false;
    sum_steps(&p, io->steps_per_octave, sums);
    free(p.x);
    double least = INFINITY;
    for (struct log_levels l = *io; l.j <= LOG_MOST_J; l.j++) {
        double error = log_error(&l, sums);
        if (error < least) {
            least = error;
            io->j = l.j;
        }
    }
    return true;
}

void log_levels_quantize(const struct log_levels *l, size_t n, const float *x, uint8_t *codes, float *y)
{
    for (size_t i = 0; i < n; i++) {
        int code = code_at(l, steps_of((double)x[i], l->steps_per_octave));
        if (codes)
            codes[i] = (uint8_t)code;
        if (y)
            y[i] = (float)log_levels_value(l, code);
    }
}

struct log_form log_levels_form(const struct log_levels *l)
{
    double first_zero = l->j + log_levels_zero(l) - 0.5;
    return (struct log_form){ (float)(-l->steps_per_octave / M_LN2), (float)l->j, (float)(-M_LN2 / l->steps_per_octave),
                              (float)exp2(-first_zero / l->steps_per_octave) };
}

struct log_parity log_levels_dot(const struct log_levels *l, size_t n, const uint8_t *codes, const float *v, size_t stride)
{
    struct log_parity p = { 0, 0 };
    for (size_t i = 0; i < n; i++) {
        int q = codes[i], odd = l->steps_per_octave == 2 && q % 2;
        if (q == log_levels_zero(l))
            continue;
        double part = ldexp((double)v[i * stride], l->steps_per_octave == 2 ? -(q + 1) / 2 : -q);
        *(odd ? &p.odd : &p.even) += part;
    }
    return p;
}

double log_parity_value(const struct log_levels *l, struct log_parity p)
{
    return log_levels_value(l, 0) * (p.even + M_SQRT2 * p.odd);
}
