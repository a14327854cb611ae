/*
 * How nodes are rewritten for a newer opset: rows of before and after as text.  That the two compute the same is
 * what tests/api/test_opset.py asks ONNX Runtime.
 */
#include "core/artifact/opset.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/core/model_builder.h"
#include "tests/unit/core/onnx_same.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define VALUES "x:f32[b,4,6] s:f32{1}@4 sizes:i64{1,3} axis:i64{-1} "

struct text { char s[4000]; size_t n; };

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    t->n += (size_t)vsnprintf(t->s + t->n, sizeof t->s - t->n, fmt, args);
    va_end(args);
    assert_true(t->n < sizeof t->s);
}

static void add_names(struct text *t, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add(t, "%s%s", i ? " " : "", names[i][0] ? names[i] : "-");
}

static void add_attr(struct text *t, const struct onnx_attr *a)
{
    add(t, " %s=", a->name);
    if (a->type == ONNX_INT)
        add(t, "%lld", (long long)a->i);
    else if (a->type == ONNX_STRING)
        add(t, "%s", a->s);
    else
        for (size_t i = 0; i < a->n; i++)
            add(t, "%lld%s", (long long)a->ints[i], i + 1 < a->n || a->n == 1 ? "," : "");
}

/* The nodes in the builder's own notation, then what initializers there are beyond the first `old`: "; name{-1,2}". */
static void describe(struct text *t, const struct onnx_graph *g, size_t old)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const struct onnx_node *n = &g->nodes[i];
        add(t, "%s", i ? "; " : "");
        add_names(t, n->outputs, n->n_outputs);
        add(t, " = %s(", n->op_type);
        add_names(t, n->inputs, n->n_inputs);
        add(t, ")");
        for (size_t k = 0; k < n->n_attrs; k++)
            add_attr(t, &n->attrs[k]);
    }
    for (size_t i = old; i < g->n_initializers; i++) {
        const struct tensor *x = &g->initializers[i].t;
        assert_true(x->dtype == DT_I64 && x->shape.rank == 1);
        add(t, "; %s{", g->initializers[i].name);
        for (int64_t k = 0; k < x->shape.dim[0]; k++)
            add(t, "%s%lld", k ? "," : "", (long long)((const int64_t *)x->data)[k]);
        add(t, "}");
    }
}

static struct builder *model_of(int64_t opset, const char *values, const char *nodes)
{
    struct builder *b = mb_new(opset);
    mb_values(b, values);
    mb_nodes(b, nodes);
    return b;
}

/* NULL after: as before. */
static const struct row { const char *label; int64_t opset; int to; const char *nodes, *after; } rows[] = {
    { "axes become an input", 17, 21, "y = ReduceMean(x) axes=-1, keepdims=0",
      "y = ReduceMean(x ReduceMean_0_axes) keepdims=0; ReduceMean_0_axes{-1}" },
    { "of every reduction, each with its own", 13, 18, "a = ReduceMax(x) axes=0,2; b = ReduceMin(x) keepdims=1 axes=1,; c = ReduceL2(b) axes=1,",
      "a = ReduceMax(x ReduceMax_0_axes); b = ReduceMin(x ReduceMin_1_axes) keepdims=1; c = ReduceL2(b ReduceL2_2_axes); "
      "ReduceMax_0_axes{0,2}; ReduceMin_1_axes{1}; ReduceL2_2_axes{1}" },
    { "no axes, no input", 13, 21, "y = ReduceMean(x) keepdims=0", NULL },
    { "the sum's were one in 13", 13, 21, "y = ReduceSum(x axis) keepdims=0", NULL },
    { "axes that are one already", 18, 21, "y = ReduceMean(x axis) keepdims=0", NULL },
    { "not before the change", 13, 17, "y = ReduceMean(x) axes=-1,", NULL },
    { "a name that is taken", 17, 21, "ReduceMean_1_axes = Relu(x); y = ReduceMean(x) axes=-1,",
      "ReduceMean_1_axes = Relu(x); y = ReduceMean(x ReduceMean_1_axes_2); ReduceMean_1_axes_2{-1}" },
    { "parts are counted", 17, 21, "a b c = Split(x) axis=-1", "a b c = Split(x) axis=-1 num_outputs=3" },
    { "with an input that is absent", 13, 18, "a b = Split(x -)", "a b = Split(x -) num_outputs=2" },
    { "not where sizes are given", 13, 21, "a b = Split(x sizes) axis=1", NULL },
    { "nor where they are counted", 18, 21, "a b = Split(x) num_outputs=2", NULL },
    { "a norm that does not train", 13, 21, "y - - = BatchNormalization(x s s s s)", "y = BatchNormalization(x s s s s)" },
    { "a norm after the change", 14, 21, "y = BatchNormalization(x s s s s) training_mode=0", NULL },
    { "what means the same", 13, 21, "a = Add(x x); r = Reshape(a sizes); h = Shape(r); c = Cast(h) to=1; p = Pad(x sizes) mode=reflect", NULL },
    { "what never changed", 13, 21, "y = MatMul(x x); z = Softmax(y) axis=-1", NULL },
};

static void nodes_are_rewritten_where_their_form_has_changed(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct builder *b = model_of(r->opset, VALUES, r->nodes);
        struct onnx_model m = *mb_model(b);
        struct text before = { .n = 0 }, after = { .n = 0 };
        struct err e = { 0 };
        if (!opset_raise(&m, r->to, b->mem, &e))
            fail_msg("%s: %s", r->label, e.text);
        assert_int_equal(onnx_opset(&m), r->to);
        describe(&before, &b->model.graph, b->model.graph.n_initializers);
        describe(&after, &m.graph, b->model.graph.n_initializers);
        if (strcmp(after.s, r->after ? r->after : before.s) != 0)
            fail_msg("%s: %s", r->label, after.s);
        assert_string_equal(before.s, r->nodes);    /* the arrays of the old model are untouched */
        mb_free(b);
    }
}

static void an_empty_list_of_axes_goes(void **state)
{
    (void)state;
    struct builder *b = model_of(13, VALUES, "y = ReduceMax(x) axes=1,2");
    struct onnx_model m = *mb_model(b);
    b->model.graph.nodes[0].attrs[0].n = 0;
    assert_true(opset_raise(&m, 21, b->mem, NULL));
    assert_true(m.graph.nodes[0].n_attrs == 0 && m.graph.nodes[0].n_inputs == 1 && m.graph.n_initializers == b->model.graph.n_initializers);
    mb_free(b);
}

static void nodes_of_other_domains_and_their_opsets_stay(void **state)
{
    (void)state;
    struct builder *b = model_of(13, VALUES, "y = ReduceMean(x) axes=1,; z = Fused(y) axes=1,");
    struct onnx_opset opsets[] = { { "com.microsoft", 1 }, { "", 13 } };
    struct onnx_model m = *mb_model(b);
    b->model.graph.nodes[0].domain = b->model.graph.nodes[1].domain = "com.microsoft";
    m.opsets = opsets;
    m.n_opsets = 2;
    assert_true(opset_raise(&m, 21, b->mem, NULL));
    for (size_t i = 0; i < 2; i++)
        same_node(&b->model.graph.nodes[i], &m.graph.nodes[i]);
    assert_true(m.opsets[0].version == 1 && m.opsets[1].version == 21 && opsets[1].version == 13);
    mb_free(b);
}

static void the_ir_version_goes_with_the_opset(void **state)
{
    (void)state;
    static const struct { int64_t ir; int to; int64_t want; } irs[] = {
        { 3, 14, 7 }, { 7, 15, 8 }, { 7, 18, 8 }, { 8, 19, 9 }, { 8, 20, 9 }, { 8, 21, 10 }, { 11, 21, 11 }, { 8, 13, 8 }, { 3, 13, 3 },
    };
    for (size_t i = 0; i < COUNT(irs); i++) {
        struct builder *b = model_of(13, VALUES, "y = Relu(x)");
        struct onnx_model m = *mb_model(b);
        m.ir_version = irs[i].ir;
        assert_true(opset_raise(&m, irs[i].to, b->mem, NULL));
        assert_int_equal(m.ir_version, irs[i].want);
        mb_free(b);
    }
}

static void what_has_no_equal_form_is_refused_and_the_model_left_alone(void **state)
{
    (void)state;
    static const struct { int64_t opset; int to; const char *nodes, *where, *text; } refused[] = {
        { 13, 21, "a = ReduceMean(x) axes=1,; y m v = BatchNormalization(a s s s s)", "node 1 (BatchNormalization)", "as in training" },
        { 18, 21, "y = GroupNormalization(x s s) num_groups=2", "node 0 (GroupNormalization)", "per group" },
        { 13, 21, "a = Split(x); y = Scan(x)", "node 1 (Scan)", "Scan has no equal form in opset 21" },
        { 13, 21, "y = ReduceMean(x) axes=1", "node 0 (ReduceMean)", "not one list" },
        { 13, 21, "y = ReduceMean(x axis) axes=1,", "node 0 (ReduceMean)", "not one list" },
        { 12, 21, "y = Relu(x)", "opset_import", "not from 12 to 21" },
        { 13, 22, "y = Relu(x)", "opset_import", "not from 13 to 22" },
    };
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct builder *b = model_of(refused[i].opset, VALUES, refused[i].nodes);
        struct onnx_model m = *mb_model(b);
        struct err e = { 0 };
        assert_false(opset_raise(&m, refused[i].to, b->mem, &e));
        assert_int_equal(e.code, ERR_EXPORT_FORM);
        assert_string_equal(e.where, refused[i].where);
        assert_non_null(strstr(e.text, refused[i].text));
        assert_non_null(strstr(e.text, "opset_version"));
        assert_memory_equal(&m, &b->model, sizeof m);
        mb_free(b);
    }
}

static void a_model_that_is_there_already_is_left_alone(void **state)
{
    (void)state;
    for (int64_t opset = 21; opset < 25; opset++) {
        struct builder *b = model_of(opset, VALUES, "y = Unheard(x)");
        struct onnx_model m = *mb_model(b);
        assert_true(opset_raise(&m, 21, b->mem, NULL));
        assert_memory_equal(&m, &b->model, sizeof m);
        mb_free(b);
    }
}

static void too_little_memory_is_said_and_the_model_left_alone(void **state)
{
    (void)state;
    struct builder *b = model_of(13, VALUES, "a = ReduceMean(x) axes=1, keepdims=0; c d = Split(a) axis=0; e = ReduceMax(c) axes=-1,");
    bool enough = false;
    for (uint64_t limit = 64; !enough; limit += 64) {
        struct arena *mem = arena_new(limit);
        struct onnx_model m = *mb_model(b);
        struct err e = { 0 };
        assert_true(limit < 1 << 20);
        enough = mem && opset_raise(&m, 21, mem, &e);
        if (mem && !enough) {
            assert_int_equal(e.code, ERR_MEMORY);
            assert_memory_equal(&m, &b->model, sizeof m);
        }
        arena_free(mem);
    }
    mb_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_rewritten_where_their_form_has_changed),
        cmocka_unit_test(an_empty_list_of_axes_goes),
        cmocka_unit_test(nodes_of_other_domains_and_their_opsets_stay),
        cmocka_unit_test(the_ir_version_goes_with_the_opset),
        cmocka_unit_test(what_has_no_equal_form_is_refused_and_the_model_left_alone),
        cmocka_unit_test(a_model_that_is_there_already_is_left_alone),
        cmocka_unit_test(too_little_memory_is_said_and_the_model_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
