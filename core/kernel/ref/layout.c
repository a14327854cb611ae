/* Moving elements about. */
#include "core/kernel/ref/ref.h"

void ref_transpose_2d(size_t rows, size_t cols, const float *x, size_t ldx, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            y[c * ldy + r] = x[r * ldx + c];
}

/* The padded image's element (iy, ix), counted from the padding's corner. */
static float pixel(const struct conv_shape *s, const float *x, size_t c, size_t iy, size_t ix)
{
    if (iy < s->pad_top || iy - s->pad_top >= s->h || ix < s->pad_left || ix - s->pad_left >= s->w)
        return 0;
    return x[(c * s->h + iy - s->pad_top) * s->w + ix - s->pad_left];
}

void ref_im2col(const struct conv_shape *s, const float *x, float *cols)
{
    for (size_t oy = 0; oy < s->oh; oy++)
        for (size_t ox = 0; ox < s->ow; ox++)
            for (size_t c = 0; c < s->c; c++)
                for (size_t ky = 0; ky < s->kh; ky++)
                    for (size_t kx = 0; kx < s->kw; kx++)
                        *cols++ = pixel(s, x, c, oy * s->stride_h + ky * s->dil_h, ox * s->stride_w + kx * s->dil_w);
}
