/*
 * op_layout.c - tensors whose bytes are moved, whatever they mean: copies, Expand, Slice, Split,
 * Concat, Tile.  Shapes come from the shape rules; nothing is computed from an input that they
 * have not seen, so no value of an input can lead outside the arrays.
 */
#include "core/exec/op_internal.h"

#include <string.h>

/* Reshape, Flatten, Squeeze, Unsqueeze, Identity. */
bool op_same_bytes(const struct op_args *a, struct err *e)
{
    uint64_t bytes;
    if (!dtype_bits(a->out[0].dtype))
        return op_refuse(a, a->out[0].dtype, e);
    if (!tensor_size(a->out[0].dtype, &a->out[0].shape, "", NULL, &bytes, e))
        return false;
    op_copy(a->out[0].data, a->in[0]->data, (int64_t)bytes);
    return true;
}

/* Inference: everything passes. */
bool op_dropout(const struct op_args *a, struct err *e)
{
    const struct tensor *training = op_in(a, 2);
    if (training && training->data && *(const uint8_t *)training->data)
        return op_fail(a, ERR_MODEL_OP, e, "the node is in training mode; export the model for inference");
    if (a->node->n_out > 1 && a->out[1].data)
        memset(a->out[1].data, 1, (size_t)shape_elements(&a->out[1].shape));
    return op_same_bytes(a, e);
}

bool op_expand(const struct op_args *a, struct err *e)
{
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    walk_strides stride = { 0 };
    strides_broadcast(&a->in[0]->shape, &a->out[0].shape, stride);
    strided_copy(size, &a->out[0].shape, stride, a->in[0]->data, a->out[0].data);
    return true;
}

/* The first index that a slice of a dimension takes, clamped as the operator says. */
static int64_t slice_start(int64_t start, int64_t step, int64_t dim)
{
    start = start < 0 ? start + dim : start;
    int64_t top = step < 0 ? dim - 1 : dim;
    return start < 0 ? 0 : start > top ? top : start;
}

bool op_slice(const struct op_args *a, struct err *e)
{
    const struct tensor *x = a->in[0], *starts = op_in(a, 1), *axes = op_in(a, 3), *steps = op_in(a, 4);
    int64_t size = elem_bytes(x->dtype), from = 0;
    if (!size || !starts)
        return op_refuse(a, x->dtype, e);
    if (op_gives_nothing(a))
        return true;                       /* `from` could be past the end */

    walk_strides stride = { 0 };
    strides_of(&x->shape, stride);
    for (int64_t i = 0; i < shape_elements(&starts->shape); i++) {
        int d = op_axis(axes ? op_int(axes, i) : i, x->shape.rank);
        int64_t step = steps ? op_int(steps, i) : 1;
        from += slice_start(op_int(starts, i), step, x->shape.dim[d]) * stride[d];
        stride[d] = a->out[0].shape.dim[d] > 1 ? stride[d] * step : 0;
    }
    strided_copy(size, &a->out[0].shape, stride, (const char *)x->data + from * size, a->out[0].data);
    return true;
}

/* Rows of `part` bytes, `pitch` bytes apart on one side, dense on the other: Split and Concat. */
static void copy_rows(int64_t rows, int64_t part, char *to, int64_t to_pitch, const char *from, int64_t from_pitch)
{
    for (int64_t r = 0; part && r < rows; r++)
        op_copy_row(part, from + r * from_pitch, to + r * to_pitch);
}

bool op_split(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    int64_t size = elem_bytes(a->in[0]->dtype);
    if (!size)
        return op_refuse(a, a->in[0]->dtype, e);

    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    int64_t rows = shape_count(s, 0, axis), pitch = shape_count(s, axis, s->rank) * size;
    const char *from = a->in[0]->data;
    for (int k = 0; k < a->node->n_out; k++) {
        int64_t part = shape_count(&a->out[k].shape, axis, s->rank) * size;
        if (a->out[k].data)
            copy_rows(rows, part, a->out[k].data, part, from, pitch);
        from = part ? from + part : from;
    }
    return true;
}

bool op_concat(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->out[0].shape;
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);

    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    int64_t rows = shape_count(s, 0, axis), pitch = shape_count(s, axis, s->rank) * size;
    char *to = a->out[0].data;
    for (int k = 0; k < a->node->n_in; k++) {
        int64_t part = shape_count(&a->in[k]->shape, axis, s->rank) * size;
        copy_rows(rows, part, to, pitch, a->in[k]->data, part);
        to = part ? to + part : to;
    }
    return true;
}

/* The output as a space of twice the rank, (repeat, index) for each dimension, would need rank 16;
 * instead one dimension at a time is repeated by copying what is there already. */
bool op_tile(const struct op_args *a, struct err *e)
{
    const struct shape *in = &a->in[0]->shape, *out = &a->out[0].shape;
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    if (!shape_elements(out))
        return true;

    /* The input, laid out in the corner of the output that has its shape. */
    char *y = a->out[0].data;
    struct walk w;
    walk_strides strides[2] = { { 0 } };
    strides_of(in, strides[0]);
    strides_of(out, strides[1]);
    for (walk_init(&w, in, 2, (const walk_strides *)strides); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            memcpy(y + (w.at[1] + i * w.step[1]) * size,
                   (const char *)a->in[0]->data + (w.at[0] + i) * size, (size_t)size);

    for (int d = in->rank - 1; d >= 0; d--) {
        /* Within every corner row before d, block [0, in) of dimension d is complete: repeat it. */
        struct shape corner = *in;
        int64_t block = strides[1][d] * in->dim[d] * size, all = strides[1][d] * out->dim[d] * size;
        for (int i = d; i < in->rank; i++)
            corner.dim[i] = 1;
        for (walk_init(&w, &corner, 2, (const walk_strides *)strides); w.more; walk_next(&w))
            for (int64_t i = 0; i < w.n; i++)
                for (int64_t at = block; at < all; at += block)
                    memcpy(y + (w.at[1] + i * w.step[1]) * size + at, y + (w.at[1] + i * w.step[1]) * size, (size_t)block);
    }
    return true;
}
