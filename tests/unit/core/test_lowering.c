/*
 * Which QDQ forms are computed on codes, and that it does not show: the same numbers as plain integer loops give,
 * and as running every node by itself does to within rounding.
 */
#include <math.h>

#include "core/exec/fused.h"
#include "tests/unit/core/sweep_fixture.h"

/* ---- what is recognised ---- */

#define X "x:f32[b,3,4] xs:f32(0.01) xz:u8(100) ys:f32(0.02) yz:u8(7) "
#define QX "xq = QuantizeLinear(x xs xz); xd = DequantizeLinear(xq xs xz);"
#define W "w:i8{3,-127,5,100,-7,9,-128}@4,5 ws:f32{0.01,0.02,0.005,0.03,0.01} wz:i8{0}@5 w1:f32(0.01) wz1:i8(0) "
#define M "x:f32[b,4] xs:f32(0.01) xz:u8(100) ys:f32(0.02) yz:u8(7) "
#define C "x:f32[b,2,5,5] xs:f32(0.01) xz:u8(100) ys:f32(0.02) yz:u8(7) w:i8{3,-127,5,100,-7,9,-128}@3,2,2,2 ws:f32{0.01,0.02,0.005} wz:i8{0}@3 "
#define QY "yq = QuantizeLinear(c ys yz); y = DequantizeLinear(yq ys yz)"

#define PARTS "wa:i8{3,-127,5}@2,5 wb:i8{7,1,-2}@2,5 half:i64{2,2} ws:f32{0.01,0.02,0.005,0.03,0.01} wz:i8{0}@5 "
#define SPLIT(axis) "xq = QuantizeLinear(x xs xz); xa xb = Split(xq half) axis=" #axis "; da = DequantizeLinear(xa xs xz); db = DequantizeLinear(xb xs xz); " \
    "wad = DequantizeLinear(wa ws wz) axis=1; wbd = DequantizeLinear(wb ws wz) axis=1; "

/* skipped: Q and DQ nodes that nothing reads any more, and Splits between them. */
static const struct form { const char *label, *values, *nodes; enum qop_kind want; int skipped; } forms[] = {
    { "weights per channel", X W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "the axis counted from the end", X W, QX "wd = DequantizeLinear(w ws wz) axis=-1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "weights per tensor", X W, QX "wd = DequantizeLinear(w w1 wz1); y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "codes in parts, a weight for each", X PARTS, SPLIT(-1) "a = MatMul(da wad); c = MatMul(db wbd); y = Add(a c)", QOP_MATMUL, 6 },
    { "one of two parts, the other read as it is", X PARTS, SPLIT(2) "z = Relu(db); y = MatMul(da wad)", QOP_MATMUL, 2 },
    { "parts of another axis", X "wa:i8{3,-127,5}@4,5 wb:i8{7,1,-2}@4,5 half:i64{1,2} ws:f32{0.01,0.02,0.005,0.03,0.01} wz:i8{0}@5 ",
      SPLIT(1) "a = MatMul(da wad); z = MatMul(db wbd); y = Relu(a)", QOP_NONE, 0 },
    { "weights without a zero point", X W, QX "wd = DequantizeLinear(w ws) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "weights with zero points", X W "wz2:i8{1,-3,100,-128,127} ", QX "wd = DequantizeLinear(w ws wz2) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "weights along the other axis", X "w:i8{3,-127,5,100,-7}@4,4 ws:f32{0.01,0.02,0.005,0.03} wz:i8{0}@4 ",
      QX "wd = DequantizeLinear(w ws wz) axis=0; y = MatMul(xd wd)", QOP_NONE, 0 },
    { "uint8 weights", X "w:u8{3,127,5,100,7,9,255}@4,5 ws:f32(0.01) wz:u8(128) ", QX "wd = DequantizeLinear(w ws wz); y = MatMul(xd wd)", QOP_NONE, 0 },
    { "float weights", X "w:f32{0.1,0.2,-0.3}@4,5 ", QX "y = MatMul(xd w)", QOP_NONE, 0 },
    { "int8 activations", "x:f32[b,3,4] xs:f32(0.01) xz:i8(-5) " W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "activations without a zero point", X W, "xq = QuantizeLinear(x xs); xd = DequantizeLinear(xq xs); wd = DequantizeLinear(w ws wz) axis=1;"
      "y = MatMul(xd wd)", QOP_NONE, 0 },
    { "Q and DQ disagree", X W, "xq = QuantizeLinear(x xs xz); xd = DequantizeLinear(xq ys xz); wd = DequantizeLinear(w ws wz) axis=1;"
      "y = MatMul(xd wd)", QOP_NONE, 0 },
    { "something between Q and DQ", X W "to:i64{0,3,4} ", "xq = QuantizeLinear(x xs xz); xr = Reshape(xq to); xd = DequantizeLinear(xr xs xz);"
      "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd)", QOP_NONE, 0 },
    { "a clipped activation", X W "lo:f32(-0.5) hi:f32(0.5) ", "xc = Clip(x lo hi); xq = QuantizeLinear(xc xs xz); xd = DequantizeLinear(xq xs xz);"
      "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "a shared Q and DQ", X W, QX "wd = DequantizeLinear(w ws wz) axis=1; a = MatMul(xd wd); c = MatMul(xd wd); y = Add(a c)", QOP_MATMUL, 3 },
    { "a shared Q, two DQs", X W, QX "xe = DequantizeLinear(xq xs xz); wd = DequantizeLinear(w ws wz) axis=1; a = MatMul(xd wd); c = MatMul(xe wd);"
      "y = Add(a c)", QOP_MATMUL, 4 },
    { "a DQ that a float node reads too", X W, QX "wd = DequantizeLinear(w ws wz) axis=1; a = MatMul(xd wd); r = ReduceMean(xd) axes=2,; y = Add(a r)",
      QOP_MATMUL, 1 },
    { "a DQ that is an output too", X W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd); z = Relu(wd)", QOP_MATMUL, 2 },
    { "a vector times a matrix", "x:f32[4] xs:f32(0.01) xz:u8(100) " W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = MatMul(xd wd)", QOP_MATMUL, 3 },
    { "Gemm", M W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = Gemm(xd wd)", QOP_MATMUL, 3 },
    { "Gemm with C", M W "c:f32{1,2,3,4,5} ", QX "wd = DequantizeLinear(w ws wz) axis=1; y = Gemm(xd wd c)", QOP_NONE, 0 },
    { "Gemm with alpha", M W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = Gemm(xd wd) alpha=0.5", QOP_NONE, 0 },
    { "Gemm with beta and no C", M W, QX "wd = DequantizeLinear(w ws wz) axis=1; y = Gemm(xd wd) beta=0.5", QOP_MATMUL, 3 },
    { "Gemm with transB", M "w:i8{3,-127,5,100,-7,9,-128}@5,4 ws:f32{0.01,0.02,0.005,0.03,0.01} wz:i8{0}@5 ",
      QX "wd = DequantizeLinear(w ws wz) axis=0; y = Gemm(xd wd) transB=1", QOP_NONE, 0 },
    { "a product", X "a:f32[b,4,6] ", QX "aq = QuantizeLinear(a ys yz); ad = DequantizeLinear(aq ys yz); y = MatMul(xd ad)", QOP_PRODUCT, 4 },
    { "a tensor times itself", "x:f32[b,3,3] xs:f32(0.01) xz:u8(100) ", QX "y = MatMul(xd xd)", QOP_PRODUCT, 2 },
    { "a product with a float tensor", X "a:f32[b,4,6] ", QX "y = MatMul(xd a)", QOP_NONE, 0 },
    { "a product of matrices by Gemm", M "a:f32[4,6] ", QX "aq = QuantizeLinear(a ys yz); ad = DequantizeLinear(aq ys yz); y = Gemm(xd ad)", QOP_PRODUCT, 4 },
    { "a product of two dimensions", M "a:f32[4,6] ", QX "aq = QuantizeLinear(a ys yz); ad = DequantizeLinear(aq ys yz); y = MatMul(xd ad)", QOP_PRODUCT, 4 },
    { "Conv without bias", C, QX "wd = DequantizeLinear(w ws wz) axis=0; c = Conv(xd wd); " QY, QOP_CONV, 3 },
    { "Conv with float bias", C "bias:f32{0.5,-0.25,0.1} ", QX "wd = DequantizeLinear(w ws wz) axis=0; c = Conv(xd wd bias); " QY, QOP_CONV, 3 },
    { "Conv with int32 bias", C "bq:i32{500,-300,77} bs:f32{0.0001,0.0002,0.00005} ",
      QX "wd = DequantizeLinear(w ws wz) axis=0; bd = DequantizeLinear(bq bs) axis=0; c = Conv(xd wd bd); " QY, QOP_CONV, 4 },
    { "Conv with int32 bias in another unit", C "bq:i32{500,-300,77} bs:f32{0.001,0.002,0.0005} ",
      QX "wd = DequantizeLinear(w ws wz) axis=0; bd = DequantizeLinear(bq bs) axis=0; c = Conv(xd wd bd); " QY, QOP_NONE, 0 },
    { "Conv without output Q", C, QX "wd = DequantizeLinear(w ws wz) axis=0; y = Conv(xd wd)", QOP_NONE, 0 },
    { "Conv whose output a float node reads too", C, QX "wd = DequantizeLinear(w ws wz) axis=0; c = Conv(xd wd); z = Relu(c); " QY, QOP_NONE, 0 },
    { "Conv with pads, strides, dilations", C, QX "wd = DequantizeLinear(w ws wz) axis=0; c = Conv(xd wd) pads=1,0,2,1 strides=2,1 dilations=1,2; " QY, QOP_CONV, 3 },
    { "Conv with auto_pad", C, QX "wd = DequantizeLinear(w ws wz) axis=0; c = Conv(xd wd) auto_pad=SAME_UPPER; " QY, QOP_NONE, 0 },
    { "Conv right after a Conv", C "es:f32(0.03) ez:u8(9) v:i8{7,-5,100,1}@2,3,1,1 vs:f32{0.01,0.02} vz:i8{0}@2 ",
      QX "wd = DequantizeLinear(w ws wz) axis=0; a = Conv(xd wd); aq = QuantizeLinear(a es ez); ad = DequantizeLinear(aq es ez); "
      "bq = QuantizeLinear(ad xs xz); bd = DequantizeLinear(bq xs xz); vd = DequantizeLinear(v vs vz) axis=0; c = Conv(bd vd); " QY, QOP_CONV, 6 },
    { "Conv with groups", "x:f32[b,2,5,5] xs:f32(0.01) xz:u8(100) ys:f32(0.02) yz:u8(7) w:i8{3,-127,5}@4,1,2,2 ws:f32(0.01) wz:i8(0) ",
      QX "wd = DequantizeLinear(w ws wz); c = Conv(xd wd) group=2; " QY, QOP_NONE, 0 },
};

struct loaded { struct builder *b; struct graph *g; struct lowering how, plain; struct samples samples; };

static struct loaded load(const char *values, const char *nodes)
{
    struct err e = { 0 };
    struct loaded l = { .b = mb_new(17) };
    l.b->model.opsets[0].version = 17;
    mb_values(l.b, values);
    mb_nodes(l.b, nodes);
    mb_output(l.b, strstr(nodes, "z = ") ? "y z" : "y");
    l.g = graph_load(l.b->mem, mb_model(l.b), op_eval, &e);
    need(l.g && lowering_from_qdq(&l.how, l.g, l.b->mem, &e) && lowering_new(&l.plain, l.g, l.b->mem, &e), &e);
    random_samples(l.b->mem, l.g, l.g->values[l.g->inputs[0]].shape.rank > 1 ? 3 : 4, &l.samples);
    for (int i = 1; i < l.g->n_inputs; i++)      /* a second operand without a batch of its own */
        if (l.g->values[l.g->inputs[i]].shape.dim[0] > 0)
            ((struct array *)(uintptr_t)l.samples.inputs[i])->t.shape.dim[0] = l.g->values[l.g->inputs[i]].shape.dim[0];
    return l;
}

static void a_new_lowering_keeps_nothing_of_what_was_in_its_place(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct loaded l = load("x:f32[b,2]", "y = Relu(x)");
    struct lowering how = { .tiled = true, .may_float = true, .low_rank = 9 };
    need(lowering_new(&how, l.g, l.b->mem, &e), &e);
    assert_false(how.tiled || how.may_float || how.low_rank);
    how.tiled = true;
    need(lowering_from_qdq(&how, l.g, l.b->mem, &e), &e);
    assert_false(how.tiled);
    mb_free(l.b);
}

static const struct node *find_op(const struct graph *g, int *ret)
{
    for (*ret = 0; *ret < g->n_nodes; (*ret)++) {
        enum op op = g->nodes[*ret].op;
        if (op == OP_MATMUL || op == OP_GEMM || op == OP_CONV)
            return &g->nodes[*ret];
    }
    fail_msg("no product");
    return NULL;
}

static void every_form_is_recognised_or_left_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct loaded l = load(forms[i].values, forms[i].nodes);
        int at, skipped = 0;
        find_op(l.g, &at);
        for (int k = 0; k < l.g->n_nodes; k++)
            skipped += l.how.skip[k];
        if (l.how.qop[at].kind != forms[i].want || skipped != forms[i].skipped)
            fail_msg("%s: form %d, %d nodes skipped", forms[i].label, l.how.qop[at].kind, skipped);
        mb_free(l.b);
    }
}

/* An output code may fall to the other side of a rounding: a convolution may differ by one step of its quantizer. */
static void check_equal(const char *label, const float *got, const float *want, size_t n, float step)
{
    double reach = 0;
    size_t apart = 0;
    for (size_t i = 0; i < n; i++)
        reach = fmax(reach, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= 1e-5 * reach + 1.0001 * (double)step))
            fail_msg("%s: element %zu is %.9g instead of %.9g", label, i, (double)got[i], (double)want[i]);
        apart += off > 1e-5 * reach;
    }
    assert_true(apart <= 1 + n / 100);
}

static void every_form_gives_what_its_nodes_give_one_by_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct loaded l = load(forms[i].values, forms[i].nodes);
        struct shape a, b;
        const float *got = run_all(l.g, &l.how, &l.samples, l.b->mem, &a), *want = run_all(l.g, &l.plain, &l.samples, l.b->mem, &b);
        assert_true(shape_equal(&a, &b));
        check_equal(forms[i].label, got, want, (size_t)shape_elements(&a), forms[i].want == QOP_CONV ? 0.02f : 0);
        mb_free(l.b);
    }
}

/* ---- plain integer loops ---- */

static const struct value *named(const struct graph *g, const char *name)
{
    for (int i = 0; i < g->n_values; i++)
        if (strcmp(g->values[i].name, name) == 0)
            return &g->values[i];
    fail_msg("no value %s", name);
    return NULL;
}

/* Code minus zero point of one element, uint8. */
static int64_t code_of(float x, float scale, int zero)
{
    float q = rintf(x / scale) + (float)zero;
    return (int64_t)(q < 0 ? 0 : q > 255 ? 255 : q) - zero;
}

static void random_codes(struct builder *b, const char *name, uint64_t seed, int rank, const int64_t *dims)
{
    struct onnx_tensor *o = &b->model.graph.initializers[b->model.graph.n_initializers++];
    *o = (struct onnx_tensor){ .name = name, .t = { DT_I8, { .rank = rank }, NULL } };
    memcpy(o->t.shape.dim, dims, (size_t)rank * sizeof *dims);
    int64_t n = shape_elements(&o->t.shape);
    int8_t *codes = mb_alloc(b, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (int8_t)(hash_mix(seed, (uint64_t)i) % 256);
    o->t.data = codes;
}

static void check_matmul(int64_t k, int64_t n, int rows)
{
    char values[200];
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    snprintf(values, sizeof values, "x:f32[b,%d,%lld] xs:f32(0.0079) xz:u8(121)", rows, (long long)k);
    mb_values(b, values);
    random_codes(b, "w", 5, 2, (int64_t[]){ k, n });
    MB_RANDOM(b, "ws", 6, 0.01f, n);
    for (int64_t i = 0; i < n; i++) {
        float *s = (float *)b->model.graph.initializers[3].t.data;
        s[i] = fabsf(s[i]) + 1e-6f;
    }
    mb_nodes(b, QX "wd = DequantizeLinear(w ws) axis=1; y = MatMul(xd wd)");
    mb_output(b, "y");
    struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
    struct lowering how;
    struct samples samples;
    struct shape shape;
    need(g && lowering_from_qdq(&how, g, b->mem, &e), &e);
    random_samples(b->mem, g, 2, &samples);
    const float *y = run_all(g, &how, &samples, b->mem, &shape), *x = samples.inputs[0]->t.data, *ws = named(g, "ws")->data;
    const int8_t *w = named(g, "w")->data;
    for (int64_t r = 0; r < 2 * rows; r++)
        for (int64_t c = 0; c < n; c++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += code_of(x[r * k + i], 0.0079f, 121) * w[i * n + c];
            float want = (float)sum * (0.0079f * ws[c]);
            if (y[r * n + c] != want)
                fail_msg("k %lld n %lld: row %lld column %lld is %.9g instead of %.9g", (long long)k, (long long)n, (long long)r,
                         (long long)c, (double)y[r * n + c], (double)want);
        }
    mb_free(b);
}

static void a_linear_is_exactly_the_integer_sum_times_its_scale(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = { { 1, 1 }, { 3, 5 }, { 17, 1 }, { 64, 33 }, { 515, 7 }, { 2000, 3 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_matmul(sizes[i][0], sizes[i][1], 1);
        check_matmul(sizes[i][0], sizes[i][1], 150);      /* more than one block of rows */
    }
}

/* Grouped-query attention: the heads of one operand are shared by several of the other. */
static void a_product_is_exact_under_every_broadcast_of_its_batch(void **state)
{
    (void)state;
    static const struct { const char *values; int64_t x[2], y[2], out[2]; } rows[] = {      /* batch dims, after the samples */
        { "x:f32[b,4,2,5,6] a:f32[b,4,2,6,3] ", { 4, 2 }, { 4, 2 }, { 4, 2 } },
        { "x:f32[b,4,2,5,6] a:f32[b,4,1,6,3] ", { 4, 2 }, { 4, 1 }, { 4, 2 } },
        { "x:f32[b,1,2,5,6] a:f32[b,4,2,6,3] ", { 1, 2 }, { 4, 2 }, { 4, 2 } },
        { "x:f32[b,4,1,5,6] a:f32[b,1,3,6,3] ", { 4, 1 }, { 1, 3 }, { 4, 3 } },
        { "x:f32[b,1,1,5,6] a:f32[b,2,3,6,3] ", { 1, 1 }, { 2, 3 }, { 2, 3 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char values[200];
        struct shape shape;
        snprintf(values, sizeof values, "%sxs:f32(0.0079) xz:u8(121) ys:f32(0.0083) yz:u8(119)", rows[i].values);
        struct loaded l = load(values, QX "aq = QuantizeLinear(a ys yz); ad = DequantizeLinear(aq ys yz); y = MatMul(xd ad)");
        const float *y = run_all(l.g, &l.how, &l.samples, l.b->mem, &shape);
        const float *x = l.samples.inputs[0]->t.data, *a = l.samples.inputs[1]->t.data;
        const int64_t *xb = rows[i].x, *ab = rows[i].y, *ob = rows[i].out;
        int64_t at = 0;
        for (int64_t s = 0; s < 3; s++)
            for (int64_t h = 0; h < ob[0]; h++)
                for (int64_t v = 0; v < ob[1]; v++) {
                    const float *xm = x + ((s * xb[0] + h % xb[0]) * xb[1] + v % xb[1]) * 30;
                    const float *am = a + ((s * ab[0] + h % ab[0]) * ab[1] + v % ab[1]) * 18;
                    for (int64_t m = 0; m < 5; m++)
                        for (int64_t n = 0; n < 3; n++, at++) {
                            int64_t sum = 0;
                            for (int64_t k = 0; k < 6; k++)
                                sum += code_of(xm[m * 6 + k], 0.0079f, 121) * code_of(am[k * 3 + n], 0.0083f, 119);
                            assert_true(y[at] == (float)sum * (0.0079f * 0.0083f));
                        }
                }
        assert_true(at == shape_elements(&shape));
        mb_free(l.b);
    }
}

static void a_convolution_is_exact_with_each_kind_of_bias(void **state)
{
    (void)state;
    static const struct { const char *values, *input; } biases[] = {
        { "", "" }, { "bias:f32{0.5,-0.25,0.1} ", "bias" }, { "bq:i32{500,-300,77} bs:f32{0.0001,0.0002,0.00005} ", "bd" },
    };
    static const int32_t want_bias[][3] = { { 0, 0, 0 }, { 5000, -1250, 2000 }, { 500, -300, 77 } };
    for (size_t i = 0; i < 3; i++) {
        char values[400], nodes[400];
        struct shape shape;
        snprintf(values, sizeof values, "%s%s", C, biases[i].values);
        snprintf(nodes, sizeof nodes, QX "wd = DequantizeLinear(w ws wz) axis=0; %s c = Conv(xd wd %s); " QY,
                 i == 2 ? "bd = DequantizeLinear(bq bs) axis=0;" : "", biases[i].input);
        struct loaded l = load(values, nodes);
        const float *y = run_all(l.g, &l.how, &l.samples, l.b->mem, &shape), *x = l.samples.inputs[0]->t.data;
        const float *ws = named(l.g, "ws")->data;
        const int8_t *w = named(l.g, "w")->data;
        int64_t at = 0;
        for (int64_t s = 0; s < 3; s++)
            for (int64_t o = 0; o < 3; o++)
                for (int64_t r = 0; r < 4; r++)
                    for (int64_t c = 0; c < 4; c++, at++) {
                        int64_t sum = want_bias[i][o];
                        for (int64_t k = 0; k < 8; k++)
                            sum += code_of(x[((s * 2 + k / 4) * 5 + r + k / 2 % 2) * 5 + c + k % 2], 0.01f, 100) * w[o * 8 + k];
                        float code = rintf((float)sum * (0.01f * ws[o] / 0.02f)) + 7;
                        float want = ((code < 0 ? 0 : code > 255 ? 255 : code) - 7) * 0.02f;
                        if (y[at] != want)
                            fail_msg("bias %zu: element %lld is %g instead of %g", i, (long long)at, (double)y[at], (double)want);
                    }
        assert_true(at == shape_elements(&shape));
        mb_free(l.b);
    }
}

static void a_huge_integer_bias_is_no_undefined_arithmetic(void **state)
{
    (void)state;
    struct shape shape;
    struct loaded l = load(C "bq:i32{2147483647,-2147483648,0} bs:f32{0.0001,0.0002,0.00005} ",
                           QX "wd = DequantizeLinear(w ws wz) axis=0; bd = DequantizeLinear(bq bs) axis=0; c = Conv(xd wd bd); " QY);
    const float *y = run_all(l.g, &l.how, &l.samples, l.b->mem, &shape);
    for (int64_t i = 0; i < shape_elements(&shape); i++)
        assert_true(isfinite(y[i]));
    mb_free(l.b);
}

static void a_product_over_nothing_is_zero(void **state)
{
    (void)state;
    struct loaded l = load("x:f32[b,3,0] u:f32[b,15] xs:f32(0.01) xz:u8(100) w:i8{}@0,5 ws:f32(0.01) wz:i8(0)",
                           "e = Exp(u); m = ReduceMax(e) axes=0,1;" QX "wd = DequantizeLinear(w ws wz); p = MatMul(xd wd); y = Sub(p m)");
    struct shape shape;      /* e has used the memory that p gets */
    const float *y = run_all(l.g, &l.how, &l.samples, l.b->mem, &shape);
    assert_true(shape.rank == 3 && shape_elements(&shape) == 45);
    for (int64_t i = 1; i < 45; i++)
        assert_true(y[i] == y[0] && y[0] <= -1);
    mb_free(l.b);
}

/* ---- tiles ---- */

#define WIDE "w1:f32{0.1,-0.2,0.3,0.25,-0.15}@8,24 b1:f32{0.5,-0.1,0.2}@24 w2:f32{0.05,-0.1,0.07}@24,8 " \
    "b2:f32{0.1,-0.2}@8 g:f32{1,0.5}@8 h:f32{0.2,-0.1}@8 two:f32(2) e:f32(0.001) "

/* Rows, matrices, and what must stay out of a tile; run as groups they give what they give node by node. */
static const struct tiling { const char *label, *values, *nodes; int groups, fused; } tilings[] = {
    { "a block's second half", "x:f32[b,700,8] " WIDE,
      "n = LayerNormalization(x g h) axis=-1; a = MatMul(n w1); b = Add(b1 a); c = Gelu(b); d = MatMul(c w2); f = Add(d b2); r = Add(x f);"
      "m = ReduceMean(r) axes=-1,; s = Sub(r m); p = Pow(s two); v = ReduceMean(p) axes=2,; q = Add(v e); t = Sqrt(q); y = Div(s t)", 1, 1 },
    { "rows of rank 2, as many as a matrix has", "x:f32[b,8] w:f32{0.1,-0.3,0.7}@8,8 col:f32{1,2,3,4}@4,1 ",
      "a = MatMul(x w); c = Sigmoid(a); d = MatMul(c w); y = Add(x d)", 1, 0 },
    { "an attention with a mask", "x:f32[b,2,20,8] k:f32[b,2,8,20] mask:f32[b,1,1,20] s:f32(0.3) ",
      "a = MatMul(x k); c = Mul(a s); d = Add(c mask); f = Softmax(d) axis=-1; y = MatMul(f x)", 1, 1 },
    { "an attention with a table of distances", "x:f32[b,2,20,8] k:f32[b,2,8,20] t:f32{0.5,-0.5,0.25}@1,2,20,20 ",
      "a = MatMul(x k); c = Add(a t); f = Softmax(c) axis=-1; y = MatMul(f x)", 1, 1 },
    { "an attention with a triangle for all heads", "x:f32[b,2,20,8] k:f32[b,2,8,20] mask:f32{0,-1,-2,0.5}@20,20 s:f32(1.7) ",
      "a = MatMul(x k); c = Div(a s); d = Add(mask c); f = Softmax(d) axis=-1; y = MatMul(f x)", 1, 1 },
    { "an attention that is only scaled", "x:f32[b,2,20,8] k:f32[b,2,8,20] s:f32(0.7) ",
      "a = MatMul(x k); c = Mul(s a); f = Softmax(c) axis=-1; y = MatMul(f x)", 1, 1 },
    { "a number divided by scores", "x:f32[b,2,20,8] k:f32[b,2,8,20] s:f32(0.7) ",
      "a = MatMul(x k); e = Exp(a); c = Div(s e); f = Softmax(c) axis=-1; y = MatMul(f x)", 1, 0 },
    { "scores that are read behind the softmax too", "x:f32[b,2,20,8] k:f32[b,2,8,20] s:f32(0.7) ",
      "a = MatMul(x k); c = Mul(a s); f = Softmax(c) axis=-1; h = Add(f c); y = MatMul(h x)", 1, 0 },
    { "a mask of queries", "x:f32[b,2,20,8] k:f32[b,2,8,20] mask:f32[b,1,20,1] ",
      "a = MatMul(x k); d = Add(a mask); f = Softmax(d) axis=-1; y = MatMul(f x)", 1, 0 },
    { "a value that is read behind the group too", "x:f32[b,500,8] " WIDE, "a = MatMul(x w1); b = Add(a b1); c = Relu(b); r = ReduceSum(c) axes=1,; y = Sub(b r)", 1, 0 },
    { "a softmax over another axis", "x:f32[b,30,8] ", "a = Exp(x); y = Softmax(a) axis=1", 0, 0 },
    { "positions that are added to every sample", "x:f32[b,30,8] pos:f32{0.1,0.2,0.3}@1,30,8 ", "a = Exp(x); y = Add(a pos)", 0, 0 },
    { "a norm with gamma and beta, and a GELU", "x:f32[b,500,8] " WIDE "r2:f32(1.4142135) one:f32(1) half:f32(0.5) ",
      "m = ReduceMean(x) axes=-1,; s = Sub(x m); p = Pow(s two); v = ReduceMean(p) axes=-1,; q = Add(v e); t = Sqrt(q); d = Div(s t); k = Mul(d g);"
      "n = Add(k h); a = MatMul(n w1); c = Add(a b1); i = Div(c r2); j = Erf(i); l = Add(j one); o = Mul(c l); y = Mul(o half)", 1, 2 },
    { "an RMSNorm and a SiLU", "x:f32[b,500,8] " WIDE,
      "p = Mul(x x); v = ReduceMean(p) axes=-1,; q = Add(v e); t = Sqrt(q); d = Div(x t); n = Mul(d g); a = MatMul(n w1); c = Sigmoid(a); y = Mul(a c)", 1, 2 },
    { "a norm whose mean is read elsewhere", "x:f32[b,500,8] " WIDE,
      "m = ReduceMean(x) axes=-1,; s = Sub(x m); p = Pow(s two); v = ReduceMean(p) axes=-1,; q = Add(v e); t = Sqrt(q); d = Div(s t); y = Add(d m)", 1, 0 },
    { "a norm in front of codes", "x:f32[b,500,8] xs:f32(0.01) xz:u8(100) " WIDE,
      "m = ReduceMean(x) axes=-1,; s = Sub(x m); p = Pow(s two); v = ReduceMean(p) axes=-1,; q = Add(v e); t = Sqrt(q); d = Div(s t);"
      "c = QuantizeLinear(d xs xz); y = DequantizeLinear(c xs xz)", 1, 0 },
};

static int fused_patterns(const struct plan *p)
{
    int n = 0;
    for (int i = 0; i < p->n_steps; i++)
        n += fused_runs(&p->fused[i]);
    return n;
}


static void tiles_give_what_nodes_give_one_by_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof tilings / sizeof tilings[0]; i++) {
        struct loaded l = load(tilings[i].values, tilings[i].nodes);
        struct shape shape, same;
        struct shape at[8];
        struct err e = { 0 };
        const float *want = run_all(l.g, &l.plain, &l.samples, l.b->mem, &shape);
        l.how.tiled = true;
        const float *got = run_all(l.g, &l.how, &l.samples, l.b->mem, &same);
        for (int k = 0; k < l.g->n_inputs; k++)
            at[k] = l.samples.inputs[k]->t.shape;
        const struct plan *p = plan_new(l.g, &l.how, l.b->mem, at, &e);
        need(p, &e);
        if (p->n_groups != tilings[i].groups || fused_patterns(p) != tilings[i].fused || !shape_equal(&shape, &same))
            fail_msg("%s: %d groups, %d patterns run as one", tilings[i].label, p->n_groups, fused_patterns(p));
        for (int64_t k = 0; k < shape_elements(&shape); k++)
            if (!(fabsf(got[k] - want[k]) <= 1e-5f * fmaxf(1, fabsf(want[k]))))
                fail_msg("%s: element %lld is %g instead of %g", tilings[i].label, (long long)k, (double)got[k], (double)want[k]);
        mb_free(l.b);
    }
}

/* So large that its codes are made floats in several tiles, the last one narrower. */
static void a_large_weight_is_taken_in_tiles(void **state)
{
    enum { ROWS = 2, K = 1 << 15, N = 300 };
    (void)state;
    struct arena *mem = arena_new(UINT64_MAX / 2);
    int8_t *codes = arena_array(mem, (uint64_t)K * N, 1, NULL), zero[N];
    float *x = arena_array(mem, ROWS * K, sizeof *x, NULL), y[ROWS * N], scale[N], add[N];
    assert_true(codes && x);
    for (int i = 0; i < K * N; i++)
        codes[i] = (int8_t)(i * 7 % 255 - 127);
    for (int i = 0; i < ROWS * K; i++)
        x[i] = (float)(i * 5 % 251);
    for (int c = 0; c < N; c++) {
        zero[c] = (int8_t)(c % 9 - 4);
        scale[c] = ldexpf(1, -c % 5);
        add[c] = (float)c;
    }
    struct qop q = { .kind = QOP_MATMUL, .y = -1, .ax = { .scale = 1, .qmax = 255, .dtype = DT_U8 }, .codes = codes, .w_zero = zero,
                     .n_zero = N, .k = K, .n = N, .scale = scale, .add = add };
    struct tensor in = { DT_F32, { 2, { ROWS, K } }, x }, out = { DT_F32, { 2, { ROWS, N } }, y };
    assert_true(qop_tile_bytes(&q) < sizeof(float) * K * N / 2);
    void *scratch = arena_alloc(mem, qop_scratch(OP_MATMUL, true, &in, NULL, &out) + qop_tile_bytes(&q), NULL);
    assert_true(scratch && qop_run(&q, NULL, NULL, &in, NULL, &out, scratch, NULL));
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < N; c++) {
            int32_t sum = 0;
            for (int k = 0; k < K; k++)
                sum += (int32_t)x[r * K + k] * (codes[k * N + c] - zero[c]);
            assert_true(y[r * N + c] == (float)sum * scale[c] + add[c]);
        }
    arena_free(mem);
}

/* Example E3 of the specification: one range of both tokens, found when the row runs; 0 throughout is no division by 0. */
static void a_range_found_at_run_time_is_the_specifications(void **state)
{
    (void)state;
    static float x[] = { .1f, -.21f, .3f, -.4f, 10, -2.6f, 5.1f, 7.4f }, none[8];
    static const float codes[] = { 55, 49, 59, 45, 255, 0, 156, 203 }, one[] = { 1, 1, 1, 1 };
    static const float same[] = { 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1 };
    float y[8], scratch[8192];
    struct qop q = { .kind = QOP_MATMUL, .y = -1, .w = same, .w_reach = 1, .k = 4, .n = 4, .scale = one, .dynamic = true };
    struct tensor in = { DT_F32, { 2, { 2, 4 } }, x }, out = { DT_F32, { 2, { 2, 4 } }, y };
    assert_true(qop_scratch(OP_MATMUL, true, &in, NULL, &out) <= sizeof scratch);
    assert_true(qop_run(&q, NULL, NULL, &in, NULL, &out, scratch, NULL));
    for (int i = 0; i < 8; i++)
        if (!(fabs((double)y[i] - ((double)codes[i] - 53) * .049411766) < 1e-6))
            fail_msg("%d: %g", i, (double)y[i]);
    in.data = none;
    assert_true(qop_run(&q, NULL, NULL, &in, NULL, &out, scratch, NULL));
    assert_memory_equal(y, none, sizeof y);
}

/* Example E4: zero points of the whole, of columns and of rows. */
static void products_of_codes_are_the_specifications(void **state)
{
    (void)state;
    static const struct { const char *zero; int32_t want[4]; } rows[] = {
        { "za:u8(3) ", { 1651, 885, -387, 903 } }, { "za:u8{3,128} ", { 1651, 885, 14863, -16597 } },
    };
    for (int i = 0; i < 2; i++) {
        struct err e = { 0 };
        struct builder *b = mb_new(17);
        mb_values(b, "a:u8{10,0,255,128,7,3}@2,3 b:i8{1,-2,-128,127,5,0}@3,2 zb:i8{0,-5} ");
        mb_values(b, rows[i].zero);
        mb_nodes(b, "y = MatMulInteger(a b za zb)");
        mb_output(b, "y");
        struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
        need(g != NULL, &e);
        const struct value *y = &g->values[g->outputs[0]];
        assert_true(y->is_const && y->dtype == DT_I32);
        assert_memory_equal(y->data, rows[i].want, sizeof rows[i].want);
        mb_free(b);
    }
}

int main(void)
{
    struct err e = { 0 };
    if (!blas_init(&e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_lowering_keeps_nothing_of_what_was_in_its_place),
        cmocka_unit_test(every_form_is_recognised_or_left_alone),
        cmocka_unit_test(every_form_gives_what_its_nodes_give_one_by_one),
        cmocka_unit_test(a_linear_is_exactly_the_integer_sum_times_its_scale),
        cmocka_unit_test(a_product_is_exact_under_every_broadcast_of_its_batch),
        cmocka_unit_test(a_convolution_is_exact_with_each_kind_of_bias),
        cmocka_unit_test(a_huge_integer_bias_is_no_undefined_arithmetic),
        cmocka_unit_test(a_product_over_nothing_is_zero),
        cmocka_unit_test(tiles_give_what_nodes_give_one_by_one),
        cmocka_unit_test(a_large_weight_is_taken_in_tiles),
        cmocka_unit_test(a_range_found_at_run_time_is_the_specifications),
        cmocka_unit_test(products_of_codes_are_the_specifications),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
