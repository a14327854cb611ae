/* op_generate.c - tensors made from attributes, shapes and scalars. */
#include "core/exec/op_internal.h"

/* Constant: a tensor, or one of the typed attributes that stand for a scalar or a list. */
bool op_constant(const struct op_args *a, struct err *e)
{
    const struct onnx_attr *at = a->node->n_attrs ? &a->node->attrs[0] : NULL;
    int64_t n = shape_elements(&a->out[0].shape);
    void *y = a->out[0].data;

    if (at && at->type == ONNX_TENSOR) {
        struct tensor value = at->t->t;
        const struct tensor *in[] = { &value };
        return op_same_bytes(&(struct op_args){ a->g, a->node, in, a->out, NULL }, e);
    }
    if (at && at->type == ONNX_FLOAT)
        op_copy(y, &at->f, sizeof at->f);
    else if (at && at->type == ONNX_INT)
        op_copy(y, &at->i, sizeof at->i);
    else if (at && at->type == ONNX_FLOATS)
        op_copy(y, at->floats, n * (int64_t)sizeof *at->floats);
    else if (at && at->type == ONNX_INTS)
        op_copy(y, at->ints, n * (int64_t)sizeof *at->ints);
    else
        return op_fail(a, ERR_MODEL_OP, e, "only tensor, float and integer constants can be computed with");
    return true;
}

bool op_constant_of_shape(const struct op_args *a, struct err *e)
{
    const struct onnx_attr *at = node_attr(a->node, "value");
    const char zero[8] = { 0 };            /* without the attribute: float32 zeros */
    const void *value = at && at->t->t.data ? at->t->t.data : zero;
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        op_copy((char *)a->out[0].data + i * size, value, size);
    return true;
}

/* start + i * delta, not a running sum: element i does not depend on how many came before. */
bool op_range(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    const void *start = a->in[0]->data, *delta = a->in[2]->data;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        if (t[0]->real)
            t[0]->put_real(a->out[0].data, i, t[1]->get_real(start, 0) + (double)i * t[3]->get_real(delta, 0));
        else
            t[0]->put_int(a->out[0].data, i, (int64_t)((uint64_t)t[1]->get_int(start, 0) + (uint64_t)i * (uint64_t)t[3]->get_int(delta, 0)));
    return true;
}

/* Dimensions [start, end), clamped; the output's length follows from the shape rule. */
bool op_shape(const struct op_args *a, struct err *e)
{
    (void)e;
    const struct shape *s = &a->in[0]->shape;
    int64_t start = node_int(a->node, "start", 0), *y = a->out[0].data;
    start = start < 0 ? start + s->rank : start;
    start = start < 0 ? 0 : start > s->rank ? s->rank : start;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n && start + i < s->rank; i++)
        y[i] = s->dim[start + i];
    return true;
}

bool op_size(const struct op_args *a, struct err *e)
{
    (void)e;
    *(int64_t *)a->out[0].data = shape_elements(&a->in[0]->shape);
    return true;
}
