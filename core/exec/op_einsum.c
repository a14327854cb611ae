/* op_einsum.c - Einsum: for each element of the output the sum over the letters that it does not have. */
#include "core/exec/op_internal.h"

#include "core/graph/window.h"

/* The letters in one space: those of the output first, then those that are summed. */
struct space {
    struct shape kept, summed;
    walk_strides kept_stride[EINSUM_OPERANDS], summed_stride[EINSUM_OPERANDS];
};

static bool add_label(struct shape *s, walk_strides *strides, const struct einsum *es, const struct op_args *a, int label)
{
    int at = s->rank;
    if (at == TENSOR_MAX_RANK)
        return false;
    s->dim[at] = 1;
    for (int k = 0; k < a->node->n_in; k++) {
        walk_strides own;
        strides_of(&a->in[k]->shape, own);
        strides[k][at] = 0;
        for (int d = 0; d < es->rank[k]; d++)
            if (es->label[k][d] == label && a->in[k]->shape.dim[d] != 1) {
                strides[k][at] += own[d];          /* a letter twice in one term: its diagonal */
                s->dim[at] = a->in[k]->shape.dim[d];
            }
    }
    s->rank++;
    return true;
}

static bool space_of(const struct op_args *a, const struct einsum *es, struct space *ret)
{
    const int out = a->node->n_in;
    bool kept[EINSUM_LABELS] = { false };
    *ret = (struct space){ 0 };
    for (int d = 0; d < es->rank[out]; d++) {
        kept[es->label[out][d]] = true;
        if (!add_label(&ret->kept, ret->kept_stride, es, a, es->label[out][d]))
            return false;
    }
    for (int i = 0; i < es->labels; i++)
        if (!kept[i] && !add_label(&ret->summed, ret->summed_stride, es, a, i))
            return false;
    return true;
}

/* The sum at offsets base[] of the operands. */
static void sum_at(const struct op_args *a, const struct elem *const *t, const struct space *s, const int64_t *base, int64_t to)
{
    double real = 0;
    uint64_t integer = 0;
    struct walk w;
    for (walk_init(&w, &s->summed, a->node->n_in, s->summed_stride); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            double v = 1;
            uint64_t n = 1;
            for (int k = 0; k < a->node->n_in; k++) {
                int64_t at = base[k] + w.at[k] + i * w.step[k];
                if (t[0]->real)
                    v *= t[k + 1]->get_real(a->in[k]->data, at);
                else
                    n *= (uint64_t)t[k + 1]->get_int(a->in[k]->data, at);
            }
            real += v;
            integer += n;
        }
    if (t[0]->real)
        t[0]->put_real(a->out[0].data, to, real);
    else
        t[0]->put_int(a->out[0].data, to, (int64_t)integer);
}

bool op_einsum(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    int ranks[EINSUM_OPERANDS] = { 0 };
    struct einsum es;
    struct space s;
    struct walk w;
    for (int k = 0; k < a->node->n_in; k++)
        ranks[k] = a->in[k]->shape.rank;
    if (!op_elems(a, t, e))
        return false;
    const char *why = einsum_parse(node_str(a->node, "equation", ""), a->node->n_in, ranks, &es);
    if (why || !space_of(a, &es, &s))
        return op_fail(a, ERR_MODEL_OP, e, "the equation %s", why ? why : "sums over too many letters");
    int64_t to = 0;
    for (walk_init(&w, &s.kept, a->node->n_in, s.kept_stride); w.more; walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            int64_t base[EINSUM_OPERANDS];
            for (int k = 0; k < a->node->n_in; k++)
                base[k] = w.at[k] + i * w.step[k];
            sum_at(a, t, &s, base, to++);
        }
    return true;
}
