#include "core/graph/unit_rows.h"

#include <string.h>

/* Rows of zeros stay zeros. */
static const float least = 1e-9f;
static const int64_t last[] = { -1 };

struct edit {
    struct graph *g;
    struct err *e;
    const char *prefix;                /* no name of the graph begins so */
    int least, axes;                   /* constants; axes -1: an attribute */
    int made;                          /* names given */
    int *magnitude, *quotient;         /* [n_values before]: of an input's rows; -1: not made yet */
    bool failed;
};

static int fail(struct edit *d) { d->failed = true; return -1; }

/* Room was made for every value and node: see room_for(). */
static int new_value(struct edit *d, enum dtype t, const struct shape *s, const void *data)
{
    const char *name = arena_printf(d->g->mem, d->e, "%s%d", d->prefix, d->made++);
    if (!name)
        return fail(d);
    d->g->values[d->g->n_values] = (struct value){ .name = name, .dtype = t, .shape = *s, .data = data, .is_const = data != NULL, .producer = -1 };
    return d->g->n_values++;
}

static void new_node(struct edit *d, enum op op, const char *name, const int *in, int n_in, int out, const struct onnx_attr *attrs, size_t n_attrs)
{
    int *list = arena_array(d->g->mem, (uint64_t)n_in + 1, sizeof *list, d->e);
    struct onnx_attr *copy = arena_array(d->g->mem, n_attrs, sizeof *copy, d->e);
    d->failed |= !list || !copy || out < 0;
    if (d->failed)
        return;
    memcpy(list, in, (size_t)n_in * sizeof *list);
    if (n_attrs)
        memcpy(copy, attrs, n_attrs * sizeof *copy);
    list[n_in] = out;
    d->g->nodes[d->g->n_nodes++] = (struct node){ .op = op, .name = name, .n_in = n_in, .n_out = 1, .in = list, .out = list + n_in,
                                                  .attrs = copy, .n_attrs = n_attrs };
}

/* The node's name with what the new node does. */
static const char *called(struct edit *d, const char *base, const char *what)
{
    const char *name = arena_printf(d->g->mem, d->e, "%s%s/%s%d", d->prefix, base, what, d->made++);
    return name ? name : (fail(d), "");
}

/* ---- a = Max(ReduceMax(Abs(x)), least); x / a ---- */

static void divide_rows(struct edit *d, int x, const char *name)
{
    struct shape shape = d->g->values[x].shape, column = shape;
    column.dim[column.rank - 1] = 1;
    const struct onnx_attr attrs[] = {
        { .name = "keepdims", .type = ONNX_INT, .i = 1 }, { .name = "axes", .type = ONNX_INTS, .ints = last, .n = 1 },
    };
    int magnitudes = new_value(d, DT_F32, &shape, NULL), largest = new_value(d, DT_F32, &column, NULL);
    int a = new_value(d, DT_F32, &column, NULL), y = new_value(d, DT_F32, &shape, NULL);
    new_node(d, OP_ABS, called(d, name, "Abs"), (int[]){ x }, 1, magnitudes, NULL, 0);
    new_node(d, OP_REDUCEMAX, called(d, name, "ReduceMax"), (int[]){ magnitudes, d->axes }, d->axes < 0 ? 1 : 2, largest, attrs, d->axes < 0 ? 2 : 1);
    new_node(d, OP_MAX, called(d, name, "Max"), (int[]){ largest, d->least }, 2, a, NULL, 0);
    new_node(d, OP_DIV, called(d, name, "Div"), (int[]){ x, a }, 2, y, NULL, 0);
    d->magnitude[x] = a;
    d->quotient[x] = y;
}

/* ---- the product and its bias ---- */

/* A bias as [1,..,1,n]: runtimes fuse an Add of that form. */
static int bias_of_rank(struct edit *d, int bias, int rank)
{
    const struct value *b = &d->g->values[bias];
    struct shape s = { .rank = rank };
    if (b->shape.rank >= rank)
        return bias;
    for (int i = 0; i < rank; i++)
        s.dim[i] = i == rank - 1 ? shape_elements(&b->shape) : 1;
    return new_value(d, b->dtype, &s, b->data);
}

static void scale_output(struct edit *d, const struct layer *l)
{
    struct graph *g = d->g;
    struct node *n = &g->nodes[l->node];
    int y = n->out[0], a = d->magnitude[l->x], rank = g->values[y].shape.rank;
    bool own_bias = l->bias_node == l->node;
    struct shape shape = g->values[y].shape;
    int product = new_value(d, DT_F32, &shape, NULL), scaled = own_bias ? new_value(d, DT_F32, &shape, NULL) : y;
    if (d->failed)
        return;
    n->in[0] = d->quotient[l->x];
    n->out[0] = product;
    new_node(d, OP_MUL, called(d, n->name, "Mul"), (int[]){ product, a }, 2, scaled, NULL, 0);
    if (own_bias) {
        n->n_in = 2;
        new_node(d, OP_ADD, called(d, n->name, "Add"), (int[]){ scaled, l->bias }, 2, y, NULL, 0);
    } else if (l->bias >= 0) {
        struct node *add = &g->nodes[l->bias_node];
        add->in[add->in[0] != l->bias] = bias_of_rank(d, l->bias, rank);
    }
}

/* ---- all of them ---- */

/* The number of a name that begins with "unit_rows<number>/"; 0: without one; -1: it does not, or the number is over `most`. */
static int64_t prefix_number(const char *name, int64_t most)
{
    int64_t n = 0;
    if (!name || strncmp(name, "unit_rows", 9) != 0)
        return -1;
    for (name += 9; *name >= '0' && *name <= '9' && n <= most; name++)
        n = 10 * n + (*name - '0');
    return *name == '/' && n <= most ? n : -1;
}

/* Of as many numbers as there are names and one more, one is free. */
static const char *free_prefix(const struct graph *g, struct err *e)
{
    int64_t names = (int64_t)g->n_values + g->n_nodes, free = 0;
    bool *taken = arena_array(g->mem, (uint64_t)names + 1, sizeof *taken, e);
    if (!taken)
        return NULL;
    for (int64_t i = 0; i < names; i++) {
        int64_t n = prefix_number(i < g->n_values ? g->values[i].name : g->nodes[i - g->n_values].name, names);
        if (n >= 0)
            taken[n] = true;
    }
    while (taken[free])
        free++;
    return free ? arena_printf(g->mem, e, "unit_rows%lld/", (long long)free) : "unit_rows/";
}

static bool room_for(struct graph *g, int layers, struct err *e)
{
    enum { VALUES = 7, NODES = 6, CONSTANTS = 2 };     /* of one linear at most */
    struct value *values = arena_array(g->mem, (uint64_t)g->n_values + (uint64_t)layers * VALUES + CONSTANTS, sizeof *values, e);
    struct node *nodes = arena_array(g->mem, (uint64_t)g->n_nodes + (uint64_t)layers * NODES, sizeof *nodes, e);
    if (!values || !nodes)
        return false;
    memcpy(values, g->values, (size_t)g->n_values * sizeof *values);
    memcpy(nodes, g->nodes, (size_t)g->n_nodes * sizeof *nodes);
    g->values = values;
    g->nodes = nodes;
    return true;
}

bool graph_unit_rows(struct graph *g, const struct roles *r, const bool *wanted, struct err *e)
{
    enum { AXES_INPUT = 18 };          /* since this opset the axes of ReduceMax are an input */
    struct edit d = { .g = g, .e = e, .prefix = free_prefix(g, e), .axes = -1 };
    int n = g->n_values;
    d.magnitude = arena_array(g->mem, (uint64_t)n, sizeof *d.magnitude, e);
    d.quotient = arena_array(g->mem, (uint64_t)n, sizeof *d.quotient, e);
    if (!d.prefix || !d.magnitude || !d.quotient || !room_for(g, r->n_layers, e))
        return false;
    memset(d.quotient, -1, (size_t)n * sizeof *d.quotient);
    d.least = new_value(&d, DT_F32, &(struct shape){ .rank = 0 }, &least);
    if (g->opset >= AXES_INPUT)
        d.axes = new_value(&d, DT_I64, &(struct shape){ .rank = 1, .dim = { 1 } }, last);
    for (int i = 0; i < r->n_layers && !d.failed; i++) {
        const struct layer *l = &r->layers[i];
        if (!wanted[i] || l->kind != LAYER_LINEAR)
            continue;
        if (d.quotient[l->x] < 0)
            divide_rows(&d, l->x, g->nodes[l->node].name);
        scale_output(&d, l);
    }
    return !d.failed && graph_relink(g, e);
}

bool graph_has_unit_rows(const struct graph *g, int value)
{
    const struct node *div = graph_made_by(g, value, OP_DIV), *max = div ? graph_made_by(g, div->in[1], OP_MAX) : NULL;
    const struct node *reduce = max ? graph_made_by(g, max->in[0], OP_REDUCEMAX) : NULL;
    const struct node *abs = reduce ? graph_made_by(g, reduce->in[0], OP_ABS) : NULL;
    if (!abs || abs->in[0] != div->in[0])
        return false;
    /* Of the last axis alone, with its place kept. */
    const struct shape *x = &g->values[div->in[0]].shape, *a = &g->values[div->in[1]].shape;
    if (x->rank < 1 || a->rank != x->rank || a->dim[a->rank - 1] != 1)
        return false;
    for (int i = 0; i < x->rank - 1; i++)
        if (a->dim[i] != x->dim[i])
            return false;
    return true;
}
