/* minmax.c - ranges are what was seen: no value of the calibration set is clipped. */
#include "core/method/method.h"

static void range(const struct recipe *r, const struct observer *o, int bits, float *ret_lo, float *ret_hi)
{
    (void)r;
    (void)bits;
    *ret_lo = o->range.lo;
    *ret_hi = o->range.hi;
}

const struct method method_minmax = { "minmax", range, method_round_weights };
