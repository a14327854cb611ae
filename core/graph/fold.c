/*
 * fold.c - what is known before running: integer elements written out as bytes, and nodes
 * whose inputs are all known computed by the evaluator.
 */
#include "core/base/half.h"
#include "core/graph/infer.h"

#include <string.h>

enum { FOLD_MAX = 256 << 20, GENERATED_MAX = 1 << 20, NARROW_MIN = 1 << 16 };

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

/* ---- what can be evaluated ---- */

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

/* ---- 16-bit constants ---- */

bool op_moves(enum op op)
{
    return op == OP_GATHER || op == OP_SLICE || op == OP_SPLIT || op == OP_TRANSPOSE || op == OP_RESHAPE || op == OP_FLATTEN || op == OP_SQUEEZE
        || op == OP_UNSQUEEZE;
}

bool op_is_view(enum op op)
{
    switch (op) {
    case OP_RESHAPE: case OP_FLATTEN: case OP_SQUEEZE: case OP_UNSQUEEZE: case OP_IDENTITY: return true;
    default: return false;
    }
}

/*
 * Does the value stay as 16-bit floats?  Matrices do, while a model is loaded; what is small, or a vector such as a bias, is
 * looked at in many places.
 */
static bool stays_narrow(const struct infer *x, int value)
{
    const struct shape *s = &x->fact[value].shape;
    uint64_t n;
    int long_axes = 0;
    for (int i = 0; i < s->rank; i++)
        long_axes += s->dim[i] > 1;
    return x->syms && x->eval && !x->g->values[value].is_output && long_axes > 1 && shape_known(s)
        && tensor_size(DT_F32, s, "", &n, NULL, NULL) && n >= NARROW_MIN;
}

static bool is_half(enum dtype t) { return t == DT_F16 || t == DT_BF16; }

/* A Cast of 16-bit floats to float32 that is left to whoever reads them, or a view of one: of any size, as it costs nothing. */
static bool keep_narrow(struct infer *x, const struct node *n)
{
    const struct fact *from = n->n_in > 0 && n->in[0] >= 0 ? &x->fact[n->in[0]] : NULL;
    struct fact *f = &x->fact[n->out[0]];
    bool cast = from && n->op == OP_CAST && from->data && is_half(from->dtype) && f->dtype == DT_F32;
    bool view = from && op_is_view(n->op) && from->narrow;
    if ((!cast && !view) || !from->known || !stays_narrow(x, n->out[0]))
        return false;
    f->narrow = cast ? from->data : from->narrow;
    f->narrow_as = cast ? from->dtype : from->narrow_as;
    f->known = true;
    return true;
}

static const void *widened(const struct fact *f, enum dtype from, const void *data, struct arena *mem, struct err *e)
{
    int64_t n = shape_elements(&f->shape);
    const uint16_t *half = data;
    float *ret = arena_array(mem, (uint64_t)n, sizeof *ret, e);
    for (int64_t i = 0; ret && i < n; i++)
        ret[i] = half_of(from, half[i]);
    return ret;
}

static bool moves_narrow(const struct infer *x, const struct node *n) { return op_moves(n->op) && x->fact[n->in[0]].narrow; }

/* ---- evaluation ---- */

static bool view_inputs(const struct infer *x, const struct node *n, struct eval_room *r, struct arena *mem, struct err *e)
{
    for (int i = 0; i < n->n_in; i++) {
        r->in_p[i] = NULL;
        if (n->in[i] < 0)
            continue;
        const struct fact *f = &x->fact[n->in[i]];
        r->in[i] = (struct tensor){ .dtype = f->dtype, .shape = f->shape, .data = (void *)f->data };
        r->in_p[i] = &r->in[i];
        if (i == 0 && moves_narrow(x, n))
            r->in[i] = (struct tensor){ f->narrow_as, f->shape, (void *)f->narrow };
        else if (f->narrow && !(r->in[i].data = (void *)widened(f, f->narrow_as, f->narrow, mem, e)))
            return false;
    }
    return true;
}

static bool make_outputs(const struct infer *x, const struct node *n, struct eval_room *r, struct err *e)
{
    for (int i = 0; i < n->n_out; i++) {
        const struct fact *f = &x->fact[n->out[i]];
        uint64_t bytes;
        if (!tensor_size(f->dtype, &f->shape, "", NULL, &bytes, e))
            return false;
        enum dtype t = moves_narrow(x, n) ? x->fact[n->in[0]].narrow_as : f->dtype;
        r->out[i] = (struct tensor){ .dtype = t, .shape = f->shape, .data = arena_alloc(x->mem, t == f->dtype ? bytes : bytes / 2, e) };
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

/* What the evaluator gave, or moved 16-bit floats, as the value's bytes. */
static bool set_known(struct infer *x, const struct node *n, int i, enum dtype t, const void *data, struct err *e)
{
    struct fact *f = &x->fact[n->out[i]];
    f->known = true;
    if (t != f->dtype && stays_narrow(x, n->out[i])) {
        f->narrow = data;
        f->narrow_as = t;
        return true;
    }
    f->data = t == f->dtype ? data : widened(f, t, data, x->mem, e);
    return f->data || shape_elements(&f->shape) == 0;
}

static bool compute(struct infer *x, const struct node *n, struct arena *mem, struct err *e)
{
    if (!view_inputs(x, n, x->room, mem, e) || !make_outputs(x, n, x->room, e) || !eval_constants(x, n, e))
        return false;
    for (int i = 0; i < n->n_out; i++)
        if (!set_known(x, n, i, x->room->out[i].dtype, x->room->out[i].data, e))
            return false;
    return true;
}

static bool evaluate(struct infer *x, const struct node *n, struct err *e)
{
    if (!x->room && !(x->room = arena_alloc(x->mem, sizeof *x->room, e)))
        return false;
    struct arena *mem = arena_new(UINT64_MAX / 2);     /* for this node alone */
    bool ok = mem ? compute(x, n, mem, e) : err_set(e, ERR_MEMORY, "", "no memory for constants");
    arena_free(mem);
    return ok;
}

bool fold_node(struct infer *x, const struct node *n, struct err *e)
{
    if (n->n_out == 1 && n->out[0] >= 0 && !fold_elements(x, &x->fact[n->out[0]], e))
        return false;
    bool done = n->n_out == 1 && n->out[0] >= 0 && (x->fact[n->out[0]].known || keep_narrow(x, n));
    return done || !can_evaluate(x, n) || evaluate(x, n, e);
}
