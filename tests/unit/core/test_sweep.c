/*
 * What a sweep decides and reports: threads and memory change no bit of it, the recipe is followed, odd models are
 * quantized or refused by name.  test_sweep_resume.c interrupts it.
 */
#include <math.h>

#include "core/sweep/region.h"
#include "tests/unit/core/sweep_fixture.h"

enum { SAMPLES = 24 };

static struct ground *digits;

static struct recipe preset(const char *name) { return *recipe_preset(name); }

/* ---- threads and memory ---- */

static void check_threads_and_memory(const char *name)
{
    struct recipe r = preset(name);
    struct outcome *want = sweep_well(digits, &(struct how_to){ .recipe = &r, .threads = 1, .memory = UINT64_MAX });
    assert_int_equal(want->sweep.spilled, 0);
    assert_true(want->sweep.peak_held > 0);
    static const uint64_t budgets[] = { 0, 20000, UINT64_MAX };
    for (int threads = 1; threads <= 3; threads++)
        for (size_t i = 0; i < sizeof budgets / sizeof budgets[0]; i++) {
            char label[60];
            snprintf(label, sizeof label, "%d threads, %llu bytes", threads, (unsigned long long)budgets[i]);
            struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .threads = threads, .memory = budgets[i] });
            assert_same(want, o, label);
            assert_true((uint64_t)o->sweep.peak_held <= budgets[i]);
            assert_int_equal(o->sweep.spilled > 0, budgets[i] < UINT64_MAX);
            outcome_free(o);
        }
    outcome_free(want);
}

static void threads_and_memory_change_no_bit(void **state)
{
    (void)state;
    check_threads_and_memory("minmax-w8a8");
    check_threads_and_memory("repquant-w4a4");
}

/* ---- what is reported ---- */

static double accumulated_db(const struct sweep_layer *l)
{
    return errors_sqnr_db(l->accumulated.signal, l->accumulated.noise);
}

static double isolated_db(const struct sweep_layer *l) { return errors_sqnr_db(l->isolated.signal, l->isolated.noise); }

static void every_layer_is_measured_and_no_figure_is_absurd(void **state)
{
    (void)state;
    static const char *const names[] = { "minmax-w8a8", "percentile-w8a8" };
    for (size_t i = 0; i < 2; i++) {
        struct recipe r = preset(names[i]);
        struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
        assert_int_equal(o->sweep.n_layers, 26);
        for (int k = 0; k < o->sweep.n_layers; k++) {
            const struct sweep_layer *l = &o->sweep.layers[k];
            assert_true(l->measured && l->quantize && l->seconds >= 0);
            double together = accumulated_db(l), alone = isolated_db(l), cosine = errors_cosine(&l->accumulated);
            if (!(together > 15 && together < 80 && alone > 20 && alone < 80 && cosine > 0.97 && cosine <= 1 + 1e-12))
                fail_msg("%s %s: accumulated %.1f dB, isolated %.1f dB, cosine %.4f", names[i], l->l->name, together, alone, cosine);
        }
        outcome_free(o);
    }
}

static void a_ratio_is_only_perfect_where_nothing_differs(void **state)
{
    (void)state;
    static const struct { float want[2], got[2]; double db; } rows[] = {
        { { 1, -2 }, { 1, -2 }, 200 }, { { 0, 0 }, { 0, 0 }, 200 }, { { 0, 0 }, { 1, 0 }, 0 }, { { 10, 0 }, { 10, 1 }, 20 },
        { { 1, 2 }, { NAN, 2 }, NAN }, { { NAN, 2 }, { NAN, 2 }, NAN }, { { INFINITY, 2 }, { INFINITY, 2 }, NAN },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct errors s = { 0 };
        errors_add(&s, rows[i].want, rows[i].got, 2);
        double db = errors_sqnr_db(s.signal, s.noise);
        if (!(isnan(db) && isnan(rows[i].db)) && !(fabs(db - rows[i].db) < 1e-9))
            fail_msg("row %zu: %g dB", i, db);
    }
}

/* Example E7 of the specification. */
static void the_metrics_are_the_worked_ones(void **state)
{
    (void)state;
    static const float want[] = { 1, -2, 3, .5f }, got[] = { 1.1f, -1.9f, 2.8f, .6f };
    struct errors s = { 0 };
    errors_add(&s, want, got, 4);
    assert_true(fabs(errors_mse(&s) - .0175) < 1e-7 && fabs(s.noise / s.signal - .00491228) < 1e-7);
    assert_true(fabs(errors_sqnr_db(s.signal, s.noise) - 23.08717) < 1e-4 && fabs(errors_cosine(&s) - .99844922) < 1e-7);
}

/* Widths of a few rows at a time and of less than one. */
static void biases_are_added_before_streams_are_compared(void **state)
{
    (void)state;
    static const size_t widths[] = { 1, 7, 1000, 2048, 5000 };
    enum { ROWS = 5, MOST = 5000 };
    static float want[2][ROWS * MOST], got[2][ROWS * MOST], bias[2][MOST];
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct errors s = { 0 }, plain = { 0 };
        size_t n = widths[i];
        for (size_t at = 0; at < ROWS * n; at++) {
            bias[0][at % n] = (float)(at % n % 5);
            bias[1][at % n] = (float)(at % n % 3);
            want[0][at] = (float)(at % 11);
            got[0][at] = (float)(at % 13);
            want[1][at] = want[0][at] + (float)(at % n % 5);
            got[1][at] = got[0][at] + (float)(at % n % 3);
        }
        errors_add_rows(&s, want[0], bias[0], got[0], bias[1], ROWS, n);
        errors_add(&plain, want[1], got[1], ROWS * n);
        assert_memory_equal(&s, &plain, sizeof s);         /* whole numbers: sums are exact */
        errors_add_rows(&s, want[0], NULL, got[0], NULL, ROWS, n);
        errors_add(&plain, want[0], got[0], ROWS * n);
        assert_memory_equal(&s, &plain, sizeof s);
    }
}

/* More than one piece of it. */
static void what_is_no_number_in_both_does_not_count_and_in_one_is_a_difference(void **state)
{
    (void)state;
    enum { N = 5000, NONE = 2047, INF = 2048, ONE = 4999 };
    static float want[N], got[N];
    for (int i = 0; i < N; i++)
        want[i] = got[i] = 1;
    want[NONE] = got[NONE] = NAN;
    want[INF] = got[INF] = INFINITY;
    struct errors s = { 0 };
    assert_int_equal(errors_add_finite(&s, want, got, N), 2);
    assert_true(s.signal == N - 2 && s.noise == 0 && s.n == N);
    got[ONE] = NAN;
    s = (struct errors){ 0 };
    assert_int_equal(errors_add_finite(&s, want, got, N), 2);
    assert_true(s.signal == N - 2 && s.noise == 1);
    assert_int_equal(errors_add_finite(&s, got, want, N), 3);
    assert_true(s.noise == 2);
}

static void with_every_layer_excluded_the_streams_are_the_same(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    r.n_exclude = 1;
    snprintf(r.exclude[0], sizeof r.exclude[0], "*");
    struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    assert_int_equal(o->sweep.n_sites, 0);
    for (int i = 0; i < o->sweep.n_layers; i++) {
        const struct sweep_layer *l = &o->sweep.layers[i];
        assert_true(l->measured && !l->quantize && l->accumulated.n > 0);
        assert_true(accumulated_db(l) == 200 && l->isolated.n == 0);
        struct layer_row row;
        sweep_row(&o->task, &o->sweep, i, &row);
        assert_string_equal(row.actual, "float");
        assert_string_equal(row.skip_reason, "excluded by \"*\"");
        assert_true(row.bytes_before == row.bytes_after && row.act_bits == 0 && row.weight_bits == 0 && row.weight == NULL);
    }
    outcome_free(o);
}

static const struct sweep_layer *layer_named(const struct sweep *s, const char *name, int *ret_index)
{
    for (int i = 0; i < s->n_layers; i++)
        if (strcmp(s->layers[i].l->name, name) == 0) {
            *ret_index = i;
            return &s->layers[i];
        }
    fail_msg("no layer %s", name);
    return NULL;
}

static void excluded_and_overridden_layers_are_what_the_recipe_says(void **state)
{
    (void)state;
    struct recipe r = preset("percentile-w8a8");
    r.n_exclude = 1;
    r.n_overrides = 1;
    snprintf(r.exclude[0], sizeof r.exclude[0], "*.fc2");
    r.overrides[0] = (struct recipe_override){ "blocks.1.*", RECIPE_ANY_PART, 4, 6 };
    struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    static const struct { const char *layer, *precision; } rows[] = {
        { "blocks.0.fc1", "w8a8" }, { "blocks.0.fc2", "float" }, { "blocks.1.fc1", "w4a6" }, { "blocks.1.fc2", "float" },
        { "blocks.1.attn.qk", "w6a6" }, { "head", "w8a8" }, { "patch", "w8a8" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int at = -1;
        struct layer_row row;
        const struct sweep_layer *l = layer_named(&o->sweep, rows[i].layer, &at);
        sweep_row(&o->task, &o->sweep, at, &row);
        assert_string_equal(row.actual, rows[i].precision);
        if (!l->quantize)
            assert_true(isolated_db(l) == 200 && accumulated_db(l) < 80);      /* computed in float, on a quantized input */
        if (row.weight_bits == 4)
            for (size_t k = 0; k < l->w.k * l->w.n; k++)
                assert_in_range(l->w.codes[k] + 8, 0, 15);
    }
    outcome_free(o);
}

static void attention_and_convolutions_stay_float_where_the_recipe_says_so(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    r.attention.products = false;
    r.convolutions = false;
    struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = 0 });
    for (int i = 0; i < o->sweep.n_layers; i++)
        assert_int_equal(o->sweep.layers[i].quantize, o->sweep.layers[i].l->kind == LAYER_LINEAR);
    assert_int_equal(o->sweep.n_sites, 4 * 4 + 1);
    outcome_free(o);
}

/* ---- odd models ---- */

static void a_tensor_that_becomes_infinite_ends_the_sweep_and_is_named(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,4]");
    MB_RANDOM(b, "a.weight", 1, 1, 4, 4);
    MB_RANDOM(b, "b.weight", 2, 1, 4, 3);
    mb_node(b, "MatMul", "x a.weight", "y", "");
    mb_node(b, "Log", "y", "z", "");      /* of negative numbers */
    mb_node(b, "MatMul", "z b.weight", "out", "");
    mb_output(b, "out");
    struct ground *gr = ground_of(b, 9);
    for (int threads = 1; threads <= 3; threads++) {
        struct outcome *o = sweep_once(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX, .threads = threads });
        assert_false(o->ok);
        assert_int_equal(o->e.code, ERR_NUMERIC_NONFINITE);
        assert_string_equal(o->e.where, "z");
        assert_non_null(strstr(o->e.text, "layer 'b'"));
        outcome_free(o);
    }
    ground_free(gr);
    mb_free(b);
}

static void a_weight_that_is_not_finite_is_named(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,2] a.weight:f32{1,nan,2,3,4,5}@2,3");
    mb_node(b, "MatMul", "x a.weight", "out", "");
    mb_output(b, "out");
    struct ground *gr = ground_of(b, 3);
    struct outcome *o = sweep_once(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    assert_int_equal(o->e.code, ERR_NUMERIC_NONFINITE);
    assert_string_equal(o->e.where, "a.weight");
    assert_non_null(strstr(o->e.text, "output channel 1"));
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

static void outputs_that_are_views_or_copies_of_inputs_are_kept(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,4] shape:i64{0,2,2}");
    MB_RANDOM(b, "a.weight", 1, 1, 4, 4);
    mb_node(b, "MatMul", "x a.weight", "y", "");
    mb_node(b, "Reshape", "x shape", "same", "");
    mb_node(b, "Reshape", "y shape", "seen", "");
    mb_output(b, "y same seen");
    struct ground *gr = ground_of(b, 9);
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = 0 });
    const float *x = gr->samples.inputs[0]->t.data;
    const struct tensor *first = o->sweep.checked, *second = o->sweep.checked + 3;
    assert_true(o->sweep.n_checked >= 1);
    assert_memory_equal(first[1].data, x, (size_t)shape_elements(&first[1].shape) * sizeof *x);
    assert_memory_equal(first[2].data, first[0].data, (size_t)shape_elements(&first[0].shape) * sizeof *x);
    if (o->sweep.n_checked > 1)
        assert_memory_equal(second[1].data, x + shape_elements(&first[1].shape), (size_t)shape_elements(&second[1].shape) * sizeof *x);
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

/* Learned queries, repeated for each sample: known as soon as the batch is, and quantized like anything else. */
static void a_layer_that_sees_an_empty_batch_has_nothing_to_observe(void **state)
{
    (void)state;
    static const char *const names[] = { "minmax-w8a8", "percentile-w8a8", "repquant-w8a8" };
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,2,4,4] zero:i64{0} axes:i64{0,1,2,3}");
    MB_RANDOM(b, "a.weight", 1, 1, 3, 2, 2, 2);
    mb_nodes(b, "none = Slice(x zero zero zero); c = Conv(none a.weight); sum = ReduceSum(c axes) keepdims=0; y = Add(x sum)");
    mb_output(b, "y");
    struct ground *gr = ground_of(b, 9);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct recipe r = preset(names[i]);
        struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
        assert_true(o->sweep.layers[0].quantize);
        outcome_free(o);
    }
    ground_free(gr);
    mb_free(b);
}

static void an_operand_that_is_known_before_running_is_observed(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,4,3] zero:i64{0} rest:i64{2,4}");
    MB_RANDOM(b, "queries", 1, 0.01f, 1, 2, 4);
    mb_node(b, "Shape", "x", "s", "");
    mb_node(b, "Gather", "s zero", "n", "");
    mb_node(b, "Concat", "n rest", "to", "axis=0");
    MB_RANDOM(b, "p.weight", 2, 1, 4, 4);
    mb_node(b, "Expand", "queries to", "q", "");
    mb_node(b, "MatMul", "q p.weight", "p", "");
    mb_node(b, "MatMul", "p x", "out", "");
    mb_output(b, "out");
    struct ground *gr = ground_of(b, 9);
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    assert_int_equal(o->sweep.n_layers, 2);
    for (int i = 0; i < 2; i++)
        if (!(isolated_db(&o->sweep.layers[i]) > 25 && isolated_db(&o->sweep.layers[i]) < 100))
            fail_msg("%s: %.1f dB", o->sweep.layers[i].l->name, isolated_db(&o->sweep.layers[i]));
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

/* ---- regions ---- */

static void a_pre_norm_block_is_cut_where_one_tensor_is_alive(void **state)
{
    (void)state;
    struct builder *b = mb_new(17);
    struct err e = { 0 };
    mb_values(b, "x:f32[batch,3,4] mask:f32[batch,3,1] gamma:f32{1,1,1,1}");
    MB_RANDOM(b, "w", 1, 1, 4, 4);
    mb_node(b, "Exp", "mask", "m", "");                             /* 0: no site influences it */
    mb_node(b, "MatMul", "x w", "h", "");                           /* 1 */
    mb_node(b, "LayerNormalization", "h gamma", "n1", "");          /* 2: h alone */
    mb_node(b, "MatMul", "n1 w", "a", "");                          /* 3: h, n1 */
    mb_node(b, "Mul", "a m", "am", "");                             /* 4: h, a */
    mb_node(b, "Add", "h am", "h2", "");                            /* 5: h, am */
    mb_node(b, "LayerNormalization", "h2 gamma", "n2", "");         /* 6: h2 alone */
    mb_node(b, "MatMul", "n2 w", "f", "");                          /* 7: h2, n2 */
    mb_node(b, "Add", "h2 f", "out", "");                           /* 8: h2, f */
    mb_output(b, "out");
    struct arena *mem = arena_new(1 << 24);
    const struct graph *g = graph_load(mem, mb_model(b), op_eval, &e);
    need(g != NULL, &e);
    assert_int_equal(g->n_nodes, 9);
    bool quantized[9] = { 0 };
    for (int i = 0; i < g->n_nodes; i++)
        quantized[i] = g->nodes[i].op == OP_MATMUL;
    int region[9], cuts = regions_find(g, quantized, mem, region, &e);
    assert_int_equal(cuts, 3);
    int norm = 0, of[2] = { 0, 0 };
    for (int i = 0; i < 9; i++) {
        if (i > 0)
            assert_true(region[i] == region[i - 1] || region[i] == region[i - 1] + 1);
        if (g->nodes[i].op == OP_LAYERNORM) {
            assert_int_equal(region[i], region[i - 1] + 1);         /* each half of the block starts at its norm */
            of[norm++] = region[i];
        }
    }
    assert_true(norm == 2 && of[0] == 1 && of[1] == 2);
    arena_free(mem);
    mb_free(b);
}

static void what_leaves_the_graph_or_skips_ahead_keeps_regions_together(void **state)
{
    (void)state;
    static const struct { const char *outputs; int regions; } rows[] = { { "z", 3 }, { "y z", 3 }, { "a z", 2 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct builder *b = mb_new(17);
        struct err e = { 0 };
        mb_values(b, "x:f32[batch,4]");
        MB_RANDOM(b, "w", 1, 1, 4, 4);
        mb_node(b, "MatMul", "x w", "a", "");
        mb_node(b, "Relu", "a", "y", "");
        mb_node(b, "Exp", "y", "z", "");
        mb_output(b, rows[i].outputs);
        struct arena *mem = arena_new(1 << 24);
        const struct graph *g = graph_load(mem, mb_model(b), op_eval, &e);
        need(g != NULL, &e);
        int region[3];
        assert_int_equal(regions_find(g, (bool[]){ true, false, false }, mem, region, &e), rows[i].regions);
        arena_free(mem);
        mb_free(b);
    }
}

/* Their windows are rows of different length, though they read one tensor. */
static void two_convolutions_on_one_tensor_are_rebuilt_each_from_its_own_windows(void **state)
{
    (void)state;
    struct recipe r = preset("repquant-w8a8");
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,2,8,8]");
    MB_RANDOM(b, "narrow.weight", 1, 0.5f, 3, 2, 1, 1);
    MB_RANDOM(b, "wide.weight", 2, 0.5f, 5, 2, 4, 4);
    mb_node(b, "Conv", "x narrow.weight", "y", "kernel_shape=1,1");
    mb_node(b, "Conv", "x wide.weight", "z", "kernel_shape=4,4 strides=4,4");
    mb_output(b, "y z");
    struct ground *gr = ground_of(b, 9);
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    assert_int_equal(o->sweep.n_layers, 2);
    for (int i = 0; i < 2; i++)
        if (!(isolated_db(&o->sweep.layers[i]) > 30))
            fail_msg("%s: %.1f dB", o->sweep.layers[i].l->name, isolated_db(&o->sweep.layers[i]));
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

int main(void)
{
    digits = ground_digits(SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_memory_change_no_bit),
        cmocka_unit_test(every_layer_is_measured_and_no_figure_is_absurd),
        cmocka_unit_test(a_ratio_is_only_perfect_where_nothing_differs),
        cmocka_unit_test(the_metrics_are_the_worked_ones),
        cmocka_unit_test(biases_are_added_before_streams_are_compared),
        cmocka_unit_test(what_is_no_number_in_both_does_not_count_and_in_one_is_a_difference),
        cmocka_unit_test(with_every_layer_excluded_the_streams_are_the_same),
        cmocka_unit_test(excluded_and_overridden_layers_are_what_the_recipe_says),
        cmocka_unit_test(attention_and_convolutions_stay_float_where_the_recipe_says_so),
        cmocka_unit_test(a_tensor_that_becomes_infinite_ends_the_sweep_and_is_named),
        cmocka_unit_test(a_weight_that_is_not_finite_is_named),
        cmocka_unit_test(outputs_that_are_views_or_copies_of_inputs_are_kept),
        cmocka_unit_test(a_layer_that_sees_an_empty_batch_has_nothing_to_observe),
        cmocka_unit_test(an_operand_that_is_known_before_running_is_observed),
        cmocka_unit_test(a_pre_norm_block_is_cut_where_one_tensor_is_alive),
        cmocka_unit_test(two_convolutions_on_one_tensor_are_rebuilt_each_from_its_own_windows),
        cmocka_unit_test(what_leaves_the_graph_or_skips_ahead_keeps_regions_together),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ground_free(digits);
    return failed;
}
