/* recipes.c - /v1/recipes: the presets. */
#include "api/handlers.h"
#include "api/request.h"

#include "core/recipe/recipe.h"

bool list_recipes(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    size_t n;
    const struct recipe_preset *presets = recipe_presets(&n);
    json_t *data = json_array();
    (void)app, (void)req;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(data, json_pack("{s:s, s:s, s:o}", "name", presets[i].name, "description", presets[i].description,
                                              "recipe", recipe_json(&presets[i].recipe)));
    return reply_json(reply, 200, json_pack("{s:o, s:n}", "data", data, "next_cursor"), e);
}

bool get_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    const struct recipe *recipe = recipe_preset(req->param[0]);
    (void)app;
    if (!recipe)
        return err_set(e, ERR_NOT_FOUND, "name", "no recipe has this name; GET /v1/recipes lists them");
    return reply_json(reply, 200, recipe_json(recipe), e);
}
