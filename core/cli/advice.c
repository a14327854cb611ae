#include "core/cli/advice.h"

#include <stdio.h>

struct advice { const struct roles *roles; advice_fn *tell; void *arg; };

static void look_for(const struct advice *a, const char *pattern, const char *list, int index)
{
    char pointer[64], text[RECIPE_MAX_PATTERN + 160];
    for (int i = 0; i < a->roles->n_layers; i++)
        if (recipe_glob(pattern, a->roles->layers[i].name))
            return;
    snprintf(pointer, sizeof pointer, "/recipe/%s/%d", list, index);
    snprintf(text, sizeof text, "no layer's name matches \"%s\", so it changes nothing; `repquant inspect` and the model's inventory list the names", pattern);
    a->tell(a->arg, "recipe.no_match", pointer, pattern, text);
}

void advise(const struct recipe *recipe, const struct roles *roles, int64_t samples, const char *data, advice_fn *tell, void *arg)
{
    struct advice a = { roles, tell, arg };
    char text[120];
    int64_t used = recipe->calibration.samples && recipe->calibration.samples < samples ? recipe->calibration.samples : samples;
    if (used >= 0 && used < FEW_SAMPLES) {
        snprintf(text, sizeof text, "%lld calibration samples give unreliable ranges; use %d or more", (long long)used, FEW_SAMPLES);
        tell(arg, "dataset.too_few_samples", "/dataset_id", data, text);
    }
    for (int i = 0; i < recipe->n_exclude; i++)
        look_for(&a, recipe->exclude[i], "exclude", i);
    for (int i = 0; i < recipe->n_overrides; i++)
        if (recipe->overrides[i].match[0])
            look_for(&a, recipe->overrides[i].match, "overrides", i);
}
