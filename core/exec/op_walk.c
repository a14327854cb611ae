/* op_walk.c - strides and broadcasting; see walk.h. */
#include "core/exec/op_internal.h"

#include <string.h>

void strides_of(const struct shape *s, walk_strides ret)
{
    int64_t stride = 1;
    for (int d = s->rank - 1; d >= 0; d--) {
        ret[d] = stride;
        stride *= s->dim[d];
    }
}

void strides_broadcast(const struct shape *s, const struct shape *space, walk_strides ret)
{
    walk_strides own = { 0 };
    strides_of(s, own);
    int missing = space->rank - s->rank;
    for (int d = 0; d < space->rank; d++)
        ret[d] = d < missing || s->dim[d - missing] == 1 ? 0 : own[d - missing];
}

/* Does dimension (dim, stride) continue the innermost one collected so far, for every operand? */
static bool merges(const struct walk *w, int d, int64_t inner_dim, const walk_strides *stride)
{
    for (int k = 0; k < w->operands; k++)
        if (stride[k][d] != w->stride[k][0] * inner_dim)
            return false;
    return true;
}

/* Collects dimensions from the inside out: dim[0] is the innermost while building, then turned round. */
static void collect(struct walk *w, const struct shape *space, const walk_strides *strides)
{
    for (int d = space->rank - 1; d >= 0; d--) {
        if (space->dim[d] == 1)
            continue;
        if (w->rank && merges(w, d, w->dim[0], strides)) {
            w->dim[0] *= space->dim[d];
            continue;
        }
        memmove(w->dim + 1, w->dim, (size_t)w->rank * sizeof *w->dim);
        w->dim[0] = space->dim[d];
        for (int k = 0; k < w->operands; k++) {
            memmove(w->stride[k] + 1, w->stride[k], (size_t)w->rank * sizeof *w->dim);
            w->stride[k][0] = strides[k][d];
        }
        w->rank++;
    }
}

void walk_init(struct walk *w, const struct shape *space, int operands, const walk_strides *strides)
{
    *w = (struct walk){ .more = shape_elements(space) > 0, .n = 1, .operands = operands };
    if (!w->more)
        return;
    collect(w, space, strides);
    if (!w->rank)
        return;                                     /* one element */
    w->rank--;
    w->n = w->dim[w->rank];
    for (int k = 0; k < operands; k++)
        w->step[k] = w->stride[k][w->rank];
}

void walk_next(struct walk *w)
{
    for (int d = w->rank - 1; d >= 0; d--) {
        for (int k = 0; k < w->operands; k++)
            w->at[k] += w->stride[k][d];
        if (++w->index[d] < w->dim[d])
            return;
        w->index[d] = 0;
        for (int k = 0; k < w->operands; k++)
            w->at[k] -= w->stride[k][d] * w->dim[d];
    }
    w->more = false;
}

void walk_broadcast(struct walk *w, const struct shape *space, const struct tensor *const *in, int n_in)
{
    walk_strides strides[WALK_OPERANDS] = { { 0 } };
    strides_of(space, strides[0]);
    for (int k = 0; k < n_in; k++)
        if (in[k])
            strides_broadcast(&in[k]->shape, space, strides[k + 1]);
    walk_init(w, space, n_in + 1, (const walk_strides *)strides);
}

void op_copy(void *to, const void *from, int64_t n)
{
    if (n)
        memcpy(to, from, (size_t)n);
}

/* A run of elements of a size known to the compiler: memcpy() becomes one move. */
#define COPY_RUN(size)                                                                                        \
    case size:                                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                       \
            memcpy(y + i * size, x + i * step * size, size);                                                  \
        break

static void copy_run(int64_t size, int64_t n, const char *x, int64_t step, char *y)
{
    switch (step == 1 ? 0 : size) {
    COPY_RUN(1);
    COPY_RUN(2);
    COPY_RUN(4);
    COPY_RUN(8);
    default:
        op_copy_row(n * size, x, y);
    }
}

void strided_copy(int64_t size, const struct shape *space, const walk_strides stride, const void *x, void *y)
{
    walk_strides strides[2] = { { 0 } };
    strides_of(space, strides[0]);
    memcpy(strides[1], stride, sizeof strides[1]);
    struct walk w;
    walk_init(&w, space, 2, (const walk_strides *)strides);
    for (; w.more; walk_next(&w))
        copy_run(size, w.n, (const char *)x + w.at[1] * size, w.step[1], (char *)y + w.at[0] * size);
}
