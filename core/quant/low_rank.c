#include "core/quant/low_rank.h"

#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

/* Directions beside those wanted, and passes: the spectra are flat, and what is missed costs little. */
enum { EXTRA = 8, PASSES = 16, SWEEPS = 30 };

/* ---- orthonormal columns ---- */

/* Columns of y [rows, p] become orthonormal, twice for what the first time leaves; a column of nothing becomes 0. */
static void orthonormalize(size_t rows, size_t p, float *y)
{
    for (int again = 0; again < 2; again++)
        for (size_t c = 0; c < p; c++) {
            double norm = 0;
            for (size_t before = 0; before < c; before++) {
                double dot = 0;
                for (size_t r = 0; r < rows; r++)
                    dot += (double)y[r * p + c] * (double)y[r * p + before];
                for (size_t r = 0; r < rows; r++)
                    y[r * p + c] -= (float)(dot * (double)y[r * p + before]);
            }
            for (size_t r = 0; r < rows; r++)
                norm += (double)y[r * p + c] * (double)y[r * p + c];
            float scale = norm > 1e-30 ? (float)(1 / sqrt(norm)) : 0;
            for (size_t r = 0; r < rows; r++)
                y[r * p + c] *= scale;
        }
}

/* ---- eigenvectors of a small symmetric matrix, by Jacobi's rotations ---- */

static void rotate(size_t p, double *a, double *v, size_t i, size_t j)
{
    double theta = (a[j * p + j] - a[i * p + i]) / (2 * a[i * p + j]);
    double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < p; k++) {
        double x = a[k * p + i], y = a[k * p + j];
        a[k * p + i] = c * x - s * y;
        a[k * p + j] = s * x + c * y;
    }
    for (size_t k = 0; k < p; k++) {
        double x = a[i * p + k], y = a[j * p + k], u = v[k * p + i], w = v[k * p + j];
        a[i * p + k] = c * x - s * y;
        a[j * p + k] = s * x + c * y;
        v[k * p + i] = c * u - s * w;
        v[k * p + j] = s * u + c * w;
    }
}

/* a [p, p] becomes diagonal; the columns of v are its eigenvectors. */
static void diagonalize(size_t p, double *a, double *v)
{
    memset(v, 0, p * p * sizeof *v);
    for (size_t i = 0; i < p; i++)
        v[i * p + i] = 1;
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t i = 0; i < p; i++)
            for (size_t j = i + 1; j < p; j++)
                if (fabs(a[i * p + j]) > 1e-14 * sqrt(fabs(a[i * p + i] * a[j * p + j])))
                    rotate(p, a, v, i, j);
}

/* ---- */

struct search {
    size_t k, n, p, rank;
    float *a;                  /* [k, n]: the weighted error */
    float *left, *right;       /* [k, p], [n, p] */
    float *b;                  /* [p, n]: left^T a */
    double *gram, *vectors;    /* [p, p] */
    float *weight;             /* [k] */
};

static bool set_up(struct search *s, const double *loud, struct arena *mem, struct err *err)
{
    size_t most = s->k < s->n ? s->k : s->n;
    s->p = s->rank + EXTRA < most ? s->rank + EXTRA : most;
    s->a = arena_array(mem, s->k * s->n, sizeof *s->a, err);
    s->left = arena_array(mem, s->k * s->p, sizeof *s->left, err);
    s->right = arena_array(mem, s->n * s->p, sizeof *s->right, err);
    s->b = arena_array(mem, s->p * s->n, sizeof *s->b, err);
    s->gram = arena_array(mem, s->p * s->p, sizeof *s->gram, err);
    s->vectors = arena_array(mem, s->p * s->p, sizeof *s->vectors, err);
    s->weight = arena_array(mem, s->k, sizeof *s->weight, err);
    if (!s->a || !s->left || !s->right || !s->b || !s->gram || !s->vectors || !s->weight)
        return false;
    double mean = 0;
    for (size_t i = 0; loud && i < s->k; i++)
        mean += loud[i] / (double)s->k;
    for (size_t i = 0; i < s->k; i++)
        s->weight[i] = loud && mean > 0 ? (float)fmax(loud[i] / mean, 1e-3) : 1;
    return true;
}

/* Columns that no structure of a is likely to be orthogonal to. */
static void start(struct search *s)
{
    uint64_t state = 1;
    for (size_t i = 0; i < s->n * s->p; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        s->right[i] = (float)(state >> 40) * 0x1p-23f - 1;
    }
    orthonormalize(s->n, s->p, s->right);
}

static void iterate(struct search *s)
{
    for (int pass = 0; pass < PASSES; pass++) {
        gemm(false, false, s->k, s->p, s->n, s->a, s->n, s->right, s->p, false, s->left, s->p);
        orthonormalize(s->k, s->p, s->left);
        gemm(true, false, s->n, s->p, s->k, s->a, s->n, s->left, s->p, false, s->right, s->p);
        if (pass < PASSES - 1)
            orthonormalize(s->n, s->p, s->right);
    }
    for (size_t i = 0; i < s->p; i++)
        for (size_t c = 0; c < s->n; c++)
            s->b[i * s->n + c] = s->right[c * s->p + i];
}

static size_t largest(size_t p, const double *gram, const bool *taken)
{
    size_t best = p;
    for (size_t i = 0; i < p; i++)
        if (!taken[i] && (best == p || gram[i * p + i] > gram[best * p + best]))
            best = i;
    return best;
}

/* b = left^T a in its own principal directions. */
static void split(const struct search *s, bool *taken, float *u, float *v)
{
    for (size_t i = 0; i < s->p; i++)
        for (size_t j = 0; j < s->p; j++) {
            double sum = 0;
            for (size_t c = 0; c < s->n; c++)
                sum += (double)s->b[i * s->n + c] * (double)s->b[j * s->n + c];
            s->gram[i * s->p + j] = sum;
        }
    diagonalize(s->p, s->gram, s->vectors);
    for (size_t r = 0; r < s->rank; r++) {
        size_t at = largest(s->p, s->gram, taken);
        double value = sqrt(fmax(s->gram[at * s->p + at], 0)), half = sqrt(value);
        taken[at] = true;
        for (size_t i = 0; i < s->k; i++) {
            double sum = 0;
            for (size_t j = 0; j < s->p; j++)
                sum += (double)s->left[i * s->p + j] * s->vectors[j * s->p + at];
            u[i * s->rank + r] = (float)(sum * half / (double)s->weight[i]);
        }
        for (size_t c = 0; c < s->n; c++) {
            double sum = 0;
            for (size_t j = 0; j < s->p; j++)
                sum += (double)s->b[j * s->n + c] * s->vectors[j * s->p + at];
            v[r * s->n + c] = half > 0 ? (float)(sum / half) : 0;
        }
    }
}

bool low_rank(const float *e, size_t k, size_t n, const double *loud, size_t rank, struct arena *mem, float *ret_u, float *ret_v,
              struct err *err)
{
    struct search s = { .k = k, .n = n, .rank = rank };
    bool *taken = arena_alloc(mem, k, err);
    if (!taken || !set_up(&s, loud, mem, err))
        return false;
    for (size_t i = 0; i < k; i++)
        for (size_t c = 0; c < n; c++)
            s.a[i * n + c] = e[i * n + c] * s.weight[i];
    start(&s);
    iterate(&s);
    split(&s, taken, ret_u, ret_v);
    return true;
}
