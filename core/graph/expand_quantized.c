/* expand_quantized.c - products of codes: integers where the operator's result is an integer, QDQ where it is codes. */
#include "core/graph/expand.h"

static bool one_number(const struct expansion *s, int v)
{
    const struct shape *shape = &ex_fact(s, v)->shape;
    return shape->rank == 0 || (shape->rank == 1 && shape->dim[0] == 1);
}

/* scale = (max - min) / 255 and zero = round(-min / scale), over a range that holds 0. */
void expand_dynamic_quantize(struct expansion *s, const struct node *n, int *ret)
{
    int x = n->in[0], zero = ex_real(s, n, DT_F32, 0), top = ex_real(s, n, DT_F32, 255);
    struct ex_attrs whole = EX_ATTRS(EX_INT("keepdims", 0));
    int hi = EX(OP_MAX, EX_WITH(OP_REDUCEMAX, whole, x), zero), lo = EX(OP_MIN, EX_WITH(OP_REDUCEMIN, whole, x), zero);
    int scale = EX(OP_DIV, EX(OP_SUB, hi, lo), top);
    int safe = EX(OP_WHERE, EX(OP_EQUAL, scale, zero), ex_real(s, n, DT_F32, 1), scale);
    int point = EX(OP_ROUND, EX(OP_CLIP, EX(OP_SUB, zero, EX(OP_DIV, lo, safe)), zero, top));
    ret[2] = ex_cast(s, n, point, DT_U8);
    ret[1] = scale;
    ret[0] = EX(OP_QUANTIZELINEAR, x, safe, ret[2]);
}

/* Codes as int32 less their zero point; `columns`: ones behind the zero points' own axis. */
static int shifted(struct expansion *s, const struct node *n, int codes, int zero, int columns)
{
    int x = ex_cast(s, n, codes, DT_I32);
    if (zero < 0)
        return x;
    int z = ex_cast(s, n, zero, DT_I32);
    if (!one_number(s, zero) && columns)
        z = ex_unsqueeze(s, n, z, ex_fact(s, zero)->shape.rank, columns);
    return EX(OP_SUB, x, z);
}

/* Zero points of the left side are one a row, of the right side one a column. */
void expand_matmul_integer(struct expansion *s, const struct node *n, int *ret)
{
    int rows = ex_in(n, 2) >= 0 && ex_fact(s, n->in[2])->shape.rank == 1;
    ret[0] = EX(OP_MATMUL, shifted(s, n, n->in[0], ex_in(n, 2), rows), shifted(s, n, n->in[1], ex_in(n, 3), 0));
}

/* The node's own attributes: a convolution's geometry. */
static struct ex_attrs geometry(const struct node *n) { return (struct ex_attrs){ n->attrs, n->n_attrs }; }

/* Sums of up to 2^36 products of bytes are exact in float64. */
void expand_conv_integer(struct expansion *s, const struct node *n, int *ret)
{
    int rank = ex_rank(s, n, n->in[1]);
    int x = ex_cast(s, n, shifted(s, n, n->in[0], ex_in(n, 2), 0), DT_F64);
    int w = ex_cast(s, n, shifted(s, n, n->in[1], ex_in(n, 3), rank - 1), DT_F64);
    ret[0] = ex_cast(s, n, EX_WITH(OP_CONV, geometry(n), x, w), DT_I32);
}

static int dequantized(struct expansion *s, const struct node *n, int codes, int scale, int zero, int64_t axis)
{
    return EX_WITH(OP_DEQUANTIZELINEAR, EX_ATTRS(EX_INT("axis", axis)), codes, scale, zero);
}

/* Scales of the left side are one a row: the axis before the last. */
void expand_qlinear_matmul(struct expansion *s, const struct node *n, int *ret)
{
    int left = ex_rank(s, n, n->in[0]), right = ex_rank(s, n, n->in[3]);
    int a = dequantized(s, n, n->in[0], n->in[1], n->in[2], left > 1 ? left - 2 : 0);
    int b = dequantized(s, n, n->in[3], n->in[4], n->in[5], right > 0 ? right - 1 : 0);
    ret[0] = EX(OP_QUANTIZELINEAR, EX(OP_MATMUL, a, b), n->in[6], n->in[7]);
}

/* The bias is int32 at the scale of input times weight. */
void expand_qlinear_conv(struct expansion *s, const struct node *n, int *ret)
{
    int x = dequantized(s, n, n->in[0], n->in[1], n->in[2], 1), w = dequantized(s, n, n->in[3], n->in[4], n->in[5], 0), bias = -1;
    if (ex_in(n, 8) >= 0)
        bias = EX(OP_MUL, ex_cast(s, n, n->in[8], DT_F32), EX(OP_MUL, n->in[1], n->in[4]));
    ret[0] = EX(OP_QUANTIZELINEAR, EX_WITH(OP_CONV, geometry(n), x, w, bias), n->in[6], n->in[7]);
}

/* ---- com.microsoft MatMulNBits: y = x dequantized(B)^T, B in blocks along its rows ---- */

/* The bytes of a constant of bytes seen as `bits`-bit codes of another shape. */
static int codes_view(struct expansion *s, const struct node *n, int v, int64_t bits, int64_t rows, int64_t cols)
{
    const struct fact *f = ex_fact(s, v);
    struct shape shape = { .rank = 2, .dim = { rows, cols } };
    enum dtype t = bits == 4 ? DT_U4 : DT_U8;
    uint64_t want, have;
    if (!f->known || f->dtype != DT_U8 || !tensor_size(t, &shape, "", NULL, &want, NULL) ||
        !tensor_size(f->dtype, &f->shape, "", NULL, &have, NULL) || want != have) {
        ex_fail(s, n, "its packed weight or zero points are not a constant of bytes of the size that K, N, bits and block_size say");
        return -1;
    }
    return ex_const(s, t, shape, f->data);
}

/* What is taken off the codes of a block: packed like them, given as reals, or the middle of their range. */
static int zero_of(struct expansion *s, const struct node *n, enum dtype t, int64_t bits, int64_t rows, int64_t blocks)
{
    int z = ex_in(n, 3);
    if (z < 0)
        return ex_real(s, n, t, bits == 4 ? 8 : 128);
    if (ex_type(s, z) == DT_U8) {
        int64_t padded = bits == 4 ? (blocks + 1) / 2 * 2 : blocks;
        z = ex_cast(s, n, codes_view(s, n, z, bits, rows, padded), DT_U8);
        if (padded != blocks && !s->failed)
            z = ex_slice(s, n, z, 1, 0, blocks, 1);
    }
    return ex_reshape(s, n, ex_cast(s, n, z, t), (const int64_t[]){ rows, blocks, 1 }, 3);
}

/* Codes less their zero points, by the scale of their block: [rows, blocks, size] */
void expand_matmul_nbits(struct expansion *s, const struct node *n, int *ret)
{
    int64_t k = node_int(n, "K", 0), rows = node_int(n, "N", 0), bits = node_int(n, "bits", 4), size = node_int(n, "block_size", 0);
    if ((bits != 4 && bits != 8) || size < 16 || size > 65536 || k < 1 || rows < 1 || k > TENSOR_MAX_DIM || rows > TENSOR_MAX_DIM)
        return ex_fail(s, n, "only weights of 4 or 8 bits in blocks of 16 and more are supported");
    if (ex_in(n, 4) >= 0)
        return ex_fail(s, n, "a MatMulNBits with g_idx is not supported");
    int64_t blocks = (k + size - 1) / size;
    enum dtype t = ex_type(s, n->in[0]);
    int codes = codes_view(s, n, n->in[1], bits, rows, blocks * size);
    int w = ex_reshape(s, n, ex_cast(s, n, ex_cast(s, n, codes, DT_U8), t), (const int64_t[]){ rows, blocks, size }, 3);
    int scale = ex_reshape(s, n, ex_cast(s, n, n->in[2], t), (const int64_t[]){ rows, blocks, 1 }, 3);
    w = EX(OP_MUL, EX(OP_SUB, w, zero_of(s, n, t, bits, rows, blocks)), scale);
    w = ex_reshape(s, n, w, (const int64_t[]){ rows, blocks * size }, 2);
    if (blocks * size != k)
        w = ex_slice(s, n, w, 1, 0, k, 1);
    int y = EX(OP_MATMUL, n->in[0], ex_permute(s, n, w, (const int64_t[]){ 1, 0 }, 2));
    ret[0] = ex_in(n, 5) < 0 ? y : EX(OP_ADD, y, n->in[5]);
}
