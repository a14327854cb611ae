/*
 * inventory.h - what a model is: the JSON of `repquant inspect --json` and of a registered model.
 *
 * {"format", "digest", "bytes", "ir_version", "opset", "producer",
 *  "inputs": [{"name", "dtype", "shape": [1, "batch", ...]}], "outputs": the same,
 *  "parameters", "nodes", "ops": [{"type", "count", "support": {"repquant": nodes that the method's plain preset quantizes, ...}}],
 *  "layers": [{"name", "op", "role", "block", "input", and with a weight "shape": [k, n], "params", "shared_weight"}],
 *  "norms": [{"name", "kind", "decomposed", "feeds": [layer names]}], "activations": [{"kind", "count"}],
 *  "left_float": [{"node", "op", "reason"}],
 *  "methods": [{"recipe", "quantizes", "stays_float"}]}
 * Lists are bounded (INVENTORY_MAX_LAYERS), "truncated" says so.
 */
#ifndef CORE_CLI_INVENTORY_H
#define CORE_CLI_INVENTORY_H

#include "core/cli/load.h"
#include "core/graph/roles.h"

enum { INVENTORY_MAX_LAYERS = 4096 };

/* A new reference; NULL without memory. */
json_t *inventory_json(const struct loaded_model *m, const struct roles *r);

#endif
