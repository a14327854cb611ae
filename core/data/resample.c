/* resample.c - pictures to another size, to the byte as Pillow does it (see picture.h). */
#include "core/data/picture.h"

#include <math.h>
#include <stdlib.h>

enum { FRACTION = 22 };                     /* bits behind the point: 8 for the pixel and 2 for what a cubic overshoots are left */

static double cubic(double x)
{
    static const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static const struct { double (*at)(double x); double support; } filters[] = {
    [RESAMPLE_BICUBIC] = { cubic, 2 },
    [RESAMPLE_BILINEAR] = { triangle, 1 },
};

/* For each pixel of the result the pixels it is made of, from `first` on, and their weights in fixed point. */
struct weights {
    int taps;                               /* room for each; unused ones are 0 */
    int *first, *count;                     /* [out] */
    int32_t *w;                             /* [out][taps] */
};

static void weights_free(struct weights *k)
{
    free(k->first);
    free(k->count);
    free(k->w);
}

static void fill_weights(struct weights *k, int in, int out, enum resample how, double *real)
{
    double scale = (double)in / out, wide = scale < 1 ? 1 : scale, support = filters[how].support * wide;
    for (int i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int from = (int)(center - support + 0.5), to = (int)(center + support + 0.5);
        from = from < 0 ? 0 : from;
        to = to > in ? in : to;
        for (int x = from; x < to; x++)
            sum += real[x - from] = filters[how].at((x - center + 0.5) * (1 / wide));
        k->first[i] = from;
        k->count[i] = to - from;
        for (int x = 0; x < to - from; x++) {
            double w = (sum != 0 ? real[x] / sum : real[x]) * (1 << FRACTION);
            k->w[(size_t)i * (size_t)k->taps + (size_t)x] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
    }
}

static bool weights_new(struct weights *k, int in, int out, enum resample how, struct err *e)
{
    double scale = (double)in / out;
    *k = (struct weights){ .taps = (int)ceil(filters[how].support * (scale < 1 ? 1 : scale)) * 2 + 1 };
    k->first = calloc((size_t)out, sizeof *k->first);
    k->count = calloc((size_t)out, sizeof *k->count);
    k->w = calloc((size_t)out * (size_t)k->taps, sizeof *k->w);
    double *real = calloc((size_t)k->taps, sizeof *real);
    bool ok = k->first && k->count && k->w && real;
    if (ok)
        fill_weights(k, in, out, how, real);
    else
        err_set(e, ERR_MEMORY, "resize", "no memory to resize a picture");
    free(real);
    return ok;
}

static uint8_t clip(int32_t x)
{
    x >>= FRACTION;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

/* One pixel from n taken `step` bytes apart. */
static void mix(const uint8_t *from, size_t step, const int32_t *w, int n, uint8_t *to)
{
    int32_t r = 1 << (FRACTION - 1), g = r, b = r;
    for (int i = 0; i < n; i++, from += step) {
        r += from[0] * w[i];
        g += from[1] * w[i];
        b += from[2] * w[i];
    }
    to[0] = clip(r);
    to[1] = clip(g);
    to[2] = clip(b);
}

/* Along rows (step 3) or along columns. */
static bool one_way(const struct picture *from, bool rows, int out, enum resample how, struct picture *ret, struct err *e)
{
    struct weights k = { 0 };
    size_t stride = (size_t)from->width * 3;
    /* The picture first: weights of one that is refused for its size may be far more than it. */
    bool ok = picture_alloc(ret, (uint64_t)(rows ? out : from->width), (uint64_t)(rows ? from->height : out), "resize", e)
           && weights_new(&k, rows ? from->width : from->height, out, how, e);
    uint8_t *to = ok ? ret->rgb : NULL;
    for (int y = 0; ok && y < ret->height; y++)
        for (int x = 0; x < ret->width; x++, to += 3) {
            int i = rows ? x : y, line = rows ? y : k.first[i], column = rows ? k.first[i] : x;
            mix(from->rgb + (size_t)line * stride + (size_t)column * 3, rows ? 3 : stride, k.w + (size_t)i * (size_t)k.taps, k.count[i], to);
        }
    weights_free(&k);
    if (!ok)
        picture_release(ret);
    return ok;
}

bool picture_resize(const struct picture *from, int width, int height, enum resample how, struct picture *ret, struct err *e)
{
    struct picture rows = PICTURE_NONE;
    *ret = PICTURE_NONE;
    if (width == from->width && height == from->height)
        return picture_crop(from, 0, 0, width, height, ret, e);
    if (width == from->width)
        return one_way(from, false, height, how, ret, e);
    if (height == from->height)
        return one_way(from, true, width, how, ret, e);
    bool ok = one_way(from, true, width, how, &rows, e) && one_way(&rows, false, height, how, ret, e);
    picture_release(&rows);
    return ok;
}
