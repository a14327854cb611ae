/*
 * foresee.h - what a quantization would do and take, without doing it: the answer to a dry run.
 */
#ifndef CORE_CLI_FORESEE_H
#define CORE_CLI_FORESEE_H

#include "core/cli/load.h"
#include "core/recipe/recipe.h"

struct foresee {
    const struct file_ref *model; size_t n_model;
    const json_t *calibration, *evaluation;    /* what dataset_describe() said of them; NULL: none */
    const struct recipe *recipe;
    int threads;
    uint64_t memory;                           /* budget of held activations */
};

/*
 * {"plan": [{layer, op, role, planned_precision, reason}], "coverage", "estimate", "problems": [{code, pointer, where, level, detail}]}.
 * What is wrong with model, data or recipe is among the problems (level "error"; the estimate is null then).
 * NULL with *e: the environment is at fault.  The caller decrefs.
 */
json_t *foresee_json(const struct foresee *f, struct err *e);

#endif
