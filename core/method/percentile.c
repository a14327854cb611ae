/* percentile.c - ranges leave a fixed small fraction of the values outside, at either end. */
#include "core/method/method.h"

const struct method method_percentile = {
    "percentile", .wants_rows = method_no_rows, .wants_moments = method_rebuilds, .site = method_site, .weights = method_rebuild_weights,
};
