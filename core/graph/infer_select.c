/* infer_select.c - rules of operators that take parts of a tensor or put a border around it. */
#include "core/graph/infer.h"

#include <string.h>

/* ---- Slice ---- */

/* A position as ONNX has it (negative counts from the end), clamped to [low, high]. */
static struct num position(struct symbols *s, struct num p, struct num dim, struct num low, struct num high)
{
    /* No axis is this long: INT64_MAX is how exporters write "to the end". */
    if (num_known(p) && (p.n >= TENSOR_MAX_DIM || p.n <= -TENSOR_MAX_DIM))
        return p.n > 0 ? high : low;
    if (num_known(p) && p.n < 0)
        p = num_add(s, p, dim);
    else if (!num_known(p) && !num_ge(s, p, NUM(0)))
        return NUM_UNKNOWN;            /* its sign decides what it means */
    return num_min(s, num_max(s, p, low), high);
}

struct num slice_length(struct symbols *s, struct num dim, struct num start, struct num end, int64_t step, struct num *ret_first)
{
    bool up = step > 0;
    /* Backwards, too, "to the end" is written INT_MAX by some; ONNX Runtime takes it so, and we follow. */
    if (!up && num_known(end) && (end.n == INT64_MAX || end.n == INT32_MAX))
        end = NUM(INT64_MIN);
    struct num last = num_sub(s, dim, NUM(1));
    struct num first = up ? position(s, start, dim, NUM(0), dim) : position(s, start, dim, NUM(0), last);
    struct num stop = up ? position(s, end, dim, NUM(0), dim) : position(s, end, dim, NUM(-1), last);
    struct num span = up ? num_sub(s, stop, first) : num_sub(s, first, stop);
    struct num stride = NUM(up ? step : step == INT64_MIN ? INT64_MAX : -step);
    *ret_first = first;
    span = num_max(s, span, NUM(0));
    if (num_known(span) && span.n == 0)
        return NUM(0);
    /* Rounded up as 1 + (span - 1) / stride, which cannot overflow; span may be 0 for some values of a symbol. */
    if (stride.n == 1)
        return span;
    if (num_known(span))
        return NUM(1 + (span.n - 1) / stride.n);
    return stride.n > TENSOR_MAX_DIM ? NUM_UNKNOWN : num_div(s, num_add(s, span, NUM(stride.n - 1)), stride);
}

struct slice {
    const struct num *start, *end, *step;   /* NULL: not known */
    int n;
    bool all;                               /* n is known */
};

static bool slice_lists(struct call *c, struct slice *r, struct err *e)
{
    int n[5] = { 0 };
    *r = (struct slice){ .n = -1, .all = true };
    for (int i = 1; i < 5; i++) {
        const struct fact *f = call_in(c, i);
        if (!f)
            continue;
        if (!call_index_type(c, i, e) || !call_rank(c, i, 1, e))
            return false;
        if (f->shape.dim[0] < 0) {
            r->all = false;
        } else if (r->n >= 0 && f->shape.dim[0] != r->n) {
            return bad_shape(c, e, "starts, ends, axes and steps have %d and %lld entries", r->n, (long long)f->shape.dim[0]);
        } else if (f->shape.dim[0] > TENSOR_MAX_RANK) {
            return bad_shape(c, e, "%lld starts for a tensor of shape %s", (long long)f->shape.dim[0],
                             call_text(c, 0, &call_in(c, 0)->shape));
        } else {
            r->n = (int)f->shape.dim[0];
        }
    }
    r->start = call_elems(c, 1, &n[1]);
    r->end = call_elems(c, 2, &n[2]);
    r->step = call_elems(c, 4, &n[4]);
    return true;
}

static bool slice_axis(struct call *c, const struct slice *r, int k, int axis, struct shape *out, struct err *e)
{
    struct num step = !call_in(c, 4) ? NUM(1) : r->step ? r->step[k] : NUM_UNKNOWN, n = NUM_UNKNOWN, first;
    if (num_known(step) && step.n == 0)
        return bad_shape(c, e, "the step on axis %d is 0", axis);
    if (num_known(step) && r->start && r->end)
        n = slice_length(c->x->syms, num_dim(out->dim[axis]), r->start[k], r->end[k], step.n, &first);
    return call_dim(c, n, &out->dim[axis], e);
}

/* Nothing but the rank is known. */
static bool forget_dims(struct call *c, struct shape *s, struct err *e)
{
    for (int i = 0; i < s->rank; i++)
        if (!call_dim(c, NUM_UNKNOWN, &s->dim[i], e))
            return false;
    return true;
}

bool rule_slice(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    struct slice r;
    struct axes axes = { 0 };
    bool given, known = true;
    if (!call_in(c, 1) || !call_in(c, 2))
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "its starts and ends are missing");
    if (!slice_lists(c, &r, e) || (call_in(c, 3) && !call_axes(c, 3, out.rank, &axes, &given, &known, e)))
        return false;
    if (!known || !r.all)
        return forget_dims(c, &out, e) && call_set(c, 0, &out, e);
    if (r.n > out.rank)
        return bad_shape(c, e, "%d starts for a tensor of shape %s", r.n, call_text(c, 0, &out));
    for (int k = 0; k < r.n; k++)
        if (!slice_axis(c, &r, k, call_in(c, 3) ? axes.v[k] : k, &out, e))
            return false;
    return call_set(c, 0, &out, e);
}

/* ---- Split ---- */

/* ONNX 18: with num_outputs, equal parts of which the last may be smaller; before, the parts must be equal. */
static bool split_evenly(struct call *c, struct num dim, struct num *sizes, struct err *e)
{
    struct symbols *s = c->x->syms;
    int parts = c->n->n_out;
    int64_t asked = node_int(c->n, "num_outputs", parts);
    if (asked != parts)
        return bad_shape(c, e, "num_outputs is %lld but the node has %d outputs", (long long)asked, parts);
    struct num chunk = num_div(s, dim, NUM(parts)), last = chunk;
    if (!num_equal(num_mul(s, chunk, NUM(parts)), dim) && (num_known(dim) || node_attr(c->n, "num_outputs"))) {
        if (num_known(dim) && !node_attr(c->n, "num_outputs"))
            return bad_shape(c, e, "an axis of %lld does not split into %d equal parts", (long long)dim.n, parts);
        chunk = num_div(s, num_add(s, dim, NUM(parts - 1)), NUM(parts));
        last = num_sub(s, dim, num_mul(s, chunk, NUM(parts - 1)));
    }
    for (int i = 0; i < parts; i++)
        sizes[i] = i < parts - 1 ? chunk : last;
    return true;
}

static bool split_as_told(struct call *c, struct num dim, struct num *sizes, struct err *e)
{
    int n;
    struct num sum = NUM(0);
    const struct num *told = call_elems(c, 1, &n);
    const struct shape *s = &call_in(c, 1)->shape;
    if (!call_index_type(c, 1, e) || !call_rank(c, 1, 1, e))
        return false;
    if (s->dim[0] >= 0 && s->dim[0] != c->n->n_out)
        return bad_shape(c, e, "%lld sizes for %d outputs", (long long)s->dim[0], c->n->n_out);
    for (int i = 0; i < c->n->n_out; i++) {
        sizes[i] = told ? told[i] : NUM_UNKNOWN;
        if (num_known(sizes[i]) && sizes[i].n < 0)
            return bad_shape(c, e, "part %d has size %lld", i, (long long)sizes[i].n);
        sum = num_add(c->x->syms, sum, sizes[i]);
    }
    if (sum.sym == NUM_IS_OVERFLOW || (num_known(sum) && num_known(dim) && sum.n != dim.n))
        return bad_shape(c, e, "the sizes of its parts sum to %lld, the axis has %lld", (long long)sum.n, (long long)dim.n);
    return true;
}

bool rule_split(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    struct num *sizes = call_new_elems(c, c->n->n_out, e);
    int axis;
    if (!sizes || !call_axis(c, node_int(c->n, "axis", 0), out.rank, e, &axis))
        return false;
    struct num dim = num_dim(out.dim[axis]);
    if (call_in(c, 1) ? !split_as_told(c, dim, sizes, e) : !split_evenly(c, dim, sizes, e))
        return false;
    for (int i = 0; i < c->n->n_out; i++)
        if (!call_dim(c, sizes[i], &out.dim[axis], e) || !call_set(c, i, &out, e))
            return false;
    return true;
}

/* ---- Gather ---- */

bool rule_gather(struct call *c, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    struct shape out = { .rank = data->rank - 1 + index->rank };
    int axis;
    if (!call_index_type(c, 1, e) || !call_axis(c, node_int(c->n, "axis", 0), data->rank, e, &axis))
        return false;
    if (out.rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has rank %d, at most %d is supported", out.rank, TENSOR_MAX_RANK);
    int at = 0;
    for (int i = 0; i < axis; i++)
        out.dim[at++] = data->dim[i];
    for (int i = 0; i < index->rank; i++)
        out.dim[at++] = index->dim[i];
    for (int i = axis + 1; i < data->rank; i++)
        out.dim[at++] = data->dim[i];
    return call_set(c, 0, &out, e);
}

bool rule_gather_elements(struct call *c, struct err *e)
{
    const struct shape *data = &call_in(c, 0)->shape, *index = &call_in(c, 1)->shape;
    int axis;
    if (!call_index_type(c, 1, e) || !call_axis(c, node_int(c->n, "axis", 0), data->rank, e, &axis))
        return false;
    bool fits = data->rank == index->rank;
    for (int i = 0; fits && i < data->rank; i++)
        fits = i == axis || data->dim[i] < 0 || index->dim[i] <= data->dim[i];
    if (!fits)
        return bad_shape(c, e, "indices of shape %s do not fit a tensor of shape %s", call_text(c, 0, index), call_text(c, 1, data));
    return call_set(c, 0, index, e);
}

/* ---- Pad ---- */

/* What a mode needs of an axis to have something to copy from. */
static bool check_border(struct call *c, const char *mode, int axis, int64_t dim, struct num before, struct num after, struct err *e)
{
    int64_t most = before.n > after.n ? before.n : after.n;
    if (dim < 0 || !num_known(before) || !num_known(after) || most <= 0 || strcmp(mode, "constant") == 0)
        return true;
    bool fits = strcmp(mode, "reflect") == 0 ? most < dim : dim > 0;
    return fits || bad_shape(c, e, "axis %d of length %lld cannot be padded by %lld in mode '%.20s'", axis,
                             (long long)dim, (long long)most, mode);
}

static bool pad_axis(struct call *c, const char *mode, int axis, struct num before, struct num after, struct shape *out, struct err *e)
{
    if (!check_border(c, mode, axis, out->dim[axis], before, after, e))
        return false;
    struct num d = num_add(c->x->syms, num_dim(out->dim[axis]), num_add(c->x->syms, before, after));
    return call_dim(c, d, &out->dim[axis], e);
}

static bool check_mode(struct call *c, const char *mode, struct err *e)
{
    static const char *const modes[] = { "constant", "reflect", "edge", "wrap" };
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(mode, modes[i]) == 0)
            return true;
    return err_set(e, ERR_MODEL_OP, call_where(c), "the mode '%.40s' is not supported", mode);
}

bool rule_pad(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    const char *mode = node_str(c->n, "mode", "constant");
    struct axes axes = { .n = out.rank, .v = { 0, 1, 2, 3, 4, 5, 6, 7 } };
    bool given, known = true;
    int n;
    if (!call_in(c, 1))
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "its pads are missing");
    const struct num *pads = call_elems(c, 1, &n);
    if (!check_mode(c, mode, e) || !call_index_type(c, 1, e) || !call_rank(c, 1, 1, e) ||
        (call_in(c, 3) && !call_axes(c, 3, out.rank, &axes, &given, &known, e)))
        return false;
    if (call_in(c, 2) && call_in(c, 2)->dtype != c->dtype)
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "the padding value is %s, the tensor %s",
                       dtype_name(call_in(c, 2)->dtype), dtype_name(c->dtype));
    if (!pads || !known)
        return forget_dims(c, &out, e) && call_set(c, 0, &out, e);
    if (n != 2 * axes.n)
        return bad_shape(c, e, "%d pads for %d axes of a tensor of shape %s", n, axes.n, call_text(c, 0, &out));
    for (int k = 0; k < axes.n; k++)
        if (!pad_axis(c, mode, axes.v[k], pads[k], pads[k + axes.n], &out, e))
            return false;
    return call_set(c, 0, &out, e);
}
