/*
 * infer_values.c - the elements of small integer tensors through the operators that shape
 * arithmetic is written in.  A rule here may always give up: then the evaluator or a new symbol takes over.
 */
#include "core/graph/infer.h"

/* Elements of output 0 by its shape, or -1 if there are too many or the shape is not all numbers. */
static int count_out(const struct call *c)
{
    const struct fact *f = c->n->out[0] < 0 ? NULL : &c->x->fact[c->n->out[0]];
    int64_t n = 1;
    if (!f || !shape_known(&f->shape) || (f->dtype != DT_I64 && f->dtype != DT_I32 && f->dtype != DT_BOOL))
        return -1;
    for (int i = 0; i < f->shape.rank; i++) {
        if (f->shape.dim[i] > TRACKED_MAX)
            return -1;
        n *= f->shape.dim[i];
    }
    return n <= TRACKED_MAX ? (int)n : -1;
}

static const struct shape *out_shape(const struct call *c) { return &c->x->fact[c->n->out[0]].shape; }

/* The element of a tensor of shape s that broadcasting puts at element i of a tensor of shape `to`. */
static int broadcast_index(const struct shape *s, const struct shape *to, int i)
{
    int64_t index = 0, stride = 1, rest = i;
    for (int k = 1; k <= to->rank; k++) {
        int64_t at = rest % to->dim[to->rank - k], dim = k <= s->rank ? s->dim[s->rank - k] : 1;
        rest /= to->dim[to->rank - k];
        if (k <= s->rank && dim != 1)
            index += at * stride;
        stride *= dim;
    }
    return (int)index;
}

bool values_copy(struct call *c, struct err *e)
{
    int n;
    const struct num *a = call_elems(c, 0, &n);
    return !a || call_set_elems(c, a, n, e);
}

/* int32 to int64 and back, from and to bool; a number that does not fit is left to the evaluator. */
bool values_cast(struct call *c, struct err *e)
{
    int n;
    const struct num *a = call_elems(c, 0, &n);
    if (!a || count_out(c) != n)
        return true;
    struct num *r = call_new_elems(c, n, e);
    if (!r)
        return false;
    for (int i = 0; i < n; i++) {
        r[i] = a[i];
        if (c->dtype == DT_I32 && num_known(a[i]) && (a[i].n > INT32_MAX || a[i].n < INT32_MIN))
            return true;
        if (c->dtype == DT_BOOL && num_known(a[i]))
            r[i] = NUM(a[i].n != 0);
        if (c->dtype == DT_BOOL && !num_known(a[i]))
            r[i] = NUM_UNKNOWN;
    }
    return call_set_elems(c, r, n, e);
}

static struct num num_eq(struct symbols *s, struct num a, struct num b)
{
    if (a.sym < 0 || b.sym < 0)
        return NUM_UNKNOWN;
    if (num_equal(a, b))
        return NUM(1);
    struct num next_a = num_add(s, a, NUM(1)), next_b = num_add(s, b, NUM(1));
    return num_ge(s, a, next_b) || num_ge(s, b, next_a) ? NUM(0) : NUM_UNKNOWN;
}

typedef struct num num_op(struct symbols *s, struct num a, struct num b);

static num_op *binary_op(enum op op)
{
    static const struct { enum op op; num_op *f; } ops[] = {
        { OP_ADD, num_add }, { OP_SUB, num_sub }, { OP_MUL, num_mul }, { OP_DIV, num_div },
        { OP_MIN, num_min }, { OP_MAX, num_max }, { OP_EQUAL, num_eq },
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (ops[i].op == op)
            return ops[i].f;
    return NULL;
}

/* In int32 a number that needs more bits would wrap: not ours to know. */
static struct num fit(const struct call *c, struct num a)
{
    bool wide = c->dtype == DT_I32 && num_known(a) && (a.n > INT32_MAX || a.n < INT32_MIN);
    return wide ? NUM_OVERFLOW : a;
}

bool values_binary(struct call *c, struct err *e)
{
    int n = count_out(c);
    num_op *f = binary_op(c->n->op);
    if (n < 0)
        return true;
    struct num *r = call_new_elems(c, n, e);
    if (!r)
        return false;
    for (int k = 0; k < c->n->n_in; k++) {
        int unused;
        const struct num *a = call_elems(c, k, &unused);
        if (!a)
            return true;
        for (int i = 0; i < n; i++) {
            struct num v = a[broadcast_index(&call_in(c, k)->shape, out_shape(c), i)];
            r[i] = k ? fit(c, f(c->x->syms, r[i], v)) : v;
        }
    }
    return call_set_elems(c, r, n, e);
}

bool values_where(struct call *c, struct err *e)
{
    int n = count_out(c), unused;
    const struct num *a[3];
    for (int k = 0; k < 3; k++)
        if (!(a[k] = call_elems(c, k, &unused)))
            return true;
    struct num *r = n < 0 ? NULL : call_new_elems(c, n, e);
    for (int i = 0; r && i < n; i++) {
        struct num v[3];
        for (int k = 0; k < 3; k++)
            v[k] = a[k][broadcast_index(&call_in(c, k)->shape, out_shape(c), i)];
        bool same = num_equal(v[1], v[2]);
        r[i] = same ? v[1] : !num_known(v[0]) ? NUM_UNKNOWN : v[0].n ? v[1] : v[2];
    }
    return n < 0 || (r && call_set_elems(c, r, n, e));
}

bool values_shape(struct call *c, struct err *e)
{
    int n = count_out(c), first = 0;
    const struct shape *s = &call_in(c, 0)->shape;
    if (n < 0 || s->rank < 0)
        return true;
    int64_t start = node_int(c->n, "start", 0);
    start = start < 0 ? start + s->rank : start;
    first = start < 0 ? 0 : start > s->rank ? s->rank : (int)start;
    struct num *r = call_new_elems(c, n, e);
    for (int i = 0; r && i < n; i++)
        r[i] = num_dim(s->dim[first + i]);
    return r && call_set_elems(c, r, n, e);
}

bool values_size(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct num *r = s->rank < 0 ? NULL : call_new_elems(c, 1, e);
    if (!r)
        return s->rank < 0;
    *r = shape_product(c->x, s, 0, s->rank);
    return call_set_elems(c, r, 1, e);
}

bool values_constant_of_shape(struct call *c, struct err *e)
{
    int n = count_out(c);
    const struct onnx_attr *a = node_attr(c->n, "value");
    if (n < 0 || !a)
        return true;                   /* without a value it is float zeros */
    struct fact one = { .dtype = c->dtype, .shape = { .rank = 0 }, .data = a->t->t.data, .known = true };
    int unused;
    const struct num *v = fact_elems(c->x, &one, &unused);
    struct num *r = v ? call_new_elems(c, n, e) : NULL;
    for (int i = 0; r && i < n; i++)
        r[i] = *v;
    return r && call_set_elems(c, r, n, e);
}

bool values_concat(struct call *c, struct err *e)
{
    int n = count_out(c), at = 0;
    if (n < 0 || out_shape(c)->rank != 1)
        return true;
    struct num *r = call_new_elems(c, n, e);
    if (!r)
        return false;
    for (int k = 0; k < c->n->n_in; k++) {
        int known;
        const struct num *a = call_elems(c, k, &known);
        int64_t m = a ? known : call_in(c, k)->shape.dim[0];
        if (m < 0 || m > n - at)
            return true;               /* symbols that cancel: a length is negative, and the others are more than their sum */
        for (int i = 0; i < m; i++)
            r[at++] = a ? a[i] : NUM_UNKNOWN;
    }
    return at != n || call_set_elems(c, r, n, e);
}

bool values_gather(struct call *c, struct err *e)
{
    int n_data, n_index;
    const struct num *data = call_elems(c, 0, &n_data), *index = call_elems(c, 1, &n_index);
    if (!data || !index || call_in(c, 0)->shape.rank != 1 || count_out(c) != n_index)
        return true;
    struct num *r = call_new_elems(c, n_index, e);
    if (!r)
        return false;
    for (int i = 0; i < n_index; i++) {
        int64_t at = index[i].n;
        if (num_known(index[i]) && (at < -n_data || at >= n_data))
            return bad_shape(c, e, "index %lld is outside its input of %d elements", (long long)at, n_data);
        r[i] = num_known(index[i]) ? data[at < 0 ? at + n_data : at] : NUM_UNKNOWN;
    }
    return call_set_elems(c, r, n_index, e);
}

bool values_slice(struct call *c, struct err *e)
{
    int n_data, one, n = count_out(c);
    const struct num *data = call_elems(c, 0, &n_data), *start = call_elems(c, 1, &one), *end = call_elems(c, 2, &one);
    const struct num *step = call_in(c, 4) ? call_elems(c, 4, &one) : &NUM(1);
    struct num first;
    if (!data || n < 0 || call_in(c, 0)->shape.rank != 1 || !start || !end || !step || one != 1 || !num_known(*step))
        return true;
    slice_length(c->x->syms, NUM(n_data), *start, *end, step->n, &first);
    if (!num_known(first))
        return true;
    struct num *r = call_new_elems(c, n, e);
    for (int i = 0; r && i < n; i++)
        r[i] = data[first.n + i * step->n];
    return r && call_set_elems(c, r, n, e);
}

bool values_expand(struct call *c, struct err *e)
{
    int n = count_out(c), unused;
    const struct num *a = call_elems(c, 0, &unused);
    struct num *r = n < 0 || !a ? NULL : call_new_elems(c, n, e);
    for (int i = 0; r && i < n; i++)
        r[i] = a[broadcast_index(&call_in(c, 0)->shape, out_shape(c), i)];
    return n < 0 || !a || (r && call_set_elems(c, r, n, e));
}

bool values_range(struct call *c, struct err *e)
{
    int n = count_out(c), unused;
    const struct num *start = call_elems(c, 0, &unused), *delta = call_elems(c, 2, &unused);
    struct num *r = n < 0 || !start || !delta ? NULL : call_new_elems(c, n, e);
    for (int i = 0; r && i < n; i++)
        r[i] = num_add(c->x->syms, *start, num_mul(c->x->syms, *delta, NUM(i)));
    return n < 0 || !start || !delta || (r && call_set_elems(c, r, n, e));
}
