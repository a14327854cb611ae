/*
 * run.h - samples through a graph: cut into chunks, each chunk a plan, threads over chunks.
 *
 * Chunks are cut by sample number and shape alone, never by threads or memory:
 * the same rows in another batch size may differ in their last bits on BLAS.
 *
 * Samples that end in padding (samples->lengths) are cut to their own length, so a chunk holds samples of one length: the earliest
 * that is in no chunk yet and the next ones as long as it.  Padding then is nowhere, whatever the graph does with positions.
 * A model that takes a fixed number of samples at a time gets them in their order, cut to the longest of a chunk.
 */
#ifndef CORE_EXEC_RUN_H
#define CORE_EXEC_RUN_H

#include "core/base/pool.h"
#include "core/data/dataset.h"
#include "core/exec/plan.h"

struct chunk {
    int64_t first, rows;           /* [first, first + rows) of the samples in the order of chunks */
    const int64_t *sample;         /* [rows]: their numbers in the data set; rising */
    const struct plan *plan;       /* shared by chunks of equal shape */
};

struct chunks {
    const struct samples *samples;
    struct chunk *chunk;
    int n;
    int64_t count;                 /* samples used */
    bool trimmed;                  /* samples are cut to their lengths */
};

/* What the graph's inputs want, for dataset_samples().  In the arena. */
bool run_input_specs(const struct graph *g, struct arena *mem, struct input_spec **ret, struct err *e);

/*
 * Cuts the first `limit` samples (0: all) into chunks of `batch` (0: a default that depends on the input's size;
 * always the model's own number if its batch dimension is fixed) and plans them.
 */
bool chunks_new(struct chunks *c, const struct graph *g, const struct lowering *how, struct arena *mem,
                const struct samples *samples, int64_t batch, int64_t limit, struct err *e);

/* Percent of the positions that run which are padding all the same: not at an end, or where nothing could be cut. */
double chunks_padding(const struct chunks *c);

/* The bytes of an input in one chunk; *ret_temp (NULL: none) is the caller's to free.  Any thread. */
const void *chunk_input(const struct chunks *c, int chunk, int input, void **ret_temp, struct err *e);

/* Binds the frame to the chunk's plan and supplies its inputs. */
bool chunk_bind(const struct chunks *c, int chunk, const struct lowering *how, struct frame *f, struct err *e);

/* The chunk's inputs are not read again soon: those in files leave memory. */
void chunk_rest(const struct chunks *c, int chunk);

/* Called with the frame of a finished chunk; by several threads at once, each chunk once, in no order. */
typedef bool chunk_fn(void *arg, int chunk, int thread, struct frame *f, struct err *e);

/* Runs every chunk from end to end. */
bool chunks_run(const struct chunks *c, const struct lowering *how, struct pool *pool, chunk_fn *done, void *arg,
                struct err *e);

#endif
