/* onnx_same.h - two models are equal, member by member; a difference fails the test.  Included after cmocka.h. */
#ifndef TESTS_UNIT_CORE_ONNX_SAME_H
#define TESTS_UNIT_CORE_ONNX_SAME_H

#include "core/onnx/onnx.h"

static inline void same_tensor(const struct onnx_tensor *a, const struct onnx_tensor *b)
{
    uint64_t n;
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->t.dtype, b->t.dtype);
    assert_true(shape_equal(&a->t.shape, &b->t.shape));
    assert_true(tensor_size(a->t.dtype, &a->t.shape, "", NULL, &n, NULL));
    if (n)
        assert_memory_equal(a->t.data, b->t.data, n);
    else
        assert_null(b->t.data);
}

static inline void same_value(const struct onnx_value *a, const struct onnx_value *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->dtype, b->dtype);
    assert_true(shape_equal(&a->shape, &b->shape));
    for (int i = 0; i < a->shape.rank; i++)
        assert_string_equal(a->dim_param[i], b->dim_param[i]);
}

static inline void same_graph(const struct onnx_graph *a, const struct onnx_graph *b);

static inline void same_list(const struct onnx_attr *a, const struct onnx_attr *b, size_t i)
{
    switch ((int)a->type) {
    case ONNX_FLOATS: assert_memory_equal(&a->floats[i], &b->floats[i], sizeof(float)); break;
    case ONNX_INTS: assert_int_equal(a->ints[i], b->ints[i]); break;
    case ONNX_STRINGS: assert_string_equal(a->strings[i], b->strings[i]); break;
    case ONNX_TENSORS: same_tensor(&a->t[i], &b->t[i]); break;
    case ONNX_GRAPHS: same_graph(&a->g[i], &b->g[i]); break;
    default: fail_msg("type %d has no list", (int)a->type);
    }
}

static inline void same_attr(const struct onnx_attr *a, const struct onnx_attr *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->type, b->type);
    assert_memory_equal(&a->f, &b->f, sizeof a->f);
    assert_int_equal(a->i, b->i);
    assert_int_equal(a->s_n, b->s_n);
    if (a->s_n)
        assert_memory_equal(a->s, b->s, a->s_n);
    if (a->type == ONNX_TENSOR)
        same_tensor(a->t, b->t);
    if (a->type == ONNX_GRAPH)
        same_graph(a->g, b->g);
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++)
        same_list(a, b, i);
}

static inline void same_node(const struct onnx_node *a, const struct onnx_node *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->op_type, b->op_type);
    assert_string_equal(a->domain, b->domain);
    assert_int_equal(a->n_inputs, b->n_inputs);
    assert_int_equal(a->n_outputs, b->n_outputs);
    assert_int_equal(a->n_attrs, b->n_attrs);
    for (size_t i = 0; i < a->n_inputs; i++)
        assert_string_equal(a->inputs[i], b->inputs[i]);
    for (size_t i = 0; i < a->n_outputs; i++)
        assert_string_equal(a->outputs[i], b->outputs[i]);
    for (size_t i = 0; i < a->n_attrs; i++)
        same_attr(&a->attrs[i], &b->attrs[i]);
}

static inline void same_values(const struct onnx_value *a, size_t n_a, const struct onnx_value *b, size_t n_b)
{
    assert_int_equal(n_a, n_b);
    for (size_t i = 0; i < n_a; i++)
        same_value(&a[i], &b[i]);
}

static inline void same_graph(const struct onnx_graph *a, const struct onnx_graph *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->n_nodes, b->n_nodes);
    for (size_t i = 0; i < a->n_nodes; i++)
        same_node(&a->nodes[i], &b->nodes[i]);
    assert_int_equal(a->n_initializers, b->n_initializers);
    for (size_t i = 0; i < a->n_initializers; i++)
        same_tensor(&a->initializers[i], &b->initializers[i]);
    same_values(a->inputs, a->n_inputs, b->inputs, b->n_inputs);
    same_values(a->outputs, a->n_outputs, b->outputs, b->n_outputs);
    same_values(a->values, a->n_values, b->values, b->n_values);
}

static inline void same_model(const struct onnx_model *a, const struct onnx_model *b)
{
    assert_int_equal(a->ir_version, b->ir_version);
    assert_string_equal(a->producer_name, b->producer_name);
    assert_string_equal(a->producer_version, b->producer_version);
    assert_string_equal(a->doc, b->doc);
    assert_int_equal(a->n_opsets, b->n_opsets);
    for (size_t i = 0; i < a->n_opsets; i++) {
        assert_string_equal(a->opsets[i].domain, b->opsets[i].domain);
        assert_int_equal(a->opsets[i].version, b->opsets[i].version);
    }
    assert_int_equal(a->n_metadata, b->n_metadata);
    for (size_t i = 0; i < a->n_metadata; i++) {
        assert_string_equal(a->metadata[i].key, b->metadata[i].key);
        assert_string_equal(a->metadata[i].value, b->metadata[i].value);
    }
    same_graph(&a->graph, &b->graph);
}

#endif
