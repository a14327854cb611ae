/* bind.c - graph_bind(): the rules of graph_load() again, with the inputs' lengths as numbers. */
#include "core/graph/infer.h"

#include "core/graph/link.h"

static bool wrong_shape(const struct graph *g, const struct value *v, const struct shape *s, struct err *e)
{
    char declared[160], given[160];
    return err_set(e, ERR_DATA_SHAPE, v->name, "the input takes %s, the data is %s",
                   graph_shape_text(g, &v->shape, declared, sizeof declared), shape_text(s, given, sizeof given));
}

/* length[symbol]: what an earlier input gave it, 0 if none has. */
static bool bind_symbol(const struct graph *g, const struct value *v, int axis, int64_t dim, int64_t *length, struct err *e)
{
    int64_t symbol = -1 - v->shape.dim[axis];
    if (dim < 1)
        return err_set(e, ERR_DATA_SHAPE, v->name, "dimension %d ('%.80s') is empty; it must be at least 1", axis, g->symbols[symbol]);
    if (length[symbol] && length[symbol] != dim)
        return err_set(e, ERR_DATA_SHAPE, v->name, "dimension %d ('%.80s') is %lld here and %lld elsewhere; they must agree", axis,
                       g->symbols[symbol], (long long)dim, (long long)length[symbol]);
    length[symbol] = dim;
    return true;
}

static bool bind_input(const struct graph *g, const struct value *v, const struct shape *s, int64_t *length, struct err *e)
{
    if (!tensor_size(v->dtype, s, v->name, NULL, NULL, e))
        return false;
    if (v->shape.rank >= 0 && v->shape.rank != s->rank)
        return wrong_shape(g, v, s, e);
    for (int i = 0; i < v->shape.rank; i++) {
        if (v->shape.dim[i] >= 0 && v->shape.dim[i] != s->dim[i])
            return wrong_shape(g, v, s, e);
        if (v->shape.dim[i] < 0 && !bind_symbol(g, v, i, s->dim[i], length, e))
            return false;
    }
    return true;
}

static bool bind_inputs(struct infer *x, const struct shape *shapes, struct err *e)
{
    const struct graph *g = x->g;
    int64_t *length = arena_array(x->mem, (uint64_t)g->n_symbols, sizeof *length, e);
    if (!length)
        return false;
    for (int i = 0; i < g->n_inputs; i++) {
        if (!bind_input(g, &g->values[g->inputs[i]], &shapes[i], length, e))
            return false;
        x->fact[g->inputs[i]].shape = shapes[i];
    }
    return true;
}

static bool copy_facts(const struct infer *x, struct facts *ret, struct err *e)
{
    uint64_t n = (uint64_t)x->g->n_values;
    ret->shape = arena_array(x->mem, n, sizeof *ret->shape, e);
    ret->data = arena_array(x->mem, n, sizeof *ret->data, e);
    ret->known = arena_array(x->mem, n, sizeof *ret->known, e);
    if (!ret->shape || !ret->data || !ret->known)
        return false;
    for (int i = 0; i < x->g->n_values; i++) {
        ret->shape[i] = x->fact[i].shape;
        ret->data[i] = x->fact[i].data;
        ret->known[i] = x->fact[i].known;
    }
    return true;
}

bool graph_bind(const struct graph *g, struct arena *mem, const struct shape *shapes, node_eval *eval,
                struct facts *ret, struct err *e)
{
    struct infer x;
    if (!infer_begin(&x, g, mem, NULL, eval, e) || !bind_inputs(&x, shapes, e))
        return false;
    for (int i = 0; i < g->n_nodes; i++)
        if (!infer_node(&x, &g->nodes[i], e))
            return false;
    return copy_facts(&x, ret, e);
}
