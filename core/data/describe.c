#include "core/data/convert.h"
#include "core/data/picture.h"

#include <math.h>
#include <stdlib.h>

struct summary { double sum; int64_t counted, nan, inf; json_t *min, *max; };

/* NaN and infinities are counted, and left out of everything else. */
static void summarize_reals(const struct tensor *t, int64_t n, struct summary *ret)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double x = tensor_real(t, i);
        ret->nan += isnan(x) != 0;
        ret->inf += isinf(x) != 0;
        if (!isfinite(x))
            continue;
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
        ret->sum += x;
        ret->counted++;
    }
    ret->min = json_finite(lo);
    ret->max = json_finite(hi);
}

/* Whole numbers stay whole: a token id of 2^53 + 1 is printed as it is. */
static void summarize_integers(const struct tensor *t, int64_t n, struct summary *ret)
{
    int64_t lo = INT64_MAX, hi = INT64_MIN;
    for (int64_t i = 0; i < n; i++) {
        int64_t x = 0;
        if (!tensor_integer(t, i, &x))
            x = INT64_MAX;                 /* uint64 over 2^63: no dataset has a use for it, and JSON has no number for it */
        lo = x < lo ? x : lo;
        hi = x > hi ? x : hi;
        ret->sum += (double)x;
    }
    ret->counted = n;
    ret->min = n ? json_integer(lo) : json_null();
    ret->max = n ? json_integer(hi) : json_null();
}

static json_t *describe_array(const struct array *a)
{
    struct summary s = { 0 };
    json_t *shape = json_array();
    for (int i = 0; i < a->t.shape.rank; i++)
        json_array_append_new(shape, json_integer(a->t.shape.dim[i]));
    int64_t n = shape_elements(&a->t.shape);
    if (dtype_is_float(a->t.dtype))
        summarize_reals(&a->t, n, &s);
    else
        summarize_integers(&a->t, n, &s);
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "name", a->name, "dtype", dtype_name(a->t.dtype), "shape", shape,
                     "min", s.min, "max", s.max, "mean", json_finite(s.sum / (double)s.counted),
                     "nan_count", (json_int_t)s.nan, "inf_count", (json_int_t)s.inf);
}

/* The length that all arrays have on axis 0, or -1. */
static int64_t common_rows(const struct dataset *d)
{
    int64_t rows = -1;
    for (size_t i = 0; i < d->n; i++) {
        const struct shape *s = &d->arrays[i].t.shape;
        if (s->rank < 1 || (i > 0 && s->dim[0] != rows))
            return -1;
        rows = s->dim[0];
    }
    return rows;
}

/* {"file", "width", "height", "png": base64}. */
static json_t *describe_preview(const struct preview *p)
{
    enum { PNG_MAX = 1 << 20 };
    struct picture picture = { p->width, p->height, p->rgb };
    struct buf png = BUF_INIT(PNG_MAX);
    char *text = picture_png(&picture, &png) ? base64_encode(png.p, png.n) : NULL;
    json_t *o = text ? json_pack("{s:s, s:i, s:i, s:s}", "file", p->file, "width", p->width, "height", p->height, "png", text) : NULL;
    free(text);
    buf_release(&png);
    return o;
}

static json_t *describe_previews(const struct dataset *d)
{
    if (!d->n_previews)
        return NULL;
    json_t *all = json_array();
    for (size_t i = 0; i < d->n_previews; i++)
        if (json_array_append_new(all, describe_preview(&d->previews[i])) != 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

json_t *dataset_describe(const struct dataset *d)
{
    int64_t rows = common_rows(d);
    json_t *arrays = json_array();
    for (size_t i = 0; i < d->n; i++)
        if (json_array_append_new(arrays, describe_array(&d->arrays[i])) != 0) {
            json_decref(arrays);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:o, s:b, s:o*}", "format", d->format, "samples", rows < 0 ? json_null() : json_integer(rows),
                     "arrays", arrays, "has_labels", dataset_find(d, "labels") != NULL,
                     "previews", describe_previews(d));
}
