/* import.h - the first steps of graph_load().  Internal to core/graph. */
#ifndef CORE_GRAPH_IMPORT_H
#define CORE_GRAPH_IMPORT_H

#include "core/graph/graph.h"
#include "core/graph/symbols.h"

/* Names to numbers, every rule that needs no shapes checked, nodes sorted.  Input shapes get their symbols from s. */
struct graph *import_model(struct arena *mem, const struct onnx_model *m, struct symbols *s, struct err *e);

/* Constant becomes a constant; Identity and Dropout are looked through. */
bool import_resolve(struct graph *g, struct err *e);

#endif
