/* needs.c - which recipes can do without calibration data. */
#include "core/recipe/field.h"

#include <stdio.h>

static bool fixes_ranges(const struct recipe *r) { return r->activations.mode == RECIPE_STATIC; }
static bool smooths(const struct recipe *r) { return r->method == RECIPE_METHOD_SMOOTHQUANT; }
static bool rebuilds(const struct recipe *r) { return r->weights.rounding != RECIPE_NEAREST; }
static bool corrects(const struct recipe *r) { return r->reconstruction.bias_correction; }
static bool teaches(const struct recipe *r) { return r->reconstruction.blocks; }
static bool compensates(const struct recipe *r) { return r->compensation.rank > 0; }

#define AT(field) offsetof(struct recipe, field)

/* `why` tells what the data are for, and what else can be done. */
static const struct recipe_refusal needs[] = {
    { fixes_ranges, AT(activations.mode), "static ranges are taken from calibration data; give some, or use the method zeroquant, which finds them while the artifact runs" },
    { smooths, AT(method), "the factors of channels are taken from calibration data; give some, or use the method zeroquant" },
    { rebuilds, AT(weights.rounding), "weights are rebuilt against the layers' inputs; give calibration data, or set the rounding to nearest" },
    { teaches, AT(reconstruction.blocks), "blocks are taught on calibration data; give some, set calibration.random_tokens to true if the model reads tokens, or set blocks to false" },
    { corrects, AT(reconstruction.bias_correction), "the mean error is taken from calibration data; give some, or set it to false" },
    { compensates, AT(compensation.rank), "what a layer's inputs weigh is taken from calibration data; give some, or set the rank to 0" },
};

bool recipe_without_data(const struct recipe *r, const char *pointer, struct err *e)
{
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        const struct field *f = field_at(needs[i].at);
        char where[160];
        if (!needs[i].holds(r))
            continue;
        snprintf(where, sizeof where, "%s%s%s/%s", pointer, f->section ? "/" : "", f->section ? f->section : "", f->key);
        return err_set(e, ERR_DATA_REQUIRED, where, "\"%s\": %s", f->key, needs[i].why);
    }
    return true;
}
