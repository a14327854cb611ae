/*
 * The sweep's promises: however it is interrupted, however many threads it has and wherever its tensors lie, the
 * artifact and the report are the same to the last bit; and what it reports is what it did.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>

#include <cmocka.h>

#include "core/sweep/region.h"
#include "tests/unit/core/sweep_fixture.h"

enum { SAMPLES = 24, FILE_HEAD = 8 + HASH_SIZE };

static char dir[] = "/tmp/test_sweep.XXXXXX";
static struct ground *digits;

static struct recipe preset(const char *name) { return *recipe_preset(name); }

/* ---- the journal as bytes ---- */

struct file { char *p; size_t n; };

static const char *journal_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/journal", dir);
    return path;
}

static struct file read_journal(void)
{
    struct err e = { 0 };
    struct file f;
    int fd = open(journal_path(), O_RDONLY);
    need(fd >= 0 && io_read_all(fd, "journal", 1 << 28, &f.p, &f.n, &e), &e);
    close(fd);
    return f;
}

static void write_journal(const void *p, size_t n)
{
    int fd = open(journal_path(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && io_write_all(fd, p, n) == 0);
    close(fd);
}

static void no_journal(void) { unlink(journal_path()); }

/* Where each record ends; offsets[0] is the end of the head. */
static size_t record_ends(const struct file *f, size_t *offsets, size_t room)
{
    size_t n = 0, at = FILE_HEAD;
    offsets[n++] = at;
    while (at < f->n && n < room) {
        uint64_t size;
        memcpy(&size, f->p + at + 8, sizeof size);
        at += 16 + size + HASH_SIZE;
        offsets[n++] = at;
    }
    assert_true(at == f->n);
    return n;
}

/* ---- resuming ---- */

static void resume_from(const struct ground *gr, const struct how_to *how, const struct outcome *want, const void *p, size_t n,
                        const char *label, size_t at)
{
    char text[80];
    snprintf(text, sizeof text, "%s at %zu", label, at);
    write_journal(p, n);
    struct outcome *o = sweep_once(gr, how);
    assert_same(want, o, text);
    outcome_free(o);
}

/* Cut behind every record, and one byte later, which is a torn record. */
static void check_every_record(const struct ground *gr, const struct recipe *r)
{
    size_t ends[512];
    struct how_to how = { .recipe = r, .memory = UINT64_MAX, .dir = dir };
    no_journal();
    struct outcome *want = sweep_well(gr, &how);
    struct file f = read_journal();
    size_t n = record_ends(&f, ends, 512);
    assert_true(n > (size_t)want->sweep.n_sites);
    for (size_t i = 0; i < n; i++)
        resume_from(gr, &how, want, f.p, ends[i] + (i % 2 && i + 1 < n), "journal cut", ends[i]);
    free(f.p);
    outcome_free(want);
}

static void a_sweep_cut_behind_any_record_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    check_every_record(digits, &r);
}

static void a_torn_or_damaged_journal_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = preset("percentile-w8a8");
    struct how_to how = { .recipe = &r, .memory = UINT64_MAX, .dir = dir };
    no_journal();
    struct outcome *want = sweep_well(digits, &how);
    struct file f = read_journal();
    for (size_t i = 0; i < 12; i++) {
        size_t at = hash_mix(1, i) % f.n;
        resume_from(digits, &how, want, f.p, at, "torn", at);
        at = hash_mix(2, i) % f.n;
        f.p[at] ^= 1 << i % 8;
        resume_from(digits, &how, want, f.p, f.n, "flipped", at);
        f.p[at] ^= 1 << i % 8;
    }
    for (size_t at = 0; at < FILE_HEAD; at += 13)
        resume_from(digits, &how, want, f.p, at, "torn head", at);
    free(f.p);
    outcome_free(want);
}

static void a_sweep_stopped_after_every_site_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
    struct how_to whole = { .recipe = &r, .memory = UINT64_MAX }, step = whole;
    struct outcome *want = sweep_well(digits, &whole);
    no_journal();
    step.dir = dir;
    step.stop_after = 1;
    int stops = 0, replayed = -1;
    struct outcome *o = sweep_once(digits, &step);
    for (; !o->ok; stops++) {
        assert_int_equal(o->e.code, ERR_CANCELED);
        assert_true(o->sweep.replayed_sites > replayed);      /* each attempt starts where the last one stopped */
        replayed = o->sweep.replayed_sites;
        outcome_free(o);
        o = sweep_once(digits, &step);
    }
    assert_true(stops > 10);
    assert_same(want, o, "stopped again and again");
    outcome_free(o);
    outcome_free(want);
}

static void a_sweep_stopped_anywhere_and_resumed_once_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = preset("percentile-w8a8");
    struct how_to whole = { .recipe = &r, .memory = UINT64_MAX };
    struct outcome *want = sweep_well(digits, &whole);
    for (int k = 1; k < want->sweep.n_sites; k += 3) {
        struct how_to part = whole;
        no_journal();
        part.dir = dir;
        part.stop_after = k;
        struct outcome *o = sweep_once(digits, &part);
        if (!o->ok)
            assert_int_equal(o->e.code, ERR_CANCELED);
        outcome_free(o);
        part.stop_after = 0;
        part.threads = 2;
        o = sweep_once(digits, &part);
        assert_true(o->sweep.replayed_sites >= k);
        assert_same(want, o, "stopped and resumed");
        outcome_free(o);
    }
    outcome_free(want);
}

static void a_journal_of_another_task_is_not_used(void **state)
{
    (void)state;
    struct recipe a = preset("minmax-w8a8"), b = preset("percentile-w8a8");
    struct how_to first = { .recipe = &a, .memory = UINT64_MAX, .dir = dir, .task = 1 };
    struct how_to second = { .recipe = &b, .memory = UINT64_MAX, .dir = dir, .task = 2 }, alone = second;
    alone.dir = NULL;
    no_journal();
    struct outcome *want = sweep_well(digits, &alone), *other = sweep_well(digits, &first);
    struct outcome *got = sweep_well(digits, &second);
    assert_int_equal(got->sweep.replayed_sites, 0);
    assert_same(want, got, "beside another task's journal");
    outcome_free(got);
    got = sweep_well(digits, &second);      /* and what it left belongs to it now */
    assert_int_equal(got->sweep.replayed_sites, got->sweep.n_sites);
    assert_same(want, got, "from its own journal");
    outcome_free(got);
    outcome_free(other);
    outcome_free(want);
}

static void a_fingerprint_tells_models_data_recipes_and_seeds_apart(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8"), r2 = r;
    uint8_t a[HASH_SIZE] = { 1 }, b[HASH_SIZE] = { 2 }, got[5][HASH_SIZE], again[HASH_SIZE];
    r2.activations.bits = 7;
    sweep_fingerprint(a, b, &r, 0, got[0]);
    sweep_fingerprint(b, b, &r, 0, got[1]);
    sweep_fingerprint(a, a, &r, 0, got[2]);
    sweep_fingerprint(a, b, &r2, 0, got[3]);
    sweep_fingerprint(a, b, &r, 1, got[4]);
    sweep_fingerprint(a, b, &r, 0, again);
    assert_memory_equal(got[0], again, HASH_SIZE);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(got[i], got[k], HASH_SIZE);
}

/* Two convolutions in a row: one tensor is the first one's output and the second one's input. */
static struct builder *conv_on_conv(void)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,2,6,6]");
    MB_RANDOM(b, "c1.weight", 1, 0.5f, 4, 2, 3, 3);
    MB_RANDOM(b, "c2.weight", 2, 0.5f, 3, 4, 3, 3);
    MB_RANDOM(b, "fc.weight", 3, 0.5f, 12, 5);
    mb_node(b, "Conv", "x c1.weight", "y", "kernel_shape=3,3");
    mb_node(b, "Conv", "y c2.weight", "z", "kernel_shape=3,3");
    mb_node(b, "Flatten", "z", "f", "");
    mb_node(b, "Gemm", "f fc.weight", "out", "");
    mb_output(b, "out");
    return b;
}

static void a_convolution_that_feeds_a_convolution_resumes_like_any_other(void **state)
{
    (void)state;
    struct recipe r = preset("percentile-w8a8");
    r.activations.percentile = 95;
    struct builder *b = conv_on_conv();
    struct ground *gr = ground_of(b, 9);
    check_every_record(gr, &r);
    ground_free(gr);
    mb_free(b);
}

/* ---- threads and memory ---- */

static void threads_and_memory_change_no_bit(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8");
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
    r.overrides[0] = (struct recipe_override){ "blocks.1.*", 4, 6 };
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

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    digits = ground_digits(SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sweep_cut_behind_any_record_ends_with_the_same_bytes),
        cmocka_unit_test(a_torn_or_damaged_journal_ends_with_the_same_bytes),
        cmocka_unit_test(a_sweep_stopped_after_every_site_ends_with_the_same_bytes),
        cmocka_unit_test(a_sweep_stopped_anywhere_and_resumed_once_ends_with_the_same_bytes),
        cmocka_unit_test(a_journal_of_another_task_is_not_used),
        cmocka_unit_test(a_fingerprint_tells_models_data_recipes_and_seeds_apart),
        cmocka_unit_test(a_convolution_that_feeds_a_convolution_resumes_like_any_other),
        cmocka_unit_test(threads_and_memory_change_no_bit),
        cmocka_unit_test(every_layer_is_measured_and_no_figure_is_absurd),
        cmocka_unit_test(with_every_layer_excluded_the_streams_are_the_same),
        cmocka_unit_test(excluded_and_overridden_layers_are_what_the_recipe_says),
        cmocka_unit_test(attention_and_convolutions_stay_float_where_the_recipe_says_so),
        cmocka_unit_test(a_tensor_that_becomes_infinite_ends_the_sweep_and_is_named),
        cmocka_unit_test(a_weight_that_is_not_finite_is_named),
        cmocka_unit_test(outputs_that_are_views_or_copies_of_inputs_are_kept),
        cmocka_unit_test(an_operand_that_is_known_before_running_is_observed),
        cmocka_unit_test(a_pre_norm_block_is_cut_where_one_tensor_is_alive),
        cmocka_unit_test(what_leaves_the_graph_or_skips_ahead_keeps_regions_together),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ground_free(digits);
    no_journal();
    rmdir(dir);
    return failed;
}
