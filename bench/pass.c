/*
 * pass.c - what float passes of a model cost inside one process: bench/float_pass.py puts it beside ONNX Runtime.
 *
 *   build/bench/pass MODEL INPUTS.npz BATCH THREADS      prints wall and processor seconds of a batch
 *
 * All samples once, so that memory is there, then again on the clock.  Loading and writing do not count.
 */
#include "core/base/clock.h"
#include "core/cli/load.h"
#include "core/exec/run.h"
#include "core/kernel/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static bool nothing(void *arg, int chunk, int thread, struct frame *f, struct err *e)
{
    (void)arg, (void)chunk, (void)thread, (void)f, (void)e;
    return true;
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* 1 to a million; 0: not a number. */
static int number(const char *s)
{
    char *end;
    long n = strtol(s, &end, 10);
    return *end == '\0' && n > 0 && n <= 1000000 ? (int)n : 0;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    struct loaded_model m = { 0 };
    struct loaded_data d = { 0 };
    struct chunks c;
    struct pool *pool = NULL;
    struct arena *mem = arena_new(UINT64_MAX / 2);
    int batch = argc == 5 ? number(argv[3]) : 0, threads = argc == 5 ? number(argv[4]) : 0;
    if (!batch || !threads || !mem) {
        fprintf(stderr, "usage: pass MODEL INPUTS.npz BATCH THREADS\n");
        return 2;
    }
    struct file_ref inputs = { argv[2], argv[2], -1 };
    bool ok = blas_init(&e) && load_model_path(&m, argv[1], &e) && load_samples(&d, &inputs, m.g, "/tmp", &e)
           && chunks_new(&c, m.g, &m.how, mem, &d.samples, batch, 0, &e) && (pool = pool_new(threads, &e))
           && chunks_run(&c, &m.how, pool, nothing, NULL, &e);
    int64_t wall = clock_mono_us();
    double cpu = processor_seconds();
    ok = ok && chunks_run(&c, &m.how, pool, nothing, NULL, &e);
    if (ok)
        printf("%.6f %.6f\n", 1e-6 * (double)(clock_mono_us() - wall) / c.n, (processor_seconds() - cpu) / c.n);
    else
        fprintf(stderr, "pass: %s: %s\n", e.where, e.text);
    pool_free(pool);
    arena_free(mem);
    loaded_data_release(&d);
    loaded_model_release(&m);
    return ok ? 0 : 1;
}
