/* Functions, branches and loops: their bodies take their place, with what a call gives and leaves out; what cannot is refused by name. */
#include "core/graph/graph.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- making ---- */

/* Another graph of the builder's memory. */
static struct onnx_graph *new_body(struct builder *b, const char *values, const char *nodes, const char *outputs)
{
    struct onnx_graph outer = b->model.graph, *ret = mb_alloc(b, sizeof *ret);
    size_t room = b->node_room;
    b->node_room = 0;
    b->model.graph = (struct onnx_graph){ .name = "body", .initializers = mb_alloc(b, 20 * sizeof *outer.initializers),
                                          .inputs = mb_alloc(b, 20 * sizeof *outer.inputs), .outputs = mb_alloc(b, 20 * sizeof *outer.outputs) };
    mb_values(b, values);
    mb_nodes(b, nodes);
    mb_output(b, outputs);
    *ret = b->model.graph;
    b->model.graph = outer;
    b->node_room = room;
    return ret;
}

static void add_graph_attr(struct onnx_node *n, const char *name, const struct onnx_graph *g)
{
    n->attrs[n->n_attrs++] = (struct onnx_attr){ .name = name, .type = ONNX_GRAPH, .g = g };
}

static void add_branches(struct onnx_node *n, const struct onnx_graph *g)
{
    add_graph_attr(n, "then_branch", g);
    add_graph_attr(n, "else_branch", g);
}

/* A model that reads x:f32[n,4] and has one function, F of domain "mine"; `values` are constants of its body. */
static struct builder *with_function(const char *inputs, const char *values, const char *nodes, const char *outputs)
{
    struct builder *b = mb_new(17);
    struct onnx_function *f = b->model.functions = mb_alloc(b, sizeof *f);
    const struct onnx_graph *body = new_body(b, values, nodes, "");
    *f = (struct onnx_function){ .name = "F", .domain = "mine", .nodes = body->nodes, .n_nodes = body->n_nodes };
    f->inputs = mb_names(b, inputs, &f->n_inputs);
    f->outputs = mb_names(b, outputs, &f->n_outputs);
    b->model.n_functions = 1;
    mb_values(b, "x:f32[n,4]");
    return b;
}

static struct onnx_node *call(struct builder *b, const char *inputs, const char *outputs, const char *attrs)
{
    struct onnx_node *n = mb_node(b, "F", inputs, outputs, attrs);
    n->domain = "mine";
    mb_output(b, outputs);
    return n;
}

static struct graph *loaded(const struct builder *b)
{
    struct err e = { 0 };
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    if (!g)
        fail_msg("%s: %s", e.where, e.text);
    return g;
}

static void expect_refused(struct builder *b, const char *label, enum err_code code, const char *where, const char *text)
{
    struct err e = { 0 };
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    if (g || e.code != code || !strstr(e.where, where) || !strstr(e.text, text))
        fail_msg("%s: %s: %s: %s", label, g ? "loaded" : err_slug(e.code), e.where, e.text);
    mb_free(b);
}

static void assert_ops(const struct graph *g, const char *want)
{
    char got[2000] = "";
    for (int i = 0; i < g->n_nodes; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i ? " " : "", op_info[g->nodes[i].op].type);
    assert_string_equal(got, want);
}

/* ---- functions ---- */

static void refer(struct onnx_node *n, const char *name, const char *ref)
{
    n->attrs[n->n_attrs++] = (struct onnx_attr){ .name = name, .type = ONNX_FLOAT, .ref = ref };
}

/* The alpha of the only node of a call's body, where that is in a branch of the body or not; -1: it has none. */
static float alpha_of(const char *attrs, bool has_default, bool in_branch)
{
    struct onnx_attr slope = { .name = "slope", .type = ONNX_FLOAT, .f = 0.25f };
    struct builder *b = with_function("a", in_branch ? "one:bool(1)" : "", in_branch ? "c = Constant() value=@one; y = If(c)" : "y = LeakyRelu(a)", "y");
    struct onnx_function *f = &b->model.functions[0];
    if (in_branch) {
        struct onnx_graph *branch = new_body(b, "", "r = LeakyRelu(a)", "r");
        refer(&branch->nodes[0], "alpha", "slope");
        add_branches(&f->nodes[1], branch);
    } else {
        refer(&f->nodes[0], "alpha", "slope");
    }
    f->defaults = &slope;
    f->n_defaults = has_default;
    call(b, "x", "y", attrs);
    const struct graph *g = loaded(b);
    assert_ops(g, "LeakyRelu");
    assert_null(g->nodes[0].n_attrs ? g->nodes[0].attrs[0].ref : NULL);
    float alpha = node_float(&g->nodes[0], "alpha", -1);
    mb_free(b);
    return alpha;
}

static void an_attribute_is_the_calls_else_the_functions_else_absent(void **state)
{
    (void)state;
    for (int branch = 0; branch < 2; branch++) {
        assert_float_equal(alpha_of("slope=0.5", true, branch), 0.5f, 0);
        assert_float_equal(alpha_of("slope=0.5", false, branch), 0.5f, 0);
        assert_float_equal(alpha_of("other=0.5", true, branch), 0.25f, 0);
        assert_float_equal(alpha_of("", false, branch), -1, 0);
    }
}

static void what_a_call_leaves_out_is_absent_in_its_body(void **state)
{
    (void)state;
    struct builder *b = with_function("a lo hi", "", "y = Clip(a lo hi)", "y");
    call(b, "x", "y", "");
    const struct graph *g = loaded(b);
    assert_ops(g, "Clip");
    assert_int_equal(g->nodes[0].n_in, 1);
    mb_free(b);
}

static void a_call_that_its_function_cannot_take_is_refused(void **state)
{
    (void)state;
    static const struct { const char *label, *inputs, *values, *nodes, *given; enum err_code code; const char *where, *text; } rows[] = {
        { "one input too many", "a", "", "y = Relu(a)", "x x", ERR_MODEL_INVALID, "(F)", "2 inputs and 1 outputs, the function takes 1" },
        { "one input too few", "a c", "", "y = Add(a c)", "x", ERR_MODEL_INVALID, "(Add)", "input 1 is not optional" },
        { "a hole in a list", "a c", "", "y = Max(a c)", "x", ERR_MODEL_INVALID, "(Max)", "input 1 is not optional" },
        { "a hole in an equation's list", "a c d", "", "y = Einsum(a c d) equation=ij,j,ij->i", "x - x", ERR_MODEL_INVALID, "(Einsum)", "input 1 is not optional" },
        { "a mask that is read", "a", "", "d m = Dropout(a); y = Not(m)", "x", ERR_MODEL_OP, "(Not)", "mask of a Dropout" },
        { "a mask that is given", "a", "", "d y = Dropout(a)", "x", ERR_MODEL_OP, "(F)", "mask of a Dropout" },
        { "a dropout in training", "a", "half:f32(0.5) one:bool(1)", "r = Constant() value=@half; t = Constant() value=@one; y = Dropout(a r t)", "x",
          ERR_MODEL_OP, "(Dropout)", "eval mode" },
        { "a constant of nothing", "a", "", "y = Constant()", "x", ERR_MODEL_INVALID, "(Constant)", "exactly one" },
        { "an operator that nobody knows", "a", "", "y = Frobnicate(a)", "x", ERR_MODEL_OP, "(Frobnicate)", "is not supported" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = with_function(rows[i].inputs, rows[i].values, rows[i].nodes, "y");
        call(b, rows[i].given, "y", "");
        expect_refused(b, rows[i].label, rows[i].code, rows[i].where, rows[i].text);
    }
}

static void a_function_of_another_opset_is_refused(void **state)
{
    (void)state;
    struct onnx_opset opsets[] = { { "mine", 1 }, { "", 16 } };
    struct builder *b = with_function("a", "", "y = Relu(a)", "y");
    b->model.functions[0].opsets = opsets;
    b->model.functions[0].n_opsets = 1;
    call(b, "x", "y", "");
    assert_ops(loaded(b), "Relu");
    b->model.functions[0].n_opsets = 2;
    expect_refused(b, "another opset", ERR_MODEL_OPSET, "(F)", "opset 16 and the model in opset 17");
}

static void an_attribute_that_is_a_graph_by_default_is_refused(void **state)
{
    (void)state;
    struct builder *b = with_function("a", "", "y = LeakyRelu(a)", "y");
    struct onnx_attr body = { .name = "slope", .type = ONNX_GRAPH, .g = new_body(b, "", "r = Relu(a)", "r") };
    refer(&b->model.functions[0].nodes[0], "alpha", "slope");
    b->model.functions[0].defaults = &body;
    b->model.functions[0].n_defaults = 1;
    call(b, "x", "y", "");
    expect_refused(b, "a graph", ERR_MODEL_OP, "(LeakyRelu)", "'alpha' is a graph");
}

static void a_call_given_a_graph_is_refused(void **state)
{
    (void)state;
    struct builder *b = with_function("a", "", "y = Relu(a)", "y");
    struct onnx_node *n = call(b, "x", "y", "");
    add_graph_attr(n, "then_branch", new_body(b, "", "r = Relu(x)", "r"));
    expect_refused(b, "a graph", ERR_MODEL_OP, "(F)", "subgraph");
}

/* The model has a tensor and a node that are called as the function's would be. */
static void names_that_meet_are_told_apart(void **state)
{
    (void)state;
    struct builder *b = with_function("a", "", "t = Exp(a); y = Neg(t)", "y");
    b->model.functions[0].nodes[0].name = "e";
    call(b, "f/t", "y", "")->name = "f";
    mb_node(b, "Relu", "x", "f/t", "")->name = "f/e";
    const struct graph *g = loaded(b);
    assert_ops(g, "Relu Exp Neg");
    for (int i = 0; i < g->n_values; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(g->values[i].name, g->values[k].name);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(g->nodes[i].name, g->nodes[k].name);
    assert_string_equal(g->values[g->inputs[0]].name, "x");
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    mb_free(b);
}

/* ---- branches ---- */

static void a_branch_reads_what_is_its_own_and_what_is_around_it(void **state)
{
    (void)state;
    enum { STEPS = 70 };
    char text[STEPS * 24] = "s0 = Add(x w); ";
    for (int i = 1; i < STEPS; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "s%d = Neg(s%d); ", i, i - 1);
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[n,4] c:bool(1)");
    add_branches(mb_node(b, "If", "c", "y", ""), new_body(b, "w:f32{1,2,3,4}", text, "s69"));
    mb_output(b, "y");
    const struct graph *g = loaded(b);
    assert_int_equal(g->n_nodes, STEPS);
    assert_int_equal(g->nodes[0].op, OP_ADD);
    assert_int_equal(g->nodes[0].in[0], g->inputs[0]);
    assert_memory_equal(g->values[g->nodes[0].in[1]].data, ((const float[]){ 1, 2, 3, 4 }), 16);
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    mb_free(b);
}

static void a_branch_that_gives_too_little_or_takes_something_is_refused(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[n,4] c:bool(1)");
    add_branches(mb_node(b, "If", "c", "y z", ""), new_body(b, "", "r = Neg(x)", "r"));
    mb_output(b, "y z");
    expect_refused(b, "too little", ERR_MODEL_OP, "(If)", "gives each output");

    b = mb_new(17);
    mb_values(b, "x:f32[n,4] c:bool(1)");
    add_branches(mb_node(b, "If", "c", "y", ""), new_body(b, "a:f32[4]", "r = Neg(a)", "r"));
    mb_output(b, "y");
    expect_refused(b, "an input", ERR_MODEL_OP, "(If)", "takes no inputs");
}

/* ---- loops ---- */

/* values: of the model, with m and c of the loop; nodes: of the body, which has i, go and v and gives `gives`. */
static struct builder *looping(const char *values, const char *inputs, const char *nodes, const char *gives, const char *outputs)
{
    struct builder *b = mb_new(17);
    mb_values(b, values);
    add_graph_attr(mb_node(b, "Loop", inputs, outputs, ""), "body", new_body(b, "i:i64[] go:bool[] v:f32[n,4]", nodes, gives));
    mb_output(b, outputs);
    return b;
}

#define X "x:f32[n,4] "
#define ON "on = Identity(go); w = Add(v v)"

static void a_loop_is_written_out_and_collects_rows(void **state)
{
    (void)state;
    struct builder *b = looping(X "m:i64(3)", "m - x", ON, "on w", "y");
    assert_ops(loaded(b), "Add Add Add");
    mb_free(b);

    char shape[60];
    b = looping(X "m:i64(3)", "m - x", ON, "on w w", "y all");
    const struct graph *g = loaded(b);
    assert_ops(g, "Add Unsqueeze Add Unsqueeze Add Unsqueeze Concat");
    assert_string_equal(graph_shape_text(g, &g->values[g->outputs[1]].shape, shape, sizeof shape), "[3,n,4]");
    mb_free(b);

    b = looping(X "m:i64(0)", "m - x", ON, "on w", "y");
    g = loaded(b);
    assert_string_equal(g->values[g->outputs[0]].name, "y");
    assert_ops(g, "Identity");
    mb_free(b);
}

static void a_loop_without_a_known_end_is_refused(void **state)
{
    (void)state;
    static const struct { const char *label, *values, *inputs, *nodes, *gives, *outputs, *text; } rows[] = {
        { "trips that are data", X "m:i64[]", "m - x", ON, "on w", "y", "trip count depends on the data" },
        { "trips that are real", X "m:f32(3)", "m - x", ON, "on w", "y", "trip count depends on the data" },
        { "a condition that is data", X "m:i64(3) c:bool[]", "m c x", ON, "on w", "y", "its condition depends on the data" },
        { "a condition that becomes data", X "m:i64(3)", "m - x", "w = Add(v v); s = ReduceSum(w) keepdims=0; on = Greater(s s)", "on w", "y",
          "after an iteration depends on the data" },
        { "trips without end", X "m:i64(300)", "m - x", ON, "on w", "y", "more than 256 times" },
        { "no end at all", X, "- - x", ON, "on w", "y", "more than 256 times" },
        { "rows of no trips", X "m:i64(0)", "m - x", ON, "on w w", "y all", "makes no iteration" },
        { "a body that takes less", X "m:i64(3)", "m - x x", ON, "on w w", "y z", "another number of inputs or outputs" },
        { "a body that gives less", X "m:i64(3)", "m - x", ON, "on", "y", "another number of inputs or outputs" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_refused(looping(rows[i].values, rows[i].inputs, rows[i].nodes, rows[i].gives, rows[i].outputs), rows[i].label, ERR_MODEL_OP, "(Loop)",
                       rows[i].text);
}

static void a_loop_that_collects_what_is_absent_is_refused(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, X "m:i64(2)");
    add_graph_attr(mb_node(b, "Loop", "m - - x", "p y all", ""), "body",
                   new_body(b, "i:i64[] go:bool[] a:f32[n,4] v:f32[n,4]", "on = Identity(go); w = Add(v v); t = Identity(v)", "on t w a"));
    mb_output(b, "y all");
    expect_refused(b, "rows of nothing", ERR_MODEL_OP, "(Loop)", "what it collects is absent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attribute_is_the_calls_else_the_functions_else_absent),
        cmocka_unit_test(what_a_call_leaves_out_is_absent_in_its_body),
        cmocka_unit_test(a_call_that_its_function_cannot_take_is_refused),
        cmocka_unit_test(a_function_of_another_opset_is_refused),
        cmocka_unit_test(an_attribute_that_is_a_graph_by_default_is_refused),
        cmocka_unit_test(a_call_given_a_graph_is_refused),
        cmocka_unit_test(names_that_meet_are_told_apart),
        cmocka_unit_test(a_branch_reads_what_is_its_own_and_what_is_around_it),
        cmocka_unit_test(a_branch_that_gives_too_little_or_takes_something_is_refused),
        cmocka_unit_test(a_loop_is_written_out_and_collects_rows),
        cmocka_unit_test(a_loop_without_a_known_end_is_refused),
        cmocka_unit_test(a_loop_that_collects_what_is_absent_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
