/*
 * builder.h - an ONNX graph under construction: nodes, initializers, names that do not collide.
 *
 * Sticky: after the first failure (memory) every call returns a harmless value and builder_ok() is false.
 */
#ifndef CORE_ARTIFACT_BUILDER_H
#define CORE_ARTIFACT_BUILDER_H

#include "core/base/name_set.h"
#include "core/graph/graph.h"

struct builder {
    struct arena *mem;
    const struct graph *g;
    struct err *e;
    struct onnx_node *nodes;           size_t n_nodes, room_nodes;
    struct onnx_tensor *inits;         size_t n_inits, room_inits;
    bool *written;                     /* [n_values]: the constant is an initializer already */
    struct name_set names;             /* all of the source graph and all made here */
    bool bad;
};

bool builder_init(struct builder *b, const struct graph *g, struct arena *mem, struct err *e);
bool builder_ok(const struct builder *b);

/* A name that neither the source graph nor an earlier call has: stem + suffix, numbered if need be. */
const char *builder_name(struct builder *b, const char *stem, const char *suffix);

/* Appends a node with room for the given numbers of inputs, outputs and attributes; NULL after a failure. */
struct onnx_node *builder_node(struct builder *b, const char *name, const char *op, size_t n_in, size_t n_out, size_t n_attrs);
/* The same with names filled in; "" ends the inputs of the shorter ones. */
void builder_node_named(struct builder *b, const char *name, const char *op, const char *in0, const char *in1,
                        const char *in2, const char *out, const char *int_attr, int64_t int_value);

/* An initializer over `data`, which is borrowed; returns its name. */
const char *builder_init_tensor(struct builder *b, const char *name, enum dtype t, int rank, const int64_t *dims,
                                const void *data);
const char *builder_scalar_f32(struct builder *b, const char *name, float x);
const char *builder_scalar_code(struct builder *b, const char *name, enum dtype t, int code);

/* The name of a value of the source graph; a constant becomes an initializer on its first use. "" for -1. */
const char *builder_value(struct builder *b, int value);

#endif
