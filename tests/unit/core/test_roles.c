/* What exporters write is recognised by structure, near misses are not, and layers get names people know. */
#include <math.h>
#include <time.h>

#include "tests/unit/core/sweep_fixture.h"

#include "core/base/utf8.h"

struct found { struct builder *b; struct graph *g; struct roles r; };

static struct found find(int64_t opset, const char *values, const char *nodes, const char *outputs)
{
    struct err e = { 0 };
    struct found f = { .b = mb_new(opset) };
    mb_values(f.b, values);
    mb_nodes(f.b, nodes);
    mb_output(f.b, outputs);
    f.g = graph_load(f.b->mem, mb_model(f.b), op_eval, &e);
    need(f.g && roles_find(f.g, f.b->mem, &f.r, &e), &e);
    return f;
}

static const char *name_of(const struct found *f, int v) { return v < 0 ? "-" : f->g->values[v].name; }

/* ---- norms ---- */

#define XS "x:f32[b,3,4] other:f32[b,3,4] two:f32(2) three:f32(3) row:f32[4] one:f32(1) eps:f32(0.00001) eps4:f32{0.1}@4 g:f32{2}@4 g1:f32{2}@1,1,4 b:f32{1}@4 " \
           "long:f32{2}@2,1,4 last:i64{-1} last32:i32{-1} both:i64{1,2} "
#define MEAN "m = ReduceMean(x) axes=-1,; d = Sub(x m); "
#define VAR "p = Pow(d two); v = ReduceMean(p) axes=-1,; "
#define ROOT "e = Add(v eps); r = Sqrt(e); "
#define FACTOR MEAN VAR ROOT "i = Reciprocal(r); f = Mul(i g); "        /* as TensorFlow writes it: x and its mean, each by one factor */

static const struct norm_case { const char *label; int64_t opset; const char *nodes; const char *x, *gamma, *beta, *output; bool rms; } norms[] = {
    { "LayerNorm, torch", 13, MEAN VAR ROOT "n = Div(d r); s = Mul(n g); y = Add(s b)", "x", "g", "b", "y", false },
    { "LayerNorm, factors on the other side", 13, MEAN VAR "e = Add(eps v); r = Sqrt(e); n = Div(d r); s = Mul(g n); y = Add(b s)", "x", "g", "b", "y", false },
    { "LayerNorm, d computed twice", 13, MEAN "d2 = Sub(x m); p = Pow(d2 two); v = ReduceMean(p) axes=-1,; " ROOT "n = Div(d r); s = Mul(n g); y = Add(s b)",
      "x", "g", "b", "y", false },
    { "LayerNorm, d * d", 13, MEAN "p = Mul(d d); v = ReduceMean(p) axes=2,; " ROOT "n = Div(d r); s = Mul(n g); y = Add(s b)", "x", "g", "b", "y", false },
    { "LayerNorm, axes as an input", 18, "m = ReduceMean(x last); d = Sub(x m); p = Pow(d two); v = ReduceMean(p last) keepdims=1; " ROOT
      "n = Div(d r); s = Mul(n g1); y = Add(s b)", "x", "g1", "b", "y", false },
    { "LayerNorm, axes in int32", 18, "m = ReduceMean(x last32); d = Sub(x m); p = Pow(d two); v = ReduceMean(p last32) keepdims=1; " ROOT "y = Div(d r)",
      "x", "-", "-", "y", false },
    { "LayerNorm, times the reciprocal root", 13, MEAN VAR ROOT "i = Reciprocal(r); n = Mul(d i); s = Mul(n g); y = Add(s b)", "x", "g", "b", "y", false },
    { "LayerNorm without factors", 13, MEAN VAR ROOT "y = Div(d r)", "x", "-", "-", "y", false },
    { "LayerNorm, whose sum others read", 13, MEAN VAR ROOT "n = Div(d r); s = Mul(n g); t = Add(s b); u = Relu(t); y = Add(t u)", "x", "g", "b", "t", false },
    { "LayerNorm with a factor of another shape", 13, MEAN VAR ROOT "n = Div(d r); y = Mul(n long)", "x", "-", "-", "n", false },
    { "LayerNorm, an output before its factor", 13, MEAN VAR ROOT "z = Div(d r); y = Mul(z g)", "x", "-", "-", "z", false },
    { "LayerNorm, one node", 17, "y = LayerNormalization(x g b)", "x", "g", "b", "y", false },
    { "LayerNorm, one node without bias", 17, "y = LayerNormalization(x g) axis=2", "x", "g", "-", "y", false },
    { "RMSNorm, torch", 13, "p = Pow(x two); v = ReduceMean(p) axes=-1,; " ROOT "i = Div(one r); n = Mul(x i); y = Mul(g n)", "x", "g", "-", "y", true },
    { "RMSNorm, dynamo", 18, "p = Mul(x x); v = ReduceMean(p last); " ROOT "i = Reciprocal(r); n = Mul(i x); y = Mul(n g)", "x", "g", "-", "y", true },
    { "RMSNorm, by division", 13, "p = Pow(x two); v = ReduceMean(p) axes=-1,; " ROOT "n = Div(x r); y = Mul(n g)", "x", "g", "-", "y", true },
    { "RMSNorm, one node", 23, "y = RMSNormalization(x g)", "x", "g", "-", "y", true },
    { "LayerNorm, TensorFlow", 13, FACTOR "a = Mul(x f); k = Mul(m f); o = Sub(b k); y = Add(a o)", "x", "g", "b", "y", false },
    { "LayerNorm, TensorFlow, sides swapped", 13, MEAN VAR ROOT "i = Div(one r); f = Mul(g i); a = Mul(f x); k = Mul(f m); o = Sub(b k); y = Add(o a)",
      "x", "g", "b", "y", false },
    { "LayerNorm, TensorFlow, without beta", 13, FACTOR "a = Mul(x f); k = Mul(m f); y = Sub(a k)", "x", "g", "-", "y", false },
    { "LayerNorm, TensorFlow, the mean negated", 13, FACTOR "a = Mul(x f); k = Mul(m f); o = Neg(k); y = Add(a o)", "x", "g", "-", "y", false },
    { "LayerNorm, TensorFlow, without factors", 13, MEAN VAR ROOT "i = Reciprocal(r); a = Mul(x i); k = Mul(i m); y = Sub(a k)", "x", "-", "-", "y", false },
    { "TensorFlow's factor, read by another too", 13, FACTOR "a = Mul(x f); k = Mul(m f); u = Relu(f); s = Sub(a k); y = Add(s u)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's product, read by another too", 13, FACTOR "a = Mul(x f); k = Mul(m f); u = Relu(a); s = Sub(a k); y = Add(s u)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's form with another mean", 13, FACTOR "a = Mul(x f); n = ReduceMean(other) axes=-1,; k = Mul(n f); y = Sub(a k)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's form with another x", 13, FACTOR "a = Mul(other f); k = Mul(m f); y = Sub(a k)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's form without centring", 13, "m = ReduceMean(x) axes=-1,; p = Pow(x two); v = ReduceMean(p) axes=-1,; " ROOT
      "i = Reciprocal(r); f = Mul(i g); a = Mul(x f); k = Mul(m f); y = Sub(a k)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's form with a shift that is data", 13, FACTOR "a = Mul(x f); k = Mul(m f); o = Sub(other k); y = Add(a o)", NULL, NULL, NULL, NULL, false },
    { "TensorFlow's form the wrong way round", 13, FACTOR "a = Mul(x f); k = Mul(m f); y = Sub(k a)", NULL, NULL, NULL, NULL, false },
    { "the mean over another axis: RMSNorm of the difference", 13, "m = ReduceMean(x) axes=1,; d = Sub(x m); " VAR ROOT "y = Div(d r)", "d", "-", "-", "y", true },
    { "the mean over two axes: likewise", 13, "m = ReduceMean(x) axes=1,2; d = Sub(x m); " VAR ROOT "y = Div(d r)", "d", "-", "-", "y", true },
    { "the square's mean over another axis", 13, MEAN "p = Pow(d two); v = ReduceMean(p) axes=1,; " ROOT "y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "the square's mean without its axis", 13, MEAN "p = Pow(d two); v = ReduceMean(p) axes=-1, keepdims=0; u = Unsqueeze(v last); e = Add(u eps); r = Sqrt(e); "
      "y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "the mean minus x: likewise", 13, "m = ReduceMean(x) axes=-1,; d = Sub(m x); " VAR ROOT "y = Div(d r)", "d", "-", "-", "y", true },
    { "the mean of something else", 13, "m = ReduceMean(other) axes=-1,; d = Sub(x m); p = Pow(x two); v = ReduceMean(p) axes=-1,; " ROOT "y = Div(d r)",
      NULL, NULL, NULL, NULL, false },
    { "the third power", 13, MEAN "p = Pow(d three); v = ReduceMean(p) axes=-1,; " ROOT "y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "the variance's sum", 13, MEAN "p = Pow(d two); v = ReduceSum(p last); " ROOT "y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "the variance of another tensor", 13, MEAN "p = Pow(other two); v = ReduceMean(p) axes=-1,; " ROOT "y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "no epsilon", 13, MEAN VAR "r = Sqrt(v); y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "an epsilon per channel", 13, MEAN VAR "e = Add(v eps4); r = Sqrt(e); y = Div(d r)", NULL, NULL, NULL, NULL, false },
    { "two over the root", 13, "p = Pow(x two); v = ReduceMean(p) axes=-1,; " ROOT "i = Div(two r); y = Mul(x i)", NULL, NULL, NULL, NULL, false },
    { "LayerNormalization by a scale that is data", 17, "r = Relu(row); y = LayerNormalization(x r b)",
      NULL, NULL, NULL, NULL, false },
    { "LayerNormalization with a bias that is data", 17, "r = Relu(row); y = LayerNormalization(x g r)", NULL, NULL, NULL, NULL, false },
    { "RMSNormalization by a scale that is data", 23, "r = Relu(row); y = RMSNormalization(x r)", NULL, NULL, NULL, NULL, false },
    { "LayerNormalization over two axes", 17, "y = LayerNormalization(x gg) axis=1", NULL, NULL, NULL, NULL, false },
};

static void norms_are_recognised_in_every_spelling_and_near_misses_are_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        const struct norm_case *c = &norms[i];
        struct found f = find(c->opset, XS "gg:f32{2}@3,4", c->nodes, strstr(c->nodes, "z =") ? "y z" : "y");
        if (f.r.n_norms != (c->x != NULL))
            fail_msg("%s: %d norms", c->label, f.r.n_norms);
        const struct norm *n = f.r.norms;
        if (c->x && (strcmp(name_of(&f, n->x), c->x) || strcmp(name_of(&f, n->gamma), c->gamma) || strcmp(name_of(&f, n->beta), c->beta)
                     || strcmp(name_of(&f, n->output), c->output) || n->rms != c->rms || fabsf(n->eps - 1e-5f) > 1e-9f))
            fail_msg("%s: x %s gamma %s beta %s output %s", c->label, name_of(&f, n->x), name_of(&f, n->gamma), name_of(&f, n->beta), name_of(&f, n->output));
        if (c->x)
            assert_true(n->first <= n->last && n->last < f.g->n_nodes);
        mb_free(f.b);
    }
}

static void an_axis_is_not_the_last_one_where_no_rank_is_known(void **state)
{
    (void)state;
    for (int axis = -1; axis >= -2; axis--) {
        char nodes[200];
        snprintf(nodes, sizeof nodes, "t = Reshape(x shape); p = Pow(t two); v = ReduceMean(p) axes=%d,; e = Add(v eps); r = Sqrt(e); y = Div(t r)", axis);
        struct found f = find(13, "x:f32[b,3,4] shape:i64[n] two:f32(2) eps:f32(0.1)", nodes, "y");
        assert_int_equal(f.r.n_norms, axis == -1);
        mb_free(f.b);
    }
}

/* ---- activations ---- */

#define AS "x:f32[b,4] other:f32[b,4] h:f32(0.5) one:f32(1) q:f32(1.41421356) k:f32(0.70710678) s:f32(0.7071) c:f32(0.044715) p:f32(0.79788456) " \
           "three:f32(3) two:f32(2) w:f32(1.702) "
#define ERF "d = Div(x q); e = Erf(d); a = Add(e one); "
#define TANH "cu = Pow(x three); cc = Mul(cu c); su = Add(x cc); ar = Mul(su p); e = Tanh(ar); a = Add(e one); "

static const struct act_case { const char *label, *nodes; int kind; } acts[] = {
    { "GELU, torch", ERF "m = Mul(x a); y = Mul(m h)", ACT_GELU },
    { "GELU, dynamo", ERF "m = Mul(a h); y = Mul(x m)", ACT_GELU },
    { "GELU, older", "m = Mul(x h); " ERF "y = Mul(m a)", ACT_GELU },
    { "GELU, everything on the other side", "d = Mul(k x); e = Erf(d); a = Add(one e); m = Mul(h a); y = Mul(m x)", ACT_GELU },
    { "GELU with a short constant", "d = Mul(x s); e = Erf(d); a = Add(e one); m = Mul(x a); y = Mul(h m)", ACT_GELU },
    { "tanh GELU, GPT-2", "m = Mul(x h); " TANH "y = Mul(m a)", ACT_GELU_TANH },
    { "tanh GELU, torch", "x2 = Mul(x x); cu = Mul(x x2); cc = Mul(c cu); su = Add(x cc); ar = Mul(p su); e = Tanh(ar); a = Add(e one); m = Mul(h x); y = Mul(m a)",
      ACT_GELU_TANH },
    { "tanh GELU, factored", "xp = Mul(x p); xc = Mul(c x); sq = Mul(xc x); f = Add(one sq); ar = Mul(xp f); e = Tanh(ar); a = Add(e one); m = Mul(x h); y = Mul(m a)",
      ACT_GELU_TANH },
    { "tanh GELU, factored otherwise", "x2 = Mul(x x); sq = Mul(x2 c); f = Add(sq one); xp = Mul(p x); ar = Mul(f xp); e = Tanh(ar); a = Add(one e); m = Mul(x h); y = Mul(a m)",
      ACT_GELU_TANH },
    { "tanh GELU, factored, with another tensor's square", "x2 = Mul(other other); sq = Mul(x2 c); f = Add(sq one); xp = Mul(p x); ar = Mul(f xp); e = Tanh(ar); "
      "a = Add(one e); m = Mul(x h); y = Mul(a m)", -1 },
    { "SiLU", "g = Sigmoid(x); y = Mul(x g)", ACT_SILU },
    { "SiLU, sides swapped", "g = Sigmoid(x); y = Mul(g x)", ACT_SILU },
    { "QuickGELU", "t = Mul(x w); g = Sigmoid(t); y = Mul(x g)", ACT_QUICK_GELU },
    { "ReLU", "y = Relu(x)", ACT_RELU },
    { "a gate of another tensor", "g = Sigmoid(other); y = Mul(x g)", -1 },
    { "Sigmoid of twice x", "t = Mul(x two); g = Sigmoid(t); y = Mul(x g)", -1 },
    { "GELU of another tensor", ERF "m = Mul(other a); y = Mul(m h)", -1 },
    { "GELU without the half", ERF "m = Mul(x a); y = Mul(m two)", -1 },
    { "Erf of x over 2", "d = Div(x two); e = Erf(d); a = Add(e one); m = Mul(x a); y = Mul(m h)", -1 },
    { "Erf of sqrt 2 over x", "d = Div(q x); e = Erf(d); a = Add(e one); m = Mul(x a); y = Mul(m h)", -1 },
    { "tanh GELU with a square", "cu = Pow(x two); cc = Mul(cu c); su = Add(x cc); ar = Mul(su p); e = Tanh(ar); a = Add(e one); m = Mul(x h); y = Mul(m a)", -1 },
};

static void activations_are_recognised_in_every_spelling_and_near_misses_are_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        struct found f = find(13, AS, acts[i].nodes, "y");
        if (f.r.n_activations != (acts[i].kind >= 0))
            fail_msg("%s: %d activations", acts[i].label, f.r.n_activations);
        if (acts[i].kind >= 0 && ((int)f.r.activations[0].kind != acts[i].kind || strcmp(name_of(&f, f.r.activations[0].x), "x")
                                  || strcmp(name_of(&f, f.r.activations[0].output), "y")))
            fail_msg("%s: %s of %s", acts[i].label, activation_name[f.r.activations[0].kind], name_of(&f, f.r.activations[0].x));
        mb_free(f.b);
    }
    struct found f = find(20, "x:f32[b,4]", "u = Gelu(x); y = Gelu(u) approximate=tanh", "y");
    assert_true(f.r.n_activations == 2 && f.r.activations[0].kind == ACT_GELU && f.r.activations[1].kind == ACT_GELU_TANH);
    mb_free(f.b);
}

/* ---- linears ---- */

#define LS "x:f32[b,3,4] m:f32[b,4] w:f32{1,2,3}@4,5 wt:f32{1,2,3}@5,4 b:f32{1}@5 b3:f32{1}@1,1,5 b4:f32{1}@1,1,1,5 b2:f32{1}@1,5 half:f32{1}@1,1,1 " \
           "rows:f32{1}@3,5 sc:f32(1) cv:f32{1}@6,2,2,2 cb:f32{1}@6 im:f32[b,2,5,5] h:f32(1) "

/* bias "-": none; output: the value behind the bias; reason: why it stays float. */
static const struct linear_case { const char *label, *nodes, *bias, *output, *reason; } linears[] = {
    { "MatMul and Add", "p = MatMul(x w); y = Add(p b)", "b", "y", NULL },
    { "Add with the bias first", "p = MatMul(x w); y = Add(b p)", "b", "y", NULL },
    { "a bias with ones in front", "p = MatMul(x w); y = Add(p b3)", "b3", "y", NULL },
    { "no bias", "y = MatMul(x w)", "-", "y", NULL },
    { "a transposed weight, folded", "t = Transpose(wt) perm=1,0; p = MatMul(x t); y = Add(p b)", "b", "y", NULL },
    { "a weight behind Identity", "t = Identity(w); p = MatMul(x t); y = Add(p b)", "b", "y", NULL },
    { "a product that others read", "p = MatMul(x w); y = Add(p b); z = Relu(p)", "-", "p", NULL },
    { "a product that is an output", "z = MatMul(x w); y = Add(z b)", "-", "z", NULL },
    { "a bias per row", "p = MatMul(x w); y = Add(p rows)", "-", "p", NULL },
    { "a scalar added", "p = MatMul(x w); y = Add(p half)", "-", "p", NULL },
    { "a bias that adds a dimension", "p = MatMul(x w); y = Add(p b4)", "-", "p", NULL },
    { "the same on a matrix", "p = MatMul(m w); y = Add(p b3)", "-", "p", NULL },
    { "a product added to itself", "p = MatMul(x w); y = Add(p p)", "-", "p", NULL },
    { "a bias subtracted", "p = MatMul(x w); y = Sub(p b)", "-", "p", NULL },
    { "Gemm", "y = Gemm(m w b)", "b", "y", NULL },
    { "Gemm with a row of bias", "y = Gemm(m w b2)", "b2", "y", NULL },
    { "Gemm transB", "y = Gemm(m wt b) transB=1", "b", "y", NULL },
    { "Gemm and Add", "p = Gemm(m wt) transB=1; y = Add(p b)", "b", "y", NULL },
    { "Conv", "y = Conv(im cv cb)", "cb", "y", NULL },
    { "Conv without bias", "y = Conv(im cv)", "-", "y", NULL },
    { "Conv that says that it pads as told", "y = Conv(im cv) auto_pad=NOTSET", "-", "y", NULL },
    { "Conv that finds its padding", "y = Conv(im cv) auto_pad=SAME_UPPER", NULL, NULL, "auto_pad" },
    { "Gemm with alpha", "y = Gemm(m w b) alpha=0.5", NULL, NULL, "alpha" },
    { "Gemm with beta", "y = Gemm(m w b) beta=0.5", NULL, NULL, "beta" },
    { "Gemm with transA", "y = Gemm(ft w) transA=1", NULL, NULL, "transA" },
    { "Gemm with a scalar bias", "y = Gemm(m w sc)", NULL, NULL, "bias" },
    { "the constant on the left", "y = MatMul(wt xt)", NULL, NULL, "left" },
    { "a vector", "y = MatMul(vec w)", NULL, NULL, "vector" },
    { "a stack of weights", "y = MatMul(x stack)", NULL, NULL, "stack of matrices" },
    { "no outputs", "y = MatMul(x no)", NULL, NULL, "empty" },
    { "no inputs", "s = Slice(x first first last); y = MatMul(s none)", NULL, NULL, "empty" },
    { "Gemm with no outputs", "y = Gemm(m no)", NULL, NULL, "empty" },
    { "Conv with no outputs", "y = Conv(im unseen)", NULL, NULL, "empty" },
    { "Conv with groups", "y = Conv(im grouped) group=2", NULL, NULL, "groups" },
};

static void linears_are_recognised_in_every_spelling_and_the_others_say_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
        const struct linear_case *c = &linears[i];
        struct found f = find(17, LS "ft:f32[4,b] xt:f32[b,4,3] vec:f32[4] stack:f32{1}@3,4,5 grouped:f32{1}@6,1,2,2 "
                              "no:f32{}@4,0 none:f32{}@0,5 unseen:f32{}@0,2,2,2 first:i64{0} last:i64{-1}", c->nodes,
                              strstr(c->nodes, "z =") ? "y z" : "y");
        if (f.r.n_layers != (c->reason == NULL) || f.r.n_left != (c->reason != NULL))
            fail_msg("%s: %d layers, %d left", c->label, f.r.n_layers, f.r.n_left);
        const struct layer *l = f.r.layers;
        if (c->reason && !strstr(f.r.left[0].reason, c->reason))
            fail_msg("%s: %s", c->label, f.r.left[0].reason);
        if (!c->reason && (strcmp(name_of(&f, l->bias), c->bias) || strcmp(name_of(&f, l->output), c->output)))
            fail_msg("%s: bias %s, output %s", c->label, name_of(&f, l->bias), name_of(&f, l->output));
        if (!c->reason)
            assert_true(l->kind == LAYER_CONV ? l->k == 8 && l->n == 6 : l->k == 4 && l->n == 5);
        mb_free(f.b);
    }
}

/* ---- attention ---- */

static const struct { const char *label, *nodes; enum layer_kind first, second; } attentions[] = {
    { "scaled after", "k = Transpose(b) perm=0,2,1; q = MatMul(a k); l = Mul(q s); p = Softmax(l); y = MatMul(p c)", LAYER_QK, LAYER_PV },
    { "divided, masked by Add", "k = Transpose(b) perm=0,2,1; q = MatMul(a k); l = Div(q s); t = Add(l mask); p = Softmax(t) axis=2; y = MatMul(p c)", LAYER_QK, LAYER_PV },
    { "masked by Where", "k = Transpose(b) perm=0,2,1; q = MatMul(a k); l = Where(keep q low); p = Softmax(l); y = MatMul(p c)", LAYER_QK, LAYER_PV },
    { "NaN replaced behind the softmax", "k = Transpose(b) perm=0,2,1; q = MatMul(a k); p = Softmax(q); i = IsNaN(p); r = Where(i zero p); y = MatMul(r c)", LAYER_QK, LAYER_PV },
    { "scaled on q and k", "u = Mul(a s); k = Transpose(b) perm=0,2,1; o = Mul(k s); q = MatMul(u o); p = Softmax(q); y = MatMul(p c)", LAYER_QK, LAYER_PV },
    { "no softmax", "k = Transpose(b) perm=0,2,1; q = MatMul(a k); p = Tanh(q); y = MatMul(p c)", LAYER_PRODUCT, LAYER_PRODUCT },
};

static void the_two_products_of_attention_are_told_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof attentions / sizeof attentions[0]; i++) {
        struct found f = find(17, "a:f32[n,3,4] b:f32[n,3,4] c:f32[n,3,4] mask:f32[n,1,3] keep:bool[n,1,3] s:f32(0.5) low:f32(-3e38) zero:f32(0)", attentions[i].nodes, "y");
        if (f.r.n_layers != 2 || f.r.layers[0].kind != attentions[i].first || f.r.layers[1].kind != attentions[i].second)
            fail_msg("%s: %d products", attentions[i].label, f.r.n_layers);
        assert_true(f.r.layers[0].weight < 0 && f.r.layers[0].other >= 0 && f.r.layers[0].bias < 0);
        mb_free(f.b);
    }
}

/* ---- names ---- */

static void layers_are_called_what_people_call_them(void **state)
{
    (void)state;
    static const struct { const char *node, *weight, *name, *block; } rows[] = {
        { "/blocks/blocks.0/attn/qkv/MatMul", "onnx::MatMul_371", "blocks.0.attn.qkv", "blocks.0" },
        { "/encoder/layer.11/output/dense/MatMul_1", "onnx::MatMul_9", "encoder.layer.11.output.dense", "encoder.layer.11" },
        { "/head/Gemm", "head.weight", "head", "" },
        { "/patch_embed/proj/Conv", "patch_embed.proj.weight", "patch_embed.proj", "" },
        { "MatMul_12", "encoder.layer.3.fc1.weight", "encoder.layer.3.fc1", "encoder.layer.3" },
        { "", "model.layers.0.q_proj.weight", "model.layers.0.q_proj", "model.layers.0" },
        { "node_linear_3", "vit.layers.2.mlp.fc1.weight", "vit.layers.2.mlp.fc1", "vit.layers.2" },
        { "MatMul_12", "onnx::MatMul_99", "node7", "" },
        { "", "", "node7", "" },
        { "/MatMul_3", "onnx::MatMul_99", "node7", "" },
        { "42", "fc_weight", "fc", "" },
        { "h.5.mlp.c_fc", "w", "h.5.mlp.c_fc", "h.5" },
        { "/a//b/MatMul", "w", "a.b", "" },
    };
    struct arena *mem = arena_new(1 << 20);
    struct err e = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name = roles_layer_name(mem, rows[i].node, rows[i].weight, "node7", &e);
        assert_string_equal(name, rows[i].name);
        assert_string_equal(roles_block_name(mem, name, &e), rows[i].block);
    }
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 0; i < sizeof longest; i += 150)
        longest[i] = '/';
    longest[sizeof longest - 1] = '\0';
    assert_true(strlen(roles_layer_name(mem, longest, "", "node7", &e)) < 400);
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = "\xe4\xb8\xad"[i % 3];
    longest[sizeof longest - 2] = '\0';
    assert_true(utf8_valid(roles_layer_name(mem, longest, "", "node7", &e)));      /* reports are JSON */
    assert_true(utf8_valid(roles_layer_name(mem, "", longest, "node7", &e)));
    arena_free(mem);
}

static void no_two_layers_share_a_name(void **state)
{
    (void)state;
    struct found f = find(17, "x:f32[b,4] w:f32{1,2,3}@4,4", "a = MatMul(x w); c = MatMul(a w); d = MatMul(c w); y = MatMul(d w)", "y");
    assert_int_equal(f.r.n_layers, 4);
    assert_string_equal(f.r.layers[0].name, "w");
    assert_string_equal(f.r.layers[1].name, "w#2");
    assert_string_equal(f.r.layers[3].name, "w#4");
    for (int i = 0; i < 4; i++)
        assert_true(f.r.layers[i].shared_weight);
    mb_free(f.b);
    struct ground *digits = ground_digits(8);
    for (int i = 0; i < digits->roles.n_layers; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(digits->roles.layers[i].name, digits->roles.layers[k].name);
    assert_true(digits->roles.n_norms == 9 && digits->roles.n_softmaxes == 4 && digits->roles.n_activations == 4 && digits->roles.n_left == 0);
    ground_free(digits);
}

/* ---- graphs made to take long: as they were read once, each of these took minutes ---- */

/* A product and `layers` of `wide` nodes, each of which reads all of the layer before. */
static void add_mesh(struct builder *b, int layers, int wide)
{
    char all[2][1000] = { "p p" }, name[30];
    mb_node(b, "MatMul", "x x", "p", "");
    for (int l = 0; l < layers; l++) {
        all[(l + 1) % 2][0] = '\0';
        for (int i = 0; i < wide; i++) {
            snprintf(name, sizeof name, "m%d_%d", l, i);
            mb_node(b, "Max", all[l % 2], name, "");
            snprintf(all[(l + 1) % 2] + strlen(all[(l + 1) % 2]), 31, "%s%s", i ? " " : "", name);
        }
    }
    mb_node(b, "Max", all[layers % 2], "y", "");
}

static struct found find_made(struct builder *b)
{
    struct err e = { 0 };
    struct found f = { .b = b };
    f.g = graph_load(b->mem, mb_model(b), op_eval, &e);
    need(f.g && roles_find(f.g, b->mem, &f.r, &e), &e);
    return f;
}

static void a_mesh_of_nodes_is_walked_once(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    clock_t begun = clock();
    mb_values(b, "x:f32[b,4,4]");
    add_mesh(b, 6, 80);
    mb_output(b, "y");
    struct found f = find_made(b);
    assert_true(f.r.n_layers == 1 && f.r.layers[0].kind == LAYER_PRODUCT);
    assert_true((clock() - begun) / CLOCKS_PER_SEC < 20);
    mb_free(b);
}

static void many_layers_of_one_name_are_numbered(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    struct builder *b = mb_new(17);
    clock_t begun = clock();
    char from[20] = "x", to[20];
    mb_values(b, "x:f32[b,4,4] w:f32[4,4]");
    for (int i = 0; i < MANY; i++) {
        snprintf(to, sizeof to, "y%d", i);
        char in[60];
        snprintf(in, sizeof in, "%s w", from);
        mb_node(b, "MatMul", in, to, "")->name = i == 7 ? "a#3" : "a";
        memcpy(from, to, sizeof from);
    }
    mb_output(b, from);
    struct found f = find_made(b);
    assert_int_equal(f.r.n_layers, MANY);
    assert_string_equal(f.r.layers[2].name, "a#3");
    assert_string_equal(f.r.layers[7].name, "a#3#2");
    assert_string_equal(f.r.layers[MANY - 1].name, "a#2999");
    assert_true((clock() - begun) / CLOCKS_PER_SEC < 20);
    mb_free(b);
}

static void a_name_that_is_taken_is_not_given(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[b,4,4] w:f32[4,4]");
    mb_node(b, "MatMul", "x w", "p", "")->name = "a#2";
    mb_node(b, "MatMul", "p w", "q", "")->name = "a";
    mb_node(b, "MatMul", "q w", "y", "")->name = "a";
    mb_output(b, "y");
    struct found f = find_made(b);
    assert_string_equal(f.r.layers[0].name, "a#2");
    assert_string_equal(f.r.layers[1].name, "a");
    assert_string_equal(f.r.layers[2].name, "a#3");
    mb_free(b);
}

/* ---- parts of a block ---- */

/* Weights are called by what they are for: f.. feed-forward, a.. attention, o.. neither. */
#define PS "x:f32[b,3,4] other:f32[b,3,4] a1:f32{1}@4,4 a2:f32{1}@4,4 a3:f32{1}@4,4 a4:f32{1}@4,4 " \
           "f1:f32{1}@4,4 f2:f32{1}@4,4 f3:f32{1}@4,4 f4:f32{1}@2,4 o1:f32{1}@4,4 o2:f32{1}@4,4 " \
           "g:f32{2}@4 c:f32{1}@4 h:f32(0.5) m:f32{0}@3,3 least:f32(0.1) half:i64{2,2} heads:i64{0,0,2,2} flat:i64{0,0,4} "
#define Q "q = MatMul(x a1); k = MatMul(x a2); v = MatMul(x a3); "
#define PV "s = MatMul(q kt); z = Mul(s h); p = Softmax(z); u = MatMul(p v); "
#define BLOCK(in) Q "kt = Transpose(k) perm=0,2,1; " PV "w = MatMul(u a4); r = Add(w " in "); "

static const struct { const char *label, *nodes; } blocks[] = {
    { "a block", BLOCK("x") "n = LayerNormalization(r g c); d = MatMul(n f1); e = Add(d c); t = Relu(e); i = MatMul(t f2); y = Add(i r)" },
    { "heads", Q "q4 = Reshape(q heads); qt = Transpose(q4) perm=0,2,1,3; k4 = Reshape(k heads); kt = Transpose(k4) perm=0,2,3,1; v4 = Reshape(v heads); "
      "vt = Transpose(v4) perm=0,2,1,3; s = MatMul(qt kt); z = Mul(s h); p = Softmax(z); u = MatMul(p vt); ut = Transpose(u) perm=0,2,1,3; uf = Reshape(ut flat); "
      "w = MatMul(uf a4); y = Add(w x)" },
    { "rows divided and multiplied again", "ab = Abs(x); mx = ReduceMax(ab) axes=-1,; ma = Max(mx least); di = Div(x ma); qq = MatMul(di a1); q = Mul(qq ma); "
      "kk = MatMul(di a2); k = Mul(kk ma); kt = Transpose(k) perm=0,2,1; vv = MatMul(x a3); v = Add(vv c); " PV "ub = Abs(u); ux = ReduceMax(ub) axes=-1,; "
      "um = Max(ux least); ud = Div(u um); w = MatMul(ud a4); y = Mul(w um)" },
    { "gate and up", "d = MatMul(x f1); sg = Sigmoid(d); t = Mul(d sg); up = MatMul(x f2); gu = Mul(t up); y = MatMul(gu f3)" },
    { "gate and up, one linear and a factor", "d = MatMul(x f1); da db = Split(d half) axis=2; sg = Sigmoid(da); t = Mul(da sg); gu = Mul(db t); "
      "gc = Mul(gu h); y = MatMul(gc f4)" },
    { "the linear before, behind a residual", "d = MatMul(x o1); r = Add(d other); t = Relu(r); y = MatMul(t f2)" },
    { "a head behind an activation function and a norm", "d = MatMul(x o1); t = Relu(d); n = LayerNormalization(t g c); y = MatMul(n o2)" },
    { "a head that ends in one", "d = MatMul(x o1); y = Relu(d)" },
    { "queries of an earlier block", "e = MatMul(other o1); b0 = Add(e x); q = MatMul(b0 a1); k = MatMul(b0 a2); v = MatMul(b0 a3); kt = Transpose(k) perm=0,2,1; " PV
      "y = MatMul(u a4)" },
    { "heads as long as what another layer gives", "e = MatMul(other o1); ln = Shape(e); " Q "qr = Reshape(q ln); kt = Transpose(k) perm=0,2,1; s = MatMul(qr kt); z = Mul(s h); "
      "p = Softmax(z); u = MatMul(p v); y = MatMul(u a4)" },
    { "rotated queries", Q "qc = Mul(q c); qn = Neg(q); qs = Mul(qn g); qr = Add(qc qs); kt = Transpose(k) perm=0,2,1; s = MatMul(qr kt); z = Add(s m); p = Softmax(z); "
      "u = MatMul(p v); y = MatMul(u a4)" },
};

static void layers_know_their_part_of_the_block(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        struct found f = find(17, PS, blocks[i].nodes, "y");
        for (int k = 0; k < f.r.n_layers; k++) {
            const struct layer *l = &f.r.layers[k];
            char what = l->weight >= 0 ? name_of(&f, l->weight)[0] : 'a';
            enum layer_part want = what == 'a' ? PART_ATTENTION : what == 'f' ? PART_FEED_FORWARD : PART_OTHER;
            if (l->part != want)
                fail_msg("%s: layer %s is of part %d", blocks[i].label, l->name, (int)l->part);
        }
        mb_free(f.b);
    }
    struct ground *digits = ground_digits(8);
    int count[PARTS] = { 0 };
    for (int i = 0; i < digits->roles.n_layers; i++)
        count[digits->roles.layers[i].part]++;
    assert_true(count[PART_ATTENTION] == 16 && count[PART_FEED_FORWARD] == 8 && count[PART_OTHER] == 2);
    ground_free(digits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_recognised_in_every_spelling_and_near_misses_are_not),
        cmocka_unit_test(an_axis_is_not_the_last_one_where_no_rank_is_known),
        cmocka_unit_test(activations_are_recognised_in_every_spelling_and_near_misses_are_not),
        cmocka_unit_test(linears_are_recognised_in_every_spelling_and_the_others_say_why_not),
        cmocka_unit_test(the_two_products_of_attention_are_told_apart),
        cmocka_unit_test(layers_know_their_part_of_the_block),
        cmocka_unit_test(layers_are_called_what_people_call_them),
        cmocka_unit_test(no_two_layers_share_a_name),
        cmocka_unit_test(a_mesh_of_nodes_is_walked_once),
        cmocka_unit_test(many_layers_of_one_name_are_numbered),
        cmocka_unit_test(a_name_that_is_taken_is_not_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
