/*
 * moments.c - LOCKING  g->mu guards `turn` and the sums of floats: the chunk whose turn it is adds its own, then
 * lets the next one go.  Everything else belongs to one thread (its member) or to one chunk.
 */
#include "core/sweep/moments.h"

#include "core/kernel/kernel.h"
#include "core/kernel/linalg.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_ROWS = 512, MAX_LAYERS = 64 };

/* The layers of one site. */
struct group {
    int site;
    int layer[MAX_LAYERS];         /* numbers in the sweep */
    int n_layers;
    size_t k, n;                   /* n: outputs of all its layers */
    bool by_input;                 /* cov(x, a) is smaller than cov(y, a) and gives it */
    double *x_sum, *y_sum, *cross; /* [k], [n], [by_input ? k : n, k]: sums of floats */
    double *c, *mean_y;            /* [n,k], [n] once finished */
    double *mean, *h;
    const float **rows;            /* [n_layers]: weights [n,k] */
};

/* What one thread works with, for the largest group. */
struct member {
    double **gram, **code_sum;     /* [groups]: [k,k], [k] */
    float *codes, *mix, *y, *cross, *scratch;
};

struct gathering {
    const struct sweep_task *t;
    const struct sweep *s;
    struct arena *mem;
    struct group *groups;
    int n_groups;
    struct member *members;
    int64_t *n_rows;               /* [groups] */
    pthread_mutex_t mu;
    pthread_cond_t next;
    int turn;
};

/* ---- what to gather ---- */

static bool wanted(const struct sweep_task *t, const struct sweep *s, const struct sweep_layer *l, int to)
{
    return sweep_gathers(t, l) && !l->w.codes && s->sites[l->x].decided
        && s->sites[l->x].made_at < to && l->l->node >= to;
}

static bool is_conv(const struct gathering *g, const struct group *q) { return g->s->layers[q->layer[0]].l->kind == LAYER_CONV; }

/* Linears on one site have rows in common; a convolution's rows are its own windows. */
static struct group *group_of(struct gathering *g, const struct sweep_layer *l)
{
    for (int i = 0; i < g->n_groups && l->l->kind == LAYER_LINEAR; i++)
        if (g->groups[i].site == l->x && !is_conv(g, &g->groups[i]))
            return &g->groups[i];
    g->groups[g->n_groups] = (struct group){ .site = l->x };
    return &g->groups[g->n_groups++];
}

static bool residual_of(const struct gathering *g, const struct group *q)
{
    for (int i = 0; i < q->n_layers; i++)
        if (g->s->layers[q->layer[i]].residual >= 0)
            return true;
    return false;
}

/* Of the sums of products with codes. */
static size_t cross_rows(const struct group *q) { return q->by_input ? q->k : q->n; }

static bool group_alloc(struct gathering *g, struct group *q, struct err *e)
{
    q->by_input = !is_conv(g, q) && !residual_of(g, q) && q->n >= q->k;
    q->x_sum = arena_array(g->mem, q->k, sizeof(double), e);
    q->y_sum = arena_array(g->mem, q->n, sizeof(double), e);
    q->cross = arena_array(g->mem, cross_rows(q) * q->k, sizeof(double), e);
    q->c = q->by_input ? arena_scratch(g->mem, q->n * q->k, sizeof(double), e) : q->cross;
    q->mean_y = arena_array(g->mem, q->n, sizeof(double), e);
    q->mean = arena_array(g->mem, q->k, sizeof(double), e);
    q->h = arena_array(g->mem, q->k * q->k, sizeof(double), e);
    q->rows = arena_array(g->mem, (uint64_t)q->n_layers, sizeof *q->rows, e);
    if (!q->x_sum || !q->y_sum || !q->cross || !q->c || !q->mean_y || !q->mean || !q->h || !q->rows)
        return false;
    for (int i = 0; i < q->n_layers; i++) {
        const struct layer *l = g->s->layers[q->layer[i]].l;
        float *rows = arena_scratch(g->mem, (uint64_t)l->n * (uint64_t)l->k, sizeof *rows, e);
        if (!rows || !weight_rows(g->t->g, l, rows, e))
            return false;
        q->rows[i] = rows;
    }
    return true;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static bool member_alloc(struct gathering *g, struct member *m, struct err *e)
{
    size_t k = 1, n = 1, cross = 1;
    m->gram = arena_array(g->mem, (uint64_t)g->n_groups, sizeof *m->gram, e);
    m->code_sum = arena_array(g->mem, (uint64_t)g->n_groups, sizeof *m->code_sum, e);
    if (!m->gram || !m->code_sum)
        return false;
    for (int i = 0; i < g->n_groups; i++) {
        const struct group *q = &g->groups[i];
        k = larger(k, q->k);
        n = larger(n, q->n);
        cross = larger(cross, cross_rows(q) * q->k);
        m->gram[i] = arena_array(g->mem, q->k * q->k, sizeof(double), e);
        m->code_sum[i] = arena_array(g->mem, q->k, sizeof(double), e);
        if (!m->gram[i] || !m->code_sum[i])
            return false;
    }
    m->codes = arena_scratch(g->mem, BLOCK_ROWS * k, sizeof(float), e);
    m->mix = arena_scratch(g->mem, BLOCK_ROWS * k, sizeof(float), e);
    m->y = arena_scratch(g->mem, BLOCK_ROWS * n, sizeof(float), e);
    m->cross = arena_scratch(g->mem, cross, sizeof(float), e);
    m->scratch = arena_array(g->mem, k * k, sizeof(float), e);
    return m->codes && m->mix && m->y && m->cross && m->scratch;
}

static bool list_groups(struct gathering *g, int to, struct err *e)
{
    for (int i = 0; i < g->s->n_layers; i++) {
        const struct sweep_layer *l = &g->s->layers[i];
        if (!wanted(g->t, g->s, l, to))
            continue;
        struct group *q = group_of(g, l);
        if (q->n_layers == MAX_LAYERS)
            return err_set(e, ERR_MODEL_LIMIT, l->l->name, "more than %d layers read the same tensor", MAX_LAYERS);
        q->layer[q->n_layers++] = i;
        q->k = (size_t)l->l->k;
        q->n += (size_t)l->l->n;
    }
    for (int i = 0; i < g->n_groups; i++)
        if (!group_alloc(g, &g->groups[i], e))
            return false;
    return true;
}

bool gathering_new(const struct sweep_task *t, const struct sweep *s, int to, struct gathering **ret, struct err *e)
{
    int n = 0;
    *ret = NULL;
    for (int i = 0; i < s->n_layers; i++)
        n += wanted(t, s, &s->layers[i], to);
    if (n == 0)
        return true;
    struct gathering *g = calloc(1, sizeof *g);
    if (!g || !(g->mem = arena_new(UINT64_MAX / 2))) {
        free(g);
        return err_set(e, ERR_MEMORY, "", "no memory for the moments of %d layers", n);
    }
    *ret = g;
    g->t = t;
    g->s = s;
    pthread_mutex_init(&g->mu, NULL);
    pthread_cond_init(&g->next, NULL);
    g->groups = arena_array(g->mem, (uint64_t)n, sizeof *g->groups, e);
    g->members = arena_array(g->mem, (uint64_t)pool_threads(t->pool), sizeof *g->members, e);
    g->n_rows = arena_array(g->mem, (uint64_t)n, sizeof *g->n_rows, e);
    bool ok = g->groups && g->members && g->n_rows && list_groups(g, to, e);
    for (int i = 0; ok && i < pool_threads(t->pool); i++)
        ok = member_alloc(g, &g->members[i], e);
    return ok;
}

void gathering_free(struct gathering *g)
{
    if (!g)
        return;
    pthread_mutex_destroy(&g->mu);
    pthread_cond_destroy(&g->next);
    arena_free(g->mem);
    free(g);
}

int gathering_layers(const struct gathering *g)
{
    int n = 0;
    for (int i = 0; g && i < g->n_groups; i++)
        n += g->groups[i].n_layers;
    return n;
}

/* ---- adding a chunk ---- */

/* Codes are moved so that they lie around zero: the exact sums may then be longer. */
static int centre_of(const struct affine *a) { return a->dtype == DT_U8 ? (a->qmin + a->qmax + 1) / 2 - a->zero : 0; }

/* One block of rows: codes and the mixture of both streams, in the layer's own units. */
struct block { const float *quantized, *plain; size_t rows; };

/* mix = x + t (plain - x), x being the quantized stream's row in the layer's own units. */
static void mix_row(size_t k, const float *quantized, const float *plain, float t, const float *mul, const float *shift, float *mix)
{
    if (!mul) {
        for (size_t c = 0; c < k; c++)
            mix[c] = quantized[c] + t * (plain[c] - quantized[c]);
        return;
    }
    for (size_t c = 0; c < k; c++) {
        float x = (quantized[c] - (shift ? shift[c] : 0)) / mul[c];
        mix[c] = x + t * (plain[c] - x);
    }
}

static void fill_block(const struct gathering *g, const struct group *q, const struct block *b, struct member *m)
{
    const struct site *s = &g->s->sites[q->site];
    float t = (float)g->t->recipe->reconstruction.target;
    const float *scaled = b->quantized;
    if (s->q.mul && s->norm < 0) {
        vec_affine_row(b->rows, q->k, b->quantized, s->q.mul, s->q.shift, m->codes);
        scaled = m->codes;
    }
    const float *mul = s->norm >= 0 ? s->q.mul : NULL;      /* the norm gives scaled values */
    for (size_t r = 0; r < b->rows; r++)
        mix_row(q->k, b->quantized + r * q->k, b->plain + r * q->k, t, mul, s->q.shift, m->mix + r * q->k);
    quantize_to_float(b->rows * q->k, scaled, s->q.a.scale, s->q.a.zero, s->q.a.qmin, s->q.a.qmax, m->codes);
}

static void add_columns(size_t rows, size_t n, const float *x, double *sum)
{
    for (size_t r = 0; r < rows; r++, x += n)
        for (size_t c = 0; c < n; c++)
            sum[c] += (double)x[c];
}

static void add_codes(struct gathering *g, int group, struct member *m, size_t rows)
{
    const struct group *q = &g->groups[group];
    const struct affine *a = &g->s->sites[q->site].q.a;
    float centre = (float)centre_of(a);
    int below = a->zero - a->qmin + (int)centre, above = a->qmax - a->zero - (int)centre;
    for (size_t i = 0; i < rows * q->k; i++)
        m->codes[i] -= centre;
    add_columns(rows, q->k, m->codes, m->code_sum[group]);
    gram_exact(rows, q->k, m->codes, q->k, below > above ? below : above, m->gram[group], m->scratch);
}

/* The targets of the block's rows for all layers of the group, side by side [rows, n]; the bias comes later. */
static void fill_targets(const struct gathering *g, const struct group *q, struct member *m, size_t rows, size_t first,
                         const struct frame *plain, const struct frame *quantized)
{
    float t = (float)g->t->recipe->reconstruction.target;
    size_t at = 0;
    for (int i = 0; i < q->n_layers; i++) {
        const struct sweep_layer *l = &g->s->layers[q->layer[i]];
        size_t n = (size_t)l->l->n;
        gemm(false, true, rows, n, q->k, m->mix, q->k, q->rows[i], q->k, false, m->y + at, q->n);
        if (l->residual >= 0) {
            const float *rf = (const float *)plain->t[l->residual].data + first * n;
            const float *rq = (const float *)quantized->t[l->residual].data + first * n;
            for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < n; c++)
                    m->y[r * q->n + at + c] += t * (rf[r * n + c] - rq[r * n + c]);
        }
        at += n;
    }
}

/* Sums of one chunk that are not exact, until its turn comes. */
struct chunk_sums { double *x, *y; bool begun; };

static void add_block(struct gathering *g, int group, struct member *m, const struct block *b, size_t first,
                      const struct frame *plain, const struct frame *quantized, struct chunk_sums *sums)
{
    const struct group *q = &g->groups[group];
    fill_block(g, q, b, m);
    add_codes(g, group, m, b->rows);
    add_columns(b->rows, q->k, m->mix, sums->x);
    if (q->by_input) {
        gemm(true, false, q->k, q->k, b->rows, m->mix, q->k, m->codes, q->k, sums->begun, m->cross, q->k);
    } else {
        fill_targets(g, q, m, b->rows, first, plain, quantized);
        add_columns(b->rows, q->n, m->y, sums->y);
        gemm(true, false, q->n, q->k, b->rows, m->y, q->n, m->codes, q->k, sums->begun, m->cross, q->k);
    }
    sums->begun = true;
}

static void add_rows(struct gathering *g, int group, struct member *m, const struct frame *plain, const struct frame *quantized,
                     struct chunk_sums *sums)
{
    const struct group *q = &g->groups[group];
    int value = g->s->sites[q->site].value;
    const float *xf = plain->t[value].data, *xq = quantized->t[value].data;
    size_t rows = (size_t)shape_elements(&quantized->t[value].shape) / q->k;
    for (size_t r = 0; r < rows; r += BLOCK_ROWS) {
        struct block b = { xq + r * q->k, xf + r * q->k, rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS };
        add_block(g, group, m, &b, r, plain, quantized, sums);
    }
}

/* Convolutions: the columns of an image are the rows. */
static bool add_images(struct gathering *g, int group, struct member *m, const struct frame *plain, const struct frame *quantized,
                       struct chunk_sums *sums, struct err *e)
{
    const struct group *q = &g->groups[group];
    const struct sweep_layer *l = &g->s->layers[q->layer[0]];
    const struct tensor *x = &quantized->t[g->s->sites[q->site].value];
    const struct conv_shape s = qop_conv_shape(g->t->g, &g->t->g->nodes[l->l->node], x, &quantized->t[g->t->g->nodes[l->l->node].out[0]]);
    size_t image = s.c * s.h * s.w, positions = s.oh * s.ow;
    float *cols = malloc((2 * positions * q->k + 1) * sizeof *cols);
    if (!cols)
        return err_set(e, ERR_MEMORY, l->l->name, "no memory for a convolution's columns");
    for (size_t i = 0; i < (size_t)x->shape.dim[0]; i++) {
        im2col(&s, (const float *)x->data + i * image, cols);
        im2col(&s, (const float *)plain->t[g->s->sites[q->site].value].data + i * image, cols + positions * q->k);
        for (size_t r = 0; r < positions; r += BLOCK_ROWS) {
            struct block b = { cols + r * q->k, cols + (positions + r) * q->k, positions - r < BLOCK_ROWS ? positions - r : BLOCK_ROWS };
            add_block(g, group, m, &b, 0, plain, quantized, sums);
        }
    }
    free(cols);
    return true;
}

static void wait_for_turn(struct gathering *g, int chunk)
{
    pthread_mutex_lock(&g->mu);
    while (g->turn != chunk)
        pthread_cond_wait(&g->next, &g->mu);
    pthread_mutex_unlock(&g->mu);
}

/* With its turn: nobody else adds meanwhile. */
static void commit(struct group *q, const struct member *m, const struct chunk_sums *sums)
{
    for (size_t i = 0; i < q->k; i++)
        q->x_sum[i] += sums->x[i];
    for (size_t i = 0; i < q->n; i++)
        q->y_sum[i] += sums->y[i];
    for (size_t i = 0; sums->begun && i < cross_rows(q) * q->k; i++)
        q->cross[i] += (double)m->cross[i];
}

bool gathering_add(struct gathering *g, int chunk, int thread, const struct frame *plain, const struct frame *quantized, struct err *e)
{
    struct member *m = &g->members[thread];
    bool ok = true;
    for (int i = 0; ok && i < g->n_groups; i++) {
        struct group *q = &g->groups[i];
        struct chunk_sums sums = { calloc(q->k, sizeof(double)), calloc(q->n, sizeof(double)), false };
        ok = sums.x && sums.y;
        if (!ok)
            err_set(e, ERR_MEMORY, "", "no memory for sums");
        else if (is_conv(g, q))
            ok = add_images(g, i, m, plain, quantized, &sums, e);
        else
            add_rows(g, i, m, plain, quantized, &sums);
        if (ok) {
            wait_for_turn(g, chunk);
            commit(q, m, &sums);
        }
        free(sums.x);
        free(sums.y);
    }
    return ok;
}

void gathering_pass(struct gathering *g, int chunk)
{
    wait_for_turn(g, chunk);
    pthread_mutex_lock(&g->mu);
    g->turn = chunk + 1;
    pthread_cond_broadcast(&g->next);
    pthread_mutex_unlock(&g->mu);
}

/* ---- the end ---- */

static int64_t rows_of(const struct gathering *g, const struct group *q)
{
    const struct sweep_layer *l = &g->s->layers[q->layer[0]];
    int value = l->l->kind == LAYER_CONV ? g->t->g->nodes[l->l->node].out[0] : g->s->sites[q->site].value;
    int64_t rows = 0, per = l->l->kind == LAYER_CONV ? l->l->n : (int64_t)q->k;
    for (int i = 0; i < g->s->chunks.n; i++)
        rows += shape_elements(&g->s->chunks.chunk[i].plan->facts.shape[value]) / per;
    return rows;
}

/* The end of one group, some rows of its matrices at a time. */
enum { TILE = 32 };
struct finish {
    struct gathering *g;
    int group;
    double rows;
    double *scratch;               /* [n, k] */
};

static bool finish_codes(void *arg, size_t tile, int thread, struct err *e)
{
    const struct finish *f = arg;
    struct group *q = &f->g->groups[f->group];
    size_t end = q->k - tile * TILE < TILE ? q->k : (tile + 1) * TILE;
    (void)thread;
    (void)e;
    for (size_t i = tile * TILE; i < end; i++) {
        for (int t = 0; t < pool_threads(f->g->t->pool); t++)
            for (size_t j = i; j < q->k; j++)
                q->h[i * q->k + j] += f->g->members[t].gram[f->group][i * q->k + j];
        for (size_t j = i; j < q->k; j++)
            q->h[i * q->k + j] = q->h[i * q->k + j] / f->rows - q->mean[i] * q->mean[j];
    }
    return true;
}

static void finish_means(const struct finish *f)
{
    struct group *q = &f->g->groups[f->group];
    for (int t = 0; t < pool_threads(f->g->t->pool); t++)
        for (size_t i = 0; i < q->k; i++)
            q->mean[i] += f->g->members[t].code_sum[f->group][i];
    for (size_t i = 0; i < q->k; i++)
        q->mean[i] /= f->rows;
}

static bool finish_cross(void *arg, size_t tile, int thread, struct err *e)
{
    const struct finish *f = arg;
    struct group *q = &f->g->groups[f->group];
    const double *of = q->by_input ? q->x_sum : q->y_sum;
    (void)thread;
    (void)e;
    for (size_t i = tile * TILE; i < cross_rows(q) && i < (tile + 1) * TILE; i++)
        for (size_t j = 0; j < q->k; j++)
            q->cross[i * q->k + j] = q->cross[i * q->k + j] / f->rows - of[i] / f->rows * q->mean[j];
    return true;
}

/* The layer whose output has this number in its group; *ret_at: the layer's first. */
static int layer_at(const struct gathering *g, const struct group *q, size_t output, size_t *ret_at)
{
    int i = 0;
    *ret_at = 0;
    for (size_t n; output >= *ret_at + (n = (size_t)g->s->layers[q->layer[i]].l->n); i++)
        *ret_at += n;
    return i;
}

/* cov(y, a) = w cov(x, a); E y = w E x. */
static bool through_weights(void *arg, size_t tile, int thread, struct err *e)
{
    const struct finish *f = arg;
    struct group *q = &f->g->groups[f->group];
    (void)thread;
    (void)e;
    for (size_t at = tile * TILE, n; at < q->n && at < (tile + 1) * TILE; at += n) {
        size_t first, end = (tile + 1) * TILE;
        int i = layer_at(f->g, q, at, &first);
        size_t last = first + (size_t)f->g->s->layers[q->layer[i]].l->n;
        n = (last < end ? last : end) - at;
        const float *w = q->rows[i] + (at - first) * q->k;
        gemm_double(n, q->k, q->k, w, q->cross, q->c + at * q->k, f->scratch + at * q->k);
        gemm_double(n, 1, q->k, w, q->x_sum, q->y_sum + at, f->scratch + at * q->k);
    }
    return true;
}

static bool run_tiles(const struct finish *f, size_t rows, pool_fn *fn, struct err *e)
{
    return pool_run(f->g->t->pool, (rows + TILE - 1) / TILE, fn, (void *)(uintptr_t)f, e);
}

static void add_biases(const struct gathering *g, struct group *q)
{
    double *y = q->mean_y;
    for (int i = 0; i < q->n_layers; i++) {
        const struct layer *l = g->s->layers[q->layer[i]].l;
        const float *bias = layer_bias(g->t->g, l);
        for (int64_t c = 0; c < l->n; c++, y++)
            *y += bias ? (double)bias[c] : 0;
    }
}

static bool finish(struct gathering *g, int group, struct err *e)
{
    struct group *q = &g->groups[group];
    g->n_rows[group] = rows_of(g, q);
    double rows = (double)g->n_rows[group];
    struct finish f = { g, group, rows, q->by_input ? malloc((q->n * q->k + 1) * sizeof(double)) : NULL };
    bool ok = f.scratch || !q->by_input || err_set(e, ERR_MEMORY, "", "no memory for moments");
    finish_means(&f);
    ok = ok && run_tiles(&f, q->k, finish_codes, e) && run_tiles(&f, cross_rows(q), finish_cross, e)
      && (!q->by_input || run_tiles(&f, q->n, through_weights, e));
    free(f.scratch);
    if (!ok)
        return false;
    mirror_upper(q->k, q->h);
    for (size_t i = 0; i < q->n; i++)
        q->mean_y[i] = q->y_sum[i] / rows;
    add_biases(g, q);
    double centre = (double)centre_of(&g->s->sites[q->site].q.a);
    for (size_t i = 0; i < q->k; i++)
        q->mean[i] += centre;                  /* of codes minus zero point again */
    return true;
}

bool gathering_result(struct gathering *g, int i, int *ret_layer, struct weight_view *ret, struct err *e)
{
    int group = 0;
    while (i >= g->groups[group].n_layers)
        i -= g->groups[group++].n_layers;
    struct group *q = &g->groups[group];
    if (g->n_rows[group] == 0 && !finish(g, group, e))
        return false;
    size_t at = 0;
    for (int before = 0; before < i; before++)
        at += (size_t)g->s->layers[q->layer[before]].l->n;
    *ret_layer = q->layer[i];
    ret->rows = (double)g->n_rows[group];
    ret->mean = q->mean;
    ret->h = q->h;
    ret->c = q->c + at * q->k;
    ret->mean_y = q->mean_y + at;
    return true;
}
