/*
 * op_internal.h - what the kernels in op_*.c share: numbers out of any element type, errors that name the node, and the
 * kernels' names for the table in op.c.
 */
#ifndef CORE_EXEC_OP_INTERNAL_H
#define CORE_EXEC_OP_INTERNAL_H

#include "core/exec/op.h"
#include "core/exec/walk.h"

#include <string.h>

/* ---- arguments ---- */

/* Input i, or NULL if it is absent or the node has fewer. */
static inline const struct tensor *op_in(const struct op_args *a, int i)
{
    return i < a->node->n_in ? a->in[i] : NULL;
}

/* Element i of an axes, shape or indices tensor: int64, or int32 where the operator allows it. */
int64_t op_int(const struct tensor *t, int64_t i);
/* Element i of the indices (input 1) as [0, dim), or -1 with the error set. */
int64_t op_index(const struct op_args *a, int64_t i, int64_t dim, int axis, struct err *e);

/* err_set() with the node as its place.  Always false. */
bool op_fail(const struct op_args *a, enum err_code code, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold));

/* ERR_MODEL_OP: the node computes with a type we have no kernel for.  Always false. */
bool op_refuse(const struct op_args *a, enum dtype t, struct err *e) __attribute__((cold));

/* axis in [-rank, rank) as [0, rank); 0 for a rank of 0. */
static inline int op_axis(int64_t axis, int rank) { return rank ? (int)(axis < 0 ? axis + rank : axis) : 0; }

/* True if every present input and every output is float32: what the fast kernels take. */
bool op_all_f32(const struct op_args *a);
/* Its first output has no element: loops over axes need not run, of which others may be endless. */
static inline bool op_gives_nothing(const struct op_args *a) { return !shape_elements(&a->out[0].shape); }

/* n bytes; unlike memcpy(), from and to may be NULL where n is 0, as empty tensors are. */
void op_copy(void *to, const void *from, int64_t n);

/* n > 0 bytes; a few of them in one move or two, since a call would cost more. */
static inline void op_copy_row(int64_t n, const char *x, char *y)
{
    switch (n) {
    case 4:  memcpy(y, x, 4); return;
    case 8:  memcpy(y, x, 8); return;
    case 16: memcpy(y, x, 16); return;
    case 32: memcpy(y, x, 32); return;
    case 64: memcpy(y, x, 64); return;
    default: memcpy(y, x, (size_t)n);
    }
}

/* ---- elements as numbers ---- */

/*
 * How to read and write element i of an array of one type.  A real becomes an integer by
 * truncation, clamped to the type (NaN gives 0); an integer becomes a smaller one by wrapping;
 * anything becomes a bool by comparing with 0.
 */
struct elem {
    bool real, wide;                                  /* a floating-point type; uint64 */
    double (*get_real)(const void *p, int64_t i);
    void (*put_real)(void *p, int64_t i, double v);   /* one rounding, ties to even */
    int64_t (*get_int)(const void *p, int64_t i);
    void (*put_int)(void *p, int64_t i, int64_t v);
};

/* NULL for types without arithmetic: strings.  The integer of a uint64 has its bits: see `wide`. */
const struct elem *elem_of(enum dtype t);

/* Bytes of one element; 0 for types that are packed or not of fixed size. */
static inline int64_t elem_bytes(enum dtype t) { return dtype_bits(t) / 8; }

/* The elem of every present input and output 0, or false with ERR_MODEL_OP.  ret[0] is the output's. */
enum { ELEMS_MAX = 8 };
bool op_elems(const struct op_args *a, const struct elem *ret[static ELEMS_MAX], struct err *e);

/* ---- the kernels, by family; op.c says which serves which op ---- */

op_run op_arith, op_arith_fast, op_extreme, op_extreme_fast;                   /* op_arith.c */
op_run op_compare, op_logic, op_not, op_where, op_where_fast;                  /* op_compare.c */
op_run op_unary, op_unary_fast, op_isnan, op_clip, op_clip_fast, op_threshold, op_threshold_fast; /* op_unary.c */
op_run op_cast, op_cast_fast;                                                  /* op_cast.c */
op_run op_same_bytes, op_dropout, op_expand, op_slice, op_split, op_concat, op_tile; /* op_layout.c */
op_run op_transpose, op_transpose_fast;                                        /* op_transpose.c */
op_run op_pad, op_trilu;                                                       /* op_pad.c */
op_run op_gather, op_gather_elements, op_cumsum;                               /* op_index.c */
op_run op_constant, op_constant_of_shape, op_range, op_shape, op_size;         /* op_generate.c */
op_run op_reduce, op_reduce_fast, op_argmax;                                   /* op_reduce.c */
op_run op_matmul, op_matmul_fast, op_gemm, op_gemm_fast;                       /* op_matmul.c */
op_run op_conv, op_conv_fast;                                                  /* op_conv.c */
op_run op_softmax, op_softmax_fast;                                            /* op_softmax.c */
op_run op_layernorm, op_layernorm_fast, op_rmsnorm, op_rmsnorm_fast;           /* op_norm.c */
op_run op_quantize, op_quantize_fast, op_dequantize, op_dequantize_fast;       /* op_quantize.c */
op_run op_activation, op_isinf, op_prelu, op_bits;                             /* op_activation.c */
op_run op_gathernd, op_scatternd, op_scatter_elements, op_onehot;              /* op_scatter.c */
op_run op_topk, op_hardmax, op_eyelike, op_nonzero, op_blocks;                 /* op_select.c */
op_run op_pool, op_einsum, op_resize;                                          /* each in its own file */
uint64_t op_conv_scratch(const struct op_args *a);

#endif
