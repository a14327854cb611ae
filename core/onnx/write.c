/*
 * write.c - onnx_write(): one emitter per message, run in two modes.
 *
 * With a buffer an emitter writes; without one it only counts, so a size and
 * the bytes it stands for come from the same code and cannot disagree.  A
 * length prefix is a counting run over the message that follows.  Every level
 * counts what lies below it again, which costs (depth of nesting) x (number of
 * fields): weights are counted by size, never touched.
 *
 * Fields go out in ascending order of their numbers, repeated scalars outside
 * TensorProto unpacked, as onnx.proto (proto2) has them.
 */
#include "core/onnx/onnx.h"
#include "core/onnx/proto.h"
#include "core/onnx/wire.h"

#include <string.h>

enum { BUFFER = 16 << 10 };
#define MESSAGE_LIMIT ((uint64_t)INT32_MAX)      /* protobuf's own: sizes are C++ ints there */

struct out {
    const struct onnx_sink *sink;
    uint8_t *buf;               /* BUFFER bytes; NULL: count only */
    size_t used;                /* of buf */
    uint64_t n;                 /* bytes emitted or counted so far */
    bool bad;                   /* sticky, with *e set */
    struct err *e;
};

typedef void emit_fn(struct out *o, const void *message);

/* ---- bytes ---- */

static void flush(struct out *o)
{
    if (!o->bad && o->used)
        o->bad = !o->sink->write(o->sink->arg, o->buf, o->used, o->e);
    o->used = 0;
}

static void put_bytes(struct out *o, const void *p, uint64_t n)
{
    o->n += n;
    if (!o->buf || n == 0)
        return;
    if (n > BUFFER - o->used)
        flush(o);
    if (n > BUFFER) {
        o->bad = o->bad || !o->sink->write(o->sink->arg, p, (size_t)n, o->e);
        return;
    }
    memcpy(o->buf + o->used, p, (size_t)n);
    o->used += (size_t)n;
}

static void put_varint(struct out *o, uint64_t v)
{
    uint8_t bytes[WIRE_VARINT_MAX];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    put_bytes(o, bytes, n);
}

/* ---- fields ---- */

static void put_key(struct out *o, unsigned number, enum wire_type type) { put_varint(o, (uint64_t)number << 3 | type); }

static void put_int(struct out *o, unsigned number, int64_t v)
{
    put_key(o, number, WIRE_VARINT);
    put_varint(o, (uint64_t)v);
}

static void put_float(struct out *o, unsigned number, float v)
{
    put_key(o, number, WIRE_I32);
    put_bytes(o, &v, sizeof v);
}

static void put_string(struct out *o, unsigned number, const char *s, size_t n)
{
    put_key(o, number, WIRE_LEN);
    put_varint(o, n);
    put_bytes(o, s, n);
}

static void put_name(struct out *o, unsigned number, const char *s) { put_string(o, number, s, strlen(s)); }

/* Where absent and empty mean the same. */
static void put_name_if(struct out *o, unsigned number, const char *s)
{
    if (s && s[0])
        put_name(o, number, s);
}

static void put_message(struct out *o, unsigned number, emit_fn *emit, const void *message)
{
    struct out count = { .e = o->e };
    emit(&count, message);
    o->bad |= count.bad;
    put_key(o, number, WIRE_LEN);
    put_varint(o, count.n);
    if (o->buf)
        emit(o, message);
    else
        o->n += count.n;
}

static void put_messages(struct out *o, unsigned number, emit_fn *emit, const void *first, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        put_message(o, number, emit, (const char *)first + i * size);
}

/* ---- messages ---- */

static emit_fn emit_graph;

static void emit_entry(struct out *o, const void *message)
{
    const struct onnx_pair *p = message;
    put_name(o, ENTRY_KEY, p->key);
    put_name(o, ENTRY_VALUE, p->value);
}

static void emit_opset(struct out *o, const void *message)
{
    const struct onnx_opset *s = message;
    put_name_if(o, OPSET_DOMAIN, s->domain);
    put_int(o, OPSET_VERSION, s->version);
}

static void emit_tensor(struct out *o, const void *message)
{
    const struct onnx_tensor *t = message;
    uint64_t n = 0;
    if (!tensor_size(t->t.dtype, &t->t.shape, t->name, NULL, &n, o->e))
        o->bad = true;
    if (n && !t->t.data)
        o->bad = !err_set(o->e, ERR_BUG, t->name, "a tensor without data was given to the writer");
    for (int i = 0; i < t->t.shape.rank && !o->bad; i++)
        put_int(o, TENSOR_DIMS, t->t.shape.dim[i]);
    put_int(o, TENSOR_DATA_TYPE, t->t.dtype);
    put_name_if(o, TENSOR_NAME, t->name);
    if (n && !o->bad) {                      /* a tensor without elements has no data field */
        put_key(o, TENSOR_RAW_DATA, WIRE_LEN);
        put_varint(o, n);
        put_bytes(o, t->t.data, n);
    }
}

struct dim { int64_t value; const char *param; };

static void emit_dim(struct out *o, const void *message)
{
    const struct dim *d = message;
    if (d->value >= 0)
        put_int(o, DIM_VALUE, d->value);
    else
        put_name_if(o, DIM_PARAM, d->param);
}

static void emit_shape(struct out *o, const void *message)
{
    const struct onnx_value *v = message;
    for (int i = 0; i < v->shape.rank; i++)
        put_message(o, SHAPE_DIM, emit_dim, &(struct dim){ v->shape.dim[i], v->dim_param[i] });
}

static void emit_tensor_type(struct out *o, const void *message)
{
    const struct onnx_value *v = message;
    put_int(o, TENSOR_TYPE_ELEM_TYPE, v->dtype);
    if (v->shape.rank >= 0)
        put_message(o, TENSOR_TYPE_SHAPE, emit_shape, v);
}

static void emit_type(struct out *o, const void *message) { put_message(o, TYPE_TENSOR, emit_tensor_type, message); }

static void emit_value(struct out *o, const void *message)
{
    const struct onnx_value *v = message;
    put_name(o, VALUE_NAME, v->name);
    if (v->dtype != DT_NONE || v->shape.rank >= 0)
        put_message(o, VALUE_TYPE, emit_type, v);
}

static void emit_attr(struct out *o, const void *message)
{
    const struct onnx_attr *a = message;
    size_t n = a->n;
    put_name(o, ATTR_NAME, a->name);
    switch (a->type) {
    case ONNX_FLOAT: put_float(o, ATTR_F, a->f); break;
    case ONNX_INT: put_int(o, ATTR_I, a->i); break;
    case ONNX_STRING: put_string(o, ATTR_S, a->s, a->s_n); break;
    case ONNX_TENSOR: put_message(o, ATTR_T, emit_tensor, a->t); break;
    case ONNX_GRAPH: put_message(o, ATTR_G, emit_graph, a->g); break;
    case ONNX_FLOATS: for (size_t i = 0; i < n; i++) put_float(o, ATTR_FLOATS, a->floats[i]); break;
    case ONNX_INTS: for (size_t i = 0; i < n; i++) put_int(o, ATTR_INTS, a->ints[i]); break;
    case ONNX_STRINGS: for (size_t i = 0; i < n; i++) put_name(o, ATTR_STRINGS, a->strings[i]); break;
    case ONNX_TENSORS: put_messages(o, ATTR_TENSORS, emit_tensor, a->t, n, sizeof *a->t); break;
    case ONNX_GRAPHS: put_messages(o, ATTR_GRAPHS, emit_graph, a->g, n, sizeof *a->g); break;
    default: o->bad = !err_set(o->e, ERR_BUG, a->name, "an attribute of type %d was given to the writer", (int)a->type);
    }
    put_int(o, ATTR_TYPE, a->type);
}

static void emit_node(struct out *o, const void *message)
{
    const struct onnx_node *n = message;
    for (size_t i = 0; i < n->n_inputs; i++)
        put_name(o, NODE_INPUT, n->inputs[i]);
    for (size_t i = 0; i < n->n_outputs; i++)
        put_name(o, NODE_OUTPUT, n->outputs[i]);
    put_name_if(o, NODE_NAME, n->name);
    put_name(o, NODE_OP_TYPE, n->op_type);
    put_messages(o, NODE_ATTRIBUTE, emit_attr, n->attrs, n->n_attrs, sizeof *n->attrs);
    put_name_if(o, NODE_DOMAIN, n->domain);
}

static void emit_graph(struct out *o, const void *message)
{
    const struct onnx_graph *g = message;
    put_messages(o, GRAPH_NODE, emit_node, g->nodes, g->n_nodes, sizeof *g->nodes);
    put_name_if(o, GRAPH_NAME, g->name);
    put_messages(o, GRAPH_INITIALIZER, emit_tensor, g->initializers, g->n_initializers, sizeof *g->initializers);
    put_messages(o, GRAPH_INPUT, emit_value, g->inputs, g->n_inputs, sizeof *g->inputs);
    put_messages(o, GRAPH_OUTPUT, emit_value, g->outputs, g->n_outputs, sizeof *g->outputs);
    put_messages(o, GRAPH_VALUE_INFO, emit_value, g->values, g->n_values, sizeof *g->values);
}

static void emit_model(struct out *o, const void *message)
{
    const struct onnx_model *m = message;
    put_int(o, MODEL_IR_VERSION, m->ir_version);
    put_name_if(o, MODEL_PRODUCER_NAME, m->producer_name);
    put_name_if(o, MODEL_PRODUCER_VERSION, m->producer_version);
    put_name_if(o, MODEL_DOC_STRING, m->doc);
    put_message(o, MODEL_GRAPH, emit_graph, &m->graph);
    put_messages(o, MODEL_OPSET_IMPORT, emit_opset, m->opsets, m->n_opsets, sizeof *m->opsets);
    put_messages(o, MODEL_METADATA_PROPS, emit_entry, m->metadata, m->n_metadata, sizeof *m->metadata);
}

bool onnx_write(const struct onnx_model *m, const struct onnx_sink *sink, struct err *e)
{
    struct out count = { .e = e };
    emit_model(&count, m);
    if (count.bad)
        return false;
    if (count.n > MESSAGE_LIMIT)
        return err_set(e, ERR_EXPORT_FORM, "model.onnx", "the model would have %llu bytes, but one ONNX file is limited to 2 GiB; quantize more layers or to fewer bits",
                       (unsigned long long)count.n);
    uint8_t buf[BUFFER];
    struct out o = { .sink = sink, .buf = buf, .e = e };
    emit_model(&o, m);
    flush(&o);
    return !o.bad;
}
