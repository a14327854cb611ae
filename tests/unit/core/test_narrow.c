/*
 * Large constants that a model has as 16-bit floats: they stay so while it is loaded, and nothing shows of it, neither in what it
 * computes nor in what a sweep decides.
 */
#include <math.h>

#include "core/base/half.h"
#include "core/kernel/kernel.h"
#include "tests/unit/core/sweep_fixture.h"

/* The meaning of a float16, by the book. */
static float f16_by_the_book(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float x = exponent == 31 ? (mantissa ? NAN : INFINITY)
            : exponent == 0  ? ldexpf((float)mantissa, -24)
                             : ldexpf((float)(mantissa | 1024), exponent - 25);
    return h & 0x8000 ? -x : x;
}

static bool same_float(float a, float b) { return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b); }

static void every_half_is_the_float_it_stands_for(void **state)
{
    (void)state;
    enum { HALVES = 1 << 16 };
    static uint16_t x[HALVES];
    static float f16[HALVES], bf16[HALVES];
    for (int i = 0; i < HALVES; i++)
        x[i] = (uint16_t)i;
    vec_widen(HALVES, DT_F16, x, f16);
    vec_widen(HALVES, DT_BF16, x, bf16);
    for (int i = 0; i < HALVES; i++) {
        float want = f16_by_the_book(x[i]);
        if (!same_float(f16[i], want) || !same_float(half_of_f16(x[i]), want))
            fail_msg("float16 %04x is %g, not %g", i, (double)f16[i], (double)want);
        uint32_t bits = (uint32_t)i << 16;
        memcpy(&want, &bits, sizeof want);
        assert_true(same_float(bf16[i], want) && same_float(half_of_bf16(x[i]), want));
    }
    for (size_t n = 0; n < 70; n++) {       /* every tail */
        float y[70] = { 0 };
        vec_widen(n, DT_F16, x + 0x3c00, y);
        for (size_t i = 0; i < 70; i++)
            assert_true(i < n ? y[i] == f16[0x3c00 + i] : y[i] == 0);
    }
}

/* ---- models with such constants, and the same with float32 ---- */

/* A constant of random numbers of the type; `wide`: the same numbers as float32. */
static void add_half(struct builder *b, const char *name, enum dtype t, bool wide, uint64_t seed, int rank, const int64_t *dims)
{
    struct onnx_tensor *o = &b->model.graph.initializers[b->model.graph.n_initializers++];
    struct shape s = { .rank = rank };
    memcpy(s.dim, dims, (size_t)rank * sizeof *dims);
    size_t n = (size_t)shape_elements(&s);
    uint16_t *half = mb_alloc(b, n * sizeof *half);
    float *x = mb_alloc(b, n * sizeof *x);
    for (size_t i = 0; i < n; i++) {        /* of either type: from 2^-6 to 2^-3 and their negatives */
        uint64_t r = hash_mix(seed, i);
        half[i] = (uint16_t)((t == DT_F16 ? 0x2400 + r % 0xc00 : 0x3c80 + r % 0x180) + (r >> 60 & 1) * 0x8000);
        x[i] = t == DT_F16 ? half_of_f16(half[i]) : half_of_bf16(half[i]);
    }
    *o = (struct onnx_tensor){ .name = name, .t = { wide ? DT_F32 : t, s, wide ? (void *)x : (void *)half } };
}

static int count_narrow(const struct graph *g)
{
    int n = 0;
    for (int i = 0; i < g->n_values; i++) {
        n += g->values[i].narrow != NULL;
        assert_true(!g->values[i].narrow || (g->values[i].is_const && !g->values[i].data && g->values[i].dtype == DT_F32));
    }
    return n;
}

static const struct form { const char *label, *values, *nodes; int64_t dims[4]; int rank, narrow; } forms[] = {
    { "a weight", "x:f32[b,260]", "c = Cast(w) to=1; y = MatMul(x c)", { 260, 256 }, 2, 1 },
    { "turned", "x:f32[b,256]", "c = Cast(w) to=1; t = Transpose(c) perm=1,0; y = MatMul(x t)", { 260, 256 }, 2, 1 },
    { "turned by Gemm", "x:f32[b,256]", "c = Cast(w) to=1; y = Gemm(x c) transB=1", { 260, 256 }, 2, 1 },
    { "in another shape", "x:f32[b,260] to:i64{260,256}", "c = Cast(w) to=1; r = Reshape(c to); y = MatMul(x r)", { 65, 1024 }, 2, 1 },
    { "a table", "x:i32[b,5]", "c = Cast(w) to=1; y = Gather(c x)", { 3, 26000 }, 2, 1 },
    { "a table by columns", "x:i32[b]", "c = Cast(w) to=1; y = Gather(c x) axis=1", { 26000, 3 }, 2, 1 },
    { "rows known before", "x:f32[b,256] at:i64{2,0,1}", "c = Cast(w) to=1; r = Gather(c at); y = MatMul(x r)", { 3, 256, 90 }, 3, 1 },
    { "as many positions as there are", "x:f32[b,t,128] o:i64{0} one:i64{1} two:i64{2}",
      "c = Cast(w) to=1; s = Shape(x); e = Slice(s one two); p = Slice(c o e one); y = Add(x p)", { 1, 600, 128 }, 3, 1 },
    { "added", "x:f32[b,600,128]", "c = Cast(w) to=1; y = Add(x c)", { 600, 128 }, 2, 1 },
    { "on both sides", "x:f32[b,256]", "c = Cast(w) to=1; k = MatMul(x c); m = MatMul(k c); y = Add(m k)", { 256, 256 }, 2, 1 },
    { "with a factor", "x:f32[b,260] f:f32(0.5)", "c = Cast(w) to=1; m = Mul(c f); y = MatMul(x m)", { 260, 256 }, 2, 0 },
    { "in two parts", "x:f32[b,260]", "c = Cast(w) to=1; u v = Split(c) axis=1; a = MatMul(x u); d = MatMul(x v); y = Add(a d)", { 260, 512 }, 2, 2 },
    { "in small parts", "x:f32[b,260]", "c = Cast(w) to=1; u v = Split(c) axis=1; a = MatMul(x u); d = MatMul(x v); y = Add(a d)", { 260, 256 }, 2, 0 },
    { "a small one", "x:f32[b,20]", "c = Cast(w) to=1; y = MatMul(x c)", { 20, 20 }, 2, 0 },
    { "a vector", "x:f32[b,70000]", "c = Cast(w) to=1; y = Add(x c)", { 70000 }, 1, 0 },
    { "a row", "x:f32[b,70000]", "c = Cast(w) to=1; y = Add(x c)", { 1, 70000 }, 2, 0 },
    { "an output", "x:f32[b,20]", "y = Cast(w) to=1; z = Relu(x)", { 260, 256 }, 2, 0 },
    { "a convolution", "x:f32[b,3,40,40]", "c = Cast(w) to=1; y = Conv(x c)", { 30, 3, 32, 32 }, 4, 1 },
};

static struct builder *form_model(const struct form *f, enum dtype t, bool wide)
{
    struct builder *b = mb_new(17);
    mb_values(b, f->values);
    add_half(b, "w", t, wide, 7, f->rank, f->dims);
    mb_nodes(b, f->nodes);
    mb_output(b, "y");
    return b;
}

/* Ids where the model looks something up, else numbers in [-1, 1]. */
static void form_samples(struct arena *mem, const struct graph *g, struct samples *ret)
{
    random_samples(mem, g, 4, ret);
    const struct tensor *t = &ret->inputs[0]->t;
    for (int64_t i = 0; t->dtype == DT_I32 && i < shape_elements(&t->shape); i++)
        ((int32_t *)t->data)[i] = (int32_t)(i % 3);
}

static void what_is_computed_is_that_of_floats(void **state)
{
    (void)state;
    static const enum dtype types[] = { DT_F16, DT_BF16 };
    for (size_t i = 0; i < 2 * sizeof forms / sizeof forms[0]; i++) {
        const struct form *f = &forms[i / 2];
        float *y[3];
        struct shape shape[3];
        struct builder *b[3];
        for (int k = 0; k < 3; k++) {          /* narrow, node by node; the same in tiles; float32 */
            struct err e = { 0 };
            struct samples x;
            b[k] = form_model(f, types[i % 2], k == 2);
            struct graph *g = graph_load(b[k]->mem, mb_model(b[k]), op_eval, &e);
            struct lowering *how = mb_alloc(b[k], sizeof *how);
            need(g && lowering_new(how, g, b[k]->mem, &e), &e);
            how->tiled = k > 0;
            if (count_narrow(g) != (k == 2 ? 0 : f->narrow))
                fail_msg("%s: %d constants stay narrow", f->label, count_narrow(g));
            form_samples(b[k]->mem, g, &x);
            y[k] = run_all(g, how, &x, b[k]->mem, &shape[k]);
        }
        assert_true(shape_equal(&shape[0], &shape[2]) && shape_equal(&shape[1], &shape[2]));
        for (int64_t at = 0; at < shape_elements(&shape[2]); at++)
            if (y[0][at] != y[2][at] || y[1][at] != y[2][at])
                fail_msg("%s: element %d is %g and %g, not %g", f->label, (int)at, (double)y[0][at], (double)y[1][at], (double)y[2][at]);
        for (int k = 0; k < 3; k++)
            mb_free(b[k]);
    }
}

/* More than is computed ahead: a view costs nothing, so it is one all the same.  The pages are never touched. */
static void a_view_of_any_size_stays_narrow(void **state)
{
    (void)state;
    enum { ROWS = 4097, COLS = 1 << 14 };
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    uint16_t *half = calloc((size_t)ROWS * COLS, sizeof *half);
    struct arena *mem = arena_new((uint64_t)1 << 30);
    assert_true(half && mem);
    mb_values(b, "x:i64[b] shape:i64{4097,16384}");
    b->model.graph.initializers[b->model.graph.n_initializers++] =
        (struct onnx_tensor){ .name = "w", .t = { DT_F16, { .rank = 2, .dim = { COLS, ROWS } }, half } };
    mb_nodes(b, "c = Cast(w) to=1; r = Reshape(c shape); y = Gather(r x)");
    mb_output(b, "y");
    const struct graph *g = graph_load(mem, mb_model(b), op_eval, &e);
    assert_non_null(g);
    assert_true(count_narrow(g) > 0);
    assert_int_equal(g->n_nodes, 1);
    assert_true(g->values[g->nodes[0].in[0]].narrow == half);
    arena_free(mem);
    mb_free(b);
    free(half);
}

/* ---- sweeps ---- */

/* ids -> table -> norm -> q, k, v -> attention -> o, + -> norm -> up, Relu, down, +: one block, all its weights of 16 bits.  It lies in *ret. */
static struct ground *block(enum dtype t, bool wide, struct builder **ret)
{
    struct builder *b = *ret = mb_new(17);
    static const struct { const char *name; int64_t k, n; } weights[] = {
        { "table", 700, 128 }, { "wq", 128, 512 }, { "wk", 128, 512 }, { "wv", 128, 512 }, { "wo", 512, 128 }, { "wu", 128, 520 }, { "wd", 520, 128 },
    };
    mb_values(b, "x:f32[b,3] gamma:f32{1,0.5,3}@128 beta:f32{0.1,-0.1}@128 split:i64{0,0,4,128} merge:i64{0,0,512} s:f32(0.09)");
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++)
        add_half(b, weights[i].name, t, wide, i, 2, (int64_t[]){ weights[i].k, weights[i].n });
    mb_nodes(b, "ct = Cast(table) to=1; cq = Cast(wq) to=1; ck = Cast(wk) to=1; cv = Cast(wv) to=1; co = Cast(wo) to=1; cu = Cast(wu) to=1;"
                "cd = Cast(wd) to=1; ids = Cast(x) to=7; e = Gather(ct ids); n1 = LayerNormalization(e gamma beta);"
                "q = MatMul(n1 cq); k = MatMul(n1 ck); v = MatMul(n1 cv); q4 = Reshape(q split); k4 = Reshape(k split); v4 = Reshape(v split);"
                "qt = Transpose(q4) perm=0,2,1,3; kt = Transpose(k4) perm=0,2,3,1; vt = Transpose(v4) perm=0,2,1,3; l = MatMul(qt kt);"
                "ls = Mul(l s); p = Softmax(ls); pv = MatMul(p vt); back = Transpose(pv) perm=0,2,1,3; m = Reshape(back merge);"
                "o = MatMul(m co); r1 = Add(e o); n2 = LayerNormalization(r1 gamma beta); u = MatMul(n2 cu); a = Relu(u); d = MatMul(a cd);"
                "y = Add(r1 d)");
    mb_output(b, "y");
    struct ground *gr = ground_of(b, 40);
    float *ids = gr->samples.inputs[0]->t.data;
    for (int i = 0; i < 40 * 3; i++)
        ids[i] = (float)(hash_mix(3, (uint64_t)i) % 700);
    return gr;
}

static void what_is_decided_is_that_of_floats(void **state)
{
    (void)state;
    static const char *const names[] = { "minmax-w8a8", "smoothquant-w8a8", "repquant-w4a8", "zeroquant-lkd-w4a8" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct recipe r = *recipe_preset(names[i]);
        enum dtype t = i % 2 ? DT_BF16 : DT_F16;
        r.distillation.steps = r.distillation.steps > 8 ? 8 : r.distillation.steps;
        struct builder *of[2];
        struct ground *half = block(t, false, &of[0]), *wide = block(t, true, &of[1]);
        assert_int_equal(count_narrow(half->g), 7);
        struct outcome *got = sweep_well(half, &(struct how_to){ .recipe = &r, .threads = 2, .memory = UINT64_MAX });
        struct outcome *want = sweep_well(wide, &(struct how_to){ .recipe = &r, .threads = 2, .memory = UINT64_MAX });
        assert_true(got->sweep.n_layers == 8 && want->sweep.n_layers == 8 && got->sweep.n_sites == want->sweep.n_sites);
        for (int k = 0; k < 8; k++) {
            const struct sweep_layer *a = &got->sweep.layers[k], *b = &want->sweep.layers[k];
            bool same = !a->w.codes == !b->w.codes && (!a->w.codes || memcmp(a->w.codes, b->w.codes, a->w.k * a->w.n) == 0)
                     && memcmp(&a->accumulated, &b->accumulated, sizeof a->accumulated) == 0
                     && memcmp(&a->isolated, &b->isolated, sizeof a->isolated) == 0 && memcmp(&a->weight, &b->weight, sizeof a->weight) == 0;
            if (!same)
                fail_msg("%s: layer %s differs", names[i], a->l->name);
        }
        for (int k = 0; k < got->sweep.n_sites; k++)
            assert_memory_equal(&got->sweep.sites[k].q.a, &want->sweep.sites[k].q.a, sizeof(struct affine));
        assert_true(got->bytes.n + 700 * 128 * 2 - want->bytes.n < 512);    /* the table stays as it was, with a Cast */
        outcome_free(got);
        outcome_free(want);
        ground_free(half);
        ground_free(wide);
        mb_free(of[0]);
        mb_free(of[1]);
    }
}

int main(void)
{
    struct err e = { 0 };
    if (!blas_init(&e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_the_float_it_stands_for),
        cmocka_unit_test(what_is_computed_is_that_of_floats),
        cmocka_unit_test(a_view_of_any_size_stays_narrow),
        cmocka_unit_test(what_is_decided_is_that_of_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
