/*
 * random_tokens.h - calibration without anybody's text: ids drawn at random, in the shapes of the samples that were given.
 *
 * Taken are inputs that are looked up in a constant table of VOCABULARY rows or more, unless they count up (positions);
 * masks and kinds of tokens stay.  ZeroQuant distils on
 * such samples where there is no data (arXiv 2206.01861).
 */
#ifndef CORE_CLI_RANDOM_TOKENS_H
#define CORE_CLI_RANDOM_TOKENS_H

#include "core/data/dataset.h"
#include "core/graph/graph.h"

/* Replaces inputs of *io by arrays in `mem`; ERR_RECIPE_COMBINATION if the model has no such input. */
bool random_tokens(const struct graph *g, uint64_t seed, struct arena *mem, struct samples *io, struct err *e);

/*
 * Rows of the constant table that the value's elements are numbers of; 0: none.  Some exporters cast the ids first;
 * behind more than a few Casts, one after the other or side by side, no table is looked for.
 */
int64_t table_rows(const struct graph *g, int value);

#endif
