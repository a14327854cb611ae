/*
 * roles.h - what a node is for: recognised by structure, never by a model's name.
 *
 * A layer is something a method may quantize: a linear, a convolution, a
 * product of two activations.  Norms and activations are recognised because
 * methods ask "which linears does this norm feed?".  What is not recognised is
 * computed in float and reported with its reason.
 *
 * Recognised exporter variants are listed at each rule in roles.c and roles_norm.c.
 */
#ifndef CORE_GRAPH_ROLES_H
#define CORE_GRAPH_ROLES_H

#include "core/graph/graph.h"

enum layer_kind { LAYER_LINEAR, LAYER_CONV, LAYER_QK, LAYER_PV, LAYER_PRODUCT, LAYER_KINDS };
extern const char *const layer_role_name[LAYER_KINDS];  /* "linear", "convolution", "attention_qk", ... */
/* The part of a transformer's block that a layer belongs to: see roles_part.c. */
enum layer_part { PART_OTHER, PART_ATTENTION, PART_FEED_FORWARD, PARTS };
extern const char *const layer_part_name[PARTS];        /* NULL for PART_OTHER */

/*
 *   LINEAR   y[.., n] = x[.., k] . W + bias     W is [k, n], or [n, k] if transposed
 *   CONV     y = conv(x, W[n, c, kh, kw]) + bias, group 1, 2-D
 *   QK, PV, PRODUCT   y = x . other             both computed at run time
 */
struct layer {
    enum layer_kind kind;
    enum layer_part part;
    int node;                          /* the MatMul, Gemm or Conv */
    const char *name;                  /* "blocks.0.attn.qkv": unique, from node and weight names */
    const char *block;                 /* "blocks.0", or "" */
    int x, other;                      /* value numbers; other only for products, else -1 */
    int weight;                        /* constant, or -1 for products */
    bool transposed;                   /* Gemm with transB */
    int64_t k, n;                      /* inner and output dimension; CONV: c*kh*kw and channels; products: 0 */
    int bias;                          /* constant of n elements, or -1 */
    int bias_node;                     /* the Add that applies it; == node for Gemm and Conv; -1 without bias */
    int output;                        /* the value after the bias */
    bool shared_weight;                /* another layer or node reads the same constant */
};

/* The bias's numbers [n], or NULL. */
static inline const float *layer_bias(const struct graph *g, const struct layer *l) { return l->bias >= 0 ? g->values[l->bias].data : NULL; }

struct norm {
    const char *name;
    bool rms, decomposed;
    int x, output;
    int gamma, beta;                   /* constants, or -1 */
    float eps;
    int first, last;                   /* node numbers of the pattern's ends */
    /* the node that reads gamma, and at which input; -1 without gamma.  Its output may be the factor, not yet the scaled x */
    int scale_node, scale_input;
    int shift_node, shift_input;       /* the same of beta */
};

enum activation_kind { ACT_GELU, ACT_GELU_TANH, ACT_SILU, ACT_QUICK_GELU, ACT_RELU, ACT_KINDS };
extern const char *const activation_name[ACT_KINDS];
struct activation { enum activation_kind kind; int x, output, last; };

/* A node with weights or data that no method touches, and why. */
struct left_float { int node; const char *reason; };

struct roles {
    struct layer *layers;           int n_layers;        /* in running order */
    struct norm *norms;             int n_norms;
    struct activation *activations; int n_activations;
    int *softmaxes;                 int n_softmaxes;     /* node numbers */
    struct left_float *left;        int n_left;
};

bool roles_find(const struct graph *g, struct arena *mem, struct roles *ret, struct err *e);

/* The name of a layer from its node's and weight's names: "/blocks/blocks.0/attn/qkv/MatMul" -> "blocks.0.attn.qkv". */
const char *roles_layer_name(struct arena *mem, const char *node_name, const char *weight_name, const char *fallback,
                             struct err *e);
/* "blocks.0.attn.qkv" -> "blocks.0"; "" if no component is a number. */
const char *roles_block_name(struct arena *mem, const char *layer, struct err *e);

/* Used by roles_find(); one pattern family each, anchored at node `at`.  False: not this. */
bool roles_match_norm(const struct graph *g, int at, struct norm *ret);
bool roles_match_activation(const struct graph *g, int at, struct activation *ret);
/* Sets the part of every layer; everything else has been found. */
bool roles_find_parts(const struct graph *g, struct arena *mem, struct roles *r, struct err *e);

#endif
