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
#include "core/graph/roles.h"
#include "core/kernel/affine.h"

/*
 * The quantizer of `bits` (2..8) bits that covers [lo, hi], widened to hold 0.
 * symmetric: int8 codes in [-2^(b-1), 2^(b-1)-1] around 0, scale = max|x| / (2^(b-1)-1).
 * else: uint8 codes in [0, 2^b-1]; the zero point is rounded, so either end may lose up to half a step.
 * A range of zero width (a constant-zero tensor) gets scale 1.  lo and hi are finite.
 */
struct affine quantizer_from_range(float lo, float hi, int bits, bool symmetric);

/* The values of the lowest and the highest code. */
void quantizer_limits(const struct affine *a, float *ret_lo, float *ret_hi);

/*
 * A quantized weight matrix: codes [k, n] for linears (always, whatever the source's layout), [n, k] for convolutions;
 * x'[.., j] = codes * scale[j], symmetric, one scale per output channel or one for all (still n entries).
 */
struct qweight {
    int8_t *codes;
    float *scale;              /* [n], > 0 */
    size_t k, n;
    int bits;
    double signal, error;      /* sums of squares of the weights and of what rounding changed */
    int64_t zero_channels;     /* channels that are all zero (their scale is 1) */
};

/* Rounds a layer's weights to nearest.  ERR_NUMERIC_NONFINITE names the tensor and the channel of a NaN or infinity. */
bool qweight_round(const struct graph *g, const struct layer *l, int bits, bool per_channel, struct arena *mem,
                   struct qweight *ret, struct err *e);

/* A bias in units of `scale`: rint(b / scale) in int32, saturated. */
int32_t quantizer_bias(float b, float scale);

/* n codes in [-8, 7] as ONNX stores INT4: two to a byte, the first in the low half; ret has (n + 1) / 2 bytes. */
void pack_int4(size_t n, const int8_t *codes, uint8_t *ret);

/* Counts of a layer's weights before and after rounding, on the same n equal bins over [lo, hi] (the largest |w|). */
void qweight_histogram(const struct graph *g, const struct layer *l, const struct qweight *w, size_t n,
                       float *ret_lo, float *ret_hi, uint64_t *before, uint64_t *after);

/* codes as floats in the same order, for gemm_exact(). */
const float *qweight_floats(const struct qweight *w, struct arena *mem, struct err *e);

#endif
