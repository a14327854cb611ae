#include "core/quant/smooth.h"

#include "core/kernel/kernel.h"
#include "core/quant/quantizer.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { ALPHAS = 11, CHOICES = ALPHAS + 1 };        /* choice 0: no factors */

static const double least_weight = 1e-5, least_factor = 1e-5, most_factor = 1e8;

/* ---- factors ---- */

static size_t outputs_of(const struct smooth_task *t) { return t->n_readers ? t->readers[t->n_readers - 1].end : 0; }

static size_t group_of(const struct smooth_task *t, size_t channel) { return t->group ? (size_t)t->group[channel] : channel; }

/* The largest |x| and |W| of every group. */
static bool find_reach(const struct smooth_task *t, struct arena *mem, double *x, double *w, struct err *e)
{
    size_t channels = t->rows->channels;
    struct ranges columns;
    if (!ranges_new(channels, mem, &columns, e))
        return false;
    for (size_t c = 0; c < channels; c++) {
        columns.lo[c] = FLT_MAX;
        columns.hi[c] = -FLT_MAX;
    }
    range_of_columns(outputs_of(t), channels, t->w, columns.lo, columns.hi);
    for (size_t c = 0; c < channels; c++) {
        double *x_at = &x[group_of(t, c)], *w_at = &w[group_of(t, c)];
        *x_at = fmax(*x_at, fmax(fabs((double)t->full->lo[c]), fabs((double)t->full->hi[c])));
        *w_at = fmax(*w_at, fmax(fabs((double)columns.lo[c]), fabs((double)columns.hi[c])));
    }
    return true;
}

/* What max|x_j| counts as at least. */
static bool find_floor(const struct smooth_task *t, const double *x, size_t groups, struct arena *mem, double *ret, struct err *e)
{
    float *copy = t->floor > 0 ? arena_array(mem, groups, sizeof *copy, e) : NULL;
    *ret = 0;
    for (size_t i = 0; copy && i < groups; i++)
        copy[i] = (float)x[i];
    if (copy)
        *ret = (double)clip_select(groups, copy, (size_t)(t->floor * (double)(groups - 1)));
    return t->floor <= 0 || copy;
}

static double factor_of(double x, double w, double alpha)
{
    if (x == 0)
        return 1;
    double s = pow(x, alpha) / pow(fmax(w, least_weight), 1 - alpha);
    s = fmin(fmax(s, least_factor), most_factor);
    return w * s < 1e-3 * (double)FLT_MAX ? s : 1;
}

/* How wide groups are on either side; 0 stays 0. */
struct widths { double *x, *w; };

static bool find_widths(const struct smooth_task *t, struct arena *mem, struct widths *ret, struct err *e)
{
    size_t groups = t->group ? t->groups : t->rows->channels;
    double least;
    ret->x = arena_array(mem, groups, sizeof *ret->x, e);
    ret->w = arena_array(mem, groups, sizeof *ret->w, e);
    if (!ret->x || !ret->w || !find_reach(t, mem, ret->x, ret->w, e) || !find_floor(t, ret->x, groups, mem, &least, e))
        return false;
    for (size_t i = 0; i < groups; i++)
        ret->x[i] = ret->x[i] > 0 ? fmax(ret->x[i], least) : 0;
    return true;
}

static void make_factors(const struct smooth_task *t, const struct widths *of, double alpha, float *ret_s)
{
    for (size_t c = 0; c < t->rows->channels; c++)
        ret_s[c] = (float)factor_of(of->x[group_of(t, c)], of->w[group_of(t, c)], alpha);
}

bool smooth_factors(const struct smooth_task *t, double alpha, struct arena *mem, float *ret_s, struct err *e)
{
    struct widths widths;
    if (!find_widths(t, mem, &widths, e))
        return false;
    make_factors(t, &widths, alpha, ret_s);
    return true;
}

void smooth_range(const struct ranges *full, const float *s, size_t channels, float *ret_lo, float *ret_hi)
{
    float lo = 0, hi = 0;
    for (size_t c = 0; c < channels; c++) {
        lo = fminf(lo, full->lo[c] * (1 / s[c]));
        hi = fmaxf(hi, full->hi[c] * (1 / s[c]));
    }
    *ret_lo = lo;
    *ret_hi = hi;
}

/* ---- what factors cost at the output ---- */

struct bench { float *x, *w, *y, *inverse; };       /* of one thread; the last [channels], of the factors */

static bool bench_init(struct bench *b, const struct smooth_task *t, struct arena *mem, struct err *e)
{
    b->x = arena_scratch(mem, (uint64_t)t->rows->n * t->rows->channels, sizeof *b->x, e);
    b->w = arena_scratch(mem, (uint64_t)outputs_of(t) * t->rows->channels, sizeof *b->w, e);
    b->y = arena_scratch(mem, (uint64_t)t->rows->n * outputs_of(t), sizeof *b->y, e);
    b->inverse = arena_scratch(mem, t->rows->channels, sizeof *b->inverse, e);
    return b->x && b->w && b->y && b->inverse;
}

static void through(const struct affine *a, size_t n, float *x)
{
    quantize_to_float(n, x, a->scale, a->zero, a->qmin, a->qmax, x);
    for (size_t i = 0; i < n; i++)
        x[i] *= a->scale;
}

static struct affine row_quantizer(size_t n, const float *x, int bits)
{
    struct range r = RANGE_EMPTY;
    range_of(n, x, &r);
    return quantizer_from_range(r.lo, r.hi, bits, true);
}

static void quantize_rows(const struct smooth_task *t, const float *s, struct bench *b)
{
    size_t channels = t->rows->channels;
    float lo, hi;
    smooth_range(t->full, s, channels, &lo, &hi);
    struct affine all = quantizer_from_range(lo, hi, t->bits, t->symmetric);
    for (size_t c = 0; c < channels; c++)
        b->inverse[c] = 1 / s[c];
    for (size_t i = 0; i < t->rows->n; i++) {
        float *x = b->x + i * channels;
        vec_affine_row(1, channels, t->rows->x + i * channels, b->inverse, NULL, x);
        struct affine own = t->per_row ? row_quantizer(channels, x, t->bits) : all;
        through(&own, channels, x);
    }
}

/* Some rows of scaled weights [rows, channels], columns from..from + size, in place, with one range. */
static void round_block(const struct smooth_task *t, float *w, size_t rows, size_t from, size_t size, int bits, float unit)
{
    size_t channels = t->rows->channels;
    struct range r = { 0 };
    for (size_t i = 0; i < rows; i++)
        range_of(size, w + i * channels + from, &r);
    struct weight_range a = weight_range_of(r.lo, r.hi, bits, !t->asymmetric, unit);
    for (size_t i = 0; i < rows; i++) {
        float *row = w + i * channels + from;
        quantize_to_float(size, row, a.scale, 0, a.lo, a.hi, row);
        for (size_t c = 0; c < size; c++)
            row[c] *= a.scale;
    }
}

static void round_weights(const struct smooth_task *t, float *w, size_t rows, const struct smooth_reader *reader)
{
    size_t channels = t->rows->channels, group = reader->grid.group ? reader->grid.group : channels;
    struct range r = { 0 };
    float unit = 0;
    if (reader->grid.two_level) {
        range_of(rows * channels, w, &r);
        unit = weight_unit(r.hi > -r.lo ? r.hi : -r.lo);
    }
    for (size_t from = 0; from < channels; from += group)
        round_block(t, w, rows, from, group, reader->bits, unit);
}

static void quantize_weights(const struct smooth_task *t, const float *s, struct bench *b)
{
    size_t channels = t->rows->channels, outputs = outputs_of(t);
    for (size_t o = 0; o < outputs; o++)
        for (size_t c = 0; c < channels; c++)
            b->w[o * channels + c] = t->w[o * channels + c] * s[c];
    for (size_t r = 0, o = 0; r < t->n_readers; r++)
        while (o < t->readers[r].end) {
            size_t left = t->readers[r].end - o, wanted = t->readers[r].grid.rows, rows = wanted && wanted < left ? wanted : left;
            round_weights(t, b->w + o * channels, rows, &t->readers[r]);
            o += rows;
        }
}

/* y [rows, outputs]: what is wanted. */
static double error_of(const struct smooth_task *t, const float *s, const float *y, struct bench *b)
{
    size_t channels = t->rows->channels, outputs = outputs_of(t), n = t->rows->n * outputs;
    quantize_rows(t, s, b);
    quantize_weights(t, s, b);
    for (size_t i = 0; i < n; i++)
        b->y[i] = -y[i];
    gemm(false, true, t->rows->n, outputs, channels, b->x, channels, b->w, channels, true, b->y, outputs);
    return sum_of_squares(n, b->y);
}

/* What the layers give in float, some rows a piece. */
enum { ROWS_AT_ONCE = 128 };

struct wanted { const struct smooth_task *t; float *y; };

static bool want_some(void *arg, size_t piece, int thread, struct err *e)
{
    const struct wanted *s = arg;
    const struct rows *r = s->t->rows;
    size_t outputs = outputs_of(s->t), first = piece * ROWS_AT_ONCE, n = r->n - first < ROWS_AT_ONCE ? r->n - first : ROWS_AT_ONCE;
    (void)thread, (void)e;
    gemm(false, true, n, outputs, r->channels, r->x + first * r->channels, r->channels, s->t->w, r->channels, false,
         s->y + first * outputs, outputs);
    return true;
}

static float *outputs_wanted(const struct smooth_task *t, struct pool *pool, struct arena *mem, struct err *e)
{
    struct wanted s = { t, arena_scratch(mem, (uint64_t)t->rows->n * outputs_of(t), sizeof *s.y, e) };
    size_t pieces = (t->rows->n + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    return s.y && pool_run(pool, pieces, want_some, &s, e) ? s.y : NULL;
}

bool smooth_error(const struct smooth_task *t, const float *s, struct arena *mem, double *ret, struct err *e)
{
    struct bench b;
    float *y = outputs_wanted(t, NULL, mem, e);
    if (!y || !bench_init(&b, t, mem, e))
        return false;
    *ret = error_of(t, s, y, &b);
    return true;
}

/* ---- the search ---- */

/* Most alphas are far off, and a quarter of the rows shows it: all are judged on those, the best few on all rows. */
enum { THIN = 4, FINALISTS = 3, FEWEST_ROWS = 64 };

struct search {
    const struct smooth_task *t;
    const float *y;
    float *s[CHOICES];
    double error[CHOICES];                         /* INFINITY: not judged on all rows */
    struct bench *bench;                           /* [threads] */
    const size_t *turn;                            /* of a piece: its choice */
};

static double alpha_of(size_t choice) { return ((double)choice - 1) / (ALPHAS - 1); }

static bool judge(void *arg, size_t piece, int thread, struct err *e)
{
    struct search *s = arg;
    size_t choice = s->turn[piece];
    (void)e;
    s->error[choice] = error_of(s->t, s->s[choice], s->y, &s->bench[thread]);
    return true;
}

static bool search_init(struct search *s, struct pool *pool, struct arena *mem, struct err *e)
{
    int threads = pool_threads(pool);
    size_t channels = s->t->rows->channels;
    struct widths widths;
    s->y = outputs_wanted(s->t, pool, mem, e);
    s->bench = arena_array(mem, (uint64_t)threads, sizeof *s->bench, e);
    if (!s->y || !s->bench || !find_widths(s->t, mem, &widths, e))
        return false;
    for (int i = 0; i < threads; i++)
        if (!bench_init(&s->bench[i], s->t, mem, e))
            return false;
    for (size_t i = 0; i < CHOICES; i++) {
        s->s[i] = arena_array(mem, channels, sizeof *s->s[i], e);
        if (!s->s[i])
            return false;
        make_factors(s->t, &widths, alpha_of(i), s->s[i]);
        for (size_t c = 0; c < channels && i == 0; c++)
            s->s[i][c] = 1;
    }
    return true;
}

/* Every THIN-th row of x and y. */
static bool thin_rows(const struct search *s, struct arena *mem, struct rows *ret, float **ret_y, struct err *e)
{
    const struct rows *all = s->t->rows;
    size_t n = all->n / THIN, outputs = outputs_of(s->t);
    float *x = arena_scratch(mem, (uint64_t)n * all->channels, sizeof *x, e);
    *ret_y = arena_scratch(mem, (uint64_t)n * outputs, sizeof **ret_y, e);
    for (size_t i = 0; x && *ret_y && i < n; i++) {
        memcpy(x + i * all->channels, all->x + THIN * i * all->channels, all->channels * sizeof *x);
        memcpy(*ret_y + i * outputs, s->y + THIN * i * outputs, outputs * sizeof **ret_y);
    }
    *ret = (struct rows){ .x = x, .n = n, .channels = all->channels };
    return x && *ret_y;
}

/* The FINALISTS best alphas by error; of equals the first. */
static void pick_finalists(const double *error, size_t *ret)
{
    bool taken[CHOICES] = { true };                /* choice 0 is no alpha */
    for (size_t n = 0; n < FINALISTS; n++) {
        size_t best = 0;
        for (size_t i = 1; i < CHOICES; i++)
            if (!taken[i] && (best == 0 || error[i] < error[best]))
                best = i;
        taken[best] = true;
        ret[n] = best;
    }
}

/* Leaves the errors of those worth looking at, and of no factors at all. */
static bool judge_all(struct search *s, struct pool *pool, struct arena *mem, struct err *e)
{
    size_t turn[CHOICES], n = CHOICES;
    for (size_t i = 0; i < CHOICES; i++) {
        turn[i] = i;
        s->error[i] = INFINITY;
    }
    s->turn = turn;
    if (s->t->rows->n >= THIN * FEWEST_ROWS) {
        struct smooth_task thin = *s->t;
        struct search first = *s;
        struct rows few;
        float *y;
        if (!thin_rows(s, mem, &few, &y, e))
            return false;
        thin.rows = &few;
        first.t = &thin;
        first.y = y;
        if (!pool_run(pool, CHOICES, judge, &first, e))
            return false;
        pick_finalists(first.error, turn + 1);
        n = FINALISTS + 1;
    }
    return pool_run(pool, n, judge, s, e);
}

bool smooth_search(const struct smooth_task *t, double worth, struct pool *pool, struct arena *mem, float *ret_s, double *ret_alpha,
                   struct err *e)
{
    struct search s = { .t = t };
    size_t best = 1;
    if (!search_init(&s, pool, mem, e) || !judge_all(&s, pool, mem, e))
        return false;
    for (size_t i = 2; i < CHOICES; i++)
        best = s.error[i] < s.error[best] ? i : best;
    if (!(s.error[best] < worth * s.error[0]))
        best = 0;
    memcpy(ret_s, s.s[best], t->rows->channels * sizeof *ret_s);
    *ret_alpha = best ? alpha_of(best) : SMOOTH_NONE;
    return true;
}
