#include "core/recipe/recipe.h"

#include <string.h>

/* What all W8A8 presets have in common; ONNX Runtime's uint8 activations, weights per output channel. */
#define W8A8                                                                                        \
    .weights = { 8, RECIPE_PER_CHANNEL, true }, .attention = { true, RECIPE_SOFTMAX_UNIFORM },      \
    .convolutions = true, .target = RECIPE_TARGET_ONNXRUNTIME

static const struct recipe_preset presets[] = {
    { "minmax-w8a8",
      "8-bit weights and activations; ranges are the extremes seen in calibration. The plain baseline, exact about outliers.",
      { .name = "minmax-w8a8", .method = RECIPE_METHOD_MINMAX, W8A8,
        .activations = { 8, RECIPE_PER_TENSOR, RECIPE_STATIC, false, RECIPE_OBSERVER_MINMAX, 0 } } },
    { "percentile-w8a8",
      "8-bit weights and activations; ranges hold 99.999 % of the calibration values, so rare outliers do not cost resolution.",
      { .name = "percentile-w8a8", .method = RECIPE_METHOD_PERCENTILE, W8A8,
        .activations = { 8, RECIPE_PER_TENSOR, RECIPE_STATIC, false, RECIPE_OBSERVER_PERCENTILE, 99.999 } } },
};

const struct recipe_preset *recipe_presets(size_t *ret_n)
{
    *ret_n = sizeof presets / sizeof presets[0];
    return presets;
}

const struct recipe *recipe_preset(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i].recipe;
    return NULL;
}
