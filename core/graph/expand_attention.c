/*
 * expand_attention.c - Attention and RotaryEmbedding in the form torch exports them, so that products and softmax get
 * their roles:
 *
 *     softmax(softcap((q sqrt(scale)) (k sqrt(scale))^T) + bias) v
 *
 * The bias is made of every mask there is; with lengths that are numbers it folds to a constant.
 */
#include "core/graph/expand.h"

#include <math.h>

struct attention {
    int q, k, v, past, nonpad, mask;
    int64_t heads, kv_heads;
    bool flat;                         /* [batch, length, heads * size] */
    enum dtype type;
};

/* [batch, length, heads * size] as [batch, heads, length, size] */
static int split_heads(struct expansion *s, const struct node *n, int x, int64_t heads)
{
    x = ex_reshape(s, n, x, (const int64_t[]){ 0, 0, heads, -1 }, 4);
    return ex_permute(s, n, x, (const int64_t[]){ 0, 2, 1, 3 }, 4);
}

static int merge_heads(struct expansion *s, const struct node *n, int x)
{
    x = ex_permute(s, n, x, (const int64_t[]){ 0, 2, 1, 3 }, 4);
    return ex_reshape(s, n, x, (const int64_t[]){ 0, 0, -1 }, 3);
}

/* Each of the keys' heads `times` times in a row. */
static int repeat_heads(struct expansion *s, const struct node *n, int x, int64_t heads, int64_t times)
{
    if (times == 1)
        return x;
    int64_t size = ex_dim(s, n, x, 3);
    x = ex_unsqueeze(s, n, x, 2, 1);
    x = EX(OP_EXPAND, x, ex_ints(s, (const int64_t[]){ 1, 1, times, 1, 1 }, 5));
    return ex_reshape(s, n, x, (const int64_t[]){ 0, heads * times, -1, size }, 4);
}

/* The length of an axis as one int64. */
static int length_of(struct expansion *s, const struct node *n, int x, int64_t axis)
{
    int index = ex_const(s, DT_I64, (struct shape){ 0 }, &axis);
    return EX(OP_GATHER, EX(OP_SHAPE, x), index);
}

static int count_up(struct expansion *s, const struct node *n, int length)
{
    const int64_t zero = 0, one = 1;
    return EX(OP_RANGE, ex_const(s, DT_I64, (struct shape){ 0 }, &zero), length, ex_const(s, DT_I64, (struct shape){ 0 }, &one));
}

/* a and b, where either may be absent */
static int both(struct expansion *s, const struct node *n, int a, int b) { return a < 0 ? b : b < 0 ? a : EX(OP_AND, a, b); }

/* Which keys a query may see by its place: causal, and a window to either side. */
static int allowed_by_place(struct expansion *s, const struct node *n, const struct attention *a)
{
    int64_t left = node_int(n, "left_window_size", -1), right = node_int(n, "right_window_size", -1);
    bool causal = node_int(n, "is_causal", 0);
    if (!causal && left < 0 && right < 0)
        return -1;
    int queries = length_of(s, n, a->q, 2);
    int row = ex_unsqueeze(s, n, count_up(s, n, queries), 1, 1), column = count_up(s, n, length_of(s, n, a->k, 2));
    if (a->past >= 0)
        row = EX(OP_ADD, row, length_of(s, n, a->past, 2));
    else if (a->nonpad >= 0)           /* [batch, 1, 1, 1]: the queries are the last of the valid keys */
        row = EX(OP_ADD, row, EX(OP_SUB, ex_unsqueeze(s, n, a->nonpad, 1, 3), queries));
    int allowed = causal || right == 0 ? EX(OP_LESSOREQUAL, column, row) : -1;
    if (left >= 0)
        allowed = both(s, n, allowed, EX(OP_LESSOREQUAL, EX(OP_SUB, row, column), ex_const(s, DT_I64, (struct shape){ 0 }, &left)));
    if (right > 0)
        allowed = both(s, n, allowed, EX(OP_LESSOREQUAL, EX(OP_SUB, column, row), ex_const(s, DT_I64, (struct shape){ 0 }, &right)));
    return allowed;
}

static int allowed_by_length(struct expansion *s, const struct node *n, const struct attention *a)
{
    if (a->nonpad < 0)
        return -1;
    return EX(OP_LESS, count_up(s, n, length_of(s, n, a->k, 2)), ex_unsqueeze(s, n, a->nonpad, 1, 3));
}

static int choose(struct expansion *s, const struct node *n, const struct attention *a, int allowed)
{
    return EX(OP_WHERE, allowed, ex_real(s, n, a->type, 0), ex_real(s, n, a->type, (double)-INFINITY));
}

/* A mask may be shorter than the keys: the rest of them is hidden. */
static int padded_mask(struct expansion *s, const struct node *n, const struct attention *a)
{
    int rank = ex_rank(s, n, a->mask);
    const struct shape *m = &ex_fact(s, a->mask)->shape, *k = &ex_fact(s, a->k)->shape;
    if (s->failed || rank < 1 || m->dim[rank - 1] == k->dim[2] || m->dim[rank - 1] < 0 || k->dim[2] < 0)
        return a->mask;
    int64_t pads[2 * TENSOR_MAX_RANK] = { 0 };
    const bool no = false;
    pads[2 * rank - 1] = k->dim[2] - m->dim[rank - 1];
    if (pads[2 * rank - 1] < 0 || m->dim[rank - 1] == 1)
        return a->mask;
    int value = ex_type(s, a->mask) == DT_BOOL ? ex_const(s, DT_BOOL, (struct shape){ 0 }, &no)
                                               : ex_real(s, n, ex_type(s, a->mask), (double)-INFINITY);
    return EX(OP_PAD, a->mask, ex_ints(s, pads, 2 * rank), value);
}

/* What is added to the logits, or -1; *ret_empty: a query may see no key at all. */
static int bias_of(struct expansion *s, const struct node *n, const struct attention *a, bool *ret_empty)
{
    int allowed = both(s, n, allowed_by_place(s, n, a), allowed_by_length(s, n, a)), added = -1;
    if (a->mask >= 0) {
        int mask = padded_mask(s, n, a);
        if (ex_type(s, mask) == DT_BOOL)
            allowed = both(s, n, allowed, mask);
        else
            added = ex_cast(s, n, mask, a->type);
    }
    *ret_empty = allowed >= 0 || added >= 0;
    if (allowed < 0)
        return added;
    allowed = choose(s, n, a, allowed);
    return added < 0 ? allowed : EX(OP_ADD, added, allowed);
}

static int soft_capped(struct expansion *s, const struct node *n, const struct attention *a, int x)
{
    double cap = (double)node_float(n, "softcap", 0);
    if (!(cap > 0))
        return x;
    int by = ex_real(s, n, a->type, cap);
    return EX(OP_MUL, EX(OP_TANH, EX(OP_DIV, x, by)), by);
}

/*
 * A row of which everything is hidden gives zeros, not NaN.  Only rows of a mask that is data may be so: what is
 * causal shows each query at least itself.
 */
static int softmax_of(struct expansion *s, const struct node *n, const struct attention *a, int x, bool empty)
{
    int64_t wanted = node_int(n, "softmax_precision", 0);
    enum dtype t = wanted == DT_F32 || wanted == DT_F64 || wanted == DT_F16 || wanted == DT_BF16 ? (enum dtype)wanted : a->type;
    x = EX_WITH(OP_SOFTMAX, EX_ATTRS(EX_INT("axis", -1)), ex_cast(s, n, x, t));
    if (empty && (a->mask >= 0 || a->nonpad >= 0 || node_int(n, "left_window_size", -1) >= 0))
        x = EX(OP_WHERE, EX(OP_ISNAN, x), ex_real(s, n, t, 0), x);
    return ex_cast(s, n, x, a->type);
}

static void read_attention(struct expansion *s, const struct node *n, struct attention *a)
{
    int rank = ex_rank(s, n, n->in[0]);
    *a = (struct attention){ .q = n->in[0], .k = ex_in(n, 1), .v = ex_in(n, 2), .mask = ex_in(n, 3), .past = ex_in(n, 4),
                             .nonpad = ex_in(n, 6), .type = ex_type(s, n->in[0]), .flat = rank == 3,
                             .heads = node_int(n, "q_num_heads", 0), .kv_heads = node_int(n, "kv_num_heads", 0) };
    if (rank != 3 && rank != 4)
        ex_fail(s, n, "its query has neither three nor four dimensions");
    if (rank == 3 && (a->heads < 1 || a->kv_heads < 1 || a->heads > TENSOR_MAX_DIM || a->kv_heads > TENSOR_MAX_DIM))
        ex_fail(s, n, "inputs of three dimensions need q_num_heads and kv_num_heads");
    if ((a->past < 0) != (ex_in(n, 5) < 0))
        ex_fail(s, n, "past_key and past_value come together");
    if (ex_rank(s, n, a->k) != rank || ex_rank(s, n, a->v) != rank)
        ex_fail(s, n, "its query, key and value have different ranks");
    if (s->failed)
        return;
    if (a->flat) {
        a->q = split_heads(s, n, a->q, a->heads);
        a->k = split_heads(s, n, a->k, a->kv_heads);
        a->v = split_heads(s, n, a->v, a->kv_heads);
    } else {
        a->heads = ex_dim(s, n, a->q, 1);
        a->kv_heads = ex_dim(s, n, a->k, 1);
    }
    if (!s->failed && (a->kv_heads < 1 || a->heads % a->kv_heads))
        ex_fail(s, n, "the number of key heads does not divide the number of query heads");
}

static double scale_of(struct expansion *s, const struct node *n, const struct attention *a)
{
    const struct onnx_attr *scale = node_attr(n, "scale");
    return scale ? (double)scale->f : 1 / sqrt((double)ex_dim(s, n, a->q, 3));
}

void expand_attention(struct expansion *s, const struct node *n, int *ret)
{
    struct attention a;
    bool empty = false;
    read_attention(s, n, &a);
    if (s->failed)
        return;
    if (a.past >= 0) {
        a.k = EX_WITH(OP_CONCAT, EX_ATTRS(EX_INT("axis", 2)), a.past, a.k);
        a.v = EX_WITH(OP_CONCAT, EX_ATTRS(EX_INT("axis", 2)), n->in[5], a.v);
    }
    ret[1] = a.k;
    ret[2] = a.v;
    int root = ex_real(s, n, a.type, sqrt(scale_of(s, n, &a)));
    int k = repeat_heads(s, n, a.k, a.kv_heads, a.heads / a.kv_heads), v = repeat_heads(s, n, a.v, a.kv_heads, a.heads / a.kv_heads);
    k = ex_permute(s, n, k, (const int64_t[]){ 0, 1, 3, 2 }, 4);
    int steps[4];
    steps[0] = EX(OP_MATMUL, EX(OP_MUL, a.q, root), EX(OP_MUL, k, root));
    steps[1] = soft_capped(s, n, &a, steps[0]);
    int bias = bias_of(s, n, &a, &empty);
    steps[2] = bias < 0 ? steps[1] : EX(OP_ADD, steps[1], bias);
    steps[3] = softmax_of(s, n, &a, steps[2], empty);
    int y = EX(OP_MATMUL, steps[3], v);
    ret[0] = a.flat && !s->failed ? merge_heads(s, n, y) : y;
    int64_t mode = node_int(n, "qk_matmul_output_mode", 0);
    ret[3] = mode >= 0 && mode < 4 ? steps[mode] : -1;
}

/* ---- RotaryEmbedding ---- */

/* com.microsoft's has the positions before the caches, and takes a first position in their place. */
struct rotary { int x, cos, sin, at; };

static struct rotary rotary_inputs(struct expansion *s, const struct node *n)
{
    if (n->op == OP_ROTARY)
        return (struct rotary){ n->in[0], ex_in(n, 1), ex_in(n, 2), ex_in(n, 3) };
    struct rotary r = { n->in[0], ex_in(n, 2), ex_in(n, 3), ex_in(n, 1) };
    if (ex_rank(s, n, r.at) == 2)
        return r;
    int64_t axis = ex_rank(s, n, r.x) == 4 ? 2 : 1;
    r.at = EX(OP_ADD, r.at, ex_unsqueeze(s, n, count_up(s, n, length_of(s, n, r.x, axis)), 0, 1));
    return r;
}

/* The pairs of x turned by the angles, interleaved or in halves. */
static int turned(struct expansion *s, const struct node *n, int x, int64_t size, int cos, int sin)
{
    const int64_t half = size / 2, end = INT64_MAX;
    bool mixed = node_int(n, "interleaved", 0);
    int x1 = mixed ? ex_slice(s, n, x, 3, 0, end, 2) : ex_slice(s, n, x, 3, 0, half, 1);
    int x2 = mixed ? ex_slice(s, n, x, 3, 1, end, 2) : ex_slice(s, n, x, 3, half, end, 1);
    int real = EX(OP_SUB, EX(OP_MUL, cos, x1), EX(OP_MUL, sin, x2));
    int imag = EX(OP_ADD, EX(OP_MUL, sin, x1), EX(OP_MUL, cos, x2));
    if (!mixed)
        return EX_WITH(OP_CONCAT, EX_ATTRS(EX_INT("axis", -1)), real, imag);
    int pairs = EX_WITH(OP_CONCAT, EX_ATTRS(EX_INT("axis", -1)), ex_unsqueeze(s, n, real, 4, 1), ex_unsqueeze(s, n, imag, 4, 1));
    return ex_reshape(s, n, pairs, (const int64_t[]){ 0, 0, 0, -1 }, 4);
}

/* Rows of the cache, broadcast over the heads of [batch, length, heads, size]. */
static int angles(struct expansion *s, const struct node *n, int cache, int at)
{
    if (at >= 0)
        cache = EX_WITH(OP_GATHER, EX_ATTRS(EX_INT("axis", 0)), cache, at);
    return ex_unsqueeze(s, n, cache, 2, 1);
}

void expand_rotary(struct expansion *s, const struct node *n, int *ret)
{
    int rank = ex_rank(s, n, n->in[0]);
    int64_t heads = node_int(n, "num_heads", 0), width = node_int(n, "rotary_embedding_dim", 0);
    if (rank != 3 && rank != 4)
        ex_fail(s, n, "its input has neither three nor four dimensions");
    struct rotary r = rotary_inputs(s, n);
    if (rank == 3 && heads < 1)        /* com.microsoft leaves it to be guessed from the cache */
        heads = ex_dim(s, n, r.x, 2) / (2 * ex_dim(s, n, r.cos, ex_rank(s, n, r.cos) - 1) ?: 1);
    if (s->failed || (rank == 3 && (heads < 1 || heads > TENSOR_MAX_DIM)))
        return ex_fail(s, n, "inputs of three dimensions need num_heads");
    int x = rank == 3 ? ex_reshape(s, n, r.x, (const int64_t[]){ 0, 0, heads, -1 }, 4)
                      : ex_permute(s, n, r.x, (const int64_t[]){ 0, 2, 1, 3 }, 4);
    int64_t size = ex_dim(s, n, x, 3);
    width = width ? width : size;
    if (width < 0 || width > size || width % 2)
        return ex_fail(s, n, "rotary_embedding_dim is odd, or more than the size of a head");
    int part = width < size ? ex_slice(s, n, x, 3, 0, width, 1) : x;
    int y = turned(s, n, part, width, angles(s, n, r.cos, r.at), angles(s, n, r.sin, r.at));
    if (width < size)
        y = EX_WITH(OP_CONCAT, EX_ATTRS(EX_INT("axis", -1)), y, ex_slice(s, n, x, 3, width, INT64_MAX, 1));
    ret[0] = rank == 3 ? ex_reshape(s, n, y, (const int64_t[]){ 0, 0, -1 }, 3) : ex_permute(s, n, y, (const int64_t[]){ 0, 2, 1, 3 }, 4);
}
