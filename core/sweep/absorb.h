/*
 * absorb.h - factors of a linear's input channels, taken up by the linear before it.
 *
 *     v -> (layout) -> p.v -> (layout) -> o        up -> gate * up -> down        fc1 -> Relu -> fc2
 *
 * All between the two is linear in each channel, or at least keeps positive factors, so that dividing the maker's
 * output channels and multiplying the readers' columns leaves the float network what it was.  Several input channels may
 * come from one output channel (a key-value head that query heads share): they have one factor.  The factors are found
 * on the float stream of some samples, before the walk; both streams of the walk then run the changed network.
 *
 * Which channel comes from which is not reasoned about: channel numbers are sent through the operators in place of values.
 */
#ifndef CORE_SWEEP_ABSORB_H
#define CORE_SWEEP_ABSORB_H

#include "core/sweep/sweep.h"

enum { ABSORB_STEPS = 24 };

/* How a site's tensor comes about: steps[0] gives it, steps[n - 1] reads the output of the linear `layer`. */
struct absorb_path {
    int site, layer;
    int n;
    struct absorb_step { int node, from, to; } steps[ABSORB_STEPS];    /* from, to: values */
    int *map;                      /* [channels of the site]: output channel of `layer` */
};

/* A path by structure alone; false: there is none. */
bool absorb_trace(const struct sweep_task *t, const struct sweep *s, int site, struct absorb_path *ret);

/* Fills ret->map on the frame of a chunk, before it runs.  *ret_fits false: channels do not stay channels. */
bool absorb_map(const struct graph *g, const struct sweep *s, struct frame *f, struct arena *mem, struct absorb_path *io, bool *ret_fits,
                struct err *e);

/*
 * Finds the factors of all sites that have a path, as the method chooses them; such sites become plain ones.  If there are
 * any, s->g becomes a copy with changed constants (in mem) and is checked on the first chunk: ERR_BUG names the layer whose
 * output changed.  What is found goes to the journal; what the journal brought is not searched again, and if that is
 * everything, nothing but the check is run.
 */
bool absorb_factors(const struct sweep_task *t, struct sweep *s, struct journal *j, struct arena *mem, struct err *e);

#endif
