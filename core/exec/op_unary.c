/* op_unary.c - one tensor in, one of the same shape out: y = f(x). */
#include "core/exec/op_internal.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>

/* ---- reference ---- */

static double real_neg(double v) { return -v; }
static double real_reciprocal(double v) { return 1 / v; }
static double real_sigmoid(double v) { return 1 / (1 + exp(-v)); }
static double real_relu(double v) { return v < 0 ? 0 : v; }        /* keeps NaN */
static double real_sign(double v) { return v > 0 ? 1 : v < 0 ? -1 : v; }
static double real_gelu(double v) { return v / 2 * (1 + erf(v * M_SQRT1_2)); }
static double real_gelu_tanh(double v) { return v / 2 * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); }

static double real_softplus(double v) { return v > 30 ? v : log1p(exp(v)); }
static double real_softsign(double v) { return v / (1 + fabs(v)); }
static double real_mish(double v) { return v * tanh(real_softplus(v)); }

static int64_t int_neg(int64_t v) { return (int64_t)(0 - (uint64_t)v); }
static int64_t int_abs(int64_t v) { return v < 0 ? int_neg(v) : v; }
static int64_t int_not(int64_t v) { return ~v; }
static int64_t int_relu(int64_t v) { return v < 0 ? 0 : v; }
static int64_t int_sign(int64_t v) { return (v > 0) - (v < 0); }

struct unary {
    double (*real)(double);
    int64_t (*integer)(int64_t);       /* NULL: the op takes reals only */
};

static const struct unary *unary_of(const struct node *n)
{
    static const struct unary ops[OPS] = {
        [OP_NEG] = { real_neg, int_neg },        [OP_ABS] = { fabs, int_abs },
        [OP_RELU] = { real_relu, int_relu },     [OP_SIGN] = { real_sign, int_sign },
        [OP_SQRT] = { sqrt, NULL },              [OP_RECIPROCAL] = { real_reciprocal, NULL },
        [OP_EXP] = { exp, NULL },                [OP_LOG] = { log, NULL },
        [OP_ERF] = { erf, NULL },                [OP_TANH] = { tanh, NULL },
        [OP_SIGMOID] = { real_sigmoid, NULL },   [OP_GELU] = { real_gelu, NULL },
        [OP_FLOOR] = { floor, NULL },            [OP_CEIL] = { ceil, NULL },
        [OP_ROUND] = { rint, NULL },             [OP_SIN] = { sin, NULL },
        [OP_COS] = { cos, NULL },                [OP_TAN] = { tan, NULL },
        [OP_ACOS] = { acos, NULL },              [OP_ACOSH] = { acosh, NULL },
        [OP_ASIN] = { asin, NULL },              [OP_ASINH] = { asinh, NULL },
        [OP_ATAN] = { atan, NULL },              [OP_ATANH] = { atanh, NULL },
        [OP_COSH] = { cosh, NULL },              [OP_SINH] = { sinh, NULL },
        [OP_SOFTPLUS] = { real_softplus, NULL }, [OP_SOFTSIGN] = { real_softsign, NULL },
        [OP_MISH] = { real_mish, NULL },         [OP_BITNOT] = { NULL, int_not },
    };
    static const struct unary gelu_tanh = { real_gelu_tanh, NULL };
    bool approximate = n->op == OP_GELU && node_str(n, "approximate", "none")[0] == 't';
    return approximate ? &gelu_tanh : &ops[n->op];
}

bool op_unary(const struct op_args *a, struct err *e)
{
    const struct unary *op = unary_of(a->node);
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    double (*real)(double) = t[0]->real ? op->real : NULL;
    int64_t (*integer)(int64_t) = t[0]->real ? NULL : op->integer;
    if (!real && !integer)
        return op_refuse(a, a->in[0]->dtype, e);

    const void *x = a->in[0]->data;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        if (real)
            t[0]->put_real(a->out[0].data, i, real(t[1]->get_real(x, i)));
        else
            t[0]->put_int(a->out[0].data, i, integer(t[1]->get_int(x, i)));
    return true;
}

/* ---- float32 ---- */

#define F32_MAP(name, expr)                                                                                   \
    KERNEL_CLONES                                                                                             \
    static void name(size_t n, const float *x, float *y)                                                      \
    {                                                                                                         \
        KERNEL_LOOP                                                                                           \
        for (size_t i = 0; i < n; i++) { float v = x[i]; y[i] = expr; }                                       \
    }

F32_MAP(f32_neg, -v)
F32_MAP(f32_abs, fabsf(v))
F32_MAP(f32_relu, v < 0 ? 0 : v)
F32_MAP(f32_sqrt, sqrtf(v))
F32_MAP(f32_reciprocal, 1 / v)
F32_MAP(f32_floor, floorf(v))
F32_MAP(f32_ceil, ceilf(v))
F32_MAP(f32_round, rintf(v))
F32_MAP(f32_log, logf(v))
F32_MAP(f32_sin, sinf(v))
F32_MAP(f32_cos, cosf(v))

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), a piece at a time: y may be x, which is needed twice. */
static void f32_gelu_tanh(size_t n, const float *x, float *y)
{
    enum { PIECE = 256 };
    float t[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t m = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < m; i++)
            t[i] = 0.7978845608f * (x[at + i] + 0.044715f * x[at + i] * x[at + i] * x[at + i]);
        vec_tanh(m, t, t);
        for (size_t i = 0; i < m; i++)
            y[at + i] = 0.5f * x[at + i] * (1 + t[i]);
    }
}

bool op_unary_fast(const struct op_args *a, struct err *e)
{
    static void (*const maps[OPS])(size_t, const float *, float *) = {
        [OP_NEG] = f32_neg,     [OP_ABS] = f32_abs,         [OP_RELU] = f32_relu, [OP_SQRT] = f32_sqrt,
        [OP_EXP] = vec_exp,     [OP_ERF] = vec_erf,         [OP_TANH] = vec_tanh, [OP_SIGMOID] = vec_sigmoid,
        [OP_GELU] = vec_gelu,   [OP_FLOOR] = f32_floor,     [OP_CEIL] = f32_ceil, [OP_ROUND] = f32_round,
        [OP_LOG] = f32_log,     [OP_SIN] = f32_sin,         [OP_COS] = f32_cos,   [OP_RECIPROCAL] = f32_reciprocal,
    };
    if (!op_all_f32(a) || !maps[a->node->op])
        return op_unary(a, e);
    bool gelu_tanh = unary_of(a->node)->real == real_gelu_tanh;
    size_t n = (size_t)shape_elements(&a->out[0].shape);
    (gelu_tanh ? f32_gelu_tanh : maps[a->node->op])(n, a->in[0]->data, a->out[0].data);
    return true;
}

/* ---- IsNaN; Clip and ThresholdedRelu ---- */

bool op_isnan(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        t[0]->put_int(a->out[0].data, i, isnan(t[1]->get_real(a->in[0]->data, i)));
    return true;
}

/* One bound as a real and as an integer; both stay as they are where the input is absent. */
static void bound(const struct op_args *a, int input, double *real, int64_t *integer)
{
    const struct tensor *t = op_in(a, input);
    if (!t || !shape_elements(&t->shape))
        return;
    *real = elem_of(t->dtype)->get_real(t->data, 0);
    *integer = elem_of(t->dtype)->get_int(t->data, 0);
}

/* min(max(x, lo), hi), so hi wins where lo > hi; NaN stays. */
bool op_clip(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    double lo = -INFINITY, hi = INFINITY;
    int64_t int_lo = INT64_MIN, int_hi = INT64_MAX;
    bound(a, 1, &lo, &int_lo);
    bound(a, 2, &hi, &int_hi);

    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        if (t[0]->real) {
            double v = t[1]->get_real(a->in[0]->data, i);
            v = v < lo ? lo : v;
            t[0]->put_real(a->out[0].data, i, v > hi ? hi : v);
        } else {
            int64_t v = t[1]->get_int(a->in[0]->data, i);
            v = v < int_lo ? int_lo : v;
            t[0]->put_int(a->out[0].data, i, v > int_hi ? int_hi : v);
        }
    return true;
}

KERNEL_CLONES
static void f32_clip(int64_t n, const float *x, float lo, float hi, float *y)
{
    KERNEL_LOOP
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] < lo ? lo : x[i];
        y[i] = v > hi ? hi : v;
    }
}

bool op_clip_fast(const struct op_args *a, struct err *e)
{
    if (!op_all_f32(a))
        return op_clip(a, e);
    double lo = -INFINITY, hi = INFINITY;
    int64_t unused = 0;
    bound(a, 1, &lo, &unused);
    bound(a, 2, &hi, &unused);
    f32_clip(shape_elements(&a->out[0].shape), a->in[0]->data, (float)lo, (float)hi, a->out[0].data);
    return true;
}

bool op_threshold(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    double alpha = (double)node_float(a->node, "alpha", 1);
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++) {
        double v = t[1]->get_real(a->in[0]->data, i);
        t[0]->put_real(a->out[0].data, i, v > alpha ? v : 0);
    }
    return true;
}

bool op_threshold_fast(const struct op_args *a, struct err *e)
{
    if (!op_all_f32(a))
        return op_threshold(a, e);
    vec_threshold((size_t)shape_elements(&a->out[0].shape), a->in[0]->data, node_float(a->node, "alpha", 1), a->out[0].data);
    return true;
}
