/*
 * sample.h - some rows of a tensor, for searches that cannot look at all of them.
 *
 * Rows are drawn by a seeded hash of sample number and row, so that neither chunks nor threads show in the
 * choice.  The first row of every sample (the class token of a vision transformer, the first token of a text) is
 * always among them and counts FIRST_WEIGHT times: it is one of hundreds, and what classifies.
 * Or, for what the extremes decide: fewer rows, each counting once, and beside them those of the largest norm.
 */
#ifndef CORE_SWEEP_SAMPLE_H
#define CORE_SWEEP_SAMPLE_H

#include "core/exec/run.h"
#include "core/quant/channels.h"

enum { SAMPLE_ROWS = 2048, FIRST_WEIGHT = 8 };

struct sample {
    size_t channels;               /* 0: nothing is drawn */
    int64_t all_rows;
    uint64_t seed, below;          /* a row is drawn if its hash is below this */
    size_t limit, largest;         /* of rows drawn, and of those of the largest norm; largest == 0: first rows count more instead */
    struct sample_piece { float *x, *weight, *norm; size_t n, n_largest; } *pieces;    /* [chunks]; norm: of the last n_largest of n rows */
    int n_pieces;
};

/* Of the value in all chunks; `mem` holds the list of pieces.  rows, largest: as a method has them. */
bool sample_init(struct sample *s, const struct chunks *c, int value, uint64_t seed, int rows, int largest, struct arena *mem,
                 struct err *e);
/* The tensor of one chunk; any thread, each chunk once. */
bool sample_add(struct sample *s, const struct chunks *c, int chunk, const struct tensor *t, struct err *e);
/* All drawn rows in the order of the samples, in `mem`. */
bool sample_rows(const struct sample *s, struct arena *mem, struct rows *ret, struct err *e);
void sample_release(struct sample *s);

#endif
