/*
 * roles_norm.c - normalisations and activations that exporters spell out node by node.
 *
 * LayerNorm, anchored at its Div (torch, opset < 17):
 *     d = x - ReduceMean(x);  v = ReduceMean(d^2);  Div(d, Sqrt(v + eps)) [* gamma] [+ beta]
 *     d^2 is Pow(d, 2) or Mul(d, d); d may be computed twice.
 * RMSNorm, anchored at the Mul or Div that scales x:
 *     x * (1 / Sqrt(ReduceMean(x^2) + eps))  with Div(1, .) or Reciprocal, or x / Sqrt(.)   [* gamma]
 * Either also as one node (LayerNormalization, RMSNormalization).
 */
#include "core/graph/roles.h"

#include <math.h>
#include <string.h>

static const struct node *made_by(const struct graph *g, int v, enum op op)
{
    int at = v >= 0 ? g->values[v].producer : -1;
    return at >= 0 && g->nodes[at].op == op ? &g->nodes[at] : NULL;
}

/* A constant scalar's value. */
static bool scalar(const struct graph *g, int v, float *ret)
{
    if (v < 0 || !g->values[v].is_const || g->values[v].dtype != DT_F32 || shape_elements(&g->values[v].shape) != 1)
        return false;
    memcpy(ret, g->values[v].data, sizeof *ret);
    return true;
}

static bool scalar_near(const struct graph *g, int v, float want)
{
    float x;
    return scalar(g, v, &x) && fabsf(x - want) <= 1e-4f * fabsf(want);
}

/* If n is a two-operand node with the constant scalar `want` on either side: the other side, else -1. */
static int other_than(const struct graph *g, const struct node *n, float want)
{
    return !n ? -1 : scalar_near(g, n->in[1], want) ? n->in[0] : scalar_near(g, n->in[0], want) ? n->in[1] : -1;
}

static int square_of(const struct graph *g, int v)
{
    const struct node *pow = made_by(g, v, OP_POW), *mul = made_by(g, v, OP_MUL);
    if (pow && scalar_near(g, pow->in[1], 2.0f))
        return pow->in[0];
    return mul && mul->in[0] == mul->in[1] ? mul->in[0] : -1;
}

static bool over_last_axis(const struct graph *g, const struct node *mean)
{
    size_t n;
    const int64_t *axes = node_ints(mean, "axes", &n);
    int64_t axis;
    if (!axes && mean->n_in > 1 && mean->in[1] >= 0 && g->values[mean->in[1]].is_const
        && shape_elements(&g->values[mean->in[1]].shape) == 1) {
        axes = g->values[mean->in[1]].data;
        n = 1;
    }
    if (!axes || n != 1 || node_int(mean, "keepdims", 1) != 1)
        return false;
    memcpy(&axis, axes, sizeof axis);
    return axis == -1 || axis == g->values[mean->in[0]].shape.rank - 1;
}

static int mean_of(const struct graph *g, int v)
{
    const struct node *mean = made_by(g, v, OP_REDUCEMEAN);
    return mean && over_last_axis(g, mean) ? mean->in[0] : -1;
}

/* v = Sqrt(ReduceMean(square) + eps): what is squared, and eps. */
static int root_mean_square(const struct graph *g, int v, float *ret_eps)
{
    const struct node *sqrt_node = made_by(g, v, OP_SQRT);
    const struct node *add = sqrt_node ? made_by(g, sqrt_node->in[0], OP_ADD) : NULL;
    if (!add)
        return -1;
    int variance = scalar(g, add->in[1], ret_eps) ? add->in[0] : scalar(g, add->in[0], ret_eps) ? add->in[1] : -1;
    int squared = variance >= 0 ? mean_of(g, variance) : -1;
    return squared >= 0 ? square_of(g, squared) : -1;
}

/* x - ReduceMean(x): x, else -1. */
static int centred(const struct graph *g, int v)
{
    const struct node *sub = made_by(g, v, OP_SUB);
    return sub && mean_of(g, sub->in[1]) == sub->in[0] ? sub->in[0] : -1;
}

/* If the only reader of v is `op` with a constant vector on the other side: take it in. */
static void absorb(const struct graph *g, enum op op, struct norm *norm, int *ret_const)
{
    const struct value *v = &g->values[norm->output];
    if (v->n_consumers != 1 || v->is_output)
        return;
    const struct node *n = &g->nodes[v->consumers[0]];
    if (n->op != op || n->n_in != 2)
        return;
    int other = n->in[0] == norm->output ? n->in[1] : n->in[0];
    const struct value *c = &g->values[other];
    if (other == norm->output || !c->is_const || c->dtype != DT_F32 || c->shape.rank < 1
        || shape_elements(&c->shape) != c->shape.dim[c->shape.rank - 1])
        return;
    *ret_const = other;
    norm->last = v->consumers[0];
    norm->output = n->out[0];
}

static bool match_single(const struct graph *g, int at, struct norm *ret)
{
    const struct node *n = &g->nodes[at];
    if (n->op != OP_LAYERNORM && n->op != OP_RMSNORM)
        return false;
    *ret = (struct norm){ .rms = n->op == OP_RMSNORM, .x = n->in[0], .output = n->out[0], .gamma = n->in[1],
                          .beta = n->n_in > 2 ? n->in[2] : -1, .eps = node_float(n, "epsilon", 1e-5f), .first = at, .last = at };
    return true;
}

static bool match_layernorm(const struct graph *g, int at, struct norm *ret)
{
    const struct node *div = &g->nodes[at];
    float eps;
    if (div->op != OP_DIV)
        return false;
    int x = centred(g, div->in[0]);
    int squared = root_mean_square(g, div->in[1], &eps);
    if (x < 0 || squared < 0 || centred(g, squared) != x)
        return false;
    *ret = (struct norm){ .decomposed = true, .x = x, .output = div->out[0], .gamma = -1, .beta = -1, .eps = eps,
                          .first = g->values[div->in[0]].producer, .last = at };
    absorb(g, OP_MUL, ret, &ret->gamma);
    absorb(g, OP_ADD, ret, &ret->beta);
    return true;
}

static bool match_rmsnorm(const struct graph *g, int at, struct norm *ret)
{
    const struct node *n = &g->nodes[at];
    float eps = 0;
    int x = -1;
    if (n->op == OP_DIV && root_mean_square(g, n->in[1], &eps) == n->in[0])
        x = n->in[0];
    for (int side = 0; n->op == OP_MUL && side < 2 && x < 0; side++) {
        const struct node *div = made_by(g, n->in[side], OP_DIV), *rec = made_by(g, n->in[side], OP_RECIPROCAL);
        int root = div && scalar_near(g, div->in[0], 1.0f) ? div->in[1] : rec ? rec->in[0] : -1;
        if (root >= 0 && root_mean_square(g, root, &eps) == n->in[1 - side])
            x = n->in[1 - side];
    }
    if (x < 0)
        return false;
    *ret = (struct norm){ .rms = true, .decomposed = true, .x = x, .output = n->out[0], .gamma = -1, .beta = -1,
                          .eps = eps, .first = at, .last = at };
    absorb(g, OP_MUL, ret, &ret->gamma);
    return true;
}

bool roles_match_norm(const struct graph *g, int at, struct norm *ret)
{
    return match_single(g, at, ret) || match_layernorm(g, at, ret) || match_rmsnorm(g, at, ret);
}

/* 1 + Erf(x / sqrt 2), with Div or Mul inside: x, else -1. */
static int erf_term(const struct graph *g, int v)
{
    const struct node *add = made_by(g, v, OP_ADD);
    int erf_out = other_than(g, add, 1.0f);
    const struct node *erf_node = made_by(g, erf_out, OP_ERF);
    if (!erf_node)
        return -1;
    const struct node *div = made_by(g, erf_node->in[0], OP_DIV);
    if (div && scalar_near(g, div->in[1], 1.41421356f))
        return div->in[0];
    return other_than(g, made_by(g, erf_node->in[0], OP_MUL), 0.70710678f);
}

/*
 * The last Mul of x * 0.5 * (1 + erf): three factors in any order and bracketing.
 * torch: Mul(Mul(x, 1 + erf), 0.5); dynamo: Mul(x, Mul(1 + erf, 0.5)); older: Mul(Mul(x, 0.5), 1 + erf).
 */
static int gelu_input(const struct graph *g, const struct node *last)
{
    int whole = other_than(g, last, 0.5f);
    const struct node *inner = made_by(g, whole, OP_MUL);
    for (int side = 0; side < 2; side++) {
        int x = inner ? erf_term(g, inner->in[side]) : -1;
        if (x >= 0 && inner->in[1 - side] == x)
            return x;
        x = erf_term(g, last->in[side]);
        if (x >= 0 && other_than(g, made_by(g, last->in[1 - side], OP_MUL), 0.5f) == x)
            return x;
        int half = other_than(g, made_by(g, last->in[side], OP_MUL), 0.5f);
        x = half >= 0 ? erf_term(g, half) : -1;
        if (x >= 0 && last->in[1 - side] == x)
            return x;
    }
    return -1;
}

static int silu_input(const struct graph *g, const struct node *mul)
{
    for (int side = 0; side < 2; side++) {
        const struct node *s = made_by(g, mul->in[side], OP_SIGMOID);
        if (s && s->in[0] == mul->in[1 - side])
            return s->in[0];
    }
    return -1;
}

bool roles_match_activation(const struct graph *g, int at, struct activation *ret)
{
    const struct node *n = &g->nodes[at];
    *ret = (struct activation){ .x = n->n_in ? n->in[0] : -1, .output = n->out[0], .last = at };
    if (n->op == OP_GELU) {
        ret->kind = strcmp(node_str(n, "approximate", "none"), "tanh") == 0 ? ACT_GELU_TANH : ACT_GELU;
        return true;
    }
    ret->kind = ACT_RELU;
    if (n->op == OP_RELU)
        return true;
    if (n->op != OP_MUL)
        return false;
    ret->kind = ACT_GELU;
    ret->x = gelu_input(g, n);
    if (ret->x < 0) {
        ret->kind = ACT_SILU;
        ret->x = silu_input(g, n);
    }
    return ret->x >= 0;
}
