/* compensate.h - what rounding took from a weight, given back in part by two thin float matrices (quant/low_rank.h). */
#ifndef CORE_SWEEP_COMPENSATE_H
#define CORE_SWEEP_COMPENSATE_H

#include "core/sweep/sweep.h"

/* Sets w's matrices, error and corrected bias; the recipe says the rank (0, or a convolution: nothing happens).  v->rows 0: all inputs
 * are taken to be alike.  What is set may lie in `mem`. */
bool compensate(const struct recipe *r, const struct weight_view *v, struct arena *mem, struct qweight *w, struct err *e);

#endif
