/*
 * tape.h - reverse mode over a piece of a graph: outputs, and the derivative of their squared error by what is learned.
 *
 *     program   which nodes lead from `in` to `out`, and which of them carry a derivative; shared by all threads
 *     tape      one chunk's values, kept for the way back; one a thread
 *
 * Nodes run as the lowering says: quantized rows on codes, constants as they were edited.  Operators run by their kernels;
 * derivatives are known for a closed list (tape_rules.c), and a node beyond it is refused by name.  Rounding counts as the identity on
 * the way back (Bengio et al., arXiv 1308.3432), clipping as what it is; the magnitudes that rows are divided by (unit_rows.h)
 * count as constants, so that ZeroQuant's ranges per token are an identity too.
 */
#ifndef CORE_LEARN_TAPE_H
#define CORE_LEARN_TAPE_H

#include "core/base/arena.h"
#include "core/exec/plan.h"
#include "core/learn/real.h"

/*
 *   CODES     of a quantized linear's row: u [k, n] in steps; its code minus the zero point is rint(u)
 *   STEPS     of the same row: t [n], of groups of inputs [groups, n]; a step is exp(t) times what it was
 *   ADDED     of the same row: what is added behind the sums, [n]
 *   CONSTANT  that the node reads at `input`: a norm's scale or shift, a bias
 */
enum learned_kind { LEARN_CODES, LEARN_STEPS, LEARN_ADDED, LEARN_CONSTANT };
struct learned {
    enum learned_kind kind;
    int node, input;
    size_t at, n;                      /* [at, at + n) of all that is learned */
};

struct piece {
    const struct graph *g;
    const struct lowering *how;
    int first, end;                    /* nodes [first, end) */
    int in, out;                       /* values; in -1: whatever is given is constant */
    const struct learned *learned; int n_learned;
    bool in_too;                       /* the derivative by `in` is wanted as well */
};

struct program {
    struct piece of;
    int *nodes, n_nodes;               /* that lead to `out`, in order */
    bool *wanted;                      /* [n_values]: the derivative by it is needed */
    int *given, n_given;               /* values from before `first` that the nodes read, `in` among them; known ones too */
};

/* ERR_MODEL_OP names a node without a derivative, ERR_MODEL_INVALID an `out` that does not depend on `in`. */
bool program_new(const struct piece *p, struct arena *mem, struct program *ret, struct err *e);

/* What is learned as of now, shared by all tapes. */
struct weights {
    const real *all;                   /* [total], where the list of `learned` points to */
    real **linear;                     /* [n_nodes of the graph]: of quantized linears [k, n], codes times steps; NULL elsewhere */
};
/* linear[node] from `all`, for one of the program's rows of kind MATMUL; ret [k, n]. */
void tape_weigh(const struct program *p, int node, const real *all, real *ret);

struct tape;
struct tape *tape_new(const struct program *p, struct err *e);
void tape_free(struct tape *t);                    /* NULL is fine */

/* Shapes and known values of a plan of the graph; `weights` is read by every later call. */
bool tape_bind(struct tape *t, const struct plan *plan, const struct weights *w, struct err *e);
/* A given value's bytes, float where the graph says so; borrowed until the next tape_bind(). */
void tape_set(struct tape *t, int value, const void *data);

/* Mean squared difference of `out` to the target, of its shape; *ret_power: mean square of the target. */
bool tape_forward(struct tape *t, const float *target, double *ret_error, double *ret_power, struct err *e);
/* The derivative of `weight` times that error in ret [total]; ret_in: room for the derivative by `in`, or NULL. */
bool tape_backward(struct tape *t, const float *target, double weight, real *ret, real *ret_in, struct err *e);
/* Multiplications in matrix products so far (Gemm's aside), both ways. */
double tape_products(const struct tape *t);

#endif
