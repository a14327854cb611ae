/*
 * narrow.h - constants that lie in the model as float16 or bfloat16 and are read as float32 (graph.h), at the time they are read.
 *
 * They become float32 in the frame, one node's at a time, so no more than a layer's is there twice.  What only
 * moves elements about (a table's rows) runs on 16 bits, and its output becomes float32.
 */
#ifndef CORE_EXEC_NARROW_H
#define CORE_EXEC_NARROW_H

#include "core/exec/op.h"
#include "core/exec/plan.h"

/* The frame's tensors of those among the values become float32, until the next call.  Passed over: -1, and inputs that `edit` gives
 * (NULL: none). */
bool narrow_widen(struct frame *f, const int *values, int n, const struct edit *edit, struct err *e);

/* Runs the operator where its first input is such a constant and it moves elements about; *ret_done tells whether it is one. */
bool narrow_move(struct frame *f, const struct op_impl *impl, const struct op_args *a, bool *ret_done, struct err *e);

#endif
