/* bits.h - a float as an integer: its representation, and its place in the order of all floats. */
#ifndef CORE_KERNEL_BITS_H
#define CORE_KERNEL_BITS_H

#include "core/kernel/clones.h"

#include <stdint.h>
#include <string.h>

KERNEL_INLINE uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

KERNEL_INLINE float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/*
 * An integer that grows with x: -NaN < -inf < ... < -0 < 0 < ... < inf < NaN.  The compiler
 * vectorises a maximum of integers, which has no NaN to be careful about, and not one of floats.
 */
KERNEL_INLINE int32_t order_of(float x)
{
    int32_t bits = (int32_t)float_bits(x);
    return bits ^ (bits >> 31 & INT32_MAX);
}

KERNEL_INLINE float of_order(int32_t key) { return bits_float((uint32_t)(key ^ (key >> 31 & INT32_MAX))); }

#endif
