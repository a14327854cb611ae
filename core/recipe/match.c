#include "core/recipe/recipe.h"

#include <stdio.h>

/* Only the last star is ever retried: an earlier one could not do better, so no pattern takes exponential time. */
bool recipe_glob(const char *pattern, const char *name)
{
    const char *star = NULL, *retry = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            retry = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool override_fits(const struct recipe_override *o, const char *layer, enum recipe_part part)
{
    return (!o->match[0] || recipe_glob(o->match, layer)) && (!o->part || o->part == part);
}

void recipe_match(const struct recipe *r, const char *layer, enum recipe_part part, struct recipe_choice *ret)
{
    *ret = (struct recipe_choice){ true, r->weights.bits, r->activations.bits, "" };
    for (int i = 0; i < r->n_exclude; i++)
        if (recipe_glob(r->exclude[i], layer)) {
            *ret = (struct recipe_choice){ 0 };
            snprintf(ret->reason, sizeof ret->reason, "excluded by \"%s\"", r->exclude[i]);
            return;
        }
    for (int i = 0; i < r->n_overrides; i++) {
        const struct recipe_override *o = &r->overrides[i];
        if (!override_fits(o, layer, part))
            continue;
        ret->weight_bits = o->weight_bits ? o->weight_bits : ret->weight_bits;
        ret->act_bits = o->act_bits ? o->act_bits : ret->act_bits;
        snprintf(ret->reason, sizeof ret->reason, "override \"%s\"", o->match[0] ? o->match : recipe_part_name[o->part]);
        return;
    }
}
