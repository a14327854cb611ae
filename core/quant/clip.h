/*
 * clip.h - ranges for a quantizer with one range per channel.
 *
 * A channel is an index of the last axis.  Its quantizer rounds to 2^b evenly spaced levels from lo to hi, lo being
 * any number: x' = lo + s clamp(rint((x - lo) / s), 0, 2^b - 1), s = (hi - lo) / (2^b - 1).  Ranges are in units of x.
 * How such quantizers become one quantizer of the whole tensor is in channels.h.
 *
 * Li et al., RepQ-ViT (arXiv 2212.08254): percentiles, as in its published code.  Li et al., RepQuant (arXiv 2402.05628):
 * learnt clipping of both ends; the loss and the optimiser here are our own.
 */
#ifndef CORE_QUANT_CLIP_H
#define CORE_QUANT_CLIP_H

#include "core/base/arena.h"
#include "core/base/pool.h"

#include <stdint.h>

/* Sampled rows of a tensor; borrowed.  n >= 1, channels >= 1. */
struct rows {
    const float *x;             /* [n, channels], finite */
    size_t n, channels;
    const float *weight;        /* [n] >= 0: how often a row counts; NULL: once each */
    const float *columns;       /* [channels, n]: x transposed, by rows_prepare() */
};

/* Fills r->columns from mem (n * channels floats) unless it is there.  Whatever takes rows below wants them prepared. */
bool rows_prepare(struct rows *r, struct arena *mem, struct err *e);

struct ranges { float *lo, *hi; };      /* [channels] each, finite, lo <= hi */

bool ranges_new(size_t channels, struct arena *mem, struct ranges *ret, struct err *e);

enum clip_rule {
    CLIP_MINMAX,        /* `full` as it is */
    CLIP_PERCENTILE,    /* of [1-p, p] for p = .999, .9999, .99999 the one with the least squared error; order statistics of the rows */
    CLIP_GRID,          /* shrunk towards the median by .9^k, k < 13: both ends, then upper, lower, upper, lower; least squared error */
};

/*
 * A range per channel by `rule` at `bits` (2..8).  full: the extremes over ALL data, not only over these rows: what a sample
 * misses is clipped for good.  ret may be full.  mem: n floats a thread.  Threads do not change a bit; pool NULL: this thread.
 * CLIP_GRID never has a larger squared error on the rows than CLIP_MINMAX.  ERR_MEMORY.
 */
bool clip_channels(enum clip_rule rule, const struct rows *r, const struct ranges *full, int bits, struct pool *pool,
                   struct arena *mem, struct ranges *ret, struct err *e);

/*
 * One range for all channels: CLIP_GRID's search with 20 factors over at most 65,536 of the
 * values; at 8 bits the extremes.  mem: two floats a value looked at.
 */
bool clip_common(const struct rows *r, const struct ranges *full, int bits, struct pool *pool, struct arena *mem, float *ret_lo,
                 float *ret_hi, struct err *e);

/*
 * For few rows (some dozens), whose extremes say little: mean +- k deviations, k growing with bits (2.68 at 4, 3.95 at 8);
 * a deviation below the channels' mean one is first moved half-way to it.  Above 4 bits widened to `full`.
 * ret may be full.
 */
void clip_deviation(const struct rows *r, const struct ranges *full, int bits, struct ranges *ret);

/*
 * Learns ranges for what the consumers see, the loss being ||(X - X') W^T||^2 = tr(E G E^T), gram = G = W^T W [channels, channels]
 * over all consumers.  Adam from io, 64 steps of 256 rows drawn by seed, gradients straight through the rounding; of the
 * way to the mean of the later steps the whole, half or a quarter is gone, or none of it: io is changed only if the loss
 * over ALL rows falls.  ret_gain_db >= 0 says by how much.  mem: 3 * 256 * channels floats and a few rows.  ERR_MEMORY.
 */
bool clip_learn(const struct rows *r, const float *gram, int bits, uint64_t seed, struct arena *mem, struct ranges *io,
                double *ret_gain_db, struct err *e);

/* Straight-through gradient of the mean (x' - x)^2 of one channel with respect to its ends: what clip_learn() goes by. */
void clip_gradient(size_t n, const float *x, float lo, float hi, int bits, double *ret_lo, double *ret_hi);

/* ---- shared by the searches ---- */

/* The shares of RepQ-ViT's candidates, lowest first. */
enum { CLIP_PERCENTILES = 3 };
extern const double clip_percentiles[CLIP_PERCENTILES];

/* Step of 2^bits levels over [lo, hi]; > 0 even where hi == lo. */
float clip_step(float lo, float hi, int bits);

/* Element number k in numeric order; reorders x.  n > k, no NaN.  Linear time, n log n at worst. */
float clip_select(size_t n, float *x, size_t k);

#endif
