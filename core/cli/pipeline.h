/*
 * pipeline.h - one quantization from files to artifact: what `quantize` and `job` both do.
 *
 *   load model and data -> roles -> sweep -> model.onnx -> parity check -> evaluation -> report, details, manifest
 */
#ifndef CORE_CLI_PIPELINE_H
#define CORE_CLI_PIPELINE_H

#include "core/cli/load.h"
#include "core/graph/roles.h"
#include "core/recipe/recipe.h"
#include "core/report/events.h"

struct pipeline {
    const struct file_ref *model; size_t n_model;
    bool find_external;                /* a person's: model[0].path may have external data beside it, dir may hold inputs (which stay) */
    struct file_ref calibration;       /* name NULL: none; then the recipe must do without, or have random tokens */
    struct file_ref evaluation;        /* name NULL: none */
    const struct recipe *recipe;
    struct mapping recipe_file;        /* which file it was read from (dev, ino); zero: none */
    const char *dir;                   /* where results, journal and spill file go */
    int threads;
    uint64_t memory;                   /* budget of held activations, bytes */
    uint64_t seed;
    bool keep_journal;                 /* true for jobs: the journal outlives a finished run */
    const struct events *events;
};

/* What a person is told at the end. */
struct pipeline_result {
    uint64_t bytes_before, bytes_after;
    char digest[HASH_TEXT_SIZE];       /* of model.onnx */
    int layers, quantized;
    double seconds;
    bool evaluated, unmeasured;        /* unmeasured: there were no samples at all */
};

/* Writes dir/model.onnx, report.json, details.json, manifest.json; each complete or not at all. */
bool pipeline_run(const struct pipeline *p, struct pipeline_result *ret, struct err *e);

/* Writes ranges per token into the graph where the recipe has them; finds the roles again. */
bool pipeline_divide_rows(struct loaded_model *m, struct roles *roles, const struct recipe *r, struct err *e);

enum { PIPELINE_FILES = 4, PIPELINE_MEASURED = 64 };       /* evaluation samples that layers are measured on where nobody gave others */
extern const char *const pipeline_files[PIPELINE_FILES];

#endif
