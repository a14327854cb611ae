#include "core/graph/body.h"

#include "core/graph/import.h"

#include <stdlib.h>
#include <string.h>

enum { ABSENT = -1, UNSET = -2, MASK = -3 };       /* what a slot may hold beside a value; MASK: of a Dropout */

struct scope {
    const struct scope *outer;         /* NULL: a function, or the node stands in the model's graph */
    const struct slot *slots; int n_slots;
    int *value;                        /* by slot */
    const struct node *call;           /* of a function: attributes of its body may refer to the call's */
    const struct onnx_function *function;
    const char *prefix;
};

static int by_name(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->at - y->at;
}

static void sort_slots(struct slot *list, int n)
{
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_name);
}

/* ---- functions ---- */

static const char *or_none(const char *s) { return s ? s : ""; }

static int compare_functions(const struct onnx_function *f, const char *domain, const char *name, const char *overload)
{
    int order = strcmp(f->domain, domain);
    order = order ? order : strcmp(f->name, name);
    return order ? order : strcmp(or_none(f->overload), or_none(overload));
}

static int by_function(const void *a, const void *b)
{
    const struct onnx_function *x = *(const struct onnx_function *const *)a, *y = *(const struct onnx_function *const *)b;
    return compare_functions(x, y->domain, y->name, y->overload);
}

bool functions_index(struct graph *g, struct err *e)
{
    size_t n = g->model->n_functions;
    g->functions = arena_array(g->mem, n, sizeof *g->functions, e);
    for (size_t i = 0; g->functions && i < n; i++)
        g->functions[i] = &g->model->functions[i];
    if (g->functions && n)
        qsort(g->functions, n, sizeof *g->functions, by_function);
    for (size_t i = 1; g->functions && i < n; i++)
        if (by_function(&g->functions[i - 1], &g->functions[i]) == 0)
            return err_set(e, ERR_MODEL_INVALID, g->functions[i]->name, "the model has two functions of this name (domain '%.60s'); export it again",
                           g->functions[i]->domain);
    return g->functions != NULL;
}

const struct onnx_function *function_find(const struct graph *g, const struct onnx_node *o)
{
    size_t low = 0, high = g->model->n_functions;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare_functions(g->functions[mid], o->domain, o->op_type, o->overload);
        if (order == 0)
            return g->functions[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

bool function_takes(const struct onnx_function *f, size_t n_in, size_t n_out, const char *where, struct err *e)
{
    if (n_in > f->n_inputs || n_out > f->n_outputs)
        return err_set(e, ERR_MODEL_INVALID, where, "%zu inputs and %zu outputs, the function takes %zu and gives %zu", n_in, n_out,
                       f->n_inputs, f->n_outputs);
    return n_out <= EXPAND_OUTPUTS || err_set(e, ERR_MODEL_LIMIT, where, "a function may give at most %d outputs", EXPAND_OUTPUTS);
}

const struct node_body *function_body(struct arena *mem, const struct onnx_function *f, struct err *e)
{
    struct node_body *b = arena_alloc(mem, sizeof *b, e);
    if (b)
        b->function = f;
    return b;
}

/* ---- what graphs read from outside ---- */

struct names { struct arena *mem; struct err *e; struct slot *list; int n, room; bool bad; };

static void add_name(struct names *l, const char *name)
{
    if (!name[0] || l->bad)
        return;
    if (l->n == l->room) {
        int room = 2 * l->room + 64;
        struct slot *more = arena_array(l->mem, (uint64_t)room, sizeof *more, l->e);
        l->bad = !more;
        if (!more)
            return;
        if (l->n)
            memcpy(more, l->list, (size_t)l->n * sizeof *more);
        l->list = more;
        l->room = room;
    }
    l->list[l->n++] = (struct slot){ name, 0 };
}

static void add_graph(struct names *reads, struct names *own, const struct onnx_graph *g);

static void add_attrs(struct names *reads, struct names *own, const struct onnx_node *o)
{
    for (size_t i = 0; i < o->n_attrs; i++) {
        const struct onnx_attr *a = &o->attrs[i];
        size_t n = a->type == ONNX_GRAPH ? a->g != NULL : a->type == ONNX_GRAPHS ? a->n : 0;
        for (size_t k = 0; k < n; k++)
            add_graph(reads, own, &a->g[k]);
    }
}

/* Nesting is bounded by the reader (ONNX_MAX_DEPTH). */
static void add_graph(struct names *reads, struct names *own, const struct onnx_graph *g)
{
    for (size_t i = 0; i < g->n_inputs; i++)
        add_name(own, g->inputs[i].name);
    for (size_t i = 0; i < g->n_initializers; i++)
        add_name(own, g->initializers[i].name);
    for (size_t i = 0; i < g->n_outputs; i++)
        add_name(reads, g->outputs[i].name);
    for (size_t i = 0; i < g->n_nodes; i++) {
        for (size_t k = 0; k < g->nodes[i].n_inputs; k++)
            add_name(reads, g->nodes[i].inputs[k]);
        for (size_t k = 0; k < g->nodes[i].n_outputs; k++)
            add_name(own, g->nodes[i].outputs[k]);
        add_attrs(reads, own, &g->nodes[i]);
    }
}

const struct node_body *graphs_body(struct arena *mem, const struct onnx_node *o, struct err *e)
{
    struct names reads = { .mem = mem, .e = e }, own = reads;
    struct node_body *b = arena_alloc(mem, sizeof *b, e);
    add_attrs(&reads, &own, o);
    const char **outer = arena_array(mem, (uint64_t)reads.n, sizeof *outer, e);
    if (!b || !outer || reads.bad || own.bad)
        return NULL;
    sort_slots(reads.list, reads.n);
    sort_slots(own.list, own.n);
    for (int i = 0, k = 0; i < reads.n; i++) {
        const char *name = reads.list[i].name;
        while (k < own.n && strcmp(own.list[k].name, name) < 0)
            k++;
        bool known = k < own.n && strcmp(own.list[k].name, name) == 0;
        if (!known && (b->n_outer == 0 || strcmp(outer[b->n_outer - 1], name) != 0))
            outer[b->n_outer++] = name;
    }
    b->outer = outer;
    return b;
}

/* ---- a body's names ---- */

static bool fail(struct expansion *s) { s->failed = true; return false; }

static bool charge(struct expansion *s, const struct node *n, int64_t steps)
{
    char where[160];
    s->steps += steps;
    if (s->steps > ONNX_MAX_NODES && !s->failed)
        err_set(s->e, ERR_MODEL_LIMIT, graph_where(s->g, n, where, sizeof where),
                "the model has more than %d nodes and names once functions, branches and loops are written out", ONNX_MAX_NODES);
    s->failed |= s->steps > ONNX_MAX_NODES;
    return !s->failed;
}

static void add_slot(struct body *b, const char *name, int *next)
{
    b->slots[b->n_slots++] = (struct slot){ name, (*next)++ };
}

static bool check_slots(struct expansion *s, struct body *b)
{
    char where[160];
    sort_slots(b->slots, b->n_slots);
    for (int i = 1; i < b->n_slots; i++)
        if (b->slots[i].name[0] && strcmp(b->slots[i - 1].name, b->slots[i].name) == 0) {
            err_set(s->e, ERR_MODEL_INVALID, graph_where(s->g, b->node, where, sizeof where),
                    "in its body the tensor '%.80s' is defined twice; every name must be written once", b->slots[i].name);
            return fail(s);
        }
    return true;
}

/* Slots are numbered in this order: inputs, initializers, outputs of nodes that have a name. */
static bool set_slots(struct expansion *s, struct body *b, const struct onnx_tensor *inits, size_t n_inits)
{
    int next = 0;
    uint64_t n = b->n_inputs + n_inits;
    for (size_t i = 0; i < b->n_nodes; i++)
        n += b->nodes[i].n_outputs;
    b->slots = arena_array(s->g->mem, n, sizeof *b->slots, s->e);
    b->start = arena_array(s->g->mem, n, sizeof *b->start, s->e);
    if (!b->slots || !b->start || !charge(s, b->node, (int64_t)n))
        return fail(s);
    for (size_t i = 0; i < b->n_inputs; i++)
        add_slot(b, b->inputs[i], &next);
    for (size_t i = 0; i < n_inits; i++)
        add_slot(b, inits[i].name, &next);
    b->first_output = (size_t)next;
    for (size_t i = 0; i < b->n_nodes; i++)
        for (size_t k = 0; k < b->nodes[i].n_outputs; k++)
            if (b->nodes[i].outputs[k][0])
                add_slot(b, b->nodes[i].outputs[k], &next);
    for (int i = 0; i < b->n_slots; i++)
        b->start[i] = UNSET;
    return check_slots(s, b);
}

bool body_of_function(struct expansion *s, const struct node *n, struct body *ret)
{
    char where[160];
    const struct onnx_function *f = n->body->function;
    *ret = (struct body){ .function = f, .inputs = f->inputs, .n_inputs = f->n_inputs, .outputs = f->outputs, .n_outputs = f->n_outputs,
                          .nodes = f->nodes, .n_nodes = f->n_nodes, .node = n };
    for (size_t i = 0; i < f->n_opsets; i++)
        if (!f->opsets[i].domain[0] && f->opsets[i].version != onnx_opset(s->g->model)) {
            err_set(s->e, ERR_MODEL_OPSET, graph_where(s->g, n, where, sizeof where),
                    "the function is written in opset %lld and the model in opset %lld; export both with one opset_version",
                    (long long)f->opsets[i].version, (long long)onnx_opset(s->g->model));
            return fail(s);
        }
    return set_slots(s, ret, NULL, 0);
}

static bool names_of(struct expansion *s, const struct onnx_value *values, size_t n, const char *const **ret)
{
    const char **names = arena_array(s->g->mem, n, sizeof *names, s->e);
    for (size_t i = 0; names && i < n; i++)
        names[i] = values[i].name;
    *ret = names;
    return names || fail(s);
}

/* What the model's graph gives to a node's graphs, as a scope. */
static const struct scope *outermost(struct expansion *s, const struct node *n)
{
    int count = n->body->n_outer;
    struct scope *scope = arena_alloc(s->g->mem, sizeof *scope, s->e);
    struct slot *slots = arena_array(s->g->mem, (uint64_t)count, sizeof *slots, s->e);
    if (!scope || !slots) {
        s->failed = true;
        return NULL;
    }
    for (int i = 0; i < count; i++)
        slots[i] = (struct slot){ n->body->outer[i], i };      /* sorted: graphs_body() */
    *scope = (struct scope){ .slots = slots, .n_slots = count, .value = n->in + n->n_in - count, .prefix = "" };
    return scope;
}

bool body_of_graph(struct expansion *s, const struct node *n, const struct onnx_graph *o, struct body *ret)
{
    *ret = (struct body){ .nodes = o->nodes, .n_nodes = o->n_nodes, .n_inputs = o->n_inputs, .n_outputs = o->n_outputs, .node = n };
    ret->around = n->body ? outermost(s, n) : s->scope;
    if (s->failed || !names_of(s, o->inputs, o->n_inputs, &ret->inputs) || !names_of(s, o->outputs, o->n_outputs, &ret->outputs) ||
        !set_slots(s, ret, o->initializers, o->n_initializers))
        return false;
    for (size_t i = 0; i < o->n_initializers && !s->failed; i++)
        ret->start[o->n_inputs + i] = ex_borrow(s, o->initializers[i].name, &o->initializers[i].t);
    return !s->failed;
}

/* ---- its nodes ---- */

static int *find(const struct scope *scope, const char *name)
{
    for (; scope; scope = scope->outer) {
        int low = 0, high = scope->n_slots;
        while (low < high) {
            int mid = low + (high - low) / 2, order = strcmp(name, scope->slots[mid].name);
            if (order == 0)
                return &scope->value[scope->slots[mid].at];
            low = order > 0 ? mid + 1 : low;
            high = order > 0 ? high : mid;
        }
    }
    return NULL;
}

/* The value of a name that a body reads; -1: an optional one that is absent. */
static int read_name(struct expansion *s, const struct scope *scope, const char *name, const char *where)
{
    const int *at = name[0] ? find(scope, name) : NULL;
    int value = at ? *at : name[0] ? UNSET : ABSENT;
    if (value == UNSET)
        err_set(s->e, ERR_MODEL_INVALID, where, "it reads '%.120s', which no node before it, input or initializer makes", name);
    if (value == MASK)
        err_set(s->e, ERR_MODEL_OP, where, "it reads the mask of a Dropout, which does not exist at inference; export the model in eval mode");
    s->failed |= value < ABSENT;
    return value;
}

static const struct onnx_attr *find_attr(const struct onnx_attr *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0 && !list[i].ref)
            return &list[i];
    return NULL;
}

/* What an attribute refers to: the call's, else the function's default; NULL: neither, so there is none. */
static const struct onnx_attr *referred(const struct scope *scope, const char *ref)
{
    while (scope && !scope->call)
        scope = scope->outer;
    if (!scope)
        return NULL;
    const struct onnx_attr *a = find_attr(scope->call->attrs, scope->call->n_attrs, ref);
    return a ? a : find_attr(scope->function->defaults, scope->function->n_defaults, ref);
}

static bool resolve_attrs(struct expansion *s, const struct scope *scope, struct onnx_node *o, const char *where)
{
    size_t n = 0, refs = 0;
    for (size_t i = 0; i < o->n_attrs; i++)
        refs += o->attrs[i].ref != NULL;
    if (!refs)
        return true;
    struct onnx_attr *list = arena_array(s->g->mem, o->n_attrs, sizeof *list, s->e);
    for (size_t i = 0; list && i < o->n_attrs; i++) {
        const struct onnx_attr *a = &o->attrs[i], *from = a->ref ? referred(scope, a->ref) : a;
        if (!from)
            continue;
        if (a->ref && (from->type == ONNX_GRAPH || from->type == ONNX_GRAPHS)) {
            err_set(s->e, ERR_MODEL_OP, where, "its attribute '%.60s' is a graph that the function's call gives, which is not supported", a->name);
            return fail(s);
        }
        list[n] = *from;
        list[n++].name = a->name;
    }
    o->attrs = list;
    o->n_attrs = n;
    return list || fail(s);
}

static const char *inner_name(struct expansion *s, const char *prefix, const char *name)
{
    return prefix[0] && name[0] ? arena_printf(s->g->mem, s->e, "%s/%s", prefix, name) : name;
}

/* A node without a name is called by its operator and its place in the body. */
static const char *node_name(struct expansion *s, const struct scope *scope, const struct onnx_node *o, size_t i)
{
    if (o->name[0] || !scope->prefix[0])
        return inner_name(s, scope->prefix, o->name);
    return arena_printf(s->g->mem, s->e, "%s/%s_%zu", scope->prefix, o->op_type, i);
}

/* A call may leave out what a node of the body cannot do without. */
static bool check_absent(struct expansion *s, const struct node *n, const char *where)
{
    for (int i = 0; i < n->n_in || i < op_info[n->op].min_in; i++)
        if (import_needs(n->op, (size_t)i) && (i >= n->n_in || n->in[i] < 0)) {
            err_set(s->e, ERR_MODEL_INVALID, where, "input %d is not optional, and the call of its function does not give it", i);
            return fail(s);
        }
    return true;
}

static bool read_edges(struct expansion *s, const struct scope *scope, const struct onnx_node *o, struct node *n, const char *where)
{
    n->in = arena_array(s->g->mem, (uint64_t)n->n_in + (uint64_t)n->n_out, sizeof *n->in, s->e);
    if (!n->in)
        return fail(s);
    n->out = n->in + n->n_in;
    for (int i = 0; i < n->n_in && !s->failed; i++)
        n->in[i] = read_name(s, scope, o->inputs[i], where);
    if (s->failed || !check_absent(s, n, where))
        return false;
    while (n->n_in && n->in[n->n_in - 1] < 0)
        n->n_in--;                     /* given by the call as absent */
    return true;
}

/* Constant, Identity and Dropout, as import_resolve() has them: what their outputs are. */
static bool run_nothing(struct expansion *s, const struct onnx_node *o, const struct node *n, int *slots, const char *prefix,
                        const char *where)
{
    struct tensor t;
    if (n->op == OP_CONSTANT) {
        if (!resolve_constant(n, where, &t, s->e))
            return fail(s);
        slots[0] = ex_borrow(s, inner_name(s, prefix, o->outputs[0]), &t);
        return !s->failed;
    }
    if (n->op == OP_DROPOUT && !resolve_dropout(s->g, n, where, s->e))
        return fail(s);
    if (o->outputs[0][0])
        *slots++ = n->in[0];
    if (n->n_out > 1)
        *slots = MASK;
    return true;
}

static bool run_node(struct expansion *s, const struct scope *scope, const struct body *b, size_t i, int *next)
{
    struct onnx_node o = b->nodes[i];
    struct node n;
    char where[160];
    int *slots = &scope->value[*next];
    size_t place = b->node->place ? (size_t)b->node->place - 1 : 0;
    if (!(o.name = node_name(s, scope, &o, i)))
        return fail(s);
    err_node(where, sizeof where, place, o.name, o.op_type);
    if (!resolve_attrs(s, scope, &o, where) || !import_op(s->g, &o, where, &n, s->e) || !read_edges(s, scope, &o, &n, where))
        return fail(s);
    n.place = b->node->place;
    for (size_t k = 0; k < o.n_outputs; k++)
        *next += o.outputs[k][0] != '\0';
    if (n.n_out && (n.op == OP_CONSTANT || n.op == OP_IDENTITY || n.op == OP_DROPOUT))
        return run_nothing(s, &o, &n, slots, scope->prefix, where);
    for (int k = 0; k < n.n_out && !s->failed; k++)
        n.out[k] = o.outputs[k][0] ? *slots++ = ex_value(s, inner_name(s, scope->prefix, o.outputs[k])) : ABSENT;
    return !s->failed && expand_node(s, &n);
}

static bool enter(struct expansion *s, const struct body *b, const int *in, struct scope *scope)
{
    if (s->bodies >= BODY_DEPTH)
        ex_fail(s, b->node, "functions, branches and loops nest more than 32 deep here; a function that calls itself has no end");
    if (s->failed || !charge(s, b->node, (int64_t)b->n_nodes + b->n_slots + 1))
        return false;
    scope->value = arena_array(s->g->mem, (uint64_t)b->n_slots, sizeof *scope->value, s->e);
    if (!scope->value)
        return fail(s);
    if (b->n_slots)
        memcpy(scope->value, b->start, (size_t)b->n_slots * sizeof *scope->value);
    for (size_t i = 0; i < b->n_inputs; i++)
        scope->value[i] = in[i];
    return true;
}

bool body_run(struct expansion *s, const struct body *b, const int *in, const char *prefix, int *ret)
{
    struct scope scope = { .outer = b->around, .slots = b->slots, .n_slots = b->n_slots, .prefix = prefix,
                           .call = b->function ? b->node : NULL, .function = b->function };
    const struct scope *around = s->scope;
    char where[160];
    int depth = s->depth, next = (int)b->first_output;
    if (!prefix || !enter(s, b, in, &scope))
        return fail(s);
    s->scope = &scope;
    s->depth = 0;
    s->bodies++;
    for (size_t i = 0; i < b->n_nodes && !s->failed; i++)
        run_node(s, &scope, b, i, &next);
    s->bodies--;
    s->depth = depth;
    s->scope = around;
    graph_where(s->g, b->node, where, sizeof where);
    for (size_t i = 0; i < b->n_outputs && !s->failed; i++)
        ret[i] = read_name(s, &scope, b->outputs[i], where);
    return !s->failed;
}
