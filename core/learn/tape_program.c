/* tape_program.c - which nodes of a piece run, and which derivatives get where. */
#include "core/learn/tape_internal.h"

#include "core/graph/unit_rows.h"

#include <string.h>

struct making { const struct piece *of; struct program *ret; bool *leads, *carries, *useful, *held; };

const struct learned *program_learned(const struct program *p, enum learned_kind kind, int node, int input)
{
    for (int i = 0; i < p->of.n_learned; i++) {
        const struct learned *l = &p->of.learned[i];
        if (l->kind == kind && l->node == node && (kind != LEARN_CONSTANT || l->input == input))
            return l;
    }
    return NULL;
}

/* What a node reads when it runs as the lowering says. */
static int reads_of(const struct piece *p, int node, int *ret)
{
    const struct node *n = &p->g->nodes[node];
    const struct qop *q = &p->how->qop[node];
    if (q->kind != QOP_NONE) {
        ret[0] = q->x;
        ret[1] = q->y;
        return q->y >= 0 ? 2 : 1;
    }
    memcpy(ret, n->in, (size_t)n->n_in * sizeof *ret);
    return n->n_in;
}

static bool inside(const struct piece *p, int value)
{
    int made = p->g->values[value].producer;
    return made >= p->first && made < p->end;
}

/* Values that `out` needs, from the end; and those that rows are divided by. */
static void find_leading(struct making *m)
{
    const struct piece *p = m->of;
    int reads[NODE_MAX_ARITY];
    m->leads[p->out] = true;
    for (int i = p->end - 1; i >= p->first; i--) {
        const struct node *n = &p->g->nodes[i];
        bool leads = false;
        for (int k = 0; k < n->n_out; k++)
            leads |= n->out[k] >= 0 && m->leads[n->out[k]];
        int count = leads ? reads_of(p, i, reads) : 0;
        for (int k = 0; k < count; k++)
            if (reads[k] >= 0)
                m->leads[reads[k]] = true;
        if (leads && n->op == OP_DIV && graph_has_unit_rows(p->g, n->out[0]))
            m->held[n->in[1]] = true;
    }
}

static bool learns_at(const struct program *p, int node)
{
    for (int i = 0; i < p->of.n_learned; i++)
        if (p->of.learned[i].node == node)
            return true;
    return false;
}

/* Values that depend on what is learned (or on `in`). */
static void find_carriers(struct making *m)
{
    const struct piece *p = m->of;
    int reads[NODE_MAX_ARITY];
    if (p->in >= 0)
        m->carries[p->in] = p->in_too;
    for (int i = p->first; i < p->end; i++) {
        const struct node *n = &p->g->nodes[i];
        bool carries = learns_at(m->ret, i);
        int count = reads_of(p, i, reads);
        for (int k = 0; k < count; k++)
            carries |= reads[k] >= 0 && m->carries[reads[k]];
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0)
                m->carries[n->out[k]] = carries && !m->held[n->out[k]] && p->g->values[n->out[k]].dtype == DT_F32;
    }
}

static bool has_rule(const struct piece *p, int node)
{
    const struct node *n = &p->g->nodes[node];
    switch (p->how->qop[node].kind) {
    case QOP_NONE: break;
    case QOP_MATMUL: case QOP_PRODUCT: case QOP_HALF: case QOP_LEVELS: return true;
    default: return false;
    }
    const struct tape_rule *r = &tape_rules[n->op];
    return r->back && (!r->fits || r->fits(p->g, n));
}

static bool refuse(const struct piece *p, int node, struct err *e)
{
    char where[160];
    return err_set(e, ERR_MODEL_OP, graph_where(p->g, &p->g->nodes[node], where, sizeof where),
                   "no derivative is known for this operator as it is used here");
}

/* From the end: the derivative of `out` gets to a value through nodes that carry one. */
static bool find_wanted(struct making *m, struct err *e)
{
    const struct piece *p = m->of;
    int reads[NODE_MAX_ARITY];
    m->useful[p->out] = true;
    for (int i = p->end - 1; i >= p->first; i--) {
        const struct node *n = &p->g->nodes[i];
        bool useful = false;
        for (int k = 0; k < n->n_out; k++)
            useful |= n->out[k] >= 0 && m->useful[n->out[k]] && m->carries[n->out[k]];
        if (!useful)
            continue;
        if (!has_rule(p, i))
            return refuse(p, i, e);
        int count = reads_of(p, i, reads);
        for (int k = 0; k < count; k++)
            if (reads[k] >= 0)
                m->useful[reads[k]] = true;
    }
    for (int v = 0; v < p->g->n_values; v++)
        m->ret->wanted[v] = m->useful[v] && m->carries[v];
    return true;
}

static void add_given(struct program *p, int value)
{
    for (int i = 0; i < p->n_given; i++)
        if (p->given[i] == value)
            return;
    p->given[p->n_given++] = value;
}

/* A quantized row that a tape cannot run. */
static bool is_strange(const struct qop *q)
{
    bool other = q->kind == QOP_MATMUL && (!q->w || q->dynamic || q->rank || q->x_width);
    return q->kind == QOP_CONV || q->kind == QOP_FLOAT || other;
}

static bool list_nodes(struct making *m, struct err *e)
{
    const struct piece *p = m->of;
    struct program *ret = m->ret;
    int reads[NODE_MAX_ARITY];
    for (int i = p->first; i < p->end; i++) {
        const struct node *n = &p->g->nodes[i];
        bool leads = false;
        for (int k = 0; k < n->n_out; k++)
            leads |= n->out[k] >= 0 && m->leads[n->out[k]];
        if (!leads)
            continue;
        if (is_strange(&p->how->qop[i]))
            return refuse(p, i, e);
        ret->nodes[ret->n_nodes++] = i;
        int count = reads_of(p, i, reads);
        for (int k = 0; k < count; k++)
            if (reads[k] >= 0 && !inside(p, reads[k]) && !p->g->values[reads[k]].is_const)
                add_given(ret, reads[k]);
    }
    return true;
}

bool program_new(const struct piece *p, struct arena *mem, struct program *ret, struct err *e)
{
    uint64_t values = (uint64_t)p->g->n_values;
    *ret = (struct program){ .of = *p };
    struct making m = { p, ret, NULL, NULL, NULL, NULL };
    ret->nodes = arena_array(mem, (uint64_t)p->g->n_nodes, sizeof *ret->nodes, e);
    ret->wanted = arena_array(mem, values, sizeof *ret->wanted, e);
    ret->given = arena_array(mem, values, sizeof *ret->given, e);
    m.leads = arena_array(mem, values, 1, e);
    m.carries = arena_array(mem, values, 1, e);
    m.useful = arena_array(mem, values, 1, e);
    m.held = arena_array(mem, values, 1, e);
    if (!ret->nodes || !ret->wanted || !ret->given || !m.leads || !m.carries || !m.useful || !m.held)
        return false;
    find_leading(&m);
    find_carriers(&m);
    if (!find_wanted(&m, e) || !list_nodes(&m, e))
        return false;
    return ((p->in < 0 || m.leads[p->in]) && m.carries[p->out])
        || err_set(e, ERR_MODEL_INVALID, p->g->values[p->out].name, "the output of this piece does not depend on what is learned");
}
