/* op.c - the table of operators, and what every kernel needs to report and to read. */
#include "core/exec/op_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REF(kernel) { .ref = op_##kernel }
#define FAST(kernel) { .ref = op_##kernel, .fast = op_##kernel##_fast }

static bool op_written_out(const struct op_args *a, struct err *e)
{
    return op_fail(a, ERR_BUG, e, "the operator should have been written as others when the model was loaded");
}

const struct op_impl op_impl[OPS] = {
    [OP_ADD] = FAST(arith), [OP_SUB] = FAST(arith), [OP_MUL] = FAST(arith), [OP_DIV] = FAST(arith),
    [OP_POW] = FAST(arith), [OP_MOD] = FAST(arith), [OP_MIN] = FAST(extreme), [OP_MAX] = FAST(extreme),
    [OP_EQUAL] = REF(compare), [OP_LESS] = REF(compare), [OP_GREATER] = REF(compare),
    [OP_LESSOREQUAL] = REF(compare), [OP_GREATEROREQUAL] = REF(compare), [OP_AND] = REF(logic),
    [OP_OR] = REF(logic), [OP_NOT] = REF(not), [OP_WHERE] = FAST(where),
    [OP_NEG] = FAST(unary), [OP_ABS] = FAST(unary), [OP_SQRT] = FAST(unary), [OP_RECIPROCAL] = FAST(unary),
    [OP_EXP] = FAST(unary), [OP_LOG] = FAST(unary), [OP_ERF] = FAST(unary), [OP_TANH] = FAST(unary),
    [OP_SIGMOID] = FAST(unary), [OP_RELU] = FAST(unary), [OP_GELU] = FAST(unary), [OP_FLOOR] = FAST(unary),
    [OP_CEIL] = FAST(unary), [OP_ROUND] = FAST(unary), [OP_SIN] = FAST(unary), [OP_COS] = FAST(unary),
    [OP_SIGN] = FAST(unary), [OP_ISNAN] = REF(isnan), [OP_CLIP] = FAST(clip),
    [OP_THRESHOLDEDRELU] = FAST(threshold), [OP_CAST] = FAST(cast),
    [OP_IDENTITY] = REF(same_bytes), [OP_RESHAPE] = REF(same_bytes), [OP_FLATTEN] = REF(same_bytes),
    [OP_SQUEEZE] = REF(same_bytes), [OP_UNSQUEEZE] = REF(same_bytes), [OP_DROPOUT] = REF(dropout),
    [OP_CONSTANT] = REF(constant), [OP_CONSTANTOFSHAPE] = REF(constant_of_shape), [OP_RANGE] = REF(range),
    [OP_SHAPE] = REF(shape), [OP_SIZE] = REF(size),
    [OP_TRANSPOSE] = FAST(transpose), [OP_CONCAT] = REF(concat), [OP_SPLIT] = REF(split),
    [OP_SLICE] = REF(slice), [OP_EXPAND] = REF(expand), [OP_TILE] = REF(tile), [OP_PAD] = REF(pad),
    [OP_TRILU] = REF(trilu),
    [OP_GATHER] = REF(gather), [OP_GATHERELEMENTS] = REF(gather_elements), [OP_CUMSUM] = REF(cumsum),
    [OP_MATMUL] = FAST(matmul), [OP_GEMM] = FAST(gemm),
    [OP_CONV] = { op_conv, op_conv_fast, op_conv_scratch },
    [OP_SOFTMAX] = FAST(softmax), [OP_LOGSOFTMAX] = FAST(softmax), [OP_LAYERNORM] = FAST(layernorm),
    [OP_RMSNORM] = FAST(rmsnorm), [OP_REDUCEMEAN] = FAST(reduce), [OP_REDUCESUM] = FAST(reduce),
    [OP_REDUCEMAX] = FAST(reduce), [OP_REDUCEMIN] = FAST(reduce), [OP_ARGMAX] = REF(argmax),
    [OP_QUANTIZELINEAR] = FAST(quantize), [OP_DEQUANTIZELINEAR] = FAST(dequantize),
    [OP_XOR] = REF(logic), [OP_BITSHIFT] = REF(bits), [OP_BITAND] = REF(bits), [OP_BITOR] = REF(bits), [OP_BITXOR] = REF(bits),
    [OP_BITNOT] = REF(unary), [OP_PRELU] = REF(prelu), [OP_ACOS] = REF(unary), [OP_ACOSH] = REF(unary), [OP_ASIN] = REF(unary),
    [OP_ASINH] = REF(unary), [OP_ATAN] = REF(unary), [OP_ATANH] = REF(unary), [OP_COSH] = REF(unary), [OP_SINH] = REF(unary),
    [OP_TAN] = REF(unary), [OP_SOFTPLUS] = REF(unary), [OP_SOFTSIGN] = REF(unary), [OP_MISH] = REF(unary),
    [OP_ELU] = REF(activation), [OP_SELU] = REF(activation), [OP_CELU] = REF(activation), [OP_LEAKYRELU] = REF(activation),
    [OP_HARDSIGMOID] = REF(activation), [OP_SHRINK] = REF(activation), [OP_SWISH] = REF(activation), [OP_ISINF] = REF(isinf),
    [OP_REDUCEPROD] = REF(reduce), [OP_REDUCEL1] = REF(reduce), [OP_REDUCEL2] = REF(reduce), [OP_REDUCELOGSUM] = REF(reduce),
    [OP_REDUCELOGSUMEXP] = REF(reduce), [OP_REDUCESUMSQUARE] = REF(reduce), [OP_ARGMIN] = REF(argmax), [OP_CUMPROD] = REF(cumsum),
    [OP_HARDMAX] = REF(hardmax), [OP_TOPK] = REF(topk), [OP_GATHERND] = REF(gathernd), [OP_SCATTERND] = REF(scatternd),
    [OP_SCATTERELEMENTS] = REF(scatter_elements), [OP_ONEHOT] = REF(onehot), [OP_EYELIKE] = REF(eyelike),
    [OP_NONZERO] = REF(nonzero), [OP_DEPTHTOSPACE] = REF(blocks), [OP_SPACETODEPTH] = REF(blocks), [OP_EINSUM] = REF(einsum),
    [OP_MAXPOOL] = REF(pool), [OP_AVERAGEPOOL] = REF(pool), [OP_RESIZE] = REF(resize),
    /* graph_load() has written these as others. */
    [OPS_WRITTEN_OUT ... OPS - 1] = REF(written_out),
};

bool op_eval(const struct graph *g, const struct node *n, const struct tensor *const *in,
             struct tensor *out, struct err *e)
{
    const struct op_impl *impl = &op_impl[n->op];
    struct op_args a = { g, n, in, out, NULL };

    if (!impl->ref)
        return op_fail(&a, ERR_MODEL_OP, e, "there is no kernel for this operator");
    return impl->ref(&a, e);       /* only fast kernels use scratch */
}

bool op_fail(const struct op_args *a, enum err_code code, struct err *e, const char *fmt, ...)
{
    char where[sizeof e->where], text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(e, code, graph_where(a->g, a->node, where, sizeof where), "%s", text);
}

bool op_refuse(const struct op_args *a, enum dtype t, struct err *e)
{
    return op_fail(a, ERR_MODEL_OP, e, "the operator is not supported for elements of type %s; "
                   "convert the model to float32 with int64 indices", dtype_name(t));
}

bool op_all_f32(const struct op_args *a)
{
    for (int i = 0; i < a->node->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != DT_F32)
            return false;
    for (int i = 0; i < a->node->n_out; i++)
        if (a->out[i].data && a->out[i].dtype != DT_F32)
            return false;
    return true;
}

bool op_elems(const struct op_args *a, const struct elem *ret[static ELEMS_MAX], struct err *e)
{
    memset(ret, 0, ELEMS_MAX * sizeof *ret);
    ret[0] = elem_of(a->out[0].dtype);
    if (!ret[0])
        return op_refuse(a, a->out[0].dtype, e);
    for (int i = 0; i < a->node->n_in && i + 1 < ELEMS_MAX; i++) {
        if (!a->in[i])
            continue;
        ret[i + 1] = elem_of(a->in[i]->dtype);
        if (!ret[i + 1])
            return op_refuse(a, a->in[i]->dtype, e);
    }
    return true;
}

int64_t op_int(const struct tensor *t, int64_t i)
{
    const struct elem *type = elem_of(t->dtype);
    return type ? type->get_int(t->data, i) : 0;
}
