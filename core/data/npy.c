#include "core/data/npy.h"

#include "core/data/bytes.h"

#include <stdio.h>
#include <string.h>

static const struct { const char *descr; enum dtype t; } types[] = {
    { "<f4", DT_F32 }, { "<f8", DT_F64 }, { "<f2", DT_F16 },
    { "|u1", DT_U8 }, { "<u2", DT_U16 }, { "<u4", DT_U32 }, { "<u8", DT_U64 },
    { "|i1", DT_I8 }, { "<i2", DT_I16 }, { "<i4", DT_I32 }, { "<i8", DT_I64 }, { "|b1", DT_BOOL },
};
enum { TYPES = sizeof types / sizeof types[0], MAX_DESCR = 64 };

const char *npy_descr(enum dtype t)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].t == t)
            return types[i].descr;
    return NULL;
}

/* ---- the literal: a dictionary of three known keys ---- */

struct literal { const char *p, *end; bool bad; };

static void skip_spaces(struct literal *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t'))
        s->p++;
}

static bool next_is(struct literal *s, char c)
{
    skip_spaces(s);
    if (s->bad || s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

static void expect(struct literal *s, char c)
{
    if (!next_is(s, c))
        s->bad = true;
}

/* 'text' or "text" of printable ASCII without escapes, NUL-terminated into buf. */
static void quoted(struct literal *s, char *buf, size_t size)
{
    skip_spaces(s);
    size_t n = 0;
    char quote = s->p < s->end ? *s->p++ : 0;
    if (quote != '\'' && quote != '"')
        s->bad = true;
    while (!s->bad && s->p < s->end && *s->p != quote) {
        if (n + 1 >= size || *s->p < ' ' || *s->p > '~' || *s->p == '\\')
            s->bad = true;
        else
            buf[n++] = *s->p++;
    }
    if (s->bad || s->p == s->end)
        s->bad = true;
    else
        s->p++;
    buf[n] = '\0';
}

/* A whole number of at most 18 digits, which cannot overflow; larger ones are far over any limit. */
static int64_t whole_number(struct literal *s)
{
    skip_spaces(s);
    int64_t x = 0;
    int digits = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9' && digits < 19; digits++)
        x = digits < 18 ? x * 10 + (*s->p++ - '0') : x;
    if (digits == 0 || digits == 19)
        s->bad = true;
    return x;
}

static bool boolean(struct literal *s)
{
    static const struct { const char *word; size_t n; bool value; } words[] = { { "True", 4, true }, { "False", 5, false } };
    skip_spaces(s);
    for (size_t i = 0; i < 2; i++)
        if ((size_t)(s->end - s->p) >= words[i].n && memcmp(s->p, words[i].word, words[i].n) == 0) {
            s->p += words[i].n;
            return words[i].value;
        }
    s->bad = true;
    return false;
}

/* (), (3,), (3, 4) or (3, 4,); but (3) is a number to Python, not a tuple. */
static void tuple(struct literal *s, struct shape *ret)
{
    bool comma = true;
    *ret = (struct shape){ .rank = 0 };
    expect(s, '(');
    while (!s->bad && !next_is(s, ')')) {
        if (!comma || ret->rank == TENSOR_MAX_RANK) {
            s->bad = true;
            return;
        }
        ret->dim[ret->rank++] = whole_number(s);
        comma = next_is(s, ',');
    }
    if (ret->rank == 1 && !comma)
        s->bad = true;
}

struct header { char descr[MAX_DESCR]; bool fortran, structured; struct shape shape; };

/* One "key: value"; *seen collects the keys. */
static void member(struct literal *s, struct header *h, unsigned *seen)
{
    static const char *const keys[] = { "descr", "fortran_order", "shape" };
    char key[16];
    unsigned k = 0;
    quoted(s, key, sizeof key);
    expect(s, ':');
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3 || *seen & 1u << k)
        s->bad = true;
    if (s->bad)
        return;
    *seen |= 1u << k;
    skip_spaces(s);
    if (k == 0 && s->p < s->end && *s->p == '[') {
        h->structured = true;              /* a list of fields: refused by name, so the rest need not be read */
        s->bad = true;
    } else if (k == 0) {
        quoted(s, h->descr, sizeof h->descr);
    } else if (k == 1) {
        h->fortran = boolean(s);
    } else {
        tuple(s, &h->shape);
    }
}

static bool dictionary(const uint8_t *text, size_t n, struct header *h)
{
    struct literal s = { (const char *)text, (const char *)text + n, false };
    unsigned seen = 0;
    expect(&s, '{');
    while (!s.bad && !next_is(&s, '}')) {
        member(&s, h, &seen);
        if (!next_is(&s, ',') && !(s.p < s.end && *s.p == '}'))
            s.bad = true;
    }
    skip_spaces(&s);
    return !s.bad && s.p == s.end && seen == 7;
}

/* ---- what the words mean ---- */

static bool refuse_type(const char *descr, const char *where, struct err *e)
{
    char kind = descr[0] && strchr("<>|=", descr[0]) ? descr[1] : descr[0];
    if (kind == 'O')
        return err_set(e, ERR_DATA_FORMAT, where, "a pickled object array; save plain numeric arrays with np.savez, samples of several lengths padded and with an array \"lengths\"");
    if (kind == 'S' || kind == 'U' || kind == 'a')
        return err_set(e, ERR_DATA_DTYPE, where,
                       "an array of strings ('%s'); tokenize the text and save the ids as int64", descr);
    if (kind == 'V')
        return err_set(e, ERR_DATA_DTYPE, where, "a structured or raw array ('%s'); save each field as a plain array", descr);
    if (descr[0] == '>')
        return err_set(e, ERR_DATA_DTYPE, where,
                       "a big-endian array ('%s'); convert it with a.astype(a.dtype.newbyteorder('<'))", descr);
    return err_set(e, ERR_DATA_DTYPE, where,
                   "elements of type '%s' are not supported; use float32, float64, float16, bool or a plain integer type", descr);
}

static bool header_fields(const struct header *h, const char *where, struct npy *ret, struct err *e)
{
    ret->dtype = DT_NONE;
    for (int i = 0; i < TYPES; i++)
        if (strcmp(types[i].descr, h->descr) == 0)
            ret->dtype = types[i].t;
    if (ret->dtype == DT_NONE)
        return refuse_type(h->descr, where, e);
    if (h->fortran && h->shape.rank > 1)
        return err_set(e, ERR_DATA_FORMAT, where, "the array is in Fortran order; save np.ascontiguousarray(a)");
    ret->shape = h->shape;
    return array_size(ret->dtype, &ret->shape, where, &ret->bytes, e);
}

bool npy_header(const uint8_t *p, uint64_t n, const char *where, struct npy *ret, struct err *e)
{
    static const uint8_t magic[6] = "\x93NUMPY";
    if (n < 10 || memcmp(p, magic, sizeof magic) != 0)
        return err_set(e, ERR_DATA_FORMAT, where, "not a .npy array; save plain numeric arrays with np.save or np.savez");
    if (p[6] < 1 || p[6] > 3 || p[7] != 0)
        return err_set(e, ERR_DATA_FORMAT, where, ".npy version %u.%u is not known; versions 1.0 to 3.0 are read", p[6], p[7]);
    uint64_t at = p[6] == 1 ? 10 : 12;
    uint64_t length = p[6] == 1 ? le16(p + 8) : n < 12 ? UINT64_MAX : le32(p + 8);
    if (length > DATASET_MAX_NPY_HEADER || length > n - at)
        return err_set(e, ERR_DATA_FORMAT, where, "the .npy header is longer than %s; the file is damaged or not made by numpy",
                       length > DATASET_MAX_NPY_HEADER ? "10,000 bytes" : "the file");
    struct header h = { 0 };
    if (!dictionary(p + at, (size_t)length, &h))
        return h.structured ? err_set(e, ERR_DATA_DTYPE, where, "a structured array; save each field as a plain array")
                            : err_set(e, ERR_DATA_FORMAT, where,
                                      "the .npy header is not {'descr', 'fortran_order', 'shape'} of a plain array of "
                                      "at most %d dimensions; save it again with np.save",
                                      TENSOR_MAX_RANK);
    ret->start = at + length;
    return header_fields(&h, where, ret, e);
}

bool npy_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e)
{
    struct npy npy;
    if (!npy_header(file->data, file->size, name, &npy, e))
        return false;
    if (npy.bytes != file->size - npy.start)
        return err_set(e, ERR_DATA_FORMAT, name,
                       "the file has %llu bytes of data, its header says %llu; the upload was cut or the file is damaged",
                       (unsigned long long)(file->size - npy.start), (unsigned long long)npy.bytes);
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    size_t n = strlen(base);
    if (n > 4 && strcmp(base + n - 4, ".npy") == 0)
        n -= 4;
    ret->n = 1;
    ret->arrays = arena_alloc(mem, sizeof *ret->arrays, e);
    if (!ret->arrays)
        return false;
    ret->arrays[0].name = n ? array_name(mem, base, n, name, e) : "data";
    ret->arrays[0].t = (struct tensor){ npy.dtype, npy.shape, NULL };
    return ret->arrays[0].name && array_place(mem, file, file->data + npy.start, npy.bytes, name, &ret->arrays[0], e);
}
