/* Blocks that are taught as a whole: where they begin and end, what is kept, that nothing else of a sweep's promises is lost. */
#include <math.h>
#include <sys/stat.h>

#include "core/learn/learn.h"
#include "core/sweep/blocks.h"
#include "tests/unit/core/sweep_fixture.h"

enum { SAMPLES = 32 };

static struct ground *digits;
static char dir[] = "/tmp/test_blocks.XXXXXX";

static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

/* A preset at 4-bit weights, its blocks taught a little. */
static struct recipe taught(const char *name, enum recipe_pupil input, int steps)
{
    struct recipe r = *recipe_preset(name);
    r.weights.bits = 4;
    r.reconstruction.blocks = true;
    r.distillation.input = input;
    r.distillation.steps = steps;
    r.distillation.batch = 16;
    r.distillation.rate = 0.02;
    r.distillation.decay = 0.01;
    r.distillation.held_out = 25;
    return r;
}

static double logits_db(const struct outcome *o)
{
    const struct sweep_layer *head = &o->sweep.layers[o->sweep.n_layers - 1];
    assert_string_equal(head->l->name, "head");
    return errors_sqnr_db(head->accumulated.signal, head->accumulated.noise);
}

/* ---- where blocks begin and end ---- */

static void the_blocks_of_a_pre_norm_model_are_its_layers(void **state)
{
    (void)state;
    struct recipe r = taught("minmax-w8a8", RECIPE_TEACHER, 1);
    struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    const struct graph *g = digits->g;
    assert_int_equal(o->sweep.n_blocks, 4);
    for (int i = 0; i < 4; i++) {
        const struct sweep_block *b = &o->sweep.blocks[i];
        char name[20];
        snprintf(name, sizeof name, "blocks.%d", i);
        assert_string_equal(b->name, name);
        assert_true(b->done && b->result.reason[0] == '\0');
        assert_true(b->in >= 0 && shape_equal(&g->values[b->in].shape, &g->values[b->out].shape));
        assert_true(i == 0 || b->in == o->sweep.blocks[i - 1].out);
        for (int k = 0; k < o->sweep.n_layers; k++) {
            const struct layer *l = o->sweep.layers[k].l;
            assert_true((strcmp(l->block, name) == 0) == (l->node >= b->first && l->node < b->end));
        }
    }
    outcome_free(o);
}

/* The embedding is influenced by nothing quantized, norms stand behind their additions, and the last one belongs to its block. */
static struct builder *post_norm(bool strange)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,6,8] half:f32(0.5)");
    for (int i = 0; i < 2; i++) {
        char text[1000];
        static const struct { const char *name; int64_t k, n; } weights[] = { { "q", 8, 8 }, { "k", 8, 8 }, { "v", 8, 8 }, { "o", 8, 8 },
                                                                              { "fc1", 8, 16 }, { "fc2", 16, 8 } };
        for (size_t w = 0; w < sizeof weights / sizeof weights[0]; w++) {
            snprintf(text, sizeof text, "layer.%d.%s.weight", i, weights[w].name);
            mb_random(b, mb_copy(b, text, strlen(text)), (uint64_t)i * 10 + w, 0.6f, 2, (int64_t[]){ weights[w].k, weights[w].n });
        }
        snprintf(text, sizeof text, "g%d:f32{1,0.9,1.1,1,1.2,0.8,1,1} s%d:f32{0.1,0,-0.1,0.2,0,0,0.1,0}", i, i);
        mb_values(b, text);
        snprintf(text, sizeof text,
                 "q%1$d = MatMul(h%1$d layer.%1$d.q.weight); k%1$d = MatMul(h%1$d layer.%1$d.k.weight); v%1$d = MatMul(h%1$d layer.%1$d.v.weight);"
                 "kt%1$d = Transpose(k%1$d) perm=0,2,1; l%1$d = MatMul(q%1$d kt%1$d); m%1$d = Mul(l%1$d half); p%1$d = Softmax(m%1$d) axis=-1;"
                 "c%1$d = MatMul(p%1$d v%1$d); o%1$d = MatMul(c%1$d layer.%1$d.o.weight); r%1$d = Add(h%1$d o%1$d);"
                 "n%1$d = LayerNormalization(r%1$d g%1$d s%1$d); f%1$d = MatMul(n%1$d layer.%1$d.fc1.weight); a%1$d = %2$s(f%1$d);"
                 "d%1$d = MatMul(a%1$d layer.%1$d.fc2.weight); t%1$d = Add(d%1$d n%1$d); h%3$d = LayerNormalization(t%1$d g%1$d s%1$d);",
                 i, strange && i == 1 ? "Sin" : "Relu", i + 1);
        if (i == 0)
            mb_nodes(b, "h0 = Tanh(x);");
        mb_nodes(b, text);
    }
    mb_nodes(b, "out = Neg(h2)");
    mb_output(b, "out");
    return b;
}

static const char *value_name(const struct ground *gr, int v) { return v >= 0 ? gr->g->values[v].name : ""; }

static void a_post_norm_block_ends_behind_its_norm(void **state)
{
    (void)state;
    struct recipe r = taught("minmax-w8a8", RECIPE_BOTH, 12);
    struct builder *b = post_norm(false);
    struct ground *gr = ground_of(b, 40);
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    assert_int_equal(o->sweep.n_blocks, 2);
    assert_string_equal(o->sweep.blocks[0].name, "layer.0");
    assert_int_equal(o->sweep.blocks[0].in, -1);
    assert_string_equal(value_name(gr, o->sweep.blocks[0].out), "h1");
    assert_string_equal(value_name(gr, o->sweep.blocks[1].in), "h1");
    for (int i = 0; i < 2; i++) {
        const struct block_result *res = &o->sweep.blocks[i].result;
        assert_true(res->reason[0] == '\0' && res->kept && res->after < res->before && res->products > 0);
    }
    for (int i = 0; i < o->sweep.n_layers; i++)
        assert_true(o->sweep.layers[i].measured && o->sweep.layers[i].accumulated.n > 0);
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

/* ---- what has no derivative is told, and left as it was ---- */

struct told { int count; char code[40], where[40], detail[400]; };

static void take_warning(void *arg, const char *code, const char *where, const char *detail)
{
    struct told *t = arg;
    if (strncmp(code, "distillation", 12) != 0)
        return;
    t->count++;
    snprintf(t->code, sizeof t->code, "%s", code);
    snprintf(t->where, sizeof t->where, "%s", where);
    snprintf(t->detail, sizeof t->detail, "%s", detail);
}

static void a_block_with_a_strange_operator_is_refused_by_name(void **state)
{
    (void)state;
    struct recipe r = taught("minmax-w8a8", RECIPE_STUDENT, 8);
    struct builder *b = post_norm(true);
    struct ground *gr = ground_of(b, 40);
    struct told told = { 0 };
    struct events events = { .arg = &told, .warning = take_warning };
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX, .events = &events });
    assert_int_equal(told.count, 1);
    assert_string_equal(told.code, "distillation.refused");
    assert_string_equal(told.where, "layer.1");
    assert_non_null(strstr(told.detail, "(Sin)"));
    assert_true(o->sweep.blocks[0].result.kept && !o->sweep.blocks[1].result.kept && o->sweep.blocks[1].done);
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

static void too_few_samples_are_told(void **state)
{
    (void)state;
    struct recipe r = taught("minmax-w8a8", RECIPE_TEACHER, 8);
    struct ground *few = ground_digits(4);
    struct told told = { 0 };
    struct events events = { .arg = &told, .warning = take_warning };
    struct outcome *o = sweep_well(few, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX, .events = &events });
    assert_int_equal(told.count, 4);
    assert_non_null(strstr(told.detail, "give more"));
    outcome_free(o);
    ground_free(few);
}

/* ---- what is gained, and kept only then ---- */

static void teaching_lowers_the_error_on_samples_kept_out(void **state)
{
    (void)state;
    for (int input = RECIPE_TEACHER; input <= RECIPE_BOTH; input++) {
        struct recipe r = taught("minmax-w8a8", (enum recipe_pupil)input, 40), plain = *recipe_preset("minmax-w8a8");
        plain.weights.bits = 4;
        struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
        struct outcome *was = sweep_well(digits, &(struct how_to){ .recipe = &plain, .memory = UINT64_MAX });
        int kept = 0;
        for (int i = 0; i < o->sweep.n_blocks; i++) {
            const struct block_result *b = &o->sweep.blocks[i].result;
            assert_true(b->before > 0 && b->after <= b->before && (b->kept == (b->after < b->before)));
            kept += b->kept;
        }
        assert_true(kept >= 3);
        if (!(logits_db(o) > logits_db(was) + 1))
            fail_msg("input %d: %.2f dB without, %.2f dB with", input, logits_db(was), logits_db(o));
        outcome_free(was);
        outcome_free(o);
    }
}

/* A rate that wrecks everything: nothing is better, so nothing changes, to the last byte of the artifact. */
static void what_is_not_better_is_not_kept(void **state)
{
    (void)state;
    struct recipe r = taught("minmax-w8a8", RECIPE_TEACHER, 4), plain = *recipe_preset("minmax-w8a8");
    plain.weights.bits = 4;
    r.distillation.rate = 1;
    struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    struct outcome *was = sweep_well(digits, &(struct how_to){ .recipe = &plain, .memory = UINT64_MAX });
    for (int i = 0; i < o->sweep.n_blocks; i++)
        assert_true(!o->sweep.blocks[i].result.kept && o->sweep.blocks[i].result.after == o->sweep.blocks[i].result.before);
    assert_same(was, o, "nothing kept");
    outcome_free(was);
    outcome_free(o);
}

/* The artifact, run by itself, gives what the quantized stream gave: learned norms, biases and steps are all in it. */
static void the_artifact_holds_what_was_learned(void **state)
{
    (void)state;
    static const char *const names[] = { "minmax-w8a8", "smoothquant-w8a8", "smoothquant-group-w8a8", "repquant-w4a4" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct recipe r = taught(names[i], RECIPE_STUDENT, 12);
        r.weights.rounding = RECIPE_NEAREST;
        struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
        int kept = 0;
        for (int k = 0; k < o->sweep.n_blocks; k++)
            kept += o->sweep.blocks[k].result.kept;
        if (!kept)
            fail_msg("%s: no block is better", names[i]);
        struct err e = { 0 };
        struct shape shape;
        struct lowering how;
        struct graph *g = graph_load(o->mem, &o->artifact, op_eval, &e);
        need(g && lowering_from_qdq(&how, g, o->mem, &e), &e);
        struct samples first = digits->samples;
        struct array x = *first.inputs[0], *list[] = { &x };
        const struct tensor *want = &o->sweep.checked[0];
        x.t.shape.dim[0] = want->shape.dim[0];
        first.inputs = (void *)list;
        const float *y = run_all(g, &how, &first, o->mem, &shape);
        struct errors sums = { 0 };
        errors_add(&sums, want->data, y, (size_t)shape_elements(&shape));
        if (!(errors_sqnr_db(sums.signal, sums.noise) > 60))
            fail_msg("%s: the artifact is %.1f dB off", names[i], errors_sqnr_db(sums.signal, sums.noise));
        outcome_free(o);
    }
}

/* ---- threads, memory, interruptions ---- */

static void threads_and_memory_change_no_bit(void **state)
{
    (void)state;
    struct recipe r = taught("repquant-w4a4", RECIPE_BOTH, 6);
    struct outcome *want = sweep_well(digits, &(struct how_to){ .recipe = &r, .threads = 1, .memory = UINT64_MAX });
    for (int threads = 1; threads <= 3; threads++) {
        struct outcome *o = sweep_well(digits, &(struct how_to){ .recipe = &r, .threads = threads, .memory = threads == 2 ? 0 : 100000 });
        assert_same(want, o, threads == 2 ? "2 threads, no memory" : threads == 1 ? "1 thread, little memory" : "3 threads, little memory");
        outcome_free(o);
    }
    outcome_free(want);
}

static void a_sweep_stopped_after_every_site_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = taught("repquant-w4a4", RECIPE_STUDENT, 4);
    struct how_to whole = { .recipe = &r, .memory = UINT64_MAX }, step = whole;
    struct outcome *want = sweep_well(digits, &whole);
    char path[64];
    snprintf(path, sizeof path, "%s/journal", dir);
    unlink(path);
    step.dir = dir;
    step.stop_after = 3;
    int stops = 0;
    struct outcome *o = sweep_once(digits, &step);
    for (; !o->ok; stops++) {
        assert_int_equal(o->e.code, ERR_CANCELED);
        outcome_free(o);
        o = sweep_once(digits, &step);
    }
    assert_true(stops > 5);
    assert_same(want, o, "stopped again and again");
    for (int i = 0; i < want->sweep.n_blocks; i++)
        assert_true(want->sweep.blocks[i].result.kept == o->sweep.blocks[i].result.kept
                    && want->sweep.blocks[i].result.after == o->sweep.blocks[i].result.after);
    outcome_free(o);
    o = sweep_well(digits, &step);                 /* all of it from the journal */
    assert_same(want, o, "replayed");
    outcome_free(o);
    outcome_free(want);
    unlink(path);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    sys.fsync = no_sync;
    digits = ground_digits(SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_blocks_of_a_pre_norm_model_are_its_layers),
        cmocka_unit_test(a_post_norm_block_ends_behind_its_norm),
        cmocka_unit_test(a_block_with_a_strange_operator_is_refused_by_name),
        cmocka_unit_test(too_few_samples_are_told),
        cmocka_unit_test(teaching_lowers_the_error_on_samples_kept_out),
        cmocka_unit_test(what_is_not_better_is_not_kept),
        cmocka_unit_test(the_artifact_holds_what_was_learned),
        cmocka_unit_test(threads_and_memory_change_no_bit),
        cmocka_unit_test(a_sweep_stopped_after_every_site_ends_with_the_same_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ground_free(digits);
    rmdir(dir);
    return failed;
}
