/* recipes.c - /v1/recipes: the presets, and what a team has saved beside them. */
#include "api/recipes.h"

#include "api/app.h"
#include "api/handlers.h"
#include "api/request.h"
#include "api/rows.h"
#include "storage/recipe.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((int)SAVED_NAME_SIZE == (int)RECIPE_MAX_NAME + 1, "a saved recipe has its name in it");

/* ---- what a request means by a recipe ---- */

/* The name it gives or starts from; NULL: none. */
static const char *name_in(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "preset") : value);
}

/* The team's recipe of that name; *ret_has: there is one. */
static bool find_saved(struct app *app, const char *team, const char *name, struct recipe *ret, bool *ret_has, struct err *e)
{
    struct saved_recipe saved;
    struct err why = { 0 };
    *ret_has = recipe_get(app->store, team, name, &saved, &why);
    if (!*ret_has) {
        if (why.code != ERR_NOT_FOUND)
            *e = why;
        return why.code == ERR_NOT_FOUND;
    }
    bool ok = recipe_parse(saved.text, strlen(saved.text), ret, e);
    saved_recipe_release(&saved);
    return ok;
}

bool recipe_wish(struct app *app, const char *team, const json_t *value, const char *pointer, struct recipe *ret, struct err *e)
{
    const char *name = name_in(value);
    if (!name || recipe_preset(name) || !recipe_name_valid(name))
        return recipe_from_json(value, pointer, NULL, ret, e);
    bool has = false;
    struct recipe *saved = malloc(sizeof *saved);       /* tens of kilobytes: not for a thread's stack */
    bool ok = saved ? find_saved(app, team, name, saved, &has, e) : err_sys(e, pointer, "look the recipe up");
    ok = ok && recipe_from_json(value, pointer, has ? saved : NULL, ret, e);
    free(saved);
    return ok;
}

/* ---- rows ---- */

static json_t *preset_json(const struct recipe_preset *p)
{
    return json_pack("{s:s, s:s, s:o, s:b, s:n, s:n}", "name", p->name, "description", p->description, "recipe", recipe_json(&p->recipe),
                     "preset", true, "created_at", "created_by");
}

static json_t *saved_json(const struct saved_recipe *r)
{
    return json_pack("{s:s, s:s, s:o, s:b, s:o, s:o}", "name", r->name, "description", r->description, "recipe", row_stored(r->text),
                     "preset", false, "created_at", row_time(r->created_at), "created_by", row_text(r->created_by));
}

bool list_recipes(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    size_t n;
    struct recipe_list list = { 0 };
    const struct recipe_preset *presets = recipe_presets(&n);
    if (!recipe_list(app->store, req->who.team, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(data, preset_json(&presets[i]));
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, saved_json(&list.items[i]));
    recipe_list_release(&list);
    return reply_json(reply, 200, row_list(data, false, ""), e);
}

bool get_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct saved_recipe saved;
    const struct recipe *preset = recipe_preset(req->param[0]);
    if (preset)
        return reply_json(reply, 200, recipe_json(preset), e);
    if (!recipe_get(app->store, req->who.team, req->param[0], &saved, e))
        return false;
    json_t *row = row_stored(saved.text);
    saved_recipe_release(&saved);
    return reply_json(reply, 200, row, e);
}

/* ---- changing ---- */

static bool take_name(const char *name, struct recipe *recipe, struct err *e)
{
    if (!recipe_name_valid(name))
        return err_set(e, ERR_REQUEST_JSON, "/name", "a recipe's name is 1 to %d of a-z, 0-9, '.', '_' and '-'", (int)RECIPE_MAX_NAME);
    if (recipe_preset(name))
        return err_set(e, ERR_CONFLICT, "/name", "\"%.64s\" is a preset; save the recipe under another name", name);
    memset(recipe->name, 0, sizeof recipe->name);       /* recipes are compared byte by byte */
    memcpy(recipe->name, name, strlen(name));
    return true;
}

/* *ret: to be released also after a failure. */
static bool take_saved(struct app *app, const struct request *req, const json_t *body, struct recipe *recipe, struct saved_recipe *ret, struct err *e)
{
    const char *name, *description = "";
    const json_t *value = json_object_get(body, "recipe");
    if (!json_get_str(body, "name", "", false, RECIPE_MAX_NAME, &name, ERR_REQUEST_JSON, e)
        || !json_get_str(body, "description", "", true, SAVED_DESCRIPTION_SIZE - 1, &description, ERR_REQUEST_JSON, e))
        return false;
    if (!value)
        return err_set(e, ERR_REQUEST_JSON, "/recipe", "give the recipe as an object, or the name of one (GET /v1/recipes)");
    if (!recipe_wish(app, req->who.team, value, "/recipe", recipe, e) || !take_name(name, recipe, e))
        return false;
    memcpy(ret->name, recipe->name, sizeof ret->name);
    memcpy(ret->description, description, strlen(description) + 1);
    memcpy(ret->created_by, req->who.id, sizeof ret->created_by);
    ret->text = recipe_text(recipe);
    return ret->text || err_set(e, ERR_MEMORY, "/recipe", "no memory for the recipe");
}

bool post_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "name", "description", "recipe", NULL };
    struct saved_recipe wanted = { 0 }, saved = { 0 };
    bool is_new = true;
    json_t *body = request_json(req, members, false, e);
    struct recipe *recipe = body ? malloc(sizeof *recipe) : NULL;
    bool ok = body && (recipe ? take_saved(app, req, body, recipe, &wanted, e) : err_sys(e, "/recipe", "keep the recipe"));
    free(recipe);
    json_decref(body);
    reply->status = 201;
    ok = ok && recipe_save(app->store, req->who.team, &wanted, &saved, &is_new, e);
    saved_recipe_release(&wanted);
    if (!ok)
        return false;
    reply_field(reply, "Location", "/v1/recipes/%s", saved.name);
    json_t *row = saved_json(&saved);
    saved_recipe_release(&saved);
    return reply_json(reply, is_new ? 201 : 200, row, e);
}

bool delete_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    if (recipe_preset(req->param[0]))
        return err_set(e, ERR_CONFLICT, "name", "a preset cannot be deleted");
    reply->status = 204;
    return recipe_delete(app->store, req->who.team, req->param[0], e);
}
