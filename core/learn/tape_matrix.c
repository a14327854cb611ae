/* tape_matrix.c - matrix products: of operators, and of quantized rows. */
#include "core/kernel/clones.h"
#include "core/learn/tape_rules.h"

#include <stdlib.h>

/* ---- a batch of matrices, leading dimensions broadcast ---- */

struct batch { size_t n, m, k, cols; };            /* products [m,k] x [k,cols] */

static struct batch batch_of(const struct tensor *x, const struct tensor *y, const struct tensor *out)
{
    struct batch b = { 1, tape_dim(x, 2), tape_dim(x, 1), tape_dim(y, 1) };
    for (int i = 0; i < out->shape.rank - 2; i++)
        b.n *= (size_t)out->shape.dim[i];
    if (y->shape.rank == 2 && b.n > 1) {           /* one matrix for all: the rows are one long matrix */
        b.m *= b.n;
        b.n = 1;
    }
    return b;
}

/* The matrix of an operand that product `index` uses. */
static size_t matrix_at(const struct tensor *t, const struct tensor *out, size_t index)
{
    size_t at = 0, stride = 1;
    for (int i = 3; i <= out->shape.rank; i++) {
        size_t od = tape_dim(out, i), td = tape_dim(t, i);
        at += td > 1 ? index % od * stride : 0;
        stride *= td;
        index /= od;
    }
    return at;
}

struct factors { const struct tensor *x, *y, *out; const real *xs, *ys; };

static void multiply(struct tape *t, const struct factors *f, real *to)
{
    struct batch b = batch_of(f->x, f->y, f->out);
    t->products += (double)(b.n * b.m * b.k * b.cols);
    for (size_t i = 0; i < b.n; i++)
        real_gemm(false, false, b.m, b.cols, b.k, f->xs + matrix_at(f->x, f->out, i) * b.m * b.k, b.k,
                  f->ys + matrix_at(f->y, f->out, i) * b.k * b.cols, b.cols, false, to + i * b.m * b.cols, b.cols);
}

/* Where the derivatives by the two operands go; either may be NULL, or fresh (tape_want). */
struct sums { real *x, *y; bool fresh_x, fresh_y; };

/* No two products share a matrix of the operand: each is written once. */
static bool own_matrices(const struct factors *f, const struct tensor *operand)
{
    struct batch b = batch_of(f->x, f->y, f->out);
    return tape_elements(operand) == b.n * (operand == f->x ? b.m * b.k : b.k * b.cols);
}

/* += dy y^T, += x^T dy. */
static void multiply_back(struct tape *t, const struct factors *f, const real *dy, const struct sums *to)
{
    struct batch b = batch_of(f->x, f->y, f->out);
    t->products += (double)(b.n * b.m * b.k * b.cols) * ((to->x != NULL) + (to->y != NULL));
    for (size_t i = 0; i < b.n; i++) {
        size_t at_x = matrix_at(f->x, f->out, i) * b.m * b.k, at_y = matrix_at(f->y, f->out, i) * b.k * b.cols;
        const real *d = dy + i * b.m * b.cols;
        if (to->x)
            real_gemm(false, true, b.m, b.k, b.cols, d, b.cols, f->ys + at_y, b.cols, !to->fresh_x, to->x + at_x, b.k);
        if (to->y)
            real_gemm(true, false, b.k, b.cols, b.m, f->xs + at_x, b.k, d, b.cols, !to->fresh_y, to->y + at_y, b.cols);
    }
}

bool tape_fits_matmul(const struct graph *g, const struct node *n)
{
    return g->values[n->in[0]].shape.rank >= 2 && g->values[n->in[1]].shape.rank >= 2;
}

bool tape_back_matmul(struct tape *t, int node, const real *dy, struct err *e)
{
    struct tensor room[2];
    struct factors f = { tape_input(t, node, 0, &room[0]), tape_input(t, node, 1, &room[1]), &t->t[tape_graph(t)->nodes[node].out[0]], NULL, NULL };
    f.xs = f.x->data;
    f.ys = f.y->data;
    struct sums to = { 0 };
    (void)e;
    to.x = tape_want(t, node, 0, own_matrices(&f, f.x) ? &to.fresh_x : NULL);
    to.y = tape_want(t, node, 1, own_matrices(&f, f.y) ? &to.fresh_y : NULL);
    multiply_back(t, &f, dy, &to);
    return !t->e.code;
}

/* ---- Gemm ---- */

bool tape_fits_gemm(const struct graph *g, const struct node *n)
{
    const struct shape *y = &g->values[n->out[0]].shape;
    bool plain = !node_int(n, "transA", 0) && node_float(n, "alpha", 1) == 1.0f && node_float(n, "beta", 1) == 1.0f;
    return plain && (n->n_in < 3 || n->in[2] < 0 || shape_elements(&g->values[n->in[2]].shape) == y->dim[1]);
}

static void add_rows(size_t rows, size_t n, const real *dy, real *restrict to)
{
    for (size_t r = 0; to && r < rows; r++)
        for (size_t i = 0; i < n; i++)
            to[i] += dy[r * n + i];
}

bool tape_back_gemm(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    struct tensor room[2];
    const struct tensor *x = tape_input(t, node, 0, &room[0]), *y = tape_input(t, node, 1, &room[1]);
    bool turned = node_int(n, "transB", 0);
    size_t m = tape_dim(x, 2), k = tape_dim(x, 1), cols = turned ? tape_dim(y, 2) : tape_dim(y, 1);
    struct sums to = { 0 };
    to.x = tape_want(t, node, 0, &to.fresh_x);
    to.y = tape_want(t, node, 1, &to.fresh_y);
    (void)e;
    if (to.x)
        real_gemm(false, !turned, m, k, cols, dy, cols, y->data, tape_dim(y, 1), !to.fresh_x, to.x, k);
    if (to.y && turned)
        real_gemm(true, false, cols, k, m, dy, cols, x->data, k, !to.fresh_y, to.y, k);
    else if (to.y)
        real_gemm(true, false, k, cols, m, x->data, k, dy, cols, !to.fresh_y, to.y, cols);
    add_rows(m, cols, dy, n->n_in > 2 ? tape_want(t, node, 2, NULL) : NULL);
    return !t->e.code;
}

/* ---- codes ---- */

/* Codes minus the zero point of x / scale; what rounding adds is kept for tests. */
static void to_codes(struct tape *t, int slot, const struct affine *a, size_t n, const real *x, real *ret)
{
    real scale = (real)a->scale, *kept = t->rounding[slot];
#ifdef LEARN_DOUBLE
    if (!kept)
        kept = t->rounding[slot] = calloc(n + 1, sizeof *kept);
#endif
    for (size_t i = 0; t->frozen && i < n; i++)
        ret[i] = x[i] / scale + kept[i];
    if (!t->frozen)
        real_codes(n, x, a->scale, a->zero, a->qmin, a->qmax, ret);
    for (size_t i = 0; kept && !t->frozen && i < n; i++)
        kept[i] = ret[i] - x[i] / scale;
}

/* dx += d * factor where x was not clipped; `fresh` as in tape_want(). */
KERNEL_CLONES
static void through_codes(const struct affine *a, size_t n, const real *x, const real *d, real factor, bool fresh, real *restrict dx)
{
    real scale = (real)a->scale, lo = ((real)(a->qmin - a->zero) - (real)0.5) * scale, hi = ((real)(a->qmax - a->zero) + (real)0.5) * scale;
    for (size_t i = 0; i < n; i++) {
        real term = x[i] >= lo && x[i] <= hi ? d[i] * factor : 0;
        dx[i] = fresh ? term : dx[i] + term;
    }
}

/* ---- a quantized linear: y = codes(x mul + shift) . w + add ---- */

/* The row's input as it is quantized; in a block of its own where there are factors. */
static const real *scaled_input(struct tape *t, const struct qop *q, size_t count, struct err *e)
{
    const real *x = t->t[q->x].data;
    if (!q->mul)
        return x;
    real *scaled = tape_take(t, count, false, e);
    for (size_t at = 0; scaled && at < count; at += q->k)
        for (size_t i = 0; i < q->k; i++)
            scaled[at + i] = x[at + i] * (real)q->mul[i] + (q->shift ? (real)q->shift[i] : 0);
    return scaled;
}

bool tape_run_linear(struct tape *t, int node, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    struct tensor *y = &t->t[tape_graph(t)->nodes[node].out[0]];
    size_t rows = q->n ? tape_elements(y) / q->n : 0, count = rows * q->k;
    const struct learned *added = program_learned(t->p, LEARN_ADDED, node, 0);
    const real *x = scaled_input(t, q, count, e);
    real *codes = x ? tape_take(t, count, false, e) : NULL, *to = y->data;
    if (!codes)
        return false;
    to_codes(t, 2 * node, &q->ax, count, x, codes);
    t->kept[2 * node] = codes;
    t->kept[2 * node + 1] = (real *)(uintptr_t)x;
    real_gemm(false, false, rows, q->n, q->k, codes, q->k, t->w->linear[node], q->n, false, to, q->n);
    t->products += (double)(count * q->n);
    for (size_t r = 0; (added || q->add) && r < rows; r++)
        for (size_t i = 0; i < q->n; i++)
            to[r * q->n + i] += added ? t->w->all[added->at + i] : (real)q->add[i];
    return true;
}

/* The steps of an input's row of weights as of now: of some columns, [n]; groups of inputs have one row of them. */
enum { COLUMNS = 512 };
static size_t group_of(const struct qop *q) { return q->group ? q->group : q->k; }
static void steps_now(const struct qop *q, const real *logs, size_t k, size_t first, size_t n, real *ret)
{
    size_t at = k / group_of(q) * q->n + first;
    for (size_t i = 0; i < n && k % group_of(q) == 0; i++)
        ret[i] = (real)q->scale[at + i] * (logs ? (real)exp((double)logs[at + i]) : 1);
}

KERNEL_CLONES
static void add_products(size_t n, const real *x, const real *y, real *restrict sum)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i] * y[i];
}

KERNEL_CLONES
static void multiply_row(size_t n, const real *by, real *restrict x)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= by[i];
}

/* What the weights' derivative, which is where the codes' is to be, says of codes and steps. */
static void split_weights(const struct tape *t, int node, const struct learned *codes, const struct learned *steps)
{
    const struct qop *q = tape_row(t, node);
    const real *w = t->w->linear[node], *logs = steps ? t->w->all + steps->at : NULL;
    real *d = t->learned_grad + codes->at, step[COLUMNS];
    for (size_t first = 0; first < q->n; first += COLUMNS) {
        size_t n = q->n - first < COLUMNS ? q->n - first : COLUMNS;
        for (size_t k = 0; k < q->k; k++) {
            size_t at = k * q->n + first;
            steps_now(q, logs, k, first, n, step);
            if (steps)
                add_products(n, d + at, w + at, t->learned_grad + steps->at + k / group_of(q) * q->n + first);
            multiply_row(n, step, d + at);        /* a derivative by a weight becomes that by its code */
        }
    }
}

static void back_weights(struct tape *t, int node, size_t rows, const real *dy)
{
    const struct qop *q = tape_row(t, node);
    const struct learned *codes = program_learned(t->p, LEARN_CODES, node, 0), *steps = program_learned(t->p, LEARN_STEPS, node, 0);
    const struct learned *added = program_learned(t->p, LEARN_ADDED, node, 0);
    if (added)
        add_rows(rows, q->n, dy, t->learned_grad + added->at);
    if (!codes)
        return;
    real_gemm(true, false, q->k, q->n, rows, t->kept[2 * node], q->k, dy, q->n, false, t->learned_grad + codes->at, q->n);
    t->products += (double)(q->k * q->n * rows);
    split_weights(t, node, codes, steps);
    t->written[codes - t->p->of.learned] = true;
}

bool tape_back_linear(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    const struct tensor *y = &t->t[tape_graph(t)->nodes[node].out[0]];
    size_t rows = q->n ? tape_elements(y) / q->n : 0, count = rows * q->k;
    bool fresh;
    real *dx = tape_want_value(t, q->x, &fresh);
    back_weights(t, node, rows, dy);
    if (!dx)
        return !t->e.code;
    real *dc = tape_take(t, count, false, e);
    if (!dc)
        return false;
    real_gemm(false, true, rows, q->k, q->n, dy, q->n, t->w->linear[node], q->n, false, dc, q->k);
    t->products += (double)(count * q->n);
    for (size_t at = 0; q->mul && at < count; at += q->k)
        for (size_t i = 0; i < q->k; i++)
            dc[at + i] *= (real)q->mul[i];
    through_codes(&q->ax, count, t->kept[2 * node + 1], dc, 1 / (real)q->ax.scale, fresh, dx);
    tape_give(t, dc);
    return true;
}

KERNEL_CLONES
static void weigh_codes(size_t n, const real *u, const real *step, real *restrict ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = real_round(u[i]) * step[i];
}

static void weigh_known(size_t n, const float *codes, const real *step, real *restrict ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (real)codes[i] * step[i];
}

void tape_weigh(const struct program *p, int node, const real *all, real *ret)
{
    const struct qop *q = &p->of.how->qop[node];
    const struct learned *codes = program_learned(p, LEARN_CODES, node, 0), *steps = program_learned(p, LEARN_STEPS, node, 0);
    real step[COLUMNS];
    for (size_t first = 0; first < q->n; first += COLUMNS) {
        size_t n = q->n - first < COLUMNS ? q->n - first : COLUMNS;
        for (size_t k = 0; k < q->k; k++) {
            size_t at = k * q->n + first;
            steps_now(q, steps ? all + steps->at : NULL, k, first, n, step);
            if (codes)
                weigh_codes(n, all + codes->at + at, step, ret + at);
            else
                weigh_known(n, q->w + at, step, ret + at);
        }
    }
}

/* ---- quantized products ---- */

/* An operand as its codes say, in a block of its own. */
static real *quantized(struct tape *t, int slot, const struct affine *a, const struct tensor *x, struct err *e)
{
    size_t n = tape_elements(x);
    real *ret = tape_take(t, n, false, e);
    if (!ret)
        return NULL;
    to_codes(t, slot, a, n, x->data, ret);
    for (size_t i = 0; i < n; i++)
        ret[i] *= (real)a->scale;
    return ret;
}

bool tape_run_product(struct tape *t, int node, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    struct tensor *out = &t->t[tape_graph(t)->nodes[node].out[0]];
    struct factors f = { &t->t[q->x], &t->t[q->y], out, NULL, NULL };
    f.xs = q->kind == QOP_HALF ? f.x->data : quantized(t, 2 * node, &q->ax, f.x, e);
    f.ys = f.xs ? quantized(t, 2 * node + 1, &q->ay, f.y, e) : NULL;
    if (!f.ys)
        return false;
    t->kept[2 * node] = (real *)(uintptr_t)f.xs;
    t->kept[2 * node + 1] = (real *)(uintptr_t)f.ys;
    multiply(t, &f, out->data);
    return true;
}

/* The derivative by one operand, given that by its codes' values. */
static void operand_back(struct tape *t, const struct affine *a, int value, const real *d)
{
    bool fresh;
    real *dx = tape_want_value(t, value, &fresh);
    const struct tensor *x = &t->t[value];
    if (dx && d)
        through_codes(a, tape_elements(x), x->data, d, 1, fresh, dx);
    tape_give(t, d);
}

/* A block for the derivative by an operand's codes. */
static real *room_for(struct tape *t, const struct factors *f, const struct tensor *x, bool *ret_fresh)
{
    *ret_fresh = own_matrices(f, x);
    return tape_take(t, tape_elements(x), !*ret_fresh, &t->e);
}

bool tape_back_product(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    struct factors f = { &t->t[q->x], &t->t[q->y], &t->t[tape_graph(t)->nodes[node].out[0]], t->kept[2 * node], t->kept[2 * node + 1] };
    bool half = q->kind == QOP_HALF;
    struct sums to = { 0 };
    (void)e;
    if (half)
        to.x = tape_want_value(t, q->x, own_matrices(&f, f.x) ? &to.fresh_x : NULL);
    else if (t->p->wanted[q->x])
        to.x = room_for(t, &f, f.x, &to.fresh_x);
    if (t->p->wanted[q->y])
        to.y = room_for(t, &f, f.y, &to.fresh_y);
    if (t->e.code)
        return false;
    multiply_back(t, &f, dy, &to);
    if (!half)
        operand_back(t, &q->ax, q->x, to.x);
    operand_back(t, &q->ay, q->y, to.y);
    return !t->e.code;
}
