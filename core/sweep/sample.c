#include "core/sweep/sample.h"

#include "core/base/hash.h"

#include <stdlib.h>
#include <string.h>

static int64_t rows_of(const struct shape *s, size_t channels) { return channels ? shape_elements(s) / (int64_t)channels : 0; }

bool sample_init(struct sample *s, const struct chunks *c, int value, uint64_t seed, struct arena *mem, struct err *e)
{
    const struct shape *first = &c->chunk[0].plan->facts.shape[value];
    *s = (struct sample){ .channels = first->rank ? (size_t)first->dim[first->rank - 1] : 1, .seed = seed, .n_pieces = c->n };
    s->pieces = arena_array(mem, (uint64_t)c->n, sizeof *s->pieces, e);
    for (int i = 0; i < c->n; i++)
        s->all_rows += rows_of(&c->chunk[i].plan->facts.shape[value], s->channels);
    s->below = s->all_rows <= SAMPLE_ROWS ? UINT64_MAX : (uint64_t)((double)SAMPLE_ROWS / (double)s->all_rows * 0x1p63) * 2;
    return s->pieces != NULL;
}

/* 0: not drawn; else its weight. */
static float weight_of(const struct sample *s, int64_t sample, int64_t row, bool has_first)
{
    if (has_first && row == 0)
        return FIRST_WEIGHT;
    return hash_mix(s->seed ^ (uint64_t)sample, (uint64_t)row) < s->below ? 1 : 0;
}

static bool piece_alloc(struct sample_piece *p, size_t n, size_t channels, struct err *e)
{
    p->x = malloc((n * channels + 1) * sizeof *p->x);
    p->weight = malloc((n + 1) * sizeof *p->weight);
    return (p->x && p->weight) || err_set(e, ERR_MEMORY, "", "no memory for sampled rows");
}

bool sample_add(struct sample *s, const struct chunks *c, int chunk, const struct tensor *t, struct err *e)
{
    const struct chunk *at = &c->chunk[chunk];
    struct sample_piece *p = &s->pieces[chunk];
    int64_t rows = rows_of(&t->shape, s->channels), per = rows / at->rows;
    bool whole = rows % at->rows == 0 && t->shape.rank > 1 && t->shape.dim[0] == at->rows, has_first = whole && per > 1;
    size_t n = 0;
    for (int64_t r = 0; r < rows; r++)
        n += weight_of(s, whole ? at->first + r / per : at->first, whole ? r % per : r, has_first) > 0;
    if (!piece_alloc(p, n, s->channels, e))
        return false;
    for (int64_t r = 0; r < rows; r++) {
        float weight = weight_of(s, whole ? at->first + r / per : at->first, whole ? r % per : r, has_first);
        if (weight == 0)
            continue;
        memcpy(p->x + p->n * s->channels, (const float *)t->data + (size_t)r * s->channels, s->channels * sizeof(float));
        p->weight[p->n++] = weight;
    }
    return true;
}

bool sample_rows(const struct sample *s, struct arena *mem, struct rows *ret, struct err *e)
{
    size_t n = 0;
    for (int i = 0; i < s->n_pieces; i++)
        n += s->pieces[i].n;
    float *x = arena_array(mem, n * s->channels, sizeof *x, e), *weight = arena_array(mem, n, sizeof *weight, e);
    if (!x || !weight)
        return false;
    *ret = (struct rows){ .x = x, .channels = s->channels, .weight = weight };
    for (int i = 0; i < s->n_pieces; i++) {
        const struct sample_piece *p = &s->pieces[i];
        memcpy(x + ret->n * s->channels, p->x, p->n * s->channels * sizeof *x);
        memcpy(weight + ret->n, p->weight, p->n * sizeof *weight);
        ret->n += p->n;
    }
    return true;
}

void sample_release(struct sample *s)
{
    for (int i = 0; s->pieces && i < s->n_pieces; i++) {
        free(s->pieces[i].x);
        free(s->pieces[i].weight);
    }
    *s = (struct sample){ 0 };
}
