/*
 * advice.h - what makes one doubt a job before anything is computed.  A job tells it as warnings, a dry run among its problems.
 */
#ifndef CORE_CLI_ADVICE_H
#define CORE_CLI_ADVICE_H

#include "core/graph/roles.h"
#include "core/recipe/recipe.h"

enum { FEW_SAMPLES = 32 };      /* fewer show hardly a range */

/* pointer: into a request's body, as "/recipe/exclude/0".  where: the data set's name, or the pattern. */
typedef void advice_fn(void *arg, const char *code, const char *pointer, const char *where, const char *text);

/*
 * Tells of patterns of the recipe that no layer's name matches, and of few samples.  samples: how many there are to calibrate with, of which the recipe
 * may take fewer; negative where none were given.
 */
void advise(const struct recipe *recipe, const struct roles *roles, int64_t samples, const char *data, advice_fn *tell, void *arg);

#endif
