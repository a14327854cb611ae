/* link.h - order and numbering, for the steps of graph_load().  Internal to core/graph. */
#ifndef CORE_GRAPH_LINK_H
#define CORE_GRAPH_LINK_H

#include "core/graph/graph.h"

/* Sets producers and sorts all nodes, dead ones too.  ERR_MODEL_INVALID names a cycle or a tensor written twice. */
bool link_sort(struct graph *g, struct err *e);

/* Drops values that nothing makes, uses or returns, and renumbers the rest. */
bool link_compact(struct graph *g, struct err *e);

/* graph_shape_text() before the graph has its list of names; symbols may be NULL. */
const char *link_shape_text(const char *const *symbols, const struct shape *s, char *buf, size_t size);

#endif
