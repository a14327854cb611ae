#include "core/learn/tape_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static struct block *free_block(struct tape *t, size_t bytes)
{
    struct block *best = NULL;
    for (int i = 0; i < t->n_blocks; i++) {
        struct block *b = &t->blocks[i];
        if (!b->taken && b->bytes >= bytes && (!best || b->bytes < best->bytes))
            best = b;
    }
    return best && best->bytes <= bytes + bytes / 4 + 4096 ? best : NULL;
}

static struct block *new_block(struct tape *t, size_t bytes, struct err *e)
{
    if (t->n_blocks == t->room) {
        int room = t->room ? 2 * t->room : 64;
        struct block *more = realloc(t->blocks, (size_t)room * sizeof *more);
        if (!more) {
            err_set(e, ERR_MEMORY, "", "no memory for derivatives");
            return NULL;
        }
        t->blocks = more;
        t->room = room;
    }
    struct block *b = &t->blocks[t->n_blocks];
    *b = (struct block){ aligned_alloc(64, (bytes + 63) / 64 * 64), bytes, false };
    if (!b->p) {
        err_set(e, ERR_MEMORY, "", "no memory for the derivatives of one chunk of samples; lower the model's batch");
        return NULL;
    }
    t->n_blocks++;
    return b;
}

void *tape_take(struct tape *t, size_t n, bool zero, struct err *e)
{
    size_t bytes = n * sizeof(real) + 64;
    struct block *b = free_block(t, bytes);
    if (!b && !(b = new_block(t, bytes, e)))
        return NULL;
    b->taken = true;
    if (zero)
        memset(b->p, 0, bytes);
#ifdef LEARN_DOUBLE
    for (size_t i = 0; !zero && i < n; i++)        /* who reads what nobody wrote is found out */
        ((real *)b->p)[i] = (real)NAN;
#endif
    return b->p;
}

void tape_give(struct tape *t, const void *p)
{
    for (int i = 0; p && i < t->n_blocks; i++)
        if (t->blocks[i].p == p)
            t->blocks[i].taken = false;
}

static void free_sources(struct tape *t)
{
    for (int i = 0; t->sources && i < tape_graph(t)->n_nodes; i++) {
        free(t->sources[i]);
        t->sources[i] = NULL;
    }
}

struct tape *tape_new(const struct program *p, struct err *e)
{
    struct tape *t = calloc(1, sizeof *t);
    size_t values = (size_t)p->of.g->n_values, nodes = (size_t)p->of.g->n_nodes;
    if (t) {
        t->p = p;
        t->t = calloc(values, sizeof *t->t);
        t->grad = calloc(values, sizeof *t->grad);
        t->kept = calloc(2 * nodes, sizeof *t->kept);
        t->sources = calloc(nodes, sizeof *t->sources);
        t->rounding = calloc(2 * nodes, sizeof *t->rounding);
        t->written = calloc((size_t)p->of.n_learned + 1, sizeof *t->written);
    }
    if (t && t->t && t->grad && t->kept && t->sources && t->rounding && t->written)
        return t;
    tape_free(t);
    err_set(e, ERR_MEMORY, "", "no memory for derivatives");
    return NULL;
}

void tape_free(struct tape *t)
{
    if (!t)
        return;
    free_sources(t);
    for (int i = 0; i < t->n_blocks; i++)
        free(t->blocks[i].p);
    for (int i = 0; t->rounding && i < 2 * tape_graph(t)->n_nodes; i++)
        free(t->rounding[i]);
    free(t->rounding);
    free(t->written);
    free(t->blocks);
    free(t->sources);
    free(t->kept);
    free(t->grad);
    free(t->t);
    arena_free(t->constants);
    free(t);
}

/* ---- values ---- */

/* Floats as reals: themselves but in the test's instance. */
static const void *as_real(struct tape *t, const struct tensor *from)
{
#ifdef LEARN_DOUBLE
    size_t n = tape_elements(from);
    double *to = from->dtype == DT_F32 && from->data ? arena_array(t->constants, n, sizeof *to, NULL) : NULL;
    for (size_t i = 0; to && i < n; i++)
        to[i] = (double)((const float *)from->data)[i];
    return to ? to : from->data;
#else
    (void)t;
    return from->data;
#endif
}

static enum dtype real_type(enum dtype t) { return t == DT_F32 ? REAL_TYPE : t; }

static struct tensor real_tensor(struct tape *t, const struct tensor *from)
{
    return (struct tensor){ real_type(from->dtype), from->shape, (void *)(uintptr_t)as_real(t, from) };
}

/* Is it an operand of what the piece computes in float? */
static bool is_operand(const struct tape *t, int value)
{
    const struct value *v = &tape_graph(t)->values[value];
    const struct piece *of = &t->p->of;
    for (int i = 0; i < v->n_consumers; i++)
        if (v->consumers[i] >= of->first && v->consumers[i] < of->end && of->how->qop[v->consumers[i]].kind == QOP_NONE)
            return true;
    return false;
}

static bool widen_constant(struct tape *t, int value, struct tensor *io, struct err *e)
{
    const struct value *v = &tape_graph(t)->values[value];
    float *x = arena_array(t->constants, (uint64_t)shape_elements(&v->shape), sizeof *x, e);
    if (x)
        vec_widen((size_t)shape_elements(&v->shape), v->narrow_as, v->narrow, x);
    io->data = x;
    return x != NULL;
}

bool tape_bind(struct tape *t, const struct plan *plan, const struct weights *w, struct err *e)
{
    const struct graph *g = tape_graph(t);
    if (t->plan != plan)
        free_sources(t);
    arena_free(t->constants);
    t->constants = arena_new(UINT64_MAX / 2);
    if (!t->constants)
        return err_set(e, ERR_MEMORY, "", "no memory for derivatives");
    t->plan = plan;
    t->w = w;
    for (int v = 0; v < g->n_values; v++) {
        struct tensor known = { g->values[v].dtype, plan->facts.shape[v], (void *)(uintptr_t)plan->facts.data[v] };
        if (!plan->facts.known[v])
            known.data = NULL;
        if (g->values[v].narrow && is_operand(t, v) && !widen_constant(t, v, &known, e))
            return false;
        t->t[v] = real_tensor(t, &known);
    }
    for (int i = 0; i < t->n_blocks; i++)
        t->blocks[i].taken = false;
    return true;
}

void tape_set(struct tape *t, int value, const void *data)
{
    struct tensor given = { tape_graph(t)->values[value].dtype, t->plan->facts.shape[value], (void *)(uintptr_t)data };
    t->t[value] = real_tensor(t, &given);
}

const struct tensor *tape_input(struct tape *t, int node, int input, struct tensor *room)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    if (input >= n->n_in || n->in[input] < 0)
        return NULL;
    const struct learned *l = program_learned(t->p, LEARN_CONSTANT, node, input);
    const struct tensor *edited = lowering_edited(t->p->of.how->edit[node], input);
    if (l) {
        *room = (struct tensor){ REAL_TYPE, t->plan->facts.shape[n->in[input]], (void *)(uintptr_t)(t->w->all + l->at) };
        return room;
    }
    if (!edited)
        return &t->t[n->in[input]];
    *room = real_tensor(t, edited);
    return room;
}

real *tape_want_value(struct tape *t, int value, bool *ret_fresh)
{
    if (ret_fresh)
        *ret_fresh = false;
    if (value < 0 || !t->p->wanted[value])
        return NULL;
    if (!t->grad[value]) {
        t->grad[value] = tape_take(t, tape_elements(&t->t[value]), !ret_fresh, &t->e);
        if (ret_fresh)
            *ret_fresh = true;
    }
    return t->grad[value];
}

real *tape_want(struct tape *t, int node, int input, bool *ret_fresh)
{
    if (ret_fresh)
        *ret_fresh = false;
    const struct node *n = &tape_graph(t)->nodes[node];
    const struct learned *l = program_learned(t->p, LEARN_CONSTANT, node, input);
    if (l)
        return t->learned_grad + l->at;
    bool edited = lowering_edited(t->p->of.how->edit[node], input) != NULL;
    return input < n->n_in && !edited ? tape_want_value(t, n->in[input], ret_fresh) : NULL;
}

/* ---- forward ---- */

/* Integers may be wider than numbers. */
static bool make_outputs(struct tape *t, const struct node *n, struct err *e)
{
    for (int i = 0; i < n->n_out; i++) {
        struct tensor *out = n->out[i] >= 0 ? &t->t[n->out[i]] : NULL;
        if (out && !(out->data = tape_take(t, tape_elements(out) * (size_t)dtype_bits(out->dtype) / (8 * sizeof(real)) + 1, false, e)))
            return false;
    }
    return true;
}

static bool run_operator(struct tape *t, int node, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    const struct op_impl *impl = &op_impl[n->op];
    struct tensor room[NODE_MAX_ARITY], out[NODE_MAX_ARITY];
    const struct tensor *in[NODE_MAX_ARITY];
    for (int i = 0; i < n->n_in; i++)
        in[i] = tape_input(t, node, i, &room[i]);
    for (int i = 0; i < n->n_out; i++)
        out[i] = n->out[i] >= 0 ? t->t[n->out[i]] : (struct tensor){ 0 };
    struct op_args args = { tape_graph(t), n, in, out, NULL };
    uint64_t scratch = impl->scratch ? impl->scratch(&args) : 0;
    if (scratch && !(args.scratch = tape_take(t, (size_t)scratch / sizeof(real) + 1, false, e)))
        return false;
    bool ok = (impl->fast ? impl->fast : impl->ref)(&args, e);
    tape_give(t, args.scratch);
    return ok;
}

static bool run_node(struct tape *t, int node, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    if (t->plan->facts.known[n->out[0]])
        return true;
    enum qop_kind kind = tape_row(t, node)->kind;
    if (kind == QOP_NONE && op_is_view(n->op)) {
        t->t[n->out[0]].data = t->t[n->in[0]].data;
        return true;
    }
    if (!make_outputs(t, n, e))
        return false;
    switch (kind) {
    case QOP_MATMUL: return tape_run_linear(t, node, e);
    case QOP_PRODUCT: case QOP_HALF: return tape_run_product(t, node, e);
    case QOP_LEVELS: return tape_run_levels(t, node, e);
    default: return run_operator(t, node, e);
    }
}

bool tape_forward(struct tape *t, const float *target, double *ret_error, double *ret_power, struct err *e)
{
    for (int i = 0; i < t->p->n_nodes; i++)
        if (!run_node(t, t->p->nodes[i], e))
            return false;
    const struct tensor *out = &t->t[t->p->of.out];
    const real *y = out->data;
    size_t n = tape_elements(out);
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double off = (double)y[i] - (double)target[i];
        error += off * off;
        power += (double)target[i] * (double)target[i];
    }
    *ret_error = n ? error / (double)n : 0;
    *ret_power = n ? power / (double)n : 0;
    return true;
}

/* ---- back ---- */

static bool back_node(struct tape *t, int node)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    const real *dy = n->out[0] >= 0 ? t->grad[n->out[0]] : NULL;
    bool any = false;
    for (int i = 0; i < n->n_out; i++)
        any |= n->out[i] >= 0 && t->grad[n->out[i]];
    if (!any || t->e.code)
        return !t->e.code;
    switch (tape_row(t, node)->kind) {
    case QOP_MATMUL: return tape_back_linear(t, node, dy, &t->e);
    case QOP_PRODUCT: case QOP_HALF: return tape_back_product(t, node, dy, &t->e);
    case QOP_LEVELS: return tape_back_levels(t, node, dy, &t->e);
    default: return tape_rules[n->op].back(t, node, dy, &t->e);
    }
}

/* Codes are many and each row's derivative comes at once (tape_back_linear): only of the others sums begin at 0. */
static void begin_learned(struct tape *t, real *grad)
{
    t->learned_grad = grad;
    for (int i = 0; i < t->p->of.n_learned; i++) {
        const struct learned *l = &t->p->of.learned[i];
        t->written[i] = false;
        if (l->kind != LEARN_CODES)
            memset(grad + l->at, 0, l->n * sizeof *grad);
    }
}

static void end_learned(struct tape *t)
{
    for (int i = 0; i < t->p->of.n_learned; i++) {
        const struct learned *l = &t->p->of.learned[i];
        if (l->kind == LEARN_CODES && !t->written[i])
            memset(t->learned_grad + l->at, 0, l->n * sizeof *t->learned_grad);
    }
}

bool tape_backward(struct tape *t, const float *target, double weight, real *ret, real *ret_in, struct err *e)
{
    const struct graph *g = tape_graph(t);
    const struct tensor *out = &t->t[t->p->of.out];
    const real *y = out->data;
    size_t n = tape_elements(out);
    t->e = (struct err){ 0 };
    begin_learned(t, ret);
    bool fresh;
    real *dy = tape_want_value(t, t->p->of.out, &fresh);
    for (size_t i = 0; dy && i < n; i++)
        dy[i] = (real)(2 * weight / (double)n) * (y[i] - (real)target[i]);
    for (int i = t->p->n_nodes - 1; i >= 0 && !t->e.code; i--) {
        const struct node *node = &g->nodes[t->p->nodes[i]];
        back_node(t, t->p->nodes[i]);
        for (int k = 0; k < node->n_out; k++)
            if (node->out[k] >= 0) {
                tape_give(t, t->grad[node->out[k]]);
                t->grad[node->out[k]] = NULL;
            }
    }
    end_learned(t);
    int in = t->p->of.in;
    if (ret_in && in >= 0 && t->grad[in])
        memcpy(ret_in, t->grad[in], tape_elements(&t->t[in]) * sizeof *ret_in);
    for (int v = 0; v < g->n_values; v++) {
        tape_give(t, t->grad[v]);
        t->grad[v] = NULL;
    }
    return !t->e.code || err_set(e, t->e.code, t->e.where, "%s", t->e.text);
}

double tape_products(const struct tape *t) { return t->products; }
