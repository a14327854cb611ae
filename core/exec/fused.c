#include "core/exec/fused.h"

#include "core/graph/roles.h"
#include "core/kernel/kernel.h"

enum { MOST_NODES = 16 };

/* The nodes of one pattern, by step. */
struct pattern { const struct plan *p; const struct group *g; int step[MOST_NODES], n; };

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

/* Adds what makes v, back to x and constants; false if a node stands outside the group or there are too many. */
static bool collect(struct pattern *t, int v, int x)
{
    const struct value *made = &t->p->g->values[v];
    if (v == x || v < 0 || t->p->facts.known[v])
        return true;
    int step = made->producer >= 0 ? step_of(t->p, t->g, made->producer) : -1;
    if (step < 0 || t->n == MOST_NODES)
        return step >= 0 && holds(t, step);
    if (holds(t, step))
        return true;
    t->step[t->n++] = step;
    const struct node *n = &t->p->g->nodes[made->producer];
    for (int i = 0; i < n->n_in; i++)
        if (!collect(t, n->in[i], x))
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

static bool match(const struct graph *g, int node, struct fused *ret, int *ret_output)
{
    static const enum fused_kind kinds[ACT_KINDS] = { [ACT_GELU] = FUSED_GELU, [ACT_SILU] = FUSED_SILU };
    struct norm norm;
    struct activation act;
    if (roles_match_norm(g, node, &norm) && (!norm.rms || norm.beta < 0)) {
        *ret = (struct fused){ norm.rms ? FUSED_RMSNORM : FUSED_LAYERNORM, norm.x, row_of(g, norm.gamma), row_of(g, norm.beta), norm.eps };
        *ret_output = norm.output;
        return true;
    }
    if (!roles_match_activation(g, node, &act) || !kinds[act.kind])
        return false;
    *ret = (struct fused){ .kind = kinds[act.kind], .x = act.x };
    *ret_output = act.output;
    return true;
}

static void take(struct plan *p, const struct group *g, int node)
{
    struct fused f;
    struct pattern t = { .p = p, .g = g };
    int output;
    if (!match(p->g, node, &f, &output) || p->g->values[f.x].dtype != DT_F32 || !shape_equal(&p->facts.shape[f.x], &p->facts.shape[output])
        || !collect(&t, output, f.x) || t.n < 2 || !is_closed(&t) || p->fused[t.step[0]].kind != FUSED_NONE)
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
        for (int s = g->first; g->keep == 1 && s < g->first + g->n; s++)
            take(p, g, p->steps[s]);
    }
    return p->fused != NULL;
}

void fused_run(const struct fused *f, size_t rows, size_t n, const float *x, float *y)
{
    switch (f->kind) {
    case FUSED_LAYERNORM: layernorm(rows, n, x, f->gamma, f->beta, f->eps, y); break;
    case FUSED_RMSNORM: rmsnorm(rows, n, x, f->gamma, f->eps, y); break;
    case FUSED_GELU: vec_gelu(rows * n, x, y); break;
    case FUSED_SILU: vec_silu(rows * n, x, y); break;
    case FUSED_NONE: case FUSED_WITHIN: break;
    }
}
