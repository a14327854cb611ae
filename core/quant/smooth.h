/*
 * smooth.h - SmoothQuant's factors: the spread of an activation's channels, shared with the weights that read it.
 *
 *     x W^T = (x / s) (W s)^T        s_j = max|x_j|^alpha / max|W_j|^(1 - alpha)
 *
 * over all data and all linears that read x.  alpha 1 makes all channels of x equally wide, 0 all columns of W.
 * Xiao et al., SmoothQuant (arXiv 2211.10438), section 4.
 */
#ifndef CORE_QUANT_SMOOTH_H
#define CORE_QUANT_SMOOTH_H

#include "core/quant/clip.h"
#include "core/quant/weight_grid.h"

struct smooth_task {
    const struct rows *rows;           /* of x; weight and columns are not looked at */
    const struct ranges *full;         /* extremes of x over all data */
    const int *group;                  /* [channels] below `groups`: channels of one number share a factor; NULL: each has its own */
    size_t groups;
    const float *w;                    /* [outputs, channels]: all that reads x, one under another */
    const struct smooth_reader { size_t end; int bits; struct weight_grid grid; } *readers;    /* [n_readers]: its rows of w end before `end` */
    size_t n_readers;
    bool asymmetric;                   /* weights have zero points */
    int bits;                          /* of x's codes */
    bool symmetric;                    /* x's codes are int8 around 0 */
    bool per_row;                      /* each row has a range of its own, as if its largest magnitude were 1 */
    double floor;                      /* max|x_j| counts as this quantile of the groups' at least (0: as it is): who was quiet may not stay so */
};

/*
 * s [channels] for one alpha in [0, 1].  A channel that is 0 on all data, and one whose column would not stay finite, has s = 1;
 * max|W_j| counts as 1e-5 at least; s is kept in [1e-5, 1e8].  mem: scratch.
 */
bool smooth_factors(const struct smooth_task *t, double alpha, struct arena *mem, float *ret_s, struct err *e);

/* The extremes of x * (1 / s), as the engine computes it, over all channels. */
void smooth_range(const struct ranges *full, const float *s, size_t channels, float *ret_lo, float *ret_hi);

/*
 * Squared error of x W^T on the rows, for s = 1 (alpha SMOOTH_NONE) or the factors of an alpha, x in the codes of one quantizer over
 * the extremes and W rounded to nearest as the readers have it: what the layers will compute.  s: [channels].
 */
#define SMOOTH_NONE (-1.0)
bool smooth_error(const struct smooth_task *t, const float *s, struct arena *mem, double *ret, struct err *e);

/*
 * The alpha of 0, .1 .. 1 with the least such error, of the three that have the least on a quarter of the rows (256 or more);
 * SMOOTH_NONE (s all 1) if it is not below `worth` times that of no factors at all.  Of equals the first.
 * mem: (rows + outputs) (channels + outputs) floats a thread, and half as much once.  Threads do not change a bit.
 */
bool smooth_search(const struct smooth_task *t, double worth, struct pool *pool, struct arena *mem, float *ret_s, double *ret_alpha,
                   struct err *e);

#endif
