/*
 * linalg.h - linear algebra in double on symmetric positive definite matrices.
 *
 * Matrices are row-major and of a symmetric one only the upper triangle (a[i*n + j], j >= i) is read or written;
 * what lies below the diagonal stays.  n <= 46340, so that n*n fits an int.
 *
 * That a matrix is not positive definite is a normal result: the function returns false and the upper triangle
 * holds nothing of use.  A NaN or an infinity in it counts as not positive definite.
 *
 * One thread per call (blas_init() sees to it), and safe to call from several threads at once.  The last bits
 * depend on the machine's BLAS kernel, not on threads.
 */
#ifndef CORE_KERNEL_LINALG_H
#define CORE_KERNEL_LINALG_H

#include <stdbool.h>
#include <stddef.h>

/* a becomes its factor r, upper triangular with positive diagonal, a = r^T r. */
bool cholesky(size_t n, double *a);

/* With r from cholesky(): every row x of b[rows, n] becomes x a^-1. */
void cholesky_solve(size_t n, const double *r, size_t rows, double *b, size_t ldb);

/* With r upper triangular: every row x of b[rows, n] becomes x r^-1, or x r^-T if transposed. */
void triangular_solve(size_t n, const double *r, bool transposed, size_t rows, double *b, size_t ldb);

/* r from cholesky() becomes a^-1. */
bool cholesky_inverse(size_t n, double *r);

/*
 * a becomes u, upper triangular with positive diagonal, u^T u = a^-1: what GPTQ walks along (Frantar et al. 2022,
 * arXiv 2210.17323, section 3.3).
 */
bool inverse_factor(size_t n, double *a);

/* Copies the upper triangle onto the lower one. */
void mirror_upper(size_t n, double *a);

#endif
