/*
 * percentile.c - ranges leave a fixed small fraction of the values outside, at either end.
 *
 * A percentile p keeps [quantile(1 - p/100), quantile(p/100)] of what the site
 * showed over all calibration samples.
 */
#include "core/method/method.h"

static void range(const struct recipe *r, const struct observer *o, int bits, float *ret_lo, float *ret_hi)
{
    (void)bits;
    double p = r->activations.percentile / 100;
    *ret_lo = observer_quantile(o, 1 - p);
    *ret_hi = observer_quantile(o, p);
}

const struct method method_percentile = { "percentile", range, method_round_weights };
