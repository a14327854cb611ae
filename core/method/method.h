/* method.h - the methods a recipe can name, in one table. */
#ifndef CORE_METHOD_METHOD_H
#define CORE_METHOD_METHOD_H

#include "core/sweep/method.h"

const struct method *method_find(enum recipe_method m);

/* One a file. */
extern const struct method method_minmax, method_percentile;

/* Round to nearest at the recipe's granularity: what every plain method does to weights. */
bool method_round_weights(const struct recipe *r, const struct graph *g, const struct layer *l, int bits, struct arena *mem,
                          struct qweight *ret, struct err *e);

#endif
