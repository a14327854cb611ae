/* read.h - what the reader's files have of each other besides the message tables. */
#ifndef CORE_ONNX_READ_H
#define CORE_ONNX_READ_H

#include "core/onnx/message.h"

/*
 * The n bytes of a tensor that lie in another file, found by its external_data entries; borrowed.  Notes the range
 * for external_check().
 */
bool external_find(struct reader *r, const char *tensor, const struct onnx_pair *entries, size_t n_entries, uint64_t n,
                   const uint8_t **ret, struct err *e);

/* No two tensors share a part of their external bytes, unless they share all of them.  Notes in uses[ONNX_MAX_FILES] which files have any. */
bool external_check(struct reader *r, bool *uses, struct err *e);

#endif
