/* op_activation.c - y = f(x) with constants of the node's, PRelu, IsInf, and bitwise operators. */
#include "core/exec/op_internal.h"

#include <math.h>
#include <string.h>

/* ---- activations ---- */

static double elu(double v, double a, double b) { (void)b; return v < 0 ? a * expm1(v) : v; }
static double selu(double v, double a, double g) { return g * (v > 0 ? v : a * expm1(v)); }
static double celu(double v, double a, double b) { (void)b; return fmax(0, v) + fmin(0, a * expm1(v / a)); }
static double leaky(double v, double a, double b) { (void)b; return v < 0 ? a * v : v; }
static double hard_sigmoid(double v, double a, double b) { return fmax(0, fmin(1, a * v + b)); }
static double shrink(double v, double lambda, double bias) { return v < -lambda ? v + bias : v > lambda ? v - bias : 0; }
static double swish(double v, double a, double b) { (void)b; return v / (1 + exp(-a * v)); }

static const struct activation {
    double (*f)(double v, double a, double b);
    const char *a, *b;
    float a_else, b_else;
} activations[OPS] = {
    [OP_ELU] = { elu, "alpha", "", 1, 0 },
    [OP_SELU] = { selu, "alpha", "gamma", 1.67326319217681884765625f, 1.05070102214813232421875f },
    [OP_CELU] = { celu, "alpha", "", 1, 0 },
    [OP_LEAKYRELU] = { leaky, "alpha", "", 0.01f, 0 },
    [OP_HARDSIGMOID] = { hard_sigmoid, "alpha", "beta", 0.2f, 0.5f },
    [OP_SHRINK] = { shrink, "lambd", "bias", 0.5f, 0 },
    [OP_SWISH] = { swish, "alpha", "", 1, 0 },
};

bool op_activation(const struct op_args *a, struct err *e)
{
    const struct activation *act = &activations[a->node->op];
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    double p = (double)node_float(a->node, act->a, act->a_else), q = (double)node_float(a->node, act->b, act->b_else);
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        t[0]->put_real(a->out[0].data, i, act->f(t[1]->get_real(a->in[0]->data, i), p, q));
    return true;
}

bool op_isinf(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    bool below = node_int(a->node, "detect_negative", 1), above = node_int(a->node, "detect_positive", 1);
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++) {
        double v = t[1]->get_real(a->in[0]->data, i);
        t[0]->put_int(a->out[0].data, i, isinf(v) && (v < 0 ? below : above));
    }
    return true;
}

bool op_prelu(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    struct walk w;
    if (!op_elems(a, t, e))
        return false;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 2); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            double v = t[1]->get_real(a->in[0]->data, w.at[1] + i * w.step[1]);
            double slope = t[2]->get_real(a->in[1]->data, w.at[2] + i * w.step[2]);
            t[0]->put_real(a->out[0].data, w.at[0] + i, v < 0 ? v * slope : v);
        }
    return true;
}

/* ---- bits: a type's bits are in the low end of its int64 ---- */

static int64_t bit_and(int64_t u, int64_t v, int bits) { (void)bits; return u & v; }
static int64_t bit_or(int64_t u, int64_t v, int bits) { (void)bits; return u | v; }
static int64_t bit_xor(int64_t u, int64_t v, int bits) { (void)bits; return u ^ v; }
/* C leaves a shift by the width or more undefined; here nothing is left (or, of a negative number, its sign). */
static int64_t bit_left(int64_t u, int64_t v, int bits) { return (uint64_t)v >= (uint64_t)bits ? 0 : (int64_t)((uint64_t)u << v); }
static int64_t bit_right(int64_t u, int64_t v, int bits) { return (uint64_t)v >= (uint64_t)bits ? (u < 0 ? -1 : 0) : u >> v; }
static int64_t bit_right_unsigned(int64_t u, int64_t v, int bits)
{
    return (uint64_t)v >= (uint64_t)bits ? 0 : (int64_t)((uint64_t)u >> v);
}

typedef int64_t bit_op(int64_t u, int64_t v, int bits);

static bit_op *bit_op_of(const struct op_args *a)
{
    static bit_op *const ops[OPS] = { [OP_BITAND] = bit_and, [OP_BITOR] = bit_or, [OP_BITXOR] = bit_xor };
    if (a->node->op != OP_BITSHIFT)
        return ops[a->node->op];
    if (strcmp(node_str(a->node, "direction", ""), "LEFT") == 0)
        return bit_left;
    return a->out[0].dtype == DT_U64 ? bit_right_unsigned : bit_right;
}

bool op_bits(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    bit_op *op = bit_op_of(a);
    struct walk w;
    if (!op_elems(a, t, e))
        return false;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 2); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            t[0]->put_int(a->out[0].data, w.at[0] + i, op(t[1]->get_int(a->in[0]->data, w.at[1] + i * w.step[1]),
                                                          t[2]->get_int(a->in[1]->data, w.at[2] + i * w.step[2]),
                                                          dtype_bits(a->out[0].dtype)));
    return true;
}
