/*
 * convert.h - one element type into another where no value changes its meaning.  Private to core/data.
 *
 * float16, bfloat16 and float64 become float32 (float64 is rounded; what overflows is refused); any integer type
 * becomes int32 or int64 where every value fits.  Nothing else is converted: a guess would hide a mistake.
 */
#ifndef CORE_DATA_CONVERT_H
#define CORE_DATA_CONVERT_H

#include "core/data/dataset.h"

/* Whether array_convert() knows this pair; equal types are one. */
bool dtype_convertible(enum dtype from, enum dtype to);

/* a with elements of type `to`: the same data where nothing is to be done, else new data in the arena. */
bool array_convert(struct arena *mem, const struct array *a, enum dtype to, struct array *ret, struct err *e);

/* Element i of a float type, or of an integer type but uint64, as a double: exact but for large int64. */
double tensor_real(const struct tensor *t, int64_t i);
/* Element i of an integer or bool type; false where it does not fit (uint64). */
bool tensor_integer(const struct tensor *t, int64_t i, int64_t *ret);
bool dtype_is_float(enum dtype t);
bool dtype_is_integer(enum dtype t);       /* bool is none */

#endif
