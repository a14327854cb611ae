#include "core/sweep/forecast.h"

#include "core/sweep/sample.h"

enum { STREAMS_HELD = 2 };

struct cast {
    const struct sweep_task *t;
    struct sweep *s;
    struct forecast *f;
};

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static const struct plan *first_plan(const struct cast *c) { return c->s->chunks.chunk[0].plan; }

/* Bytes of everything alive before node `at`, of one stream and all samples. */
static uint64_t alive(const struct cast *c, int at)
{
    const struct graph *g = c->t->g;
    uint64_t sum = 0, bytes;
    for (int i = 0; i < c->s->chunks.n; i++) {
        const struct plan *p = c->s->chunks.chunk[i].plan;
        for (int v = 0; v < g->n_values; v++)
            if (plan_live_at(p, v, at) && !g->values[v].is_input
                && tensor_size(g->values[v].dtype, &p->facts.shape[v], "", NULL, &bytes, NULL))
                sum += bytes;
    }
    return sum;
}

/* The walk stops before a layer whose operands it has just seen, or goes back to where a site says; and at the end. */
static void cast_held(struct cast *c)
{
    c->f->held = STREAMS_HELD * alive(c, c->t->g->n_nodes);
    for (int i = 0; i < c->s->n_layers; i++) {
        const struct sweep_layer *l = &c->s->layers[i];
        if (!l->quantize)
            continue;
        int back = l->x >= 0 ? c->s->sites[l->x].resume_at : -1;
        uint64_t bytes = alive(c, back >= 0 ? back : l->l->node);
        c->f->held = larger(c->f->held, STREAMS_HELD * bytes);
    }
}

static void cast_frames(struct cast *c)
{
    for (int i = 0; i < c->s->chunks.n; i++) {
        const struct plan *p = c->s->chunks.chunk[i].plan;
        c->f->frame = larger(c->f->frame, STREAMS_HELD * (p->frame_bytes + p->scratch_bytes));
    }
}

/* Rows of x that a layer multiplies, over all samples. */
static double rows_of(const struct cast *c, const struct layer *l)
{
    double elements = 0;
    for (int i = 0; i < c->s->chunks.n; i++)
        elements += (double)shape_elements(&c->s->chunks.chunk[i].plan->facts.shape[c->t->g->nodes[l->node].out[0]]);
    return l->n > 0 ? elements / (double)l->n : elements;
}

static double inner_of(const struct cast *c, const struct layer *l)
{
    const struct shape *s = &first_plan(c)->facts.shape[l->x];
    return l->weight >= 0 ? (double)l->k : s->rank ? (double)s->dim[s->rank - 1] : 1;
}

static void cast_pass(struct cast *c, const struct sweep_layer *l)
{
    double n = l->l->weight >= 0 ? (double)l->l->n : 1;
    c->f->pass_flops += 2 * rows_of(c, l->l) * inner_of(c, l->l) * n;
}

/* What moments.c keeps of the linears that read one tensor, and reconstruct.c of one of them. */
static void cast_rebuild(struct cast *c, int index)
{
    const struct sweep_layer *l = &c->s->layers[index];
    double k = (double)l->l->k, n = 0, rows = rows_of(c, l->l);
    if (!sweep_gathers(c->t, l))
        return;
    for (int i = 0; i < c->s->n_layers; i++)
        if (c->s->layers[i].x == l->x && sweep_gathers(c->t, &c->s->layers[i]))
            n += (double)c->s->layers[i].l->n;
    double cross = n >= k ? k * k : n * k, own = (double)l->l->n;
    c->f->moments = larger(c->f->moments, (uint64_t)(8 * (k * k + cross + n * k) + 4 * n * k));
    c->f->member = larger(c->f->member, (uint64_t)(8 * k * k + 4 * (k * k + cross) + 512 * 4 * (2 * k + n)));
    double about_zero = c->t->recipe->reconstruction.bias_correction ? 0 : 8 * (k * k + own * k);     /* the same moments with their means */
    c->f->rebuild = larger(c->f->rebuild, (uint64_t)(24 * k * k + 24 * own * k + about_zero));
    c->f->moment_flops += rows * k * k * (own / n) + 2 * rows * (n >= k ? k * k * (own / n) : 2 * own * k);
    c->f->rebuild_flops += 2 * k * k * k + 2 * own * k * k * (2 + c->t->recipe->reconstruction.descents);
}

static void cast_search(struct cast *c, const struct sweep_layer *l)
{
    if (l->x < 0 || !c->t->method->wants_rows(c->t->recipe, c->s->sites[l->x].kind))
        return;
    double rows = rows_of(c, l->l), most = c->t->method->sample_rows ? c->t->method->sample_rows : SAMPLE_ROWS;
    c->f->search_flops += 2 * (rows < most ? rows : most) * inner_of(c, l->l) * (l->l->n > 0 ? (double)l->l->n : 1);
}

static void cast_weights(struct cast *c)
{
    uint64_t region = 0;
    int at = -1;
    for (int i = 0; i < c->s->n_layers; i++) {
        const struct sweep_layer *l = &c->s->layers[i];
        uint64_t n = l->quantize && l->l->weight >= 0 ? (uint64_t)(l->l->k * l->l->n) : 0;
        region = l->region == at ? region : 0;
        at = l->region;
        region += n;
        c->f->codes += n;
        c->f->weights = larger(c->f->weights, 4 * region);
    }
}

bool sweep_forecast(const struct sweep_task *t, struct sweep *s, struct arena *mem, struct forecast *ret, struct err *e)
{
    struct cast c = { .t = t, .s = s, .f = ret };
    *ret = (struct forecast){ .n_sites = s->n_sites };
    if (!lowering_new(&s->quantized, t->g, mem, e))
        return false;
    s->quantized.may_float = t->method->folds_last;
    if (!chunks_new(&s->chunks, t->g, &s->quantized, mem, t->samples, 0, t->recipe->calibration.samples, e))
        return false;
    ret->samples = s->chunks.count;
    cast_held(&c);
    cast_frames(&c);
    cast_weights(&c);
    for (int i = 0; i < s->n_layers; i++) {
        cast_pass(&c, &s->layers[i]);
        if (s->layers[i].quantize) {
            cast_search(&c, &s->layers[i]);
            cast_rebuild(&c, i);
        }
    }
    return true;
}
