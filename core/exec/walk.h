/*
 * walk.h - a walk over a row-major space in runs along its innermost dimension:
 *
 *     for (walk_broadcast(&w, out, in, n_in); w.more; walk_next(&w))
 *         ... w.n elements; operand k's start at at[k], step[k] apart
 *
 * Dimensions of 1 are dropped and neighbours that are contiguous for every operand are merged,
 * so equal shapes make one run, and a row added to a matrix one run a row.
 */
#ifndef CORE_EXEC_WALK_H
#define CORE_EXEC_WALK_H

#include "core/base/tensor.h"

#include <stdbool.h>

enum { WALK_OPERANDS = 4 };
typedef int64_t walk_strides[TENSOR_MAX_RANK];

struct walk {
    bool more;
    int64_t n;
    int64_t at[WALK_OPERANDS], step[WALK_OPERANDS];   /* in elements */
    int operands, rank;                               /* rank: of what lies outside the runs */
    int64_t dim[TENSOR_MAX_RANK], index[TENSOR_MAX_RANK];
    walk_strides stride[WALK_OPERANDS];
};

void walk_init(struct walk *w, const struct shape *space, int operands, const walk_strides *strides);
void walk_next(struct walk *w);

/* Operand 0 is the contiguous space itself, operand 1 + i is in[i] broadcast to it (NULL: left at 0). */
void walk_broadcast(struct walk *w, const struct shape *space, const struct tensor *const *in, int n_in);

/* Strides, in elements, of a contiguous array; and of one broadcast to a space of at least its rank. */
void strides_of(const struct shape *s, walk_strides ret);
void strides_broadcast(const struct shape *s, const struct shape *space, walk_strides ret);

/* y[index] = x[sum of index * stride] over y's space, in elements of `size` bytes. */
void strided_copy(int64_t size, const struct shape *space, const walk_strides stride, const void *x, void *y);

#endif
