/*
 * op_reduce.c - reductions over any set of axes, ArgMax and ArgMin.
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

struct total { double sum, max, min, top; int64_t int_sum, int_max, int_min; bool nan, wide; enum op op; };

/* What a sum is taken of: the element, or what the operator makes of it first. */
static double real_term(const struct total *t, double v)
{
    switch (t->op) {
    case OP_REDUCEL1: return fabs(v);
    case OP_REDUCEL2:
    case OP_REDUCESUMSQUARE: return v * v;
    case OP_REDUCELOGSUMEXP: return exp(v - t->top);
    default: return v;
    }
}

static uint64_t int_term(const struct total *t, int64_t v)
{
    if (t->op == OP_REDUCEL1)
        return v < 0 && !t->wide ? 0 - (uint64_t)v : (uint64_t)v;
    return t->op == OP_REDUCEL2 || t->op == OP_REDUCESUMSQUARE ? (uint64_t)v * (uint64_t)v : (uint64_t)v;
}

static void total_add(struct total *t, const struct elem *x, const void *p, int64_t i)
{
    bool product = t->op == OP_REDUCEPROD;
    double v = x->get_real(p, i);
    t->nan |= isnan(v);
    t->sum = product ? t->sum * v : t->sum + real_term(t, v);
    t->max = v > t->max ? v : t->max;
    t->min = v < t->min ? v : t->min;
    if (x->real)
        return;
    int64_t n = x->get_int(p, i), flip = t->wide ? INT64_MIN : 0;
    t->int_sum = (int64_t)(product ? (uint64_t)t->int_sum * (uint64_t)n : (uint64_t)t->int_sum + int_term(t, n));
    t->int_max = (n ^ flip) > t->int_max ? n ^ flip : t->int_max;
    t->int_min = (n ^ flip) < t->int_min ? n ^ flip : t->int_min;
}

static double real_result(const struct total *t, int64_t n)
{
    switch (t->op) {
    case OP_REDUCEMEAN: return t->sum / (double)n;
    case OP_REDUCEMAX: return t->nan ? (double)NAN : t->max;
    case OP_REDUCEMIN: return t->nan ? (double)NAN : t->min;
    case OP_REDUCEL2: return sqrt(t->sum);
    case OP_REDUCELOGSUM: return log(t->sum);
    case OP_REDUCELOGSUMEXP: return t->top + log(t->sum);
    default: return t->sum;
    }
}

/* Integers stay integers where the operator's result is one. */
static void total_store(const struct total *t, int64_t n, const struct elem *y, void *p, int64_t i)
{
    int64_t flip = t->wide ? INT64_MIN : 0;
    bool by_real = t->op == OP_REDUCEL2 || t->op == OP_REDUCELOGSUM || t->op == OP_REDUCELOGSUMEXP;
    if (y->real || by_real)
        y->put_real(p, i, real_result(t, n));
    else
        y->put_int(p, i, t->op == OP_REDUCEMEAN ? t->int_sum / (n ? n : 1) : t->op == OP_REDUCEMAX ? t->int_max ^ flip
                       : t->op == OP_REDUCEMIN ? t->int_min ^ flip : t->int_sum);
}

/* The empty total. Of no bool the largest is false and the smallest true. */
static struct total total_begin(enum op op, const struct tensor *x)
{
    struct total t = { .max = -INFINITY, .min = INFINITY, .int_max = INT64_MIN, .int_min = INT64_MAX, .op = op,
                       .wide = x->dtype == DT_U64, .sum = op == OP_REDUCEPROD, .int_sum = op == OP_REDUCEPROD };
    if (x->dtype == DT_BOOL)
        t.int_max = 0;
    return t;
}

bool op_reduce(const struct op_args *a, struct err *e)
{
    const struct elem *x = elem_of(a->in[0]->dtype);
    bool reduced[TENSOR_MAX_RANK] = { 0 };
    struct cut c;
    struct walk outer, inner;

    if (!x)
        return op_refuse(a, a->in[0]->dtype, e);
    if (!reduced_axes(a, reduced) && op_impl[a->node->op].fast)
        return op_same_bytes(a, e);    /* of one element itself, the sum, mean and extremes are that element */
    cut_shape(&a->in[0]->shape, reduced, &c);
    int64_t to = 0, n = shape_elements(&c.gone);
    for (walk_init(&outer, &c.kept, 1, &c.kept_stride); outer.more; walk_next(&outer))
        for (int64_t o = 0; o < outer.n; o++) {
            struct total t = total_begin(a->node->op, a->in[0]);
            int64_t base = outer.at[0] + o * outer.step[0];
            for (int pass = a->node->op == OP_REDUCELOGSUMEXP ? 0 : 1; pass < 2; pass++) {
                for (walk_init(&inner, &c.gone, 1, &c.gone_stride); inner.more; walk_next(&inner))
                    for (int64_t i = 0; i < inner.n; i++)
                        total_add(&t, x, a->in[0]->data, base + inner.at[0] + i * inner.step[0]);
                if (pass == 0) {           /* exp() is taken of what is at most 0 */
                    double top = isfinite(t.max) ? t.max : 0;
                    t = total_begin(a->node->op, a->in[0]);
                    t.top = top;
                }
            }
            total_store(&t, n, x, a->out[0].data, to++);
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

/* ---- ArgMax and ArgMin ---- */

/* Of n elements `pitch` apart: the position of the largest or `least`, the last such if `last`. */
static int64_t argmax_line(const struct elem *t, const void *x, int64_t first, int64_t pitch, int64_t n, bool last, bool least)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        int64_t at = first + i * pitch, top = first + best * pitch;
        bool more, same;
        if (t->real) {
            double u = t->get_real(x, at), v = t->get_real(x, top);
            more = least ? u < v : u > v;
            same = u == v;
        } else {
            int64_t flip = t->wide ? INT64_MIN : 0, u = t->get_int(x, at) ^ flip, v = t->get_int(x, top) ^ flip;
            more = least ? u < v : u > v;
            same = u == v;
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
        return op_fail(a, ERR_DATA_VALUES, e, "there is no such element along an axis of length 0");
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < pitch; i++)
            y[o * pitch + i] = argmax_line(t, a->in[0]->data, o * n * pitch + i, pitch, n, last, a->node->op == OP_ARGMIN);
    return true;
}
