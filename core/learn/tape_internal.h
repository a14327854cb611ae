/* tape_internal.h - what tape.c and its rules share. */
#ifndef CORE_LEARN_TAPE_INTERNAL_H
#define CORE_LEARN_TAPE_INTERNAL_H

#include "core/exec/op.h"
#include "core/exec/walk.h"
#include "core/learn/tape.h"

/* Memory that is used again: a block is some values long and free or taken. */
struct block { void *p; size_t bytes; bool taken; };

struct tape {
    const struct program *p;
    const struct plan *plan;
    const struct weights *w;
    struct tensor *t;                  /* [n_values] */
    real **grad;                       /* [n_values]: of values that carry one, once any reader has added to it */
    real **kept;                       /* [2 * n_nodes of the graph]: operands of quantized rows, for the way back */
    real *learned_grad;                /* [total] */
    bool *written;                     /* [n_learned]: codes whose derivative is there; the others' is added up from 0 */
    struct block *blocks; int n_blocks, room;
    int **sources;                     /* [n_nodes of the graph]: of nodes that move elements, where each came from; of this plan */
    struct arena *constants;           /* of this plan */
    double products;                   /* multiplications in matrix products so far */
    struct err e;                      /* of a walk back that ran out of memory */
    bool frozen;                       /* tests: rounding adds what it added in the forward run before */
    real **rounding;                   /* tests: [2 * n_nodes of the graph] */
};

static inline const struct graph *tape_graph(const struct tape *t) { return t->p->of.g; }
static inline const struct qop *tape_row(const struct tape *t, int node) { return &t->p->of.how->qop[node]; }

/* n numbers (zeroed if asked for), until tape_give() or the next forward run; NULL without memory. */
void *tape_take(struct tape *t, size_t n, bool zero, struct err *e);
void tape_give(struct tape *t, const void *p);

/* The list's entry of that kind, node and input; or NULL. */
const struct learned *program_learned(const struct program *p, enum learned_kind kind, int node, int input);

/* What the node reads there: a value, an edit, something learned.  room is used where there is no such tensor yet. */
const struct tensor *tape_input(struct tape *t, int node, int input, struct tensor *room);
/*
 * Where the derivative by it is to be added; NULL: nobody wants it.  Who gives ret_fresh and finds it set is the first: there is
 * anything in it, and every element is to be written.
 */
real *tape_want(struct tape *t, int node, int input, bool *ret_fresh);
/* The same of a value. */
real *tape_want_value(struct tape *t, int value, bool *ret_fresh);

static inline size_t tape_elements(const struct tensor *t) { return (size_t)shape_elements(&t->shape); }
/* Dimension i from the end, 1 where there is none. */
static inline size_t tape_dim(const struct tensor *t, int i) { return t->shape.rank >= i ? (size_t)t->shape.dim[t->shape.rank - i] : 1; }

/* The derivative by a node's inputs, given that by its output (out 0's; movers see all outputs). */
typedef bool tape_back(struct tape *t, int node, const real *dy, struct err *e);
struct tape_rule {
    tape_back *back;                   /* NULL: none */
    bool moves;                        /* elements keep their values: back is the same for all of these */
    bool (*fits)(const struct graph *g, const struct node *n);    /* NULL: always */
};
extern const struct tape_rule tape_rules[OPS];
tape_back tape_back_move;

/* Quantized rows. */
bool tape_run_linear(struct tape *t, int node, struct err *e);
bool tape_run_product(struct tape *t, int node, struct err *e);
bool tape_run_levels(struct tape *t, int node, struct err *e);
tape_back tape_back_linear, tape_back_product, tape_back_levels;

#endif
