/* Matrix products on OpenBLAS, and the check that OpenBLAS is to be trusted. */
#include "core/base/pool.h"
#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

const char *blas_kernel(void) { return openblas_get_corename(); }
const char *blas_config(void) { return openblas_get_config(); }

static void clear(size_t m, size_t n, float *c, size_t ldc)
{
    if (ldc == n)
        memset(c, 0, m * n * sizeof *c);
    for (size_t i = 0; ldc != n && i < m; i++)
        memset(c + i * ldc, 0, n * sizeof *c);
}

/*
 * OpenBLAS packs b in strips of a few columns: one cache line of each row, so what comes from memory comes a miss at a time.
 * Asked for in order and before, a matrix that fits the second cache comes as fast as memory goes.
 */
static void fetch(size_t rows, size_t cols, const float *b, size_t ldb)
{
    enum { FITS = 1 << 18, LINE = 16 };     /* elements */
    for (size_t i = 0; rows * cols <= FITS && i < rows; i++)
        for (size_t j = 0; j < cols; j += LINE)
            __builtin_prefetch(b + i * ldb + j, 0, 2);
}

void gemm(bool a_trans, bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda,
          const float *b, size_t ldb, bool accumulate, float *c, size_t ldc)
{
    if (m == 0 || n == 0)
        return;
    if (!accumulate)
        clear(m, n, c, ldc);    /* for beta = 0 OpenBLAS does the same, slower, and adds then, too */
    if (k == 0)
        return;                 /* a leading dimension of 0 is an error to BLAS */
    fetch(b_trans ? n : k, b_trans ? k : n, b, ldb);
    cblas_sgemm(CblasRowMajor, a_trans ? CblasTrans : CblasNoTrans, b_trans ? CblasTrans : CblasNoTrans,
                (blasint)m, (blasint)n, (blasint)k, 1, a, (blasint)lda, b, (blasint)ldb,
                1, c, (blasint)ldc);
}

/* ---- exact integer products ---- */

enum { EXACT = 1 << 24 };    /* every integer up to here is a float */

KERNEL_CLONES
static void take(size_t m, size_t n, const float *part, bool add, int32_t *acc, size_t ldc)
{
    for (size_t i = 0; i < m; i++, part += n, acc += ldc) {
        KERNEL_LOOP
        for (size_t j = 0; j < n; j++)
            acc[j] = (add ? acc[j] : 0) + (int32_t)part[j];
    }
}

/* Terms whose sum stays exact in float, cut evenly: a short last chunk would be slow. */
static size_t chunk_length(size_t k, size_t largest_product)
{
    size_t longest = largest_product == 0 ? k : EXACT / largest_product;
    size_t chunks = longest == 0 ? k : (k + longest - 1) / longest;
    return chunks == 0 ? 1 : (k + chunks - 1) / chunks;
}

bool gemm_is_exact(size_t k, int a_max, int b_max) { return chunk_length(k, (size_t)a_max * (size_t)b_max) >= k; }

void gemm_exact(bool b_trans, size_t m, size_t n, size_t k, const float *a, size_t lda, int a_max,
                const float *b, size_t ldb, int b_max, int32_t *acc, size_t ldc, float *scratch)
{
    size_t step = chunk_length(k, (size_t)a_max * (size_t)b_max), p = 0;
    do {
        size_t len = k - p < step ? k - p : step;
        gemm(false, b_trans, m, n, len, a + p, lda, b_trans ? b + p : b + p * ldb, ldb, false, scratch, n);
        take(m, n, scratch, p > 0, acc, ldc);
        p += step;
    } while (p < k);
}

/* ---- sums of products over rows, in double ---- */

KERNEL_CLONES
static void add_to_doubles(size_t n, const float *part, double *sum)
{
    KERNEL_LOOP
    for (size_t i = 0; i < n; i++)
        sum[i] += (double)part[i];
}

void gram_exact(size_t rows, size_t n, const float *a, size_t lda, int a_max, double *h, float *scratch)
{
    size_t step = chunk_length(rows, (size_t)a_max * (size_t)a_max);
    for (size_t r = 0; n > 0 && r < rows; r += step) {
        size_t len = rows - r < step ? rows - r : step;
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)n, (blasint)len, 1, a + r * lda, (blasint)lda,
                    0, scratch, (blasint)n);
        for (size_t i = 0; i < n; i++)
            add_to_doubles(n - i, scratch + i * n + i, h + i * n + i);
    }
}

void cross_add(size_t rows, size_t m, size_t n, const float *y, size_t ldy, const float *a, size_t lda,
               double *c, float *scratch)
{
    gemm(true, false, m, n, rows, y, ldy, a, lda, false, scratch, n);
    add_to_doubles(m * n, scratch, c);
}

void gemm_double(size_t m, size_t n, size_t k, const float *a, const double *b, double *c, double *scratch)
{
    for (size_t i = 0; i < m * k; i++)
        scratch[i] = (double)a[i];
    if (m && n && k)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1, scratch, (blasint)k, b, (blasint)n,
                    0, c, (blasint)n);
    else
        memset(c, 0, m * n * sizeof *c);
}

/* ---- the self-test ---- */

enum { SIDE = 41, DEPTH = 67, PITCH = DEPTH + 2 };    /* PITCH: rows longer than the matrix */

struct trial {
    float a[PITCH * PITCH], b[PITCH * PITCH], c[SIDE * PITCH];
};

/* Small integers, so that a right answer is right to the last bit in any order of summation. */
static void fill(size_t n, float *x, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((int)(seed >> 24) - 128);
    }
}

static float expected(const struct trial *t, bool a_trans, bool b_trans, size_t i, size_t j, size_t k)
{
    float sum = 0;
    for (size_t p = 0; p < k; p++)
        sum += (a_trans ? t->a[p * PITCH + i] : t->a[i * PITCH + p]) *
               (b_trans ? t->b[j * PITCH + p] : t->b[p * PITCH + j]);
    return sum;
}

static bool try_case(struct trial *t, const size_t *mnk, bool a_trans, bool b_trans, struct err *e)
{
    size_t m = mnk[0], n = mnk[1], k = mnk[2];
    for (size_t i = 0; i < SIDE * PITCH; i++)
        t->c[i] = NAN;
    gemm(a_trans, b_trans, m, n, k, t->a, PITCH, t->b, PITCH, false, t->c, PITCH);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float want = expected(t, a_trans, b_trans, i, j, k), got = t->c[i * PITCH + j];
            if (got != want)
                return err_set(e, ERR_BLAS, "sgemm", "%zux%zux%zu%s%s: element (%zu,%zu) is %g instead of %g "
                               "with OpenBLAS kernel %s; install another build or set OPENBLAS_CORETYPE",
                               m, n, k, a_trans ? " a transposed" : "", b_trans ? " b transposed" : "", i, j,
                               (double)got, (double)want, blas_kernel());
        }
    return true;
}

static bool try_all(struct trial *t, struct err *e)
{
    static const size_t sizes[][3] = {
        { 1, 1, 1 }, { 1, 17, 33 }, { 5, 1, 67 }, { 3, 5, 7 }, { 13, 31, 1 }, { 16, 24, 64 }, { 41, 37, 67 },
    };
    fill(PITCH * PITCH, t->a, 1);
    fill(PITCH * PITCH, t->b, 2);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int trans = 0; trans < 4; trans++)
            if (!try_case(t, sizes[i], trans & 1, trans & 2, e))
                return false;
    return true;
}

/* ---- warming up ---- */

/*
 * OpenBLAS maps a packing buffer for each thread that is inside it at once and
 * keeps it.  Its kernels prefetch beyond what they have packed; where nothing
 * has ever touched those pages, every prefetch walks the page table in vain: on
 * a virtual Zen a product of 788x192x576 ran at 12 instead of 40 GF/s until the
 * first larger one.  So each thread's buffer is filled once, at the start, in
 * about 3 ms.
 */
enum { WARM_ROWS = 64, WARM_SIDE = 768, WARM_THREADS = 64 };

static bool warm_up_one(void *arg, size_t piece, int thread, struct err *e)
{
    (void)thread;
    (void)e;
    float *zeros = arg, *out = zeros + WARM_SIDE * WARM_SIDE + piece * WARM_ROWS * WARM_SIDE;
    gemm(false, false, WARM_ROWS, WARM_SIDE, WARM_SIDE, zeros, WARM_SIDE, zeros, WARM_SIDE, false, out, WARM_SIDE);
    return true;
}

/* Without memory or threads the start is slow, no more. */
static void warm_up(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n = cores < 1 ? 1 : cores > WARM_THREADS ? WARM_THREADS : (size_t)cores;
    struct pool *team = pool_new((int)n, NULL);
    float *zeros = calloc((WARM_SIDE + n * WARM_ROWS) * WARM_SIDE, sizeof *zeros);
    if (team && zeros)
        pool_run(team, n, warm_up_one, zeros, NULL);
    free(zeros);
    pool_free(team);
}

/* Results and operands alike. */
static void denormals(bool keep)
{
#if defined __SSE__
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
    unsigned bits = FLUSH_TO_ZERO | DENORMALS_ARE_ZERO;
    _mm_setcsr(keep ? _mm_getcsr() & ~bits : _mm_getcsr() | bits);
#elif defined __aarch64__
    enum { FLUSH_TO_ZERO = 1 << 24 };
    __builtin_aarch64_set_fpcr(keep ? __builtin_aarch64_get_fpcr() & ~(unsigned)FLUSH_TO_ZERO : __builtin_aarch64_get_fpcr() | FLUSH_TO_ZERO);
#endif
}

void flush_denormals(void) { denormals(false); }

bool blas_init(struct err *e)
{
    denormals(true);                        /* a library built with -ffast-math may have switched them off for the thread that loaded it */
    openblas_set_num_threads(1);
    struct trial *t = malloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "blas_init", "no memory for the self-test");
    bool ok = try_all(t, e);
    free(t);
    if (ok)
        warm_up();
    return ok;
}
