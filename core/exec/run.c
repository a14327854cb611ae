#include "core/exec/run.h"

#include <stdlib.h>
#include <string.h>

/* A chunk of pictures fills the cache already; one of short token rows would only measure call overhead. */
enum { LARGE_SAMPLE = 1 << 16, BATCH_LARGE = 4, BATCH_SMALL = 8 };

bool run_input_specs(const struct graph *g, struct arena *mem, struct input_spec **ret, struct err *e)
{
    struct input_spec *specs = arena_array(mem, (uint64_t)g->n_inputs, sizeof *specs, e);
    if (!specs)
        return false;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct value *v = &g->values[g->inputs[i]];
        specs[i] = (struct input_spec){ v->name, v->dtype, v->shape };
    }
    *ret = specs;
    return true;
}

/* The model's own batch size if it is a number, else 0. */
static int64_t fixed_batch(const struct graph *g)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const struct shape *s = &g->values[g->inputs[i]].shape;
        if (s->rank > 0 && s->dim[0] > 0)
            return s->dim[0];
    }
    return 0;
}

static int64_t default_batch(const struct samples *s)
{
    int64_t largest = 0;
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct shape *shape = &s->inputs[i]->t.shape;
        int64_t n = shape_count(shape, 1, shape->rank);
        largest = n > largest ? n : largest;
    }
    return largest > LARGE_SAMPLE ? BATCH_LARGE : BATCH_SMALL;
}

static const struct plan *plan_for(struct chunks *c, const struct graph *g, const struct lowering *how,
                                   struct arena *mem, int64_t rows, struct err *e)
{
    for (int i = 0; i < c->n; i++)
        if (c->chunk[i].rows == rows)
            return c->chunk[i].plan;
    struct shape *shapes = arena_array(mem, (uint64_t)g->n_inputs, sizeof *shapes, e);
    if (!shapes)
        return NULL;
    for (int i = 0; i < g->n_inputs; i++) {
        shapes[i] = c->samples->inputs[i]->t.shape;
        shapes[i].dim[0] = rows;
    }
    return plan_new(g, how, mem, shapes, e);
}

bool chunks_new(struct chunks *c, const struct graph *g, const struct lowering *how, struct arena *mem,
                const struct samples *samples, int64_t batch, int64_t limit, struct err *e)
{
    int64_t fixed = fixed_batch(g);
    if (fixed && batch && batch != fixed)
        return err_set(e, ERR_DATA_SHAPE, "batch", "the model is exported for batches of %lld; leave --batch out or export it with a dynamic batch axis",
                       (long long)fixed);
    int64_t size = fixed ? fixed : batch ? batch : default_batch(samples);
    int64_t count = limit && limit < samples->count ? limit : samples->count;
    if (fixed)
        count -= count % fixed;
    if (count == 0)
        return err_set(e, ERR_DATA_SHAPE, "samples", "%lld samples are fewer than one batch of %lld; give more samples",
                       (long long)samples->count, (long long)size);
    *c = (struct chunks){ .samples = samples, .count = count };
    c->chunk = arena_array(mem, (uint64_t)((count + size - 1) / size), sizeof *c->chunk, e);
    if (!c->chunk)
        return false;
    for (int64_t first = 0; first < count; first += size) {
        int64_t rows = count - first < size ? count - first : size;
        const struct plan *p = plan_for(c, g, how, mem, rows, e);
        if (!p)
            return false;
        c->chunk[c->n++] = (struct chunk){ first, rows, p };
    }
    return true;
}

bool chunk_bind(const struct chunks *c, int chunk, const struct lowering *how, struct frame *f, struct err *e)
{
    const struct chunk *at = &c->chunk[chunk];
    if (!frame_bind(f, at->plan, how, e))
        return false;
    const struct graph *g = at->plan->g;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct tensor *t = &c->samples->inputs[i]->t;
        uint64_t row_bytes = (uint64_t)shape_count(&t->shape, 1, t->shape.rank) * (uint64_t)dtype_bits(t->dtype) / 8;
        frame_set(f, g->inputs[i], (const char *)t->data + (uint64_t)at->first * row_bytes);
    }
    return true;
}

void chunk_rest(const struct chunks *c, int chunk)
{
    const struct chunk *at = &c->chunk[chunk];
    for (size_t i = 0; i < c->samples->n_inputs; i++) {
        const struct array *a = c->samples->inputs[i];
        int64_t n = shape_count(&a->t.shape, 1, a->t.shape.rank);
        array_rest(a, at->first * n, at->rows * n);
    }
}

struct run {
    const struct chunks *c;
    const struct lowering *how;
    struct frame *frames;          /* one a thread */
    chunk_fn *done;
    void *arg;
};

static bool run_chunk(void *arg, size_t piece, int thread, struct err *e)
{
    struct run *r = arg;
    struct frame *f = &r->frames[thread];
    bool ok = chunk_bind(r->c, (int)piece, r->how, f, e)
           && frame_run(f, 0, f->plan->g->n_nodes, e)
           && r->done(r->arg, (int)piece, thread, f, e);
    chunk_rest(r->c, (int)piece);
    return ok;
}

bool chunks_run(const struct chunks *c, const struct lowering *how, struct pool *pool, chunk_fn *done, void *arg,
                struct err *e)
{
    int threads = pool_threads(pool);
    struct run r = { c, how, calloc((size_t)threads, sizeof *r.frames), done, arg };
    if (!r.frames)
        return err_set(e, ERR_MEMORY, "", "no memory for %d frames", threads);
    bool ok = pool_run(pool, (size_t)c->n, run_chunk, &r, e);
    for (int i = 0; i < threads; i++)
        frame_release(&r.frames[i]);
    free(r.frames);
    return ok;
}
