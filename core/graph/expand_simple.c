/* expand_simple.c - operators that are a few others: sums, norms, activations, com.microsoft's fusions. */
#include "core/graph/expand.h"

#include <math.h>

static int sum_of(struct expansion *s, const struct node *n)
{
    int sum = n->in[0];
    for (int i = 1; i < n->n_in; i++)
        sum = EX(OP_ADD, sum, n->in[i]);
    return sum;
}

void expand_sum(struct expansion *s, const struct node *n, int *ret) { ret[0] = sum_of(s, n); }

void expand_mean(struct expansion *s, const struct node *n, int *ret)
{
    int sum = sum_of(s, n);
    ret[0] = EX(OP_DIV, sum, ex_real(s, n, ex_type(s, sum), n->n_in));
}

void expand_castlike(struct expansion *s, const struct node *n, int *ret) { ret[0] = ex_cast(s, n, n->in[0], ex_type(s, n->in[1])); }

void expand_hardswish(struct expansion *s, const struct node *n, int *ret)
{
    int gate = EX_WITH(OP_HARDSIGMOID, EX_ATTRS(EX_FLOAT("alpha", 1.0f / 6), EX_FLOAT("beta", 0.5f)), n->in[0]);
    ret[0] = EX(OP_MUL, n->in[0], gate);
}

void expand_swiglu(struct expansion *s, const struct node *n, int *ret)
{
    ret[0] = EX(OP_MUL, EX_WITH(OP_SWISH, EX_ATTRS(EX_FLOAT("alpha", node_float(n, "alpha", 1))), n->in[0]), n->in[1]);
}

/* ---- statistics over axes ---- */

/* A reduction that keeps its axes; they are an attribute or an input as the opset has it. */
static int reduce(struct expansion *s, const struct node *n, enum op op, int x, const int64_t *axes, int n_axes)
{
    if (s->g->opset >= 18 || op == OP_REDUCESUM)
        return EX(op, x, ex_ints(s, axes, n_axes));
    return EX_WITH(op, EX_ATTRS(EX_INTS("axes", axes, (size_t)n_axes)), x);
}

static int over_space(struct expansion *s, const struct node *n, enum op op)
{
    int64_t axes[TENSOR_MAX_RANK];
    int rank = ex_rank(s, n, n->in[0]);
    for (int i = 2; i < rank; i++)
        axes[i - 2] = i;
    if (rank < 3)
        ex_fail(s, n, "its input has no spatial axes");
    return s->failed ? -1 : reduce(s, n, op, n->in[0], axes, rank - 2);
}

void expand_global_mean(struct expansion *s, const struct node *n, int *ret) { ret[0] = over_space(s, n, OP_REDUCEMEAN); }
void expand_global_max(struct expansion *s, const struct node *n, int *ret) { ret[0] = over_space(s, n, OP_REDUCEMAX); }

/* (x - mean) / sqrt(variance + epsilon) */
static int normalized(struct expansion *s, const struct node *n, int x, const int64_t *axes, int n_axes, double epsilon)
{
    int centred = EX(OP_SUB, x, reduce(s, n, OP_REDUCEMEAN, x, axes, n_axes));
    int variance = reduce(s, n, OP_REDUCEMEAN, EX(OP_MUL, centred, centred), axes, n_axes);
    return EX(OP_DIV, centred, EX(OP_SQRT, EX(OP_ADD, variance, ex_real(s, n, ex_type(s, x), epsilon))));
}

/* A vector over the channels, shaped to meet [batch, channels, ...]. */
static int channels(struct expansion *s, const struct node *n, int v, int rank) { return ex_unsqueeze(s, n, v, 1, rank - 2); }

void expand_mvn(struct expansion *s, const struct node *n, int *ret)
{
    size_t given;
    static const int64_t usual[] = { 0, 2, 3 };
    const int64_t *axes = node_ints(n, "axes", &given);
    int x = n->in[0], n_axes = axes ? (int)given : 3;
    if (n_axes > TENSOR_MAX_RANK)
        return ex_fail(s, n, "more axes than a tensor can have");
    axes = axes ? axes : usual;
    int centred = EX(OP_SUB, x, reduce(s, n, OP_REDUCEMEAN, x, axes, n_axes));
    int deviation = EX(OP_SQRT, reduce(s, n, OP_REDUCEMEAN, EX(OP_MUL, centred, centred), axes, n_axes));
    ret[0] = EX(OP_DIV, centred, EX(OP_ADD, deviation, ex_real(s, n, ex_type(s, x), 1e-9)));
}

void expand_batchnorm(struct expansion *s, const struct node *n, int *ret)
{
    int rank = ex_rank(s, n, n->in[0]);
    enum dtype t = ex_type(s, n->in[0]), p = ex_type(s, n->in[4]);
    if (node_int(n, "training_mode", 0) || rank < 2)
        return ex_fail(s, n, "a BatchNormalization in training mode, or without channels, is not supported; export the model in eval mode");
    int deviation = EX(OP_SQRT, EX(OP_ADD, n->in[4], ex_real(s, n, p, (double)node_float(n, "epsilon", 1e-5f))));
    int scale = EX(OP_DIV, ex_cast(s, n, n->in[1], p), deviation);
    int shift = EX(OP_SUB, ex_cast(s, n, n->in[2], p), EX(OP_MUL, n->in[3], scale));
    int y = EX(OP_MUL, ex_cast(s, n, n->in[0], p), channels(s, n, scale, rank));
    ret[0] = ex_cast(s, n, EX(OP_ADD, y, channels(s, n, shift, rank)), t);
}

void expand_instancenorm(struct expansion *s, const struct node *n, int *ret)
{
    int64_t axes[TENSOR_MAX_RANK];
    int rank = ex_rank(s, n, n->in[0]);
    for (int i = 2; i < rank; i++)
        axes[i - 2] = i;
    if (rank < 3)
        return ex_fail(s, n, "its input has no spatial axes");
    int y = normalized(s, n, n->in[0], axes, rank - 2, (double)node_float(n, "epsilon", 1e-5f));
    ret[0] = EX(OP_ADD, EX(OP_MUL, y, channels(s, n, n->in[1], rank)), channels(s, n, n->in[2], rank));
}

/* Since opset 21 scale and bias are per channel; before, per group. */
void expand_groupnorm(struct expansion *s, const struct node *n, int *ret)
{
    static const int64_t last = 2;
    int64_t groups = node_int(n, "num_groups", 0);
    int rank = ex_rank(s, n, n->in[0]);
    if (rank < 2 || groups < 1 || groups > TENSOR_MAX_DIM)
        return ex_fail(s, n, "it has no groups, or its input no channels");
    enum dtype t = ex_type(s, n->in[0]);
    int x = ex_cast(s, n, n->in[0], t == DT_F64 ? t : DT_F32), shape = EX(OP_SHAPE, x);
    bool each = s->g->opset >= 21;
    int y = ex_reshape(s, n, x, (const int64_t[]){ 0, groups, -1 }, 3);
    y = normalized(s, n, y, &last, 1, (double)node_float(n, "epsilon", 1e-5f));
    if (each)
        y = EX(OP_RESHAPE, ex_cast(s, n, y, t), shape);
    int wide = each ? rank : 3;
    y = EX(OP_ADD, EX(OP_MUL, ex_cast(s, n, y, t), channels(s, n, n->in[1], wide)), channels(s, n, n->in[2], wide));
    ret[0] = each ? y : EX(OP_RESHAPE, y, shape);
}

/* A line of zeros stays one. */
void expand_lpnorm(struct expansion *s, const struct node *n, int *ret)
{
    const int64_t axis = node_int(n, "axis", -1), p = node_int(n, "p", 2);
    enum dtype t = ex_type(s, n->in[0]);
    if (p != 1 && p != 2)
        return ex_fail(s, n, "only the norms of order 1 and 2 are supported");
    int norm = reduce(s, n, p == 1 ? OP_REDUCEL1 : OP_REDUCEL2, n->in[0], &axis, 1), zero = ex_real(s, n, t, 0);
    int empty = EX(OP_EQUAL, norm, zero);
    ret[0] = EX(OP_DIV, n->in[0], EX(OP_WHERE, empty, ex_real(s, n, t, 1), norm));
}

/* ---- CenterCropPad: one Pad, which crops where it is negative ---- */

void expand_crop(struct expansion *s, const struct node *n, int *ret)
{
    size_t given;
    int rank = ex_rank(s, n, n->in[0]), wanted;
    const int64_t *axes = node_ints(n, "axes", &given);
    const struct num *to = fact_elems(s->x, &s->x->fact[n->in[1]], &wanted);
    int64_t pads[2 * TENSOR_MAX_RANK] = { 0 };
    if (!to || wanted != (axes ? (int)given : rank) || wanted > rank)
        return ex_fail(s, n, "the target shape is not known, or does not fit its axes");
    for (int i = 0; i < wanted && !s->failed; i++) {
        int64_t axis = axes ? axes[i] : i;
        axis = axis < 0 ? axis + rank : axis;
        if (axis < 0 || axis >= rank || !num_known(to[i]) || to[i].n < 0)
            return ex_fail(s, n, "an axis or a length of the target shape is not known or negative");
        int64_t more = to[i].n - ex_dim(s, n, n->in[0], (int)axis);
        /* Rounded down both ways: the middle of an odd difference lies one to the left. */
        pads[axis] = more / 2;
        pads[rank + axis] = more - more / 2;
    }
    ret[0] = EX(OP_PAD, n->in[0], ex_ints(s, pads, 2 * rank));
}

/* ---- com.microsoft ---- */

static int gelu(struct expansion *s, const struct node *n, int x, bool by_tanh)
{
    enum dtype t = ex_type(s, x);
    int half = EX(OP_MUL, x, ex_real(s, n, t, 0.5)), inner;
    if (by_tanh) {
        int cube = EX(OP_MUL, EX(OP_POW, x, ex_real(s, n, t, 3)), ex_real(s, n, t, 0.044715));
        inner = EX(OP_TANH, EX(OP_MUL, EX(OP_ADD, x, cube), ex_real(s, n, t, sqrt(2 / M_PI))));
    } else {
        inner = EX(OP_ERF, EX(OP_DIV, x, ex_real(s, n, t, M_SQRT2)));
    }
    return EX(OP_MUL, half, EX(OP_ADD, inner, ex_real(s, n, t, 1)));
}

static int with_bias(struct expansion *s, const struct node *n)
{
    return ex_in(n, 1) < 0 ? n->in[0] : EX(OP_ADD, n->in[0], n->in[1]);
}

void expand_msgelu(struct expansion *s, const struct node *n, int *ret) { ret[0] = gelu(s, n, n->in[0], false); }
void expand_biasgelu(struct expansion *s, const struct node *n, int *ret) { ret[0] = gelu(s, n, with_bias(s, n), false); }
void expand_fastgelu(struct expansion *s, const struct node *n, int *ret) { ret[0] = gelu(s, n, with_bias(s, n), true); }

void expand_quickgelu(struct expansion *s, const struct node *n, int *ret)
{
    int alpha = ex_real(s, n, ex_type(s, n->in[0]), (double)node_float(n, "alpha", 1.702f));
    ret[0] = EX(OP_MUL, n->in[0], EX(OP_SIGMOID, EX(OP_MUL, n->in[0], alpha)));
}

/* LayerNormalization is an operator since opset 17; RMSNormalization since 23, so that it is always spelled out. */
static int layernorm(struct expansion *s, const struct node *n, int x, int scale, int bias)
{
    static const int64_t last = -1;
    float epsilon = node_float(n, "epsilon", 1e-12f);
    if (s->g->opset >= 17)
        return EX_WITH(OP_LAYERNORM, EX_ATTRS(EX_INT("axis", -1), EX_FLOAT("epsilon", epsilon)), x, scale, bias);
    int y = EX(OP_MUL, normalized(s, n, x, &last, 1, (double)epsilon), scale);
    return bias < 0 ? y : EX(OP_ADD, y, bias);
}

static int rmsnorm(struct expansion *s, const struct node *n, int x, int scale, double epsilon)
{
    const int64_t axis = node_int(n, "axis", -1);
    enum dtype t = ex_type(s, x);
    if (axis != -1 && axis != ex_rank(s, n, x) - 1)
        ex_fail(s, n, "only a norm over the last axis is supported");
    int mean = reduce(s, n, OP_REDUCEMEAN, EX(OP_POW, x, ex_real(s, n, t, 2)), (const int64_t[]){ -1 }, 1);
    int root = EX(OP_SQRT, EX(OP_ADD, mean, ex_real(s, n, t, epsilon)));
    return EX(OP_MUL, EX(OP_DIV, x, root), scale);
}

/* input + skip (+ bias); also the node's fourth output. */
static int skip_sum(struct expansion *s, const struct node *n, int bias)
{
    int sum = EX(OP_ADD, n->in[0], n->in[1]);
    return bias < 0 ? sum : EX(OP_ADD, sum, bias);
}

void expand_skip_layernorm(struct expansion *s, const struct node *n, int *ret)
{
    ret[3] = skip_sum(s, n, ex_in(n, 4));
    ret[0] = layernorm(s, n, ret[3], n->in[2], ex_in(n, 3));
}

void expand_skip_simplified(struct expansion *s, const struct node *n, int *ret)
{
    ret[3] = skip_sum(s, n, ex_in(n, 3));
    ret[0] = rmsnorm(s, n, ret[3], n->in[2], (double)node_float(n, "epsilon", 1e-12f));
}

void expand_simplified(struct expansion *s, const struct node *n, int *ret)
{
    ret[0] = rmsnorm(s, n, n->in[0], n->in[1], (double)node_float(n, "epsilon", 1e-5f));
}
