/*
 * op_scatter.c - GatherND, ScatterND, ScatterElements, OneHot: elements at places that are data.
 *
 * Updates are made in order, so of several at one place without a reduction the last one stays.
 */
#include "core/exec/op_internal.h"

#include <math.h>
#include <string.h>

/* Where row r of the indices points in the data, in parts of the axes behind: axes [first, first + depth). */
static int64_t row_place(const struct op_args *a, int64_t r, int first, int64_t depth, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    int64_t at = 0;
    for (int64_t k = 0; k < depth; k++) {
        int axis = first + (int)k;
        int64_t i = op_index(a, r * depth + k, s->dim[axis], axis, e);
        if (i < 0)
            return -1;
        at = at * s->dim[axis] + i;
    }
    return at;
}

bool op_gathernd(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape, *index = &a->in[1]->shape;
    int64_t size = elem_bytes(a->out[0].dtype), depth = index->dim[index->rank - 1];
    int batch = (int)node_int(a->node, "batch_dims", 0);
    int64_t batches = shape_count(s, 0, batch), rows = shape_count(index, batch, index->rank - 1);
    int64_t part = shape_count(s, batch + (int)depth, s->rank) * size, whole = shape_count(s, batch, s->rank) * size;
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    for (int64_t b = 0; b < batches; b++)
        for (int64_t r = b * rows; r < (b + 1) * rows; r++) {
            int64_t at = row_place(a, r, batch, depth, e);
            if (at < 0)
                return false;
            op_copy((char *)a->out[0].data + r * part, (const char *)a->in[0]->data + b * whole + at * part, part);
        }
    return true;
}

/* ---- updates ---- */

typedef double combine_real(double u, double v);
typedef int64_t combine_int(int64_t u, int64_t v);

static double real_add(double u, double v) { return u + v; }
static double real_mul(double u, double v) { return u * v; }
static double real_min(double u, double v) { return isnan(u) || u < v ? u : v; }
static double real_max(double u, double v) { return isnan(u) || u > v ? u : v; }
static int64_t int_add(int64_t u, int64_t v) { return (int64_t)((uint64_t)u + (uint64_t)v); }
static int64_t int_mul(int64_t u, int64_t v) { return (int64_t)((uint64_t)u * (uint64_t)v); }
static int64_t int_min(int64_t u, int64_t v) { return u < v ? u : v; }
static int64_t int_max(int64_t u, int64_t v) { return u > v ? u : v; }

struct combine { const char *name; combine_real *real; combine_int *integer; };

static const struct combine *combine_of(const struct node *n)
{
    static const struct combine ways[] = {
        { "add", real_add, int_add }, { "mul", real_mul, int_mul }, { "min", real_min, int_min }, { "max", real_max, int_max },
    };
    const char *how = node_str(n, "reduction", "none");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(how, ways[i].name) == 0)
            return &ways[i];
    return NULL;
}

/* Element `to` of the output takes element `from` of the updates. */
static void update(const struct op_args *a, const struct combine *how, const struct elem *t, int64_t size, int64_t to, int64_t from)
{
    void *y = a->out[0].data;
    const void *u = a->in[2]->data;
    if (!how)
        op_copy((char *)y + to * size, (const char *)u + from * size, size);
    else if (t->real)
        t->put_real(y, to, how->real(t->get_real(y, to), t->get_real(u, from)));
    else
        t->put_int(y, to, how->integer(t->get_int(y, to), t->get_int(u, from)));
}

static bool begin_update(const struct op_args *a, int64_t *ret_size, const struct elem **ret_type, struct err *e)
{
    *ret_size = elem_bytes(a->out[0].dtype);
    *ret_type = elem_of(a->out[0].dtype);
    if (!*ret_size || !*ret_type)
        return op_refuse(a, a->out[0].dtype, e);
    return op_same_bytes(a, e);
}

bool op_scatternd(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape, *index = &a->in[1]->shape;
    const struct combine *how = combine_of(a->node);
    const struct elem *t;
    int64_t size, depth = index->dim[index->rank - 1], rows = shape_count(index, 0, index->rank - 1);
    int64_t part = shape_count(s, (int)depth, s->rank);
    if (!begin_update(a, &size, &t, e))
        return false;
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = row_place(a, r, 0, depth, e);
        if (at < 0)
            return false;
        for (int64_t i = 0; i < part; i++)
            update(a, how, t, size, at * part + i, r * part + i);
    }
    return true;
}

bool op_scatter_elements(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape, *index = &a->in[1]->shape;
    const struct combine *how = combine_of(a->node);
    const struct elem *t;
    walk_strides own, strides[2] = { { 0 } };
    struct walk w;
    int64_t size;
    if (!begin_update(a, &size, &t, e))
        return false;
    int axis = op_axis(node_int(a->node, "axis", 0), s->rank);
    strides_of(s, own);
    strides_of(index, strides[0]);
    strides_of(s, strides[1]);
    strides[1][axis] = 0;                  /* the index takes its place */
    for (walk_init(&w, index, 2, (const walk_strides *)strides); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            int64_t from = w.at[0] + i * w.step[0], at = op_index(a, from, s->dim[axis], axis, e);
            if (at < 0)
                return false;
            update(a, how, t, size, w.at[1] + i * w.step[1] + at * own[axis], from);
        }
    return true;
}

/* An index outside of the depth leaves a row of "off". */
bool op_onehot(const struct op_args *a, struct err *e)
{
    const struct shape *out = &a->out[0].shape;
    const struct elem *t[ELEMS_MAX];
    int64_t size = elem_bytes(a->out[0].dtype);
    int axis = op_axis(node_int(a->node, "axis", -1), out->rank);
    int64_t depth = out->dim[axis], inner = shape_count(out, axis + 1, out->rank), n = shape_elements(out);
    if (!op_elems(a, t, e))
        return false;
    for (int64_t i = 0; i < n; i++) {
        int64_t index = t[1]->get_int(a->in[0]->data, i / (depth * inner) * inner + i % inner);
        bool on = (index < 0 ? index + depth : index) == i / inner % depth;
        op_copy((char *)a->out[0].data + i * size, (const char *)a->in[2]->data + on * size, size);
    }
    return true;
}
