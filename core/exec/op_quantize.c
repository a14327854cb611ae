/*
 * op_quantize.c - QuantizeLinear and DequantizeLinear: per tensor, per axis, in blocks.
 *
 * To agree with ONNX Runtime to the bit, both compute in float32 whatever the types are:
 * q = saturate(rint(x / scale) + zero), with a division; NaN gives the lowest code.
 */
#include "core/exec/op_internal.h"

#include <math.h>

/*
 * The tensor as [outer, axis, inner], and which scale an element has: scale and zero point are
 * [outer_scales, scales along the axis, inner_scales] with 1 for what they do not depend on.
 */
struct grid {
    int64_t outer, axis, inner;
    int64_t block;                         /* elements of the axis that share a scale */
    int64_t pitch_outer, pitch_axis, pitch_inner;   /* in scales; 0: does not depend on it */
};

static struct grid grid_of(const struct op_args *a)
{
    const struct shape *s = &a->in[0]->shape, *scale = &a->in[1]->shape;
    if (shape_elements(scale) == 1 && scale->rank < 2)
        return (struct grid){ .outer = 1, .axis = 1, .inner = shape_elements(s), .block = 1 };

    int axis = op_axis(node_int(a->node, "axis", 1), s->rank);
    struct grid g = { shape_count(s, 0, axis), s->dim[axis], shape_count(s, axis + 1, s->rank), .block = 1 };
    if (scale->rank == 1) {
        g.pitch_axis = 1;
        return g;
    }
    g.block = node_int(a->node, "block_size", 1);
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
