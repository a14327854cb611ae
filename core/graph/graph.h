/*
 * graph.h - the intermediate representation: values, nodes, constants.
 *
 * A graph is a list of nodes in topological order over numbered values.  A
 * value is a graph input, a constant (`data` set, borrowed from the model's
 * mapping or in the arena) or the output of one node.
 *
 * Dimensions: >= 0 is a number; < 0 is symbol number -1-dim of the graph's
 * symbol table ("batch", "seq", or a made-up one such as "batch*197").  Two
 * equal negative numbers are the same length; two different ones may or may
 * not be.
 *
 * After graph_load():
 *   - Identity, Dropout and Constant nodes are gone (an Identity stays where it gives an
 *     input or a second output its output name), nodes that only constants reach are
 *     folded (never through a symbolic dimension), nodes that no output needs
 *     are gone; DequantizeLinear of a constant is kept: it is the quantized form;
 *     large ConstantOfShape, Expand, Range and Tile are kept: a few bytes must not become gigabytes;
 *     a large float16 or bfloat16 constant behind a Cast to float32 stays as it is (value.narrow), whoever reads it converts it;
 *   - every value has a type, and a shape as far as it can be known;
 *   - operators that are a few others (GRAPH_OPS, last part) are written as those; the bodies of model-local functions
 *     are in place of their calls, the chosen branch of each If and the iterations of each Loop in place of those;
 *   - every node's op is known, with its inputs and attributes checked.
 */
#ifndef CORE_GRAPH_GRAPH_H
#define CORE_GRAPH_GRAPH_H

#include "core/base/arena.h"
#include "core/base/tensor.h"
#include "core/onnx/onnx.h"

/*
 * X(enum, ONNX op_type, domain, least inputs, most inputs, least outputs, most outputs)
 * most 255: variadic.
 */
#define MSFT "com.microsoft"
#define GRAPH_OPS(X)                                                                              \
    X(ADD, "Add", "", 2, 2, 1, 1) X(SUB, "Sub", "", 2, 2, 1, 1) X(MUL, "Mul", "", 2, 2, 1, 1)      \
    X(DIV, "Div", "", 2, 2, 1, 1) X(POW, "Pow", "", 2, 2, 1, 1) X(MOD, "Mod", "", 2, 2, 1, 1)      \
    X(MIN, "Min", "", 1, 255, 1, 1) X(MAX, "Max", "", 1, 255, 1, 1)                               \
    X(EQUAL, "Equal", "", 2, 2, 1, 1) X(LESS, "Less", "", 2, 2, 1, 1)                             \
    X(GREATER, "Greater", "", 2, 2, 1, 1) X(LESSOREQUAL, "LessOrEqual", "", 2, 2, 1, 1)           \
    X(GREATEROREQUAL, "GreaterOrEqual", "", 2, 2, 1, 1)                                           \
    X(AND, "And", "", 2, 2, 1, 1) X(OR, "Or", "", 2, 2, 1, 1) X(NOT, "Not", "", 1, 1, 1, 1)        \
    X(WHERE, "Where", "", 3, 3, 1, 1) X(NEG, "Neg", "", 1, 1, 1, 1) X(ABS, "Abs", "", 1, 1, 1, 1)  \
    X(SQRT, "Sqrt", "", 1, 1, 1, 1) X(RECIPROCAL, "Reciprocal", "", 1, 1, 1, 1)                   \
    X(EXP, "Exp", "", 1, 1, 1, 1) X(LOG, "Log", "", 1, 1, 1, 1) X(ERF, "Erf", "", 1, 1, 1, 1)      \
    X(TANH, "Tanh", "", 1, 1, 1, 1) X(SIGMOID, "Sigmoid", "", 1, 1, 1, 1)                         \
    X(RELU, "Relu", "", 1, 1, 1, 1) X(GELU, "Gelu", "", 1, 1, 1, 1)                               \
    X(FLOOR, "Floor", "", 1, 1, 1, 1) X(CEIL, "Ceil", "", 1, 1, 1, 1)                             \
    X(ROUND, "Round", "", 1, 1, 1, 1) X(SIN, "Sin", "", 1, 1, 1, 1) X(COS, "Cos", "", 1, 1, 1, 1)  \
    X(SIGN, "Sign", "", 1, 1, 1, 1) X(ISNAN, "IsNaN", "", 1, 1, 1, 1)                             \
    X(CLIP, "Clip", "", 1, 3, 1, 1) X(CAST, "Cast", "", 1, 1, 1, 1)                               \
    X(THRESHOLDEDRELU, "ThresholdedRelu", "", 1, 1, 1, 1)                                         \
    X(IDENTITY, "Identity", "", 1, 1, 1, 1) X(DROPOUT, "Dropout", "", 1, 3, 1, 2)                 \
    X(CONSTANT, "Constant", "", 0, 0, 1, 1)                                                       \
    X(CONSTANTOFSHAPE, "ConstantOfShape", "", 1, 1, 1, 1) X(RANGE, "Range", "", 3, 3, 1, 1)       \
    X(SHAPE, "Shape", "", 1, 1, 1, 1) X(SIZE, "Size", "", 1, 1, 1, 1)                             \
    X(RESHAPE, "Reshape", "", 2, 2, 1, 1) X(FLATTEN, "Flatten", "", 1, 1, 1, 1)                   \
    X(SQUEEZE, "Squeeze", "", 1, 2, 1, 1) X(UNSQUEEZE, "Unsqueeze", "", 1, 2, 1, 1)               \
    X(TRANSPOSE, "Transpose", "", 1, 1, 1, 1) X(CONCAT, "Concat", "", 1, 255, 1, 1)               \
    X(SPLIT, "Split", "", 1, 2, 1, 255) X(SLICE, "Slice", "", 1, 5, 1, 1)                         \
    X(GATHER, "Gather", "", 2, 2, 1, 1) X(GATHERELEMENTS, "GatherElements", "", 2, 2, 1, 1)       \
    X(EXPAND, "Expand", "", 2, 2, 1, 1) X(TILE, "Tile", "", 2, 2, 1, 1)                           \
    X(PAD, "Pad", "", 1, 4, 1, 1) X(TRILU, "Trilu", "", 1, 2, 1, 1)                               \
    X(CUMSUM, "CumSum", "", 2, 2, 1, 1)                                                           \
    X(MATMUL, "MatMul", "", 2, 2, 1, 1) X(GEMM, "Gemm", "", 2, 3, 1, 1)                           \
    X(CONV, "Conv", "", 2, 3, 1, 1)                                                               \
    X(SOFTMAX, "Softmax", "", 1, 1, 1, 1) X(LOGSOFTMAX, "LogSoftmax", "", 1, 1, 1, 1)             \
    X(LAYERNORM, "LayerNormalization", "", 2, 3, 1, 3)                                            \
    X(RMSNORM, "RMSNormalization", "", 2, 2, 1, 1)                                                \
    X(REDUCEMEAN, "ReduceMean", "", 1, 2, 1, 1) X(REDUCESUM, "ReduceSum", "", 1, 2, 1, 1)         \
    X(REDUCEMAX, "ReduceMax", "", 1, 2, 1, 1) X(REDUCEMIN, "ReduceMin", "", 1, 2, 1, 1)           \
    X(ARGMAX, "ArgMax", "", 1, 1, 1, 1)                                                           \
    X(QUANTIZELINEAR, "QuantizeLinear", "", 2, 3, 1, 1)                                           \
    X(DEQUANTIZELINEAR, "DequantizeLinear", "", 2, 3, 1, 1)                                       \
    X(XOR, "Xor", "", 2, 2, 1, 1) X(BITSHIFT, "BitShift", "", 2, 2, 1, 1)                         \
    X(BITAND, "BitwiseAnd", "", 2, 2, 1, 1) X(BITOR, "BitwiseOr", "", 2, 2, 1, 1)                 \
    X(BITXOR, "BitwiseXor", "", 2, 2, 1, 1) X(BITNOT, "BitwiseNot", "", 1, 1, 1, 1)               \
    X(PRELU, "PRelu", "", 2, 2, 1, 1)                                                             \
    X(ACOS, "Acos", "", 1, 1, 1, 1) X(ACOSH, "Acosh", "", 1, 1, 1, 1)                             \
    X(ASIN, "Asin", "", 1, 1, 1, 1) X(ASINH, "Asinh", "", 1, 1, 1, 1)                             \
    X(ATAN, "Atan", "", 1, 1, 1, 1) X(ATANH, "Atanh", "", 1, 1, 1, 1)                             \
    X(COSH, "Cosh", "", 1, 1, 1, 1) X(SINH, "Sinh", "", 1, 1, 1, 1) X(TAN, "Tan", "", 1, 1, 1, 1)  \
    X(SOFTPLUS, "Softplus", "", 1, 1, 1, 1) X(SOFTSIGN, "Softsign", "", 1, 1, 1, 1)               \
    X(MISH, "Mish", "", 1, 1, 1, 1) X(ELU, "Elu", "", 1, 1, 1, 1) X(SELU, "Selu", "", 1, 1, 1, 1)  \
    X(CELU, "Celu", "", 1, 1, 1, 1) X(LEAKYRELU, "LeakyRelu", "", 1, 1, 1, 1)                     \
    X(HARDSIGMOID, "HardSigmoid", "", 1, 1, 1, 1) X(SHRINK, "Shrink", "", 1, 1, 1, 1)             \
    X(SWISH, "Swish", "", 1, 1, 1, 1) X(ISINF, "IsInf", "", 1, 1, 1, 1)                           \
    X(REDUCEPROD, "ReduceProd", "", 1, 2, 1, 1) X(REDUCEL1, "ReduceL1", "", 1, 2, 1, 1)           \
    X(REDUCEL2, "ReduceL2", "", 1, 2, 1, 1) X(REDUCELOGSUM, "ReduceLogSum", "", 1, 2, 1, 1)       \
    X(REDUCELOGSUMEXP, "ReduceLogSumExp", "", 1, 2, 1, 1)                                         \
    X(REDUCESUMSQUARE, "ReduceSumSquare", "", 1, 2, 1, 1)                                         \
    X(ARGMIN, "ArgMin", "", 1, 1, 1, 1) X(CUMPROD, "CumProd", "", 2, 2, 1, 1)                     \
    X(HARDMAX, "Hardmax", "", 1, 1, 1, 1) X(TOPK, "TopK", "", 2, 2, 1, 2)                         \
    X(GATHERND, "GatherND", "", 2, 2, 1, 1) X(SCATTERND, "ScatterND", "", 3, 3, 1, 1)             \
    X(SCATTERELEMENTS, "ScatterElements", "", 3, 3, 1, 1) X(ONEHOT, "OneHot", "", 3, 3, 1, 1)     \
    X(EYELIKE, "EyeLike", "", 1, 1, 1, 1) X(NONZERO, "NonZero", "", 1, 1, 1, 1)                   \
    X(DEPTHTOSPACE, "DepthToSpace", "", 1, 1, 1, 1) X(SPACETODEPTH, "SpaceToDepth", "", 1, 1, 1, 1) \
    X(EINSUM, "Einsum", "", 1, 3, 1, 1)                                                           \
    X(MAXPOOL, "MaxPool", "", 1, 1, 1, 2) X(AVERAGEPOOL, "AveragePool", "", 1, 1, 1, 1)           \
    X(RESIZE, "Resize", "", 1, 4, 1, 1)                                                           \
    /* Written as others when the model is loaded (expand.h): after graph_load() there are none. */ \
    X(SUM, "Sum", "", 1, 255, 1, 1) X(MEAN, "Mean", "", 1, 255, 1, 1)                             \
    X(CASTLIKE, "CastLike", "", 2, 2, 1, 1) X(HARDSWISH, "HardSwish", "", 1, 1, 1, 1)             \
    X(GLOBALAVERAGEPOOL, "GlobalAveragePool", "", 1, 1, 1, 1)                                     \
    X(GLOBALMAXPOOL, "GlobalMaxPool", "", 1, 1, 1, 1)                                             \
    X(BATCHNORM, "BatchNormalization", "", 5, 5, 1, 1)                                            \
    X(INSTANCENORM, "InstanceNormalization", "", 3, 3, 1, 1)                                      \
    X(GROUPNORM, "GroupNormalization", "", 3, 3, 1, 1)                                            \
    X(MVN, "MeanVarianceNormalization", "", 1, 1, 1, 1)                                           \
    X(LPNORM, "LpNormalization", "", 1, 1, 1, 1) X(SWIGLU, "SwiGLU", "", 2, 2, 1, 1)              \
    X(CENTERCROPPAD, "CenterCropPad", "", 2, 2, 1, 1)                                             \
    X(ATTENTION, "Attention", "", 3, 7, 1, 4) X(ROTARY, "RotaryEmbedding", "", 3, 4, 1, 1)        \
    X(DYNAMICQUANTIZE, "DynamicQuantizeLinear", "", 1, 1, 3, 3)                                   \
    X(MATMULINTEGER, "MatMulInteger", "", 2, 4, 1, 1)                                             \
    X(CONVINTEGER, "ConvInteger", "", 2, 4, 1, 1)                                                 \
    X(QLINEARMATMUL, "QLinearMatMul", "", 8, 8, 1, 1)                                             \
    X(QLINEARCONV, "QLinearConv", "", 8, 9, 1, 1)                                                 \
    X(SIMPLIFIEDLAYERNORM, "SimplifiedLayerNormalization", "", 2, 2, 1, 1)                        \
    X(MS_SIMPLIFIEDLAYERNORM, "SimplifiedLayerNormalization", MSFT, 2, 2, 1, 1)                   \
    X(MS_SKIPLAYERNORM, "SkipLayerNormalization", MSFT, 3, 5, 1, 4)                               \
    X(MS_SKIPSIMPLIFIEDLAYERNORM, "SkipSimplifiedLayerNormalization", MSFT, 3, 4, 1, 4)           \
    X(MS_GELU, "Gelu", MSFT, 1, 1, 1, 1) X(MS_FASTGELU, "FastGelu", MSFT, 1, 2, 1, 1)             \
    X(MS_BIASGELU, "BiasGelu", MSFT, 2, 2, 1, 1) X(MS_QUICKGELU, "QuickGelu", MSFT, 1, 1, 1, 1)   \
    X(MS_ROTARY, "RotaryEmbedding", MSFT, 4, 4, 1, 1)                                             \
    X(MS_MATMULNBITS, "MatMulNBits", MSFT, 3, 6, 1, 1)                                            \
    /* Their bodies take their place. */                                                          \
    X(IF, "If", "", 1, 1, 1, 255) X(LOOP, "Loop", "", 0, 255, 1, 255)                             \
    X(CALL, "function", "", 0, 255, 0, 255)

enum op {
#define X(name, type, domain, i0, i1, o0, o1) OP_##name,
    GRAPH_OPS(X)
#undef X
    OPS
};

enum { OPS_WRITTEN_OUT = OP_SUM, OPS_WITH_BODY = OP_IF };     /* from here on: written as others by graph_load() */
/* Of OP_CALL the name is the function's. */

struct op_info { const char *type, *domain; unsigned char min_in, max_in, min_out, max_out; };
extern const struct op_info op_info[OPS];
bool op_find(const char *type, const char *domain, enum op *ret);

enum { NODE_MAX_ARITY = 255 };

/* What an If, a Loop or a call of a function runs. */
struct node_body {
    const struct onnx_function *function;      /* of a call */
    const char *const *outer;                  /* what its graphs read from outside: the names of the node's last inputs */
    int n_outer;
};

struct node {
    enum op op;
    const char *name;                  /* "" if the exporter gave none */
    int n_in, n_out;
    int *in;                           /* value numbers; -1: an absent optional input (never the last) */
    int *out;                          /* likewise -1 where absent */
    int place;                         /* 1 + its place in the model's list of nodes; 0: made by an edit */
    const struct onnx_attr *attrs;     /* borrowed from the onnx_model */
    size_t n_attrs;
    const struct node_body *body;      /* NULL in a loaded graph */
};

struct value {
    const char *name;
    enum dtype dtype;
    struct shape shape;                /* rank -1: unknown (rare: a data-dependent reshape) */
    const void *data;                  /* the constant's bytes, or NULL */
    bool is_const;                     /* also for constants of 0 bytes, whose data may be NULL */
    const void *narrow;                /* a large float32 constant that the model has as 16-bit floats: those, and data is NULL */
    enum dtype narrow_as;              /* DT_F16 or DT_BF16 */
    int producer;                      /* node number, or -1 for inputs and constants */
    int *consumers, n_consumers;       /* node numbers, increasing, each once */
    bool is_input, is_output;
};

struct graph {
    struct arena *mem;                 /* borrowed: everything here lives in it */
    const struct onnx_model *model;    /* where it came from: names, opsets, metadata */
    int64_t opset;
    const struct onnx_function **functions;    /* the model's, sorted: see function_find() */
    struct node *nodes;   int n_nodes;
    struct value *values; int n_values;
    int *inputs, n_inputs;             /* value numbers of the true inputs (initializers excluded) */
    int *outputs, n_outputs;
    const char **symbols; int n_symbols;   /* names of symbolic dimensions; "?0": a length nothing is known of */
};

/*
 * Computes one node on concrete inputs; how graph_load() folds without knowing
 * a kernel.  in[i] is NULL where absent.  out[i] has type and shape set and data allocated.
 */
typedef bool node_eval(const struct graph *g, const struct node *n, const struct tensor *const *in,
                       struct tensor *out, struct err *e);

/*
 * Imports, checks, infers and folds.  All errors name the node or tensor.
 * eval may be NULL: then only integer shape arithmetic is folded.
 */
struct graph *graph_load(struct arena *mem, const struct onnx_model *m, node_eval *eval, struct err *e);

/*
 * Rebuilds consumers, order and dead-node removal after edits to nodes.  Value
 * numbers stay; a value that nothing makes or uses any more is left without producer and consumers.
 * Nodes keep their relative order wherever the edges allow it; node numbers change.
 */
bool graph_relink(struct graph *g, struct err *e);

/* Attribute access, with the default for an absent one.  Types were checked by graph_load(). */
int64_t node_int(const struct node *n, const char *name, int64_t fallback);
float node_float(const struct node *n, const char *name, float fallback);
/* NULL and *ret_n = 0 if absent. */
const int64_t *node_ints(const struct node *n, const char *name, size_t *ret_n);
const char *node_str(const struct node *n, const char *name, const char *fallback);
const struct onnx_attr *node_attr(const struct node *n, const char *name);
/* Does a Conv find its padding itself?  Some exporters write the default, NOTSET, out. */
bool node_auto_pads(const struct node *n);

/* The node that makes the value, if it is one of this kind; else NULL.  value -1: an absent input. */
const struct node *graph_made_by(const struct graph *g, int value, enum op op);

/* Are the elements of its outputs those of its first input, moved about? */
bool op_moves(enum op op);
/* Are its outputs the bytes of its first input, under another shape? */
bool op_is_view(enum op op);

/* "node 17 'fc1' (Gemm)" for errors; the number is the node's place in the model's file (in g for a node made by an edit). */
const char *graph_where(const struct graph *g, const struct node *n, char *buf, size_t size);

/* "[batch,197,192]" with symbol names.  Returns buf. */
const char *graph_shape_text(const struct graph *g, const struct shape *s, char *buf, size_t size);

/*
 * What is known of every value once the inputs have concrete shapes.
 * The same inference as graph_load(), with numbers in place of symbols: every
 * Shape becomes a constant and every reshape's target a number.
 */
struct facts {
    struct shape *shape;               /* [n_values]; fully known for every value in use, or binding failed */
    const void **data;                 /* [n_values]; bytes where the value is known before running, else NULL */
    bool *known;                       /* [n_values] */
};

/*
 * Binds the graph's inputs to shapes[n_inputs] (in the order of g->inputs).
 * ERR_DATA_SHAPE if a shape contradicts the model's declared one, gives one symbol two
 * lengths or makes a symbolic dimension empty; ERR_MODEL_UNBOUND naming the node if a
 * shape still depends on data.  Nodes added by edits are bound like any other.
 * Changes nothing in g: threads may bind one graph at once, each with its own arena.
 * eval may be NULL: then only small integer tensors are known.
 */
bool graph_bind(const struct graph *g, struct arena *mem, const struct shape *shapes, node_eval *eval,
                struct facts *ret, struct err *e);

#endif
