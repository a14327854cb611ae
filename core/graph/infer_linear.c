/* infer_linear.c - rules of products, norms, reductions and quantizers. */
#include "core/graph/infer.h"

#include <string.h>

/* ---- MatMul and Gemm ---- */

/* A vector is a row on the left and a column on the right. */
static struct shape as_matrix(const struct shape *s, bool left)
{
    if (s->rank != 1)
        return *s;
    return left ? (struct shape){ .rank = 2, .dim = { 1, s->dim[0] } } : (struct shape){ .rank = 2, .dim = { s->dim[0], 1 } };
}

bool rule_matmul(struct call *c, struct err *e)
{
    const struct shape *sa = &call_in(c, 0)->shape, *sb = &call_in(c, 1)->shape;
    struct shape a = as_matrix(sa, true), b = as_matrix(sb, false);
    int64_t unused;
    if (a.rank < 2 || b.rank < 2)
        return bad_shape(c, e, "shapes %s and %s: a scalar has no matrix product", call_text(c, 0, sa), call_text(c, 1, sb));
    int64_t rows = a.dim[a.rank - 2], cols = b.dim[b.rank - 1];
    if (!dim_same(a.dim[a.rank - 1], b.dim[b.rank - 2], &unused))
        return bad_shape(c, e, "shapes %s and %s: the inner dimensions %lld and %lld differ", call_text(c, 0, sa),
                         call_text(c, 1, sb), (long long)a.dim[a.rank - 1], (long long)b.dim[b.rank - 2]);
    a.rank -= 2;
    b.rank -= 2;
    if (!shape_broadcast(c->x, &a, &b))
        return bad_shape(c, e, "shapes %s and %s: the batch dimensions do not broadcast", call_text(c, 0, sa), call_text(c, 1, sb));
    if (sa->rank > 1)
        a.dim[a.rank++] = rows;
    if (sb->rank > 1)
        a.dim[a.rank++] = cols;
    return call_set(c, 0, &a, e);
}

bool rule_gemm(struct call *c, struct err *e)
{
    const struct shape *a = &call_in(c, 0)->shape, *b = &call_in(c, 1)->shape;
    bool ta = node_int(c->n, "transA", 0), tb = node_int(c->n, "transB", 0);
    int64_t unused;
    if (!call_rank(c, 0, 2, e) || !call_rank(c, 1, 2, e))
        return false;
    struct shape out = { .rank = 2, .dim = { a->dim[ta], b->dim[!tb] } };
    if (!dim_same(a->dim[!ta], b->dim[tb], &unused))
        return bad_shape(c, e, "shapes %s%s and %s%s: the inner dimensions differ", call_text(c, 0, a), ta ? " transposed" : "",
                         call_text(c, 1, b), tb ? " transposed" : "");
    if (call_in(c, 2) && !shape_broadcasts_to(c->x, &call_in(c, 2)->shape, &out))
        return bad_shape(c, e, "C of shape %s does not broadcast to the product's %s", call_text(c, 0, &call_in(c, 2)->shape),
                         call_text(c, 1, &out));
    return call_set(c, 0, &out, e);
}

/* ---- Conv ---- */

enum { CONV_AXES = 2 };

struct conv {
    int n;                             /* spatial axes */
    int64_t kernel[CONV_AXES];         /* a symbol where the weight is not a constant */
    int64_t stride[CONV_AXES], dilation[CONV_AXES], before[CONV_AXES], after[CONV_AXES];
    bool same;                         /* auto_pad SAME_*: the output is the input by strides, rounded up */
};

/* The attribute's n numbers in [least, 2^31), or `fallback` for each. */
static bool conv_ints(struct call *c, const char *name, size_t n, int64_t least, int64_t fallback, int64_t *ret, struct err *e)
{
    size_t given;
    const int64_t *list = node_ints(c->n, name, &given);
    if (list && given != n)
        return bad_shape(c, e, "%s has %zu entries where %zu are needed", name, given, n);
    for (size_t i = 0; i < n; i++) {
        ret[i] = list ? list[i] : fallback;
        if (ret[i] < least || ret[i] > INT32_MAX)
            return bad_shape(c, e, "%s has the entry %lld", name, (long long)ret[i]);
    }
    return true;
}

static bool conv_pads(struct call *c, struct conv *v, struct err *e)
{
    const char *mode = node_str(c->n, "auto_pad", "NOTSET");
    int64_t pads[2 * CONV_AXES];
    v->same = strcmp(mode, "SAME_UPPER") == 0 || strcmp(mode, "SAME_LOWER") == 0;
    if (!v->same && strcmp(mode, "NOTSET") != 0 && strcmp(mode, "VALID") != 0)
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "auto_pad='%.40s' is not an ONNX mode", mode);
    if (!conv_ints(c, "pads", 2 * (size_t)v->n, 0, 0, pads, e))
        return false;
    for (int i = 0; i < v->n; i++) {
        bool explicit = strcmp(mode, "NOTSET") == 0;
        v->before[i] = explicit ? pads[i] : 0;
        v->after[i] = explicit ? pads[i + v->n] : 0;
    }
    return true;
}

static bool conv_read(struct call *c, struct conv *v, struct err *e)
{
    const struct shape *w = &call_in(c, 1)->shape;
    size_t n = (size_t)v->n;
    if (!conv_ints(c, "kernel_shape", n, 1, 1, v->kernel, e) || !conv_ints(c, "strides", n, 1, 1, v->stride, e) ||
        !conv_ints(c, "dilations", n, 1, 1, v->dilation, e) || !conv_pads(c, v, e))
        return false;
    for (int i = 0; i < v->n; i++) {
        int64_t k = w->dim[i + 2];
        if (node_attr(c->n, "kernel_shape") && !dim_same(k, v->kernel[i], &k))
            return bad_shape(c, e, "kernel_shape says %lld on spatial axis %d, the weight is %s", (long long)v->kernel[i], i,
                             call_text(c, 0, w));
        if (k == 0 || k > INT32_MAX)
            return bad_shape(c, e, "a weight of shape %s has no kernel", call_text(c, 0, w));
        v->kernel[i] = k;
    }
    return true;
}

static bool conv_channels(struct call *c, struct err *e)
{
    const struct shape *x = &call_in(c, 0)->shape, *w = &call_in(c, 1)->shape;
    const struct shape *b = call_in(c, 2) ? &call_in(c, 2)->shape : NULL;
    int64_t group = node_int(c->n, "group", 1), taken, unused;
    if (group < 1 || (w->dim[0] >= 0 && w->dim[0] % group))
        return bad_shape(c, e, "%lld groups do not divide the %lld output channels", (long long)group, (long long)w->dim[0]);
    if (x->dim[1] >= 0 && w->dim[1] >= 0 && (__builtin_mul_overflow(w->dim[1], group, &taken) || taken != x->dim[1]))
        return bad_shape(c, e, "the input %s has %lld channels, the weight %s with %lld groups takes others", call_text(c, 0, x),
                         (long long)x->dim[1], call_text(c, 1, w), (long long)group);
    if (b && (b->rank != 1 || !dim_same(b->dim[0], w->dim[0], &unused)))
        return bad_shape(c, e, "the bias is %s, the weight %s", call_text(c, 0, b), call_text(c, 1, w));
    return true;
}

static bool conv_length(struct call *c, const struct conv *v, int i, int64_t dim, int64_t *ret, struct err *e)
{
    struct symbols *s = c->x->syms;
    struct num stride = NUM(v->stride[i]), in = num_dim(dim);
    if (v->kernel[i] < 0 && !v->same)
        return call_dim(c, NUM_UNKNOWN, ret, e);
    if (v->same)
        return call_dim(c, num_div(s, num_add(s, in, NUM(v->stride[i] - 1)), stride), ret, e);
    int64_t extent = (v->kernel[i] - 1) * v->dilation[i] + 1;      /* below 2^62: both are below 2^31 */
    struct num room = num_add(s, in, NUM(v->before[i] + v->after[i] - extent));
    if (num_known(room) && room.n < 0)
        return bad_shape(c, e, "spatial axis %d of length %lld is smaller than the kernel, which spans %lld", i,
                         (long long)dim, (long long)extent);
    return call_dim(c, num_add(s, num_div(s, room, stride), NUM(1)), ret, e);
}

bool rule_conv(struct call *c, struct err *e)
{
    const struct shape *x = &call_in(c, 0)->shape, *w = &call_in(c, 1)->shape;
    struct conv v = { .n = x->rank - 2 };
    if (v.n < 1 || v.n > CONV_AXES)
        return err_set(e, ERR_MODEL_OP, call_where(c), "a convolution of shape %s is not supported, only 1-D and 2-D ones are",
                       call_text(c, 0, x));
    if (w->rank != x->rank)
        return bad_shape(c, e, "the input is %s, the weight %s; their ranks differ", call_text(c, 0, x), call_text(c, 1, w));
    if (!conv_channels(c, e) || !conv_read(c, &v, e))
        return false;
    struct shape out = { .rank = x->rank, .dim = { x->dim[0], w->dim[0] } };
    for (int i = 0; i < v.n; i++)
        if (!conv_length(c, &v, i, x->dim[i + 2], &out.dim[i + 2], e))
            return false;
    return call_set(c, 0, &out, e);
}

/* ---- softmax and norms ---- */

bool rule_softmax(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    int axis;
    return call_axis(c, node_int(c->n, "axis", -1), s->rank, e, &axis) && call_set(c, 0, s, e);
}

/* Scale or bias: it broadcasts to the normalised axes and, where both are numbers, has as many elements. */
static bool check_scale(struct call *c, int i, const struct shape *rows, struct err *e)
{
    const struct shape *s = call_in(c, i) ? &call_in(c, i)->shape : NULL;
    if (!s)
        return true;
    struct num have = shape_product(c->x, s, 0, s->rank), want = shape_product(c->x, rows, 0, rows->rank);
    bool fits = shape_broadcasts_to(c->x, s, rows) && (!num_known(have) || !num_known(want) || have.n == want.n);
    return fits || bad_shape(c, e, "input %d has shape %s where the normalised axes are %s", i, call_text(c, 0, s), call_text(c, 1, rows));
}

bool rule_layernorm(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape rows = { 0 }, stat = *s;
    int axis;
    if (!call_axis(c, node_int(c->n, "axis", -1), s->rank, e, &axis))
        return false;
    for (int i = axis; i < s->rank; i++) {
        rows.dim[rows.rank++] = s->dim[i];
        stat.dim[i] = 1;
    }
    if (!check_scale(c, 1, &rows, e) || !check_scale(c, 2, &rows, e) || !call_set(c, 0, s, e))
        return false;
    c->dtype = DT_F32;                 /* mean and 1/deviation are in stash_type, which is float */
    for (int i = 1; i < c->n->n_out; i++)
        if (!call_set(c, i, &stat, e))
            return false;
    return true;
}

/* ---- reductions ---- */

bool rule_reduce(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { 0 };
    struct axes axes;
    bool given, known, keep = node_int(c->n, "keepdims", 1);
    if (!call_axes(c, 1, s->rank, &axes, &given, &known, e))
        return false;
    if (!known)
        return call_unknown_shape(c, &out, e) && call_set(c, 0, &out, e);
    if (!given && node_int(c->n, "noop_with_empty_axes", 0))
        return call_set(c, 0, s, e);
    for (int i = 0; i < s->rank; i++) {
        bool gone = !given || axes.set[i];
        if (!gone || keep)
            out.dim[out.rank++] = gone ? 1 : s->dim[i];
    }
    return call_set(c, 0, &out, e);
}

bool rule_argmax(struct call *c, struct err *e)
{
    const struct shape *s = &call_in(c, 0)->shape;
    struct shape out = { 0 };
    int axis;
    bool keep = node_int(c->n, "keepdims", 1);
    if (!call_axis(c, node_int(c->n, "axis", 0), s->rank, e, &axis))
        return false;
    if (s->dim[axis] == 0)
        return bad_shape(c, e, "axis %d of shape %s is empty: it has no largest element", axis, call_text(c, 0, s));
    for (int i = 0; i < s->rank; i++)
        if (i != axis || keep)
            out.dim[out.rank++] = i == axis ? 1 : s->dim[i];
    return call_set(c, 0, &out, e);
}

/* ---- QuantizeLinear and DequantizeLinear ---- */

#define CODES (1u << DT_I8 | 1u << DT_U8 | 1u << DT_I16 | 1u << DT_U16 | 1u << DT_I4 | 1u << DT_U4)
#define SCALES (1u << DT_F32 | 1u << DT_F16 | 1u << DT_BF16)

static enum dtype asked_type(const struct call *c)
{
    int64_t t = node_int(c->n, "output_dtype", 0);
    return t > 0 && t < 32 ? (enum dtype)t : DT_NONE;
}

bool type_quantize(struct call *c, struct err *e)
{
    enum dtype asked = asked_type(c);
    c->dtype = call_in(c, 2) ? call_in(c, 2)->dtype : asked ? asked : DT_U8;
    if (call_in(c, 2) && asked && asked != c->dtype)
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "output_dtype is %s, the zero point %s", dtype_name(asked), dtype_name(c->dtype));
    return (CODES >> c->dtype & 1) || err_set(e, ERR_MODEL_OP, call_where(c), "codes of type %s are not supported", dtype_name(c->dtype));
}

bool type_dequantize(struct call *c, struct err *e)
{
    enum dtype asked = asked_type(c), codes = call_in(c, 0)->dtype;
    c->dtype = asked ? asked : call_in(c, 1)->dtype;
    if (call_in(c, 2) && call_in(c, 2)->dtype != codes)
        return err_set(e, ERR_MODEL_INVALID, call_where(c), "the zero point is %s, the codes are %s", dtype_name(call_in(c, 2)->dtype),
                       dtype_name(codes));
    return (SCALES >> c->dtype & 1) || err_set(e, ERR_MODEL_OP, call_where(c), "results of type %s are not supported", dtype_name(c->dtype));
}

/* One number for the whole tensor; a symbol may be 1. */
static bool is_one(const struct shape *s) { return s->rank == 0 || (s->rank == 1 && (s->dim[0] == 1 || s->dim[0] < 0)); }

/* Blocks of block_size along the axis, one scale each; the last block may be short. */
static bool check_blocks(struct call *c, int axis, int64_t block, const struct shape *x, const struct shape *s, struct err *e)
{
    bool fits = block > 0 && block <= TENSOR_MAX_DIM && s->rank == x->rank;
    for (int i = 0; fits && i < x->rank; i++) {
        int64_t want = i != axis || x->dim[i] < 0 ? x->dim[i] : (x->dim[i] + block - 1) / block, unused;
        fits = dim_same(want, s->dim[i], &unused);
    }
    return fits || bad_shape(c, e, "scales of shape %s do not fit a tensor of shape %s in blocks of %lld on axis %d",
                             call_text(c, 0, s), call_text(c, 1, x), (long long)block, axis);
}

static bool check_scales(struct call *c, const struct shape *x, const struct shape *s, struct err *e)
{
    int64_t block = node_int(c->n, "block_size", 0), unused;
    int axis;
    if (block == 0 && is_one(s))
        return true;
    if (!call_axis(c, node_int(c->n, "axis", 1), x->rank, e, &axis))
        return false;
    if (block)
        return check_blocks(c, axis, block, x, s, e);
    return (s->rank == 1 && dim_same(s->dim[0], x->dim[axis], &unused)) ||
           bad_shape(c, e, "scales of shape %s do not fit axis %d of a tensor of shape %s", call_text(c, 0, s), axis, call_text(c, 1, x));
}

bool rule_quantize(struct call *c, struct err *e)
{
    const struct shape *x = &call_in(c, 0)->shape, *s = &call_in(c, 1)->shape;
    if (!(SCALES >> call_in(c, 1)->dtype & 1))
        return err_set(e, ERR_MODEL_OP, call_where(c), "scales of type %s are not supported", dtype_name(call_in(c, 1)->dtype));
    if (!check_scales(c, x, s, e))
        return false;
    const struct shape *z = call_in(c, 2) ? &call_in(c, 2)->shape : s;
    int64_t unused;
    bool fits = z->rank == s->rank || (is_one(z) && is_one(s));
    for (int i = 0; fits && i < s->rank && i < z->rank; i++)
        fits = dim_same(z->dim[i], s->dim[i], &unused);
    if (!fits)
        return bad_shape(c, e, "the zero point is %s, the scale %s", call_text(c, 0, z), call_text(c, 1, s));
    return call_set(c, 0, x, e);
}
