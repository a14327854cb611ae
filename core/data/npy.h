/*
 * npy.h - the header of a .npy array: our own grammar, nothing is evaluated.
 *
 *   \x93NUMPY major minor length {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } spaces \n data
 *
 * Versions 1 to 3; exactly these three keys, each once, in any order.
 */
#ifndef CORE_DATA_NPY_H
#define CORE_DATA_NPY_H

#include "core/data/format.h"

enum { NPY_MAX_START = 12 + DATASET_MAX_NPY_HEADER };     /* no header ends later than this */

struct npy {
    enum dtype dtype;
    struct shape shape;
    uint64_t start, bytes;                 /* the data: [start, start + bytes) */
};

/* Reads the header from the first n bytes of an array (all of it, or at least NPY_MAX_START bytes). */
bool npy_header(const uint8_t *p, uint64_t n, const char *where, struct npy *ret, struct err *e);

/* The text that numpy uses for a type ("<f4"), or NULL. */
const char *npy_descr(enum dtype t);

#endif
