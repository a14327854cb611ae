#include "core/exec/narrow.h"

#include "core/kernel/kernel.h"

#include <string.h>

enum { ALIGN = 64 };

static bool is_narrow(const struct graph *g, int value) { return value >= 0 && g->values[value].narrow; }

static uint64_t bytes_of(const struct frame *f, int value)
{
    return ((uint64_t)shape_elements(&f->t[value].shape) * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
}

bool narrow_widen(struct frame *f, const int *values, int n, const struct edit *edit, struct err *e)
{
    const struct graph *g = f->plan->g;
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += is_narrow(g, values[i]) && !lowering_edited(edit, i) ? bytes_of(f, values[i]) : 0;
    if (!bytes)
        return true;
    if (!frame_grow(&f->wide, &f->wide_size, bytes, e))
        return false;
    char *to = f->wide;
    for (int i = 0; i < n; i++) {
        if (!is_narrow(g, values[i]) || lowering_edited(edit, i))
            continue;
        struct tensor *t = &f->t[values[i]];
        t->data = to;
        vec_widen((size_t)shape_elements(&t->shape), g->values[values[i]].narrow_as, g->values[values[i]].narrow, t->data);
        to += bytes_of(f, values[i]);
    }
    return true;
}

bool narrow_move(struct frame *f, const struct op_impl *impl, const struct op_args *a, bool *ret_done, struct err *e)
{
    const struct graph *g = f->plan->g;
    const struct node *n = a->node;
    *ret_done = n->n_in > 0 && is_narrow(g, n->in[0]) && a->in[0] == &f->t[n->in[0]] && op_moves(n->op) && n->n_out == 1;
    if (!*ret_done)
        return true;
    const struct value *v = &g->values[n->in[0]];
    const struct tensor *in[NODE_MAX_ARITY];
    struct tensor from = { v->narrow_as, v->shape, (void *)(uintptr_t)v->narrow }, to = { v->narrow_as, a->out[0].shape, NULL };
    size_t count = (size_t)shape_elements(&to.shape);
    if (!frame_grow(&f->wide, &f->wide_size, count * sizeof(uint16_t) + ALIGN, e))
        return false;
    memcpy(in, a->in, (size_t)n->n_in * sizeof *in);
    in[0] = &from;
    to.data = f->wide;
    struct op_args half = { a->g, n, in, &to, a->scratch };
    if (!(impl->fast ? impl->fast : impl->ref)(&half, e))
        return false;
    vec_widen(count, to.dtype, to.data, a->out[0].data);
    return true;
}
