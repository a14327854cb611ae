/*
 * artifact.h - a quantized graph as standard ONNX: QuantizeLinear and DequantizeLinear pairs in the forms runtimes fuse.
 *
 *   linear       x -> Q -> DQ -+
 *                              MatMul -> Add(bias [1,1,N]) -> y      weights int8 [K,N], DQ on axis 1
 *                W  -> DQ -----+
 *                A bias of shape [N] would let ONNX Runtime turn MatMul + Add into a float Gemm before it
 *                looks for quantized forms (0.6x of float instead of 2.3x); [1,1,N] is left alone.
 *   Gemm, and linears on matrices: Gemm without C, then Add: becomes QGemm + Add.
 *                Channel factors that no norm took up: x -> Mul (-> Add) -> Q -> DQ.
 *                Weights of 4 bits and fewer: INT4 [K,N] -> Cast to INT8 -> DQ, which ONNX Runtime folds at load and then
 *                fuses; needs opset 21.  An INT4 DQ in front of a MatMul is not fused (0.5x of float).
 *                Groups of inputs with scales of their own: x -> Q -> Split -> DQ, MatMul with a DQ each, and Adds behind them.
 *                Two levels of 4 bits: INT4 [K/g,g,N] and steps [K/g,1,N] -> Casts, (Sub,) Mul, Cast to INT8, Reshape -> DQ, folded at load.
 *                Compensated: MatMul by two thin float matrices beside the product, and an Add.
 *                Ranges found at run time: x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul by both scales; of these ONNX Runtime
 *                makes one kernel.  (Ranges of tokens are in the graph itself: core/graph/unit_rows.h.)
 *   product      both operands Q -> DQ; p.v where p holds powers of 2 or sqrt 2: p as it is
 *   softmax      into such levels: LogSoftmax, Mul, Round, Clip, Mul, Exp, ThresholdedRelu in its place
 *   convolution  operands as above, weights per output channel on axis 0, int32 bias through DQ, and Q -> DQ behind it
 *                (without them it does not fuse); factors of its output channels go into the weights' scales and the bias,
 *                and a Mul behind the DQ undoes them
 *   fewer than 8 activation bits: Clip to the quantizer's limits in float, then 8-bit Q/DQ
 *
 * Every Q/DQ has an explicit zero point.  A tensor that several nodes share is
 * not edited: changed copies get new names.  Nothing dead is written.  The rest of the graph is as it was
 * after folding; the opset is the model's own, but for INT4 (opset.h).
 */
#ifndef CORE_ARTIFACT_ARTIFACT_H
#define CORE_ARTIFACT_ARTIFACT_H

#include "core/base/hash.h"
#include "core/exec/lowering.h"
#include "core/graph/roles.h"
#include "core/kernel/affine.h"
#include "core/quant/quantizer.h"
#include "core/recipe/recipe.h"

/* How an operand is read; scale 0: there is no such operand. */
struct artifact_input {
    struct affine a;
    float fraction;                    /* added to the zero point; not 0: the codes are no integers and stay float */
    bool dynamic;                      /* the artifact finds the quantizer, the tensor's: a is not looked at */
    bool levels;                       /* as it is: a softmax has put it on levels */
    const float *mul, *shift;          /* [channels] factors and offsets before the quantizer, or NULL */
};

struct artifact_layer {
    const struct layer *l;
    const struct qweight *w;           /* NULL for products */
    struct artifact_input x, other, out;
};

struct artifact_spec {
    const struct graph *g;
    const struct artifact_layer *layers;
    int n_layers;
    enum recipe_target target;
    bool packed;                       /* weights of at most 4 bits as INT4; the opset becomes 21 */
    const struct lowering *how;        /* the simulation's: edited constants and softmax levels */
    const struct onnx_pair *metadata;  /* added to the model's own */
    size_t n_metadata;
};

/* Whether weights of so many bits may be stored as INT4 for a target: it must take opset 21 and a Cast in front of a DQ. */
bool artifact_may_pack(enum recipe_target target, int bits);

/* The model as structs over `mem` and the graph; errors: ERR_EXPORT_FORM (with `packed`: a node has no form in opset 21), ERR_MEMORY. */
bool artifact_build(const struct artifact_spec *a, struct arena *mem, struct onnx_model *ret, struct err *e);

/* Writes dir/name (durably, complete or not at all); its size and digest. */
bool artifact_save(const struct onnx_model *m, const char *dir, const char *name, uint64_t *ret_size,
                   uint8_t ret_digest[HASH_SIZE], struct err *e);

#endif
