/*
 * learn.h - a quantized piece of a graph, taught to give what the float network gives: codes, steps, biases, norms.
 *
 * Layer-by-layer knowledge distillation (ZeroQuant, Yao et al., arXiv 2206.01861, section 4.2) and block reconstruction (BRECQ, Li
 * et al., arXiv 2102.05426) are this with other inputs: the student is the piece as it is quantized, the target the float stream's
 * output, and the input the teacher's (LKD), the student's own, or one or the other by turns.
 *
 * AdamW (Loshchilov, Hutter, arXiv 1711.05101) with a rate that falls to 0 by a cosine.  A weight is a number of steps of its row, so
 * the rate is in quantization steps for each update; other numbers move by the same rate of what would be their step, were they
 * quantized at the piece's fewest bits.  Some chunks are kept out: what is best on them, on the student's input, is the result, and the
 * piece stays as it was unless their error falls.
 *
 * Gradients are summed in the order of chunks, so threads never change a byte.
 */
#ifndef CORE_LEARN_LEARN_H
#define CORE_LEARN_LEARN_H

#include "core/base/pool.h"
#include "core/exec/run.h"
#include "core/learn/tape.h"

enum learn_input { LEARN_TEACHER, LEARN_STUDENT, LEARN_BOTH };
enum learn_side { LEARN_FROM_TEACHER, LEARN_FROM_STUDENT };

/* A row of kind MATMUL whose codes are learned. */
struct learn_linear {
    int node, bits;
    const float *start;                /* [k, n]: rint of it is the code minus the zero point */
    const float *lo, *hi;              /* [n], of groups of inputs [groups, n]: the lowest and the highest of those */
};
struct learn_constant { int node, input; };

struct learn_task {
    const struct graph *g;
    const struct lowering *how;        /* the student */
    int first, end, in, out;           /* as in struct piece */
    const struct learn_linear *linears; int n_linears;
    const struct learn_constant *constants; int n_constants;
    const struct chunks *chunks;
    struct pool *pool;
    uint64_t seed;
    enum learn_input input;
    int steps;
    int batch;                         /* samples an update, in whole chunks */
    double rate, decay;                /* steps an update; of weights, in units of the rate */
    double held_out;                   /* share of the chunks */
    bool one_step;                     /* channels share steps: these stay */
    void *arg;
    /* The bytes of a value made before `first`, or of `out`, in one chunk; *ret_temp is freed by the caller.  Any thread. */
    const void *(*get)(void *arg, int chunk, enum learn_side side, int value, void **ret_temp, struct err *e);
};

struct learn_result {
    bool kept;                         /* false: nothing is better than it was */
    double before, after;              /* squared error over the target's square, held-out chunks, student's input */
    double fitted_before, fitted_after;    /* the same of the other chunks */
    int chunks, held_out;
    double seconds, products;          /* products: multiplications in matrix products, updates only */
    const struct learned *learned; int n_learned;
    const real *all;                   /* what `learned` points into; of CODES: rint */
};

enum { LEARN_CHECKS = 4 };             /* looks at the held-out chunks on the way */

/* How chunks are shared out: the last of every `period` is held out, each update runs `slots` of the others. */
struct learn_split { int period, train, held, slots; };
struct learn_split learn_split_of(const struct chunks *chunks, int batch, double held_out);    /* two chunks or more */

/* At least two chunks: else ERR_DATA_SHAPE.  ERR_MODEL_OP: an operator without a derivative. */
bool learn_run(const struct learn_task *t, struct arena *mem, struct learn_result *ret, struct err *e);

#endif
