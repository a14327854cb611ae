#include "core/cli/random_tokens.h"

#include "core/base/hash.h"

enum { VOCABULARY = 32, CASTS = 64 };

/* Rows of the table that n looks `value` up in, or 0. */
static int64_t looked_up(const struct graph *g, const struct node *n, int value)
{
    const struct value *table = n->op == OP_GATHER ? &g->values[n->in[0]] : NULL;
    bool found = table && n->in[1] == value && table->is_const && table->shape.rank == 2 && node_int(n, "axis", 0) == 0;
    return found ? table->shape.dim[0] : 0;
}

int64_t table_rows(const struct graph *g, int value)
{
    int same[CASTS] = { value }, count = 1;    /* the ids, and what Casts make of them */
    for (int k = 0; k < count; k++) {
        const struct value *v = &g->values[same[k]];
        for (int i = 0; i < v->n_consumers; i++) {
            const struct node *n = &g->nodes[v->consumers[i]];
            int64_t rows = looked_up(g, n, same[k]);
            if (rows)
                return rows;
            if (n->op == OP_CAST && count < CASTS)
                same[count++] = n->out[0];
        }
    }
    return 0;
}

static int64_t element(const struct tensor *t, int64_t i)
{
    return t->dtype == DT_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
}

/* 0, 1, 2, .. in the first sample: positions. */
static bool counts_up(const struct tensor *t)
{
    int64_t n = shape_count(&t->shape, 1, t->shape.rank);
    for (int64_t i = 0; i < n; i++)
        if (element(t, i) != i)
            return false;
    return n > 1;
}

static const struct array *drawn(const struct array *like, int64_t rows, uint64_t seed, struct arena *mem, struct err *e)
{
    int64_t n = shape_elements(&like->t.shape);
    bool wide = like->t.dtype == DT_I64;
    struct array *a = arena_alloc(mem, sizeof *a, e);
    void *data = arena_array(mem, (uint64_t)n, wide ? 8 : 4, e);
    if (!a || !data)
        return NULL;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = (int64_t)(hash_mix(seed, (uint64_t)i) % (uint64_t)rows);
        if (wide)
            ((int64_t *)data)[i] = id;
        else
            ((int32_t *)data)[i] = (int32_t)id;
    }
    *a = (struct array){ like->name, { like->t.dtype, like->t.shape, data }, false };
    return a;
}

bool random_tokens(const struct graph *g, uint64_t seed, struct arena *mem, struct samples *io, struct err *e)
{
    int found = 0;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct array *a = io->inputs[i];
        bool ids = a->t.dtype == DT_I64 || a->t.dtype == DT_I32;
        int64_t rows = ids ? table_rows(g, g->inputs[i]) : 0;
        if (rows < VOCABULARY || counts_up(&a->t))
            continue;
        if (!(io->inputs[i] = drawn(a, rows, seed + (uint64_t)i, mem, e)))
            return false;
        found++;
    }
    return found || err_set(e, ERR_RECIPE_COMBINATION, "/calibration/random_tokens",
                            "no input of this model is looked up in a table of %d rows or more; leave random_tokens out", VOCABULARY);
}
