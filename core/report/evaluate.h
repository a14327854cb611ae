/*
 * evaluate.h - what a model is worth on data, alone or beside a reference.
 *
 * The first output is judged.  [N, C] with labels: top-1 and top-5.  [N, T, V]
 * over the model's integer input [N, T]: perplexity of each next token, exp(mean NLL) over positions 0..T-2.
 * Against a reference, over all rows of the last axis: agreement of the largest
 * entry, cosine and SQNR of all values, mean KL(reference || model) of the softmax.
 * Where padding is told of (samples->real) it counts in none of that: no pair of positions one of which is padding, no row [N, T, ..].
 * Sums are taken in chunk order: threads do not change a digit.
 */
#ifndef CORE_REPORT_EVALUATE_H
#define CORE_REPORT_EVALUATE_H

#include "core/exec/run.h"
#include "core/report/events.h"

/* A model ready to run. */
struct runnable { const struct graph *g; const struct lowering *how; };

struct accuracy {
    int64_t samples;
    bool has_labels, has_tokens;
    double top1, top5;             /* percent; with labels */
    double perplexity;             /* with tokens */
};

struct evaluation {
    struct accuracy model, reference;
    bool has_reference;
    double agreement;              /* percent of rows with the same largest entry */
    double cosine, logit_sqnr_db, kl;
};

/* reference may be NULL. Both must take the samples' inputs and give equal output shapes. */
bool evaluate(const struct runnable *model, const struct runnable *reference, const struct samples *samples,
              struct pool *pool, struct evaluation *ret, struct err *e);

/* One metric event for each figure: before (reference) and after (model). */
void evaluation_events(const struct evaluation *v, const struct events *ev);
json_t *evaluation_json(const struct evaluation *v);

#endif
