/* recipes.h - what a request means by a recipe. */
#ifndef API_RECIPES_H
#define API_RECIPES_H

#include "core/recipe/recipe.h"

struct app;

/*
 * As recipe_from_json(), for a team: what is named like a preset may be a recipe that the team has saved.  Errors are those, and what
 * reading the store can say.
 */
bool recipe_wish(struct app *app, const char *team, const json_t *value, const char *pointer, struct recipe *ret, struct err *e);

#endif
