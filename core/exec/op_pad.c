/* op_pad.c - Pad and Trilu: outputs whose elements come from the input or from outside of it. */
#include "core/exec/op_internal.h"

enum pad_mode { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT, PAD_WRAP };

struct pad {
    enum pad_mode mode;
    int64_t before[TENSOR_MAX_RANK], after[TENSOR_MAX_RANK];       /* negative: cropped */
    char value[8];                         /* one element */
};

static bool read_pad(const struct op_args *a, struct pad *ret, struct err *e)
{
    const struct tensor *pads = op_in(a, 1), *value = op_in(a, 2), *axes = op_in(a, 3);
    const char *mode = node_str(a->node, "mode", "constant");
    int rank = a->in[0]->shape.rank;

    *ret = (struct pad){ .mode = mode[0] == 'e' ? PAD_EDGE : mode[0] == 'r' ? PAD_REFLECT
                               : mode[0] == 'w' ? PAD_WRAP : PAD_CONSTANT };
    if (!pads || !elem_bytes(a->out[0].dtype))
        return op_refuse(a, a->out[0].dtype, e);
    for (int64_t n = shape_elements(&pads->shape) / 2, i = 0; i < n; i++) {
        int axis = axes ? op_axis(op_int(axes, i), rank) : (int)i;
        ret->before[axis] = op_int(pads, i);
        ret->after[axis] = op_int(pads, n + i);
    }
    if (value && value->data && value->dtype == a->out[0].dtype)
        op_copy(ret->value, value->data, elem_bytes(value->dtype));
    return true;
}

/* The input index that output index i - before stands for, or -1 for the constant. */
static int64_t pad_source(enum pad_mode mode, int64_t i, int64_t dim)
{
    if (i >= 0 && i < dim)
        return i;
    if (mode == PAD_CONSTANT || !dim)
        return -1;
    if (mode == PAD_EDGE)
        return i < 0 ? 0 : dim - 1;
    int64_t period = dim == 1 ? dim : 2 * (dim - 1);
    i = (i % period + period) % period;
    return i < dim ? i : period - i;
}

/* As ONNX Runtime does it: what one side crops does not come back at the other. */
static int64_t wrap_source(const struct pad *p, int d, int64_t i, int64_t dim)
{
    if (p->before[d] < -dim || p->after[d] < -dim)
        return -1;
    int64_t first = p->before[d] < 0 ? -p->before[d] : 0, period = dim - first + (p->after[d] < 0 ? p->after[d] : 0);
    return period > 0 ? first + ((i - first) % period + period) % period : -1;
}

/* Input offset of the output element at `index`, or -1. */
static int64_t pad_offset(const struct pad *p, const struct shape *in, const int64_t *index)
{
    int64_t at = 0;
    for (int d = 0; d < in->rank; d++) {
        int64_t i = index[d] - p->before[d];
        i = p->mode == PAD_WRAP ? wrap_source(p, d, i, in->dim[d]) : pad_source(p->mode, i, in->dim[d]);
        if (i < 0)
            return -1;
        at = at * in->dim[d] + i;
    }
    return at;
}

/* Counts index[] up in row-major order of s. */
static void next_index(const struct shape *s, int64_t *index)
{
    for (int d = s->rank - 1; d >= 0 && ++index[d] == s->dim[d]; d--)
        index[d] = 0;
}

bool op_pad(const struct op_args *a, struct err *e)
{
    const struct shape *out = &a->out[0].shape;
    int64_t size = elem_bytes(a->out[0].dtype), index[TENSOR_MAX_RANK] = { 0 };
    struct pad p;
    if (!read_pad(a, &p, e))
        return false;
    const char *x = a->in[0]->data;
    char *y = a->out[0].data;
    for (int64_t n = shape_elements(out), i = 0; i < n; i++, next_index(out, index)) {
        int64_t at = pad_offset(&p, &a->in[0]->shape, index);
        op_copy(y + i * size, at < 0 ? p.value : x + at * size, size);
    }
    return true;
}

/* Keeps column c of row r where c >= r + k (upper) or c <= r + k (lower); the rest is 0. */
bool op_trilu(const struct op_args *a, struct err *e)
{
    const struct tensor *diagonal = op_in(a, 1);
    const struct shape *s = &a->out[0].shape;
    int64_t size = elem_bytes(a->out[0].dtype), k = diagonal ? op_int(diagonal, 0) : 0;
    bool upper = node_int(a->node, "upper", 1);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);

    int64_t rows = s->dim[s->rank - 2], cols = s->dim[s->rank - 1], n = shape_elements(s);
    const char zero[8] = { 0 }, *x = a->in[0]->data;
    for (int64_t i = 0; i < n; i++) {
        /* Not c >= r + k: k is data and may be near the ends of int64. */
        int64_t r = i / cols % rows, c = i % cols;
        bool keep = upper ? c - r >= k : c - r <= k;
        op_copy((char *)a->out[0].data + i * size, keep ? x + i * size : zero, size);
    }
    return true;
}
