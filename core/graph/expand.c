/* expand.c - the table of expanders, and the tools they are written with. */
#include "core/graph/expand.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 8 };                /* expanders that emit what is expanded again */

static expander *const expanders[OPS] = {
    [OP_SUM] = expand_sum, [OP_MEAN] = expand_mean, [OP_CASTLIKE] = expand_castlike, [OP_HARDSWISH] = expand_hardswish,
    [OP_GLOBALAVERAGEPOOL] = expand_global_mean, [OP_GLOBALMAXPOOL] = expand_global_max, [OP_BATCHNORM] = expand_batchnorm,
    [OP_INSTANCENORM] = expand_instancenorm, [OP_GROUPNORM] = expand_groupnorm, [OP_MVN] = expand_mvn, [OP_LPNORM] = expand_lpnorm,
    [OP_SWIGLU] = expand_swiglu, [OP_CENTERCROPPAD] = expand_crop, [OP_ATTENTION] = expand_attention, [OP_ROTARY] = expand_rotary,
    [OP_DYNAMICQUANTIZE] = expand_dynamic_quantize, [OP_MATMULINTEGER] = expand_matmul_integer,
    [OP_CONVINTEGER] = expand_conv_integer, [OP_QLINEARMATMUL] = expand_qlinear_matmul, [OP_QLINEARCONV] = expand_qlinear_conv,
    [OP_MS_SKIPLAYERNORM] = expand_skip_layernorm, [OP_SIMPLIFIEDLAYERNORM] = expand_simplified,
    [OP_MS_SIMPLIFIEDLAYERNORM] = expand_simplified, [OP_MS_SKIPSIMPLIFIEDLAYERNORM] = expand_skip_simplified,
    [OP_MS_GELU] = expand_msgelu, [OP_MS_FASTGELU] = expand_fastgelu, [OP_MS_BIASGELU] = expand_biasgelu,
    [OP_MS_QUICKGELU] = expand_quickgelu, [OP_MS_ROTARY] = expand_rotary, [OP_MS_MATMULNBITS] = expand_matmul_nbits,
    [OP_IF] = expand_if, [OP_LOOP] = expand_loop, [OP_CALL] = expand_call,
};

/* Exporters write a Cast to what the value is already, in front of a norm's scale say. */
static void expand_no_cast(struct expansion *s, const struct node *n, int *ret)
{
    (void)s;
    ret[0] = n->in[0];
}

/* The expander of a node, or NULL: it stays as it is.  What an old form is written as has no old form. */
static expander *expander_of(const struct expansion *s, const struct node *n)
{
    if (n->op == OP_EINSUM)
        return einsum_is_product(s, n) ? expand_einsum : NULL;
    if (n->op == OP_CONV && conv_is_row(s, n))
        return expand_conv_row;
    if (n->op == OP_CAST && (int64_t)ex_type(s, n->in[0]) == node_int(n, "to", 0))
        return expand_no_cast;
    if (s->g->opset >= 13)
        return expanders[n->op];
    if (node_attr(n, "axes") && (n->op == OP_SQUEEZE || n->op == OP_UNSQUEEZE || n->op == OP_REDUCESUM))
        return expand_axes_attr;
    if (node_attr(n, "split") && n->op == OP_SPLIT)
        return expand_split_attr;
    bool softmax = n->op == OP_SOFTMAX || n->op == OP_LOGSOFTMAX || n->op == OP_HARDMAX;
    return softmax && node_int(n, "axis", 1) != -1 ? expand_old_softmax : expanders[n->op];
}

/* ---- room ---- */

static void *grown(struct arena *mem, void *old, int n, int room, size_t size, struct err *e)
{
    void *p = arena_array(mem, (uint64_t)room, size, e);
    if (p && n)
        memcpy(p, old, (size_t)n * size);
    return p;
}

static bool room_for_node(struct expansion *s)
{
    if (s->n_nodes < s->nodes_room)
        return true;
    if (s->n_nodes >= ONNX_MAX_NODES)
        return err_set(s->e, ERR_MODEL_LIMIT, "graph", "the model has more than %d nodes once its operators are written out", ONNX_MAX_NODES);
    s->nodes_room = 2 * s->nodes_room + 16;
    s->nodes = grown(s->g->mem, s->nodes, s->n_nodes, s->nodes_room, sizeof *s->nodes, s->e);
    return s->nodes != NULL;
}

int ex_value(struct expansion *s, const char *name)
{
    struct graph *g = s->g;
    if (s->failed)
        return -1;
    if (g->n_values >= s->values_room) {
        s->values_room = 2 * g->n_values + 16;
        g->values = grown(g->mem, g->values, g->n_values, s->values_room, sizeof *g->values, s->e);
        s->x->fact = grown(g->mem, s->x->fact, g->n_values, s->values_room, sizeof *s->x->fact, s->e);
    }
    bool room = g->values && s->x->fact;
    if (room && !name)
        name = arena_printf(g->mem, s->e, "expanded__%d", g->n_values);
    if (!room || !name) {
        s->failed = true;
        return -1;
    }
    g->values[g->n_values] = (struct value){ .name = name, .producer = -1, .shape.rank = -1 };
    s->x->fact[g->n_values] = (struct fact){ 0 };
    return g->n_values++;
}

/* ---- nodes ---- */

/* Output k of n is `value`: the emitted nodes that make and read it, from `first` on, get its number. */
static void rename_value(struct expansion *s, int first, int value, int as)
{
    struct graph *g = s->g;
    for (int i = first; i < s->n_nodes; i++) {
        struct node *n = &s->nodes[i];
        for (int k = 0; k < n->n_in; k++)
            n->in[k] = n->in[k] == value ? as : n->in[k];
        for (int k = 0; k < n->n_out; k++)
            n->out[k] = n->out[k] == value ? as : n->out[k];
    }
    const char *name = g->values[as].name;
    bool output = g->values[as].is_output;
    g->values[as] = g->values[value];
    g->values[as].name = name;
    g->values[as].is_output = output;
    s->x->fact[as] = s->x->fact[value];
}

static bool made_since(const struct expansion *s, int first, int value)
{
    for (int i = first; i < s->n_nodes; i++)
        for (int k = 0; k < s->nodes[i].n_out; k++)
            if (s->nodes[i].out[k] == value)
                return true;
    return false;
}

/* Is the value an earlier output already? */
static bool given(const struct node *n, int k, int value)
{
    for (int i = 0; i < k; i++)
        if (n->out[i] == value)
            return true;
    return false;
}

/*
 * The node passes on what it reads: an Identity, which graph_load() looks through afterwards.  All that is known of the
 * value is known of `to`, but a constant is not copied: layers that share a weight read one value.
 */
static void pass_on(struct expansion *s, const struct node *n, int value, int to)
{
    struct node same = { .op = OP_IDENTITY, .name = "", .n_in = 1, .n_out = 1, .place = n->place };
    same.in = arena_array(s->g->mem, 2, sizeof *same.in, s->e);
    if (!same.in || !room_for_node(s)) {
        s->failed = true;
        return;
    }
    same.out = same.in + 1;
    same.in[0] = value;
    same.out[0] = to;
    s->nodes[s->n_nodes++] = same;
    s->passed = true;
    s->x->fact[to] = s->x->fact[value];
    s->g->values[to].dtype = s->x->fact[to].dtype;
    s->g->values[to].shape = s->x->fact[to].shape;
}

static bool expand(struct expansion *s, expander *how, const struct node *n)
{
    int ret[EXPAND_OUTPUTS], first = s->n_nodes;
    char where[160];
    if (s->depth >= DEPTH_MAX)
        return err_set(s->e, ERR_BUG, graph_where(s->g, n, where, sizeof where), "operators are written as each other without end");
    for (int k = 0; k < EXPAND_OUTPUTS; k++)
        ret[k] = -1;
    s->depth++;
    how(s, n, ret);
    s->depth--;
    for (int k = 0; k < n->n_out && !s->failed; k++) {
        if (n->out[k] < 0 || ret[k] == n->out[k])
            continue;
        if (ret[k] < 0)
            ex_fail(s, n, "this output is not supported");
        if (!s->failed && (given(n, k, ret[k]) || !made_since(s, first, ret[k]))) {
            pass_on(s, n, ret[k], n->out[k]);
            continue;
        }
        if (!s->failed)
            rename_value(s, first, ret[k], n->out[k]);
        for (int j = k + 1; j < n->n_out; j++)
            ret[j] = ret[j] == ret[k] ? n->out[k] : ret[j];
    }
    return !s->failed;
}

bool expand_node(struct expansion *s, const struct node *n)
{
    if (s->failed)
        return false;
    expander *how = expander_of(s, n);
    if (how)
        return expand(s, how, n);
    s->failed = !room_for_node(s) || !infer_node(s->x, n, s->e);
    if (s->failed)
        return false;
    s->nodes[s->n_nodes++] = *n;
    infer_publish(s->g, s->x, n);
    return true;
}

static bool copy_attrs(struct expansion *s, struct ex_attrs attrs, struct node *ret)
{
    struct onnx_attr *copy = arena_array(s->g->mem, attrs.n, sizeof *copy, s->e);
    for (size_t i = 0; copy && i < attrs.n; i++) {
        copy[i] = attrs.list[i];
        if (copy[i].type != ONNX_INTS || !copy[i].n)
            continue;
        int64_t *ints = arena_array(s->g->mem, copy[i].n, sizeof *ints, s->e);
        if (!ints)
            return false;
        memcpy(ints, copy[i].ints, copy[i].n * sizeof *ints);
        copy[i].ints = ints;
    }
    ret->attrs = copy;
    ret->n_attrs = attrs.n;
    return copy != NULL;
}

/* "attention/MatMul_12": names of nodes may be shared by none, where they are given at all. */
static const char *name_of(struct expansion *s, const struct node *from, enum op op)
{
    return from->name[0] ? arena_printf(s->g->mem, s->e, "%s/%s_%d", from->name, op_info[op].type, s->g->n_values) : "";
}

int ex_node(struct expansion *s, const struct node *from, enum op op, struct ex_attrs attrs, const int *in, int n_in)
{
    int out = ex_value(s, NULL);
    while (n_in && in[n_in - 1] < 0)
        n_in--;                        /* optional inputs that are absent */
    struct node n = { .op = op, .name = name_of(s, from, op), .n_in = n_in, .n_out = 1, .place = from->place };
    n.in = out < 0 ? NULL : arena_array(s->g->mem, (uint64_t)n_in + 1, sizeof(int), s->e);
    if (!n.name || !n.in || !copy_attrs(s, attrs, &n)) {
        s->failed = true;
        return -1;
    }
    memcpy(n.in, in, (size_t)n_in * sizeof(int));
    n.out = n.in + n_in;
    n.out[0] = out;
    return expand_node(s, &n) ? out : -1;
}

void ex_fail(struct expansion *s, const struct node *n, const char *why)
{
    char where[160];
    if (!s->failed)
        err_set(s->e, ERR_MODEL_OP, graph_where(s->g, n, where, sizeof where), "%s", why);
    s->failed = true;
}

/* ---- reading ---- */

int ex_in(const struct node *n, int i) { return i < n->n_in ? n->in[i] : -1; }

const struct fact *ex_fact(const struct expansion *s, int value)
{
    static const struct fact none = { .shape.rank = -1 };
    return value < 0 ? &none : &s->x->fact[value];
}

enum dtype ex_type(const struct expansion *s, int value) { return ex_fact(s, value)->dtype; }

int ex_rank(struct expansion *s, const struct node *n, int value)
{
    int rank = ex_fact(s, value)->shape.rank;
    if (rank < 0)
        ex_fail(s, n, "the rank of an input is not known, which this operator needs; export the model with known ranks");
    return rank < 0 ? 0 : rank;
}

int64_t ex_dim(struct expansion *s, const struct node *n, int value, int axis)
{
    const struct shape *shape = &ex_fact(s, value)->shape;
    int64_t d = axis < shape->rank ? shape->dim[axis] : -1;
    if (d < 0)
        ex_fail(s, n, "a length that this operator's meaning depends on is not a number; export the model with this dimension fixed");
    return d < 0 ? 1 : d;
}

/* ---- constants ---- */

int ex_const(struct expansion *s, enum dtype t, struct shape shape, const void *data)
{
    uint64_t bytes;
    void *copy = NULL;
    if (!tensor_size(t, &shape, "", NULL, &bytes, s->e) || !(copy = arena_alloc(s->g->mem, bytes, s->e))) {
        s->failed = true;
        return -1;
    }
    if (bytes)
        memcpy(copy, data, (size_t)bytes);
    return ex_borrow(s, NULL, &(struct tensor){ .dtype = t, .shape = shape, .data = copy });
}

int ex_borrow(struct expansion *s, const char *name, const struct tensor *t)
{
    int v = ex_value(s, name);
    if (v < 0)
        return -1;
    struct value *value = &s->g->values[v];
    value->dtype = t->dtype;
    value->shape = t->shape;
    value->data = t->data;
    value->is_const = true;
    s->x->fact[v] = (struct fact){ .dtype = t->dtype, .shape = t->shape, .data = t->data, .known = true };
    return v;
}

/* Layers may be called after their weights.  The name is free where nobody but the node being written out reads `from`. */
void ex_called_like(struct expansion *s, int value, int from)
{
    if (s->failed || value == from || !s->g->values[value].is_const)
        return;
    const struct value *v = &s->g->values[from];
    const char *name = v->n_consumers == 1 && !v->is_output ? v->name : arena_printf(s->g->mem, s->e, "%s_%d", v->name, value);
    s->failed = !name;
    if (name)
        s->g->values[value].name = name;
}

int ex_ints(struct expansion *s, const int64_t *v, int n)
{
    return ex_const(s, DT_I64, (struct shape){ .rank = 1, .dim = { n } }, v);
}

int ex_real(struct expansion *s, const struct node *n, enum dtype t, double v)
{
    float f = (float)v;
    int one = t == DT_F64 ? ex_const(s, DT_F64, (struct shape){ 0 }, &v) : ex_const(s, DT_F32, (struct shape){ 0 }, &f);
    return ex_cast(s, n, one, t);
}

int ex_cast(struct expansion *s, const struct node *n, int value, enum dtype t)
{
    return s->failed || ex_type(s, value) == t ? value : EX_WITH(OP_CAST, EX_ATTRS(EX_INT("to", t)), value);
}

/* ---- layout ---- */

int ex_reshape(struct expansion *s, const struct node *n, int value, const int64_t *dims, int rank)
{
    return EX(OP_RESHAPE, value, ex_ints(s, dims, rank));
}

int ex_permute(struct expansion *s, const struct node *n, int value, const int64_t *perm, int rank)
{
    return EX_WITH(OP_TRANSPOSE, EX_ATTRS(EX_INTS("perm", perm, (size_t)rank)), value);
}

int ex_unsqueeze(struct expansion *s, const struct node *n, int value, int64_t first, int count)
{
    int64_t axes[TENSOR_MAX_RANK];
    if (count <= 0)
        return value;
    for (int i = 0; i < count && i < TENSOR_MAX_RANK; i++)
        axes[i] = first + i;
    return EX(OP_UNSQUEEZE, value, ex_ints(s, axes, count));
}

int ex_concat(struct expansion *s, const struct node *n, const int *values, int count, int64_t axis)
{
    int *list = arena_array(s->g->mem, (uint64_t)count, sizeof *list, s->e);
    if (!list) {
        s->failed = true;
        return -1;
    }
    memcpy(list, values, (size_t)count * sizeof *list);
    while (count > 1) {
        int made = 0;
        for (int i = 0; i < count; i += NODE_MAX_ARITY) {
            int few = count - i < NODE_MAX_ARITY ? count - i : NODE_MAX_ARITY;
            list[made++] = few == 1 ? list[i] : ex_node(s, n, OP_CONCAT, EX_ATTRS(EX_INT("axis", axis)), list + i, few);
        }
        count = made;
    }
    return list[0];
}

int ex_slice(struct expansion *s, const struct node *n, int value, int64_t axis, int64_t from, int64_t to, int64_t step)
{
    return EX(OP_SLICE, value, ex_ints(s, &from, 1), ex_ints(s, &to, 1), ex_ints(s, &axis, 1), ex_ints(s, &step, 1));
}
