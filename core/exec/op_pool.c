/* op_pool.c - MaxPool and AveragePool over one to three spatial axes, seen as three. */
#include "core/exec/op_internal.h"

#include "core/graph/window.h"

#include <math.h>

enum { AXES = WINDOW_AXES };

struct pool {
    int64_t planes, in[AXES], out[AXES];
    int64_t kernel[AXES], stride[AXES], dilation[AXES], before[AXES], after[AXES];
};

static bool pool_of(const struct op_args *a, struct pool *ret)
{
    const struct shape *x = &a->in[0]->shape, *y = &a->out[0].shape;
    struct window w;
    if (!window_of(a->node, x->dim + 2, x->rank - 2, &w))
        return false;
    *ret = (struct pool){ .planes = x->dim[0] * x->dim[1] };
    for (int d = 0; d < AXES; d++) {
        int i = d - (AXES - w.n);
        bool real = i >= 0;
        ret->in[d] = real ? x->dim[i + 2] : 1;
        ret->out[d] = real ? y->dim[i + 2] : 1;
        ret->kernel[d] = real ? w.kernel[i] : 1;
        ret->stride[d] = real ? w.stride[i] : 1;
        ret->dilation[d] = real ? w.dilation[i] : 1;
        ret->before[d] = real ? w.before[i] : 0;
        ret->after[d] = real ? w.after[i] : 0;
    }
    return true;
}

struct pooled { double sum, max, padded; int64_t inside, at; };      /* padded: a count that may be over 2^63 */

/* How many of a window's k, from 0 on, lie before `end` on axis d where it begins at `start`. */
static int64_t taps_before(const struct pool *p, int d, int64_t start, int64_t end)
{
    int64_t n = end > start ? (end - start - 1) / p->dilation[d] + 1 : 0;
    return n < p->kernel[d] ? n : p->kernel[d];
}

/* Visits the window of output place o[]: what lies in the image, and how much in the image and its padding.  A kernel may be
 * far larger than the image: only what lies in it is gone through. */
static struct pooled visit(const struct pool *p, const struct elem *t, const void *x, int64_t plane, const int64_t *o)
{
    struct pooled r = { .max = -INFINITY, .at = -1, .padded = 1 };
    int64_t start[AXES], first[AXES], end[AXES], k[AXES], at[AXES];
    for (int d = 0; d < AXES; d++) {
        start[d] = o[d] * p->stride[d] - p->before[d];
        first[d] = taps_before(p, d, start[d], 0);
        end[d] = taps_before(p, d, start[d], p->in[d]);
        r.padded *= (double)taps_before(p, d, start[d], p->in[d] + p->after[d]);
    }
    for (k[0] = first[0]; k[0] < end[0]; k[0]++)
        for (k[1] = first[1]; k[1] < end[1]; k[1]++)
            for (k[2] = first[2]; k[2] < end[2]; k[2]++) {
                for (int d = 0; d < AXES; d++)
                    at[d] = start[d] + k[d] * p->dilation[d];
                int64_t i = ((plane * p->in[0] + at[0]) * p->in[1] + at[1]) * p->in[2] + at[2];
                double v = t->get_real(x, i);
                r.inside++;
                r.sum += v;
                if (r.at < 0 || v > r.max || isnan(v)) {
                    r.max = v;
                    r.at = i;
                }
            }
    return r;
}

/* The place of a maximum: with storage_order 1 the last two axes are counted column by column. */
static int64_t place_of(const struct op_args *a, const struct pool *p, int64_t at)
{
    int64_t size = p->in[0] * p->in[1] * p->in[2];
    if (!node_int(a->node, "storage_order", 0) || at < 0)
        return at;
    int64_t x = at % p->in[2], y = at / p->in[2] % p->in[1], z = at / (p->in[2] * p->in[1]) % p->in[0];
    return at / size * size + (x * p->in[1] + y) * p->in[0] + z;
}

static void store(const struct op_args *a, const struct pool *p, const struct elem *t, const struct pooled *r, int64_t to)
{
    bool max = a->node->op == OP_MAXPOOL;
    double n = node_int(a->node, "count_include_pad", 0) ? r->padded : (double)r->inside;
    if (a->out[0].data)
        t->put_real(a->out[0].data, to, max ? r->max : r->sum / n);
    if (max && a->node->n_out > 1 && a->out[1].data)
        ((int64_t *)a->out[1].data)[to] = place_of(a, p, r->at);
}

bool op_pool(const struct op_args *a, struct err *e)
{
    const struct elem *t = elem_of(a->in[0]->dtype);
    struct pool p;
    if (t && op_gives_nothing(a))
        return true;
    if (!t || !pool_of(a, &p))
        return op_refuse(a, a->in[0]->dtype, e);
    int64_t o[AXES], to = 0;
    for (int64_t plane = 0; plane < p.planes; plane++)
        for (o[0] = 0; o[0] < p.out[0]; o[0]++)
            for (o[1] = 0; o[1] < p.out[1]; o[1]++)
                for (o[2] = 0; o[2] < p.out[2]; o[2]++) {
                    struct pooled r = visit(&p, t, a->in[0]->data, plane, o);
                    store(a, &p, t, &r, to++);
                }
    return true;
}
