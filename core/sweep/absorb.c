#include "core/sweep/absorb.h"

#include "core/kernel/kernel.h"
#include "core/sweep/fold_check.h"
#include "core/sweep/sample.h"

#include <math.h>
#include <string.h>

enum { SITES_AT_ONCE = 128, ENOUGH_ROWS = 2048 };
/* Of the largest output: the change goes through the whole network's rounding before it is looked at. */
static const double tolerance = 1e-3;

struct absorber {
    const struct sweep_task *t;
    struct sweep *s;
    struct journal *journal;
    struct arena *mem, *scratch;
    struct absorb_path *paths;
    int n;
    struct graph *changed;         /* s->g while it is edited; NULL: nothing is yet */
};

/* ---- samples ---- */

/* As few samples as the model takes at once. */
static int64_t fewest(const struct graph *g)
{
    int64_t n = 1;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct shape *s = &g->values[g->inputs[i]].shape;
        n = s->rank > 0 && s->dim[0] > n ? s->dim[0] : n;
    }
    return n;
}

/* Small ones: they are chosen by what they hold, and threads shall end together. */
static bool cut_chunks(const struct absorber *a, const struct graph *g, int64_t limit, struct chunks *ret, struct err *e)
{
    return chunks_new(ret, g, &a->s->quantized, a->scratch, a->t->samples, fewest(g), limit, e);
}

/*
 * Chunks spread evenly over the set that hold ENOUGH_ROWS of the value.  They show which channels are loud; the range that
 * the quantizer covers is seen on all samples later, so what they miss costs a little of the balance and clips nothing.
 */
static void thin_chunks(struct chunks *c, int value)
{
    int64_t all = c->n, n = 0;
    for (int64_t rows = 0; rows < ENOUGH_ROWS && n < all; ) {
        n++;
        rows = 0;
        for (int64_t i = 0; i < n; i++) {
            const struct shape *s = &c->chunk[i * all / n].plan->facts.shape[value];
            rows += s->rank > 0 ? shape_count(s, 0, s->rank - 1) : 1;
        }
    }
    for (int64_t i = 0; i < n; i++)
        c->chunk[i] = c->chunk[i * all / n];
    c->n = (int)n;
}

/* ---- which sites ---- */

static bool find_paths(struct absorber *a, struct err *e)
{
    a->paths = arena_array(a->scratch, (uint64_t)a->s->n_sites + 1, sizeof *a->paths, e);
    for (int i = 0; a->paths && i < a->s->n_sites; i++) {
        enum site_kind kind = a->s->sites[i].kind;
        if ((kind == SITE_LINEAR || kind == SITE_ACTIVATION) && absorb_trace(a->t, a->s, i, &a->paths[a->n]))
            a->n++;
    }
    return a->paths != NULL;
}

static bool map_paths(struct absorber *a, struct err *e)
{
    struct frame f = { 0 };
    int kept = 0;
    bool ok = chunk_bind(&a->s->chunks, 0, &a->s->quantized, &f, e);
    for (int i = 0; ok && i < a->n; i++) {
        struct absorb_path path = a->paths[i];
        bool fits;
        ok = absorb_map(a->t->g, a->s, &f, a->scratch, &path, &fits, e);
        if (ok && fits)
            a->paths[kept++] = path;
    }
    frame_release(&f);
    a->n = kept;
    return ok;
}

/* ---- edits ---- */

static bool start_edits(struct absorber *a, struct err *e)
{
    if (a->changed)
        return true;
    const struct graph *g = a->t->g;
    a->changed = arena_alloc(a->mem, sizeof *a->changed, e);
    struct value *values = arena_array(a->mem, (uint64_t)g->n_values, sizeof *values, e);
    if (!a->changed || !values)
        return false;
    memcpy(values, g->values, (size_t)g->n_values * sizeof *values);
    *a->changed = *g;
    a->changed->values = values;
    a->s->g = a->changed;
    return true;
}

/* A constant's numbers, where they can be written. */
static float *writable(struct absorber *a, int value, struct err *e)
{
    struct value *v = &a->changed->values[value];
    size_t bytes = (size_t)shape_elements(&v->shape) * sizeof(float);
    float *x = arena_alloc(a->mem, bytes, e);
    if (x && v->narrow)
        vec_widen((size_t)shape_elements(&v->shape), v->narrow_as, v->narrow, x);
    else if (x && bytes)
        memcpy(x, v->data, bytes);
    if (x) {
        v->data = x;
        v->narrow = NULL;
    }
    return x;
}

/* What moving mul [channels of the site] multiplies the maker's output channels by: [n of the maker]. */
static void maker_factors(const struct sweep *s, const struct absorb_path *p, const float *mul, float *ret)
{
    for (int64_t c = 0; c < s->layers[p->layer].l->n; c++)
        ret[c] = 1;
    for (size_t c = 0; c < sweep_channels(s, p->site); c++)
        ret[p->map[c]] = mul[c];
}

static bool scale_maker(struct absorber *a, const struct absorb_path *p, const float *mul, struct err *e)
{
    const struct layer *l = a->s->layers[p->layer].l;
    size_t k = (size_t)l->k, n = (size_t)l->n;
    struct weight_source at = weight_source_of(a->changed, l);
    float *factor = arena_array(a->scratch, n, sizeof *factor, e), *w = writable(a, l->weight, e);
    float *bias = l->bias >= 0 ? writable(a, l->bias, e) : NULL;
    if (!factor || !w || (l->bias >= 0 && !bias))
        return false;
    maker_factors(a->s, p, mul, factor);
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < n; c++)
            w[i * at.step_k + c * at.step_n] *= factor[c];
    for (size_t c = 0; bias && c < n; c++)
        bias[c] *= factor[c];
    return true;
}

/* The readers' columns divided by mul. */
static bool scale_readers(struct absorber *a, const struct absorb_path *p, const float *mul, struct err *e)
{
    for (int i = 0; i < a->s->n_layers; i++) {
        const struct layer *l = a->s->layers[i].l;
        if (a->s->layers[i].x != p->site || !a->s->layers[i].quantize)
            continue;
        struct weight_source at = weight_source_of(a->changed, l);
        float *w = writable(a, l->weight, e);
        for (size_t k = 0; w && k < (size_t)l->k; k++)
            for (size_t c = 0; c < (size_t)l->n; c++)
                w[k * at.step_k + c * at.step_n] /= mul[k];
        if (!w)
            return false;
    }
    return true;
}

/* The search's result, where it outlives the search. */
static bool keep_factors(struct absorber *a, struct site *s, const struct site_choice *choice, size_t channels, struct err *e)
{
    float *mul = choice->mul ? arena_array(a->mem, channels, sizeof *mul, e) : NULL;
    if (choice->mul && !mul)
        return false;
    if (mul)
        memcpy(mul, choice->mul, channels * sizeof *mul);
    s->factors.known = true;
    s->factors.mul = mul;
    s->factors.exponent = choice->exponent;
    return true;
}

/* Factors of one site from what was seen of it. */
static bool search_one(struct absorber *a, const struct absorb_path *p, const struct observer *o, const struct sample *sample,
                       struct err *e)
{
    struct sweep_task now = *a->t;
    struct site *s = &a->s->sites[p->site];
    struct site_view v;
    struct site_choice choice;
    now.g = a->s->g;
    struct arena *work = arena_new(UINT64_MAX / 2);
    if (!work)
        return err_set(e, ERR_MEMORY, s->layer, "no memory to choose factors");
    bool ok = sweep_view(&now, a->s, p->site, o, sample, work, &v, e);
    v.free_factors = true;
    v.group = p->map;
    v.groups = (size_t)a->s->layers[p->layer].l->n;
    ok = ok && a->t->method->site(a->t->recipe, &v, a->t->pool, work, &choice, e)
      && keep_factors(a, s, &choice, sweep_channels(a->s, p->site), e) && record_factors(a->journal, a->s, p->site, e);
    arena_free(work);
    return ok;
}

/* Moves the factors that are known. */
static bool take_up(struct absorber *a, const struct absorb_path *p, struct err *e)
{
    struct site *s = &a->s->sites[p->site];
    const float *mul = s->factors.mul;
    if (mul && (!start_edits(a, e) || !scale_maker(a, p, mul, e) || !scale_readers(a, p, mul, e)))
        return false;
    s->kind = SITE_PLAIN;
    s->absorbed = mul != NULL;
    s->exponent = s->factors.exponent;
    return true;
}

/* ---- the pass ---- */

static bool absorb_some(struct absorber *a, struct pass *pass, const struct absorb_path *paths, int n, struct err *e)
{
    int sites[SITES_AT_ONCE];
    struct stretch st = { .sites = sites, .n_sites = n, .keep = -1 };
    st.obs = arena_array(a->scratch, (uint64_t)n, sizeof *st.obs, e);
    st.samples = arena_array(a->scratch, (uint64_t)n, sizeof *st.samples, e);
    bool ok = st.obs && st.samples;
    for (int i = 0; ok && i < n; i++) {
        sites[i] = paths[i].site;
        st.to = a->s->sites[sites[i]].made_at >= st.to ? a->s->sites[sites[i]].made_at + 1 : st.to;
        ok = sample_init(&st.samples[i], &a->s->chunks, a->s->sites[sites[i]].value, a->t->seed, a->t->method->sample_rows,
                         a->t->method->sample_largest, a->scratch, e);
    }
    ok = ok && pass_run(pass, &st, e);
    for (int i = 0; ok && i < n; i++)
        ok = (a->s->sites[sites[i]].factors.known || search_one(a, &paths[i], &st.obs[i], &st.samples[i], e)) && take_up(a, &paths[i], e);
    for (int i = 0; st.obs && st.samples && i < n; i++) {
        observer_release(&st.obs[i]);
        sample_release(&st.samples[i]);
    }
    return ok;
}

/* Everything is from the journal. */
static bool absorb_known(struct absorber *a, struct err *e)
{
    for (int i = 0; i < a->n; i++)
        if (!take_up(a, &a->paths[i], e))
            return false;
    return true;
}

static bool absorb_all(struct absorber *a, struct err *e)
{
    int known = 0;
    for (int i = 0; i < a->n; i++)
        known += a->s->sites[a->paths[i].site].factors.known;
    if (known == a->n)
        return absorb_known(a, e);
    thin_chunks(&a->s->chunks, a->s->sites[a->paths[0].site].value);
    struct pass *pass = pass_new(a->t, a->s, e);
    bool ok = pass != NULL;
    for (int i = 0; ok && i < a->n; i += SITES_AT_ONCE)
        ok = absorb_some(a, pass, a->paths + i, a->n - i < SITES_AT_ONCE ? a->n - i : SITES_AT_ONCE, e);
    pass_free(pass);
    return ok && journal_sync(a->journal, e);
}

/* ---- the promise ---- */

/* Is the layer's input one of those whose factors were taken up? */
static bool is_reader(const struct absorber *a, const struct sweep_layer *l)
{
    return l->quantize && l->x >= 0 && a->s->sites[l->x].absorbed;
}

/* The network before or after, on its first chunk: the first rows of what the readers give. */
struct side { struct chunks chunks; float **y; };
struct sides { const struct absorber *a; size_t *n; struct side side[2]; };    /* n, y: [n_layers], 0 and NULL for other layers */

static bool side_init(struct absorber *a, const struct graph *g, size_t *ret_n, struct side *ret, struct err *e)
{
    ret->y = arena_array(a->scratch, (uint64_t)a->s->n_layers, sizeof *ret->y, e);
    if (!ret->y || !cut_chunks(a, g, fewest(g), &ret->chunks, e))
        return false;
    for (int k = 0; k < a->s->n_layers; k++) {
        const struct sweep_layer *l = &a->s->layers[k];
        if (!is_reader(a, l))
            continue;
        size_t all = (size_t)shape_elements(&ret->chunks.chunk[0].plan->facts.shape[g->nodes[l->l->node].out[0]]);
        ret_n[k] = all < FOLD_ROWS * (size_t)l->l->n ? all : FOLD_ROWS * (size_t)l->l->n;
        if (!(ret->y[k] = arena_array(a->scratch, ret_n[k], sizeof(float), e)))
            return false;
    }
    return true;
}

static bool run_side(void *arg, size_t piece, int thread, struct err *e)
{
    struct sides *s = arg;
    struct side *side = &s->side[piece];
    const struct plan *plan = side->chunks.chunk[0].plan;
    struct frame f = { 0 };
    (void)thread;
    bool ok = chunk_bind(&side->chunks, 0, &s->a->s->quantized, &f, e);
    for (int i = 0; ok && i < plan->n_steps; i++) {
        ok = frame_step(&f, plan->steps[i], e);
        for (int k = 0; ok && k < s->a->s->n_layers; k++)
            if (s->n[k] && s->a->s->layers[k].l->node == plan->steps[i])
                memcpy(side->y[k], f.t[plan->g->nodes[plan->steps[i]].out[0]].data, s->n[k] * sizeof(float));
    }
    frame_release(&f);
    return ok;
}

/* A reader may be a maker as well, of the next site: what it gives now is divided by what its output was multiplied by. */
static bool undo_makers(const struct absorber *a, const struct sides *io, struct err *e)
{
    for (int i = 0; i < a->n; i++) {
        const struct absorb_path *p = &a->paths[i];
        const struct site *site = &a->s->sites[p->site];
        size_t n = (size_t)a->s->layers[p->layer].l->n;
        if (!site->absorbed || !io->n[p->layer])
            continue;
        float *factor = arena_array(a->scratch, n, sizeof *factor, e);
        if (!factor)
            return false;
        maker_factors(a->s, p, site->factors.mul, factor);
        for (size_t j = 0; j < io->n[p->layer]; j++)
            io->side[1].y[p->layer][j] /= factor[j % n];
    }
    return true;
}

static bool check_unchanged(struct absorber *a, struct err *e)
{
    struct sides s = { .a = a, .n = arena_array(a->scratch, (uint64_t)a->s->n_layers, sizeof *s.n, e) };
    if (!s.n || !side_init(a, a->t->g, s.n, &s.side[0], e) || !side_init(a, a->s->g, s.n, &s.side[1], e)
        || !pool_run(a->t->pool, 2, run_side, &s, e) || !undo_makers(a, &s, e))
        return false;
    for (int k = 0; k < a->s->n_layers; k++) {
        double off = 0, largest = 0;
        for (size_t i = 0; i < s.n[k]; i++) {
            double before = (double)s.side[0].y[k][i];
            off = fmax(off, fabs(before - (double)s.side[1].y[k][i]));
            largest = fmax(largest, fabs(before));
        }
        if (!(off <= tolerance * largest))
            return err_set(e, ERR_BUG, a->s->layers[k].l->name,
                           "moving scales into the layer before it changed its float output by %.2g of %.2g; please report this model",
                           off, largest);
    }
    return true;
}

bool absorb_factors(const struct sweep_task *t, struct sweep *s, struct journal *j, struct arena *mem, struct err *e)
{
    struct absorber a = { .t = t, .s = s, .journal = j, .mem = mem, .scratch = arena_new(UINT64_MAX / 2) };
    if (!a.scratch)
        return err_set(e, ERR_MEMORY, "", "no memory to move factors");
    bool ok = find_paths(&a, e)
           && (a.n == 0 || (cut_chunks(&a, t->g, fewest(t->g), &s->chunks, e) && map_paths(&a, e)
                          && cut_chunks(&a, t->g, t->recipe->calibration.samples, &s->chunks, e)
                          && absorb_all(&a, e) && (!a.changed || check_unchanged(&a, e))));
    s->chunks = (struct chunks){ 0 };
    arena_free(a.scratch);
    return ok;
}
