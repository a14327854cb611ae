/*
 * load.c - graph_load(): import, resolve, then one pass that infers and folds.
 *
 * What the pass writes out from bodies (functions, If, Loop) passes values on as such bodies do; a second resolve looks
 * through that.
 */
#include "core/base/utf8.h"
#include "core/graph/body.h"
#include "core/graph/import.h"
#include "core/graph/infer.h"
#include "core/graph/link.h"

#include <stdlib.h>
#include <string.h>

/* A node whose outputs are all known is not needed any more: they are constants now. */
void infer_publish(struct graph *g, const struct infer *x, const struct node *n)
{
    bool folded = true;
    for (int i = 0; i < n->n_out; i++)
        folded &= n->out[i] >= 0 && x->fact[n->out[i]].known;
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] < 0)
            continue;
        struct value *v = &g->values[n->out[i]];
        const struct fact *f = &x->fact[n->out[i]];
        v->dtype = f->dtype;
        v->shape = f->shape;
        v->is_const = folded;
        v->data = folded ? f->data : NULL;
        v->narrow = folded ? f->narrow : NULL;
        v->narrow_as = folded ? f->narrow_as : DT_NONE;
    }
}

static bool is_folded(const struct graph *g, const struct node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] < 0 || !g->values[n->out[i]].is_const)
            return false;
    return true;
}

/* ---- names ---- */

static int by_name(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->at - y->at;
}

/*
 * Of things with one name the first in the list keeps it; false after a failure.  The others' are made longer, and may
 * then be another's: *ret_any says that there is something to look at again.
 */
static bool rename_twice(struct graph *g, struct slot *list, int n, const char *rename(struct graph *g, int at, const char *name),
                         bool *ret_any)
{
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_name);
    *ret_any = false;
    for (int i = 1; i < n; i++) {
        if (!list[i].name[0] || list[i].at < 0 || strcmp(list[i - 1].name, list[i].name) != 0)
            continue;
        *ret_any = true;
        if (!rename(g, list[i].at, list[i].name))
            return false;
    }
    return true;
}

static const char *longer(struct graph *g, const char *name, int number)
{
    return arena_printf(g->mem, NULL, "%.*s_%d", (int)utf8_fit(name, 900), name, number);
}

static const char *rename_value(struct graph *g, int at, const char *name) { return g->values[at].name = longer(g, name, at); }
static const char *rename_node(struct graph *g, int at, const char *name) { return g->nodes[at].name = longer(g, name, at); }

/* Inputs and outputs keep their names; then come the model's own values, whose numbers are lower than what bodies made. */
static int list_values(const struct graph *g, struct slot *list)
{
    for (int i = 0; i < g->n_values; i++)
        list[i] = (struct slot){ g->values[i].name, g->values[i].is_input || g->values[i].is_output ? i - g->n_values : i };
    return g->n_values;
}

static int list_nodes(const struct graph *g, struct slot *list)
{
    for (int i = 0; i < g->n_nodes; i++)
        list[i] = (struct slot){ g->nodes[i].name, i };
    return g->n_nodes;
}

/* What bodies made is called after their nodes, and two may have one name; ONNX Runtime takes no two nodes of one name. */
static bool unique_names(struct graph *g, struct err *e)
{
    enum { ROUNDS = 8 };
    struct slot *list = arena_array(g->mem, (uint64_t)g->n_values + (uint64_t)g->n_nodes, sizeof *list, e);
    bool values = list, nodes = list;
    for (int i = 0; i < ROUNDS && (values || nodes); i++)
        if (!rename_twice(g, list, list_values(g, list), rename_value, &values) ||
            !rename_twice(g, list, list_nodes(g, list), rename_node, &nodes))
            return err_set(e, ERR_MEMORY, "graph", "no memory for the names of what functions and branches hold");
    return list && (!(values || nodes) ||
                    err_set(e, ERR_MODEL_INVALID, "graph", "names in functions or branches collide with each other; export the model again"));
}

static bool infer_all(struct graph *g, struct symbols *s, node_eval *eval, bool *ret_passed, struct err *e)
{
    struct infer x;
    if (!infer_begin(&x, g, g->mem, s, eval, e))
        return false;
    struct expansion all = { .g = g, .x = &x, .e = e, .values_room = g->n_values };
    for (int i = 0; i < g->n_nodes; i++)
        if (!expand_node(&all, &g->nodes[i]))
            return false;
    g->opset = g->opset < 13 ? 13 : g->opset;      /* what older ones wrote otherwise has been rewritten */
    *ret_passed = all.passed;
    g->nodes = all.nodes;
    g->n_nodes = all.n_nodes;
    int kept = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (!is_folded(g, &g->nodes[i]))
            g->nodes[kept++] = g->nodes[i];
    g->n_nodes = kept;
    g->symbols = symbols_names(s);
    g->n_symbols = symbols_count(s);
    return true;
}

static bool has_bodies(const struct graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if ((int)g->nodes[i].op >= OPS_WITH_BODY)
            return true;
    return false;
}

struct graph *graph_load(struct arena *mem, const struct onnx_model *m, node_eval *eval, struct err *e)
{
    struct symbols *s = symbols_new(mem, e);
    struct graph *g = s ? import_model(mem, m, s, e) : NULL;
    bool bodies = g && has_bodies(g), passed = false;
    bool ok = g && import_resolve(g, e) && infer_all(g, s, eval, &passed, e) && graph_relink(g, e) && (!passed || import_resolve(g, e)) &&
              link_compact(g, e) && (!bodies || unique_names(g, e));
    return ok ? g : NULL;
}
