/*
 * op_index.c - Gather, GatherElements, CumSum and CumProd.
 *
 * Indices are data: of the model, or of whoever sent the samples.  Every one is checked.
 */
#include "core/exec/op_internal.h"

#include <string.h>

int64_t op_index(const struct op_args *a, int64_t i, int64_t dim, int axis, struct err *e)
{
    int64_t index = op_int(a->in[1], i);
    if (index >= -dim && index < dim)
        return index < 0 ? index + dim : index;
    op_fail(a, ERR_DATA_VALUES, e, "index %lld at position %lld is outside [-%lld, %lld), the length of axis %d; "
            "check that the indices belong to this table", (long long)index, (long long)i,
            (long long)dim, (long long)dim, axis);
    return -1;
}

static bool index_types(const struct op_args *a, struct err *e)
{
    if (!elem_bytes(a->out[0].dtype))
        return op_refuse(a, a->out[0].dtype, e);
    enum dtype t = a->in[1]->dtype;
    return t == DT_I64 || t == DT_I32 ? true : op_refuse(a, t, e);
}

bool op_gather(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    int64_t size = elem_bytes(a->out[0].dtype);
    int64_t blocks = shape_count(s, 0, axis), dim = s->dim[axis], n = shape_elements(&a->in[1]->shape);
    int64_t part = shape_count(s, axis + 1, s->rank) * size;
    char *y = a->out[0].data;

    if (!index_types(a, e))
        return false;
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < n; i++) {
            int64_t index = op_index(a, i, dim, axis, e);
            if (index < 0)
                return false;
            if (part)
                memcpy(y + (b * n + i) * part, (const char *)a->in[0]->data + (b * dim + index) * part, (size_t)part);
        }
    return true;
}

bool op_gather_elements(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape, *out = &a->out[0].shape;
    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    int64_t size = elem_bytes(a->out[0].dtype);
    walk_strides strides[2] = { { 0 } };
    struct walk w;

    if (!index_types(a, e))
        return false;
    strides_of(out, strides[0]);
    strides_of(s, strides[1]);
    int64_t pitch = s->rank ? strides[1][axis] : 1;
    strides[1][axis] = 0;                  /* the index takes its place */
    for (walk_init(&w, out, 2, (const walk_strides *)strides); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            int64_t index = op_index(a, w.at[0] + i, s->dim[axis], axis, e);
            if (index < 0)
                return false;
            int64_t from = w.at[1] + i * w.step[1] + index * pitch;
            memcpy((char *)a->out[0].data + (w.at[0] + i) * size, (const char *)a->in[0]->data + from * size, (size_t)size);
        }
    return true;
}

/* One line of n elements, `pitch` apart, from `first` in either direction. */
struct line { int64_t first, pitch, n; bool exclusive, product; };

static void cumsum_line(const struct elem *t, const void *x, void *y, struct line l)
{
    double real = l.product;
    int64_t integer = l.product;
    for (int64_t i = 0, at = l.first; i < l.n; i++, at += l.pitch) {
        double real_before = real;
        int64_t integer_before = integer;
        if (t->real) {
            real = l.product ? real * t->get_real(x, at) : real + t->get_real(x, at);
            t->put_real(y, at, l.exclusive ? real_before : real);
        } else {
            uint64_t v = (uint64_t)t->get_int(x, at);
            integer = (int64_t)(l.product ? (uint64_t)integer * v : (uint64_t)integer + v);
            t->put_int(y, at, l.exclusive ? integer_before : integer);
        }
    }
}

bool op_cumsum(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    int64_t raw = op_int(a->in[1], 0);
    if (raw < -s->rank || raw >= s->rank)
        return op_fail(a, ERR_DATA_VALUES, e, "axis %lld is outside a rank of %d", (long long)raw, s->rank);

    int axis = op_axis(raw, s->rank);
    bool reverse = node_int(a->node, "reverse", 0), exclusive = node_int(a->node, "exclusive", 0);
    int64_t n = s->dim[axis], pitch = shape_count(s, axis + 1, s->rank), outer = shape_count(s, 0, axis);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < pitch; i++) {
            struct line l = { o * n * pitch + i, pitch, n, exclusive, a->node->op == OP_CUMPROD };
            if (reverse)
                l = (struct line){ l.first + (n - 1) * pitch, -pitch, n, exclusive, l.product };
            cumsum_line(t[0], a->in[0]->data, a->out[0].data, l);
        }
    return true;
}
