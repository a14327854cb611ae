/*
 * layer_row.h - one row of the per-layer report, and the details behind it.
 *
 *   isolated      this layer on the quantized stream's own input, unquantized against quantized, on the first samples
 *   accumulated   the two streams at the layer's output; output_sqnr_db, output_mse and cosine are of the same pair
 */
#ifndef CORE_REPORT_LAYER_ROW_H
#define CORE_REPORT_LAYER_ROW_H

#include "core/base/arena.h"
#include "core/base/json.h"
#include "core/kernel/affine.h"
#include "core/quant/clip.h"
#include "core/quant/levels.h"
#include "core/quant/observer.h"
#include "core/quant/quantizer.h"
#include "core/report/errors.h"

enum { DETAIL_BINS = 128, DETAIL_MAX_CHANNELS = 512, DETAIL_MAX_HEAD_CODES = 2048, DETAIL_MAX_BYTES = 64 << 10 };

/* What is kept of an observer once its site is decided; small enough for the journal. */
struct site_summary {
    float lo, hi;                        /* extremes seen */
    float hist_lo, hist_hi;              /* ends of the histogram */
    uint64_t count, hist[DETAIL_BINS];   /* of what was seen */
    uint64_t hist_after[DETAIL_BINS];    /* of what the quantizer makes of it */
    double channel_ratio;                /* widest channel over the median one */
    double channel_ratio_after;          /* the same of x * mul + shift */
    double outside;                      /* fraction beyond the quantizer's range; of logarithmic levels: above the highest */
    uint32_t n_codes;                    /* logarithmic levels: how often each code occurs, the last one being zero */
    uint64_t codes[1 << 8];
    uint32_t heads, heads_kept;          /* of attention, with levels: how many there are, and how many of them are kept below */
    uint64_t *head_codes;                /* [heads_kept][n_codes] */
    uint32_t channels, kept;             /* channels seen; of them kept below (every channels/kept-th) */
    float channel_lo[DETAIL_MAX_CHANNELS], channel_hi[DETAIL_MAX_CHANNELS];
};

/* How a site's values become codes. */
struct site_codes {
    const struct affine *a;
    const float *mul, *shift;            /* [channels]: a is of x * mul + shift; or NULL */
    const struct rows *rows;             /* sampled rows of x; wanted with mul */
    const struct log_levels *levels;     /* in place of a; or NULL */
};

/* What *ret refers to is in `mem`. */
bool site_summarize(const struct observer *o, const struct site_codes *q, struct arena *mem, struct site_summary *ret, struct err *e);

/* The same for a weight. */
struct weight_summary {
    float lo, hi, scale_min, scale_max;
    uint64_t before[DETAIL_BINS], after[DETAIL_BINS];
    double signal, noise;                /* sums of squares of the weights and of what rounding changed */
    double rounding_gain_db, bias_gain_db;
    int64_t zero_channels;
    int bits;
};

/* mul: channel factors [k] of the layer's input, or NULL. */
void weight_summarize(const struct graph *g, const struct layer *l, const struct qweight *w, const float *mul, struct weight_summary *ret);

struct layer_row {
    const char *name, *op, *block, *role;
    const char *part;                    /* "attention", "feed_forward"; NULL: neither */
    int weight_bits, act_bits;           /* 0: float */
    int64_t group;                       /* inputs that share a scale of the weights; 0: all do */
    const char *planned, *actual;        /* "w8a8" or "float" */
    const char *skip_reason;             /* "" when quantized */
    bool has_weight;
    const struct weight_summary *weight; /* of a quantized layer with a weight, or NULL */
    const struct qweight *codes;         /* the same layer's; or NULL */
    struct errors accumulated, isolated;
    const struct site_summary *x;        /* of the layer's (first) input, or NULL */
    double clip_gain_db, exponent;       /* of that input's channel ranges; exponent 0: it has none */
    bool residual_target;                /* its weights also take over the residual stream's error */
    int64_t params, bytes_before, bytes_after;
    double seconds;
};

/* The row as the contract names its members; a new reference, NULL without memory. */
json_t *layer_row_json(const struct layer_row *r);

/* Histograms before and after, channel ranges, clip lines; at most DETAIL_MAX_BYTES as text.
 * x and other: how the operands become codes (rows are not looked at), NULL where there is none; other_summary: of a product's second operand. */
json_t *layer_detail_json(const struct layer_row *r, int index, const struct site_codes *x, const struct site_codes *other,
                          const struct site_summary *other_summary);

#endif
