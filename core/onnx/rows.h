/* rows.h - short forms for the rows of a message's table.  `type` is the C struct, `member` where the value goes. */
#ifndef CORE_ONNX_ROWS_H
#define CORE_ONNX_ROWS_H

#include "core/onnx/message.h"
#include "core/onnx/proto.h"

/* A single field; one whose presence matters (its count is 0 or 1); the same for a nested message. */
#define ONE(number_, label_, kind_, type, member) \
    { .number = (number_), .label = (label_), .kind = (kind_), .at = offsetof(type, member) }
#define OPTIONAL(number_, label_, kind_, type, member, count) \
    { .number = (number_), .label = (label_), .kind = (kind_), .at = offsetof(type, member), .count_at = offsetof(type, count) }
#define NESTED(number_, label_, message, type, member) \
    { .number = (number_), .label = (label_), .kind = FIELD_MESSAGE, .at = offsetof(type, member), .of = (message) }
/* Repeated fields; `count` follows `member`. */
#define MANY(number_, label_, kind_, type, member, count, limit_) \
    { .number = (number_), .label = (label_), .kind = (kind_), .at = offsetof(type, member), .count_at = offsetof(type, count), .limit = (limit_) }
#define MESSAGES(number_, label_, message, type, member, count, limit_) \
    { .number = (number_), .label = (label_), .kind = FIELD_MESSAGES, .at = offsetof(type, member), .count_at = offsetof(type, count), \
      .limit = (limit_), .of = (message) }
/* Fields that are only counted. */
#define COUNT(number_, label_, kind_, type, count) \
    { .number = (number_), .label = (label_), .kind = (kind_), .count_at = offsetof(type, count) }

#endif
