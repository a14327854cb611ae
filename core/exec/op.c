/* op.c - the table of operators, and what every kernel needs to report and to read. */
#include "core/exec/op_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct op_impl op_impl[OPS] = {
#define SAME { op_same_bytes, NULL, NULL }
#define ARITH { op_arith, op_arith_fast, NULL }
#define UNARY { op_unary, NULL, NULL }
#define COMPARE { op_compare, NULL, NULL }
#define REDUCE { op_reduce, op_reduce_fast, NULL }
    [OP_ADD] = ARITH, [OP_SUB] = ARITH, [OP_MUL] = ARITH, [OP_DIV] = ARITH, [OP_POW] = ARITH, [OP_MOD] = ARITH,
    [OP_MIN] = { op_extreme, op_extreme_fast, NULL }, [OP_MAX] = { op_extreme, op_extreme_fast, NULL },
    [OP_EQUAL] = COMPARE, [OP_LESS] = COMPARE, [OP_GREATER] = COMPARE,
    [OP_LESSOREQUAL] = COMPARE, [OP_GREATEROREQUAL] = COMPARE,
    [OP_AND] = { op_logic, NULL, NULL }, [OP_OR] = { op_logic, NULL, NULL }, [OP_NOT] = { op_not, NULL, NULL },
    [OP_WHERE] = { op_where, op_where_fast, NULL },
    [OP_NEG] = UNARY, [OP_ABS] = UNARY, [OP_SQRT] = UNARY, [OP_RECIPROCAL] = UNARY, [OP_EXP] = UNARY,
    [OP_LOG] = UNARY, [OP_ERF] = UNARY, [OP_TANH] = UNARY, [OP_SIGMOID] = UNARY, [OP_RELU] = UNARY,
    [OP_GELU] = UNARY, [OP_FLOOR] = UNARY, [OP_CEIL] = UNARY, [OP_ROUND] = UNARY, [OP_SIN] = UNARY,
    [OP_COS] = UNARY, [OP_SIGN] = UNARY,
    [OP_ISNAN] = { op_isnan, NULL, NULL }, [OP_CLIP] = { op_clip, NULL, NULL },
    [OP_THRESHOLDEDRELU] = { op_threshold, NULL, NULL }, [OP_CAST] = { op_cast, op_cast_fast, NULL },
    [OP_IDENTITY] = SAME, [OP_DROPOUT] = { op_dropout, NULL, NULL },
    [OP_CONSTANT] = { op_constant, NULL, NULL }, [OP_CONSTANTOFSHAPE] = { op_constant_of_shape, NULL, NULL },
    [OP_RANGE] = { op_range, NULL, NULL }, [OP_SHAPE] = { op_shape, NULL, NULL }, [OP_SIZE] = { op_size, NULL, NULL },
    [OP_RESHAPE] = SAME, [OP_FLATTEN] = SAME, [OP_SQUEEZE] = SAME, [OP_UNSQUEEZE] = SAME,
    [OP_TRANSPOSE] = { op_transpose, NULL, NULL }, [OP_CONCAT] = { op_concat, NULL, NULL },
    [OP_SPLIT] = { op_split, NULL, NULL }, [OP_SLICE] = { op_slice, NULL, NULL },
    [OP_GATHER] = { op_gather, NULL, NULL }, [OP_GATHERELEMENTS] = { op_gather_elements, NULL, NULL },
    [OP_EXPAND] = { op_expand, NULL, NULL }, [OP_TILE] = { op_tile, NULL, NULL }, [OP_PAD] = { op_pad, NULL, NULL },
    [OP_TRILU] = { op_trilu, NULL, NULL }, [OP_CUMSUM] = { op_cumsum, NULL, NULL },
    [OP_MATMUL] = { op_matmul, NULL, NULL }, [OP_GEMM] = { op_gemm, NULL, NULL }, [OP_CONV] = { op_conv, NULL, NULL },
    [OP_SOFTMAX] = { op_softmax, NULL, NULL }, [OP_LOGSOFTMAX] = { op_softmax, NULL, NULL },
    [OP_LAYERNORM] = { op_layernorm, NULL, NULL }, [OP_RMSNORM] = { op_rmsnorm, NULL, NULL },
    [OP_REDUCEMEAN] = REDUCE, [OP_REDUCESUM] = REDUCE, [OP_REDUCEMAX] = REDUCE, [OP_REDUCEMIN] = REDUCE,
    [OP_ARGMAX] = { op_argmax, NULL, NULL },
    [OP_QUANTIZELINEAR] = { op_quantize, NULL, NULL }, [OP_DEQUANTIZELINEAR] = { op_dequantize, NULL, NULL },
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
