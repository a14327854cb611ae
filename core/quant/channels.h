/*
 * channels.h - from one range per channel to one scale and one integer zero point for the tensor.
 *
 *     x~[c] = x[c] * mul[c] + add[c]          codes = clamp(rint(x~ / scale) + zero, 0, 2^b - 1)
 *
 * gives every channel the codes that its own quantizer would give.  A linear that read x reads x~ instead with the weights
 * W~[:, c] = W[:, c] / mul[c] and the bias b~ = b - W~ add; x itself is (x~ - add) / mul.  The offset and the factor fold into the
 * norm that makes x, so they cost nothing there.  With s_c = (hi - lo) / (2^b - 1), s~ = scale = mean s_c and r_c = s_c / s~:
 *     mul = 1 / r_c          add = -s~ (zero + lo_c / s_c)
 *
 * Li et al., RepQ-ViT (arXiv 2212.08254); the offset need not be a whole number of steps, since it goes into add.
 */
#ifndef CORE_QUANT_CHANNELS_H
#define CORE_QUANT_CHANNELS_H

#include "core/quant/clip.h"

struct channel_fold {
    float scale;            /* > 0 */
    int zero;               /* in [0, 2^b - 1]: uint8 codes */
    float *mul, *add;       /* [channels]; mul in [1e-3, 1e3]; from the arena */
};

enum channel_offset {
    OFFSET_FREE,            /* zero = 2^(b-1); lo and hi fall on the outermost codes */
    OFFSET_INTEGER,         /* lo becomes a multiple of s_c: the channel's own quantizer has an integer zero point, as in the paper;
                               zero is the rounded mean of them, kept within the codes */
};

/*
 * The steps s_c of ranges at `bits` (2..8), kept within a factor 1000 of each other (1e-3 of the median and of the mean at
 * least, 1000 times the mean at most) and >= 1e-8: channels that do not vary get such a step around their value.  mem: scratch.
 */
bool channel_steps(const struct ranges *r, size_t channels, int bits, struct arena *mem, float *ret_step, struct err *e);

bool channel_fold(const struct ranges *r, size_t channels, int bits, enum channel_offset offset, struct arena *mem,
                  struct channel_fold *ret, struct err *e);

/*
 * Where no offset can be added (add is all 0): one zero point for all channels and a factor each, so that every value in
 * [lo, hi] and 0 is represented to half a step.  energy: [channels] |W[:, c]|^2, decides which channels' steps matter, or
 * NULL.  No step is below the quantile `floor` (0: no floor; .9 for GELU) of the channels' steps: channels that were quiet
 * in calibration may not be later.
 */
bool channel_fold_scales(const struct ranges *r, size_t channels, int bits, const float *energy, double floor, struct arena *mem,
                         struct channel_fold *ret, struct err *e);

/*
 * The same with all steps times the factor of .25 .. 12 (1 .. 12 at 8 bits) that minimises sum_c |W[:, c]|^2 (squared error of
 * channel c on the rows).  With a factor below 1 the zero point either follows the lower end, so that full->lo still has
 * a code (GELU), or stays and both ends are clipped (values of both signs), whichever has the smaller error.  full: extremes
 * over all data.  ret_factor: the factor.
 */
bool channel_fold_anchored(const struct rows *r, const struct ranges *full, int bits, const float *energy, double floor,
                           struct pool *pool, struct arena *mem, struct channel_fold *ret, double *ret_factor, struct err *e);

/* |W[:, c]|^2 of w [outputs, channels] into ret [channels]. */
void channel_energy(const float *w, size_t outputs, size_t channels, float *ret);

/*
 * Trades error of activations against error of weights: steps k g (s_c / g)^alpha around the middles of io, g their geometric
 * mean, alpha in {1, .85, .7, .5, .3, .15, 0}; alpha 0 is clip_common()'s range for all.  k (1 for alpha 1) minimises
 * sum_c |W[:, c]|^2 (squared error); alpha the error of X W^T on at most 576 rows with weights rounded to nearest in
 * weight_bits (asymmetric, a range per row) and the bias corrected.  w: [outputs, channels], all consumers stacked.
 * io: the ranges found.  mem: about (576 + outputs) (channels + outputs) floats a thread.  Threads do not change a bit.
 */
bool channel_exponent(const struct rows *r, const struct ranges *full, const float *w, size_t outputs, int bits, int weight_bits,
                      struct pool *pool, struct arena *mem, struct ranges *io, double *ret_alpha, struct err *e);

/*
 * Sums of squared errors of `choices` candidate quantizers on every channel; the shape of a search over a factor common to all.
 * level(arg, choice, channel, &lo, &step) names a candidate.  ret: [choices] of sum_c energy[c] * error; mem: scratch.
 */
typedef void channel_level(const void *arg, size_t choice, size_t channel, float *ret_lo, float *ret_step);
bool channel_costs(const struct rows *r, int bits, const float *energy, size_t choices, channel_level *level, const void *arg,
                   struct pool *pool, struct arena *mem, double *ret, struct err *e);

#endif
