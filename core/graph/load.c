/* load.c - graph_load(): import, resolve, then one pass that infers and folds. */
#include "core/graph/expand.h"
#include "core/graph/import.h"
#include "core/graph/infer.h"
#include "core/graph/link.h"

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
    }
}

static bool is_folded(const struct graph *g, const struct node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] < 0 || !g->values[n->out[i]].is_const)
            return false;
    return true;
}

static bool infer_all(struct graph *g, struct symbols *s, node_eval *eval, struct err *e)
{
    struct infer x;
    if (!infer_begin(&x, g, g->mem, s, eval, e))
        return false;
    struct expansion all = { .g = g, .x = &x, .e = e, .values_room = g->n_values };
    for (int i = 0; i < g->n_nodes; i++)
        if (!expand_node(&all, &g->nodes[i]))
            return false;
    g->opset = g->opset < 13 ? 13 : g->opset;      /* what older ones wrote otherwise has been rewritten */
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

struct graph *graph_load(struct arena *mem, const struct onnx_model *m, node_eval *eval, struct err *e)
{
    struct symbols *s = symbols_new(mem, e);
    struct graph *g = s ? import_model(mem, m, s, e) : NULL;
    bool ok = g && import_resolve(g, e) && infer_all(g, s, eval, e) && graph_relink(g, e) && link_compact(g, e);
    return ok ? g : NULL;
}
