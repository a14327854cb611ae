/*
 * fold_check.h - the promise of every fold: on the float numbers nothing has changed.
 *
 * A norm that takes up channel factors gives x~ = x * mul + shift, and its linears multiply W / mul and add
 * b - (W / mul) shift.  On some rows of every job's first chunk y = W x + b is compared with what the scaled norm leads to.
 * On all rows of the chunk the codes are compared: channel c quantized with a step of its own, s / mul[c], and the zero point
 * z + shift[c] / s, has the code of the scaled channel, but for what float32 loses of the norm's terms.  Channels whose zero point
 * is not an integer have no such quantizer.
 */
#ifndef CORE_SWEEP_FOLD_CHECK_H
#define CORE_SWEEP_FOLD_CHECK_H

#include "core/sweep/sweep.h"

enum { FOLD_ROWS = 8 };
#define FOLD_TOLERANCE 1e-4            /* of the largest output */
#define FOLD_CODES 1e-4                /* of the codes may differ, by 1: a value between two codes falls to either side */

/* x, scaled: [rows, channels], the norm's output as the model has it and as it is now.  ERR_BUG names the layer. */
bool fold_check(const struct sweep_task *t, const struct sweep *s, int site, const float *x, const float *scaled, size_t rows,
                struct err *e);

#endif
