#include "core/quant/row_block.h"
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

/* Coordinates whose effect on the rest is put off and then taken into account by one product. */
enum { LAZY = 64 };

/* The nearest code.  The limits are integers, so clamping first changes nothing. */
KERNEL_INLINE float nearest(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    x = x > hi ? hi : x;
    return rintf(x);
}

/* ---- rounding to nearest ---- */

KERNEL_CLONES
static void round_rows(const struct row_block *restrict b, const float *restrict v, float *restrict q)
{
    for (size_t i = 0; i < b->k; i++, v += ROWS, q += ROWS) {
        const float *scale = b->scale + b->at[i], *lo = b->lo + b->at[i], *hi = b->hi + b->at[i];
        for (size_t r = 0; r < ROWS; r++)
            q[r] = nearest(v[r] / scale[r], lo[r], hi[r]);
    }
}

void row_block_nearest(struct row_block *b) { round_rows(b, b->v, b->q); }

KERNEL_CLONES
static void weigh(size_t k, const float *restrict v, const float *restrict weight, const struct row_block *restrict b,
                  float *restrict part)
{
    for (size_t i = 0; i < k; i++, v += ROWS)
        for (size_t r = 0; r < ROWS; r++) {
            float off = nearest(v[r] / b->scale[r], b->lo[r], b->hi[r]) * b->scale[r] - v[r];
            part[r] += weight[i] * (off * off);
        }
}

/* Coordinates of one group need not lie together. */
KERNEL_CLONES
static void weigh_groups(const struct row_block *restrict b, const float *restrict weight, double *restrict sum)
{
    const float *v = b->v;
    for (size_t i = 0; i < b->k; i++, v += ROWS) {
        const float *scale = b->scale + b->at[i], *lo = b->lo + b->at[i], *hi = b->hi + b->at[i];
        double *to = sum + b->at[i];
        for (size_t r = 0; r < ROWS; r++) {
            float off = nearest(v[r] / scale[r], lo[r], hi[r]) * scale[r] - v[r];
            to[r] += (double)(weight[i] * (off * off));
        }
    }
}

void row_block_weigh(const struct row_block *b, const float *weight, double *sum)
{
    if (b->groups > 1) {
        weigh_groups(b, weight, sum);
        return;
    }
    for (size_t i = 0; i < b->k; i += LAZY) {
        float part[ROWS] = { 0 };
        weigh(b->k - i < LAZY ? b->k - i : LAZY, b->v + i * ROWS, weight + i, b, part);
        for (size_t r = 0; r < ROWS; r++)
            sum[r] += (double)part[r];
    }
}

/* ---- errors ---- */

KERNEL_CLONES
static void rounding_errors(const struct row_block *restrict b, const float *restrict q, const float *restrict v, float *restrict e)
{
    for (size_t i = 0; i < b->k; i++, q += ROWS, v += ROWS, e += ROWS) {
        const float *scale = b->scale + b->at[i];
        for (size_t r = 0; r < ROWS; r++)
            e[r] = q[r] * scale[r] - v[r];
    }
}

KERNEL_CLONES
static void products(size_t k, const float *restrict e, const float *restrict g, double *restrict sum)
{
    for (size_t i = 0; i < k; i++, e += ROWS, g += ROWS)
        for (size_t r = 0; r < ROWS; r++)
            sum[r] += (double)e[r] * (double)g[r];
}

void row_block_errors(struct row_block *b, double error[ROWS])
{
    rounding_errors(b, b->q, b->v, b->e);
    gemm(false, false, b->k, ROWS, b->k, b->h, b->k, b->e, ROWS, false, b->g, ROWS);
    memset(error, 0, ROWS * sizeof *error);
    products(b->k, b->e, b->g, error);
}

KERNEL_CLONES
static void choose(size_t k, const float *restrict better, float *restrict q, float *restrict best)
{
    for (size_t i = 0; i < k; i++, q += ROWS, best += ROWS)
        for (size_t r = 0; r < ROWS; r++)
            q[r] = best[r] = better[r] > 0 ? q[r] : best[r];
}

void row_block_keep_better(struct row_block *b, const double error[ROWS])
{
    float better[ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        better[r] = error[r] < b->best_error[r];
        if (error[r] < b->best_error[r])
            b->best_error[r] = error[r];
    }
    choose(b->k, better, b->q, b->best);
}

/* ---- GPTQ ---- */

/*
 * Rounds coordinates [0, count) of w in turn; what each rounding lost is made up for by the following ones of this
 * group at once.  e: what each was off, over u's diagonal, for the others.
 */
KERNEL_CLONES
static void gptq_group(size_t count, const float *restrict u, size_t ldu, const struct row_block *restrict b, const size_t *restrict at,
                       float *restrict w, float *restrict q, float *restrict e)
{
    for (size_t i = 0; i < count; i++) {
        const float *from = w + i * ROWS, *scale = b->scale + at[i], *lo = b->lo + at[i], *hi = b->hi + at[i];
        float pivot = u[i * ldu + i];
        for (size_t r = 0; r < ROWS; r++) {
            float code = nearest(from[r] / scale[r], lo[r], hi[r]);
            q[i * ROWS + r] = code;
            e[i * ROWS + r] = (code * scale[r] - from[r]) / pivot;
        }
        for (size_t j = i + 1; j < count; j++)
            for (size_t r = 0; r < ROWS; r++)
                w[j * ROWS + r] += e[i * ROWS + r] * u[i * ldu + j];
    }
}

void row_block_gptq(struct row_block *b, const float *u)
{
    size_t k = b->k;
    float *w = b->work;
    memcpy(w, b->v, k * ROWS * sizeof *w);
    for (size_t i = 0; i < k; i += LAZY) {
        size_t count = k - i < LAZY ? k - i : LAZY, next = i + count;
        gptq_group(count, u + i * k + i, k, b, b->at + i, w + i * ROWS, b->q + i * ROWS, b->e);
        if (next < k)
            gemm(true, false, k - next, ROWS, count, u + i * k + next, k, b->e, ROWS, true, w + next * ROWS, ROWS);
    }
}

/* ---- coordinate descent ---- */

/*
 * A code moves only where it gains more than the rounding of g in float can feign: from the middle between two
 * codes there is nothing to gain.
 */
static const float MARGIN = 0.501f;

/* The step of one coordinate in all rows, in d; returns how many are not 0. */
KERNEL_INLINE int step(const struct row_block *restrict b, size_t at, const float *restrict g, float pivot, float *restrict q,
                       float *restrict d)
{
    int moved = 0;
    const float *scale = b->scale + at, *lo = b->lo + at, *hi = b->hi + at;
    for (size_t r = 0; r < ROWS; r++) {
        float off = g[r] / (pivot * scale[r]);       /* in codes */
        float to = nearest(q[r] - off, lo[r], hi[r]);
        to = fabsf(off) > MARGIN ? to : q[r];
        moved += to != q[r];
        d[r] = (to - q[r]) * scale[r];
        q[r] = to;
    }
    return moved;
}

/* h is that of the group: [count, count] in rows of ldh.  g is the group's own copy. */
KERNEL_CLONES
static size_t descend_group(size_t count, const float *restrict h, size_t ldh, const struct row_block *restrict b,
                            const size_t *restrict at, float *restrict g, float *restrict q, float *restrict d)
{
    size_t moved = 0;
    for (size_t i = 0; i < count; i++) {
        int here = step(b, at[i], g + i * ROWS, h[i * ldh + i], q + i * ROWS, d + i * ROWS);
        moved += (size_t)here;
        for (size_t j = i + 1; here > 0 && j < count; j++)
            for (size_t r = 0; r < ROWS; r++)
                g[j * ROWS + r] += d[i * ROWS + r] * h[i * ldh + j];
    }
    return moved;
}

size_t row_block_descend(struct row_block *b)
{
    size_t k = b->k, moved = 0;
    float *d = b->e, *g = b->work;
    for (size_t i = 0; i < k; i += LAZY) {
        size_t count = k - i < LAZY ? k - i : LAZY;
        memcpy(g, b->g + i * ROWS, count * ROWS * sizeof *g);
        size_t here = descend_group(count, b->h + i * k + i, k, b, b->at + i, g, b->q + i * ROWS, d);
        moved += here;
        if (here > 0)    /* h is symmetric: its rows are its columns */
            gemm(true, false, k, ROWS, count, b->h + i * k, k, d, ROWS, true, b->g, ROWS);
    }
    return moved;
}
