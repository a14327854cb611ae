/*
 * zeroquant.c - ZeroQuant (Yao et al., arXiv 2206.01861): a range for each token of what linears read, found while the
 * artifact runs (graph/unit_rows.h), under weights to nearest or rebuilt.
 *
 * Products of attention and convolutions have static ranges, the extremes of calibration.
 */
#include "core/method/method.h"

static bool wants_moments(const struct recipe *r) { return r->weights.rounding != RECIPE_NEAREST || r->reconstruction.bias_correction; }

const struct method method_zeroquant = {
    "zeroquant", .wants_rows = method_no_rows, .wants_moments = wants_moments, .site = method_site, .weights = method_rebuild_weights,
};
