/*
 * op.h - the table of operators the executor can run: op -> reference kernel, fast kernel.
 *
 * Shape rules live in core/graph (one rule serves symbols and numbers).  A
 * kernel gets its inputs and allocated outputs with final shapes; it checks
 * nothing that graph_load() or graph_bind() has checked already, but must be
 * memory-safe for every tensor whose shape agrees with the shape rule
 * (indices such as Gather's are data and are checked here).
 *
 * A new op is one row in GRAPH_OPS, one shape rule, and one row here.
 */
#ifndef CORE_EXEC_OP_H
#define CORE_EXEC_OP_H

#include "core/graph/graph.h"

struct op_args {
    const struct graph *g;
    const struct node *node;
    const struct tensor *const *in;    /* [node->n_in]; NULL where absent */
    struct tensor *out;                /* [node->n_out]; data allocated, must not overlap inputs */
    void *scratch;                     /* op_impl.scratch() bytes, 64-byte aligned */
};

typedef bool op_run(const struct op_args *a, struct err *e);

struct op_impl {
    op_run *ref;                       /* the meaning: plain loops, every dtype the op takes; never NULL in a filled row */
    op_run *fast;                      /* NULL: ref serves; a fast kernel may return to ref for rare types */
    /* Bytes of scratch for these shapes; NULL: none. */
    uint64_t (*scratch)(const struct op_args *a);
};

/* The row of an op; ref == NULL: not implemented. */
extern const struct op_impl op_impl[OPS];

/* node_eval for graph_load()/graph_bind(): runs the reference kernel with malloc'd scratch. */
bool op_eval(const struct graph *g, const struct node *n, const struct tensor *const *in,
             struct tensor *out, struct err *e);

#endif
