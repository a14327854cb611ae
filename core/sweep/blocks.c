#include "core/sweep/blocks.h"

#include "core/sweep/region.h"

#include <stdio.h>
#include <string.h>

struct finding {
    const struct sweep_task *t;
    struct sweep *s;
    const int *region;
    int *value;                        /* [n_nodes]: in hand before a node that begins a region */
    bool named;                        /* some layer has a block's name */
};

static bool taught(const struct sweep_layer *l) { return l->quantize && l->l->kind == LAYER_LINEAR && l->l->weight >= 0; }

static int region_begin(const struct finding *f, int node)
{
    while (node > 0 && f->region[node - 1] == f->region[node])
        node--;
    return node;
}

static int region_end(const struct finding *f, int node)
{
    int n = f->t->g->n_nodes;
    while (node < n - 1 && f->region[node + 1] == f->region[node])
        node++;
    return node + 1;
}

static bool same_block(const struct finding *f, const struct sweep_layer *a, const struct sweep_layer *b)
{
    return f->named ? strcmp(a->l->block, b->l->block) == 0 : a->region == b->region;
}

/* A norm that takes up factors of a site behind `end` is not decided yet. */
static bool norm_waits(const struct finding *f, int end)
{
    for (int i = 0; i < f->s->n_layers; i++) {
        const struct sweep_layer *l = &f->s->layers[i];
        int norm = l->quantize && l->l->node >= end ? f->s->sites[l->x].norm : -1;
        if (norm >= 0 && f->t->roles->norms[norm].first < end)
            return true;
    }
    return false;
}

/* On over regions without layers (a norm behind the block), while what is in hand keeps its shape. */
static void extend(const struct finding *f, struct sweep_block *b, int limit)
{
    const struct graph *g = f->t->g;
    while (b->end < limit && b->out >= 0) {
        int end = region_end(f, b->end), out = end < g->n_nodes ? f->value[end] : -1;
        if (end > limit || out < 0 || !shape_equal(&g->values[out].shape, &g->values[b->out].shape) || norm_waits(f, end))
            return;
        b->end = end;
        b->out = out;
    }
}

/* At the graph's end the target is its output, if it has just one. */
static int output_of(const struct finding *f, int end)
{
    const struct graph *g = f->t->g;
    if (end < g->n_nodes)
        return f->value[end];
    return g->n_outputs == 1 && g->values[g->outputs[0]].dtype == DT_F32 ? g->outputs[0] : -1;
}

/* The group of layer i; returns the number of the first layer behind it. */
static int add_block(const struct finding *f, int i)
{
    struct sweep *s = f->s;
    const struct sweep_layer *head = &s->layers[i];
    int first = region_begin(f, head->l->node), end = first;
    for (; i < s->n_layers && (!taught(&s->layers[i]) || same_block(f, head, &s->layers[i])); i++)
        if (same_block(f, head, &s->layers[i]))    /* products may have no name */
            end = region_end(f, s->layers[i].l->node);
    if (s->n_blocks && s->blocks[s->n_blocks - 1].end > first)     /* no cut between them */
        s->n_blocks--;
    else
        s->blocks[s->n_blocks] = (struct sweep_block){ .first = first, .in = f->value[first], .name = f->named ? head->l->block : head->l->name };
    s->blocks[s->n_blocks].end = end;
    s->blocks[s->n_blocks++].out = output_of(f, end);
    return i;
}

static bool begins_block(const struct finding *f, int i)
{
    const struct sweep_layer *l = &f->s->layers[i];
    return taught(l) && (!f->named || l->l->block[0]);
}

static void list_blocks(const struct finding *f)
{
    for (int i = 0; i < f->s->n_layers; )
        i = begins_block(f, i) ? add_block(f, i) : i + 1;
    for (int i = 0; i < f->s->n_blocks; i++) {
        struct sweep_block *b = &f->s->blocks[i];
        int limit = f->t->g->n_nodes;
        for (int k = 0; k < f->s->n_layers; k++)
            if (f->s->layers[k].l->node >= b->end && region_begin(f, f->s->layers[k].l->node) < limit)
                limit = region_begin(f, f->s->layers[k].l->node);
        extend(f, b, limit);
    }
}

bool blocks_find(const struct sweep_task *t, const bool *quantized, const int *region, struct arena *mem, struct sweep *s, struct err *e)
{
    struct finding f = { t, s, region, arena_array(mem, (uint64_t)t->g->n_nodes, sizeof *f.value, e), false };
    if (!t->recipe->reconstruction.blocks)
        return true;
    s->blocks = arena_array(mem, (uint64_t)s->n_layers + 1, sizeof *s->blocks, e);
    if (!f.value || !s->blocks || !regions_values(t->g, quantized, region, mem, f.value, e))
        return false;
    for (int i = 0; i < s->n_layers; i++)
        f.named |= taught(&s->layers[i]) && s->layers[i].l->block[0];
    list_blocks(&f);
    return true;
}

struct sweep_block *blocks_ahead(const struct sweep *s, int at)
{
    for (int i = 0; i < s->n_blocks; i++)
        if (!s->blocks[i].done && s->blocks[i].end > at)
            return &s->blocks[i];
    return NULL;
}

static const struct sweep_block *open_at(const struct sweep *s, int node)
{
    for (int i = 0; i < s->n_blocks; i++)
        if (!s->blocks[i].done && node >= s->blocks[i].first && node < s->blocks[i].end)
            return &s->blocks[i];
    return NULL;
}

bool blocks_open(const struct sweep *s, int node) { return open_at(s, node) != NULL; }

bool blocks_ready(const struct sweep *s, const struct sweep_block *b)
{
    for (int i = 0; i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        if (l->quantize && l->l->node >= b->first && l->l->node < b->end && !sweep_ready(s, l, true))
            return false;
    }
    return true;
}

bool blocks_may_change(const struct sweep *s, int site)
{
    const struct sweep_block *b = open_at(s, s->sites[site].made_at);
    for (int i = 0; b && i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        if ((l->x == site || l->other == site || l->out == site) && l->l->node < b->end)
            return false;
    }
    return b != NULL;
}
