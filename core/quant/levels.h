/*
 * levels.h - quantizers of a whole tensor, chosen by squared error over what an observer saw of it.
 *
 * Logarithmic levels are for attention probabilities: 2^(-(j + q) / m), m levels an octave, and a code for zero.
 * With m = 2 (base sqrt 2) they are Li et al., RepQ-ViT (arXiv 2212.08254), with one code of the 2^b kept for
 * zero, so that they fit b bits, and the scale a power of the base, so that the ONNX form below needs no table.
 */
#ifndef CORE_QUANT_LEVELS_H
#define CORE_QUANT_LEVELS_H

#include "core/quant/observer.h"

/*
 * The range whose quantizer (quantizer_from_range() of the same bits, 2..8, and symmetry) has the least squared error on the
 * values seen.  Candidates are the extremes shrunk towards the median by .9^k, k < 20: both ends, then upper, lower, upper,
 * lower; never worse than the extremes.  Nothing seen: 0, 0.  ERR_MEMORY.
 */
bool observer_search_range(const struct observer *o, int bits, bool symmetric, float *ret_lo, float *ret_hi, struct err *e);

/* Squared error of that quantizer of [lo, hi], a value, to the histogram's resolution.  Nothing seen: 0.  ERR_MEMORY. */
bool observer_range_error(const struct observer *o, float lo, float hi, int bits, bool symmetric, double *ret, struct err *e);

enum { LOG_MOST_J = 24 };

struct log_levels {
    int bits;                   /* 2..8: levels q = 0 .. 2^bits - 2; code 2^bits - 1 is zero */
    int j;                      /* the highest level is 2^(-j / steps_per_octave), 0..LOG_MOST_J */
    int steps_per_octave;       /* 2: base sqrt 2; 1: base 2 */
    bool extra_zero;            /* below 8 bits: as published, all 2^bits codes are levels and code 2^bits is zero, which b bits cannot hold */
};

/* Chooses io->j by squared error over the values seen, the rest being given; nothing seen: 0.  ERR_MEMORY. */
bool log_levels_search(const struct observer *o, struct log_levels *io, struct err *e);

/*
 * The reference, in double: x [n] >= 0 to codes [n] and to levels y [n]; either may be NULL.  Above the highest level: that
 * level; below half a step under the lowest: zero.
 */
void log_levels_quantize(const struct log_levels *l, size_t n, const float *x, uint8_t *codes, float *y);

/* The code of zero, one above that of the lowest level. */
int log_levels_zero(const struct log_levels *l);
/* The level of a code; 0 for that of zero. */
double log_levels_value(const struct log_levels *l, int code);

/*
 * The same on the logits, as ONNX operators on LogSoftmax(logits):
 *     Mul(to_steps), Round, Clip(min = first), Mul(from_steps), Exp, ThresholdedRelu(alpha)
 */
struct log_form { float to_steps, first, from_steps, alpha; };
struct log_form log_levels_form(const struct log_levels *l);

/*
 * sum_i level(codes[i]) v[i * stride] with shifts only: the highest level times (even + sqrt 2 odd), where level number q adds
 * v 2^-ceil(q / 2) to the sum of its parity.  In base 2 all is even and the shift is q.
 */
struct log_parity { double even, odd; };
struct log_parity log_levels_dot(const struct log_levels *l, size_t n, const uint8_t *codes, const float *v, size_t stride);
double log_parity_value(const struct log_levels *l, struct log_parity p);

#endif
