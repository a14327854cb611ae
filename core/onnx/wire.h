/*
 * wire.h - the protobuf wire format: a cursor that cannot leave its range.
 *
 *     |<---------------- one message ---------------->|
 *     | tag payload | tag payload |p    left          |end
 *                     `-- its body is a cursor of its own, inside the parent's range
 *
 * All cursors of one file share a wire_state.  It is sticky: after the first
 * failure, wherever it happened, every cursor is at its end, so a loop ends by
 * itself and its caller checks wire_failed() once.  The state also carries the
 * budget of fields, so that a file of empty fields cannot keep us busy.
 *
 * Refused: the deprecated groups (wire types 3 and 4, the only construct that
 * nests without a length), field number 0, varints of more than 10 bytes or 64
 * bits, lengths that leave the parent.
 */
#ifndef CORE_ONNX_WIRE_H
#define CORE_ONNX_WIRE_H

#include "core/base/err.h"

#include <stdint.h>

enum wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

enum { WIRE_VARINT_MAX = 10 };              /* bytes of the longest varint */

struct wire_state {
    const uint8_t *file;                    /* byte 0, for offsets in messages; borrowed */
    uint64_t fields_left;
    enum err_code code;                     /* ERR_NONE until the first failure */
    const char *why;
    uint64_t at;                            /* offset in the file of what failed */
};

struct wire {
    const uint8_t *p, *end;                 /* borrowed */
    struct wire_state *state;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    struct wire body;                       /* the payload: a message's or string's bytes, or the scalar's own */
};

static inline bool wire_failed(const struct wire_state *s) { return s->code != ERR_NONE; }
static inline uint64_t wire_left(const struct wire *w) { return wire_failed(w->state) ? 0 : (uint64_t)(w->end - w->p); }

/* The next field of a message.  False at its end, or after a failure. */
bool wire_next(struct wire *w, struct wire_field *ret);

/* The bits of the next scalar of the given type (not WIRE_LEN).  False at the end of w, or after a failure. */
bool wire_item(struct wire *w, enum wire_type type, uint64_t *ret);

/* How many scalars of the type a body holds, packed or single, without reading them: wire_item() delivers no more. */
uint64_t wire_count(const struct wire *body, enum wire_type type);

#endif
