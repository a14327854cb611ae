/* op_softmax.c - Softmax and LogSoftmax along any axis. */
#include "core/exec/op_internal.h"

#include "core/kernel/kernel.h"

#include <math.h>

/* n elements `pitch` apart, shifted by their maximum so that exp() cannot overflow. */
static void softmax_line(const struct elem *t, const void *x, void *y, int64_t first, int64_t pitch, int64_t n, bool logarithm)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, t->get_real(x, first + i * pitch));
    for (int64_t i = 0; i < n; i++)
        sum += exp(t->get_real(x, first + i * pitch) - top);
    for (int64_t i = first; i < first + n * pitch; i += pitch) {
        double v = t->get_real(x, i) - top;
        t->put_real(y, i, logarithm ? v - log(sum) : exp(v) / sum);
    }
}

bool op_softmax(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;

    int axis = op_axis(node_int(a->node, "axis", -1), s->rank);
    int64_t n = s->rank ? s->dim[axis] : 1, pitch = shape_count(s, axis + 1, s->rank), outer = shape_count(s, 0, axis);
    for (int64_t o = 0; n && o < outer; o++)
        for (int64_t i = 0; i < pitch; i++)
            softmax_line(t[0], a->in[0]->data, a->out[0].data, o * n * pitch + i, pitch, n, a->node->op == OP_LOGSOFTMAX);
    return true;
}

bool op_softmax_fast(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    int axis = op_axis(node_int(a->node, "axis", -1), s->rank);
    if (!op_all_f32(a) || s->rank == 0 || shape_count(s, axis + 1, s->rank) != 1)
        return op_softmax(a, e);
    size_t rows = (size_t)shape_count(s, 0, axis), n = (size_t)s->dim[axis];
    if (n)
        (a->node->op == OP_LOGSOFTMAX ? log_softmax : softmax)(rows, n, a->in[0]->data, a->out[0].data);
    return true;
}
