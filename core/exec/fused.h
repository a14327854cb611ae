/*
 * fused.h - norms, activations and masked softmaxes spelled out node by node, run as one: inside a tiled plan's groups only.
 *
 * Exporters write a LayerNorm as nine nodes, a GELU as five and a softmax's scale and mask as two; each would read and write its
 * tile again.  The pattern's last node computes all of it from the pattern's input; the nodes before it are not run.  Results differ
 * from theirs in the last bits, which is why quantized models do without, and the sweep, that may stop at any node.
 */
#ifndef CORE_EXEC_FUSED_H
#define CORE_EXEC_FUSED_H

#include "core/exec/group.h"

enum fused_kind { FUSED_NONE, FUSED_LAYERNORM, FUSED_RMSNORM, FUSED_GELU, FUSED_SILU, FUSED_SOFTMAX, FUSED_WITHIN };

/* What a step of a plan is part of.  WITHIN: an earlier node of a pattern. */
struct fused {
    enum fused_kind kind;
    int x;                       /* [rows, n] */
    const float *gamma, *beta;   /* [n] or NULL; the graph's */
    float eps;
    int mask;                    /* of a softmax: added to x * scale, [.., m or 1, n], from outside the group; -1: none */
    float scale;
};

/* Does the step compute a whole pattern? */
static inline bool fused_runs(const struct fused *f) { return f->kind != FUSED_NONE && f->kind != FUSED_WITHIN; }

/* Fills p->fused for the nodes of p's groups. */
bool fused_find(struct plan *p, struct arena *mem, struct err *e);

/* Runs a pattern's last node on rows of n numbers; y may be x.  mask: the part that belongs to these rows, or NULL. */
void fused_run(const struct fused *f, size_t rows, size_t n, const float *x, const struct tensor *mask, float *y);

#endif
