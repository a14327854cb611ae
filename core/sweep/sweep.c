#include "core/sweep/sweep.h"

#include "core/base/version.h"
#include "core/kernel/kernel.h"
#include "core/sweep/absorb.h"
#include "core/sweep/blocks.h"
#include "core/sweep/compensate.h"
#include "core/sweep/journal.h"
#include "core/sweep/moments.h"
#include "core/sweep/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STRETCH_SITES = 256, CHECKED_SAMPLES = 8 };

struct walk {
    const struct sweep_task *t;
    struct sweep *s;
    struct arena *mem, *codes;
    struct journal journal;
    struct pass *pass;
    struct lower lower;
    int decided_now;               /* sites decided in this process */
};

void sweep_fingerprint(const uint8_t model[HASH_SIZE], const uint8_t data[HASH_SIZE], const struct recipe *r, uint64_t seed,
                       uint8_t ret[HASH_SIZE])
{
    struct hash h;
    size_t layout[] = { sizeof(struct site_summary), sizeof(struct weight_summary), sizeof(struct site_choice), sizeof(struct qweight) };
    hash_init(&h);
    hash_add(&h, engine_version, strlen(engine_version) + 1);
    hash_add(&h, blas_kernel(), strlen(blas_kernel()));     /* the manifest names one, and half of the bytes would be another's */
    hash_add(&h, layout, sizeof layout);
    hash_add(&h, model, HASH_SIZE);
    hash_add(&h, data, HASH_SIZE);
    hash_add(&h, r, sizeof *r);
    hash_add(&h, &seed, sizeof seed);
    hash_end(&h, ret);
}

/* ---- deciding ---- */

/* The weights of all linears that read the site, one under another [n, channels]. */
static bool stack_weights(const struct sweep_task *t, const struct sweep *s, int site, struct arena *mem, struct site_view *v, struct err *e)
{
    v->n = v->n_readers = 0;
    struct smooth_reader *readers = arena_array(mem, (uint64_t)s->n_layers, sizeof *readers, e);
    for (int i = 0; readers && i < s->n_layers; i++)
        if (s->layers[i].x == site && s->layers[i].quantize) {
            v->n += (size_t)s->layers[i].l->n;
            readers[v->n_readers++] = (struct smooth_reader){ v->n, s->layers[i].choice.weight_bits,
                                                              weight_grid_of(t->recipe, s->layers[i].l, s->layers[i].choice.weight_bits) };
        }
    float *stack = arena_scratch(mem, v->n * v->rows.channels, sizeof *stack, e);
    v->w = stack;
    v->readers = readers;
    for (int i = 0; readers && stack && i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        if (l->x != site || !l->quantize)
            continue;
        if (!weight_rows(t->g, l->l, stack, e))
            return false;
        stack += (size_t)l->l->n * v->rows.channels;
    }
    return v->w && readers;
}

bool sweep_view(const struct sweep_task *t, const struct sweep *s, int site, const struct observer *o, const struct sample *sample,
                struct arena *mem, struct site_view *ret, struct err *e)
{
    const struct site *at = &s->sites[site];
    *ret = (struct site_view){ .kind = at->kind, .bits = at->bits, .weight_bits = at->weight_bits, .o = o, .seed = t->seed,
                               .conv_output = at->conv_output, .free_factors = at->norm >= 0, .all_rows = sample->all_rows,
                               .can_shift = at->norm < 0 || t->roles->norms[at->norm].beta >= 0 };
    return !sample->channels || (sample_rows(sample, mem, &ret->rows, e) && stack_weights(t, s, site, mem, ret, e));
}

/* A copy that outlives scratch memory; NULL stays NULL, and becomes so without memory. */
static void *kept(struct arena *mem, const void *from, size_t bytes, bool *ok, struct err *e)
{
    void *copy = from ? arena_alloc(mem, bytes, e) : NULL;
    if (copy && bytes)
        memcpy(copy, from, bytes);
    *ok &= copy || !from;
    return copy;
}

static bool keep_choice(struct arena *mem, struct site_choice *q, size_t channels, struct err *e)
{
    bool ok = true;
    q->mul = kept(mem, q->mul, channels * sizeof *q->mul, &ok, e);
    q->shift = kept(mem, q->shift, channels * sizeof *q->shift, &ok, e);
    return ok;
}

static bool keep_weight(struct arena *mem, struct arena *codes, struct qweight *w, struct err *e)
{
    bool ok = true;
    w->codes = kept(codes, w->codes, w->k * w->n, &ok, e);
    w->scale = kept(mem, w->scale, qweight_scales(w) * sizeof *w->scale, &ok, e);
    w->zero = kept(mem, w->zero, qweight_scales(w), &ok, e);
    w->step = kept(mem, w->step, qweight_steps(w), &ok, e);
    w->stored_zero = kept(mem, w->stored_zero, qweight_steps(w), &ok, e);
    w->bias = kept(mem, w->bias, w->n * sizeof *w->bias, &ok, e);
    w->low_u = kept(mem, w->low_u, w->k * w->rank * sizeof *w->low_u, &ok, e);
    w->low_v = kept(mem, w->low_v, w->rank * w->n * sizeof *w->low_v, &ok, e);
    return ok;
}

static bool choose(const struct walk *w, int index, const struct observer *o, const struct sample *sample, struct arena *scratch,
                   struct err *e)
{
    struct site *s = &w->s->sites[index];
    struct site_view v;
    if (!sweep_view(w->t, w->s, index, o, sample, scratch, &v, e))
        return false;
    bool fixed = s->kind == SITE_ROWS && s->norm < 0;
    if (!fixed && (!w->t->method->site(w->t->recipe, &v, w->t->pool, scratch, &s->q, e) || !keep_choice(w->mem, &s->q, o->channels, e)))
        return false;
    if (s->kind == SITE_ROWS)
        s->q.a = quantizer_unit(s->bits, w->t->recipe->activations.symmetric);
    if (s->absorbed)
        s->q.exponent = s->exponent;
    struct site_codes codes = sweep_codes(s);
    codes.rows = &v.rows;
    struct affine loudest = s->q.a;
    if (s->seen != s->value) {         /* what is shown is the quantizer of the loudest token */
        loudest.scale *= fmaxf(-o->range.lo, o->range.hi);
        codes.a = &loudest;
        codes.mul = NULL;
    }
    if (s->conv_output)
        codes.mul = NULL;              /* no layer shows it, and there are no rows to tell what it clips */
    return site_summarize(o, &codes, w->mem, &s->summary, e);
}

static bool decide_site(struct walk *w, int index, const struct observer *o, const struct sample *sample, struct err *e)
{
    struct site *s = &w->s->sites[index];
    struct arena *scratch = arena_new(UINT64_MAX / 2);
    bool ok = scratch ? choose(w, index, o, sample, scratch, e) : err_set(e, ERR_MEMORY, s->layer, "no memory to choose a quantizer");
    arena_free(scratch);
    if (!ok)
        return false;
    if (o->count && o->range.lo == o->range.hi && !w->t->made_up)
        events_warning(w->t->events, "numeric.zero_range", w->t->g->values[s->value].name,
                       "the input of layer '%s' is constant on the calibration data", s->layer);
    s->decided = true;
    w->decided_now++;
    return record_site(&w->journal, w->s, index, e) && lower_site(&w->lower, index, e);
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

static void fit_bias(const struct recipe *r, const struct weight_view *v, struct qweight *io)
{
    if (v->l->kind == LAYER_CONV)
        qweight_fit_bias(v->g, v->l, weight_grid_of(r, v->l, v->bits).rows, v->a.scale, io);
}

/* The method's codes for a layer's weights, kept beyond its scratch memory.  *ret stays empty on failure. */
static bool make_weights(const struct walk *w, const struct weight_view *v, struct qweight *ret, struct err *e)
{
    struct arena *scratch = arena_new(UINT64_MAX / 2);
    struct weight_view own = *v;           /* without moments that were gathered for the compensation alone */
    own.rows = w->t->method->wants_moments(w->t->recipe) ? v->rows : 0;
    bool ok = (scratch || err_set(e, ERR_MEMORY, v->l->name, "no memory for the layer's weights"))
           && w->t->method->weights(w->t->recipe, &own, w->t->pool, scratch, ret, e) && compensate(w->t->recipe, v, scratch, ret, e);
    if (ok)
        fit_bias(w->t->recipe, v, ret);
    ok = ok && keep_weight(w->mem, w->codes, ret, e);
    arena_free(scratch);
    if (!ok)
        *ret = (struct qweight){ 0 };
    return ok;
}

/* With the moments of what it sees in *v, or with v->rows == 0 without. */
static bool decide_weight(struct walk *w, int index, struct weight_view *v, struct err *e)
{
    struct sweep_layer *l = &w->s->layers[index];
    const struct site *x = &w->s->sites[l->x];
    const struct sweep_layer *same = l->l->shared_weight ? same_weight(w->s, l) : NULL;
    if (same) {
        l->w = same->w;
        l->weight = same->weight;
        return true;
    }
    if (weight_grid_falls_back(w->t->recipe, l->l))
        events_warning(w->t->events, "weights.no_group", l->l->name, "no power of two from 16 on divides its %lld inputs: it has one scale per output channel",
                       (long long)l->l->k);
    v->g = w->t->g;
    v->l = l->l;
    v->bits = l->choice.weight_bits;
    v->a = x->q.a;
    v->mul = x->q.mul;
    v->shift = x->q.shift;
    if (!make_weights(w, v, &l->w, e))
        return false;
    w->s->made_weights++;
    weight_summarize(w->t->g, l->l, &l->w, x->q.mul, &l->weight);
    return record_weight(&w->journal, w->s, index, e);
}

/* Weights of layers that no moments are gathered for, as soon as their sites are known. */
static bool decide_plain_weights(struct walk *w, struct err *e)
{
    for (int i = 0; i < w->s->n_layers; i++) {
        const struct sweep_layer *l = &w->s->layers[i];
        struct weight_view v = { 0 };
        if (l->quantize && l->l->weight >= 0 && !l->w.codes && !sweep_gathers(w->t, l) && sweep_sites_ready(w->s, l, false)
            && !decide_weight(w, i, &v, e))
            return false;
    }
    return true;
}

static bool decide_gathered_weights(struct walk *w, struct gathering *g, struct err *e)
{
    for (int i = 0; i < gathering_layers(g); i++) {
        int layer;
        struct weight_view v = { 0 };
        if (!gathering_result(g, i, &layer, &v, e) || !decide_weight(w, layer, &v, e))
            return false;
    }
    return true;
}

/* Layers' own weights, rounded as if their inputs had no factors. */
static bool round_own_weights(struct walk *w, struct err *e)
{
    for (int i = 0; w->s->folding_waits && i < w->s->n_layers; i++) {
        struct sweep_layer *l = &w->s->layers[i];
        struct weight_view v = { .g = w->t->g, .l = l->l, .bits = l->choice.weight_bits };
        if (!l->w.codes || l->own.codes || !w->s->sites[l->x].q.mul)
            continue;
        v.a = w->s->sites[l->x].q.a;
        if (!make_weights(w, &v, &l->own, e))
            return false;
    }
    return true;
}

static bool lower_layers(struct walk *w, struct err *e)
{
    if (!round_own_weights(w, e))
        return false;
    for (int i = 0; i < w->s->n_layers; i++)
        if (!lower_layer(&w->lower, i, e))
            return false;
    return true;
}

/* What the journal brought. */
static bool lower_replayed(struct walk *w, struct err *e)
{
    for (int i = 0; i < w->s->n_sites; i++)
        if (w->s->sites[i].decided && !lower_site(&w->lower, i, e))
            return false;
    return blocks_relower(&w->lower, e) && decide_plain_weights(w, e) && lower_layers(w, e);
}

/* ---- walking ---- */

/* Both ends of a block that is to be taught. */
static void stop_at_block(const struct walk *w, struct stretch *st)
{
    const struct sweep_block *b = blocks_ahead(w->s, st->from);
    int stop = b ? st->from < b->first ? b->first : b->end : st->to;
    st->keep = b && st->from >= b->first ? b->first : -1;
    if (stop < st->to)
        st->to = st->resume = stop;
}

/* The first quantized node at or after `from` that cannot run (or not in its final form) yet. */
static void find_end(const struct walk *w, struct stretch *st)
{
    int from = st->from;
    st->to = st->resume = w->t->g->n_nodes;
    for (int i = 0; i < w->s->n_layers; i++) {
        const struct sweep_layer *l = &w->s->layers[i];
        bool operands = sweep_ready(w->s, l, false);
        int end = operands ? l->l->node + 1 : l->l->node;
        if (!l->quantize || l->l->node < from || sweep_ready(w->s, l, true) || end >= st->to)
            continue;
        st->to = st->resume = end;
    }
    stop_at_block(w, st);
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

/* sites: room for MAX_STRETCH_SITES. */
static bool find_stretch(const struct walk *w, struct stretch *st, int *sites, struct err *e)
{
    find_end(w, st);
    st->sites = sites;
    for (int i = 0; i < w->s->n_sites; i++) {
        const struct site *s = &w->s->sites[i];
        if (s->decided || s->made_at >= st->to || is_provisional(w, s) || blocks_may_change(w->s, i))
            continue;
        if (st->n_sites == MAX_STRETCH_SITES)
            return err_set(e, ERR_MODEL_LIMIT, s->layer, "more than %d tensors wait to be quantized at once", MAX_STRETCH_SITES);
        sites[st->n_sites++] = i;
        if (s->resume_at >= st->from && s->resume_at < st->resume)
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
        if (!record_layer(&w->journal, w->s, i, e))
            return false;
        struct layer_row row;
        sweep_row(w->t, w->s, i, &row);
        json_t *json = layer_row_json(&row);
        events_layer(w->t->events, i, json);
        json_decref(json);
    }
    return true;
}

/* Observers, and samples where the method wants rows. */
static bool prepare(struct walk *w, struct stretch *st, struct arena *mem, struct err *e)
{
    st->obs = arena_array(mem, (uint64_t)st->n_sites + 1, sizeof *st->obs, e);
    st->samples = arena_array(mem, (uint64_t)st->n_sites + 1, sizeof *st->samples, e);
    bool ok = st->obs && st->samples;
    for (int i = 0; ok && i < st->n_sites; i++) {
        const struct site *s = &w->s->sites[st->sites[i]];
        if (w->t->method->wants_rows(w->t->recipe, s->kind))
            ok = sample_init(&st->samples[i], &w->s->chunks, s->seen, w->t->seed, w->t->method->sample_rows,
                             w->t->method->sample_largest, mem, e);
    }
    return ok && gathering_new(w->t, w->s, st->to, &st->gathering, e);
}

static bool walk_stretch(struct walk *w, struct stretch *st, struct arena *mem, struct err *e)
{
    bool *before = arena_array(mem, (uint64_t)w->s->n_layers + 1, sizeof *before, e);
    bool ok = before && prepare(w, st, mem, e);
    for (int i = 0; ok && i < w->s->n_layers; i++)
        before[i] = w->s->layers[i].measured;
    ok = ok && pass_run(w->pass, st, e) && publish_layers(w, before, e);
    for (int i = 0; ok && i < st->n_sites; i++)
        ok = decide_site(w, st->sites[i], &st->obs[i], &st->samples[i], e);
    ok = ok && decide_gathered_weights(w, st->gathering, e) && decide_plain_weights(w, e) && lower_layers(w, e)
      && journal_sync(&w->journal, e);
    for (int i = 0; st->obs && st->samples && i < st->n_sites; i++) {
        observer_release(&st->obs[i]);
        sample_release(&st->samples[i]);
    }
    gathering_free(st->gathering);
    return ok;
}

/* At the end of a block: it is taught, and runs once more as it is now. */
static bool teach(struct walk *w, int *pos, struct err *e)
{
    struct sweep_block *b = blocks_ahead(w->s, *pos - 1);
    if (!b || b->end != *pos)
        return true;
    *pos = b->first;
    return blocks_teach(&w->lower, w->codes, w->pass, b, e)
        && record_block(&w->journal, w->t, w->s, (int)(b - w->s->blocks), e) && journal_sync(&w->journal, e);
}

/* What ran before this node does not run again. */
static int safe_behind(const struct walk *w, int pos)
{
    const struct sweep_block *b = blocks_ahead(w->s, pos);
    return b && pos > b->first ? b->first : pos;
}

/* One stretch from *pos, which it moves on. */
static bool walk_on(struct walk *w, int *pos, struct err *e)
{
    int sites[MAX_STRETCH_SITES];
    struct stretch st = { .from = *pos };
    struct arena *mem = arena_new(UINT64_MAX / 2);
    bool ok = mem ? find_stretch(w, &st, sites, e) && walk_stretch(w, &st, mem, e) : err_set(e, ERR_MEMORY, "", "no memory for the sweep");
    arena_free(mem);
    for (size_t i = 0; i < w->t->n_maps; i++)
        mapping_rest(w->t->maps[i].data, w->t->maps[i].size);
    *pos = st.resume;
    return ok && teach(w, pos, e);
}

/* From the first node on; what the journal brought is decided. */
static bool walk_graph(struct walk *w, struct err *e)
{
    int n = w->t->g->n_nodes;
    bool told = false;
    if (!lower_replayed(w, e))
        return false;
    for (int pos = 0; pos < n; ) {
        if (!told && w->decided_now + w->s->replayed_sites > 0) {
            events_stage(w->t->events, "quantizing");      /* from the first decision on, both go hand in hand */
            told = true;
        }
        events_progress(w->t->events, count_decided(w->s), w->s->n_sites, w->s->chunks.count);
        if (!walk_on(w, &pos, e))
            return false;
        if (w->t->stop_after && w->decided_now >= w->t->stop_after && pos < n)
            return err_set(e, ERR_CANCELED, "", "stopped after %d sites", w->decided_now);
        lower_forget(&w->lower, safe_behind(w, pos));
    }
    events_progress(w->t->events, count_decided(w->s), w->s->n_sites, w->s->chunks.count);
    return true;
}

/* Everything is decided: the walk begins again, every layer as it will be in the artifact. */
static bool fold_all(struct walk *w, struct err *e)
{
    w->s->folding_waits = false;
    for (int i = 0; i < w->s->n_layers; i++) {
        struct sweep_layer *l = &w->s->layers[i];
        l->own = (struct qweight){ 0 };
        w->s->quantized.qop[l->l->node] = (struct qop){ 0 };
    }
    lower_forget(&w->lower, INT32_MAX);
    pass_free(w->pass);
    w->pass = pass_new(w->t, w->s, e);
    return w->pass != NULL;
}

static bool all_decided(const struct sweep *s)
{
    bool all = true;
    for (int i = 0; i < s->n_sites; i++)
        all &= s->sites[i].decided;
    for (int i = 0; i < s->n_layers; i++)
        all &= !s->layers[i].quantize || sweep_ready(s, &s->layers[i], true);
    return all;
}

/* A first walk that the journal leaves nothing to decide in would be a replay beside that of the second. */
static bool walk_all(struct walk *w, struct err *e)
{
    w->s->folding_waits = w->t->method->folds_last && !all_decided(w->s);
    return walk_graph(w, e) && (!w->s->folding_waits || (fold_all(w, e) && walk_graph(w, e)))
        && pass_keep_outputs(w->pass, w->mem, CHECKED_SAMPLES, e);
}

static bool tell_replayed(const struct sweep_task *t, const struct sweep *s)
{
    if (s->replayed_sites + s->replayed_weights > 0)
        events_resumed(t->events, s->replayed_sites, s->replayed_weights);
    return true;
}

bool sweep_run(const struct sweep_task *t, struct arena *mem, struct sweep *ret, struct err *e)
{
    *ret = (struct sweep){ .g = t->g };
    struct sweep_task own = *t;            /* with the graph as the walk sees it */
    struct arena *codes = t->codes ? t->codes : mem;
    struct walk w = { .t = &own, .s = ret, .mem = mem, .codes = codes, .journal = { -1 }, .lower = { &own, ret, mem, NULL } };
    struct replay replay = { &own, ret, mem, codes };
    int64_t samples = t->recipe->calibration.samples;
    bool ok = sweep_list_sites(t, mem, ret, e) && lowering_new(&ret->quantized, t->g, mem, e);
    ret->quantized.may_float = t->method->folds_last;
    ret->quantized.low_rank = (size_t)t->recipe->compensation.rank;
    ok = ok && chunks_new(&ret->chunks, t->g, &ret->quantized, mem, t->samples, 0, samples, e)
      && journal_open(&w.journal, t->made_up ? NULL : t->dir, t->fingerprint, record_replay, &replay, e) && tell_replayed(t, ret)
      && (!t->method->absorbs || (absorb_factors(t, ret, &w.journal, mem, e)
                                  && chunks_new(&ret->chunks, ret->g, &ret->quantized, mem, t->samples, 0, samples, e)));
    own.g = ret->g;
    ok = ok && (w.lower.floats = arena_array(mem, (uint64_t)ret->n_layers + 1, sizeof *w.lower.floats, e))
           && (w.pass = pass_new(&own, ret, e)) && walk_all(&w, e);
    if (w.pass)
        pass_usage(w.pass, &ret->peak_held, &ret->spilled);
    ret->searched_sites = w.decided_now;
    if (ret->chunks.n)
        ret->passes = (double)ret->steps / ((double)ret->chunks.n * ret->chunks.chunk[0].plan->n_steps);
    if (w.lower.floats)
        lower_forget(&w.lower, INT32_MAX);
    pass_free(w.pass);
    journal_close(&w.journal);
    return ok;
}
