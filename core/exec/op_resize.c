/*
 * op_resize.c - Resize, one axis after the other: each place of an axis is a weighted sum of neighbours.
 *
 * The neighbours of x are f + i for i in (-n/2, n/2] with f = ceil(x) - 1, clamped to the axis; a tap's weight is
 * kernel(i - (x - f)).  Antialiasing widens the kernel by the factor of the reduction.
 */
#include "core/exec/op_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct resize {
    const char *coordinates, *nearest;
    char mode;                         /* 'n', 'l', 'c' */
    bool antialias, exclude;
    double cubic_a, outside;
};

struct axis { int64_t in, out; double scale, from, to; };   /* from, to: the region of tf_crop_and_resize */

static double source(const struct resize *r, const struct axis *a, int64_t y)
{
    double in = (double)a->in, out = a->scale * in, x = (double)y;
    if (strcmp(r->coordinates, "align_corners") == 0)
        return out == 1 ? 0 : x * (in - 1) / (out - 1);
    if (strcmp(r->coordinates, "asymmetric") == 0)
        return x / a->scale;
    if (strcmp(r->coordinates, "tf_half_pixel_for_nn") == 0)
        return (x + 0.5) / a->scale;
    if (strcmp(r->coordinates, "tf_crop_and_resize") == 0)
        return (out == 1 ? (a->to - a->from) * (in - 1) / 2 : x * (a->to - a->from) * (in - 1) / (out - 1)) + a->from * (in - 1);
    if (strcmp(r->coordinates, "pytorch_half_pixel") == 0 && out == 1)
        return -0.5;
    double shift = strcmp(r->coordinates, "half_pixel_symmetric") == 0 ? in / 2 * (1 - (double)a->out / out) : 0;
    return shift + (x + 0.5) / a->scale - 0.5;
}

static double kernel(const struct resize *r, double d)
{
    double x = fabs(d), a = r->cubic_a;
    if (r->mode == 'l')
        return x < 1 ? 1 - x : 0;
    return x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* 1 if the nearest place is the right one of the two around x. */
static bool takes_right(const struct resize *r, double ratio)
{
    if (ratio == 1)
        return true;                   /* x is a whole number: the place itself */
    if (strcmp(r->nearest, "floor") == 0)
        return false;
    if (strcmp(r->nearest, "ceil") == 0)
        return true;
    return strcmp(r->nearest, "round_prefer_ceil") == 0 ? ratio >= 0.5 : ratio > 0.5;
}

static int64_t taps(const struct resize *r, const struct axis *a)
{
    int64_t reach = r->mode == 'c' ? 2 : 1;
    double scale = r->antialias && a->scale < 1 ? a->scale : 1;
    double n = 2 - 2 * (floor(-(double)reach / scale) + 1);
    return r->mode == 'n' ? 2 : n > 4.0 * (double)a->in + 8 ? 4 * a->in + 8 : (int64_t)n;
}

/* The weights of place y, and the first neighbour's index (which may lie outside).  False: all of it is outside. */
static bool weigh(const struct resize *r, const struct axis *a, int64_t y, int64_t n, double *weight, int64_t *ret_first)
{
    double x = source(r, a, y), sum = 0, scale = r->antialias && a->scale < 1 ? a->scale : 1;
    if (strcmp(r->coordinates, "tf_crop_and_resize") == 0 && (x < 0 || x > (double)(a->in - 1)))
        return false;
    x = x < -1e15 ? -1e15 : x > 1e15 ? 1e15 : x;
    double floor_x = ceil(x) - 1, ratio = x - floor_x;
    *ret_first = (int64_t)floor_x + 1 - n / 2;
    for (int64_t k = 0; k < n; k++) {
        int64_t at = *ret_first + k, from_middle = k + 1 - n / 2;
        weight[k] = r->mode == 'n' ? takes_right(r, ratio) == (k == 1) : kernel(r, ((double)from_middle - ratio) * scale);
        if (r->exclude && (at < 0 || at >= a->in))
            weight[k] = 0;
        sum += weight[k];
    }
    for (int64_t k = 0; (r->exclude || r->antialias) && r->mode != 'n' && sum != 0 && k < n; k++)
        weight[k] /= sum;
    return true;
}

/* x[outer, in, inner] -> y[outer, out, inner] */
static bool resize_axis(const struct resize *r, const struct axis *a, int64_t outer, int64_t inner, const double *x, double *y)
{
    int64_t n = taps(r, a), first = 0;
    double *weight = calloc((size_t)n, sizeof *weight);
    if (!weight)
        return false;
    for (int64_t p = 0; p < a->out; p++) {
        bool inside = weigh(r, a, p, n, weight, &first);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                double sum = inside ? 0 : r->outside;
                for (int64_t k = 0; inside && k < n; k++) {
                    int64_t at = first + k < 0 ? 0 : first + k >= a->in ? a->in - 1 : first + k;
                    sum += weight[k] ? weight[k] * x[(o * a->in + at) * inner + i] : 0;
                }
                y[(o * a->out + p) * inner + i] = sum;
            }
    }
    free(weight);
    return true;
}

/* ---- the node ---- */

/* Where axis d stands among the axes given, or -1. */
static int slot_of(const struct op_args *a, int d)
{
    size_t n;
    const int64_t *axes = node_ints(a->node, "axes", &n);
    for (size_t i = 0; i < n; i++)
        if (op_axis(axes[i], a->in[0]->shape.rank) == d)
            return (int)i;
    return axes ? -1 : d;
}

static double number(const struct tensor *t, int64_t i)
{
    const struct elem *type = t ? elem_of(t->dtype) : NULL;
    return type && i < shape_elements(&t->shape) ? type->get_real(t->data, i) : 0;
}

static double kept_ratio(const struct op_args *a)
{
    const char *policy = node_str(a->node, "keep_aspect_ratio_policy", "stretch");
    double best = 0;
    for (int d = 0; d < a->in[0]->shape.rank && op_in(a, 3) && strcmp(policy, "stretch") != 0; d++) {
        double s = slot_of(a, d) < 0 ? 0 : number(op_in(a, 3), slot_of(a, d)) / (double)a->in[0]->shape.dim[d];
        if (slot_of(a, d) >= 0)
            best = best == 0 || (strcmp(policy, "not_smaller") == 0 ? s > best : s < best) ? s : best;
    }
    return best;
}

static struct axis axis_of(const struct op_args *a, int d)
{
    int k = slot_of(a, d);
    int64_t in = a->in[0]->shape.dim[d], out = a->out[0].shape.dim[d], n = op_in(a, 1) ? shape_elements(&op_in(a, 1)->shape) / 2 : 0;
    struct axis r = { in, out, in ? (double)out / (double)in : 1, 0, 1 };
    double given = op_in(a, 2) && k >= 0 ? number(op_in(a, 2), k) : 0, kept = kept_ratio(a);
    r.scale = given > 0 ? given : kept > 0 && k >= 0 ? kept : r.scale;
    if (k >= 0 && k < n) {
        r.from = number(op_in(a, 1), k);
        r.to = number(op_in(a, 1), n + k);
    }
    return r;
}

static struct resize resize_of(const struct op_args *a)
{
    return (struct resize){
        .coordinates = node_str(a->node, "coordinate_transformation_mode", "half_pixel"),
        .nearest = node_str(a->node, "nearest_mode", "round_prefer_floor"), .mode = node_str(a->node, "mode", "nearest")[0],
        .antialias = node_int(a->node, "antialias", 0), .exclude = node_int(a->node, "exclude_outside", 0),
        .cubic_a = (double)node_float(a->node, "cubic_coeff_a", -0.75f), .outside = (double)node_float(a->node, "extrapolation_value", 0),
    };
}

static double *doubles(const struct op_args *a, const struct shape *s, struct err *e)
{
    uint64_t bytes;
    if (!tensor_size(DT_F64, s, "", NULL, &bytes, e))
        return NULL;
    double *p = calloc(1, (size_t)bytes + 1);
    if (!p)
        op_fail(a, ERR_MEMORY, e, "no memory for %llu bytes", (unsigned long long)bytes);
    return p;
}

bool op_resize(const struct op_args *a, struct err *e)
{
    const struct elem *t = elem_of(a->out[0].dtype);
    struct shape s = a->in[0]->shape;
    struct resize r = resize_of(a);
    double *x = t ? doubles(a, &s, e) : NULL;
    if (!x)
        return t ? false : op_refuse(a, a->out[0].dtype, e);
    if (!shape_elements(&s) && shape_elements(&a->out[0].shape)) {
        free(x);
        return op_fail(a, ERR_DATA_VALUES, e, "there is nothing to resize");
    }
    for (int64_t i = 0; i < shape_elements(&s); i++)
        x[i] = t->get_real(a->in[0]->data, i);
    for (int d = 0; d < s.rank; d++) {
        struct axis at = axis_of(a, d);
        bool crops = strcmp(r.coordinates, "tf_crop_and_resize") == 0 && slot_of(a, d) >= 0;
        int64_t outer = shape_count(&s, 0, d), inner = shape_count(&s, d + 1, s.rank);
        if (at.in == at.out && at.scale == 1 && !crops)
            continue;
        s.dim[d] = at.out;
        double *y = doubles(a, &s, e);
        bool ok = y && (resize_axis(&r, &at, outer, inner, x, y) || op_fail(a, ERR_MEMORY, e, "no memory for weights"));
        free(x);
        x = y;
        if (!ok) {
            free(x);
            return false;
        }
    }
    for (int64_t i = 0; i < shape_elements(&s); i++)
        t->put_real(a->out[0].data, i, t->real ? x[i] : rint(x[i]));
    free(x);
    return true;
}
