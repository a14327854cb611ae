/*
 * weight_grid.h - which weights share a scale, and the codes of those that do.
 *
 *     y[m,n] = sum_k x[m,k] W[k,n]
 *
 * A scale can be taken out of an integer sum only if it does not depend on k: scales of output channels can, and those of runs of
 * output channels (Q-BERT, arXiv 1909.05840; ZeroQuant, arXiv 2206.01861).  Scales of groups of inputs cannot: the product is then taken
 * group by group, and the groups' products are added as floats; or the groups' scales are whole multiples of one scale of the channel, so
 * that codes times multiples are 8-bit codes of a plain product (two levels, as in QServe, arXiv 2405.04532).
 */
#ifndef CORE_QUANT_WEIGHT_GRID_H
#define CORE_QUANT_WEIGHT_GRID_H

#include "core/graph/roles.h"
#include "core/recipe/recipe.h"

/* Never runs of several channels and groups at once. */
struct weight_grid {
    size_t rows;               /* so many output channels in a row share a scale, the last ones maybe fewer; 0: all do */
    size_t group;              /* so many inputs, dividing k; 0: all do */
    bool two_level;            /* the groups' scales are whole multiples of one of the output channel */
};

/* More bits fill 8-bit codes by themselves. */
enum { TWO_LEVEL_MOST_BITS = 6 };

/*
 * What the recipe asks for a layer whose weights have so many bits.  Groups are for linears: the recipe's size where it divides k, else
 * the largest power of two from 16 on that does; where there is none, or one group would be all of k, each output channel has a scale.
 */
struct weight_grid weight_grid_of(const struct recipe *r, const struct layer *l, int bits);

/* Does the recipe ask for groups that the layer does not have? */
bool weight_grid_falls_back(const struct recipe *r, const struct layer *l);

/* w' = (code - zero) scale, code in [-2^(bits-1), 2^(bits-1) - 1] and code - zero in [lo, hi]. */
struct weight_range {
    float scale;               /* > 0 */
    int zero, lo, hi;
    int step;                  /* two levels: scale is step times the unit, and (code - zero) * step an int8; else 1 */
};

/*
 * For weights from lo to hi, widened to hold 0; as quantizer_from_range().  unit: 0, or with two levels the first level's scale, of
 * a channel whose weights all lie within 119 of them; then up to 0.3 units for each code above the lowest may be clipped at the ends.
 */
struct weight_range weight_range_of(float lo, float hi, int bits, bool symmetric, float unit);

/* The first level's scale of a channel with that largest |w|: with 119, products of codes and steps never leave int8. */
float weight_unit(float reach);

#endif
