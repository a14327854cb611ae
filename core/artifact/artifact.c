#include "core/artifact/writer.h"

#include "core/artifact/opset.h"
#include "core/base/io.h"

#include <string.h>

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

/* codes -> MatMulInteger -> Cast -> Mul by both scales */
static void write_integer_product(struct writer *w, const struct artifact_layer *l, const char *name, const char *codes,
                                  const struct weight_slice *s, const char *y)
{
    struct builder *b = &w->b;
    int64_t n = (int64_t)l->w->n;
    struct codes c = write_dynamic_codes(w, l);
    const char *weight = write_weight_codes(w, l, s), *zeros = l->w->zero ? write_weight_zeros(w, l, s) : "";
    const char *scale = builder_init_tensor(b, builder_name(b, l->l->name, ".weight_scale"), DT_F32, 1, &n, s->scales);
    const char *sums = builder_name(b, y, "_sums"), *reals = builder_name(b, y, "_reals"), *both = builder_name(b, y, "_scale");
    builder_node_named(b, builder_name(b, name, "_scale"), "Mul", c.scale, scale, "", both, NULL, 0);
    struct onnx_node *product = builder_node(b, name, "MatMulInteger", l->w->zero ? 4 : 3, 1, 0);
    if (!product)
        return;
    const char *const in[] = { codes, weight, c.zero, zeros };
    memcpy(product->inputs, in, product->n_inputs * sizeof *in);
    product->outputs[0] = sums;
    builder_node_named(b, builder_name(b, name, "_Cast"), "Cast", sums, "", "", reals, "to", DT_F32);
    builder_node_named(b, builder_name(b, name, "_Mul"), "Mul", reals, both, "", y, NULL, 0);
}

/* What a linear multiplies: x, or codes of it found at run time. */
static void write_matmul(struct writer *w, const struct artifact_layer *l, const char *name, const char *x, const struct weight_slice *s,
                         const char *y)
{
    bool matrix = w->a->g->values[l->l->x].shape.rank == 2;
    if (l->x.dynamic)
        write_integer_product(w, l, name, x, s, y);
    else
        builder_node_named(&w->b, name, matrix ? "Gemm" : "MatMul", x, write_weight(w, l, s), "", y, NULL, 0);
}

/* Products of groups of inputs, one added to the other; the last sum is `product`. */
static void write_groups(struct writer *w, const struct artifact_layer *l, const struct node *n, const char *product)
{
    struct builder *b = &w->b;
    size_t size = l->w->group, groups = l->w->k / size;
    const int64_t dims[] = { (int64_t)size, l->l->n };
    const char *const *parts = write_parts(w, l, size), *sum = NULL;
    for (size_t i = 0; parts && i < groups && builder_ok(b); i++) {
        struct weight_slice s = { i * size, size, 2, dims, 1, l->w->scale + i * l->w->n };
        const char *y = builder_name(b, product, "_group");
        write_matmul(w, l, i ? builder_name(b, n->name, "_group") : n->name, parts[i], &s, y);
        if (i) {
            const char *to = i == groups - 1 ? product : builder_name(b, product, "_sum");
            builder_node_named(b, builder_name(b, n->name, "_Sum"), "Add", sum, y, "", to, NULL, 0);
            y = to;
        }
        sum = y;
    }
}

/* y = product + (x U) V */
static void write_thin(struct writer *w, const struct artifact_layer *l, const char *product, const char *y)
{
    struct builder *b = &w->b;
    const char *stem = l->l->name, *inner = builder_name(b, y, "_thin"), *outer = builder_name(b, y, "_given");
    const int64_t left[] = { l->l->k, (int64_t)l->w->rank }, right[] = { (int64_t)l->w->rank, l->l->n };
    const char *u = builder_init_tensor(b, builder_name(b, stem, ".compensation_in"), DT_F32, 2, left, l->w->low_u);
    const char *v = builder_init_tensor(b, builder_name(b, stem, ".compensation_out"), DT_F32, 2, right, l->w->low_v);
    builder_node_named(b, builder_name(b, stem, ".compensation_in_MatMul"), "MatMul", written_input(w, l), u, "", inner, NULL, 0);
    builder_node_named(b, builder_name(b, stem, ".compensation_out_MatMul"), "MatMul", inner, v, "", outer, NULL, 0);
    builder_node_named(b, builder_name(b, stem, ".compensation_Add"), "Add", product, outer, "", y, NULL, 0);
}

/* MatMul; Gemm where the input is a matrix, with its bias behind it. */
static void write_linear(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    struct builder *b = &w->b;
    const int64_t dims[] = { l->l->k, l->l->n };
    const struct weight_slice whole = { 0, l->w->k, 2, dims, 1, l->w->scale };
    const char *y = builder_value(b, n->out[0]);
    bool own_bias = bias_data(w, l) && (l->l->bias_node < 0 || l->l->bias_node == l->l->node);
    const char *sum = own_bias ? builder_name(b, y, "_product") : y, *product = l->w->rank ? builder_name(b, y, "_codes_product") : sum;
    if (l->w->group) {
        write_groups(w, l, n, product);
    } else {
        const char *x = l->x.dynamic ? write_dynamic_codes(w, l).q : write_codes(w, l, l->l->x, &l->x);
        write_matmul(w, l, n->name, x, &whole, product);
    }
    if (l->w->rank)
        write_thin(w, l, product, sum);
    if (own_bias)
        builder_node_named(b, builder_name(b, n->name, "_Add"), "Add", sum, bias_of(w, l), "", y, NULL, 0);
}

static void write_product(struct writer *w, const struct artifact_layer *l, const struct node *n)
{
    const char *x = l->x.levels ? builder_value(&w->b, l->l->x) : write_codes(w, l, l->l->x, &l->x);
    const char *other = write_codes(w, l, l->l->other, &l->other);
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

/* Of fewer than 8 bits the codes are clipped: a Clip before them would keep runtimes from computing the convolution on integers. */
static const char *clipped_codes(struct writer *w, const struct affine *a, const char *q, const char *y)
{
    struct builder *b = &w->b;
    if (a->dtype == DT_U8 ? a->qmin == 0 && a->qmax == 255 : a->qmin == -128 && a->qmax == 127)
        return q;
    const char *out = builder_name(b, y, "_clipped_out");
    const char *min = builder_scalar_code(b, builder_name(b, y, "_first_code"), a->dtype, a->qmin);
    const char *max = builder_scalar_code(b, builder_name(b, y, "_last_code"), a->dtype, a->qmax);
    builder_node_named(b, builder_name(b, y, "_out_Clip"), "Clip", q, min, max, out, NULL, 0);
    return out;
}

/* raw -> Q (-> Clip) -> DQ (-> Mul by what undoes the channels' factors) -> y */
static void write_conv_output(struct writer *w, const struct artifact_layer *l, const struct conv_scales *s, const char *raw, const char *y)
{
    struct builder *b = &w->b;
    const char *q = builder_name(b, y, "_quantized_out"), *dq = s->post ? builder_name(b, y, "_scaled_out") : y;
    const char *scale = builder_scalar_f32(b, builder_name(b, y, "_out_scale"), l->out.a.scale);
    const char *zero = builder_scalar_code(b, builder_name(b, y, "_out_zero_point"), l->out.a.dtype, l->out.a.zero);
    builder_node_named(b, builder_name(b, y, "_out_QuantizeLinear"), "QuantizeLinear", raw, scale, zero, q, NULL, 0);
    builder_node_named(b, builder_name(b, y, "_out_DequantizeLinear"), "DequantizeLinear", clipped_codes(w, &l->out.a, q, y), scale, zero, dq, NULL, 0);
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
    const struct weight_slice whole = { 0, l->w->k, s->rank, s->dim, 0, scales.weight };
    const char *x = write_codes(w, l, l->l->x, &l->x), *weight = write_weight(w, l, &whole);
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
    if (n->n_attrs)                         /* none are at NULL */
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
    for (int i = 0; i < n->n_in; i++)
        if (!lowering_edited(edit, i))
            builder_value(b, n->in[i]);    /* a constant may bring a Cast along, which comes first */
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
    bool ok = newfile_open(&s.f, dir, 0644, UINT64_MAX, e) && onnx_write(m, &sink, e);
    *ret_size = s.f.size;
    ok = ok && newfile_commit(&s.f, name, e);
    if (ok)
        hash_end(&s.h, ret_digest);
    newfile_abort(&s.f);
    return ok;
}
