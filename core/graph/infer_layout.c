/* infer_layout.c - rules of operators that regroup dimensions without selecting from them. */
#include "core/graph/infer.h"

#include <string.h>

bool rule_shape(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { .rank = 1 };
    if (s->rank < 0)
        return call_dim(c, NUM_UNKNOWN, &out.dim[0], e) && call_set(c, 0, &out, e);
    int64_t start = node_int(c->n, "start", 0), end = node_int(c->n, "end", s->rank);
    struct num first;
    /* The same clamping as a Slice: the attributes may point anywhere. */
    struct num n = slice_length(c->x->syms, NUM(s->rank), NUM(start), NUM(end), 1, &first);
    return call_dim(c, n, &out.dim[0], e) && call_set(c, 0, &out, e);
}

bool rule_size(struct call *c, struct err *e) { return call_set(c, 0, &(struct shape){ .rank = 0 }, e); }

/* ---- Reshape ---- */

struct reshape {
    const struct shape *from;
    struct shape to;
    int infer;                         /* the dimension given as -1, or -1 */
};

static bool reshape_target(struct call *c, struct reshape *r, const struct num *want, struct err *e)
{
    bool zero_copies = !node_int(c->n, "allowzero", 0);
    for (int i = 0; i < r->to.rank; i++) {
        struct num d = want ? want[i] : NUM_UNKNOWN;
        if (num_known(d) && d.n == -1) {
            if (r->infer >= 0)
                return bad_shape(c, e, "its target shape has -1 twice");
            r->infer = i;
            r->to.dim[i] = 1;
            continue;
        }
        if (num_known(d) && d.n == 0 && zero_copies) {
            if (r->from->rank < 0)
                d = NUM_UNKNOWN;
            else if (i >= r->from->rank)
                return bad_shape(c, e, "its target copies dimension %d of a tensor of shape %s", i, call_text(c, 0, r->from));
            else
                d = num_dim(r->from->dim[i]);
        }
        if (!call_dim(c, d, &r->to.dim[i], e))
            return false;
    }
    return true;
}

static void drop_dim(struct shape *s, int i)
{
    s->rank--;
    memmove(s->dim + i, s->dim + i + 1, (size_t)(s->rank - i) * sizeof *s->dim);
}

/* Removes the dimensions that both have, so that what is left divides more often. */
static void cancel(struct shape *a, struct shape *b)
{
    for (int i = 0; i < a->rank; i++)
        for (int k = 0; k < b->rank; k++)
            if (a->dim[i] == b->dim[k] && a->dim[i] != 0) {
                drop_dim(a, i--);
                drop_dim(b, k);
                break;
            }
}

static bool mismatch(struct call *c, const struct reshape *r, struct err *e)
{
    struct shape to = r->to;
    return bad_shape(c, e, "a tensor of shape %s cannot become %s%s: the numbers of elements differ",
                     call_text(c, 0, r->from), call_text(c, 1, &to), r->infer < 0 ? "" : " times any dimension");
}

static bool reshape_infer(struct call *c, struct reshape *r, struct err *e)
{
    struct shape from = *r->from, to = r->to;
    cancel(&from, &to);
    struct num all = shape_product(c->x, &from, 0, from.rank), rest = shape_product(c->x, &to, 0, to.rank);
    if (num_known(all) && num_known(rest)) {
        /* 0 / 0: any length fits; ONNX Runtime takes 0. */
        if (rest.n == 0 ? all.n != 0 : all.n % rest.n != 0)
            return mismatch(c, r, e);
        return call_dim(c, rest.n ? NUM(all.n / rest.n) : NUM(0), &r->to.dim[r->infer], e);
    }
    return call_dim(c, num_div(c->x->syms, all, rest), &r->to.dim[r->infer], e);
}

static bool reshape_check(struct call *c, const struct reshape *r, struct err *e)
{
    struct shape from = *r->from, to = r->to;
    cancel(&from, &to);
    struct num all = shape_product(c->x, &from, 0, from.rank), rest = shape_product(c->x, &to, 0, to.rank);
    bool overflow = all.sym == NUM_IS_OVERFLOW || rest.sym == NUM_IS_OVERFLOW;
    return (!overflow && (!num_known(all) || !num_known(rest) || all.n == rest.n)) || mismatch(c, r, e);
}

bool rule_reshape(struct call *c, struct err *e)
{
    struct reshape r = { .from = &call_in(c, 0)->shape, .infer = -1 };
    const struct fact *target = call_in(c, 1);
    int n;
    const struct num *want = call_elems(c, 1, &n);
    if (!call_index_type(c, 1, e) || !call_rank(c, 1, 1, e))
        return false;
    if (target->shape.rank < 0 || target->shape.dim[0] < 0)
        return call_unknown_shape(c, &r.to, e) && call_set(c, 0, &r.to, e);
    if (target->shape.dim[0] > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has rank %lld, at most %d is supported",
                       (long long)target->shape.dim[0], TENSOR_MAX_RANK);
    r.to.rank = (int)target->shape.dim[0];
    if (!reshape_target(c, &r, want, e))
        return false;
    if (r.from->rank < 0) {
        if (r.infer >= 0 && !call_dim(c, NUM_UNKNOWN, &r.to.dim[r.infer], e))
            return false;
    } else if (r.infer >= 0 ? !reshape_infer(c, &r, e) : !reshape_check(c, &r, e)) {
        return false;
    }
    return call_set(c, 0, &r.to, e);
}

bool rule_flatten(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { .rank = 2 };
    int64_t axis = node_int(c->n, "axis", 1);
    if (axis < -s->rank || axis > s->rank)
        return bad_shape(c, e, "axis %lld is outside a tensor of shape %s", (long long)axis, call_text(c, 0, s));
    int at = (int)(axis < 0 ? axis + s->rank : axis);
    return call_dim(c, shape_product(c->x, s, 0, at), &out.dim[0], e) &&
           call_dim(c, shape_product(c->x, s, at, s->rank), &out.dim[1], e) && call_set(c, 0, &out, e);
}

/* ---- Squeeze, Unsqueeze, Transpose ---- */

/* Without axes: every dimension of 1 goes; with a symbol among them the result is not known yet. */
static bool squeeze_ones(struct call *c, const struct shape *s, struct shape *out, struct err *e)
{
    if (!shape_known(s))
        return call_unknown_shape(c, out, e);
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] != 1)
            out->dim[out->rank++] = s->dim[i];
    return true;
}

bool rule_squeeze(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { 0 };
    struct axes axes;
    bool given, known;
    if (!call_axes(c, 1, s->rank, &axes, &given, &known, e))
        return false;
    if (!known || !given) {
        if (known ? !squeeze_ones(c, s, &out, e) : !call_unknown_shape(c, &out, e))
            return false;
        return call_set(c, 0, &out, e);
    }
    for (int i = 0; i < s->rank; i++) {
        if (!axes.set[i])
            out.dim[out.rank++] = s->dim[i];
        else if (s->dim[i] >= 0 && s->dim[i] != 1)
            return bad_shape(c, e, "axis %d of shape %s is not 1", i, call_text(c, 0, s));
    }
    return call_set(c, 0, &out, e);
}

bool rule_unsqueeze(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { 0 };
    struct axes axes;
    bool given, known;
    int n;
    size_t n_attr;
    const struct num *list = call_elems(c, 1, &n);
    node_ints(c->n, "axes", &n_attr);
    if (!list && call_in(c, 1))
        return call_unknown_shape(c, &out, e) && call_set(c, 0, &out, e);
    bool given_as = list || n_attr;            /* an attribute before opset 13 */
    out.rank = s->rank + (list ? n : n_attr > TENSOR_MAX_RANK ? TENSOR_MAX_RANK + 1 : (int)n_attr);
    if (!given_as || out.rank > TENSOR_MAX_RANK)
        return err_set(e, given_as ? ERR_MODEL_LIMIT : ERR_MODEL_INVALID, call_where(c),
                       given_as ? "its output has rank %d, at most %d is supported" : "its axes are missing", out.rank, TENSOR_MAX_RANK);
    if (!call_axes(c, 1, out.rank, &axes, &given, &known, e))
        return false;
    if (!known)
        return call_unknown_shape(c, &out, e) && call_set(c, 0, &out, e);
    for (int i = 0, from = 0; i < out.rank; i++)
        out.dim[i] = axes.set[i] ? 1 : s->dim[from++];
    return call_set(c, 0, &out, e);
}

bool rule_transpose(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { .rank = s->rank };
    bool seen[TENSOR_MAX_RANK] = { false };
    size_t n;
    const int64_t *perm = node_ints(c->n, "perm", &n);
    if (perm && n != (size_t)s->rank)
        return bad_shape(c, e, "perm has %zu entries for a tensor of shape %s", n, call_text(c, 0, s));
    for (int i = 0; i < s->rank; i++) {
        int64_t from = perm ? perm[i] : s->rank - 1 - i;
        if (from < 0 || from >= s->rank || seen[from])
            return bad_shape(c, e, "perm is not a permutation of the %d axes of shape %s", s->rank, call_text(c, 0, s));
        seen[from] = true;
        out.dim[i] = s->dim[from];
    }
    return call_set(c, 0, &out, e);
}

/* ---- Concat, Expand, Tile ---- */

bool rule_concat(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    int axis;
    if (!call_axis(c, node_int(c->n, "axis", 0), out.rank, e, &axis))
        return false;
    struct num sum = num_dim(out.dim[axis]);
    for (int k = 1; k < c->n->n_in; k++) {
        const struct shape *s = &call_in(c, k)->shape;
        bool fits = s->rank == out.rank;
        for (int i = 0; fits && i < out.rank; i++)
            fits = i == axis || dim_same(out.dim[i], s->dim[i], &out.dim[i]);
        if (!fits)
            return bad_shape(c, e, "input %d has shape %s, input 0 %s; they differ beside axis %d", k,
                             call_text(c, 0, s), call_text(c, 1, &call_in(c, 0)->shape), axis);
        sum = num_add(c->x->syms, sum, num_dim(s->dim[axis]));
    }
    return call_dim(c, sum, &out.dim[axis], e) && call_set(c, 0, &out, e);
}

bool rule_expand(struct call *c, struct err *e)
{
    const struct fact *target = call_in(c, 1);
    struct shape out = call_in(c, 0)->shape, to = { 0 };
    int n;
    const struct num *want = call_elems(c, 1, &n);
    if (!call_index_type(c, 1, e) || !call_rank(c, 1, 1, e))
        return false;
    if (target->shape.dim[0] < 0)
        return call_unknown_shape(c, &out, e) && call_set(c, 0, &out, e);
    if (target->shape.dim[0] > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "its output has rank %lld, at most %d is supported",
                       (long long)target->shape.dim[0], TENSOR_MAX_RANK);
    to.rank = (int)target->shape.dim[0];
    for (int i = 0; i < to.rank; i++)
        if (!call_dim(c, want ? want[i] : NUM_UNKNOWN, &to.dim[i], e))
            return false;
    if (!shape_broadcast(c->x, &out, &to))
        return bad_shape(c, e, "shape %s does not broadcast to %s", call_text(c, 0, &out), call_text(c, 1, &to));
    return call_set(c, 0, &out, e);
}

bool rule_tile(struct call *c, struct err *e)
{
    struct shape out = call_in(c, 0)->shape;
    const struct shape *s = &call_in(c, 1)->shape;
    int n;
    const struct num *repeats = call_elems(c, 1, &n);
    if (!call_index_type(c, 1, e) || !call_rank(c, 1, 1, e))
        return false;
    if (s->dim[0] >= 0 && s->dim[0] != out.rank)
        return bad_shape(c, e, "%lld repeats for a tensor of shape %s", (long long)s->dim[0], call_text(c, 0, &out));
    for (int i = 0; i < out.rank; i++) {
        struct num r = repeats ? repeats[i] : NUM_UNKNOWN;
        if (num_known(r) && r.n < 0)
            return bad_shape(c, e, "axis %d would be repeated %lld times", i, (long long)r.n);
        if (!call_dim(c, num_mul(c->x->syms, num_dim(out.dim[i]), r), &out.dim[i], e))
            return false;
    }
    return call_set(c, 0, &out, e);
}
