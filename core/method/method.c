#include "core/method/method.h"

static const struct method *const methods[] = {
    [RECIPE_METHOD_MINMAX] = &method_minmax,
    [RECIPE_METHOD_PERCENTILE] = &method_percentile,
};

const struct method *method_find(enum recipe_method m) { return methods[m]; }

bool method_round_weights(const struct recipe *r, const struct graph *g, const struct layer *l, int bits, struct arena *mem,
                          struct qweight *ret, struct err *e)
{
    return qweight_round(g, l, bits, r->weights.granularity == RECIPE_PER_CHANNEL, mem, ret, e);
}
