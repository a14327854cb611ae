/*
 * quantizer.h - ranges to quantizers, weights to codes.
 *
 *     q = clamp(rint(x / scale) + zero, qmin, qmax)      x' = (q - zero) * scale
 *
 * Jacob et al. 2018 (arXiv 1712.05877), section 2.1, with ONNX's rounding (half to even).
 */
#ifndef CORE_QUANT_QUANTIZER_H
#define CORE_QUANT_QUANTIZER_H

#include "core/base/arena.h"
#include "core/base/half.h"
#include "core/graph/roles.h"
#include "core/kernel/affine.h"
#include "core/quant/weight_grid.h"

/*
 * The quantizer of `bits` (2..8) bits that covers [lo, hi], widened to hold 0.
 * symmetric: int8 codes in [-2^(b-1), 2^(b-1)-1] around 0, scale = max|x| / (2^(b-1)-1).
 * else: uint8 codes in [0, 2^b-1]; the zero point is rounded, so either end may lose up to half a step.
 * A range of zero width (a constant-zero tensor) gets scale 1.  lo and hi are finite.
 */
struct affine quantizer_from_range(float lo, float hi, int bits, bool symmetric);

/* The quantizer of [-1, 1] around 0, in codes of -(2^(b-1)-1) to 2^(b-1)-1 from the zero point. */
struct affine quantizer_unit(int bits, bool symmetric);

/* The values of the lowest and the highest code. */
void quantizer_limits(const struct affine *a, float *ret_lo, float *ret_hi);

/*
 * A quantized weight matrix: codes [k, n] for linears (always, whatever the source's layout), [n, k] for convolutions;
 * w'[.., j] = (codes - zero[j]) * scale[j], one scale per output channel or one for several (still n entries); or of groups of
 * inputs, [k / group, n].  With two levels codes are (stored - stored_zero) * step, stored being what has `bits` bits.
 * It multiplies the layer's input as it is quantized: where that has channel factors, w' is for the scaled input.
 */
struct qweight {
    int8_t *codes;             /* in [-2^(bits-1), 2^(bits-1)-1]; with two levels any */
    float *scale;              /* [groups, n], > 0 */
    int8_t *zero;              /* [groups, n], in the range of the codes; NULL: symmetric, all 0 */
    float *bias;               /* [n]: stands for the layer's own bias; NULL: that stays */
    size_t k, n;
    size_t group;              /* inputs that share a row of scales; 0: all, groups is 1 */
    size_t step_group;         /* two levels: inputs that share a row of steps; 0: one level */
    uint8_t *step;             /* [k / step_group, n], >= 1; NULL: one level */
    int8_t *stored_zero;       /* [k / step_group, n]; NULL: all 0 */
    size_t rank;               /* w' + low_u low_v stands for the weight: float matrices [k, rank], [rank, n]; 0: none */
    float *low_u, *low_v;
    int bits;
    double signal, error;      /* sums of squares of the weights and of what rounding changed, less what the matrices give back */
    int64_t zero_channels;     /* channels that are all zero (their scale is 1, or what a bias needs) */
    double rounding_gain_db;   /* of the expected output error, against rounding to nearest in the same ranges; 0: that is what was done */
    double bias_gain_db;       /* of the expected output error, by a corrected bias; 0 without */
};

/* Room for a layer's codes, scales, and zero points unless symmetric; ERR_MEMORY. */
bool qweight_new(const struct layer *l, int bits, const struct weight_grid *grid, bool symmetric, struct arena *mem, struct qweight *ret,
                 struct err *e);

/*
 * Rounds a layer's weights to nearest; mul: channel factors [k] that its input was multiplied by and they are divided by, or NULL.
 * ERR_NUMERIC_NONFINITE names the tensor and the channel of a NaN or infinity.
 */
bool qweight_round(const struct graph *g, const struct layer *l, const float *mul, int bits, const struct weight_grid *grid,
                   bool symmetric, struct arena *mem, struct qweight *ret, struct err *e);

static inline size_t qweight_groups(const struct qweight *w) { return w->group ? w->k / w->group : 1; }
/* How many scales there are; how many steps. */
static inline size_t qweight_scales(const struct qweight *w) { return qweight_groups(w) * w->n; }
static inline size_t qweight_steps(const struct qweight *w) { return w->step_group ? w->k / w->step_group * w->n : 0; }
/* Where the scale of (channel, input) stands. */
static inline size_t qweight_scale_at(const struct qweight *w, size_t channel, size_t input)
{
    return (w->group ? input / w->group : 0) * w->n + channel;
}

/* A bias in units of `scale`: rint(b / scale) in int32, saturated. */
int32_t quantizer_bias(float b, float scale);

/* n codes in [-8, 7] as ONNX stores INT4: two to a byte, the first in the low half; ret has (n + 1) / 2 bytes. */
void pack_int4(size_t n, const int8_t *codes, uint8_t *ret);

/*
 * Counts of a layer's weights before and after rounding, on the same n equal bins over [lo, hi] (the largest |w|).
 * mul: channel factors [k] of the input, undone here so that both are in the model's units; or NULL.
 */
void qweight_histogram(const struct graph *g, const struct layer *l, const struct qweight *w, const float *mul, size_t n,
                       float *ret_lo, float *ret_hi, uint64_t *before, uint64_t *after);

/* The bias that goes with the weight: its own, else the layer's; NULL: none. */
static inline const float *qweight_bias(const struct qweight *w, const struct graph *g, const struct layer *l)
{
    return w->bias ? w->bias : layer_bias(g, l);
}

/*
 * A convolution's bias is an int32 in units of x_scale times its channel's scale.  Where weights are so small that it would not fit, or
 * all zero so that their scale says nothing of it, the scales change and the codes are rounded again: what that costs is far below
 * the bias's share of an output step, and is not counted in `error`.  rows: of the grid, so many channels share a scale; 0: all do.
 * Tells whether anything changed.
 */
bool qweight_fit_bias(const struct graph *g, const struct layer *l, size_t rows, float x_scale, struct qweight *io);

/* A convolution whose output channels are scaled by mul (NULL: 1) before they are quantized, all [n]. */
struct conv_scales {
    const float *weight;       /* scale of the codes: weight scale * mul */
    const float *sums;         /* of the integer sums: x_scale * weight */
    const float *bias;         /* bias * mul; NULL: none */
    const float *post;         /* 1 / mul; NULL without mul */
};
bool conv_scales(const struct layer *l, const struct qweight *w, const struct graph *g, float x_scale, const float *mul,
                 struct arena *mem, struct conv_scales *ret, struct err *e);

/* Element (output channel, input) of a layer's weight as it lies in the model. */
struct weight_source {
    const float *w;            /* NULL: half */
    const uint16_t *half;
    enum dtype half_as;
    size_t step_k, step_n;
    const float *mul;          /* [k]: divided by these, or NULL */
};
struct weight_source weight_source_of(const struct graph *g, const struct layer *l);
/* Without the division: number i as it lies, and that of a channel. */
static inline float weight_number(const struct weight_source *s, size_t i)
{
    return s->w ? s->w[i] : half_of(s->half_as, s->half[i]);
}
static inline float weight_at(const struct weight_source *s, size_t k, size_t channel)
{
    return weight_number(s, k * s->step_k + channel * s->step_n);
}
/* The weights as rows of output channels, [n, k], into ret.  ERR_NUMERIC_NONFINITE as qweight_round(). */
bool weight_rows(const struct graph *g, const struct layer *l, float *ret, struct err *e);
/* Where the code of (channel, input) stands in qweight.codes. */
static inline size_t qweight_at(const struct layer *l, size_t channel, size_t input)
{
    return l->kind == LAYER_CONV ? channel * (size_t)l->k + input : input * (size_t)l->n + channel;
}
/* The largest |code - zero| there can be. */
int qweight_reach(const struct qweight *w);

/* codes minus zero points as floats in the same order, for gemm_exact(). */
float *qweight_floats(const struct qweight *w, const struct layer *l, struct arena *mem, struct err *e);

#endif
