/*
 * tape_move.c - the derivative of operators that only move elements.
 *
 * Where each element of an output came from is told by the operator itself: it is run on numbers that say where they stand.
 */
#include "core/learn/tape_rules.h"

#include <stdlib.h>

/* All inputs behind the first are constants. */
bool tape_fits_rest_const(const struct graph *g, const struct node *n)
{
    for (int i = 1; i < n->n_in; i++)
        if (n->in[i] >= 0 && g->values[n->in[i]].dtype == DT_F32)
            return false;
    return true;
}

bool tape_fits_gather(const struct graph *g, const struct node *n) { return g->values[n->in[1]].is_const; }

/* Numbers first, first + 1, ... in place of an input's elements. */
static bool places(struct tape *t, const struct tensor *like, int32_t first, struct tensor *ret, struct err *e)
{
    size_t n = tape_elements(like);
    int32_t *at = tape_take(t, n, false, e);
    *ret = (struct tensor){ DT_I32, like->shape, at };
    for (size_t i = 0; at && i < n; i++)
        at[i] = first + (int32_t)i;
    return at != NULL;
}

/* All outputs' sources, one output behind another; an input's elements count on from those of the inputs before it. */
static int *find_sources(struct tape *t, int node, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    struct tensor own[NODE_MAX_ARITY], moved[NODE_MAX_ARITY] = { 0 }, out[NODE_MAX_ARITY] = { 0 };
    const struct tensor *in[NODE_MAX_ARITY];
    size_t total = 0, count = 0;
    bool ok = true;
    for (int i = 0; i < n->n_in; i++) {
        in[i] = tape_input(t, node, i, &own[i]);
        if (!in[i] || in[i]->dtype != REAL_TYPE)
            continue;
        ok = ok && places(t, in[i], (int32_t)total, &moved[i], e);
        total += tape_elements(in[i]);
        in[i] = &moved[i];
    }
    for (int i = 0; i < n->n_out; i++)
        count += n->out[i] >= 0 ? tape_elements(&t->t[n->out[i]]) : 0;
    int *ret = ok ? malloc((count + 1) * sizeof *ret) : NULL;
    if (ok && !ret)
        err_set(e, ERR_MEMORY, n->name, "no memory for derivatives");
    count = 0;
    for (int i = 0; ret && i < n->n_out; i++) {
        if (n->out[i] < 0)
            continue;
        out[i] = (struct tensor){ DT_I32, t->t[n->out[i]].shape, ret + count };
        count += tape_elements(&out[i]);
    }
    struct op_args args = { tape_graph(t), n, in, out, NULL };
    ok = ret && op_impl[n->op].ref(&args, e);
    for (int i = 0; i < n->n_in; i++)
        tape_give(t, moved[i].data);
    if (!ok) {
        free(ret);
        ret = NULL;
    }
    return ret;
}

/* Adds what came from elements [first, first + n) of the inputs. */
static void scatter(struct tape *t, const struct node *n, const int *from, size_t first, size_t size, real *to)
{
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] < 0)
            continue;
        const real *dy = t->grad[n->out[i]];
        size_t count = tape_elements(&t->t[n->out[i]]);
        for (size_t k = 0; dy && k < count; k++) {
            size_t at = (size_t)from[k] - first;
            if (at < size)
                to[at] += dy[k];
        }
        from += count;
    }
}

/* Of a permutation, whose derivative nobody has added to yet. */
static void put_back(size_t n, const int *from, const real *dy, real *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[from[i]] = dy[i];
}

bool tape_back_move(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    size_t first = 0;
    if (!t->sources[node] && !(t->sources[node] = find_sources(t, node, e)))
        return false;
    for (int i = 0; i < n->n_in; i++) {
        struct tensor room;
        const struct tensor *x = tape_input(t, node, i, &room);
        if (!x || x->dtype != REAL_TYPE)
            continue;
        bool fresh = false;
        real *to = tape_want(t, node, i, n->op == OP_TRANSPOSE ? &fresh : NULL);
        size_t size = tape_elements(x);
        if (to && fresh)
            put_back(size, t->sources[node], dy, to);
        else if (to)
            scatter(t, n, t->sources[node], first, size, to);
        first += size;
    }
    return !t->e.code;
}
