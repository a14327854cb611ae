/* infer.c - runs the rule of one node: the table of rules, and the tools they share. */
#include "core/graph/infer.h"

#include "core/graph/link.h"

#include <string.h>

/* ---- element types an operator takes ---- */

#define T(name) (1u << DT_##name)
#define FLOATS (T(F32) | T(F16) | T(BF16) | T(F64))
#define INTS (T(I8) | T(I16) | T(I32) | T(I64) | T(U8) | T(U16) | T(U32) | T(U64))
#define NUMBERS (FLOATS | INTS)
#define WHOLE (NUMBERS | T(BOOL))              /* at least a byte each: kernels may move them one by one */
#define PACKED (T(I4) | T(U4))
#define INDEX (T(I32) | T(I64))

struct rule {
    shape_rule *shape;
    unsigned takes;                            /* types of input 0, or 0: any */
    unsigned char same;                        /* inputs [0, same) have one type; 255: all */
    enum dtype gives;                          /* DT_NONE: the type of input 0 */
    type_rule *type;                           /* decides the type where the two columns before cannot */
    shape_rule *values;
    bool loose;                                /* works on inputs of unknown rank */
};

static const struct rule rules[OPS] = {
#define ROW(op, ...) [OP_##op] = { __VA_ARGS__ }
    ROW(ADD, rule_broadcast, NUMBERS, 2, .values = values_binary),
    ROW(SUB, rule_broadcast, NUMBERS, 2, .values = values_binary),
    ROW(MUL, rule_broadcast, NUMBERS, 2, .values = values_binary),
    ROW(DIV, rule_broadcast, NUMBERS, 2, .values = values_binary),
    ROW(MIN, rule_broadcast, NUMBERS, 255, .values = values_binary),
    ROW(MAX, rule_broadcast, NUMBERS, 255, .values = values_binary),
    ROW(POW, rule_broadcast, NUMBERS, 1),
    ROW(MOD, rule_broadcast, NUMBERS, 2),
    ROW(EQUAL, rule_broadcast, WHOLE, 2, DT_BOOL, .values = values_binary),
    ROW(LESS, rule_broadcast, NUMBERS, 2, DT_BOOL),
    ROW(GREATER, rule_broadcast, NUMBERS, 2, DT_BOOL),
    ROW(LESSOREQUAL, rule_broadcast, NUMBERS, 2, DT_BOOL),
    ROW(GREATEROREQUAL, rule_broadcast, NUMBERS, 2, DT_BOOL),
    ROW(AND, rule_broadcast, T(BOOL), 2),
    ROW(OR, rule_broadcast, T(BOOL), 2),
    ROW(NOT, rule_same, T(BOOL)),
    ROW(WHERE, rule_where, T(BOOL), .type = type_where, .values = values_where),
    ROW(NEG, rule_same, FLOATS | T(I8) | T(I16) | T(I32) | T(I64)),
    ROW(ABS, rule_same, NUMBERS),
    ROW(SQRT, rule_same, FLOATS),
    ROW(RECIPROCAL, rule_same, FLOATS),
    ROW(EXP, rule_same, FLOATS),
    ROW(LOG, rule_same, FLOATS),
    ROW(ERF, rule_same, NUMBERS),
    ROW(TANH, rule_same, FLOATS),
    ROW(SIGMOID, rule_same, FLOATS),
    ROW(RELU, rule_same, NUMBERS),
    ROW(GELU, rule_same, FLOATS),
    ROW(FLOOR, rule_same, FLOATS),
    ROW(CEIL, rule_same, FLOATS),
    ROW(ROUND, rule_same, FLOATS),
    ROW(SIN, rule_same, FLOATS),
    ROW(COS, rule_same, FLOATS),
    ROW(SIGN, rule_same, NUMBERS),
    ROW(ISNAN, rule_same, FLOATS, .gives = DT_BOOL),
    ROW(CLIP, rule_clip, NUMBERS, 255),
    ROW(CAST, rule_same, WHOLE | PACKED, .type = type_cast, .values = values_cast),
    ROW(THRESHOLDEDRELU, rule_same, FLOATS),
    ROW(IDENTITY, rule_same, .values = values_copy),
    ROW(DROPOUT, rule_never),
    ROW(CONSTANT, rule_never),
    ROW(CONSTANTOFSHAPE, rule_constant_of_shape, T(I64), .type = type_constant_of_shape, .values = values_constant_of_shape,
        .loose = true),
    ROW(RANGE, rule_range, FLOATS | T(I16) | INDEX, 3, .values = values_range),
    ROW(SHAPE, rule_shape, .gives = DT_I64, .values = values_shape, .loose = true),
    ROW(SIZE, rule_size, .gives = DT_I64, .values = values_size, .loose = true),
    ROW(RESHAPE, rule_reshape, .values = values_copy, .loose = true),
    ROW(FLATTEN, rule_flatten),
    ROW(SQUEEZE, rule_squeeze, .values = values_copy),
    ROW(UNSQUEEZE, rule_unsqueeze, .values = values_copy),
    ROW(TRANSPOSE, rule_transpose, WHOLE),
    ROW(CONCAT, rule_concat, WHOLE, 255, .values = values_concat),
    ROW(SPLIT, rule_split, WHOLE),
    ROW(SLICE, rule_slice, WHOLE, .values = values_slice),
    ROW(GATHER, rule_gather, WHOLE, .values = values_gather),
    ROW(GATHERELEMENTS, rule_gather_elements, WHOLE),
    ROW(EXPAND, rule_expand, WHOLE, .values = values_expand),
    ROW(TILE, rule_tile, WHOLE),
    ROW(PAD, rule_pad, WHOLE),
    ROW(TRILU, rule_trilu, WHOLE),
    ROW(CUMSUM, rule_cumsum, FLOATS | T(I32) | T(I64) | T(U32) | T(U64)),
    ROW(MATMUL, rule_matmul, NUMBERS, 2),
    ROW(GEMM, rule_gemm, NUMBERS, 255),
    ROW(CONV, rule_conv, FLOATS, 255),
    ROW(SOFTMAX, rule_softmax, FLOATS),
    ROW(LOGSOFTMAX, rule_softmax, FLOATS),
    ROW(LAYERNORM, rule_layernorm, FLOATS, 255),
    ROW(RMSNORM, rule_layernorm, FLOATS, 255),
    ROW(REDUCEMEAN, rule_reduce, NUMBERS),
    ROW(REDUCESUM, rule_reduce, NUMBERS),
    ROW(REDUCEMAX, rule_reduce, WHOLE),
    ROW(REDUCEMIN, rule_reduce, WHOLE),
    ROW(ARGMAX, rule_argmax, NUMBERS, .gives = DT_I64),
    ROW(QUANTIZELINEAR, rule_quantize, FLOATS | T(I32), .type = type_quantize),
    ROW(DEQUANTIZELINEAR, rule_quantize, PACKED | T(I8) | T(U8) | T(I16) | T(U16) | T(I32), .type = type_dequantize),
    ROW(XOR, rule_broadcast, T(BOOL), 2),
    ROW(BITSHIFT, rule_broadcast, INTS, 2),
    ROW(BITAND, rule_broadcast, INTS, 2),
    ROW(BITOR, rule_broadcast, INTS, 2),
    ROW(BITXOR, rule_broadcast, INTS, 2),
    ROW(BITNOT, rule_same, INTS),
    ROW(PRELU, rule_broadcast, NUMBERS, 2),
    ROW(ACOS, rule_same, FLOATS),
    ROW(ACOSH, rule_same, FLOATS),
    ROW(ASIN, rule_same, FLOATS),
    ROW(ASINH, rule_same, FLOATS),
    ROW(ATAN, rule_same, FLOATS),
    ROW(ATANH, rule_same, FLOATS),
    ROW(COSH, rule_same, FLOATS),
    ROW(SINH, rule_same, FLOATS),
    ROW(TAN, rule_same, FLOATS),
    ROW(SOFTPLUS, rule_same, FLOATS),
    ROW(SOFTSIGN, rule_same, FLOATS),
    ROW(MISH, rule_same, FLOATS),
    ROW(ELU, rule_same, FLOATS),
    ROW(SELU, rule_same, FLOATS),
    ROW(CELU, rule_same, FLOATS),
    ROW(LEAKYRELU, rule_same, FLOATS),
    ROW(HARDSIGMOID, rule_same, FLOATS),
    ROW(SWISH, rule_same, FLOATS),
    ROW(SHRINK, rule_same, NUMBERS),
    ROW(ISINF, rule_same, FLOATS, .gives = DT_BOOL),
    ROW(REDUCEPROD, rule_reduce, NUMBERS),
    ROW(REDUCEL1, rule_reduce, NUMBERS),
    ROW(REDUCEL2, rule_reduce, NUMBERS),
    ROW(REDUCELOGSUM, rule_reduce, NUMBERS),
    ROW(REDUCELOGSUMEXP, rule_reduce, NUMBERS),
    ROW(REDUCESUMSQUARE, rule_reduce, NUMBERS),
    ROW(ARGMIN, rule_argmax, NUMBERS, .gives = DT_I64),
    ROW(CUMPROD, rule_cumsum, NUMBERS),
    ROW(HARDMAX, rule_softmax, FLOATS),
    ROW(TOPK, rule_topk, NUMBERS),
    ROW(GATHERND, rule_gathernd, WHOLE),
    ROW(SCATTERND, rule_scatternd, WHOLE),
    ROW(SCATTERELEMENTS, rule_scatter_elements, WHOLE),
    ROW(ONEHOT, rule_onehot, NUMBERS, .type = type_onehot),
    ROW(EYELIKE, rule_eyelike, WHOLE, .type = type_eyelike),
    ROW(NONZERO, rule_nonzero, WHOLE, .gives = DT_I64),
    ROW(DEPTHTOSPACE, rule_depth_to_space, WHOLE),
    ROW(SPACETODEPTH, rule_space_to_depth, WHOLE),
    ROW(EINSUM, rule_einsum, NUMBERS, 255),
    ROW(MAXPOOL, rule_pool, FLOATS | T(I8) | T(U8)),
    ROW(AVERAGEPOOL, rule_pool, FLOATS),
    ROW(RESIZE, rule_resize, NUMBERS),
    [OPS_WRITTEN_OUT ... OPS - 1] = { rule_never },
#undef ROW
};

/* ---- errors ---- */

const char *call_where(struct call *c) { return graph_where(c->x->g, c->n, c->x->where, sizeof c->x->where); }

const char *call_text(struct call *c, int slot, const struct shape *s)
{
    const char *const *names = c->x->syms ? symbols_names(c->x->syms) : c->x->g->symbols;
    return link_shape_text(names, s, c->x->text[slot], sizeof c->x->text[slot]);
}

/* What the call reads of later calls when graph_bind() meets a length it cannot know. */
static bool unbound(struct call *c, struct err *e)
{
    return err_set(e, ERR_MODEL_UNBOUND, call_where(c),
                   "the shape of its output depends on the data, not only on the shapes of the inputs; "
                   "export the model with these dimensions fixed");
}

/* ---- reading inputs ---- */

const struct fact *call_in(const struct call *c, int i)
{
    return i < c->n->n_in && c->n->in[i] >= 0 ? &c->x->fact[c->n->in[i]] : NULL;
}

bool shape_known(const struct shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0)
            return false;
    return s->rank >= 0;
}

static int64_t element(enum dtype t, const void *data, int i)
{
    if (t == DT_I64) {
        int64_t v;
        memcpy(&v, (const char *)data + (size_t)i * 8, sizeof v);   /* a constant of a mapped file may be unaligned */
        return v;
    }
    if (t == DT_I32) {
        int32_t v;
        memcpy(&v, (const char *)data + (size_t)i * 4, sizeof v);
        return v;
    }
    return ((const uint8_t *)data)[i] != 0;
}

const struct num *fact_elems(struct infer *x, struct fact *f, int *ret_n)
{
    bool tracked = f->dtype == DT_I64 || f->dtype == DT_I32 || f->dtype == DT_BOOL;
    *ret_n = 0;
    if (!tracked || !shape_known(&f->shape) || (!f->elems && !f->known))
        return NULL;
    int64_t n = 1;
    for (int i = 0; i < f->shape.rank && n <= READ_MAX; i++)
        n = f->shape.dim[i] > READ_MAX ? READ_MAX + 1 : n * f->shape.dim[i];
    if (n > READ_MAX)
        return NULL;
    if (!f->elems) {
        struct num *a = arena_array(x->mem, (uint64_t)n, sizeof *a, NULL);
        for (int i = 0; a && i < n; i++)
            a[i] = NUM(element(f->dtype, f->data, i));
        f->elems = a;
    }
    *ret_n = (int)n;
    return f->elems;
}

const struct num *call_elems(struct call *c, int i, int *ret_n)
{
    *ret_n = 0;
    return call_in(c, i) ? fact_elems(c->x, &c->x->fact[c->n->in[i]], ret_n) : NULL;
}

bool call_index_type(struct call *c, int i, struct err *e)
{
    const struct fact *f = call_in(c, i);
    return !f || f->dtype == DT_I64 || f->dtype == DT_I32 ||
           err_set(e, ERR_MODEL_INVALID, call_where(c), "input %d is %s where int64 is expected", i, dtype_name(f->dtype));
}

bool call_rank(struct call *c, int i, int rank, struct err *e)
{
    const struct fact *f = call_in(c, i);
    return f->shape.rank < 0 || f->shape.rank == rank ||
           bad_shape(c, e, "input %d has shape %s where rank %d is needed", i, call_text(c, 0, &f->shape), rank);
}

bool call_axis(struct call *c, int64_t axis, int rank, struct err *e, int *ret)
{
    if (axis < -rank || axis >= rank)
        return bad_shape(c, e, "axis %lld is outside a tensor of rank %d", (long long)axis, rank);
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return true;
}

static bool add_axis(struct call *c, int64_t axis, int rank, struct axes *a, struct err *e)
{
    int v = 0;
    if (!call_axis(c, axis, rank, e, &v))
        return false;
    if (a->set[v])
        return bad_shape(c, e, "axis %lld is listed twice", (long long)axis);
    a->set[v] = true;
    a->v[a->n++] = v;
    return true;
}

bool call_axes(struct call *c, int i, int rank, struct axes *ret, bool *ret_given, bool *ret_known, struct err *e)
{
    size_t n_attr;
    int n;
    *ret = (struct axes){ 0 };
    const int64_t *attr = node_ints(c->n, "axes", &n_attr);
    const struct num *list = call_elems(c, i, &n);
    bool in_data = call_in(c, i) && !list;
    *ret_given = in_data || (call_in(c, i) ? n > 0 : n_attr > 0);
    *ret_known = !in_data;
    if (!call_index_type(c, i, e))
        return false;
    for (int k = 0; *ret_known && k < (list ? n : (int)n_attr); k++) {
        *ret_known = !list || num_known(list[k]);
        if (*ret_known && !add_axis(c, list ? list[k].n : attr[k], rank, ret, e))
            return false;
    }
    return true;
}

/* ---- writing outputs ---- */

/* Numbers must multiply to a size a tensor can have; symbols count as 1 until they are bound. */
static bool check_size(struct call *c, const struct shape *s, struct err *e)
{
    struct shape numbers = *s;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0)
            numbers.dim[i] = 1;
    return s->rank < 0 || tensor_size(c->dtype, &numbers, call_where(c), NULL, NULL, e);
}

bool call_set(struct call *c, int i, const struct shape *s, struct err *e)
{
    if (!check_size(c, s, e))
        return false;
    if (i < c->n->n_out && c->n->out[i] >= 0) {
        struct fact *f = &c->x->fact[c->n->out[i]];
        *f = (struct fact){ .dtype = c->dtype, .shape = *s };
    }
    return true;
}

struct num *call_new_elems(struct call *c, int n, struct err *e)
{
    return arena_array(c->x->mem, (uint64_t)n, sizeof(struct num), e);
}

bool call_set_elems(struct call *c, const struct num *elems, int n, struct err *e)
{
    (void)e;
    if (n > TRACKED_MAX || c->n->out[0] < 0)
        return true;
    for (int i = 0; i < n; i++)
        if (elems[i].sym == NUM_IS_OVERFLOW)
            return true;                       /* wraps or not: the evaluator's business */
    c->x->fact[c->n->out[0]].elems = elems;
    return true;
}

bool call_dim(struct call *c, struct num a, int64_t *ret, struct err *e)
{
    if (a.sym == NUM_IS_OVERFLOW || (num_known(a) && a.n > TENSOR_MAX_DIM))
        return err_set(e, ERR_MODEL_LIMIT, call_where(c), "a dimension of its output overflows the limit of 2^40");
    if (a.sym == NUM_IS_UNKNOWN) {
        if (!c->x->syms)
            return unbound(c, e);
        a = symbol_unknown(c->x->syms);
        if (a.sym < 0)
            return err_set(e, ERR_MEMORY, call_where(c), "no memory for the names of dimensions");
    }
    if (num_known(a) && a.n < 0)
        return bad_shape(c, e, "a dimension of its output would be %lld", (long long)a.n);
    *ret = a.sym ? -(int64_t)a.sym : a.n;
    return true;
}

bool call_unknown_shape(struct call *c, struct shape *ret, struct err *e)
{
    if (!c->x->syms)
        return unbound(c, e);
    *ret = (struct shape){ .rank = -1 };
    return true;
}

/* ---- dimensions that meet ---- */

bool dim_same(int64_t a, int64_t b, int64_t *ret)
{
    *ret = a >= 0 ? a : b >= 0 ? b : a;
    return a < 0 || b < 0 || a == b;
}

static bool broadcast_dim(struct infer *x, int64_t a, int64_t b, int64_t *ret)
{
    if (a == b || b == 1) {
        *ret = a;
    } else if (a == 1) {
        *ret = b;
    } else if (a >= 0 && b >= 0) {
        return false;
    } else if (a >= 0 || b >= 0) {
        *ret = a >= 0 ? a : b;
    } else {
        /* Two symbols: equal, or one of them is 1; either way the larger is the result. */
        struct num larger = num_max(x->syms, num_dim(a), num_dim(b));
        *ret = larger.sym > 0 ? -(int64_t)larger.sym : a;
    }
    return true;
}

bool shape_broadcast(struct infer *x, struct shape *acc, const struct shape *s)
{
    struct shape r = { .rank = acc->rank > s->rank ? acc->rank : s->rank };
    for (int i = 1; i <= r.rank; i++) {
        int64_t a = i <= acc->rank ? acc->dim[acc->rank - i] : 1, b = i <= s->rank ? s->dim[s->rank - i] : 1;
        if (!broadcast_dim(x, a, b, &r.dim[r.rank - i]))
            return false;
    }
    *acc = r;
    return true;
}

bool shape_broadcasts_to(struct infer *x, const struct shape *s, const struct shape *to)
{
    struct shape r = *to;
    if (s->rank > to->rank || !shape_broadcast(x, &r, s))
        return false;
    for (int i = 0; i < r.rank; i++)
        if (to->dim[i] >= 0 && r.dim[i] >= 0 && r.dim[i] != to->dim[i])
            return false;
    return true;
}

struct num shape_product(struct infer *x, const struct shape *s, int from, int to)
{
    struct num p = NUM(1);
    for (int i = from; i < to; i++)
        if (s->dim[i] == 0)
            return NUM(0);
    for (int i = from; i < to; i++)
        p = num_mul(x->syms, p, num_dim(s->dim[i]));
    return p;
}

/* ---- the driver ---- */

static bool decide_type(struct call *c, const struct rule *r, struct err *e)
{
    const struct fact *first = call_in(c, 0);
    if (r->takes && first && !(r->takes >> first->dtype & 1))
        return err_set(e, ERR_MODEL_OP, call_where(c), "the operator does not take %s", dtype_name(first->dtype));
    for (int i = 1; first && i < c->n->n_in && i < r->same; i++) {
        const struct fact *other = call_in(c, i);
        if (other && other->dtype != first->dtype)
            return err_set(e, ERR_MODEL_INVALID, call_where(c), "input 0 is %s and input %d is %s; they must be the same type",
                           dtype_name(first->dtype), i, dtype_name(other->dtype));
    }
    c->dtype = r->gives ? r->gives : first ? first->dtype : DT_NONE;
    return !r->type || r->type(c, e);
}

static bool any_unknown_rank(const struct call *c)
{
    for (int i = 0; i < c->n->n_in; i++)
        if (call_in(c, i) && call_in(c, i)->shape.rank < 0)
            return true;
    return false;
}

static bool set_unknown(struct call *c, struct err *e)
{
    struct shape s;
    if (!call_unknown_shape(c, &s, e))
        return false;
    for (int i = 0; i < c->n->n_out; i++)
        if (!call_set(c, i, &s, e))
            return false;
    return true;
}

bool infer_node(struct infer *x, const struct node *n, struct err *e)
{
    const struct rule *r = &rules[n->op];
    struct call c = { .x = x, .n = n };
    if (!decide_type(&c, r, e))
        return false;
    if (!r->loose && any_unknown_rank(&c))
        return set_unknown(&c, e);
    if (!r->shape(&c, e) || (r->values && !r->values(&c, e)))
        return false;
    if (x->syms && !symbols_ok(x->syms))
        return err_set(e, ERR_MEMORY, call_where(&c), "no memory for the names of dimensions");
    return fold_node(x, n, e);
}

bool infer_begin(struct infer *x, const struct graph *g, struct arena *mem, struct symbols *syms, node_eval *eval, struct err *e)
{
    *x = (struct infer){ .g = g, .mem = mem, .syms = syms, .eval = eval };
    x->fact = arena_array(mem, (uint64_t)g->n_values, sizeof *x->fact, e);
    if (!x->fact)
        return false;
    for (int i = 0; i < g->n_values; i++) {
        const struct value *v = &g->values[i];
        if (v->is_const || v->is_input)
            x->fact[i] = (struct fact){ .dtype = v->dtype, .shape = v->shape, .data = v->data, .known = v->is_const,
                                          .narrow = v->narrow, .narrow_as = v->narrow_as };
    }
    return true;
}

bool rule_never(struct call *c, struct err *e)
{
    return err_set(e, ERR_BUG, call_where(c), "the operator should have been resolved when the model was imported");
}
