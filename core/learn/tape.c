#include "core/learn/tape_internal.h"

#include "core/graph/unit_rows.h"

#include <stdlib.h>
#include <string.h>

/* ---- which nodes, which derivatives ---- */

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
    }
    if (t && t->t && t->grad && t->kept && t->sources && t->rounding)
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

real *tape_want_value(struct tape *t, int value)
{
    if (value < 0 || !t->p->wanted[value])
        return NULL;
    if (!t->grad[value])
        t->grad[value] = tape_take(t, tape_elements(&t->t[value]), true, &t->e);
    return t->grad[value];
}

real *tape_want(struct tape *t, int node, int input)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    const struct learned *l = program_learned(t->p, LEARN_CONSTANT, node, input);
    if (l)
        return t->learned_grad + l->at;
    bool edited = lowering_edited(t->p->of.how->edit[node], input) != NULL;
    return input < n->n_in && !edited ? tape_want_value(t, n->in[input]) : NULL;
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

bool tape_backward(struct tape *t, const float *target, double weight, real *grad, real *ret_in, struct err *e)
{
    const struct graph *g = tape_graph(t);
    const struct tensor *out = &t->t[t->p->of.out];
    const real *y = out->data;
    size_t n = tape_elements(out);
    t->e = (struct err){ 0 };
    t->learned_grad = grad;
    real *dy = tape_want_value(t, t->p->of.out);
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
