/*
 * read_tensor.c - TensorProto: a shape, a type, and exactly one place where the bytes are: raw_data, another file,
 * or the typed field that belongs to the type.  tensor_size() says how many bytes there must be; nothing else does
 * arithmetic on the shape, and nothing is allocated before the count has been compared.
 */
#include "core/base/io.h"
#include "core/onnx/read.h"
#include "core/onnx/rows.h"

#include <string.h>

enum { LOCATION_DEFAULT = 0, LOCATION_EXTERNAL = 1, MAX_ENTRIES = 16, LARGE = 64 << 10 };

struct wire_tensor {
    const char *name;
    int64_t *dims;                 size_t n_dims;
    int64_t type, location;
    struct span raw;               size_t n_raw;
    struct onnx_pair *external;    size_t n_external;
    size_t n_float, n_int32, n_int64, n_double, n_uint64, n_string, n_segment;
};

#define W struct wire_tensor
static const struct field tensor_fields[] = {
    MANY(TENSOR_DIMS, "dims", FIELD_INTS, W, dims, n_dims, TENSOR_MAX_RANK),
    ONE(TENSOR_DATA_TYPE, "data_type", FIELD_INT, W, type),
    COUNT(TENSOR_SEGMENT, "segment", FIELD_PRESENT, W, n_segment),
    COUNT(TENSOR_FLOAT_DATA, "float_data", FIELD_I32_COUNT, W, n_float),
    COUNT(TENSOR_INT32_DATA, "int32_data", FIELD_VARINT_COUNT, W, n_int32),
    COUNT(TENSOR_STRING_DATA, "string_data", FIELD_MESSAGE_COUNT, W, n_string),
    COUNT(TENSOR_INT64_DATA, "int64_data", FIELD_VARINT_COUNT, W, n_int64),
    ONE(TENSOR_NAME, "name", FIELD_NAME, W, name),
    OPTIONAL(TENSOR_RAW_DATA, "raw_data", FIELD_BYTES, W, raw, n_raw),
    COUNT(TENSOR_DOUBLE_DATA, "double_data", FIELD_I64_COUNT, W, n_double),
    COUNT(TENSOR_UINT64_DATA, "uint64_data", FIELD_VARINT_COUNT, W, n_uint64),
    MESSAGES(TENSOR_EXTERNAL_DATA, "external_data", &message_entry, W, external, n_external, MAX_ENTRIES),
    ONE(TENSOR_DATA_LOCATION, "data_location", FIELD_INT, W, location),
};
#undef W

/* Which typed field holds which type, how, and what one value of it may be.  Two 4-bit elements share a value. */
static const struct typed {
    enum dtype dtype;
    uint32_t field;
    const char *label;
    enum wire_type wire;
    unsigned bytes;              /* that one value becomes */
    int64_t lo, hi;
    size_t count_at;
} typed[] = {
#define ROW(type, field, label, wire, bytes, lo, hi, count) { DT_##type, field, label, wire, bytes, lo, hi, offsetof(struct wire_tensor, count) }
#define INT32(type, bytes, lo, hi) ROW(type, TENSOR_INT32_DATA, "int32_data", WIRE_VARINT, bytes, lo, hi, n_int32)
    ROW(F32, TENSOR_FLOAT_DATA, "float_data", WIRE_I32, 4, INT64_MIN, INT64_MAX, n_float),
    ROW(F64, TENSOR_DOUBLE_DATA, "double_data", WIRE_I64, 8, INT64_MIN, INT64_MAX, n_double),
    ROW(I64, TENSOR_INT64_DATA, "int64_data", WIRE_VARINT, 8, INT64_MIN, INT64_MAX, n_int64),
    ROW(U64, TENSOR_UINT64_DATA, "uint64_data", WIRE_VARINT, 8, INT64_MIN, INT64_MAX, n_uint64),
    ROW(U32, TENSOR_UINT64_DATA, "uint64_data", WIRE_VARINT, 4, 0, UINT32_MAX, n_uint64),
    INT32(I32, 4, INT32_MIN, INT32_MAX), INT32(I16, 2, INT16_MIN, INT16_MAX), INT32(U16, 2, 0, UINT16_MAX),
    INT32(I8, 1, INT8_MIN, INT8_MAX), INT32(U8, 1, 0, UINT8_MAX), INT32(BOOL, 1, 0, 1),
    INT32(F16, 2, 0, UINT16_MAX), INT32(BF16, 2, 0, UINT16_MAX), INT32(U4, 1, 0, UINT8_MAX), INT32(I4, 1, INT8_MIN, UINT8_MAX),
#undef INT32
#undef ROW
};
enum { TYPED = sizeof typed / sizeof typed[0] };

static const struct typed *typed_of(int64_t t)
{
    for (int i = 0; i < TYPED; i++)
        if (typed[i].dtype == t)
            return &typed[i];
    return NULL;
}

bool type_known(int64_t number)
{
    return number == DT_STRING || (number > 0 && number <= INT32_MAX && dtype_bits((enum dtype)number) > 0);
}

static size_t count_of(const struct wire_tensor *w, const struct typed *f)
{
    size_t n;
    memcpy(&n, (const char *)w + f->count_at, sizeof n);
    return n;
}

/* Values of every field that may carry a tensor's elements. */
static size_t fields_with_data(const struct wire_tensor *w)
{
    return (w->n_raw > 0) + (w->n_float > 0) + (w->n_int32 > 0) + (w->n_int64 > 0) + (w->n_double > 0) + (w->n_uint64 > 0);
}

static bool wrong_size(struct reader *r, const struct wire_tensor *w, const struct tensor *t, const char *field,
                       uint64_t have, uint64_t want, const char *unit, struct err *e)
{
    char shape[128];
    return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "%s holds %llu %s where %s %s needs %llu; the file is damaged: export the model again",
                   field, (unsigned long long)have, unit, dtype_name(t->dtype), shape_text(&t->shape, shape, sizeof shape), (unsigned long long)want);
}

/* A borrowed view where the bytes lie aligned to an element; else a copy, in place of the mapped pages and not besides. */
static bool view(struct reader *r, const struct typed *f, const uint8_t *p, uint64_t n, struct tensor *t, struct err *e)
{
    if ((uintptr_t)p % f->bytes == 0) {
        t->data = (void *)p;
        return true;
    }
    t->data = arena_alloc(r->mem, n, e);
    if (t->data)
        memcpy(t->data, p, (size_t)n);
    if (r->files[0].mapped && n >= LARGE)
        mapping_rest(p, n);
    return t->data != NULL;
}

/* The values of every occurrence of the typed field, in file order, into t->data (which holds exactly their count). */
static bool convert(struct reader *r, const struct typed *f, struct wire body, const char *name, struct tensor *t, struct err *e)
{
    uint8_t *to = t->data;
    struct wire_field w;
    while (wire_next(&body, &w)) {
        uint64_t bits;
        while (w.number == f->field && wire_item(&w.body, f->wire, &bits)) {
            if ((int64_t)bits < f->lo || (int64_t)bits > f->hi)
                return err_set(e, ERR_MODEL_INVALID, reader_at(r, name), "%s holds %lld, which no %s can be; export the model again",
                               f->label, (long long)bits, dtype_name(t->dtype));
            memcpy(to, &bits, f->bytes);
            to += f->bytes;
        }
    }
    return reader_wire_ok(r, e);
}

static bool read_embedded(struct reader *r, const struct wire_tensor *w, const struct typed *f, struct wire body, uint64_t n, struct tensor *t,
                          struct err *e)
{
    if (w->n_raw) {
        if (w->raw.n != n)
            return wrong_size(r, w, t, "raw_data", w->raw.n, n, "bytes", e);
        return n == 0 || view(r, f, w->raw.p, n, t, e);
    }
    size_t have = count_of(w, f);
    if (fields_with_data(w) > (have > 0))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "the elements are not in %s, where %s belongs; export the model again",
                       f->label, dtype_name(t->dtype));
    if (have != n / f->bytes)
        return wrong_size(r, w, t, have ? f->label : "the tensor", have, n / f->bytes, "values", e);
    if (n == 0)
        return true;
    t->data = arena_alloc(r->mem, n, e);
    return t->data && convert(r, f, body, w->name, t, e);
}

static bool read_external(struct reader *r, const struct wire_tensor *w, const struct typed *f, uint64_t n, struct tensor *t, struct err *e)
{
    const uint8_t *p;
    if (fields_with_data(w))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "the tensor has external data and data of its own; save the model again");
    return external_find(r, w->name, w->external, w->n_external, n, &p, e) && (n == 0 || view(r, f, p, n, t, e));
}

/* f: how its type is held, or NULL: in no way. */
static bool check_tensor(struct reader *r, const struct wire_tensor *w, const struct typed *f, struct err *e)
{
    const char *where = reader_at(r, w->name);
    if (!f && w->type != DT_STRING)
        return err_set(e, ERR_MODEL_INVALID, where, "data type %lld is missing, unknown or not supported; export the model with float32 weights",
                       (long long)w->type);
    if (!f || w->n_string)
        return err_set(e, ERR_MODEL_INVALID, where, "tensors of strings are not supported; remove the text processing from the exported graph");
    if (w->n_segment)
        return err_set(e, ERR_MODEL_INVALID, where, "segmented tensors are not supported; save the model again");
    if (w->location != LOCATION_DEFAULT && w->location != LOCATION_EXTERNAL)
        return err_set(e, ERR_MODEL_INVALID, where, "data_location %lld is not known; save the model again", (long long)w->location);
    if (fields_with_data(w) > 1)
        return err_set(e, ERR_MODEL_INVALID, where, "the tensor's elements are given twice, in different fields; save the model again");
    return true;
}

static bool tensor_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    static const struct message as_wire = { MESSAGE_FIELDS(tensor_fields), .size = sizeof(struct wire_tensor) };
    struct wire_tensor w = { 0 };
    if (!message_read(r, &as_wire, body, &w, e))
        return false;
    const struct typed *f = typed_of(w.type);
    if (!check_tensor(r, &w, f, e))
        return false;

    struct onnx_tensor *t = ret;
    uint64_t bytes;
    t->name = w.name;
    t->external = w.location == LOCATION_EXTERNAL;
    t->t.dtype = (enum dtype)w.type;
    t->t.shape.rank = (int)w.n_dims;
    for (size_t i = 0; i < w.n_dims; i++)
        t->t.shape.dim[i] = w.dims[i];
    if (!tensor_size(t->t.dtype, &t->t.shape, reader_at(r, w.name), NULL, &bytes, e))
        return false;
    return t->external ? read_external(r, &w, f, bytes, &t->t, e) : read_embedded(r, &w, f, body, bytes, &t->t, e);
}

const struct message message_tensor = {
    MESSAGE_FIELDS(tensor_fields), .size = sizeof(struct onnx_tensor), .budget = BUDGET_TENSORS, .read = tensor_read,
};
