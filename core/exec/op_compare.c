/* op_compare.c - comparisons, logic and Where. */
#include "core/exec/op_internal.h"

#include "core/kernel/clones.h"

/* Which of less, equal, greater make the answer true; a NaN is none of them. */
enum { LESS = 1, SAME = 2, MORE = 4 };

static bool pair(const struct elem *x, const void *xs, int64_t i, const struct elem *y, const void *ys, int64_t j,
                 int accepted)
{
    int is;
    if (x->real || y->real) {
        double u = x->get_real(xs, i), v = y->get_real(ys, j);
        is = (u < v ? LESS : 0) | (u == v ? SAME : 0) | (u > v ? MORE : 0);
    } else {
        /* Order of uint64: as int64 with the top bit turned over. */
        int64_t flip = x->wide ? INT64_MIN : 0, u = x->get_int(xs, i) ^ flip, v = y->get_int(ys, j) ^ flip;
        is = (u < v ? LESS : 0) | (u == v ? SAME : 0) | (u > v ? MORE : 0);
    }
    return is & accepted;
}

bool op_compare(const struct op_args *a, struct err *e)
{
    static const int accepted[OPS] = {
        [OP_EQUAL] = SAME, [OP_LESS] = LESS, [OP_GREATER] = MORE,
        [OP_LESSOREQUAL] = LESS | SAME, [OP_GREATEROREQUAL] = MORE | SAME,
    };
    const struct elem *t[ELEMS_MAX];
    struct walk w;

    if (!op_elems(a, t, e))
        return false;
    uint8_t *out = a->out[0].data;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 2); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            out[w.at[0] + i] = pair(t[1], a->in[0]->data, w.at[1] + i * w.step[1],
                                    t[2], a->in[1]->data, w.at[2] + i * w.step[2], accepted[a->node->op]);
    return true;
}

/* And, Or, Xor: on bools only, by the operator's definition. */
bool op_logic(const struct op_args *a, struct err *e)
{
    for (int k = 0; k < 2; k++)
        if (a->in[k]->dtype != DT_BOOL)
            return op_refuse(a, a->in[k]->dtype, e);
    const uint8_t *x = a->in[0]->data, *y = a->in[1]->data;
    uint8_t *out = a->out[0].data;
    struct walk w;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 2); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            bool u = x[w.at[1] + i * w.step[1]], v = y[w.at[2] + i * w.step[2]];
            out[w.at[0] + i] = a->node->op == OP_AND ? u && v : a->node->op == OP_OR ? u || v : u != v;
        }
    return true;
}

bool op_not(const struct op_args *a, struct err *e)
{
    if (a->in[0]->dtype != DT_BOOL)
        return op_refuse(a, a->in[0]->dtype, e);
    const uint8_t *x = a->in[0]->data;
    uint8_t *out = a->out[0].data;
    for (int64_t n = shape_elements(&a->out[0].shape), i = 0; i < n; i++)
        out[i] = !x[i];
    return true;
}

/* Moves bytes, whatever they mean. */
bool op_where(const struct op_args *a, struct err *e)
{
    int64_t size = elem_bytes(a->out[0].dtype);
    if (!size || a->in[0]->dtype != DT_BOOL || elem_bytes(a->in[1]->dtype) != size || elem_bytes(a->in[2]->dtype) != size)
        return op_refuse(a, a->out[0].dtype, e);
    const uint8_t *choice = a->in[0]->data;
    struct walk w;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 3); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            int k = choice[w.at[1] + i * w.step[1]] ? 2 : 3;
            const char *from = a->in[k - 1]->data;
            op_copy((char *)a->out[0].data + (w.at[0] + i) * size, from + (w.at[k] + i * w.step[k]) * size, size);
        }
    return true;
}

/* One run of the choice between x and y, whose steps are 0 or 1. */
KERNEL_INLINE void f32_choose(int64_t n, const uint8_t *choice, int64_t c_step, const float *x, int64_t x_step,
                              const float *y, int64_t y_step, float *out)
{
    KERNEL_LOOP
    for (int64_t i = 0; i < n; i++) {
        float u = x[i * x_step], v = y[i * y_step];
        out[i] = choice[i * c_step] ? u : v;
    }
}

/* A mask over scores against a number on either side: the cases of attention, each a loop of its own. */
KERNEL_CLONES
static void f32_where(int64_t n, const uint8_t *choice, int64_t c_step, const float *x, int64_t x_step,
                      const float *y, int64_t y_step, float *out)
{
    if (c_step == 1 && x_step == 1 && y_step == 0)
        f32_choose(n, choice, 1, x, 1, y, 0, out);
    else if (c_step == 1 && x_step == 0 && y_step == 1)
        f32_choose(n, choice, 1, x, 0, y, 1, out);
    else
        f32_choose(n, choice, c_step, x, x_step, y, y_step, out);
}

bool op_where_fast(const struct op_args *a, struct err *e)
{
    if (a->out[0].dtype != DT_F32 || a->in[0]->dtype != DT_BOOL || a->in[1]->dtype != DT_F32 || a->in[2]->dtype != DT_F32)
        return op_where(a, e);
    const uint8_t *choice = a->in[0]->data;
    const float *x = a->in[1]->data, *y = a->in[2]->data;
    float *out = a->out[0].data;
    struct walk w;
    for (walk_broadcast(&w, &a->out[0].shape, a->in, 3); w.more; walk_next(&w))
        f32_where(w.n, choice + w.at[1], w.step[1], x + w.at[2], w.step[2], y + w.at[3], w.step[3], out + w.at[0]);
    return true;
}
