/* op_unary.c - one tensor in, one of the same shape out: y = f(x). */
#include "core/exec/op_internal.h"

#include <math.h>

/* ---- reference ---- */

static double real_neg(double v) { return -v; }
static double real_reciprocal(double v) { return 1 / v; }
static double real_sigmoid(double v) { return 1 / (1 + exp(-v)); }
static double real_relu(double v) { return v < 0 ? 0 : v; }        /* keeps NaN */
static double real_sign(double v) { return v > 0 ? 1 : v < 0 ? -1 : v; }
static double real_gelu(double v) { return v / 2 * (1 + erf(v * M_SQRT1_2)); }
static double real_gelu_tanh(double v) { return v / 2 * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); }

static int64_t int_neg(int64_t v) { return (int64_t)(0 - (uint64_t)v); }
static int64_t int_abs(int64_t v) { return v < 0 ? int_neg(v) : v; }
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
        [OP_COS] = { cos, NULL },
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
    if (!t[0]->real && !op->integer)
        return op_refuse(a, a->in[0]->dtype, e);

    const void *x = a->in[0]->data;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        if (t[0]->real)
            t[0]->put_real(a->out[0].data, i, op->real(t[1]->get_real(x, i)));
        else
            t[0]->put_int(a->out[0].data, i, op->integer(t[1]->get_int(x, i)));
    return true;
}

bool op_isnan(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        t[0]->put_int(a->out[0].data, i, isnan(t[1]->get_real(a->in[0]->data, i)));
    return true;
}

/* ---- Clip and ThresholdedRelu: y = f(x, limits) ---- */

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
