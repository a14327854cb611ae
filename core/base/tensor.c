#include "core/base/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct { enum dtype t; int bits; const char *name; } types[] = {
#define X(name, number, bits, text) { DT_##name, bits, text },
    DTYPES(X)
#undef X
};
enum { TYPES = sizeof types / sizeof types[0] };

const char *dtype_name(enum dtype t)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].t == t)
            return types[i].name;
    return "unknown";
}

int dtype_bits(enum dtype t)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].t == t)
            return types[i].bits;
    return 0;
}

enum dtype dtype_from_name(const char *name)
{
    for (int i = 0; i < TYPES; i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].t;
    return DT_NONE;
}

bool tensor_size(enum dtype t, const struct shape *s, const char *where,
                 uint64_t *ret_elements, uint64_t *ret_bytes, struct err *e)
{
    int bits = dtype_bits(t);
    if (bits == 0)
        return err_set(e, ERR_MODEL_INVALID, where, "elements of type %s are not supported", dtype_name(t));
    if (s->rank < 0 || s->rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_MODEL_LIMIT, where, "rank %d is outside 0 to %d", s->rank, TENSOR_MAX_RANK);
    uint64_t n = 1;
    bool empty = false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0 || s->dim[i] > TENSOR_MAX_DIM)
            return err_set(e, ERR_MODEL_LIMIT, where, "dimension %d is %lld, outside 0 to 2^40", i, (long long)s->dim[i]);
        empty |= s->dim[i] == 0;
        if (s->dim[i] && __builtin_mul_overflow(n, (uint64_t)s->dim[i], &n))
            return err_set(e, ERR_MODEL_LIMIT, where, "the dimensions overflow");
    }
    if (n > TENSOR_MAX_BYTES)
        return err_set(e, ERR_MODEL_LIMIT, where, "the dimensions overflow the limit of 2^46 bytes");
    if (empty)
        n = 0;
    uint64_t bytes = (n * (uint64_t)bits + 7) / 8;
    if (bytes > TENSOR_MAX_BYTES)
        return err_set(e, ERR_MODEL_LIMIT, where, "the dimensions overflow the limit of 2^46 bytes");
    if (ret_elements)
        *ret_elements = n;
    if (ret_bytes)
        *ret_bytes = bytes;
    return true;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

const char *shape_text(const struct shape *s, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, s->rank < 0 ? "[...]" : "[");
    for (int i = 0; i < s->rank && n < size; i++)
        n += (size_t)(s->dim[i] < 0 ? snprintf(buf + n, size - n, "%s?", i ? "," : "")
                                    : snprintf(buf + n, size - n, "%s%lld", i ? "," : "", (long long)s->dim[i]));
    if (s->rank >= 0 && n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}
