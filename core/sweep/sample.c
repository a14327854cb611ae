#include "core/sweep/sample.h"

#include "core/base/hash.h"
#include "core/kernel/kernel.h"

#include <stdlib.h>
#include <string.h>

static int64_t rows_of(const struct shape *s, size_t channels) { return channels ? shape_elements(s) / (int64_t)channels : 0; }

bool sample_init(struct sample *s, const struct chunks *c, int value, uint64_t seed, int rows, int largest, struct arena *mem,
                 struct err *e)
{
    const struct shape *first = &c->chunk[0].plan->facts.shape[value];
    *s = (struct sample){ .channels = first->rank ? (size_t)first->dim[first->rank - 1] : 1, .seed = seed, .n_pieces = c->n,
                          .limit = rows ? (size_t)rows : SAMPLE_ROWS, .largest = (size_t)largest };
    s->pieces = arena_array(mem, (uint64_t)c->n, sizeof *s->pieces, e);
    for (int i = 0; i < c->n; i++)
        s->all_rows += rows_of(&c->chunk[i].plan->facts.shape[value], s->channels);
    bool all = s->all_rows <= (int64_t)s->limit;
    s->below = all ? UINT64_MAX : (uint64_t)((double)s->limit / (double)s->all_rows * 0x1p63) * 2;
    return s->pieces != NULL;
}

/* 0: not drawn; else its weight. */
static float weight_of(const struct sample *s, int64_t sample, int64_t row, bool has_first)
{
    if (has_first && row == 0 && !s->largest)
        return FIRST_WEIGHT;
    return hash_mix(s->seed ^ (uint64_t)sample, (uint64_t)row) < s->below ? 1 : 0;
}

static bool piece_alloc(struct sample_piece *p, size_t n, size_t channels, struct err *e)
{
    p->x = malloc((n * channels + 1) * sizeof *p->x);
    p->weight = malloc((n + 1) * sizeof *p->weight);
    p->norm = malloc((n + 1) * sizeof *p->norm);
    return (p->x && p->weight && p->norm) || err_set(e, ERR_MEMORY, "", "no memory for sampled rows");
}

static void take(const struct sample *s, struct sample_piece *p, const float *row, float weight)
{
    memcpy(p->x + p->n * s->channels, row, s->channels * sizeof *row);
    p->weight[p->n++] = weight;
}

/* Keeps the row if it is among the largest of its piece; of equals the first. */
static void offer(const struct sample *s, struct sample_piece *p, const float *row)
{
    size_t first = p->n - p->n_largest, least = first;
    float norm = (float)sum_of_squares(s->channels, row);
    if (p->n_largest < s->largest) {
        p->norm[p->n] = norm;
        p->n_largest++;
        take(s, p, row, 1);
        return;
    }
    for (size_t i = first; i < p->n; i++)
        least = p->norm[i] <= p->norm[least] ? i : least;
    if (norm <= p->norm[least])
        return;
    p->norm[least] = norm;
    memcpy(p->x + least * s->channels, row, s->channels * sizeof *row);
}

bool sample_add(struct sample *s, const struct chunks *c, int chunk, const struct tensor *t, struct err *e)
{
    const struct chunk *at = &c->chunk[chunk];
    struct sample_piece *p = &s->pieces[chunk];
    int64_t rows = rows_of(&t->shape, s->channels), per = rows / at->rows;
    bool whole = rows % at->rows == 0 && t->shape.rank > 1 && t->shape.dim[0] == at->rows, has_first = whole && per > 1;
    const float *x = t->data;
    size_t n = 0;
    for (int64_t r = 0; r < rows; r++)
        n += weight_of(s, at->sample[whole ? r / per : 0], whole ? r % per : r, has_first) > 0;
    if (!piece_alloc(p, n + s->largest, s->channels, e))
        return false;
    for (int big = 0; big < 1 + (s->largest > 0); big++)
        for (int64_t r = 0; r < rows; r++) {
            float weight = weight_of(s, at->sample[whole ? r / per : 0], whole ? r % per : r, has_first);
            if (!big && weight > 0)
                take(s, p, x + (size_t)r * s->channels, weight);
            else if (big && weight == 0)
                offer(s, p, x + (size_t)r * s->channels);
        }
    return true;
}

/* The norm that the largest rows of all pieces have at least; *ret_more: how many with just that norm there is still room for. */
static float least_norm(const struct sample *s, float *all, size_t *ret_more)
{
    size_t n = 0, above = 0;
    for (int i = 0; i < s->n_pieces; i++)
        for (size_t k = 0; k < s->pieces[i].n_largest; k++)
            all[n++] = s->pieces[i].norm[s->pieces[i].n - s->pieces[i].n_largest + k];
    *ret_more = s->largest;
    if (n <= s->largest)
        return 0;
    float least = clip_select(n, all, n - s->largest);
    for (size_t i = 0; i < n; i++)
        above += all[i] > least;
    *ret_more = s->largest - above;
    return least;
}

bool sample_rows(const struct sample *s, struct arena *mem, struct rows *ret, struct err *e)
{
    size_t n = 0, drawn = 0, more = 0;
    for (int i = 0; i < s->n_pieces; i++)
        n += s->pieces[i].n;
    float *x = arena_scratch(mem, n * s->channels, sizeof *x, e), *weight = arena_array(mem, n, sizeof *weight, e);
    float *norms = arena_array(mem, (uint64_t)s->n_pieces * s->largest, sizeof *norms, e);
    if (!x || !weight || !norms)
        return false;
    float least = least_norm(s, norms, &more);
    *ret = (struct rows){ .x = x, .channels = s->channels, .weight = weight };
    for (int i = 0; i < s->n_pieces; i++) {
        const struct sample_piece *p = &s->pieces[i];
        for (size_t k = 0; k < p->n; k++) {
            bool large = k >= p->n - p->n_largest, last = large && p->norm[k] == least && least > 0;
            if (large ? p->norm[k] < least || (last && more == 0) : s->largest && drawn == s->limit)
                continue;
            more -= last;
            drawn += !large;
            memcpy(x + ret->n * s->channels, p->x + k * s->channels, s->channels * sizeof *x);
            weight[ret->n++] = p->weight[k];
        }
    }
    return true;
}

void sample_release(struct sample *s)
{
    for (int i = 0; s->pieces && i < s->n_pieces; i++) {
        free(s->pieces[i].x);
        free(s->pieces[i].weight);
        free(s->pieces[i].norm);
    }
    *s = (struct sample){ 0 };
}
