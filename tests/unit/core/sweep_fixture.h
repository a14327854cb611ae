/*
 * sweep_fixture.h - a model, samples and a sweep over them, down to the artifact's bytes.
 *
 *     struct ground *gr = ground_digits(24);           or ground_of(mb, rows): a model_builder model on random inputs
 *     struct outcome *o = sweep_once(gr, &(struct how_to){ .recipe = ..., .threads = 2, .memory = UINT64_MAX });
 *     assert_same(o, p); outcome_free(o); ground_free(gr);
 */
#ifndef TESTS_SWEEP_FIXTURE_H
#define TESTS_SWEEP_FIXTURE_H

#include "core/artifact/artifact.h"
#include "core/base/buf.h"
#include "core/cli/load.h"
#include "core/exec/op.h"
#include "core/method/method.h"
#include "core/sweep/sweep.h"
#include "tests/unit/core/model_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define FX __attribute__((unused)) static

struct ground {
    struct arena *mem;
    struct loaded_model file;          /* the digits only */
    struct loaded_data data;
    const struct graph *g;
    struct roles roles;
    struct samples samples;
};

FX void need(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s: %s: %s", err_slug(e->code), e->where, e->text);
}

FX float uniform_at(uint64_t seed, uint64_t i, float lo, float hi)
{
    return lo + (hi - lo) * (float)(hash_mix(seed, i) >> 40) * 0x1p-24f;
}

FX struct ground *ground_new(void)
{
    struct err e = { 0 };
    static bool ready;
    if (!ready)
        need(blas_init(&e), &e);
    ready = true;
    struct ground *gr = calloc(1, sizeof *gr);
    assert_non_null(gr);
    gr->mem = arena_new((uint64_t)1 << 32);
    assert_non_null(gr->mem);
    return gr;
}

FX struct ground *ground_digits(int64_t samples)
{
    struct ground *gr = ground_new();
    struct err e = { 0 };
    struct file_ref calib = { "calib.npz", "examples/digits/calib.npz", -1 };
    need(load_model_path(&gr->file, "examples/digits/model.onnx", &e), &e);
    need(load_samples(&gr->data, &calib, gr->file.g, "/tmp", &e), &e);
    gr->g = gr->file.g;
    gr->samples = gr->data.samples;
    gr->samples.count = samples;
    need(roles_find(gr->g, gr->mem, &gr->roles, &e), &e);
    return gr;
}

/* One float array per input: axis 0 is `rows`, other symbolic axes are 3, values in [-1, 1]. */
FX void random_samples(struct arena *mem, const struct graph *g, int64_t rows, struct samples *ret)
{
    *ret = (struct samples){ .n_inputs = (size_t)g->n_inputs, .count = rows };
    struct array *arrays = arena_array(mem, (uint64_t)g->n_inputs, sizeof *arrays, NULL);
    ret->inputs = arena_array(mem, (uint64_t)g->n_inputs, sizeof *ret->inputs, NULL);
    for (int i = 0; i < g->n_inputs; i++) {
        const struct value *v = &g->values[g->inputs[i]];
        struct tensor t = { v->dtype, v->shape, NULL };
        for (int d = 0; d < t.shape.rank; d++)
            t.shape.dim[d] = d == 0 ? rows : t.shape.dim[d] < 0 ? 3 : t.shape.dim[d];
        int64_t n = shape_elements(&t.shape);
        float *x = arena_array(mem, (uint64_t)n, sizeof *x, NULL);
        for (int64_t k = 0; k < n; k++)
            x[k] = uniform_at((uint64_t)i + 1, (uint64_t)k, -1, 1);
        t.data = x;
        arrays[i] = (struct array){ .name = v->name, .t = t };
        ret->inputs[i] = &arrays[i];
    }
}

FX struct ground *ground_of(struct builder *b, int64_t rows)
{
    struct ground *gr = ground_new();
    struct err e = { 0 };
    gr->g = graph_load(gr->mem, mb_model(b), op_eval, &e);
    need(gr->g != NULL, &e);
    random_samples(gr->mem, gr->g, rows, &gr->samples);
    need(roles_find(gr->g, gr->mem, &gr->roles, &e), &e);
    return gr;
}

FX void ground_free(struct ground *gr)
{
    loaded_data_release(&gr->data);
    loaded_model_release(&gr->file);
    arena_free(gr->mem);
    free(gr);
}

/* A weight of random numbers, longer lists than one would write: name f32[dims] filled from a seed. */
FX void mb_random(struct builder *b, const char *name, uint64_t seed, float reach, int rank, const int64_t *dims)
{
    struct onnx_tensor *o = &b->model.graph.initializers[b->model.graph.n_initializers++];
    struct shape s = { .rank = rank };
    memcpy(s.dim, dims, (size_t)rank * sizeof *dims);
    size_t n = (size_t)shape_elements(&s);
    float *x = mb_alloc(b, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = uniform_at(seed, i, -reach, reach);
    *o = (struct onnx_tensor){ .name = name, .t = { DT_F32, s, x } };
}
#define MB_RANDOM(b, name, seed, reach, ...) \
    mb_random(b, name, seed, reach, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

/* ---- one run of a graph ---- */

/* Output 0 on the samples, all of them at once; in mem.  The lowering may be any of the graph's. */
FX float *run_all(const struct graph *g, const struct lowering *how, const struct samples *x, struct arena *mem, struct shape *ret)
{
    struct err e = { 0 };
    struct shape shapes[8];
    struct frame f = { 0 };
    for (int i = 0; i < g->n_inputs; i++)
        shapes[i] = x->inputs[i]->t.shape;
    struct plan *p = plan_new(g, how, mem, shapes, &e);
    need(p && frame_bind(&f, p, how, &e), &e);
    for (int i = 0; i < g->n_inputs; i++)
        frame_set(&f, g->inputs[i], x->inputs[i]->t.data);
    need(frame_run(&f, 0, g->n_nodes, &e), &e);
    const struct tensor *t = &f.t[g->outputs[0]];
    *ret = t->shape;
    size_t n = (size_t)shape_elements(ret);
    float *y = arena_array(mem, n, sizeof *y, NULL);
    memcpy(y, t->data, n * sizeof *y);
    frame_release(&f);
    return y;
}

/* ---- one sweep ---- */

struct how_to {
    const struct recipe *recipe;
    int threads;                       /* 0: 1 */
    uint64_t memory;
    const char *dir;
    int stop_after;
    uint8_t task;                      /* the fingerprint's first byte */
    const struct events *events;
};

struct outcome {
    struct arena *mem;
    struct sweep sweep;
    struct sweep_task task;
    struct err e;
    bool ok;
    struct onnx_model artifact;
    struct buf bytes;
};

FX bool to_buf(void *arg, const void *p, size_t n, struct err *e)
{
    (void)e;
    buf_add(arg, p, n);
    return true;
}

FX bool build_artifact(const struct sweep *s, enum recipe_target target, struct arena *mem, struct onnx_model *ret, struct buf *bytes,
                       struct err *e)
{
    struct artifact_layer *layers = arena_array(mem, (uint64_t)s->n_layers, sizeof *layers, e);
    struct artifact_spec spec = { .g = s->g, .layers = layers, .target = target, .how = &s->quantized };
    for (int i = 0; i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        if (l->quantize)
            layers[spec.n_layers++] = (struct artifact_layer){ l->l, l->w.codes ? &l->w : NULL, sweep_input(s, l->x),
                                                               sweep_input(s, l->other), sweep_input(s, l->out) };
    }
    *bytes = BUF_INIT((size_t)1 << 30);
    struct onnx_sink sink = { to_buf, bytes };
    return artifact_build(&spec, mem, ret, e) && onnx_write(ret, &sink, e) && !bytes->bad;
}

FX struct outcome *sweep_once(const struct ground *gr, const struct how_to *how)
{
    struct outcome *o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->mem = arena_new((uint64_t)1 << 32);
    struct pool *pool = pool_new(how->threads ? how->threads : 1, &o->e);
    assert_true(o->mem && pool);
    o->task = (struct sweep_task){
        .g = gr->g, .roles = &gr->roles, .recipe = how->recipe, .method = method_find(how->recipe->method),
        .samples = &gr->samples, .pool = pool, .memory = how->memory, .dir = how->dir, .fingerprint = { how->task },
        .events = how->events, .stop_after = how->stop_after,
    };
    o->ok = sweep_run(&o->task, o->mem, &o->sweep, &o->e);
    pool_free(pool);
    o->task.pool = NULL;
    if (o->ok)
        need(build_artifact(&o->sweep, how->recipe->target, o->mem, &o->artifact, &o->bytes, &o->e), &o->e);
    return o;
}

FX void outcome_free(struct outcome *o)
{
    buf_release(&o->bytes);
    arena_free(o->mem);
    free(o);
}

/* A sweep that has to succeed. */
FX struct outcome *sweep_well(const struct ground *gr, const struct how_to *how)
{
    struct outcome *o = sweep_once(gr, how);
    need(o->ok, &o->e);
    return o;
}

FX bool same_summary(const struct site_summary *a, const struct site_summary *b)
{
    struct site_summary x = *a, y = *b;
    size_t n = (size_t)x.heads_kept * x.n_codes * sizeof *x.head_codes;
    x.head_codes = y.head_codes = NULL;
    return memcmp(&x, &y, sizeof x) == 0 && (n == 0 || memcmp(a->head_codes, b->head_codes, n) == 0);
}

/* The same artifact, quantizers, statistics and metrics, to the last bit. */
FX void assert_same(const struct outcome *want, const struct outcome *got, const char *label)
{
    need(got->ok, &got->e);
    if (want->bytes.n != got->bytes.n || memcmp(want->bytes.p, got->bytes.p, want->bytes.n) != 0)
        fail_msg("%s: the artifact has other bytes", label);
    for (int i = 0; i < want->sweep.n_sites; i++) {
        const struct site *a = &want->sweep.sites[i], *b = &got->sweep.sites[i];
        if (memcmp(&a->q.a, &b->q.a, sizeof a->q.a) != 0 || !same_summary(&a->summary, &b->summary))
            fail_msg("%s: site %d (of layer %s) differs", label, i, a->layer);
    }
    for (int i = 0; i < want->sweep.n_layers; i++) {
        const struct sweep_layer *a = &want->sweep.layers[i], *b = &got->sweep.layers[i];
        if (memcmp(&a->accumulated, &b->accumulated, sizeof a->accumulated) != 0
            || memcmp(&a->isolated, &b->isolated, sizeof a->isolated) != 0)
            fail_msg("%s: the metrics of layer %s differ", label, a->l->name);
    }
}

#undef FX
#endif
