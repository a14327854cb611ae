#include "core/artifact/artifact.h"

#include "core/artifact/builder.h"
#include "core/artifact/opset.h"
#include "core/base/io.h"

#include <string.h>

struct writer {
    const struct artifact_spec *a;
    struct builder b;
    const struct artifact_layer **at;      /* [n_nodes]: the quantized layer of a node */
    const struct artifact_layer **bias_at; /* [n_nodes]: the quantized layer whose bias this Add is */
    struct pair { int value; struct artifact_input in; const char *name; } *pairs;   /* Q/DQ pairs so far */
    int n_pairs;
};

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
    return a->a.scale == b->a.scale && a->fraction == b->fraction && a->a.zero == b->a.zero && a->a.qmax == b->a.qmax
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

/* "x" -> Clip? -> Q -> DQ */
static const char *coded(struct writer *w, const char *x, const char *from, const struct affine *a)
{
    struct builder *b = &w->b;
    const char *scale = builder_scalar_f32(b, builder_name(b, x, "_scale"), a->scale);
    const char *zero = builder_scalar_code(b, builder_name(b, x, "_zero_point"), a->dtype, a->zero);
    const char *q = builder_name(b, x, "_quantized"), *dq = builder_name(b, x, "_dequantized");
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
    builder_node_named(b, builder_name(b, x, "_QuantizeLinear"), "QuantizeLinear", from, scale, zero, q, NULL, 0);
    builder_node_named(b, builder_name(b, x, "_DequantizeLinear"), "DequantizeLinear", q, scale, zero, dq, NULL, 0);
    return dq;
}

/* "x" -> Mul? -> Add? -> codes and back; one for each value and quantizer. */
static const char *quantized(struct writer *w, const struct artifact_layer *l, int value, const struct artifact_input *in)
{
    for (int i = 0; i < w->n_pairs; i++)
        if (w->pairs[i].value == value && same_input(&w->pairs[i].in, in))
            return w->pairs[i].name;
    const char *x = builder_value(&w->b, value), *from = in->mul ? scaled(w, x, in, l->l->k) : x;
    const char *y = in->fraction != 0 ? fake_quantized(w, x, from, in) : coded(w, x, from, &in->a);
    w->pairs[w->n_pairs++] = (struct pair){ value, *in, y };
    return y;
}

/* INT4 -> Cast to INT8: 4 bits in the file, 8 where they are multiplied. */
static const char *packed_codes(struct writer *w, const struct artifact_layer *l, int rank, const int64_t *dims)
{
    struct builder *b = &w->b;
    size_t count = l->w->k * l->w->n;
    uint8_t *packed = arena_alloc(b->mem, (count + 1) / 2, b->e);
    if (!packed) {
        b->bad = true;
        return "";
    }
    pack_int4(count, l->w->codes, packed);
    const char *out = builder_name(b, l->l->name, ".weight_quantized");
    const char *codes = builder_init_tensor(b, builder_name(b, l->l->name, ".weight_int4"), DT_I4, rank, dims, packed);
    builder_node_named(b, builder_name(b, l->l->name, ".weight_Cast"), "Cast", codes, "", "", out, "to", DT_I8);
    return out;
}

/* Codes of a weight -> DQ along its output axis. */
static const char *dequantized_weight(struct writer *w, const struct artifact_layer *l, const float *scales, int rank,
                                      const int64_t *dims, int axis)
{
    struct builder *b = &w->b;
    const char *stem = l->l->name;
    int64_t n = (int64_t)l->w->n;
    void *zeros = l->w->zero ? l->w->zero : arena_alloc(b->mem, l->w->n, b->e);
    if (!zeros)
        b->bad = true;
    const char *codes = w->a->packed && l->w->bits <= 4 ? packed_codes(w, l, rank, dims)
                      : builder_init_tensor(b, builder_name(b, stem, ".weight_quantized"), DT_I8, rank, dims, l->w->codes);
    const char *scale = builder_init_tensor(b, builder_name(b, stem, ".weight_scale"), DT_F32, 1, &n, scales);
    const char *zero = builder_init_tensor(b, builder_name(b, stem, ".weight_zero_point"), DT_I8, 1, &n, zeros);
    const char *out = builder_name(b, stem, ".weight_dequantized");
    builder_node_named(b, builder_name(b, stem, ".weight_DequantizeLinear"), "DequantizeLinear", codes, scale, zero, out,
                       "axis", axis);
    return out;
}

static const float *bias_data(const struct writer *w, const struct artifact_layer *l)
{
    return qweight_bias(l->w, w->a->g, l->l);
}

static const char *bias_of(struct writer *w, const struct artifact_layer *l)
{
    const int64_t dims[] = { 1, 1, l->l->n };
    int rank = w->a->g->values[l->l->x].shape.rank == 2 ? 1 : 3;
    return builder_init_tensor(&w->b, builder_name(&w->b, l->l->name, ".bias_row"), DT_F32, rank, dims + 3 - rank, bias_data(w, l));
}

/* MatMul; Gemm where the input is a matrix, with its bias behind it. */
static void write_linear(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    struct builder *b = &w->b;
    const struct graph *g = w->a->g;
    const int64_t dims[] = { l->l->k, l->l->n };
    const char *x = quantized(w, l, l->l->x, &l->x), *weight = dequantized_weight(w, l, l->w->scale, 2, dims, 1);
    const char *y = builder_value(b, n->out[0]);
    bool matrix = g->values[l->l->x].shape.rank == 2;
    bool own_bias = bias_data(w, l) && (l->l->bias_node < 0 || l->l->bias_node == l->l->node);
    const char *product = own_bias ? builder_name(b, y, "_product") : y;
    builder_node_named(b, n->name, matrix ? "Gemm" : "MatMul", x, weight, "", product, NULL, 0);
    if (own_bias)
        builder_node_named(b, builder_name(b, n->name, "_Add"), "Add", product, bias_of(w, l), "", y, NULL, 0);
}

static void write_product(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    const char *x = l->x.levels ? builder_value(&w->b, l->l->x) : quantized(w, l, l->l->x, &l->x);
    const char *other = quantized(w, l, l->l->other, &l->other);
    builder_node_named(&w->b, n->name, "MatMul", x, other, "", builder_value(&w->b, n->out[0]), NULL, 0);
}

/* The convolution's bias in units of its sums; as plain float where the target takes no int32 DequantizeLinear. */
static const char *conv_bias(struct writer *w, const struct artifact_layer *l, const struct conv_scales *s)
{
    struct builder *b = &w->b;
    int64_t n = l->l->n;
    if (!s->bias)
        return "";
    if (w->a->target == RECIPE_TARGET_TENSORRT || w->a->target == RECIPE_TARGET_PORTABLE)
        return builder_init_tensor(b, builder_name(b, l->l->name, ".bias_row"), DT_F32, 1, &n, s->bias);
    int32_t *codes = arena_array(b->mem, (uint64_t)n, sizeof *codes, b->e);
    if (!codes) {
        b->bad = true;
        return "";
    }
    for (int64_t i = 0; i < n; i++)
        codes[i] = quantizer_bias(s->bias[i], s->sums[i]);
    const char *out = builder_name(b, l->l->name, ".bias_dequantized");
    builder_node_named(b, builder_name(b, l->l->name, ".bias_DequantizeLinear"), "DequantizeLinear",
                       builder_init_tensor(b, builder_name(b, l->l->name, ".bias_quantized"), DT_I32, 1, &n, codes),
                       builder_init_tensor(b, builder_name(b, l->l->name, ".bias_scale"), DT_F32, 1, &n, s->sums), "", out,
                       "axis", 0);
    return out;
}

/* raw -> Q -> DQ (-> Mul by what undoes the channels' factors) -> y */
static void write_conv_output(struct writer *w, const struct artifact_layer *l, const struct conv_scales *s, const char *raw, const char *y)
{
    struct builder *b = &w->b;
    const char *q = builder_name(b, y, "_quantized_out"), *dq = s->post ? builder_name(b, y, "_scaled_out") : y;
    const char *scale = builder_scalar_f32(b, builder_name(b, y, "_out_scale"), l->out.a.scale);
    const char *zero = builder_scalar_code(b, builder_name(b, y, "_out_zero_point"), l->out.a.dtype, l->out.a.zero);
    builder_node_named(b, builder_name(b, y, "_out_QuantizeLinear"), "QuantizeLinear", raw, scale, zero, q, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_out_DequantizeLinear"), "DequantizeLinear", q, scale, zero, dq, NULL, 0);
    const int64_t dims[] = { l->l->n, 1, 1 };
    if (s->post)
        builder_node_named(b, builder_name(b, y, "_out_Mul"), "Mul", dq,
                           builder_init_tensor(b, builder_name(b, y, "_out_channel_factors"), DT_F32, 3, dims, s->post), "", y, NULL, 0);
}

static void write_conv(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    struct builder *b = &w->b;
    const struct shape *s = &w->a->g->values[l->l->weight].shape;
    struct conv_scales scales;
    if (!conv_scales(l->l, l->w, w->a->g, l->x.a.scale, l->out.mul, b->mem, &scales, b->e)) {
        b->bad = true;
        return;
    }
    const char *x = quantized(w, l, l->l->x, &l->x), *weight = dequantized_weight(w, l, scales.weight, s->rank, s->dim, 0);
    const char *bias = conv_bias(w, l, &scales);
    const char *y = builder_value(b, n->out[0]), *raw = builder_name(b, y, "_raw");
    struct onnx_node *conv = builder_node(b, n->name, "Conv", bias[0] ? 3 : 2, 1, n->n_attrs);
    if (!conv)
        return;
    conv->inputs[0] = x;
    conv->inputs[1] = weight;
    if (bias[0])
        conv->inputs[2] = bias;
    conv->outputs[0] = raw;
    memcpy(conv->attrs, n->attrs, n->n_attrs * sizeof *n->attrs);
    write_conv_output(w, l, &scales, raw, y);
}

/* The Add behind a quantized MatMul: the bias in a shape that keeps the quantized form. */
static void write_bias_add(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    struct builder *b = &w->b;
    int product = n->in[0] == l->l->bias ? n->in[1] : n->in[0];
    builder_node_named(b, n->name, "Add", builder_value(b, product), bias_of(w, l), "", builder_value(b, n->out[0]), NULL, 0);
}

/* An input that a method changed for this node alone: a tensor of its own. */
static const char *edited(struct writer *w, const struct node *n, int input, const struct edit *edit)
{
    const struct tensor *t = lowering_edited(edit, input);
    if (!t)
        return builder_value(&w->b, n->in[input]);
    return builder_init_tensor(&w->b, builder_name(&w->b, w->a->g->values[n->in[input]].name, "_folded"), t->dtype, t->shape.rank,
                               t->shape.dim, t->data);
}

static void write_plain(struct writer *w, const struct node *n, const struct edit *edit)
{
    struct builder *b = &w->b;
    const struct op_info *info = &op_info[n->op];
    struct onnx_node *out = builder_node(b, n->name, info->type, (size_t)n->n_in, (size_t)n->n_out, n->n_attrs);
    if (!out)
        return;
    out->domain = info->domain;
    for (int i = 0; i < n->n_in; i++)
        out->inputs[i] = edited(w, n, i, edit);
    for (int i = 0; i < n->n_out; i++)
        out->outputs[i] = builder_value(b, n->out[i]);
    if (n->n_attrs)
        memcpy(out->attrs, n->attrs, n->n_attrs * sizeof *n->attrs);
}

/* Probabilities on levels.  ThresholdedRelu is never left out: a Clip alone would give masked keys the lowest level. */
static void write_levels(struct writer *w, const struct node *n, const struct levels *l)
{
    struct builder *b = &w->b;
    const char *y = builder_value(b, n->out[0]), *log = builder_name(b, y, "_log"), *steps = builder_name(b, y, "_steps");
    const char *round = builder_name(b, y, "_rounded"), *clip = builder_name(b, y, "_clipped"), *back = builder_name(b, y, "_log_level");
    const char *level = builder_name(b, y, "_level");
    builder_node_named(b, n->name, "LogSoftmax", builder_value(b, n->in[0]), "", "", log, "axis", -1);
    builder_node_named(b, builder_name(b, y, "_to_steps"), "Mul", log, builder_scalar_f32(b, builder_name(b, y, "_steps_per_log"), l->into), "",
                       steps, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_Round"), "Round", steps, "", "", round, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_Clip"), "Clip", round, builder_scalar_f32(b, builder_name(b, y, "_first_step"), l->first), "",
                       clip, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_from_steps"), "Mul", clip, builder_scalar_f32(b, builder_name(b, y, "_log_per_step"), l->back), "",
                       back, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_Exp"), "Exp", back, "", "", level, NULL, 0);
    struct onnx_node *relu = builder_node(b, builder_name(b, y, "_ThresholdedRelu"), "ThresholdedRelu", 1, 1, 1);
    if (!relu)
        return;
    relu->inputs[0] = level;
    relu->outputs[0] = y;
    relu->attrs[0] = (struct onnx_attr){ .name = "alpha", .type = ONNX_FLOAT, .f = l->threshold };
}

static void write_node(struct writer *w, int at)
{
    const struct node *n = &w->a->g->nodes[at];
    const struct artifact_layer *l = w->at[at];
    if (!l) {
        if (w->bias_at[at])
            write_bias_add(w, w->bias_at[at], n);
        else if (w->a->how->qop[at].kind == QOP_LEVELS)
            write_levels(w, n, &w->a->how->qop[at].levels);
        else
            write_plain(w, n, w->a->how->edit[at]);
        return;
    }
    switch (l->l->kind) {
    case LAYER_LINEAR: write_linear(w, l, n); break;
    case LAYER_CONV: write_conv(w, l, n); break;
    default: write_product(w, l, n); break;
    }
}

static bool writer_init(struct writer *w, const struct artifact_spec *a, struct arena *mem, struct err *e)
{
    uint64_t n = (uint64_t)a->g->n_nodes;
    *w = (struct writer){ .a = a };
    w->at = arena_array(mem, n, sizeof *w->at, e);
    w->bias_at = arena_array(mem, n, sizeof *w->bias_at, e);
    w->pairs = arena_array(mem, 2 * (uint64_t)a->n_layers, sizeof *w->pairs, e);
    if (!w->at || !w->bias_at || !w->pairs || !builder_init(&w->b, a->g, mem, e))
        return false;
    for (int i = 0; i < a->n_layers; i++) {
        const struct layer *l = a->layers[i].l;
        w->at[l->node] = &a->layers[i];
        if (l->kind == LAYER_LINEAR && l->bias_node >= 0 && l->bias_node != l->node)
            w->bias_at[l->bias_node] = &a->layers[i];
    }
    return true;
}

/* A graph output that is a constant or an input needs a node of its own. */
static void write_outputs(struct writer *w)
{
    const struct graph *g = w->a->g;
    for (int i = 0; i < g->n_outputs; i++)
        builder_value(&w->b, g->outputs[i]);
}

static bool set_graph(struct writer *w, struct arena *mem, struct onnx_graph *ret, struct err *e)
{
    const struct graph *g = w->a->g;
    const struct onnx_graph *from = &g->model->graph;
    struct onnx_value *inputs = arena_array(mem, (uint64_t)g->n_inputs, sizeof *inputs, e);
    if (!inputs)
        return false;
    for (int i = 0; i < g->n_inputs; i++)
        for (size_t j = 0; j < from->n_inputs; j++)
            if (strcmp(from->inputs[j].name, g->values[g->inputs[i]].name) == 0)
                inputs[i] = from->inputs[j];
    *ret = (struct onnx_graph){ .name = from->name, .nodes = w->b.nodes, .n_nodes = w->b.n_nodes,
                                .initializers = w->b.inits, .n_initializers = w->b.n_inits, .inputs = inputs,
                                .n_inputs = (size_t)g->n_inputs, .outputs = from->outputs, .n_outputs = from->n_outputs };
    return true;
}

static bool set_metadata(const struct artifact_spec *a, struct arena *mem, struct onnx_model *m, struct err *e)
{
    const struct onnx_model *from = a->g->model;
    m->metadata = arena_array(mem, from->n_metadata + a->n_metadata, sizeof *m->metadata, e);
    if (!m->metadata)
        return false;
    for (size_t i = 0; i < from->n_metadata; i++)
        if (strncmp(from->metadata[i].key, "repquant.", 9) != 0)
            m->metadata[m->n_metadata++] = from->metadata[i];
    for (size_t i = 0; i < a->n_metadata; i++)
        m->metadata[m->n_metadata++] = a->metadata[i];
    return true;
}

enum { MIN_IR = 7 };       /* the first with per-axis DequantizeLinear's opset */

bool artifact_may_pack(enum recipe_target target, int bits)
{
    return bits <= 4 && (target == RECIPE_TARGET_ONNXRUNTIME || target == RECIPE_TARGET_OPENVINO);
}

/* The model's operator sets; a graph that was loaded from an older standard one has the forms of its own. */
static struct onnx_opset *opsets_of(const struct graph *g, struct arena *mem, struct err *e)
{
    struct onnx_opset *sets = arena_array(mem, g->model->n_opsets, sizeof *sets, e);
    for (size_t i = 0; sets && i < g->model->n_opsets; i++) {
        sets[i] = g->model->opsets[i];
        if (!sets[i].domain[0])
            sets[i].version = g->opset;
    }
    return sets;
}

bool artifact_build(const struct artifact_spec *a, struct arena *mem, struct onnx_model *ret, struct err *e)
{
    struct writer w;
    const struct onnx_model *from = a->g->model;
    if (!writer_init(&w, a, mem, e))
        return false;
    for (int i = 0; i < a->g->n_nodes && builder_ok(&w.b); i++)
        write_node(&w, i);
    write_outputs(&w);
    *ret = (struct onnx_model){ .ir_version = from->ir_version < MIN_IR ? MIN_IR : from->ir_version,
                                .producer_name = "repquant", .producer_version = VERSION, .doc = from->doc,
                                .opsets = opsets_of(a->g, mem, e), .n_opsets = from->n_opsets };
    return ret->opsets && builder_ok(&w.b) && set_graph(&w, mem, &ret->graph, e) && set_metadata(a, mem, ret, e)
        && (!a->packed || opset_raise(ret, OPSET_INT4, mem, e));
}

struct save { struct newfile f; struct hash h; };

static bool save_bytes(void *arg, const void *p, size_t n, struct err *e)
{
    struct save *s = arg;
    hash_add(&s->h, p, n);
    return newfile_write(&s->f, p, n, e);
}

bool artifact_save(const struct onnx_model *m, const char *dir, const char *name, uint64_t *ret_size,
                   uint8_t ret_digest[HASH_SIZE], struct err *e)
{
    struct save s = { .f = NEWFILE_NONE };
    struct onnx_sink sink = { save_bytes, &s };
    hash_init(&s.h);
    bool ok = newfile_open(&s.f, dir, UINT64_MAX, e) && onnx_write(m, &sink, e);
    *ret_size = s.f.size;
    ok = ok && newfile_commit(&s.f, name, 0644, e);
    if (ok)
        hash_end(&s.h, ret_digest);
    newfile_abort(&s.f);
    return ok;
}
