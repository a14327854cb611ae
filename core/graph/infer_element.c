/* infer_element.c - rules of operators that work element by element, and of generators. */
#include "core/graph/infer.h"

#include <math.h>
#include <string.h>

bool rule_same(struct call *c, struct err *e)
{
    const char *mode = c->n->op == OP_GELU ? node_str(c->n, "approximate", "none") : "none";
    if (strcmp(mode, "none") != 0 && strcmp(mode, "tanh") != 0)
        return err_set(e, ERR_MODEL_OP, call_where(c), "approximate='%.40s' is not 'none' or 'tanh'", mode);
    return call_set(c, 0, &call_in(c, 0)->shape, e);
}

static bool broadcast_all(struct call *c, int from, struct shape *ret, struct err *e)
{
    *ret = call_in(c, from)->shape;
    for (int i = from + 1; i < c->n->n_in; i++) {
        const struct shape *s = &call_in(c, i)->shape;
        if (!shape_broadcast(c->x, ret, s))
            return bad_shape(c, e, "shapes %s and %s do not broadcast", call_text(c, 0, ret), call_text(c, 1, s));
    }
    return true;
}

bool rule_broadcast(struct call *c, struct err *e)
{
    struct shape s;
    return broadcast_all(c, 0, &s, e) && call_set(c, 0, &s, e);
}

bool type_where(struct call *c, struct err *e)
{
    c->dtype = call_in(c, 1)->dtype;
    return (dtype_bits(c->dtype) >= 8 && c->dtype == call_in(c, 2)->dtype) ||
           err_set(e, ERR_MODEL_INVALID, call_where(c), "the two choices are %s and %s; they must be one type of whole bytes",
                   dtype_name(c->dtype), dtype_name(call_in(c, 2)->dtype));
}

bool rule_where(struct call *c, struct err *e) { return rule_broadcast(c, e); }

/* One element, of rank 0 or 1; a symbol may be 1. */
static bool check_scalar(struct call *c, int i, struct err *e)
{
    const struct shape *s = &call_in(c, i)->shape;
    return s->rank <= 0 || (s->rank == 1 && (s->dim[0] == 1 || s->dim[0] < 0)) ||
           bad_shape(c, e, "input %d has shape %s where one number is needed", i, call_text(c, 0, s));
}

bool rule_clip(struct call *c, struct err *e)
{
    for (int i = 1; i < c->n->n_in; i++)
        if (call_in(c, i) && !check_scalar(c, i, e))
            return false;
    return call_set(c, 0, &call_in(c, 0)->shape, e);
}

bool type_cast(struct call *c, struct err *e)
{
    int64_t to = node_int(c->n, "to", 0);
    c->dtype = to > 0 && to < 32 ? (enum dtype)to : DT_NONE;
    return dtype_bits(c->dtype) > 0 ||
           err_set(e, ERR_MODEL_OP, call_where(c), "a cast to type number %lld is not supported", (long long)to);
}

bool rule_cumsum(struct call *c, struct err *e)
{
    int n, axis;
    const struct shape *s = &call_in(c, 0)->shape;
    if (!call_index_type(c, 1, e) || !check_scalar(c, 1, e))
        return false;
    const struct num *a = call_elems(c, 1, &n);
    if (a && n == 1 && num_known(*a) && !call_axis(c, a->n, s->rank, e, &axis))
        return false;
    return call_set(c, 0, s, e);
}

bool rule_trilu(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    if (s->rank < 2)
        return bad_shape(c, e, "its input has shape %s, at least rank 2 is needed", call_text(c, 0, s));
    if (call_in(c, 1) && (call_in(c, 1)->dtype != DT_I64 || !check_scalar(c, 1, e)))
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "k must be one int64");
    return call_set(c, 0, s, e);
}

/* ---- generators ---- */

bool type_constant_of_shape(struct call *c, struct err *e)
{
    const struct onnx_attr *a = node_attr(c->n, "value");
    uint64_t n = 1;
    c->dtype = a ? a->t->t.dtype : DT_F32;
    if (a && (!tensor_size(c->dtype, &a->t->t.shape, call_where(c), &n, NULL, e) || dtype_bits(c->dtype) < 8))
        return err_set(e, ERR_MODEL_OP, call_where(c), "a value of type %s is not supported", dtype_name(c->dtype));
    return n == 1 || err_set(e, ERR_MODEL_INVALID, call_where(c), "its value has %llu elements where one is needed",
                             (unsigned long long)n);
}

bool rule_constant_of_shape(struct call *c, struct err *e)
{
    struct shape s;
    const struct fact *f = call_in(c, 0);
    int n;
    const struct num *a = call_elems(c, 0, &n);
    if (!call_rank(c, 0, 1, e))
        return false;
    if (f->shape.rank < 0 || f->shape.dim[0] < 0)
        return call_unknown_shape(c, &s, e) && call_set(c, 0, &s, e);
    if (f->shape.dim[0] > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has rank %lld, at most %d is supported",
                       (long long)f->shape.dim[0], TENSOR_MAX_RANK);
    s = (struct shape){ .rank = (int)f->shape.dim[0] };
    for (int i = 0; i < s.rank; i++)
        if (!call_dim(c, a ? a[i] : NUM_UNKNOWN, &s.dim[i], e))
            return false;
    return call_set(c, 0, &s, e);
}

/* A 16-bit float by the widths of its fraction and the bias of its exponent; infinities come out as large numbers. */
static double half_number(uint16_t bits, int fraction, int bias)
{
    int exponent = (bits & 0x7FFF) >> fraction, low = bits & ((1 << fraction) - 1);
    double v = exponent ? ldexp((1 << fraction) + low, exponent - bias - fraction) : ldexp(low, 1 - bias - fraction);
    return bits & 0x8000 ? -v : v;
}

static bool range_number(const struct fact *f, double *ret)
{
    float f32;
    uint16_t half;
    if (!f->known || !f->data || !(f->dtype == DT_F32 || f->dtype == DT_F64 || f->dtype == DT_F16 || f->dtype == DT_BF16))
        return false;
    if (f->dtype == DT_F16 || f->dtype == DT_BF16) {
        memcpy(&half, f->data, sizeof half);
        *ret = f->dtype == DT_F16 ? half_number(half, 10, 15) : half_number(half, 7, 127);
        return true;
    }
    if (f->dtype == DT_F64) {
        memcpy(ret, f->data, sizeof *ret);
    } else {
        memcpy(&f32, f->data, sizeof f32);
        *ret = (double)f32;
    }
    return true;
}

static struct num range_length_float(struct call *c)
{
    double start, limit, delta;
    if (!range_number(call_in(c, 0), &start) || !range_number(call_in(c, 1), &limit) || !range_number(call_in(c, 2), &delta))
        return NUM_UNKNOWN;
    double n = ceil((limit - start) / delta);
    return !(n > 0) ? NUM(0) : n > (double)TENSOR_MAX_DIM ? NUM_OVERFLOW : NUM((int64_t)n);
}

static struct num range_length(struct call *c)
{
    struct symbols *s = c->x->syms;
    int n;
    const struct num *start = call_elems(c, 0, &n), *limit = call_elems(c, 1, &n), *delta = call_elems(c, 2, &n);
    if (!start || !limit || !delta || !num_known(*delta) || delta->n == 0 || delta->n == INT64_MIN)
        return NUM_UNKNOWN;
    bool up = delta->n > 0;
    struct num span = up ? num_sub(s, *limit, *start) : num_sub(s, *start, *limit);
    struct num step = NUM(up ? delta->n : -delta->n);
    span = num_max(s, span, NUM(0));
    return num_div(s, num_add(s, span, NUM(step.n - 1)), step);
}

bool rule_range(struct call *c, struct err *e)
{
    struct shape s = { .rank = 1 };
    int n;
    const struct num *delta = call_elems(c, 2, &n);
    for (int i = 0; i < 3; i++)
        if (!check_scalar(c, i, e))
            return false;
    if (delta && n == 1 && num_known(*delta) && delta->n == 0)
        return bad_shape(c, e, "its step is 0");
    bool whole = c->dtype == DT_I64 || c->dtype == DT_I32;
    return call_dim(c, whole ? range_length(c) : range_length_float(c), &s.dim[0], e) && call_set(c, 0, &s, e);
}
