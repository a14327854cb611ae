/*
 * group.h - stretches of a plan that run tile by tile, so that what they hand on stays in cache and needs little memory.
 *
 *   rows       a tile is some rows of tensors [lead.., C]: elementwise operators, norms and reductions over the last axis, products with
 *              a constant matrix.  From one head transposition to the next, a transformer's block is one such group.
 *   matrices   a tile is one matrix of tensors [lead.., m, n]: an attention's q.k, scale, mask, softmax and p.v.
 *
 * The operators themselves know nothing of it: they get tensors of the same rank whose leading dimensions are 1 but for the last.  Tiles are
 * cut by shape alone, so neither threads nor memory change a byte; products of other numbers of rows may differ in their
 * last bits from an untiled run, which is why the sweep, whose stretches begin anywhere, does not use groups.
 * A product, the addition of a bias behind it and that of a residual become one product onto both.
 */
#ifndef CORE_EXEC_GROUP_H
#define CORE_EXEC_GROUP_H

#include "core/exec/plan.h"

struct group {
    int first, n;                /* steps of the plan: [first, first + n) */
    int keep;                    /* trailing dimensions of a tile's tensors that are whole: 1 or 2 */
    struct shape lead;           /* the leading dimensions, common to all */
    int64_t units, tile;         /* rows or matrices in all, and in a tile */
};

/* Finds the groups of a plan whose steps, facts, roots and last uses are known; fills p->groups, p->inner and p->group_at. */
bool groups_find(struct plan *p, struct arena *mem, struct err *e);

/* Bytes that a value made in its group needs of the frame: a tile's if it is inner. */
uint64_t group_bytes(const struct plan *p, const struct group *g, int value);

/* Runs all tiles of a group of the frame's plan. */
bool group_run(struct frame *f, const struct group *g, struct err *e);

#endif
