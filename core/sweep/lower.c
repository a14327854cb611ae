/*
 * lower.c - from decisions to what the quantized stream computes: the same operators, in the same order and
 * precision, as the artifact will hold.
 */
#include "core/sweep/sweep.h"


static const float *constant(const struct lower *w, int value) { return value >= 0 ? w->t->g->values[value].data : NULL; }

/* from * mul + shift, rounded once; shift NULL: nothing is added. */
static float *folded(const struct lower *w, const float *from, const float *mul, const float *shift, size_t n, struct err *e)
{
    float *f = arena_array(w->mem, n, sizeof *f, e);
    for (size_t i = 0; f && i < n; i++)
        f[i] = (float)((double)from[i] * (double)mul[i] + (shift ? (double)shift[i] : 0));
    return f;
}

/* Before folding, channels have codes of their own, with whole zero points: a fraction is of the common one. */
static float fraction_of(const struct lower *w, const struct site *s) { return w->s->folding_waits ? 0 : s->q.fraction; }

/* What is added to the scaled channels; NULL: nothing.  false: no memory. */
static bool shift_of(const struct lower *w, const struct site *s, size_t channels, const float **ret, struct err *e)
{
    *ret = s->q.shift;
    if (s->q.fraction == fraction_of(w, s))
        return true;
    float *whole = arena_array(w->mem, channels, sizeof *whole, e);
    for (size_t i = 0; whole && i < channels; i++)
        whole[i] = s->q.shift[i] + s->q.fraction * s->q.a.scale;
    *ret = whole;
    return whole != NULL;
}

/* The norm gives x * mul + shift: its gamma and beta do. */
static bool edit_norm(const struct lower *w, const struct site *s, struct err *e)
{
    const float *shift;
    const struct norm *n = &w->t->roles->norms[s->norm];
    size_t channels = (size_t)shape_elements(&w->t->g->values[n->gamma].shape);
    float *gamma = folded(w, constant(w, n->gamma), s->q.mul, NULL, channels, e);
    if (!gamma || !shift_of(w, s, channels, &shift, e)
        || !lowering_edit(&w->s->quantized, w->t->g, n->scale_node, n->scale_input, gamma, w->mem, e))
        return false;
    float *beta = n->beta >= 0 ? folded(w, constant(w, n->beta), s->q.mul, shift, channels, e) : NULL;
    return n->beta < 0 || (beta && lowering_edit(&w->s->quantized, w->t->g, n->shift_node, n->shift_input, beta, w->mem, e));
}

static struct levels levels_of(const struct log_levels *l)
{
    struct log_form f = log_levels_form(l);
    return (struct levels){ f.to_steps, f.first, f.from_steps, f.alpha };
}

bool lower_site(const struct lower *w, int site, struct err *e)
{
    const struct site *s = &w->s->sites[site];
    if (s->q.mul && s->norm >= 0)
        return edit_norm(w, s, e);
    if (s->q.levels.bits) {
        const struct node *softmax = &w->t->g->nodes[s->made_at];
        w->s->quantized.qop[s->made_at] = (struct qop){ .kind = QOP_LEVELS, .x = softmax->in[0], .y = -1,
                                                        .levels = levels_of(&s->q.levels) };
    }
    return true;
}

/* x' = x * mul + shift again as x: (x' - shift) / mul. */
static bool undo_factors(const struct lower *w, const struct site *x, struct arena *mem, struct qop *q, struct err *e)
{
    const float *shift;
    float *mul = arena_array(mem, q->k, sizeof *mul, e), *add = arena_array(mem, q->k, sizeof *add, e);
    if (!mul || !add || !shift_of(w, x, q->k, &shift, e))
        return false;
    for (size_t i = 0; i < q->k; i++) {
        mul[i] = 1 / x->q.mul[i];
        add[i] = shift ? -shift[i] * mul[i] : 0;
    }
    q->back_mul = mul;
    q->back_shift = add;
    return true;
}

/* What this walk multiplies by. */
static const struct qweight *weights_of(const struct sweep_layer *l) { return l->own.codes ? &l->own : &l->w; }

static bool runs_in_float(const struct lower *w, const struct sweep_layer *l)
{
    return l->l->kind == LAYER_LINEAR && (l->own.codes || fraction_of(w, &w->s->sites[l->x]) != 0);
}

/* Weights as values in place of codes, for codes as values. */
static bool lower_float(const struct lower *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    const struct site *x = &w->s->sites[l->x];
    const struct qweight *from = weights_of(l);
    struct arena *mem = w->floats[index];
    float fraction = fraction_of(w, x);
    float *values = qweight_floats(from, l->l, mem, e);
    for (size_t i = 0; values && i < q->k * q->n; i++)
        values[i] *= from->scale[i % q->n];
    q->kind = QOP_FLOAT;
    q->rank = l->own.codes ? 0 : q->rank;
    q->w = values;
    q->first = (float)(q->ax.qmin - q->ax.zero) - fraction;
    q->last = (float)(q->ax.qmax - q->ax.zero) - fraction;
    return values && (!l->own.codes || undo_factors(w, x, mem, q, e));
}

static bool lower_weight(const struct lower *w, int index, struct qop *q, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    const struct site *x = &w->s->sites[l->x];
    if (!w->floats[index] && !(w->floats[index] = arena_new(UINT64_MAX / 2)))
        return err_set(e, ERR_MEMORY, l->l->name, "no memory for the layer's weights");
    q->k = l->w.k;
    q->n = l->w.n;
    if (x->norm < 0) {
        q->mul = x->q.mul;
        if (!shift_of(w, x, q->k, &q->shift, e))
            return false;
    }
    if (runs_in_float(w, l))
        return lower_float(w, index, q, e);
    q->w_reach = qweight_reach(&l->w);
    q->group = l->w.group;
    q->rank = l->w.rank;
    q->low_u = l->w.low_u;
    q->low_v = l->w.low_v;
    q->dynamic = l->dynamic;
    q->scale = l->dynamic ? l->w.scale : lowering_scales(w->floats[index], q->ax.scale, l->w.scale, qweight_scales(&l->w), e);
    q->w = qweight_floats(&l->w, l->l, w->floats[index], e);
    return q->scale && q->w;
}

/* The bias in units of the sums, as QLinearConv takes it.  Factors of output channels go into the weights' scales. */
static bool lower_conv(const struct lower *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    const struct site *out = &w->s->sites[l->out];
    struct conv_scales s;
    int32_t *bias = arena_array(w->floats[index], q->n, sizeof *bias, e);
    float *rescale = arena_array(w->floats[index], q->n, sizeof *rescale, e);
    if (!bias || !rescale || !conv_scales(l->l, &l->w, w->t->g, q->ax.scale, out->q.mul, w->floats[index], &s, e))
        return false;
    for (size_t i = 0; i < q->n; i++)
        bias[i] = s.bias ? quantizer_bias(s.bias[i], s.sums[i]) : 0;
    q->scale = s.sums;
    q->bias = bias;
    q->post = s.post;
    q->requantize = out->decided;
    q->out = out->q.a;
    for (size_t i = 0; i < q->n && q->requantize; i++)
        rescale[i] = q->scale[i] / q->out.scale;
    q->rescale = rescale;
    return true;
}

static bool lower_product(const struct lower *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    q->y = l->l->other;
    q->ay = w->s->sites[l->other].q.a;
    if (w->s->sites[l->x].q.levels.bits) {
        q->kind = QOP_HALF;
        return true;
    }
    q->scale = lowering_scales(w->mem, q->ax.scale, &q->ay.scale, 1, e);
    return q->scale != NULL;
}

/* A changed bias goes where the old one was, or behind the product where there was none. */
static bool lower_bias(const struct lower *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    const struct layer *at = l->l;
    const struct qweight *from = weights_of(l);
    if (at->bias_node >= 0 && at->bias_node != at->node) {
        const struct node *add = &w->t->g->nodes[at->bias_node];
        return !from->bias || lowering_edit(&w->s->quantized, w->t->g, at->bias_node, add->in[0] == at->bias ? 0 : 1, from->bias, w->mem, e);
    }
    q->add = qweight_bias(from, w->t->g, at);
    return true;
}

static bool lower_row(const struct lower *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    switch (l->l->kind) {
    case LAYER_LINEAR:
        q->kind = QOP_MATMUL;
        return lower_weight(w, index, q, e) && lower_bias(w, index, q, e);
    case LAYER_CONV:
        q->kind = QOP_CONV;
        return lower_weight(w, index, q, e) && lower_conv(w, index, q, e);
    default:
        q->kind = QOP_PRODUCT;
        return lower_product(w, index, q, e);
    }
}

bool lower_layer(const struct lower *w, int index, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    struct qop *row = &w->s->quantized.qop[l->l->node];
    bool final = sweep_ready(w->s, l, true);
    bool done = row->kind == QOP_CONV ? row->requantize : row->kind != QOP_NONE;
    if (!l->quantize || !sweep_ready(w->s, l, false) || done || (row->kind == QOP_CONV && !final))
        return true;
    struct qop q = { .x = l->l->x, .y = -1, .ax = w->s->sites[l->x].q.a };
    if (!lower_row(w, index, &q, e))
        return false;
    *row = q;
    return true;
}

bool lower_again(const struct lower *w, int layer, struct err *e)
{
    arena_free(w->floats[layer]);
    w->floats[layer] = NULL;
    w->s->quantized.qop[w->s->layers[layer].l->node] = (struct qop){ 0 };
    return lower_layer(w, layer, e);
}

void lower_forget(const struct lower *w, int pos)
{
    for (int i = 0; i < w->s->n_layers; i++)
        if (w->floats[i] && w->s->layers[i].l->node < pos) {
            arena_free(w->floats[i]);
            w->floats[i] = NULL;
        }
}
