/*
 * roles_norm.c - normalisations and activations that exporters spell out node by node.
 *
 * Both are anchored at the Div or Mul that scales: a / Sqrt(.), or a * (1 / Sqrt(.)) with Div(1, .) or Reciprocal.
 * LayerNorm (torch, opset < 17):
 *     d = x - ReduceMean(x);  d / Sqrt(ReduceMean(d^2) + eps) [* gamma] [+ beta]
 *     d^2 is Pow(d, 2) or Mul(d, d); d may be computed twice.
 * LayerNorm (TensorFlow, Keras), anchored at its last Add or Sub:
 *     r = [gamma *] (1 / Sqrt(ReduceMean(d^2) + eps));  x * r + (beta - ReduceMean(x) * r), or without beta x * r - ReduceMean(x) * r
 * RMSNorm:
 *     x / Sqrt(ReduceMean(x^2) + eps) [* gamma]
 * Either also as one node (LayerNormalization, RMSNormalization) over the last axis, by constants.
 */
#include "core/graph/roles.h"

#include <math.h>
#include <string.h>

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
    const struct node *pow = graph_made_by(g, v, OP_POW), *mul = graph_made_by(g, v, OP_MUL);
    if (pow && scalar_near(g, pow->in[1], 2.0f))
        return pow->in[0];
    return mul && mul->in[0] == mul->in[1] ? mul->in[0] : -1;
}

static bool is_last_axis(const struct graph *g, int v, int64_t axis)
{
    int rank = g->values[v].shape.rank;
    return axis == -1 || (rank > 0 && axis == rank - 1);
}

/* The only axis that a reduction's attribute or constant input gives. */
static bool one_axis(const struct graph *g, const struct node *mean, int64_t *ret)
{
    size_t n;
    const int64_t *axes = node_ints(mean, "axes", &n);
    const struct value *v = mean->n_in > 1 && mean->in[1] >= 0 ? &g->values[mean->in[1]] : NULL;
    int32_t narrow;
    if (axes) {
        *ret = n ? axes[0] : 0;
        return n == 1;
    }
    if (!v || !v->is_const || (v->dtype != DT_I64 && v->dtype != DT_I32) || shape_elements(&v->shape) != 1)
        return false;
    if (v->dtype == DT_I64) {
        memcpy(ret, v->data, sizeof *ret);
        return true;
    }
    memcpy(&narrow, v->data, sizeof narrow);
    *ret = narrow;
    return true;
}

static bool over_last_axis(const struct graph *g, const struct node *mean)
{
    int64_t axis;
    return one_axis(g, mean, &axis) && node_int(mean, "keepdims", 1) == 1 && is_last_axis(g, mean->in[0], axis);
}

static int mean_of(const struct graph *g, int v)
{
    const struct node *mean = graph_made_by(g, v, OP_REDUCEMEAN);
    return mean && over_last_axis(g, mean) ? mean->in[0] : -1;
}

/* v = Sqrt(ReduceMean(square) + eps): what is squared, and eps. */
static int root_mean_square(const struct graph *g, int v, float *ret_eps)
{
    const struct node *sqrt_node = graph_made_by(g, v, OP_SQRT);
    const struct node *add = sqrt_node ? graph_made_by(g, sqrt_node->in[0], OP_ADD) : NULL;
    if (!add)
        return -1;
    int variance = scalar(g, add->in[1], ret_eps) ? add->in[0] : scalar(g, add->in[0], ret_eps) ? add->in[1] : -1;
    int squared = variance >= 0 ? mean_of(g, variance) : -1;
    return squared >= 0 ? square_of(g, squared) : -1;
}

/* x - ReduceMean(x): x, else -1. */
static int centred(const struct graph *g, int v)
{
    const struct node *sub = graph_made_by(g, v, OP_SUB);
    return sub && mean_of(g, sub->in[1]) == sub->in[0] ? sub->in[0] : -1;
}

/* Is the value a constant vector along the last axis of s? */
static bool is_row(const struct graph *g, int value, const struct shape *s)
{
    const struct value *c = &g->values[value];
    return c->is_const && c->dtype == DT_F32 && c->shape.rank >= 1 && s->rank >= c->shape.rank
        && c->shape.dim[c->shape.rank - 1] == s->dim[s->rank - 1] && shape_elements(&c->shape) == s->dim[s->rank - 1];
}

/* If the only reader of v is `op` with a constant vector on the other side: take it in. */
static void absorb(const struct graph *g, enum op op, struct norm *norm, int *ret_const, int *ret_node, int *ret_input)
{
    const struct value *v = &g->values[norm->output];
    if (v->n_consumers != 1 || v->is_output)
        return;
    const struct node *n = &g->nodes[v->consumers[0]];
    if (n->op != op || n->n_in != 2)
        return;
    int other = n->in[0] == norm->output ? n->in[1] : n->in[0];
    if (other == norm->output || !is_row(g, other, &v->shape))
        return;
    *ret_const = other;
    *ret_node = v->consumers[0];
    *ret_input = n->in[0] == other ? 0 : 1;
    norm->last = v->consumers[0];
    norm->output = n->out[0];
}

/* Factors and shifts that are not numbers yet, or no plain floats, cannot take others up. */
static bool plain_floats(const struct graph *g, int v) { return g->values[v].is_const && g->values[v].dtype == DT_F32 && g->values[v].data; }

static bool match_single(const struct graph *g, const struct node *n, int at, struct norm *ret)
{
    if ((n->op != OP_LAYERNORM && n->op != OP_RMSNORM) || !is_last_axis(g, n->in[0], node_int(n, "axis", -1)))
        return false;
    bool shifts = n->n_in > 2 && n->in[2] >= 0;
    if (!plain_floats(g, n->in[1]) || (shifts && !plain_floats(g, n->in[2])))
        return false;
    *ret = (struct norm){ .rms = n->op == OP_RMSNORM, .x = n->in[0], .output = n->out[0], .gamma = n->in[1],
                          .beta = shifts ? n->in[2] : -1, .eps = node_float(n, "epsilon", 1e-5f), .first = at, .last = at,
                          .scale_node = at, .scale_input = 1, .shift_node = shifts ? at : -1, .shift_input = 2 };
    return true;
}

/* v = 1 / Sqrt(ReduceMean(square) + eps): what is squared, and eps. */
static int inverse_root(const struct graph *g, int v, float *ret_eps)
{
    const struct node *div = graph_made_by(g, v, OP_DIV), *rec = graph_made_by(g, v, OP_RECIPROCAL);
    int root = div && scalar_near(g, div->in[0], 1.0f) ? div->in[1] : rec ? rec->in[0] : -1;
    return root >= 0 ? root_mean_square(g, root, ret_eps) : -1;
}

/* If n divides something by a root mean square: what it divides and what is squared. */
static bool match_division(const struct graph *g, const struct node *n, int *ret_a, int *ret_squared, float *ret_eps)
{
    if (n->op == OP_DIV) {
        *ret_a = n->in[0];
        *ret_squared = root_mean_square(g, n->in[1], ret_eps);
        return *ret_squared >= 0;
    }
    for (int side = 0; n->op == OP_MUL && side < 2; side++) {
        *ret_a = n->in[1 - side];
        *ret_squared = inverse_root(g, n->in[side], ret_eps);
        if (*ret_squared >= 0)
            return true;
    }
    return false;
}

static bool match_decomposed(const struct graph *g, const struct node *n, int at, struct norm *ret)
{
    float eps = 0;
    int a, squared;
    if (!match_division(g, n, &a, &squared, &eps))
        return false;
    int x = centred(g, a);
    bool layernorm = x >= 0 && centred(g, squared) == x;
    if (!layernorm && a != squared)
        return false;
    *ret = (struct norm){ .rms = !layernorm, .decomposed = true, .x = layernorm ? x : a, .output = n->out[0], .gamma = -1, .beta = -1,
                          .eps = eps, .first = layernorm ? g->values[a].producer : at, .last = at,
                          .scale_node = -1, .shift_node = -1 };
    absorb(g, OP_MUL, ret, &ret->gamma, &ret->scale_node, &ret->scale_input);
    if (layernorm)
        absorb(g, OP_ADD, ret, &ret->beta, &ret->shift_node, &ret->shift_input);
    return true;
}

/* ---- TensorFlow's order: the factor first, then x and its mean by it ---- */

/* r = 1 / root, or a product of that with a constant vector, gamma: what is squared. */
static int factor_of(const struct graph *g, int r, const struct shape *s, struct norm *norm)
{
    const struct node *mul = graph_made_by(g, r, OP_MUL);
    int squared = inverse_root(g, r, &norm->eps);
    for (int side = 0; mul && squared < 0 && side < 2; side++) {
        squared = is_row(g, mul->in[side], s) ? inverse_root(g, mul->in[1 - side], &norm->eps) : -1;
        if (squared < 0)
            continue;
        norm->gamma = mul->in[side];
        norm->scale_node = g->values[r].producer;
        norm->scale_input = side;
    }
    return squared;
}

/* Folding changes all that lies behind gamma: nobody else may read it. */
static bool read_by(const struct graph *g, int v, int nodes) { return g->values[v].n_consumers == nodes && !g->values[v].is_output; }

/* `scaled` is x * r and `mean` is ReduceMean(x) * r, each in either order: is r a LayerNorm's factor? */
static bool match_factored(const struct graph *g, int scaled, int mean, struct norm *norm)
{
    const struct node *a = graph_made_by(g, scaled, OP_MUL), *b = graph_made_by(g, mean, OP_MUL);
    bool own = a && b && a != b && read_by(g, scaled, 1) && read_by(g, mean, 1);
    for (int i = 0; own && i < 4; i++) {
        int x = a->in[i & 1], r = a->in[1 - (i & 1)], m = b->in[i >> 1];
        if (b->in[1 - (i >> 1)] != r || !read_by(g, r, 2) || mean_of(g, m) != x)
            continue;
        int squared = factor_of(g, r, &g->values[scaled].shape, norm);
        if (squared < 0 || centred(g, squared) != x)
            continue;
        norm->x = x;
        norm->first = g->values[squared].producer;
        return true;
    }
    return false;
}

static bool match_keras(const struct graph *g, const struct node *n, int at, struct norm *ret)
{
    if (n->op != OP_ADD && n->op != OP_SUB)
        return false;
    *ret = (struct norm){ .decomposed = true, .output = n->out[0], .gamma = -1, .beta = -1, .last = at, .scale_node = -1, .shift_node = -1 };
    if (n->op == OP_SUB)
        return match_factored(g, n->in[0], n->in[1], ret);
    for (int side = 0; side < 2; side++) {
        bool own = read_by(g, n->in[side], 1);
        const struct node *sub = own ? graph_made_by(g, n->in[side], OP_SUB) : NULL, *neg = own ? graph_made_by(g, n->in[side], OP_NEG) : NULL;
        if (neg && match_factored(g, n->in[1 - side], neg->in[0], ret))
            return true;
        if (!sub || !is_row(g, sub->in[0], &g->values[n->out[0]].shape) || !match_factored(g, n->in[1 - side], sub->in[1], ret))
            continue;
        ret->beta = sub->in[0];
        ret->shift_node = g->values[n->in[side]].producer;
        ret->shift_input = 0;
        return true;
    }
    return false;
}

bool roles_match_norm(const struct graph *g, int at, struct norm *ret)
{
    const struct node *n = &g->nodes[at];
    return match_single(g, n, at, ret) || match_decomposed(g, n, at, ret) || match_keras(g, n, at, ret);
}

/* x / sqrt 2, with Div or Mul: x, else -1. */
static int erf_argument(const struct graph *g, int v)
{
    const struct node *div = graph_made_by(g, v, OP_DIV);
    return div && scalar_near(g, div->in[1], 1.41421356f) ? div->in[0] : other_than(g, graph_made_by(g, v, OP_MUL), 0.70710678f);
}

/* x^3 as Pow, or as a product with x^2: x, else -1. */
static int cube_of(const struct graph *g, int v)
{
    const struct node *pow = graph_made_by(g, v, OP_POW), *mul = graph_made_by(g, v, OP_MUL);
    if (pow && scalar_near(g, pow->in[1], 3.0f))
        return pow->in[0];
    for (int side = 0; mul && side < 2; side++)
        if (square_of(g, mul->in[side]) == mul->in[1 - side])
            return mul->in[1 - side];
    return -1;
}

/* 0.044715 x^2, with the constant at either factor or outside: does it belong to this x? */
static bool is_cubic_part(const struct graph *g, int v, int x)
{
    const struct node *mul = graph_made_by(g, v, OP_MUL);
    int square = other_than(g, mul, 0.044715f);
    if (square >= 0)
        return square_of(g, square) == x;
    for (int side = 0; mul && side < 2; side++)
        if (mul->in[1 - side] == x && other_than(g, graph_made_by(g, mul->in[side], OP_MUL), 0.044715f) == x)
            return true;
    return false;
}

/* (sqrt(2 / pi) x) (1 + 0.044715 x^2): x, else -1. */
static int factored_argument(const struct graph *g, int v)
{
    const struct node *mul = graph_made_by(g, v, OP_MUL);
    for (int side = 0; mul && side < 2; side++) {
        int x = other_than(g, graph_made_by(g, mul->in[side], OP_MUL), 0.79788456f);
        int part = other_than(g, graph_made_by(g, mul->in[1 - side], OP_ADD), 1.0f);
        if (x >= 0 && part >= 0 && is_cubic_part(g, part, x))
            return x;
    }
    return -1;
}

/* sqrt(2 / pi) (x + 0.044715 x^3), or with x taken out of the sum: x, else -1. */
static int tanh_argument(const struct graph *g, int v)
{
    const struct node *add = graph_made_by(g, other_than(g, graph_made_by(g, v, OP_MUL), 0.79788456f), OP_ADD);
    for (int side = 0; add && side < 2; side++) {
        int cube = other_than(g, graph_made_by(g, add->in[side], OP_MUL), 0.044715f);
        int x = cube >= 0 ? cube_of(g, cube) : -1;
        if (x >= 0 && add->in[1 - side] == x)
            return x;
    }
    return factored_argument(g, v);
}

/* 1 + Erf(.) or 1 + Tanh(.) of a GELU: x, else -1. */
static int bell_term(const struct graph *g, int v, enum activation_kind kind)
{
    const struct node *f = graph_made_by(g, other_than(g, graph_made_by(g, v, OP_ADD), 1.0f), kind == ACT_GELU ? OP_ERF : OP_TANH);
    return !f ? -1 : kind == ACT_GELU ? erf_argument(g, f->in[0]) : tanh_argument(g, f->in[0]);
}

/*
 * The last Mul of x * 0.5 * (1 + erf or tanh): three factors in any order and bracketing.
 * torch: Mul(Mul(x, 1 + erf), 0.5); dynamo: Mul(x, Mul(1 + erf, 0.5)); older: Mul(Mul(x, 0.5), 1 + erf).
 */
static int gelu_input(const struct graph *g, const struct node *last, enum activation_kind kind)
{
    int whole = other_than(g, last, 0.5f);
    const struct node *inner = graph_made_by(g, whole, OP_MUL);
    for (int side = 0; side < 2; side++) {
        int x = inner ? bell_term(g, inner->in[side], kind) : -1;
        if (x >= 0 && inner->in[1 - side] == x)
            return x;
        x = bell_term(g, last->in[side], kind);
        if (x >= 0 && other_than(g, graph_made_by(g, last->in[1 - side], OP_MUL), 0.5f) == x)
            return x;
        int half = other_than(g, graph_made_by(g, last->in[side], OP_MUL), 0.5f);
        x = half >= 0 ? bell_term(g, half, kind) : -1;
        if (x >= 0 && last->in[1 - side] == x)
            return x;
    }
    return -1;
}

/* x * Sigmoid(x), or x * Sigmoid(1.702 x). */
static int sigmoid_input(const struct graph *g, const struct node *mul, enum activation_kind kind)
{
    for (int side = 0; side < 2; side++) {
        const struct node *s = graph_made_by(g, mul->in[side], OP_SIGMOID);
        int x = !s ? -1 : kind == ACT_SILU ? s->in[0] : other_than(g, graph_made_by(g, s->in[0], OP_MUL), 1.702f);
        if (x >= 0 && x == mul->in[1 - side])
            return x;
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
    static const struct { enum activation_kind kind; int (*input)(const struct graph *, const struct node *, enum activation_kind); } spelled[] = {
        { ACT_GELU, gelu_input }, { ACT_GELU_TANH, gelu_input }, { ACT_SILU, sigmoid_input }, { ACT_QUICK_GELU, sigmoid_input },
    };
    for (size_t i = 0; i < sizeof spelled / sizeof spelled[0]; i++) {
        ret->kind = spelled[i].kind;
        ret->x = spelled[i].input(g, n, ret->kind);
        if (ret->x >= 0)
            return true;
    }
    return false;
}
