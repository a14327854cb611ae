/* minmax.c - ranges are what was seen: no value of the calibration set is clipped. */
#include "core/method/method.h"

const struct method method_minmax = {
    "minmax", .wants_rows = method_no_rows, .wants_moments = method_rebuilds, .site = method_site, .weights = method_rebuild_weights,
};
