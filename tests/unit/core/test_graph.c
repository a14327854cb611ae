/* Loading: names to numbers, constants, folding, shape arithmetic, order and edges; binding; the real models. */
#include "core/base/io.h"
#include "core/exec/op.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static struct graph *load(struct builder *b)
{
    struct err e = { 0 };
    struct graph *g = graph_load(b->mem, mb_model(b), op_eval, &e);
    if (!g)
        fail_msg("%s: %s: %s", err_slug(e.code), e.where, e.text);
    return g;
}

static int count_op(const struct graph *g, enum op op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i].op == op;
    return n;
}

static const struct value *output(const struct graph *g, int i) { return &g->values[g->outputs[i]]; }

static void assert_shape(const struct graph *g, const struct shape *s, const char *want)
{
    char text[200];
    assert_string_equal(graph_shape_text(g, s, text, sizeof text), want);
}

static void bind(const struct graph *g, struct arena *mem, const int64_t *lengths, struct facts *f)
{
    struct err e = { 0 };
    struct shape shapes[8];
    for (int i = 0; i < g->n_inputs; i++) {
        shapes[i] = g->values[g->inputs[i]].shape;
        for (int k = 0; k < shapes[i].rank; k++)
            if (shapes[i].dim[k] < 0)
                shapes[i].dim[k] = lengths[-1 - shapes[i].dim[k]];
    }
    if (!graph_bind(g, mem, shapes, op_eval, f, &e))
        fail_msg("%s: %s: %s", err_slug(e.code), e.where, e.text);
}

/* ---- importing ---- */

static void every_spelling_of_a_constant_is_a_constant(void **state)
{
    (void)state;
    static const struct { const char *attr, *shape; enum dtype t; double first; } forms[] = {
        { "value=@c", "[2]", DT_I32, 7 },        { "value_float=2.5", "[]", DT_F32, 2.5 },
        { "value_floats=1.5,2.5", "[2]", DT_F32, 1.5 }, { "value_int=9", "[]", DT_I64, 9 },
        { "value_ints=4,5,6", "[3]", DT_I64, 4 },
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct builder *b = mb_new(17);
        mb_values(b, i == 0 ? "c:i32{7,8}" : "");
        mb_node(b, "Constant", "", "y", forms[i].attr);
        mb_output(b, "y");
        struct graph *g = load(b);
        const struct value *y = output(g, 0);
        assert_int_equal(g->n_nodes, 0);
        assert_true(y->is_const);
        assert_int_equal(y->dtype, forms[i].t);
        assert_shape(g, &y->shape, forms[i].shape);
        double first = y->dtype == DT_F32   ? (double)*(const float *)y->data
                       : y->dtype == DT_I64 ? (double)*(const int64_t *)y->data
                                            : *(const int32_t *)y->data;
        assert_true(first == forms[i].first);
        mb_free(b);
    }
}

static void identities_and_dropouts_are_looked_through(void **state)
{
    (void)state;
    struct builder *b = mb_new(13);
    mb_values(b, "x:f32[b,4] w:f32{1,2,3,4} ratio:f32(0.5) off:bool(0)");
    mb_node(b, "Identity", "w", "w1", "");
    mb_node(b, "Identity", "w1", "w2", "");
    mb_node(b, "Add", "x w2", "a", "");
    mb_node(b, "Dropout", "a ratio off", "d mask", "");
    mb_node(b, "Relu", "d", "r", "");
    mb_node(b, "Identity", "r", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_int_equal(g->n_nodes, 2);
    assert_string_equal(g->values[g->nodes[0].in[1]].name, "w");
    assert_string_equal(output(g, 0)->name, "y");              /* the output keeps its name */
    assert_int_equal(output(g, 0)->producer, 1);
    mb_free(b);
}

static void an_identity_stays_only_where_it_gives_a_second_name(void **state)
{
    (void)state;
    struct builder *b = mb_new(13);
    mb_values(b, "x:f32[b,4] c:f32{1,2}");
    mb_node(b, "Relu", "x", "r", "");
    mb_node(b, "Identity", "r", "r_again", "");
    mb_node(b, "Identity", "x", "x_again", "");
    mb_node(b, "Identity", "c", "c_again", "");
    mb_output(b, "r r_again x_again c_again");
    struct graph *g = load(b);
    static const char *const names[] = { "r", "r_again", "x_again", "c_again" };
    for (int i = 0; i < 4; i++)
        assert_string_equal(output(g, i)->name, names[i]);
    assert_int_equal(count_op(g, OP_IDENTITY), 2);
    assert_true(output(g, 3)->is_const);
    assert_memory_equal(output(g, 3)->data, ((const float[]){ 1, 2 }), 8);
    mb_free(b);
}

static void an_initializer_that_repeats_an_input_is_a_constant(void **state)
{
    (void)state;
    struct builder *b = mb_new(13);
    mb_values(b, "x:f32[b,2] w:f32{1,2} w:f32[2]");
    mb_node(b, "Add", "x w", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_int_equal(g->n_inputs, 1);
    assert_string_equal(g->values[g->inputs[0]].name, "x");
    assert_true(g->values[g->nodes[0].in[1]].is_const);
    mb_free(b);
}

static void nodes_in_any_order_are_sorted_and_sorted_ones_stay(void **state)
{
    (void)state;
    struct builder *b = mb_new(13);
    mb_values(b, "x:f32[b]");
    mb_node(b, "Exp", "m", "y", "")->name = "last";
    mb_node(b, "Mul", "s t", "m", "")->name = "third";
    mb_node(b, "Sqrt", "x", "s", "")->name = "first";
    mb_node(b, "Tanh", "x", "t", "")->name = "second";
    mb_output(b, "y");
    struct graph *g = load(b);
    static const char *const order[] = { "first", "second", "third", "last" };
    for (int i = 0; i < 4; i++)
        assert_string_equal(g->nodes[i].name, order[i]);
    char text[200];
    assert_string_equal(graph_where(g, &g->nodes[0], text, sizeof text), "node 2 'first' (Sqrt)");   /* as in the file */
    mb_free(b);
}

static void edges_agree_with_nodes(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[b,4] g:f32{1}@4");
    mb_node(b, "LayerNormalization", "x g -", "n - d", "");
    mb_node(b, "Mul", "n n", "m", "");
    mb_node(b, "Add", "m n", "y", "");
    mb_node(b, "Relu", "m", "nobody_reads_this", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_int_equal(g->n_nodes, 3);
    const struct value *n = &g->values[g->nodes[0].out[0]];
    assert_int_equal(g->nodes[0].n_in, 2);                     /* a trailing absent input is no input */
    assert_int_equal(g->nodes[0].out[1], -1);
    assert_int_equal(n->n_consumers, 2);                       /* Mul reads it twice and counts once */
    assert_int_equal(n->consumers[0], 1);
    assert_int_equal(n->consumers[1], 2);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_out; k++)
            if (g->nodes[i].out[k] >= 0)
                assert_int_equal(g->values[g->nodes[i].out[k]].producer, i);
    mb_free(b);
}

static void attributes_have_their_values_or_the_default(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[4,3] w:f32[4,5]");
    mb_node(b, "Gemm", "x w", "y", "alpha=0.5 transA=1");
    mb_output(b, "y");
    struct graph *g = load(b);
    const struct node *n = &g->nodes[0];
    size_t count = 7;
    assert_true(node_float(n, "alpha", 1) == 0.5f && node_float(n, "beta", 1) == 1.0f);
    assert_int_equal(node_int(n, "transA", 0), 1);
    assert_int_equal(node_int(n, "transB", 0), 0);
    assert_null(node_ints(n, "axes", &count));
    assert_int_equal(count, 0);
    assert_string_equal(node_str(n, "mode", "none"), "none");
    mb_free(b);
}

/* ---- folding ---- */

static void constants_fold_and_quantized_weights_do_not(void **state)
{
    (void)state;
    struct builder *b = mb_new(21);
    mb_values(b, "x:f32[b,2] w:f32{1,2,3,4}@2,2 half:f32(0.5) q:i4{1}@2,2 scale:f32(0.25) zero:i8(0)");
    mb_node(b, "Mul", "w half", "wh", "");
    mb_node(b, "Transpose", "wh", "wt", "");
    mb_node(b, "MatMul", "x wt", "m", "");
    mb_node(b, "Cast", "q", "q8", "to=3");
    mb_node(b, "DequantizeLinear", "q8 scale zero", "wq", "");
    mb_node(b, "MatMul", "m wq", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_int_equal(g->n_nodes, 3);
    assert_int_equal(count_op(g, OP_DEQUANTIZELINEAR), 1);
    const struct value *wt = &g->values[g->nodes[0].in[1]];
    assert_memory_equal(wt->data, ((const float[]){ 0.5f, 1.5f, 1, 2 }), 16);
    mb_free(b);
}

static void a_tiny_file_does_not_become_gigabytes(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[b] s:i64{8192,8192} one:i64(1) zero:i64(0) million:i64(1000000) r:i64{1000,1000} w:f32{1}@1,1");
    mb_node(b, "ConstantOfShape", "s", "a", "");
    mb_node(b, "Expand", "w s", "e", "");
    mb_node(b, "Tile", "w r", "t", "");
    mb_node(b, "Range", "zero million one", "n", "");
    mb_node(b, "Add", "a e", "y", "");
    mb_output(b, "y t n");
    struct graph *g = load(b);
    assert_int_equal(g->n_nodes, 5);
    assert_true(arena_used(b->mem) < 4 << 20);
    mb_free(b);
}

/* The shape chain of a ViT block: batch and sequence from Shape, merged into a Reshape's target. */
static void attention_heads(struct builder *b)
{
    mb_values(b, "x:f32[batch,197,576] i0:i64(0) i1:i64(1) ax:i64{0} three:i64{3} heads:i64{3} dim:i64{64}");
    mb_node(b, "Shape", "x", "s", "");
    mb_node(b, "Gather", "s i0", "n", "axis=0");
    mb_node(b, "Gather", "s i1", "t", "axis=0");
    mb_node(b, "Unsqueeze", "n ax", "nu", "");
    mb_node(b, "Unsqueeze", "t ax", "tu", "");
    mb_node(b, "Concat", "nu tu three heads dim", "target", "axis=0");
    mb_node(b, "Reshape", "x target", "r", "");
    mb_node(b, "Transpose", "r", "y", "perm=2,0,3,1,4");
    mb_output(b, "y");
}

static void a_shape_computed_by_nodes_reaches_the_reshape(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    attention_heads(b);
    struct graph *g = load(b);
    assert_shape(g, &output(g, 0)->shape, "[3,batch,3,197,64]");
    assert_int_equal(count_op(g, OP_GATHER), 1);               /* the batch's; 197 has become a constant */
    for (int64_t batch = 1; batch <= 5; batch += 2) {
        struct facts f;
        bind(g, b->mem, &batch, &f);
        const struct shape want = { 5, { 3, batch, 3, 197, 64 } };
        assert_true(shape_equal(&f.shape[g->outputs[0]], &want));
        const struct node *reshape = &g->nodes[g->values[g->nodes[g->n_nodes - 1].in[0]].producer];
        assert_true(f.known[reshape->in[1]]);                  /* the target is known before running */
        assert_memory_equal(f.data[reshape->in[1]], ((const int64_t[]){ batch, 197, 3, 3, 64 }), 40);
    }
    mb_free(b);
}

static void the_class_token_idiom_expands_to_the_batch(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,196,192] cls:f32{0.5}@1,1,192 i0:i64(0) ax:i64{0} minus:i64{-1} flat:i64{-1} one:i64{1} k:i64(-1)");
    mb_node(b, "Shape", "x", "s", "");
    mb_node(b, "Gather", "s i0", "n", "");
    mb_node(b, "Unsqueeze", "n ax", "nu", "");
    mb_node(b, "Concat", "nu minus minus", "c", "axis=0");
    mb_node(b, "Reshape", "c flat", "want", "");
    mb_node(b, "Shape", "want", "rank", "");
    mb_node(b, "ConstantOfShape", "rank", "ones", "value=@one");
    mb_node(b, "Mul", "ones k", "negative", "");
    mb_node(b, "Equal", "want negative", "keep", "");
    mb_node(b, "Where", "keep ones want", "target", "");
    mb_node(b, "Expand", "cls target", "e", "");
    mb_node(b, "Concat", "e x", "y", "axis=1");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_shape(g, &output(g, 0)->shape, "[batch,197,192]");
    assert_int_equal(count_op(g, OP_EQUAL) + count_op(g, OP_CONSTANTOFSHAPE) + count_op(g, OP_MUL), 0);
    mb_free(b);
}

/* y's shape after arithmetic on the lengths of x[batch,seq]: n is batch, t is seq, both int64 vectors of one. */
static void shape_arithmetic_has_readable_symbols(void **state)
{
    (void)state;
    static const struct { const char *op, *in, *attrs, *want; int64_t at_2_6; } rows[] = {
        { "Add", "t c2", "", "[seq+2]", 8 },
        { "Sub", "t c1", "", "[seq-1]", 5 },
        { "Mul", "n t", "", "[batch*seq]", 12 },
        { "Mul", "t c2", "", "[seq*2]", 12 },
        { "Div", "t c2", "", "[seq/2]", 3 },
        { "Div", "t n", "", "[seq/batch]", 3 },
        { "Div", "t t", "", "[1]", 1 },
        { "Min", "t c2", "", "[min(seq,2)]", 2 },
        { "Max", "t c1", "", "[seq]", 6 },
        { "Max", "t n", "", "[max(seq,batch)]", 6 },
        { "Where", "yes t n", "", "[seq]", 6 },
        { "Cast", "t", "to=6", "[seq]", 6 },
        { "Slice", "s c1 c2", "", "[seq]", 6 },
        { "Gather", "s minus", "", "[seq]", 6 },
        { "ReduceSum", "s", "", "[?0]", 8 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = mb_new(17);
        struct facts f;
        mb_values(b, "x:f32[batch,seq] one:f32{1} c1:i64{1} c2:i64{2} minus:i64{-1} yes:bool{1}");
        mb_node(b, "Shape", "x", "s", "");
        mb_node(b, "Shape", "x", "n", "end=1");
        mb_node(b, "Shape", "x", "t", "start=1");
        mb_node(b, rows[i].op, rows[i].in, "length", rows[i].attrs);
        mb_node(b, "Expand", "one length", "y", "");
        mb_output(b, "y");
        struct graph *g = load(b);
        assert_shape(g, &output(g, 0)->shape, rows[i].want);
        bind(g, b->mem, (const int64_t[]){ 2, 6 }, &f);
        assert_int_equal(f.shape[g->outputs[0]].dim[0], rows[i].at_2_6);
        mb_free(b);
    }
}

static void equal_expressions_are_equal_symbols(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[b,s] two:i64{2} one:i64{1}");
    mb_node(b, "Shape", "x", "t", "start=1");
    mb_node(b, "Add", "t one", "t1", "");
    mb_node(b, "Mul", "t1 two", "p", "");                      /* (s+1)*2 */
    mb_node(b, "Add", "t t", "tt", "");
    mb_node(b, "Add", "tt two", "q", "");                      /* s+s+2 */
    mb_node(b, "ConstantOfShape", "p", "a", "");
    mb_node(b, "ConstantOfShape", "q", "c", "");
    mb_output(b, "a c");
    struct graph *g = load(b);
    assert_shape(g, &output(g, 0)->shape, "[s*2+2]");
    assert_int_equal(output(g, 0)->shape.dim[0], output(g, 1)->shape.dim[0]);
    mb_free(b);
}

static void a_table_cut_to_the_sequence_meets_the_sequence(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    struct facts f;
    mb_values(b, "x:f32[batch,seq,8] cos:f32{0.5}@512,8 zero:i64{0} ax:i64{0}");
    mb_node(b, "Shape", "x", "t", "start=1 end=2");
    mb_node(b, "Slice", "cos zero t ax", "c", "");
    mb_node(b, "Mul", "x c", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    assert_shape(g, &output(g, 0)->shape, "[batch,seq,8]");
    assert_shape(g, &g->values[g->nodes[1].out[0]].shape, "[min(seq,512),8]");
    bind(g, b->mem, (const int64_t[]){ 2, 7 }, &f);
    assert_true(f.known[g->nodes[1].out[0]]);                  /* the cut table is computed once, when bound */
    mb_free(b);
}

/* ---- binding ---- */

static void data_that_contradicts_the_declared_shape_is_refused(void **state)
{
    (void)state;
    static const struct { const char *label, *word; struct shape x, m; bool ok; } rows[] = {
        { "fits", "", { 3, { 2, 3, 4 } }, { 2, { 2, 4 } }, true },
        { "another number", "[batch,3,seq]", { 3, { 2, 4, 4 } }, { 2, { 2, 4 } }, false },
        { "another rank", "[2,3]", { 2, { 2, 3 } }, { 2, { 2, 4 } }, false },
        { "one symbol, two lengths", "elsewhere", { 3, { 2, 3, 4 } }, { 2, { 2, 5 } }, false },
        { "an empty batch", "empty", { 3, { 0, 3, 4 } }, { 2, { 0, 4 } }, false },
    };
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,3,seq] m:f32[batch,seq]");
    mb_node(b, "ReduceMean", "x", "r", "axes=1, keepdims=0");
    mb_node(b, "Add", "r m", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        struct facts f;
        const struct shape shapes[] = { rows[i].x, rows[i].m };
        assert_int_equal(graph_bind(g, b->mem, shapes, op_eval, &f, &e), rows[i].ok);
        if (!rows[i].ok && (e.code != ERR_DATA_SHAPE || !strstr(e.text, rows[i].word)))
            fail_msg("%s: %s: %s", rows[i].label, err_slug(e.code), e.text);
    }
    mb_free(b);
}

static void loading_twice_gives_the_same_graph(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    attention_heads(b);
    struct graph *g = load(b), *h = load(b);
    assert_int_equal(g->n_nodes, h->n_nodes);
    assert_int_equal(g->n_values, h->n_values);
    for (int i = 0; i < g->n_values; i++) {
        assert_string_equal(g->values[i].name, h->values[i].name);
        assert_true(shape_equal(&g->values[i].shape, &h->values[i].shape));
    }
    mb_free(b);
}

static void relinking_follows_edits(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct facts f;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[b,4]");
    mb_node(b, "Relu", "x", "r", "");
    mb_node(b, "Exp", "r", "m", "");
    mb_node(b, "Add", "m r", "y", "");
    mb_output(b, "y");
    struct graph *g = load(b);
    int r = g->nodes[0].out[0], m = g->nodes[1].out[0];
    g->nodes[2].in[0] = r;                                     /* nobody reads m now */
    assert_true(graph_relink(g, &e));
    assert_int_equal(g->n_nodes, 2);
    assert_int_equal(g->values[m].producer, -1);
    assert_int_equal(g->values[r].n_consumers, 1);
    assert_int_equal(g->values[r].consumers[0], 1);
    bind(g, b->mem, (const int64_t[]){ 3 }, &f);
    assert_int_equal(f.shape[g->outputs[0]].dim[0], 3);
    g->nodes[0].in[0] = g->outputs[0];                         /* and now Relu reads what it makes */
    assert_false(graph_relink(g, &e));
    assert_int_equal(e.code, ERR_MODEL_INVALID);
    mb_free(b);
}

/* ---- real models ---- */

static const struct { const char *file, *logits; int most_shape_nodes; } real[] = {
    { "deit-tiny.onnx", "[batch,1000]", 14 },                  /* one Shape and Gather of the batch for each block */
    { "vit-tiny.onnx", "[batch,1000]", 14 },
    { "stories260k.onnx", "[batch,seq,512]", 41 },
};

static void check_bound(const struct graph *g, const char *file, int64_t batch, int64_t seq)
{
    struct arena *mem = arena_new(1 << 30);
    struct facts f;
    const int64_t lengths[] = { batch, seq };
    bind(g, mem, lengths, &f);
    for (int i = 0; i < g->n_values; i++)
        for (int k = 0; k < f.shape[i].rank; k++)
            if (f.shape[i].rank < 0 || f.shape[i].dim[k] < 0)
                fail_msg("%s: %s is not bound", file, g->values[i].name);
    for (int i = 0; i < g->n_nodes; i++)
        assert_true(g->nodes[i].op != OP_SHAPE || f.known[g->nodes[i].out[0]]);
    assert_int_equal(f.shape[g->outputs[0]].dim[0], batch);
    arena_free(mem);
}

static void check_real(const char *file, const char *logits, int most_shape_nodes)
{
    char path[300];
    const char *dir = getenv("MODELS_DIR");
    struct mapping m;
    struct err e = { 0 };
    struct onnx_model model;
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/models", file);
    if (access(path, R_OK) != 0) {
        print_message("skipped: %s is not there (MODELS_DIR)\n", path);
        return;
    }
    assert_true(mapping_path(&m, path, &e));
    struct arena *mem = arena_new((uint64_t)1 << 30);
    const struct onnx_file f = { file, m.data, m.size, true };
    struct graph *g = onnx_read(mem, &f, 1, &model, &e) ? graph_load(mem, &model, op_eval, &e) : NULL;
    if (!g)
        fail_msg("%s: %s: %s", file, e.where, e.text);
    assert_shape(g, &output(g, 0)->shape, logits);
    assert_true(count_op(g, OP_SHAPE) <= most_shape_nodes);
    assert_int_equal(count_op(g, OP_CONSTANT) + count_op(g, OP_CONSTANTOFSHAPE) + count_op(g, OP_EQUAL), 0);
    for (int64_t batch = 1; batch <= 5; batch += 2)
        check_bound(g, file, batch, 1 + 9 * batch);
    arena_free(mem);
    mapping_release(&m);
}

static void real_models_load_and_bind_at_any_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof real / sizeof real[0]; i++)
        check_real(real[i].file, real[i].logits, real[i].most_shape_nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_of_a_constant_is_a_constant),
        cmocka_unit_test(identities_and_dropouts_are_looked_through),
        cmocka_unit_test(an_identity_stays_only_where_it_gives_a_second_name),
        cmocka_unit_test(an_initializer_that_repeats_an_input_is_a_constant),
        cmocka_unit_test(nodes_in_any_order_are_sorted_and_sorted_ones_stay),
        cmocka_unit_test(edges_agree_with_nodes),
        cmocka_unit_test(attributes_have_their_values_or_the_default),
        cmocka_unit_test(constants_fold_and_quantized_weights_do_not),
        cmocka_unit_test(a_tiny_file_does_not_become_gigabytes),
        cmocka_unit_test(a_shape_computed_by_nodes_reaches_the_reshape),
        cmocka_unit_test(the_class_token_idiom_expands_to_the_batch),
        cmocka_unit_test(shape_arithmetic_has_readable_symbols),
        cmocka_unit_test(equal_expressions_are_equal_symbols),
        cmocka_unit_test(a_table_cut_to_the_sequence_meets_the_sequence),
        cmocka_unit_test(data_that_contradicts_the_declared_shape_is_refused),
        cmocka_unit_test(loading_twice_gives_the_same_graph),
        cmocka_unit_test(relinking_follows_edits),
        cmocka_unit_test(real_models_load_and_bind_at_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
