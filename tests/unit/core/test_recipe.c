/* Recipes: what a client may ask for, and what it is told when it asks for something else. */
#include "core/recipe/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OK_W "\"name\":\"x\",\"method\":\"minmax\",\"weights\":{\"bits\":8}"
#define O2 "\"mode\":\"dynamic\",\"granularity\":\"per_tensor\""
#define OK_WA OK_W ",\"activations\":{\"bits\":8}"

static const struct {
    const char *text;
    enum err_code code;
    const char *where, *says;              /* says: a part of the text */
} bad[] = {
    /* not a recipe at all */
    { "", ERR_RECIPE_FIELD, "", "" },
    { "{", ERR_RECIPE_FIELD, "", "line 1" },
    { "[]", ERR_RECIPE_FIELD, "", "object" },
    { "12", ERR_RECIPE_FIELD, "", "object" },
    { "null", ERR_RECIPE_FIELD, "", "object" },
    { "{} {}", ERR_RECIPE_FIELD, "", "" },
    { "{\"name\":\"a\",\"name\":\"b\"}", ERR_RECIPE_FIELD, "", "duplicate" },
    { "{\"exclude\":[[[[[[[[[]]]]]]]]]}", ERR_RECIPE_FIELD, "", "deeper" },
    { "{\"name\":\"\\u0000\"}", ERR_RECIPE_FIELD, "", "" },
    /* presets */
    { "\"nope\"", ERR_RECIPE_UNKNOWN, "", "percentile-w8a8" },
    { "\"\"", ERR_RECIPE_UNKNOWN, "", "minmax-w8a8" },
    { "{\"preset\":\"nope\"}", ERR_RECIPE_UNKNOWN, "/preset", "minmax-w8a8" },
    { "{\"preset\":8}", ERR_RECIPE_FIELD, "/preset", "minmax-w8a8" },
    { "{\"preset\":\"minmax-w8a8\",\"weigths\":{}}", ERR_RECIPE_FIELD, "/weigths", "weights, activations, channels" },
    /* missing */
    { "{}", ERR_RECIPE_FIELD, "/name", "missing" },
    { "{\"name\":\"x\"}", ERR_RECIPE_FIELD, "/method", "missing" },
    { "{\"name\":\"x\",\"method\":\"minmax\"}", ERR_RECIPE_FIELD, "/weights/bits", "missing" },
    { "{" OK_W "}", ERR_RECIPE_FIELD, "/activations/bits", "missing" },
    /* unknown */
    { "{" OK_WA ",\"a/b~c\":1}", ERR_RECIPE_FIELD, "/a~1b~0c", "name, method, weights" },
    { "{" OK_WA ",\"Target\":\"onnxruntime\"}", ERR_RECIPE_FIELD, "/Target", "target" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bit\":8}}", ERR_RECIPE_FIELD, "/weights/bit", "bits, granularity, symmetric" },
    { "{\"preset\":\"minmax-w8a8\",\"calibration\":{\"seed\":8}}", ERR_RECIPE_FIELD, "/calibration/seed", "samples" },
    /* types and ranges */
    { "{\"preset\":\"minmax-w8a8\",\"name\":\"\"}", ERR_RECIPE_FIELD, "/name", "1 to 64" },
    { "{\"preset\":\"minmax-w8a8\",\"name\":\"My recipe\"}", ERR_RECIPE_FIELD, "/name", "a-z" },
    { "{\"preset\":\"minmax-w8a8\",\"name\":7}", ERR_RECIPE_FIELD, "/name", "a-z" },
    { "{\"preset\":\"minmax-w8a8\",\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", ERR_RECIPE_FIELD, "/name", "64" },
    { "{\"preset\":\"minmax-w8a8\",\"method\":\"magic\"}", ERR_RECIPE_FIELD, "/method", "\"minmax\", \"percentile\"" },
    { "{\"preset\":\"minmax-w8a8\",\"method\":null}", ERR_RECIPE_FIELD, "/method", "\"minmax\"" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":8}", ERR_RECIPE_FIELD, "/weights", "bits, granularity, symmetric" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":1}}", ERR_RECIPE_FIELD, "/weights/bits", "2 to 8" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":9}}", ERR_RECIPE_FIELD, "/weights/bits", "2 to 8" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":8.5}}", ERR_RECIPE_FIELD, "/weights/bits", "integer" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":\"8\"}}", ERR_RECIPE_FIELD, "/weights/bits", "integer" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":true}}", ERR_RECIPE_FIELD, "/weights/bits", "integer" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":9223372036854775807}}", ERR_RECIPE_FIELD, "/weights/bits", "2 to 8" },
    { "{\"preset\":\"smoothquant-group-w8a8\",\"weights\":{\"group_size\":8}}", ERR_RECIPE_FIELD, "/weights/group_size", "16 to 4096" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"granularity\":\"per_channel\",\"group_size\":64}}", ERR_RECIPE_COMBINATION, "/weights/group_size", "no groups" },
    { "{\"preset\":\"repq-vit-w4a4\",\"method\":\"repq-vit\",\"reconstruction\":{\"ridge\":1}}", ERR_RECIPE_COMBINATION, "/reconstruction/ridge", "method to repquant" },
    { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{\"mode\":\"dynamic\"},\"reconstruction\":{\"target\":1}}", ERR_RECIPE_COMBINATION, "/reconstruction/target", "target to 0" },
    { "{\"preset\":\"repquant-w8a8\",\"reconstruction\":{\"target\":1.5}}", ERR_RECIPE_FIELD, "/reconstruction/target", "1" },
    { "{\"preset\":\"repquant-w8a8\",\"target\":\"tensorrt\",\"weights\":{\"symmetric\":false}}", ERR_RECIPE_COMBINATION, "/weights/symmetric", "tensorrt" },
    { "{\"preset\":\"repquant-w8a8\",\"activations\":{\"percentile\":99}}", ERR_RECIPE_COMBINATION, "/activations/percentile", "observer" },
    { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"granularity\":\"group\"}}", ERR_RECIPE_FIELD, "/weights/granularity", "\"per_tensor\", \"per_channel\"" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"bits\":0}}", ERR_RECIPE_FIELD, "/activations/bits", "2 to 8" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"granularity\":\"per_channel\"}}", ERR_RECIPE_COMBINATION, "/activations/granularity", "inside its sum" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"granularity\":\"per_row\"}}", ERR_RECIPE_FIELD, "/activations/granularity", "\"per_tensor\", \"per_token\"" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"mode\":\"dynamic\"}}", ERR_RECIPE_COMBINATION, "/activations/mode", "zeroquant" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"symmetric\":1}}", ERR_RECIPE_FIELD, "/activations/symmetric", "true or false" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"observer\":\"entropy\"}}", ERR_RECIPE_FIELD, "/activations/observer", "\"percentile\"" },
    { "{\"preset\":\"percentile-w8a8\",\"activations\":{\"percentile\":0.9999}}", ERR_RECIPE_FIELD, "/activations/percentile", "90 to 100" },
    { "{\"preset\":\"percentile-w8a8\",\"activations\":{\"percentile\":100.01}}", ERR_RECIPE_FIELD, "/activations/percentile", "90 to 100" },
    { "{\"preset\":\"percentile-w8a8\",\"activations\":{\"percentile\":\"99\"}}", ERR_RECIPE_FIELD, "/activations/percentile", "number" },
    { "{\"preset\":\"minmax-w8a8\",\"attention\":{\"products\":\"yes\"}}", ERR_RECIPE_FIELD, "/attention/products", "true or false" },
    { "{\"preset\":\"minmax-w8a8\",\"attention\":{\"softmax\":\"log2\"}}", ERR_RECIPE_COMBINATION, "/attention/softmax", "repquant" },
    { "{\"preset\":\"repquant-w8a8\",\"attention\":{\"softmax\":\"log3\"}}", ERR_RECIPE_FIELD, "/attention/softmax", "\"uniform\"" },
    { "{\"preset\":\"minmax-w8a8\",\"convolutions\":0}", ERR_RECIPE_FIELD, "/convolutions", "true or false" },
    { "{\"preset\":\"minmax-w8a8\",\"target\":\"tflite\"}", ERR_RECIPE_FIELD, "/target", "\"onnxruntime\", \"openvino\", \"tensorrt\", \"portable\"" },
    { "{\"preset\":\"minmax-w8a8\",\"calibration\":{\"samples\":-1}}", ERR_RECIPE_FIELD, "/calibration/samples", "0 to 1000000" },
    { "{\"preset\":\"minmax-w8a8\",\"calibration\":[]}", ERR_RECIPE_FIELD, "/calibration", "samples" },
    /* patterns */
    { "{\"preset\":\"minmax-w8a8\",\"exclude\":\"head\"}", ERR_RECIPE_FIELD, "/exclude", "list" },
    { "{\"preset\":\"minmax-w8a8\",\"exclude\":[\"a\",\"\"]}", ERR_RECIPE_FIELD, "/exclude/1", "1 to 200 bytes" },
    { "{\"preset\":\"minmax-w8a8\",\"exclude\":[3]}", ERR_RECIPE_FIELD, "/exclude/0", "pattern" },
    { "{\"preset\":\"minmax-w8a8\",\"exclude\":[\"a\\n\"]}", ERR_RECIPE_FIELD, "/exclude/0", "control" },
    /* overrides */
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":{}}", ERR_RECIPE_FIELD, "/overrides", "list" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[1]}", ERR_RECIPE_FIELD, "/overrides/0", "match, part, weights, activations" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"weights\":{\"bits\":4}}]}", ERR_RECIPE_FIELD, "/overrides/0/match", "pattern" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"a\"}]}", ERR_RECIPE_FIELD, "/overrides/0", "changes nothing" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"a\",\"weights\":{\"bits\":4},\"target\":\"openvino\"}]}", ERR_RECIPE_FIELD, "/overrides/0/target", "match, part, weights, activations" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"a\",\"weights\":{\"bits\":16}}]}", ERR_RECIPE_FIELD, "/overrides/0/weights/bits", "2 to 8" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"a\",\"weights\":{}}]}", ERR_RECIPE_FIELD, "/overrides/0/weights", "bits" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"a\",\"activations\":{\"symmetric\":true}}]}", ERR_RECIPE_FIELD, "/overrides/0/activations/symmetric", "bits" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"part\":\"mlp\",\"weights\":{\"bits\":4}}]}", ERR_RECIPE_FIELD, "/overrides/0/part", "\"attention\", \"feed_forward\"" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"part\":\"\",\"weights\":{\"bits\":4}}]}", ERR_RECIPE_FIELD, "/overrides/0/part", "\"attention\"" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"part\":\"attention\"}]}", ERR_RECIPE_FIELD, "/overrides/0", "changes nothing" },
    { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"part\":\"attention\",\"match\":7,\"weights\":{\"bits\":4}}]}", ERR_RECIPE_FIELD, "/overrides/0/match", "pattern" },
    /* fields that exclude each other */
    { "{\"preset\":\"percentile-w8a8\",\"target\":\"tensorrt\",\"activations\":{\"symmetric\":false}}", ERR_RECIPE_COMBINATION, "/activations/symmetric", "tensorrt" },
    { "{\"preset\":\"minmax-w8a8\",\"target\":\"portable\",\"activations\":{\"symmetric\":false}}", ERR_RECIPE_COMBINATION, "/activations/symmetric", "portable" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"observer\":\"minmax\",\"percentile\":99}}", ERR_RECIPE_COMBINATION, "/activations/percentile", "leave it out" },
    { "{\"preset\":\"minmax-w8a8\",\"method\":\"minmax\",\"activations\":{\"observer\":\"percentile\"}}", ERR_RECIPE_COMBINATION, "/activations/observer", "method" },
    { "{" OK_W ",\"activations\":{\"bits\":8,\"observer\":\"percentile\"}}", ERR_RECIPE_COMBINATION, "/activations/observer", "method" },
    { "{" OK_W ",\"activations\":{\"bits\":8,\"symmetric\":false},\"target\":\"tensorrt\"}", ERR_RECIPE_COMBINATION, "/activations/symmetric", "int8" },
    { "{\"preset\":\"repq-vit-w4a4\",\"method\":\"repq-vit\",\"weights\":{\"granularity\":\"per_tensor\"}}", ERR_RECIPE_COMBINATION, "/weights/granularity", "per output channel" },
    { "{\"preset\":\"repq-vit-w4a4\",\"method\":\"repq-vit\",\"channels\":{\"norms\":\"full\"}}", ERR_RECIPE_COMBINATION, "/channels/norms", "repquant" },
    { "{\"preset\":\"repquant-w4a4\",\"method\":\"repquant\",\"codes\":\"published\"}", ERR_RECIPE_COMBINATION, "/codes", "repq-vit" },
    { "{\"preset\":\"repquant-w4a4\",\"target\":\"portable\",\"attention\":{\"softmax\":\"log2\"}}", ERR_RECIPE_COMBINATION, "/attention/softmax", "uniform" },
    { "{\"preset\":\"repq-vit-w4a4\",\"codes\":\"published\",\"target\":\"portable\",\"activations\":{\"symmetric\":true}}", ERR_RECIPE_COMBINATION, "/activations/symmetric", "published" },
    { "{\"preset\":\"repq-vit-w4a4\",\"codes\":\"published\",\"target\":\"portable\"}", ERR_RECIPE_COMBINATION, "/codes", "target to onnxruntime" },
    { "{\"preset\":\"repq-vit-w4a4\",\"codes\":\"published\",\"target\":\"tensorrt\"}", ERR_RECIPE_COMBINATION, "/codes", "no form for this target" },
    { "{\"preset\":\"smoothquant-w8a8\",\"smoothing\":{\"alpha\":1.5}}", ERR_RECIPE_FIELD, "/smoothing/alpha", "1" },
    { "{\"preset\":\"smoothquant-w8a8\",\"smoothing\":{\"alpha\":\"best\"}}", ERR_RECIPE_FIELD, "/smoothing/alpha", "number or the word auto" },
    { "{\"preset\":\"smoothquant-w8a8\",\"smoothing\":{\"alpha\":true}}", ERR_RECIPE_FIELD, "/smoothing/alpha", "number" },
    { "{\"preset\":\"smoothquant-w8a8\",\"smoothing\":{\"beta\":1}}", ERR_RECIPE_FIELD, "/smoothing/beta", "alpha, multiply" },
    { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{\"granularity\":\"per_token\"}}", ERR_RECIPE_COMBINATION, "/activations/granularity", "mode to dynamic" },
    { "{\"preset\":\"minmax-w8a8\",\"distillation\":{\"steps\":5}}", ERR_RECIPE_COMBINATION, "/distillation/steps", "blocks \"false\"" },
    { "{\"preset\":\"repq-vit-w8a8\",\"reconstruction\":{\"blocks\":true}}", ERR_RECIPE_COMBINATION, "/reconstruction/blocks", "as it was published" },
    { "{\"preset\":\"zeroquant-lkd-w4a8\",\"distillation\":{\"held_out\":4}}", ERR_RECIPE_FIELD, "/distillation/held_out", "5" },
    { "{\"preset\":\"zeroquant-w8a8\",\"activations\":{\"mode\":\"static\"}}", ERR_RECIPE_COMBINATION, "/activations/mode", "each token" },
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"granularity\":\"per_token\"}}", ERR_RECIPE_COMBINATION, "/activations/granularity", "mode to dynamic" },
    { "{\"preset\":\"smoothquant-w8a8\",\"target\":\"tensorrt\",\"activations\":{" O2 "}}", ERR_RECIPE_COMBINATION, "/activations/granularity", "DynamicQuantizeLinear" },
    { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{" O2 ",\"bits\":6}}", ERR_RECIPE_COMBINATION, "/activations/bits", "8-bit codes" },
    { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{" O2 ",\"symmetric\":true}}", ERR_RECIPE_COMBINATION, "/activations/symmetric", "zero point" },
    { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{" O2 "},\"overrides\":[{\"match\":\"a\",\"activations\":{\"bits\":4}}]}", ERR_RECIPE_COMBINATION, "/overrides", "8-bit codes" },
    { "{\"preset\":\"zeroquant-w8a8\",\"channels\":{\"norms\":\"full\"}}", ERR_RECIPE_COMBINATION, "/channels/norms", "zeroquant does not" },
    { "{\"preset\":\"smoothquant-w8a8\",\"method\":\"smoothquant\",\"channels\":{\"norms\":\"full\"}}", ERR_RECIPE_COMBINATION, "/channels/norms", "smoothquant does not" },
    { "{\"preset\":\"repquant-w8a8\",\"method\":\"repquant\",\"smoothing\":{\"alpha\":0.5}}", ERR_RECIPE_COMBINATION, "/smoothing/alpha", "smoothquant" },
    /* ... one of them said by the preset, or by nobody */
    { "{\"preset\":\"minmax-w8a8\",\"activations\":{\"percentile\":99}}", ERR_RECIPE_COMBINATION, "/activations/percentile", "leave it out" },
    { "{\"preset\":\"percentile-w8a8\",\"activations\":{\"observer\":\"minmax\"}}", ERR_RECIPE_COMBINATION, "/activations/observer", "change the method" },
    { "{" OK_W ",\"activations\":{\"bits\":8,\"percentile\":99}}", ERR_RECIPE_COMBINATION, "/activations/percentile", "leave it out" },
};

static struct recipe parsed(const char *text)
{
    struct recipe r;
    struct err e = { 0 };
    if (!recipe_parse(text, strlen(text), &r, &e))
        fail_msg("%s: %s %s", text, e.where, e.text);
    return r;
}

static void a_bad_recipe_is_refused_with_its_pointer_and_what_is_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct recipe r;
        struct err e = { 0 };
        memset(&r, 0x5a, sizeof r);
        struct recipe before = r;
        if (recipe_parse(bad[i].text, strlen(bad[i].text), &r, &e))
            fail_msg("accepted: %s", bad[i].text);
        if (e.code != bad[i].code || strcmp(e.where, bad[i].where) != 0 || !strstr(e.text, bad[i].says))
            fail_msg("%s: got %s at '%s': %s", bad[i].text, err_slug(e.code), e.where, e.text);
        assert_memory_equal(&r, &before, sizeof r);
    }
}

static void every_preset_is_complete_and_found_by_its_name(void **state)
{
    (void)state;
    size_t n;
    const struct recipe_preset *p = recipe_presets(&n);
    assert_true(n >= 2);
    for (size_t i = 0; i < n; i++) {
        char quoted[96];
        assert_string_equal(p[i].name, p[i].recipe.name);
        assert_ptr_equal(recipe_preset(p[i].name), &p[i].recipe);
        assert_true(strlen(p[i].description) > 20);
        snprintf(quoted, sizeof quoted, "\"%s\"", p[i].name);
        struct recipe by_name = parsed(quoted);
        snprintf(quoted, sizeof quoted, "{\"preset\":\"%s\"}", p[i].name);
        struct recipe by_object = parsed(quoted);
        assert_memory_equal(&by_name, &p[i].recipe, sizeof by_name);
        assert_memory_equal(&by_object, &p[i].recipe, sizeof by_object);
        char *text = recipe_text(&by_name);
        assert_string_equal(recipe_preset_text(p[i].name), text);
        assert_ptr_equal(recipe_preset_text(p[i].name), recipe_preset_text(p[i].name));
        free(text);
    }
    assert_null(recipe_preset("nope"));
    assert_null(recipe_preset_text("nope"));
}

static void round_trip(const struct recipe *r)
{
    char *text = recipe_text(r);
    assert_non_null(text);
    struct recipe again = parsed(text);
    char *text_again = recipe_text(&again);
    assert_string_equal(text, text_again);
    if (memcmp(r, &again, sizeof again) != 0)
        fail_msg("not the same struct after %s", text);
    free(text);
    free(text_again);
}

static void writing_and_parsing_a_preset_changes_nothing(void **state)
{
    (void)state;
    size_t n;
    const struct recipe_preset *p = recipe_presets(&n);
    for (size_t i = 0; i < n; i++)
        round_trip(&p[i].recipe);
}

/* ---- random valid recipes ---- */

static int pick(unsigned *seed, int lo, int hi) { return lo + (int)((unsigned)rand_r(seed) % (unsigned)(hi - lo + 1)); }

static void random_pattern(unsigned *seed, char *ret)
{
    static const char *const parts[] = { "*", "?", "/blocks.", "7", "\"quoted\"", "\\", "\xc3\xa9", "fc1", " ", "[a-z]" };
    for (int n = pick(seed, 1, 12); n > 0; n--)
        memcpy(ret + strlen(ret), parts[n % 10], strlen(parts[n % 10]));
}

static void random_reconstruction(unsigned *seed, struct recipe *r)
{
    r->weights.symmetric = pick(seed, 0, 1);
    r->weights.rounding = (enum recipe_rounding)pick(seed, 0, 2);
    r->activations.observer = (enum recipe_observer)pick(seed, 0, 3);
    r->channels.norms = (enum recipe_norms)pick(seed, 0, 2);
    r->channels.clipping = (enum recipe_clipping)pick(seed, 0, 3);
    r->channels.activations = pick(seed, 0, 1);
    r->reconstruction.target = pick(seed, 0, 1000000) / 1e6;
    r->reconstruction.residual = pick(seed, 0, 1);
    r->reconstruction.ridge = pick(seed, 0, 100000000) / 1e6;
    r->reconstruction.damping = pick(seed, 0, 10000000) / 1e6;
    r->reconstruction.descents = pick(seed, 0, 16);
    r->reconstruction.bias_correction = pick(seed, 0, 1);
    r->attention.softmax = (enum recipe_softmax)pick(seed, 0, 2);
}

static void random_repq_vit(unsigned *seed, struct recipe *r)
{
    r->weights.symmetric = pick(seed, 0, 1);
    r->weights.granularity = RECIPE_PER_CHANNEL;
    r->attention.softmax = (enum recipe_softmax)pick(seed, 0, 2);
    r->codes = (enum recipe_codes)pick(seed, 0, 1);
}

static void random_smoothing(unsigned *seed, struct recipe *r)
{
    r->activations.observer = RECIPE_OBSERVER_MINMAX;
    r->smoothing.alpha = pick(seed, 0, 1) ? pick(seed, 0, 1000000) / 1e6 : RECIPE_ALPHA_AUTO;
    r->smoothing.multiply = pick(seed, 0, 1);
    r->activations.mode = (enum recipe_mode)pick(seed, 0, 1);
    r->activations.granularity = r->activations.mode == RECIPE_DYNAMIC ? (enum recipe_tokens)pick(seed, 0, 1) : RECIPE_ONE_RANGE;
}

static void random_rebuilding(unsigned *seed, struct recipe *r)
{
    struct recipe other = *r;
    random_reconstruction(seed, &other);
    r->reconstruction = other.reconstruction;
    r->weights.rounding = other.weights.rounding;
}

static void random_tokens(unsigned *seed, struct recipe *r)
{
    r->activations.observer = RECIPE_OBSERVER_MINMAX;
    r->activations.mode = RECIPE_DYNAMIC;
    r->activations.granularity = (enum recipe_tokens)pick(seed, 0, 1);
}

static void random_recipe(unsigned *seed, struct recipe *r)
{
    memset(r, 0, sizeof *r);
    for (int i = pick(seed, 1, RECIPE_MAX_NAME); i > 0; i--)
        r->name[i - 1] = "abcxyz0189._-"[pick(seed, 0, 12)];
    r->method = (enum recipe_method)pick(seed, 0, RECIPE_METHOD_ZEROQUANT);
    r->weights.bits = pick(seed, 2, 8);
    r->weights.granularity = (enum recipe_granularity)pick(seed, 0, RECIPE_TWO_LEVEL);
    r->weights.symmetric = pick(seed, 0, 1);
    r->activations.observer = (enum recipe_observer)r->method;       /* of the plain ones and RepQ-ViT; any for RepQuant */
    if (r->method == RECIPE_METHOD_SMOOTHQUANT)
        random_smoothing(seed, r);
    if (r->method == RECIPE_METHOD_ZEROQUANT)
        random_tokens(seed, r);
    if (r->method == RECIPE_METHOD_REPQUANT)
        random_reconstruction(seed, r);
    if (r->method == RECIPE_METHOD_REPQ_VIT)
        random_repq_vit(seed, r);
    else if (r->method != RECIPE_METHOD_REPQUANT)
        random_rebuilding(seed, r);
    if (r->method == RECIPE_METHOD_SMOOTHQUANT && r->activations.granularity == RECIPE_PER_TOKEN)
        r->reconstruction.target = 0;
    r->weights.group_size = r->weights.granularity >= RECIPE_PER_ROWS ? pick(seed, 16, 4096) : 0;
    r->activations.bits = pick(seed, 2, 8);
    r->target = (enum recipe_target)pick(seed, 0, 3);
    r->activations.symmetric = r->target >= RECIPE_TARGET_TENSORRT || pick(seed, 0, 1);
    bool of_tensor = r->activations.mode == RECIPE_DYNAMIC && r->activations.granularity == RECIPE_ONE_RANGE;
    if (of_tensor) {
        r->activations.bits = 8;
        r->activations.symmetric = false;
        r->target = (enum recipe_target)pick(seed, 0, RECIPE_TARGET_OPENVINO);
    }
    r->weights.symmetric |= r->target >= RECIPE_TARGET_TENSORRT;
    r->attention.softmax = r->target == RECIPE_TARGET_PORTABLE ? RECIPE_SOFTMAX_UNIFORM : r->attention.softmax;
    r->codes = r->activations.symmetric ? RECIPE_CODES_STORABLE : r->codes;
    if (r->activations.observer == RECIPE_OBSERVER_PERCENTILE)
        r->activations.percentile = pick(seed, 90000000, 100000000) / 1e6;
    r->attention.products = pick(seed, 0, 1);
    r->convolutions = pick(seed, 0, 1);
    r->compensation.rank = pick(seed, 0, 64);
    r->calibration.samples = pick(seed, 0, 1000000);
    r->n_exclude = pick(seed, 0, pick(seed, 0, RECIPE_MAX_PATTERNS));
    for (int i = 0; i < r->n_exclude; i++)
        random_pattern(seed, r->exclude[i]);
    r->n_overrides = pick(seed, 0, pick(seed, 0, RECIPE_MAX_OVERRIDES));
    for (int i = 0; i < r->n_overrides; i++) {
        r->overrides[i].part = (enum recipe_part)pick(seed, RECIPE_ANY_PART, RECIPE_FEED_FORWARD);
        if (!r->overrides[i].part || pick(seed, 0, 1))
            random_pattern(seed, r->overrides[i].match);
        r->overrides[i].weight_bits = pick(seed, 0, 1) ? pick(seed, 2, 8) : 0;
        r->overrides[i].act_bits = r->overrides[i].weight_bits && pick(seed, 0, 1) ? 0 : of_tensor ? 8 : pick(seed, 2, 8);
    }
}

static void writing_and_parsing_any_valid_recipe_changes_nothing(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int i = 0; i < 300; i++) {
        struct recipe r;
        random_recipe(&seed, &r);
        round_trip(&r);
    }
}

static void the_largest_recipe_fits(void **state)
{
    (void)state;
    struct recipe r;
    memcpy(&r, recipe_preset("minmax-w8a8"), sizeof r);
    r.n_exclude = RECIPE_MAX_PATTERNS;
    r.n_overrides = RECIPE_MAX_OVERRIDES;
    for (int i = 0; i < RECIPE_MAX_PATTERNS; i++)
        memset(r.exclude[i], '"', RECIPE_MAX_PATTERN);
    for (int i = 0; i < RECIPE_MAX_OVERRIDES; i++) {
        memset(r.overrides[i].match, '\\', RECIPE_MAX_PATTERN);
        r.overrides[i].weight_bits = r.overrides[i].act_bits = 4;
    }
    round_trip(&r);
}

static void one_more_than_the_limit_is_refused(void **state)
{
    (void)state;
    static const struct { const char *item; int limit; const char *key, *where; } rows[] = {
        { "\"a\"", RECIPE_MAX_PATTERNS, "exclude", "/exclude" },
        { "{\"match\":\"a\",\"weights\":{\"bits\":4}}", RECIPE_MAX_OVERRIDES, "overrides", "/overrides" },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (int over = 0; over < 2; over++) {
            char text[8192];
            size_t n = (size_t)snprintf(text, sizeof text, "{\"preset\":\"minmax-w8a8\",\"%s\":[", rows[i].key);
            for (int k = 0; k < rows[i].limit + over; k++)
                n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", k ? "," : "", rows[i].item);
            n += (size_t)snprintf(text + n, sizeof text - n, "]}");
            struct recipe r;
            struct err e = { 0 };
            assert_int_equal(recipe_parse(text, n, &r, &e), !over);
            assert_string_equal(e.where, over ? rows[i].where : "");
        }
    char *huge = calloc(1, RECIPE_MAX_TEXT + 1);
    struct recipe r;
    struct err e = { 0 };
    memset(huge, ' ', RECIPE_MAX_TEXT + 1);
    assert_false(recipe_parse(huge, RECIPE_MAX_TEXT + 1, &r, &e));
    assert_non_null(strstr(e.text, "at most"));
    free(huge);
}

/* ---- what follows from what ---- */

static void what_is_left_out_takes_the_documented_default(void **state)
{
    (void)state;
    struct recipe r = parsed("{" OK_WA "}");
    assert_int_equal(r.weights.granularity, RECIPE_PER_CHANNEL);
    assert_true(r.weights.symmetric && r.attention.products && r.convolutions);
    assert_false(r.activations.symmetric);
    assert_int_equal(r.activations.observer, RECIPE_OBSERVER_MINMAX);
    assert_true(r.activations.percentile == 0);
    assert_int_equal(r.target, RECIPE_TARGET_ONNXRUNTIME);
    assert_int_equal(r.n_exclude + r.n_overrides + r.calibration.samples, 0);
}

static void the_method_decides_the_observer_and_the_target_the_codes(void **state)
{
    (void)state;
    struct recipe r = parsed("{\"preset\":\"minmax-w8a8\",\"method\":\"percentile\"}");
    assert_int_equal(r.activations.observer, RECIPE_OBSERVER_PERCENTILE);
    assert_true(r.activations.percentile == 99.999);
    r = parsed("{\"preset\":\"percentile-w8a8\",\"method\":\"minmax\"}");
    assert_int_equal(r.activations.observer, RECIPE_OBSERVER_MINMAX);
    assert_true(r.activations.percentile == 0);
    r = parsed("{\"preset\":\"minmax-w8a8\",\"method\":\"zeroquant\"}");
    assert_int_equal(r.activations.mode, RECIPE_DYNAMIC);
    assert_int_equal(r.activations.granularity, RECIPE_PER_TOKEN);
    r = parsed("{\"preset\":\"smoothquant-w8a8\",\"activations\":{\"mode\":\"dynamic\"}}");
    assert_int_equal(r.activations.granularity, RECIPE_PER_TOKEN);
    r = parsed("{\"preset\":\"zeroquant-w8a8\",\"method\":\"minmax\"}");
    assert_int_equal(r.activations.mode, RECIPE_STATIC);
    assert_int_equal(r.activations.granularity, RECIPE_ONE_RANGE);
    r = parsed("{\"preset\":\"minmax-w8a8\",\"method\":\"smoothquant\"}");
    assert_true(r.smoothing.alpha == RECIPE_ALPHA_AUTO && r.smoothing.multiply);
    assert_true(parsed("{\"preset\":\"smoothquant-w8a8\",\"smoothing\":{\"alpha\":0}}").smoothing.alpha == 0);
    r = parsed("{\"preset\":\"smoothquant-w8a8\",\"method\":\"minmax\"}");
    assert_true(r.smoothing.alpha == 0 && !r.smoothing.multiply);
    assert_true(parsed("{\"preset\":\"minmax-w8a8\",\"target\":\"tensorrt\"}").activations.symmetric);
    assert_true(parsed("{\"preset\":\"minmax-w8a8\",\"target\":\"portable\"}").activations.symmetric);
    assert_false(parsed("{\"preset\":\"minmax-w8a8\",\"target\":\"openvino\"}").activations.symmetric);
    assert_int_equal(parsed("{\"preset\":\"repquant-w4a4\",\"target\":\"tensorrt\"}").attention.softmax, RECIPE_SOFTMAX_LOG_SQRT2);
    assert_int_equal(parsed("{\"preset\":\"repquant-w4a4\",\"target\":\"portable\"}").attention.softmax, RECIPE_SOFTMAX_UNIFORM);
    assert_true(parsed("{\"preset\":\"minmax-w8a8\",\"activations\":{\"symmetric\":true}}").activations.symmetric);
}

static void ranges_found_at_run_time_are_of_tokens_unless_the_tensor_is_said(void **state)
{
    (void)state;
    static const struct { const char *text; enum recipe_tokens want; } rows[] = {
        { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{\"mode\":\"dynamic\"}}", RECIPE_PER_TOKEN },
        { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{" O2 "}}", RECIPE_ONE_RANGE },
        { "{\"preset\":\"zeroquant-w8a8\",\"activations\":{\"granularity\":\"per_tensor\"}}", RECIPE_ONE_RANGE },
        { "{\"preset\":\"minmax-w8a8\",\"method\":\"zeroquant\"}", RECIPE_PER_TOKEN },
        { "{\"name\":\"x\",\"method\":\"zeroquant\",\"weights\":{\"bits\":8},\"activations\":{\"bits\":8}}", RECIPE_PER_TOKEN },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct recipe r = parsed(rows[i].text);
        assert_true(r.activations.mode == RECIPE_DYNAMIC && r.activations.granularity == rows[i].want);
    }
    struct recipe groups = parsed("{\"preset\":\"minmax-w8a8\",\"weights\":{\"granularity\":\"per_group\"}}");
    assert_int_equal(groups.weights.group_size, 64);
    groups = parsed("{\"preset\":\"smoothquant-group-w8a8\",\"weights\":{\"granularity\":\"per_channel\"}}");
    assert_int_equal(groups.weights.group_size, 0);
}

static void a_changed_preset_does_not_keep_the_presets_name(void **state)
{
    (void)state;
    assert_string_equal(parsed("{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":6}}").name, "minmax-w8a8-custom");
    assert_string_equal(parsed("{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":8}}").name, "minmax-w8a8");
    assert_string_equal(parsed("{\"preset\":\"minmax-w8a8\",\"name\":\"mine\",\"weights\":{\"bits\":6}}").name, "mine");
}

static void the_canonical_text_does_not_depend_on_how_it_was_asked_for(void **state)
{
    (void)state;
    static const char *const same[] = {
        "{\"preset\":\"percentile-w8a8\",\"name\":\"n\",\"exclude\":[\"*head*\"]}",
        "{\"exclude\":[\"*\\u0068ead*\"],\"name\":\"n\",\"activations\":{\"percentile\":99.99900000000001},\"preset\":\"percentile-w8a8\"}",
        "{\"name\":\"n\",\"method\":\"percentile\",\"activations\":{\"bits\":8},\"weights\":{\"bits\":8},\"exclude\":[\"*head*\"]}",
    };
    static const char want[] =
        "{\"name\":\"n\",\"method\":\"percentile\",\"weights\":{\"bits\":8,\"granularity\":\"per_channel\",\"symmetric\":true,\"rounding\":\"nearest\"},"
        "\"activations\":{\"bits\":8,\"granularity\":\"per_tensor\",\"mode\":\"static\",\"symmetric\":false,\"observer\":\"percentile\","
        "\"percentile\":99.999},\"reconstruction\":{\"target\":0.0,\"residual\":false,\"ridge\":1.0,\"damping\":0.05,\"descents\":2,\"bias_correction\":false,"
        "\"blocks\":false},\"attention\":{\"products\":true,\"softmax\":\"uniform\"},\"compensation\":{\"rank\":0},\"convolutions\":true,\"target\":\"onnxruntime\","
        "\"exclude\":[\"*head*\"],\"overrides\":[],\"calibration\":{\"samples\":0,\"random_tokens\":false}}";
    for (size_t i = 0; i < COUNT(same); i++) {
        struct recipe r = parsed(same[i]);
        char *text = recipe_text(&r);
        assert_string_equal(text, want);
        free(text);
    }
}

static void a_recipe_inside_a_request_is_blamed_with_its_place_there(void **state)
{
    (void)state;
    static const struct { const char *text, *where; } rows[] = {
        { "{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":1}}", "/recipe/weights/bits" },
        { "{\"preset\":\"nope\"}", "/recipe/preset" },
        { "{\"name\":\"x\"}", "/recipe/method" },
        { "\"nope\"", "/recipe" },
        { "{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"match\":\"\"}]}", "/recipe/overrides/0/match" },
        { "{\"preset\":\"minmax-w8a8\",\"target\":\"tensorrt\",\"activations\":{\"symmetric\":false}}", "/recipe/activations/symmetric" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct err e = { 0 };
        struct recipe r;
        json_t *v = json_parse(rows[i].text, strlen(rows[i].text), 8, ERR_REQUEST_JSON, &e);
        assert_non_null(v);
        assert_false(recipe_from_json(v, "/recipe", NULL, &r, &e));
        assert_string_equal(e.where, rows[i].where);
        json_decref(v);
    }
}

static void a_saved_recipe_may_be_named_like_a_preset(void **state)
{
    (void)state;
    static const struct { const char *text, *name; int bits; const char *where; } rows[] = {
        { "\"ours\"", "ours", 6, NULL },
        { "{\"preset\":\"ours\"}", "ours", 6, NULL },
        { "{\"preset\":\"ours\",\"activations\":{\"bits\":7}}", "ours-custom", 6, NULL },
        { "\"minmax-w8a8\"", "minmax-w8a8", 8, NULL },
        { "\"our\"", NULL, 0, "/recipe" },
        { "{\"preset\":\"ours2\"}", NULL, 0, "/recipe/preset" },
    };
    struct recipe saved = parsed("{\"preset\":\"minmax-w8a8\",\"weights\":{\"bits\":6},\"name\":\"ours\"}");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct err e = { 0 };
        struct recipe r;
        json_t *v = json_read(rows[i].text, JSON_DECODE_ANY);
        assert_non_null(v);
        assert_int_equal(recipe_from_json(v, "/recipe", &saved, &r, &e), rows[i].name != NULL);
        if (rows[i].name) {
            assert_string_equal(r.name, rows[i].name);
            assert_int_equal(r.weights.bits, rows[i].bits);
        } else {
            assert_int_equal(e.code, ERR_RECIPE_UNKNOWN);
            assert_string_equal(e.where, rows[i].where);
        }
        json_decref(v);
    }
}

static void a_changed_recipe_of_a_long_name_keeps_what_fits(void **state)
{
    (void)state;
    char name[RECIPE_MAX_NAME + 1], text[200];
    struct recipe saved = parsed("\"minmax-w8a8\""), r;
    struct err e = { 0 };
    memset(name, 'x', RECIPE_MAX_NAME);
    name[RECIPE_MAX_NAME] = '\0';
    memcpy(saved.name, name, sizeof name);
    snprintf(text, sizeof text, "{\"preset\":\"%s\",\"weights\":{\"bits\":6}}", name);
    json_t *v = json_parse(text, strlen(text), 8, ERR_REQUEST_JSON, &e);
    assert_true(recipe_from_json(v, "", &saved, &r, &e));
    assert_int_equal(strlen(r.name), RECIPE_MAX_NAME);
    assert_string_equal(r.name + RECIPE_MAX_NAME - 7, "-custom");
    assert_true(recipe_name_valid(r.name));
    json_decref(v);
}

/* ---- layers ---- */

/* What the header says a pattern means, written down as slowly as can be. */
static bool glob_by_definition(const char *p, const char *s)
{
    if (*p == '*')
        return glob_by_definition(p + 1, s) || (*s && glob_by_definition(p, s + 1));
    if (!*p || !*s)
        return *p == *s;
    return (*p == '?' || *p == *s) && glob_by_definition(p + 1, s + 1);
}

static void a_pattern_means_what_its_definition_says(void **state)
{
    (void)state;
    unsigned seed = 3;
    int matches = 0;
    for (int i = 0; i < 20000; i++) {
        char p[8] = "", s[10] = "";
        for (int k = pick(&seed, 0, 7); k > 0; k--)
            p[k - 1] = "ab*?"[pick(&seed, 0, 3)];
        for (int k = pick(&seed, 0, 9); k > 0; k--)
            s[k - 1] = "ab"[pick(&seed, 0, 1)];
        if (recipe_glob(p, s) != glob_by_definition(p, s))
            fail_msg("pattern '%s', name '%s'", p, s);
        matches += recipe_glob(p, s);
    }
    assert_in_range(matches, 1000, 19000);
}

static void a_hostile_pattern_takes_no_exponential_time(void **state)
{
    (void)state;
    char p[RECIPE_MAX_PATTERN + 1] = "", s[4096];
    for (int i = 0; i < RECIPE_MAX_PATTERN - 1; i++)
        p[i] = i % 2 ? 'a' : '*';
    p[RECIPE_MAX_PATTERN - 1] = 'b';
    memset(s, 'a', sizeof s - 1);
    s[sizeof s - 1] = '\0';
    assert_false(recipe_glob(p, s));       /* by the definition this would outlive the machine */
}

static void a_layer_gets_the_bits_of_the_first_pattern_that_matches_it(void **state)
{
    (void)state;
    struct recipe r = parsed("{\"preset\":\"minmax-w8a8\",\"exclude\":[\"*head*\",\"blocks.0.*\"],\"overrides\":["
                             "{\"match\":\"*fc1\",\"weights\":{\"bits\":4}},"
                             "{\"match\":\"*fc?\",\"weights\":{\"bits\":5},\"activations\":{\"bits\":6}},"
                             "{\"match\":\"blocks.0*\",\"activations\":{\"bits\":2}}]}");
    static const struct { const char *layer; bool quantize; int w, a; const char *reason; } rows[] = {
        { "qkv", true, 8, 8, "" },
        { "blocks.3.fc1", true, 4, 8, "override \"*fc1\"" },
        { "blocks.3.fc2", true, 5, 6, "override \"*fc?\"" },
        { "blocks.3.fc22", true, 8, 8, "" },
        { "blocks.0.fc1", false, 0, 0, "excluded by \"blocks.0.*\"" },
        { "blocks.01", true, 8, 2, "override \"blocks.0*\"" },
        { "/head/Gemm", false, 0, 0, "excluded by \"*head*\"" },
        { "/Head/Gemm", true, 8, 8, "" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct recipe_choice c;
        recipe_match(&r, rows[i].layer, RECIPE_ANY_PART, &c);
        assert_int_equal(c.quantize, rows[i].quantize);
        assert_int_equal(c.weight_bits, rows[i].w);
        assert_int_equal(c.act_bits, rows[i].a);
        assert_string_equal(c.reason, rows[i].reason);
    }
}

static void an_override_may_be_for_a_part_of_the_block(void **state)
{
    (void)state;
    struct recipe r = parsed("{\"preset\":\"minmax-w8a8\",\"overrides\":[{\"part\":\"feed_forward\",\"match\":\"*.0.*\",\"weights\":{\"bits\":6}},"
                             "{\"part\":\"feed_forward\",\"weights\":{\"bits\":4}},{\"part\":\"attention\",\"activations\":{\"bits\":7}}]}");
    static const struct { const char *layer; enum recipe_part part; int w, a; const char *reason; } rows[] = {
        { "blocks.0.fc1", RECIPE_FEED_FORWARD, 6, 8, "override \"*.0.*\"" },
        { "blocks.0.qkv", RECIPE_ATTENTION, 8, 7, "override \"attention\"" },
        { "blocks.1.fc1", RECIPE_FEED_FORWARD, 4, 8, "override \"feed_forward\"" },
        { "blocks.1.fc1", RECIPE_ANY_PART, 8, 8, "" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct recipe_choice c;
        recipe_match(&r, rows[i].layer, rows[i].part, &c);
        assert_true(c.weight_bits == rows[i].w && c.act_bits == rows[i].a);
        assert_string_equal(c.reason, rows[i].reason);
    }
    const struct recipe *zero = recipe_preset("zeroquant-w4a8");
    for (enum recipe_part part = RECIPE_ANY_PART; part <= RECIPE_FEED_FORWARD; part++) {
        struct recipe_choice c;
        recipe_match(zero, "layer", part, &c);
        assert_int_equal(c.weight_bits, part == RECIPE_FEED_FORWARD ? 4 : 8);
    }
}

static void what_a_recipe_takes_from_data_is_named_where_there_are_none(void **state)
{
    (void)state;
    static const char free_of_data[] = "{\"preset\":\"zeroquant-w8a8\"}";
    static const struct { const char *text, *where, *says; } rows[] = {
        { free_of_data, NULL, NULL },
        { "\"minmax-w8a8\"", "/recipe/activations/mode", "method zeroquant" },
        { "{\"preset\":\"smoothquant-w8a8\",\"activations\":{\"mode\":\"dynamic\"}}", "/recipe/method", "factors of channels" },
        { "{\"preset\":\"zeroquant-w8a8\",\"weights\":{\"rounding\":\"gptq\"}}", "/recipe/weights/rounding", "set the rounding to nearest" },
        { "{\"preset\":\"zeroquant-w8a8\",\"reconstruction\":{\"blocks\":true}}", "/recipe/reconstruction/blocks", "set blocks to false" },
        { "{\"preset\":\"zeroquant-w8a8\",\"reconstruction\":{\"bias_correction\":true}}", "/recipe/reconstruction/bias_correction", "set it to false" },
        { "{\"preset\":\"zeroquant-w8a8\",\"compensation\":{\"rank\":4}}", "/recipe/compensation/rank", "set the rank to 0" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct recipe r = parsed(rows[i].text);
        struct err e = { 0 };
        bool ok = recipe_without_data(&r, "/recipe", &e);
        if (ok != !rows[i].where || (!ok && (e.code != ERR_DATA_REQUIRED || strcmp(e.where, rows[i].where) != 0 || !strstr(e.text, rows[i].says))))
            fail_msg("%s: %s: %s: %s", rows[i].text, err_slug(e.code), e.where, e.text);
    }
}

static void the_schema_describes_every_field(void **state)
{
    (void)state;
    json_t *schema = recipe_schema();
    assert_non_null(schema);
    assert_string_equal(json_string_value(json_object_get(schema, "$schema")), "https://json-schema.org/draft/2020-12/schema");
    const json_t *complete = json_array_get(json_object_get(schema, "anyOf"), 0);
    assert_true(json_is_false(json_object_get(complete, "additionalProperties")));
    struct recipe whole = parsed("{\"preset\":\"repquant-w8a8\",\"weights\":{\"granularity\":\"per_group\"},\"activations\":{\"observer\":\"percentile\"}}");
    json_t *preset = recipe_json(&whole);
    const char *key;
    json_t *value;
    json_object_foreach(preset, key, value) {
        const json_t *described = json_object_get(json_object_get(complete, "properties"), key);
        assert_non_null(described);
        if (json_is_object(value))
            assert_int_equal(json_object_size(value), json_object_size(json_object_get(described, "properties")));
    }
    json_decref(preset);
    json_decref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_recipe_is_refused_with_its_pointer_and_what_is_accepted),
        cmocka_unit_test(every_preset_is_complete_and_found_by_its_name),
        cmocka_unit_test(writing_and_parsing_a_preset_changes_nothing),
        cmocka_unit_test(writing_and_parsing_any_valid_recipe_changes_nothing),
        cmocka_unit_test(the_largest_recipe_fits),
        cmocka_unit_test(one_more_than_the_limit_is_refused),
        cmocka_unit_test(what_is_left_out_takes_the_documented_default),
        cmocka_unit_test(the_method_decides_the_observer_and_the_target_the_codes),
        cmocka_unit_test(ranges_found_at_run_time_are_of_tokens_unless_the_tensor_is_said),
        cmocka_unit_test(a_changed_preset_does_not_keep_the_presets_name),
        cmocka_unit_test(the_canonical_text_does_not_depend_on_how_it_was_asked_for),
        cmocka_unit_test(a_recipe_inside_a_request_is_blamed_with_its_place_there),
        cmocka_unit_test(a_saved_recipe_may_be_named_like_a_preset),
        cmocka_unit_test(a_changed_recipe_of_a_long_name_keeps_what_fits),
        cmocka_unit_test(a_pattern_means_what_its_definition_says),
        cmocka_unit_test(a_hostile_pattern_takes_no_exponential_time),
        cmocka_unit_test(a_layer_gets_the_bits_of_the_first_pattern_that_matches_it),
        cmocka_unit_test(an_override_may_be_for_a_part_of_the_block),
        cmocka_unit_test(what_a_recipe_takes_from_data_is_named_where_there_are_none),
        cmocka_unit_test(the_schema_describes_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
