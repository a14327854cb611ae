/*
 * recipe.h - what a client may ask for: names, ranges, defaults, presets; JSON <-> struct.
 *
 * A recipe says how a model is quantized.  In JSON it is one of
 *   - a complete recipe: {"name": ..., "method": ..., "weights": {"bits": 8}, ...}; fields with a default may be left out;
 *   - a preset with changes: {"preset": "percentile-w8a8", "exclude": ["*head*"]};
 *   - a string alone: the name of a preset.
 * The struct has the same fields under the same names.  One table (field.c) drives the parser,
 * the writer and the JSON Schema, so they cannot disagree.
 *
 * Some fields follow from others and may be left out: the method decides the observer, the
 * target decides whether activations are symmetric.  Saying the opposite is ERR_RECIPE_COMBINATION.
 *
 * Patterns.  `exclude` and `overrides[].match` are matched against the whole name of a node or
 * layer, case-sensitively: `*` is any run of characters ('/' and '.' too, the empty run too),
 * `?` is any one byte, everything else is itself.  "*fc1*" finds "/blocks.3/mlp/fc1/MatMul"; "fc1" does not.
 * An override may say a part of the block ("attention", "feed_forward") in place of a pattern or with one: then both have to fit.
 */
#ifndef CORE_RECIPE_RECIPE_H
#define CORE_RECIPE_RECIPE_H

#include "core/base/err.h"
#include "core/base/json.h"

#include <stddef.h>

enum {
    RECIPE_MAX_NAME = 64, RECIPE_MAX_PATTERN = 200,       /* bytes, without the NUL */
    RECIPE_MAX_PATTERNS = 64, RECIPE_MAX_OVERRIDES = 64,
    RECIPE_MAX_TEXT = 256 << 10,                          /* bytes of JSON that recipe_parse() looks at */
};

enum recipe_method {
    RECIPE_METHOD_MINMAX, RECIPE_METHOD_PERCENTILE, RECIPE_METHOD_REPQUANT, RECIPE_METHOD_REPQ_VIT, RECIPE_METHOD_SMOOTHQUANT,
    RECIPE_METHOD_ZEROQUANT,
};
/* What shares a scale of a weight: all; an output channel; a run of those; a group of inputs of one; the same with whole multiples. */
enum recipe_granularity { RECIPE_PER_TENSOR, RECIPE_PER_CHANNEL, RECIPE_PER_ROWS, RECIPE_PER_GROUP, RECIPE_TWO_LEVEL };
enum recipe_tokens { RECIPE_ONE_RANGE, RECIPE_PER_TOKEN };
enum recipe_mode { RECIPE_STATIC, RECIPE_DYNAMIC };       /* activation ranges are fixed by calibration; found while the artifact runs */
enum recipe_observer { RECIPE_OBSERVER_MINMAX, RECIPE_OBSERVER_PERCENTILE, RECIPE_OBSERVER_MSE, RECIPE_OBSERVER_PERCENTILES };
enum recipe_rounding { RECIPE_NEAREST, RECIPE_GPTQ, RECIPE_ADAROUND };
/* Scales per channel of what a norm gives to linears: none; folded whole (RepQ-ViT); folded with an exponent chosen by output error. */
enum recipe_norms { RECIPE_NORMS_OFF, RECIPE_NORMS_FULL, RECIPE_NORMS_SEARCH };
enum recipe_clipping { RECIPE_CLIP_MINMAX, RECIPE_CLIP_PERCENTILE, RECIPE_CLIP_GRID, RECIPE_CLIP_LEARNED };
/* Levels of attention probabilities: equal steps; powers of 2; powers of sqrt 2 with a zero. */
enum recipe_softmax { RECIPE_SOFTMAX_UNIFORM, RECIPE_SOFTMAX_LOG2, RECIPE_SOFTMAX_LOG_SQRT2 };
/* What a block is taught on: the float stream's input, that of the network quantized so far, or each by turns. */
enum recipe_pupil { RECIPE_TEACHER, RECIPE_STUDENT, RECIPE_BOTH };
/* Codes that fit their bits; or those of RepQ-ViT's published code, which do not: 2^b softmax levels and a zero, zero points between codes. */
enum recipe_codes { RECIPE_CODES_STORABLE, RECIPE_CODES_PUBLISHED };
/* In place of a number for smoothing.alpha: each group of layers that reads one tensor has its own, by output error. */
#define RECIPE_ALPHA_AUTO (-1.0)
/* Who must be able to run the artifact; decides the type of activation codes and the form of biases. */
enum recipe_target { RECIPE_TARGET_ONNXRUNTIME, RECIPE_TARGET_OPENVINO, RECIPE_TARGET_TENSORRT, RECIPE_TARGET_PORTABLE };

/* What a layer is for, found by structure: products of attention and the linears around them; those around an activation function. */
enum recipe_part { RECIPE_ANY_PART, RECIPE_ATTENTION, RECIPE_FEED_FORWARD };
extern const char *const recipe_part_name[];               /* [0] is no name; NULL-terminated */

struct recipe_override {
    char match[RECIPE_MAX_PATTERN + 1];    /* "": any name */
    enum recipe_part part;                 /* never any with any name */
    int weight_bits, act_bits;             /* 0: as the recipe says; never both 0 */
};

/* Plain, pointer-free, fixed-size (about 26 KiB): may be copied, stored and compared byte by byte (parsed
 * recipes and presets have zeros in all padding and unused room). */
struct recipe {
    char name[RECIPE_MAX_NAME + 1];        /* for people: [a-z0-9._-]{1,64} */
    enum recipe_method method;
    struct {
        int bits;                          /* 2..8 */
        enum recipe_granularity granularity;
        bool symmetric;                    /* false: each row has a zero point */
        enum recipe_rounding rounding;
        int group_size;                    /* 16..4096 channels or inputs; 0 where granularity has no groups */
    } weights;
    struct {
        int bits;                          /* 2..8 */
        enum recipe_tokens granularity;    /* one range per tensor; of what linears read, one per token */
        enum recipe_mode mode;
        bool symmetric;                    /* true: int8 codes around 0; false: uint8 with a zero point */
        enum recipe_observer observer;
        double percentile;                 /* 90..100, in steps of 1e-6; 0 unless the observer is percentile */
    } activations;
    struct {
        enum recipe_norms norms;
        enum recipe_clipping clipping;     /* of the ranges per channel */
        bool activations;                  /* scales for outlier channels behind GELU and its like, as one Mul */
    } channels;
    struct {
        double alpha;                      /* 0..1: how much of the activations' spread the weights take over; or RECIPE_ALPHA_AUTO */
        bool multiply;                     /* one Mul where nothing upstream can take the factors up */
    } smoothing;
    struct {
        double target;                     /* 0..1: the share of the float stream in what a layer is to give */
        bool residual;                     /* hand the residual stream's error to the layers that write to it */
        double ridge, damping;             /* in units of the mean of the Gram's diagonal */
        int descents;                      /* sweeps of coordinate descent behind GPTQ */
        bool bias_correction;
        bool blocks;                       /* whole blocks are taught behind their layers: see distillation */
    } reconstruction;
    struct {                               /* all 0 without reconstruction.blocks */
        enum recipe_pupil input;
        int steps, batch;                  /* updates of each block; samples an update */
        double rate, decay;                /* quantization steps an update at first; weight decay, in units of the rate */
        int held_out;                      /* percent of the samples: they judge, and are not learned from */
    } distillation;
    struct {
        bool products;                     /* quantize q.k and p.v too */
        enum recipe_softmax softmax;
    } attention;
    struct {
        int rank;                          /* of two float matrices beside each weight that give back what rounding took; 0: none */
    } compensation;
    bool convolutions;                     /* quantize convolutions too */
    enum recipe_codes codes;
    enum recipe_target target;
    int n_exclude, n_overrides;
    char exclude[RECIPE_MAX_PATTERNS][RECIPE_MAX_PATTERN + 1];
    struct recipe_override overrides[RECIPE_MAX_OVERRIDES];
    struct {
        int samples;                       /* use the first so many calibration samples; 0: all */
        bool random_tokens;                /* ids of tokens are drawn at random; shapes and masks are the samples' */
    } calibration;
};

struct recipe_preset {
    const char *name, *description;        /* name is also recipe.name */
    struct recipe recipe;
};

/* All presets, *ret_n of them; every one can be run by this version. */
const struct recipe_preset *recipe_presets(size_t *ret_n);
/* The preset's recipe, or NULL. */
const struct recipe *recipe_preset(const char *name);
/* Its recipe_text(), which is made once; NULL also without memory. */
const char *recipe_preset_text(const char *name);

/*
 * Reads a recipe in any of the three forms.  A changed preset that is not given a name of its own
 * is named "<preset>-custom", cut to what fits.
 * Errors, with the JSON pointer in `where` and what is accepted in `text`:
 *   ERR_RECIPE_FIELD        not JSON, an unknown or missing field, a wrong type, a value out of range
 *   ERR_RECIPE_COMBINATION  fields that exclude each other
 *   ERR_RECIPE_UNKNOWN      no such preset; the text lists the names
 */
bool recipe_parse(const char *text, size_t n, struct recipe *ret, struct err *e);

/*
 * The same for a value inside a larger document: `pointer` is where it stands there, e.g. "/recipe"; "" for the root.  `saved` may be
 * named like a preset; NULL: presets alone.
 */
bool recipe_from_json(const json_t *value, const char *pointer, const struct recipe *saved, struct recipe *ret, struct err *e);

/* Whether it may be recipe.name. */
bool recipe_name_valid(const char *name);

/*
 * The complete recipe, every field written out in a fixed order (activations.percentile and weights.group_size only where they
 * mean something): equal recipes give equal text, so its digest identifies the recipe, and
 * parsing it gives the same struct again.  The caller decrefs / frees; NULL without memory.
 * Who dumps the json_t himself should pass JSON_REAL_PRECISION(15), or 99.99 gets seventeen digits.
 */
json_t *recipe_json(const struct recipe *r);
char *recipe_text(const struct recipe *r);

/* The JSON Schema (2020-12) of all three forms.  The caller decrefs; NULL without memory. */
json_t *recipe_schema(void);

/*
 * Can a model be quantized so with no sample at all?  (Its products and convolutions may need some yet: see sweep_without_data().)
 * False with ERR_DATA_REQUIRED at the first field that asks for data; `pointer` is where the recipe stands.
 */
bool recipe_without_data(const struct recipe *r, const char *pointer, struct err *e);

struct recipe_choice {
    bool quantize;                         /* false: the recipe keeps this layer in float */
    int weight_bits, act_bits;             /* 0 when it stays float */
    char reason[RECIPE_MAX_PATTERN + 48];  /* which pattern decided: excluded by "head"; "" if none did */
};

/* What the recipe asks for the layer of that name and part: `exclude` first, then the first override that matches. */
void recipe_match(const struct recipe *r, const char *layer, enum recipe_part part, struct recipe_choice *ret);

/* Whether one pattern matches a whole name, in time proportional to the product of their lengths. */
bool recipe_glob(const char *pattern, const char *name);

#endif
