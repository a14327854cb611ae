#include "core/exec/fused.h"

#include "core/graph/roles.h"
#include "core/kernel/kernel.h"

enum { MOST_NODES = 16 };

/* The nodes of one pattern, by step, between its inputs x and mask and its output. */
struct pattern { const struct plan *p; const struct group *g; int x, mask; int step[MOST_NODES], n; };

static int step_of(const struct plan *p, const struct group *g, int node)
{
    for (int i = g->first; i < g->first + g->n; i++)
        if (p->steps[i] == node)
            return i;
    return -1;
}

static bool holds(const struct pattern *t, int step)
{
    for (int i = 0; i < t->n; i++)
        if (t->step[i] == step)
            return true;
    return false;
}

/* Adds what makes v, back to the inputs and constants; false if a node stands outside the group or there are too many. */
static bool collect(struct pattern *t, int v)
{
    const struct value *made = &t->p->g->values[v];
    if (v < 0 || v == t->x || v == t->mask || t->p->facts.known[v])
        return true;
    int step = made->producer >= 0 ? step_of(t->p, t->g, made->producer) : -1;
    if (step < 0 || t->n == MOST_NODES)
        return step >= 0 && holds(t, step);
    if (holds(t, step))
        return true;
    t->step[t->n++] = step;
    const struct node *n = &t->p->g->nodes[made->producer];
    for (int i = 0; i < n->n_in; i++)
        if (!collect(t, n->in[i]))
            return false;
    return true;
}

/* Does nobody but the pattern read what its nodes but the first collected, its last, make? */
static bool is_closed(const struct pattern *t)
{
    const struct graph *g = t->p->g;
    for (int i = 1; i < t->n; i++) {
        const struct value *v = &g->values[g->nodes[t->p->steps[t->step[i]]].out[0]];
        for (int c = 0; c < v->n_consumers; c++)
            if (!holds(t, step_of(t->p, t->g, v->consumers[c])))
                return false;
        if (v->is_output)
            return false;
    }
    return true;
}

static const float *row_of(const struct graph *g, int value) { return value >= 0 ? g->values[value].data : NULL; }

/* ---- softmax ---- */

/* The node that makes v, if it is `op` and in the group. */
static const struct node *maker(const struct plan *p, const struct group *g, int v, enum op op)
{
    int made = p->g->values[v].producer;
    return made >= 0 && p->g->nodes[made].op == op && step_of(p, g, made) >= 0 ? &p->g->nodes[made] : NULL;
}

/* Floats from outside the group, as wide as the rows, one row or as many as a matrix has. */
static bool is_mask(const struct plan *p, const struct group *g, int v, const struct shape *of)
{
    const struct shape *s = &p->facts.shape[v];
    int made = p->g->values[v].producer;
    bool wide = s->rank > 0 && s->dim[s->rank - 1] == of->dim[of->rank - 1];
    bool tall = s->rank < 2 || s->dim[s->rank - 2] == 1 || s->dim[s->rank - 2] == of->dim[of->rank - 2];
    return p->g->values[v].dtype == DT_F32 && wide && tall && (made < 0 || step_of(p, g, made) < 0);
}

static bool number(const struct plan *p, int v, float *ret)
{
    if (!p->facts.known[v] || p->g->values[v].dtype != DT_F32 || shape_elements(&p->facts.shape[v]) != 1)
        return false;
    *ret = *(const float *)p->facts.data[v];
    return true;
}

/* Softmax(x * number + mask), x / number, or with one of the two. */
static bool match_softmax(const struct plan *p, const struct group *g, const struct node *n, struct fused *ret)
{
    int v = n->in[0];
    float c;
    *ret = (struct fused){ .kind = FUSED_SOFTMAX, .mask = -1, .scale = 1 };
    const struct node *add = maker(p, g, v, OP_ADD);
    for (int i = 0; add && i < 2 && ret->mask < 0; i++)
        if (is_mask(p, g, add->in[i], &p->facts.shape[n->out[0]])) {
            ret->mask = add->in[i];
            v = add->in[!i];
        }
    const struct node *mul = maker(p, g, v, OP_MUL), *div = maker(p, g, v, OP_DIV);
    for (int i = 0; mul && i < 2 && v == mul->out[0]; i++)
        if (number(p, mul->in[i], &c)) {
            ret->scale = c;
            v = mul->in[!i];
        }
    if (div && number(p, div->in[1], &c)) {
        ret->scale = 1 / c;
        v = div->in[0];
    }
    ret->x = v;
    return v != n->in[0];
}

/* ---- all of them ---- */

static bool match_rows(const struct graph *g, int node, struct fused *ret, int *ret_output)
{
    static const enum fused_kind kinds[ACT_KINDS] = { [ACT_GELU] = FUSED_GELU, [ACT_SILU] = FUSED_SILU };
    struct norm norm;
    struct activation act;
    if (roles_match_norm(g, node, &norm) && (!norm.rms || norm.beta < 0)) {
        *ret = (struct fused){ norm.rms ? FUSED_RMSNORM : FUSED_LAYERNORM, norm.x, row_of(g, norm.gamma), row_of(g, norm.beta), norm.eps, .mask = -1 };
        *ret_output = norm.output;
        return true;
    }
    if (!roles_match_activation(g, node, &act) || !kinds[act.kind])
        return false;
    *ret = (struct fused){ .kind = kinds[act.kind], .x = act.x, .mask = -1 };
    *ret_output = act.output;
    return true;
}

static bool match(const struct plan *p, const struct group *g, int node, struct fused *ret, int *ret_output)
{
    const struct node *n = &p->g->nodes[node];
    if (g->keep == 1)
        return match_rows(p->g, node, ret, ret_output);
    *ret_output = n->out[0];
    return n->op == OP_SOFTMAX && match_softmax(p, g, n, ret);
}

static void take(struct plan *p, const struct group *g, int node)
{
    struct fused f;
    int output;
    if (!match(p, g, node, &f, &output) || p->g->values[f.x].dtype != DT_F32 || !shape_equal(&p->facts.shape[f.x], &p->facts.shape[output]))
        return;
    struct pattern t = { .p = p, .g = g, .x = f.x, .mask = f.mask };
    if (!collect(&t, output) || t.n < 2 || !is_closed(&t) || p->fused[t.step[0]].kind != FUSED_NONE)
        return;
    for (int i = 1; i < t.n; i++)
        p->fused[t.step[i]].kind = FUSED_WITHIN;
    p->fused[t.step[0]] = f;
}

/* Rounding to codes turns a last bit into a step: what quantizes runs node by node, as it was simulated. */
static bool quantizes(const struct plan *p)
{
    for (int i = 0; i < p->n_steps; i++) {
        enum op op = p->g->nodes[p->steps[i]].op;
        if (p->how->qop[p->steps[i]].kind != QOP_NONE || op == OP_QUANTIZELINEAR || op == OP_DYNAMICQUANTIZE)
            return true;
    }
    return false;
}

bool fused_find(struct plan *p, struct arena *mem, struct err *e)
{
    p->fused = arena_array(mem, (uint64_t)p->n_steps, sizeof *p->fused, e);
    for (int i = 0; p->fused && !quantizes(p) && i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        for (int s = g->first; s < g->first + g->n; s++)
            take(p, g, p->steps[s]);
    }
    return p->fused != NULL;
}

void fused_run(const struct fused *f, size_t rows, size_t n, const float *x, const struct tensor *mask, float *y)
{
    size_t mask_rows = mask && mask->shape.rank > 1 ? (size_t)mask->shape.dim[mask->shape.rank - 2] : 1;
    switch (f->kind) {
    case FUSED_LAYERNORM: layernorm(rows, n, x, f->gamma, f->beta, f->eps, y); break;
    case FUSED_RMSNORM: rmsnorm(rows, n, x, f->gamma, f->eps, y); break;
    case FUSED_GELU: vec_gelu(rows * n, x, y); break;
    case FUSED_SILU: vec_silu(rows * n, x, y); break;
    case FUSED_SOFTMAX: softmax_masked(rows, n, x, f->scale, mask ? mask->data : NULL, mask_rows, y); break;
    case FUSED_NONE: case FUSED_WITHIN: break;
    }
}
