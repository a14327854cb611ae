/*
 * qop.c - quantized nodes, computed exactly.
 *
 * Rows are taken in blocks so that codes and sums stay in cache; the sums are
 * integers, so the block size cannot show in a result.
 */
#include "core/exec/lowering.h"

#include "core/kernel/kernel.h"

#include <math.h>

enum { BLOCK_ROWS = 128, TILE = 4 << 20 };

static size_t round64(size_t n) { return (n + 15) / 16 * 16; }      /* floats in a multiple of 64 bytes */

/* The parts of scratch, in floats. */
struct parts { size_t x, y, sums, acc; };

static struct parts parts_of(size_t x, size_t y, size_t out)
{
    return (struct parts){ round64(x), round64(y), round64(out), round64(out) };
}

static size_t dim_from_end(const struct tensor *t, int i)
{
    return t->shape.rank >= i ? (size_t)t->shape.dim[t->shape.rank - i] : 1;
}

/* y: scales that are found at run time. */
static struct parts parts_matmul(const struct tensor *x, const struct tensor *out)
{
    return parts_of(BLOCK_ROWS * dim_from_end(x, 1), dim_from_end(out, 1), BLOCK_ROWS * dim_from_end(out, 1));
}

static struct parts parts_product(const struct tensor *x, const struct tensor *y, const struct tensor *out)
{
    return parts_of(dim_from_end(x, 2) * dim_from_end(x, 1), dim_from_end(y, 2) * dim_from_end(y, 1),
                    dim_from_end(out, 2) * dim_from_end(out, 1));
}

/* One image's codes, its columns, one image of sums. */
static struct parts parts_conv(const struct tensor *x, const struct tensor *y, const struct tensor *out)
{
    size_t image = (size_t)shape_count(&x->shape, 1, x->shape.rank);
    size_t positions = (size_t)shape_count(&out->shape, 2, out->shape.rank);
    size_t window = (size_t)shape_count(&y->shape, 1, y->shape.rank);
    return parts_of(image, positions * window, positions * (size_t)out->shape.dim[1]);
}

static uint64_t bytes_of(struct parts p) { return (uint64_t)(p.x + p.y + p.sums + p.acc) * sizeof(float); }

uint64_t qop_scratch(enum op op, bool y_const, const struct tensor *x, const struct tensor *y, const struct tensor *out)
{
    if (op == OP_CONV)
        return out->shape.rank == 4 ? bytes_of(parts_conv(x, y, out)) : 0;
    uint64_t product = y_const ? 0 : bytes_of(parts_product(x, y, out)), matmul = bytes_of(parts_matmul(x, out));
    return product > matmul ? product : matmul;
}

/* Some columns of w, [k, n], and the largest |w| in them. */
struct columns { const float *w; size_t first, n; int reach; };

/* m rows of codes of x; `codes` has room for them. */
static void quantize_rows(const struct qop *q, size_t m, const float *x, float *codes)
{
    const struct affine *a = &q->ax;
    if (q->mul) {
        vec_affine_row(m, q->k, x, q->mul, q->shift, codes);
        x = codes;
    }
    if (!q->x_width || q->x_width == q->k) {
        quantize_to_float(m * q->k, x, a->scale, a->zero, a->qmin, a->qmax, codes);
        return;
    }
    for (size_t r = 0; r < m; r++)
        quantize_to_float(q->k, x + r * q->x_width + q->x_first, a->scale, a->zero, a->qmin, a->qmax, codes + r * q->k);
}

static size_t width_of(const struct qop *q) { return q->x_width ? q->x_width : q->k; }

/* DynamicQuantizeLinear's quantizer: from the least to the largest value, with 0, in bytes. */
static struct affine find_affine(const struct qop *q, size_t rows, const float *x, float *room)
{
    struct range r = { 0 };
    for (size_t at = 0; at < rows; at += BLOCK_ROWS) {
        size_t m = rows - at < BLOCK_ROWS ? rows - at : BLOCK_ROWS;
        const float *from = x + at * q->k;
        if (q->mul) {
            vec_affine_row(m, q->k, from, q->mul, q->shift, room);
            from = room;
        }
        range_of(m * q->k, from, &r);
    }
    float scale = r.hi > r.lo ? (r.hi - r.lo) / 255 : 1, zero = rintf(fminf(fmaxf(0 - r.lo / scale, 0), 255));
    return (struct affine){ scale, (int)zero, 0, 255, DT_U8 };
}

/* Where everything lies while some columns are multiplied. */
struct room { float *codes, *scale, *sums; int32_t *acc; };

static struct room room_of(const struct tensor *x, const struct tensor *out, float *scratch)
{
    struct parts part = parts_matmul(x, out);
    float *scale = scratch + part.x, *sums = scale + part.y;
    return (struct room){ scratch, scale, sums, (int32_t *)(void *)(sums + part.sums) };
}

/* The scales of n sums from `first` on. */
static const float *scales_of(const struct qop *q, size_t first, size_t n, float *room)
{
    if (!q->dynamic)
        return q->scale + first;
    for (size_t i = 0; i < n; i++)
        room[i] = q->ax.scale * q->scale[first + i];
    return room;
}

/* Integer matrices a [m, k] and b [k, n], held in floats, and the largest there may be in either. */
struct codes { const float *a, *b; size_t m, n, k, lda, ldb; int a_max, b_max; };

/* to[m, n] = scale (a b) + bias; acc and sums have room for m n numbers. */
static void scaled_product(const struct codes *c, const float *scale, size_t scale_n, const float *bias, int32_t *acc, float *sums, float *to,
                           size_t ldto)
{
    if (gemm_is_exact(c->k, c->a_max, c->b_max)) {
        gemm(false, false, c->m, c->n, c->k, c->a, c->lda, c->b, c->ldb, false, sums, c->n);
        dequantize_sums(c->m, c->n, sums, c->n, scale, scale_n, bias, to, ldto);
        return;
    }
    gemm_exact(false, c->m, c->n, c->k, c->a, c->lda, c->a_max, c->b, c->ldb, c->b_max, acc, c->n, sums);
    dequantize_acc(c->m, c->n, acc, c->n, scale, scale_n, bias, to, ldto);
}

/* Products of groups of inputs, added as floats: what a MatMul for each group and an Add behind it give. */
static void multiply_groups(const struct qop *q, size_t m, const struct room *r, float *to)
{
    for (size_t g = 0; g < q->k / q->group; g++) {
        size_t at = g * q->group;
        struct codes codes = { r->codes + at, q->w + at * q->n, m, q->n, q->group, q->k, q->n, affine_reach(q->ax), q->w_reach };
        scaled_product(&codes, scales_of(q, g * q->n, q->n, r->scale), q->n, NULL, r->acc, r->sums, g ? r->sums : to, q->n);
        for (size_t i = 0; g && i < m * q->n; i++)
            to[i] += r->sums[i];
    }
    if (q->add)
        vec_add_row(m, q->n, to, q->add, to);
}

static void multiply_columns(const struct qop *q, const struct columns *c, const struct tensor *x, struct tensor *out, float *scratch)
{
    struct room room = room_of(x, out, scratch);
    size_t rows = (size_t)shape_elements(&out->shape) / q->n;
    const float *from = x->data, *add = q->add ? q->add + c->first : NULL;
    float *to = (float *)out->data + c->first;
    for (size_t r = 0; r < rows; r += BLOCK_ROWS) {
        size_t m = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        quantize_rows(q, m, from + r * width_of(q), room.codes);
        if (q->group) {
            multiply_groups(q, m, &room, to + r * q->n);
            continue;
        }
        struct codes codes = { room.codes, c->w, m, c->n, q->k, q->k, c->n, affine_reach(q->ax), c->reach };
        scaled_product(&codes, scales_of(q, c->first, c->n, room.scale), c->n, add, room.acc, room.sums, to + r * q->n, q->n);
    }
}

uint64_t qop_low_rank_bytes(size_t rank, const struct tensor *x, const struct tensor *out)
{
    size_t elements = (size_t)shape_elements(&out->shape), n = dim_from_end(out, 1), rows = n ? elements / n : 0;
    return ((uint64_t)round64((size_t)shape_elements(&x->shape)) + round64(rows * rank) + round64(elements)) * sizeof(float);
}

/* As operators of the artifact compute it: two MatMuls of all rows, an Add, and the bias behind that. */
static void add_thin(const struct qop *q, const struct tensor *x, struct tensor *out, float *scratch)
{
    size_t elements = (size_t)shape_elements(&out->shape), rows = elements / q->n;
    float *thin = scratch + round64(rows * q->k), *wide = thin + round64(rows * q->rank), *y = out->data;
    const float *from = x->data;
    if (q->mul) {
        vec_affine_row(rows, q->k, from, q->mul, q->shift, scratch);
        from = scratch;
    }
    gemm(false, false, rows, q->rank, q->k, from, q->k, q->low_u, q->rank, false, thin, q->rank);
    gemm(false, false, rows, q->n, q->rank, thin, q->rank, q->low_v, q->n, false, wide, q->n);
    for (size_t i = 0; i < elements; i++)
        y[i] += wide[i];
    if (q->add)
        vec_add_row(rows, q->n, y, q->add, y);
}

/* A row whose quantizer is found now is one whose quantizer is known. */
static void multiply_whole(const struct qop *q, const struct tensor *x, struct tensor *out, float *scratch)
{
    struct qop now = *q;
    if (q->dynamic)
        now.ax = find_affine(q, (size_t)shape_elements(&out->shape) / q->n, x->data, scratch);
    if (q->rank)
        now.add = NULL;
    multiply_columns(&now, &(struct columns){ q->w, 0, q->n, q->w_reach }, x, out, scratch);
    if (q->rank)
        add_thin(q, x, out, scratch);
}

/* Columns whose codes are made floats at once: some TILE of them, so that small weights are taken whole. */
static size_t tile_columns(const struct qop *q)
{
    size_t fits = q->k ? TILE / q->k / 16 * 16 : q->n;
    return fits < 16 ? (q->n < 16 ? q->n : 16) : fits < q->n ? fits : q->n;
}

uint64_t qop_tile_bytes(const struct qop *q)
{
    return q->codes ? (uint64_t)round64(q->k * tile_columns(q)) * sizeof(float) : 0;
}

/* Returns the largest |w| of the tile, or 1. */
static int tile_floats(const struct qop *q, size_t first, size_t n, float *tile)
{
    struct range r = { .lo = -1, .hi = 1 };
    float *w = tile;
    for (size_t k = 0; k < q->k; k++, tile += n) {
        const int8_t *row = q->codes + k * q->n + first;
        dequantize_i8(n, row, 1.0f, q->n_zero == 1 ? q->w_zero[0] : 0, tile);
        for (size_t c = 0; q->n_zero > 1 && c < n; c++)
            tile[c] -= (float)q->w_zero[first + c];
    }
    range_of(q->k * n, w, &r);
    return (int)(r.hi > -r.lo ? r.hi : -r.lo);
}

static void run_matmul(const struct qop *q, const struct tensor *x, struct tensor *out, float *scratch)
{
    if (!q->codes && q->n) {
        multiply_whole(q, x, out, scratch);
        return;
    }
    float *tile = scratch;
    size_t step = tile_columns(q);
    scratch += qop_tile_bytes(q) / sizeof *scratch;
    for (size_t at = 0; at < q->n; at += step) {
        size_t n = q->n - at < step ? q->n - at : step;
        int reach = tile_floats(q, at, n, tile);
        multiply_columns(q, &(struct columns){ tile, at, n, reach }, x, out, scratch);
    }
}

/* As operators of the artifact compute it: Div, Round, Clip, Mul and one float MatMul (in blocks of rows its sums would be others). */
static void run_float(const struct qop *q, const struct tensor *x, struct tensor *out, float *codes)
{
    size_t rows = (size_t)shape_elements(&out->shape) / q->n;
    const float *from = x->data;
    if (q->mul) {
        vec_affine_row(rows, q->k, from, q->mul, q->shift, codes);
        from = codes;
    }
    fake_quantize(rows * q->k, from, q->ax.scale, q->first, q->last, codes);
    if (q->back_mul)
        vec_affine_row(rows, q->k, codes, q->back_mul, q->back_shift, codes);
    gemm(false, false, rows, q->n, q->k, codes, q->k, q->w, q->n, false, out->data, q->n);
    if (q->rank)
        add_thin(q, x, out, codes);
    else if (q->add)
        vec_add_row(rows, q->n, out->data, q->add, out->data);
}

/* The matrix of an operand that output matrix `index` uses, under broadcasting of the leading dims. */
static size_t batch_index(const struct tensor *t, const struct tensor *out, size_t index)
{
    size_t at = 0, stride = 1;
    for (int i = 3; i <= out->shape.rank; i++) {
        size_t od = dim_from_end(out, i), td = dim_from_end(t, i);
        if (td > 1)
            at += index % od * stride;
        stride *= td;
        index /= od;
    }
    return at;
}

/* One matrix of a product; xs [m,k], ys [k,n], to [m,n]. */
struct matrices { const float *xs, *ys; float *to; size_t m, k, n; };

static void multiply_codes(const struct qop *q, const struct matrices *a, const struct parts *part, float *scratch)
{
    float *xc = scratch, *yc = xc + part->x, *sums = yc + part->y;
    int32_t *acc = (int32_t *)(void *)(sums + part->sums);
    quantize_to_float(a->m * a->k, a->xs, q->ax.scale, q->ax.zero, q->ax.qmin, q->ax.qmax, xc);
    quantize_to_float(a->k * a->n, a->ys, q->ay.scale, q->ay.zero, q->ay.qmin, q->ay.qmax, yc);
    struct codes codes = { xc, yc, a->m, a->n, a->k, a->k, a->n, affine_reach(q->ax), affine_reach(q->ay) };
    scaled_product(&codes, q->scale, 1, NULL, acc, sums, a->to, a->n);
}

/* As the artifact's DequantizeLinear and float MatMul compute it. */
static void multiply_half(const struct qop *q, const struct matrices *a, float *scratch)
{
    quantize_to_float(a->k * a->n, a->ys, q->ay.scale, q->ay.zero, q->ay.qmin, q->ay.qmax, scratch);
    for (size_t i = 0; i < a->k * a->n; i++)
        scratch[i] *= q->ay.scale;
    gemm(false, false, a->m, a->n, a->k, a->xs, a->k, scratch, a->n, false, a->to, a->n);
}

static void run_product(const struct qop *q, const struct tensor *x, const struct tensor *y, struct tensor *out,
                        float *scratch)
{
    struct parts part = parts_product(x, y, out);
    struct matrices a = { .m = dim_from_end(x, 2), .k = dim_from_end(x, 1), .n = dim_from_end(y, 1) };
    size_t batches = (size_t)shape_count(&out->shape, 0, out->shape.rank - 2);
    for (size_t b = 0; b < batches; b++) {
        a.xs = (const float *)x->data + batch_index(x, out, b) * a.m * a.k;
        a.ys = (const float *)y->data + batch_index(y, out, b) * a.k * a.n;
        a.to = (float *)out->data + b * a.m * a.n;
        if (q->kind == QOP_HALF)
            multiply_half(q, &a, scratch);
        else
            multiply_codes(q, &a, &part, scratch);
    }
}

static void run_levels(const struct qop *q, const struct tensor *x, struct tensor *out)
{
    size_t n = dim_from_end(x, 1), rows = n ? (size_t)shape_elements(&x->shape) / n : 0;
    for (size_t r = 0; r < rows; r += BLOCK_ROWS) {
        size_t m = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;
        float *y = (float *)out->data + r * n;
        log_softmax(m, n, (const float *)x->data + r * n, y);
        level_codes(m * n, y, q->levels.into, q->levels.first, q->levels.back, y);
        vec_exp(m * n, y, y);
        vec_threshold(m * n, y, q->levels.threshold, y);
    }
}

struct conv_shape qop_conv_shape(const struct graph *g, const struct node *node, const struct tensor *x, const struct tensor *out)
{
    size_t n;
    const struct shape *w = &g->values[node->in[1]].shape;
    const int64_t *stride = node_ints(node, "strides", &n);
    const int64_t *pads = node_ints(node, "pads", &n);
    const int64_t *dil = node_ints(node, "dilations", &n);
    return (struct conv_shape){
        .c = (size_t)x->shape.dim[1], .h = (size_t)x->shape.dim[2], .w = (size_t)x->shape.dim[3],
        .kh = (size_t)w->dim[2], .kw = (size_t)w->dim[3],
        .stride_h = stride ? (size_t)stride[0] : 1, .stride_w = stride ? (size_t)stride[1] : 1,
        .pad_top = pads ? (size_t)pads[0] : 0, .pad_left = pads ? (size_t)pads[1] : 0,
        .dil_h = dil ? (size_t)dil[0] : 1, .dil_w = dil ? (size_t)dil[1] : 1,
        .oh = (size_t)out->shape.dim[2], .ow = (size_t)out->shape.dim[3],
    };
}

/* One output channel: bias in integers, then back to real units, by way of the output's codes if it has them. */
static void finish_channel(const struct qop *q, size_t m, size_t n, int32_t *acc, float *y)
{
    if (q->bias)
        for (size_t i = 0; i < n; i++)
            acc[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)q->bias[m]);      /* wraps, as ONNX Runtime's does */
    if (!q->requantize) {
        dequantize_acc(1, n, acc, n, q->scale + m, 1, NULL, y, n);
        return;
    }
    dequantize_acc(1, n, acc, n, q->rescale + m, 1, NULL, y, n);
    quantize_to_float(n, y, 1.0f, q->out.zero, q->out.qmin, q->out.qmax, y);
    for (size_t i = 0; i < n; i++)
        y[i] *= q->out.scale;
    for (size_t i = 0; q->post && i < n; i++)
        y[i] *= q->post[m];
}

static void run_conv(const struct qop *q, const struct conv_shape *s, const struct tensor *x, const struct tensor *w,
                     struct tensor *out, float *scratch)
{
    struct parts part = parts_conv(x, w, out);
    float *codes = scratch, *cols = codes + part.x, *sums = cols + part.y;
    int32_t *acc = (int32_t *)(void *)(sums + part.sums);
    size_t image = s->c * s->h * s->w, positions = s->oh * s->ow, window = s->c * s->kh * s->kw;
    for (size_t b = 0; b < (size_t)x->shape.dim[0]; b++) {
        quantize_to_float(image, (const float *)x->data + b * image, q->ax.scale, q->ax.zero, q->ax.qmin, q->ax.qmax, codes);
        im2col(s, codes, cols);
        gemm_exact(true, q->n, positions, window, q->w, window, q->w_reach, cols, window, affine_reach(q->ax), acc,
                   positions, sums);
        float *y = (float *)out->data + b * q->n * positions;
        for (size_t m = 0; m < q->n; m++)
            finish_channel(q, m, positions, acc + m * positions, y + m * positions);
    }
}

bool qop_run(const struct qop *q, const struct graph *g, const struct node *node, const struct tensor *x,
             const struct tensor *y, struct tensor *out, void *scratch, struct err *e)
{
    switch (q->kind) {
    case QOP_MATMUL:
        run_matmul(q, x, out, scratch);
        return true;
    case QOP_FLOAT:
        run_float(q, x, out, scratch);
        return true;
    case QOP_PRODUCT:
    case QOP_HALF:
        run_product(q, x, y, out, scratch);
        return true;
    case QOP_LEVELS:
        run_levels(q, x, out);
        return true;
    case QOP_CONV: {
        const struct value *v = &g->values[node->in[1]];
        struct tensor w = { .dtype = v->dtype, .shape = v->shape };
        struct conv_shape s = qop_conv_shape(g, node, x, out);
        run_conv(q, &s, x, &w, out, scratch);
        return true;
    }
    default:
        return err_set(e, ERR_BUG, node->name, "not a quantized node");
    }
}
