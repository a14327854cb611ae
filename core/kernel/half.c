/* 16-bit floats to float32. */
#include "core/base/half.h"
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

KERNEL_CLONES static void of_f16(size_t n, const uint16_t *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = half_of_f16(x[i]);
}

KERNEL_CLONES static void of_bf16(size_t n, const uint16_t *x, float *y)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        y[i] = half_of_bf16(x[i]);
}

void vec_widen(size_t n, enum dtype from, const void *x, float *y)
{
    if (from == DT_F16)
        of_f16(n, x, y);
    else
        of_bf16(n, x, y);
}
