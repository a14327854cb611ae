/* teach.c - one block on core/learn: what is taught, from where, and what becomes of the result. */
#include "core/sweep/blocks.h"

#include "core/base/utf8.h"
#include "core/learn/learn.h"
#include "core/report/layer_row.h"

#include <stdio.h>
#include <string.h>

/* ---- what is taught ---- */

static bool inside(const struct sweep_block *b, int node) { return node >= b->first && node < b->end; }

static bool is_taught(const struct sweep_block *b, const struct sweep_layer *l)
{
    return l->quantize && l->l->kind == LAYER_LINEAR && l->l->weight >= 0 && !l->l->shared_weight && !l->w.step_group && !l->w.rank
        && inside(b, l->l->node);
}

static bool add_constant(const struct graph *g, const struct sweep_block *b, int node, int input, struct block_part *ret, int *n)
{
    bool fits = node >= 0 && inside(b, node) && g->values[g->nodes[node].in[input]].dtype == DT_F32;
    if (fits)
        ret[(*n)++] = (struct block_part){ -1, node, input };
    return fits;
}

bool blocks_parts(const struct sweep_task *t, const struct sweep *s, const struct sweep_block *b, struct arena *mem,
                  struct block_part **ret, int *ret_n, struct err *e)
{
    const struct roles *r = t->roles;
    struct block_part *parts = arena_array(mem, (uint64_t)s->n_layers + 2 * (uint64_t)r->n_norms, sizeof *parts, e);
    int n = 0;
    for (int i = 0; parts && i < s->n_layers; i++)
        if (is_taught(b, &s->layers[i]))
            parts[n++] = (struct block_part){ i, s->layers[i].l->node, 0 };
    for (int i = 0; parts && i < r->n_norms; i++) {
        const struct norm *norm = &r->norms[i];
        if (norm->gamma >= 0)
            add_constant(t->g, b, norm->scale_node, norm->scale_input, parts, &n);
        if (norm->beta >= 0)
            add_constant(t->g, b, norm->shift_node, norm->shift_input, parts, &n);
    }
    *ret = parts;
    *ret_n = n;
    return parts != NULL;
}

struct lesson {
    const struct lower *w;
    struct arena *codes, *mem;         /* mem: until the block is done */
    struct pass *pass;
    struct sweep_block *b;
    struct block_part *parts; int n_parts;
    struct learn_linear *linears; int n_linears;
    struct learn_constant *constants; int n_constants;
};

/* Where a row's weights start, in steps: at their codes, off by nine tenths of what rounding took, so that rint() gives the codes;
 * what was moved further than rounding does (GPTQ) starts in the middle. */
static float *start_steps(const struct lesson *a, const struct sweep_layer *l, struct err *e)
{
    const struct qweight *w = &l->w;
    struct weight_source from = weight_source_of(a->w->t->g, l->l);
    from.mul = a->w->s->sites[l->x].q.mul;
    float *ret = arena_array(a->mem, w->k * w->n, sizeof *ret, e);
    for (size_t k = 0; ret && k < w->k; k++)
        for (size_t n = 0; n < w->n; n++) {
            size_t at = qweight_at(l->l, n, k), scale = qweight_scale_at(w, n, k);
            float code = (float)(w->codes[at] - (w->zero ? w->zero[scale] : 0));
            float off = weight_at(&from, k, n) / (from.mul ? from.mul[k] : 1) / w->scale[scale] - code;
            ret[at] = code + (off >= -0.5f && off <= 0.5f ? 0.9f * off : 0);
        }
    return ret;
}

static bool add_linear(struct lesson *a, const struct sweep_layer *l, struct err *e)
{
    size_t n = qweight_scales(&l->w), k = l->w.group ? l->w.group : l->w.k;
    float *lo = arena_array(a->mem, 2 * n, sizeof *lo, e), *hi = lo + n;
    struct learn_linear *to = &a->linears[a->n_linears++];
    *to = (struct learn_linear){ l->l->node, l->w.bits, start_steps(a, l, e), lo, hi };
    for (size_t i = 0; lo && i < n; i++) {
        int zero = l->w.zero ? l->w.zero[i] : 0, half = 1 << (l->w.bits - 1);
        lo[i] = (float)((l->w.zero ? -half : 1 - half) - zero);       /* symmetric codes stay so */
        hi[i] = (float)(half - 1 - zero);
        for (size_t at = i / l->w.n * k; to->start && at < (i / l->w.n + 1) * k; at++)
            lo[i] = fminf(lo[i], rintf(to->start[qweight_at(l->l, i % l->w.n, at)]));
    }
    return to->start && lo;
}

/* The Add behind a layer that holds its bias; -1: the row adds it itself, or there is none. */
static int bias_input(const struct graph *g, const struct layer *l)
{
    if (l->bias < 0 || l->bias_node < 0 || l->bias_node == l->node)
        return -1;
    return g->nodes[l->bias_node].in[0] == l->bias ? 0 : 1;
}

static bool list_parts(struct lesson *a, struct err *e)
{
    const struct sweep *s = a->w->s;
    const struct graph *g = a->w->t->g;
    if (!blocks_parts(a->w->t, s, a->b, a->mem, &a->parts, &a->n_parts, e))
        return false;
    a->linears = arena_array(a->mem, (uint64_t)a->n_parts + 1, sizeof *a->linears, e);
    a->constants = arena_array(a->mem, 2 * (uint64_t)a->n_parts + 1, sizeof *a->constants, e);
    if (!a->linears || !a->constants)
        return false;
    for (int i = 0; i < a->n_parts; i++) {
        const struct block_part *p = &a->parts[i];
        const struct sweep_layer *l = p->layer >= 0 ? &s->layers[p->layer] : NULL;
        int bias = l ? bias_input(g, l->l) : -1;
        if (l && !add_linear(a, l, e))
            return false;
        if (bias >= 0 && inside(a->b, l->l->bias_node))
            a->constants[a->n_constants++] = (struct learn_constant){ l->l->bias_node, bias };
        if (!l)
            a->constants[a->n_constants++] = (struct learn_constant){ p->node, p->input };
    }
    return true;
}

/* ---- the result ---- */

static const struct learned *learned_at(const struct learn_result *r, enum learned_kind kind, int node, int input)
{
    for (int i = 0; i < r->n_learned; i++)
        if (r->learned[i].kind == kind && r->learned[i].node == node && (kind != LEARN_CONSTANT || r->learned[i].input == input))
            return &r->learned[i];
    return NULL;
}

static float *copied(struct arena *mem, const struct learn_result *r, const struct learned *l, struct err *e)
{
    float *to = arena_array(mem, l->n, sizeof *to, e);
    if (to)
        memcpy(to, r->all + l->at, l->n * sizeof *to);
    return to;
}

/* The sums of what rounding changed, as rounding itself counts them. */
static void count_error(const struct lesson *a, const struct sweep_layer *l, struct qweight *w)
{
    struct weight_source from = weight_source_of(a->w->t->g, l->l);
    const float *mul = a->w->s->sites[l->x].q.mul;
    w->signal = w->error = 0;
    for (size_t k = 0; k < w->k; k++)
        for (size_t n = 0; n < w->n; n++) {
            double x = (double)weight_at(&from, k, n) / (mul ? (double)mul[k] : 1);
            size_t scale = qweight_scale_at(w, n, k);
            double off = x - (double)(w->codes[qweight_at(l->l, n, k)] - (w->zero ? w->zero[scale] : 0)) * (double)w->scale[scale];
            w->signal += x * x;
            w->error += off * off;
        }
}

/* Codes, steps and bias of one layer, new arrays all of them. */
static bool take_weights(const struct lesson *a, const struct learn_result *r, int layer, struct err *e)
{
    struct sweep_layer *l = &a->w->s->layers[layer];
    const struct learned *codes = learned_at(r, LEARN_CODES, l->l->node, 0), *steps = learned_at(r, LEARN_STEPS, l->l->node, 0);
    int input = bias_input(a->w->t->g, l->l);
    const struct learned *bias = input >= 0 ? learned_at(r, LEARN_CONSTANT, l->l->bias_node, input) : learned_at(r, LEARN_ADDED, l->l->node, 0);
    struct qweight w = l->w;
    w.codes = arena_array(a->codes, w.k * w.n, 1, e);
    w.scale = arena_array(a->w->mem, qweight_scales(&w), sizeof *w.scale, e);
    w.bias = bias ? copied(a->w->mem, r, bias, e) : l->w.bias;
    if (!w.codes || !w.scale || (bias && !w.bias))
        return false;
    for (size_t i = 0; i < w.k * w.n; i++)
        w.codes[i] = (int8_t)(rintf(r->all[codes->at + i]) + (w.zero ? (float)w.zero[qweight_scale_at(&w, i % w.n, i / w.n)] : 0));
    for (size_t n = 0; n < qweight_scales(&w); n++)
        w.scale[n] = steps ? (float)((double)l->w.scale[n] * exp((double)r->all[steps->at + n])) : l->w.scale[n];
    count_error(a, l, &w);
    l->w = w;
    weight_summarize(a->w->t->g, l->l, &l->w, a->w->s->sites[l->x].q.mul, &l->weight);
    return lower_again(a->w, layer, e);
}

static bool take_constant(const struct lesson *a, const struct learn_result *r, int part, struct err *e)
{
    const struct block_part *p = &a->parts[part];
    float *data = copied(a->w->mem, r, learned_at(r, LEARN_CONSTANT, p->node, p->input), e);
    a->b->constants[part] = data;
    return data && lowering_edit(&a->w->s->quantized, a->w->t->g, p->node, p->input, data, a->w->mem, e);
}

static bool take(const struct lesson *a, const struct learn_result *r, struct err *e)
{
    a->b->constants = arena_array(a->w->mem, (uint64_t)a->n_parts + 1, sizeof *a->b->constants, e);
    bool ok = a->b->constants != NULL;
    for (int i = 0; ok && i < a->n_parts; i++)
        ok = a->parts[i].layer >= 0 ? take_weights(a, r, a->parts[i].layer, e) : take_constant(a, r, i, e);
    return ok;
}

bool blocks_relower(const struct lower *w, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < w->s->n_blocks; i++) {
        const struct sweep_block *b = &w->s->blocks[i];
        struct block_part *parts;
        int n;
        if (!b->done || !b->result.kept)
            continue;
        struct arena *mem = arena_new(UINT64_MAX / 2);
        ok = (mem || err_set(e, ERR_MEMORY, "", "no memory for the sweep")) && blocks_parts(w->t, w->s, b, mem, &parts, &n, e);
        for (int k = 0; ok && k < n; k++)
            ok = !b->constants[k] || lowering_edit(&w->s->quantized, w->t->g, parts[k].node, parts[k].input, b->constants[k], w->mem, e);
        for (int k = 0; k < w->s->n_sites; k++)
            w->s->sites[k].checked |= w->s->sites[k].norm >= 0 && inside(b, w->t->roles->norms[w->s->sites[k].norm].scale_node);
        arena_free(mem);
    }
    return ok;
}

/* ---- teaching ---- */

static const void *get(void *arg, int chunk, enum learn_side side, int value, void **ret_temp, struct err *e)
{
    const struct lesson *a = arg;
    return pass_held(a->pass, side == LEARN_FROM_STUDENT, chunk, value, ret_temp, e);
}

static struct learn_task task_of(struct lesson *a)
{
    static const enum learn_input inputs[] = { [RECIPE_TEACHER] = LEARN_TEACHER, [RECIPE_STUDENT] = LEARN_STUDENT, [RECIPE_BOTH] = LEARN_BOTH };
    const struct sweep_task *t = a->w->t;
    const struct recipe *r = t->recipe;
    bool alone = r->weights.granularity == RECIPE_PER_CHANNEL || r->weights.granularity == RECIPE_PER_GROUP;
    return (struct learn_task){
        .g = t->g, .how = &a->w->s->quantized, .first = a->b->first, .end = a->b->end, .in = a->b->in, .out = a->b->out,
        .linears = a->linears, .n_linears = a->n_linears, .constants = a->constants, .n_constants = a->n_constants,
        .chunks = &a->w->s->chunks, .pool = t->pool, .seed = t->seed + (uint64_t)a->b->first, .input = inputs[r->distillation.input],
        .steps = r->distillation.steps, .batch = r->distillation.batch, .rate = r->distillation.rate, .decay = r->distillation.decay,
        .held_out = r->distillation.held_out / 100.0, .one_step = !alone, .arg = a, .get = get,
    };
}

/* What the model or the data do not allow is no failure of the job. */
static bool refuse(struct lesson *a, const struct err *why, struct err *e)
{
    if (why->code != ERR_MODEL_OP && why->code != ERR_DATA_SHAPE && why->code != ERR_MODEL_INVALID)
        return err_set(e, why->code, why->where, "%s", why->text);
    snprintf(a->b->result.reason, sizeof a->b->result.reason, "%.120s: %.70s", why->where, why->text);
    utf8_mend(a->b->result.reason);
    events_warning(a->w->t->events, "distillation.refused", a->b->name, "the block keeps what its layers decided: %s: %s", why->where, why->text);
    return true;
}

static bool learn(struct lesson *a, struct err *e)
{
    struct learn_task task = task_of(a);
    struct learn_result r;
    struct err why = { 0 };
    if (!learn_run(&task, a->mem, &r, &why))
        return refuse(a, &why, e);
    a->b->result = (struct block_result){ r.kept, r.before, r.after, r.fitted_before, r.fitted_after, r.seconds, r.products, "" };
    return !r.kept || take(a, &r, e);
}

bool blocks_teach(const struct lower *w, struct arena *codes, struct pass *pass, struct sweep_block *b, struct err *e)
{
    struct lesson a = { .w = w, .codes = codes, .pass = pass, .b = b, .mem = arena_new(UINT64_MAX / 2) };
    struct err why = { ERR_MODEL_INVALID, "", "its layers are not all decided at its end" };
    bool ok = a.mem || err_set(e, ERR_MEMORY, b->name, "no memory to teach the block");
    if (b->out < 0)
        snprintf(why.text, sizeof why.text, "it ends with the model, which has more outputs than one");
    if (ok)
        ok = b->out < 0 || !blocks_ready(w->s, b) ? refuse(&a, &why, e) : list_parts(&a, e) && learn(&a, e);
    arena_free(a.mem);
    b->done = true;
    return ok;
}
