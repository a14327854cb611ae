/* read_attr.c - AttributeProto: a type, and a value in the one field that belongs to it. */
#include "core/onnx/rows.h"

#include <string.h>

struct wire_attr {
    const char *name, *ref;
    int64_t type;
    float f;                           size_t n_f;
    int64_t i;                         size_t n_i;
    struct span s;                     size_t n_s;
    const struct onnx_tensor *t;       size_t n_t;
    const struct onnx_graph *g;        size_t n_g;
    const float *floats;               size_t n_floats;
    const int64_t *ints;               size_t n_ints;
    const char *const *strings;        size_t n_strings;
    const struct onnx_tensor *tensors; size_t n_tensors;
    const struct onnx_graph *graphs;   size_t n_graphs;
};

#define W struct wire_attr
static const struct field attr_fields[] = {
    ONE(ATTR_NAME, "name", FIELD_NAME, W, name),
    ONE(ATTR_REF_ATTR_NAME, "ref_attr_name", FIELD_NAME, W, ref),
    ONE(ATTR_TYPE, "type", FIELD_INT, W, type),
    OPTIONAL(ATTR_F, "f", FIELD_FLOAT, W, f, n_f),
    OPTIONAL(ATTR_I, "i", FIELD_INT, W, i, n_i),
    OPTIONAL(ATTR_S, "s", FIELD_BYTES, W, s, n_s),
    { .number = ATTR_T, .label = "t", .kind = FIELD_MESSAGE, .at = offsetof(W, t), .count_at = offsetof(W, n_t), .of = &message_tensor },
    { .number = ATTR_G, .label = "g", .kind = FIELD_MESSAGE, .at = offsetof(W, g), .count_at = offsetof(W, n_g), .of = &message_graph },
    MANY(ATTR_FLOATS, "floats", FIELD_FLOATS, W, floats, n_floats, ONNX_MAX_LIST),
    MANY(ATTR_INTS, "ints", FIELD_INTS, W, ints, n_ints, ONNX_MAX_LIST),
    MANY(ATTR_STRINGS, "strings", FIELD_STRINGS, W, strings, n_strings, ONNX_MAX_LIST),
    MESSAGES(ATTR_TENSORS, "tensors", &message_tensor, W, tensors, n_tensors, ONNX_MAX_LIST),
    MESSAGES(ATTR_GRAPHS, "graphs", &message_graph, W, graphs, n_graphs, MAX_GRAPHS),
};
#undef W

static const struct attr_type {
    const char *label;
    size_t count_at;         /* in struct wire_attr: values present */
    bool required, list;
} types[] = {
    [ONNX_FLOAT] = { "FLOAT", offsetof(struct wire_attr, n_f), false, false },
    [ONNX_INT] = { "INT", offsetof(struct wire_attr, n_i), false, false },
    [ONNX_STRING] = { "STRING", offsetof(struct wire_attr, n_s), false, false },
    [ONNX_TENSOR] = { "TENSOR", offsetof(struct wire_attr, n_t), true, false },
    [ONNX_GRAPH] = { "GRAPH", offsetof(struct wire_attr, n_g), true, false },
    [ONNX_FLOATS] = { "FLOATS", offsetof(struct wire_attr, n_floats), false, true },
    [ONNX_INTS] = { "INTS", offsetof(struct wire_attr, n_ints), false, true },
    [ONNX_STRINGS] = { "STRINGS", offsetof(struct wire_attr, n_strings), false, true },
    [ONNX_TENSORS] = { "TENSORS", offsetof(struct wire_attr, n_tensors), false, true },
    [ONNX_GRAPHS] = { "GRAPHS", offsetof(struct wire_attr, n_graphs), false, true },
};
enum { TYPES = sizeof types / sizeof types[0] };

static size_t values(const struct wire_attr *w, int type)
{
    size_t n;
    memcpy(&n, (const char *)w + types[type].count_at, sizeof n);
    return n;
}

static bool check_attr(struct reader *r, const struct wire_attr *w, struct err *e)
{
    if (!w->name[0])
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, NULL), "the attribute has no name; export the model again");
    if (w->ref[0] && !r->in_function)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "only a function's body may refer to attributes of a call; export the model again");
    if (w->type < 1 || w->type >= TYPES)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "attribute type %lld is missing or not supported; export the model again",
                       (long long)w->type);
    for (int i = 1; i < TYPES; i++)
        if (w->ref[0] && values(w, i))
            return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "the attribute refers to one of the call and holds a value as well; export the model again");
        else if (i != w->type && values(w, i))
            return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "the attribute is of type %s but holds a value of type %s; export the model again",
                           types[w->type].label, types[i].label);
    /* A scalar of zero may have been left out, as proto3 writers do. */
    if (types[w->type].required && !w->ref[0] && values(w, (int)w->type) == 0)
        return err_set(e, ERR_MODEL_INVALID, reader_at(r, w->name), "the attribute is of type %s but holds none; export the model again",
                       types[w->type].label);
    return true;
}

static bool attr_read(struct reader *r, struct wire body, void *ret, struct err *e)
{
    static const struct message as_wire = { MESSAGE_FIELDS(attr_fields), .size = sizeof(struct wire_attr) };
    struct wire_attr w = { 0 };
    if (!message_read(r, &as_wire, body, &w, e) || !check_attr(r, &w, e))
        return false;
    if (w.s.n > ONNX_MAX_TEXT)
        return err_set(e, ERR_MODEL_LIMIT, reader_at(r, w.name), "the string has %zu bytes; at most %d are accepted", w.s.n, ONNX_MAX_TEXT);
    const char *s = w.type == ONNX_STRING ? reader_copy(r, w.s.p, w.s.n, e) : NULL;
    if (w.type == ONNX_STRING && !s)
        return false;
    *(struct onnx_attr *)ret = (struct onnx_attr){
        .name = w.name, .type = (enum onnx_attr_type)w.type, .f = w.f, .i = w.i, .s = s, .s_n = w.s.n,
        .t = w.type == ONNX_TENSORS ? w.tensors : w.t, .g = w.type == ONNX_GRAPHS ? w.graphs : w.g,
        .n = types[w.type].list ? values(&w, (int)w.type) : 0, .floats = w.floats, .ints = w.ints, .strings = w.strings,
        .ref = w.ref[0] ? w.ref : NULL,
    };
    return true;
}

const struct message message_attr = { MESSAGE_FIELDS(attr_fields), .size = sizeof(struct onnx_attr), .read = attr_read };
