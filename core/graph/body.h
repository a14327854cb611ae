/*
 * body.h - graphs inside nodes: functions, and the branches and bodies of If and Loop.  Internal to core/graph.
 *
 * A body is imported each time it takes the place of its node, straight into the expansion that is under way
 * (expand.h): then the types, shapes and constants of everything it reads are known, which is what decides an If.
 * Of names there are two kinds.  A function's body sees its inputs and nothing else; a branch or a loop's body sees
 * all around it, so the node that holds it lists what it reads outside as further inputs (node_body.outer): order,
 * liveness and look-through of the outer graph need no special case.  Inside a body the scopes are a chain.
 *
 * A few bytes can ask for any number of nodes.  Bodies nest at most BODY_DEPTH deep, and all that is looked at is
 * counted against ONNX_MAX_NODES.
 */
#ifndef CORE_GRAPH_BODY_H
#define CORE_GRAPH_BODY_H

#include "core/graph/expand.h"

enum { BODY_DEPTH = 32 };

/* ---- when the model is imported ---- */

/* Sorts the model's functions into g; an error if two have one name. */
bool functions_index(struct graph *g, struct err *e);
/* The function that o calls, or NULL. */
const struct onnx_function *function_find(const struct graph *g, const struct onnx_node *o);
/* Does f take and give as many? */
bool function_takes(const struct onnx_function *f, size_t n_in, size_t n_out, const char *where, struct err *e);
const struct node_body *function_body(struct arena *mem, const struct onnx_function *f, struct err *e);
/* What the graphs of o's attributes read from outside, each name once. */
const struct node_body *graphs_body(struct arena *mem, const struct onnx_node *o, struct err *e);

/* ---- when its node is written out ---- */

struct slot { const char *name; int at; };

/* A body's names: its inputs, its initializers, what its nodes write; each has a number, its slot. */
struct body {
    const struct onnx_function *function;      /* or NULL */
    const char *const *inputs, *const *outputs;
    const struct onnx_node *nodes;
    size_t n_inputs, n_outputs, n_nodes;
    struct slot *slots; int n_slots;           /* sorted by name */
    int *start;                                /* [n_slots]: the value of each initializer, made once for all runs */
    size_t first_output;                       /* the slot of the first node's first output */
    const struct node *node;                   /* the node it belongs to */
    const struct scope *around;                /* what it sees of the outside; NULL: nothing */
};

bool body_of_function(struct expansion *s, const struct node *n, struct body *ret);
bool body_of_graph(struct expansion *s, const struct node *n, const struct onnx_graph *o, struct body *ret);

/*
 * Appends the body's nodes.  in[b->n_inputs]: values, or -1 where absent; ret[b->n_outputs] likewise.
 * Nodes and values are named prefix/name.
 */
bool body_run(struct expansion *s, const struct body *b, const int *in, const char *prefix, int *ret);

#endif
