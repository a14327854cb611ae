/* read_value.c - ValueInfoProto: a name, an element type and a shape whose dimensions may have names. */
#include "core/onnx/rows.h"

struct dim { int64_t value; size_t has_value; const char *param; size_t has_param; };
struct dims { struct dim *dim; size_t n; };
struct tensor_type { int64_t elem_type; const struct dims *shape; };
struct type { const struct tensor_type *tensor; size_t sequence, map, sparse, optional; };
struct wire_value { const char *name; const struct type *type; };

static const struct field dim_fields[] = {
    OPTIONAL(DIM_VALUE, "dim_value", FIELD_INT, struct dim, value, has_value),
    OPTIONAL(DIM_PARAM, "dim_param", FIELD_NAME, struct dim, param, has_param),
};
static const struct message message_dim = { MESSAGE_FIELDS(dim_fields), .size = sizeof(struct dim) };

static const struct field dims_fields[] = { MESSAGES(SHAPE_DIM, "dim", &message_dim, struct dims, dim, n, TENSOR_MAX_RANK) };
static const struct message message_dims = { MESSAGE_FIELDS(dims_fields), .size = sizeof(struct dims) };

static const struct field tensor_type_fields[] = {
    ONE(TENSOR_TYPE_ELEM_TYPE, "elem_type", FIELD_INT, struct tensor_type, elem_type),
    NESTED(TENSOR_TYPE_SHAPE, "shape", &message_dims, struct tensor_type, shape),
};
static const struct message message_tensor_type = { MESSAGE_FIELDS(tensor_type_fields), .size = sizeof(struct tensor_type) };

static const struct field type_fields[] = {
    NESTED(TYPE_TENSOR, "tensor_type", &message_tensor_type, struct type, tensor),
    COUNT(TYPE_SEQUENCE, "sequence_type", FIELD_PRESENT, struct type, sequence),
    COUNT(TYPE_MAP, "map_type", FIELD_PRESENT, struct type, map),
    COUNT(TYPE_SPARSE_TENSOR, "sparse_tensor_type", FIELD_PRESENT, struct type, sparse),
    COUNT(TYPE_OPTIONAL, "optional_type", FIELD_PRESENT, struct type, optional),
};
static const struct message message_type = { MESSAGE_FIELDS(type_fields), .size = sizeof(struct type) };

static const struct field value_fields[] = {
    ONE(VALUE_NAME, "name", FIELD_NAME, struct wire_value, name),
    NESTED(VALUE_TYPE, "type", &message_type, struct wire_value, type),
};
static const struct message message_wire_value = { MESSAGE_FIELDS(value_fields), .size = sizeof(struct wire_value) };

/* Some exporters write -1 for a dimension they do not know. */
static bool read_dim(struct reader *r, const char *name, size_t i, const struct dim *d, struct onnx_value *ret, struct err *e)
{
    if (d->has_value && d->has_param)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, name), "dimension %zu has a value and a name; export the model again", i);
    if (d->has_value && d->value < -1)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, name), "dimension %zu is %lld; export the model again", i, (long long)d->value);
    if (d->value > TENSOR_MAX_DIM)
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, name), "dimension %zu is %lld, over the limit of 2^40", i, (long long)d->value);
    ret->shape.dim[i] = d->has_value ? d->value : -1;
    ret->dim_param[i] = d->param;
    return true;
}

static bool read_tensor_type(struct reader *r, const char *name, const struct tensor_type *t, struct onnx_value *ret, struct err *e)
{
    if (t->elem_type && !type_known(t->elem_type))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, name), "element type %lld is not known; export the model with float32 tensors",
                       (long long)t->elem_type);
    ret->dtype = (enum dtype)t->elem_type;
    if (!t->shape)
        return true;
    ret->shape.rank = (int)t->shape->n;
    for (size_t i = 0; i < t->shape->n; i++)
        if (!read_dim(r, name, i, &t->shape->dim[i], ret, e))
            return false;
    return true;
}

static bool value_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    struct wire_value w = { 0 };
    if (!message_read(r, &message_wire_value, body, &w, e))
        return false;
    if (!w.name[0])
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "the value has no name; export the model again");
    const struct type *t = w.type;
    if (t && (t->sequence || t->map || t->sparse || t->optional))
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w.name), "this is %s; only dense tensors are supported: export the model with plain tensors",
                       t->sequence ? "a sequence" : t->map ? "a map" : t->sparse ? "a sparse tensor" : "an optional");

    struct onnx_value *v = ret;
    v->name = w.name;
    v->shape.rank = -1;
    for (int i = 0; i < TENSOR_MAX_RANK; i++)
        v->dim_param[i] = "";
    return !t || !t->tensor || read_tensor_type(r, w.name, t->tensor, v, e);
}

/* Values are counted with the tensors: each is as large. */
const struct message message_value = {
    MESSAGE_FIELDS(value_fields), .size = sizeof(struct onnx_value), .budget = BUDGET_TENSORS, .read = value_read,
};
