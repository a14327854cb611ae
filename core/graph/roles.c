#include "core/graph/roles.h"

#include "core/base/name_set.h"

#include <stdio.h>
#include <string.h>

const char *const layer_role_name[LAYER_KINDS] = {
    [LAYER_LINEAR] = "linear",      [LAYER_CONV] = "convolution", [LAYER_QK] = "attention_qk",
    [LAYER_PV] = "attention_pv",    [LAYER_PRODUCT] = "product",
};
const char *const activation_name[ACT_KINDS] = {
    [ACT_GELU] = "gelu", [ACT_GELU_TANH] = "gelu_tanh", [ACT_SILU] = "silu",
    [ACT_QUICK_GELU] = "quick_gelu", [ACT_RELU] = "relu",
};

enum { FAR = 7 };                      /* more hops to a Softmax than attention takes */

struct finder {
    const struct graph *g;
    struct arena *mem;
    struct roles *r;
    struct err *e;
    struct name_set names;                     /* of layers */
    int *hops;                                 /* [n_values]: to a Softmax */
};

static const struct value *val(const struct graph *g, int v) { return &g->values[v]; }

static bool float_const(const struct graph *g, int v, int rank)
{
    return v >= 0 && val(g, v)->is_const && val(g, v)->dtype == DT_F32 && val(g, v)->shape.rank == rank;
}

/* A constant vector of n elements, whatever ones stand in front: [n], [1,n], [1,1,n]. */
static bool row_const(const struct graph *g, int v, int64_t n)
{
    if (v < 0 || !val(g, v)->is_const || val(g, v)->dtype != DT_F32)
        return false;
    const struct shape *s = &val(g, v)->shape;
    return s->rank >= 1 && s->dim[s->rank - 1] == n && shape_elements(s) == n;
}

/* Add(y, bias) in either order, when y has no other reader and the sum has its shape. */
static void find_bias(const struct graph *g, struct layer *l)
{
    const struct value *y = val(g, l->output);
    if (y->n_consumers != 1 || y->is_output)
        return;
    const struct node *add = &g->nodes[y->consumers[0]];
    if (add->op != OP_ADD)
        return;
    int other = add->in[0] == l->output ? add->in[1] : add->in[0];
    if (other == l->output || !row_const(g, other, l->n) || val(g, other)->shape.rank > y->shape.rank)
        return;
    l->bias = other;
    l->bias_node = y->consumers[0];
    l->output = add->out[0];
}

static const char *match_matmul(const struct graph *g, const struct node *n, struct layer *l)
{
    if (val(g, n->in[0])->is_const)
        return "the constant operand is on the left";
    l->x = n->in[0];
    if (!val(g, n->in[1])->is_const) {
        if (val(g, n->in[0])->shape.rank < 2 || val(g, n->in[1])->shape.rank < 2)
            return "a product with a vector";
        l->kind = LAYER_PRODUCT;
        l->other = n->in[1];
        return NULL;
    }
    if (!float_const(g, n->in[1], 2))
        return val(g, n->in[1])->shape.rank > 2 ? "the constant operand is a stack of matrices; only one matrix is quantized as a weight"
                                                : "the constant operand is not a float32 matrix";
    if (val(g, n->in[0])->shape.rank < 2)
        return "the input is a vector";
    l->kind = LAYER_LINEAR;
    l->weight = n->in[1];
    l->k = val(g, l->weight)->shape.dim[0];
    l->n = val(g, l->weight)->shape.dim[1];
    find_bias(g, l);
    return NULL;
}

static const char *match_gemm(const struct graph *g, const struct node *n, struct layer *l)
{
    if (!float_const(g, n->in[1], 2))
        return "the second operand of Gemm is not a constant float32 matrix";
    if (node_int(n, "transA", 0) || node_float(n, "alpha", 1) != 1.0f || node_float(n, "beta", 1) != 1.0f)
        return "Gemm with transA, alpha or beta";
    l->kind = LAYER_LINEAR;
    l->x = n->in[0];
    l->weight = n->in[1];
    l->transposed = node_int(n, "transB", 0) != 0;
    l->k = val(g, l->weight)->shape.dim[l->transposed];
    l->n = val(g, l->weight)->shape.dim[!l->transposed];
    if (n->n_in > 2 && n->in[2] >= 0) {
        if (!row_const(g, n->in[2], l->n))
            return "the bias of Gemm is not one constant per output";
        l->bias = n->in[2];
        l->bias_node = l->node;
    } else {
        find_bias(g, l);
    }
    return NULL;
}

static const char *match_conv(const struct graph *g, const struct node *n, struct layer *l)
{
    if (!float_const(g, n->in[1], 4))
        return "only 2-D convolutions with constant float32 weights are quantized";
    if (node_int(n, "group", 1) != 1 || node_auto_pads(n))
        return "convolutions with groups or auto_pad stay in float";
    const struct shape *s = &val(g, n->in[1])->shape;
    l->kind = LAYER_CONV;
    l->x = n->in[0];
    l->weight = n->in[1];
    l->n = s->dim[0];
    l->k = shape_count(s, 1, 4);
    if (n->n_in > 2 && n->in[2] >= 0) {
        if (!row_const(g, n->in[2], l->n))
            return "the bias of Conv is not constant";
        l->bias = n->in[2];
        l->bias_node = l->node;
    }
    return NULL;
}

static bool scales_or_masks(enum op op)
{
    static const enum op ops[] = { OP_MUL, OP_DIV, OP_ADD, OP_WHERE, OP_RESHAPE, OP_CAST, OP_MAX, OP_CLIP };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (ops[i] == op)
            return true;
    return false;
}

/*
 * Hops from each value to the next Softmax through scaling, masking and reshaping alone, or FAR.  Once for all values, from
 * behind: nodes stand in running order.
 */
static void find_softmaxes(const struct graph *g, int *hops)
{
    for (int v = 0; v < g->n_values; v++)
        hops[v] = FAR;
    for (int at = g->n_nodes - 1; at >= 0; at--) {
        const struct node *n = &g->nodes[at];
        int here = n->op == OP_SOFTMAX ? 1 : scales_or_masks(n->op) && n->out[0] >= 0 ? hops[n->out[0]] + 1 : FAR;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] >= 0 && here < hops[n->in[i]])
                hops[n->in[i]] = here;
    }
}

/* Does the value come from a Softmax through masking and reshaping alone? */
static bool comes_from_softmax(const struct graph *g, int v)
{
    for (int hops = 0; hops < 6 && val(g, v)->producer >= 0; hops++) {
        const struct node *n = &g->nodes[val(g, v)->producer];
        switch (n->op) {
        case OP_SOFTMAX: return true;
        case OP_RESHAPE: case OP_CAST: case OP_DROPOUT: case OP_MUL: v = n->in[0]; break;
        case OP_WHERE: v = n->in[2]; break;
        default: return false;
        }
    }
    return false;
}

static enum layer_kind product_kind(const struct finder *f, const struct layer *l)
{
    return comes_from_softmax(f->g, l->x) ? LAYER_PV
         : f->hops[l->output] < FAR       ? LAYER_QK
                                          : LAYER_PRODUCT;
}

static bool name_layer(struct finder *f, const struct node *n, struct layer *l)
{
    const char *suffix = l->kind == LAYER_QK ? ".qk" : l->kind == LAYER_PV ? ".pv" : "";
    char fallback[32];
    snprintf(fallback, sizeof fallback, "node%d", l->node);
    const char *weight = l->weight >= 0 ? val(f->g, l->weight)->name : "";
    const char *base = roles_layer_name(f->mem, n->name, weight, fallback, f->e);
    if (!base)
        return false;
    const char *name = arena_printf(f->mem, f->e, "%s%s", base, suffix);
    l->name = name ? name_set_new(&f->names, name, '#', f->mem, f->e) : NULL;
    l->block = l->name ? roles_block_name(f->mem, l->name, f->e) : NULL;
    return l->block != NULL;
}

static void leave(struct finder *f, int node, const char *reason)
{
    f->r->left[f->r->n_left++] = (struct left_float){ node, reason };
}

static bool find_layer(struct finder *f, int at)
{
    const struct node *n = &f->g->nodes[at];
    struct layer l = { .node = at, .other = -1, .weight = -1, .bias = -1, .bias_node = -1, .output = n->out[0] };
    const char *reason = n->op == OP_MATMUL ? match_matmul(f->g, n, &l)
                       : n->op == OP_GEMM   ? match_gemm(f->g, n, &l)
                                            : match_conv(f->g, n, &l);
    if (!reason && val(f->g, n->in[0])->dtype != DT_F32)
        reason = "only float32 operands are quantized";
    if (!reason && l.weight >= 0 && !shape_elements(&val(f->g, l.weight)->shape))
        reason = "the weight is empty";
    if (reason) {
        leave(f, at, reason);
        return true;
    }
    if (l.kind == LAYER_PRODUCT)
        l.kind = product_kind(f, &l);
    l.shared_weight = l.weight >= 0 && val(f->g, l.weight)->n_consumers > 1;
    if (!name_layer(f, n, &l))
        return false;
    f->r->layers[f->r->n_layers++] = l;
    return true;
}

static bool find_at(struct finder *f, int at)
{
    const struct node *n = &f->g->nodes[at];
    struct roles *r = f->r;
    switch (n->op) {
    case OP_MATMUL: case OP_GEMM: case OP_CONV:
        return find_layer(f, at);
    case OP_EINSUM:
        if (val(f->g, n->in[0])->dtype == DT_F32)
            leave(f, at, "its equation is not a product of two matrices");
        break;
    case OP_SOFTMAX:
        r->softmaxes[r->n_softmaxes++] = at;
        break;
    case OP_GATHER:
        if (val(f->g, n->in[0])->is_const && val(f->g, n->in[0])->dtype == DT_F32 && val(f->g, n->in[0])->shape.rank == 2
            && !val(f->g, n->in[1])->is_const)
            leave(f, at, "embedding tables stay in float");
        break;
    default:
        break;
    }
    if (roles_match_norm(f->g, at, &r->norms[r->n_norms])) {
        r->norms[r->n_norms].name = roles_layer_name(f->mem, n->name, "", "norm", f->e);
        return r->norms[r->n_norms++].name != NULL;
    }
    if (roles_match_activation(f->g, at, &r->activations[r->n_activations]))
        r->n_activations++;
    return true;
}

bool roles_find(const struct graph *g, struct arena *mem, struct roles *ret, struct err *e)
{
    uint64_t n = (uint64_t)g->n_nodes;
    *ret = (struct roles){
        .layers = arena_array(mem, n, sizeof *ret->layers, e),
        .norms = arena_array(mem, n + 1, sizeof *ret->norms, e),
        .activations = arena_array(mem, n + 1, sizeof *ret->activations, e),
        .softmaxes = arena_array(mem, n, sizeof *ret->softmaxes, e),
        .left = arena_array(mem, n, sizeof *ret->left, e),
    };
    if (!ret->layers || !ret->norms || !ret->activations || !ret->softmaxes || !ret->left)
        return false;
    struct finder f = { .g = g, .mem = mem, .r = ret, .e = e, .hops = arena_array(mem, (uint64_t)g->n_values, sizeof *f.hops, e) };
    if (!f.hops)
        return false;
    find_softmaxes(g, f.hops);
    for (int i = 0; i < g->n_nodes; i++)
        if (!find_at(&f, i))
            return false;
    return roles_find_parts(g, mem, ret, e);
}
