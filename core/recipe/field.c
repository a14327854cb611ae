#include "core/recipe/field.h"

#include <assert.h>
#include <stdio.h>

static const char *const methods[] = {
    [RECIPE_METHOD_MINMAX] = "minmax", [RECIPE_METHOD_PERCENTILE] = "percentile", [RECIPE_METHOD_REPQUANT] = "repquant",
    [RECIPE_METHOD_REPQ_VIT] = "repq-vit", [RECIPE_METHOD_SMOOTHQUANT] = "smoothquant",
    [RECIPE_METHOD_ZEROQUANT] = "zeroquant", NULL,
};
const char *const recipe_part_name[] = { "", [RECIPE_ATTENTION] = "attention", [RECIPE_FEED_FORWARD] = "feed_forward", NULL };
static const char *const weight_granularities[] = {
    [RECIPE_PER_TENSOR] = "per_tensor", [RECIPE_PER_CHANNEL] = "per_channel", [RECIPE_PER_ROWS] = "per_rows", [RECIPE_PER_GROUP] = "per_group",
    [RECIPE_TWO_LEVEL] = "two_level", NULL,
};
static const char *const act_granularities[] = { [RECIPE_ONE_RANGE] = "per_tensor", [RECIPE_PER_TOKEN] = "per_token", NULL };
static const char *const modes[] = { [RECIPE_STATIC] = "static", [RECIPE_DYNAMIC] = "dynamic", NULL };
static const char *const observers[] = {
    [RECIPE_OBSERVER_MINMAX] = "minmax", [RECIPE_OBSERVER_PERCENTILE] = "percentile", [RECIPE_OBSERVER_MSE] = "mse",
    [RECIPE_OBSERVER_PERCENTILES] = "percentiles", NULL,
};
static const char *const roundings[] = {
    [RECIPE_NEAREST] = "nearest", [RECIPE_GPTQ] = "gptq", [RECIPE_ADAROUND] = "adaround", NULL,
};
static const char *const norm_scales[] = {
    [RECIPE_NORMS_OFF] = "off", [RECIPE_NORMS_FULL] = "full", [RECIPE_NORMS_SEARCH] = "search", NULL,
};
static const char *const clippings[] = {
    [RECIPE_CLIP_MINMAX] = "minmax", [RECIPE_CLIP_PERCENTILE] = "percentile", [RECIPE_CLIP_GRID] = "grid",
    [RECIPE_CLIP_LEARNED] = "learned", NULL,
};
static const char *const softmaxes[] = {
    [RECIPE_SOFTMAX_UNIFORM] = "uniform", [RECIPE_SOFTMAX_LOG2] = "log2", [RECIPE_SOFTMAX_LOG_SQRT2] = "log_sqrt2", NULL,
};
static const char *const pupils[] = { [RECIPE_TEACHER] = "teacher", [RECIPE_STUDENT] = "student", [RECIPE_BOTH] = "both", NULL };
static const char *const code_forms[] = { [RECIPE_CODES_STORABLE] = "storable", [RECIPE_CODES_PUBLISHED] = "published", NULL };
static const char *const targets[] = {
    [RECIPE_TARGET_ONNXRUNTIME] = "onnxruntime", [RECIPE_TARGET_OPENVINO] = "openvino",
    [RECIPE_TARGET_TENSORRT] = "tensorrt", [RECIPE_TARGET_PORTABLE] = "portable", NULL,
};

static const char inside_the_sum[] = "a scale per channel of what a layer reads stands inside its sum, and no integer product can have it there; "
                                     "scales of channels can go into norms and weights: see the methods smoothquant and repquant";

#define AT(field) offsetof(struct recipe, field)
#define OVERRIDE_AT(field) offsetof(struct recipe_override, field)

const struct field recipe_fields[RECIPE_FIELDS] = {
    { .key = "name", .kind = FIELD_NAME, .at = AT(name), .required = true,
      .help = "for people; lower-case letters, digits, '.', '_' and '-'" },
    { .key = "method", .kind = FIELD_CHOICE, .at = AT(method), .choices = methods, .required = true,
      .help = "how ranges and weights are chosen" },
    { "weights", "bits", FIELD_INT, AT(weights.bits), OVERRIDE_AT(weight_bits), 2, 8, .required = true,
      .help = "bits of a weight's code" },
    { "weights", "granularity", FIELD_CHOICE, AT(weights.granularity), .choices = weight_granularities,
      .fallback = RECIPE_PER_CHANNEL,
      .help = "what shares a scale: the tensor, an output channel, rows of them, a group of inputs (a product for each), or such groups with whole multiples of one scale (two_level)" },
    { "weights", "symmetric", FIELD_BOOL, AT(weights.symmetric), .lo = 0, .hi = 1, .fallback = 1,
      .help = "weight codes are symmetric around zero; false: a zero point per output channel" },
    { "weights", "rounding", FIELD_CHOICE, AT(weights.rounding), .choices = roundings,
      .help = "nearest, or reconstruction of the layer's output on the quantized inputs" },
    { "weights", "group_size", FIELD_INT, AT(weights.group_size), .lo = 16, .hi = 4096, .fallback = 64,
      .help = "output channels or inputs that share a scale; where it does not divide a layer's inputs, the largest power of two from 16 that does" },
    { "activations", "bits", FIELD_INT, AT(activations.bits), OVERRIDE_AT(act_bits), 2, 8, .required = true,
      .help = "bits of an activation's code" },
    { "activations", "granularity", FIELD_CHOICE, AT(activations.granularity), .choices = act_granularities,
      .refused = "per_channel", .why = inside_the_sum,
      .help = "one scale per tensor, or one per token of what linears read; with the mode dynamic per_token unless said" },
    { "activations", "mode", FIELD_CHOICE, AT(activations.mode), .choices = modes,
      .help = "static: calibration fixes the ranges; dynamic: they are found while the artifact runs; follows from method" },
    { "activations", "symmetric", FIELD_BOOL, AT(activations.symmetric), .lo = 0, .hi = 1,
      .help = "int8 codes around zero instead of uint8 with a zero point; follows from target where that allows only one" },
    { "activations", "observer", FIELD_CHOICE, AT(activations.observer), .choices = observers,
      .help = "how a range is taken from calibration; follows from method" },
    { "activations", "percentile", FIELD_REAL, AT(activations.percentile), .lo = 90, .hi = 100, .fallback = 99.999,
      .help = "the share of values inside the range, in percent; only with the observer percentile" },
    { "channels", "norms", FIELD_CHOICE, AT(channels.norms), .choices = norm_scales,
      .help = "scales per channel behind a normalisation, folded into it and the next weights; search: an exponent by output error" },
    { "channels", "clipping", FIELD_CHOICE, AT(channels.clipping), .choices = clippings,
      .help = "how the lower and the upper bound of a channel are found" },
    { "channels", "activations", FIELD_BOOL, AT(channels.activations), .lo = 0, .hi = 1,
      .help = "scales of their own for outlier channels behind GELU and its like, as one Mul" },
    { "smoothing", "alpha", FIELD_REAL, AT(smoothing.alpha), .lo = 0, .hi = 1, .word = "auto", .word_value = RECIPE_ALPHA_AUTO,
      .fallback = RECIPE_ALPHA_AUTO,
      .help = "how much of the spread of an activation's channels moves into the weights that read it: 0 none, 1 all; auto: by output error" },
    { "smoothing", "multiply", FIELD_BOOL, AT(smoothing.multiply), .lo = 0, .hi = 1, .fallback = 1,
      .help = "one Mul before the quantizer where nothing upstream can take the factors up; false: such layers are not smoothed" },
    { "reconstruction", "target", FIELD_REAL, AT(reconstruction.target), .lo = 0, .hi = 1,
      .help = "what a layer's output is fitted to: 0 the layer itself, 1 the float model, between them a mixture" },
    { "reconstruction", "residual", FIELD_BOOL, AT(reconstruction.residual), .lo = 0, .hi = 1,
      .help = "layers that write to the residual stream also take over its error" },
    { "reconstruction", "ridge", FIELD_REAL, AT(reconstruction.ridge), .lo = 0, .hi = 100, .fallback = 1,
      .help = "how strongly the fit is held to the float weights, in means of the Gram's diagonal" },
    { "reconstruction", "damping", FIELD_REAL, AT(reconstruction.damping), .lo = 0, .hi = 10, .fallback = 0.05,
      .help = "added to the Gram's diagonal before rounding, in means of the diagonal" },
    { "reconstruction", "descents", FIELD_INT, AT(reconstruction.descents), .lo = 0, .hi = 16, .fallback = 2,
      .help = "sweeps of coordinate descent over the codes" },
    { "reconstruction", "bias_correction", FIELD_BOOL, AT(reconstruction.bias_correction), .lo = 0, .hi = 1,
      .help = "biases take up the mean error on the calibration data" },
    { "reconstruction", "blocks", FIELD_BOOL, AT(reconstruction.blocks), .lo = 0, .hi = 1,
      .help = "weights, scales, biases and norms of each block are taught together to give the float model's output: see distillation" },
    { "distillation", "input", FIELD_CHOICE, AT(distillation.input), .choices = pupils,
      .help = "what a block reads while it is taught: the float model's tensor, that of the network quantized so far, or each by turns" },
    { "distillation", "steps", FIELD_INT, AT(distillation.steps), .lo = 1, .hi = 100000, .fallback = 100,
      .help = "updates of each block" },
    { "distillation", "batch", FIELD_INT, AT(distillation.batch), .lo = 1, .hi = 4096, .fallback = 16,
      .help = "samples of an update" },
    { "distillation", "rate", FIELD_REAL, AT(distillation.rate), .lo = 0, .hi = 1, .fallback = 0.01,
      .help = "how far a weight moves in an update at first, in quantization steps; it falls to 0 by a cosine" },
    { "distillation", "decay", FIELD_REAL, AT(distillation.decay), .lo = 0, .hi = 1, .fallback = 0.01,
      .help = "AdamW's weight decay, in units of the rate" },
    { "distillation", "held_out", FIELD_INT, AT(distillation.held_out), .lo = 5, .hi = 50, .fallback = 25,
      .help = "percent of the samples that are not learned from; a block changes only if its error on them falls" },
    { "attention", "products", FIELD_BOOL, AT(attention.products), .lo = 0, .hi = 1, .fallback = 1,
      .help = "quantize the products q.k and p.v of attention too" },
    { "attention", "softmax", FIELD_CHOICE, AT(attention.softmax), .choices = softmaxes,
      .help = "the quantizer of attention probabilities" },
    { "compensation", "rank", FIELD_INT, AT(compensation.rank), .lo = 0, .hi = 64,
      .help = "two float matrices of this rank beside each linear's weight give back what rounding took (LoRC); 0: none" },
    { .key = "convolutions", .kind = FIELD_BOOL, .at = AT(convolutions), .lo = 0, .hi = 1, .fallback = 1,
      .help = "quantize convolutions (the patch embedding of a vision model) too" },
    { .key = "codes", .kind = FIELD_CHOICE, .at = AT(codes), .choices = code_forms,
      .help = "published: as the method's own code computes them, with more levels than the bits can store; such layers run in float" },
    { .key = "target", .kind = FIELD_CHOICE, .at = AT(target), .choices = targets,
      .help = "the runtime that must take the artifact; portable: any of them" },
    { .key = "exclude", .kind = FIELD_PATTERNS, .at = AT(exclude),
      .help = "layers that stay float: patterns of whole names, * any run of characters, ? any one byte" },
    { .key = "overrides", .kind = FIELD_OVERRIDES, .at = AT(overrides),
      .help = "other bits for some layers: the first pattern that matches wins" },
    { "calibration", "samples", FIELD_INT, AT(calibration.samples), .lo = 0, .hi = 1000000,
      .help = "use only the first so many samples; 0: all" },
    { "calibration", "random_tokens", FIELD_BOOL, AT(calibration.random_tokens), .lo = 0, .hi = 1,
      .help = "draw the ids of tokens at random instead; of the samples, if there are any, only shapes and masks are used" },
};

static const char one_observer[] = "the method decides the observer; leave the observer out or change the method";
static const char no_percentile[] = "only the observer percentile has one; leave it out or change the observer or the method";
static const char plain[] = "a plain method does not do that; leave it out or set the method to repquant";
static const char repquant_only[] = "only the method repquant does that; leave it out or change the method";
static const char no_groups[] = "there are no groups; leave it out or set the granularity to per_rows, per_group or two_level";
static const char per_row[] = "repq-vit has a range per output channel; leave it out or change the method";
static const char published[] = "only the method repq-vit has published codes; leave it out or change the method";
static const char all_codes[] = "published codes have no form for this target; leave the codes out or set the target to onnxruntime";
static const char smooth_only[] = "only the method smoothquant does that; leave it out or change the method";
static const char as_published[] = "repq-vit rebuilds and corrects nothing, as it was published; leave it out or set the method to repquant";
static const char not_smooth[] = "smoothquant does not do that; leave it out or set the method to repquant";
static const char zero_only[] = "only the methods zeroquant and smoothquant find ranges while the artifact runs; leave the mode out or change the method";
static const char zero_dynamic[] = "zeroquant finds a range for each token while the artifact runs; leave the mode out or set the method to minmax";
static const char by_mode[] = "static ranges are the tensor's; leave the granularity out or set the mode to dynamic";
static const char not_zero[] = "zeroquant does not do that; leave it out or set the method to repquant";
static const char no_blocks[] = "blocks are not taught; set \"reconstruction\": {\"blocks\": true} or leave it out";
static const char int8_only[] = "this target takes symmetric int8 activations only; set symmetric to true or leave it out";
static const char plain_softmax[] = "this target gets nothing but equal steps; set the softmax to uniform or leave it out";
static const char symmetric_only[] = "this target takes symmetric weights only; set symmetric to true or leave it out";

/* What both plain methods have in common, and what all methods but repquant have. */
#define BOTH_PLAIN(field, value, why)                                          \
    { AT(method), RECIPE_METHOD_MINMAX, AT(field), value, why },               \
    { AT(method), RECIPE_METHOD_PERCENTILE, AT(field), value, why }
#define PLAIN(field, value) BOTH_PLAIN(field, value, plain)
#define SMOOTH(field, value) { AT(method), RECIPE_METHOD_SMOOTHQUANT, AT(field), value, not_smooth }
#define OTHERS(field, value)                                                   \
    BOTH_PLAIN(field, value, plain), { AT(method), RECIPE_METHOD_REPQ_VIT, AT(field), value, repquant_only }, SMOOTH(field, value)
#define AS_PUBLISHED(field, value) { AT(method), RECIPE_METHOD_REPQ_VIT, AT(field), value, as_published }
#define ZERO(field, value) { AT(method), RECIPE_METHOD_ZEROQUANT, AT(field), value, not_zero }
#define STATIC_METHOD(method_) { AT(method), method_, AT(activations.mode), RECIPE_STATIC, zero_only }
#define SMOOTH_ONLY(field)                                                     \
    BOTH_PLAIN(field, RULE_ABSENT, smooth_only), { AT(method), RECIPE_METHOD_REPQUANT, AT(field), RULE_ABSENT, smooth_only }, \
    { AT(method), RECIPE_METHOD_REPQ_VIT, AT(field), RULE_ABSENT, smooth_only },                                              \
    { AT(method), RECIPE_METHOD_ZEROQUANT, AT(field), RULE_ABSENT, smooth_only }

#define TAUGHT_ONLY(field) { AT(reconstruction.blocks), 0, AT(field), RULE_ABSENT, no_blocks }

static const struct field_rule rules[] = {
    { AT(method), RECIPE_METHOD_MINMAX, AT(activations.observer), RECIPE_OBSERVER_MINMAX, one_observer },
    { AT(method), RECIPE_METHOD_PERCENTILE, AT(activations.observer), RECIPE_OBSERVER_PERCENTILE, one_observer },
    { AT(method), RECIPE_METHOD_REPQ_VIT, AT(activations.observer), RECIPE_OBSERVER_PERCENTILES, one_observer },
    { AT(method), RECIPE_METHOD_SMOOTHQUANT, AT(activations.observer), RECIPE_OBSERVER_MINMAX, one_observer },
    { AT(method), RECIPE_METHOD_ZEROQUANT, AT(activations.observer), RECIPE_OBSERVER_MINMAX, one_observer },
    { AT(method), RECIPE_METHOD_MINMAX, AT(activations.percentile), RULE_ABSENT, no_percentile },
    { AT(activations.observer), RECIPE_OBSERVER_MINMAX, AT(activations.percentile), RULE_ABSENT, no_percentile },
    { AT(activations.observer), RECIPE_OBSERVER_MSE, AT(activations.percentile), RULE_ABSENT, no_percentile },
    { AT(activations.observer), RECIPE_OBSERVER_PERCENTILES, AT(activations.percentile), RULE_ABSENT, no_percentile },
    PLAIN(attention.softmax, RECIPE_SOFTMAX_UNIFORM), SMOOTH(attention.softmax, RECIPE_SOFTMAX_UNIFORM),
    AS_PUBLISHED(weights.rounding, RECIPE_NEAREST),
    OTHERS(channels.norms, RULE_ABSENT), OTHERS(channels.clipping, RULE_ABSENT), OTHERS(channels.activations, RULE_ABSENT),
    AS_PUBLISHED(reconstruction.target, RULE_ABSENT), AS_PUBLISHED(reconstruction.residual, RULE_ABSENT),
    AS_PUBLISHED(reconstruction.ridge, RULE_ABSENT), AS_PUBLISHED(reconstruction.damping, RULE_ABSENT),
    AS_PUBLISHED(reconstruction.descents, RULE_ABSENT), AS_PUBLISHED(reconstruction.bias_correction, RULE_ABSENT),
    { AT(method), RECIPE_METHOD_REPQ_VIT, AT(weights.granularity), RECIPE_PER_CHANNEL, per_row },
    { AT(weights.granularity), RECIPE_PER_TENSOR, AT(weights.group_size), RULE_ABSENT, no_groups },
    { AT(weights.granularity), RECIPE_PER_CHANNEL, AT(weights.group_size), RULE_ABSENT, no_groups },
    STATIC_METHOD(RECIPE_METHOD_MINMAX), STATIC_METHOD(RECIPE_METHOD_PERCENTILE), STATIC_METHOD(RECIPE_METHOD_REPQUANT),
    STATIC_METHOD(RECIPE_METHOD_REPQ_VIT),
    { AT(method), RECIPE_METHOD_ZEROQUANT, AT(activations.mode), RECIPE_DYNAMIC, zero_dynamic },
    { AT(activations.mode), RECIPE_STATIC, AT(activations.granularity), RECIPE_ONE_RANGE, by_mode },
    { AT(activations.mode), RECIPE_DYNAMIC, AT(activations.granularity), RECIPE_PER_TOKEN, NULL },
    ZERO(attention.softmax, RECIPE_SOFTMAX_UNIFORM), ZERO(codes, RECIPE_CODES_STORABLE),
    ZERO(channels.norms, RULE_ABSENT), ZERO(channels.clipping, RULE_ABSENT), ZERO(channels.activations, RULE_ABSENT),
    SMOOTH_ONLY(smoothing.alpha), SMOOTH_ONLY(smoothing.multiply), SMOOTH(codes, RECIPE_CODES_STORABLE),
    PLAIN(codes, RECIPE_CODES_STORABLE), { AT(method), RECIPE_METHOD_REPQUANT, AT(codes), RECIPE_CODES_STORABLE, published },
    AS_PUBLISHED(reconstruction.blocks, 0),
    TAUGHT_ONLY(distillation.input), TAUGHT_ONLY(distillation.steps), TAUGHT_ONLY(distillation.batch), TAUGHT_ONLY(distillation.rate),
    TAUGHT_ONLY(distillation.decay), TAUGHT_ONLY(distillation.held_out),
    { AT(codes), RECIPE_CODES_PUBLISHED, AT(activations.symmetric), 0, all_codes },
    { AT(target), RECIPE_TARGET_TENSORRT, AT(activations.symmetric), 1, int8_only },
    { AT(target), RECIPE_TARGET_PORTABLE, AT(activations.symmetric), 1, int8_only },
    { AT(target), RECIPE_TARGET_TENSORRT, AT(weights.symmetric), 1, symmetric_only },
    { AT(target), RECIPE_TARGET_PORTABLE, AT(weights.symmetric), 1, symmetric_only },
    { AT(target), RECIPE_TARGET_PORTABLE, AT(attention.softmax), RECIPE_SOFTMAX_UNIFORM, plain_softmax },
};

static const char no_operator[] = "this target has no DynamicQuantizeLinear, which finds the tensor's range; set the granularity to per_token or the mode to static";
static const char bytes_only[] = "DynamicQuantizeLinear, which finds the tensor's range, gives 8-bit codes; set the granularity to per_token or the mode to static";
static const char unsigned_only[] = "DynamicQuantizeLinear, which finds the tensor's range, gives codes with a zero point; leave symmetric out or set the granularity to per_token";

static const char own_target[] = "tokens that are divided after smoothing have no float rows to aim at; set the target to 0 or the mode to static";

#define IS(field, value) { CONDITION_IS, AT(field), value }
#define IS_NOT(field, value) { CONDITION_IS_NOT, AT(field), value }
#define TENSOR_RANGES IS(activations.mode, RECIPE_DYNAMIC), IS(activations.granularity, RECIPE_ONE_RANGE)

static const struct recipe_refusal refusals[] = {
    { { TENSOR_RANGES, IS(target, RECIPE_TARGET_TENSORRT) }, AT(activations.granularity), no_operator },
    { { TENSOR_RANGES, IS(target, RECIPE_TARGET_PORTABLE) }, AT(activations.granularity), no_operator },
    { { TENSOR_RANGES, IS_NOT(activations.bits, 8) }, AT(activations.bits), bytes_only },
    /* Rows of both streams would be divided by magnitudes that factors had changed in one of them. */
    { { IS(method, RECIPE_METHOD_SMOOTHQUANT), IS(activations.granularity, RECIPE_PER_TOKEN), IS_NOT(reconstruction.target, 0) },
      AT(reconstruction.target), own_target },
    { { TENSOR_RANGES, { CONDITION_OVERRIDDEN, AT(activations.bits), 8 } }, AT(overrides), bytes_only },
    { { TENSOR_RANGES, IS(activations.symmetric, 1) }, AT(activations.symmetric), unsigned_only },
    { { IS(codes, RECIPE_CODES_PUBLISHED), IS(target, RECIPE_TARGET_TENSORRT) }, AT(codes), all_codes },
    { { IS(codes, RECIPE_CODES_PUBLISHED), IS(target, RECIPE_TARGET_PORTABLE) }, AT(codes), all_codes },
};

const struct recipe_refusal *const recipe_refusals = refusals;
const size_t recipe_n_refusals = sizeof refusals / sizeof refusals[0];
const struct field_rule *const recipe_rules = rules;
const size_t recipe_n_rules = sizeof rules / sizeof rules[0];

const struct field *field_at(size_t at)
{
    for (int i = 0; i < RECIPE_FIELDS; i++)
        if (recipe_fields[i].at == at)
            return &recipe_fields[i];
    assert(!"no field has this offset");
    return NULL;
}

double field_get(const struct field *f, const struct recipe *r)
{
    const char *at = (const char *)r + f->at;
    switch (f->kind) {
    case FIELD_REAL: return *(const double *)(const void *)at;
    case FIELD_BOOL: return *(const bool *)(const void *)at;
    default: return *(const int *)(const void *)at;     /* enums are as wide as int; asserted below */
    }
}

void field_set(const struct field *f, struct recipe *r, double value)
{
    char *at = (char *)r + f->at;
    switch (f->kind) {
    case FIELD_REAL: *(double *)(void *)at = value; break;
    case FIELD_BOOL: *(bool *)(void *)at = value != 0; break;
    default: *(int *)(void *)at = (int)value;
    }
}

_Static_assert(sizeof(enum recipe_method) == sizeof(int) && sizeof(enum recipe_target) == sizeof(int),
               "field_get() and field_set() reach enums through int");

bool field_applies(const struct field *f, const struct recipe *r)
{
    if (f->at == AT(weights.group_size))
        return r->weights.granularity >= RECIPE_PER_ROWS;
    if (f->at == AT(activations.percentile))
        return r->activations.observer == RECIPE_OBSERVER_PERCENTILE;
    if (f->at == AT(codes))
        return r->method == RECIPE_METHOD_REPQ_VIT;
    if (f->at >= AT(smoothing) && f->at < AT(reconstruction))
        return r->method == RECIPE_METHOD_SMOOTHQUANT;
    if (f->at == AT(reconstruction.blocks))
        return r->method != RECIPE_METHOD_REPQ_VIT;
    if (f->at >= AT(distillation) && f->at < AT(attention))
        return r->reconstruction.blocks;
    bool rebuilds = f->at == AT(weights.rounding) || (f->at >= AT(reconstruction) && f->at < AT(attention));
    bool channels = f->at >= AT(channels) && f->at < AT(smoothing);
    return rebuilds ? r->method != RECIPE_METHOD_REPQ_VIT : !channels || r->method == RECIPE_METHOD_REPQUANT;
}

void field_pointer(const char *pointer, const struct field *f, char *where, size_t size)
{
    snprintf(where, size, "%s%s%s/%s", pointer, f->section ? "/" : "", f->section ? f->section : "", f->key);
}

static bool overridden(const struct field *f, int value, const struct recipe *r)
{
    for (int i = 0; i < r->n_overrides; i++) {
        int said = *(const int *)(const void *)((const char *)&r->overrides[i] + f->override_at);
        if (said && said != value)
            return true;
    }
    return false;
}

bool condition_holds(const struct condition *c, const struct recipe *r)
{
    switch (c->kind) {
    case CONDITION_NONE: return true;
    case CONDITION_IS: return field_get(field_at(c->at), r) == c->value;
    case CONDITION_IS_NOT: return field_get(field_at(c->at), r) != c->value;
    case CONDITION_OVERRIDDEN: return overridden(field_at(c->at), c->value, r);
    }
    return false;
}

static bool refusal_holds(const struct recipe_refusal *refusal, const struct recipe *r)
{
    for (int i = 0; i < REFUSAL_CONDITIONS; i++)
        if (!condition_holds(&refusal->when[i], r))
            return false;
    return true;
}

bool field_refuse(const struct recipe_refusal *list, size_t n, const struct recipe *r, const char *pointer, enum err_code code, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const struct field *f = field_at(list[i].at);
        char where[160];
        if (!refusal_holds(&list[i], r))
            continue;
        field_pointer(pointer, f, where, sizeof where);
        return err_set(e, code, where, "\"%s\": %s", f->key, list[i].why);
    }
    return true;
}
