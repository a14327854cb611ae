/*
 * moments.h - what a linear layer will see and what it is to give, summed over all calibration rows.
 *
 * With a the codes of the layer's input on the quantized stream (minus the zero point), y the target:
 *
 *     mean[k] = E a        h[k,k] = cov(a, a)        c[n,k] = cov(y, a)        mean_y[n] = E y
 *     y = w ((1 - t) x_quantized + t x_float) + bias + t (r_float - r_quantized)
 *
 * t: the recipe's share of the float stream; r: the residual stream, where the layer's output is added to it row for
 * row (GPTAQ and ERQ fit the float output in the same spirit; the mixture and the residual's share are found by experiment).
 * Sums of codes are exact, so any thread may add them at any time; sums of floats are added in the order of chunks.
 * Layers that read the same site share the sums of codes.
 */
#ifndef CORE_SWEEP_MOMENTS_H
#define CORE_SWEEP_MOMENTS_H

#include "core/sweep/sweep.h"

struct gathering;

/* For all layers whose input's quantizer is known and whose weights are not, and whose input is there before node `to`; NULL in *ret if there are none. */
bool gathering_new(const struct sweep_task *t, const struct sweep *s, int to, struct gathering **ret, struct err *e);
void gathering_free(struct gathering *g);                  /* NULL is fine */
int gathering_layers(const struct gathering *g);           /* how many; NULL: 0 */

/* Both streams' frames of one chunk as they stand before node `to`; each chunk once, by any thread. */
bool gathering_add(struct gathering *g, int chunk, int thread, const struct frame *plain, const struct frame *quantized, struct err *e);
/* Every chunk that was begun has to come by, in whatever state it ended: others wait for it. */
void gathering_pass(struct gathering *g, int chunk);

/* The i-th of its layers: number in the sweep and moments, valid until gathering_free(). */
bool gathering_result(struct gathering *g, int i, int *ret_layer, struct weight_view *ret, struct err *e);

#endif
