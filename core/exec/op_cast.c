/* op_cast.c - Cast between any two types with arithmetic. */
#include "core/exec/op_internal.h"

#include "core/kernel/kernel.h"

bool op_cast(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    if (!op_elems(a, t, e))
        return false;
    const void *x = a->in[0]->data;
    void *y = a->out[0].data;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        if (t[1]->real)
            t[0]->put_real(y, i, t[1]->get_real(x, i));
        else
            t[0]->put_int(y, i, t[1]->get_int(x, i));
    return true;
}

/* The casts a transformer makes while it runs: masks and ids to float32, and to its own type. */
#define TO_F32(type)                                                                                          \
    do {                                                                                                      \
        const type *x = a->in[0]->data;                                                                       \
        float *y = a->out[0].data;                                                                            \
        for (int64_t i = 0; i < n; i++)                                                                       \
            y[i] = (float)x[i];                                                                               \
    } while (0)

bool op_cast_fast(const struct op_args *a, struct err *e)
{
    enum dtype from = a->in[0]->dtype, to = a->out[0].dtype;
    int64_t n = shape_elements(&a->out[0].shape);

    if (from == to && elem_bytes(to))
        op_copy(a->out[0].data, a->in[0]->data, n * elem_bytes(to));
    else if (to == DT_F32 && (from == DT_F16 || from == DT_BF16))
        vec_widen((size_t)n, from, a->in[0]->data, a->out[0].data);
    else if (to == DT_F32 && from == DT_I64)
        TO_F32(int64_t);
    else if (to == DT_F32 && from == DT_I32)
        TO_F32(int32_t);
    else if (to == DT_F32 && from == DT_BOOL)
        TO_F32(bool);
    else
        return op_cast(a, e);
    return true;
}
