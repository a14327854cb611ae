/*
 * infer.h - shape rules: what every rule file shares.  Internal to core/graph.
 *
 * One rule per operator serves graph_load() (dimensions may be symbols) and
 * graph_bind() (they may not: what cannot be a number is ERR_MODEL_UNBOUND).
 * Beside types and shapes, facts carry the elements of small integer tensors,
 * each a number, a symbol or unknown; that is how a shape computed by nodes reaches a Reshape.
 */
#ifndef CORE_GRAPH_INFER_H
#define CORE_GRAPH_INFER_H

#include "core/graph/graph.h"
#include "core/graph/symbols.h"

enum {
    TRACKED_MAX = 64,                  /* elements computed here */
    READ_MAX = 256,                    /* elements read from a constant: a Split has up to 255 sizes */
};

struct fact {
    enum dtype dtype;
    struct shape shape;
    const struct num *elems;           /* NULL: not tracked; else every element of the tensor */
    const void *data;                  /* its bytes, where known */
    bool known;                        /* data is all of it (NULL only for 0 bytes), or narrow is */
    const void *narrow;                /* as in struct value */
    enum dtype narrow_as;
};

struct eval_room;

struct infer {
    const struct graph *g;
    struct arena *mem;
    struct symbols *syms;              /* NULL: binding */
    struct fact *fact;                 /* [g->n_values] */
    node_eval *eval;
    struct eval_room *room;
    char where[160], text[2][160];     /* of the error being written */
};

/* One application of a rule. */
struct call {
    struct infer *x;
    const struct node *n;
    enum dtype dtype;                  /* of the outputs, decided before the rule runs */
};

typedef bool shape_rule(struct call *c, struct err *e);

/* ---- reading inputs ---- */

/* Input i, or NULL where absent. */
const struct fact *call_in(const struct call *c, int i);
/* The elements of input i and their number; NULL if absent or unknown. */
const struct num *call_elems(struct call *c, int i, int *ret_n);
/* The elements of a fact. */
const struct num *fact_elems(struct infer *x, struct fact *f, int *ret_n);
/* True if every dimension is a number. */
bool shape_known(const struct shape *s);
/* ERR_MODEL_INVALID unless input i is absent or int64 (or int32). */
bool call_index_type(struct call *c, int i, struct err *e);
/* ERR_MODEL_SHAPE unless input i has this rank. */
bool call_rank(struct call *c, int i, int rank, struct err *e);

/* axis in [-rank, rank), or [-rank, rank] with `end`; made non-negative. */
bool call_axis(struct call *c, int64_t axis, int rank, struct err *e, int *ret);
struct axes { int n, v[TENSOR_MAX_RANK]; bool set[TENSOR_MAX_RANK]; };
/*
 * Axes from input i or, where that is absent, from the attribute `axes`: checked, non-negative, each once.
 * *ret_given false: neither is there (or the list is empty).  *ret_known false: they depend on data.
 */
bool call_axes(struct call *c, int i, int rank, struct axes *ret, bool *ret_given, bool *ret_known, struct err *e);

/* ---- writing outputs ---- */

bool call_set(struct call *c, int i, const struct shape *s, struct err *e);
/* Output 0's elements; ignored if there are more than TRACKED_MAX or one has overflowed. */
bool call_set_elems(struct call *c, const struct num *elems, int n, struct err *e);
struct num *call_new_elems(struct call *c, int n, struct err *e);

/* A length as a dimension: unknown becomes a symbol of its own, or ERR_MODEL_UNBOUND when binding. */
bool call_dim(struct call *c, struct num a, int64_t *ret, struct err *e);
/* A shape nothing is known of: rank -1, or ERR_MODEL_UNBOUND when binding. */
bool call_unknown_shape(struct call *c, struct shape *ret, struct err *e);

/* ---- dimensions that meet ---- */

/* Two dimensions that must be the same length: false if they cannot be.  A number wins over a symbol. */
bool dim_same(int64_t a, int64_t b, int64_t *ret);
/* Numpy broadcasting: *acc extended by s.  False if the shapes exclude each other. */
bool shape_broadcast(struct infer *x, struct shape *acc, const struct shape *s);
/* True if s broadcasts to `to` without changing it (symbols may). */
bool shape_broadcasts_to(struct infer *x, const struct shape *s, const struct shape *to);
/* The product of dims [from, to). */
struct num shape_product(struct infer *x, const struct shape *s, int from, int to);

/* ---- errors ---- */

const char *call_where(struct call *c);
/* Text of a shape with symbol names; slot 0 or 1. */
const char *call_text(struct call *c, int slot, const struct shape *s);
#define bad_shape(c, e, ...) err_set(e, ERR_MODEL_SHAPE, call_where(c), __VA_ARGS__)

/* ---- the rules ---- */

shape_rule rule_same, rule_broadcast, rule_where, rule_clip, rule_cumsum, rule_trilu, rule_constant_of_shape, rule_range,
    rule_shape, rule_size, rule_reshape, rule_flatten, rule_squeeze, rule_unsqueeze, rule_transpose, rule_concat, rule_split,
    rule_slice, rule_gather, rule_gather_elements, rule_expand, rule_tile, rule_pad, rule_matmul, rule_gemm, rule_conv,
    rule_softmax, rule_layernorm, rule_reduce, rule_argmax, rule_quantize, rule_never,
    rule_topk, rule_gathernd, rule_scatternd, rule_scatter_elements, rule_onehot, rule_eyelike, rule_nonzero, rule_depth_to_space,
    rule_space_to_depth, rule_einsum, rule_pool, rule_resize;

/* Elements: run after the shape rule succeeded. */
shape_rule values_copy, values_cast, values_binary, values_where, values_shape, values_size, values_constant_of_shape,
    values_concat, values_gather, values_slice, values_expand, values_range;

typedef bool type_rule(struct call *c, struct err *e);
type_rule type_where, type_cast, type_constant_of_shape, type_quantize, type_dequantize, type_onehot, type_eyelike;

/* start, end and step of a Slice on one axis of length dim: the length of the result. */
struct num slice_length(struct symbols *s, struct num dim, struct num start, struct num end, int64_t step, struct num *ret_first);

/* ---- drivers ---- */

bool infer_begin(struct infer *x, const struct graph *g, struct arena *mem, struct symbols *syms, node_eval *eval, struct err *e);
/* Types, shapes and elements of one node's outputs, then their bytes if they can be known now. */
bool infer_node(struct infer *x, const struct node *n, struct err *e);
/* What inference found of a node's outputs, into g's values. */
void infer_publish(struct graph *g, const struct infer *x, const struct node *n);
/* fold.c: bytes from elements, or from x->eval. */
bool fold_node(struct infer *x, const struct node *n, struct err *e);

#endif
