/*
 * blocks.h - blocks of a model, each taught as a whole once its layers are decided (recipe: reconstruction.blocks).
 *
 * A block is the regions (region.h) of consecutive layers that names put together ("blocks.3", "encoder.layer.0"), up to the
 * next block, as long as the tensor there has the shape of the residual stream; without such names, each region with linears.
 * What a cut has in hand at a block's two ends is held on both streams until the block is done:
 *
 *     ... | first ............. end | ...        float: input x, target y        quantized: input x'
 *
 * core/learn then teaches the quantized block; whether it is better is asked on samples that were kept out.
 */
#ifndef CORE_SWEEP_BLOCKS_H
#define CORE_SWEEP_BLOCKS_H

#include "core/sweep/sweep.h"

/* quantized[n_nodes], region[n_nodes]: as regions_find() has them. */
bool blocks_find(const struct sweep_task *t, const bool *quantized, const int *region, struct arena *mem, struct sweep *s, struct err *e);

/* The block that a walk from node `at` is in or comes to next and that is not done; NULL: none. */
struct sweep_block *blocks_ahead(const struct sweep *s, int at);
/* Is the node in a block that is not done? */
bool blocks_open(const struct sweep *s, int node);
/* Is the block's last word spoken, but for the teaching? */
bool blocks_ready(const struct sweep *s, const struct sweep_block *b);
/* Is the site made in an open block, for layers behind it alone?  Then the block may still change it. */
bool blocks_may_change(const struct sweep *s, int site);

/* Teaches the block and takes the result, where it is better, into weights and the lowering; then it is done. */
bool blocks_teach(const struct lower *w, struct arena *codes, struct pass *pass, struct sweep_block *b, struct err *e);

/* What is taught: layers' weights and biases, and constants of norms; in an order that the graph alone decides. */
struct block_part { int layer, node, input; };     /* layer -1: the node's constant */
bool blocks_parts(const struct sweep_task *t, const struct sweep *s, const struct sweep_block *b, struct arena *mem,
                  struct block_part **ret, int *ret_n, struct err *e);
/* A replayed block's constants, once sites are lowered. */
bool blocks_relower(const struct lower *w, struct err *e);

#endif
