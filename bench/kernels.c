/*
 * kernels.c - the speed of every kernel but gemm, beside its reference.
 *
 *   make build/libcore.a
 *   gcc -std=gnu17 -D_GNU_SOURCE -I. -O2 -ffp-contract=off bench/kernels.c build/libcore.a \
 *       -lopenblas -ljansson -lnettle -lz -lm -pthread -o build/bench-kernels
 *   build/bench-kernels [substring of a kernel's name]
 *
 * Each row: elements a second of one thread, once on a tensor that fits the
 * second-level cache (32 Ki floats) and once on one that does not (4 Mi), the
 * bytes read and written a second for the large one, and the reference's speed
 * on the small one.  A figure is the median of several rounds; compare it with
 * the "copy" row, which is memcpy.
 */
#include "core/kernel/kernel.h"
#include "core/kernel/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SMALL = 32 << 10, LARGE = 4 << 20, ROW = 384, ROUNDS = 9 };

static float *x, *y, *row, *row2;
static int32_t *acc;
static uint8_t *codes;

#define ROWS(n) ((n) / ROW), ROW
static const struct conv_shape patches = { 3, 224, 224, 16, 16, 16, 16, 0, 0, 1, 1, 14, 14 };

static void use_copy(size_t n) { memcpy(y, x, n * sizeof *y); }
static void patch_images(size_t n, void (*f)(const struct conv_shape *, const float *, float *))
{
    size_t image = patches.c * patches.h * patches.w;
    for (size_t at = 0; at + image <= n; at += image)
        f(&patches, x + at, y + at);
}

/* KERNEL(name, bytes read and written an element, call): use_name() runs the fast one, ref_use_name() the reference. */
#define KERNELS(KERNEL)                                                                                      \
    KERNEL(layernorm, 8, layernorm(ROWS(n), x, row, row2, 1e-5f, y))                                     \
    KERNEL(rmsnorm, 8, rmsnorm(ROWS(n), x, row, 1e-5f, y))                                               \
    KERNEL(softmax197, 8, softmax(n / 197, 197, x, y))                                                   \
    KERNEL(softmax, 8, softmax(ROWS(n), x, y))                                                           \
    KERNEL(log_softmax, 8, log_softmax(ROWS(n), x, y))                                                   \
    KERNEL(exp, 8, vec_exp(n, x, y))                                                                     \
    KERNEL(erf, 8, vec_erf(n, x, y))                                                                     \
    KERNEL(tanh, 8, vec_tanh(n, x, y))                                                                   \
    KERNEL(sigmoid, 8, vec_sigmoid(n, x, y))                                                             \
    KERNEL(gelu, 8, vec_gelu(n, x, y))                                                                   \
    KERNEL(silu, 8, vec_silu(n, x, y))                                                                   \
    KERNEL(affine_row, 8, vec_affine_row(ROWS(n), x, row, row, y))                                       \
    KERNEL(add_row, 8, vec_add_row(ROWS(n), x, row, y))                                                  \
    KERNEL(transpose, 8, transpose_2d(ROWS(n), x, ROW, y, n / ROW))                                      \
    KERNEL(quantize_u8, 5, quantize_u8(n, x, 0.05f, 128, 0, 255, codes))                                 \
    KERNEL(quantize_i8, 5, quantize_i8(n, x, 0.05f, 0, -128, 127, (int8_t *)codes))                      \
    KERNEL(quantize_to_float, 8, quantize_to_float(n, x, 0.05f, 128, 0, 255, y))                         \
    KERNEL(dequantize_u8, 5, dequantize_u8(n, codes, 0.05f, 128, y))                                     \
    KERNEL(dequantize_i8, 5, dequantize_i8(n, (int8_t *)codes, 0.05f, 0, y))                             \
    KERNEL(dequantize_acc, 8, dequantize_acc(ROWS(n), acc, ROW, row, ROW, row2, y, ROW))                 \
    KERNEL(rounding_error, 4, rounding_error(n, x, NULL, -1, 0.1f, 15))                                  \
    KERNEL(round_columns, 8, round_columns(ROWS(n), x, row, row2, 15, y))                                \
    KERNEL(range_of, 4, range_of(n, x, &(struct range){ .lo = 1e30f, .hi = -1e30f }))                    \
    KERNEL(range_of_columns, 4, range_of_columns(ROWS(n), x, y, y + ROW))

#define USES(name, bytes, call)                          \
    static void use_##name(size_t n) { call; }    \
    static void ref_use_##name(size_t n) { ref_##call; }
KERNELS(USES)

static void use_im2col(size_t n) { patch_images(n, im2col); }
static void ref_use_im2col(size_t n) { patch_images(n, ref_im2col); }

static const struct bench {
    const char *name;
    void (*fast)(size_t n), (*ref)(size_t n);
    double bytes;    /* read and written an element */
} benches[] = {
    { "copy", use_copy, use_copy, 8 },
#define ROW_OF(name, bytes, call) { #name, use_##name, ref_use_##name, bytes },
    KERNELS(ROW_OF)
    { "im2col", use_im2col, ref_use_im2col, 8 },
};

/* Processor time, so that a neighbour on the machine does not count. */
static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

/* Elements a second: the median of ROUNDS rounds of about 10 ms. */
static double speed(void (*f)(size_t n), size_t n)
{
    double rates[ROUNDS];
    size_t times = 1;
    f(n);
    for (int round = 0; round < ROUNDS; ) {
        double start = clock_seconds();
        for (size_t i = 0; i < times; i++)
            f(n);
        double seconds = clock_seconds() - start;
        if (seconds < 0.005)
            times *= 2;
        else
            rates[round++] = (double)(n * times) / seconds;
    }
    qsort(rates, ROUNDS, sizeof *rates, by_value);
    return rates[ROUNDS / 2];
}

static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, bytes);
    if (!p) {
        fprintf(stderr, "bench: no memory\n");
        exit(3);
    }
    memset(p, 1, bytes);
    return p;
}

static void prepare(void)
{
    x = room(LARGE * sizeof *x);
    y = room(LARGE * sizeof *y);
    acc = room(LARGE * sizeof *acc);
    codes = room(LARGE);
    row = room(ROW * sizeof *row);
    row2 = room(ROW * sizeof *row2);
    for (size_t i = 0; i < LARGE; i++)
        x[i] = (float)((i * 2654435761u) >> 8 & 0xffff) / 8192 - 4;
    for (size_t i = 0; i < ROW; i++)
        row[i] = row2[i] = 0.5f + (float)i / ROW;
}

int main(int argc, char **argv)
{
    prepare();
    printf("%s; million elements a second, one thread\n", cpu_features());
    printf("%-20s %9s %9s %9s %9s %7s\n", "kernel", "in cache", "large", "GB/s", "ref", "ratio");
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        const struct bench *b = &benches[i];
        if (argc > 1 && !strstr(b->name, argv[1]))
            continue;
        size_t n = b->fast == use_im2col ? patches.c * patches.h * patches.w : SMALL;
        double small = speed(b->fast, n), large = speed(b->fast, LARGE), ref = speed(b->ref, n);
        printf("%-20s %9.0f %9.0f %9.1f %9.0f %6.1fx\n", b->name, small / 1e6, large / 1e6,
               large * b->bytes / 1e9, ref / 1e6, small / ref);
    }
    return 0;
}
