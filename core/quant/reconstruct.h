/*
 * reconstruct.h - the weights of one linear layer to codes, chosen so that the layer's output changes least.
 *
 * A layer is y = V a (+ bias): V [n, k], a row per output channel; a [k] is what the layer is really given at
 * inference (codes minus an offset, the scale of the activation folded into V).  All that is known of a is
 *
 *     H = E[(a - E a)(a - E a)^T]  [k, k]      C = E[(y* - E y*)(a - E a)^T]  [n, k]
 *
 * with y* what the layer should give.  With the best bias, the mean squared error of weights W is a constant
 * plus tr(W H W^T) - 2 tr(W C^T).  With a bias b that stays it is the same of E[a a^T] and E[(y* - b) a^T].  In order:
 *
 *   1. The target.  V* = V + (C - V H)(H + ridge m I)^-1, m the mean of H's diagonal: ridge regression towards V
 *      (the Aqer of ERQ: Zhong et al. 2024, arXiv 2407.06794, in Gram form).  Without C, V* = V.
 *   2. Ranges of V*, for each row, for several or all, or for each group of inputs, shrunk by the one of 31 factors (1.0 to 0.4)
 *      that gives the least sum of squared rounding errors weighted by the diagonal of Hd = H + damping m I.
 *   3. Codes: nearest; or GPTQ (Frantar et al. 2022, arXiv 2210.17323); or rounding up or down learned by descent on
 *      a soft choice (AdaRound: Nagel et al. 2020, arXiv 2004.10568, section 3).  Where a row ends worse
 *      than nearest, nearest is kept.
 *   4. Coordinate descent: each code in turn takes the value that is best while all others stay
 *      (QuantEase: Behdin et al. 2023, arXiv 2309.01885).
 *
 * Steps 3 and 4 reduce tr(E Hd E^T), E = W - V*, and none of them increases it in any row.
 *
 * The result does not depend on the number of threads.  The last bits of sums, and so now and then a code, depend on
 * the machine's BLAS kernel (blas_kernel()).
 */
#ifndef CORE_QUANT_RECONSTRUCT_H
#define CORE_QUANT_RECONSTRUCT_H

#include "core/base/arena.h"
#include "core/base/pool.h"
#include "core/quant/weight_grid.h"

#include <stdint.h>

enum reconstruct_rounding { ROUND_NEAREST, ROUND_GPTQ, ROUND_LEARNED };

struct reconstruct_task {
    const float *v;       /* [n, k], finite */
    size_t n, k;          /* >= 1; k <= 46340 */
    const double *h;      /* [k, k], finite and symmetric */
    const double *c;      /* [n, k], finite, or NULL: the target is V a itself */
    const double *mean;   /* [k], E a; or NULL: H is E[a a^T] */
    int bits;             /* 2..8 */
    bool symmetric;       /* zero == 0, scale = max|row| / (2^(bits-1) - 1); else from min(row, 0) to max(row, 0) */
    struct weight_grid grid;   /* what shares a range */
    bool search;          /* else the ranges are not shrunk */
    bool act_order;       /* GPTQ and descents go by falling H_ii, else by column */
    enum reconstruct_rounding rounding;
    double ridge;         /* in units of m, as damping; below 1e-6 it counts as 1e-6: H may be singular */
    double damping;       /* >= 0 */
    int descents;         /* sweeps at most; ends with the first that changes nothing */
    int steps;            /* of ROUND_LEARNED; 400 do, and cost some 50 times GPTQ */
};

/*
 * w'[row, i] = (codes[row, i] - zero[row, group of i]) * scale[row, group of i].  All arrays live in the arena that was given.
 * Inputs that were always 0 get target and weight 0, as in GPTQ.  Those that never varied (H_ii == 0) and are not 0 keep their weights as target: on
 * these samples the bias could give their part of the output, on others they may vary.
 */
struct reconstruct_result {
    int8_t *codes;        /* [n, k] in [-2^(bits-1), 2^(bits-1) - 1] */
    size_t groups;        /* of inputs; 1 without */
    float *scale;         /* [n, groups], > 0; 1 for a row of zeros */
    int8_t *zero;         /* [n, groups], in the range of codes: the unsigned zero point minus 2^(bits-1); 0 if symmetric */
    uint8_t *step;        /* [n, groups]: with two levels scale is step times unit[row]; else 1 */
    float *unit;          /* [n] */
    float *target;        /* V* [n, k] */
    double error_nearest; /* tr(E Hd E^T) of rounding to nearest in the same ranges, */
    double error_rounded; /* of step 3 before the worse rows went back to nearest, */
    double error_final;   /* and of what is returned: <= error_nearest */
    double ridge;         /* what was used; 0 without C */
    double damping;       /* what was used: raised tenfold while H + damping m I is not positive definite */
    bool fell_back;       /* not even at 1e3 (or, for the ridge, V* = V): H is no covariance; the codes are nearest */
};

/* pool: may be NULL.  Scratch memory (about 24 k^2 bytes) is freed before the return. */
bool reconstruct(const struct reconstruct_task *t, struct pool *pool, struct arena *mem,
                 struct reconstruct_result *ret, struct err *e);

#endif
