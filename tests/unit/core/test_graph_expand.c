/* Operators that are written as others: what they become, one model a row, and what cannot be written out is refused by name. */
#include "core/graph/graph.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* want: the operators of the loaded graph and the shape of its first output, or "!code" and a word of the message. */
struct row { const char *label, *values, *nodes, *outputs, *want; int64_t opset; };

static const struct row rows[] = {
    { "a convolution of rows", "x:f32[b,3,20] w:f32{0.5}@8,3,3 c:f32{0}@8", "y = Conv(x w c) kernel_shape=3, strides=2, pads=1,1 dilations=1,", "y",
      "Unsqueeze Unsqueeze Conv Squeeze [b,8,10]", 17 },
    { "a convolution of rows in groups", "x:f32[b,8,20] w:f32{0.5}@8,1,3", "y = Conv(x w) group=8", "y", "Conv [b,8,18]", 17 },
    { "a convolution of rows that pads by itself", "x:f32[b,3,20] w:f32{0.5}@8,3,3", "y = Conv(x w) auto_pad=SAME_UPPER", "y", "Conv [b,8,20]", 17 },
    { "a convolution by what is data", "x:f32[b,3,20] w:f32[8,3,3]", "y = Conv(x w)", "y", "Conv [b,8,18]", 17 },

    { "a layer norm before it was an operator", "x:f32[b,s,8] k:f32[b,s,8] g:f32{1}@8 c:f32{0}@8",
      "y = com.microsoft.SkipLayerNormalization(x k g c) epsilon=0.1", "y",
      "Add ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul Add [b,s,8]", 16 },
    { "a layer norm without a shift before it was an operator", "x:f32[b,s,8] k:f32[b,s,8] g:f32{1}@8",
      "y = com.microsoft.SkipLayerNormalization(x k g)", "y", "Add ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul [b,s,8]", 16 },
    { "a skipping layer norm and its sum", "x:f32[b,s,8] k:f32[b,s,8] g:f32{1}@8 c:f32{0}@8 d:f32{1}@8",
      "y - - sum = com.microsoft.SkipLayerNormalization(x k g c d)", "y sum", "Add Add LayerNormalization [b,s,8]", 17 },
    { "a skipping layer norm's mean", "x:f32[b,s,8] k:f32[b,s,8] g:f32{1}@8", "y m = com.microsoft.SkipLayerNormalization(x k g)", "y m",
      "!model.unsupported_op output is not supported", 17 },
    { "a simplified norm over another axis", "x:f32[b,4,8] g:f32{1}@8", "y = SimplifiedLayerNormalization(x g) axis=1", "y",
      "!model.unsupported_op last axis", 17 },
    { "a norm of a vector", "x:f32[8] s:f32{1}@8", "y = BatchNormalization(x s s s s)", "y", "!model.unsupported_op without channels", 17 },
    { "a norm in training", "x:f32[b,8] s:f32{1}@8", "y = BatchNormalization(x s s s s) training_mode=1", "y", "!model.unsupported_op eval mode", 17 },
    { "a norm of pictures without pixels", "x:f32[b,8] s:f32{1}@8", "y = InstanceNormalization(x s s)", "y", "!model.unsupported_op spatial axes", 17 },
    { "a norm of who knows what", "x:f32[*] s:f32{1}@8", "y = InstanceNormalization(x s s)", "y", "!model.unsupported_op rank of an input", 17 },
    { "a norm of no groups", "x:f32[b,8,4] s:f32{1}@8", "y = GroupNormalization(x s s) num_groups=0", "y", "!model.unsupported_op no groups", 21 },
    { "a norm of the third order", "x:f32[b,8]", "y = LpNormalization(x) p=3", "y", "!model.unsupported_op order 1 and 2", 17 },
    { "a norm over nine axes", "x:f32[b,8]", "y = MeanVarianceNormalization(x) axes=0,1,0,1,0,1,0,1,0", "y", "!model.unsupported_op more axes", 17 },
    { "a mean over no pixels", "x:f32[b,8]", "y = GlobalAveragePool(x)", "y", "!model.unsupported_op spatial axes", 17 },

    { "a crop", "x:f32[b,3,8] s:i64{5}", "y = CenterCropPad(x s) axes=-1,", "y", "Pad [b,3,5]", 18 },
    { "a crop to data", "x:f32[b,3,8] s:i64[1]", "y = CenterCropPad(x s) axes=2,", "y", "!model.unsupported_op not known", 18 },
    { "a crop to less than nothing", "x:f32[b,3,8] s:i64{-1}", "y = CenterCropPad(x s) axes=2,", "y", "!model.unsupported_op negative", 18 },
    { "a crop on an axis that is not there", "x:f32[b,3,8] s:i64{4}", "y = CenterCropPad(x s) axes=3,", "y", "!model.unsupported_op not known", 18 },
    { "a crop of a length that is not a number", "x:f32[b,3,8] s:i64{4}", "y = CenterCropPad(x s) axes=0,", "y", "!model.unsupported_op not a number", 18 },

    { "codes convolved", "x:u8[b,3,8,8] s:f32(0.5) z:u8(3) w:i8{1}@4,3,3,3 ws:f32(0.5) wz:i8(0) c:i32{7}@4", "y = QLinearConv(x s z w ws wz s z c)", "y",
      "DequantizeLinear DequantizeLinear Cast Mul Mul Conv QuantizeLinear [b,4,6,6]", 17 },
    { "packed weights of 3 bits", "x:f32[b,32] w:u8{0}@8,2,8 s:f32{1}@16", "y = com.microsoft.MatMulNBits(x w s) K=32 N=8 bits=3 block_size=16", "y",
      "!model.unsupported_op 4 or 8 bits", 17 },
    { "packed weights in small blocks", "x:f32[b,32] w:u8{0}@8,2,8 s:f32{1}@16", "y = com.microsoft.MatMulNBits(x w s) K=32 N=8 block_size=8", "y",
      "!model.unsupported_op blocks of 16", 17 },
    { "packed weights out of order", "x:f32[b,32] w:u8{0}@8,2,8 s:f32{1}@16 i:i32{0}@32",
      "y = com.microsoft.MatMulNBits(x w s - i) K=32 N=8 block_size=16", "y", "!model.unsupported_op g_idx", 17 },
    { "packed weights of another size", "x:f32[b,32] w:u8{0}@8,2,7 s:f32{1}@16", "y = com.microsoft.MatMulNBits(x w s) K=32 N=8 block_size=16", "y",
      "!model.unsupported_op K, N, bits and block_size", 17 },
    { "packed weights that are data", "x:f32[b,32] w:u8[8,2,8] s:f32{1}@16", "y = com.microsoft.MatMulNBits(x w s) K=32 N=8 block_size=16", "y",
      "!model.unsupported_op not a constant", 17 },

    { "attention of a matrix", "q:f32[b,8]", "y = Attention(q q q)", "y", "!model.unsupported_op three nor four", 23 },
    { "attention of an unknown number of heads", "q:f32[b,s,8]", "y = Attention(q q q)", "y", "!model.unsupported_op q_num_heads", 23 },
    { "attention of unlike ranks", "q:f32[b,s,8] k:f32[b,2,s,4]", "y = Attention(q k k) q_num_heads=2 kv_num_heads=2", "y", "!model.unsupported_op different ranks", 23 },
    { "attention of three heads to two", "q:f32[b,s,12] k:f32[b,s,8]", "y = Attention(q k k) q_num_heads=3 kv_num_heads=2", "y",
      "!model.unsupported_op does not divide", 23 },
    { "attention to past keys alone", "q:f32[b,2,s,4] p:f32[b,2,t,4]", "y = Attention(q q q - p)", "y", "!model.unsupported_op come together", 23 },

    { "attention", "q:f32[b,2,s,4]", "y = Attention(q q q)", "y", "Transpose Mul Mul MatMul Softmax MatMul [b,2,s,4]", 23 },
    { "attention of four heads to two, masked, capped, causal", "q:f32[b,5,16] k:f32[b,7,8] m:f32[5,7]",
      "y = Attention(q k k m) q_num_heads=4 kv_num_heads=2 is_causal=1 softcap=2.0", "y",
      "Reshape Transpose Reshape Transpose Reshape Transpose Unsqueeze Expand Reshape Unsqueeze Expand Reshape Transpose Mul Mul "
      "MatMul Div Tanh Mul LessOrEqual Where Add Add Softmax IsNaN Where MatMul Transpose Reshape [b,5,16]",
      23 },
    { "attention by a short mask of truth values", "q:f32[b,2,5,4] k:f32[b,2,7,4] m:bool[5,4]", "y = Attention(q k k m)", "y",
      "Transpose Mul Mul MatMul Pad Where Add Softmax IsNaN Where MatMul [b,2,5,4]", 23 },
    { "attention by a mask of one", "q:f32[b,2,5,4] k:f32[b,2,7,4] m:f32[5,1]", "y = Attention(q k k m)", "y",
      "Transpose Mul Mul MatMul Add Softmax IsNaN Where MatMul [b,2,5,4]", 23 },
    { "attention within a window, to past keys", "q:f32[b,2,s,4] p:f32[b,2,t,4]",
      "y k v l = Attention(q q q - p p) left_window_size=2 right_window_size=1 qk_matmul_output_mode=2", "y k v l",
      "Concat Concat Transpose Mul Mul MatMul Shape Gather Range Unsqueeze Shape Gather Range Shape Gather Add Sub LessOrEqual "
      "Sub LessOrEqual And Where Add Softmax IsNaN Where MatMul [b,2,s,4]",
      24 },
    { "attention to what is no padding, in doubles", "q:f32[b,2,s,4] n:i64[b]",
      "y = Attention(q q q - - - n) is_causal=1 softmax_precision=11 scale=0.25", "y",
      "Transpose Mul Mul MatMul Shape Gather Range Unsqueeze Less Shape Gather Range Unsqueeze Shape Gather Range Unsqueeze Sub "
      "Add LessOrEqual And Where Add Cast Softmax IsNaN Where Cast MatMul [b,2,s,4]",
      24 },
    { "attention without a known size of heads", "q:f32[b,2,s,d]", "y = Attention(q q q)", "y", "!model.unsupported_op not a number", 23 },
    { "positions turned into", "x:f32[b,2,s,8] c:f32{1}@9,4 p:i64[b,s]", "y = RotaryEmbedding(x c c p)", "y",
      "Transpose Gather Unsqueeze Gather Unsqueeze Slice Slice Mul Mul Sub Mul Mul Add Concat Transpose [b,2,s,8]", 23 },
    { "positions turned into a part, pair by pair", "x:f32[b,s,16] c:f32[b,s,2]",
      "y = RotaryEmbedding(x c c) num_heads=2 rotary_embedding_dim=4 interleaved=1", "y",
      "Reshape Slice Unsqueeze Unsqueeze Slice Slice Mul Mul Sub Mul Mul Add Unsqueeze Unsqueeze Concat Reshape Slice Concat Reshape [b,s,16]", 23 },
    { "positions from a first one", "x:f32[b,s,16] c:f32{1}@9,4 p:i64[1]", "y = com.microsoft.RotaryEmbedding(x p c c)", "y",
      "Shape Gather Range Unsqueeze Add Reshape Gather Unsqueeze Gather Unsqueeze Slice Slice Mul Mul Sub Mul Mul Add Concat Reshape [b,s,16]", 17 },
    { "positions of an odd part", "x:f32[b,2,s,8] c:f32[b,s,4]", "y = RotaryEmbedding(x c c) rotary_embedding_dim=3", "y",
      "!model.unsupported_op is odd", 23 },
    { "positions of a vector", "x:f32[b,8] c:f32[b,4]", "y = RotaryEmbedding(x c c)", "y", "!model.unsupported_op three nor four", 23 },
    { "positions of who knows how many heads", "x:f32[b,s,4] c:f32[b,s,4]", "y = RotaryEmbedding(x c c)", "y",
      "!model.unsupported_op need num_heads", 23 },

    { "an einsum that is a linear", "x:f32[b,s,6] w:f32{1}@6,2,3", "y = Einsum(x w) equation=bsi,ihd->bshd", "y",
      "Reshape MatMul Reshape [b,s,2,3]", 17 },
    { "an einsum that is a linear over two axes", "x:f32[b,s,2,3] w:f32{1}@2,3,6", "y = Einsum(x w) equation=bshd,hdi->bsi", "y",
      "Reshape Reshape MatMul [b,s,6]", 17 },
    { "an einsum with an ellipsis", "x:f32[b,s,6] w:f32{1}@4,6", "y = Einsum(w x) equation=oi,b...i->b...o", "y", "Transpose MatMul [b,s,4]", 17 },
    { "an einsum of queries and keys", "q:f32[b,2,s,4] k:f32[b,2,t,4]", "y = Einsum(q k) equation=bhqd,bhkd->bhqk", "y",
      "Transpose MatMul [b,2,s,t]", 17 },
    { "an einsum that is no product", "x:f32[b,s,6] w:f32{1}@6,2,3", "y = Einsum(x w) equation=bsi,ihd->sd", "y", "Einsum [s,3]", 17 },
    { "an einsum over a diagonal", "x:f32[b,6,6] w:f32{1}@6,3", "y = Einsum(x w) equation=bii,ij->bj", "y", "Einsum [b,3]", 17 },

    { "a quantizer that looks first", "x:f32[b,4]", "y s z = DynamicQuantizeLinear(x)", "y s z",
      "ReduceMax Max ReduceMin Min Sub Div Equal Where Div Sub Clip Round Cast QuantizeLinear [b,4]", 17 },
    { "codes multiplied", "x:u8[b,4] w:i8{1}@4,3 z:u8(3) v:i8{1}@3", "y = MatMulInteger(x w z v)", "y", "Cast Cast Sub Cast Cast Sub MatMul [b,3]",
      17 },
    { "codes multiplied, a zero point a row", "x:u8[5,4] w:i8{1}@4,3 z:u8{3}@5", "y = MatMulInteger(x w z)", "y",
      "Cast Cast Unsqueeze Sub Cast MatMul [5,3]", 17 },
    { "codes convolved to integers", "x:u8[b,3,8,8] w:i8{1}@4,3,3,3 z:u8(3) v:i8{1}@4", "y = ConvInteger(x w z v)", "y",
      "Cast Cast Sub Cast Cast Cast Unsqueeze Sub Cast Conv Cast [b,4,6,6]", 17 },
    { "codes multiplied to codes", "x:u8[b,4] s:f32(0.5) z:u8(3) w:i8{1}@4,3 v:i8(0)", "y = QLinearMatMul(x s z w s v s z)", "y",
      "DequantizeLinear DequantizeLinear MatMul QuantizeLinear [b,3]", 17 },
    { "packed weights", "x:f32[b,40] w:u8{0}@8,3,8 s:f32{1}@24 z:u8{0}@8,2 c:f32{1}@8",
      "y = com.microsoft.MatMulNBits(x w s z - c) K=40 N=8 block_size=16", "y",
      "Cast Cast Reshape Reshape Cast Slice Cast Reshape Sub Mul Reshape Slice Transpose MatMul Add [b,8]", 17 },
    { "packed weights of 8 bits with real zero points", "x:f32[b,32] w:u8{0}@8,2,16 s:f32{1}@16 z:f32{1}@16",
      "y = com.microsoft.MatMulNBits(x w s z) K=32 N=8 bits=8 block_size=16", "y",
      "Cast Reshape Reshape Reshape Sub Mul Reshape Transpose MatMul [b,8]", 17 },

    { "a norm of groups, a factor for each", "x:f32[b,8,4] s:f32{1}@2", "y = GroupNormalization(x s s) num_groups=2", "y",
      "Shape Reshape ReduceMean Sub Mul ReduceMean Add Sqrt Div Unsqueeze Mul Unsqueeze Add Reshape [b,8,4]", 18 },
    { "a norm of groups, a factor for each channel", "x:f32[b,8,4] s:f32{1}@8", "y = GroupNormalization(x s s) num_groups=2", "y",
      "Shape Reshape ReduceMean Sub Mul ReduceMean Add Sqrt Div Reshape Unsqueeze Mul Unsqueeze Add [b,8,4]", 21 },
    { "a norm of a batch", "x:f32[b,8,4] s:f32{1}@8", "y = BatchNormalization(x s s s s)", "y",
      "Add Sqrt Div Mul Sub Unsqueeze Mul Unsqueeze Add [b,8,4]", 17 },
    { "a norm of pictures", "x:f32[b,8,h,w] s:f32{1}@8", "y = InstanceNormalization(x s s)", "y",
      "ReduceMean Sub Mul ReduceMean Add Sqrt Div Unsqueeze Mul Unsqueeze Add [b,8,h,w]", 17 },
    { "a norm over mean and variance", "x:f32[b,8,4,4]", "y = MeanVarianceNormalization(x)", "y",
      "ReduceMean Sub Mul ReduceMean Sqrt Add Div [b,8,4,4]", 17 },
    { "a norm of rows", "x:f32[b,8]", "y = LpNormalization(x) p=1", "y", "ReduceL1 Equal Where Div [b,8]", 17 },
    { "a mean over pixels", "x:f32[b,8,h,w]", "y = GlobalAveragePool(x)", "y", "ReduceMean [b,8,1,1]", 17 },
    { "a largest over pixels", "x:f32[b,8,h,w]", "y = GlobalMaxPool(x)", "y", "ReduceMax [b,8,1,1]", 18 },
    { "a simplified norm", "x:f32[b,4,8] g:f32{1}@8", "y = com.microsoft.SimplifiedLayerNormalization(x g) axis=2", "y",
      "Pow ReduceMean Add Sqrt Div Mul [b,4,8]", 17 },
    { "a skipping simplified norm", "x:f32[b,4,8] g:f32{1}@8", "y - - s = com.microsoft.SkipSimplifiedLayerNormalization(x x g g)", "y s",
      "Add Add Pow ReduceMean Add Sqrt Div Mul [b,4,8]", 17 },
    { "Gelu", "x:f32[b,8]", "y = com.microsoft.Gelu(x)", "y", "Mul Div Erf Add Mul [b,8]", 17 },
    { "BiasGelu", "x:f32[b,8] c:f32{1}@8", "y = com.microsoft.BiasGelu(x c)", "y", "Add Mul Div Erf Add Mul [b,8]", 17 },
    { "FastGelu", "x:f32[b,8]", "y = com.microsoft.FastGelu(x)", "y", "Mul Pow Mul Add Mul Tanh Add Mul [b,8]", 17 },
    { "QuickGelu", "x:f32[b,8]", "y = com.microsoft.QuickGelu(x)", "y", "Mul Sigmoid Mul [b,8]", 17 },
    { "HardSwish", "x:f32[b,8]", "y = HardSwish(x)", "y", "HardSigmoid Mul [b,8]", 17 },
    { "SwiGLU", "x:f32[b,8] g:f32[b,8]", "y = SwiGLU(x g)", "y", "Swish Mul [b,8]", 27 },
    { "Sum and Mean", "x:f32[b,8] g:f32[8]", "t = Sum(x g x); y = Mean(t g)", "y", "Add Add Add Div [b,8]", 17 },
    { "CastLike", "x:f32[b,8] g:i64[8]", "y = CastLike(x g)", "y", "Cast [b,8]", 17 },
    { "CastLike of the same type", "x:f32[b,8] g:f32[8]", "y = CastLike(x g)", "y", "Identity [b,8]", 17 },

    { "axes that were an attribute", "x:f32[b,1,8]", "s = Squeeze(x) axes=1,; y = ReduceSum(s) axes=-1, keepdims=0", "y", "Squeeze ReduceSum [b]", 11 },
    { "sizes that were an attribute", "x:f32[b,8]", "y z = Split(x) axis=1 split=3,5", "y z", "Split [b,3]", 11 },
    { "a softmax over all that follows", "x:f32[b,4,8]", "y = Softmax(x)", "y", "Flatten Softmax Shape Reshape [b,4,8]", 11 },
    { "a softmax that was one row already", "x:f32[b,4,8]", "y = Softmax(x) axis=2", "y", "Softmax [b,4,8]", 11 },
    { "a softmax beyond its input", "x:f32[b,4,8]", "y = Softmax(x) axis=4", "y", "!model.unsupported_op outside", 11 },
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* "com.microsoft.Gelu" is an operator and its domain. */
static void set_domains(struct builder *b)
{
    static const char msft[] = "com.microsoft.";
    for (size_t i = 0; i < b->model.graph.n_nodes; i++) {
        struct onnx_node *n = &b->model.graph.nodes[i];
        if (strncmp(n->op_type, msft, sizeof msft - 1) == 0) {
            n->op_type += sizeof msft - 1;
            n->domain = "com.microsoft";
        }
    }
}

static struct builder *build(const char *values, const char *nodes, const char *outputs, int64_t opset)
{
    struct builder *b = mb_new(opset);
    mb_values(b, values);
    mb_nodes(b, nodes);
    mb_output(b, outputs);
    set_domains(b);
    return b;
}

static void describe(const struct graph *g, char *ret, size_t size)
{
    char shape[100];
    size_t n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += (size_t)snprintf(ret + n, size - n, "%s ", op_info[g->nodes[i].op].type);
    snprintf(ret + n, size - n, "%s", graph_shape_text(g, &g->values[g->outputs[0]].shape, shape, sizeof shape));
}

static void check(const struct row *r, const struct graph *g, const struct err *e)
{
    char got[1000];
    size_t n = strcspn(r->want + 1, " ");
    if (r->want[0] == '!') {
        if (g || strncmp(err_slug(e->code), r->want + 1, n) != 0 || !strstr(e->text, r->want + 2 + n))
            fail_msg("%s: got %s: %s: %s", r->label, g ? "a graph" : err_slug(e->code), e->where, e->text);
        assert_non_null(strstr(e->where, "node 0 ("));
        return;
    }
    if (!g)
        fail_msg("%s: %s: %s", r->label, e->where, e->text);
    describe(g, got, sizeof got);
    if (strcmp(got, r->want) != 0)
        fail_msg("%s: became %s", r->label, got);
}

static void every_operator_becomes_what_its_row_says(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        struct err e = { 0 };
        struct builder *b = build(rows[i].values, rows[i].nodes, rows[i].outputs, rows[i].opset);
        check(&rows[i], graph_load(b->mem, mb_model(b), NULL, &e), &e);
        mb_free(b);
    }
}

static const struct node *the(const struct graph *g, enum op op)
{
    const struct node *found = NULL;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == op) {
            assert_null(found);
            found = &g->nodes[i];
        }
    assert_non_null(found);
    return found;
}

static void assert_ints(const struct node *n, const char *name, const int64_t *want, size_t n_want)
{
    size_t count;
    const int64_t *list = node_ints(n, name, &count);
    assert_int_equal(count, n_want);
    assert_memory_equal(list, want, n_want * sizeof *want);
}

#define ASSERT_INTS(n, name, ...) assert_ints(n, name, (const int64_t[]){ __VA_ARGS__ }, sizeof((const int64_t[]){ __VA_ARGS__ }) / 8)

static void a_convolution_of_rows_is_one_of_pictures_one_pixel_high(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct builder *b = build("x:f32[b,3,20] w:f32{0.5}@8,3,3", "y = Conv(x w) kernel_shape=3, strides=2, pads=4,5 dilations=2,", "y", 17);
    b->model.graph.nodes[0].name = "first";
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    assert_non_null(g);
    const struct node *conv = the(g, OP_CONV);
    assert_string_equal(conv->name, "first");
    ASSERT_INTS(conv, "kernel_shape", 1, 3);
    ASSERT_INTS(conv, "strides", 1, 2);
    ASSERT_INTS(conv, "dilations", 1, 2);
    ASSERT_INTS(conv, "pads", 0, 4, 0, 5);
    mb_free(b);
}

/* What is left out of an attribute's list stays left out. */
static void attributes_that_become_inputs_leave_the_others_alone(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct builder *b = build("x:f32[b,8]", "y z = Split(x) split=3,5 axis=1", "y z", 11);
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    assert_non_null(g);
    const struct node *split = the(g, OP_SPLIT);
    assert_int_equal(node_int(split, "axis", -9), 1);
    assert_null(node_attr(split, "split"));
    assert_int_equal(split->n_in, 2);
    assert_memory_equal(g->values[split->in[1]].data, ((const int64_t[]){ 3, 5 }), 16);
    mb_free(b);
}

static void a_list_of_axes_longer_than_any_tensor_is_refused(void **state)
{
    (void)state;
    struct err e = { 0 };
    char text[1200] = "y = Squeeze(x) axes=";
    for (int i = 0; i < 300; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "0,");
    struct builder *b = build("x:f32[1,8]", text, "y", 11);
    assert_null(graph_load(b->mem, mb_model(b), NULL, &e));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_non_null(strstr(e.text, "too long"));
    mb_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator_becomes_what_its_row_says),
        cmocka_unit_test(a_convolution_of_rows_is_one_of_pictures_one_pixel_high),
        cmocka_unit_test(attributes_that_become_inputs_leave_the_others_alone),
        cmocka_unit_test(a_list_of_axes_longer_than_any_tensor_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
