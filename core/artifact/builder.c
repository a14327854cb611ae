#include "core/artifact/builder.h"

#include "core/base/utf8.h"

#include <string.h>

bool builder_init(struct builder *b, const struct graph *g, struct arena *mem, struct err *e)
{
    *b = (struct builder){ .mem = mem, .g = g, .e = e };
    b->written = arena_array(mem, (uint64_t)g->n_values, 1, e);
    bool ok = b->written;
    for (int i = 0; i < g->n_values && ok; i++)
        ok = name_set_add(&b->names, g->values[i].name ? g->values[i].name : "", mem, e);
    for (int i = 0; i < g->n_nodes && ok; i++)
        ok = name_set_add(&b->names, g->nodes[i].name ? g->nodes[i].name : "", mem, e);
    return ok;
}

bool builder_ok(const struct builder *b) { return !b->bad; }

/* Room for one more element of `size` bytes; old contents move along. */
static void *grown(struct builder *b, void *old, size_t n, size_t *room, size_t size)
{
    if (b->bad)
        return NULL;
    if (n < *room)
        return old;
    size_t more = *room ? 2 * *room : 256;
    void *p = arena_array(b->mem, more, size, b->e);
    if (!p) {
        b->bad = true;
        return NULL;
    }
    if (n)
        memcpy(p, old, n * size);
    *room = more;
    return p;
}

const char *builder_name(struct builder *b, const char *stem, const char *suffix)
{
    if (b->bad)
        return "";
    const char *wanted = arena_printf(b->mem, b->e, "%.*s%s", (int)utf8_fit(stem, 900), stem, suffix);
    const char *name = wanted ? name_set_new(&b->names, wanted, '_', b->mem, b->e) : NULL;
    b->bad = !name;
    return name ? name : "";
}

struct onnx_node *builder_node(struct builder *b, const char *name, const char *op, size_t n_in, size_t n_out, size_t n_attrs)
{
    b->nodes = grown(b, b->nodes, b->n_nodes, &b->room_nodes, sizeof *b->nodes);
    if (!b->nodes)
        return NULL;
    struct onnx_node n = { .name = name, .op_type = op, .domain = "", .n_inputs = n_in, .n_outputs = n_out, .n_attrs = n_attrs };
    n.inputs = arena_array(b->mem, n_in, sizeof *n.inputs, b->e);
    n.outputs = arena_array(b->mem, n_out, sizeof *n.outputs, b->e);
    n.attrs = arena_array(b->mem, n_attrs, sizeof *n.attrs, b->e);
    if (!n.inputs || !n.outputs || !n.attrs) {
        b->bad = true;
        return NULL;
    }
    b->nodes[b->n_nodes] = n;
    return &b->nodes[b->n_nodes++];
}

void builder_node_named(struct builder *b, const char *name, const char *op, const char *in0, const char *in1,
                        const char *in2, const char *out, const char *int_attr, int64_t int_value)
{
    const char *in[] = { in0, in1, in2 };
    size_t n_in = in2[0] ? 3 : in1[0] ? 2 : 1;
    struct onnx_node *n = builder_node(b, name, op, n_in, 1, int_attr ? 1 : 0);
    if (!n)
        return;
    memcpy(n->inputs, in, n_in * sizeof *in);
    n->outputs[0] = out;
    if (int_attr)
        n->attrs[0] = (struct onnx_attr){ .name = int_attr, .type = ONNX_INT, .i = int_value };
}

const char *builder_init_tensor(struct builder *b, const char *name, enum dtype t, int rank, const int64_t *dims,
                                const void *data)
{
    b->inits = grown(b, b->inits, b->n_inits, &b->room_inits, sizeof *b->inits);
    if (!b->inits)
        return "";
    struct onnx_tensor *x = &b->inits[b->n_inits++];
    *x = (struct onnx_tensor){ .name = name, .t = { .dtype = t, .shape.rank = rank, .data = (void *)(uintptr_t)data } };
    for (int i = 0; i < rank; i++)
        x->t.shape.dim[i] = dims[i];
    return name;
}

static const char *scalar(struct builder *b, const char *name, enum dtype t, const void *p, size_t n)
{
    void *copy = arena_alloc(b->mem, n, b->e);
    if (!copy) {
        b->bad = true;
        return "";
    }
    memcpy(copy, p, n);
    return builder_init_tensor(b, name, t, 0, NULL, copy);
}

const char *builder_scalar_f32(struct builder *b, const char *name, float x) { return scalar(b, name, DT_F32, &x, sizeof x); }

const char *builder_scalar_code(struct builder *b, const char *name, enum dtype t, int code)
{
    uint8_t byte = (uint8_t)code;      /* two's complement serves int8 as well */
    return scalar(b, name, t, &byte, sizeof byte);
}

/* As the model has it: 16-bit floats, and a Cast. */
static void cast_narrow(struct builder *b, const struct value *v)
{
    const char *half = builder_init_tensor(b, builder_name(b, v->name, "_half"), v->narrow_as, v->shape.rank, v->shape.dim, v->narrow);
    builder_node_named(b, builder_name(b, v->name, "_Cast"), "Cast", half, "", "", v->name, "to", DT_F32);
}

const char *builder_value(struct builder *b, int value)
{
    if (value < 0)
        return "";
    const struct value *v = &b->g->values[value];
    if (v->is_const && !b->written[value]) {
        b->written[value] = true;
        if (v->narrow)
            cast_narrow(b, v);
        else
            builder_init_tensor(b, v->name, v->dtype, v->shape.rank, v->shape.dim, v->data);
    }
    return v->name;
}
