/*
 * lowering.h - how each node of a graph is computed: by its operator, or on integer codes.
 *
 * A quantized MatMul, product or Conv reads its float operands, quantizes them,
 * multiplies integers exactly (gemm_exact) and scales the sums: bit for bit what
 * ONNX Runtime computes for the fused QDQ form (specs: MatMulIntegerToFloat,
 * QLinearConv).  The sweep fills such rows as it decides them; for a
 * quantized artifact lowering_from_qdq() finds them in the graph.  Both then
 * run through the same code, which is what makes simulation and artifact agree.
 */
#ifndef CORE_EXEC_LOWERING_H
#define CORE_EXEC_LOWERING_H

#include "core/graph/graph.h"
#include "core/kernel/affine.h"
#include "core/kernel/kernel.h"

enum qop_kind { QOP_NONE, QOP_MATMUL, QOP_FLOAT, QOP_PRODUCT, QOP_HALF, QOP_LEVELS, QOP_CONV };

/*
 *   MATMUL   y[.., n] = float(sum_k (q(x')-zx) w[k,n]) * scale[n] + add[n]      x' = x, or x * mul[k] (+ shift[k]); or some columns of x
 *            with groups of inputs: float(sum over group 0) * scale[0,n] + float(sum over group 1) * scale[1,n] + ..  + add[n], in this order
 *   FLOAT    y[.., n] = sum_k (x'' back_mul[k] + back_shift[k]) w[k,n] + add[n] in float, x'' = clamp(rint(x' / scale), first, last) scale:
 *            codes that no integer type holds, or channels of their own steps, which have no integer sum
 *   PRODUCT  y = float(sum (q(x)-zx) (q(y)-zy)) * scale[0]        batched as MatMul
 *   HALF     y = x . (q(y)-zy) * ay.scale in float: x holds levels already
 *   LEVELS   of a softmax over its last axis: v = exp(max(rint(log_softmax(x) * into), first) * back), and 0 where
 *            v <= threshold: powers of 2 or of sqrt 2 (RepQ-ViT, arXiv 2212.08254, 3.3) in the operators of the artifact
 *   CONV     acc = sum (q(x)-zx) w + bias[m];  without `out`: float(acc) * scale[m];
 *            with it: the dequantized code of rint(acc * rescale[m]) + out.zero, times post[m]
 */
struct qop {
    enum qop_kind kind;
    int x, y;                    /* source values; y only for PRODUCT, else -1 */
    struct affine ax, ay;
    const float *w;              /* codes minus zero points, as floats: MATMUL [k, n], CONV [m, c/g*kh*kw]; FLOAT: values; borrowed */
    const int8_t *codes;         /* MATMUL, in place of w (then NULL): [k, n] as the model has them, made floats tile by tile; borrowed */
    const int8_t *w_zero;        /* of codes: [n_zero], which is n or 1; NULL: none; borrowed */
    size_t n_zero;
    bool dynamic;                /* MATMUL with w: x's quantizer is DynamicQuantizeLinear's, of the whole tensor; ax is not looked at, and
                                    scale is the weight's own */
    int w_reach;                 /* the largest |w|; with `codes` it is looked up in each tile */
    size_t k, n;                 /* MATMUL: of w; CONV: n output channels */
    size_t group;                /* MATMUL with w: inputs of a group, dividing k; 0: all */
    size_t x_first, x_width;     /* MATMUL: columns x_first .. x_first + k - 1 of x_width; x_width 0: x has k */
    const float *scale;          /* [n] (PRODUCT: [1]; groups: [k / group, n]): float(ax.scale * weight scale); borrowed */
    const float *low_u, *low_v;  /* MATMUL with w, FLOAT: (x' low_u) low_v is added in float: [k, rank], [rank, n]; NULL: nothing is; borrowed */
    size_t rank;
    const float *add;            /* MATMUL, FLOAT: [n] added after scaling (Gemm's C), or NULL */
    const float *mul, *shift;    /* MATMUL, FLOAT: [k] channel factors and offsets of x, or NULL; borrowed */
    const float *back_mul, *back_shift;    /* FLOAT: [k] of the dequantized x', both or neither; borrowed */
    float first, last;           /* FLOAT: the lowest and the highest code minus the zero point */
    struct levels { float into, first, back, threshold; } levels;
    const int32_t *bias;         /* CONV: [n] in units of scale, or NULL */
    bool requantize;             /* CONV: out and rescale are set */
    struct affine out;
    const float *rescale;        /* CONV: [n] float(ax.scale * weight scale / out.scale); borrowed */
    const float *post;           /* CONV: [n] what a Mul behind the output's quantizer undoes, or NULL; borrowed */
};

/* An input of a node that stands for the graph's own: a norm's or a bias's constant as a method changed it.  Same shape. */
struct edit {
    int input;
    struct tensor with;
    const struct edit *next;     /* of the same node */
};

struct lowering {
    struct qop *qop;             /* [n_nodes]; kind QOP_NONE: run the operator */
    bool *skip;                  /* [n_nodes]; absorbed by a qop: not run at all */
    bool tiled;                  /* plans run from end to end only: groups of nodes tile by tile (group.h) */
    bool may_float;              /* rows of kind FLOAT may come: plans keep room for a whole operand of them */
    size_t low_rank;             /* the largest `rank` that may come */
    const struct edit **edit;    /* [n_nodes]; NULL: the graph's own inputs */
};

/* What stands for an input of the node that the list belongs to; NULL: its own. */
const struct tensor *lowering_edited(const struct edit *list, int input);

/* Lets `node` read data (float, of the input's own shape, borrowed) at that input, in place of an earlier edit. */
bool lowering_edit(struct lowering *l, const struct graph *g, int node, int input, const float *data, struct arena *mem,
                   struct err *e);

/* Nothing quantized, nothing skipped. */
bool lowering_new(struct lowering *l, const struct graph *g, struct arena *mem, struct err *e);

/*
 * Recognises QDQ forms: MatMul whose operands come from DequantizeLinear of a constant (int8
 * per channel or per tensor) and DequantizeLinear(QuantizeLinear(x)) with constant
 * scalar scales; MatMul of two such activations; Conv with an output QuantizeLinear, DequantizeLinear pair.
 * What does not fit runs node by node with the same meaning.
 */
bool lowering_from_qdq(struct lowering *l, const struct graph *g, struct arena *mem, struct err *e);

/* float(ax.scale * w_scale[i]) for i < n, in the arena. */
const float *lowering_scales(struct arena *mem, float x_scale, const float *w_scale, size_t n, struct err *e);

/*
 * Scratch bytes that a MatMul, Gemm or Conv of these shapes may need when it is quantized (y_const: y is a weight, which is never
 * made codes at run time), and those for the `codes` of a row.
 */
uint64_t qop_scratch(enum op op, bool y_const, const struct tensor *x, const struct tensor *y, const struct tensor *out);
uint64_t qop_tile_bytes(const struct qop *q);
/* Scratch bytes of a row with thin matrices. */
uint64_t qop_low_rank_bytes(size_t rank, const struct tensor *x, const struct tensor *out);

/* A convolution's sizes on tensors of these shapes. */
struct conv_shape qop_conv_shape(const struct graph *g, const struct node *node, const struct tensor *x, const struct tensor *out);

/* Computes one quantized node; node gives Conv's attributes.  Nothing is allocated. */
bool qop_run(const struct qop *q, const struct graph *g, const struct node *node, const struct tensor *x,
             const struct tensor *y, struct tensor *out, void *scratch, struct err *e);

#endif
