/* Rows of linears' inputs divided by their largest magnitude: nothing changes in float, and codes are each token's own. */
#include "tests/unit/core/sweep_fixture.h"

#include "core/graph/unit_rows.h"

#include <math.h>

/* Two linears on one input, one with a bias behind it, a Gemm with its own; rows of zeros and very loud ones come. */
static struct builder *linears(int opset)
{
    struct builder *b = mb_new(opset);
    mb_values(b, "x:f32[batch,4,8] rows:i64{-1,12}");
    MB_RANDOM(b, "w1", 1, 1, 8, 12);
    MB_RANDOM(b, "b1", 2, 1, 12);
    MB_RANDOM(b, "w2", 3, 1, 8, 12);
    MB_RANDOM(b, "w3", 4, 1, 5, 12);
    MB_RANDOM(b, "b3", 5, 1, 5);
    mb_node(b, "MatMul", "x w1", "y1", "");
    mb_node(b, "Add", "b1 y1", "z1", "");
    mb_node(b, "MatMul", "x w2", "y2", "");
    mb_node(b, "Mul", "z1 y2", "m", "");
    mb_node(b, "Reshape", "m rows", "flat", "");
    mb_node(b, "Gemm", "flat w3 b3", "out", "transB=1");
    mb_output(b, "out");
    return b;
}

static void scale_rows(struct samples *s)
{
    float *x = s->inputs[0]->t.data;
    for (size_t i = 0; i < 8; i++) {
        x[i] = 0;
        x[8 + i] *= 1e4f;
        x[16 + i] *= 1e-12f;
    }
}

static void nothing_changes_in_float(void **state)
{
    (void)state;
    static const int opsets[] = { 13, 17, 18, 21 };
    for (size_t i = 0; i < sizeof opsets / sizeof opsets[0]; i++) {
        struct builder *b = linears(opsets[i]);
        struct ground *gr = ground_of(b, 3);
        struct graph *g = (struct graph *)(uintptr_t)gr->g;
        struct lowering how;
        struct shape shape;
        struct err e = { 0 };
        scale_rows(&gr->samples);
        need(lowering_new(&how, g, gr->mem, &e), &e);
        const float *before = run_all(g, &how, &gr->samples, gr->mem, &shape);
        assert_int_equal(gr->roles.n_layers, 3);
        need(graph_unit_rows(g, &gr->roles, (bool[]){ true, true, true }, &e) && roles_find(g, gr->mem, &gr->roles, &e), &e);
        need(lowering_new(&how, g, gr->mem, &e), &e);
        const float *after = run_all(g, &how, &gr->samples, gr->mem, &shape);
        assert_int_equal(gr->roles.n_layers, 3);
        for (int k = 0; k < 3; k++)
            assert_true(graph_has_unit_rows(g, gr->roles.layers[k].x));
        assert_int_equal(gr->roles.layers[0].x, gr->roles.layers[1].x);        /* found once */
        for (int64_t k = 0; k < shape_elements(&shape); k++)
            assert_true(fabsf(before[k] - after[k]) <= 1e-5f * fmaxf(1, fabsf(before[k])));
        ground_free(gr);
        mb_free(b);
    }
}

/* Whatever a model calls its nodes, the new names are nobody's, and are found at once. */
static void names_begin_as_no_other_name_does(void **state)
{
    (void)state;
    enum { TAKEN = 1000 };
    struct builder *b = linears(17);
    struct err e = { 0 };
    char name[40], from[20] = "out", to[20];
    for (int i = 0; i < TAKEN; i++) {
        snprintf(to, sizeof to, "t%d", i);
        snprintf(name, sizeof name, i ? "unit_rows%d/Relu" : "unit_rows/Relu", i);
        struct onnx_node *n = mb_node(b, "Relu", from, to, "");
        n->name = mb_copy(b, name, strlen(name));
        memcpy(from, to, sizeof from);
    }
    b->model.graph.n_outputs = 0;
    mb_output(b, from);
    struct ground *gr = ground_of(b, 2);
    struct graph *g = (struct graph *)(uintptr_t)gr->g;
    int before = g->n_values;
    need(graph_unit_rows(g, &gr->roles, (bool[]){ true, true, true }, &e), &e);
    assert_true(g->n_values > before);
    for (int i = before; i < g->n_values; i++)
        assert_memory_equal(g->values[i].name, "unit_rows1000/", 14);
    ground_free(gr);
    mb_free(b);
}

static void what_is_not_wanted_stays(void **state)
{
    (void)state;
    struct builder *b = linears(17);
    struct ground *gr = ground_of(b, 2);
    struct graph *g = (struct graph *)(uintptr_t)gr->g;
    struct err e = { 0 };
    int nodes = g->n_nodes;
    need(graph_unit_rows(g, &gr->roles, (bool[]){ false, true, false }, &e) && roles_find(g, gr->mem, &gr->roles, &e), &e);
    assert_int_equal(g->n_nodes, nodes + 5);
    assert_false(graph_has_unit_rows(g, gr->roles.layers[0].x));
    assert_true(graph_has_unit_rows(g, gr->roles.layers[1].x));
    ground_free(gr);
    mb_free(b);
}

/* A model may have divided rows of its own whose products nobody multiplies again: its norm must not take up factors. */
static void factors_stay_out_of_rows_that_do_not_return(void **state)
{
    (void)state;
    struct builder *b = mb_new(18);
    mb_values(b, "x:f32[batch,4,8] g:f32{1,2,3,4,5,6,7,8} c:f32{0,0,0,0,0,0,0,0} eps:f32{1e-9} last:i64{-1}");
    MB_RANDOM(b, "w", 1, 1, 8, 12);
    mb_node(b, "LayerNormalization", "x g c", "n", "axis=-1");
    mb_node(b, "Abs", "n", "m", "");
    mb_node(b, "ReduceMax", "m last", "top", "keepdims=1");
    mb_node(b, "Max", "top eps", "a", "");
    mb_node(b, "Div", "n a", "rows", "");
    mb_node(b, "MatMul", "rows w", "out", "");
    mb_output(b, "out");
    struct ground *gr = ground_of(b, 24);
    assert_true(graph_has_unit_rows(gr->g, gr->roles.layers[0].x));
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = recipe_preset("smoothquant-w8a8"), .memory = UINT64_MAX });
    assert_int_equal(o->sweep.sites[o->sweep.layers[0].x].norm, -1);
    assert_true(errors_sqnr_db(o->sweep.layers[0].accumulated.signal, o->sweep.layers[0].accumulated.noise) > 30);
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

/* Example E3 of the specification: codes of two tokens, one 25 times as loud as the other. */
static void every_token_has_a_range_of_its_own(void **state)
{
    (void)state;
    static const float x[2][4] = { { .1f, -.21f, .3f, -.4f }, { 10, -2.6f, 5.1f, 7.4f } };
    static const int want[2][4] = { { 32, -67, 95, -127 }, { 127, -33, 65, 94 } };
    static const float largest[2] = { .4f, 10 };
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        struct affine a = quantizer_unit(8, symmetric);
        assert_true(a.scale == 1.0f / 127);
        for (int t = 0; t < 2; t++)
            for (int i = 0; i < 4; i++)
                assert_int_equal((int)rintf(x[t][i] / largest[t] / a.scale), want[t][i]);
        assert_true(a.zero + 127 <= a.qmax && a.zero - 127 >= a.qmin);
    }
    assert_true(quantizer_unit(4, false).scale == 1.0f / 7 && quantizer_unit(4, false).zero == 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_in_float),
        cmocka_unit_test(names_begin_as_no_other_name_does),
        cmocka_unit_test(what_is_not_wanted_stays),
        cmocka_unit_test(factors_stay_out_of_rows_that_do_not_return),
        cmocka_unit_test(every_token_has_a_range_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
