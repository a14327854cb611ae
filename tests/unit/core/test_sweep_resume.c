/* A sweep that is killed anywhere and started again with what is left of its journal ends with the same bytes. */
#include <fcntl.h>

#include "tests/unit/core/sweep_fixture.h"

enum { SAMPLES = 24, FILE_HEAD = 8 + HASH_SIZE };

static char dir[] = "/tmp/test_sweep_resume.XXXXXX";
static struct ground *digits;

static struct recipe preset(const char *name) { return *recipe_preset(name); }

/* Durability is not what is tested here; hundreds of real syncs would take a minute on a slow disk. */
static int no_sync(int fd)
{
    (void)fd;
    return 0;
}

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

/* Cut behind every record (every `step`th), and one byte later, which is a torn record. */
static void check_every_record(const struct ground *gr, const struct recipe *r, size_t step)
{
    size_t ends[512];
    struct how_to how = { .recipe = r, .memory = UINT64_MAX, .dir = dir };
    no_journal();
    struct outcome *want = sweep_well(gr, &how);
    struct file f = read_journal();
    size_t n = record_ends(&f, ends, 512);
    assert_true(n > (size_t)want->sweep.n_sites);
    for (size_t i = 0; i < n; i += step)
        resume_from(gr, &how, want, f.p, ends[i] + (i % 2 && i + 1 < n), "journal cut", ends[i]);
    free(f.p);
    outcome_free(want);
}

static void a_sweep_cut_behind_any_record_ends_with_the_same_bytes(void **state)
{
    (void)state;
    struct recipe r = preset("minmax-w8a8"), rebuilt = preset("repquant-w4a4");
    check_every_record(digits, &r, 1);
    check_every_record(digits, &rebuilt, 5);
    /* Scales of groups; steps of two levels and zero points; thin matrices. */
    rebuilt.compensation.rank = 2;
    rebuilt.weights.group_size = 32;
    for (rebuilt.weights.granularity = RECIPE_PER_GROUP; rebuilt.weights.granularity <= RECIPE_TWO_LEVEL; rebuilt.weights.granularity++)
        check_every_record(digits, &rebuilt, 17);
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

static void check_every_stop(const char *name)
{
    struct recipe r = preset(name);
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

static void a_sweep_stopped_after_every_site_ends_with_the_same_bytes(void **state)
{
    (void)state;
    check_every_stop("minmax-w8a8");
    check_every_stop("repquant-w4a4");
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

/* How often each record of a type stands in the journal: no more than once, or work was done again. */
static void assert_each_record_once(void)
{
    struct file f = read_journal();
    uint8_t seen[5][512] = { 0 };
    for (size_t at = FILE_HEAD; at < f.n;) {
        uint32_t head[2];
        uint64_t size;
        memcpy(head, f.p + at, sizeof head);
        memcpy(&size, f.p + at + 8, sizeof size);
        assert_true(head[0] < 5 && head[1] < 512);
        if (seen[head[0]][head[1]]++)
            fail_msg("record %u of type %u is there twice", head[1], head[0]);
        at += 16 + size + HASH_SIZE;
    }
    free(f.p);
}

static void check_cost_of_resuming(const char *name)
{
    struct recipe r = preset(name);
    struct how_to whole = { .recipe = &r, .memory = UINT64_MAX }, part = whole;
    struct outcome *want = sweep_well(digits, &whole);
    const struct sweep *w = &want->sweep;
    assert_int_equal(w->searched_sites, w->n_sites);
    part.dir = dir;
    for (int k = 2; k < w->n_sites; k += w->n_sites / 4) {
        no_journal();
        part.stop_after = k;
        struct outcome *first = sweep_once(digits, &part);
        part.stop_after = 0;
        struct outcome *second = sweep_well(digits, &part), *third = sweep_well(digits, &part);
        assert_int_equal(second->sweep.replayed_sites, first->sweep.searched_sites);
        assert_int_equal(second->sweep.replayed_sites + second->sweep.searched_sites, w->n_sites);
        assert_int_equal(second->sweep.replayed_weights, first->sweep.made_weights);
        assert_int_equal(second->sweep.replayed_weights + second->sweep.made_weights, w->made_weights);
        assert_int_equal(third->sweep.searched_sites + third->sweep.made_weights, 0);
        if (first->sweep.passes + second->sweep.passes > w->passes + 2 || third->sweep.passes > 2)
            fail_msg("%s stopped after %d: %.2f and %.2f passes, %.2f from a whole journal; in one go %.2f", name, k, first->sweep.passes,
                     second->sweep.passes, third->sweep.passes, w->passes);
        assert_each_record_once();
        outcome_free(first);
        outcome_free(second);
        outcome_free(third);
    }
    outcome_free(want);
}

static void what_is_in_the_journal_is_not_done_again_and_costs_two_passes(void **state)
{
    (void)state;
    static const char *const names[] = { "minmax-w8a8", "smoothquant-w8a8", "zeroquant-w8a8", "repquant-w4a4", "repq-vit-w4a4" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_cost_of_resuming(names[i]);
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
    check_every_record(gr, &r, 1);
    ground_free(gr);
    mb_free(b);
}

int main(void)
{
    if (!mkdtemp(dir))
        return 1;
    sys.fsync = no_sync;
    digits = ground_digits(SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sweep_cut_behind_any_record_ends_with_the_same_bytes),
        cmocka_unit_test(a_torn_or_damaged_journal_ends_with_the_same_bytes),
        cmocka_unit_test(a_sweep_stopped_after_every_site_ends_with_the_same_bytes),
        cmocka_unit_test(a_sweep_stopped_anywhere_and_resumed_once_ends_with_the_same_bytes),
        cmocka_unit_test(what_is_in_the_journal_is_not_done_again_and_costs_two_passes),
        cmocka_unit_test(a_journal_of_another_task_is_not_used),
        cmocka_unit_test(a_fingerprint_tells_models_data_recipes_and_seeds_apart),
        cmocka_unit_test(a_convolution_that_feeds_a_convolution_resumes_like_any_other),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ground_free(digits);
    no_journal();
    rmdir(dir);
    return failed;
}
