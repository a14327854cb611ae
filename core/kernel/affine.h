/*
 * affine.h - one uniform affine quantizer: q = clamp(rint(x / scale) + zero, qmin, qmax), x' = (q - zero) * scale.
 *
 * scale is in units of x per step, > 0 and finite.  Codes are stored in `dtype`
 * (uint8 or int8); fewer bits use a part of its range.
 */
#ifndef CORE_KERNEL_AFFINE_H
#define CORE_KERNEL_AFFINE_H

#include "core/base/tensor.h"

struct affine {
    float scale;
    int zero;                 /* the code of x == 0, in [qmin, qmax] */
    int qmin, qmax;
    enum dtype dtype;         /* DT_U8 or DT_I8 */
};

/* The largest |q - zero|. */
static inline int affine_reach(struct affine a)
{
    int below = a.zero - a.qmin, above = a.qmax - a.zero;
    return below > above ? below : above;
}

#endif
