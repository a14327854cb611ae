/* Moving elements about. */
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <string.h>

enum { LINE = 16, QUAD = 4 };    /* floats in a cache line, in a 128-bit register */

typedef float quad __attribute__((vector_size(16)));

KERNEL_INLINE quad load(const float *p)
{
    quad v;
    memcpy(&v, p, sizeof v);
    return v;
}

KERNEL_INLINE void store(float *p, quad v) { memcpy(p, &v, sizeof v); }

KERNEL_INLINE void transpose_quad(const float *x, size_t ldx, float *y, size_t ldy)
{
    quad a = load(x), b = load(x + ldx), c = load(x + 2 * ldx), d = load(x + 3 * ldx);
    quad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store(y, __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5));
    store(y + ldy, __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7));
    store(y + 2 * ldy, __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5));
    store(y + 3 * ldy, __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7));
}

static void transpose_rest(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            y[c * ldy + r] = x[r * ldx + c];
}

/* A band of 16 rows fills whole lines of y while its own 16 lines of x stay in the cache. */
static void transpose_band(size_t cols, const float *x, size_t ldx, float *y, size_t ldy)
{
    size_t c = 0;
    for (; c + QUAD <= cols; c += QUAD)
        for (size_t r = 0; r < LINE; r += QUAD)
            transpose_quad(x + r * ldx + c, ldx, y + c * ldy + r, ldy);
    transpose_rest(LINE, cols - c, x + c, ldx, y + c * ldy, ldy);
}

void transpose_2d(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy)
{
    size_t r = 0;
    for (; r + LINE <= rows; r += LINE)
        transpose_band(cols, x + r * ldx, ldx, y + r, ldy);
    transpose_rest(rows - r, cols, x + r * ldx, ldx, y + r, ldy);
}

/* ---- im2col ---- */

/* One kernel row: kw pixels of an image row of w, the first at column ix of the padded row. */
KERNEL_INLINE void copy_row(const struct conv_shape *s, const float *row, size_t ix, float *out)
{
    bool inside = s->dil_w == 1 && ix >= s->pad_left && ix - s->pad_left + s->kw <= s->w;
    if (inside) {
        const float *from = row + (ix - s->pad_left);
        for (size_t kx = 0; kx < s->kw; kx++)
            out[kx] = from[kx];
        return;
    }
    for (size_t kx = 0; kx < s->kw; kx++, ix += s->dil_w)
        out[kx] = ix >= s->pad_left && ix - s->pad_left < s->w ? row[ix - s->pad_left] : 0;
}

static void copy_patch(const struct conv_shape *s, const float *x, size_t iy0, size_t ix, float *out)
{
    for (size_t c = 0; c < s->c; c++)
        for (size_t ky = 0; ky < s->kh; ky++, out += s->kw) {
            size_t iy = iy0 + ky * s->dil_h;
            if (iy >= s->pad_top && iy - s->pad_top < s->h)
                copy_row(s, x + (c * s->h + iy - s->pad_top) * s->w, ix, out);
            else
                memset(out, 0, s->kw * sizeof *out);
        }
}

void im2col(const struct conv_shape *s, const float *x, float *cols)
{
    size_t length = s->c * s->kh * s->kw;
    for (size_t oy = 0; oy < s->oh; oy++)
        for (size_t ox = 0; ox < s->ow; ox++, cols += length)
            copy_patch(s, x, oy * s->stride_h, ox * s->stride_w, cols);
}
