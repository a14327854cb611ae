/*
 * method.h - what a method decides; the sweep does everything else.
 *
 * A method sees a site's values on the quantized stream and gives its quantizer, and turns a layer's weights into
 * codes, if it wants with the moments of what the layer will really see.  core/method lists the methods.
 */
#ifndef CORE_SWEEP_METHOD_H
#define CORE_SWEEP_METHOD_H

#include "core/base/pool.h"
#include "core/quant/channels.h"
#include "core/quant/levels.h"
#include "core/quant/observer.h"
#include "core/quant/quantizer.h"
#include "core/quant/smooth.h"
#include "core/recipe/recipe.h"

/* What a site's values are, told from who makes and who reads them. */
enum site_kind {
    SITE_PLAIN,          /* anything */
    SITE_NORM,           /* a normalisation's output that only linears read: channels may have scales of their own */
    SITE_ACTIVATION,     /* an activation function's output that only linears read: a factor per channel costs one Mul */
    SITE_LINEAR,         /* anything else that only linears read */
    SITE_ROWS,           /* each row divided by its largest magnitude, within [-1, 1] whatever comes: a method may only choose factors
                            for what is divided */
    SITE_SOFTMAX,        /* probabilities along the last axis that only a product reads */
};

struct site_view {
    enum site_kind kind;
    int bits, weight_bits;             /* weight_bits: the fewest of the linears that read it; 0: none does */
    bool conv_output;                  /* what a convolution gives, as codes */
    bool can_shift;                    /* an offset per channel costs nothing or one Add */
    bool free_factors;                 /* factors per channel cost nothing: what makes the values takes them up */
    const int *group;                  /* [channels]: those of one number have one factor; NULL: each its own */
    size_t groups;
    const struct observer *o;
    struct rows rows;                  /* sampled rows, if the method wants them (n == 0 else) */
    int64_t all_rows;                  /* how many there are */
    const float *w;                    /* [n, channels]: weights of all linears that read it, stacked; with rows */
    size_t n;
    const struct smooth_reader *readers;   /* [n_readers]: whose rows of w are which */
    size_t n_readers;
    uint64_t seed;
};

struct site_choice {
    struct affine a;                   /* of x * mul + shift where there are factors; unused with levels */
    float *mul, *shift;                /* [channels], or NULL */
    float fraction;                    /* [-.5, .5], added to a's zero point: not 0 where no integer type holds the codes */
    struct log_levels levels;          /* bits == 0: none */
    double exponent;                   /* of the channel scales; 0 without */
    double clip_gain_db;               /* what clipping the channels gained over their extremes, on the sampled rows */
};

/* What one linear or convolution really sees and is to give, over all calibration rows. */
struct weight_view {
    const struct graph *g;
    const struct layer *l;
    int bits;
    struct affine a;                   /* of its input */
    const float *mul, *shift;          /* [k] channel factors of its input, or NULL */
    double rows;                       /* 0: no moments were asked for */
    const double *mean, *h;            /* [k], [k,k]: of codes minus zero point; covariance (upper triangle and lower) */
    const double *c, *mean_y;          /* [n,k], [n]: covariance of target and codes; mean of the target, bias included */
};

enum { METHOD_ADAROUND_STEPS = 1000 };

struct method {
    const char *name;                  /* as recipes name it */
    int sample_rows, sample_largest;   /* rows drawn, and those of the largest norm beside them; 0: SAMPLE_ROWS and every first row */
    /*
     * Factors of SITE_ACTIVATION and SITE_LINEAR go into the linear that makes them, through layout operators, products and
     * Relu, before the walk (absorb.h); its sites are then plain ones.
     */
    bool absorbs;
    int conv_bits;                     /* of a convolution's input and output; 0: as the recipe says */
    /*
     * While the walk goes on, layers behind channel factors run with channels of their own steps and the model's own weights,
     * rounded; the folded ones come in when everything is decided, and a second walk measures them.
     */
    bool folds_last;
    /* Does it look at sampled rows of such a site, at the moments of a layer? */
    bool (*wants_rows)(const struct recipe *r, enum site_kind kind);
    bool (*wants_moments)(const struct recipe *r);
    bool (*site)(const struct recipe *r, const struct site_view *v, struct pool *pool, struct arena *mem,
                 struct site_choice *ret, struct err *e);
    /* A layer's weight codes.  What both return may lie in `mem`, which is freed once it has been copied. */
    bool (*weights)(const struct recipe *r, const struct weight_view *v, struct pool *pool, struct arena *mem,
                    struct qweight *ret, struct err *e);
};

#endif
