/*
 * tensor.h - element types, shapes, and the one function that does size arithmetic on untrusted shapes.
 *
 * A tensor is row-major.  Types have ONNX's numbers (TensorProto.DataType).
 */
#ifndef CORE_BASE_TENSOR_H
#define CORE_BASE_TENSOR_H

#include "core/base/err.h"

#include <stdint.h>

/* X(name, ONNX number, bits per element, text) */
#define DTYPES(X)                                                                                 \
    X(F32, 1, 32, "float32") X(U8, 2, 8, "uint8") X(I8, 3, 8, "int8") X(U16, 4, 16, "uint16")      \
    X(I16, 5, 16, "int16") X(I32, 6, 32, "int32") X(I64, 7, 64, "int64") X(STRING, 8, 0, "string") \
    X(BOOL, 9, 8, "bool") X(F16, 10, 16, "float16") X(F64, 11, 64, "float64")                      \
    X(U32, 12, 32, "uint32") X(U64, 13, 64, "uint64") X(BF16, 16, 16, "bfloat16")                  \
    X(U4, 21, 4, "uint4") X(I4, 22, 4, "int4")

enum dtype {
    DT_NONE = 0,
#define X(name, number, bits, text) DT_##name = number,
    DTYPES(X)
#undef X
};

const char *dtype_name(enum dtype t);            /* "float32"; "type 99" style names never occur: unknown is "unknown" */
int dtype_bits(enum dtype t);                    /* 0 for strings and unknown types */
enum dtype dtype_from_name(const char *name);    /* DT_NONE if unknown */

enum { TENSOR_MAX_RANK = 8 };
#define TENSOR_MAX_DIM ((int64_t)1 << 40)
#define TENSOR_MAX_BYTES ((uint64_t)1 << 46)

struct shape {
    int rank;                          /* 0 (scalar) to 8; -1: not even the rank is known */
    int64_t dim[TENSOR_MAX_RANK];      /* >= 0; in a graph also < 0: a symbol, see core/graph/graph.h */
};

struct tensor {
    enum dtype dtype;
    struct shape shape;                /* all dims known */
    void *data;                        /* borrowed or owned, as its holder says; NULL while unallocated */
};

/*
 * Elements and bytes of a tensor, checked: rank 0..8, each dim in 0..2^40, at most 2^46 bytes; dims beside a 0 must be as
 * if it were none.
 * Sub-byte types are packed, two to a byte.  Either ret may be NULL.
 */
bool tensor_size(enum dtype t, const struct shape *s, const char *where,
                 uint64_t *ret_elements, uint64_t *ret_bytes, struct err *e);

/* Elements of a shape that tensor_size() accepted: the product of dims [from, to). */
static inline int64_t shape_count(const struct shape *s, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}
static inline int64_t shape_elements(const struct shape *s) { return shape_count(s, 0, s->rank); }

bool shape_equal(const struct shape *a, const struct shape *b);

/* "[2,3,224,224]" into buf; negative dims print as "?".  Returns buf. */
const char *shape_text(const struct shape *s, char *buf, size_t size);

#endif
