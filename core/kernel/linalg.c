/*
 * Double precision linear algebra on the LAPACK inside OpenBLAS.  Debian builds it without the C wrappers, so the
 * Fortran routines are declared here.  They are column-major: the upper triangle of a row-major matrix is what they
 * call the lower one, its rows are their columns.
 */
#include "core/kernel/linalg.h"

#include <math.h>

/* The last arguments are the lengths of the letters, which Fortran passes unseen. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
void dpotrs_(const char *uplo, const int *n, const int *rows, const double *a, const int *lda, double *b, const int *ldb,
             int *info, size_t uplo_length);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info,
             size_t uplo_length, size_t diag_length);
void dtrsm_(const char *side, const char *uplo, const char *trans, const char *diag, const int *m, const int *n,
            const double *alpha, const double *a, const int *lda, double *b, const int *ldb,
            size_t side_length, size_t uplo_length, size_t trans_length, size_t diag_length);

/* OpenBLAS compares pivots with 0 and lets a NaN pass. */
static bool positive_diagonal(size_t n, const double *a)
{
    for (size_t i = 0; i < n; i++)
        if (!(a[i * n + i] > 0 && isfinite(a[i * n + i])))
            return false;
    return true;
}

static bool factor(const char *triangle, size_t n, double *a)
{
    int size = (int)n, info = 0;
    if (n == 0)
        return true;    /* a leading dimension of 0 is an error to LAPACK */
    dpotrf_(triangle, &size, a, &size, &info, 1);
    return info == 0 && positive_diagonal(n, a);
}

bool cholesky(size_t n, double *a) { return factor("L", n, a); }

void cholesky_solve(size_t n, const double *r, size_t rows, double *b, size_t ldb)
{
    int size = (int)n, count = (int)rows, pitch = (int)ldb, info = 0;
    if (n > 0 && rows > 0)
        dpotrs_("L", &size, &count, r, &size, b, &pitch, &info, 1);
}

void triangular_solve(size_t n, const double *r, bool transposed, size_t rows, double *b, size_t ldb)
{
    int size = (int)n, count = (int)rows, pitch = (int)ldb;
    double one = 1;
    if (n > 0 && rows > 0)
        dtrsm_("L", "L", transposed ? "T" : "N", "N", &size, &count, &one, r, &size, b, &pitch, 1, 1, 1, 1);
}

bool cholesky_inverse(size_t n, double *r)
{
    int size = (int)n, info = 0;
    if (n == 0)
        return true;
    dpotri_("L", &size, r, &size, &info, 1);
    return info == 0 && positive_diagonal(n, r);
}

static void reverse(size_t n, double *x)
{
    for (size_t i = 0; i < n / 2; i++) {
        double first = x[i];
        x[i] = x[n - 1 - i];
        x[n - 1 - i] = first;
    }
}

/*
 * Read backwards (J a J, with J the identity upside down) a has a lower factor l, and a = (J l J)(J l^T J): upper times
 * its transpose.  So u = (J l J)^-1 needs one factorization and one triangular inverse, where factor, inverse
 * and factor of the inverse would be half as much again and could fail at the second.
 */
bool inverse_factor(size_t n, double *a)
{
    int size = (int)n, info = 0;
    reverse(n * n, a);
    bool ok = factor("U", n, a);
    if (ok && n > 0)
        dtrtri_("U", "N", &size, a, &size, &info, 1, 1);
    reverse(n * n, a);
    return ok && info == 0 && positive_diagonal(n, a);
}

void mirror_upper(size_t n, double *a)
{
    enum { TILE = 32 };    /* both tiles fit the first cache */
    for (size_t i0 = 0; i0 < n; i0 += TILE)
        for (size_t j0 = i0; j0 < n; j0 += TILE)
            for (size_t i = i0; i < i0 + TILE && i < n; i++)
                for (size_t j = j0 > i ? j0 : i + 1; j < j0 + TILE && j < n; j++)
                    a[j * n + i] = a[i * n + j];
}
