/*
 * gemm.c - the speed of sgemm on the shapes of a ViT, and what exactness costs.
 *
 *   make build/libcore.a
 *   gcc -std=gnu17 -D_GNU_SOURCE -I. -O2 -ffp-contract=off bench/gemm.c build/libcore.a \
 *       -lopenblas -ljansson -lnettle -lz -lm -pthread -o build/bench-gemm
 *   build/bench-gemm
 *
 * One thread.  GF/s counts two operations a multiply-add.  gemm_exact() runs on
 * codes of u8 activations and s8 weights (K chunks of 518) and of 4 bits (one
 * chunk); its share is of the same sgemm in the same round, so that a busy
 * machine slows both.  Figures are medians of several rounds.
 */
#include "core/kernel/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 11, LARGEST = 1024 * 1024 };

static const struct { size_t m, n, k; } shapes[] = {
    { 788, 192, 576 }, { 788, 192, 768 }, { 788, 768, 192 }, { 512, 512, 512 }, { 197, 768, 768 }, { 197, 197, 64 },
};

static float *a, *b, *c;
static int32_t *acc;

/* Processor time, so that a neighbour on the machine does not count. */
static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *p, const void *q)
{
    double d = *(const double *)p - *(const double *)q;
    return (d > 0) - (d < 0);
}

static double median(double *x)
{
    qsort(x, ROUNDS, sizeof *x, by_value);
    return x[ROUNDS / 2];
}

/* Seconds of one call, from enough of them to be measured.  a_max 0: plain sgemm. */
static double seconds(size_t m, size_t n, size_t k, bool b_trans, int a_max, int b_max)
{
    size_t calls = 1 + (size_t)(2e7 / ((double)m * (double)n * (double)k + 1)), ldb = b_trans ? k : n;
    double start = clock_seconds();
    for (size_t i = 0; i < calls; i++) {
        if (a_max > 0)
            gemm_exact(b_trans, m, n, k, a, k, a_max, b, ldb, b_max, acc, n, c);
        else
            gemm(false, b_trans, m, n, k, a, k, b, ldb, false, c, n);
    }
    return (clock_seconds() - start) / (double)calls;
}

static void measure(size_t m, size_t n, size_t k, bool b_trans)
{
    double speed[ROUNDS], wide[ROUNDS], narrow[ROUNDS], flops = 2e-9 * (double)m * (double)n * (double)k;
    for (int i = 0; i < ROUNDS; i++) {
        double plain = seconds(m, n, k, b_trans, 0, 0);
        speed[i] = flops / plain;
        wide[i] = plain / seconds(m, n, k, b_trans, 255, 127);
        narrow[i] = plain / seconds(m, n, k, b_trans, 15, 7);
    }
    printf("%4zux%4zux%4zu %-3s %8.1f GF/s %9.0f %% %9.0f %%\n", m, n, k, b_trans ? "b^T" : "",
           median(speed), 100 * median(wide), 100 * median(narrow));
}

static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, bytes);
    if (!p) {
        fprintf(stderr, "bench: no memory\n");
        exit(3);
    }
    return p;
}

int main(void)
{
    struct err e = { 0 };
    if (!blas_init(&e)) {
        fprintf(stderr, "bench: %s: %s\n", e.where, e.text);
        return 3;
    }
    a = room(LARGEST * sizeof *a);
    b = room(LARGEST * sizeof *b);
    c = room(LARGEST * sizeof *c);
    acc = room(LARGEST * sizeof *acc);
    for (size_t i = 0; i < LARGEST; i++) {
        a[i] = (float)(i * 2654435761u >> 16 & 15);
        b[i] = (float)(i * 2246822519u >> 16 & 15) - 7;
    }
    printf("kernel %s (%s)\n", blas_kernel(), blas_config());
    printf("%-18s %13s %11s %11s\n", "m x n x k", "sgemm", "exact u8s8", "exact u4s4");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        measure(shapes[i].m, shapes[i].n, shapes[i].k, false);
        measure(shapes[i].m, shapes[i].n, shapes[i].k, true);
    }
    return 0;
}
