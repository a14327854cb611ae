/*
 * plan.h - one binding of a graph to concrete shapes, ready to run: which nodes in which order,
 * where every result lives, when it dies.
 *
 * A plan is immutable and may be used by many threads at once; each thread has
 * a frame, the memory of one run.  `run` executes a plan from end to end; the
 * sweep executes stretches of nodes and carries the values that cross a cut itself (plan_live_at).
 *
 *   frame memory:  | slot | slot |   slot   | ...      a slot is reused when its value's last reader has run
 *
 * Reshape-like nodes make no copy: their output aliases the input's slot.
 */
#ifndef CORE_EXEC_PLAN_H
#define CORE_EXEC_PLAN_H

#include "core/exec/lowering.h"

struct plan {
    const struct graph *g;
    const struct lowering *how;       /* what it was laid out for; qop rows may be filled later, skip may not change */
    struct shape *inputs;             /* [g->n_inputs]: what it is bound to */
    struct facts facts;
    int *steps, n_steps;              /* node numbers in running order */
    int *root;                        /* [n_values]: the value whose memory it shares (itself if none) */
    int *last_use;                    /* [n_values] of roots: the last node that reads it; n_nodes for graph outputs; -1 unused */
    uint64_t *offset;                 /* [n_values] of roots: place in the frame; UINT64_MAX: not in the frame */
    uint64_t frame_bytes, scratch_bytes;
    struct group *groups; int n_groups;    /* of a tiled lowering: see group.h */
    struct fused *fused;              /* [n_steps] of a tiled lowering: see fused.h */
    int *group_at;                    /* [n_steps]: 1 + the group of a step; 0: none; NULL: no groups */
    bool *inner;                      /* [n_values]: only a tile of it is in the frame */
};

/* Binds and lays out.  shapes[n_inputs] in the order of g->inputs.  Everything in `mem`. */
struct plan *plan_new(const struct graph *g, const struct lowering *how, struct arena *mem,
                      const struct shape *shapes, struct err *e);

/* Does the value have to be carried over a cut before node `at`: made earlier, needed later, not a constant? */
bool plan_live_at(const struct plan *p, int value, int at);

struct frame {
    const struct plan *plan;
    const struct lowering *how;
    struct tensor *t;                 /* [n_values]: data set once computed or supplied */
    char *mem, *scratch;
    char *inputs;                     /* copies of inputs, where samples do not lie one behind another; run.c's */
    char *wide;                       /* one node's constants as float32; narrow.c's */
    uint64_t mem_size, scratch_size, inputs_size, wide_size;
    int t_size;
};

/* Prepares a frame ({0} at first) for a plan, growing its memory as needed.  `how` is the plan's own or one that skips
 * the same nodes and reads the same values.  frame_release() frees. */
bool frame_bind(struct frame *f, const struct plan *p, const struct lowering *how, struct err *e);
void frame_release(struct frame *f);

/* One of the frame's memories with room for `want` bytes; what was in it is lost when it grows. */
bool frame_grow(char **mem, uint64_t *size, uint64_t want, struct err *e);

/* Supplies the bytes of a value from outside (an input, or one carried over a cut); borrowed. */
void frame_set(struct frame *f, int value, const void *data);

/* Runs one node (not of a tiled plan); frame_run() runs those of [from, to) that are not known or absorbed. */
bool frame_step(struct frame *f, int node, struct err *e);
bool frame_run(struct frame *f, int from, int to, struct err *e);

/* Computes `node` as if it were not quantized, on the frame's present inputs but for `edit` (or NULL), into out (data
 * allocated by the caller). */
bool frame_float_step(struct frame *f, int node, const struct edit *edit, struct tensor *out, struct err *e);

#endif
