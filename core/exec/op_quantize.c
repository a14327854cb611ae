/*
 * op_quantize.c - QuantizeLinear and DequantizeLinear: per tensor, per axis, in blocks.
 *
 * To agree with ONNX Runtime to the bit, both compute in float32 whatever the types are:
 * q = saturate(rint(x / scale) + zero), with a division; NaN gives the lowest code.
 */
#include "core/exec/op_internal.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>

/*
 * The tensor as [outer, axis, inner], and which scale an element has: scale and zero point are
 * [outer_scales, scales along the axis, inner_scales] with 1 for what they do not depend on.
 */
struct grid {
    int64_t outer, axis, inner;
    int64_t block;                         /* elements of the axis that share a scale */
    int64_t pitch_outer, pitch_axis, pitch_inner;   /* in scales; 0: does not depend on it; inner: 0 or 1 */
};

static struct grid grid_of(const struct op_args *a)
{
    const struct shape *s = &a->in[0]->shape, *scale = &a->in[1]->shape;
    int64_t block = node_int(a->node, "block_size", 0);
    if (block == 0 && shape_elements(scale) == 1)
        return (struct grid){ .outer = 1, .axis = 1, .inner = shape_elements(s), .block = 1 };

    int axis = op_axis(node_int(a->node, "axis", 1), s->rank);
    struct grid g = { shape_count(s, 0, axis), s->dim[axis], shape_count(s, axis + 1, s->rank), .block = 1 };
    if (block == 0 && g.inner == 1)            /* a row of scales */
        return (struct grid){ .outer = 1, .axis = g.outer, .inner = g.axis, .block = 1, .pitch_inner = 1 };
    if (block == 0) {
        g.pitch_axis = 1;
        return g;
    }
    g.block = block;
    g.pitch_inner = 1;
    g.pitch_axis = g.inner;
    g.pitch_outer = scale->dim[axis] * g.inner;
    return g;
}

static int64_t scale_index(const struct grid *g, int64_t o, int64_t x, int64_t i)
{
    return o * g->pitch_outer + x / g->block * g->pitch_axis + i * g->pitch_inner;
}

struct codes { float lo, hi; };

/* The range of codes of a quantized type; lo > hi: not one. */
static struct codes codes_of(enum dtype t)
{
    switch (t) {
    case DT_U8: return (struct codes){ 0, 255 };
    case DT_I8: return (struct codes){ -128, 127 };
    case DT_U16: return (struct codes){ 0, 65535 };
    case DT_I16: return (struct codes){ -32768, 32767 };
    case DT_U4: return (struct codes){ 0, 15 };
    case DT_I4: return (struct codes){ -8, 7 };
    default: return (struct codes){ 1, 0 };
    }
}

/* The comparison is written so that NaN gives the lowest code, as in ONNX Runtime (measured: every
 * type, every granularity, every position in the row). */
static float quantize(float x, float scale, float zero, struct codes c)
{
    float q = rintf(x / scale) + zero;
    return !(q > c.lo) ? c.lo : q > c.hi ? c.hi : q;
}

bool op_quantize(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    const struct tensor *zero = op_in(a, 2);
    struct codes codes = codes_of(a->out[0].dtype);
    if (!op_elems(a, t, e))
        return false;
    if (codes.lo > codes.hi)
        return op_refuse(a, a->out[0].dtype, e);

    struct grid g = grid_of(a);
    int64_t at = 0;
    for (int64_t o = 0; o < g.outer; o++)
        for (int64_t x = 0; x < g.axis; x++)
            for (int64_t i = 0; i < g.inner; i++, at++) {
                int64_t k = scale_index(&g, o, x, i);
                float q = quantize((float)t[1]->get_real(a->in[0]->data, at), (float)t[2]->get_real(a->in[1]->data, k),
                                   zero ? (float)t[3]->get_int(zero->data, k) : 0, codes);
                t[0]->put_int(a->out[0].data, at, (int64_t)q);
            }
    return true;
}

bool op_dequantize(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    const struct tensor *zero = op_in(a, 2);
    if (!op_elems(a, t, e))
        return false;
    if (t[1]->real)
        return op_refuse(a, a->in[0]->dtype, e);

    struct grid g = grid_of(a);
    int64_t at = 0;
    for (int64_t o = 0; o < g.outer; o++)
        for (int64_t x = 0; x < g.axis; x++)
            for (int64_t i = 0; i < g.inner; i++, at++) {
                int64_t k = scale_index(&g, o, x, i);
                int64_t q = t[1]->get_int(a->in[0]->data, at) - (zero ? t[3]->get_int(zero->data, k) : 0);
                float v = (float)q * (float)t[2]->get_real(a->in[1]->data, k);
                t[0]->put_real(a->out[0].data, at, (double)v);
            }
    return true;
}

/* ---- float32 and 8-bit codes ---- */

/* Row (o, x) of the grid: `inner` elements with one scale, or each with its own. */
struct row {
    int64_t at, n;
    const float *scale;
    int zero;                                  /* of the first */
    const uint8_t *zeros_u8;                   /* NULL: no zero point */
    const int8_t *zeros_i8;
    bool each;
};

static struct row row_of(const struct op_args *a, const struct grid *g, int64_t o, int64_t x)
{
    const struct tensor *zero = op_in(a, 2);
    int64_t k = scale_index(g, o, x, 0);
    struct row r = { .at = (o * g->axis + x) * g->inner, .n = g->inner, .each = g->pitch_inner,
                     .scale = (const float *)a->in[1]->data + k };
    if (zero && zero->dtype == DT_U8) {
        r.zeros_u8 = (const uint8_t *)zero->data + k;
        r.zero = r.zeros_u8[0];
    } else if (zero) {
        r.zeros_i8 = (const int8_t *)zero->data + k;
        r.zero = r.zeros_i8[0];
    }
    return r;
}

/* Both directions take float32 on one side and u8 or i8 on the other, with a zero point of that type. */
static bool is_plain(const struct op_args *a, enum dtype real, enum dtype code)
{
    const struct tensor *zero = op_in(a, 2);
    return real == DT_F32 && (code == DT_U8 || code == DT_I8) && a->in[1]->dtype == DT_F32 && (!zero || zero->dtype == code);
}

#define ROW_LOOPS(name, type, lo, hi)                                                                         \
    KERNEL_CLONES                                                                                             \
    static void quantize_each_##name(int64_t n, const float *x, const float *scale, const type *zero, type *q)\
    {                                                                                                         \
        KERNEL_LOOP                                                                                           \
        for (int64_t i = 0; i < n; i++)                                                                       \
            q[i] = (type)(int)quantize(x[i], scale[i], zero ? zero[i] : 0, (struct codes){ lo, hi });         \
    }                                                                                                         \
    KERNEL_CLONES                                                                                             \
    static void dequantize_each_##name(int64_t n, const type *q, const float *scale, const type *zero, float *x) \
    {                                                                                                         \
        KERNEL_LOOP                                                                                           \
        for (int64_t i = 0; i < n; i++)                                                                       \
            x[i] = (float)(q[i] - (zero ? zero[i] : 0)) * scale[i];                                           \
    }
ROW_LOOPS(u8, uint8_t, 0, 255)
ROW_LOOPS(i8, int8_t, -128, 127)

static void quantize_row(const struct row *r, const float *x, struct tensor *out)
{
    size_t n = (size_t)r->n;
    if (out->dtype == DT_U8 && r->each)
        quantize_each_u8(r->n, x + r->at, r->scale, r->zeros_u8, (uint8_t *)out->data + r->at);
    else if (out->dtype == DT_U8)
        quantize_u8(n, x + r->at, *r->scale, r->zero, 0, UINT8_MAX, (uint8_t *)out->data + r->at);
    else if (r->each)
        quantize_each_i8(r->n, x + r->at, r->scale, r->zeros_i8, (int8_t *)out->data + r->at);
    else
        quantize_i8(n, x + r->at, *r->scale, r->zero, INT8_MIN, INT8_MAX, (int8_t *)out->data + r->at);
}

static void dequantize_row(const struct row *r, const struct tensor *q, float *out)
{
    size_t n = (size_t)r->n;
    if (q->dtype == DT_U8 && r->each)
        dequantize_each_u8(r->n, (const uint8_t *)q->data + r->at, r->scale, r->zeros_u8, out + r->at);
    else if (q->dtype == DT_U8)
        dequantize_u8(n, (const uint8_t *)q->data + r->at, *r->scale, r->zero, out + r->at);
    else if (r->each)
        dequantize_each_i8(r->n, (const int8_t *)q->data + r->at, r->scale, r->zeros_i8, out + r->at);
    else
        dequantize_i8(n, (const int8_t *)q->data + r->at, *r->scale, r->zero, out + r->at);
}

bool op_quantize_fast(const struct op_args *a, struct err *e)
{
    struct grid g = grid_of(a);
    if (!is_plain(a, a->in[0]->dtype, a->out[0].dtype))
        return op_quantize(a, e);
    for (int64_t o = 0; g.inner && o < g.outer; o++)
        for (int64_t x = 0; x < g.axis; x++) {
            struct row r = row_of(a, &g, o, x);
            quantize_row(&r, a->in[0]->data, &a->out[0]);
        }
    return true;
}

bool op_dequantize_fast(const struct op_args *a, struct err *e)
{
    struct grid g = grid_of(a);
    if (!is_plain(a, a->out[0].dtype, a->in[0]->dtype))
        return op_dequantize(a, e);
    for (int64_t o = 0; g.inner && o < g.outer; o++)
        for (int64_t x = 0; x < g.axis; x++) {
            struct row r = row_of(a, &g, o, x);
            dequantize_row(&r, a->in[0], a->out[0].data);
        }
    return true;
}
