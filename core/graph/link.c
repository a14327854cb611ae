/*
 * link.c - the edges of a graph: producers, consumers, order, and what no output needs.
 *
 * Every walk has its own stack in the arena: a hostile chain of a quarter of a million
 * nodes must not meet the C stack.
 */
#include "core/graph/link.h"

#include <stdio.h>
#include <string.h>

const char *graph_where(const struct graph *g, const struct node *n, char *buf, size_t size)
{
    size_t index = n->place ? (size_t)n->place - 1 : (size_t)(n - g->nodes);
    return err_node(buf, size, index, n->name, n->op == OP_CALL ? n->body->function->name : op_info[n->op].type);
}

const struct node *graph_made_by(const struct graph *g, int value, enum op op)
{
    int at = value >= 0 ? g->values[value].producer : -1;
    return at >= 0 && g->nodes[at].op == op ? &g->nodes[at] : NULL;
}

const char *graph_shape_text(const struct graph *g, const struct shape *s, char *buf, size_t size)
{
    return link_shape_text(g->symbols, s, buf, size);
}

const char *link_shape_text(const char *const *symbols, const struct shape *s, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, s->rank < 0 ? "[...]" : "[");
    for (int i = 0; i < s->rank && n < size; i++) {
        const char *comma = i ? "," : "";
        int64_t d = s->dim[i];
        n += (size_t)(d >= 0    ? snprintf(buf + n, size - n, "%s%lld", comma, (long long)d)
                      : symbols ? snprintf(buf + n, size - n, "%s%s", comma, symbols[-1 - d])
                                : snprintf(buf + n, size - n, "%s?", comma));
    }
    if (s->rank >= 0 && n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}

/* ---- producers ---- */

static bool set_producer(struct graph *g, int node, int value, struct err *e)
{
    char where[160];
    struct value *v = &g->values[value];
    if (v->is_const || v->is_input || v->producer >= 0)
        return err_set(e, ERR_MODEL_INVALID, graph_where(g, &g->nodes[node], where, sizeof where),
                       "its output '%.80s' is already %s; every tensor is written once", v->name,
                       v->is_const ? "a constant" : v->is_input ? "an input of the graph" : "written by another node");
    v->producer = node;
    return true;
}

static bool set_producers(struct graph *g, struct err *e)
{
    for (int i = 0; i < g->n_values; i++)
        g->values[i].producer = -1;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] >= 0 && !set_producer(g, i, g->nodes[i].out[k], e))
                return false;
    return true;
}

/* ---- which nodes the outputs need ---- */

static bool need(const struct graph *g, int value, bool *live, int *stack, int *top, const char *where, struct err *e)
{
    const struct value *v = &g->values[value];
    if (v->producer < 0)
        return v->is_const || v->is_input ||
               err_set(e, ERR_MODEL_INVALID, where, "no node, input or initializer makes the tensor '%.120s'", v->name);
    if (!live[v->producer]) {
        live[v->producer] = true;
        stack[(*top)++] = v->producer;      /* each node at most once, so the stack cannot overflow */
    }
    return true;
}

static bool mark_live(const struct graph *g, bool *live, int *stack, struct err *e)
{
    char where[160];
    int top = 0;
    for (int i = 0; i < g->n_outputs; i++)
        if (!need(g, g->outputs[i], live, stack, &top, "the graph's outputs", e))
            return false;
    while (top) {
        const struct node *n = &g->nodes[stack[--top]];
        graph_where(g, n, where, sizeof where);
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && !need(g, n->in[k], live, stack, &top, where, e))
                return false;
    }
    return true;
}

/* ---- order ---- */

enum { UNSEEN, OPEN, DONE };

struct walk {
    const struct graph *g;
    const bool *live;                  /* NULL: every node */
    char *state;
    int *stack, *next;                 /* next[node]: the input to look at when the node is on top again */
    int *order, n_order, top;
};

/* The nodes on the stack from `again` up are a cycle: name the first few. */
static bool cycle(const struct walk *w, int again, struct err *e)
{
    char text[320] = "", where[160];
    size_t n = 0;
    int from = w->top - 1;
    while (w->stack[from] != again)
        from--;
    for (int i = w->top - 1; i >= from && i > w->top - 4 && n < sizeof text; i--) {
        graph_where(w->g, &w->g->nodes[w->stack[i]], where, sizeof where);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.90s", n ? " <- " : "", where);
    }
    return err_set(e, ERR_MODEL_INVALID, graph_where(w->g, &w->g->nodes[again], where, sizeof where),
                   "the graph has a cycle of %d nodes: %s", w->top - from, text);
}

/* Puts `root` behind everything it reads.  A depth-first walk keeps the given order wherever it is already right. */
static bool visit(struct walk *w, int root, struct err *e)
{
    w->stack[w->top++] = root;
    w->state[root] = OPEN;
    while (w->top) {
        int at = w->stack[w->top - 1];
        const struct node *n = &w->g->nodes[at];
        if (w->next[at] == n->n_in) {
            w->state[at] = DONE;
            w->order[w->n_order++] = at;
            w->top--;
            continue;
        }
        int value = n->in[w->next[at]++];
        int before = value < 0 ? -1 : w->g->values[value].producer;
        if (before < 0 || w->state[before] == DONE)
            continue;
        if (w->state[before] == OPEN)
            return cycle(w, before, e);
        w->state[before] = OPEN;
        w->stack[w->top++] = before;
    }
    return true;
}

static bool sort(const struct graph *g, const bool *live, int *order, int *ret_n, struct err *e)
{
    uint64_t n = (uint64_t)g->n_nodes;
    struct walk w = { .g = g, .live = live, .order = order };
    w.state = arena_alloc(g->mem, n, e);
    w.stack = arena_array(g->mem, n, sizeof(int), e);
    w.next = arena_array(g->mem, n, sizeof(int), e);
    if (!w.state || !w.stack || !w.next)
        return false;
    for (int i = 0; i < g->n_nodes; i++)
        if ((!live || live[i]) && w.state[i] == UNSEEN && !visit(&w, i, e))
            return false;
    *ret_n = w.n_order;
    return true;
}

static bool reorder(struct graph *g, const int *order, int n, struct err *e)
{
    struct node *nodes = arena_array(g->mem, (uint64_t)n, sizeof *nodes, e);
    if (!nodes)
        return false;
    for (int i = 0; i < n; i++)
        nodes[i] = g->nodes[order[i]];
    g->nodes = nodes;
    g->n_nodes = n;
    for (int i = 0; i < g->n_values; i++)
        g->values[i].producer = -1;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < nodes[i].n_out; k++)
            if (nodes[i].out[k] >= 0)
                g->values[nodes[i].out[k]].producer = i;
    return true;
}

/* ---- consumers ---- */

/* Calls itself "each once" by remembering the last consumer counted: nodes come in increasing order. */
static int count_consumers(struct graph *g, int *last)
{
    int edges = 0;
    for (int i = 0; i < g->n_values; i++) {
        last[i] = -1;
        g->values[i].n_consumers = 0;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            int v = g->nodes[i].in[k];
            if (v < 0 || last[v] == i)
                continue;
            last[v] = i;
            g->values[v].n_consumers++;
            edges++;
        }
    return edges;
}

static bool set_consumers(struct graph *g, struct err *e)
{
    int *last = arena_array(g->mem, (uint64_t)g->n_values, sizeof *last, e);
    if (!last)
        return false;
    int edges = count_consumers(g, last);
    int *all = arena_array(g->mem, (uint64_t)edges, sizeof *all, e);
    if (!all)
        return false;
    for (int i = 0; i < g->n_values; i++) {
        struct value *v = &g->values[i];
        v->consumers = all;
        all += v->n_consumers;
        v->n_consumers = 0;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            struct value *v = g->nodes[i].in[k] < 0 ? NULL : &g->values[g->nodes[i].in[k]];
            if (v && (v->n_consumers == 0 || v->consumers[v->n_consumers - 1] != i))
                v->consumers[v->n_consumers++] = i;
        }
    return true;
}

bool graph_relink(struct graph *g, struct err *e)
{
    bool *live = arena_array(g->mem, (uint64_t)g->n_nodes, sizeof *live, e);
    int *order = arena_array(g->mem, (uint64_t)g->n_nodes, sizeof *order, e);
    int n;
    return live && order && set_producers(g, e) && mark_live(g, live, order, e) && sort(g, live, order, &n, e) &&
           reorder(g, order, n, e) && set_consumers(g, e);
}

bool link_sort(struct graph *g, struct err *e)
{
    int *order = arena_array(g->mem, (uint64_t)g->n_nodes, sizeof *order, e);
    int n;
    return order && set_producers(g, e) && sort(g, NULL, order, &n, e) && reorder(g, order, n, e);
}

/* ---- compaction ---- */

static void renumber(int *list, int n, const int *to)
{
    for (int i = 0; i < n; i++)
        if (list[i] >= 0)
            list[i] = to[list[i]];
}

bool link_compact(struct graph *g, struct err *e)
{
    int *to = arena_array(g->mem, (uint64_t)g->n_values, sizeof *to, e);
    if (!to)
        return false;
    int n = 0;
    for (int i = 0; i < g->n_values; i++) {
        const struct value *v = &g->values[i];
        bool used = v->is_input || v->is_output || v->producer >= 0 || v->n_consumers > 0;
        to[i] = used ? n : -1;
        if (used)
            g->values[n++] = *v;
    }
    g->n_values = n;
    for (int i = 0; i < g->n_nodes; i++) {
        renumber(g->nodes[i].in, g->nodes[i].n_in, to);
        renumber(g->nodes[i].out, g->nodes[i].n_out, to);
    }
    renumber(g->inputs, g->n_inputs, to);
    renumber(g->outputs, g->n_outputs, to);
    return true;
}
