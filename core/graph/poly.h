/*
 * poly.h - polynomials with integer coefficients over numbered atoms, in one normal form:
 * terms in falling order, none with coefficient 0, so equal polynomials have equal bytes.
 * Bounded: what does not fit, or overflows, is refused.  Internal to core/graph.
 */
#ifndef CORE_GRAPH_POLY_H
#define CORE_GRAPH_POLY_H

#include <stdbool.h>
#include <stdint.h>

enum { POLY_TERMS = 8, POLY_DEGREE = 6 };

struct term {
    int64_t coef;
    int n;                       /* degree */
    int atom[POLY_DEGREE];       /* increasing, repeated for powers; 0 behind n */
};
struct poly {
    int n;                       /* 0: the number 0 */
    struct term t[POLY_TERMS];
};

struct poly poly_number(int64_t c);
struct poly poly_atom(int atom);
/* a + sign * b for sign = 1 or -1. */
bool poly_add(const struct poly *a, const struct poly *b, int sign, struct poly *ret);
bool poly_mul(const struct poly *a, const struct poly *b, struct poly *ret);
/* a / b where that is a polynomial again; false otherwise and for b = 0. */
bool poly_div(const struct poly *a, const struct poly *b, struct poly *ret);

#endif
