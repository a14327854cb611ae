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

/* ---- cutting ---- */

struct cut {
    struct chunks *c;
    const struct graph *g;
    const struct lowering *how;
    struct arena *mem;
    int64_t size;                  /* samples in a chunk, at most */
    bool in_order;                 /* chunks must be full: samples of several lengths share one */
    const struct plan **full;      /* [positions + 1]: of full chunks by their length; 0: as they are */
};

/* Does the axis have the length that is cut? */
static bool is_cut(const struct cut *x, int input, int axis)
{
    const struct samples *s = x->c->samples;
    const struct shape *rows = &x->g->values[x->g->inputs[s->row_input]].shape, *shape = &x->g->values[x->g->inputs[input]].shape;
    return axis > 0 && axis < shape->rank && s->row_axis < rows->rank && rows->dim[s->row_axis] < 0 && shape->dim[axis] == rows->dim[s->row_axis];
}

/* Can samples be cut: has what is cut a symbol in the model, which more than a mask goes by? */
static bool can_cut(const struct cut *x)
{
    int n = 0;
    if (!x->c->samples->lengths)
        return false;
    for (int i = 0; i < x->g->n_inputs; i++)
        for (int k = 1; k < TENSOR_MAX_RANK; k++)
            n += is_cut(x, i, k);
    return n > 1 || (n == 1 && x->g->n_inputs == 1);
}

static const struct plan *plan_for(struct cut *x, int64_t rows, int64_t length, struct err *e)
{
    const struct graph *g = x->g;
    if (rows == x->size && x->full[length])
        return x->full[length];
    struct shape *shapes = arena_array(x->mem, (uint64_t)g->n_inputs, sizeof *shapes, e);
    if (!shapes)
        return NULL;
    for (int i = 0; i < g->n_inputs; i++) {
        shapes[i] = x->c->samples->inputs[i]->t.shape;
        shapes[i].dim[0] = rows;
        for (int k = 1; length && k < shapes[i].rank; k++)
            shapes[i].dim[k] = is_cut(x, i, k) ? length : shapes[i].dim[k];
    }
    const struct plan *p = plan_new(g, x->how, x->mem, shapes, e);
    if (rows == x->size)
        x->full[length] = p;
    return p;
}

static bool add_chunk(struct cut *x, const int64_t *sample, int64_t first, int64_t rows, struct err *e)
{
    int64_t length = 0;
    for (int64_t i = 0; x->c->trimmed && i < rows; i++)
        length = x->c->samples->lengths[sample[i]] > length ? x->c->samples->lengths[sample[i]] : length;
    const struct plan *p = plan_for(x, rows, length, e);
    if (p)
        x->c->chunk[x->c->n++] = (struct chunk){ first, rows, sample, p };
    return p != NULL;
}

/* Puts the samples in the order of chunks.  next[i]: the next one as long as i, -1: none; used up, -2. */
static bool add_all(struct cut *x, int64_t *order, int64_t *next, struct err *e)
{
    int64_t n = 0;
    for (int64_t i = 0; i < x->c->count; i++) {
        int64_t first = n, at = i;
        while (next[at] != -2 && n - first < x->size) {
            int64_t behind = next[at];
            order[n++] = at;
            next[at] = -2;
            if (behind < 0)
                break;
            at = behind;
        }
        if (n > first && !add_chunk(x, order + first, first, n - first, e))
            return false;
    }
    return true;
}

/* The numbers of samples of one length, each with its next. */
static void link_lengths(const struct cut *x, int64_t *next, int64_t *last)
{
    for (int64_t i = 0; i <= x->c->samples->positions; i++)
        last[i] = -1;
    for (int64_t i = 0; i < x->c->count; i++) {
        int64_t length = x->c->trimmed && !x->in_order ? x->c->samples->lengths[i] : 0;
        next[i] = -1;
        if (last[length] >= 0)
            next[last[length]] = i;
        last[length] = i;
    }
}

static bool cut_all(struct cut *x, struct err *e)
{
    struct chunks *c = x->c;
    uint64_t lengths = (uint64_t)c->samples->positions + 1, count = (uint64_t)c->count;
    int64_t *order = arena_array(x->mem, count, sizeof *order, e), *next = arena_array(x->mem, count, sizeof *next, e);
    int64_t *last = arena_array(x->mem, lengths, sizeof *last, e);
    c->chunk = arena_array(x->mem, count, sizeof *c->chunk, e);
    x->full = arena_array(x->mem, lengths, sizeof *x->full, e);
    c->n = 0;
    if (!order || !next || !last || !c->chunk || !x->full)
        return false;
    link_lengths(x, next, last);
    return add_all(x, order, next, e);
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
    struct cut x = { .c = c, .g = g, .how = how, .mem = mem, .size = size, .in_order = fixed > 1 };
    struct err why = { 0 };
    c->trimmed = can_cut(&x);
    if (!c->trimmed || cut_all(&x, &why))
        return c->trimmed || cut_all(&x, e);
    c->trimmed = false;            /* a length that the exporter wrote into the graph has a symbol all the same */
    return why.code == ERR_MEMORY ? err_set(e, why.code, why.where, "%s", why.text) : cut_all(&x, e);
}

double chunks_padding(const struct chunks *c)
{
    const struct samples *s = c->samples;
    int64_t all = 0, padding = 0;
    for (int i = 0; s->real && i < c->n; i++) {
        const struct chunk *at = &c->chunk[i];
        int64_t length = at->plan->inputs[s->row_input].dim[s->row_axis];
        all += at->rows * length;
        for (int64_t k = 0; k < at->rows * length; k++)
            padding += !s->real[at->sample[k / length] * s->positions + k % length];
    }
    return all ? 100.0 * (double)padding / (double)all : 0;
}

/* ---- inputs ---- */

/* The corner of a block, with bytes of an element. */
static void copy_corner(const char *from, const struct shape *of, char *to, const struct shape *shape, int axis, size_t bytes)
{
    size_t a = (size_t)shape_count(of, axis + 1, of->rank) * bytes, b = (size_t)shape_count(shape, axis + 1, shape->rank) * bytes;
    if (axis >= shape->rank || a == b) {
        memcpy(to, from, axis >= shape->rank ? bytes : b * (size_t)shape->dim[axis]);
        return;
    }
    for (int64_t i = 0; i < shape->dim[axis]; i++)
        copy_corner(from + (size_t)i * a, of, to + (size_t)i * b, shape, axis + 1, bytes);
}

/* Bytes that are to be copied because they do not lie as the chunk wants them; 0: they do. */
static uint64_t copied_bytes(const struct chunks *c, int chunk, int input)
{
    const struct chunk *at = &c->chunk[chunk];
    const struct tensor *t = &c->samples->inputs[input]->t;
    const struct shape *shape = &at->plan->inputs[input];
    bool behind = at->sample[at->rows - 1] - at->sample[0] == at->rows - 1;
    bool whole = shape_count(shape, 1, shape->rank) == shape_count(&t->shape, 1, t->shape.rank);
    return behind && whole ? 0 : (uint64_t)shape_elements(shape) * (uint64_t)dtype_bits(t->dtype) / 8;
}

static const char *first_row(const struct chunks *c, int input, int64_t sample)
{
    const struct tensor *t = &c->samples->inputs[input]->t;
    return (const char *)t->data + (uint64_t)sample * (uint64_t)shape_count(&t->shape, 1, t->shape.rank) * (uint64_t)dtype_bits(t->dtype) / 8;
}

static void copy_rows(const struct chunks *c, int chunk, int input, char *to)
{
    const struct chunk *at = &c->chunk[chunk];
    const struct tensor *t = &c->samples->inputs[input]->t;
    const struct shape *shape = &at->plan->inputs[input];
    size_t bytes = (size_t)dtype_bits(t->dtype) / 8, row = (size_t)shape_count(shape, 1, shape->rank) * bytes;
    for (int64_t i = 0; i < at->rows; i++)
        copy_corner(first_row(c, input, at->sample[i]), &t->shape, to + (size_t)i * row, shape, 1, bytes);
}

const void *chunk_input(const struct chunks *c, int chunk, int input, void **ret_temp, struct err *e)
{
    uint64_t bytes = copied_bytes(c, chunk, input);
    *ret_temp = bytes ? malloc((size_t)bytes) : NULL;
    if (!bytes)
        return first_row(c, input, c->chunk[chunk].sample[0]);
    if (*ret_temp)
        copy_rows(c, chunk, input, *ret_temp);
    else
        err_set(e, ERR_MEMORY, c->samples->inputs[input]->name, "no memory for the samples of one chunk");
    return *ret_temp;
}

bool chunk_bind(const struct chunks *c, int chunk, const struct lowering *how, struct frame *f, struct err *e)
{
    enum { ALIGN = 64 };
    const struct chunk *at = &c->chunk[chunk];
    const struct graph *g = at->plan->g;
    uint64_t size = 0;
    for (int i = 0; i < g->n_inputs; i++)
        size += copied_bytes(c, chunk, i) + ALIGN;
    if (!frame_bind(f, at->plan, how, e) || !frame_grow(&f->inputs, &f->inputs_size, size, e))
        return false;
    char *to = f->inputs;
    for (int i = 0; i < g->n_inputs; i++) {
        uint64_t bytes = copied_bytes(c, chunk, i);
        if (bytes)
            copy_rows(c, chunk, i, to);
        frame_set(f, g->inputs[i], bytes ? to : first_row(c, i, at->sample[0]));
        to += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return true;
}

void chunk_rest(const struct chunks *c, int chunk)
{
    const struct chunk *at = &c->chunk[chunk];
    for (size_t i = 0; i < c->samples->n_inputs; i++) {
        const struct array *a = c->samples->inputs[i];
        int64_t n = shape_count(&a->t.shape, 1, a->t.shape.rank), from = 0;
        for (int64_t k = 1; k <= at->rows; k++)
            if (k == at->rows || at->sample[k] != at->sample[k - 1] + 1) {
                array_rest(a, at->sample[from] * n, (k - from) * n);
                from = k;
            }
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
