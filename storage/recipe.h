/* recipe.h - recipes that a team has saved under a name of its own. */
#ifndef STORAGE_RECIPE_H
#define STORAGE_RECIPE_H

#include "storage/store.h"
#include "storage/ulid.h"

enum { SAVED_NAME_SIZE = 65, SAVED_DESCRIPTION_SIZE = 201, SAVED_PER_TEAM = 100 };

struct saved_recipe {
    char name[SAVED_NAME_SIZE];
    char description[SAVED_DESCRIPTION_SIZE];       /* for people; may be "" */
    char created_by[ID_SIZE];                       /* the token; "": nobody's */
    int64_t created_at;
    char *text;                                     /* recipe_text() of core/recipe/recipe.h, of the version that saved it; owned; NULL in lists */
};
void saved_recipe_release(struct saved_recipe *r);

/*
 * Keeps name, description and text of *r unless the team has a recipe of that name; *ret is what it has then.  *ret_new: that was kept now.
 * ERR_QUOTA if it has SAVED_PER_TEAM already.
 */
bool recipe_save(struct store *s, const char *team, const struct saved_recipe *r, struct saved_recipe *ret, bool *ret_new, struct err *e);

/* ERR_NOT_FOUND. */
bool recipe_get(struct store *s, const char *team, const char *name, struct saved_recipe *ret, struct err *e);

struct recipe_list { struct saved_recipe *items; size_t n; };
bool recipe_list(struct store *s, const char *team, struct recipe_list *ret, struct err *e);        /* all, by name, without their texts */
void recipe_list_release(struct recipe_list *l);

/* Jobs that were made with it keep their own copy.  ERR_NOT_FOUND. */
bool recipe_delete(struct store *s, const char *team, const char *name, struct err *e);

#endif
