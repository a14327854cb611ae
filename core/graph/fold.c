/*
 * fold.c - what is known before running: integer elements written out as bytes, and nodes
 * whose inputs are all known computed by the evaluator.
 */
#include "core/graph/infer.h"

#include <string.h>

enum { FOLD_MAX = 256 << 20, GENERATED_MAX = 1 << 20 };

/* Tensors for one evaluation; made once, used by every node. */
struct eval_room {
    struct tensor in[NODE_MAX_ARITY], out[NODE_MAX_ARITY];
    const struct tensor *in_p[NODE_MAX_ARITY];
};

/* ---- elements ---- */

static void write_element(enum dtype t, void *data, int i, int64_t v)
{
    if (t == DT_I64)
        ((int64_t *)data)[i] = v;
    else if (t == DT_I32)
        ((int32_t *)data)[i] = (int32_t)v;
    else
        ((uint8_t *)data)[i] = v != 0;
}

static bool all_numbers(const struct num *a, int n)
{
    for (int i = 0; i < n; i++)
        if (!num_known(a[i]))
            return false;
    return true;
}

static bool fold_elements(struct infer *x, struct fact *f, struct err *e)
{
    int n;
    uint64_t bytes;
    const struct num *a = f->elems ? fact_elems(x, f, &n) : NULL;
    if (!a || !all_numbers(a, n))
        return true;
    if (!tensor_size(f->dtype, &f->shape, "", NULL, &bytes, e))
        return false;
    void *data = arena_alloc(x->mem, bytes, e);
    if (!data)
        return false;
    for (int i = 0; i < n; i++)
        write_element(f->dtype, data, i, a[i].n);
    f->data = data;
    f->known = true;
    return true;
}

/* ---- evaluation ---- */

/* Operators whose output may be far larger than everything that goes in. */
static bool generates(enum op op)
{
    return op == OP_CONSTANTOFSHAPE || op == OP_EXPAND || op == OP_RANGE || op == OP_TILE || op == OP_ONEHOT || op == OP_RESIZE;
}

static bool inputs_known(const struct infer *x, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && !x->fact[n->in[i]].known)
            return false;
    return true;
}

static bool outputs_fit(const struct infer *x, const struct node *n)
{
    uint64_t total = 0, bytes;
    for (int i = 0; i < n->n_out; i++) {
        const struct fact *f = n->out[i] < 0 ? NULL : &x->fact[n->out[i]];
        if (!f || !shape_known(&f->shape) || !tensor_size(f->dtype, &f->shape, "", NULL, &bytes, NULL))
            return false;
        total += bytes;                /* at most 255 * 2^46 */
    }
    return total <= (generates(n->op) ? GENERATED_MAX : FOLD_MAX);
}

/*
 * Quantizers stay: a DequantizeLinear of a constant is how a quantized weight is written.  While shapes are bound,
 * so does what may be quantized: such a layer runs on codes even where its input (learned queries, repeated for
 * each sample) is known.
 */
static bool stays(const struct infer *x, enum op op)
{
    bool layer = op == OP_MATMUL || op == OP_GEMM || op == OP_CONV;
    return op == OP_QUANTIZELINEAR || op == OP_DEQUANTIZELINEAR || (layer && !x->syms);
}

static bool can_evaluate(const struct infer *x, const struct node *n)
{
    return x->eval && !stays(x, n->op) && inputs_known(x, n) && outputs_fit(x, n);
}

static void view_inputs(const struct infer *x, const struct node *n, struct eval_room *r)
{
    for (int i = 0; i < n->n_in; i++) {
        r->in_p[i] = NULL;
        if (n->in[i] < 0)
            continue;
        const struct fact *f = &x->fact[n->in[i]];
        r->in[i] = (struct tensor){ .dtype = f->dtype, .shape = f->shape, .data = (void *)f->data };
        r->in_p[i] = &r->in[i];
    }
}

static bool make_outputs(const struct infer *x, const struct node *n, struct eval_room *r, struct err *e)
{
    for (int i = 0; i < n->n_out; i++) {
        const struct fact *f = &x->fact[n->out[i]];
        uint64_t bytes;
        if (!tensor_size(f->dtype, &f->shape, "", NULL, &bytes, e))
            return false;
        r->out[i] = (struct tensor){ .dtype = f->dtype, .shape = f->shape, .data = arena_alloc(x->mem, bytes, e) };
        if (!r->out[i].data)
            return false;
    }
    return true;
}

/* Constants are the model's: what an operator would say of data is the model's fault here. */
static bool eval_constants(struct infer *x, const struct node *n, struct err *e)
{
    struct err own = { 0 };
    if (x->eval(x->g, n, x->room->in_p, x->room->out, &own))
        return true;
    return err_set(e, own.code == ERR_DATA_VALUES ? ERR_MODEL_INVALID : own.code, own.where, "%s", own.text);
}

static bool evaluate(struct infer *x, const struct node *n, struct err *e)
{
    if (!x->room && !(x->room = arena_alloc(x->mem, sizeof *x->room, e)))
        return false;
    view_inputs(x, n, x->room);
    if (!make_outputs(x, n, x->room, e) || !eval_constants(x, n, e))
        return false;
    for (int i = 0; i < n->n_out; i++) {
        x->fact[n->out[i]].data = x->room->out[i].data;
        x->fact[n->out[i]].known = true;
    }
    return true;
}

bool fold_node(struct infer *x, const struct node *n, struct err *e)
{
    if (n->n_out == 1 && n->out[0] >= 0 && !fold_elements(x, &x->fact[n->out[0]], e))
        return false;
    bool done = n->n_out == 1 && n->out[0] >= 0 && x->fact[n->out[0]].known;
    return done || !can_evaluate(x, n) || evaluate(x, n, e);
}
