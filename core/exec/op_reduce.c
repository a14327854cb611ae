/*
 * op_reduce.c - ReduceMean, ReduceSum, ReduceMax, ReduceMin over any set of axes, and ArgMax.
 *
 * The reference visits the input once for each output element; sums are taken in double.
 */
#include "core/exec/op_internal.h"

#include <float.h>
#include <math.h>

/* Which input dimensions are reduced; false if none is (the output is the input). */
static bool reduced_axes(const struct op_args *a, bool ret[TENSOR_MAX_RANK])
{
    const struct tensor *input = op_in(a, 1);
    int rank = a->in[0]->shape.rank;
    size_t n_attr;
    const int64_t *attr = node_ints(a->node, "axes", &n_attr);
    int64_t n = input ? shape_elements(&input->shape) : (int64_t)n_attr;

    for (int d = 0; d < rank; d++)
        ret[d] = n == 0 && !node_int(a->node, "noop_with_empty_axes", 0);
    for (int64_t i = 0; i < n; i++)
        ret[op_axis(input ? op_int(input, i) : attr[i], rank)] = true;
    for (int d = 0; d < rank; d++)
        if (ret[d])
            return true;
    return false;
}

/* The input's dimensions cut in two: those that stay and those that go, with their strides. */
struct cut {
    struct shape kept, gone;
    walk_strides kept_stride, gone_stride;
};

static void cut_shape(const struct shape *s, const bool *reduced, struct cut *ret)
{
    walk_strides own;
    strides_of(s, own);
    *ret = (struct cut){ 0 };
    for (int d = 0; d < s->rank; d++) {
        struct shape *part = reduced[d] ? &ret->gone : &ret->kept;
        (reduced[d] ? ret->gone_stride : ret->kept_stride)[part->rank] = own[d];
        part->dim[part->rank++] = s->dim[d];
    }
}

/* ---- reference ---- */

struct total { double sum, max, min; int64_t int_sum, int_max, int_min; bool nan; };

static void total_add(struct total *t, const struct elem *x, const void *p, int64_t i)
{
    if (x->real) {
        double v = x->get_real(p, i);
        t->nan |= isnan(v);
        t->sum += v;
        t->max = v > t->max ? v : t->max;
        t->min = v < t->min ? v : t->min;
    } else {
        int64_t v = x->get_int(p, i);
        t->int_sum = (int64_t)((uint64_t)t->int_sum + (uint64_t)v);
        t->int_max = v > t->int_max ? v : t->int_max;
        t->int_min = v < t->int_min ? v : t->int_min;
    }
}

static void total_store(const struct total *t, enum op op, int64_t n, const struct elem *y, void *p, int64_t i)
{
    double extreme = t->nan ? (double)NAN : op == OP_REDUCEMAX ? t->max : t->min;
    if (y->real)
        y->put_real(p, i, op == OP_REDUCESUM ? t->sum : op == OP_REDUCEMEAN ? t->sum / (double)n : extreme);
    else
        y->put_int(p, i, op == OP_REDUCESUM ? t->int_sum : op == OP_REDUCEMEAN ? t->int_sum / (n ? n : 1)
                       : op == OP_REDUCEMAX ? t->int_max : t->int_min);
}

bool op_reduce(const struct op_args *a, struct err *e)
{
    const struct elem *x = elem_of(a->in[0]->dtype);
    bool reduced[TENSOR_MAX_RANK] = { 0 };
    struct cut c;
    struct walk outer, inner;

    if (!x)
        return op_refuse(a, a->in[0]->dtype, e);
    if (!reduced_axes(a, reduced))
        return op_same_bytes(a, e);
    cut_shape(&a->in[0]->shape, reduced, &c);
    int64_t to = 0, n = shape_elements(&c.gone);
    for (walk_init(&outer, &c.kept, 1, &c.kept_stride); outer.more; walk_next(&outer))
        for (int64_t o = 0; o < outer.n; o++) {
            struct total t = { .max = -INFINITY, .min = INFINITY, .int_max = INT64_MIN, .int_min = INT64_MAX };
            int64_t base = outer.at[0] + o * outer.step[0];
            for (walk_init(&inner, &c.gone, 1, &c.gone_stride); inner.more; walk_next(&inner))
                for (int64_t i = 0; i < inner.n; i++)
                    total_add(&t, x, a->in[0]->data, base + inner.at[0] + i * inner.step[0]);
            total_store(&t, a->node->op, n, x, a->out[0].data, to++);
        }
    return true;
}

/* ---- float32, over the last dimensions ---- */

/* Four sums side by side: the order is fixed, and the processor does not wait for each addition. */
static float row_sum(const float *x, int64_t n, double divisor)
{
    double s[4] = { 0 };
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            s[k] += (double)x[i + k];
    for (; i < n; i++)
        s[0] += (double)x[i];
    return (float)(((s[0] + s[1]) + (s[2] + s[3])) / divisor);
}

static float row_extreme(const float *x, int64_t n, bool max)
{
    float best = max ? -INFINITY : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            return NAN;
        best = (max ? x[i] > best : x[i] < best) ? x[i] : best;
    }
    return best;
}

bool op_reduce_fast(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    bool reduced[TENSOR_MAX_RANK] = { 0 };
    if (a->in[0]->dtype != DT_F32 || !reduced_axes(a, reduced))
        return op_reduce(a, e);
    int first = s->rank;
    while (first > 0 && reduced[first - 1])
        first--;
    for (int d = 0; d < first; d++)
        if (reduced[d])
            return op_reduce(a, e);

    int64_t rows = shape_count(s, 0, first), n = shape_count(s, first, s->rank);
    const float *x = a->in[0]->data;
    float *y = a->out[0].data;
    enum op op = a->node->op;
    for (int64_t r = 0; r < rows; r++)
        y[r] = op == OP_REDUCESUM || op == OP_REDUCEMEAN
             ? row_sum(x + r * n, n, op == OP_REDUCEMEAN ? (double)n : 1.0)
             : row_extreme(x + r * n, n, op == OP_REDUCEMAX);
    return true;
}

/* ---- ArgMax ---- */

/* Of n elements `pitch` apart: the position of the largest, the last such if `last`. */
static int64_t argmax_line(const struct elem *t, const void *x, int64_t first, int64_t pitch, int64_t n, bool last)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        int64_t at = first + i * pitch, top = first + best * pitch;
        bool more, same;
        if (t->real) {
            more = t->get_real(x, at) > t->get_real(x, top);
            same = t->get_real(x, at) == t->get_real(x, top);
        } else {
            more = t->get_int(x, at) > t->get_int(x, top);
            same = t->get_int(x, at) == t->get_int(x, top);
        }
        if (more || (last && same))
            best = i;
    }
    return best;
}

bool op_argmax(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t = elem_of(a->in[0]->dtype);
    if (!t)
        return op_refuse(a, a->in[0]->dtype, e);

    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    bool last = node_int(a->node, "select_last_index", 0);
    int64_t n = s->rank ? s->dim[axis] : 1, pitch = shape_count(s, axis + 1, s->rank), outer = shape_count(s, 0, axis);
    int64_t *y = a->out[0].data;
    if (n == 0 && outer > 0 && pitch > 0)
        return op_fail(a, ERR_DATA_VALUES, e, "there is no largest element along an axis of length 0");
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < pitch; i++)
            y[o * pitch + i] = argmax_line(t, a->in[0]->data, o * n * pitch + i, pitch, n, last);
    return true;
}
