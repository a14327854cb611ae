#include "core/sweep/forecast.h"

#include "core/learn/learn.h"
#include "core/quant/row_block.h"
#include "core/sweep/blocks.h"
#include "core/sweep/sample.h"

#include <math.h>

enum { STREAMS_HELD = 2 };
enum { LESSON_COPIES = 6 };    /* of what is learned: where it starts, as it is, the best, two moments, weights */

struct cast {
    const struct sweep_task *t;
    struct sweep *s;
    struct forecast *f;
};

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static const struct plan *first_plan(const struct cast *c) { return c->s->chunks.chunk[0].plan; }

/* Bytes of everything alive before node `at`, or before `first`, of one stream and all samples. */
static uint64_t alive(const struct cast *c, int at, int first)
{
    const struct graph *g = c->t->g;
    uint64_t sum = 0, bytes;
    for (int i = 0; i < c->s->chunks.n; i++) {
        const struct plan *p = c->s->chunks.chunk[i].plan;
        for (int v = 0; v < g->n_values; v++)
            if ((plan_live_at(p, v, at) || plan_live_at(p, v, first)) && !g->values[v].is_input
                && tensor_size(g->values[v].dtype, &p->facts.shape[v], "", NULL, &bytes, NULL))
                sum += bytes;
    }
    return sum;
}

static bool inside(const struct sweep_block *b, int node) { return node >= b->first && node < b->end; }

/* Where the block begins that the node is in: what enters it is held until it is taught. */
static int first_held(const struct cast *c, int node)
{
    for (int i = 0; i < c->s->n_blocks; i++)
        if (inside(&c->s->blocks[i], node))
            return c->s->blocks[i].first;
    return node;
}

/* The walk stops before a layer whose operands it has just seen, or goes back to where a site says; at a block's end; and at the end. */
static void cast_held(struct cast *c)
{
    int end = c->t->g->n_nodes;
    c->f->held = STREAMS_HELD * alive(c, end, end);
    for (int i = 0; i < c->s->n_blocks; i++)
        c->f->held = larger(c->f->held, STREAMS_HELD * alive(c, c->s->blocks[i].end, c->s->blocks[i].first));
    for (int i = 0; i < c->s->n_layers; i++) {
        const struct sweep_layer *l = &c->s->layers[i];
        if (!l->quantize)
            continue;
        int back = l->x >= 0 ? c->s->sites[l->x].resume_at : -1;
        int at = back >= 0 ? back : l->l->node;
        uint64_t bytes = alive(c, at, first_held(c, at));
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

static double layer_flops(const struct cast *c, const struct layer *l)
{
    return 2 * rows_of(c, l) * inner_of(c, l) * (l->weight >= 0 ? (double)l->n : 1);
}

/*
 * AdaRound (row_block_learn): each step multiplies the moments [k,k] with the errors of ROWS rows, a last block of rows is filled up, and
 * moves the choice of every weight.
 */
static void cast_adaround(struct cast *c, const struct sweep_layer *l)
{
    double k = (double)l->l->k, n = ceil((double)l->l->n / ROWS) * ROWS;
    if (c->t->recipe->weights.rounding != RECIPE_ADAROUND || !sweep_gathers(c->t, l))
        return;
    c->f->adaround_flops += METHOD_ADAROUND_STEPS * 2 * k * k * n;
    c->f->adaround_moves += METHOD_ADAROUND_STEPS * k * n;
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

/* ---- blocks that are taught (teach.c, core/learn) ---- */

/* Numbers that a block learns: codes, steps and biases of linears, norms' constants. */
static bool count_learned(const struct cast *c, const struct sweep_block *b, struct arena *mem, double *ret, struct err *e)
{
    struct block_part *parts;
    int n;
    *ret = 0;
    if (!blocks_parts(c->t, c->s, b, mem, &parts, &n, e))
        return false;
    for (int i = 0; i < n; i++) {
        const struct node *node = &c->t->g->nodes[parts[i].node];
        const struct layer *l = parts[i].layer >= 0 ? c->s->layers[parts[i].layer].l : NULL;
        *ret += l ? (double)(l->k * l->n + 2 * l->n) : (double)shape_elements(&c->t->g->values[node->in[parts[i].input]].shape);
    }
    return true;
}

/* Elements that a tape keeps of the largest chunk: results of a block's nodes, and quantized operands as codes. */
static double kept_elements(const struct cast *c, const struct sweep_block *b)
{
    const struct graph *g = c->t->g;
    const struct plan *p = first_plan(c);
    double sum = 0;
    for (int i = b->first; i < b->end; i++)
        for (int k = 0; k < g->nodes[i].n_out && !op_is_view(g->nodes[i].op); k++)
            if (g->nodes[i].out[k] >= 0 && !p->facts.known[g->nodes[i].out[k]])
                sum += (double)shape_elements(&p->facts.shape[g->nodes[i].out[k]]);
    for (int i = 0; i < c->s->n_layers; i++) {
        const struct sweep_layer *l = &c->s->layers[i];
        if (l->quantize && inside(b, l->l->node))
            sum += (double)shape_elements(&p->facts.shape[l->l->x]) + (l->l->other >= 0 ? (double)shape_elements(&p->facts.shape[l->l->other]) : 0);
    }
    return sum;
}

/*
 * Each update runs `slots` chunks forth (one pass over the block's products) and back (two: a derivative by either operand), then moves all
 * that is learned.  The block runs forth for looks at the held-out chunks, those before it begins among them, twice over the
 * others, and once more over all, taught.
 */
static bool cast_lesson(struct cast *c, const struct sweep_block *b, struct arena *mem, struct err *e)
{
    const struct recipe *r = c->t->recipe;
    struct learn_split of = learn_split_of(&c->s->chunks, r->distillation.batch, r->distillation.held_out / 100.0);
    double flops = 0, kept = kept_elements(c, b), learned, steps = r->distillation.steps;
    if (!count_learned(c, b, mem, &learned, e))
        return false;
    for (int i = 0; i < c->s->n_layers; i++)
        if (inside(b, c->s->layers[i].l->node))
            flops += layer_flops(c, c->s->layers[i].l);
    double looks = fmin(steps, LEARN_CHECKS) + 1;
    double chunks = 3 * steps * of.slots + looks * of.held + 2 * of.train + c->s->chunks.n;
    c->f->lesson_flops += flops / c->s->chunks.n * chunks;
    c->f->lesson_elements += kept * chunks;
    c->f->lesson_moves += steps * learned;
    c->f->lesson = larger(c->f->lesson, (uint64_t)(4 * learned * (LESSON_COPIES + of.slots)));
    c->f->tape = larger(c->f->tape, (uint64_t)(4 * kept));
    c->f->tapes = of.slots > of.held ? of.slots : of.held;
    return true;
}

static bool cast_lessons(struct cast *c, struct arena *mem, struct err *e)
{
    for (int i = 0; i < c->s->n_blocks && c->s->chunks.n > 1; i++)
        if (c->s->blocks[i].out >= 0 && !cast_lesson(c, &c->s->blocks[i], mem, e))
            return false;
    return true;
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
        ret->pass_flops += layer_flops(&c, s->layers[i].l);
        if (s->layers[i].quantize) {
            cast_search(&c, &s->layers[i]);
            cast_rebuild(&c, i);
            cast_adaround(&c, &s->layers[i]);
        }
    }
    return cast_lessons(&c, mem, e);
}
