/* validation.h - does a data set fit a model, and will it calibrate well?  A list of answers instead of the first objection. */
#ifndef CORE_CLI_VALIDATION_H
#define CORE_CLI_VALIDATION_H

#include "core/cli/load.h"

/*
 * {"ok", "samples", "checks": [{"code", "level", "pointer", "where", "detail", "remedy"}]}.  level: "ok", "warning", "error"; "ok" of
 * the whole: no error.  pointer: into the data set's resource.  remedy may be null.  NULL without memory, or with *e
 * where the model's inputs cannot be told.
 */
json_t *validation_json(const struct loaded_model *m, struct loaded_data *d, struct err *e);

#endif
