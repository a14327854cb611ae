/*
 * zeroquant.c - ZeroQuant (Yao et al., arXiv 2206.01861): a range for each token of what linears read, found while the
 * artifact runs (graph/unit_rows.h), under weights to nearest or rebuilt.
 *
 * Products of attention and convolutions have static ranges, the extremes of calibration.
 */
#include "core/method/method.h"

const struct method method_zeroquant = {
    "zeroquant", .wants_rows = method_no_rows, .wants_moments = method_rebuilds, .site = method_site, .weights = method_rebuild_weights,
};
