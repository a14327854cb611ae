/* op_transpose.c - Transpose: a strided copy; large float32 planes go through a blocked kernel. */
#include "core/exec/op_internal.h"

#include "core/kernel/kernel.h"

/* For each output dimension, the stride of the input dimension it came from. */
static void permuted_strides(const struct op_args *a, walk_strides ret)
{
    const struct shape *s = &a->in[0]->shape;
    walk_strides own;
    size_t n;
    const int64_t *perm = node_ints(a->node, "perm", &n);

    strides_of(s, own);
    for (int d = 0; d < s->rank; d++)
        ret[d] = own[perm ? perm[d] : s->rank - 1 - d];
}

bool op_transpose(const struct op_args *a, struct err *e)
{
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    walk_strides stride = { 0 };
    permuted_strides(a, stride);
    strided_copy(size, &a->out[0].shape, stride, a->in[0]->data, a->out[0].data);
    return true;
}

/*
 * The plane that holds both last dimensions: output dimension `along` is the input's contiguous
 * one, the output's own last dimension is strided in the input.  -1: the last dimension is kept
 * (rows are copied whole) or none is contiguous.
 */
static int contiguous_dim(const struct shape *out, const walk_strides stride)
{
    for (int d = 0; d < out->rank - 1; d++)
        if (stride[d] == 1 && out->dim[d] > 1)
            return d;
    return -1;
}

/* Drops dimensions of 1 and merges those that stay neighbours, so that the last one is as long as can be. */
static void simplify(struct shape *out, walk_strides stride)
{
    int rank = 0;
    for (int d = 0; d < out->rank; d++) {
        if (out->dim[d] == 1)
            continue;
        if (rank && stride[rank - 1] == stride[d] * out->dim[d]) {
            out->dim[rank - 1] *= out->dim[d];
            stride[rank - 1] = stride[d];
            continue;
        }
        out->dim[rank] = out->dim[d];
        stride[rank++] = stride[d];
    }
    out->rank = rank;
}

bool op_transpose_fast(const struct op_args *a, struct err *e)
{
    struct shape out = a->out[0].shape;
    walk_strides strides[2] = { { 0 } };
    if (elem_bytes(a->out[0].dtype) != sizeof(float) || !shape_elements(&out))
        return op_transpose(a, e);
    permuted_strides(a, strides[1]);
    simplify(&out, strides[1]);
    strides_of(&out, strides[0]);
    int along = contiguous_dim(&out, strides[1]), last = out.rank - 1;
    if (along < 0)
        return op_transpose(a, e);

    size_t rows = (size_t)out.dim[last], cols = (size_t)out.dim[along];
    size_t ldx = (size_t)strides[1][last], ldy = (size_t)strides[0][along];
    out.dim[last] = out.dim[along] = 1;
    struct walk w;
    for (walk_init(&w, &out, 2, (const walk_strides *)strides); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            transpose_2d(rows, cols, (const float *)a->in[0]->data + w.at[1] + i * w.step[1], ldx,
                         (float *)a->out[0].data + w.at[0] + i * w.step[0], ldy);
    return true;
}
