/* attr.c - attributes: what each operator may have, and access with defaults. */
#include "core/graph/check.h"

#include <string.h>

enum { REQUIRED = true };

/* The union over opsets 11 to 28: an attribute that a version does not have is the exporter's error, not a danger. */
static const struct {
    enum op op;
    const char *name;
    enum onnx_attr_type type;
    bool required;
} known[] = {
    { OP_MOD, "fmod", ONNX_INT, false },
    { OP_GELU, "approximate", ONNX_STRING, false },
    { OP_CAST, "to", ONNX_INT, REQUIRED },
    { OP_CAST, "saturate", ONNX_INT, false },
    { OP_CAST, "round_mode", ONNX_STRING, false },
    { OP_THRESHOLDEDRELU, "alpha", ONNX_FLOAT, false },
    { OP_DROPOUT, "seed", ONNX_INT, false },
    { OP_CONSTANT, "value", ONNX_TENSOR, false },
    { OP_CONSTANT, "value_float", ONNX_FLOAT, false },
    { OP_CONSTANT, "value_floats", ONNX_FLOATS, false },
    { OP_CONSTANT, "value_int", ONNX_INT, false },
    { OP_CONSTANT, "value_ints", ONNX_INTS, false },
    { OP_CONSTANTOFSHAPE, "value", ONNX_TENSOR, false },
    { OP_SHAPE, "start", ONNX_INT, false },
    { OP_SHAPE, "end", ONNX_INT, false },
    { OP_RESHAPE, "allowzero", ONNX_INT, false },
    { OP_FLATTEN, "axis", ONNX_INT, false },
    { OP_TRANSPOSE, "perm", ONNX_INTS, false },
    { OP_CONCAT, "axis", ONNX_INT, REQUIRED },
    { OP_SPLIT, "axis", ONNX_INT, false },
    { OP_SPLIT, "num_outputs", ONNX_INT, false },
    { OP_GATHER, "axis", ONNX_INT, false },
    { OP_GATHERELEMENTS, "axis", ONNX_INT, false },
    { OP_PAD, "mode", ONNX_STRING, false },
    { OP_TRILU, "upper", ONNX_INT, false },
    { OP_CUMSUM, "exclusive", ONNX_INT, false },
    { OP_CUMSUM, "reverse", ONNX_INT, false },
    { OP_GEMM, "alpha", ONNX_FLOAT, false },
    { OP_GEMM, "beta", ONNX_FLOAT, false },
    { OP_GEMM, "transA", ONNX_INT, false },
    { OP_GEMM, "transB", ONNX_INT, false },
#define WINDOW(op)                                                                                 \
    { op, "auto_pad", ONNX_STRING, false }, { op, "dilations", ONNX_INTS, false },                 \
    { op, "pads", ONNX_INTS, false }, { op, "strides", ONNX_INTS, false }
#define CONVOLUTION(op)                                                                            \
    WINDOW(op), { op, "group", ONNX_INT, false }, { op, "kernel_shape", ONNX_INTS, false }
#define POOL(op)                                                                                   \
    WINDOW(op), { op, "ceil_mode", ONNX_INT, false }, { op, "kernel_shape", ONNX_INTS, REQUIRED }
    CONVOLUTION(OP_CONV),
    CONVOLUTION(OP_CONVINTEGER),
    CONVOLUTION(OP_QLINEARCONV),
    POOL(OP_MAXPOOL),
    POOL(OP_AVERAGEPOOL),
#undef POOL
#undef CONVOLUTION
#undef WINDOW
    { OP_SOFTMAX, "axis", ONNX_INT, false },
    { OP_LOGSOFTMAX, "axis", ONNX_INT, false },
    { OP_LAYERNORM, "axis", ONNX_INT, false },
    { OP_LAYERNORM, "epsilon", ONNX_FLOAT, false },
    { OP_LAYERNORM, "stash_type", ONNX_INT, false },
    { OP_RMSNORM, "axis", ONNX_INT, false },
    { OP_RMSNORM, "epsilon", ONNX_FLOAT, false },
    { OP_RMSNORM, "stash_type", ONNX_INT, false },
#define REDUCE(op)                                                                                 \
    { op, "axes", ONNX_INTS, false }, { op, "keepdims", ONNX_INT, false },                         \
    { op, "noop_with_empty_axes", ONNX_INT, false }
    REDUCE(OP_REDUCEMEAN),
    REDUCE(OP_REDUCESUM),
    REDUCE(OP_REDUCEMAX),
    REDUCE(OP_REDUCEMIN),
    REDUCE(OP_REDUCEPROD),
    REDUCE(OP_REDUCEL1),
    REDUCE(OP_REDUCEL2),
    REDUCE(OP_REDUCELOGSUM),
    REDUCE(OP_REDUCELOGSUMEXP),
    REDUCE(OP_REDUCESUMSQUARE),
#undef REDUCE
    { OP_DROPOUT, "ratio", ONNX_FLOAT, false },
    { OP_SQUEEZE, "axes", ONNX_INTS, false },
    { OP_UNSQUEEZE, "axes", ONNX_INTS, false },
    { OP_SPLIT, "split", ONNX_INTS, false },
    { OP_BITSHIFT, "direction", ONNX_STRING, REQUIRED },
    { OP_ELU, "alpha", ONNX_FLOAT, false },
    { OP_CELU, "alpha", ONNX_FLOAT, false },
    { OP_LEAKYRELU, "alpha", ONNX_FLOAT, false },
    { OP_SWISH, "alpha", ONNX_FLOAT, false },
    { OP_SELU, "alpha", ONNX_FLOAT, false },
    { OP_SELU, "gamma", ONNX_FLOAT, false },
    { OP_HARDSIGMOID, "alpha", ONNX_FLOAT, false },
    { OP_HARDSIGMOID, "beta", ONNX_FLOAT, false },
    { OP_SHRINK, "lambd", ONNX_FLOAT, false },
    { OP_SHRINK, "bias", ONNX_FLOAT, false },
    { OP_ISINF, "detect_negative", ONNX_INT, false },
    { OP_ISINF, "detect_positive", ONNX_INT, false },
    { OP_ARGMIN, "axis", ONNX_INT, false },
    { OP_ARGMIN, "keepdims", ONNX_INT, false },
    { OP_ARGMIN, "select_last_index", ONNX_INT, false },
    { OP_CUMPROD, "exclusive", ONNX_INT, false },
    { OP_CUMPROD, "reverse", ONNX_INT, false },
    { OP_HARDMAX, "axis", ONNX_INT, false },
    { OP_TOPK, "axis", ONNX_INT, false },
    { OP_TOPK, "largest", ONNX_INT, false },
    { OP_TOPK, "sorted", ONNX_INT, false },
    { OP_GATHERND, "batch_dims", ONNX_INT, false },
    { OP_SCATTERND, "reduction", ONNX_STRING, false },
    { OP_SCATTERELEMENTS, "axis", ONNX_INT, false },
    { OP_SCATTERELEMENTS, "reduction", ONNX_STRING, false },
    { OP_ONEHOT, "axis", ONNX_INT, false },
    { OP_EYELIKE, "dtype", ONNX_INT, false },
    { OP_EYELIKE, "k", ONNX_INT, false },
    { OP_DEPTHTOSPACE, "blocksize", ONNX_INT, REQUIRED },
    { OP_DEPTHTOSPACE, "mode", ONNX_STRING, false },
    { OP_SPACETODEPTH, "blocksize", ONNX_INT, REQUIRED },
    { OP_SPACETODEPTH, "mode", ONNX_STRING, false },
    { OP_EINSUM, "equation", ONNX_STRING, REQUIRED },
    { OP_MAXPOOL, "storage_order", ONNX_INT, false },
    { OP_AVERAGEPOOL, "count_include_pad", ONNX_INT, false },
    { OP_RESIZE, "antialias", ONNX_INT, false },
    { OP_RESIZE, "axes", ONNX_INTS, false },
    { OP_RESIZE, "coordinate_transformation_mode", ONNX_STRING, false },
    { OP_RESIZE, "cubic_coeff_a", ONNX_FLOAT, false },
    { OP_RESIZE, "exclude_outside", ONNX_INT, false },
    { OP_RESIZE, "extrapolation_value", ONNX_FLOAT, false },
    { OP_RESIZE, "keep_aspect_ratio_policy", ONNX_STRING, false },
    { OP_RESIZE, "mode", ONNX_STRING, false },
    { OP_RESIZE, "nearest_mode", ONNX_STRING, false },
    { OP_CASTLIKE, "saturate", ONNX_INT, false },
    { OP_CASTLIKE, "round_mode", ONNX_STRING, false },
    { OP_BATCHNORM, "epsilon", ONNX_FLOAT, false },
    { OP_BATCHNORM, "momentum", ONNX_FLOAT, false },
    { OP_BATCHNORM, "training_mode", ONNX_INT, false },
    { OP_INSTANCENORM, "epsilon", ONNX_FLOAT, false },
    { OP_GROUPNORM, "epsilon", ONNX_FLOAT, false },
    { OP_GROUPNORM, "num_groups", ONNX_INT, REQUIRED },
    { OP_GROUPNORM, "stash_type", ONNX_INT, false },
    { OP_MVN, "axes", ONNX_INTS, false },
    { OP_LPNORM, "axis", ONNX_INT, false },
    { OP_LPNORM, "p", ONNX_INT, false },
    { OP_SWIGLU, "alpha", ONNX_FLOAT, false },
    { OP_CENTERCROPPAD, "axes", ONNX_INTS, false },
    { OP_ATTENTION, "is_causal", ONNX_INT, false },
    { OP_ATTENTION, "kv_num_heads", ONNX_INT, false },
    { OP_ATTENTION, "q_num_heads", ONNX_INT, false },
    { OP_ATTENTION, "qk_matmul_output_mode", ONNX_INT, false },
    { OP_ATTENTION, "scale", ONNX_FLOAT, false },
    { OP_ATTENTION, "softcap", ONNX_FLOAT, false },
    { OP_ATTENTION, "softmax_precision", ONNX_INT, false },
    { OP_ATTENTION, "left_window_size", ONNX_INT, false },
    { OP_ATTENTION, "right_window_size", ONNX_INT, false },
    { OP_ROTARY, "interleaved", ONNX_INT, false },
    { OP_ROTARY, "num_heads", ONNX_INT, false },
    { OP_ROTARY, "rotary_embedding_dim", ONNX_INT, false },
    { OP_MS_ROTARY, "interleaved", ONNX_INT, false },
    { OP_MS_ROTARY, "num_heads", ONNX_INT, false },
    { OP_MS_ROTARY, "rotary_embedding_dim", ONNX_INT, false },
    { OP_MS_ROTARY, "scale", ONNX_FLOAT, false },
    { OP_MS_ROTARY, "is_packed_batching", ONNX_INT, false },
    { OP_SIMPLIFIEDLAYERNORM, "axis", ONNX_INT, false },
    { OP_SIMPLIFIEDLAYERNORM, "epsilon", ONNX_FLOAT, false },
    { OP_SIMPLIFIEDLAYERNORM, "stash_type", ONNX_INT, false },
    { OP_MS_SIMPLIFIEDLAYERNORM, "axis", ONNX_INT, false },
    { OP_MS_SIMPLIFIEDLAYERNORM, "epsilon", ONNX_FLOAT, false },
    { OP_MS_SIMPLIFIEDLAYERNORM, "stash_type", ONNX_INT, false },
    { OP_MS_SKIPLAYERNORM, "epsilon", ONNX_FLOAT, false },
    { OP_MS_SKIPSIMPLIFIEDLAYERNORM, "epsilon", ONNX_FLOAT, false },
    { OP_MS_QUICKGELU, "alpha", ONNX_FLOAT, false },
    { OP_IF, "then_branch", ONNX_GRAPH, REQUIRED },
    { OP_IF, "else_branch", ONNX_GRAPH, REQUIRED },
    { OP_LOOP, "body", ONNX_GRAPH, REQUIRED },
    { OP_MS_MATMULNBITS, "K", ONNX_INT, REQUIRED },
    { OP_MS_MATMULNBITS, "N", ONNX_INT, REQUIRED },
    { OP_MS_MATMULNBITS, "bits", ONNX_INT, false },
    { OP_MS_MATMULNBITS, "block_size", ONNX_INT, REQUIRED },
    { OP_MS_MATMULNBITS, "accuracy_level", ONNX_INT, false },
    { OP_ARGMAX, "axis", ONNX_INT, false },
    { OP_ARGMAX, "keepdims", ONNX_INT, false },
    { OP_ARGMAX, "select_last_index", ONNX_INT, false },
    { OP_QUANTIZELINEAR, "axis", ONNX_INT, false },
    { OP_QUANTIZELINEAR, "block_size", ONNX_INT, false },
    { OP_QUANTIZELINEAR, "output_dtype", ONNX_INT, false },
    { OP_QUANTIZELINEAR, "precision", ONNX_INT, false },
    { OP_QUANTIZELINEAR, "saturate", ONNX_INT, false },
    { OP_DEQUANTIZELINEAR, "axis", ONNX_INT, false },
    { OP_DEQUANTIZELINEAR, "block_size", ONNX_INT, false },
    { OP_DEQUANTIZELINEAR, "output_dtype", ONNX_INT, false },
};
enum { KNOWN = sizeof known / sizeof known[0] };

static bool check_one(const struct node *n, const struct onnx_attr *a, const char *where, struct err *e)
{
    for (int i = 0; i < KNOWN; i++)
        if (known[i].op == n->op && strcmp(known[i].name, a->name) == 0) {
            if (known[i].type == a->type)
                return node_attr(n, a->name) == a ||
                       err_set(e, ERR_MODEL_INVALID, where, "attribute '%.60s' is given twice", a->name);
            return err_set(e, ERR_MODEL_INVALID, where, "attribute '%s' has type %d where ONNX has %d (AttributeProto.type)",
                           a->name, (int)a->type, (int)known[i].type);
        }
    return err_set(e, ERR_MODEL_INVALID, where, "%s has no attribute '%.60s'; export the model again with standard operators",
                   op_info[n->op].type, a->name);
}

bool check_attrs(const struct node *n, const char *where, struct err *e)
{
    for (size_t i = 0; i < n->n_attrs; i++)
        if (!check_one(n, &n->attrs[i], where, e))
            return false;
    for (int i = 0; i < KNOWN; i++)
        if (known[i].op == n->op && known[i].required && !node_attr(n, known[i].name))
            return err_set(e, ERR_MODEL_INVALID, where, "the attribute '%s' is missing", known[i].name);
    return true;
}

const struct onnx_attr *node_attr(const struct node *n, const char *name)
{
    for (size_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name) == 0)
            return &n->attrs[i];
    return NULL;
}

int64_t node_int(const struct node *n, const char *name, int64_t fallback)
{
    const struct onnx_attr *a = node_attr(n, name);
    return a ? a->i : fallback;
}

float node_float(const struct node *n, const char *name, float fallback)
{
    const struct onnx_attr *a = node_attr(n, name);
    return a ? a->f : fallback;
}

const int64_t *node_ints(const struct node *n, const char *name, size_t *ret_n)
{
    const struct onnx_attr *a = node_attr(n, name);
    *ret_n = a ? a->n : 0;
    return a ? a->ints : NULL;
}

const char *node_str(const struct node *n, const char *name, const char *fallback)
{
    const struct onnx_attr *a = node_attr(n, name);
    return a ? a->s : fallback;
}

bool node_auto_pads(const struct node *n) { return strcmp(node_str(n, "auto_pad", "NOTSET"), "NOTSET") != 0; }
