/* op_norm.c - LayerNormalization and RMSNormalization over the trailing axes. */
#include "core/exec/op_internal.h"

#include "core/kernel/kernel.h"

#include <math.h>

/* x as rows[rows] of n elements each: what the axis attribute makes of its shape. */
struct rows { int64_t rows, n; double epsilon; };

static struct rows rows_of(const struct op_args *a)
{
    const struct shape *s = &a->in[0]->shape;
    int axis = op_axis(node_int(a->node, "axis", -1), s->rank);
    return (struct rows){ shape_count(s, 0, axis), shape_count(s, axis, s->rank),
                          (double)node_float(a->node, "epsilon", 1e-5f) };
}

static double mean_of(const struct elem *t, const void *x, int64_t first, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += t->get_real(x, first + i);
    return sum / (double)n;
}

static double mean_square(const struct elem *t, const void *x, int64_t first, int64_t n, double centre)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = t->get_real(x, first + i) - centre;
        sum += d * d;
    }
    return sum / (double)n;
}

/* y = y * scale + shift, both broadcast over y's shape; either may be NULL. */
static void affine(const struct op_args *a, const struct tensor *scale, const struct tensor *shift)
{
    const struct elem *t = elem_of(a->out[0].dtype);
    const struct tensor *in[2] = { scale, shift };
    void *y = a->out[0].data;
    struct walk w;
    for (walk_broadcast(&w, &a->out[0].shape, in, 2); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            double v = t->get_real(y, w.at[0] + i);
            v *= elem_of(scale->dtype)->get_real(scale->data, w.at[1] + i * w.step[1]);
            if (shift)
                v += elem_of(shift->dtype)->get_real(shift->data, w.at[2] + i * w.step[2]);
            t->put_real(y, w.at[0] + i, v);
        }
}

/* Stores v as element r of an optional output. */
static void put_optional(const struct op_args *a, int output, int64_t r, double v)
{
    if (output < a->node->n_out && a->out[output].data && elem_of(a->out[output].dtype))
        elem_of(a->out[output].dtype)->put_real(a->out[output].data, r, v);
}

static bool normalize(const struct op_args *a, bool centred, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    struct rows x = rows_of(a);
    for (int64_t r = 0; r < x.rows; r++) {
        double mean = centred ? mean_of(t[1], a->in[0]->data, r * x.n, x.n) : 0;
        double inverse = 1 / sqrt(mean_square(t[1], a->in[0]->data, r * x.n, x.n, mean) + x.epsilon);
        for (int64_t i = r * x.n; i < (r + 1) * x.n; i++)
            t[0]->put_real(a->out[0].data, i, (t[1]->get_real(a->in[0]->data, i) - mean) * inverse);
        put_optional(a, 1, r, mean);
        put_optional(a, 2, r, inverse);
    }
    affine(a, a->in[1], centred ? op_in(a, 2) : NULL);
    return true;
}

bool op_layernorm(const struct op_args *a, struct err *e) { return normalize(a, true, e); }
bool op_rmsnorm(const struct op_args *a, struct err *e) { return normalize(a, false, e); }

/* ---- float32 ---- */

/* Is t, broadcast to x, the same contiguous row of the trailing dimensions [axis, rank) everywhere? */
static bool is_row(const struct tensor *t, const struct shape *x, int axis)
{
    walk_strides own, stride;
    strides_of(x, own);
    strides_broadcast(&t->shape, x, stride);
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d] != 1 && stride[d] != (d < axis ? 0 : own[d]))
            return false;
    return true;
}

/* Are the inputs such that a kernel over rows of numbers gives output 0, and is that all that is wanted? */
static bool is_plain(const struct op_args *a)
{
    const struct shape *x = &a->in[0]->shape;
    int axis = op_axis(node_int(a->node, "axis", -1), x->rank);
    for (int k = 1; k < a->node->n_out; k++)
        if (a->out[k].data)
            return false;
    for (int k = 1; k < a->node->n_in; k++)
        if (a->in[k] && !is_row(a->in[k], x, axis))
            return false;
    return op_all_f32(a);
}

bool op_layernorm_fast(const struct op_args *a, struct err *e)
{
    if (!is_plain(a))
        return op_layernorm(a, e);
    struct rows x = rows_of(a);
    const struct tensor *shift = op_in(a, 2);
    layernorm((size_t)x.rows, (size_t)x.n, a->in[0]->data, a->in[1]->data, shift ? shift->data : NULL,
              (float)x.epsilon, a->out[0].data);
    return true;
}

bool op_rmsnorm_fast(const struct op_args *a, struct err *e)
{
    if (!is_plain(a))
        return op_rmsnorm(a, e);
    struct rows x = rows_of(a);
    rmsnorm((size_t)x.rows, (size_t)x.n, a->in[0]->data, a->in[1]->data, (float)x.epsilon, a->out[0].data);
    return true;
}
