#include "core/sweep/region.h"

/* What a quantized node makes, and all that follows from it. */
static bool *find_influenced(const struct graph *g, const bool *quantized_node, struct arena *mem, struct err *e)
{
    bool *influenced = arena_array(mem, (uint64_t)g->n_values, sizeof *influenced, e);
    for (int i = 0; influenced && i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        bool hit = quantized_node[i];
        for (int j = 0; j < n->n_in; j++)
            hit |= n->in[j] >= 0 && influenced[n->in[j]];
        for (int j = 0; j < n->n_out; j++)
            if (n->out[j] >= 0)
                influenced[n->out[j]] = hit;
    }
    return influenced;
}

static int last_reader(const struct graph *g, int value)
{
    const struct value *v = &g->values[value];
    return v->is_output ? g->n_nodes : v->n_consumers ? v->consumers[v->n_consumers - 1] : -1;
}

int regions_find(const struct graph *g, const bool *quantized_node, struct arena *mem, int *ret_region, struct err *e)
{
    bool *influenced = find_influenced(g, quantized_node, mem, e);
    int *ends = arena_array(mem, (uint64_t)g->n_nodes + 1, sizeof *ends, e);
    if (!influenced || !ends)
        return 0;
    int alive = 0, region = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        /* Here `alive` counts the influenced values made before node i that node i or a later one reads. */
        alive -= ends[i];
        if (alive == 1 && i > 0)
            region++;
        ret_region[i] = region;
        const struct node *n = &g->nodes[i];
        for (int j = 0; j < n->n_out; j++) {
            int last = n->out[j] >= 0 && influenced[n->out[j]] ? last_reader(g, n->out[j]) : -1;
            if (last > i) {
                alive++;
                ends[last < g->n_nodes ? last + 1 : g->n_nodes]++;
            }
        }
    }
    return region + 1;
}

bool regions_values(const struct graph *g, const bool *quantized_node, const int *region, struct arena *mem, int *ret, struct err *e)
{
    bool *influenced = find_influenced(g, quantized_node, mem, e);
    if (!influenced)
        return false;
    for (int i = 0; i < g->n_nodes; i++)
        ret[i] = -1;
    for (int v = 0; v < g->n_values; v++) {
        int made = g->values[v].producer;
        for (int i = made + 1; influenced[v] && made >= 0 && i < g->n_nodes && i <= last_reader(g, v); i++)
            if (i > 0 && region[i] != region[i - 1])
                ret[i] = v;
    }
    return true;
}
