/*
 * opset.c - what changed in the standard operators from opset 13 to 21, and the rewriting of the nodes it concerns.
 *
 * Most new versions of an operator take more types, or have one more attribute whose default is what it did before:
 * such a node means the same under either number, and its row says so.  An operator of core/graph without a row has not
 * been touched; any other without a row is refused.  tests/api/test_opset.py takes the operators that changed from
 * ONNX's own list of versions, and wants each refused, or proven in ONNX Runtime across every change.
 */
#include "core/artifact/opset.h"

#include "core/graph/graph.h"

#include <stdlib.h>
#include <string.h>

struct raise {
    struct arena *mem;
    int from, to;
    const char **names; size_t n_names;    /* of the model's values, sorted */
    struct onnx_node *nodes; size_t n_nodes;
    struct onnx_tensor *inits; size_t n_inits;   /* with room for one more per node */
};

typedef bool convert(struct raise *r, struct onnx_node *n, struct err *e);

static bool refuse(const struct raise *r, const struct onnx_node *n, const char *why, struct err *e)
{
    char where[160];
    return err_set(e, ERR_EXPORT_FORM, err_node(where, sizeof where, (size_t)(n - r->nodes), n->name, n->op_type),
                   "%.40s has no equal form in opset %d: %s; export the model with opset_version=%d, or use 8-bit weights, which need no newer opset",
                   n->op_type, r->to, why, r->to);
}

/* ---- changes to a node; its arrays may be shared, so each makes a new one ---- */

static bool drop_attr(struct raise *r, struct onnx_node *n, const struct onnx_attr *a, struct err *e)
{
    struct onnx_attr *left = arena_array(r->mem, n->n_attrs, sizeof *left, e);
    size_t at = (size_t)(a - n->attrs);
    if (!left)
        return false;
    memcpy(left, n->attrs, at * sizeof *left);
    memcpy(left + at, a + 1, (n->n_attrs - at - 1) * sizeof *left);
    n->attrs = left;
    n->n_attrs--;
    return true;
}

static bool add_int_attr(struct raise *r, struct onnx_node *n, const char *name, int64_t i, struct err *e)
{
    struct onnx_attr *all = arena_array(r->mem, n->n_attrs + 1, sizeof *all, e);
    if (!all)
        return false;
    if (n->n_attrs)
        memcpy(all, n->attrs, n->n_attrs * sizeof *all);
    all[n->n_attrs++] = (struct onnx_attr){ .name = name, .type = ONNX_INT, .i = i };
    n->attrs = all;
    return true;
}

static bool add_input(struct raise *r, struct onnx_node *n, const char *name, struct err *e)
{
    const char **all = arena_array(r->mem, n->n_inputs + 1, sizeof *all, e);
    if (!all)
        return false;
    memcpy(all, n->inputs, n->n_inputs * sizeof *all);
    all[n->n_inputs++] = name;
    n->inputs = all;
    return true;
}

static const struct onnx_attr *find_attr(const struct onnx_node *n, const char *name)
{
    for (size_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name) == 0)
            return &n->attrs[i];
    return NULL;
}

/* ---- names ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool collect_names(struct raise *r, const struct onnx_graph *g, struct err *e)
{
    uint64_t n = g->n_inputs + g->n_initializers;
    for (size_t i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].n_outputs;
    r->names = arena_array(r->mem, n, sizeof *r->names, e);
    if (!r->names)
        return false;
    for (size_t i = 0; i < g->n_inputs; i++)
        r->names[r->n_names++] = g->inputs[i].name;
    for (size_t i = 0; i < g->n_initializers; i++)
        r->names[r->n_names++] = g->initializers[i].name;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (size_t k = 0; k < g->nodes[i].n_outputs; k++)
            r->names[r->n_names++] = g->nodes[i].outputs[k];
    qsort(r->names, r->n_names, sizeof *r->names, by_name);
    return true;
}

/* "ReduceMean_17_axes": the node's number keeps the new names apart, the list keeps them off the model's own. */
static const char *new_name(struct raise *r, const struct onnx_node *n, const char *what, struct err *e)
{
    const char *name = arena_printf(r->mem, e, "%s_%zu_%s", n->op_type, (size_t)(n - r->nodes), what);
    for (int i = 2; name && bsearch(&name, r->names, r->n_names, sizeof *r->names, by_name); i++)
        name = arena_printf(r->mem, e, "%s_%zu_%s_%d", n->op_type, (size_t)(n - r->nodes), what, i);
    return name;
}

/* ---- conversions ---- */

/* Reductions, 18: the axes are an input.  An empty list meant every axis; no list still does. */
static bool axes_as_input(struct raise *r, struct onnx_node *n, struct err *e)
{
    const struct onnx_attr *a = find_attr(n, "axes");
    if (!a)
        return true;
    if (a->type != ONNX_INTS || n->n_inputs != 1)
        return refuse(r, n, "its axes are not one list of integers", e);
    const char *name = a->n ? new_name(r, n, "axes", e) : "";
    if (!name || !drop_attr(r, n, a, e))
        return false;
    if (!a->n)
        return true;
    r->inits[r->n_inits++] = (struct onnx_tensor){ .name = name, .t = {
        .dtype = DT_I64, .shape = { .rank = 1, .dim = { (int64_t)a->n } }, .data = (void *)(uintptr_t)a->ints } };
    return add_input(r, n, name, e);
}

/* 18: without sizes, the number of parts is an attribute.  That the last may now be smaller changes nothing that ran. */
static bool number_of_parts(struct raise *r, struct onnx_node *n, struct err *e)
{
    bool sizes = n->n_inputs > 1 && n->inputs[1][0];
    return sizes || find_attr(n, "num_outputs") || add_int_attr(r, n, "num_outputs", (int64_t)n->n_outputs, e);
}

/* 14: training is an attribute; before, outputs beside the first asked for it. */
static bool no_training(struct raise *r, struct onnx_node *n, struct err *e)
{
    for (size_t i = 1; i < n->n_outputs; i++)
        if (n->outputs[i][0])
            return refuse(r, n, "it updates its statistics as in training", e);
    n->n_outputs = 1;
    return true;
}

static bool factors_per_group(struct raise *r, struct onnx_node *n, struct err *e)
{
    return refuse(r, n, "its factors are per group and would become per channel", e);
}

/*
 * The opset a change came with and its conversion; without one: every version up to that opset means the same.
 * An operator has several rows where the reasons differ.
 */
static const struct change { const char *op; int opset; convert *how; } changes[] = {
    /* more types */
    { "Add", 14, NULL }, { "Sub", 14, NULL }, { "Mul", 14, NULL }, { "Div", 14, NULL }, { "Pow", 15, NULL },
    { "Equal", 19, NULL }, { "LessOrEqual", 16, NULL }, { "GreaterOrEqual", 16, NULL }, { "Where", 16, NULL },
    { "Relu", 14, NULL }, { "IsNaN", 20, NULL }, { "CumSum", 14, NULL }, { "Size", 21, NULL }, { "Identity", 21, NULL },
    { "Constant", 21, NULL }, { "ConstantOfShape", 21, NULL }, { "Flatten", 21, NULL }, { "Squeeze", 21, NULL },
    { "Unsqueeze", 21, NULL }, { "Transpose", 21, NULL }, { "PRelu", 16, NULL }, { "LeakyRelu", 16, NULL }, { "IsInf", 20, NULL },
    { "ScatterND", 18, NULL }, { "ScatterElements", 18, NULL },   /* no reduction: as before; a reduction means the same */
    { "AveragePool", 19, NULL },       /* no dilations: as before */
    { "Cast", 21, NULL },              /* saturate concerns 8-bit floats */
    { "QuantizeLinear", 21, NULL },    /* likewise; no block_size and no output_dtype: as before */
    { "DequantizeLinear", 21, NULL },  /* no block_size: as before */
    { "Reshape", 21, NULL },           /* allowzero=0: a 0 copies the dimension, as before */
    { "Shape", 21, NULL },             /* no start, no end: all of it */
    { "Pad", 21, NULL },               /* no axes: all of them; 19 has one mode more */
    { "Resize", 19, NULL },            /* no axes: all; no antialiasing, sizes as given */
    /* another form */
    { "ReduceMean", 18, axes_as_input }, { "ReduceMax", 18, axes_as_input }, { "ReduceMin", 18, axes_as_input },
    { "ReduceProd", 18, axes_as_input }, { "ReduceL1", 18, axes_as_input }, { "ReduceL2", 18, axes_as_input },
    { "ReduceSumSquare", 18, axes_as_input }, { "ReduceLogSum", 18, axes_as_input },
    { "ReduceLogSumExp", 18, axes_as_input },
    { "ReduceMax", 20, NULL }, { "ReduceMin", 20, NULL },    /* booleans */
    { "Split", 18, number_of_parts },
    { "DynamicQuantizeLinear", 11, NULL }, { "MatMulInteger", 10, NULL },     /* written by us; never changed */
    { "BatchNormalization", 14, no_training },
    { "BatchNormalization", 15, NULL },                      /* types of the statistics */
    { "GroupNormalization", 21, factors_per_group },
};

static bool convert_node(struct raise *r, struct onnx_node *n, struct err *e)
{
    enum op op;
    bool known = op_find(n->op_type, "", &op) && (int)op < OPS_WRITTEN_OUT;      /* of the others none is ever written */
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const struct change *c = &changes[i];
        if (strcmp(c->op, n->op_type) != 0)
            continue;
        known = true;
        if (c->how && c->opset > r->from && c->opset <= r->to && !c->how(r, n, e))
            return false;
    }
    return known || refuse(r, n, "how it changed is not known here", e);
}

/* ---- the model ---- */

/* The IR version that ONNX released with an opset. */
static int64_t ir_of(int opset)
{
    static const struct { int opset, ir; } released[] = { { 21, 10 }, { 19, 9 }, { 15, 8 } };
    for (size_t i = 0; i < sizeof released / sizeof released[0]; i++)
        if (opset >= released[i].opset)
            return released[i].ir;
    return 7;
}

/* Copies of the lists that will change. */
static bool copy_lists(struct raise *r, const struct onnx_graph *g, struct err *e)
{
    r->nodes = arena_array(r->mem, g->n_nodes, sizeof *r->nodes, e);
    r->inits = arena_array(r->mem, g->n_initializers + g->n_nodes, sizeof *r->inits, e);
    if (!r->nodes || !r->inits)
        return false;
    r->n_nodes = g->n_nodes;
    r->n_inits = g->n_initializers;
    if (r->n_nodes)
        memcpy(r->nodes, g->nodes, r->n_nodes * sizeof *r->nodes);
    if (r->n_inits)
        memcpy(r->inits, g->initializers, r->n_inits * sizeof *r->inits);
    return true;
}

static struct onnx_opset *raised_opsets(struct raise *r, const struct onnx_model *m, struct err *e)
{
    struct onnx_opset *all = arena_array(r->mem, m->n_opsets, sizeof *all, e);
    for (size_t i = 0; all && i < m->n_opsets; i++) {
        all[i] = m->opsets[i];
        if (!all[i].domain[0])
            all[i].version = r->to;
    }
    return all;
}

bool opset_raise(struct onnx_model *m, int to, struct arena *mem, struct err *e)
{
    int64_t from = onnx_opset(m);
    struct raise r = { .mem = mem, .from = (int)from, .to = to };
    if (from >= to)
        return true;
    if (from < 13 || to > OPSET_INT4)
        return err_set(e, ERR_EXPORT_FORM, "opset_import", "operators can be carried from opset 13 or later to opset %d, not from %lld to %d; export the model with a newer opset_version",
                       OPSET_INT4, (long long)from, to);
    if (!collect_names(&r, &m->graph, e) || !copy_lists(&r, &m->graph, e))
        return false;
    for (size_t i = 0; i < r.n_nodes; i++)
        if (!r.nodes[i].domain[0] && !convert_node(&r, &r.nodes[i], e))
            return false;
    struct onnx_opset *opsets = raised_opsets(&r, m, e);
    if (!opsets)
        return false;
    m->graph.nodes = r.nodes;
    m->graph.initializers = r.inits;
    m->graph.n_initializers = r.n_inits;
    m->opsets = opsets;
    m->ir_version = m->ir_version > ir_of(to) ? m->ir_version : ir_of(to);
    return true;
}
