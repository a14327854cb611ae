/* mutate_wire.c - protobuf without its schema: bytes that read as a message to their end are taken for one. */
#include "tests/fuzz/mutate.h"

#include "core/base/buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 512, DEPTH = 12, VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

/* [at, number) is the tag, [body, end) the value; of BYTES the length stands between. */
struct field { size_t at, number, body, end; unsigned type; };

static bool get_varint(const uint8_t *p, size_t n, size_t *at, uint64_t *ret)
{
    *ret = 0;
    for (int shift = 0; *at < n && shift < 64; shift += 7) {
        uint8_t byte = p[(*at)++];
        *ret |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static void put_varint(struct buf *out, uint64_t x)
{
    for (; x > 127; x >>= 7)
        buf_add(out, &(uint8_t){ (uint8_t)(x | 128) }, 1);
    buf_add(out, &(uint8_t){ (uint8_t)x }, 1);
}

static bool get_field(const uint8_t *p, size_t n, size_t *at, struct field *f)
{
    uint64_t tag, value = 0;
    f->at = *at;
    if (!get_varint(p, n, at, &tag) || tag < 8)
        return false;
    f->type = tag & 7;
    f->number = f->body = *at;
    if ((f->type == VARINT || f->type == BYTES) && !get_varint(p, n, at, &value))
        return false;
    if (f->type == BYTES)
        f->body = *at;
    uint64_t more = f->type == BYTES ? value : f->type == FIXED64 ? 8 : f->type == FIXED32 ? 4 : 0;
    if ((f->type > BYTES && f->type != FIXED32) || more > n - *at)
        return false;
    f->end = *at += (size_t)more;
    return true;
}

/* How many fields there are; 0: this is no message. */
static size_t split(const uint8_t *p, size_t n, struct field f[FIELDS])
{
    size_t count = 0, at = 0;
    while (at < n)
        if (count == FIELDS || !get_field(p, n, &at, &f[count++]))
            return 0;
    return count;
}

static void put_bytes(struct buf *out, const uint8_t *p, const struct field *f, const void *body, size_t n)
{
    buf_add(out, p + f->at, f->number - f->at);
    put_varint(out, n);
    buf_add(out, body, n);
}

static void change_value(const uint8_t *p, const struct field *f, unsigned *seed, struct buf *out)
{
    enum { MORE = 64 };
    static const uint64_t telling[] = { 0, 1, 2, 7, 8, 16, 255, 1 << 16, INT32_MAX, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX };
    size_t n = f->end - f->body, room = f->type == BYTES ? n + MORE : n;
    if (f->type == VARINT) {
        buf_add(out, p + f->at, f->number - f->at);
        put_varint(out, mutate_pick(seed, 2) ? telling[mutate_pick(seed, sizeof telling / sizeof *telling)] : mutate_pick(seed, 32));
        return;
    }
    uint8_t *copy = malloc(room + 1);
    memcpy(copy, p + f->body, n);
    size_t now = LLVMFuzzerMutate(copy, n, room);
    if (f->type == BYTES) {
        put_bytes(out, p, f, copy, now);
    } else {
        buf_add(out, p + f->at, f->body - f->at);
        buf_add(out, copy, n);
    }
    free(copy);
}

static void mutate_message(const uint8_t *p, size_t n, int depth, unsigned *seed, struct buf *out)
{
    struct field fields[FIELDS], inside[FIELDS];
    size_t count = split(p, n, fields);
    const struct field *f = &fields[mutate_pick(seed, count)], *other = &fields[mutate_pick(seed, count)];
    buf_add(out, p, f->at);
    if (f->type == BYTES && depth < DEPTH && mutate_pick(seed, 8) && split(p + f->body, f->end - f->body, inside)) {
        struct buf body = BUF_INIT(out->limit);
        mutate_message(p + f->body, f->end - f->body, depth + 1, seed, &body);
        put_bytes(out, p, f, body.p, body.n);
        out->bad |= body.bad;
        buf_release(&body);
    } else {
        unsigned how = mutate_pick(seed, 8);
        if (how == 1)                   /* doubled */
            buf_add(out, p + f->at, f->end - f->at);
        if (how == 1 || how == 2)       /* and followed, or replaced, by another */
            buf_add(out, p + other->at, other->end - other->at);
        if (how > 2)                    /* 0: dropped */
            change_value(p, f, seed, out);
    }
    buf_add(out, p + f->end, n - f->end);
}

size_t mutate_wire(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    struct field fields[FIELDS];
    struct buf out = BUF_INIT(max);
    if (!split(data, size, fields))
        return 0;
    mutate_message(data, size, 0, &seed, &out);
    size_t n = out.bad ? 0 : out.n;
    if (n)
        memcpy(data, out.p, n);
    buf_release(&out);
    return n;
}
