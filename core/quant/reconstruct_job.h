/* reconstruct_job.h - a reconstruction while it runs.  Private to reconstruct.c and reconstruct_ranges.c. */
#ifndef CORE_QUANT_RECONSTRUCT_JOB_H
#define CORE_QUANT_RECONSTRUCT_JOB_H

#include "core/quant/reconstruct.h"
#include "core/quant/row_block.h"

#include <pthread.h>

enum { FACTORS = 31 };

/* One thread's memory. */
struct reconstruct_bench {
    struct row_block block;
    double *rows;              /* [ROWS, k]: right-hand sides */
    float *learning;
    double *sum, *least;       /* [groups, ROWS]: of a factor, of the best so far */
    int *best;                 /* [groups, ROWS]: that one */
};

/* A factorization of H / m + extra I: the target's, and GPTQ's, which run side by side. */
enum { OF_TARGET, OF_INVERSE, FACTORINGS };
struct factoring {
    bool (*fn)(size_t n, double *a);       /* NULL: not wanted */
    double *a;                 /* [k, k]: the factor, if ok */
    double extra;              /* what was added to the diagonal in the end */
    bool ok;
};

struct reconstruct_job {
    const struct reconstruct_task *t;
    struct reconstruct_result r;
    struct pool *pool;
    size_t pieces;
    double m;
    size_t *order;             /* [k]: the column of H and V at each place */
    size_t groups, *at;        /* [k]: ROWS times the group of the column at each place */
    double *moments;           /* [k, k] in that order: the upper triangle of H / m */
    struct factoring factoring[FACTORINGS];
    pthread_mutex_t mu;        /* guards `factored` */
    pthread_cond_t told;
    bool factored;             /* the target's factorization has ended */
    float *h, *u;              /* [k, k] likewise: Hd / m, whole, and GPTQ's factor or NULL */
    float *weight;             /* [k]: the diagonal of h */
    struct reconstruct_bench *benches;     /* one per thread */
    double (*errors)[3];       /* per piece: nearest, rounded, final */
    double (*weighed)[FACTORS];    /* per row */
    float *lo, *hi;            /* [n, groups]: what ranges cover before they are shrunk */
    int *chosen;               /* [n]: the factor of rows that share a range; else unused */
};

/* Runs fn for every piece, ROWS rows of the matrix each. */
bool job_run(struct reconstruct_job *j, pool_fn *fn, struct err *e);
size_t job_rows(const struct reconstruct_job *j, size_t piece);

/* Takes a piece's rows of the target into the thread's block. */
struct row_block *job_load(struct reconstruct_job *j, size_t piece, int thread);
/* Do rows share ranges? */
bool job_shares_ranges(const struct reconstruct_job *j);
/* What ranges cover, from the target; the factors of those that rows share; then every range of a loaded piece, into its block and the result. */
void job_cover_rows(struct reconstruct_job *j);
bool job_choose_factors(struct reconstruct_job *j, struct err *e);
void job_find_ranges(struct reconstruct_job *j, struct reconstruct_bench *w, size_t piece);

#endif
