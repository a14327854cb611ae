/*
 * lowering.c - finding quantized computations in a QDQ graph.
 *
 *     x -> QuantizeLinear -> DequantizeLinear -+
 *                                              MatMul -> y        x and the weight's codes are all that is read
 *     int8 constant -> DequantizeLinear -------+
 *
 * Where weights have scales for groups of inputs, a Split of the codes along their last axis stands between Q and DQ.
 */
#include "core/exec/lowering.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool lowering_new(struct lowering *l, const struct graph *g, struct arena *mem, struct err *e)
{
    *l = (struct lowering){
        .qop = arena_array(mem, (uint64_t)g->n_nodes, sizeof *l->qop, e),
        .skip = arena_array(mem, (uint64_t)g->n_nodes, sizeof *l->skip, e),
        .edit = arena_array(mem, (uint64_t)g->n_nodes, sizeof *l->edit, e),
    };
    return l->qop && l->skip && l->edit;
}

const struct tensor *lowering_edited(const struct edit *list, int input)
{
    while (list && list->input != input)
        list = list->next;
    return list ? &list->with : NULL;
}

bool lowering_edit(struct lowering *l, const struct graph *g, int node, int input, const float *data, struct arena *mem,
                   struct err *e)
{
    const struct value *v = &g->values[g->nodes[node].in[input]];
    struct edit *edit = arena_alloc(mem, sizeof *edit, e);
    if (!edit)
        return false;
    *edit = (struct edit){ input, { DT_F32, v->shape, (void *)(uintptr_t)data }, l->edit[node] };
    l->edit[node] = edit;          /* the newest of an input comes first and counts */
    return true;
}

const float *lowering_scales(struct arena *mem, float x_scale, const float *w_scale, size_t n, struct err *e)
{
    float *s = arena_array(mem, n, sizeof *s, e);
    for (size_t i = 0; s && i < n; i++)
        s[i] = x_scale * w_scale[i];
    return s;
}

static const struct node *producer(const struct graph *g, int value, enum op op)
{
    int at = value >= 0 ? g->values[value].producer : -1;
    return at >= 0 && g->nodes[at].op == op ? &g->nodes[at] : NULL;
}

static int64_t elements(const struct graph *g, int value) { return shape_elements(&g->values[value].shape); }

/* Scale and zero point of a Q or DQ node if they are constant scalars. */
static bool scalar_affine(const struct graph *g, const struct node *n, struct affine *ret)
{
    const struct value *scale = &g->values[n->in[1]];
    const struct value *zero = n->n_in > 2 && n->in[2] >= 0 ? &g->values[n->in[2]] : NULL;
    if (!scale->is_const || scale->dtype != DT_F32 || elements(g, n->in[1]) != 1
        || !zero || !zero->is_const || elements(g, n->in[2]) != 1 || (zero->dtype != DT_U8 && zero->dtype != DT_I8))
        return false;
    *ret = (struct affine){ .dtype = zero->dtype };
    memcpy(&ret->scale, scale->data, sizeof ret->scale);
    bool u8 = zero->dtype == DT_U8;
    ret->zero = u8 ? *(const uint8_t *)zero->data : *(const int8_t *)zero->data;
    ret->qmin = u8 ? 0 : -128;
    ret->qmax = u8 ? 255 : 127;
    return ret->scale > 0;
}

static bool same_affine(const struct affine *a, const struct affine *b)
{
    return a->scale == b->scale && a->zero == b->zero && a->dtype == b->dtype;
}

/* Columns of a tensor: `first` and on, of `width`; 0: all of it. */
struct part { size_t first, width; };

/* value = some outputs of a Split of codes along the last axis: the Split's input, and where it stands there; else value itself. */
static int whole_of(const struct graph *g, int value, struct part *ret)
{
    const struct node *split = producer(g, value, OP_SPLIT);
    *ret = (struct part){ 0 };
    if (!split || !producer(g, split->in[0], OP_QUANTIZELINEAR))
        return value;
    const struct shape *s = &g->values[split->in[0]].shape;
    int64_t axis = node_int(split, "axis", 0), first = 0, width = s->rank > 0 ? s->dim[s->rank - 1] : -1;
    if (width < 1 || (axis != -1 && axis != s->rank - 1))
        return value;
    for (int i = 0; i < split->n_out && split->out[i] != value; i++) {
        const struct shape *part = split->out[i] >= 0 ? &g->values[split->out[i]].shape : NULL;
        int64_t n = part && part->rank == s->rank ? part->dim[s->rank - 1] : -1;
        if (n < 0)
            return value;
        first += n;
    }
    *ret = (struct part){ (size_t)first, (size_t)width };
    return split->in[0];
}

/* value = DQ(Q(x)), or DQ of some columns of Q(x): *ret_x and its quantizer.  With output_dtype a DQ gives halves, and so does its reader. */
static bool quantized_activation(const struct graph *g, int value, int *ret_x, struct affine *ret, struct part *ret_part)
{
    const struct node *dq = producer(g, value, OP_DEQUANTIZELINEAR);
    const struct node *q = dq ? producer(g, whole_of(g, dq->in[0], ret_part), OP_QUANTIZELINEAR) : NULL;
    struct affine from;
    if (!q || !scalar_affine(g, dq, ret) || !scalar_affine(g, q, &from) || !same_affine(ret, &from)
        || g->values[q->in[0]].dtype != DT_F32 || g->values[value].dtype != DT_F32)
        return false;
    *ret_x = q->in[0];
    return true;
}

/* A weight: DQ of constant int8 codes, one scale or one per index of `axis`. */
struct weight { const struct value *codes; const float *scale; int64_t n_scale; const int8_t *zero; };

static bool quantized_weight(const struct graph *g, int value, int axis, struct weight *ret)
{
    const struct node *dq = producer(g, value, OP_DEQUANTIZELINEAR);
    if (!dq)
        return false;
    const struct value *codes = &g->values[dq->in[0]], *scale = &g->values[dq->in[1]];
    const struct value *zero = dq->n_in > 2 && dq->in[2] >= 0 ? &g->values[dq->in[2]] : NULL;
    int64_t n = elements(g, dq->in[1]);
    int64_t at = node_int(dq, "axis", 1);
    bool fits = n == 1 || (scale->shape.rank == 1 && (at == axis || at == axis - codes->shape.rank) && n == codes->shape.dim[axis]);
    if (!codes->is_const || codes->dtype != DT_I8 || !scale->is_const || scale->dtype != DT_F32 || g->values[value].dtype != DT_F32 || !fits
        || node_int(dq, "block_size", 0) != 0 || (zero && (!zero->is_const || zero->dtype != DT_I8 || elements(g, dq->in[2]) != n)))
        return false;
    *ret = (struct weight){ codes, scale->data, n, zero ? zero->data : NULL };
    return true;
}

/* A convolution's codes minus zero points as floats, same layout; channel of element i = i / inner. */
static bool codes_to_floats(struct arena *mem, const struct weight *w, size_t inner, struct qop *q, struct err *e)
{
    size_t count = (size_t)shape_elements(&w->codes->shape);
    float *f = arena_array(mem, count, sizeof *f, e);
    if (!f)
        return false;
    const int8_t *c = w->codes->data;
    int reach = 1;
    for (size_t i = 0; i < count; i++) {
        int v = c[i] - (w->zero ? w->zero[w->n_scale == 1 ? 0 : i / inner] : 0);
        reach = abs(v) > reach ? abs(v) : reach;
        f[i] = (float)v;
    }
    q->w = f;
    q->w_reach = reach;
    return true;
}

/* Of a product the codes stay as they are: as floats a model's weights would be four times their size. */
static void take_codes(const struct weight *w, struct qop *q)
{
    q->codes = w->codes->data;
    q->w_zero = w->zero;
    q->n_zero = w->zero ? (size_t)w->n_scale : 0;
}

static bool scales_of(struct arena *mem, const struct weight *w, size_t n, struct qop *q, struct err *e)
{
    float *s = arena_array(mem, n, sizeof *s, e);
    for (size_t i = 0; s && i < n; i++)
        s[i] = q->ax.scale * w->scale[w->n_scale == 1 ? 0 : i];
    q->scale = s;
    return s != NULL;
}

/* Gemm that is no more than a product; with C its bias would be added in another place. */
static bool is_plain_product(const struct node *n)
{
    if (n->op == OP_MATMUL)
        return true;
    return n->op == OP_GEMM && (n->n_in < 3 || n->in[2] < 0) && !node_int(n, "transA", 0) && !node_int(n, "transB", 0)
        && node_float(n, "alpha", 1) == 1.0f;
}

static bool lower_matmul(struct qop *q, const struct graph *g, const struct node *n, struct arena *mem, struct err *e)
{
    struct qop r = { .kind = QOP_MATMUL, .y = -1 };
    struct weight w;
    struct part part, other;
    if (!quantized_activation(g, n->in[0], &r.x, &r.ax, &part))
        return true;
    if (quantized_weight(g, n->in[1], 1, &w) && w.codes->shape.rank == 2) {
        r.k = (size_t)w.codes->shape.dim[0];
        r.n = (size_t)w.codes->shape.dim[1];
        r.x_first = part.first;
        r.x_width = part.width;
        take_codes(&w, &r);
        if (!scales_of(mem, &w, r.n, &r, e))
            return false;
        *q = r;
    } else if (!part.width && quantized_activation(g, n->in[1], &r.y, &r.ay, &other) && !other.width && g->values[n->in[0]].shape.rank >= 2
               && g->values[n->in[1]].shape.rank >= 2) {
        r.kind = QOP_PRODUCT;
        r.scale = lowering_scales(mem, r.ax.scale, &r.ay.scale, 1, e);
        if (!r.scale)
            return false;
        *q = r;
    }
    return true;
}

/* The one Conv reader with codes: Conv -> Q -> DQ, and nothing else reads the Conv. */
static const struct node *output_quantizer(const struct graph *g, const struct node *conv)
{
    const struct value *out = &g->values[conv->out[0]];
    if (out->n_consumers != 1 || out->is_output)
        return NULL;
    const struct node *q = &g->nodes[out->consumers[0]];
    return q->op == OP_QUANTIZELINEAR && q->in[0] == conv->out[0] ? q : NULL;
}

/* Does the DQ of an int32 bias count in units of the sums?  Scales of other tools may differ in their last bits. */
static bool in_units_of_sums(const struct graph *g, const struct node *dq, const struct qop *q)
{
    const struct value *scale = &g->values[dq->in[1]];
    if (!scale->is_const || scale->dtype != DT_F32 || (dq->n_in > 2 && dq->in[2] >= 0))
        return false;
    const float *s = scale->data;
    size_t n = (size_t)shape_elements(&scale->shape);
    for (size_t i = 0; i < q->n; i++)
        if (!(fabsf(s[n == 1 ? 0 : i] - q->scale[i]) <= 1e-6f * q->scale[i]))
            return false;
    return n == 1 || n == q->n;
}

/* Bias in integers: DQ of int32 with the scale x.scale * w.scale, or a plain float one rounded to it as ONNX Runtime does. */
static bool integer_bias(const struct graph *g, const struct node *conv, struct qop *q, struct arena *mem)
{
    if (conv->n_in < 3 || conv->in[2] < 0)
        return true;
    const struct node *dq = producer(g, conv->in[2], OP_DEQUANTIZELINEAR);
    const struct value *v = &g->values[dq ? dq->in[0] : conv->in[2]];
    if (!v->is_const || v->dtype != (dq ? DT_I32 : DT_F32) || shape_elements(&v->shape) != (int64_t)q->n)
        return false;
    if (dq) {
        q->bias = v->data;
        return in_units_of_sums(g, dq, q);
    }
    int32_t *bias = arena_array(mem, q->n, sizeof *bias, NULL);
    const float *b = v->data;
    for (size_t i = 0; bias && i < q->n; i++)
        bias[i] = (int32_t)fmax(INT32_MIN, fmin(INT32_MAX, rint((double)b[i] / (double)q->scale[i])));
    q->bias = bias;
    return bias != NULL;
}

static bool lower_conv(struct qop *q, const struct graph *g, const struct node *n, struct arena *mem, struct err *e)
{
    struct qop r = { .kind = QOP_CONV, .y = -1, .requantize = true };
    struct weight w;
    struct part part;
    const struct node *out = output_quantizer(g, n);
    if (!out || g->values[n->in[0]].shape.rank != 4 || node_int(n, "group", 1) != 1 || node_auto_pads(n)
        || !quantized_activation(g, n->in[0], &r.x, &r.ax, &part) || part.width || !quantized_weight(g, n->in[1], 0, &w)
        || !scalar_affine(g, out, &r.out))
        return true;
    r.n = (size_t)w.codes->shape.dim[0];
    size_t inner = (size_t)shape_count(&w.codes->shape, 1, w.codes->shape.rank);
    float *rescale = arena_array(mem, r.n, sizeof *rescale, e);
    if (!rescale || !codes_to_floats(mem, &w, inner, &r, e) || !scales_of(mem, &w, r.n, &r, e))
        return false;
    if (!integer_bias(g, n, &r, mem))
        return true;
    for (size_t i = 0; i < r.n; i++)
        rescale[i] = r.scale[i] / r.out.scale;
    r.rescale = rescale;
    *q = r;
    return true;
}

/* What quantized computations read in place of their inputs: true for each such value. */
static bool *read_by_qops(const struct lowering *l, const struct graph *g, struct arena *mem, struct err *e)
{
    bool *read = arena_array(mem, (uint64_t)g->n_values, sizeof *read, e);
    for (int i = 0; read && i < g->n_nodes; i++) {
        const struct qop *q = &l->qop[i];
        if (q->kind != QOP_NONE)
            read[q->x] = true;
        if (q->kind == QOP_PRODUCT)
            read[q->y] = true;
    }
    return read;
}

/* Of codes in parts readers take the whole: no row reads what a Split of them gives.  What a row reads (`read`) may be the output of
 * another DQ, of a convolution right before it. */
static bool is_needed(const struct lowering *l, const struct graph *g, const bool *read, int value)
{
    const struct value *v = &g->values[value];
    bool needed = v->is_output || read[value];
    for (int c = 0; c < v->n_consumers; c++)
        needed |= !l->skip[v->consumers[c]] && l->qop[v->consumers[c]].kind == QOP_NONE;
    return needed;
}

static bool may_skip(const struct graph *g, const struct node *n)
{
    return n->op == OP_QUANTIZELINEAR || n->op == OP_DEQUANTIZELINEAR || (n->op == OP_SPLIT && producer(g, n->in[0], OP_QUANTIZELINEAR));
}

/* A quantize or dequantize node that only absorbed readers look at is not run, nor is a Split between them. */
static void skip_absorbed(struct lowering *l, const struct graph *g, const bool *read)
{
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *n = &g->nodes[i];
        bool needed = !may_skip(g, n);
        for (int o = 0; o < n->n_out && !needed; o++)
            needed = n->out[o] >= 0 && is_needed(l, g, read, n->out[o]);
        l->skip[i] = !needed;
    }
}

bool lowering_from_qdq(struct lowering *l, const struct graph *g, struct arena *mem, struct err *e)
{
    if (!lowering_new(l, g, mem, e))
        return false;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (is_plain_product(n) && !lower_matmul(&l->qop[i], g, n, mem, e))
            return false;
        if (n->op == OP_CONV && !lower_conv(&l->qop[i], g, n, mem, e))
            return false;
    }
    const bool *read = read_by_qops(l, g, mem, e);
    if (read)
        skip_absorbed(l, g, read);
    return read != NULL;
}
