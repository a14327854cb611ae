/* op_conv.c - Conv in one or two dimensions, with groups; one dimension is two with a height of 1. */
#include "core/exec/op_internal.h"

#include "core/kernel/kernel.h"

/* x[images, groups * in_c, h, w], weight[groups * out_c, in_c, kh, kw] -> y[images, groups * out_c, oh, ow] */
struct conv {
    int64_t images, groups, in_c, out_c;
    int64_t h, w, kh, kw, oh, ow;
    int64_t stride_h, stride_w, dil_h, dil_w, top, left;
};

/* Element d of an attribute over the spatial dimensions, seen as two. */
static int64_t spatial(const struct op_args *a, const char *name, int spatial_rank, int d, int64_t fallback)
{
    size_t n;
    const int64_t *list = node_ints(a->node, name, &n);
    int at = d - (2 - spatial_rank);
    return list && at >= 0 ? list[at] : fallback;
}

/* Padding before dimension d: given, or chosen so that the output is ceil(in / stride) long. */
static int64_t pad_before(const struct op_args *a, int spatial_rank, int d, int64_t in, int64_t out,
                          int64_t stride, int64_t kernel_extent)
{
    const char *mode = node_str(a->node, "auto_pad", "NOTSET");
    if (mode[0] != 'S')
        return mode[0] == 'N' ? spatial(a, "pads", spatial_rank, d, 0) : 0;     /* NOTSET; VALID */
    int64_t total = (out - 1) * stride + kernel_extent - in;
    total = total < 0 ? 0 : total;
    bool lower = node_str(a->node, "auto_pad", "")[5] == 'L';                   /* SAME_LOWER */
    return lower ? total - total / 2 : total / 2;
}

static bool conv_of(const struct op_args *a, struct conv *ret, struct err *e)
{
    const struct shape *x = &a->in[0]->shape, *k = &a->in[1]->shape, *y = &a->out[0].shape;
    int rank = x->rank - 2;
    if (rank < 1 || rank > 2)
        return op_fail(a, ERR_MODEL_OP, e, "only convolutions over one or two dimensions are supported, not %d", rank);

    *ret = (struct conv){
        .images = x->dim[0], .groups = node_int(a->node, "group", 1), .in_c = k->dim[1],
        .h = rank == 2 ? x->dim[2] : 1,  .w = x->dim[rank + 1],
        .kh = rank == 2 ? k->dim[2] : 1, .kw = k->dim[rank + 1],
        .oh = rank == 2 ? y->dim[2] : 1, .ow = y->dim[rank + 1],
        .stride_h = spatial(a, "strides", rank, 0, 1),   .stride_w = spatial(a, "strides", rank, 1, 1),
        .dil_h = spatial(a, "dilations", rank, 0, 1),    .dil_w = spatial(a, "dilations", rank, 1, 1),
    };
    ret->out_c = k->dim[0] / ret->groups;
    if (rank == 2)
        ret->top = pad_before(a, rank, 0, ret->h, ret->oh, ret->stride_h, (ret->kh - 1) * ret->dil_h + 1);
    ret->left = pad_before(a, rank, 1, ret->w, ret->ow, ret->stride_w, (ret->kw - 1) * ret->dil_w + 1);
    return true;
}

/* ---- reference ---- */

/* The sum over one window: `x` and `k` are the offsets of the group's first channel and of the filter. */
static double window(const struct op_args *a, const struct elem *const *t, const struct conv *c,
                     int64_t x, int64_t k, int64_t row, int64_t col)
{
    double sum = 0;
    for (int64_t ch = 0; ch < c->in_c; ch++)
        for (int64_t i = 0; i < c->kh; i++)
            for (int64_t j = 0; j < c->kw; j++) {
                int64_t r = row * c->stride_h - c->top + i * c->dil_h, s = col * c->stride_w - c->left + j * c->dil_w;
                if (r < 0 || r >= c->h || s < 0 || s >= c->w)
                    continue;
                sum += t[1]->get_real(a->in[0]->data, x + (ch * c->h + r) * c->w + s) *
                       t[2]->get_real(a->in[1]->data, k + (ch * c->kh + i) * c->kw + j);
            }
    return sum;
}

/* One output channel of one image. */
static void channel(const struct op_args *a, const struct elem *const *t, const struct conv *c, int64_t image, int64_t out)
{
    int64_t group = out / c->out_c, filter = c->in_c * c->kh * c->kw;
    int64_t x = (image * c->groups + group) * c->in_c * c->h * c->w;
    int64_t y = (image * c->groups * c->out_c + out) * c->oh * c->ow;
    double bias = op_in(a, 2) ? t[3]->get_real(a->in[2]->data, out) : 0;
    for (int64_t row = 0; row < c->oh; row++)
        for (int64_t col = 0; col < c->ow; col++)
            t[0]->put_real(a->out[0].data, y + row * c->ow + col, bias + window(a, t, c, x, out * filter, row, col));
}

bool op_conv(const struct op_args *a, struct err *e)
{
    const struct elem *t[ELEMS_MAX];
    struct conv c = { 0 };
    if (!op_elems(a, t, e) || !conv_of(a, &c, e))
        return false;
    if (op_gives_nothing(a))
        return true;
    for (int64_t image = 0; image < c.images; image++)
        for (int64_t out = 0; out < c.groups * c.out_c; out++)
            channel(a, t, &c, image, out);
    return true;
}

/* ---- float32: columns and a matrix product for each image and group ---- */

/* More scratch than this is not asked for: the reference serves. */
#define MAX_COLUMNS ((uint64_t)1 << 30)

/* [oh*ow, in_c*kh*kw]; not needed where the image is its own columns, transposed. */
static bool is_pointwise(const struct conv *c)
{
    return c->kh == 1 && c->kw == 1 && c->stride_h == 1 && c->stride_w == 1 && c->oh == c->h && c->ow == c->w
        && c->top == 0 && c->left == 0;
}

/* Floats of columns, or UINT64_MAX if that is too many; the factors are bounded only by tensor_size(). */
static uint64_t columns(const struct conv *c)
{
    uint64_t n;
    if (__builtin_mul_overflow((uint64_t)(c->oh * c->ow), (uint64_t)(c->in_c * c->kh * c->kw), &n)
        || n > MAX_COLUMNS / sizeof(float))
        return UINT64_MAX;
    return n;
}

uint64_t op_conv_scratch(const struct op_args *a)
{
    struct conv c = { 0 };
    if (!conv_of(a, &c, NULL) || is_pointwise(&c) || columns(&c) == UINT64_MAX)
        return 0;
    return columns(&c) * sizeof(float);
}

static struct conv_shape window_of(const struct conv *c)
{
    return (struct conv_shape){
        .c = (size_t)c->in_c, .h = (size_t)c->h, .w = (size_t)c->w, .kh = (size_t)c->kh, .kw = (size_t)c->kw,
        .stride_h = (size_t)c->stride_h, .stride_w = (size_t)c->stride_w,
        .pad_top = (size_t)c->top, .pad_left = (size_t)c->left,
        .dil_h = (size_t)c->dil_h, .dil_w = (size_t)c->dil_w, .oh = (size_t)c->oh, .ow = (size_t)c->ow,
    };
}

/* y[out_c, oh*ow] = filters[out_c, depth] * columns, one image and group. */
static void group_product(const struct conv *c, const float *x, const float *filters, float *cols, float *y)
{
    size_t depth = (size_t)(c->in_c * c->kh * c->kw), positions = (size_t)(c->oh * c->ow), m = (size_t)c->out_c;
    if (is_pointwise(c)) {
        gemm(false, false, m, positions, depth, filters, depth, x, positions, false, y, positions);
        return;
    }
    struct conv_shape s = window_of(c);
    im2col(&s, x, cols);
    gemm(false, true, m, positions, depth, filters, depth, cols, depth, false, y, positions);
}

static void add_bias(int64_t channels, int64_t positions, const float *bias, float *y)
{
    for (int64_t ch = 0; ch < channels; ch++)
        for (int64_t i = 0; i < positions; i++)
            y[ch * positions + i] += bias[ch];
}

bool op_conv_fast(const struct op_args *a, struct err *e)
{
    struct conv c = { 0 };
    if (!conv_of(a, &c, e))
        return false;
    if (op_gives_nothing(a))
        return true;
    if (!op_all_f32(a) || (!is_pointwise(&c) && columns(&c) == UINT64_MAX))
        return op_conv(a, e);

    const float *bias = op_in(a, 2) ? op_in(a, 2)->data : NULL;
    int64_t in = c.in_c * c.h * c.w, filter = c.out_c * c.in_c * c.kh * c.kw, out = c.out_c * c.oh * c.ow;
    const float *x = a->in[0]->data;
    float *y = a->out[0].data;
    for (int64_t image = 0; image < c.images; image++) {
        for (int64_t g = 0; g < c.groups; g++)
            group_product(&c, x + (image * c.groups + g) * in, (const float *)a->in[1]->data + g * filter, a->scratch,
                          y + (image * c.groups + g) * out);
        if (bias)
            add_bias(c.groups * c.out_c, c.oh * c.ow, bias, y + image * c.groups * out);
    }
    return true;
}
