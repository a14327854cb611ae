/*
 * safetensors.c - a length, a JSON header, and the data of all arrays without holes.
 *
 *   u64 n, n bytes {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ...}, data
 *
 * Every byte of the data belongs to exactly one array, so nothing can hide in the file.
 */
#include "core/data/format.h"

#include "core/base/json.h"
#include "core/data/bytes.h"

#include <stdlib.h>
#include <string.h>

/* The format allows more, but 256 arrays never need it, and parsed JSON takes up to 50 times its text. */
enum { MAX_HEADER = 1 << 20, MAX_DEPTH = 4 };

static const struct { const char *name; enum dtype t; } types[] = {
    { "F32", DT_F32 }, { "F64", DT_F64 }, { "F16", DT_F16 }, { "BF16", DT_BF16 }, { "BOOL", DT_BOOL },
    { "U8", DT_U8 }, { "U16", DT_U16 }, { "U32", DT_U32 }, { "U64", DT_U64 },
    { "I8", DT_I8 }, { "I16", DT_I16 }, { "I32", DT_I32 }, { "I64", DT_I64 },
};

struct extent { uint64_t begin, end; struct array *array; };

static bool read_dtype(const json_t *object, const char *where, enum dtype *ret, struct err *e)
{
    const char *name = json_string_value(json_object_get(object, "dtype"));
    for (size_t i = 0; name && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, name) == 0) {
            *ret = types[i].t;
            return true;
        }
    if (!name)
        return err_set(e, ERR_DATA_FORMAT, where, "the array has no \"dtype\" in the safetensors header; save the file again");
    return err_set(e, ERR_DATA_DTYPE, where,
                   "elements of type %.32s are not supported; save float32 or a plain integer type", name);
}

static bool read_shape(const json_t *object, const char *where, struct shape *ret, struct err *e)
{
    const json_t *list = json_object_get(object, "shape");
    size_t rank = json_array_size(list);
    if (!json_is_array(list) || rank > TENSOR_MAX_RANK)
        return err_set(e, ERR_DATA_FORMAT, where, "\"shape\" must be a list of at most %d dimensions", TENSOR_MAX_RANK);
    *ret = (struct shape){ .rank = (int)rank };
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(list, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return err_set(e, ERR_DATA_FORMAT, where, "\"shape\" must hold whole numbers");
        ret->dim[i] = json_integer_value(dim);
    }
    return true;
}

static bool read_extent(const json_t *object, uint64_t data_size, const char *where, struct extent *ret, struct err *e)
{
    const json_t *list = json_object_get(object, "data_offsets");
    const json_t *begin = json_array_get(list, 0), *end = json_array_get(list, 1);
    if (json_array_size(list) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return err_set(e, ERR_DATA_FORMAT, where, "\"data_offsets\" must be [begin, end]");
    if (json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin) ||
        (uint64_t)json_integer_value(end) > data_size)
        return err_set(e, ERR_DATA_FORMAT, where,
                       "\"data_offsets\" lie outside the %llu bytes of data; the upload was cut or the file is damaged",
                       (unsigned long long)data_size);
    ret->begin = (uint64_t)json_integer_value(begin);
    ret->end = (uint64_t)json_integer_value(end);
    return true;
}

static bool read_entry(const json_t *object, uint64_t data_size, struct extent *x, struct err *e)
{
    const char *where = x->array->name;
    struct tensor *t = &x->array->t;
    uint64_t bytes;
    if (!json_is_object(object) || json_object_size(object) != 3)
        return err_set(e, ERR_DATA_FORMAT, where, "the entry must have exactly \"dtype\", \"shape\" and \"data_offsets\"");
    if (!read_dtype(object, where, &t->dtype, e) || !read_shape(object, where, &t->shape, e)
        || !read_extent(object, data_size, where, x, e) || !array_size(t->dtype, &t->shape, where, &bytes, e))
        return false;
    if (bytes != x->end - x->begin)
        return err_set(e, ERR_DATA_FORMAT, where, "the shape needs %llu bytes, \"data_offsets\" gives %llu; the file is damaged",
                       (unsigned long long)bytes, (unsigned long long)(x->end - x->begin));
    return true;
}

static bool metadata_ok(const json_t *object, const char *where, struct err *e)
{
    const char *key;
    json_t *value;
    bool ok = json_is_object(object);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
        ok &= json_is_string(value);
    return ok || err_set(e, ERR_DATA_FORMAT, where, "\"__metadata__\" must map strings to strings");
}

/* By place; arrays without bytes come before the one that starts there. */
static int by_begin(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

static bool place_all(struct arena *mem, const struct mapping *file, struct extent *x, size_t n, const uint8_t *data, uint64_t size,
                      const char *name, struct err *e)
{
    uint64_t at = 0;
    qsort(x, n, sizeof *x, by_begin);
    for (size_t i = 0; i < n; at = x[i++].end)
        if (x[i].begin != at)
            return err_set(e, ERR_DATA_FORMAT, x[i].array->name, "the array %s; the file is damaged or hostile",
                           x[i].begin < at ? "overlaps another" : "leaves a hole in the data before it");
    if (at != size)
        return err_set(e, ERR_DATA_FORMAT, name,
                       "%llu bytes behind the last array belong to nothing; the file is damaged or hostile",
                       (unsigned long long)(size - at));
    for (size_t i = 0; i < n; i++) {
        struct array *a = x[i].array;
        if (!array_place(mem, file, data + x[i].begin, x[i].end - x[i].begin, a->name, a, e))
            return false;
    }
    return true;
}

static bool read_header(struct arena *mem, const struct mapping *file, const json_t *header, uint64_t start, const char *name,
                        struct dataset *ret, struct err *e)
{
    const uint8_t *data = file->data + start;
    uint64_t size = file->size - start;
    size_t n = json_object_size(header) - (json_object_get(header, "__metadata__") != NULL);
    if (n > DATASET_MAX_ARRAYS)
        return err_set(e, ERR_DATA_LIMIT, name, "the file has %zu arrays, at most %d are read", n, DATASET_MAX_ARRAYS);
    ret->arrays = arena_array(mem, n, sizeof *ret->arrays, e);
    struct extent *extents = arena_array(mem, n, sizeof *extents, e);
    if (!ret->arrays || !extents)
        return false;
    const char *key;
    json_t *value;
    ret->n = 0;
    json_object_foreach((json_t *)(uintptr_t)header, key, value) {
        if (strcmp(key, "__metadata__") == 0) {
            if (!metadata_ok(value, name, e))
                return false;
            continue;
        }
        struct extent *x = &extents[ret->n];
        x->array = &ret->arrays[ret->n++];
        x->array->name = array_name(mem, key, strlen(key), name, e);
        if (!x->array->name || !read_entry(value, size, x, e))
            return false;
    }
    return place_all(mem, file, extents, n, data, size, name, e);
}

bool safetensors_open(struct arena *mem, const struct mapping *file, const char *name, struct dataset *ret, struct err *e)
{
    uint64_t length = le64(file->data);
    if (length > MAX_HEADER && length <= file->size - 8)
        return err_set(e, ERR_DATA_LIMIT, name, "the safetensors header has %llu bytes, at most %d are read",
                       (unsigned long long)length, MAX_HEADER);
    if (length > file->size - 8)
        return err_set(e, ERR_DATA_FORMAT, name,
                       "the safetensors header is longer than the file; the upload was cut or the file is something else");
    struct err json = { 0 };
    json_t *header = json_parse((const char *)file->data + 8, (size_t)length, MAX_DEPTH, ERR_DATA_FORMAT, &json);
    bool ok = json_is_object(header)
            ? read_header(mem, file, header, 8 + length, name, ret, e)
            : err_set(e, ERR_DATA_FORMAT, name, "the safetensors header is not a JSON object: %s", json.text);
    json_decref(header);
    return ok;
}
