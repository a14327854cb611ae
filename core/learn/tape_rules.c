#include "core/learn/tape_rules.h"

const struct tape_rule tape_rules[OPS] = {
    [OP_ADD] = { tape_back_add, false, NULL },           [OP_SUB] = { tape_back_sub, false, NULL },
    [OP_MUL] = { tape_back_mul, false, NULL },           [OP_DIV] = { tape_back_div, false, NULL },
    [OP_POW] = { tape_back_pow, false, tape_fits_pow },  [OP_WHERE] = { tape_back_where, false, NULL },
    [OP_NEG] = { tape_back_neg, false, NULL },           [OP_SQRT] = { tape_back_sqrt, false, NULL },
    [OP_RECIPROCAL] = { tape_back_reciprocal, false, NULL }, [OP_EXP] = { tape_back_exp, false, NULL },
    [OP_ERF] = { tape_back_erf, false, NULL },           [OP_TANH] = { tape_back_tanh, false, NULL },
    [OP_SIGMOID] = { tape_back_sigmoid, false, NULL },   [OP_RELU] = { tape_back_relu, false, NULL },
    [OP_GELU] = { tape_back_gelu, false, NULL },         [OP_SWISH] = { tape_back_swish, false, NULL },
    [OP_CAST] = { tape_back_same, false, tape_fits_cast },
    [OP_SOFTMAX] = { tape_back_softmax, false, tape_fits_softmax },
    [OP_LAYERNORM] = { tape_back_layernorm, false, tape_fits_norm }, [OP_RMSNORM] = { tape_back_rmsnorm, false, tape_fits_norm },
    [OP_REDUCEMEAN] = { tape_back_mean, false, tape_fits_reduce },   [OP_REDUCESUM] = { tape_back_sum, false, tape_fits_reduce },
    [OP_MATMUL] = { tape_back_matmul, false, tape_fits_matmul },     [OP_GEMM] = { tape_back_gemm, false, tape_fits_gemm },
    /* Views, whose bytes stay. */
    [OP_RESHAPE] = { tape_back_same, false, NULL },      [OP_FLATTEN] = { tape_back_same, false, NULL },
    [OP_SQUEEZE] = { tape_back_same, false, NULL },      [OP_UNSQUEEZE] = { tape_back_same, false, NULL },
    [OP_IDENTITY] = { tape_back_same, false, NULL },
    [OP_TRANSPOSE] = { tape_back_move, true, NULL },     [OP_CONCAT] = { tape_back_move, true, NULL },
    [OP_SPLIT] = { tape_back_move, true, tape_fits_rest_const },  [OP_SLICE] = { tape_back_move, true, tape_fits_rest_const },
    [OP_GATHER] = { tape_back_move, true, tape_fits_gather },     [OP_EXPAND] = { tape_back_move, true, NULL },
    [OP_TILE] = { tape_back_move, true, NULL },
};
