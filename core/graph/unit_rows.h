/*
 * unit_rows.h - linears whose input rows are divided by their largest magnitude, and whose output rows are multiplied by it.
 *
 *     a = Max(ReduceMax(Abs(x), last axis), 1e-9)        y = a * ((x / a) W) + b
 *
 * In float nothing changes but rounding.  What a linear reads then lies in [-1, 1] for every row whatever comes, so one fixed
 * quantizer is a range of its own for every token: ZeroQuant's token-wise quantization (arXiv 2206.01861, section 4.1) in
 * standard operators, which QuantizeLinear alone cannot express on the axes of tokens.
 */
#ifndef CORE_GRAPH_UNIT_ROWS_H
#define CORE_GRAPH_UNIT_ROWS_H

#include "core/graph/roles.h"

/*
 * Edits the graph for the linears marked in wanted[r->n_layers] (others are left alone) and relinks it: node numbers change, so
 * the roles are to be found again.  Linears of one input share its rows' magnitudes.  A bias becomes an Add behind the product.
 */
bool graph_unit_rows(struct graph *g, const struct roles *r, const bool *wanted, struct err *e);

/* Is the value such a quotient? */
bool graph_has_unit_rows(const struct graph *g, int value);

#endif
