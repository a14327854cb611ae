/*
 * Everything is divided by m, the mean of H's diagonal, so that floats hold it whatever the units of a are; errors
 * are multiplied back.  Rows are independent once Hd and its factor are there: blocks of ROWS are the pieces of work.
 */
#include "core/quant/reconstruct.h"
#include "core/kernel/kernel.h"
#include "core/kernel/linalg.h"
#include "core/quant/quantizer.h"
#include "core/quant/row_block.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FACTORS = 31, LEARN_ARRAYS = 4 };
static const double LEAST_FACTOR = 0.4, LEAST_RIDGE = 1e-6, LEAST_RAISE = 1e-6, MOST_RAISE = 1e3;

/* One thread's memory. */
struct bench {
    struct row_block block;
    double *rows;              /* [ROWS, k]: right-hand sides */
    float *learning;
};

struct job {
    const struct reconstruct_task *t;
    struct reconstruct_result r;
    struct pool *pool;
    size_t pieces;
    double m;
    size_t *order;             /* [k]: the column of H and V at each place */
    double *moments, *factor;  /* [k, k] in that order: the upper triangle of H / m, and what is factored */
    float *h, *u;              /* [k, k] likewise: Hd / m, whole, and GPTQ's factor or NULL */
    float *weight;             /* [k]: the diagonal of h */
    struct bench *benches;     /* one per thread */
    double (*errors)[3];       /* per piece: nearest, rounded, final */
    double (*weighed)[FACTORS];
    float lo, hi;              /* of the whole target */
    int chosen;                /* the factor for the whole */
};

static bool run(struct job *j, pool_fn *fn, struct err *e)
{
    if (j->pool)
        return pool_run(j->pool, j->pieces, fn, j, e);
    for (size_t i = 0; i < j->pieces; i++)
        if (!fn(j, i, 0, e))
            return false;
    return true;
}

static size_t rows_of(const struct job *j, size_t piece)
{
    size_t left = j->t->n - piece * ROWS;
    return left < ROWS ? left : ROWS;
}

/* An input that never varies counts as an average one. */
static void fill_moments(struct job *j)
{
    size_t k = j->t->k;
    const double *h = j->t->h;
    for (size_t i = 0; i < k; i++)
        for (size_t l = i; l < k; l++) {
            size_t a = j->order[i], b = j->order[l];
            double x = a <= b ? h[a * k + b] : h[b * k + a];
            j->moments[i * k + l] = i == l && x == 0 ? 1 : x / j->m;
        }
}

/* factor: the upper triangle of H / m + extra I. */
static void fill_damped(struct job *j, double extra)
{
    size_t k = j->t->k;
    memcpy(j->factor, j->moments, k * k * sizeof *j->factor);
    for (size_t i = 0; i < k; i++)
        j->factor[i * k + i] += extra;
}

typedef bool factor_fn(size_t n, double *a);

/* Factors H / m + *extra I into j->factor, with *extra raised as far as it takes; false if nothing helps. */
static bool factor_damped(struct job *j, factor_fn *fn, double *extra)
{
    for (double try = *extra, last = fmax(try, MOST_RAISE); try <= last; try = fmax(10 * try, LEAST_RAISE)) {
        fill_damped(j, try);
        if (fn(j->t->k, j->factor)) {
            *extra = try;
            return true;
        }
    }
    return false;
}

/* ---- before all: checks, the order ---- */

static bool all_finite_f(size_t n, const float *x)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool all_finite(size_t n, const double *x)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool check_task(const struct reconstruct_task *t, struct err *e)
{
    if (t->n < 1 || t->k < 1 || t->k > 46340 || t->bits < 2 || t->bits > 8 || !(t->damping >= 0) || !(t->ridge >= 0))
        return err_set(e, ERR_BUG, "reconstruct", "%zux%zu weights, %d bits, damping %g, ridge %g: not a task",
                       t->n, t->k, t->bits, t->damping, t->ridge);
    if (!all_finite_f(t->n * t->k, t->v))
        return err_set(e, ERR_NUMERIC_NONFINITE, "", "a weight is NaN or infinite; export a trained model");
    bool moments = t->c ? all_finite(t->n * t->k, t->c) : true;
    for (size_t i = 0; i < t->k; i++)
        moments = moments && all_finite(t->k - i, t->h + i * t->k + i);
    return moments || err_set(e, ERR_NUMERIC_NONFINITE, "", "an activation is NaN or infinite on the calibration data; "
                              "check the samples");
}

struct place { double h; size_t column; };

static int by_falling_h(const void *p, const void *q)
{
    const struct place *a = p, *b = q;
    if (a->h != b->h)
        return a->h < b->h ? 1 : -1;
    return (a->column > b->column) - (a->column < b->column);
}

static bool order_moments(struct job *j, struct arena *scratch, struct err *e)
{
    const struct reconstruct_task *t = j->t;
    struct place *places = arena_array(scratch, t->k, sizeof *places, e);
    if (!places)
        return false;
    for (size_t i = 0; i < t->k; i++) {
        places[i] = (struct place){ t->h[i * t->k + i], i };
        j->m += places[i].h / (double)t->k;
    }
    if (t->act_order)
        qsort(places, t->k, sizeof *places, by_falling_h);
    for (size_t i = 0; i < t->k; i++)
        j->order[i] = places[i].column;
    if (!(j->m > 0))
        j->m = 1;
    fill_moments(j);
    return true;
}

/* ---- 1. the target ---- */

/* V* = (C + ridge m V)(H + ridge m I)^-1: the same as in the header, without the product V H. */
static void solve_rows(const struct job *j, size_t piece, double *rows)
{
    size_t k = j->t->k, first = piece * ROWS, n = rows_of(j, piece);
    const float *v = j->t->v + first * k;
    const double *c = j->t->c + first * k;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++) {
            size_t at = r * k + j->order[i];
            rows[r * k + i] = c[at] / j->m + j->r.ridge * (double)v[at];
        }
    cholesky_solve(k, j->factor, n, rows, k);
    float *to = j->r.target + first * k;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++)
            to[r * k + j->order[i]] = (float)rows[r * k + i];
}

static bool target_piece(void *arg, size_t piece, int thread, struct err *e)
{
    struct job *j = arg;
    size_t k = j->t->k, n = rows_of(j, piece);
    float *to = j->r.target + piece * ROWS * k;
    if (j->r.ridge > 0)
        solve_rows(j, piece, j->benches[thread].rows);
    else
        memcpy(to, j->t->v + piece * ROWS * k, n * k * sizeof *to);
    for (size_t i = 0; i < k; i++)
        for (size_t r = 0; j->t->h[i * k + i] == 0 && r < n; r++)
            to[r * k + i] = 0;
    return all_finite_f(n * k, to) || err_set(e, ERR_NUMERIC_NONFINITE, "", "the regression overflows; use a larger ridge");
}

static bool find_target(struct job *j, struct err *e)
{
    if (j->t->c) {
        double ridge = fmax(j->t->ridge, LEAST_RIDGE);
        j->r.fell_back = !factor_damped(j, cholesky, &ridge);
        j->r.ridge = j->r.fell_back ? 0 : ridge;
    }
    return run(j, target_piece, e);
}

/* ---- 2. ranges ---- */

/* Takes a piece's rows of the target into the thread's block. */
static struct row_block *load(struct job *j, size_t piece, int thread)
{
    struct row_block *b = &j->benches[thread].block;
    size_t k = j->t->k, n = rows_of(j, piece);
    const float *from = j->r.target + piece * ROWS * k;
    b->h = j->h;
    for (size_t i = 0; i < k; i++)
        for (size_t r = 0; r < ROWS; r++)
            b->v[i * ROWS + r] = r < n ? from[r * k + j->order[i]] : 0;
    return b;
}

static void set_range(const struct job *j, struct row_block *b, size_t row, float lo, float hi, int factor)
{
    float shrink = (float)(1 - (1 - LEAST_FACTOR) * factor / (FACTORS - 1));
    struct affine a = quantizer_from_range(lo * shrink, hi * shrink, j->t->bits, j->t->symmetric);
    b->scale[row] = a.scale;
    b->lo[row] = (float)(a.qmin - a.zero);
    b->hi[row] = (float)(a.qmax - a.zero);
}

static void cover(const float *x, size_t n, float *lo, float *hi)
{
    struct range r = { 0 };    /* a range holds 0 */
    range_of(n, x, &r);
    *lo = r.lo;
    *hi = r.hi;
}

/* What every row covers before it is shrunk. */
static void full_ranges(const struct job *j, size_t piece, float lo[ROWS], float hi[ROWS])
{
    size_t k = j->t->k, n = rows_of(j, piece);
    for (size_t r = 0; r < ROWS; r++) {
        lo[r] = r < n ? j->lo : 0;
        hi[r] = r < n ? j->hi : 0;
        if (j->t->per_row && r < n)
            cover(j->r.target + (piece * ROWS + r) * k, k, &lo[r], &hi[r]);
    }
}

static int factors(const struct job *j) { return j->t->search ? FACTORS : 1; }

/* Every row's best factor, and the sum over rows for each factor. */
static void weigh_factors(struct job *j, struct row_block *b, size_t piece, int best[ROWS])
{
    float lo[ROWS], hi[ROWS];
    double least[ROWS], sum[ROWS];
    full_ranges(j, piece, lo, hi);
    for (int f = 0; f < factors(j); f++) {
        memset(sum, 0, sizeof sum);
        for (size_t r = 0; r < ROWS; r++)
            set_range(j, b, r, lo[r], hi[r], f);
        row_block_weigh(b, j->weight, sum);
        for (size_t r = 0; r < ROWS; r++) {
            if (f == 0 || sum[r] < least[r]) {
                least[r] = sum[r];
                best[r] = f;
            }
            j->weighed[piece][f] += sum[r];
        }
    }
}

static bool weigh_piece(void *arg, size_t piece, int thread, struct err *e)
{
    (void)e;
    int unused[ROWS];
    weigh_factors(arg, load(arg, piece, thread), piece, unused);
    return true;
}

static bool choose_common_range(struct job *j, struct err *e)
{
    cover(j->r.target, j->t->n * j->t->k, &j->lo, &j->hi);
    if (!j->t->search)
        return true;
    if (!run(j, weigh_piece, e))
        return false;
    double least = INFINITY;
    for (int f = 0; f < FACTORS; f++) {
        double sum = 0;
        for (size_t i = 0; i < j->pieces; i++)
            sum += j->weighed[i][f];
        if (sum < least) {
            least = sum;
            j->chosen = f;
        }
    }
    return true;
}

static void find_ranges(struct job *j, struct row_block *b, size_t piece)
{
    float lo[ROWS], hi[ROWS];
    int best[ROWS];
    full_ranges(j, piece, lo, hi);
    if (j->t->per_row && j->t->search)
        weigh_factors(j, b, piece, best);
    for (size_t r = 0; r < ROWS; r++)
        set_range(j, b, r, lo[r], hi[r], j->t->per_row && j->t->search ? best[r] : j->chosen);
    int half = 1 << (j->t->bits - 1);
    for (size_t r = 0; r < rows_of(j, piece); r++) {
        j->r.scale[piece * ROWS + r] = b->scale[r];
        j->r.zero[piece * ROWS + r] = (int8_t)(-half - (int)b->lo[r]);
    }
}

/* ---- 3 and 4. codes ---- */

static double sum_of(const double x[ROWS])
{
    double sum = 0;
    for (size_t r = 0; r < ROWS; r++)
        sum += x[r];
    return sum;
}

static void round_better(struct job *j, struct bench *w, double error[ROWS])
{
    struct row_block *b = &w->block;
    if (j->u)
        row_block_gptq(b, j->u);
    else if (j->t->rounding == ROUND_LEARNED)
        row_block_learn(b, j->t->steps, w->learning);
    else
        return;
    row_block_errors(b, error);
}

static void descend(const struct job *j, struct row_block *b)
{
    double error[ROWS];
    if (j->t->descents < 1)
        return;
    row_block_errors(b, error);
    for (int i = 0; i < j->t->descents && row_block_descend(b) > 0; i++)
        ;
    row_block_errors(b, error);
    row_block_keep_better(b, error);
}

static void store(struct job *j, const struct row_block *b, size_t piece)
{
    size_t k = j->t->k, first = piece * ROWS;
    for (size_t r = 0; r < rows_of(j, piece); r++)
        for (size_t i = 0; i < k; i++)
            j->r.codes[(first + r) * k + j->order[i]] = (int8_t)((int)b->q[i * ROWS + r] + j->r.zero[first + r]);
}

static bool code_piece(void *arg, size_t piece, int thread, struct err *e)
{
    (void)e;
    struct job *j = arg;
    struct row_block *b = load(j, piece, thread);
    double error[ROWS];
    find_ranges(j, b, piece);
    row_block_nearest(b);
    row_block_errors(b, error);
    memcpy(b->best, b->q, b->k * ROWS * sizeof *b->q);
    memcpy(b->best_error, error, sizeof error);
    j->errors[piece][0] = sum_of(error);
    if (!j->r.fell_back)
        round_better(j, &j->benches[thread], error);
    j->errors[piece][1] = sum_of(error);
    row_block_keep_better(b, error);
    if (!j->r.fell_back)
        descend(j, b);
    j->errors[piece][2] = sum_of(b->best_error);
    store(j, b, piece);
    return true;
}

/* Hd whole and in float, and for GPTQ its factor. */
static bool prepare_moments(struct job *j, struct arena *scratch, struct err *e)
{
    size_t k = j->t->k;
    j->r.damping = j->t->damping;
    if (j->t->rounding == ROUND_GPTQ && !j->r.fell_back) {
        if (!(j->u = arena_array(scratch, k * k, sizeof *j->u, e)))
            return false;
        j->r.fell_back = !factor_damped(j, inverse_factor, &j->r.damping);
        for (size_t i = 0; i < k * k; i++)
            j->u[i] = (float)j->factor[i];
    }
    fill_damped(j, j->r.damping);
    mirror_upper(k, j->factor);
    for (size_t i = 0; i < k * k; i++)
        j->h[i] = (float)j->factor[i];
    for (size_t i = 0; i < k; i++) {
        j->weight[i] = fmaxf(j->h[i * k + i], 0);
        j->r.fell_back = j->r.fell_back || !(j->h[i * k + i] > 0);
    }
    return true;
}

static void add_errors(struct job *j)
{
    double *sums[] = { &j->r.error_nearest, &j->r.error_rounded, &j->r.error_final };
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < j->pieces; i++)
            *sums[s] += j->errors[i][s] * j->m;
}

/* ---- memory ---- */

static bool set_up_bench(struct bench *w, const struct reconstruct_task *t, struct arena *scratch, struct err *e)
{
    struct row_block *b = &w->block;
    float **arrays[] = { &b->v, &b->q, &b->e, &b->g, &b->work, &b->best };
    b->k = t->k;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        if (!(*arrays[i] = arena_array(scratch, t->k, ROWS * sizeof(float), e)))
            return false;
    if (t->c && !(w->rows = arena_array(scratch, t->k, ROWS * sizeof(double), e)))
        return false;
    return t->rounding != ROUND_LEARNED || (w->learning = arena_array(scratch, t->k, LEARN_ARRAYS * ROWS * sizeof(float), e));
}

static bool set_up(struct job *j, struct arena *mem, struct arena *scratch, struct err *e)
{
    const struct reconstruct_task *t = j->t;
    size_t threads = j->pool ? (size_t)pool_threads(j->pool) : 1;
    if (!(j->r.codes = arena_array(mem, t->n, t->k, e)) || !(j->r.scale = arena_array(mem, t->n, sizeof(float), e))
        || !(j->r.zero = arena_array(mem, t->n, 1, e)) || !(j->r.target = arena_array(mem, t->n * t->k, sizeof(float), e))
        || !(j->order = arena_array(scratch, t->k, sizeof *j->order, e))
        || !(j->moments = arena_array(scratch, t->k * t->k, sizeof *j->moments, e))
        || !(j->factor = arena_array(scratch, t->k * t->k, sizeof *j->factor, e))
        || !(j->h = arena_array(scratch, t->k * t->k, sizeof *j->h, e))
        || !(j->weight = arena_array(scratch, t->k, sizeof *j->weight, e))
        || !(j->benches = arena_array(scratch, threads, sizeof *j->benches, e))
        || !(j->errors = arena_array(scratch, j->pieces, sizeof *j->errors, e))
        || !(j->weighed = arena_array(scratch, j->pieces, sizeof *j->weighed, e)))
        return false;
    for (size_t i = 0; i < threads; i++)
        if (!set_up_bench(&j->benches[i], t, scratch, e))
            return false;
    return true;
}

bool reconstruct(const struct reconstruct_task *t, struct pool *pool, struct arena *mem,
                 struct reconstruct_result *ret, struct err *e)
{
    if (!check_task(t, e))
        return false;
    struct job j = { .t = t, .pool = pool, .pieces = (t->n + ROWS - 1) / ROWS };
    struct arena *scratch = arena_new(UINT64_MAX / 2);
    if (!scratch)
        return err_set(e, ERR_MEMORY, "", "no memory to reconstruct weights");
    bool ok = set_up(&j, mem, scratch, e) && order_moments(&j, scratch, e) && find_target(&j, e)
              && prepare_moments(&j, scratch, e) && (t->per_row || choose_common_range(&j, e)) && run(&j, code_piece, e);
    if (ok) {
        add_errors(&j);
        *ret = j.r;
    }
    arena_free(scratch);
    return ok;
}
