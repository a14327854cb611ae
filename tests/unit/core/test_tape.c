/*
 * Derivatives against finite differences, in double: the sources of core/learn are compiled here with reals of 64 bits.
 *
 * Blocks as models have them; each constant in turn is learned, and moved by a little.  With quantized rows what rounding added is
 * held, as the derivative holds it (tape_internal.h, `frozen`).
 */
#define LEARN_DOUBLE
#include "core/learn/tape.c"
#include "core/learn/tape_elem.c"
#include "core/learn/tape_matrix.c"
#include "core/learn/tape_move.c"
#include "core/learn/tape_program.c"
#include "core/learn/tape_rows.c"
#include "core/learn/tape_rules.c"

#include "core/base/hash.h"
#include "tests/unit/core/model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BATCH = 2, TOKENS = 5, CHANNELS = 8, HEADS = 2, INNER = 12, MAX_LEARNED = 64, PROBES = 12 };

static double uniform(uint64_t seed, uint64_t i) { return (double)(hash_mix(seed, i) >> 40) * 0x1p-23 - 1; }

static void need(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s: %s: %s", err_slug(e->code), e->where, e->text);
}

/* A constant of random numbers around `centre`. */
static void random_constant(struct builder *b, const char *name, double centre, double reach, int rank, const int64_t *dims)
{
    struct onnx_tensor *o = &b->model.graph.initializers[b->model.graph.n_initializers++];
    struct shape s = { .rank = rank };
    memcpy(s.dim, dims, (size_t)rank * sizeof *dims);
    size_t n = (size_t)shape_elements(&s);
    float *x = mb_alloc(b, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(centre + reach * uniform(strlen(name) * 131 + (uint64_t)name[0] * 7 + (uint64_t)name[1], i));
    *o = (struct onnx_tensor){ .name = name, .t = { DT_F32, s, x } };
}

static void matrix_constant(struct builder *b, const char *name, int64_t rows, int64_t cols)
{
    random_constant(b, name, 0, 0.6, 2, (int64_t[]){ rows, cols });
}

static void vector_constant(struct builder *b, const char *name, double centre, int64_t n)
{
    random_constant(b, name, centre, 0.3, 1, &n);
}

/* ---- the blocks ---- */

static void attention_weights(struct builder *b)
{
    mb_values(b, "x:f32[2,5,8] heads:i64{0,0,2,4} rows:i64{0,0,8} half:f32(0.5) mask:bool{1,0,0,0,0, 1,1,0,0,0, 1,1,1,0,0, 1,1,1,1,0, 1,1,1,1,1}@5,5"
                 " low:f32(-30)");
    matrix_constant(b, "wq", CHANNELS, CHANNELS);
    matrix_constant(b, "wk", CHANNELS, CHANNELS);
    matrix_constant(b, "wv", CHANNELS, CHANNELS);
    matrix_constant(b, "wo", CHANNELS, CHANNELS);
    vector_constant(b, "bq", 0, CHANNELS);
    vector_constant(b, "bo", 0, CHANNELS);
    vector_constant(b, "g1", 1, CHANNELS);
    vector_constant(b, "a1", 0, CHANNELS);
    vector_constant(b, "g2", 1, CHANNELS);
    vector_constant(b, "a2", 0, CHANNELS);
    matrix_constant(b, "w1", CHANNELS, INNER);
    vector_constant(b, "c1", 0, INNER);
    matrix_constant(b, "w2", INNER, CHANNELS);
    vector_constant(b, "c2", 0, CHANNELS);
}

/* h -> o: heads, a masked softmax, the way back to rows. */
static const char *const attention =
    "q0 = MatMul(h wq); q1 = Add(q0 bq); k1 = MatMul(h wk); v1 = MatMul(h wv);"
    "q2 = Reshape(q1 heads); k2 = Reshape(k1 heads); v2 = Reshape(v1 heads);"
    "q = Transpose(q2) perm=0,2,1,3; k = Transpose(k2) perm=0,2,3,1; v = Transpose(v2) perm=0,2,1,3;"
    "s0 = MatMul(q k); s1 = Mul(s0 half); s2 = Where(mask s1 low); p = Softmax(s2) axis=-1; c0 = MatMul(p v);"
    "c1t = Transpose(c0) perm=0,2,1,3; ctx = Reshape(c1t rows); o0 = MatMul(ctx wo); o = Add(o0 bo);";

static struct builder *pre_norm(void)
{
    struct builder *b = mb_new(20);
    attention_weights(b);
    mb_nodes(b, "h = LayerNormalization(x g1 a1) axis=-1 epsilon=0.001;");
    mb_nodes(b, attention);
    mb_nodes(b, "r = Add(x o); n2 = LayerNormalization(r g2 a2) axis=-1; f0 = MatMul(n2 w1); f1 = Add(c1 f0); f2 = Gelu(f1);"
                "f3 = MatMul(f2 w2); f4 = Add(f3 c2); y = Add(r f4)");
    mb_output(b, "y");
    return b;
}

/* As torch writes LayerNorm and GELU before opset 17. */
static struct builder *post_norm(void)
{
    struct builder *b = mb_new(17);
    attention_weights(b);
    mb_values(b, "two:f32(2) eps:f32(1e-5) root:f32(1.4142135) one:f32(1)");
    mb_nodes(b, "h = Identity(x);");
    mb_nodes(b, attention);
    mb_nodes(b, "r = Add(x o); m = ReduceMean(r) axes=-1,; d = Sub(r m); e = Pow(d two); vr = ReduceMean(e) axes=-1,; ve = Add(vr eps); sd = Sqrt(ve);"
                "xh = Div(d sd); xg = Mul(xh g1); n1 = Add(xg a1);"
                "f0 = MatMul(n1 w1); f1 = Add(f0 c1); t = Div(f1 root); er = Erf(t); e1 = Add(er one); fm = Mul(f1 e1); f2 = Mul(fm half);"
                "f3 = MatMul(f2 w2); f4 = Add(f3 c2); r2 = Add(n1 f4); y = LayerNormalization(r2 g2 a2) axis=-1");
    mb_output(b, "y");
    return b;
}

/* RMSNorm in pieces, halves turned as rotary embeddings do, SwiGLU. */
static struct builder *gated(void)
{
    struct builder *b = mb_new(17);
    attention_weights(b);
    mb_values(b, "two:f32(2) eps:f32(1e-5) one:f32(1) s0i:i64{0} s4i:i64{4} s8i:i64{8} ax:i64{2} pick:i64{3,1,0,2,4}");
    vector_constant(b, "cosines", 0, CHANNELS);
    vector_constant(b, "sines", 0, CHANNELS);
    matrix_constant(b, "w3", CHANNELS, INNER);
    mb_nodes(b, "e = Pow(x two); m = ReduceMean(e) axes=-1,; me = Add(m eps); sd = Sqrt(me); iv = Reciprocal(sd); xh = Mul(x iv); n1 = Mul(xh g1);"
                "lo = Slice(n1 s0i s4i ax); hi = Slice(n1 s4i s8i ax); nh = Neg(hi); tu = Concat(nh lo) axis=2;"
                "ra = Mul(n1 cosines); rb = Mul(tu sines); h = Add(ra rb);");
    mb_nodes(b, attention);
    mb_nodes(b, "r = Add(x o); ga = Gather(r pick) axis=1; e2 = Pow(ga two); m2 = ReduceMean(e2) axes=-1,; me2 = Add(m2 eps); sd2 = Sqrt(me2);"
                "xh2 = Div(ga sd2); n2 = Mul(g2 xh2); gt = MatMul(n2 w1); sg = Sigmoid(gt); si = Mul(gt sg); up = MatMul(n2 w3); z = Mul(si up);"
                "dn = MatMul(z w2); y0 = Add(ga dn); l r8 = Split(y0) axis=2; rl = Relu(l); th = Tanh(r8); y = Concat(rl th) axis=2");
    mb_output(b, "y");
    return b;
}

/* One matrix on both sides of a product, one that two products share, values with several readers, and one of a single number. */
static struct builder *shared_operands(void)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[2,5,8] first:i64{0} second:i64{1} axis:i64{1}");
    matrix_constant(b, "wq", CHANNELS, CHANNELS);
    matrix_constant(b, "wk", CHANNELS, CHANNELS);
    mb_nodes(b, "a = MatMul(x wq); c = MatMul(a wk); at = Transpose(a) perm=0,2,1; s = MatMul(c at); ss = MatMul(s s); one = Gather(a first) axis=0;"
                "z = MatMul(ss one); sz = MatMul(s z); y0 = Add(sz z); row = Slice(one first second axis); m = ReduceMean(row) axes=-1,; mm = Mul(m m);"
                "y1 = Mul(y0 mm); y = Add(y1 a)");
    mb_output(b, "y");
    return b;
}

/* ---- a block on a tape ---- */

struct bench {
    struct builder *b;
    struct graph *g;
    struct lowering how;
    struct plan *plan;
    struct program program;
    struct learned learned[MAX_LEARNED];
    int n_learned;
    size_t total;
    real *all, *grad, *in_grad;
    real **linear, **held;             /* weights of quantized rows; what rounding adds to their codes */
    struct weights w;
    struct tape *tape;
    float *x, *target;
    size_t n_x, n_y;
};


static void add_learned(struct bench *t, enum learned_kind kind, int node, int input, size_t n)
{
    assert_true(t->n_learned < MAX_LEARNED);
    t->learned[t->n_learned++] = (struct learned){ kind, node, input, t->total, n };
    t->total += n;
}

/* Every constant of more than one number that a node of the list reads as a float, quantized rows' weights apart. */
static void learn_constants(struct bench *t)
{
    for (int i = 0; i < t->g->n_nodes; i++)
        for (int k = 0; k < t->g->nodes[i].n_in; k++) {
            int v = t->g->nodes[i].in[k];
            const struct value *c = v >= 0 ? &t->g->values[v] : NULL;
            if (c && c->is_const && c->dtype == DT_F32 && shape_elements(&c->shape) > 1 && t->how.qop[i].kind == QOP_NONE)
                add_learned(t, LEARN_CONSTANT, i, k, (size_t)shape_elements(&c->shape));
        }
}

static struct bench *bench_new(struct builder *b)
{
    struct err e = { 0 };
    struct bench *t = mb_alloc(b, sizeof *t);
    t->b = b;
    t->g = graph_load(b->mem, mb_model(b), op_eval, &e);
    need(t->g && lowering_new(&t->how, t->g, b->mem, &e), &e);
    t->n_x = BATCH * TOKENS * CHANNELS;
    t->x = mb_alloc(b, t->n_x * sizeof *t->x);
    for (size_t i = 0; i < t->n_x; i++)
        t->x[i] = (float)uniform(99, i);
    t->plan = plan_new(t->g, &t->how, b->mem, &t->g->values[t->g->inputs[0]].shape, &e);
    need(t->plan != NULL, &e);
    return t;
}

/* After what is learned has been listed. */
static void bench_start(struct bench *t)
{
    struct err e = { 0 };
    int out = t->g->outputs[0];
    struct piece piece = { t->g, &t->how, 0, t->g->n_nodes, t->g->inputs[0], out, t->learned, t->n_learned, true };
    need(program_new(&piece, t->b->mem, &t->program, &e), &e);
    t->n_y = (size_t)shape_elements(&t->plan->facts.shape[out]);
    t->target = mb_alloc(t->b, t->n_y * sizeof *t->target);
    for (size_t i = 0; i < t->n_y; i++)
        t->target[i] = (float)uniform(7, i);
    t->all = mb_alloc(t->b, (t->total + 1) * sizeof *t->all);
    t->grad = mb_alloc(t->b, (t->total + 1) * sizeof *t->grad);
    t->in_grad = mb_alloc(t->b, t->n_x * sizeof *t->in_grad);
    for (int i = 0; i < t->n_learned; i++) {
        const struct learned *l = &t->learned[i];
        const float *from = l->kind == LEARN_CONSTANT ? t->g->values[t->g->nodes[l->node].in[l->input]].data : NULL;
        for (size_t k = 0; from && k < l->n; k++)
            t->all[l->at + k] = (double)from[k];
    }
    t->linear = mb_alloc(t->b, (size_t)t->g->n_nodes * sizeof *t->linear);
    t->held = mb_alloc(t->b, (size_t)t->g->n_nodes * sizeof *t->held);
    t->w = (struct weights){ t->all, t->linear };
    t->tape = tape_new(&t->program, &e);
    need(t->tape != NULL, &e);
}

/* In a frozen run a code is u plus what rounding added to it. */
static void weigh(struct bench *t)
{
    for (int i = 0; i < t->g->n_nodes; i++) {
        if (!t->linear[i])
            continue;
        const struct qop *q = &t->how.qop[i];
        tape_weigh(&t->program, i, t->all, t->linear[i]);
        const struct learned *codes = program_learned(&t->program, LEARN_CODES, i, 0), *steps = program_learned(&t->program, LEARN_STEPS, i, 0);
        for (size_t k = 0; k < q->k * q->n; k++) {
            size_t at = (q->group ? k / q->n / q->group : 0) * q->n + k % q->n;
            double step = (double)q->scale[at] * exp(t->all[steps->at + at]);
            if (t->tape->frozen)
                t->linear[i][k] = (t->all[codes->at + k] + t->held[i][k]) * step;
            else
                t->held[i][k] = t->linear[i][k] / step - t->all[codes->at + k];
        }
    }
}

static double error_now(struct bench *t)
{
    struct err e = { 0 };
    double error, power;
    weigh(t);
    need(tape_bind(t->tape, t->plan, &t->w, &e), &e);
    tape_set(t->tape, t->g->inputs[0], t->x);
    need(tape_forward(t->tape, t->target, &error, &power, &e), &e);
    return error;
}

/* Some numbers of everything learned, moved by h to either side: agreement to 1e-6 of the largest derivative of their kind. */
static void check(struct bench *t, const char *name, int want_still)
{
    struct err e = { 0 };
    const double h = 1e-5;
    int still = 0;
    t->tape->frozen = false;
    error_now(t);
    for (size_t i = 0; i < t->total; i++)
        t->grad[i] = NAN;                              /* written, not added to */
    need(tape_backward(t->tape, t->target, 1, t->grad, t->in_grad, &e), &e);
    t->tape->frozen = true;
    for (int i = 0; i < t->n_learned; i++) {
        const struct learned *l = &t->learned[i];
        double largest = 0;
        for (size_t k = 0; k < l->n; k++)
            largest = fmax(largest, fabs(t->grad[l->at + k]));
        for (int k = 0; k < PROBES; k++) {
            size_t at = l->at + hash_mix((uint64_t)i, (uint64_t)k) % l->n;
            double was = t->all[at];
            t->all[at] = was + h;
            double above = error_now(t);
            t->all[at] = was - h;
            double below = error_now(t);
            t->all[at] = was;
            double want = (above - below) / (2 * h);
            if (!(fabs(want - t->grad[at]) <= 1e-6 * fmax(largest, 1e-3)))
                fail_msg("%s: %d of node %d '%s' input %d: derivative %.10g, differences give %.10g", name, l->kind, l->node,
                         t->g->nodes[l->node].name, l->input, t->grad[at], want);
        }
        still += largest < 1e-9;
    }
    assert_int_equal(still, want_still);               /* the rest is learned, and the check says something */
}

/* The derivative by the input, likewise; x is float, so it is moved by what float can hold. */
static void check_input(struct bench *t, const char *name)
{
    double largest = 0;
    for (size_t i = 0; i < t->n_x; i++)
        largest = fmax(largest, fabs(t->in_grad[i]));
    assert_true(largest > 1e-6);
    for (size_t i = 0; i < t->n_x; i += 3) {
        float was = t->x[i];
        t->x[i] = was + 0x1p-13f;
        float up = t->x[i];
        double above = error_now(t);
        t->x[i] = was - 0x1p-13f;
        double down = (double)t->x[i], below = error_now(t), want = (above - below) / ((double)up - down);
        t->x[i] = was;
        if (!(fabs(want - t->in_grad[i]) <= 1e-5 * largest))
            fail_msg("%s: x[%zu]: derivative %.10g, differences give %.10g", name, i, t->in_grad[i], want);
    }
}

static void bench_end(struct bench *t)
{
    tape_free(t->tape);
    mb_free(t->b);
}

static void check_float(struct builder *b, const char *name)
{
    struct bench *t = bench_new(b);
    learn_constants(t);
    bench_start(t);
    check(t, name, 0);
    check_input(t, name);
    bench_end(t);
}

static void derivatives_of_a_pre_norm_block(void **state) { (void)state; check_float(pre_norm(), "pre-norm"); }
static void derivatives_of_a_post_norm_block(void **state) { (void)state; check_float(post_norm(), "post-norm"); }
static void derivatives_of_a_gated_block(void **state) { (void)state; check_float(gated(), "gated"); }

static void derivatives_of_shared_operands(void **state) { (void)state; check_float(shared_operands(), "shared"); }

/* ---- quantized rows ---- */

static struct affine symmetric(float reach, int bits)
{
    int top = (1 << (bits - 1)) - 1;
    return (struct affine){ reach / (float)top, 0, -top - 1, top, DT_I8 };
}

/* group: inputs that share a row of steps; 0: all. */
static void quantize_linear(struct bench *t, int node, bool factors, size_t group)
{
    const struct node *n = &t->g->nodes[node];
    struct qop *q = &t->how.qop[node];
    const struct shape *w = &t->g->values[n->in[1]].shape;
    size_t k = (size_t)w->dim[0], cols = (size_t)w->dim[1], scales = (group ? k / group : 1) * cols;
    float *scale = mb_alloc(t->b, scales * sizeof *scale), *mul = mb_alloc(t->b, 2 * k * sizeof *mul), *add = mb_alloc(t->b, cols * sizeof *add);
    *q = (struct qop){ .kind = QOP_MATMUL, .x = n->in[0], .y = -1, .ax = symmetric(40, 8), .k = k, .n = cols, .group = group, .w = t->g->values[n->in[1]].data,
                        .scale = scale, .add = add };
    for (size_t i = 0; i < scales; i++)
        scale[i] = q->ax.scale * 0.1f * (1 + (float)i / 16);
    for (size_t i = 0; i < cols; i++)
        add[i] = (float)i / 20;
    for (size_t i = 0; i < k; i++) {
        mul[i] = 0.8f + (float)i / 16;
        mul[k + i] = 0.1f * (float)i;
    }
    q->mul = factors ? mul : NULL;
    q->shift = factors ? mul + k : NULL;
    add_learned(t, LEARN_CODES, node, 0, k * cols);
    add_learned(t, LEARN_STEPS, node, 0, scales);
    add_learned(t, LEARN_ADDED, node, 0, cols);
}

static void start_codes(struct bench *t)
{
    for (int i = 0; i < t->n_learned; i++) {
        const struct learned *l = &t->learned[i];
        const struct node *n = &t->g->nodes[l->node];
        if (l->kind != LEARN_CODES)
            continue;
        t->linear[l->node] = mb_alloc(t->b, l->n * sizeof **t->linear);
        t->held[l->node] = mb_alloc(t->b, l->n * sizeof **t->held);
        for (size_t k = 0; k < l->n; k++)
            t->all[l->at + k] = (double)((const float *)t->g->values[n->in[1]].data)[k] * 8;
        const struct learned *added = program_learned(&t->program, LEARN_ADDED, l->node, 0);
        for (size_t k = 0; k < added->n; k++)
            t->all[added->at + k] = (double)t->how.qop[l->node].add[k];
    }
}

/* Linears on codes, one with factors before it; products on codes; probabilities on levels. */
static struct bench *quantized_bench(void)
{
    struct bench *t = bench_new(pre_norm());
    int linears = 0;
    for (int i = 0; i < t->g->n_nodes; i++) {
        const struct node *n = &t->g->nodes[i];
        if (n->op == OP_MATMUL && t->g->values[n->in[1]].is_const)
            quantize_linear(t, i, linears % 2, linears > 3 ? 4 : 0), linears++;
        else if (n->op == OP_SOFTMAX)
            t->how.qop[i] = (struct qop){ .kind = QOP_LEVELS, .x = n->in[0], .y = -1,
                                          .levels = { 2 / (float)M_LN2, -14, (float)M_LN2 / 2, 0.008f } };
        else if (n->op == OP_MATMUL)
            t->how.qop[i] = (struct qop){ .kind = i > 0 && t->g->nodes[t->g->values[n->in[0]].producer].op == OP_SOFTMAX ? QOP_HALF : QOP_PRODUCT,
                                          .x = n->in[0], .y = n->in[1], .ax = symmetric(40, 8), .ay = symmetric(40, 8) };
    }
    assert_int_equal(linears, 6);
    learn_constants(t);
    bench_start(t);
    start_codes(t);
    return t;
}

static void derivatives_through_codes(void **state)
{
    (void)state;
    struct bench *t = quantized_bench();
    check(t, "quantized", 1);              /* a softmax does not see what all keys have in common: their bias */
    check_input(t, "quantized");
    bench_end(t);
}

/* Beyond the range of codes nothing changes: no derivative passes. */
static void what_is_clipped_passes_no_derivative(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[2,5,8]");
    matrix_constant(b, "w1", CHANNELS, INNER);
    mb_node(b, "MatMul", "x w1", "y", "");
    mb_output(b, "y");
    struct bench *t = bench_new(b);
    quantize_linear(t, 0, false, 0);
    t->how.qop[0].ax = symmetric(0.5f, 4);             /* codes of -8 to 7 */
    bench_start(t);
    start_codes(t);
    t->tape->frozen = false;
    error_now(t);
    need(tape_backward(t->tape, t->target, 1, t->grad, t->in_grad, &e), &e);
    int clipped = 0;
    for (size_t i = 0; i < t->n_x; i++) {
        double steps = (double)t->x[i] / (double)t->how.qop[0].ax.scale;
        bool outside = steps < -8.5 || steps > 7.5;
        clipped += outside;
        assert_true((t->in_grad[i] == 0) == outside);
    }
    assert_true(clipped > 10 && clipped < 70);
    bench_end(t);
}

/* ---- what has no derivative ---- */

static void expect_refusal(const char *nodes, const char *what)
{
    struct builder *b = mb_new(17);
    struct err e = { 0 };
    mb_values(b, "x:f32[2,5,8] axis1:i64(1)");
    matrix_constant(b, "w1", CHANNELS, CHANNELS);
    mb_nodes(b, "h = MatMul(x w1);");
    mb_nodes(b, nodes);
    mb_output(b, "y");
    struct bench *t = bench_new(b);
    learn_constants(t);
    struct piece piece = { t->g, &t->how, 0, t->g->n_nodes, t->g->inputs[0], t->g->outputs[0], t->learned, t->n_learned, false };
    bool ok = program_new(&piece, b->mem, &t->program, &e);
    if (what)
        assert_true(!ok && e.code == ERR_MODEL_OP && strstr(e.where, what));
    else
        need(ok, &e);
    mb_free(b);
}

static void an_operator_without_derivative_is_named(void **state)
{
    (void)state;
    expect_refusal("y = Sin(h)", "Sin");
    expect_refusal("c = CumSum(h axis1); y = Add(c h)", "CumSum");
    expect_refusal("y = Softmax(h) axis=1", "Softmax");
    expect_refusal("y = ReduceMean(h) axes=1,", "ReduceMean");
    expect_refusal("y = Pow(h h)", "Pow");
    expect_refusal("s = Sin(x); y = Mul(h s)", NULL);              /* nothing that is learned passes there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_of_a_pre_norm_block),
        cmocka_unit_test(derivatives_of_a_post_norm_block),
        cmocka_unit_test(derivatives_of_a_gated_block),
        cmocka_unit_test(derivatives_of_shared_operands),
        cmocka_unit_test(derivatives_through_codes),
        cmocka_unit_test(what_is_clipped_passes_no_derivative),
        cmocka_unit_test(an_operator_without_derivative_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
