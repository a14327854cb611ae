/* check.h - what ONNX says an operator's attributes are.  Internal to core/graph. */
#ifndef CORE_GRAPH_CHECK_H
#define CORE_GRAPH_CHECK_H

#include "core/graph/graph.h"

/*
 * Every attribute is known to the op, has its type and is there once; required ones are present.
 * ERR_MODEL_INVALID naming node and attribute.
 */
bool check_attrs(const struct node *n, const char *where, struct err *e);

#endif
