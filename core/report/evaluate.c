#include "core/report/evaluate.h"

#include "core/report/errors.h"

#include <math.h>
#include <stdlib.h>

enum { MODEL, REFERENCE, MODELS, TOP = 5 };

/* What one chunk adds up to. */
struct tally {
    int64_t rows, top1[MODELS], top5[MODELS], same;
    int64_t tokens;
    double nll[MODELS], kl;
    struct errors errors;
};

struct judge {
    const struct runnable *models[MODELS];
    const struct samples *samples;
    struct chunks chunks[MODELS];
    struct frame *frames[MODELS];      /* [threads] each */
    struct tally *tallies;             /* [chunks] */
    const int64_t *tokens;             /* the integer input, or NULL */
    int64_t length;                    /* tokens a sample */
};

static int64_t largest(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* Is x[label] among the five largest?  Ties count in its favour. */
static bool in_top(const float *x, int64_t n, int64_t label)
{
    int above = 0;
    for (int64_t i = 0; i < n && above < TOP; i++)
        above += x[i] > x[label];
    return above < TOP;
}

static double log_sum_exp(const float *x, int64_t n)
{
    double top = (double)x[largest(x, n)], sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    return top + log(sum);
}

static double divergence(const float *want, const float *got, int64_t n)
{
    double zw = log_sum_exp(want, n), zg = log_sum_exp(got, n), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double p = exp((double)want[i] - zw);
        if (p > 0)
            sum += p * (((double)want[i] - zw) - ((double)got[i] - zg));
    }
    return sum;
}

static void judge_labels(const struct judge *j, struct tally *t, int which, const struct chunk *c, const float *x, int64_t classes)
{
    for (int64_t i = 0; i < c->rows; i++) {
        int64_t label = j->samples->labels[c->sample[i]];
        if (label < 0 || label >= classes)
            continue;
        t->top1[which] += largest(x + i * classes, classes) == label;
        t->top5[which] += in_top(x + i * classes, classes, label);
    }
}

static bool is_real(const struct judge *j, int64_t sample, int64_t position)
{
    const struct samples *s = j->samples;
    return !s->real || s->real[sample * s->positions + position];
}

/* Are the output's rows the positions that padding is told of? */
static bool by_position(const struct judge *j, const struct shape *s)
{
    return j->samples->real && s->rank == 3 && s->dim[1] == j->samples->positions;
}

static void judge_tokens(const struct judge *j, struct tally *t, int which, const struct chunk *c, const float *x, int64_t vocabulary)
{
    bool padded = j->samples->positions == j->length;
    for (int64_t i = 0; i < c->rows; i++) {
        const int64_t *ids = j->tokens + c->sample[i] * j->length;
        for (int64_t at = 0; at + 1 < j->length; at++) {
            const float *row = x + (i * j->length + at) * vocabulary;
            bool told = !padded || (is_real(j, c->sample[i], at) && is_real(j, c->sample[i], at + 1));
            if (!told || ids[at + 1] < 0 || ids[at + 1] >= vocabulary)
                continue;
            t->nll[which] += log_sum_exp(row, vocabulary) - (double)row[ids[at + 1]];
            t->tokens += which == MODEL;
        }
    }
}

/* `rows` rows from the one on that both point to. */
static void judge_rows(struct tally *t, const float *want, const float *got, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *a = want + i * n, *b = got + i * n;
        t->same += largest(a, n) == largest(b, n);
        t->kl += divergence(a, b, n);
    }
    errors_add(&t->errors, want, got, (size_t)(rows * n));
    t->rows += rows;
}

static void judge_pair(const struct judge *j, struct tally *t, const struct chunk *c, const struct shape *s, const float *want, const float *got)
{
    int64_t n = s->dim[s->rank - 1];
    if (!by_position(j, s)) {
        judge_rows(t, want, got, shape_count(s, 0, s->rank - 1), n);
        return;
    }
    for (int64_t i = 0; i < c->rows * s->dim[1]; i++)
        if (is_real(j, c->sample[i / s->dim[1]], i % s->dim[1]))
            judge_rows(t, want + i * n, got + i * n, 1, n);
}

static bool run_model(struct judge *j, int which, int chunk, int thread, const struct tensor **ret, struct err *e)
{
    struct frame *f = &j->frames[which][thread];
    const struct graph *g = j->models[which]->g;
    if (!chunk_bind(&j->chunks[which], chunk, j->models[which]->how, f, e) || !frame_run(f, 0, g->n_nodes, e))
        return false;
    chunk_rest(&j->chunks[which], chunk);
    *ret = &f->t[g->outputs[0]];
    if ((*ret)->dtype != DT_F32 || (*ret)->shape.rank < 2)
        return err_set(e, ERR_MODEL_SHAPE, g->values[g->outputs[0]].name,
                       "the first output must be float32 logits of rank 2 or more to be evaluated");
    return true;
}

static bool judge_chunk(void *arg, size_t chunk, int thread, struct err *e)
{
    struct judge *j = arg;
    struct tally *t = &j->tallies[chunk];
    const struct tensor *out[MODELS] = { 0 };
    for (int which = 0; which < MODELS && j->models[which]; which++) {
        const struct chunk *c = &j->chunks[which].chunk[chunk];
        if (!run_model(j, which, (int)chunk, thread, &out[which], e))
            return false;
        const struct shape *s = &out[which]->shape;
        int64_t classes = s->dim[s->rank - 1];
        if (classes == 0 || s->dim[0] != c->rows)
            return err_set(e, ERR_MODEL_SHAPE, "output", "the first axis of the output is not the batch");
        if (j->samples->labels && s->rank == 2)
            judge_labels(j, t, which, c, out[which]->data, classes);
        if (j->tokens && s->rank == 3 && s->dim[1] == j->length)
            judge_tokens(j, t, which, c, out[which]->data, classes);
    }
    if (!out[REFERENCE])
        return true;
    if (!shape_equal(&out[MODEL]->shape, &out[REFERENCE]->shape))
        return err_set(e, ERR_MODEL_SHAPE, "output", "the two models' outputs have different shapes");
    judge_pair(j, t, &j->chunks[MODEL].chunk[chunk], &out[MODEL]->shape, out[REFERENCE]->data, out[MODEL]->data);
    return true;
}

static void find_tokens(struct judge *j)
{
    const struct tensor *t = j->samples->n_inputs ? &j->samples->inputs[0]->t : NULL;
    if (t && t->dtype == DT_I64 && t->shape.rank == 2 && t->shape.dim[1] > 1) {
        j->tokens = t->data;
        j->length = t->shape.dim[1];
    }
}

static void finish(const struct judge *j, struct evaluation *ret)
{
    struct tally sum = { 0 };
    int64_t samples = j->chunks[MODEL].count;
    for (int c = 0; c < j->chunks[MODEL].n; c++) {
        const struct tally *t = &j->tallies[c];
        sum.rows += t->rows;
        sum.same += t->same;
        sum.tokens += t->tokens;
        sum.kl += t->kl;
        errors_merge(&sum.errors, &t->errors);
        for (int i = 0; i < MODELS; i++) {
            sum.top1[i] += t->top1[i];
            sum.top5[i] += t->top5[i];
            sum.nll[i] += t->nll[i];
        }
    }
    struct accuracy *to[MODELS] = { &ret->model, &ret->reference };
    for (int i = 0; i < MODELS && j->models[i]; i++)
        *to[i] = (struct accuracy){ .samples = samples, .has_labels = j->samples->labels != NULL,
                                    .has_tokens = sum.tokens > 0 && !j->samples->labels,
                                    .top1 = 100.0 * (double)sum.top1[i] / (double)samples,
                                    .top5 = 100.0 * (double)sum.top5[i] / (double)samples,
                                    .perplexity = sum.tokens ? exp(sum.nll[i] / (double)sum.tokens) : NAN };
    ret->has_reference = j->models[REFERENCE] != NULL;
    ret->agreement = 100.0 * (double)sum.same / (double)sum.rows;
    ret->cosine = errors_cosine(&sum.errors);
    ret->logit_sqnr_db = errors_sqnr_db(sum.errors.signal, sum.errors.noise);
    ret->kl = sum.kl / (double)sum.rows;
}

bool evaluate(const struct runnable *model, const struct runnable *reference, const struct samples *samples,
              struct pool *pool, struct evaluation *ret, struct err *e)
{
    struct judge j = { .models = { model, reference }, .samples = samples };
    struct arena *mem = arena_new(UINT64_MAX / 2);
    size_t threads = (size_t)pool_threads(pool);
    *ret = (struct evaluation){ 0 };
    find_tokens(&j);
    bool ok = mem || err_set(e, ERR_MEMORY, "", "no memory to evaluate");
    for (int i = 0; ok && i < MODELS && j.models[i]; i++) {
        j.frames[i] = calloc(threads, sizeof(struct frame));
        ok = chunks_new(&j.chunks[i], j.models[i]->g, j.models[i]->how, mem, samples, 0, 0, e)
          && (j.frames[i] || err_set(e, ERR_MEMORY, "", "no memory to evaluate"));
    }
    if (ok && reference && j.chunks[MODEL].n != j.chunks[REFERENCE].n)
        ok = err_set(e, ERR_DATA_SHAPE, "batch", "the two models take different batch sizes");
    ok = ok && (j.tallies = arena_array(mem, (uint64_t)j.chunks[MODEL].n, sizeof *j.tallies, e))
      && pool_run(pool, (size_t)j.chunks[MODEL].n, judge_chunk, &j, e);
    if (ok)
        finish(&j, ret);
    for (int i = 0; i < MODELS; i++) {
        for (size_t t = 0; j.frames[i] && t < threads; t++)
            frame_release(&j.frames[i][t]);
        free(j.frames[i]);
    }
    arena_free(mem);
    return ok;
}

/* The figures that exist, once: name, reference's and model's value. */
struct figure { const char *name; double reference, model; bool there; };
enum { FIGURES = 7 };

static void figures_of(const struct evaluation *v, struct figure f[FIGURES])
{
    bool both = v->has_reference;
    const struct accuracy *m = &v->model, *r = &v->reference;
    const struct figure all[FIGURES] = {
        { "top1", both ? r->top1 : NAN, m->top1, m->has_labels },
        { "top5", both ? r->top5 : NAN, m->top5, m->has_labels },
        { "perplexity", both ? r->perplexity : NAN, m->perplexity, m->has_tokens },
        { "agreement", both ? 100 : NAN, v->agreement, both },
        { "logit_sqnr_db", NAN, v->logit_sqnr_db, both },
        { "cosine", both ? 1 : NAN, v->cosine, both },
        { "kl", both ? 0 : NAN, v->kl, both },
    };
    for (int i = 0; i < FIGURES; i++)
        f[i] = all[i];
}

void evaluation_events(const struct evaluation *v, const struct events *ev)
{
    struct figure f[FIGURES];
    figures_of(v, f);
    for (int i = 0; i < FIGURES; i++)
        if (f[i].there)
            events_metric(ev, f[i].name, f[i].reference, f[i].model, v->model.samples);
}

json_t *evaluation_json(const struct evaluation *v)
{
    struct figure f[FIGURES];
    json_t *o = json_object();
    figures_of(v, f);
    json_object_set_new(o, "samples", json_integer(v->model.samples));
    for (int i = 0; i < FIGURES; i++) {
        if (!f[i].there)
            continue;
        json_t *pair = json_object();
        json_object_set_new(pair, "float", json_finite(f[i].reference));
        json_object_set_new(pair, "quantized", json_finite(f[i].model));
        json_object_set_new(o, f[i].name, pair);
    }
    return o;
}
