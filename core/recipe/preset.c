#include "core/recipe/recipe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What all W8A8 presets have in common; ONNX Runtime's uint8 activations, weights per output channel.  Of the reconstruction nothing
 * is done unless the rounding becomes gptq or adaround. */
#define REBUILT .ridge = 1, .damping = 0.05, .descents = 2
#define W8A8_BLOCKS(taught)                                                                         \
    .weights = { .bits = 8, .granularity = RECIPE_PER_CHANNEL, .symmetric = true }, .attention = { true, RECIPE_SOFTMAX_UNIFORM },      \
    .reconstruction = { REBUILT, .blocks = taught }, .convolutions = true, .target = RECIPE_TARGET_ONNXRUNTIME
#define W8A8 W8A8_BLOCKS(false)

/*
 * RepQuant.  What differs by width was found on two vision transformers and a language model (bench/README.md).  At 4 bits
 * ranges per channel that lose their extremes are worth it, from 6 bits on they are not.  The narrower the weights are against
 * the activations, the more of the float stream's output they can take over; at 8 bits aiming at it fits the calibration set.
 * With 8 bits equal steps are finer than powers of sqrt 2 over the probabilities that matter.
 */
#define REPQUANT(preset, weight_bits, act_bits, range, clip, aim, hold, levels)                                 \
    .name = preset, .method = RECIPE_METHOD_REPQUANT,                                                           \
    .weights = { weight_bits, RECIPE_PER_CHANNEL, false, RECIPE_GPTQ },                                         \
    .activations = { act_bits, RECIPE_ONE_RANGE, RECIPE_STATIC, false, range, 0 },                             \
    .channels = { RECIPE_NORMS_SEARCH, clip, true }, .reconstruction = { aim, true, hold, 0.05, 2, true, false },  \
    .attention = { true, levels }, .convolutions = true, .target = RECIPE_TARGET_ONNXRUNTIME

/* The method's published code: nothing rebuilt, nothing corrected; what RepQuant's own parts are to be judged against. */
#define REPQ_VIT(preset, width)                                                                     \
    .name = preset, .method = RECIPE_METHOD_REPQ_VIT,                                               \
    .weights = { width, RECIPE_PER_CHANNEL, false, RECIPE_NEAREST },                                \
    .activations = { width, RECIPE_ONE_RANGE, RECIPE_STATIC, false, RECIPE_OBSERVER_PERCENTILES, 0 }, \
    .attention = { true, RECIPE_SOFTMAX_LOG_SQRT2 }, .convolutions = true, .target = RECIPE_TARGET_ONNXRUNTIME

static const struct recipe_preset presets[] = {
    { "minmax-w8a8",
      "8-bit weights and activations; ranges are the extremes seen in calibration. The plain baseline, exact about outliers.",
      { .name = "minmax-w8a8", .method = RECIPE_METHOD_MINMAX, W8A8,
        .activations = { 8, RECIPE_ONE_RANGE, RECIPE_STATIC, false, RECIPE_OBSERVER_MINMAX, 0 } } },
    { "percentile-w8a8",
      "8-bit weights and activations; ranges hold 99.999 % of the calibration values, so rare outliers do not cost resolution.",
      { .name = "percentile-w8a8", .method = RECIPE_METHOD_PERCENTILE, W8A8,
        .activations = { 8, RECIPE_ONE_RANGE, RECIPE_STATIC, false, RECIPE_OBSERVER_PERCENTILE, 99.999 } } },
    { "smoothquant-w8a8",
      "SmoothQuant, 8 bits: outlier channels shrunk by factors that norms and linears before them take up, chosen by output error.",
      { .name = "smoothquant-w8a8", .method = RECIPE_METHOD_SMOOTHQUANT, W8A8, .smoothing = { RECIPE_ALPHA_AUTO, true },
        .activations = { 8, RECIPE_ONE_RANGE, RECIPE_STATIC, false, RECIPE_OBSERVER_MINMAX, 0 } } },
    { "smoothquant-group-w8a8",
      "SmoothQuant with a scale for each 128 inputs of an output channel: the weights lose less, the artifact is slower than smoothquant-w8a8.",
      { .name = "smoothquant-group-w8a8", .method = RECIPE_METHOD_SMOOTHQUANT, .smoothing = { RECIPE_ALPHA_AUTO, true },
        .weights = { .bits = 8, .granularity = RECIPE_PER_GROUP, .symmetric = true, .group_size = 128 },
        .attention = { true, RECIPE_SOFTMAX_UNIFORM }, .reconstruction = { REBUILT },
        .convolutions = true, .target = RECIPE_TARGET_ONNXRUNTIME,
        .activations = { 8, RECIPE_ONE_RANGE, RECIPE_STATIC, false, RECIPE_OBSERVER_MINMAX, 0 } } },
    { "zeroquant-w8a8",
      "ZeroQuant, 8 bits: a range for each token, found while the artifact runs; for language models, whose tokens differ most.",
      { .name = "zeroquant-w8a8", .method = RECIPE_METHOD_ZEROQUANT, W8A8,
        .activations = { 8, RECIPE_PER_TOKEN, RECIPE_DYNAMIC, false, RECIPE_OBSERVER_MINMAX, 0 } } },
    { "zeroquant-w4a8",
      "ZeroQuant, mixed: 8-bit weights in attention, 4-bit ones in feed-forward layers, a range for each token; with rounding gptq more accurate.",
      { .name = "zeroquant-w4a8", .method = RECIPE_METHOD_ZEROQUANT, W8A8,
        .activations = { 8, RECIPE_PER_TOKEN, RECIPE_DYNAMIC, false, RECIPE_OBSERVER_MINMAX, 0 },
        .n_overrides = 1, .overrides = { { "", RECIPE_FEED_FORWARD, 4, 0 } } } },
    { "zeroquant-lkd-w4a8",
      "ZeroQuant with layer-by-layer distillation: zeroquant-w4a8 whose blocks are taught to give the float model's output.",
      { .name = "zeroquant-lkd-w4a8", .method = RECIPE_METHOD_ZEROQUANT, W8A8_BLOCKS(true),
        .distillation = { RECIPE_TEACHER, 100, 16, 0.01, 0.01, 25 },
        .activations = { 8, RECIPE_PER_TOKEN, RECIPE_DYNAMIC, false, RECIPE_OBSERVER_MINMAX, 0 },
        .n_overrides = 1, .overrides = { { "", RECIPE_FEED_FORWARD, 4, 0 } } } },
    { "repquant-w8a8",
      "RepQuant, 8 bits: channel scales folded into norms, weights rebuilt against the quantized inputs.",
      { REPQUANT("repquant-w8a8", 8, 8, RECIPE_OBSERVER_MSE, RECIPE_CLIP_MINMAX, 0.25, 1, RECIPE_SOFTMAX_UNIFORM) } },
    { "repquant-w6a6",
      "RepQuant, 6 bits, stored as int8: for runtimes or chips that gain from narrow codes, and exact without VNNI.",
      { REPQUANT("repquant-w6a6", 6, 6, RECIPE_OBSERVER_MINMAX, RECIPE_CLIP_MINMAX, 0.5, 2, RECIPE_SOFTMAX_LOG_SQRT2) } },
    { "repquant-w4a8",
      "RepQuant, 4-bit weights under 8-bit activations: a file of an eighth, with little loss.",
      { REPQUANT("repquant-w4a8", 4, 8, RECIPE_OBSERVER_MSE, RECIPE_CLIP_MINMAX, 0.75, 1, RECIPE_SOFTMAX_UNIFORM) } },
    { "repquant-w4a4",
      "RepQuant, 4 bits: where plain quantization of a vision transformer collapses; expect to lose accuracy.",
      { REPQUANT("repquant-w4a4", 4, 4, RECIPE_OBSERVER_MSE, RECIPE_CLIP_GRID, 0.5, 1, RECIPE_SOFTMAX_LOG_SQRT2) } },
    { "repq-vit-w8a8", "RepQ-ViT as published, 8 bits.", { REPQ_VIT("repq-vit-w8a8", 8) } },
    { "repq-vit-w6a6", "RepQ-ViT as published, 6 bits: channel scales folded into norms, weights rounded to nearest.",
      { REPQ_VIT("repq-vit-w6a6", 6) } },
    { "repq-vit-w4a4", "RepQ-ViT as published, 4 bits: to compare with; repquant-w4a4 is more accurate.",
      { REPQ_VIT("repq-vit-w4a4", 4) } },
};

const struct recipe_preset *recipe_presets(size_t *ret_n)
{
    *ret_n = sizeof presets / sizeof presets[0];
    return presets;
}

static const struct recipe_preset *find(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

const struct recipe *recipe_preset(const char *name)
{
    const struct recipe_preset *preset = find(name);
    return preset ? &preset->recipe : NULL;
}

const char *recipe_preset_text(const char *name)
{
    static _Atomic(char *) texts[sizeof presets / sizeof presets[0]];
    const struct recipe_preset *preset = find(name);
    if (!preset)
        return NULL;
    _Atomic(char *) *text = &texts[preset - presets];
    char *there = atomic_load(text), *made = there ? NULL : recipe_text(&preset->recipe);
    if (!made || atomic_compare_exchange_strong(text, &there, made))
        return there ? there : made;
    free(made);         /* another thread was faster */
    return there;
}
