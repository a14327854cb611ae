/*
 * expand.h - operators that are written as others when a model is loaded.  Internal to core/graph.
 *
 * What an expander emits is inferred and folded at once, so it may look at the type and shape of everything it has
 * made so far.  The first failure is kept: later calls do nothing and return -1.
 */
#ifndef CORE_GRAPH_EXPAND_H
#define CORE_GRAPH_EXPAND_H

#include "core/graph/infer.h"

struct expansion {
    struct graph *g;
    struct infer *x;
    struct err *e;
    struct node *nodes;                /* what becomes of the graph's nodes */
    int n_nodes, nodes_room, values_room, depth;
    const struct scope *scope;         /* of the body that is being written out, see body.h; NULL: the model's graph */
    int bodies;                        /* that are open, one inside the other */
    int64_t steps;                     /* nodes and names of bodies looked at so far */
    bool passed;                       /* there are Identities to look through */
    bool failed;
};

/* Appends n, or what it is written as. */
bool expand_node(struct expansion *s, const struct node *n);

/* ---- for the expanders ---- */

enum { EXPAND_OUTPUTS = 255 };

/* Writes the node as others: ret[k] becomes the value of output k (-1: there is none).  It reports by s->failed. */
typedef void expander(struct expansion *s, const struct node *n, int *ret);

struct ex_attrs { const struct onnx_attr *list; size_t n; };
#define EX_INT(name_, v) (struct onnx_attr){ .name = name_, .type = ONNX_INT, .i = (v) }
#define EX_FLOAT(name_, v) (struct onnx_attr){ .name = name_, .type = ONNX_FLOAT, .f = (v) }
#define EX_INTS(name_, v, n_) (struct onnx_attr){ .name = name_, .type = ONNX_INTS, .ints = (v), .n = (n_) }
#define EX_ATTRS(...) (struct ex_attrs){ (const struct onnx_attr[]){ __VA_ARGS__ }, \
                                         sizeof((const struct onnx_attr[]){ __VA_ARGS__ }) / sizeof(struct onnx_attr) }
#define EX_NONE (struct ex_attrs){ NULL, 0 }

/* One node; its only output.  -1 after a failure. */
int ex_node(struct expansion *s, const struct node *from, enum op op, struct ex_attrs attrs, const int *in, int n_in);
#define EX_WITH(op, attrs, ...) \
    ex_node(s, n, op, attrs, (const int[]){ __VA_ARGS__ }, (int)(sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int)))
#define EX(op, ...) EX_WITH(op, EX_NONE, __VA_ARGS__)

int ex_in(const struct node *n, int i);                        /* -1 where absent */
const struct fact *ex_fact(const struct expansion *s, int value);
enum dtype ex_type(const struct expansion *s, int value);
int ex_rank(struct expansion *s, const struct node *n, int value);     /* fails where it is unknown */
int64_t ex_dim(struct expansion *s, const struct node *n, int value, int axis);   /* the length as a number; fails on a symbol */
int ex_ints(struct expansion *s, const int64_t *v, int n);     /* a constant list */
int ex_const(struct expansion *s, enum dtype t, struct shape shape, const void *data);
int ex_real(struct expansion *s, const struct node *n, enum dtype t, double v);   /* one number of a type */
void ex_called_like(struct expansion *s, int value, int from);       /* a constant in another layout: its name, see expand.c */
int ex_cast(struct expansion *s, const struct node *n, int value, enum dtype t);  /* value itself if it has the type */
int ex_reshape(struct expansion *s, const struct node *n, int value, const int64_t *dims, int rank);
int ex_permute(struct expansion *s, const struct node *n, int value, const int64_t *perm, int rank);
int ex_unsqueeze(struct expansion *s, const struct node *n, int value, int64_t first, int count);   /* axes [first, first + count) */
int ex_slice(struct expansion *s, const struct node *n, int value, int64_t axis, int64_t from, int64_t to, int64_t step);
int ex_concat(struct expansion *s, const struct node *n, const int *values, int count, int64_t axis);   /* any number, at least one */
int ex_value(struct expansion *s, const char *name);           /* one that a node will make; NULL: any name */
int ex_borrow(struct expansion *s, const char *name, const struct tensor *t);     /* a constant whose bytes outlive the graph */
void ex_fail(struct expansion *s, const struct node *n, const char *why);

expander expand_attention, expand_rotary;                      /* expand_attention.c */
expander expand_sum, expand_mean, expand_castlike, expand_hardswish, expand_global_mean, expand_global_max, expand_batchnorm,
    expand_instancenorm, expand_groupnorm, expand_mvn, expand_lpnorm, expand_swiglu, expand_crop, expand_skip_layernorm,
    expand_simplified, expand_skip_simplified, expand_biasgelu, expand_fastgelu, expand_msgelu, expand_quickgelu;   /* expand_simple.c */
expander expand_axes_attr, expand_split_attr, expand_old_softmax;   /* expand_legacy.c: opsets 11 and 12 */
expander expand_dynamic_quantize, expand_matmul_integer, expand_conv_integer, expand_qlinear_matmul, expand_qlinear_conv,
    expand_matmul_nbits;                                       /* expand_quantized.c */
bool einsum_is_product(const struct expansion *s, const struct node *n);
expander expand_einsum;                                        /* expand_einsum.c: of one that is a product */
bool conv_is_row(const struct expansion *s, const struct node *n);      /* one dimension, of the kind that is quantized in two */
expander expand_conv_row;                                      /* expand_conv.c */
expander expand_if, expand_loop, expand_call;                  /* expand_control.c */

#endif
