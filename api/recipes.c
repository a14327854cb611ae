/* recipes.c - /v1/recipes: the presets, and what a team has saved beside them. */
#include "api/recipes.h"

#include "api/app.h"
#include "api/handlers.h"
#include "api/request.h"
#include "api/rows.h"
#include "storage/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)SAVED_NAME_SIZE == (int)RECIPE_MAX_NAME + 1, "a saved recipe has its name in it");

/* ---- what a request means by a recipe ---- */

/* The name it gives or starts from; NULL: none. */
static const char *name_in(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "preset") : value);
}

/* What is saved, as this version has it: fields that have come since get their defaults.  ERR_RECIPE_...: this version has no such recipe. */
static bool read_saved(const struct saved_recipe *saved, struct recipe *ret, struct err *e)
{
    return recipe_parse(saved->text, strlen(saved->text), ret, e);
}

static bool is_of_recipes(enum err_code code) { return code == ERR_RECIPE_FIELD || code == ERR_RECIPE_COMBINATION || code == ERR_RECIPE_UNKNOWN; }

/* The team's recipe of that name; *ret_has: there is one. */
static bool find_saved(struct app *app, const char *team, const char *name, const char *where, struct recipe *ret, bool *ret_has, struct err *e)
{
    struct saved_recipe saved;
    struct err why = { 0 }, wrong = { 0 };
    *ret_has = recipe_get(app->store, team, name, &saved, &why);
    if (!*ret_has) {
        if (why.code != ERR_NOT_FOUND)
            *e = why;
        return why.code == ERR_NOT_FOUND;
    }
    bool ok = read_saved(&saved, ret, &wrong);
    saved_recipe_release(&saved);
    if (!ok && is_of_recipes(wrong.code))
        return err_set(e, wrong.code, where, "the saved recipe \"%.64s\" cannot be used by this version: at %.100s, %.150s; delete it and save it anew",
                       name, wrong.where, wrong.text);
    if (!ok)
        *e = wrong;
    return ok;
}

bool recipe_wish(struct app *app, const char *team, const json_t *value, const char *pointer, struct recipe *ret, struct err *e)
{
    char where[160];
    const char *name = name_in(value);
    if (!name || recipe_preset(name) || !recipe_name_valid(name))
        return recipe_from_json(value, pointer, NULL, ret, e);
    bool has = false;
    struct recipe *saved = malloc(sizeof *saved);       /* tens of kilobytes: not for a thread's stack */
    snprintf(where, sizeof where, "%s%s", pointer, json_is_object(value) ? "/preset" : "");
    bool ok = saved ? find_saved(app, team, name, where, saved, &has, e) : err_sys(e, pointer, "look the recipe up");
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

/* The whole recipe; what this version cannot read, as it was saved. */
static json_t *whole(const struct saved_recipe *saved)
{
    struct recipe *recipe = malloc(sizeof *recipe);
    if (!recipe)
        return NULL;
    json_t *json = read_saved(saved, recipe, NULL) ? recipe_json(recipe) : row_stored(saved->text);
    free(recipe);
    return json;
}

static json_t *saved_json(const struct saved_recipe *r)
{
    return json_pack("{s:s, s:s, s:o, s:b, s:o, s:o}", "name", r->name, "description", r->description, "recipe", r->text ? whole(r) : json_null(),
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
    json_t *row = whole(&saved);
    saved_recipe_release(&saved);
    return reply_json(reply, 200, row, e);
}

/* ---- changing ---- */

/* It is to stand in a path and behind --recipe, where ".json" at its end says that it is a file's. */
static bool take_name(const char *name, struct recipe *recipe, struct err *e)
{
    size_t n = strlen(name);
    if (!recipe_name_valid(name) || strchr("._-", *name) || (n >= 5 && strcmp(name + n - 5, ".json") == 0))
        return err_set(e, ERR_REQUEST_JSON, "/name", "a saved recipe's name is 1 to %d of a-z, 0-9, '.', '_' and '-', begins with a letter or a digit,"
                       " and does not end in \".json\"", (int)RECIPE_MAX_NAME);
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
        || !json_get_str(body, "description", "", true, SAVED_DESCRIPTION_SIZE - 1, &description, ERR_REQUEST_JSON, e)
        || (*description && !request_name(description, "/description", e)))
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

/* A name stands for one recipe. */
static bool is_same(const struct saved_recipe *have, const struct saved_recipe *want, const struct recipe *recipe, struct err *e)
{
    struct err wrong = { 0 };
    struct recipe *before = malloc(sizeof *before);
    if (!before)
        return err_sys(e, "/recipe", "compare the recipe");
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): see recipe.h */
    bool same = read_saved(have, before, &wrong) && memcmp(before, recipe, sizeof *before) == 0;
    free(before);
    if (wrong.code && !is_of_recipes(wrong.code)) {
        *e = wrong;
        return false;
    }
    if (same && strcmp(have->description, want->description) == 0)
        return true;
    return err_set(e, ERR_CONFLICT, "/name", "the team has \"%.64s\" already, %s; choose another name, or delete that one first", want->name,
                   same ? "with another description" : "which is another recipe");
}

static bool save(struct app *app, const struct request *req, const json_t *body, struct saved_recipe *ret, bool *ret_new, struct err *e)
{
    struct saved_recipe wanted = { 0 };
    struct recipe *recipe = malloc(sizeof *recipe);
    if (!recipe)
        return err_sys(e, "/recipe", "keep the recipe");
    bool ok = take_saved(app, req, body, recipe, &wanted, e) && recipe_save(app->store, req->who.team, &wanted, ret, ret_new, e)
        && (*ret_new || is_same(ret, &wanted, recipe, e));
    saved_recipe_release(&wanted);
    free(recipe);
    return ok;
}

bool post_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "name", "description", "recipe", NULL };
    struct saved_recipe saved = { 0 };
    bool is_new = true;
    json_t *body = request_json(req, members, false, e), *row = NULL;
    reply->status = 201;
    bool ok = body && save(app, req, body, &saved, &is_new, e);
    json_decref(body);
    if (ok) {
        reply_field(reply, "Location", "/v1/recipes/%s", saved.name);
        row = saved_json(&saved);
    }
    saved_recipe_release(&saved);
    return ok && reply_json(reply, is_new ? 201 : 200, row, e);
}

/* A later version may bring a preset whose name a team has used before: theirs can still be deleted. */
bool delete_recipe(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct err why = { 0 };
    reply->status = 204;
    if (recipe_delete(app->store, req->who.team, req->param[0], &why))
        return true;
    if (why.code == ERR_NOT_FOUND && recipe_preset(req->param[0]))
        return err_set(e, ERR_CONFLICT, "name", "a preset cannot be deleted");
    *e = why;
    return false;
}
