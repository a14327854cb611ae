/* tape_elem.c - derivatives of operators on elements. */
#include "core/kernel/clones.h"
#include "core/learn/tape_rules.h"

/* ---- two operands, broadcast ---- */

/* One run of a walk: y = x1 op x2, and where the derivative by one of them goes; steps are 0 or 1 and more. */
struct run { int64_t n; const real *dy, *y, *a, *b; real *to; int64_t step_a, step_b, step_to; bool fresh; };

#define TERMS(name, term)                                                                             \
    KERNEL_CLONES                                                                                     \
    static void name(const struct run *r)                                                             \
    {                                                                                                 \
        const real *dy = r->dy, *y = r->y, *a = r->a, *b = r->b;                                      \
        (void)y, (void)a, (void)b;                                                                    \
        if (r->step_a == 1 && r->step_b == 1 && r->step_to == 1) {                                    \
            real *restrict to = r->to;                                                                \
            bool fresh = r->fresh;                                                                    \
            for (int64_t i = 0, j = 0, k = 0; i < r->n; i++, j++, k++)                                \
                to[i] = fresh ? term : to[i] + (term);                                                \
        } else if (r->step_to == 0) {                                                                 \
            real sum = 0;                                                                             \
            for (int64_t i = 0, j = 0, k = 0; i < r->n; i++, j += r->step_a, k += r->step_b)          \
                sum += term;                                                                          \
            *r->to = r->fresh ? sum : *r->to + sum;                                                   \
        } else {                                                                                      \
            real *restrict to = r->to;                                                                \
            bool fresh = r->fresh;                                                                    \
            for (int64_t i = 0, j = 0, k = 0; i < r->n; i++, j += r->step_a, k += r->step_b)          \
                to[i * r->step_to] = fresh ? term : to[i * r->step_to] + (term);                      \
        }                                                                                             \
    }

/* i: of the output; j, k: of the operands. */
TERMS(plus, dy[i])
TERMS(minus, -dy[i])
TERMS(times_a, dy[i] * a[j])
TERMS(times_b, dy[i] * b[k])
TERMS(over_b, dy[i] / b[k])
TERMS(quotient, -dy[i] * y[i] / b[k])

static bool binary(struct tape *t, int node, const real *dy, void (*const terms[2])(const struct run *))
{
    const struct node *n = &tape_graph(t)->nodes[node];
    const struct tensor *y = &t->t[n->out[0]];
    struct tensor room[2];
    const struct tensor *in[2] = { tape_input(t, node, 0, &room[0]), tape_input(t, node, 1, &room[1]) };
    for (int side = 0; side < 2; side++) {
        bool whole = tape_elements(in[side]) == tape_elements(y), fresh = false;
        real *to = tape_want(t, node, side, whole ? &fresh : NULL);
        struct walk w;
        for (walk_broadcast(&w, &y->shape, in, 2); to && w.more; walk_next(&w)) {
            struct run r = { w.n, dy + w.at[0], (const real *)y->data + w.at[0], (const real *)in[0]->data + w.at[1],
                             (const real *)in[1]->data + w.at[2], to + w.at[1 + side], w.step[1], w.step[2], w.step[1 + side], fresh };
            terms[side](&r);
        }
    }
    return !t->e.code;
}

bool tape_back_add(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return binary(t, node, dy, (void (*const[])(const struct run *)){ plus, plus });
}

bool tape_back_sub(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return binary(t, node, dy, (void (*const[])(const struct run *)){ plus, minus });
}

bool tape_back_mul(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return binary(t, node, dy, (void (*const[])(const struct run *)){ times_b, times_a });
}

bool tape_back_div(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return binary(t, node, dy, (void (*const[])(const struct run *)){ over_b, quotient });
}

/* Where the condition, which carries no derivative, is set: the second operand, else the third. */
bool tape_back_where(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    struct tensor room[3];
    const struct tensor *in[3];
    (void)e;
    for (int i = 0; i < 3; i++)
        in[i] = tape_input(t, node, i, &room[i]);
    const unsigned char *condition = in[0]->data;
    for (int side = 1; side < 3; side++) {
        real *to = tape_want(t, node, side, NULL);
        struct walk w;
        for (walk_broadcast(&w, &t->t[n->out[0]].shape, in, 3); to && w.more; walk_next(&w))
            for (int64_t i = 0; i < w.n; i++)
                if ((condition[w.at[1] + i * w.step[1]] != 0) == (side == 1))
                    to[w.at[1 + side] + i * w.step[1 + side]] += dy[w.at[0] + i];
    }
    return !t->e.code;
}

/* x ^ p for p that carries no derivative. */
bool tape_back_pow(struct tape *t, int node, const real *dy, struct err *e)
{
    struct tensor room[2];
    const struct tensor *x = tape_input(t, node, 0, &room[0]), *power = tape_input(t, node, 1, &room[1]);
    real *dx = tape_want(t, node, 0, NULL);
    (void)e;
    if (!dx)
        return !t->e.code;
    const real *from = x->data;
    real p = *(const real *)power->data;
    size_t n = tape_elements(x);
    if (p == 2)
        for (size_t i = 0; i < n; i++)
            dx[i] += 2 * dy[i] * from[i];
    else
        for (size_t i = 0; i < n; i++)
            dx[i] += (real)((double)dy[i] * (double)p * pow((double)from[i], (double)p - 1));
    return true;
}

bool tape_fits_pow(const struct graph *g, const struct node *n)
{
    const struct value *p = &g->values[n->in[1]];
    return p->is_const && p->dtype == DT_F32 && shape_elements(&p->shape) == 1;
}

/* ---- one operand ---- */

struct unary { const real *x, *y, *dy; real *dx; size_t n; bool fresh; };

static bool unary_of(struct tape *t, int node, const real *dy, struct unary *ret)
{
    struct tensor room;
    const struct tensor *x = tape_input(t, node, 0, &room), *y = &t->t[tape_graph(t)->nodes[node].out[0]];
    *ret = (struct unary){ x->data, y->data, dy, NULL, tape_elements(y), false };
    ret->dx = tape_want(t, node, 0, &ret->fresh);
    return ret->dx != NULL;
}

#define UNARY(name, term)                                                             \
    KERNEL_CLONES                                                                     \
    static void name##_terms(const struct unary *u)                                   \
    {                                                                                 \
        const real *dy = u->dy, *x = u->x, *y = u->y;                                 \
        real *restrict dx = u->dx;                                                    \
        bool fresh = u->fresh;                                                        \
        (void)x, (void)y;                                                             \
        for (size_t i = 0; i < u->n; i++)                                             \
            dx[i] = fresh ? (term) : dx[i] + (term);                                  \
    }                                                                                 \
    bool name(struct tape *t, int node, const real *dy, struct err *e)                \
    {                                                                                 \
        struct unary u;                                                               \
        (void)e;                                                                      \
        if (unary_of(t, node, dy, &u))                                                \
            name##_terms(&u);                                                         \
        return !t->e.code;                                                            \
    }

UNARY(tape_back_neg, -dy[i])
UNARY(tape_back_same, dy[i])
UNARY(tape_back_sqrt, dy[i] / (2 * y[i]))
UNARY(tape_back_reciprocal, -dy[i] * y[i] * y[i])
UNARY(tape_back_exp, dy[i] * y[i])
UNARY(tape_back_tanh, dy[i] * (1 - y[i] * y[i]))
UNARY(tape_back_sigmoid, dy[i] * y[i] * (1 - y[i]))
UNARY(tape_back_relu, x[i] > 0 ? dy[i] : 0)

/* A piece at a time: scratch that fits a stack. */
enum { PIECE = 256 };

static void density(size_t n, const real *x, real factor, real *ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = -factor * x[i] * x[i];
    real_exp(n, ret, ret);
}

static void add_terms(size_t n, const real *terms, bool fresh, real *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = fresh ? terms[i] : to[i] + terms[i];
}

bool tape_back_erf(struct tape *t, int node, const real *dy, struct err *e)
{
    struct unary u;
    real d[PIECE];
    (void)e;
    if (!unary_of(t, node, dy, &u))
        return !t->e.code;
    for (size_t at = 0; at < u.n; at += PIECE) {
        size_t n = u.n - at < PIECE ? u.n - at : PIECE;
        density(n, u.x + at, 1, d);
        for (size_t i = 0; i < n; i++)
            d[i] = dy[at + i] * (real)M_2_SQRTPI * d[i];
        add_terms(n, d, u.fresh, u.dx + at);
    }
    return true;
}

/* x Phi(x): Phi(x) + x phi(x). */
static void gelu(const struct unary *u)
{
    real d[PIECE], phi[PIECE], scaled[PIECE];
    for (size_t at = 0; at < u->n; at += PIECE) {
        size_t n = u->n - at < PIECE ? u->n - at : PIECE;
        const real *x = u->x + at;
        density(n, x, (real)0.5, d);
        for (size_t i = 0; i < n; i++)
            scaled[i] = x[i] * (real)M_SQRT1_2;
        real_erf(n, scaled, phi);
        for (size_t i = 0; i < n; i++)
            d[i] = u->dy[at + i] * ((1 + phi[i]) / 2 + x[i] * d[i] * (real)(M_2_SQRTPI * M_SQRT1_2 / 2));
        add_terms(n, d, u->fresh, u->dx + at);
    }
}

/* x/2 (1 + tanh(c (x + a x^3))) */
static void gelu_tanh(const struct unary *u)
{
    const double c = sqrt(2 / M_PI), a = 0.044715;
    for (size_t i = 0; i < u->n; i++) {
        double x = (double)u->x[i], th = tanh(c * (x + a * x * x * x));
        real term = (real)((double)u->dy[i] * ((1 + th) / 2 + x / 2 * (1 - th * th) * c * (1 + 3 * a * x * x)));
        add_terms(1, &term, u->fresh, u->dx + i);
    }
}

bool tape_back_gelu(struct tape *t, int node, const real *dy, struct err *e)
{
    struct unary u;
    (void)e;
    if (!unary_of(t, node, dy, &u))
        return !t->e.code;
    bool approximate = node_str(&tape_graph(t)->nodes[node], "approximate", "none")[0] == 't';
    (approximate ? gelu_tanh : gelu)(&u);
    return true;
}

/* x sigmoid(alpha x) */
bool tape_back_swish(struct tape *t, int node, const real *dy, struct err *e)
{
    struct unary u;
    double alpha = (double)node_float(&tape_graph(t)->nodes[node], "alpha", 1);
    (void)e;
    if (!unary_of(t, node, dy, &u))
        return !t->e.code;
    for (size_t i = 0; i < u.n; i++) {
        double x = (double)u.x[i], s = 1 / (1 + exp(-alpha * x));
        u.dx[i] += (real)((double)dy[i] * (s + alpha * x * s * (1 - s)));
    }
    return true;
}

bool tape_fits_cast(const struct graph *g, const struct node *n)
{
    return g->values[n->in[0]].dtype == DT_F32 && g->values[n->out[0]].dtype == DT_F32;
}
