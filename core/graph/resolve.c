/* resolve.c - nodes that compute nothing: Constant, Identity, and Dropout as it behaves at inference. */
#include "core/graph/import.h"

#include <string.h>

enum { MASK = -2 };                    /* in alias[]: the second output of a Dropout */

struct resolve {
    struct graph *g;
    int *alias;                        /* [values]: the value to read instead; itself where nothing changed */
    int *output_at;                    /* [values]: index in g->outputs, or -1 */
    int kept;                          /* nodes kept so far */
};

/* ---- Constant ---- */

struct scalar_form { const char *name; enum dtype dtype; bool list; };

static const struct scalar_form forms[] = {
    { "value_float", DT_F32, false }, { "value_floats", DT_F32, true },
    { "value_int", DT_I64, false },   { "value_ints", DT_I64, true },
};

static const void *form_bytes(const struct onnx_attr *a, const struct scalar_form *f)
{
    if (f->list)
        return f->dtype == DT_F32 ? (const void *)a->floats : a->ints;
    return f->dtype == DT_F32 ? (const void *)&a->f : &a->i;
}

/* The one attribute of a Constant as a tensor; the attribute outlives the graph, so its bytes are borrowed. */
static bool only_value(const struct node *n, struct tensor *ret)
{
    if (n->n_attrs != 1)
        return false;
    const struct onnx_attr *a = &n->attrs[0];
    if (strcmp(a->name, "value") == 0 && a->t) {
        *ret = a->t->t;
        return true;
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strcmp(forms[i].name, a->name) == 0) {
            *ret = (struct tensor){ .dtype = forms[i].dtype, .data = (void *)form_bytes(a, &forms[i]) };
            ret->shape.rank = forms[i].list;
            ret->shape.dim[0] = (int64_t)a->n;
            return true;
        }
    return false;
}

bool resolve_constant(const struct node *n, const char *where, struct tensor *ret, struct err *e)
{
    if (!only_value(n, ret))
        return err_set(e, ERR_MODEL_INVALID, where, "a Constant has exactly one value");
    return tensor_size(ret->dtype, &ret->shape, where, NULL, NULL, e);
}

static bool set_constant(struct resolve *r, const struct node *n, struct err *e)
{
    char where[160];
    struct tensor t;
    if (!resolve_constant(n, graph_where(r->g, n, where, sizeof where), &t, e))
        return false;
    struct value *v = &r->g->values[n->out[0]];
    v->dtype = t.dtype;
    v->shape = t.shape;
    v->data = t.data;
    v->is_const = true;
    v->producer = -1;
    return true;
}

/* ---- Identity and Dropout ---- */

bool resolve_dropout(const struct graph *g, const struct node *n, const char *where, struct err *e)
{
    if (n->n_in < 3)
        return true;
    const struct value *training = &g->values[n->in[2]];
    if (training->is_const && training->dtype == DT_BOOL && training->data && !*(const char *)training->data)
        return true;
    return err_set(e, ERR_MODEL_OP, where,
                   "a Dropout that may be in training mode is not supported; export the model in eval mode");
}

static void keep(struct resolve *r, const struct node *n)
{
    struct node copy = *n;
    r->g->nodes[r->kept++] = copy;
}

/* n passes value `from` on as `to`.  Where `to` is an output of the graph, its name must survive. */
static void pass(struct resolve *r, struct node *n, int from, int to)
{
    struct value *src = &r->g->values[from], *dst = &r->g->values[to];
    if (!dst->is_output) {
        r->alias[to] = from;
        dst->producer = -1;
    } else if (src->is_const) {
        dst->dtype = src->dtype;
        dst->shape = src->shape;
        dst->data = src->data;
        dst->is_const = true;
        dst->producer = -1;
    } else if (src->producer >= 0 && !src->is_output) {
        src->name = dst->name;
        src->is_output = true;
        dst->is_output = false;
        dst->producer = -1;
        r->output_at[from] = r->output_at[to];
        r->g->outputs[r->output_at[to]] = from;
        r->alias[to] = from;
    } else {
        n->op = OP_IDENTITY;
        n->n_in = n->n_out = 1;
        n->attrs = NULL;
        n->n_attrs = 0;
        keep(r, n);
    }
}

static bool read_through_aliases(struct resolve *r, struct node *n, struct err *e)
{
    char where[160];
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] < 0)
            continue;
        n->in[i] = r->alias[n->in[i]];
        if (n->in[i] == MASK)
            return err_set(e, ERR_MODEL_OP, graph_where(r->g, n, where, sizeof where),
                           "it reads the mask of a Dropout, which does not exist at inference; export the model in eval mode");
    }
    return true;
}

static bool resolve_node(struct resolve *r, struct node *n, struct err *e)
{
    char where[160];
    if (!read_through_aliases(r, n, e))
        return false;
    if (n->op == OP_CONSTANT)
        return n->out[0] < 0 || set_constant(r, n, e);
    if (n->op != OP_IDENTITY && n->op != OP_DROPOUT) {
        keep(r, n);
        return true;
    }
    if (n->op == OP_DROPOUT && !resolve_dropout(r->g, n, graph_where(r->g, n, where, sizeof where), e))
        return false;
    if (n->n_out > 1) {
        r->alias[n->out[1]] = MASK;
        r->g->values[n->out[1]].producer = -1;
    }
    if (n->out[0] >= 0)
        pass(r, n, n->in[0], n->out[0]);
    return true;
}

static bool prepare(struct resolve *r, struct err *e)
{
    struct graph *g = r->g;
    r->alias = arena_array(g->mem, (uint64_t)g->n_values, sizeof *r->alias, e);
    r->output_at = arena_array(g->mem, (uint64_t)g->n_values, sizeof *r->output_at, e);
    if (!r->alias || !r->output_at)
        return false;
    for (int i = 0; i < g->n_values; i++) {
        r->alias[i] = i;
        r->output_at[i] = -1;
    }
    for (int i = 0; i < g->n_outputs; i++)
        r->output_at[g->outputs[i]] = i;
    return true;
}

bool import_resolve(struct graph *g, struct err *e)
{
    struct resolve r = { .g = g };
    if (!prepare(&r, e))
        return false;
    /* In order, so what a node reads is resolved before the node; kept <= i, so nothing unread is overwritten. */
    for (int i = 0; i < g->n_nodes; i++) {
        struct node n = g->nodes[i];
        if (!resolve_node(&r, &n, e))
            return false;
    }
    g->n_nodes = r.kept;
    return graph_relink(g, e);
}
