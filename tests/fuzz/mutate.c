/* mutate.c - formats that are a header and the data it speaks of; and PNG's checksums. */
#include "tests/fuzz/mutate.h"

#include "core/base/buf.h"
#include "core/base/json.h"
#include "core/data/bytes.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* What shapes may ask for and get. */
enum { DATA_MOST = 1 << 15 };

size_t mutate(mutator *const *by, uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size_t n = 0;
    if (mutate_pick(&seed, 4))
        for (; !n && *by; by++)
            n = (*by)(data, size, max, seed);
    return n ? n : LLVMFuzzerMutate(data, size, max);
}

/* ---- headers of text ---- */

/* One of the numbers in a text becomes another; false: there is none. */
static bool change_number(struct buf *out, const char *text, size_t n, unsigned *seed)
{
    static const char *const telling[] = { "0", "1", "2", "3", "4", "8", "16", "32", "64", "255", "256", "65536", "2147483647", "4294967296",
                                           "9223372036854775807", "18446744073709551616", "-1", "1.5", "1e400" };
    size_t count = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        count += isdigit((unsigned char)text[i]) && (i == 0 || !isdigit((unsigned char)text[i - 1]));
    if (!count)
        return false;
    for (size_t left = mutate_pick(seed, count) + 1; left; at++)
        left -= isdigit((unsigned char)text[at]) && (at == 0 || !isdigit((unsigned char)text[at - 1]));
    buf_add(out, text, at - 1);
    buf_str(out, telling[mutate_pick(seed, sizeof telling / sizeof *telling)]);
    while (at < n && isdigit((unsigned char)text[at]))
        at++;
    buf_add(out, text + at, n - at);
    return true;
}

static void change_text(struct buf *out, const char *text, size_t n, unsigned *seed)
{
    enum { MORE = 64 };
    if (mutate_pick(seed, 2) && change_number(out, text, n, seed))
        return;
    char *copy = malloc(n + MORE);
    memcpy(copy, text, n);
    buf_add(out, copy, LLVMFuzzerMutate((uint8_t *)copy, n, n + MORE));
    free(copy);
}

/* Bytes of an element, from a type's name: "F32" has 4, "<f4" as well. */
static uint64_t width_of(const char *type, bool in_bits)
{
    long n = type ? strtol(type + strcspn(type, "0123456789"), NULL, 10) : 0;
    return n <= 0 || n > 64 ? 1 : in_bits ? (uint64_t)(n + 7) / 8 : (uint64_t)n;
}

/* The data that was there, cut or filled with zeros. */
static void put_data(struct buf *out, const uint8_t *data, size_t have, size_t want)
{
    static const uint8_t zeros[64];
    buf_add(out, data, have < want ? have : want);
    for (size_t i = have; i < want; i += sizeof zeros)
        buf_add(out, zeros, want - i < sizeof zeros ? want - i : sizeof zeros);
}

static size_t finish(struct buf *out, uint8_t *data)
{
    size_t n = out->bad ? 0 : out->n;
    if (n)
        memcpy(data, out->p, n);
    buf_release(out);
    return n;
}

/* ---- safetensors ---- */

static uint64_t bytes_of(const json_t *entry)
{
    uint64_t n = width_of(json_string_value(json_object_get(entry, "dtype")), true);
    size_t i;
    json_t *dim;
    json_array_foreach(json_object_get(entry, "shape"), i, dim) {
        uint64_t d = (uint64_t)json_integer_value(dim);
        n = d <= DATA_MOST && n <= DATA_MOST ? n * d : DATA_MOST + 1;
    }
    return n;
}

/* Sets all offsets as the shapes want them, one array behind the other; the end of the last one, or 0: there are none, or they are too large. */
static size_t lay_out(json_t *header)
{
    uint64_t at = 0, n;
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry) {
        if (!json_is_object(entry) || strcmp(key, "__metadata__") == 0)
            continue;
        if ((n = bytes_of(entry)) > DATA_MOST - at)
            return 0;
        json_object_set_new(entry, "data_offsets", json_pack("[I, I]", (json_int_t)at, (json_int_t)(at + n)));
        at += n;
    }
    return (size_t)at;
}

size_t mutate_safetensors(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (size < 10 || le64(data) > size - 8 || data[8] != '{')
        return 0;
    size_t n = (size_t)le64(data), have = size - 8 - n, want = have;
    struct buf text = BUF_INIT(max), out = BUF_INIT(max);
    uint8_t length[8];
    change_text(&text, (const char *)data + 8, n, &seed);
    json_t *header = json_parse(text.p ? text.p : "", text.n, 4, ERR_DATA_FORMAT, NULL);
    if (header && mutate_pick(&seed, 4) && (want = lay_out(header))) {
        char *whole = json_text(header, JSON_COMPACT);
        buf_release(&text);
        buf_str(&text, whole);
        free(whole);
    } else {
        want = have;
    }
    json_decref(header);
    le_put(length, text.n, 8);
    buf_add(&out, length, sizeof length);
    buf_add(&out, text.p, text.n);
    put_data(&out, data + 8 + n, have, want);
    buf_release(&text);
    return finish(&out, data);
}

/* ---- npy ---- */

/* From "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"; more than DATA_MOST: too much. */
static uint64_t npy_bytes(const char *text)
{
    const char *descr = strstr(text, "descr"), *shape = strchr(text, '(');
    uint64_t n = width_of(descr ? descr + 5 : NULL, false);
    for (const char *s = shape ? shape + 1 : ""; *s && *s != ')'; s += strspn(s, ", ")) {
        char *end;
        uint64_t d = strtoull(s, &end, 10);
        if (end == s)
            break;
        n = d <= DATA_MOST && n <= DATA_MOST ? n * d : DATA_MOST + 1;
        s = end;
    }
    return n;
}

size_t mutate_npy(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    if (size < 12 || memcmp(data, "\x93NUMPY", 6) != 0)
        return 0;
    size_t wide = data[6] == 1 ? 2 : 4, start = 8 + wide, n = (size_t)le_get(data + 8, (int)wide);
    if (n > size - start)
        return 0;
    size_t have = size - start - n, want;
    struct buf text = BUF_INIT(max), out = BUF_INIT(max);
    uint8_t length[4];
    change_text(&text, (const char *)data + start, n, &seed);
    want = text.p ? npy_bytes(text.p) : have;
    if (want > DATA_MOST || !mutate_pick(&seed, 4))
        want = have;
    le_put(length, text.n, (int)wide);
    buf_add(&out, data, 8);
    buf_add(&out, length, wide);
    buf_add(&out, text.p, text.n);
    put_data(&out, data + start + n, have, want);
    buf_release(&text);
    return finish(&out, data);
}

/* ---- PNG ---- */

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

size_t mutate_png(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    enum { SIGNATURE = 8, AROUND = 12 };    /* a chunk is its length, its kind, its data, its checksum */
    (void)seed;
    if (size < SIGNATURE || memcmp(data, "\x89PNG\r\n\x1a\n", SIGNATURE) != 0)
        return 0;
    size_t n = LLVMFuzzerMutate(data + SIGNATURE, size - SIGNATURE, max - SIGNATURE) + SIGNATURE;
    for (size_t at = SIGNATURE; n - at >= AROUND && be32(data + at) <= n - at - AROUND; at += AROUND + be32(data + at)) {
        uint8_t *end = data + at + 8 + be32(data + at);
        uint32_t crc = (uint32_t)crc32(0, data + at + 4, be32(data + at) + 4);
        for (int i = 0; i < 4; i++)
            end[i] = (uint8_t)(crc >> (24 - 8 * i));
    }
    return n;
}
