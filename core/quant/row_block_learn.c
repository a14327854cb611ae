/*
 * AdaRound (Nagel et al. 2020, arXiv 2004.10568, section 3) on second moments: the gradient of the squared
 * output error is 2 (W H - C), here 2 h e, one product per step and no data.  A code is floor(v / scale) + s,
 * s = clip(sigmoid(x) * 1.2 - 0.1, 0, 1); the penalty lambda * sum(1 - |2s - 1|^beta), with beta falling, drives s to 0 or 1.
 */
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"
#include "core/quant/row_block.h"

#include <math.h>
#include <string.h>

static const float STRETCH = 1.2f, SHIFT = -0.1f;    /* zeta - gamma, gamma */
/* The paper has 0.01 and 0.001: for losses that are not normalised, samples drawn anew and tens of thousands of steps. */
static const float LAMBDA = 0.3f, RATE = 0.03f, MEMORY_1 = 0.9f, MEMORY_2 = 0.999f;
enum { BETA_FIRST = 20, BETA_LAST = 2 };             /* whole, so that powers are products */

struct learning {
    float *x, *down;              /* [k, ROWS]: the choice before the sigmoid; floor(v / scale) */
    float *mean, *square;         /* of gradients, by Adam */
    float *weight;                /* [groups, ROWS]: 2 * scale / the error of nearest, so that losses start near 1 */
};

KERNEL_INLINE float stretched(float sigmoid)
{
    float s = sigmoid * STRETCH + SHIFT;
    s = s > 0 ? s : 0;
    return s < 1 ? s : 1;
}

KERNEL_INLINE float clamped(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

static void start(const struct row_block *b, struct learning *l)
{
    for (size_t i = 0; i < b->k * ROWS; i++) {
        float code = b->v[i] / b->scale[b->at[i / ROWS] + i % ROWS], down = floorf(code), p = (code - down - SHIFT) / STRETCH;
        l->down[i] = down;
        l->x[i] = -logf(1 / p - 1);    /* s is now the fraction */
        l->mean[i] = l->square[i] = 0;
    }
    for (size_t i = 0; i < b->groups * ROWS; i++)
        l->weight[i] = b->best_error[i % ROWS] > 0 ? (float)(2 * (double)b->scale[i] / b->best_error[i % ROWS]) : 0;
}

/* q: soft codes from the sigmoids in work. */
KERNEL_CLONES
static void soften(const struct row_block *restrict b, const float *restrict down, const float *restrict sigmoid, float *restrict q)
{
    for (size_t i = 0; i < b->k; i++, q += ROWS, down += ROWS, sigmoid += ROWS) {
        const float *lo = b->lo + b->at[i], *hi = b->hi + b->at[i];
        for (size_t r = 0; r < ROWS; r++)
            q[r] = clamped(down[r] + stretched(sigmoid[r]), lo[r], hi[r]);
    }
}

KERNEL_INLINE float gradient(float sigmoid, float code, float lo, float hi, float pull, float lambda, int beta)
{
    float s = sigmoid * STRETCH + SHIFT, from_half = 2 * s - 1, power = from_half;
    for (int i = 2; i < beta; i++)
        power *= fabsf(from_half);
    float slope = s > 0 && s < 1 ? STRETCH * sigmoid * (1 - sigmoid) : 0;
    float inside = code >= lo && code <= hi ? pull : 0;
    return (inside - lambda * 2 * (float)beta * power) * slope;
}

struct adam { float lambda, rate, unbias_2; int beta; };    /* of one step */

KERNEL_CLONES
static void move(const struct row_block *restrict b, const float *restrict g, const float *restrict sigmoid,
                 const struct learning *restrict l, struct adam a, float *restrict x, float *restrict mean, float *restrict square)
{
    for (size_t i = 0; i < b->k * ROWS; i += ROWS) {
        size_t at = b->at[i / ROWS];
        const float *lo = b->lo + at, *hi = b->hi + at, *weight = l->weight + at;
        for (size_t r = 0; r < ROWS; r++) {
            float code = l->down[i + r] + stretched(sigmoid[i + r]);
            float d = gradient(sigmoid[i + r], code, lo[r], hi[r], g[i + r] * weight[r], a.lambda, a.beta);
            mean[i + r] += (1 - MEMORY_1) * (d - mean[i + r]);
            square[i + r] += (1 - MEMORY_2) * (d * d - square[i + r]);
            x[i + r] -= a.rate * mean[i + r] / (sqrtf(square[i + r] * a.unbias_2) + 1e-8f);
        }
    }
}

/* The penalty waits for the first fifth; beta then falls linearly. */
static struct adam schedule(int at, int steps)
{
    double done = (double)at / steps, late = (done - 0.2) / 0.8;
    return (struct adam){
        .lambda = late > 0 ? LAMBDA : 0,
        .rate = RATE / (float)(1 - pow((double)MEMORY_1, at + 1)),
        .unbias_2 = (float)(1 / (1 - pow((double)MEMORY_2, at + 1))),
        .beta = late > 0 ? (int)rint(BETA_FIRST + (BETA_LAST - BETA_FIRST) * late) : BETA_FIRST,
    };
}

static void harden(struct row_block *b, const struct learning *l)
{
    for (size_t i = 0; i < b->k * ROWS; i++)
        b->q[i] = clamped(l->down[i] + (l->x[i] >= 0), b->lo[b->at[i / ROWS] + i % ROWS], b->hi[b->at[i / ROWS] + i % ROWS]);
}

void row_block_learn(struct row_block *b, int steps, float *scratch)
{
    size_t size = b->k * ROWS;
    struct learning l = { scratch, scratch + size, scratch + 2 * size, scratch + 3 * size, scratch + 4 * size };
    double unused[ROWS];
    start(b, &l);
    for (int at = 0; at < steps; at++) {
        vec_sigmoid(size, l.x, b->work);
        soften(b, l.down, b->work, b->q);
        row_block_errors(b, unused);
        move(b, b->g, b->work, &l, schedule(at, steps), l.x, l.mean, l.square);
    }
    harden(b, &l);
}
