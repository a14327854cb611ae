/*
 * opset.h - a finished model under a newer version of the standard operators.
 *
 * A model is written with the opset it came with, unless it needs a type that only a newer one has (INT4: 21).
 * Changing the number alone would change what some nodes mean, so every node whose form has moved on is rewritten.
 */
#ifndef CORE_ARTIFACT_OPSET_H
#define CORE_ARTIFACT_OPSET_H

#include "core/onnx/onnx.h"

enum { OPSET_INT4 = 21 };              /* the first with 4-bit tensors, and the newest that opset_raise() knows */

/*
 * Rewrites *m from its opset (13 or more) to `to` (at most OPSET_INT4), and its IR version to the one released with it;
 * a model that is there already is left alone.  Nodes of other domains stay as they are.  What is new lives in `mem`;
 * nothing that m points to is written, so arrays it shares with other models are safe.
 * ERR_EXPORT_FORM naming the node that has no equal form there, ERR_MEMORY; then *m is as it was.
 */
bool opset_raise(struct onnx_model *m, int to, struct arena *mem, struct err *e);

#endif
