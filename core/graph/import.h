/* import.h - the first steps of graph_load().  Internal to core/graph. */
#ifndef CORE_GRAPH_IMPORT_H
#define CORE_GRAPH_IMPORT_H

#include "core/graph/graph.h"
#include "core/graph/symbols.h"

/* Names to numbers, every rule that needs no shapes checked, nodes sorted.  Input shapes get their symbols from s. */
struct graph *import_model(struct arena *mem, const struct onnx_model *m, struct symbols *s, struct err *e);

/* Must input i be given?  Of a list every one, unless a body says what its inputs are. */
bool import_needs(enum op op, size_t i);

/* Constant becomes a constant; Identity and Dropout are looked through.  Edges must be linked. */
bool import_resolve(struct graph *g, struct err *e);

/* The value of a Constant; its bytes are borrowed from the attribute.  An error unless it has exactly one. */
bool resolve_constant(const struct node *n, const char *where, struct tensor *ret, struct err *e);
/* An error where a Dropout may be in training mode. */
bool resolve_dropout(const struct graph *g, const struct node *n, const char *where, struct err *e);

/* The operator (or function) that o names, its attributes and how many inputs and outputs it has, checked; not its edges. */
bool import_op(const struct graph *g, const struct onnx_node *o, const char *where, struct node *ret, struct err *e);

#endif
