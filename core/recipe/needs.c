/* needs.c - which recipes can do without calibration data. */
#include "core/recipe/field.h"

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
    return field_refuse(needs, sizeof needs / sizeof needs[0], r, pointer, ERR_DATA_REQUIRED, e);
}
