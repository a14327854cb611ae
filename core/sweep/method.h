/*
 * method.h - what a method decides; the sweep does everything else.
 *
 * A method sees a site's statistics from the quantized stream and gives the
 * range to quantize, and turns a layer's weights into codes.  core/method lists the methods.
 */
#ifndef CORE_SWEEP_METHOD_H
#define CORE_SWEEP_METHOD_H

#include "core/quant/observer.h"
#include "core/quant/quantizer.h"
#include "core/recipe/recipe.h"

struct method {
    const char *name;                  /* as recipes name it */
    /* The range of a site from what was observed of it. */
    void (*range)(const struct recipe *r, const struct observer *o, int bits, float *ret_lo, float *ret_hi);
    /* A layer's weight codes; everything it returns is in `mem`. */
    bool (*weights)(const struct recipe *r, const struct graph *g, const struct layer *l, int bits, struct arena *mem,
                    struct qweight *ret, struct err *e);
};

#endif
