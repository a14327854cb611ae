/*
 * half.h - the two 16-bit floats of ONNX as float32, exactly.
 */
#ifndef CORE_BASE_HALF_H
#define CORE_BASE_HALF_H

#include "core/base/tensor.h"

#include <stdint.h>
#include <string.h>

static inline float half_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Exponent and mantissa in float32's place are the number times 2^-112, denormals too; infinity and NaN have the largest exponent. */
static inline float half_of_f16(uint16_t h)
{
    float x = half_bits((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;
    uint32_t bits, special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    memcpy(&bits, &x, sizeof bits);
    return half_bits(bits | special | (uint32_t)(h & 0x8000) << 16);
}

/* bfloat16 is the upper half of a float32. */
static inline float half_of_bf16(uint16_t h) { return half_bits((uint32_t)h << 16); }

/* from: DT_F16 or DT_BF16. */
static inline float half_of(enum dtype from, uint16_t h) { return from == DT_F16 ? half_of_f16(h) : half_of_bf16(h); }

#endif
