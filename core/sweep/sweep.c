#include "core/sweep/sweep.h"

#include "core/sweep/journal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STRETCH_SITES = 256, CHECKED_SAMPLES = 8 };

struct walk {
    const struct sweep_task *t;
    struct sweep *s;
    struct arena *mem;
    struct journal journal;
    struct pass *pass;
    struct arena **floats;         /* [n_layers]: a layer's codes as floats, freed once the walk has passed it */
    int decided_now;               /* sites decided in this process */
};

void sweep_fingerprint(const uint8_t model[HASH_SIZE], const uint8_t data[HASH_SIZE], const struct recipe *r, uint64_t seed,
                       uint8_t ret[HASH_SIZE])
{
    struct hash h;
    size_t layout[] = { sizeof(struct site_summary), sizeof(struct weight_summary), sizeof(struct affine) };
    hash_init(&h);
    hash_add(&h, VERSION, sizeof VERSION);
    hash_add(&h, layout, sizeof layout);
    hash_add(&h, model, HASH_SIZE);
    hash_add(&h, data, HASH_SIZE);
    hash_add(&h, r, sizeof *r);
    hash_add(&h, &seed, sizeof seed);
    hash_end(&h, ret);
}

/* ---- what the journal holds ---- */

struct site_record { struct affine a; struct site_summary summary; };
struct weight_record { struct weight_summary summary; uint64_t k, n; };
struct layer_record { struct errors accumulated, isolated; double seconds; };

static bool replay_site(struct walk *w, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct site_record r;
    if (index >= (uint32_t)w->s->n_sites || n != sizeof r)
        return err_set(e, ERR_BUG, "journal", "a site record does not fit the model; delete the journal");
    memcpy(&r, p, sizeof r);
    struct site *s = &w->s->sites[index];
    s->a = r.a;
    s->summary = r.summary;
    w->s->replayed_sites += !s->decided;
    s->decided = true;
    return true;
}

static bool replay_weight(struct walk *w, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct weight_record r;
    if (index >= (uint32_t)w->s->n_layers || n < sizeof r)
        return err_set(e, ERR_BUG, "journal", "a weight record does not fit the model; delete the journal");
    memcpy(&r, p, sizeof r);
    struct sweep_layer *l = &w->s->layers[index];
    if (r.k != (uint64_t)l->l->k || r.n != (uint64_t)l->l->n || n != sizeof r + r.k * r.n + r.n * sizeof(float))
        return err_set(e, ERR_BUG, "journal", "a weight record does not fit the model; delete the journal");
    struct qweight q = { .k = r.k, .n = r.n, .bits = r.summary.bits, .signal = r.summary.signal, .error = r.summary.noise,
                         .zero_channels = r.summary.zero_channels };
    q.codes = arena_alloc(w->mem, r.k * r.n, e);
    q.scale = arena_array(w->mem, r.n, sizeof *q.scale, e);
    if (!q.codes || !q.scale)
        return false;
    const char *at = (const char *)p + sizeof r;
    memcpy(q.codes, at, (size_t)(r.k * r.n));
    memcpy(q.scale, at + r.k * r.n, (size_t)r.n * sizeof *q.scale);
    l->w = q;
    l->weight = r.summary;
    return true;
}

static bool replay_layer(struct walk *w, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    struct layer_record r;
    if (index >= (uint32_t)w->s->n_layers || n != sizeof r)
        return err_set(e, ERR_BUG, "journal", "a layer record does not fit the model; delete the journal");
    memcpy(&r, p, sizeof r);
    struct sweep_layer *l = &w->s->layers[index];
    l->accumulated = r.accumulated;
    l->isolated = r.isolated;
    l->seconds = r.seconds;
    l->measured = true;
    return true;
}

static bool replay(void *arg, enum journal_type type, uint32_t index, const void *p, uint64_t n, struct err *e)
{
    switch (type) {
    case JOURNAL_SITE: return replay_site(arg, index, p, n, e);
    case JOURNAL_WEIGHT: return replay_weight(arg, index, p, n, e);
    case JOURNAL_LAYER: return replay_layer(arg, index, p, n, e);
    }
    return err_set(e, ERR_BUG, "journal", "an unknown record; delete the journal");
}

/* ---- deciding ---- */

static bool decide_site(struct walk *w, int index, const struct observer *o, struct err *e)
{
    struct site *s = &w->s->sites[index];
    float lo = 0, hi = 0;
    if (o->count)
        w->t->method->range(w->t->recipe, o, s->bits, &lo, &hi);
    s->a = quantizer_from_range(lo, hi, s->bits, w->t->recipe->activations.symmetric);
    if (lo == hi)
        events_warning(w->t->events, "numeric.zero_range", w->t->g->values[s->value].name,
                       "the input of layer '%s' is constant on the calibration data", s->layer);
    if (!site_summarize(o, &s->a, &s->summary, e))
        return false;
    s->decided = true;
    w->decided_now++;
    struct site_record r;
    memset(&r, 0, sizeof r);
    r.a = s->a;
    r.summary = s->summary;
    return journal_append(&w->journal, JOURNAL_SITE, (uint32_t)index, &r, sizeof r, NULL, 0, NULL, 0, e);
}

/* A weight that several layers share is quantized once, at its first use. */
static const struct sweep_layer *same_weight(const struct sweep *s, const struct sweep_layer *l)
{
    for (int i = 0; i < s->n_layers; i++) {
        const struct sweep_layer *o = &s->layers[i];
        if (o != l && o->w.codes && o->l->weight == l->l->weight && o->l->transposed == l->l->transposed
            && o->w.bits == l->choice.weight_bits)
            return o;
    }
    return NULL;
}

static bool decide_weight(struct walk *w, int index, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    if (!l->quantize || l->l->weight < 0 || l->w.codes || !sweep_ready(w->s, l, false))
        return true;
    const struct sweep_layer *same = same_weight(w->s, l);
    if (same) {
        l->w = same->w;
        l->weight = same->weight;
        return true;
    }
    if (!w->t->method->weights(w->t->recipe, w->t->g, l->l, l->choice.weight_bits, w->mem, &l->w, e))
        return false;
    weight_summarize(w->t->g, l->l, &l->w, &l->weight);
    struct weight_record r;
    memset(&r, 0, sizeof r);
    r.summary = l->weight;
    r.k = l->w.k;
    r.n = l->w.n;
    return journal_append(&w->journal, JOURNAL_WEIGHT, (uint32_t)index, &r, sizeof r, l->w.codes, l->w.k * l->w.n,
                          l->w.scale, l->w.n * sizeof *l->w.scale, e);
}

/* ---- lowering: from decisions to what the quantized stream computes ---- */

static bool lower_weight(struct walk *w, int index, struct qop *q, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    if (!w->floats[index] && !(w->floats[index] = arena_new(UINT64_MAX / 2)))
        return err_set(e, ERR_MEMORY, l->l->name, "no memory for the layer's weights");
    q->k = l->w.k;
    q->n = l->w.n;
    q->w_reach = 1 << (l->w.bits - 1);
    q->scale = lowering_scales(w->floats[index], q->ax.scale, l->w.scale, l->w.n, e);
    q->w = qweight_floats(&l->w, w->floats[index], e);
    return q->scale && q->w;
}

/* The bias in units of the sums, as QLinearConv takes it. */
static bool lower_conv(struct walk *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    int32_t *bias = arena_array(w->floats[index], q->n, sizeof *bias, e);
    float *rescale = arena_array(w->floats[index], q->n, sizeof *rescale, e);
    if (!bias || !rescale)
        return false;
    const float *b = l->l->bias >= 0 ? w->t->g->values[l->l->bias].data : NULL;
    for (size_t i = 0; i < q->n; i++)
        bias[i] = b ? quantizer_bias(b[i], q->scale[i]) : 0;
    q->bias = bias;
    q->requantize = w->s->sites[l->out].decided;
    q->out = w->s->sites[l->out].a;
    for (size_t i = 0; i < q->n && q->requantize; i++)
        rescale[i] = q->scale[i] / q->out.scale;
    q->rescale = rescale;
    return true;
}

static bool lower_product(struct walk *w, int index, struct qop *q, struct err *e)
{
    const struct sweep_layer *l = &w->s->layers[index];
    q->y = l->l->other;
    q->ay = w->s->sites[l->other].a;
    q->scale = lowering_scales(w->mem, q->ax.scale, &q->ay.scale, 1, e);
    return q->scale != NULL;
}

static bool lower_layer(struct walk *w, int index, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    struct qop *row = &w->s->quantized.qop[l->l->node];
    bool final = sweep_ready(w->s, l, true);
    bool done = row->kind == QOP_CONV ? row->requantize : row->kind != QOP_NONE;
    if (!l->quantize || !sweep_ready(w->s, l, false) || done || (row->kind == QOP_CONV && !final))
        return true;
    struct qop q = { .x = l->l->x, .y = -1, .ax = w->s->sites[l->x].a };
    switch (l->l->kind) {
    case LAYER_LINEAR:
        q.kind = QOP_MATMUL;
        if (l->l->bias_node == l->l->node && l->l->bias >= 0)
            q.add = w->t->g->values[l->l->bias].data;
        break;
    case LAYER_CONV: q.kind = QOP_CONV; break;
    default: q.kind = QOP_PRODUCT; break;
    }
    bool ok = q.kind == QOP_PRODUCT ? lower_product(w, index, &q, e)
                                    : lower_weight(w, index, &q, e) && (q.kind != QOP_CONV || lower_conv(w, index, &q, e));
    if (ok)
        *row = q;
    return ok;
}

static bool decide_layers(struct walk *w, struct err *e)
{
    for (int i = 0; i < w->s->n_layers; i++)
        if (!decide_weight(w, i, e) || !lower_layer(w, i, e))
            return false;
    return true;
}

/* ---- walking ---- */

struct stretch { int to, resume; int sites[MAX_STRETCH_SITES]; int n; };

/* The first quantized node at or after `from` that cannot run (or not in its final form) yet. */
static void find_end(const struct walk *w, int from, struct stretch *st)
{
    st->to = st->resume = w->t->g->n_nodes;
    for (int i = 0; i < w->s->n_layers; i++) {
        const struct sweep_layer *l = &w->s->layers[i];
        bool operands = sweep_ready(w->s, l, false);
        int end = operands ? l->l->node + 1 : l->l->node;
        if (!l->quantize || l->l->node < from || sweep_ready(w->s, l, true) || end >= st->to)
            continue;
        st->to = st->resume = end;
    }
}

/* A convolution's output is what it is once its own quantizer is known: readers' ranges wait for that. */
static bool is_provisional(const struct walk *w, const struct site *s)
{
    for (int i = 0; i < w->s->n_sites && !s->conv_output; i++) {
        const struct site *out = &w->s->sites[i];
        if (out->conv_output && out->value == s->value)
            return !out->decided;
    }
    return false;
}

static bool find_stretch(const struct walk *w, int from, struct stretch *st, struct err *e)
{
    find_end(w, from, st);
    st->n = 0;
    for (int i = 0; i < w->s->n_sites; i++) {
        const struct site *s = &w->s->sites[i];
        if (s->decided || s->made_at >= st->to || is_provisional(w, s))
            continue;
        if (st->n == MAX_STRETCH_SITES)
            return err_set(e, ERR_MODEL_LIMIT, s->layer, "more than %d tensors wait to be quantized at once", MAX_STRETCH_SITES);
        st->sites[st->n++] = i;
        if (s->resume_at >= from && s->resume_at < st->resume)
            st->resume = s->resume_at;
    }
    return true;
}

static int count_decided(const struct sweep *s)
{
    int n = 0;
    for (int i = 0; i < s->n_sites; i++)
        n += s->sites[i].decided;
    return n;
}

/* Rows of layers that this stretch finished: to the journal and to whoever watches. */
static bool publish_layers(struct walk *w, const bool *before, struct err *e)
{
    for (int i = 0; i < w->s->n_layers; i++) {
        const struct sweep_layer *l = &w->s->layers[i];
        if (!l->measured || before[i])
            continue;
        struct layer_record r = { l->accumulated, l->isolated, l->seconds };
        if (!journal_append(&w->journal, JOURNAL_LAYER, (uint32_t)i, &r, sizeof r, NULL, 0, NULL, 0, e))
            return false;
        struct layer_row row;
        sweep_row(w->t, w->s, i, &row);
        json_t *json = layer_row_json(&row);
        events_layer(w->t->events, i, json);
        json_decref(json);
    }
    return true;
}

static void let_go(struct walk *w, int pos)
{
    for (int i = 0; i < w->s->n_layers; i++)
        if (w->floats[i] && w->s->layers[i].l->node < pos) {
            arena_free(w->floats[i]);
            w->floats[i] = NULL;
        }
}

static bool walk_stretch(struct walk *w, int from, const struct stretch *st, struct err *e)
{
    struct observer *obs = calloc((size_t)st->n + 1, sizeof *obs);
    bool *before = calloc((size_t)w->s->n_layers + 1, sizeof *before);
    bool ok = obs && before;
    if (!ok)
        err_set(e, ERR_MEMORY, "", "no memory for the sweep");
    for (int i = 0; ok && i < w->s->n_layers; i++)
        before[i] = w->s->layers[i].measured;
    ok = ok && pass_run(w->pass, from, st->to, st->resume, st->sites, st->n, obs, e) && publish_layers(w, before, e);
    for (int i = 0; ok && i < st->n; i++)
        ok = decide_site(w, st->sites[i], &obs[i], e);
    ok = ok && decide_layers(w, e) && journal_sync(&w->journal, e);
    for (int i = 0; obs && i < st->n; i++)
        observer_release(&obs[i]);
    free(obs);
    free(before);
    return ok;
}

static bool walk_all(struct walk *w, struct err *e)
{
    int n = w->t->g->n_nodes;
    if (!decide_layers(w, e))          /* those the journal brought */
        return false;
    bool told = false;
    for (int pos = 0; pos < n; ) {
        struct stretch st;
        if (!told && w->decided_now + w->s->replayed_sites > 0) {
            events_stage(w->t->events, "quantizing");      /* from the first decision on, both go hand in hand */
            told = true;
        }
        events_progress(w->t->events, count_decided(w->s), w->s->n_sites, w->s->chunks.count);
        if (!find_stretch(w, pos, &st, e) || !walk_stretch(w, pos, &st, e))
            return false;
        if (w->t->stop_after && w->decided_now >= w->t->stop_after && st.resume < n)
            return err_set(e, ERR_CANCELED, "", "stopped after %d sites", w->decided_now);
        pos = st.resume;
        let_go(w, pos);
    }
    events_progress(w->t->events, count_decided(w->s), w->s->n_sites, w->s->chunks.count);
    return pass_keep_outputs(w->pass, w->mem, CHECKED_SAMPLES, e);
}

bool sweep_run(const struct sweep_task *t, struct arena *mem, struct sweep *ret, struct err *e)
{
    *ret = (struct sweep){ 0 };
    struct walk w = { .t = t, .s = ret, .mem = mem, .journal = { -1 } };
    bool ok = sweep_list_sites(t, mem, ret, e) && lowering_new(&ret->quantized, t->g, mem, e)
           && chunks_new(&ret->chunks, t->g, &ret->quantized, mem, t->samples, 0, t->recipe->calibration.samples, e)
           && (w.floats = arena_array(mem, (uint64_t)ret->n_layers + 1, sizeof *w.floats, e))
           && journal_open(&w.journal, t->dir, t->fingerprint, replay, &w, e)
           && (w.pass = pass_new(t, ret, e)) && walk_all(&w, e);
    if (w.pass)
        pass_usage(w.pass, &ret->peak_held, &ret->spilled);
    if (w.floats)
        let_go(&w, INT32_MAX);
    pass_free(w.pass);
    journal_close(&w.journal);
    return ok;
}

static const char *precision_name(int weight_bits, int act_bits)
{
    static const char *const names[9][9] = {
#define ROW(w) { NULL, NULL, "w" #w "a2", "w" #w "a3", "w" #w "a4", "w" #w "a5", "w" #w "a6", "w" #w "a7", "w" #w "a8" }
        [2] = ROW(2), [3] = ROW(3), [4] = ROW(4), [5] = ROW(5), [6] = ROW(6), [7] = ROW(7), [8] = ROW(8),
#undef ROW
    };
    bool known = weight_bits >= 2 && weight_bits <= 8 && act_bits >= 2 && act_bits <= 8;
    return known ? names[weight_bits][act_bits] : "float";
}

void sweep_row(const struct sweep_task *t, const struct sweep *s, int i, struct layer_row *ret)
{
    const struct sweep_layer *l = &s->layers[i];
    bool has_weight = l->l->weight >= 0;
    int64_t params = has_weight ? l->l->k * l->l->n + (l->l->bias >= 0 ? l->l->n : 0) : 0;
    int act_bits = l->quantize ? s->sites[l->x].bits : 0, weight_bits = l->quantize ? l->choice.weight_bits : 0;
    /* A product has no weights: its second operand's bits stand in the precision's name. */
    const char *precision = l->quantize ? precision_name(has_weight ? weight_bits : act_bits, act_bits) : "float";
    *ret = (struct layer_row){
        .name = l->l->name, .op = op_info[t->g->nodes[l->l->node].op].type, .block = l->l->block,
        .role = layer_role_name[l->l->kind], .weight_bits = has_weight ? weight_bits : 0, .act_bits = act_bits,
        .planned = precision, .actual = precision, .skip_reason = l->quantize ? "" : l->choice.reason,
        .has_weight = has_weight, .weight = l->w.codes ? &l->weight : NULL,
        .accumulated = l->accumulated, .isolated = l->isolated,
        .x = l->x >= 0 && s->sites[l->x].decided ? &s->sites[l->x].summary : NULL,
        .params = params, .bytes_before = params * 4,
        .bytes_after = l->quantize && has_weight ? l->l->k * l->l->n + (l->l->bias >= 0 ? 4 : 0) * l->l->n + 5 * l->l->n
                                                 : params * 4,
        .seconds = l->seconds,
    };
}
