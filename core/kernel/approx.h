/*
 * approx.h - exp, erf, tanh and sigmoid of one float, without branches or tables, so that a loop
 * over them is vectorised.  Private to core/kernel.
 *
 * The coefficients are minimax fits of our own (relative error of the fit beside each); every
 * denominator and numerator has positive coefficients only, so nothing cancels.
 * NaN passes through; no float is ever converted to an integer.
 */
#ifndef CORE_KERNEL_APPROX_H
#define CORE_KERNEL_APPROX_H

#include "core/kernel/bits.h"
#include "core/kernel/clones.h"

#include <math.h>

/* 2^n for n in [-126, 127], given in two's complement. */
KERNEL_INLINE float power_of_two(uint32_t n) { return bits_float((n + 127) << 23); }

/*
 * e^x = 2^n e^r with n = rint(x / ln 2), |r| <= ln 2 / 2.  Adding 1.5 * 2^23 rounds to an integer
 * and leaves it in the low bits of the sum.  2^n is applied in two halves, so that results that
 * are denormal or overflow round once, at the end.  Fit: 3.1e-9.
 */
KERNEL_INLINE float exp_of(float x)
{
    const float round = 0x1.8p23f;
    x = x > 88.8f ? 88.8f : x;        /* beyond: infinity */
    x = x < -104.0f ? -104.0f : x;    /* beyond: 0 */
    float sum = x * 0x1.715476p0f + round, n = sum - round;
    float r = (x - n * 0x1.62e4p-1f) - n * 1.42860682e-6f;    /* ln 2 = a part exact in products + the rest */
    float p = 1.381460066e-3f;
    p = p * r + 8.368711011e-3f;
    p = p * r + 4.166838762e-2f;
    p = p * r + 1.666652068e-1f;
    p = p * r + 4.999999345e-1f;
    float y = 1 + (r + r * r * p);
    uint32_t exponent = float_bits(sum) - float_bits(round);
    uint32_t half = (uint32_t)((int32_t)exponent >> 1);
    return y * power_of_two(half) * power_of_two(exponent - half);
}

/* e^-x is 0 at one end and infinity, with 0 as reciprocal, at the other: right at both. */
KERNEL_INLINE float sigmoid_of(float x) { return 1 / (1 + exp_of(-x)); }

/* y within [-1, 1], and exactly at its ends beyond |x| = limit. */
KERNEL_INLINE float saturate(float x, float limit, float y)
{
    y = y > 1 ? 1 : y;    /* one test a line: || is a branch */
    y = x > limit ? 1 : y;
    y = y < -1 ? -1 : y;
    return x < -limit ? -1 : y;
}

/* x P(x^2) / Q(x^2); beyond 9 it is 1 to the last bit.  Fit: 2.2e-8. */
KERNEL_INLINE float tanh_of(float x)
{
    float s = x * x;
    s = s > 81 ? 81 : s;
    float p = 1.325702741e-8f, q = 7.736717838e-7f;
    p = p * s + 2.053901362e-5f;
    p = p * s + 3.49134535e-3f;
    p = p * s + 1.337745799e-1f;
    p = p * s + 9.999999785e-1f;
    q = q * s + 3.278685775e-4f;
    q = q * s + 2.58608559e-2f;
    q = q * s + 4.671077279e-1f;
    q = q * s + 1;
    return saturate(x, 9, x * p / q);
}

/*
 * x P(x^2) / Q(x^2); beyond 3.95 it is 1 to the last bit, and must be exactly 1: gelu(-100) is
 * -50 times what is missing.  Fit: 2.1e-8.
 */
KERNEL_INLINE float erf_of(float x)
{
    float s = x * x;
    s = s > 15.6025f ? 15.6025f : s;
    float p = 2.025982135e-6f, q = 3.782934161e-5f;
    p = p * s + 2.846264059e-4f;
    p = p * s + 3.806279998e-3f;
    p = p * s + 5.286959599e-2f;
    p = p * s + 1.915092072e-1f;
    p = p * s + 1.128379144f;
    q = q * s + 1.170233493e-3f;
    q = q * s + 1.505134341e-2f;
    q = q * s + 1.145422575e-1f;
    q = q * s + 5.030533015e-1f;
    q = q * s + 1;
    return saturate(x, 3.95f, x * p / q);
}

#endif
