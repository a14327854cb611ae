/*
 * import.c - an ONNX graph's names become numbers.
 *
 * Names are looked up in a sorted list rather than a hash table: nothing a
 * stranger names his tensors makes it slow.
 */
#include "core/graph/import.h"

#include "core/base/utf8.h"
#include "core/graph/body.h"
#include "core/graph/check.h"
#include "core/graph/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPSET_LEAST = 11, OPSET_MOST = 28 };

struct definition {
    const char *name;
    int value;
};

/* Values are numbered: initializers, inputs of the model, outputs of nodes. */
struct import {
    const struct onnx_model *m;
    struct graph *g;
    struct definition *defs;           /* sorted by name, then number */
    int n_defs;
    bool *shadowed;                    /* [values]: an input that an initializer supplies (IR 3) */
};

/* ---- the model as a whole ---- */

static bool check_opset(const struct onnx_model *m, struct err *e)
{
    int64_t v = onnx_opset(m);
    if (v >= OPSET_LEAST && v <= OPSET_MOST)
        return true;
    return err_set(e, ERR_MODEL_OPSET, "opset_import",
                   v ? "the model uses opset %lld, supported are %d to %d; export with opset_version >= %d"
                     : "the model names no version of the standard operators (%lld), supported are %d to %d; export with opset_version >= %d",
                   (long long)v, OPSET_LEAST, OPSET_MOST, OPSET_LEAST);
}

static uint64_t count_values(const struct onnx_graph *o)
{
    uint64_t n = o->n_initializers + o->n_inputs;
    for (size_t i = 0; i < o->n_nodes; i++)
        n += o->nodes[i].n_outputs;
    return n;
}

static bool allocate(struct import *im, struct arena *mem, struct err *e)
{
    struct graph *g = arena_alloc(mem, sizeof *g, e);
    const struct onnx_graph *o = &im->m->graph;
    uint64_t values = count_values(o);
    if (!g)
        return false;
    if (o->n_nodes > ONNX_MAX_NODES || values > INT32_MAX / 2)
        return err_set(e, ERR_MODEL_LIMIT, "graph", "the model has more than %d nodes", ONNX_MAX_NODES);
    *g = (struct graph){ .mem = mem, .model = im->m, .opset = onnx_opset(im->m) };
    im->g = g;
    g->nodes = arena_array(mem, o->n_nodes, sizeof *g->nodes, e);
    g->values = arena_array(mem, values, sizeof *g->values, e);
    g->inputs = arena_array(mem, o->n_inputs, sizeof *g->inputs, e);
    g->outputs = arena_array(mem, o->n_outputs, sizeof *g->outputs, e);
    im->defs = arena_array(mem, values, sizeof *im->defs, e);
    im->shadowed = arena_array(mem, values, sizeof *im->shadowed, e);
    return g->nodes && g->values && g->inputs && g->outputs && im->defs && im->shadowed;
}

/* ---- definitions ---- */

static int define(struct import *im, const char *name)
{
    int v = im->g->n_values++;
    im->g->values[v] = (struct value){ .name = name, .producer = -1, .shape.rank = -1 };
    im->defs[im->n_defs++] = (struct definition){ name, v };
    return v;
}

static bool define_initializer(struct import *im, const struct onnx_tensor *t, struct err *e)
{
    if (!tensor_size(t->t.dtype, &t->t.shape, t->name, NULL, NULL, e))
        return false;
    if (!t->name[0])
        return err_set(e, ERR_MODEL_INVALID, "initializer", "an initializer has no name");
    struct value *v = &im->g->values[define(im, t->name)];
    v->dtype = t->t.dtype;
    v->shape = t->t.shape;
    v->data = t->t.data;
    v->is_const = true;
    return true;
}

static bool define_all(struct import *im, struct err *e)
{
    const struct onnx_graph *o = &im->m->graph;
    for (size_t i = 0; i < o->n_initializers; i++)
        if (!define_initializer(im, &o->initializers[i], e))
            return false;
    for (size_t i = 0; i < o->n_inputs; i++)
        define(im, o->inputs[i].name);
    for (size_t i = 0; i < o->n_nodes; i++)
        for (size_t k = 0; k < o->nodes[i].n_outputs; k++)
            if (o->nodes[i].outputs[k][0])
                define(im, o->nodes[i].outputs[k]);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct definition *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->value - y->value;
}

/* Sorts, and finds names with two definitions.  Only an initializer may repeat an input: it is then a constant. */
static bool sort_definitions(struct import *im, struct err *e)
{
    int initializers = (int)im->m->graph.n_initializers, inputs = (int)im->m->graph.n_inputs;
    if (im->n_defs)
        qsort(im->defs, (size_t)im->n_defs, sizeof *im->defs, by_name);
    int n = 0;
    for (int i = 0; i < im->n_defs; i++) {
        struct definition d = im->defs[i];
        if (n == 0 || strcmp(im->defs[n - 1].name, d.name) != 0) {
            im->defs[n++] = d;
            continue;
        }
        bool input = d.value >= initializers && d.value < initializers + inputs;
        if (!input || im->defs[n - 1].value >= initializers || im->shadowed[im->defs[n - 1].value])
            return err_set(e, ERR_MODEL_INVALID, d.name,
                           "the tensor is defined twice (as %s); every name must be written once", input ? "an input" :
                           d.value < initializers ? "an initializer" : "the output of a node");
        im->shadowed[d.value] = im->shadowed[im->defs[n - 1].value] = true;
    }
    im->n_defs = n;
    return true;
}

/* The value of a name, or -1. */
static int find(const struct import *im, const char *name)
{
    int low = 0, high = im->n_defs;
    while (low < high) {
        int mid = low + (high - low) / 2;
        int order = strcmp(name, im->defs[mid].name);
        if (order == 0)
            return im->defs[mid].value;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return -1;
}

/* ---- inputs and outputs ---- */

static bool input_shape(const struct onnx_value *o, struct symbols *s, struct shape *ret, struct err *e)
{
    char made[160];
    *ret = o->shape;
    if (o->shape.rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, o->name, "the input has rank %d, at most %d is supported", o->shape.rank, TENSOR_MAX_RANK);
    for (int i = 0; i < o->shape.rank; i++) {
        if (o->shape.dim[i] > TENSOR_MAX_DIM)
            return err_set(e, ERR_MODEL_LIMIT, o->name, "dimension %d of the input is over 2^40", i);
        if (o->shape.dim[i] >= 0)
            continue;
        const char *name = o->dim_param[i] ? o->dim_param[i] : "";
        snprintf(made, sizeof made, "%.*s[%d]", (int)utf8_fit(o->name, 120), o->name, i);
        ret->dim[i] = -symbol_named(s, name[0] ? name : made).sym;
    }
    return symbols_ok(s) || err_set(e, ERR_MEMORY, o->name, "no memory for the names of dimensions");
}

static bool import_inputs(struct import *im, struct symbols *s, struct err *e)
{
    const struct onnx_graph *o = &im->m->graph;
    for (size_t i = 0; i < o->n_inputs; i++) {
        int v = (int)(o->n_initializers + i);
        struct value *value = &im->g->values[v];
        if (im->shadowed[v])
            continue;
        if (!value->name[0] || dtype_bits(o->inputs[i].dtype) == 0)
            return err_set(e, ERR_MODEL_INVALID, value->name, "the input has %s; it cannot be fed",
                           value->name[0] ? "no element type that can be computed with" : "no name");
        value->dtype = o->inputs[i].dtype;
        value->is_input = true;
        if (!input_shape(&o->inputs[i], s, &value->shape, e))
            return false;
        im->g->inputs[im->g->n_inputs++] = v;
    }
    return true;
}

static bool import_outputs(struct import *im, struct err *e)
{
    const struct onnx_graph *o = &im->m->graph;
    if (o->n_outputs == 0)
        return err_set(e, ERR_MODEL_INVALID, "graph", "the graph has no outputs");
    for (size_t i = 0; i < o->n_outputs; i++) {
        int v = find(im, o->outputs[i].name);
        if (v < 0)
            return err_set(e, ERR_MODEL_INVALID, o->outputs[i].name, "no node, input or initializer makes this output of the graph");
        if (im->g->values[v].is_output)
            return err_set(e, ERR_MODEL_INVALID, o->outputs[i].name, "the output is listed twice");
        im->g->values[v].is_output = true;
        im->g->outputs[im->g->n_outputs++] = v;
    }
    return true;
}

/* ---- nodes ---- */

static bool find_op(const struct graph *g, const struct onnx_node *o, const char *where, struct node *ret, struct err *e)
{
    bool known = op_find(o->op_type, o->domain, &ret->op);
    /* Where both exist ONNX leaves the choice to the runtime: only in the standard domain is ours sure to mean the same. */
    const struct onnx_function *f = known && !o->domain[0] ? NULL : function_find(g, o);
    if (!known && !f)
        return err_set(e, ERR_MODEL_OP, where, "the operator %.60s%s%.60s is not supported%s", o->op_type,
                       o->domain[0] ? " of domain " : "", o->domain,
                       g->model->n_functions ? ", and the model has no function of that name; export it again" : "");
    if (f && !(ret->body = function_body(g->mem, f, e)))
        return false;
    ret->op = f ? OP_CALL : ret->op;
    for (size_t i = 0; i < o->n_attrs && ret->op != OP_IF && ret->op != OP_LOOP; i++)
        if (o->attrs[i].type == ONNX_GRAPH || o->attrs[i].type == ONNX_GRAPHS)
            return err_set(e, ERR_MODEL_OP, where, "the operator %.60s runs a subgraph, which is not supported; "
                           "export without control flow", o->op_type);
    return true;
}

static size_t trimmed(const char *const *names, size_t n)
{
    while (n && !names[n - 1][0])
        n--;
    return n;
}

bool import_needs(enum op op, size_t i)
{
    bool list = op_info[op].max_in == NODE_MAX_ARITY || op == OP_EINSUM;      /* Einsum: a list of bounded length */
    return i < op_info[op].min_in || (list && (int)op < OPS_WITH_BODY);
}

static bool check_arity(const struct onnx_node *o, enum op which, size_t n_in, size_t n_out, const char *where, struct err *e)
{
    const struct op_info *op = &op_info[which];
    /* 255 is "variadic" in the table; NODE_MAX_ARITY is the same number, so one comparison serves both. */
    if (n_in < op->min_in || n_in > op->max_in)
        return err_set(e, ERR_MODEL_INVALID, where, "%zu inputs, the operator takes %d to %d", n_in, op->min_in, op->max_in);
    if (n_out < op->min_out || n_out > op->max_out)
        return err_set(e, ERR_MODEL_INVALID, where, "%zu outputs, the operator has %d to %d", n_out, op->min_out, op->max_out);
    for (size_t i = 0; i < n_in; i++)
        if (!o->inputs[i][0] && import_needs(which, i))
            return err_set(e, ERR_MODEL_INVALID, where, "input %zu is absent but not optional", i);
    return true;
}

bool import_op(const struct graph *g, const struct onnx_node *o, const char *where, struct node *ret, struct err *e)
{
    size_t n_in = trimmed(o->inputs, o->n_inputs), n_out = trimmed(o->outputs, o->n_outputs);
    *ret = (struct node){ .name = o->name, .n_in = (int)n_in, .n_out = (int)n_out, .attrs = o->attrs, .n_attrs = o->n_attrs };
    if (!find_op(g, o, where, ret, e))
        return false;
    if (ret->op == OP_CALL)
        return function_takes(ret->body->function, n_in, n_out, where, e);
    return check_arity(o, ret->op, n_in, n_out, where, e) && check_attrs(ret, where, e);
}

static bool import_edges(struct import *im, const struct onnx_node *o, struct node *n, int *next_out, const char *where, struct err *e)
{
    int declared = n->n_in;
    if (n->op == OP_IF || n->op == OP_LOOP) {
        if (!(n->body = graphs_body(im->g->mem, o, e)))
            return false;
        n->n_in += n->body->n_outer;
    }
    n->in = arena_array(im->g->mem, (uint64_t)n->n_in + (uint64_t)n->n_out, sizeof *n->in, e);
    if (!n->in)
        return false;
    n->out = n->in + n->n_in;
    for (int i = 0; i < n->n_in; i++) {
        const char *name = i < declared ? o->inputs[i] : n->body->outer[i - declared];
        n->in[i] = name[0] ? find(im, name) : -1;
        if (name[0] && n->in[i] < 0)
            return err_set(e, ERR_MODEL_INVALID, where, "its input '%.120s' is made by no node, input or initializer", name);
    }
    for (int i = 0; i < n->n_out; i++)
        n->out[i] = o->outputs[i][0] ? (*next_out)++ : -1;
    return true;
}

static bool import_node(struct import *im, size_t i, int *next_out, struct err *e)
{
    const struct onnx_node *o = &im->m->graph.nodes[i];
    struct node *n = &im->g->nodes[i];
    char where[160];
    err_node(where, sizeof where, i, o->name, o->op_type);
    if (!import_op(im->g, o, where, n, e))
        return false;
    n->place = (int)i + 1;
    return import_edges(im, o, n, next_out, where, e);
}

static bool import_nodes(struct import *im, struct err *e)
{
    const struct onnx_graph *o = &im->m->graph;
    int next_out = (int)(o->n_initializers + o->n_inputs);
    for (size_t i = 0; i < o->n_nodes; i++)
        if (!import_node(im, i, &next_out, e))
            return false;
    im->g->n_nodes = (int)o->n_nodes;
    return true;
}

struct graph *import_model(struct arena *mem, const struct onnx_model *m, struct symbols *s, struct err *e)
{
    struct import im = { .m = m };
    if (!check_opset(m, e) || !allocate(&im, mem, e) || !functions_index(im.g, e) || !define_all(&im, e) || !sort_definitions(&im, e) ||
        !import_inputs(&im, s, e) || !import_nodes(&im, e) || !import_outputs(&im, e) || !link_sort(im.g, e))
        return NULL;
    return im.g;
}
