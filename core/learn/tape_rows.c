/* tape_rows.c - derivatives of what works on rows: softmax, norms, means. */
#include "core/kernel/clones.h"
#include "core/learn/tape_rules.h"

static int axis_of(const struct node *n, int rank)
{
    int64_t axis = node_int(n, "axis", -1);
    return (int)(axis < 0 ? axis + rank : axis);
}

/* ---- softmax: dx = y (dy - sum dy y) ---- */

KERNEL_CLONES
static void softmax_row(size_t n, const real *y, const real *dy, bool fresh, real *restrict dx)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)(y[i] * dy[i]);
    for (size_t i = 0; i < n; i++)
        dx[i] = fresh ? y[i] * (dy[i] - (real)sum) : dx[i] + y[i] * (dy[i] - (real)sum);
}

bool tape_fits_softmax(const struct graph *g, const struct node *n)
{
    int rank = g->values[n->in[0]].shape.rank;
    return rank > 0 && axis_of(n, rank) == rank - 1;
}

bool tape_back_softmax(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct tensor *y = &t->t[tape_graph(t)->nodes[node].out[0]];
    bool fresh;
    real *dx = tape_want(t, node, 0, &fresh);
    size_t n = tape_dim(y, 1), rows = n ? tape_elements(y) / n : 0;
    (void)e;
    for (size_t r = 0; dx && r < rows; r++)
        softmax_row(n, (const real *)y->data + r * n, dy + r * n, fresh, dx + r * n);
    return !t->e.code;
}

/* ---- probabilities on levels: rounding is an identity, so what counts are the probabilities themselves ---- */

static void row_softmax(size_t n, const real *x, real *ret, real *ret_log_sum)
{
    real top = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++)
        ret[i] = x[i] - top;
    real_exp(n, ret, ret);
    for (size_t i = 0; i < n; i++)
        sum += (double)ret[i];
    for (size_t i = 0; i < n; i++)
        ret[i] = (real)((double)ret[i] / sum);
    *ret_log_sum = top + (real)log(sum);
}

static void row_levels(size_t n, const struct levels *l, const real *x, real log_sum, real *ret)
{
    for (size_t i = 0; i < n; i++) {
        real step = real_round((x[i] - log_sum) * (real)l->into);
        ret[i] = (step > (real)l->first ? step : (real)l->first) * (real)l->back;
    }
    real_exp(n, ret, ret);
    for (size_t i = 0; i < n; i++)
        ret[i] = ret[i] > (real)l->threshold ? ret[i] : 0;
}

bool tape_run_levels(struct tape *t, int node, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    struct tensor *y = &t->t[tape_graph(t)->nodes[node].out[0]];
    size_t n = tape_dim(y, 1), rows = n ? tape_elements(y) / n : 0;
    real *p = tape_take(t, n, false, e), *kept = t->rounding[2 * node];
    if (!p)
        return false;
#ifdef LEARN_DOUBLE
    if (!kept)
        kept = t->rounding[2 * node] = calloc(rows * n + 1, sizeof *kept);
#endif
    for (size_t r = 0; r < rows; r++) {
        const real *x = (const real *)t->t[q->x].data + r * n;
        real *to = (real *)y->data + r * n, log_sum;
        row_softmax(n, x, p, &log_sum);
        if (!t->frozen)
            row_levels(n, &q->levels, x, log_sum, to);
        for (size_t i = 0; kept && i < n; i++) {
            if (t->frozen)
                to[i] = p[i] + kept[r * n + i];
            else
                kept[r * n + i] = to[i] - p[i];
        }
    }
    tape_give(t, p);
    return true;
}

bool tape_back_levels(struct tape *t, int node, const real *dy, struct err *e)
{
    const struct qop *q = tape_row(t, node);
    const struct tensor *x = &t->t[q->x];
    bool fresh;
    real *dx = tape_want_value(t, q->x, &fresh), log_sum;
    size_t n = tape_dim(x, 1), rows = n ? tape_elements(x) / n : 0;
    real *p = tape_take(t, n, false, e);
    for (size_t r = 0; p && dx && r < rows; r++) {
        row_softmax(n, (const real *)x->data + r * n, p, &log_sum);
        softmax_row(n, p, dy + r * n, fresh, dx + r * n);
    }
    tape_give(t, p);
    return p && !t->e.code;
}

/* ---- norms over the trailing axes ---- */

bool tape_fits_norm(const struct graph *g, const struct node *n)
{
    const struct shape *x = &g->values[n->in[0]].shape;
    if (x->rank < 1 || axis_of(n, x->rank) != x->rank - 1)
        return false;
    for (int i = 1; i < n->n_in; i++)
        if (n->in[i] >= 0 && shape_elements(&g->values[n->in[i]].shape) != x->dim[x->rank - 1])
            return false;
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] >= 0)
            return false;
    return true;
}

struct norm_row { size_t n; const real *x, *dy, *gamma; real *dx, *dgamma, *dbeta; double eps; bool centred, fresh; };

/* xh = (x - mean) r: dx = r (d - mean d - xh mean(d xh)), d = dy gamma; without the means of x and d where it is not centred. */
static void norm_row(const struct norm_row *a)
{
    double mean = 0, square = 0, sum = 0, dot = 0, n = (double)a->n;
    for (size_t i = 0; a->centred && i < a->n; i++)
        mean += (double)a->x[i];
    mean /= n;
    for (size_t i = 0; i < a->n; i++)
        square += ((double)a->x[i] - mean) * ((double)a->x[i] - mean);
    real centre = (real)mean, r = (real)(1 / sqrt(square / n + a->eps));
    for (size_t i = 0; i < a->n; i++) {
        real d = a->dy[i] * a->gamma[i], xh = (a->x[i] - centre) * r;
        sum += (double)d;
        dot += (double)(d * xh);
        if (a->dgamma)
            a->dgamma[i] += a->dy[i] * xh;
        if (a->dbeta)
            a->dbeta[i] += a->dy[i];
    }
    real mean_d = a->centred ? (real)(sum / n) : 0, mean_dot = (real)(dot / n);
    for (size_t i = 0; a->dx && i < a->n; i++) {
        real term = r * (a->dy[i] * a->gamma[i] - mean_d - (a->x[i] - centre) * r * mean_dot);
        a->dx[i] = a->fresh ? term : a->dx[i] + term;
    }
}

static bool back_norm(struct tape *t, int node, const real *dy, bool centred)
{
    const struct node *n = &tape_graph(t)->nodes[node];
    struct tensor room[2];
    const struct tensor *x = tape_input(t, node, 0, &room[0]), *gamma = tape_input(t, node, 1, &room[1]);
    size_t width = tape_dim(x, 1), rows = width ? tape_elements(x) / width : 0;
    bool fresh;
    real *dx = tape_want(t, node, 0, &fresh), *dgamma = tape_want(t, node, 1, NULL), *dbeta = n->n_in > 2 ? tape_want(t, node, 2, NULL) : NULL;
    for (size_t r = 0; r < rows; r++)
        norm_row(&(struct norm_row){ width, (const real *)x->data + r * width, dy + r * width, gamma->data, dx ? dx + r * width : NULL,
                                     dgamma, dbeta, (double)node_float(n, "epsilon", 1e-5f), centred, fresh });
    return !t->e.code;
}

bool tape_back_layernorm(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return back_norm(t, node, dy, true);
}

bool tape_back_rmsnorm(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return back_norm(t, node, dy, false);
}

/* ---- sums and means over the last axis ---- */

bool tape_fits_reduce(const struct graph *g, const struct node *n)
{
    size_t n_axes;
    const struct shape *x = &g->values[n->in[0]].shape;
    const int64_t *axes = node_ints(n, "axes", &n_axes);
    if (n->n_in > 1 && n->in[1] >= 0) {
        const struct value *v = &g->values[n->in[1]];
        axes = v->is_const && v->dtype == DT_I64 ? v->data : NULL;
        n_axes = axes ? (size_t)shape_elements(&v->shape) : 0;
    }
    return x->rank > 0 && n_axes == 1 && (axes[0] == -1 || axes[0] == x->rank - 1);
}

static bool back_reduce(struct tape *t, int node, const real *dy, bool mean)
{
    struct tensor room;
    const struct tensor *x = tape_input(t, node, 0, &room);
    bool fresh;
    real *dx = tape_want(t, node, 0, &fresh);
    size_t n = tape_dim(x, 1), rows = n ? tape_elements(x) / n : 0;
    for (size_t r = 0; dx && r < rows; r++) {
        real d = mean ? dy[r] / (real)n : dy[r];
        for (size_t i = 0; i < n; i++)
            dx[r * n + i] = fresh ? d : dx[r * n + i] + d;
    }
    return !t->e.code;
}

bool tape_back_mean(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return back_reduce(t, node, dy, true);
}

bool tape_back_sum(struct tape *t, int node, const real *dy, struct err *e)
{
    (void)e;
    return back_reduce(t, node, dy, false);
}
