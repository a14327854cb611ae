/*
 * artifact.h - a quantized graph as standard ONNX: QuantizeLinear and DequantizeLinear pairs in the forms runtimes fuse.
 *
 *   linear       x -> Q -> DQ -+
 *                              MatMul -> Add(bias [1,1,N]) -> y      weights int8 [K,N], DQ on axis 1
 *                W  -> DQ -----+
 *                A bias of shape [N] would let ONNX Runtime turn MatMul + Add into a float Gemm before it
 *                looks for quantized forms (0.6x of float instead of 2.3x); [1,1,N] is left alone.
 *   Gemm, and linears on matrices: Gemm without C, then Add: becomes QGemm + Add.
 *   product      both operands Q -> DQ
 *   convolution  operands as above, weights per output channel on axis 0, int32 bias through DQ, and Q -> DQ behind it
 *                (without them it does not fuse)
 *   fewer than 8 activation bits: Clip to the quantizer's limits in float, then 8-bit Q/DQ
 *
 * Every Q/DQ has an explicit zero point.  A tensor that several nodes share is
 * not edited: changed copies get new names.  Nothing dead is written.  The rest of the graph is as it was
 * after folding, opset unchanged.
 */
#ifndef CORE_ARTIFACT_ARTIFACT_H
#define CORE_ARTIFACT_ARTIFACT_H

#include "core/base/hash.h"
#include "core/graph/roles.h"
#include "core/kernel/affine.h"
#include "core/quant/quantizer.h"
#include "core/recipe/recipe.h"

/* A quantized layer; the quantizers that do not apply are unset (scale 0). */
struct artifact_layer {
    const struct layer *l;
    const struct qweight *w;           /* NULL for products */
    struct affine x, other, out;
};

struct artifact_spec {
    const struct graph *g;
    const struct artifact_layer *layers;
    int n_layers;
    enum recipe_target target;
    const struct onnx_pair *metadata;  /* added to the model's own */
    size_t n_metadata;
};

/* The model as structs over `mem` and the graph; errors: ERR_EXPORT_FORM, ERR_MEMORY. */
bool artifact_build(const struct artifact_spec *a, struct arena *mem, struct onnx_model *ret, struct err *e);

/* Writes dir/name (durably, complete or not at all); its size and digest. */
bool artifact_save(const struct onnx_model *m, const char *dir, const char *name, uint64_t *ret_size,
                   uint8_t ret_digest[HASH_SIZE], struct err *e);

#endif
