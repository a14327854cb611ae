/*
 * forecast.h - what a sweep will hold and compute, from shapes alone: nothing is run.
 */
#ifndef CORE_SWEEP_FORECAST_H
#define CORE_SWEEP_FORECAST_H

#include "core/sweep/sweep.h"

struct forecast {
    int64_t samples;
    int n_sites;
    uint64_t held;             /* most bytes alive between two stretches, on both streams, of all samples */
    uint64_t frame;            /* of one thread: room for both streams */
    uint64_t codes;            /* of all weights */
    uint64_t weights;          /* as floats, of the layers of the largest region */
    uint64_t moments, member;  /* of the layers on one tensor that are rebuilt at once: shared, and for each thread */
    uint64_t rebuild;          /* while one layer's weights are rebuilt */
    double pass_flops;         /* of a float pass over all samples */
    double moment_flops, rebuild_flops, search_flops;
    double adaround_flops, adaround_moves;     /* in products; choices moved: weights times steps */
    double lesson_flops;       /* of teaching blocks, both ways, in products */
    double lesson_elements;    /* of tensors beside them */
    double lesson_moves;       /* numbers changed: those that blocks learn, times updates */
    uint64_t lesson, tape;     /* of the largest block: what is learned, with its derivatives; values kept for the way back, for each thread */
    int tapes;                 /* that many threads at most learn at a time */
};

/*
 * The task needs graph, roles, recipe, method and samples (whose data may be NULL); s is what sweep_list_sites() made of it,
 * and gets chunks.  Scratch memory is in `mem`.
 */
bool sweep_forecast(const struct sweep_task *t, struct sweep *s, struct arena *mem, struct forecast *ret, struct err *e);

#endif
