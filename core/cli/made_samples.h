/*
 * made_samples.h - samples where nobody gave any: what the model's inputs take, made up.
 *
 *   ids         looked up in the largest constant table: drawn at random
 *   positions   looked up in a smaller one with room for all tokens: 0, 1, 2, ...
 *   kinds       looked up in one that is smaller yet: 0
 *   masks       other integers and truth values: 1
 *   the rest    floats at random between 0 and 1
 *
 * Which input is what is told from the graph.  The first axis is samples; all other lengths that the model leaves
 * open are one length, the largest of a few powers of two that the model takes.
 */
#ifndef CORE_CLI_MADE_SAMPLES_H
#define CORE_CLI_MADE_SAMPLES_H

#include "core/cli/load.h"
#include "core/recipe/recipe.h"

/*
 * Where the recipe has random tokens, as many as it says (64 unless said), of up to 128 tokens, to calibrate on; else one batch of up to 16
 * tokens, to run the artifact on.  In `mem`.
 * Errors: ERR_DATA_REQUIRED where floats would have to be drawn to calibrate on, or no length fits; ERR_RECIPE_COMBINATION, with the
 * field, without an input of ids, or where too many samples are asked for.
 */
bool made_samples(const struct loaded_model *m, const struct recipe *r, uint64_t seed, struct arena *mem, struct samples *ret, struct err *e);

#endif
