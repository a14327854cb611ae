/* needs.c - which recipes can do without calibration data. */
#include "core/recipe/field.h"

#define AT(field) offsetof(struct recipe, field)
#define WHERE(kind, field, value) { { kind, AT(field), value } }, AT(field)

/* `why` tells what the data are for, and what else can be done. */
static const struct recipe_refusal needs[] = {
    { WHERE(CONDITION_IS, activations.mode, RECIPE_STATIC), "static ranges are taken from calibration data; give some, or use the method zeroquant, which finds them while the artifact runs" },
    { WHERE(CONDITION_IS, method, RECIPE_METHOD_SMOOTHQUANT), "the factors of channels are taken from calibration data; give some, or use the method zeroquant" },
    { WHERE(CONDITION_IS_NOT, weights.rounding, RECIPE_NEAREST), "weights are rebuilt against the layers' inputs; give calibration data, or set the rounding to nearest" },
    { WHERE(CONDITION_IS, reconstruction.blocks, 1), "blocks are taught on calibration data; give some, set calibration.random_tokens to true if the model reads tokens, or set blocks to false" },
    { WHERE(CONDITION_IS, reconstruction.bias_correction, 1), "the mean error is taken from calibration data; give some, or set it to false" },
    { WHERE(CONDITION_IS_NOT, compensation.rank, 0), "what a layer's inputs weigh is taken from calibration data; give some, or set the rank to 0" },
};

bool recipe_without_data(const struct recipe *r, const char *pointer, struct err *e)
{
    return field_refuse(needs, sizeof needs / sizeof needs[0], r, pointer, ERR_DATA_REQUIRED, e);
}
