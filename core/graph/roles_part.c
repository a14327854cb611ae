/*
 * roles_part.c - which part of a transformer's block a layer stands in, whatever it is called.
 *
 *   feed-forward   the linears that read an activation function, or its product with another branch (fc2, down), and those that
 *                  make what it is a function of (fc1, gate) and the other branch (up)
 *   attention      products of q, k and v; the linears that make q, k and v, and those that read p.v
 *
 * Searches go back from readers to makers.  Operators that move values stand between, and those that scale, mask and rotate
 * them; where one operand of an operator comes straight from a layer, the others are factors and biases.  All searches of one
 * part share their marks, so each node is passed once.
 */
#include "core/graph/roles.h"

#include <string.h>

/* Operators between a linear and the reader whose part it shares are few. */
enum { MOST_HOPS = 12 };

const char *const layer_part_name[PARTS] = { [PART_ATTENTION] = "attention", [PART_FEED_FORWARD] = "feed_forward" };

struct parts {
    const struct graph *g;
    struct roles *r;
    int *layer_at;                     /* [n_nodes]; -1: not a layer */
    int *function_at;                  /* [n_values]: the activation function that gives it, or -1 */
    enum layer_part *passed;           /* [n_nodes]: the last part it was passed for */
    int *waiting; int n_waiting;       /* [n_nodes] */
};

static struct layer *layer_of(const struct parts *p, int value)
{
    int node = value >= 0 ? p->g->values[value].producer : -1;
    return node >= 0 && p->layer_at[node] >= 0 ? &p->r->layers[p->layer_at[node]] : NULL;
}

/* ---- from a reader back to the linears that make what it reads ---- */

static void wait_for(struct parts *p, int value, enum layer_part part)
{
    int node = value >= 0 ? p->g->values[value].producer : -1;
    if (node < 0 || p->passed[node] == part)
        return;
    p->passed[node] = part;
    p->waiting[p->n_waiting++] = node;
}

/* Lengths are not what a layer makes.  A sum of two values that run is a residual, but for rotary positions. */
static bool ends_at(const struct parts *p, const struct node *n, enum layer_part part)
{
    if (n->op == OP_SOFTMAX || n->op == OP_SHAPE)
        return true;
    return part == PART_FEED_FORWARD && n->op == OP_ADD && !p->g->values[n->in[0]].is_const && !p->g->values[n->in[1]].is_const;
}

static void pass(struct parts *p, const struct node *n, enum layer_part part)
{
    bool from_layer = false;
    for (int i = 0; i < n->n_in; i++)
        from_layer |= layer_of(p, n->in[i]) != NULL;
    for (int i = 0; i < n->n_in; i++)
        if (!from_layer || layer_of(p, n->in[i]))
            wait_for(p, n->in[i], part);
}

static void mark_makers(struct parts *p, int value, enum layer_part part)
{
    wait_for(p, value, part);
    while (p->n_waiting > 0) {
        int node = p->waiting[--p->n_waiting];
        struct layer *l = p->layer_at[node] >= 0 ? &p->r->layers[p->layer_at[node]] : NULL;
        if (l && l->kind == LAYER_LINEAR && l->part == PART_OTHER)
            l->part = part;
        if (!l && !ends_at(p, &p->g->nodes[node], part))
            pass(p, &p->g->nodes[node], part);
    }
}

/* ---- from a linear back to what it reads ---- */

/* The value without what moves it, and without a factor for each channel or row; -1: there is nothing to take away. */
static int behind(const struct graph *g, int value)
{
    const struct node *n = g->values[value].producer >= 0 ? &g->nodes[g->values[value].producer] : NULL;
    if (!n)
        return -1;
    switch (n->op) {
    case OP_RESHAPE: case OP_TRANSPOSE: case OP_IDENTITY: case OP_CAST: case OP_DIV: case OP_SQUEEZE: case OP_UNSQUEEZE: case OP_FLATTEN:
        return n->in[0];
    case OP_MUL:
        return g->values[n->in[0]].is_const ? n->in[1] : g->values[n->in[1]].is_const ? n->in[0] : -1;
    default:
        return -1;
    }
}

/* The activation function among the operands of a product (SwiGLU); *ret_other: the other branch. */
static int gate_of(const struct parts *p, int value, int *ret_other)
{
    const struct node *mul = graph_made_by(p->g, value, OP_MUL);
    for (int i = 0; mul && i < 2; i++)
        if (p->function_at[mul->in[i]] >= 0) {
            *ret_other = mul->in[1 - i];
            return p->function_at[mul->in[i]];
        }
    return -1;
}

static void find_feed_forward(struct parts *p, struct layer *l)
{
    for (int v = l->x, hops = 0; v >= 0 && hops < MOST_HOPS; v = behind(p->g, v), hops++) {
        int other = -1, function = p->function_at[v] >= 0 ? p->function_at[v] : gate_of(p, v, &other);
        if (function < 0)
            continue;
        l->part = PART_FEED_FORWARD;
        mark_makers(p, p->r->activations[function].x, PART_FEED_FORWARD);
        mark_makers(p, other, PART_FEED_FORWARD);
        return;
    }
}

static void find_attention(struct parts *p, struct layer *l)
{
    if (l->kind != LAYER_LINEAR) {
        l->part = l->kind == LAYER_QK || l->kind == LAYER_PV ? PART_ATTENTION : PART_OTHER;
        if (l->kind == LAYER_QK)
            mark_makers(p, l->x, PART_ATTENTION);
        if (l->part == PART_ATTENTION)
            mark_makers(p, l->other, PART_ATTENTION);
        return;
    }
    for (int v = l->x, hops = 0; v >= 0 && hops < MOST_HOPS && l->part == PART_OTHER; v = behind(p->g, v), hops++) {
        const struct layer *from = layer_of(p, v);
        if (from && from->kind == LAYER_PV)
            l->part = PART_ATTENTION;
    }
}

bool roles_find_parts(const struct graph *g, struct arena *mem, struct roles *r, struct err *e)
{
    uint64_t nodes = (uint64_t)g->n_nodes, values = (uint64_t)g->n_values;
    struct parts p = { g, r, arena_array(mem, nodes, sizeof *p.layer_at, e), arena_array(mem, values, sizeof *p.function_at, e),
                       arena_array(mem, nodes, sizeof *p.passed, e), arena_array(mem, nodes, sizeof *p.waiting, e), 0 };
    if (!p.layer_at || !p.function_at || !p.passed || !p.waiting)
        return false;
    memset(p.layer_at, -1, (size_t)nodes * sizeof *p.layer_at);
    memset(p.function_at, -1, (size_t)values * sizeof *p.function_at);
    for (int i = 0; i < r->n_layers; i++)
        p.layer_at[r->layers[i].node] = i;
    for (int i = 0; i < r->n_activations; i++)
        p.function_at[r->activations[i].output] = i;
    for (int i = 0; i < r->n_layers; i++)
        if (r->layers[i].kind == LAYER_LINEAR)
            find_feed_forward(&p, &r->layers[i]);
    for (int i = 0; i < r->n_layers; i++)
        if (r->layers[i].part == PART_OTHER)
            find_attention(&p, &r->layers[i]);
    return true;
}
