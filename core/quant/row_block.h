/*
 * row_block.h - 64 rows of a weight matrix side by side: the inner loops of reconstruct.c.
 *
 * Arrays are [k, ROWS]: a coordinate's 64 rows lie together, so that loops run over rows, which are independent
 * of each other, and the rest is matrix products.  A block short of rows is filled up with zeros.
 *
 * A code is held as a float without its zero point; lo and hi are the lowest and the highest of them.  Coordinates may be in groups
 * with scales of their own.  Nothing here allocates or fails.
 */
#ifndef CORE_QUANT_ROW_BLOCK_H
#define CORE_QUANT_ROW_BLOCK_H

#include <stddef.h>

enum { ROWS = 64 };

struct row_block {
    size_t k;
    const float *h;                           /* [k, k], symmetric, positive diagonal */
    size_t groups;
    float *scale, *lo, *hi;                   /* [groups, ROWS] */
    const size_t *at;                         /* [k]: ROWS times the group of a coordinate */
    float *v;                                 /* [k, ROWS] the target */
    float *q;                                 /* codes */
    float *e, *g;                             /* q * scale - v and h e: valid after row_block_errors() */
    float *work;                              /* scratch */
    float *best;                              /* the best codes so far ... */
    double best_error[ROWS];                  /* ... and e^T h e of each row */
};

/* Adds to sum [groups, ROWS] the weighted squared errors of rounding to nearest; weight [k]. */
void row_block_weigh(const struct row_block *b, const float *weight, double *sum);

void row_block_nearest(struct row_block *b);

/* Codes by GPTQ along u [k, k], upper triangular, u^T u = h^-1 (up to a factor). */
void row_block_gptq(struct row_block *b, const float *u);

/* error[row] = e^T h e. */
void row_block_errors(struct row_block *b, double error[ROWS]);

/* Every row of q that is better than the best takes its place, the others go back to it. */
void row_block_keep_better(struct row_block *b, const double error[ROWS]);

/* One sweep of coordinate descent; g must be that of q, and is kept so.  Returns how many codes changed. */
size_t row_block_descend(struct row_block *b);

/*
 * Rounds down or up as `steps` of Adam on a soft choice find best; best_error is what nearest gives.
 * scratch: 5 * k * ROWS floats.
 */
void row_block_learn(struct row_block *b, int steps, float *scratch);

#endif
