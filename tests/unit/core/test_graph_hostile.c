/* Graphs that break the rules: refused with the right code and a name in the message, never with a crash. */
#include "core/graph/graph.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct line { const char *op, *in, *out, *attrs; };

static const struct {
    const char *label, *values, *outputs;
    struct line nodes[5];
    enum err_code code;
    const char *where, *text;          /* parts of the message */
    int64_t opset;
} bad[] = {
    { "a cycle", "x:f32[b]", "y", { { "Add", "x c", "a", "" }, { "Relu", "a", "c", "" }, { "Exp", "c", "y", "" } },
      ERR_MODEL_INVALID, "node", "cycle of 2 nodes", 17 },
    { "a self-loop", "x:f32[b]", "y", { { "Add", "x y", "y", "" } }, ERR_MODEL_INVALID, "node 0 (Add)", "cycle of 1 node", 17 },
    { "a cycle of identities", "x:f32[b]", "a", { { "Identity", "c", "a", "" }, { "Identity", "a", "c", "" } },
      ERR_MODEL_INVALID, "Identity", "cycle", 17 },
    { "a cycle that nothing needs", "x:f32[b]", "y", { { "Relu", "x", "y", "" }, { "Exp", "p", "q", "" }, { "Exp", "q", "p", "" } },
      ERR_MODEL_INVALID, "Exp", "cycle", 17 },
    { "a missing producer", "x:f32[b]", "y", { { "Add", "x ghost", "y", "" } }, ERR_MODEL_INVALID, "node 0 (Add)", "'ghost'", 17 },
    { "an output nobody makes", "x:f32[b]", "ghost", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "ghost", "no node", 17 },
    { "an output listed twice", "x:f32[b]", "y y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "y", "twice", 17 },
    { "no outputs", "x:f32[b]", "", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "graph", "no outputs", 17 },
    { "a tensor written twice", "x:f32[b]", "y", { { "Relu", "x", "y", "" }, { "Exp", "x", "y", "" } }, ERR_MODEL_INVALID, "y", "twice", 17 },
    { "an input written again", "x:f32[b]", "x", { { "Relu", "x", "x", "" } }, ERR_MODEL_INVALID, "x", "twice", 17 },
    { "a constant written again", "x:f32[b] w:f32{1}", "w", { { "Relu", "x", "w", "" } }, ERR_MODEL_INVALID, "w", "twice", 17 },
    { "an input named twice", "x:f32[b] x:f32[b]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "x", "twice", 17 },
    { "an initializer named twice", "x:f32{1} x:f32{2}", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "x", "twice", 17 },
    { "an initializer and two inputs", "x:f32{1} x:f32[1] x:f32[1]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "x", "twice", 17 },
    { "an output twice in one node", "x:f32[b]", "y", { { "Split", "x", "y y", "" } }, ERR_MODEL_INVALID, "y", "twice", 17 },
    { "an unknown op", "x:f32[b]", "y", { { "Frobnicate", "x", "y", "" } }, ERR_MODEL_OP, "node 0 (Frobnicate)", "Frobnicate is not supported", 17 },
    { "control flow", "x:f32[b] c:bool[]", "y", { { "If", "c", "y", "" } }, ERR_MODEL_OP, "(If)", "not supported", 17 },
    { "too few inputs", "x:f32[b]", "y", { { "Add", "x", "y", "" } }, ERR_MODEL_INVALID, "(Add)", "1 inputs", 17 },
    { "too many inputs", "x:f32[b]", "y", { { "Relu", "x x", "y", "" } }, ERR_MODEL_INVALID, "(Relu)", "2 inputs", 17 },
    { "too many outputs", "x:f32[b]", "y", { { "Relu", "x", "y z", "" } }, ERR_MODEL_INVALID, "(Relu)", "2 outputs", 17 },
    { "an absent input that is needed", "x:f32[b]", "y", { { "Add", "- x", "y", "" } }, ERR_MODEL_INVALID, "(Add)", "input 0 is absent", 17 },
    { "a hole in a variadic list", "x:f32[b]", "y", { { "Max", "x - x", "y", "" } }, ERR_MODEL_INVALID, "(Max)", "input 1 is absent", 17 },
    { "a slice without ends", "x:f32[b] s:i64{0}", "y", { { "Slice", "x s", "y", "" } }, ERR_MODEL_INVALID, "(Slice)", "ends", 17 },
    { "an attribute of another type", "x:f32[b]", "y", { { "Softmax", "x", "y", "axis=-1.5" } }, ERR_MODEL_INVALID, "(Softmax)", "'axis'", 17 },
    { "an unknown attribute", "x:f32[b]", "y", { { "Relu", "x", "y", "slope=1" } }, ERR_MODEL_INVALID, "(Relu)", "'slope'", 17 },
    { "an attribute twice", "x:f32[b]", "y", { { "Softmax", "x", "y", "axis=0 axis=-1" } }, ERR_MODEL_INVALID, "(Softmax)", "twice", 17 },
    { "an attribute missing", "x:f32[b]", "y", { { "Concat", "x x", "y", "" } }, ERR_MODEL_INVALID, "(Concat)", "'axis'", 17 },
    { "a constant of nothing", "", "y", { { "Constant", "", "y", "" } }, ERR_MODEL_INVALID, "(Constant)", "exactly one", 17 },
    { "a constant of two things", "", "y", { { "Constant", "", "y", "value_int=1 value_float=1.0" } }, ERR_MODEL_INVALID, "(Constant)", "exactly one", 17 },
    { "an old opset", "x:f32[b]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_OPSET, "", "export with opset_version >= 11", 10 },
    { "a future opset", "x:f32[b]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_OPSET, "", "29", 29 },
    { "a dropout in training", "x:f32[b] r:f32(0.5) on:bool(1)", "y", { { "Dropout", "x r on", "y", "" } }, ERR_MODEL_OP, "(Dropout)", "eval mode", 17 },
    { "a dropout asked at run time", "x:f32[b] r:f32(0.5) on:bool[]", "y", { { "Dropout", "x r on", "y", "" } }, ERR_MODEL_OP, "(Dropout)", "eval mode", 17 },
    { "a dropout's mask", "x:f32[b]", "y", { { "Dropout", "x", "d m", "" }, { "Not", "m", "y", "" } }, ERR_MODEL_OP, "(Not)", "mask", 17 },
    { "a gather out of a shape", "x:f32[b,3] i:i64(2) v:f32{1}", "y",
      { { "Shape", "x", "s", "" }, { "Gather", "s i", "n", "" } , { "Cast", "n", "y", "to=1" } },
      ERR_MODEL_SHAPE, "(Gather)", "index 2", 17 },
    { "a reshape to what a shape says", "x:f32[2,3] k:i64{4}", "y",
      { { "Shape", "x", "s", "" }, { "Mul", "s k", "t", "" }, { "Reshape", "x t", "y", "" } }, ERR_MODEL_SHAPE, "(Reshape)", "[8,12]", 17 },
};
enum { BAD = sizeof bad / sizeof bad[0] };

static void every_broken_graph_is_refused_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < BAD; i++) {
        struct err e = { 0 };
        struct builder *b = mb_new(bad[i].opset);
        mb_values(b, bad[i].values);
        for (const struct line *n = bad[i].nodes; n->op; n++)
            mb_node(b, n->op, n->in, n->out, n->attrs);
        mb_output(b, bad[i].outputs);
        struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
        if (g || e.code != bad[i].code || !strstr(e.where, bad[i].where) || !strstr(e.text, bad[i].text))
            fail_msg("%s: %s: %s: %s", bad[i].label, g ? "loaded" : err_slug(e.code), e.where, e.text);
        mb_free(b);
    }
}

static void subgraphs_and_functions_are_refused_by_name(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct onnx_graph body = { .name = "body" };
    struct onnx_attr attr = { .name = "then_branch", .type = ONNX_GRAPH, .g = &body };
    struct builder *b = mb_new(17);
    mb_values(b, "c:bool[]");
    struct onnx_node *n = mb_node(b, "If", "c", "y", "");
    n->attrs = &attr;
    n->n_attrs = 1;
    mb_output(b, "y");
    assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_non_null(strstr(e.text, "subgraph"));

    e = (struct err){ 0 };
    n->op_type = "MyFunction";
    n->domain = "mine";
    n->n_attrs = 0;
    b->model.n_functions = 1;
    assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_non_null(strstr(e.text, "functions"));
    mb_free(b);
}

/* A chain of n nodes written last first: no walk may use the C stack. */
static void long_chains_in_reverse_order_need_no_stack(void **state)
{
    (void)state;
    enum { N = 50000 };
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    char in[32], out[32];
    mb_values(b, "t0:f32[b]");
    for (int i = N; i > 0; i--) {
        snprintf(in, sizeof in, "t%d", i - 1);
        snprintf(out, sizeof out, "t%d", i);
        mb_node(b, "Neg", in, out, "");
    }
    mb_output(b, "t50000");
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    assert_non_null(g);
    assert_int_equal(g->n_nodes, N);
    assert_int_equal(g->nodes[0].place, N);
    mb_free(b);
}

/* Each step makes the expression longer; what no longer fits becomes a length of its own. */
static void endless_shape_arithmetic_stays_bounded(void **state)
{
    (void)state;
    static const char *const ops[] = { "Mul", "Add", "Div", "Min", "Max", "Sub" };
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        struct err e = { 0 };
        struct builder *b = mb_new(17);
        char in[64], out[32];
        mb_values(b, "x:f32[a,b,c,d,e,f,g,h] one:f32{1} zero:i64{0}");
        mb_node(b, "Shape", "x", "s0", "");
        for (int i = 1; i <= 300; i++) {
            snprintf(in, sizeof in, "s%d s%d", i - 1, i > 1 ? i - 2 : 0);
            snprintf(out, sizeof out, "s%d", i);
            mb_node(b, i % 3 ? ops[k] : "Mul", in, out, "");
        }
        mb_node(b, "Max", "s300 zero", "t", "");
        mb_node(b, "Expand", "one t", "y", "");
        mb_output(b, "y");
        struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
        if (!g)
            fail_msg("%s: %s: %s", ops[k], e.where, e.text);
        assert_true(g->n_symbols < 20000);
        mb_free(b);
    }
}

static void a_small_arena_fails_with_memory_and_nothing_else(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,seq,8] i:i64{1} c:i64{3}");
    mb_node(b, "Shape", "x", "s", "");
    mb_node(b, "Gather", "s i", "n", "");
    mb_node(b, "Add", "n c", "m", "");
    mb_node(b, "ConstantOfShape", "m", "y", "");
    mb_output(b, "y");
    bool loaded = false;
    for (uint64_t limit = 0; limit < 200000 && !loaded; limit += 64) {
        struct err e = { 0 };
        struct arena *mem = arena_new(limit);
        loaded = graph_load(mem, mb_model(b), NULL, &e) != NULL;
        assert_true(loaded || e.code == ERR_MEMORY);
        arena_free(mem);
    }
    assert_true(loaded);
    mb_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_graph_is_refused_by_name),
        cmocka_unit_test(subgraphs_and_functions_are_refused_by_name),
        cmocka_unit_test(long_chains_in_reverse_order_need_no_stack),
        cmocka_unit_test(endless_shape_arithmetic_stays_bounded),
        cmocka_unit_test(a_small_arena_fails_with_memory_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
