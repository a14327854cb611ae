/* weight.c - the codes of a weight as they are stored, and what makes values of them. */
#include "core/artifact/writer.h"

static const char *packed_init(struct writer *w, const char *stem, const int8_t *codes, size_t count, int rank, const int64_t *dims)
{
    struct builder *b = &w->b;
    uint8_t *packed = arena_alloc(b->mem, (count + 1) / 2, b->e);
    if (!packed) {
        b->bad = true;
        return "";
    }
    pack_int4(count, codes, packed);
    return builder_init_tensor(b, builder_name(b, stem, ".weight_int4"), DT_I4, rank, dims, packed);
}

/* INT4 -> Cast to INT8: 4 bits in the file, 8 where they are multiplied. */
static const char *packed_codes(struct writer *w, const struct artifact_layer *l, const int8_t *codes, const struct weight_slice *s)
{
    struct builder *b = &w->b;
    const char *out = builder_name(b, l->l->name, ".weight_quantized");
    const char *int4 = packed_init(w, l->l->name, codes, s->k * l->w->n, s->rank, s->dims);
    builder_node_named(b, builder_name(b, l->l->name, ".weight_Cast"), "Cast", int4, "", "", out, "to", DT_I8);
    return out;
}

/* ---- two levels: (stored - stored_zero) * step ---- */

/* What is stored of codes that steps multiply. */
static const int8_t *stored_codes(struct writer *w, const struct artifact_layer *l)
{
    const struct qweight *q = l->w;
    int8_t *stored = arena_alloc(w->b.mem, q->k * q->n, w->b.e);
    if (!stored)
        w->b.bad = true;
    for (size_t k = 0; stored && k < q->k; k++)
        for (size_t c = 0; c < q->n; c++) {
            size_t at = k / q->step_group * q->n + c;
            stored[k * q->n + c] = (int8_t)(q->codes[k * q->n + c] / q->step[at] + (q->stored_zero ? q->stored_zero[at] : 0));
        }
    return stored;
}

static const char *as_int32(struct writer *w, const struct artifact_layer *l, const char *x)
{
    const char *y = builder_name(&w->b, l->l->name, ".weight_int32");
    builder_node_named(&w->b, builder_name(&w->b, l->l->name, ".weight_Cast"), "Cast", x, "", "", y, "to", DT_I32);
    return y;
}

static const char *applied(struct writer *w, const struct artifact_layer *l, const char *op, const char *x, const char *by)
{
    const char *y = builder_name(&w->b, l->l->name, ".weight_int32");
    builder_node_named(&w->b, builder_name(&w->b, l->l->name, ".weight_step"), op, x, by, "", y, NULL, 0);
    return y;
}

static const char *two_level_codes(struct writer *w, const struct artifact_layer *l)
{
    struct builder *b = &w->b;
    const struct qweight *q = l->w;
    const char *stem = l->l->name;
    const int8_t *stored = stored_codes(w, l);
    int64_t groups = (int64_t)(q->k / q->step_group), two = 2;
    const int64_t dims[] = { groups, (int64_t)q->step_group, (int64_t)q->n }, one[] = { groups, 1, (int64_t)q->n };
    int64_t *matrix = arena_array(b->mem, 2, sizeof *matrix, b->e);
    if (!stored || !matrix) {
        b->bad = true;
        return "";
    }
    matrix[0] = (int64_t)q->k;
    matrix[1] = (int64_t)q->n;
    const char *x = as_int32(w, l, packed_init(w, stem, stored, q->k * q->n, 3, dims));
    if (q->stored_zero)
        x = applied(w, l, "Sub", x, as_int32(w, l, builder_init_tensor(b, builder_name(b, stem, ".weight_int4_zero"), DT_I8, 3, one, q->stored_zero)));
    x = applied(w, l, "Mul", x, as_int32(w, l, builder_init_tensor(b, builder_name(b, stem, ".weight_steps"), DT_U8, 3, one, q->step)));
    const char *y = builder_name(b, stem, ".weight_matrix"), *out = builder_name(b, stem, ".weight_quantized");
    builder_node_named(b, builder_name(b, stem, ".weight_Reshape"), "Reshape", x,
                       builder_init_tensor(b, builder_name(b, stem, ".weight_shape"), DT_I64, 1, &two, matrix), "", y, NULL, 0);
    builder_node_named(b, builder_name(b, stem, ".weight_Cast"), "Cast", y, "", "", out, "to", DT_I8);
    return out;
}

/* ---- */

const char *write_weight_codes(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s)
{
    bool packed = w->a->packed && l->w->bits <= 4;
    const int8_t *codes = l->w->codes + s->first * l->w->n;
    if (packed && l->w->step)
        return two_level_codes(w, l);
    return packed ? packed_codes(w, l, codes, s)
                  : builder_init_tensor(&w->b, builder_name(&w->b, l->l->name, ".weight_quantized"), DT_I8, s->rank, s->dims, codes);
}

const char *write_weight_zeros(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s)
{
    struct builder *b = &w->b;
    int64_t n = (int64_t)l->w->n;
    const int8_t *zeros = l->w->zero ? l->w->zero + (l->w->group ? s->first / l->w->group * l->w->n : 0) : arena_alloc(b->mem, l->w->n, b->e);
    if (!zeros)
        b->bad = true;
    return builder_init_tensor(b, builder_name(b, l->l->name, ".weight_zero_point"), DT_I8, 1, &n, zeros);
}

const char *write_weight(struct writer *w, const struct artifact_layer *l, const struct weight_slice *s)
{
    struct builder *b = &w->b;
    const char *stem = l->l->name;
    int64_t n = (int64_t)l->w->n;
    const char *codes = write_weight_codes(w, l, s);
    const char *scale = builder_init_tensor(b, builder_name(b, stem, ".weight_scale"), DT_F32, 1, &n, s->scales);
    const char *zero = write_weight_zeros(w, l, s);
    const char *out = builder_name(b, stem, ".weight_dequantized");
    builder_node_named(b, builder_name(b, stem, ".weight_DequantizeLinear"), "DequantizeLinear", codes, scale, zero, out,
                       "axis", s->axis);
    return out;
}
