#include "core/sweep/sweep.h"

#include "core/graph/unit_rows.h"
#include "core/sweep/blocks.h"
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
        s->sites[at] = (struct site){ .value = value, .seen = value, .made_at = g->values[value].producer, .resume_at = -1,
                                      .layer = l->l->name, .conv_output = conv_output, .norm = -1 };
    }
    struct site *site = &s->sites[at];
    if (l->choice.act_bits > site->bits)
        site->bits = l->choice.act_bits;
    if (l->l->weight >= 0 && !conv_output && (site->weight_bits == 0 || l->choice.weight_bits < site->weight_bits))
        site->weight_bits = l->choice.weight_bits;
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

static const enum recipe_part part_of[PARTS] = {
    [PART_OTHER] = RECIPE_ANY_PART, [PART_ATTENTION] = RECIPE_ATTENTION, [PART_FEED_FORWARD] = RECIPE_FEED_FORWARD,
};

void sweep_choice(const struct recipe *r, const struct layer *l, struct recipe_choice *ret)
{
    recipe_match(r, l->name, part_of[l->part], ret);
    if (ret->quantize && !wanted(r, l)) {
        *ret = (struct recipe_choice){ 0 };
        snprintf(ret->reason, sizeof ret->reason, "%s", off_reason(l));
    }
}

/* Of products and convolutions the ranges are static in every recipe; what linears read is found while the artifact runs. */
bool sweep_without_data(const struct roles *roles, const struct recipe *r, struct err *e)
{
    const struct layer *product = NULL, *conv = NULL;
    if (!recipe_without_data(r, "", e))
        return false;
    for (int i = 0; i < roles->n_layers; i++) {
        const struct layer *l = &roles->layers[i];
        struct recipe_choice choice;
        sweep_choice(r, l, &choice);
        if (!choice.quantize || l->kind == LAYER_LINEAR)
            continue;
        if (l->kind == LAYER_CONV)
            conv = l;
        else
            product = l;
    }
    if (!product && !conv)
        return true;
    return err_set(e, ERR_DATA_REQUIRED, product ? "/attention/products" : "/convolutions",
                   "the static ranges of '%.80s'%s are taken from calibration data; give some, or set %s%s%s to leave them in float",
                   (product ? product : conv)->name, product && conv ? " and of convolutions" : "", product ? "\"attention\": {\"products\": false}" : "",
                   product && conv ? " and " : "", conv ? "\"convolutions\": false" : "");
}

static void list_layer(const struct sweep_task *t, struct sweep *s, struct sweep_layer *l)
{
    sweep_choice(t->recipe, l->l, &l->choice);
    l->quantize = l->choice.quantize;
    if (!l->quantize)
        return;
    l->dynamic = l->l->kind == LAYER_LINEAR && t->recipe->activations.mode == RECIPE_DYNAMIC
              && t->recipe->activations.granularity == RECIPE_ONE_RANGE;
    /* An image has 8 bits already, and one layer of a model costs nothing. */
    if (l->l->kind == LAYER_CONV && t->method->conv_bits)
        l->choice.act_bits = t->method->conv_bits;
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

/* ---- what a site's values are ---- */

/* Do only quantized linears with a weight of their own read the site's tensor as its codes?  (Others may read it as it is.) */
static bool feeds_linears_only(const struct sweep *s, int site)
{
    int n = 0;
    for (int i = 0; i < s->n_layers; i++) {
        const struct sweep_layer *l = &s->layers[i];
        if (!l->quantize || (l->x != site && l->other != site && l->out != site))
            continue;
        if (l->x != site || l->l->kind != LAYER_LINEAR || l->l->shared_weight)
            return false;
        n++;
    }
    return n > 0;
}

/* Does node n give rows of its first input, each whole and once?  (Tokens selected, windows cut, batch and sequence made one axis.) */
static bool selects_rows(const struct graph *g, const struct node *n)
{
    const struct shape *from = &g->values[n->in[0]].shape, *to = &g->values[n->out[0]].shape;
    int64_t axis = node_int(n, "axis", 0);
    size_t n_perm;
    const int64_t *perm = node_ints(n, "perm", &n_perm);
    if (from->rank < 1 || to->rank < 1 || from->dim[from->rank - 1] != to->dim[to->rank - 1] || from->dim[from->rank - 1] < 1)
        return false;
    switch (n->op) {
    case OP_IDENTITY: case OP_RESHAPE: return true;
    case OP_GATHER: return from->rank > 1 && (axis < 0 ? axis + from->rank : axis) < from->rank - 1;
    case OP_TRANSPOSE: return n_perm && perm[n_perm - 1] == from->rank - 1;
    default: return false;
    }
}

/* Is the node one of the site's layers, or does it not look at values at all? */
static bool reads_for_site(const struct graph *g, const struct sweep *s, int site, int node)
{
    bool ours = g->nodes[node].op == OP_SHAPE;
    for (int k = 0; k < s->n_layers && !ours; k++)
        ours = s->layers[k].x == site && s->layers[k].l->node == node;
    return ours;
}

/* Products of divided rows have to be multiplied by what the rows were divided by, or factors would not cancel. */
static bool rows_return(const struct graph *g, const struct sweep *s, int site)
{
    int a = g->nodes[g->values[s->sites[site].value].producer].in[1];
    for (int i = 0; i < s->n_layers; i++) {
        if (s->layers[i].x != site)
            continue;
        const struct value *y = &g->values[g->nodes[s->layers[i].l->node].out[0]];
        const struct node *mul = y->n_consumers == 1 && !y->is_output ? &g->nodes[y->consumers[0]] : NULL;
        if (!mul || mul->op != OP_MUL || (mul->in[0] != a && mul->in[1] != a))
            return false;
    }
    return true;
}

/*
 * The norm whose output the value is, perhaps after rows were selected; -1: none.  *ret_alone: nothing but the
 * site's layers depends on it, so that the norm itself may give scaled values.
 */
static int norm_behind(const struct sweep_task *t, const struct sweep *s, int site, bool *ret_alone)
{
    const struct graph *g = t->g;
    int v = s->sites[site].value, reader = -1;
    *ret_alone = true;
    for (;;) {
        const struct value *value = &g->values[v];
        *ret_alone &= !value->is_output;
        for (int i = 0; i < value->n_consumers; i++) {
            int c = value->consumers[i];
            bool magnitude = g->nodes[c].op == OP_ABS && reader >= 0 && g->nodes[reader].op == OP_DIV;
            *ret_alone &= c == reader || magnitude || reads_for_site(g, s, site, c);
        }
        for (int i = 0; i < t->roles->n_norms; i++)
            if (t->roles->norms[i].output == v)
                return i;
        reader = value->producer;
        bool divided = v == s->sites[site].value && graph_has_unit_rows(g, v);
        if (reader < 0 || !(selects_rows(g, &g->nodes[reader]) || divided))
            return -1;
        v = g->nodes[reader].in[0];
    }
}

static bool is_output_of(const struct roles *r, int value)
{
    for (int i = 0; i < r->n_activations; i++)
        if (r->activations[i].output == value)
            return true;
    return false;
}

/* GELU and its like, or their product with another branch (SwiGLU's gate and up). */
static bool is_activation(const struct graph *g, const struct roles *r, int value)
{
    const struct node *mul = graph_made_by(g, value, OP_MUL);
    return is_output_of(r, value) || (mul && (is_output_of(r, mul->in[0]) || is_output_of(r, mul->in[1])));
}

/* The layer's probabilities come from a softmax over the last axis, and nobody else sees them. */
static bool is_softmax(const struct graph *g, const struct sweep *s, int site)
{
    const struct value *v = &g->values[s->sites[site].value];
    const struct node *n = graph_made_by(g, s->sites[site].value, OP_SOFTMAX);
    if (!n || v->n_consumers != 1 || v->is_output || v->shape.rank < 1)
        return false;
    int64_t axis = node_int(n, "axis", -1);
    bool last = axis == -1 || axis == v->shape.rank - 1;
    for (int i = 0; i < s->n_layers && last; i++)
        if (s->layers[i].x == site && s->layers[i].l->kind == LAYER_PV)
            return true;
    return false;
}

/* Without a gamma there is nothing to fold into; and another reader (a residual) wants the norm as it is. */
static bool takes_factors(const struct sweep_task *t, int norm, bool alone, enum site_kind kind)
{
    return norm >= 0 && alone && t->roles->norms[norm].gamma >= 0 && t->method->wants_rows(t->recipe, kind);
}

static void tell_kind(const struct sweep_task *t, struct sweep *s, int site)
{
    struct site *at = &s->sites[site];
    bool alone = false, linears = feeds_linears_only(s, site);
    int norm = linears ? norm_behind(t, s, site, &alone) : -1;
    bool rows = linears && graph_has_unit_rows(t->g, at->value);
    if (takes_factors(t, norm, alone, rows ? SITE_ROWS : SITE_NORM) && (!rows || rows_return(t->g, s, site))) {
        at->norm = norm;
        at->resume_at = t->roles->norms[norm].scale_node;
    }
    if (rows) {
        at->kind = SITE_ROWS;
        at->seen = at->norm >= 0 ? t->g->nodes[at->made_at].in[0] : at->value;
        at->made_at = t->g->values[at->seen].producer;
    } else if (norm >= 0) {
        at->kind = SITE_NORM;
    } else if (linears && is_activation(t->g, t->roles, at->value)) {
        at->kind = SITE_ACTIVATION;
    } else if (is_softmax(t->g, s, site)) {
        at->kind = SITE_SOFTMAX;
    } else if (linears) {
        at->kind = SITE_LINEAR;
    }
}

bool sweep_is_alone(const struct sweep_task *t, const struct sweep *s, int site)
{
    const struct value *v = &t->g->values[s->sites[site].value];
    for (int i = 0; i < v->n_consumers; i++)
        if (!reads_for_site(t->g, s, site, v->consumers[i]))
            return false;
    return !v->is_output;
}

/* The other operand of the Add that takes the layer's output, if the two are added row for row. */
static int residual_of(const struct graph *g, const struct layer *l)
{
    const struct value *v = &g->values[l->output];
    const struct node *add = v->n_consumers == 1 && !v->is_output ? &g->nodes[v->consumers[0]] : NULL;
    if (l->kind != LAYER_LINEAR || !add || add->op != OP_ADD)
        return -1;
    int other = add->in[0] == l->output ? add->in[1] : add->in[0];
    const struct value *o = &g->values[other];
    bool same = other != l->output && shape_equal(&o->shape, &v->shape) && o->dtype == DT_F32;
    return same && !o->is_const && o->producer >= 0 && o->producer < l->node ? other : -1;
}

/* Rows whose norm took up factors have other magnitudes than the model's own. */
static int result_of(const struct graph *g, const struct sweep *s, const struct sweep_layer *l)
{
    const struct site *x = l->x >= 0 ? &s->sites[l->x] : NULL;
    return x && x->seen != x->value ? g->values[g->nodes[l->l->node].out[0]].consumers[0] : l->l->node;
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
    return s->n_regions > 0 && blocks_find(t, quantized, region, mem, s, e);
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
        s->layers[i].residual = t->recipe->reconstruction.residual ? residual_of(t->g, s->layers[i].l) : -1;
        list_layer(t, s, &s->layers[i]);
    }
    for (int i = 0; i < s->n_sites; i++)
        tell_kind(t, s, i);
    for (int i = 0; i < n; i++)
        s->layers[i].result = result_of(t->g, s, &s->layers[i]);
    return find_regions(t, mem, s, e);
}

size_t sweep_channels(const struct sweep *s, int site)
{
    const struct shape *shape = &s->chunks.chunk[0].plan->facts.shape[s->sites[site].value];
    if (s->sites[site].conv_output)
        return (size_t)shape->dim[1];
    for (int i = 0; i < s->n_layers; i++)
        if (s->layers[i].x == site && s->layers[i].l->kind == LAYER_LINEAR)
            return shape->rank ? (size_t)shape->dim[shape->rank - 1] : 0;
    return 0;
}

/* Axis 1 of attention that has its sequence there is as long as a chunk's samples: no heads. */
static bool all_chunks_have(const struct sweep *s, int value, int64_t heads)
{
    bool same = true;
    for (int i = 0; i < s->chunks.n && same; i++) {
        const struct shape *shape = &s->chunks.chunk[i].plan->facts.shape[value];
        same = shape->rank == 4 && shape->dim[1] == heads;
    }
    return same;
}

size_t sweep_heads(const struct sweep_task *t, const struct sweep *s, int site)
{
    int value = s->sites[site].value;
    const struct shape *shape = &s->chunks.chunk[0].plan->facts.shape[value];
    bool levels = s->sites[site].kind == SITE_SOFTMAX && t->recipe->attention.softmax != RECIPE_SOFTMAX_UNIFORM;
    return levels && shape->rank == 4 && all_chunks_have(s, value, shape->dim[1]) ? (size_t)shape->dim[1] : 0;
}

bool sweep_gathers(const struct sweep_task *t, const struct sweep_layer *l)
{
    return l->quantize && l->l->weight >= 0 && !l->l->shared_weight && (t->method->wants_moments(t->recipe) || t->recipe->compensation.rank > 0);
}

bool sweep_sites_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output)
{
    return (l->x < 0 || s->sites[l->x].decided) && (l->other < 0 || s->sites[l->other].decided)
        && (!with_output || l->out < 0 || s->sites[l->out].decided);
}

bool sweep_ready(const struct sweep *s, const struct sweep_layer *l, bool with_output)
{
    return sweep_sites_ready(s, l, with_output) && (!l->quantize || l->l->weight < 0 || l->w.codes);
}
