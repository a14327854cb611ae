/*
 * low_rank.h - two thin matrices that stand for what rounding took from a weight.
 *
 *     x W = x W' + (x U) V          U [k, rank], V [rank, n]
 *
 * LoRC: Yao et al., ZeroQuant-V2 (arXiv 2303.08302), section 5.  Rounding errors have no few large directions, but inputs do: here
 * the error counts as much as its input is loud, so that the rank is spent where outputs feel it (as in LQER, arXiv 2402.02446).
 */
#ifndef CORE_QUANT_LOW_RANK_H
#define CORE_QUANT_LOW_RANK_H

#include "core/base/arena.h"

/*
 * U and V that minimise sum_k loud[k]^2 |E[k] - (U V)[k]|^2, found by subspace iteration; u [k, rank] and v [rank, n] with equal
 * weights on both sides.  e: [k, n], finite; loud: [k] >= 0, or NULL: all alike; quiet ones count as a thousandth of the mean.
 * rank <= min(k, n).  Threads do not change a bit.  ERR_MEMORY.
 */
bool low_rank(const float *e, size_t k, size_t n, const double *loud, size_t rank, struct arena *mem, float *ret_u, float *ret_v,
              struct err *err);

#endif
