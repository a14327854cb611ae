#include "core/onnx/wire.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fixed-width values and tensors are little-endian");

static bool fail(struct wire *w, enum err_code code, const char *why)
{
    struct wire_state *s = w->state;
    if (s->code == ERR_NONE) {
        s->code = code;
        s->why = why;
        s->at = (uint64_t)(w->p - s->file);
    }
    return false;
}

static bool take_varint(struct wire *w, uint64_t *ret)
{
    uint64_t value = 0, left = wire_left(w);
    for (unsigned i = 0; i < WIRE_VARINT_MAX && i < left; i++) {
        uint64_t byte = w->p[i];
        if (i == WIRE_VARINT_MAX - 1 && byte > 1)
            return fail(w, ERR_MODEL_FORMAT, "a number has more than 64 bits");
        value |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            w->p += i + 1;
            *ret = value;
            return true;
        }
    }
    return fail(w, ERR_MODEL_FORMAT, "a number is cut off");
}

static bool take_fixed(struct wire *w, size_t n, uint64_t *ret)
{
    if (wire_left(w) < n)
        return fail(w, ERR_MODEL_FORMAT, "a fixed-width value is cut off");
    *ret = 0;
    memcpy(ret, w->p, n);
    w->p += n;
    return true;
}

static bool take_scalar(struct wire *w, enum wire_type type, uint64_t *ret)
{
    return type == WIRE_VARINT ? take_varint(w, ret) : take_fixed(w, type == WIRE_I32 ? 4 : 8, ret);
}

bool wire_item(struct wire *w, enum wire_type type, uint64_t *ret)
{
    return wire_left(w) && take_scalar(w, type, ret);
}

/* Moves past the payload; a length prefix is not part of the body. */
static bool take_body(struct wire *w, enum wire_type type, struct wire *ret)
{
    uint64_t n;
    *ret = *w;
    if (type != WIRE_LEN) {
        if (!take_scalar(w, type, &n))
            return false;
        ret->end = w->p;
        return true;
    }
    if (!take_varint(w, &n))
        return false;
    if (n > wire_left(w))
        return fail(w, ERR_MODEL_FORMAT, "a length leaves the message that holds it");
    ret->p = w->p;
    ret->end = w->p += n;
    return true;
}

bool wire_next(struct wire *w, struct wire_field *ret)
{
    if (wire_left(w) == 0)
        return false;
    if (w->state->fields_left == 0)
        return fail(w, ERR_MODEL_LIMIT, "the file has too many fields");
    w->state->fields_left--;
    struct wire start = *w;             /* a bad tag is reported where it begins */
    uint64_t tag;
    if (!take_varint(w, &tag))
        return false;
    unsigned type = tag & 7;
    if (type != WIRE_VARINT && type != WIRE_I64 && type != WIRE_LEN && type != WIRE_I32)
        return fail(&start, ERR_MODEL_FORMAT, "a field has a wire type that ONNX does not use");
    if (tag >> 3 == 0 || tag >> 3 > (1u << 29) - 1)
        return fail(&start, ERR_MODEL_FORMAT, "a field number is out of range");
    ret->number = (uint32_t)(tag >> 3);
    ret->type = (enum wire_type)type;
    return take_body(w, ret->type, &ret->body);
}

uint64_t wire_count(const struct wire *body, enum wire_type type)
{
    uint64_t left = wire_left(body), n = 0;
    if (type != WIRE_VARINT)
        return left / (type == WIRE_I32 ? 4 : 8);
    for (uint64_t i = 0; i < left; i++)
        n += body->p[i] < 0x80;         /* every varint has exactly one such byte, its last */
    return n;
}
