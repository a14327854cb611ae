/* reconstruct_ranges.c - the second step: what shares a range, and how much each is shrunk. */
#include "core/kernel/kernel.h"
#include "core/quant/reconstruct_job.h"

#include <math.h>
#include <string.h>

static const double LEAST_FACTOR = 0.4;

/* Takes a piece's rows of the target into the thread's block. */
struct row_block *job_load(struct reconstruct_job *j, size_t piece, int thread)
{
    struct row_block *b = &j->benches[thread].block;
    size_t k = j->t->k, n = job_rows(j, piece);
    const float *from = j->r.target + piece * ROWS * k;
    b->h = j->h;
    for (size_t i = 0; i < k; i++)
        for (size_t r = 0; r < ROWS; r++)
            b->v[i * ROWS + r] = r < n ? from[r * k + j->order[i]] : 0;
    return b;
}

bool job_shares_ranges(const struct reconstruct_job *j) { return j->t->grid.rows != 1; }

/* The range of one row and group, shrunk; a row beyond the last is one of zeros. */
static struct weight_range range_at(const struct reconstruct_job *j, size_t row, size_t group, int factor)
{
    float shrink = (float)(1 - (1 - LEAST_FACTOR) * factor / (FACTORS - 1));
    size_t at = row * j->groups + group;
    if (row >= j->t->n)
        return weight_range_of(0, 0, j->t->bits, j->t->symmetric, 0);
    return weight_range_of(j->lo[at] * shrink, j->hi[at] * shrink, j->t->bits, j->t->symmetric, j->t->grid.two_level ? j->r.unit[row] : 0);
}

static void set_range(const struct reconstruct_job *j, struct row_block *b, size_t piece, size_t r, size_t group, int factor)
{
    struct weight_range range = range_at(j, piece * ROWS + r, group, factor);
    size_t at = group * ROWS + r;
    b->scale[at] = range.scale;
    b->lo[at] = (float)range.lo;
    b->hi[at] = (float)range.hi;
}

static void cover(const float *x, size_t n, float *lo, float *hi)
{
    struct range r = { 0 };    /* a range holds 0 */
    range_of(n, x, &r);
    *lo = fminf(*lo, r.lo);
    *hi = fmaxf(*hi, r.hi);
}

/* Rows that share a range cover what any of them does. */
static void cover_runs(struct reconstruct_job *j)
{
    size_t n = j->t->n, k = j->t->k, rows = j->t->grid.rows ? j->t->grid.rows : n;
    for (size_t row = 0; row < n; row++)
        cover(j->r.target + row * k, k, &j->lo[row / rows * rows], &j->hi[row / rows * rows]);
    for (size_t row = 0; row < n; row++) {
        j->lo[row] = j->lo[row / rows * rows];
        j->hi[row] = j->hi[row / rows * rows];
    }
}

void job_cover_rows(struct reconstruct_job *j)
{
    size_t size = j->t->k / j->groups;
    if (job_shares_ranges(j)) {
        cover_runs(j);
        return;
    }
    for (size_t row = 0; row < j->t->n; row++) {
        float reach = 0;
        for (size_t g = 0; g < j->groups; g++) {
            size_t at = row * j->groups + g;
            cover(j->r.target + at * size, size, &j->lo[at], &j->hi[at]);
            reach = fmaxf(reach, fmaxf(-j->lo[at], j->hi[at]));
        }
        j->r.unit[row] = weight_unit(reach);
    }
}

static int factors(const struct reconstruct_job *j) { return j->t->search ? FACTORS : 1; }

/* Weighted errors of the block with all ranges shrunk by one factor, in w->sum. */
static void weigh_factor(const struct reconstruct_job *j, struct reconstruct_bench *w, size_t piece, int factor)
{
    memset(w->sum, 0, j->groups * ROWS * sizeof *w->sum);
    for (size_t g = 0; g < j->groups; g++)
        for (size_t r = 0; r < ROWS; r++)
            set_range(j, &w->block, piece, r, g, factor);
    row_block_weigh(&w->block, j->weight, w->sum);
}

/* The best factor of every row and group. */
static void find_factors(const struct reconstruct_job *j, struct reconstruct_bench *w, size_t piece)
{
    for (int f = 0; f < factors(j); f++) {
        weigh_factor(j, w, piece, f);
        for (size_t i = 0; i < j->groups * ROWS; i++)
            if (f == 0 || w->sum[i] < w->least[i]) {
                w->least[i] = w->sum[i];
                w->best[i] = f;
            }
    }
}

static bool weigh_piece(void *arg, size_t piece, int thread, struct err *e)
{
    struct reconstruct_job *j = arg;
    struct reconstruct_bench *w = &j->benches[thread];
    (void)e;
    job_load(j, piece, thread);
    for (int f = 0; f < FACTORS; f++) {
        weigh_factor(j, w, piece, f);
        for (size_t r = 0; r < job_rows(j, piece); r++)
            j->weighed[piece * ROWS + r][f] = w->sum[r];
    }
    return true;
}

/* The factor of rows first .. end - 1. */
static int best_factor(const struct reconstruct_job *j, size_t first, size_t end)
{
    double least = INFINITY;
    int best = 0;
    for (int f = 0; f < FACTORS; f++) {
        double sum = 0;
        for (size_t row = first; row < end; row++)
            sum += j->weighed[row][f];
        if (sum < least) {
            least = sum;
            best = f;
        }
    }
    return best;
}

bool job_choose_factors(struct reconstruct_job *j, struct err *e)
{
    size_t n = j->t->n, rows = j->t->grid.rows ? j->t->grid.rows : n;
    if (!job_shares_ranges(j) || !j->t->search)
        return true;
    if (!job_run(j, weigh_piece, e))
        return false;
    for (size_t first = 0; first < n; first += rows) {
        size_t end = n - first < rows ? n : first + rows;
        j->chosen[first] = best_factor(j, first, end);
        for (size_t row = first; row < end; row++)
            j->chosen[row] = j->chosen[first];
    }
    return true;
}

static int factor_of(const struct reconstruct_job *j, const struct reconstruct_bench *w, size_t row, size_t group)
{
    if (!j->t->search)
        return 0;
    return !job_shares_ranges(j) ? w->best[group * ROWS + row % ROWS] : row < j->t->n ? j->chosen[row] : 0;
}

void job_find_ranges(struct reconstruct_job *j, struct reconstruct_bench *w, size_t piece)
{
    if (!job_shares_ranges(j) && j->t->search)
        find_factors(j, w, piece);
    for (size_t g = 0; g < j->groups; g++)
        for (size_t r = 0; r < ROWS; r++) {
            size_t row = piece * ROWS + r, at = row * j->groups + g;
            int factor = factor_of(j, w, row, g);
            set_range(j, &w->block, piece, r, g, factor);
            if (row >= j->t->n)
                continue;
            struct weight_range range = range_at(j, row, g, factor);
            j->r.scale[at] = range.scale;
            j->r.zero[at] = (int8_t)range.zero;
            j->r.step[at] = (uint8_t)range.step;
        }
}
