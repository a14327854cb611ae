/*
 * read_external.c - tensors whose bytes lie in another file.
 *
 * A model's `location` is never a path here: it is only a key into the files
 * that were uploaded together, compared byte for byte.
 */
#include "core/onnx/read.h"

#include <stdlib.h>
#include <string.h>

struct range {
    struct range *next;
    const char *tensor;
    size_t file;
    uint64_t from, to;           /* [from, to), not empty */
};

enum external_key { KEY_LOCATION, KEY_OFFSET, KEY_LENGTH, KEY_CHECKSUM, KEYS };
static const char *const keys[KEYS] = { "location", "offset", "length", "checksum" };

/* Each key at most once, and no others: a key we do not know might change what the bytes mean. */
static bool sort_entries(struct reader *r, const char *tensor, const struct onnx_pair *entries, size_t n,
                         const char *ret[KEYS], struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        int k = 0;
        while (k < KEYS && strcmp(keys[k], entries[i].key) != 0)
            k++;
        if (k == KEYS || ret[k])
            return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "external_data entry %zu is %s; save the model again",
                           i, k == KEYS ? "not location, offset, length or checksum" : "a repetition");
        ret[k] = entries[i].value;
    }
    return true;
}

/* Decimal digits only: no sign, no space, no exponent, below 2^64. */
static bool parse_u64(const char *s, uint64_t *ret)
{
    uint64_t v = 0;
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    *ret = v;
    return true;
}

static bool get_u64(struct reader *r, const char *tensor, enum external_key key, const char *text, uint64_t *ret, struct err *e)
{
    char shown[64];
    if (!text || parse_u64(text, ret))
        return true;
    return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "external data %s '%s' is not a decimal number below 2^64; save the model again",
                   keys[key], text_printable(shown, sizeof shown, text, strlen(text)));
}

static bool leaves_folder(const char *location)
{
    if (location[0] == '/' || location[0] == '\\' || (location[0] && location[1] == ':'))
        return true;
    for (const char *p = location; *p; p += strcspn(p, "/\\"), p += *p != '\0')
        if (strcspn(p, "/\\") == 2 && p[0] == '.' && p[1] == '.')
            return true;
    return false;
}

static bool find_file(struct reader *r, const char *tensor, const char *location, size_t *ret, struct err *e)
{
    char shown[160];
    if (!location || !location[0])
        return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "the tensor has external data without a location; save the model again");
    for (size_t i = 1; i < r->n_files; i++)
        if (strcmp(r->files[i].name, location) == 0) {
            *ret = i;
            return true;
        }
    text_printable(shown, sizeof shown, location, strlen(location));
    if (leaves_folder(location))
        return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "its data is at '%s', which is outside the model's folder; save the model with its data beside it",
                       shown);
    return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "its data is in '%s', which is not here; upload the file with the model under this name", shown);
}

static bool note_range(struct reader *r, const char *tensor, size_t file, uint64_t from, uint64_t n, struct err *e)
{
    if (n == 0)
        return true;
    struct range *x = arena_alloc(r->mem, sizeof *x, e);
    if (!x)
        return false;
    *x = (struct range){ r->ranges, tensor, file, from, from + n };
    r->ranges = x;
    r->n_ranges++;
    return true;
}

bool external_find(struct reader *r, const char *tensor, const struct onnx_pair *entries, size_t n_entries, uint64_t n,
                   const uint8_t **ret, struct err *e)
{
    const char *value[KEYS] = { NULL };
    uint64_t offset = 0, length = n;         /* both may be left out */
    size_t file;
    if (!sort_entries(r, tensor, entries, n_entries, value, e) ||
        !get_u64(r, tensor, KEY_OFFSET, value[KEY_OFFSET], &offset, e) ||
        !get_u64(r, tensor, KEY_LENGTH, value[KEY_LENGTH], &length, e) ||
        !find_file(r, tensor, value[KEY_LOCATION], &file, e))
        return false;
    uint64_t size = r->files[file].size;
    if (length != n)
        return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "its external data has %llu bytes where its shape needs %llu; save the model again",
                       (unsigned long long)length, (unsigned long long)n);
    if (offset > size || length > size - offset)
        return err_set(e, ERR_MODEL_EXTERNAL, reader_at(r, tensor), "its external data is %llu bytes from %llu, but the file has only %llu; upload the complete file",
                       (unsigned long long)length, (unsigned long long)offset, (unsigned long long)size);
    *ret = n ? r->files[file].data + offset : NULL;
    return note_range(r, tensor, file, offset, n, e);
}

static int by_place(const void *a, const void *b)
{
    const struct range *x = *(const struct range *const *)a, *y = *(const struct range *const *)b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    return x->to < y->to ? -1 : x->to > y->to;
}

bool external_check(struct reader *r, bool *uses, struct err *e)
{
    const struct range **sorted = arena_array(r->mem, r->n_ranges, sizeof *sorted, e);
    if (!sorted)
        return false;
    size_t n = 0;
    uses[0] = true;
    for (const struct range *x = r->ranges; x; x = x->next) {
        sorted[n++] = x;
        uses[x->file] = true;
    }
    qsort(sorted, n, sizeof *sorted, by_place);
    /* Sorted, the first partial overlap is between neighbours. */
    for (size_t i = 1; i < n; i++) {
        const struct range *x = sorted[i - 1], *y = sorted[i];
        if (x->file == y->file && y->from < x->to && (y->from != x->from || y->to != x->to)) {
            char a[80], b[80];
            return err_set(e, ERR_MODEL_EXTERNAL, "external_data", "tensors '%s' and '%s' overlap in their file; save the model again",
                           text_printable(a, sizeof a, x->tensor, strlen(x->tensor)), text_printable(b, sizeof b, y->tensor, strlen(y->tensor)));
        }
    }
    return true;
}
