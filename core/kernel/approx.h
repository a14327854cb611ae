/*
 * approx.h - exp, erf, tanh and sigmoid of one float, without branches or tables, so that a loop
 * over them is vectorised.  Private to core/kernel.
 *
 * The coefficients are minimax fits of our own (relative error of the fit beside each).  Those of
 * the rational ones are positive, so nothing cancels.  Polynomials are written in pairs, which
 * shortens the chain of dependent operations.  NaN passes through; no float is ever converted
 * to an integer.
 */
#ifndef CORE_KERNEL_APPROX_H
#define CORE_KERNEL_APPROX_H

#include "core/kernel/bits.h"
#include "core/kernel/clones.h"

#include <math.h>

/* 2^n for n in [-126, 127], in two's complement. */
KERNEL_INLINE float power_of_two(uint32_t n) { return bits_float((n + 127) << 23); }

/* Adding this rounds to an integer and leaves it in the low bits of the sum. */
#define ROUNDER 0x1.8p23f

/* e^(x - n ln 2) for n = rint(x / ln 2), so |r| <= ln 2 / 2.  Fit: 3.1e-9. */
KERNEL_INLINE float exp_reduced(float x, float n)
{
    float r = (x - n * 0x1.62e4p-1f) - n * 1.42860682e-6f;    /* ln 2: its head, exact in products, and the rest */
    float r2 = r * r;
    float p = (4.999999345e-1f + 1.666652068e-1f * r) +
              r2 * ((4.166838762e-2f + 8.368711011e-3f * r) + r2 * 1.381460066e-3f);
    return 1 + (r + r2 * p);
}

/* 2^n is applied in two halves, so that results that are denormal or overflow round once, at the end. */
KERNEL_INLINE float exp_of(float x)
{
    x = x > 88.8f ? 88.8f : x;        /* beyond: infinity */
    x = x < -104.0f ? -104.0f : x;    /* beyond: 0 */
    float sum = x * 0x1.715476p0f + ROUNDER;
    uint32_t exponent = float_bits(sum) - float_bits(ROUNDER);
    uint32_t half = (uint32_t)((int32_t)exponent >> 1);
    return exp_reduced(x, sum - ROUNDER) * power_of_two(half) * power_of_two(exponent - half);
}

/* e^x for x <= 0 in three quarters of the time; below e^-87, about the smallest normal float, it is 0. */
KERNEL_INLINE float exp_of_negative(float x)
{
    const float biased = ROUNDER + 127;    /* the low bits of the sum are then an exponent as floats have it */
    float sum = x * 0x1.715476p0f + biased;
    float y = exp_reduced(x, sum - biased) * bits_float(float_bits(sum) << 23);
    return x < -87 ? 0 : y;
}

/* 1 / (1 + e^-x), its fraction multiplied by e^x where x < 0, so that nothing overflows. */
KERNEL_INLINE float sigmoid_of(float x)
{
    float e = exp_of_negative(bits_float(float_bits(x) | 0x80000000u));    /* e^-|x| */
    return (x < 0 ? e : 1) / (1 + e);
}

/*
 * tanh and erf are x P(x^2) / Q(x^2) up to a limit.  Beyond it P / Q stays at 1 / limit, the product
 * exceeds 1 and is cut, so that the result is exactly 1: gelu(-100) is -50 times what is missing.
 */
KERNEL_INLINE float cut(float y)
{
    y = y > 1 ? 1 : y;
    return y < -1 ? -1 : y;
}

/*
 * x^2, at most `limit`.  Positive floats are ordered as their bits, and a minimum of integers stays
 * one instruction.  NaN becomes `limit`; x is still a factor of the result.
 */
KERNEL_INLINE float square_up_to(float limit, float x)
{
    uint32_t square = float_bits(x * x), most = float_bits(limit);
    return bits_float(square < most ? square : most);
}

/* Up to 9.  Fit: 2.2e-8. */
KERNEL_INLINE float tanh_of(float x)
{
    float s = square_up_to(81, x);
    float s2 = s * s;
    float p = (9.999999785e-1f + 1.337745799e-1f * s) +
              s2 * ((3.49134535e-3f + 2.053901362e-5f * s) + s2 * 1.325702741e-8f);
    float q = (1 + 4.671077279e-1f * s) +
              s2 * ((2.58608559e-2f + 3.278685775e-4f * s) + s2 * 7.736717838e-7f);
    return cut(x * p / q);
}

/* Up to 3.95.  Fit: 2.1e-8. */
KERNEL_INLINE float erf_of(float x)
{
    float s = square_up_to(15.6025f, x);
    float s2 = s * s;
    float p = (1.128379144f + 1.915092072e-1f * s) +
              s2 * ((5.286959599e-2f + 3.806279998e-3f * s) + s2 * (2.846264059e-4f + 2.025982135e-6f * s));
    float q = (1 + 5.030533015e-1f * s) +
              s2 * ((1.145422575e-1f + 1.505134341e-2f * s) + s2 * (1.170233493e-3f + 3.782934161e-5f * s));
    return cut(x * p / q);
}

#endif
