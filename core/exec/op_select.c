/* op_select.c - TopK, Hardmax, EyeLike, NonZero, DepthToSpace and SpaceToDepth. */
#include "core/exec/op_internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- TopK and Hardmax: lines along an axis ---- */

struct ranked { double real; int64_t integer, at; };

/* The larger first, NaN before all; of equals the earlier one. */
static int down(const void *p, const void *q)
{
    const struct ranked *a = p, *b = q;
    if (isnan(a->real) != isnan(b->real))
        return isnan(a->real) ? -1 : 1;
    if (a->real != b->real && !isnan(a->real))
        return a->real > b->real ? -1 : 1;
    if (a->integer != b->integer)
        return a->integer > b->integer ? -1 : 1;
    return a->at < b->at ? -1 : 1;
}

static int up(const void *p, const void *q)
{
    const struct ranked *a = p, *b = q;
    if (a->real == b->real && a->integer == b->integer)
        return a->at < b->at ? -1 : 1;
    return down(q, p);
}

static void read_line(const struct elem *t, const void *x, int64_t first, int64_t pitch, int64_t n, bool wide, struct ranked *line)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t v = t->real ? 0 : t->get_int(x, first + i * pitch);
        line[i] = (struct ranked){ t->real ? t->get_real(x, first + i * pitch) : 0, wide ? v ^ INT64_MIN : v, i };
    }
}

bool op_topk(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t = elem_of(a->in[0]->dtype);
    int axis = op_axis(node_int(a->node, "axis", -1), s->rank);
    int64_t n = s->rank ? s->dim[axis] : 1, k = s->rank ? a->out[0].shape.dim[axis] : 1, size = elem_bytes(a->in[0]->dtype);
    int64_t pitch = shape_count(s, axis + 1, s->rank), outer = shape_count(s, 0, axis);
    int64_t *places = a->node->n_out > 1 ? a->out[1].data : NULL;
    struct ranked *line = t ? calloc((size_t)(n + !n), sizeof *line) : NULL;
    if (!line)
        return t ? op_fail(a, ERR_MEMORY, e, "no memory to sort an axis of %lld", (long long)n) : op_refuse(a, a->in[0]->dtype, e);
    for (int64_t o = 0; k && o < outer; o++)
        for (int64_t p = 0; p < pitch; p++) {
            read_line(t, a->in[0]->data, o * n * pitch + p, pitch, n, a->in[0]->dtype == DT_U64, line);
            qsort(line, (size_t)n, sizeof *line, node_int(a->node, "largest", 1) ? down : up);
            for (int64_t i = 0; i < k; i++) {
                int64_t to = (o * k + i) * pitch + p, from = (o * n + line[i].at) * pitch + p;
                if (a->out[0].data)
                    op_copy((char *)a->out[0].data + to * size, (const char *)a->in[0]->data + from * size, size);
                if (places)
                    places[to] = line[i].at;
            }
        }
    free(line);
    return true;
}

/* The axis is the last by default; 1 at its first largest element, else 0. */
bool op_hardmax(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t[ELEMS_MAX];
    int axis = op_axis(node_int(a->node, "axis", -1), s->rank);
    int64_t n = s->rank ? s->dim[axis] : 1, pitch = shape_count(s, axis + 1, s->rank), outer = shape_count(s, 0, axis);
    if (!op_elems(a, t, e))
        return false;
    for (int64_t o = 0; n && o < outer; o++)
        for (int64_t p = 0; p < pitch; p++) {
            int64_t first = o * n * pitch + p, best = 0;
            for (int64_t i = 1; i < n; i++)
                if (t[1]->get_real(a->in[0]->data, first + i * pitch) > t[1]->get_real(a->in[0]->data, first + best * pitch))
                    best = i;
            for (int64_t i = 0; i < n; i++)
                t[0]->put_real(a->out[0].data, first + i * pitch, i == best);
        }
    return true;
}

/* ---- places ---- */

bool op_eyelike(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->out[0].shape;
    const struct elem *t = elem_of(a->out[0].dtype);
    int64_t k = node_int(a->node, "k", 0);
    if (!t)
        return op_refuse(a, a->out[0].dtype, e);
    for (int64_t r = 0; r < s->dim[0]; r++)
        for (int64_t c = 0; c < s->dim[1]; c++)
            t->put_int(a->out[0].data, r * s->dim[1] + c, c - r == k);
    return true;
}

/* The shape rule has counted them, so only constants come here. */
bool op_nonzero(const struct op_args *a, struct err *e)
{
    const struct shape *s = &a->in[0]->shape;
    const struct elem *t = elem_of(a->in[0]->dtype);
    int64_t n = a->out[0].shape.dim[1], found = 0, *y = a->out[0].data;
    if (!t)
        return op_refuse(a, a->in[0]->dtype, e);
    for (int64_t i = 0; i < shape_elements(s) && found < n; i++) {
        if (t->real ? t->get_real(a->in[0]->data, i) == 0 : t->get_int(a->in[0]->data, i) == 0)
            continue;
        int64_t rest = i;
        for (int d = s->rank - 1; d >= 0; d--) {
            y[d * n + found] = rest % s->dim[d];
            rest /= s->dim[d];
        }
        found++;
    }
    return found == n || op_fail(a, ERR_DATA_VALUES, e, "%lld elements are not zero where %lld were", (long long)found, (long long)n);
}

/* ---- blocks: [batch, C, H, W] with C = b*b*c beside [batch, c, H*b, W*b] ---- */

/* Channel of the deep side for place (i, j) of a block and channel c of c_n. */
static int64_t deep_channel(bool crd, int64_t b, int64_t i, int64_t j, int64_t c, int64_t c_n)
{
    return crd ? (c * b + i) * b + j : (i * b + j) * c_n + c;
}

bool op_blocks(const struct op_args *a, struct err *e)
{
    bool spread = a->node->op == OP_DEPTHTOSPACE, crd = node_str(a->node, "mode", "DCR")[0] == 'C';
    const struct shape *wide = spread ? &a->out[0].shape : &a->in[0]->shape, *deep = spread ? &a->in[0]->shape : &a->out[0].shape;
    int64_t b = node_int(a->node, "blocksize", 1), size = elem_bytes(a->out[0].dtype), n = shape_elements(wide);
    if (!size)
        return op_refuse(a, a->out[0].dtype, e);
    for (int64_t at = 0; at < n; at++) {
        int64_t x = at % wide->dim[3], y = at / wide->dim[3] % wide->dim[2];
        int64_t c = at / (wide->dim[3] * wide->dim[2]) % wide->dim[1], image = at / (wide->dim[3] * wide->dim[2] * wide->dim[1]);
        int64_t channel = deep_channel(crd, b, y % b, x % b, c, wide->dim[1]);
        int64_t other = ((image * deep->dim[1] + channel) * deep->dim[2] + y / b) * deep->dim[3] + x / b;
        int64_t to = spread ? at : other, from = spread ? other : at;
        op_copy((char *)a->out[0].data + to * size, (const char *)a->in[0]->data + from * size, size);
    }
    return true;
}
