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
    { "an initializer without a name", ":f32{1} x:f32[b]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "initializer", "no name", 17 },
    { "an input without a name", "x:f32[b] :f32[b]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "", "the input has no name", 17 },
    { "an input of a vast length", "x:f32[3,2199023255552]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_LIMIT, "x", "dimension 1", 17 },
    { "an initializer and two inputs", "x:f32{1} x:f32[1] x:f32[1]", "y", { { "Relu", "x", "y", "" } }, ERR_MODEL_INVALID, "x", "twice", 17 },
    { "an output twice in one node", "x:f32[b]", "y", { { "Split", "x", "y y", "" } }, ERR_MODEL_INVALID, "y", "twice", 17 },
    { "an unknown op", "x:f32[b]", "y", { { "Frobnicate", "x", "y", "" } }, ERR_MODEL_OP, "node 0 (Frobnicate)", "Frobnicate is not supported", 17 },
    { "control flow", "x:f32[b] c:bool[]", "y", { { "If", "c", "y", "" } }, ERR_MODEL_INVALID, "(If)", "then_branch", 17 },
    { "too few inputs", "x:f32[b]", "y", { { "Add", "x", "y", "" } }, ERR_MODEL_INVALID, "(Add)", "1 inputs", 17 },
    { "too many inputs", "x:f32[b]", "y", { { "Relu", "x x", "y", "" } }, ERR_MODEL_INVALID, "(Relu)", "2 inputs", 17 },
    { "too many outputs", "x:f32[b]", "y", { { "Relu", "x", "y z", "" } }, ERR_MODEL_INVALID, "(Relu)", "2 outputs", 17 },
    { "an absent input that is needed", "x:f32[b]", "y", { { "Add", "- x", "y", "" } }, ERR_MODEL_INVALID, "(Add)", "input 0 is absent", 17 },
    { "a hole in a variadic list", "x:f32[b]", "y", { { "Max", "x - x", "y", "" } }, ERR_MODEL_INVALID, "(Max)", "input 1 is absent", 17 },
    { "a hole in an equation's list", "x:f32[b,3] z:f32[b]", "y", { { "Einsum", "x - z", "y", "equation=ba,a,b->b" } }, ERR_MODEL_INVALID, "(Einsum)", "input 1 is absent", 17 },
    { "a slice without ends", "x:f32[b] s:i64{0}", "y", { { "Slice", "x s", "y", "" } }, ERR_MODEL_INVALID, "(Slice)", "ends", 17 },
    { "an attribute of another type", "x:f32[b]", "y", { { "Softmax", "x", "y", "axis=-1.5" } }, ERR_MODEL_INVALID, "(Softmax)", "'axis'", 17 },
    { "an unknown attribute", "x:f32[b]", "y", { { "Relu", "x", "y", "slope=1" } }, ERR_MODEL_INVALID, "(Relu)", "'slope'", 17 },
    { "an attribute twice", "x:f32[b]", "y", { { "Softmax", "x", "y", "axis=0 axis=-1" } }, ERR_MODEL_INVALID, "(Softmax)", "twice", 17 },
    { "an attribute missing", "x:f32[b]", "y", { { "Concat", "x x", "y", "" } }, ERR_MODEL_INVALID, "(Concat)", "'axis'", 17 },
    { "a constant of nothing", "", "y", { { "Constant", "", "y", "" } }, ERR_MODEL_INVALID, "(Constant)", "exactly one", 17 },
    { "a constant of two things", "", "y", { { "Constant", "", "y", "value_int=1 value_float=1.0" } }, ERR_MODEL_INVALID, "(Constant)", "exactly one", 17 },
    { "a shape filled with half bytes", "s:i64{2} v:i4{0}", "y", { { "ConstantOfShape", "s", "y", "value=@v" } }, ERR_MODEL_OP, "(ConstantOfShape)", "int4", 17 },
    { "a shape filled with two numbers", "s:i64{2} v:i64{1,2}", "y", { { "ConstantOfShape", "s", "y", "value=@v" } }, ERR_MODEL_INVALID, "(ConstantOfShape)", "2 elements", 17 },
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

static void an_input_of_no_type_or_of_too_many_axes_is_refused(void **state)
{
    (void)state;
    for (int many = 0; many < 2; many++) {
        struct err e = { 0 };
        struct builder *b = mb_new(17);
        mb_values(b, "x:f32[b]");
        if (many)
            b->model.graph.inputs[0].shape.rank = TENSOR_MAX_RANK + 1;
        else
            b->model.graph.inputs[0].dtype = DT_NONE;
        mb_node(b, "Relu", "x", "y", "");
        mb_output(b, "y");
        assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
        assert_int_equal(e.code, many ? ERR_MODEL_LIMIT : ERR_MODEL_INVALID);
        assert_string_equal(e.where, "x");
        assert_non_null(strstr(e.text, many ? "rank 9, at most 8" : "no element type"));
        mb_free(b);
    }
}

/* Lengths that are symbols and sum up to a number: one of them is negative, and what is known does not fill, or does not fit, the sum. */
static void lengths_that_cancel_leave_a_concat_unknown(void **state)
{
    (void)state;
    static const struct { const char *label, *less, *list; } rows[] = {
        { "a gap behind what is known", "zero", "five short ids" },
        { "a gap before what is known", "zero", "ids short five" },
        { "more than fits", "eight", "ids short five seven" },
        { "far more than fits", "many", "ids short five seven hundred" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        struct builder *b = mb_new(17);
        char pads[60];
        mb_values(b, "x:f32[n,4] i0:i64(0) i1:i64(1) none:i64{0} zero:i64{0} eight:i64{-8} many:i64{-108} "
                     "five:i64{1,2,3,4,5} seven:i64{7}@8 hundred:i64{9}@100");
        mb_node(b, "Shape", "x", "s", "start=0 end=1");
        snprintf(pads, sizeof pads, "%s s", rows[i].less);
        mb_node(b, "Sub", pads, "minus", "");
        mb_node(b, "Concat", "none minus", "pads", "axis=0");
        mb_node(b, "Pad", "five pads", "short", "");
        mb_node(b, "Squeeze", "s", "n", "");
        mb_node(b, "Range", "i0 n i1", "ids", "");
        mb_node(b, "Concat", rows[i].list, "all", "axis=0");
        mb_node(b, "Neg", "all", "y", "");
        mb_output(b, "y");
        const struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
        if (!g)
            fail_msg("%s: %s: %s", rows[i].label, e.where, e.text);
        const struct node *last = graph_made_by(g, g->outputs[0], OP_NEG);
        if (!last || !graph_made_by(g, last->in[0], OP_CONCAT))
            fail_msg("%s: taken for a constant", rows[i].label);
        mb_free(b);
    }
}

/* If c: then_branch else else_branch, both of them `body`. */
static struct onnx_node *add_if(struct builder *b, const struct onnx_graph *body, struct onnx_attr attrs[2])
{
    struct onnx_node *n = mb_node(b, "If", "c", "y", "");
    attrs[0] = (struct onnx_attr){ .name = "then_branch", .type = ONNX_GRAPH, .g = body };
    attrs[1] = (struct onnx_attr){ .name = "else_branch", .type = ONNX_GRAPH, .g = body };
    n->attrs = attrs;
    n->n_attrs = 2;
    return n;
}

static void what_depends_on_data_is_refused_by_name(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct onnx_graph body = { .name = "body" };
    struct onnx_attr attrs[2];
    struct builder *b = mb_new(17);
    mb_values(b, "c:bool[]");
    struct onnx_node *n = add_if(b, &body, attrs);
    mb_output(b, "y");
    assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_non_null(strstr(e.where, "(If)"));
    assert_non_null(strstr(e.text, "condition"));

    e = (struct err){ 0 };
    n->op_type = "Scan";
    assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_non_null(strstr(e.where, "(Scan)"));
    mb_free(b);
}

/* ---- functions ---- */

/* y = f(x), where the function called `name` has a body of `copies` calls of `calls`, one behind the other. */
static void add_function(struct builder *b, struct onnx_function *f, const char *name, const char *calls, size_t copies)
{
    const char **names = mb_alloc(b, 2 * sizeof *names);
    names[0] = "f_x";
    names[1] = "f_y";
    *f = (struct onnx_function){ .name = name, .domain = "mine", .inputs = &names[0], .n_inputs = 1, .outputs = &names[1], .n_outputs = 1 };
    f->nodes = mb_alloc(b, copies * sizeof *f->nodes);
    f->n_nodes = copies;
    for (size_t i = 0; i < copies; i++) {
        const char **edges = mb_alloc(b, 2 * sizeof *edges);
        char text[32];
        snprintf(text, sizeof text, "t%zu", i);
        edges[0] = i ? f->nodes[i - 1].outputs[0] : names[0];
        edges[1] = i + 1 < copies ? mb_copy(b, text, strlen(text)) : names[1];
        f->nodes[i] = (struct onnx_node){ .name = "", .op_type = calls, .domain = strcmp(calls, "Identity") ? "mine" : "",
                                          .inputs = edges, .n_inputs = 1, .outputs = edges + 1, .n_outputs = 1 };
    }
}

static void expect_refused(struct builder *b, const char *label, enum err_code code, const char *where, const char *text)
{
    struct err e = { 0 };
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    if (g || e.code != code || !strstr(e.where, where) || !strstr(e.text, text))
        fail_msg("%s: %s: %s: %s", label, g ? "loaded" : err_slug(e.code), e.where, e.text);
}

static struct builder *calling(const char *name, size_t n_functions)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[n]");
    mb_node(b, name, "x", "y", "")->domain = "mine";
    mb_output(b, "y");
    b->model.functions = mb_alloc(b, n_functions * sizeof *b->model.functions);
    b->model.n_functions = n_functions;
    return b;
}

static void functions_without_a_body_or_an_end_are_refused_by_name(void **state)
{
    (void)state;
    struct builder *b = calling("Missing", 1);
    add_function(b, &b->model.functions[0], "Other", "Identity", 1);
    expect_refused(b, "no such function", ERR_MODEL_OP, "(Missing)", "no function of that name");
    mb_free(b);

    b = calling("Self", 1);
    add_function(b, &b->model.functions[0], "Self", "Self", 1);
    expect_refused(b, "recursion", ERR_MODEL_OP, "(Self)", "has no end");
    mb_free(b);

    b = calling("A", 2);
    add_function(b, &b->model.functions[0], "A", "B", 1);
    add_function(b, &b->model.functions[1], "B", "A", 1);
    expect_refused(b, "recursion by way of another", ERR_MODEL_OP, "/", "has no end");
    mb_free(b);

    b = calling("A", 2);
    add_function(b, &b->model.functions[0], "A", "Identity", 1);
    add_function(b, &b->model.functions[1], "A", "Identity", 1);
    expect_refused(b, "two of one name", ERR_MODEL_INVALID, "A", "two functions");
    mb_free(b);
}

/* y = f(x, c), where f is If c: f(x, c) else f(x, c): it calls itself in its branches alone. */
static void add_branching_function(struct builder *b, struct onnx_function *f, const char *name, const char *calls)
{
    const char **names = mb_alloc(b, 4 * sizeof *names);
    names[0] = "f_x", names[1] = "f_c", names[2] = "f_y", names[3] = "inner";
    *f = (struct onnx_function){ .name = name, .domain = "mine", .inputs = names, .n_inputs = 2, .outputs = &names[2], .n_outputs = 1 };
    struct onnx_node *call = mb_alloc(b, sizeof *call), *branch = mb_alloc(b, sizeof *branch);
    struct onnx_value *out = mb_alloc(b, sizeof *out);
    struct onnx_graph *body = mb_alloc(b, sizeof *body);
    struct onnx_attr *attrs = mb_alloc(b, 2 * sizeof *attrs);
    *call = (struct onnx_node){ .name = "", .op_type = calls, .domain = "mine", .inputs = names, .n_inputs = 2, .outputs = &names[3], .n_outputs = 1 };
    *out = (struct onnx_value){ .name = "inner" };
    *body = (struct onnx_graph){ .name = "branch", .nodes = call, .n_nodes = 1, .outputs = out, .n_outputs = 1 };
    attrs[0] = (struct onnx_attr){ .name = "then_branch", .type = ONNX_GRAPH, .g = body };
    attrs[1] = (struct onnx_attr){ .name = "else_branch", .type = ONNX_GRAPH, .g = body };
    *branch = (struct onnx_node){ .name = "", .op_type = "If", .domain = "", .inputs = &names[1], .n_inputs = 1, .outputs = &names[2], .n_outputs = 1,
                                  .attrs = attrs, .n_attrs = 2 };
    f->nodes = branch;
    f->n_nodes = 1;
}

static void functions_that_call_themselves_in_a_branch_are_refused_by_name(void **state)
{
    (void)state;
    for (int by_way_of_another = 0; by_way_of_another < 2; by_way_of_another++) {
        struct builder *b = mb_new(17);
        mb_values(b, "x:f32[n] c:bool(1)");
        mb_node(b, "A", "x c", "y", "")->domain = "mine";
        mb_output(b, "y");
        b->model.functions = mb_alloc(b, 2 * sizeof *b->model.functions);
        b->model.n_functions = 1 + (size_t)by_way_of_another;
        add_branching_function(b, &b->model.functions[0], "A", by_way_of_another ? "B" : "A");
        add_branching_function(b, &b->model.functions[1], "B", "A");
        expect_refused(b, "recursion in a branch", ERR_MODEL_OP, "(A)", "has no end");
        mb_free(b);
    }
}

/* 20 functions, each 4 calls of the next: 4^20 nodes, none of which computes anything. */
static void functions_that_explode_are_refused_soon(void **state)
{
    (void)state;
    enum { LEVELS = 20 };
    struct builder *b = calling("f0", LEVELS);
    for (int i = 0; i < LEVELS; i++) {
        char name[16], next[16];
        snprintf(name, sizeof name, "f%d", i);
        snprintf(next, sizeof next, i + 1 < LEVELS ? "f%d" : "Identity", i + 1);
        add_function(b, &b->model.functions[i], mb_copy(b, name, strlen(name)), mb_copy(b, next, strlen(next)), 4);
    }
    expect_refused(b, "explosion", ERR_MODEL_LIMIT, "node 0", "written out");
    mb_free(b);
}

static void a_function_reads_only_what_it_is_given(void **state)
{
    (void)state;
    struct builder *b = calling("Leak", 1);
    struct onnx_function *f = &b->model.functions[0];
    add_function(b, f, "Leak", "Identity", 1);
    f->nodes[0].inputs[0] = "x";
    expect_refused(b, "the caller's name", ERR_MODEL_INVALID, "(Identity)", "'x'");
    f->nodes[0].inputs[0] = "f_y";
    expect_refused(b, "its own output", ERR_MODEL_INVALID, "(Identity)", "'f_y'");
    f->nodes[0].inputs[0] = "f_x";
    f->nodes[0].outputs[0] = "f_x";
    expect_refused(b, "one name twice", ERR_MODEL_INVALID, "(Leak)", "twice");
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
        cmocka_unit_test(an_input_of_no_type_or_of_too_many_axes_is_refused),
        cmocka_unit_test(lengths_that_cancel_leave_a_concat_unknown),
        cmocka_unit_test(what_depends_on_data_is_refused_by_name),
        cmocka_unit_test(functions_without_a_body_or_an_end_are_refused_by_name),
        cmocka_unit_test(functions_that_call_themselves_in_a_branch_are_refused_by_name),
        cmocka_unit_test(functions_that_explode_are_refused_soon),
        cmocka_unit_test(a_function_reads_only_what_it_is_given),
        cmocka_unit_test(long_chains_in_reverse_order_need_no_stack),
        cmocka_unit_test(endless_shape_arithmetic_stays_bounded),
        cmocka_unit_test(a_small_arena_fails_with_memory_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
