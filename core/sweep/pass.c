/*
 * pass.c - one stretch of the walk, for all chunks, on both streams.
 *
 * Each chunk is one piece of the thread team's task.  It loads what it held,
 * runs the stretch node by node on both streams, lets observers look at the
 * quantized stream, compares the streams at every layer, and holds what is
 * still needed.  Observers are per thread (their sums are integers and
 * extremes, so order cannot matter); errors are per chunk and added in chunk order.
 */
#include "core/sweep/sweep.h"

#include "core/base/clock.h"
#include "core/sweep/blocks.h"
#include "core/sweep/fold_check.h"
#include "core/sweep/moments.h"
#include "core/sweep/sample.h"
#include "core/sweep/store.h"

#include <stdlib.h>
#include <string.h>

enum stream { FLOAT, QUANTIZED, STREAMS };

/* The layer alone is computed on so many samples: an SQNR needs no more, and it costs a float product each. */
enum { ISOLATED_SAMPLES = 8 };

/* What one chunk has in hand between stretches. */
struct hand { struct held *held[STREAMS]; };       /* [n_values] each */

struct member {                                    /* what one thread works with */
    struct frame frame[STREAMS];
    struct observer *obs;                          /* [n_sites] of the stretch */
    void **temps;                                  /* spilled tensors read back for the present chunk */
    int n_temps;
    float *room;                                   /* for a layer computed unquantized */
    size_t room_size;
    int64_t steps;                                 /* nodes run in this stretch */
};

struct measure { struct errors accumulated, isolated; double seconds; };

struct pass {
    const struct sweep_task *t;
    struct sweep *s;
    struct lowering plain;                         /* the float stream's */
    struct arena *mem;
    struct store *store;
    struct hand *hands;                            /* [chunks] */
    struct member *members;                        /* [threads] */
    int *layer_at, *result_at;                     /* [n_nodes]: layer of a node, the layer whose result it gives; or -1 */
    const struct stretch *st;                      /* the present one */
    struct measure *measures;                      /* [chunks][n_layers] */
    bool *measuring;                               /* [n_layers] */
};

static int threads_of(const struct pass *p) { return pool_threads(p->t->pool); }

struct pass *pass_new(const struct sweep_task *t, struct sweep *s, struct err *e)
{
    struct pass *p = calloc(1, sizeof *p);
    struct arena *mem = arena_new(UINT64_MAX / 2);
    if (!p || !mem) {
        free(p);
        arena_free(mem);
        err_set(e, ERR_MEMORY, "", "no memory for the sweep");
        return NULL;
    }
    p->t = t;
    p->s = s;
    p->mem = mem;
    p->store = store_new(t->memory, t->dir ? t->dir : "/tmp", e);
    p->hands = arena_array(mem, (uint64_t)s->chunks.n, sizeof *p->hands, e);
    p->members = arena_array(mem, (uint64_t)threads_of(p), sizeof *p->members, e);
    p->layer_at = arena_array(mem, (uint64_t)t->g->n_nodes, sizeof *p->layer_at, e);
    p->result_at = arena_array(mem, (uint64_t)t->g->n_nodes, sizeof *p->result_at, e);
    p->measuring = arena_array(mem, (uint64_t)s->n_layers + 1, sizeof *p->measuring, e);
    p->measures = arena_array(mem, (uint64_t)s->chunks.n * ((uint64_t)s->n_layers + 1), sizeof *p->measures, e);
    bool ok = p->store && p->hands && p->members && p->layer_at && p->result_at && p->measuring && p->measures
           && lowering_new(&p->plain, t->g, mem, e);
    for (int c = 0; ok && c < s->chunks.n; c++)
        for (int i = 0; i < STREAMS; i++)
            ok = ok && (p->hands[c].held[i] = arena_array(mem, (uint64_t)t->g->n_values, sizeof(struct held), e));
    for (int i = 0; ok && i < threads_of(p); i++)
        ok = (p->members[i].temps = arena_array(mem, (uint64_t)t->g->n_values * STREAMS, sizeof(void *), e)) != NULL;
    if (!ok) {
        pass_free(p);
        return NULL;
    }
    memset(p->layer_at, -1, (size_t)t->g->n_nodes * sizeof *p->layer_at);
    memset(p->result_at, -1, (size_t)t->g->n_nodes * sizeof *p->result_at);
    for (int i = 0; i < s->n_layers; i++)
        p->result_at[s->layers[i].result] = p->layer_at[s->layers[i].l->node] = i;
    return p;
}

void pass_free(struct pass *p)
{
    if (!p)
        return;
    for (int c = 0; p->hands && c < p->s->chunks.n; c++)
        for (int i = 0; i < STREAMS; i++)
            for (int v = 0; p->hands[c].held[i] && v < p->t->g->n_values; v++)
                store_drop(p->store, &p->hands[c].held[i][v]);
    for (int i = 0; p->members && i < threads_of(p); i++) {
        frame_release(&p->members[i].frame[FLOAT]);
        frame_release(&p->members[i].frame[QUANTIZED]);
        free(p->members[i].room);
    }
    store_free(p->store);
    arena_free(p->mem);
    free(p);
}

/* Both frames as they stood at `from`. */
static bool load(struct pass *p, struct member *m, int chunk, struct err *e)
{
    const struct lowering *how[STREAMS] = { &p->plain, &p->s->quantized };
    for (int i = 0; i < STREAMS; i++) {
        if (!chunk_bind(&p->s->chunks, chunk, how[i], &m->frame[i], e))
            return false;
        for (int v = 0; v < p->t->g->n_values; v++) {
            struct held *h = &p->hands[chunk].held[i][v];
            if (h->there && p->t->g->values[v].producer >= p->st->from)
                store_drop(p->store, h);       /* the walk went back behind it: it is made again */
            if (!h->there)
                continue;
            const void *data = store_get(p->store, h, &m->temps[m->n_temps], e);
            if (!data)
                return false;
            m->n_temps += m->temps[m->n_temps] != NULL;
            frame_set(&m->frame[i], v, data);
        }
    }
    return true;
}

static uint64_t bytes_of(const struct frame *f, int value)
{
    const struct tensor *t = &f->t[value];
    return ((uint64_t)shape_elements(&t->shape) * (uint64_t)dtype_bits(t->dtype) + 7) / 8;
}

/* Needed from `resume` on, or by a block that begins before it. */
static bool wanted_later(const struct pass *p, const struct plan *plan, int v)
{
    return plan_live_at(plan, v, p->st->resume) || (p->st->keep >= 0 && plan_live_at(plan, v, p->st->keep));
}

/* Holds what is alive at `resume` and lets go of the rest. */
static bool hold(struct pass *p, struct member *m, int chunk, struct err *e)
{
    const struct plan *plan = p->s->chunks.chunk[chunk].plan;
    for (int i = 0; i < STREAMS; i++)
        for (int v = 0; v < p->t->g->n_values; v++) {
            struct held *h = &p->hands[chunk].held[i][v];
            bool alive = wanted_later(p, plan, v) && !p->t->g->values[v].is_input;
            if (!alive)
                store_drop(p->store, h);
            else if (!h->there && !store_put(p->store, m->frame[i].t[v].data, bytes_of(&m->frame[i], v), h, e))
                return false;
        }
    return true;
}

/* Is the site's tensor there before the stretch runs: made by an earlier one, or known once shapes are? */
static bool is_there(const struct pass *p, const struct frame *f, const struct site *s)
{
    return s->made_at < p->st->from || f->plan->facts.known[s->seen];
}

/* A batch that a Slice left empty has nothing to see. */
static void look(const struct site *s, const struct tensor *t, struct observer *o)
{
    size_t count = (size_t)shape_elements(&t->shape), rows = count / (o->channels ? o->channels : 1);
    if (!count)
        return;
    if (s->conv_output)
        observer_add_planes(o, t->data, (size_t)t->shape.dim[0], rows / (size_t)t->shape.dim[0]);
    else if (o->heads)
        observer_add_heads(o, t->data, (size_t)t->shape.dim[0], (size_t)(t->shape.dim[2] * t->shape.dim[3]));
    else
        observer_add(o, t->data, rows);
}

/* Observers of the sites that `node` has just made (-1: those that were there before the stretch). */
static bool observe(struct pass *p, struct member *m, int chunk, int node, struct err *e)
{
    for (int i = 0; i < p->st->n_sites; i++) {
        const struct site *s = &p->s->sites[p->st->sites[i]];
        if (is_there(p, &m->frame[QUANTIZED], s) ? node != -1 : s->made_at != node)
            continue;
        const struct tensor *t = &m->frame[QUANTIZED].t[s->seen];
        struct observer *o = &m->obs[i];
        look(s, t, o);
        if (p->st->samples[i].channels && !sample_add(&p->st->samples[i], &p->s->chunks, chunk, t, e))
            return false;
        if (o->range.nan || o->range.inf)
            return err_set(e, ERR_NUMERIC_NONFINITE, p->t->g->values[s->seen].name,
                           "the input of layer '%s' becomes NaN or infinite on the calibration data; check the data and the model's range",
                           s->layer);
    }
    return true;
}

static bool grow_room(struct member *m, size_t n, struct err *e)
{
    if (n <= m->room_size)
        return true;
    free(m->room);
    m->room = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
    m->room_size = m->room ? n : 0;
    return m->room || err_set(e, ERR_MEMORY, "", "no memory for a layer's output");
}

/* Biases that an Add behind the layer brings: its own, and what the quantized stream has in its place. */
struct biases { const float *own, *now; };

static struct biases biases_of(const struct pass *p, const struct sweep_layer *l)
{
    const struct layer *at = l->l;
    if (at->bias_node < 0 || at->bias_node == at->node)
        return (struct biases){ NULL, NULL };
    return (struct biases){ layer_bias(p->t->g, at), qweight_bias(&l->w, p->t->g, at) };
}

/* The layer's input as the model means it: without the channel factors that its norm took up. */
static const float *own_input(const struct pass *p, const struct sweep_layer *l, const struct tensor *x, float *room)
{
    const struct site *s = &p->s->sites[l->x];
    if (!s->q.mul || s->norm < 0)
        return x->data;
    size_t count = (size_t)shape_elements(&x->shape), k = (size_t)l->l->k;
    const float *from = x->data;
    for (size_t at = 0; at < count; at += k)
        for (size_t i = 0; i < k; i++)
            room[at + i] = (from[at + i] - (s->q.shift ? s->q.shift[i] : 0)) / s->q.mul[i];
    return room;
}

static struct measure *measure_of(struct pass *p, int chunk, int layer)
{
    return &p->measures[(size_t)chunk * (size_t)p->s->n_layers + (size_t)layer];
}

/* Both streams where they have the layer's output. */
static void compare(struct pass *p, struct member *m, int chunk, int layer)
{
    const struct sweep_layer *l = &p->s->layers[layer];
    int value = p->t->g->nodes[l->result].out[0];
    const struct tensor *want = &m->frame[FLOAT].t[value], *got = &m->frame[QUANTIZED].t[value];
    size_t count = (size_t)shape_elements(&want->shape), n = l->l->n ? (size_t)l->l->n : 1;
    struct biases b = biases_of(p, l);
    errors_add_rows(&measure_of(p, chunk, layer)->accumulated, want->data, b.own, got->data, b.now, count / n, n);
}

/* The layer alone: unquantized on the quantized stream's input. */
static bool compare_alone(struct pass *p, struct member *m, int chunk, int layer, struct err *e)
{
    const struct sweep_layer *l = &p->s->layers[layer];
    const struct node *node = &p->t->g->nodes[l->l->node];
    const struct tensor *got = &m->frame[QUANTIZED].t[node->out[0]], *x = &m->frame[QUANTIZED].t[l->l->x];
    size_t count = (size_t)shape_elements(&got->shape), n = l->l->n ? (size_t)l->l->n : 1, x_count = (size_t)shape_elements(&x->shape);
    struct biases b = biases_of(p, l);
    if (!l->quantize || p->s->chunks.chunk[chunk].first >= ISOLATED_SAMPLES)
        return true;
    if (!grow_room(m, count + x_count, e))
        return false;
    float *alone = m->room, *input = alone + count;
    struct tensor out = { got->dtype, got->shape, alone };
    int weight = l->l->weight >= 0 && node->in[1] == l->l->weight ? 1 : 0;
    struct edit converted = { weight, m->frame[FLOAT].t[node->in[weight]], NULL };
    struct edit own = { l->l->x == node->in[0] ? 0 : 1, *x, NULL };
    own.with.data = (void *)(uintptr_t)own_input(p, l, x, input);
    if (weight && p->t->g->values[l->l->weight].narrow)
        own.next = &converted;         /* the float stream has just made it float32 */
    if (!frame_float_step(&m->frame[QUANTIZED], l->l->node, &own, &out, e))
        return false;
    errors_add_rows(&measure_of(p, chunk, layer)->isolated, alone, b.own, got->data, b.now, count / n, n);
    return true;
}

/* The scaled norm of a site against the model's own, on the first chunk, where it first runs.  What comes after the Mul or the
 * LayerNormalization is a constant vector on both sides. */
static bool check_fold(struct pass *p, struct member *m, int site, struct err *e)
{
    struct site *s = &p->s->sites[site];
    const struct norm *n = &p->t->roles->norms[s->norm];
    struct frame *f = &m->frame[QUANTIZED];
    const struct tensor *now = &f->t[p->t->g->nodes[n->scale_node].out[0]];
    size_t count = (size_t)shape_elements(&now->shape), k = (size_t)shape_elements(&p->t->g->values[n->gamma].shape), rows = count / k;
    if (!grow_room(m, 2 * count, e))
        return false;
    struct tensor own = { now->dtype, now->shape, m->room };
    float *scaled = m->room + count;
    if (!frame_float_step(f, n->scale_node, NULL, &own, e))
        return false;
    memcpy(scaled, now->data, rows * k * sizeof *scaled);
    if (n->shift_node >= 0 && n->shift_node != n->scale_node) {
        vec_add_row(rows, k, m->room, p->t->g->values[n->beta].data, m->room);
        vec_add_row(rows, k, scaled, lowering_edited(p->s->quantized.edit[n->shift_node], n->shift_input)->data, scaled);
    }
    s->checked = true;
    return fold_check(p->t, p->s, site, m->room, scaled, rows, e);
}

static bool check_folds(struct pass *p, struct member *m, int node, struct err *e)
{
    for (int i = 0; i < p->s->n_sites; i++) {
        const struct site *s = &p->s->sites[i];
        if (!p->s->folding_waits && s->decided && s->q.mul && s->norm >= 0 && !s->checked && p->t->roles->norms[s->norm].scale_node == node
            && !check_fold(p, m, i, e))
            return false;
    }
    return true;
}

/* What runs again from `resume` on is observed on the quantized stream alone, unless moments want both. */
static bool needs_float(const struct pass *p, int node) { return node < p->st->resume || p->st->gathering; }

static bool step(struct pass *p, struct member *m, int chunk, int node, struct err *e)
{
    int layer = p->layer_at[node], result = p->result_at[node];
    m->steps += 1 + needs_float(p, node);
    if (needs_float(p, node) && !frame_step(&m->frame[FLOAT], node, e))
        return false;
    int64_t start = clock_mono_us();
    if (!frame_step(&m->frame[QUANTIZED], node, e) || (chunk == 0 && !check_folds(p, m, node, e)))
        return false;
    if (layer >= 0 && p->measuring[layer]) {
        measure_of(p, chunk, layer)->seconds = 1e-6 * (double)(clock_mono_us() - start);
        if (!compare_alone(p, m, chunk, layer, e))
            return false;
    }
    if (result >= 0 && p->measuring[result])
        compare(p, m, chunk, result);
    return observe(p, m, chunk, node, e);
}

static bool run_chunk(void *arg, size_t chunk, int thread, struct err *e)
{
    struct pass *p = arg;
    struct member *m = &p->members[thread];
    const struct plan *plan = p->s->chunks.chunk[chunk].plan;
    bool ok = load(p, m, (int)chunk, e) && observe(p, m, (int)chunk, -1, e), holding = false;
    for (int i = 0; ok && i < plan->n_steps; i++) {
        int node = plan->steps[i];
        if (node < p->st->from || node >= p->st->to)
            continue;
        if (!holding && node >= p->st->resume)      /* now: further on, their slots are used again */
            ok = holding = hold(p, m, (int)chunk, e);
        ok = ok && step(p, m, (int)chunk, node, e);
    }
    if (p->st->gathering) {
        ok = ok && gathering_add(p->st->gathering, (int)chunk, thread, &m->frame[FLOAT], &m->frame[QUANTIZED], e);
        gathering_pass(p->st->gathering, (int)chunk);
    }
    ok = ok && (holding || hold(p, m, (int)chunk, e));
    while (m->n_temps > 0)
        free(m->temps[--m->n_temps]);
    chunk_rest(&p->s->chunks, (int)chunk);
    return ok;
}

/* Layers that run in their final form for the first time in this stretch. */
static void choose_measures(struct pass *p)
{
    struct sweep *s = p->s;
    memset(p->measures, 0, (size_t)s->chunks.n * (size_t)s->n_layers * sizeof *p->measures);
    for (int i = 0; i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        bool runs = l->l->node >= p->st->from && l->result < p->st->to && l->result < p->st->resume;
        p->measuring[i] = runs && !s->folding_waits && !l->measured && sweep_ready(s, l, true) && !blocks_open(s, l->l->node);
    }
}

static void collect_measures(struct pass *p)
{
    struct sweep *s = p->s;
    for (int i = 0; i < s->n_layers; i++) {
        if (!p->measuring[i])
            continue;
        for (int c = 0; c < s->chunks.n; c++) {
            const struct measure *m = &p->measures[(size_t)c * (size_t)s->n_layers + (size_t)i];
            errors_merge(&s->layers[i].accumulated, &m->accumulated);
            errors_merge(&s->layers[i].isolated, &m->isolated);
            s->layers[i].seconds += m->seconds;
        }
        s->layers[i].measured = true;
    }
}

static bool make_observer(const struct pass *p, int site, struct observer *ret, struct err *e)
{
    size_t heads = sweep_heads(p->t, p->s, site);
    return observer_init(ret, sweep_channels(p->s, site), e) && (!heads || observer_split(ret, heads, e));
}

static bool make_observers(struct pass *p, struct observer *obs, struct err *e)
{
    for (int i = 0; i < p->st->n_sites; i++) {
        if (!make_observer(p, p->st->sites[i], &obs[i], e))
            return false;
        for (int m = 0; m < threads_of(p); m++)
            if (!make_observer(p, p->st->sites[i], &p->members[m].obs[i], e))
                return false;
    }
    return true;
}

static void merge_observers(struct pass *p, struct observer *obs)
{
    for (int i = 0; i < p->st->n_sites; i++)
        for (int m = 0; m < threads_of(p); m++) {
            observer_merge(&obs[i], &p->members[m].obs[i]);
            observer_release(&p->members[m].obs[i]);
        }
}

bool pass_run(struct pass *p, const struct stretch *st, struct err *e)
{
    p->st = st;
    size_t each = (size_t)st->n_sites + 1;         /* the one over keeps threads from sharing a cache line */
    struct observer *all = calloc((size_t)threads_of(p) * each, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "", "no memory for observers");
    for (int m = 0; m < threads_of(p); m++) {
        p->members[m].obs = all + (size_t)m * each;
        p->members[m].steps = 0;
    }
    bool ok = make_observers(p, st->obs, e);
    if (ok) {
        choose_measures(p);
        ok = pool_run(p->t->pool, (size_t)p->s->chunks.n, run_chunk, p, e);
    }
    if (ok)
        collect_measures(p);
    if (ok)
        merge_observers(p, st->obs);
    for (int m = 0; m < threads_of(p); m++) {
        for (int i = 0; i < st->n_sites; i++)
            observer_release(&p->members[m].obs[i]);
        p->members[m].obs = NULL;
        p->s->steps += p->members[m].steps;
    }
    free(all);
    return ok;
}

/* The bytes of a graph output, which may be held, known, or an input's own. */
static const void *output_data(struct pass *p, const struct frame *f, int chunk, int v, void **ret_temp, struct err *e)
{
    const struct plan *plan = f->plan;
    int root = plan->root[v];
    const struct held *h = &p->hands[chunk].held[QUANTIZED][root];
    if (h->there)
        return store_get(p->store, h, ret_temp, e);
    return plan->facts.known[v] || plan->facts.known[root] || p->t->g->values[root].is_input ? f->t[v].data : NULL;
}

static bool keep_output(struct pass *p, struct arena *mem, int chunk, int output, struct tensor *ret, struct err *e)
{
    struct frame *f = &p->members[0].frame[QUANTIZED];
    int v = p->t->g->outputs[output];
    void *temp = NULL;
    if (!chunk_bind(&p->s->chunks, chunk, &p->s->quantized, f, e))
        return false;
    const struct plan *plan = f->plan;
    const void *data = output_data(p, f, chunk, v, &temp, e);
    *ret = (struct tensor){ p->t->g->values[v].dtype, plan->facts.shape[v], NULL };
    uint64_t bytes = ((uint64_t)shape_elements(&ret->shape) * (uint64_t)dtype_bits(ret->dtype) + 7) / 8;
    ret->data = arena_alloc(mem, bytes, e);
    bool ok = ret->data && (data || err_set(e, ERR_BUG, p->t->g->values[v].name, "an output was not held"));
    if (ok && bytes)
        memcpy(ret->data, data, (size_t)bytes);
    free(temp);
    return ok;
}

bool pass_keep_outputs(struct pass *p, struct arena *mem, int64_t samples, struct err *e)
{
    struct sweep *s = p->s;
    int n_outputs = p->t->g->n_outputs;
    while (s->n_checked < s->chunks.n && s->chunks.chunk[s->n_checked].first < samples)
        s->n_checked++;
    s->checked = arena_array(mem, (uint64_t)s->n_checked * (uint64_t)n_outputs, sizeof *s->checked, e);
    for (int c = 0; s->checked && c < s->n_checked; c++)
        for (int o = 0; o < n_outputs; o++)
            if (!keep_output(p, mem, c, o, &s->checked[c * n_outputs + o], e))
                return false;
    return s->checked != NULL;
}

const void *pass_held(struct pass *p, bool quantized, int chunk, int value, void **ret_temp, struct err *e)
{
    const struct chunk *at = &p->s->chunks.chunk[chunk];
    int root = at->plan->root[value];
    *ret_temp = NULL;
    for (int i = 0; i < p->t->g->n_inputs; i++)
        if (p->t->g->inputs[i] == root)
            return chunk_input(&p->s->chunks, chunk, i, ret_temp, e);
    const struct held *h = &p->hands[chunk].held[quantized ? QUANTIZED : FLOAT][root];
    if (h->there)
        return store_get(p->store, h, ret_temp, e);
    err_set(e, ERR_BUG, p->t->g->values[value].name, "a tensor at a block's end was not held");
    return NULL;
}

void pass_usage(struct pass *p, int64_t *ret_peak, int64_t *ret_spilled)
{
    uint64_t peak, spilled;
    store_usage(p->store, &peak, &spilled);
    *ret_peak = (int64_t)peak;
    *ret_spilled = (int64_t)spilled;
}
