/*
 * region.h - where a graph can be cut with one tensor in hand.
 *
 * A region ends before node `at` if exactly one value that a quantized site
 * influences is alive there (made earlier, needed at `at` or later); masks,
 * rotary tables and position biases, which no site influences, do not count.  In a pre-norm transformer that is
 * every point between two residual additions' inputs.  Block methods work on
 * regions; the report names each layer's.
 */
#ifndef CORE_SWEEP_REGION_H
#define CORE_SWEEP_REGION_H

#include "core/graph/graph.h"

/*
 * quantized_node[n_nodes] marks the nodes a method quantizes; ret_region[n_nodes] gets the number of the region a node belongs to, from 0 and never decreasing.  Returns the count of
 * regions (>= 1), or 0 with *e set.
 */
int regions_find(const struct graph *g, const bool *quantized_node, struct arena *mem, int *ret_region, struct err *e);

/* ret[n_nodes]: the one influenced value alive before a node that begins a region; -1 elsewhere, and where none is. */
bool regions_values(const struct graph *g, const bool *quantized_node, const int *region, struct arena *mem, int *ret, struct err *e);

#endif
