/* window.h - what rules and kernels of pooling, Resize and Einsum must agree on. */
#ifndef CORE_GRAPH_WINDOW_H
#define CORE_GRAPH_WINDOW_H

#include "core/graph/graph.h"

enum { WINDOW_AXES = 3 };

/* Pooling over n spatial axes. */
struct window {
    int n;
    int64_t kernel[WINDOW_AXES], stride[WINDOW_AXES], dilation[WINDOW_AXES], before[WINDOW_AXES], after[WINDOW_AXES];
};

/* The node's geometry on an image of these lengths; false: its attributes are not possible. */
bool window_of(const struct node *n, const int64_t *image, int axes, struct window *ret);
/* The length of an output axis, or -1. */
int64_t window_length(const struct node *n, const struct window *w, int axis, int64_t length);

/* An Einsum's letters: label[k][d] is the number of the letter of axis d of operand k (the last one: of the output). */
enum { EINSUM_OPERANDS = 3, EINSUM_LABELS = 16 };
struct einsum {
    int labels, rank[EINSUM_OPERANDS + 1], label[EINSUM_OPERANDS + 1][TENSOR_MAX_RANK];
};
/* NULL, or what is wrong with the equation. */
const char *einsum_parse(const char *equation, int operands, const int *ranks, struct einsum *ret);

#endif
