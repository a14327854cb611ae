#include "core/sweep/sweep.h"

#include "core/sweep/region.h"

#include <stdio.h>

static int find_site(const struct sweep *s, int value, bool conv_output)
{
    for (int i = 0; i < s->n_sites; i++)
        if (s->sites[i].value == value && s->sites[i].conv_output == conv_output)
            return i;
    return -1;
}

/* The site of a value; several readers share it at the most bits any of them wants. */
static int add_site(struct sweep *s, const struct graph *g, int value, const struct sweep_layer *l, bool conv_output)
{
    int at = find_site(s, value, conv_output);
    if (at < 0) {
        at = s->n_sites++;
        s->sites[at] = (struct site){ .value = value, .made_at = g->values[value].producer, .resume_at = -1,
                                      .layer = l->l->name, .conv_output = conv_output };
    }
    if (l->choice.act_bits > s->sites[at].bits)
        s->sites[at].bits = l->choice.act_bits;
    return at;
}

/* Attention probabilities are never held: the walk goes on from the q.k product that leads to them. */
static int product_behind(const struct graph *g, const struct roles *r, int value)
{
    int qk = -1;
    for (int i = 0; i < r->n_layers; i++)
        if (r->layers[i].kind == LAYER_QK && r->layers[i].node < g->values[value].producer)
            qk = r->layers[i].node;
    return qk;
}

static bool wanted(const struct recipe *r, const struct layer *l)
{
    switch (l->kind) {
    case LAYER_LINEAR: return true;
    case LAYER_CONV: return r->convolutions;
    default: return r->attention.products;
    }
}

static const char *off_reason(const struct layer *l)
{
    return l->kind == LAYER_CONV ? "the recipe has \"convolutions\": false" : "the recipe has \"attention\": {\"products\": false}";
}

static void list_layer(const struct sweep_task *t, struct sweep *s, struct sweep_layer *l)
{
    recipe_match(t->recipe, l->l->name, &l->choice);
    l->quantize = l->choice.quantize && wanted(t->recipe, l->l);
    if (l->choice.quantize && !l->quantize) {
        l->choice = (struct recipe_choice){ 0 };
        snprintf(l->choice.reason, sizeof l->choice.reason, "%s", off_reason(l->l));
    }
    if (!l->quantize)
        return;
    l->x = add_site(s, t->g, l->l->x, l, false);
    if (l->l->other >= 0)
        l->other = add_site(s, t->g, l->l->other, l, false);
    if (l->l->kind == LAYER_CONV) {
        l->out = add_site(s, t->g, t->g->nodes[l->l->node].out[0], l, true);
        s->sites[l->out].resume_at = l->l->node;
    }
    if (l->l->kind == LAYER_PV)
        s->sites[l->x].resume_at = product_behind(t->g, t->roles, l->l->x);
}

static bool find_regions(const struct sweep_task *t, struct arena *mem, struct sweep *s, struct err *e)
{
    bool *quantized = arena_array(mem, (uint64_t)t->g->n_nodes, sizeof *quantized, e);
    int *region = arena_array(mem, (uint64_t)t->g->n_nodes, sizeof *region, e);
    if (!quantized || !region)
        return false;
    for (int i = 0; i < s->n_layers; i++)
        quantized[s->layers[i].l->node] = s->layers[i].quantize;
    s->n_regions = regions_find(t->g, quantized, mem, region, e);
    for (int i = 0; i < s->n_layers; i++)
        s->layers[i].region = region[s->layers[i].l->node];
    return s->n_regions > 0;
}

bool sweep_list_sites(const struct sweep_task *t, struct arena *mem, struct sweep *s, struct err *e)
{
    int n = t->roles->n_layers;
    s->layers = arena_array(mem, (uint64_t)n, sizeof *s->layers, e);
    s->sites = arena_array(mem, (uint64_t)n * 2, sizeof *s->sites, e);
    if (!s->layers || !s->sites)
        return false;
    s->n_layers = n;
    for (int i = 0; i < n; i++) {
        s->layers[i] = (struct sweep_layer){ .l = &t->roles->layers[i], .x = -1, .other = -1, .out = -1 };
        list_layer(t, s, &s->layers[i]);
    }
    return find_regions(t, mem, s, e);
}

bool sweep_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output)
{
    return (l->x < 0 || s->sites[l->x].decided) && (l->other < 0 || s->sites[l->other].decided)
        && (!with_output || l->out < 0 || s->sites[l->out].decided);
}
