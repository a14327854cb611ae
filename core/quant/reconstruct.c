/*
 * Everything is divided by m, the mean of H's diagonal, so that floats hold it whatever the units of a are; errors
 * are multiplied back.  Rows are independent once Hd and its factor are there: blocks of ROWS are the pieces of work.
 */
#include "core/quant/reconstruct_job.h"
#include "core/kernel/kernel.h"
#include "core/kernel/linalg.h"
#include "core/quant/quantizer.h"
#include "core/quant/row_block.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_RIDGE = 1e-6, LEAST_RAISE = 1e-6, MOST_RAISE = 1e3;
enum { LEARN_ARRAYS = 5 };

bool job_run(struct reconstruct_job *j, pool_fn *fn, struct err *e) { return pool_run(j->pool, j->pieces, fn, j, e); }

size_t job_rows(const struct reconstruct_job *j, size_t piece)
{
    size_t left = j->t->n - piece * ROWS;
    return left < ROWS ? left : ROWS;
}

/* Some rows of a matrix [k, k] at a time. */
enum { TILE = 64 };
static bool run_tiles(struct reconstruct_job *j, pool_fn *fn, struct err *e)
{
    return pool_run(j->pool, (j->t->k + TILE - 1) / TILE, fn, j, e);
}

static size_t tile_end(const struct reconstruct_job *j, size_t tile)
{
    return j->t->k - tile * TILE < TILE ? j->t->k : (tile + 1) * TILE;
}

/* An input that never varies counts as an average one. */
static bool moments_tile(void *arg, size_t tile, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    struct reconstruct_job *j = arg;
    size_t k = j->t->k;
    for (size_t i = tile * TILE; i < tile_end(j, tile); i++) {
        const double *h = j->t->h + j->order[i] * k;
        for (size_t l = i; l < k; l++) {
            double x = h[j->order[l]];
            j->moments[i * k + l] = i == l && x == 0 ? 1 : x / j->m;
        }
    }
    return true;
}

/* The upper triangle of H / m + extra I. */
static void fill_damped(const struct reconstruct_job *j, double extra, double *ret)
{
    size_t k = j->t->k;
    memcpy(ret, j->moments, k * k * sizeof *ret);
    for (size_t i = 0; i < k; i++)
        ret[i * k + i] += extra;
}

/* Factors H / m + extra I, with extra raised as far as it takes; f->ok is false if nothing helps. */
static void factor(const struct reconstruct_job *j, struct factoring *f)
{
    for (double try = f->extra, last = fmax(try, MOST_RAISE); f->fn && !f->ok && try <= last; try = fmax(10 * try, LEAST_RAISE)) {
        fill_damped(j, try, f->a);
        f->ok = f->fn(j->t->k, f->a);
        f->extra = f->ok ? try : f->extra;
    }
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
    bool divides = t->grid.group == 0 || (t->k % t->grid.group == 0 && t->grid.rows == 1);
    if (t->n < 1 || t->k < 1 || t->k > 46340 || t->bits < 2 || t->bits > 8 || !(t->damping >= 0) || !(t->ridge >= 0) || !divides)
        return err_set(e, ERR_BUG, "reconstruct", "%zux%zu weights, %d bits, damping %g, ridge %g, groups of %zu: not a task",
                       t->n, t->k, t->bits, t->damping, t->ridge, t->grid.group);
    if (!all_finite_f(t->n * t->k, t->v))
        return err_set(e, ERR_NUMERIC_NONFINITE, "", "a weight is NaN or infinite; export a trained model");
    bool moments = (!t->c || all_finite(t->n * t->k, t->c)) && all_finite(t->k * t->k, t->h);
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

static bool order_moments(struct reconstruct_job *j, struct arena *scratch, struct err *e)
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
    for (size_t i = 0; i < t->k; i++) {
        j->order[i] = places[i].column;
        j->at[i] = places[i].column / (t->k / j->groups) * ROWS;
    }
    if (!(j->m > 0))
        j->m = 1;
    return run_tiles(j, moments_tile, e);
}

/* ---- 1. the target ---- */

/* V* = (C + ridge m V)(H + ridge m I)^-1: the same as in the header, without the product V H. */
static void solve_rows(const struct reconstruct_job *j, size_t piece, double *rows)
{
    size_t k = j->t->k, first = piece * ROWS, n = job_rows(j, piece);
    const float *v = j->t->v + first * k;
    const double *c = j->t->c + first * k;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++) {
            size_t at = r * k + j->order[i];
            rows[r * k + i] = c[at] / j->m + j->r.ridge * (double)v[at];
        }
    cholesky_solve(k, j->factoring[OF_TARGET].a, n, rows, k);
    float *to = j->r.target + first * k;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++)
            to[r * k + j->order[i]] = (float)rows[r * k + i];
}

/* What an input that never varies keeps of its weight: all, or nothing where it was always 0.  The regression knows nothing of it. */
static void set_constant(const struct reconstruct_task *t, size_t i, size_t first, size_t n, float *to)
{
    bool zero = !t->mean || t->mean[i] == 0;
    for (size_t r = 0; r < n; r++)
        to[r * t->k + i] = zero ? 0 : t->v[(first + r) * t->k + i];
}

static bool target_piece(struct reconstruct_job *j, size_t piece, int thread, struct err *e)
{
    size_t k = j->t->k, n = job_rows(j, piece);
    float *to = j->r.target + piece * ROWS * k;
    if (j->r.ridge > 0)
        solve_rows(j, piece, j->benches[thread].rows);
    else
        memcpy(to, j->t->v + piece * ROWS * k, n * k * sizeof *to);
    for (size_t i = 0; i < k; i++)
        if (j->t->h[i * k + i] == 0)
            set_constant(j->t, i, piece * ROWS, n, to);
    return all_finite_f(n * k, to) || err_set(e, ERR_NUMERIC_NONFINITE, "", "the regression overflows; use a larger ridge");
}

static void tell_factored(struct reconstruct_job *j)
{
    const struct factoring *f = &j->factoring[OF_TARGET];
    j->r.fell_back = f->fn && !f->ok;
    j->r.ridge = f->ok ? f->extra : 0;
    pthread_mutex_lock(&j->mu);
    j->factored = true;
    pthread_cond_broadcast(&j->told);
    pthread_mutex_unlock(&j->mu);
}

static void wait_factored(struct reconstruct_job *j)
{
    pthread_mutex_lock(&j->mu);
    while (!j->factored)
        pthread_cond_wait(&j->told, &j->mu);
    pthread_mutex_unlock(&j->mu);
}

/* The target's rows need one factorization and can be solved while the other still runs: pieces begin in order, so the first is under way. */
static bool factor_or_solve(void *arg, size_t piece, int thread, struct err *e)
{
    struct reconstruct_job *j = arg;
    if (piece < FACTORINGS) {
        factor(j, &j->factoring[piece]);
        if (piece == OF_TARGET)
            tell_factored(j);
        return true;
    }
    wait_factored(j);
    return target_piece(j, piece - FACTORINGS, thread, e);
}

static bool find_target(struct reconstruct_job *j, struct err *e)
{
    pthread_mutex_init(&j->mu, NULL);
    pthread_cond_init(&j->told, NULL);
    bool ok = pool_run(j->pool, FACTORINGS + j->pieces, factor_or_solve, j, e);
    pthread_mutex_destroy(&j->mu);
    pthread_cond_destroy(&j->told);
    return ok;
}

/* ---- 3 and 4. codes ---- */

static double sum_of(const double x[ROWS])
{
    double sum = 0;
    for (size_t r = 0; r < ROWS; r++)
        sum += x[r];
    return sum;
}

static void round_better(struct reconstruct_job *j, struct reconstruct_bench *w, double error[ROWS])
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

static void descend(const struct reconstruct_job *j, struct row_block *b)
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

static void store(struct reconstruct_job *j, const struct row_block *b, size_t piece)
{
    size_t k = j->t->k, first = piece * ROWS;
    for (size_t r = 0; r < job_rows(j, piece); r++)
        for (size_t i = 0; i < k; i++)
            j->r.codes[(first + r) * k + j->order[i]] = (int8_t)((int)b->q[i * ROWS + r] + j->r.zero[(first + r) * j->groups + j->at[i] / ROWS]);
}

static bool code_piece(void *arg, size_t piece, int thread, struct err *e)
{
    (void)e;
    struct reconstruct_job *j = arg;
    struct row_block *b = job_load(j, piece, thread);
    double error[ROWS];
    job_find_ranges(j, &j->benches[thread], piece);
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

/* Rows of Hd, whole and in float, and for GPTQ of its factor. */
static bool float_tile(void *arg, size_t tile, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    struct reconstruct_job *j = arg;
    size_t k = j->t->k, first = tile * TILE, end = tile_end(j, tile);
    for (size_t l = 0; l < end; l++)       /* left of the diagonal: a column above it */
        for (size_t i = l < first ? first : l + 1; i < end; i++)
            j->h[i * k + l] = (float)j->moments[l * k + i];
    for (size_t i = first; i < end; i++) {
        for (size_t l = i; l < k; l++)
            j->h[i * k + l] = (float)(l == i ? j->moments[i * k + i] + j->r.damping : j->moments[i * k + l]);
        j->weight[i] = fmaxf(j->h[i * k + i], 0);
        for (size_t l = 0; j->u && l < k; l++)
            j->u[i * k + l] = (float)j->factoring[OF_INVERSE].a[i * k + l];
    }
    return true;
}

static bool prepare_moments(struct reconstruct_job *j, struct arena *scratch, struct err *e)
{
    size_t k = j->t->k;
    const struct factoring *f = &j->factoring[OF_INVERSE];
    j->r.damping = j->t->damping;
    if (f->fn && !j->r.fell_back) {
        if (!(j->u = arena_scratch(scratch, k * k, sizeof *j->u, e)))
            return false;
        j->r.fell_back = !f->ok;
        j->r.damping = f->extra;
    }
    if (!run_tiles(j, float_tile, e))
        return false;
    for (size_t i = 0; i < k; i++)
        j->r.fell_back = j->r.fell_back || !(j->h[i * k + i] > 0);
    return true;
}

static void add_errors(struct reconstruct_job *j)
{
    double *sums[] = { &j->r.error_nearest, &j->r.error_rounded, &j->r.error_final };
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < j->pieces; i++)
            *sums[s] += j->errors[i][s] * j->m;
}

/* ---- memory ---- */

static bool set_up_ranges(struct reconstruct_bench *w, const struct reconstruct_job *j, struct arena *scratch, struct err *e)
{
    struct row_block *b = &w->block;
    float **arrays[] = { &b->scale, &b->lo, &b->hi };
    b->groups = j->groups;
    b->at = j->at;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        if (!(*arrays[i] = arena_array(scratch, j->groups, ROWS * sizeof(float), e)))
            return false;
    w->sum = arena_array(scratch, j->groups, ROWS * sizeof *w->sum, e);
    w->least = arena_array(scratch, j->groups, ROWS * sizeof *w->least, e);
    w->best = arena_array(scratch, j->groups, ROWS * sizeof *w->best, e);
    return w->sum && w->least && w->best;
}

static bool set_up_bench(struct reconstruct_bench *w, const struct reconstruct_job *j, struct arena *scratch, struct err *e)
{
    const struct reconstruct_task *t = j->t;
    struct row_block *b = &w->block;
    float **arrays[] = { &b->v, &b->q, &b->e, &b->g, &b->work, &b->best };
    b->k = t->k;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        if (!(*arrays[i] = arena_array(scratch, t->k, ROWS * sizeof(float), e)))
            return false;
    if (!set_up_ranges(w, j, scratch, e))
        return false;
    if (t->c && !(w->rows = arena_array(scratch, t->k, ROWS * sizeof(double), e)))
        return false;
    return t->rounding != ROUND_LEARNED || (w->learning = arena_array(scratch, t->k, LEARN_ARRAYS * ROWS * sizeof(float), e));
}

static bool set_up_factors(struct reconstruct_job *j, struct arena *scratch, struct err *e)
{
    const struct reconstruct_task *t = j->t;
    j->factoring[OF_TARGET] = (struct factoring){ .fn = t->c ? cholesky : NULL, .extra = fmax(t->ridge, LEAST_RIDGE) };
    j->factoring[OF_INVERSE] = (struct factoring){ .fn = t->rounding == ROUND_GPTQ ? inverse_factor : NULL, .extra = t->damping };
    for (size_t i = 0; i < FACTORINGS; i++)
        if ((i == OF_TARGET || j->factoring[i].fn)
            && !(j->factoring[i].a = arena_scratch(scratch, t->k * t->k, sizeof(double), e)))
            return false;
    return true;
}

static bool set_up(struct reconstruct_job *j, struct arena *mem, struct arena *scratch, struct err *e)
{
    const struct reconstruct_task *t = j->t;
    size_t threads = (size_t)pool_threads(j->pool);
    size_t ranges = t->n * j->groups;
    j->r.groups = j->groups;
    if (!(j->r.codes = arena_scratch(mem, t->n, t->k, e)) || !(j->r.scale = arena_array(mem, ranges, sizeof(float), e))
        || !(j->r.zero = arena_array(mem, ranges, 1, e)) || !(j->r.target = arena_scratch(mem, t->n * t->k, sizeof(float), e))
        || !(j->r.step = arena_array(mem, ranges, 1, e)) || !(j->r.unit = arena_array(mem, t->n, sizeof(float), e))
        || !(j->lo = arena_array(scratch, ranges, sizeof *j->lo, e)) || !(j->hi = arena_array(scratch, ranges, sizeof *j->hi, e))
        || !(j->chosen = arena_array(scratch, t->n, sizeof *j->chosen, e)) || !(j->at = arena_array(scratch, t->k, sizeof *j->at, e))
        || !(j->order = arena_array(scratch, t->k, sizeof *j->order, e))
        || !(j->moments = arena_array(scratch, t->k * t->k, sizeof *j->moments, e))
        || !set_up_factors(j, scratch, e)
        || !(j->h = arena_scratch(scratch, t->k * t->k, sizeof *j->h, e))
        || !(j->weight = arena_array(scratch, t->k, sizeof *j->weight, e))
        || !(j->benches = arena_array(scratch, threads, sizeof *j->benches, e))
        || !(j->errors = arena_array(scratch, j->pieces, sizeof *j->errors, e))
        || (job_shares_ranges(j) && t->search && !(j->weighed = arena_array(scratch, t->n, sizeof *j->weighed, e))))
        return false;
    for (size_t i = 0; i < threads; i++)
        if (!set_up_bench(&j->benches[i], j, scratch, e))
            return false;
    return true;
}

bool reconstruct(const struct reconstruct_task *t, struct pool *pool, struct arena *mem,
                 struct reconstruct_result *ret, struct err *e)
{
    if (!check_task(t, e))
        return false;
    struct reconstruct_job j = { .t = t, .pool = pool, .pieces = (t->n + ROWS - 1) / ROWS, .groups = t->grid.group ? t->k / t->grid.group : 1 };
    struct arena *scratch = arena_new(UINT64_MAX / 2);
    if (!scratch)
        return err_set(e, ERR_MEMORY, "", "no memory to reconstruct weights");
    bool ok = set_up(&j, mem, scratch, e) && order_moments(&j, scratch, e)
           && find_target(&j, e) && prepare_moments(&j, scratch, e);
    if (ok)
        job_cover_rows(&j);
    ok = ok && job_choose_factors(&j, e) && job_run(&j, code_piece, e);
    if (ok) {
        add_errors(&j);
        *ret = j.r;
    }
    arena_free(scratch);
    return ok;
}
