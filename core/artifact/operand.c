/* operand.c - what a layer reads, as codes: whole, in parts, or found while the artifact runs. */
#include "core/artifact/writer.h"

/* x * mul (+ shift): a vector along the last axis, which MatMulAddFusion has no eye for. */
static const char *scaled(struct writer *w, const char *x, const struct artifact_input *in, int64_t channels)
{
    struct builder *b = &w->b;
    const char *y = builder_name(b, x, "_scaled");
    const char *mul = builder_init_tensor(b, builder_name(b, x, "_channel_factors"), DT_F32, 1, &channels, in->mul);
    builder_node_named(b, builder_name(b, x, "_Mul"), "Mul", x, mul, "", y, NULL, 0);
    if (!in->shift)
        return y;
    const char *shift = builder_init_tensor(b, builder_name(b, x, "_channel_offsets"), DT_F32, 1, &channels, in->shift);
    const char *z = builder_name(b, x, "_shifted");
    builder_node_named(b, builder_name(b, x, "_Add"), "Add", y, shift, "", z, NULL, 0);
    return z;
}

static bool same_input(const struct artifact_input *a, const struct artifact_input *b)
{
    return a->dynamic == b->dynamic && a->a.scale == b->a.scale && a->fraction == b->fraction && a->a.zero == b->a.zero && a->a.qmax == b->a.qmax
        && a->mul == b->mul && a->shift == b->shift;
}

/* Codes that no integer type holds: Div, Round, Clip, Mul in float. */
static const char *fake_quantized(struct writer *w, const char *x, const char *from, const struct artifact_input *in)
{
    struct builder *b = &w->b;
    const char *scale = builder_scalar_f32(b, builder_name(b, x, "_scale"), in->a.scale);
    const char *steps = builder_name(b, x, "_steps"), *round = builder_name(b, x, "_rounded"), *clip = builder_name(b, x, "_clipped");
    const char *min = builder_scalar_f32(b, builder_name(b, x, "_first"), (float)(in->a.qmin - in->a.zero) - in->fraction);
    const char *max = builder_scalar_f32(b, builder_name(b, x, "_last"), (float)(in->a.qmax - in->a.zero) - in->fraction);
    const char *y = builder_name(b, x, "_dequantized");
    builder_node_named(b, builder_name(b, x, "_Div"), "Div", from, scale, "", steps, NULL, 0);
    builder_node_named(b, builder_name(b, x, "_Round"), "Round", steps, "", "", round, NULL, 0);
    builder_node_named(b, builder_name(b, x, "_Clip"), "Clip", round, min, max, clip, NULL, 0);
    builder_node_named(b, builder_name(b, x, "_from_steps"), "Mul", clip, scale, "", y, NULL, 0);
    return y;
}

/* "x" -> Clip? -> Q */
static struct codes coded(struct writer *w, const char *x, const char *from, const struct affine *a)
{
    struct builder *b = &w->b;
    struct codes c = { .scale = builder_scalar_f32(b, builder_name(b, x, "_scale"), a->scale),
                       .zero = builder_scalar_code(b, builder_name(b, x, "_zero_point"), a->dtype, a->zero), .q = builder_name(b, x, "_quantized") };
    bool whole = a->dtype == DT_U8 ? a->qmax == 255 : a->qmax == 127;
    if (!whole) {
        float lo, hi;
        quantizer_limits(a, &lo, &hi);
        const char *clipped = builder_name(b, x, "_clipped");
        const char *min = builder_scalar_f32(b, builder_name(b, x, "_clip_min"), lo);
        const char *max = builder_scalar_f32(b, builder_name(b, x, "_clip_max"), hi);
        builder_node_named(b, builder_name(b, x, "_Clip"), "Clip", from, min, max, clipped, NULL, 0);
        from = clipped;
    }
    builder_node_named(b, builder_name(b, x, "_QuantizeLinear"), "QuantizeLinear", from, c.scale, c.zero, c.q, NULL, 0);
    return c;
}

static const char *dequantized(struct writer *w, const char *x, const struct codes *c, const char *q)
{
    struct builder *b = &w->b;
    const char *y = builder_name(b, x, "_dequantized");
    builder_node_named(b, builder_name(b, x, "_DequantizeLinear"), "DequantizeLinear", q, c->scale, c->zero, y, NULL, 0);
    return y;
}

static const struct pair *find_pair(const struct writer *w, int value, size_t size, const struct artifact_input *in)
{
    for (int i = 0; i < w->n_pairs; i++)
        if (w->pairs[i].value == value && w->pairs[i].size == size && same_input(&w->pairs[i].in, in))
            return &w->pairs[i];
    return NULL;
}

/* "x" -> Mul? -> Add? */
static const char *scaled_value(struct writer *w, const struct artifact_layer *l, int value, const struct artifact_input *in)
{
    const char *x = builder_value(&w->b, value);
    return in->mul ? scaled(w, x, in, l->l->k) : x;
}

/* "x" -> Mul? -> Add? -> codes and back; one for each value and quantizer. */
const char *write_codes(struct writer *w, const struct artifact_layer *l, int value, const struct artifact_input *in)
{
    const struct pair *there = find_pair(w, value, 0, in);
    if (there)
        return there->name;
    const char *x = builder_value(&w->b, value), *from = scaled_value(w, l, value, in), *y;
    if (in->fraction != 0) {
        y = fake_quantized(w, x, from, in);
    } else {
        struct codes c = coded(w, x, from, &in->a);
        y = dequantized(w, x, &c, c.q);
    }
    w->pairs[w->n_pairs++] = (struct pair){ .value = value, .in = *in, .from = from, .name = y };
    return y;
}

/* "x" -> Mul? -> Add? -> DynamicQuantizeLinear */
struct codes write_dynamic_codes(struct writer *w, const struct artifact_layer *l)
{
    struct builder *b = &w->b;
    const struct pair *there = find_pair(w, l->l->x, 0, &l->x);
    if (there)
        return there->codes;
    const char *x = builder_value(b, l->l->x), *from = scaled_value(w, l, l->l->x, &l->x);
    struct codes c = { builder_name(b, x, "_quantized"), builder_name(b, x, "_scale"), builder_name(b, x, "_zero_point") };
    struct onnx_node *n = builder_node(b, builder_name(b, x, "_DynamicQuantizeLinear"), "DynamicQuantizeLinear", 1, 3, 0);
    if (n) {
        n->inputs[0] = from;
        n->outputs[0] = c.q;
        n->outputs[1] = c.scale;
        n->outputs[2] = c.zero;
    }
    w->pairs[w->n_pairs++] = (struct pair){ .value = l->l->x, .in = l->x, .from = from, .codes = c };
    return c;
}

/* "codes" -> Split along the last axis; the parts' names. */
static const char **split(struct writer *w, const char *x, const char *codes, size_t n, size_t size)
{
    struct builder *b = &w->b;
    const int64_t count = (int64_t)n;
    int64_t *sizes = arena_array(b->mem, n, sizeof *sizes, b->e);
    struct onnx_node *node = builder_node(b, builder_name(b, x, "_Split"), "Split", 2, n, 1);
    if (!sizes || !node) {
        b->bad = true;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        sizes[i] = (int64_t)size;
        node->outputs[i] = builder_name(b, x, "_part");
    }
    const char **parts = node->outputs;
    node->inputs[0] = codes;
    node->attrs[0] = (struct onnx_attr){ .name = "axis", .type = ONNX_INT, .i = -1 };
    node->inputs[1] = builder_init_tensor(b, builder_name(b, x, "_part_sizes"), DT_I64, 1, &count, sizes);
    return parts;
}

/* "x" -> Mul? -> Add? -> codes -> parts of `size` columns, and back unless they are found at run time: [k / size] names. */
const char *const *write_parts(struct writer *w, const struct artifact_layer *l, size_t size)
{
    const struct artifact_input *in = &l->x;
    const struct pair *there = find_pair(w, l->l->x, size, in);
    size_t n = (size_t)l->l->k / size;
    if (there)
        return there->parts;
    const char *x = builder_value(&w->b, l->l->x);
    const char *from = in->dynamic ? "" : scaled_value(w, l, l->l->x, in);
    struct codes c = in->dynamic ? write_dynamic_codes(w, l) : coded(w, x, from, &in->a);
    const char **parts = split(w, x, c.q, n, size), **names = arena_array(w->b.mem, n, sizeof *names, w->b.e);
    if (!parts || !names) {
        w->b.bad = true;
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        names[i] = in->dynamic ? parts[i] : dequantized(w, x, &c, parts[i]);
    w->pairs[w->n_pairs++] = (struct pair){ .value = l->l->x, .size = size, .in = *in, .from = from, .parts = names };
    return names;
}

const char *written_input(const struct writer *w, const struct artifact_layer *l)
{
    const struct pair *pair = find_pair(w, l->l->x, 0, &l->x);
    if (!pair)
        pair = find_pair(w, l->l->x, l->w->group, &l->x);
    return pair ? pair->from : "";
}
