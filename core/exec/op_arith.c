/*
 * op_arith.c - Add, Sub, Mul, Div, Pow, Mod; Min and Max.
 *
 * The reference computes reals in double and rounds once: for + - * / that is the float32
 * result to the bit.  Integers wrap.
 */
#include "core/exec/op_internal.h"

#include "core/kernel/clones.h"

#include <math.h>

/* ---- reference ---- */

static double real_add(double u, double v) { return u + v; }
static double real_sub(double u, double v) { return u - v; }
static double real_mul(double u, double v) { return u * v; }
static double real_div(double u, double v) { return u / v; }

static int64_t int_add(int64_t u, int64_t v) { return (int64_t)((uint64_t)u + (uint64_t)v); }
static int64_t int_sub(int64_t u, int64_t v) { return (int64_t)((uint64_t)u - (uint64_t)v); }
static int64_t int_mul(int64_t u, int64_t v) { return (int64_t)((uint64_t)u * (uint64_t)v); }
/* Division by -1 is negation: INT64_MIN / -1 would trap. */
static int64_t int_div(int64_t u, int64_t v) { return v == -1 ? int_sub(0, u) : u / v; }
static int64_t int_rem(int64_t u, int64_t v) { return v == -1 ? 0 : u % v; }

/* Mod takes the sign of the divisor, as Python's %; with fmod=1 that of the dividend, as C's. */
static int64_t int_mod(int64_t u, int64_t v)
{
    int64_t rem = int_rem(u, v);
    return rem && (rem < 0) != (v < 0) ? rem + v : rem;
}

static int64_t uint_div(int64_t u, int64_t v) { return (int64_t)((uint64_t)u / (uint64_t)v); }
static int64_t uint_mod(int64_t u, int64_t v) { return (int64_t)((uint64_t)u % (uint64_t)v); }

/* The sign of the divisor, as Python's %, and as NumPy a zero of that sign. */
static double real_mod(double u, double v)
{
    double rem = fmod(u, v);
    if (rem == 0)
        return copysign(0, v);
    return (rem < 0) != (v < 0) ? rem + v : rem;
}

typedef int64_t int_op(int64_t u, int64_t v);
struct arith {
    double (*real)(double, double);
    int_op *integer;                           /* NULL: by way of reals */
    bool divides;                              /* an integer 0 on the right is an error */
};

static const struct arith *arith_of(const struct node *n)
{
    static const struct arith ops[OPS] = {
        [OP_ADD] = { real_add, int_add, false }, [OP_SUB] = { real_sub, int_sub, false },
        [OP_MUL] = { real_mul, int_mul, false }, [OP_DIV] = { real_div, int_div, true },
        [OP_POW] = { pow, NULL, false },         [OP_MOD] = { real_mod, int_mod, true },
    };
    static const struct arith c_mod = { fmod, int_rem, true };
    return n->op == OP_MOD && node_int(n, "fmod", 0) ? &c_mod : &ops[n->op];
}

/* The same for uint64, where division is another. */
static const struct arith *wide_arith(const struct node *n, const struct arith *op)
{
    static const struct arith div = { real_div, uint_div, true }, mod = { real_mod, uint_mod, true };
    return n->op == OP_DIV ? &div : n->op == OP_MOD ? &mod : op;
}

static void real_run(const struct arith *op, const struct elem *const *t, const struct op_args *a, const struct walk *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        double u = t[1]->get_real(a->in[0]->data, w->at[1] + i * w->step[1]);
        double v = t[2]->get_real(a->in[1]->data, w->at[2] + i * w->step[2]);
        t[0]->put_real(a->out[0].data, w->at[0] + i, op->real(u, v));     // NOLINT(clang-analyzer-core.CallAndMessage): every arith has one
    }
}

static bool int_run(int_op *op, bool divides, const struct elem *const *t, const struct op_args *a,
                    const struct walk *w, struct err *e)
{
    for (int64_t i = 0; i < w->n; i++) {
        int64_t u = t[1]->get_int(a->in[0]->data, w->at[1] + i * w->step[1]);
        int64_t v = t[2]->get_int(a->in[1]->data, w->at[2] + i * w->step[2]);
        if (divides && v == 0)
            return op_fail(a, ERR_MODEL_INVALID, e, "an integer is divided by zero; correct the divisor in the model");
        t[0]->put_int(a->out[0].data, w->at[0] + i, op(u, v));
    }
    return true;
}

bool op_arith(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    const struct arith *op = arith_of(a->node);
    struct walk w;

    if (!op_elems(a, t, e))
        return false;
    if (t[0]->wide)
        op = wide_arith(a->node, op);
    int_op *integer = t[0]->real || t[2]->real ? NULL : op->integer;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 2); w.more; walk_next(&w))
        if (!integer)
            real_run(op, t, a, &w);
        else if (!int_run(integer, op->divides, t, a, &w, e))
            return false;
    return true;
}

/* ---- float32 ---- */

/* One run: an operand may be a single number (a step of 0); both are where the first two inputs of a Max are narrower than the third. */
typedef void f32_run(int64_t n, const float *x, bool x_steps, const float *y, bool y_steps, float *z);

#define F32_RUN(name, expr)                                                                                   \
    KERNEL_CLONES                                                                                             \
    static void name(int64_t n, const float *x, bool x_steps, const float *y, bool y_steps, float *z)         \
    {                                                                                                         \
        if (x_steps && y_steps) {                                                                             \
            KERNEL_LOOP                                                                                       \
            for (int64_t i = 0; i < n; i++) { float u = x[i], v = y[i]; z[i] = expr; }                        \
        } else if (x_steps) {                                                                                 \
            const float v = *y;                                                                               \
            KERNEL_LOOP                                                                                       \
            for (int64_t i = 0; i < n; i++) { float u = x[i]; z[i] = expr; }                                  \
        } else if (y_steps) {                                                                                 \
            const float u = *x;                                                                               \
            KERNEL_LOOP                                                                                       \
            for (int64_t i = 0; i < n; i++) { float v = y[i]; z[i] = expr; }                                  \
        } else {                                                                                              \
            const float u = *x, v = *y, same = expr;                                                          \
            for (int64_t i = 0; i < n; i++)                                                                   \
                z[i] = same;                                                                                  \
        }                                                                                                     \
    }

F32_RUN(f32_add, u + v)
F32_RUN(f32_sub, u - v)
F32_RUN(f32_mul, u * v)
F32_RUN(f32_div, u / v)
F32_RUN(f32_pow, powf(u, v))
F32_RUN(f32_mod, fmodf(u, v))
/* A NaN on either side stays. */
F32_RUN(f32_min, u < v || u != u ? u : v)
F32_RUN(f32_max, u > v || u != u ? u : v)

/* x^2 and x^3, of norms and GELUs, need no powf(). */
KERNEL_CLONES
static void f32_small_power(int64_t n, const float *x, bool x_steps, const float *y, bool y_steps, float *z)
{
    (void)x_steps, (void)y_steps;
    const bool cube = *y == 3;
    KERNEL_LOOP
    for (int64_t i = 0; i < n; i++) {
        float square = x[i] * x[i];
        z[i] = cube ? square * x[i] : square;
    }
}

static f32_run *const f32_ops[OPS] = {
    [OP_ADD] = f32_add, [OP_SUB] = f32_sub, [OP_MUL] = f32_mul, [OP_DIV] = f32_div,
    [OP_POW] = f32_pow, [OP_MOD] = f32_mod, [OP_MIN] = f32_min, [OP_MAX] = f32_max,
};

static f32_run *run_for(enum op op, const float *y, bool y_steps)
{
    return op == OP_POW && !y_steps && (*y == 2 || *y == 3) ? f32_small_power : f32_ops[op];
}

/* z = op(x, y) broadcast to z's shape; z may be x's data where the shapes agree. */
static void f32_binary(enum op op, const struct tensor *x, const struct tensor *y, const struct tensor *z)
{
    const struct tensor *in[2] = { x, y };
    const float *xs = x->data, *ys = y->data;
    float *zs = z->data;
    struct walk w;

    for (walk_broadcast(&w, &z->shape, in, 2); w.more; walk_next(&w))
        run_for(op, ys + w.at[2], w.step[2])(w.n, xs + w.at[1], w.step[1], ys + w.at[2], w.step[2], zs + w.at[0]);
}

bool op_arith_fast(const struct op_args *a, struct err *e)
{
    bool signs = a->node->op == OP_MOD && !node_int(a->node, "fmod", 0);
    if (!op_all_f32(a) || signs)
        return op_arith(a, e);
    f32_binary(a->node->op, a->in[0], a->in[1], &a->out[0]);
    return true;
}

/* ---- Min and Max of any number of inputs ---- */

static double real_extreme(bool max, double u, double v)
{
    return isnan(u) ? u : isnan(v) ? v : (max ? v > u : v < u) ? v : u;
}

/* Folds in[k] into the output; the first input is only broadcast. */
static void extreme_run(const struct op_args *a, const struct elem *out, const struct elem *in, int k, const struct walk *w)
{
    bool max = a->node->op == OP_MAX;
    void *y = a->out[0].data;
    for (int64_t i = w->at[0]; i < w->at[0] + w->n; i++) {
        int64_t j = w->at[1] + (i - w->at[0]) * w->step[1];
        if (out->real) {
            double v = in->get_real(a->in[k]->data, j);
            out->put_real(y, i, k ? real_extreme(max, out->get_real(y, i), v) : v);
        } else {
            int64_t flip = in->wide ? INT64_MIN : 0, u = out->get_int(y, i) ^ flip, v = in->get_int(a->in[k]->data, j) ^ flip;
            out->put_int(y, i, (!k || (max ? v > u : v < u) ? v : u) ^ flip);
        }
    }
}

bool op_extreme(const struct op_args *a, struct err *e)
{
    const struct elem *out = elem_of(a->out[0].dtype);
    for (int k = 0; k < a->node->n_in; k++) {
        const struct elem *in = elem_of(a->in[k]->dtype);
        if (!in || !out)
            return op_refuse(a, a->in[k]->dtype, e);
        struct walk w;
        for (walk_broadcast(&w, &a->out[0].shape, a->in + k, 1); w.more; walk_next(&w))
            extreme_run(a, out, in, k, &w);
    }
    return true;
}

bool op_extreme_fast(const struct op_args *a, struct err *e)
{
    if (a->node->n_in < 2 || !op_all_f32(a))
        return op_extreme(a, e);
    f32_binary(a->node->op, a->in[0], a->in[1], &a->out[0]);
    for (int k = 2; k < a->node->n_in; k++)
        f32_binary(a->node->op, &a->out[0], a->in[k], &a->out[0]);
    return true;
}
