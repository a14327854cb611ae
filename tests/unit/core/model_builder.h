/*
 * model_builder.h - small ONNX models for tests, written as text.
 *
 *     struct builder *b = mb_new(17);
 *     mb_values(b, "x:f32[batch,3,8,8] target:i64{0,-1} eps:f32(1e-5)");
 *     mb_node(b, "Conv", "x w -", "y", "strides=2,2 auto_pad=SAME_UPPER");
 *     mb_output(b, "y");
 *     graph_load(b->mem, mb_model(b), ...);
 *     mb_free(b);
 *
 * Values: name:type[dims] is an input (a number, a name, ? without a name; [*] without a rank),
 * name:type{...} a constant vector, name:type(...) a constant scalar, name:type{...}@2,3 a constant of that shape
 * (elements repeat as often as needed, {} is empty).
 * Inputs and outputs of a node: names, "-" where absent.
 * Attributes: axis=1, alpha=0.5 (a float has a point), perm=0,2,1 (a list has a comma; axes=1, has one entry),
 * mode=reflect, value=@name (a constant made before, which then is no initializer any more).
 *
 * mb_nodes() takes several nodes as one text.
 *
 * Everything lives in b->mem, sized for tests; what does not parse ends the test.
 */
#ifndef TESTS_MODEL_BUILDER_H
#define TESTS_MODEL_BUILDER_H

#include "core/onnx/onnx.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct builder {
    struct arena *mem;
    struct onnx_model model;
    struct onnx_opset opset;
    size_t node_room;
    int64_t fixed;                     /* > 0: every symbolic dimension is this number instead */
};

#define MB __attribute__((unused)) static

MB void mb_fail(const char *what, const char *text)
{
    fprintf(stderr, "model_builder: %s: '%s'\n", what, text);
    abort();
}

MB void *mb_alloc(struct builder *b, size_t n)
{
    void *p = arena_alloc(b->mem, n, NULL);
    if (!p)
        mb_fail("out of memory", "");
    return p;
}

MB char *mb_copy(struct builder *b, const char *s, size_t n)
{
    char *p = mb_alloc(b, n + 1);
    memcpy(p, s, n);
    return p;
}

MB struct builder *mb_new(int64_t opset)
{
    struct arena *mem = arena_new((uint64_t)1 << 30);
    struct builder *b = mem ? arena_alloc(mem, sizeof *b, NULL) : NULL;
    if (!b)
        mb_fail("out of memory", "");
    b->mem = mem;
    b->opset = (struct onnx_opset){ "", opset };
    b->model = (struct onnx_model){ .ir_version = 8, .producer_name = "test", .producer_version = "", .doc = "",
                                    .opsets = &b->opset, .n_opsets = 1 };
    b->model.graph.name = "g";
    b->model.graph.initializers = mb_alloc(b, 1000 * sizeof(struct onnx_tensor));
    b->model.graph.inputs = mb_alloc(b, 100 * sizeof(struct onnx_value));
    b->model.graph.outputs = mb_alloc(b, 300 * sizeof(struct onnx_value));
    return b;
}

MB void mb_free(struct builder *b) { arena_free(b->mem); }

MB const struct onnx_model *mb_model(const struct builder *b) { return &b->model; }

/* ---- values ---- */

MB enum dtype mb_type(const char *s, size_t n)
{
    static const struct { const char *name; enum dtype t; } types[] = {
        { "f32", DT_F32 }, { "f64", DT_F64 }, { "f16", DT_F16 }, { "i64", DT_I64 }, { "i32", DT_I32 },
        { "i8", DT_I8 },   { "u8", DT_U8 },   { "bool", DT_BOOL }, { "i4", DT_I4 },
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strlen(types[i].name) == n && memcmp(types[i].name, s, n) == 0)
            return types[i].t;
    mb_fail("no such type", s);
    return DT_NONE;
}

MB void mb_dim(struct builder *b, struct onnx_value *v, const char *s, size_t n)
{
    int i = v->shape.rank++;
    if (i >= TENSOR_MAX_RANK)
        mb_fail("too many dimensions", s);
    v->dim_param[i] = "";
    if (isdigit((unsigned char)*s))
        v->shape.dim[i] = strtoll(s, NULL, 10);
    else if (b->fixed > 0)
        v->shape.dim[i] = b->fixed;
    else {
        v->shape.dim[i] = -1;
        v->dim_param[i] = *s == '?' ? "" : mb_copy(b, s, n);
    }
}

MB void mb_dims(struct builder *b, struct onnx_value *v, const char *s, const char *end)
{
    if (*s == '*') {
        v->shape.rank = -1;
        return;
    }
    while (s < end) {
        size_t n = strcspn(s, ",]");
        mb_dim(b, v, s, n);
        s += n + (s[n] == ',');
    }
}

MB void mb_store(enum dtype t, void *data, int64_t i, const char *text)
{
    switch (t) {
    case DT_F32: ((float *)data)[i] = strtof(text, NULL); break;
    case DT_F64: ((double *)data)[i] = strtod(text, NULL); break;
    case DT_I64: ((int64_t *)data)[i] = strtoll(text, NULL, 10); break;
    case DT_I32: ((int32_t *)data)[i] = (int32_t)strtol(text, NULL, 10); break;
    case DT_I8: ((int8_t *)data)[i] = (int8_t)strtol(text, NULL, 10); break;
    case DT_U8: ((uint8_t *)data)[i] = (uint8_t)strtol(text, NULL, 10); break;
    case DT_BOOL: ((uint8_t *)data)[i] = strtol(text, NULL, 10) != 0; break;
    case DT_I4: ((uint8_t *)data)[i / 2] = 0; break;
    default: mb_fail("no constants of this type", text);
    }
}

/* A constant of t.shape; `list` is "1,2,3" up to `end`, repeated. */
MB void mb_tensor(struct builder *b, const char *name, enum dtype t, const struct shape *s, const char *list, const char *end)
{
    struct onnx_tensor *o = &b->model.graph.initializers[b->model.graph.n_initializers++];
    uint64_t n, bytes;
    if (!tensor_size(t, s, name, &n, &bytes, NULL))
        mb_fail("no such tensor", name);
    *o = (struct onnx_tensor){ .name = name, .t = { t, *s, mb_alloc(b, bytes) } };
    const char *at = list;
    for (uint64_t i = 0; i < n; i++) {
        mb_store(t, o->t.data, (int64_t)i, at);
        at += strcspn(at, ",})");
        at = *at == ',' && at < end ? at + 1 : list;
    }
}

MB int64_t mb_count(const char *s, const char *end)
{
    int64_t n = s < end;
    for (; s < end; s++)
        n += *s == ',';
    return n;
}

/* One "name:type..." ; returns what follows. */
MB const char *mb_value(struct builder *b, const char *s)
{
    size_t name_n = strcspn(s, ":"), type_n = strcspn(s + name_n + 1, "[{(");
    const char *type = s + name_n + 1, *open = type + type_n, *end = open + strcspn(open, "]})");
    const char *name = mb_copy(b, s, name_n);
    if (!*open || !*end)
        mb_fail("not name:type[...]", s);
    enum dtype t = mb_type(type, type_n);
    if (*open == '[') {
        struct onnx_value *v = &b->model.graph.inputs[b->model.graph.n_inputs++];
        *v = (struct onnx_value){ .name = name, .dtype = t };
        mb_dims(b, v, open + 1, end);
        return end + 1;
    }
    struct onnx_value shape = { .shape = { .rank = *open == '{', .dim = { mb_count(open + 1, end) } } };
    const char *after = end + 1;
    if (*after == '@') {
        size_t n = strcspn(after, " ");
        shape.shape.rank = 0;
        mb_dims(b, &shape, after + 1, after + n);
        after += n;
    }
    mb_tensor(b, name, t, &shape.shape, open + 1, end);
    return after;
}

MB void mb_values(struct builder *b, const char *text)
{
    for (text += strspn(text, " "); *text; text += strspn(text, " "))
        text = mb_value(b, text);
}

/* ---- nodes ---- */

MB const char **mb_names(struct builder *b, const char *text, size_t *ret_n)
{
    const char **list = mb_alloc(b, (strlen(text) / 2 + 1) * sizeof *list);
    *ret_n = 0;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        size_t n = strcspn(text, " ");
        list[(*ret_n)++] = n == 1 && *text == '-' ? "" : mb_copy(b, text, n);
        text += n;
    }
    return list;
}

/* Takes the constant out of the initializers. */
MB const struct onnx_tensor *mb_take(struct builder *b, const char *name)
{
    struct onnx_graph *g = &b->model.graph;
    for (size_t i = 0; i < g->n_initializers; i++)
        if (strcmp(g->initializers[i].name, name) == 0) {
            struct onnx_tensor *t = mb_alloc(b, sizeof *t);
            *t = g->initializers[i];
            g->initializers[i] = g->initializers[--g->n_initializers];
            return t;
        }
    mb_fail("no such constant", name);
    return NULL;
}

MB void mb_list(struct builder *b, struct onnx_attr *a, const char *v, const char *end)
{
    bool floats = memchr(v, '.', (size_t)(end - v)) != NULL;
    int64_t *ints = mb_alloc(b, strlen(v) * sizeof *ints);
    float *f = mb_alloc(b, strlen(v) * sizeof *f);
    for (; v < end; v += strcspn(v, ", ") + 1) {
        f[a->n] = strtof(v, NULL);
        ints[a->n++] = strtoll(v, NULL, 10);
    }
    a->type = floats ? ONNX_FLOATS : ONNX_INTS;
    if (floats)
        a->floats = f;
    else
        a->ints = ints;
}

MB void mb_attr(struct builder *b, struct onnx_attr *a, const char *v, size_t n)
{
    if (*v == '@') {
        a->type = ONNX_TENSOR;
        a->t = mb_take(b, mb_copy(b, v + 1, n - 1));
    } else if (isalpha((unsigned char)*v)) {
        a->type = ONNX_STRING;
        a->s = mb_copy(b, v, n);
        a->s_n = n;
    } else if (memchr(v, ',', n)) {
        mb_list(b, a, v, v + n);
    } else if (memchr(v, '.', n)) {
        a->type = ONNX_FLOAT;
        a->f = strtof(v, NULL);
    } else {
        a->type = ONNX_INT;
        a->i = strtoll(v, NULL, 10);
    }
}

/* Room for one more node. */
MB void mb_grow(struct builder *b)
{
    struct onnx_graph *g = &b->model.graph;
    if (g->n_nodes < b->node_room)
        return;
    b->node_room = b->node_room ? b->node_room * 2 : 64;
    struct onnx_node *nodes = mb_alloc(b, b->node_room * sizeof *nodes);
    if (g->n_nodes)
        memcpy(nodes, g->nodes, g->n_nodes * sizeof *nodes);
    g->nodes = nodes;
}

/* The node is the caller's to change until the next one is made. */
MB struct onnx_node *mb_node(struct builder *b, const char *op, const char *inputs, const char *outputs, const char *attrs)
{
    struct onnx_graph *g = &b->model.graph;
    mb_grow(b);
    struct onnx_node *n = &g->nodes[g->n_nodes++];
    *n = (struct onnx_node){ .name = "", .op_type = op, .domain = "" };
    n->inputs = mb_names(b, inputs, &n->n_inputs);
    n->outputs = mb_names(b, outputs, &n->n_outputs);
    n->attrs = mb_alloc(b, 16 * sizeof *n->attrs);
    for (attrs += strspn(attrs, " "); *attrs; attrs += strspn(attrs, " ")) {
        size_t name_n = strcspn(attrs, "="), value_n = strcspn(attrs + name_n, " ");
        struct onnx_attr *a = &n->attrs[n->n_attrs++];
        a->name = mb_copy(b, attrs, name_n);
        mb_attr(b, a, attrs + name_n + 1, value_n - 1);
        attrs += name_n + value_n;
    }
    return n;
}

/* Nodes as a text: "q = QuantizeLinear(x s z); a b = Split(q) axis=1; ..." */
MB void mb_nodes(struct builder *b, const char *text)
{
    for (text += strspn(text, " ;"); *text; text += strspn(text, " ;")) {
        size_t n = strcspn(text, ";"), out = strcspn(text, "="), open = strcspn(text, "("), close = strcspn(text, ")");
        if (out > open || open > close || close >= n)
            mb_fail("not out = Op(in) attributes", text);
        size_t op = out + 1 + strspn(text + out + 1, " ");
        mb_node(b, mb_copy(b, text + op, open - op), mb_copy(b, text + open + 1, close - open - 1), mb_copy(b, text, out),
                mb_copy(b, text + close + 1, n - close - 1));
        text += n;
    }
}

MB void mb_output(struct builder *b, const char *names)
{
    size_t n;
    const char **list = mb_names(b, names, &n);
    for (size_t i = 0; i < n; i++)
        b->model.graph.outputs[b->model.graph.n_outputs++] = (struct onnx_value){ .name = list[i], .shape = { .rank = -1 } };
}

#undef MB
#endif
