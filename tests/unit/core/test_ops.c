/*
 * Operators: fast kernels against the reference on random shapes (lengths of 0 and 1 and scalars
 * among them), laws that hold whatever the numbers, and what is refused.  Agreement with ONNX
 * Runtime is tests/api/test_ops_vs_ort.py.
 */
#include "core/exec/op.h"
#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- one node, built by hand ---- */

enum { MAX_IO = 4, MAX_ATTRS = 6, MAX_OWNED = 64 };

struct call {
    struct graph g;
    struct node node;
    struct onnx_attr attrs[MAX_ATTRS];
    struct tensor in[MAX_IO], out[MAX_IO];
    const struct tensor *given[MAX_IO];
    struct err e;
};

static void *owned[MAX_OWNED];
static int n_owned;

static void *own(size_t n)
{
    assert_true(n_owned < MAX_OWNED);
    return owned[n_owned++] = malloc(n);       /* exactly n: a sanitizer sees the first byte beyond */
}

static void release(void)
{
    while (n_owned)
        free(owned[--n_owned]);
}

static uint64_t seed;
static uint64_t draw(void) { seed = seed * 6364136223846793005u + 1442695040888963407u; return seed >> 33; }
static int64_t pick(int64_t lo, int64_t hi) { return lo + (int64_t)(draw() % (uint64_t)(hi - lo + 1)); }
static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)draw() / 2147483648.0f; }

static struct shape shape_of(int rank, const int64_t *dim)
{
    struct shape s = { .rank = rank };
    for (int d = 0; d < rank; d++)
        s.dim[d] = dim[d];
    return s;
}
#define SHAPE(...) shape_of(COUNT(((const int64_t[]){ __VA_ARGS__ })), (const int64_t[]){ __VA_ARGS__ })
#define SCALAR ((struct shape){ 0 })

/* Up to `most` dimensions, mostly of 1 to 5, now and then of 0 or of more than a vector register. */
static struct shape random_shape(int least, int most)
{
    struct shape s = { .rank = (int)pick(least, most) };
    for (int d = 0; d < s.rank; d++)
        s.dim[d] = pick(0, 11) == 0 ? 0 : pick(0, 9) == 0 ? pick(17, 40) : pick(1, 5);
    return s;
}

/* A shape that broadcasts to s: leading dimensions dropped, others 1. */
static struct shape random_operand(const struct shape *s)
{
    int drop = (int)pick(0, s->rank);
    struct shape r = { .rank = s->rank - drop };
    for (int d = 0; d < r.rank; d++)
        r.dim[d] = pick(0, 2) ? s->dim[d + drop] : 1;
    return r;
}

static struct tensor make(enum dtype t, struct shape s)
{
    uint64_t bytes;
    assert_true(tensor_size(t, &s, "test", NULL, &bytes, NULL));
    return (struct tensor){ t, s, bytes ? own(bytes) : NULL };
}

static void fill(const struct tensor *t, float lo, float hi)
{
    for (int64_t i = 0; i < shape_elements(&t->shape); i++)
        switch (t->dtype) {
        case DT_F32: ((float *)t->data)[i] = uniform(lo, hi); break;
        case DT_I64: ((int64_t *)t->data)[i] = pick((int64_t)lo, (int64_t)hi); break;
        case DT_I32: ((int32_t *)t->data)[i] = (int32_t)pick((int64_t)lo, (int64_t)hi); break;
        default: ((uint8_t *)t->data)[i] = (uint8_t)pick((int64_t)lo, (int64_t)hi);
        }
}

static struct call call_of(enum op op, const char *name)
{
    return (struct call){ .node = { .op = op, .name = name } };
}

static struct tensor *input(struct call *c, enum dtype t, struct shape s, float lo, float hi)
{
    struct tensor *x = &c->in[c->node.n_in++];
    *x = make(t, s);
    fill(x, lo, hi);
    return x;
}

static struct tensor *output(struct call *c, enum dtype t, struct shape s)
{
    struct tensor *y = &c->out[c->node.n_out++];
    *y = make(t, s);
    return y;
}

static void attr_int(struct call *c, const char *name, int64_t v)
{
    c->attrs[c->node.n_attrs++] = (struct onnx_attr){ .name = name, .type = ONNX_INT, .i = v };
}

static void attr_ints(struct call *c, const char *name, size_t n, const int64_t *v)
{
    int64_t *copy = own(n * sizeof *v + 1);
    memcpy(copy, v, n * sizeof *v);
    c->attrs[c->node.n_attrs++] = (struct onnx_attr){ .name = name, .type = ONNX_INTS, .n = n, .ints = copy };
}

static bool run(struct call *c, bool fast)
{
    const struct op_impl *impl = &op_impl[c->node.op];
    c->node.attrs = c->attrs;
    c->g.nodes = &c->node;
    c->g.n_nodes = 1;
    for (int i = 0; i < c->node.n_in; i++)
        c->given[i] = c->in[i].dtype == DT_NONE ? NULL : &c->in[i];
    if (!fast)
        return op_eval(&c->g, &c->node, c->given, c->out, &c->e);
    assert_non_null(impl->fast);
    struct op_args a = { &c->g, &c->node, c->given, c->out, NULL };
    uint64_t room = impl->scratch ? impl->scratch(&a) : 0;
    a.scratch = room ? aligned_alloc(64, (room + 63) / 64 * 64) : NULL;
    bool ok = impl->fast(&a, &c->e);
    free(a.scratch);
    return ok;
}

static void run_or_fail(struct call *c, bool fast)
{
    if (!run(c, fast))
        fail_msg("%s: %s", c->e.where, c->e.text);
}

/* Runs both kernels and compares output 0: within `tolerance` of its largest element; the same bytes if that is 0. */
static void agree(struct call *c, double tolerance)
{
    struct tensor *y = &c->out[0];
    uint64_t n, bytes;
    assert_true(tensor_size(y->dtype, &y->shape, "test", &n, &bytes, NULL));
    if (bytes)
        memset(y->data, 0x5a, bytes);
    run_or_fail(c, false);
    void *want = own(bytes + 1);
    if (bytes)
        memcpy(want, y->data, bytes);
    if (bytes)
        memset(y->data, 0xa5, bytes);
    run_or_fail(c, true);
    if (tolerance == 0) {
        assert_true(bytes == 0 || memcmp(want, y->data, bytes) == 0);
        return;
    }
    double largest = 0.2;      /* transcendental kernels promise an absolute error */
    for (uint64_t i = 0; i < n; i++)
        largest = isfinite(((float *)want)[i]) ? fmax(largest, fabs((double)((float *)want)[i])) : largest;
    for (uint64_t i = 0; i < n; i++) {
        double u = (double)((float *)want)[i], v = (double)((float *)y->data)[i];
        if (u != v && !(fabs(u - v) <= tolerance * largest) && !(isnan(u) && isnan(v)))
            fail_msg("%s: element %llu is %.9g, the reference says %.9g", op_info[c->node.op].type, (unsigned long long)i, v, u);
    }
}

enum { ROUNDS = 150 };
#define REPEAT for (int round_ = 0; round_ < ROUNDS; round_++, release())
static const double CLOSE = 3e-6;

/* ---- fast kernels agree with the reference ---- */

static void elementwise_kernels_agree(void **state)
{
    (void)state;
    static const struct { enum op op; float lo; double tolerance; } rows[] = {
        { OP_ADD, -3, 0 }, { OP_SUB, -3, 0 }, { OP_MUL, -3, 0 }, { OP_DIV, 0.5f, 0 }, { OP_POW, 0.1f, CLOSE },
        { OP_MOD, 0.5f, CLOSE }, { OP_MIN, -3, 0 }, { OP_MAX, -3, 0 },
    };
    REPEAT for (size_t i = 0; i < COUNT(rows); i++) {
        struct shape s = random_shape(0, 5);
        struct call c = call_of(rows[i].op, "two");
        /* One operand is whole, so that s is the broadcast shape. */
        bool left = pick(0, 1);
        input(&c, DT_F32, left ? s : random_operand(&s), rows[i].lo, 3);
        input(&c, DT_F32, left ? random_operand(&s) : s, rows[i].lo, 3);
        output(&c, DT_F32, s);
        agree(&c, rows[i].tolerance);
        release();
    }
}

static void unary_kernels_agree(void **state)
{
    (void)state;
    static const struct { enum op op; float lo; double tolerance; } rows[] = {
        { OP_NEG, -3, 0 }, { OP_ABS, -3, 0 }, { OP_RELU, -3, 0 }, { OP_SIGN, -3, 0 }, { OP_FLOOR, -3, 0 }, { OP_CEIL, -3, 0 },
        { OP_ROUND, -3, 0 }, { OP_SQRT, 0, 0 }, { OP_RECIPROCAL, 0.1f, 0 }, { OP_EXP, -9, CLOSE }, { OP_LOG, 0.01f, CLOSE },
        { OP_ERF, -3, CLOSE }, { OP_TANH, -3, CLOSE }, { OP_SIGMOID, -9, CLOSE },
        { OP_GELU, -5, 3 * CLOSE /* erf's error times x */ }, { OP_SIN, -9, CLOSE },
        { OP_COS, -9, CLOSE }, { OP_CLIP, -3, 0 }, { OP_THRESHOLDEDRELU, -3, 0 },
    };
    REPEAT for (size_t i = 0; i < COUNT(rows); i++) {
        struct shape s = random_shape(0, 4);
        struct call c = call_of(rows[i].op, "one");
        input(&c, DT_F32, s, rows[i].lo, 5);
        if (rows[i].op == OP_CLIP)
            input(&c, DT_F32, SCALAR, -2, 0), input(&c, DT_F32, SCALAR, 0, 2);
        output(&c, DT_F32, s);
        agree(&c, rows[i].tolerance);
        release();
    }
}

static void where_and_cast_agree(void **state)
{
    (void)state;
    static const enum dtype from[] = { DT_I64, DT_I32, DT_BOOL, DT_F32 };
    REPEAT {
        struct shape s = random_shape(0, 4);
        struct call c = call_of(OP_WHERE, "choice"), k = call_of(OP_CAST, "cast");
        int whole = (int)pick(0, 2);
        input(&c, DT_BOOL, whole == 0 ? s : random_operand(&s), 0, 1);
        input(&c, DT_F32, whole == 1 ? s : random_operand(&s), -1, 1);
        input(&c, DT_F32, whole == 2 ? s : random_operand(&s), -1, 1);
        output(&c, DT_F32, s);
        agree(&c, 0);
        enum dtype t = from[pick(0, COUNT(from) - 1)];
        input(&k, t, s, 0, t == DT_BOOL ? 1 : 1e9f);
        output(&k, DT_F32, s);
        agree(&k, 0);
    }
}

static void random_permutation(int n, int64_t *ret)
{
    for (int i = 0; i < n; i++) {
        int64_t j = pick(0, i);
        ret[i] = ret[j];
        ret[j] = i;
    }
}

static void transposes_agree_and_undo_each_other(void **state)
{
    (void)state;
    REPEAT {
        struct shape s = random_shape(1, 6), t = s;
        int64_t perm[TENSOR_MAX_RANK], back[TENSOR_MAX_RANK];
        random_permutation(s.rank, perm);
        for (int d = 0; d < s.rank; d++) {
            t.dim[d] = s.dim[perm[d]];
            back[perm[d]] = d;
        }
        struct call c = call_of(OP_TRANSPOSE, "there"), r = call_of(OP_TRANSPOSE, "back");
        struct tensor *x = input(&c, DT_F32, s, -1, 1);
        attr_ints(&c, "perm", (size_t)s.rank, perm);
        struct tensor *y = output(&c, DT_F32, t);
        agree(&c, 0);

        r.in[r.node.n_in++] = *y;
        attr_ints(&r, "perm", (size_t)s.rank, back);
        struct tensor *z = output(&r, DT_F32, s);
        run_or_fail(&r, true);
        if (shape_elements(&s))
            assert_memory_equal(x->data, z->data, (size_t)shape_elements(&s) * sizeof(float));
    }
}

static void products_agree(void **state)
{
    (void)state;
    REPEAT {
        struct shape batch = random_shape(0, 3), x = pick(0, 1) ? batch : random_operand(&batch), y;
        y = shape_equal(&x, &batch) ? random_operand(&batch) : batch;
        int64_t m = pick(0, 7), k = pick(0, 20), n = pick(0, 7);
        x.dim[x.rank++] = m, x.dim[x.rank++] = k;
        y.dim[y.rank++] = k, y.dim[y.rank++] = n;
        batch.dim[batch.rank++] = m, batch.dim[batch.rank++] = n;
        struct call c = call_of(OP_MATMUL, "product");
        input(&c, DT_F32, x, -1, 1);
        input(&c, DT_F32, y, -1, 1);
        output(&c, DT_F32, batch);
        agree(&c, CLOSE);

        struct call g = call_of(OP_GEMM, "gemm");
        bool x_trans = pick(0, 1), y_trans = pick(0, 1);
        struct shape out = SHAPE(m, n);
        input(&g, DT_F32, x_trans ? SHAPE(k, m) : SHAPE(m, k), -1, 1);
        input(&g, DT_F32, y_trans ? SHAPE(n, k) : SHAPE(k, n), -1, 1);
        if (pick(0, 2))
            input(&g, DT_F32, random_operand(&out), -1, 1);
        attr_int(&g, "transA", x_trans);
        attr_int(&g, "transB", y_trans);
        g.attrs[g.node.n_attrs++] = (struct onnx_attr){ .name = "alpha", .f = pick(0, 1) ? 1 : uniform(-2, 2) };
        g.attrs[g.node.n_attrs++] = (struct onnx_attr){ .name = "beta", .f = pick(0, 1) ? 1 : uniform(-2, 2) };
        output(&g, DT_F32, out);
        agree(&g, CLOSE);
    }
}

static void convolutions_agree(void **state)
{
    (void)state;
    REPEAT {
        int rank = (int)pick(1, 2);
        int64_t group = pick(1, 3), in_c = pick(1, 3), out_c = pick(1, 3);
        int64_t stride[2], dilation[2], pads[4];
        struct shape x = SHAPE(pick(0, 2), group * in_c), w = SHAPE(group * out_c, in_c), y = SHAPE(x.dim[0], group * out_c);
        for (int d = 0; d < rank; d++) {
            int64_t k = pick(1, 3);
            stride[d] = pick(1, 3), dilation[d] = pick(1, 2), pads[d] = pick(0, 2), pads[d + rank] = pick(0, 2);
            int64_t extent = (k - 1) * dilation[d] + 1, length = extent + pick(0, 8);
            x.dim[x.rank++] = length;
            w.dim[w.rank++] = k;
            y.dim[y.rank++] = (length + pads[d] + pads[d + rank] - extent) / stride[d] + 1;
        }
        struct call c = call_of(OP_CONV, "conv");
        input(&c, DT_F32, x, -1, 1);
        input(&c, DT_F32, w, -1, 1);
        if (pick(0, 1))
            input(&c, DT_F32, SHAPE(group * out_c), -1, 1);
        attr_int(&c, "group", group);
        attr_ints(&c, "strides", (size_t)rank, stride);
        attr_ints(&c, "dilations", (size_t)rank, dilation);
        attr_ints(&c, "pads", 2 * (size_t)rank, pads);
        output(&c, DT_F32, y);
        agree(&c, CLOSE);
    }
}

static void rows_agree(void **state)
{
    (void)state;
    static const enum op reductions[] = { OP_REDUCEMEAN, OP_REDUCESUM, OP_REDUCEMAX, OP_REDUCEMIN };
    REPEAT {
        struct shape s = random_shape(1, 4);
        int axis = (int)pick(0, s.rank - 1);
        struct call soft = call_of(pick(0, 1) ? OP_SOFTMAX : OP_LOGSOFTMAX, "softmax");
        input(&soft, DT_F32, s, -9, 9);
        attr_int(&soft, "axis", axis - s.rank);
        output(&soft, DT_F32, s);
        agree(&soft, CLOSE);

        struct shape row = shape_of(s.rank - axis, s.dim + axis);
        bool centred = pick(0, 1);
        struct call norm = call_of(centred ? OP_LAYERNORM : OP_RMSNORM, "norm");
        input(&norm, DT_F32, s, -1, 3);
        input(&norm, DT_F32, row, -1, 1);
        if (centred && pick(0, 1))
            input(&norm, DT_F32, row, -1, 1);
        attr_int(&norm, "axis", axis);
        output(&norm, DT_F32, s);
        agree(&norm, CLOSE * 10);       /* the reference rounds twice, and short rows may have almost no variance */

        /* Trailing axes, which have a fast kernel, or any single one. */
        struct shape kept = { 0 };
        int64_t axes[TENSOR_MAX_RANK], n = 0;
        bool trailing = pick(0, 1);
        for (int d = 0; d < s.rank; d++)
            if (d == axis || (trailing && d > axis))
                axes[n++] = d;
            else
                kept.dim[kept.rank++] = s.dim[d];
        struct call reduce = call_of(reductions[pick(0, 3)], "reduce");
        input(&reduce, DT_F32, s, -1, 1);
        attr_ints(&reduce, "axes", (size_t)n, axes);
        output(&reduce, DT_F32, kept);
        agree(&reduce, CLOSE);
    }
}

/* Scale and zero point for s: one, a row along an axis, or blocks of that axis. */
static void quantizer_inputs(struct call *c, const struct shape *s, enum dtype code)
{
    struct shape scale = SCALAR;
    int axis = (int)pick(0, s->rank - 1), form = (int)pick(0, 2);
    int64_t block = pick(1, 3);
    if (form == 1)
        scale = SHAPE(s->dim[axis]);
    if (form == 2) {
        scale = *s;
        scale.dim[axis] = (s->dim[axis] + block - 1) / block;
        attr_int(c, "block_size", block);
    }
    attr_int(c, "axis", axis);
    input(c, DT_F32, scale, 0.01f, 0.2f);
    if (pick(0, 1))
        input(c, code, scale, 0, 100);
}

static void quantizers_agree(void **state)
{
    (void)state;
    REPEAT {
        struct shape s = random_shape(1, 4);
        enum dtype code = pick(0, 1) ? DT_U8 : DT_I8;
        struct call q = call_of(OP_QUANTIZELINEAR, "quantize"), d = call_of(OP_DEQUANTIZELINEAR, "dequantize");
        struct tensor *x = input(&q, DT_F32, s, -20, 20);
        if (shape_elements(&s))
            *(float *)x->data = (float[]){ NAN, INFINITY, -INFINITY, 1e30f }[pick(0, 3)];
        quantizer_inputs(&q, &s, code);
        output(&q, code, s);
        agree(&q, 0);
        input(&d, code, s, 0, 255);
        quantizer_inputs(&d, &s, code);
        output(&d, DT_F32, s);
        agree(&d, 0);
    }
}

/* ---- laws ---- */

static void a_row_normalised_by_softmax_sums_to_one_and_does_not_move_with_a_shift(void **state)
{
    (void)state;
    struct call c = call_of(OP_SOFTMAX, "softmax");
    float *x = input(&c, DT_F32, SHAPE(7, 33), -5, 5)->data, *y = output(&c, DT_F32, SHAPE(7, 33))->data, before[7 * 33];
    run_or_fail(&c, true);
    for (int r = 0; r < 7; r++) {
        double sum = 0;
        for (int i = 0; i < 33; i++)
            sum += (double)y[r * 33 + i];
        assert_true(fabs(sum - 1) < 1e-6);
    }
    memcpy(before, y, sizeof before);
    for (int i = 0; i < 7 * 33; i++)
        x[i] += 64;
    run_or_fail(&c, true);
    for (int i = 0; i < 7 * 33; i++)
        assert_true(fabsf(y[i] - before[i]) < 1e-5f);
    release();
}

static void parts_of_a_split_concatenate_to_the_whole(void **state)
{
    (void)state;
    REPEAT {
        struct shape s = random_shape(1, 4);
        int axis = (int)pick(0, s.rank - 1);
        int64_t first = pick(0, s.dim[axis]);
        struct shape left = s, right = s;
        left.dim[axis] = first;
        right.dim[axis] = s.dim[axis] - first;
        struct call split = call_of(OP_SPLIT, "split"), concat = call_of(OP_CONCAT, "concat");
        struct tensor *x = input(&split, DT_F32, s, -1, 1);
        attr_int(&split, "axis", axis);
        concat.in[0] = *output(&split, DT_F32, left);
        concat.in[1] = *output(&split, DT_F32, right);
        concat.node.n_in = 2;
        attr_int(&concat, "axis", axis);
        struct tensor *y = output(&concat, DT_F32, s);
        run_or_fail(&split, false);
        run_or_fail(&concat, false);
        if (shape_elements(&s))
            assert_memory_equal(x->data, y->data, (size_t)shape_elements(&s) * sizeof(float));
    }
}

/* Every float16 number survives the way to float32 and back; a NaN stays a NaN. */
static void every_half_survives_a_cast_to_float_and_back(void **state)
{
    (void)state;
    enum { HALVES = 1 << 16 };
    static const enum dtype types[] = { DT_F16, DT_BF16 };
    for (size_t k = 0; k < COUNT(types); k++, release()) {
        struct call up = call_of(OP_CAST, "up"), down = call_of(OP_CAST, "down");
        uint16_t *x = input(&up, types[k], SHAPE(HALVES), 0, 1)->data;
        for (int i = 0; i < HALVES; i++)
            x[i] = (uint16_t)i;
        down.in[0] = *output(&up, DT_F32, SHAPE(HALVES));
        down.node.n_in = 1;
        uint16_t *y = output(&down, types[k], SHAPE(HALVES))->data;
        run_or_fail(&up, false);
        run_or_fail(&down, false);
        const float *f = up.out[0].data;
        for (int i = 0; i < HALVES; i++)
            assert_true(isnan(f[i]) ? (y[i] & 0x7FFF) > (types[k] == DT_F16 ? 0x7C00 : 0x7F80) : y[i] == x[i]);
    }
}

static void casts_clamp_what_does_not_fit(void **state)
{
    (void)state;
    const float x[] = { 1e30f, -1e30f, NAN, INFINITY, -INFINITY, -0.9f };
    const int32_t want[] = { INT32_MAX, INT32_MIN, 0, INT32_MAX, INT32_MIN, 0 };
    struct call c = call_of(OP_CAST, "cast");
    memcpy(input(&c, DT_F32, SHAPE(6), 0, 1)->data, x, sizeof x);
    int32_t *y = output(&c, DT_I32, SHAPE(6))->data;
    run_or_fail(&c, false);
    assert_memory_equal(y, want, sizeof want);
    release();
}

static void the_smallest_integer_divided_by_minus_one_wraps(void **state)
{
    (void)state;
    struct call c = call_of(OP_DIV, "div");
    *(int64_t *)input(&c, DT_I64, SCALAR, 0, 1)->data = INT64_MIN;
    *(int64_t *)input(&c, DT_I64, SCALAR, 0, 1)->data = -1;
    int64_t *y = output(&c, DT_I64, SCALAR)->data;
    run_or_fail(&c, false);
    assert_true(*y == INT64_MIN);
    release();
}

/* ---- what is refused ---- */

static void refused(struct call *c, bool fast, enum err_code code, const char *says)
{
    assert_false(run(c, fast));
    assert_int_equal(c->e.code, code);
    assert_non_null(strstr(c->e.where, c->node.name));
    if (!strstr(c->e.text, says))
        fail_msg("\"%s\" does not say \"%s\"", c->e.text, says);
    release();
}

static void an_index_out_of_range_is_named(void **state)
{
    (void)state;
    static const int64_t bad[] = { 4, -5, INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char says[64];
        snprintf(says, sizeof says, "index %lld at position 1", (long long)bad[i]);
        struct call c = call_of(OP_GATHER, "embedding"), g = call_of(OP_GATHERELEMENTS, "picker");
        input(&c, DT_F32, SHAPE(4, 2), 0, 1);
        ((int64_t *)input(&c, DT_I64, SHAPE(3), 0, 3)->data)[1] = bad[i];
        output(&c, DT_F32, SHAPE(3, 2));
        refused(&c, false, ERR_DATA_VALUES, says);
        input(&g, DT_F32, SHAPE(4, 2), 0, 1);
        ((int64_t *)input(&g, DT_I64, SHAPE(1, 2), 0, 3)->data)[1] = bad[i];
        output(&g, DT_F32, SHAPE(1, 2));
        refused(&g, false, ERR_DATA_VALUES, says);
    }
}

static void integer_division_by_zero_is_an_error_not_a_signal(void **state)
{
    (void)state;
    static const enum op ops[] = { OP_DIV, OP_MOD };
    for (size_t i = 0; i < COUNT(ops); i++) {
        struct call c = call_of(ops[i], "ratio");
        input(&c, DT_I32, SHAPE(3), 1, 9);
        ((int32_t *)input(&c, DT_I32, SHAPE(3), 1, 9)->data)[2] = 0;
        output(&c, DT_I32, SHAPE(3));
        refused(&c, true, ERR_MODEL_INVALID, "divided by zero");
    }
}

static void a_type_without_a_kernel_is_named(void **state)
{
    (void)state;
    struct call c = call_of(OP_ADD, "sum"), n = call_of(OP_NOT, "not");
    input(&c, DT_U8, SHAPE(2), 0, 1)->dtype = DT_STRING;
    input(&c, DT_U8, SHAPE(2), 0, 1)->dtype = DT_STRING;
    output(&c, DT_U8, SHAPE(2))->dtype = DT_STRING;
    refused(&c, true, ERR_MODEL_OP, "string");
    input(&n, DT_F32, SHAPE(2), 0, 1);
    output(&n, DT_BOOL, SHAPE(2));
    refused(&n, false, ERR_MODEL_OP, "float32");
}

/* The columns of this convolution would take 64 GiB: its shape alone must not ask for them. */
static void columns_that_are_too_large_are_not_asked_for(void **state)
{
    (void)state;
    struct call c = call_of(OP_CONV, "conv");
    c.in[0] = (struct tensor){ DT_F32, SHAPE(1, 64, 8192, 8192), NULL };
    c.in[1] = (struct tensor){ DT_F32, SHAPE(1, 64, 2, 2), NULL };
    c.out[0] = (struct tensor){ DT_F32, SHAPE(1, 1, 8191, 8191), NULL };
    c.given[0] = &c.in[0], c.given[1] = &c.in[1];
    c.node.n_in = 2, c.node.n_out = 1;
    assert_int_equal(op_impl[OP_CONV].scratch(&(struct op_args){ &c.g, &c.node, c.given, c.out, NULL }), 0);
}

static void every_operator_has_a_reference(void **state)
{
    (void)state;
    for (int op = 0; op < OPS; op++)
        if (!op_impl[op].ref)
            fail_msg("%s has no kernel", op_info[op].type);
}

static int set_up(void **state)
{
    (void)state;
    struct err e = { 0 };
    return blas_init(&e) ? 0 : -1;
}

/* ---- attributes that say much about little ---- */

static void a_window_larger_than_its_image_costs_no_more_than_the_image(void **state)
{
    (void)state;
    static const int64_t vast[] = { INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX }, dilated[] = { 3, 2 };
    for (int counts = 0; counts < 2; counts++) {
        struct call c = call_of(OP_AVERAGEPOOL, "pool");
        attr_ints(&c, "kernel_shape", 2, vast);
        attr_ints(&c, "pads", 4, vast);
        attr_ints(&c, "strides", 2, vast);
        attr_int(&c, "count_include_pad", counts);
        float *x = input(&c, DT_F32, SHAPE(1, 1, 1, 1), 0, 0)->data;
        const float *y = output(&c, DT_F32, SHAPE(1, 1, 2, 2))->data;
        *x = 3;
        run_or_fail(&c, false);
        /* Windows of padding alone, but the last: it begins at the pixel. */
        assert_true(counts ? y[0] == 0 : isnan(y[0]));
        assert_true(counts ? y[3] > 0 && y[3] < 1e-17f : y[3] == 3);
        release();
    }
    struct call c = call_of(OP_MAXPOOL, "pool");
    attr_ints(&c, "kernel_shape", 2, (const int64_t[]){ 2, 3 });
    attr_ints(&c, "dilations", 2, dilated);
    attr_ints(&c, "pads", 4, (const int64_t[]){ 1, 2, 0, 1 });
    float *x = input(&c, DT_F32, SHAPE(1, 1, 4, 3), 0, 0)->data;
    for (int i = 0; i < 12; i++)
        x[i] = (float)i;
    const float *y = output(&c, DT_F32, SHAPE(1, 1, 2, 2))->data;
    run_or_fail(&c, false);
    static const float want[] = { 8, 7, 11, 10 };       /* rows -1, 2 or 0, 3; columns -2, 0, 2 or -1, 1 */
    assert_memory_equal(y, want, sizeof want);
    release();
}

static void nothing_is_made_of_nothing_at_once(void **state)
{
    (void)state;
    const int64_t many = (int64_t)1 << 39;
    for (int fast = 0; fast < 2; fast++) {
        struct call c = call_of(OP_CONV, "conv");
        attr_int(&c, "group", (int64_t)1 << 62);
        input(&c, DT_F32, SHAPE(1, 0, 4, 4), 0, 0);
        input(&c, DT_F32, SHAPE(0, 0, 1, 1), 0, 0);
        output(&c, DT_F32, SHAPE(1, 0, 4, 4));
        run_or_fail(&c, fast);
        c = call_of(OP_CONV, "conv");
        input(&c, DT_F32, SHAPE(many, 3, 0, 4), 0, 0);
        input(&c, DT_F32, SHAPE(2, 3, 1, 1), 0, 0);
        output(&c, DT_F32, SHAPE(many, 2, 0, 4));
        run_or_fail(&c, fast);
        release();
    }
    struct call c = call_of(OP_MAXPOOL, "pool");
    attr_ints(&c, "kernel_shape", 2, (const int64_t[]){ 1, 1 });
    input(&c, DT_F32, SHAPE(many, 2, 0, 4), 0, 0);
    output(&c, DT_F32, SHAPE(many, 2, 0, 4));
    run_or_fail(&c, false);
    release();
}

static void half_pixels_of_tensorflow_are_not_shifted_back(void **state)
{
    (void)state;
    struct call c = call_of(OP_RESIZE, "resize");
    c.attrs[c.node.n_attrs++] = (struct onnx_attr){ .name = "coordinate_transformation_mode", .type = ONNX_STRING, .s = "tf_half_pixel_for_nn" };
    c.attrs[c.node.n_attrs++] = (struct onnx_attr){ .name = "nearest_mode", .type = ONNX_STRING, .s = "floor" };
    float *x = input(&c, DT_F32, SHAPE(4), 0, 0)->data;
    input(&c, DT_F32, SHAPE(0), 0, 0);
    *(float *)input(&c, DT_F32, SHAPE(1), 0, 0)->data = 0.5f;
    const float *y = output(&c, DT_F32, SHAPE(2))->data;
    for (int i = 0; i < 4; i++)
        x[i] = (float)i;
    run_or_fail(&c, false);
    assert_true(y[0] == 1 && y[1] == 3);
    release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_has_a_reference),
        cmocka_unit_test(elementwise_kernels_agree),
        cmocka_unit_test(unary_kernels_agree),
        cmocka_unit_test(where_and_cast_agree),
        cmocka_unit_test(transposes_agree_and_undo_each_other),
        cmocka_unit_test(products_agree),
        cmocka_unit_test(convolutions_agree),
        cmocka_unit_test(rows_agree),
        cmocka_unit_test(quantizers_agree),
        cmocka_unit_test(a_row_normalised_by_softmax_sums_to_one_and_does_not_move_with_a_shift),
        cmocka_unit_test(parts_of_a_split_concatenate_to_the_whole),
        cmocka_unit_test(every_half_survives_a_cast_to_float_and_back),
        cmocka_unit_test(casts_clamp_what_does_not_fit),
        cmocka_unit_test(the_smallest_integer_divided_by_minus_one_wraps),
        cmocka_unit_test(an_index_out_of_range_is_named),
        cmocka_unit_test(integer_division_by_zero_is_an_error_not_a_signal),
        cmocka_unit_test(a_type_without_a_kernel_is_named),
        cmocka_unit_test(a_window_larger_than_its_image_costs_no_more_than_the_image),
        cmocka_unit_test(nothing_is_made_of_nothing_at_once),
        cmocka_unit_test(half_pixels_of_tensorflow_are_not_shifted_back),
        cmocka_unit_test(columns_that_are_too_large_are_not_asked_for),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
