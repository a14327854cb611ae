/* Factors that the linear before takes up: where there is a way for them, that it is the right one, and that nothing else changes. */
#include <math.h>

#include "core/sweep/absorb.h"
#include "tests/unit/core/sweep_fixture.h"

enum { ROWS_GIVEN = 16 };

/* ---- small networks; in every one the last MatMul reads what `site` names ---- */

static void linear(struct builder *b, const char *x, const char *name, uint64_t seed, int64_t k, int64_t n)
{
    char weight[32], in[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    mb_random(b, mb_copy(b, weight, strlen(weight)), seed, 1, 2, (int64_t[]){ k, n });
    snprintf(in, sizeof in, "%s %s", x, weight);
    mb_node(b, "MatMul", in, name, "");
}

/* gate and up, and a bias on up; `more`: one more reader of up. */
static struct builder *gated(const char *more)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,5,8]");
    linear(b, "x", "gate", 1, 8, 12);
    linear(b, "x", "up_product", 2, 8, 12);
    MB_RANDOM(b, "up.bias", 3, 1, 12);
    mb_node(b, "Add", "up_product up.bias", "up", "");
    mb_node(b, "Sigmoid", "gate", "sigmoid", "");
    mb_node(b, "Mul", "gate sigmoid", "silu", "");
    mb_node(b, "Mul", "silu up", "inner", "");
    linear(b, "inner", "down", 4, 12, 8);
    if (more[0])
        mb_node(b, more, "up", "extra", "");
    mb_output(b, "down");
    if (more[0])
        mb_output(b, "extra");
    return b;
}

/* fc1 -> activation -> fc2. */
static struct builder *plain(const char *activation)
{
    struct builder *b = mb_new(20);
    mb_values(b, "x:f32[batch,5,8]");
    linear(b, "x", "fc1", 1, 8, 12);
    mb_node(b, activation, "fc1", "inner", "");
    linear(b, "inner", "fc2", 2, 12, 8);
    mb_output(b, "fc2");
    return b;
}

/* fc1 -> Relu -> fc2 -> Relu -> fc3: fc2 reads one site and makes the next. */
static struct builder *chained(void)
{
    struct builder *b = mb_new(20);
    mb_values(b, "x:f32[batch,5,8]");
    linear(b, "x", "fc1", 1, 8, 12);
    mb_node(b, "Relu", "fc1", "first", "");
    linear(b, "first", "fc2", 2, 12, 10);
    mb_node(b, "Relu", "fc2", "inner", "");
    linear(b, "inner", "fc3", 3, 10, 8);
    mb_output(b, "fc3");
    return b;
}

/* Four query heads of 4 on two key-value heads, repeated by Expand; `mixed`: as if tokens were heads, so that p.v adds unlike channels. */
static struct builder *grouped(bool mixed)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,5,8] q_shape:i64{0,5,4,4} v_shape:i64{0,5,2,1,4} wide:i64{1,5,2,2,4} v_wide:i64{0,5,4,4} v_mixed:i64{0,4,5,4} o_shape:i64{0,5,16}");
    linear(b, "x", "q", 1, 8, 16);
    linear(b, "x", "k", 2, 8, 16);
    linear(b, "x", "v", 3, 8, 8);
    mb_node(b, "Reshape", "q q_shape", "q4", "");
    mb_node(b, "Transpose", "q4", "qt", "perm=0,2,1,3");
    mb_node(b, "Reshape", "k q_shape", "k4", "");
    mb_node(b, "Transpose", "k4", "kt", "perm=0,2,3,1");
    mb_node(b, "MatMul", "qt kt", "qk", "");
    mb_node(b, "Softmax", "qk", "p", "axis=-1");
    mb_node(b, "Reshape", "v v_shape", "v5", "");
    mb_node(b, "Expand", "v5 wide", "v5w", "");
    mb_node(b, "Reshape", mixed ? "v5w v_mixed" : "v5w v_wide", "v4", "");
    mb_node(b, "Transpose", "v4", "vt", mixed ? "perm=0,1,2,3" : "perm=0,2,1,3");
    mb_node(b, "MatMul", "p vt", "pv", "");
    mb_node(b, "Transpose", "pv", "pt", "perm=0,2,1,3");
    mb_node(b, "Reshape", "pt o_shape", "o_in", "");
    linear(b, "o_in", "o", 4, 16, 8);
    mb_output(b, "o");
    return b;
}

/* q, k and v from one linear; `overlap`: k begins inside v. */
static struct builder *fused(bool overlap)
{
    struct builder *b = mb_new(17);
    mb_values(b, "x:f32[batch,5,8] heads:i64{0,5,2,4} o_shape:i64{0,5,8} 0:i64{0} 8:i64{8} 16:i64{16} 24:i64{24} 12:i64{12} 20:i64{20} last:i64{2}");
    linear(b, "x", "qkv", 1, 8, 24);
    mb_node(b, "Slice", "qkv 0 8 last", "q", "");
    mb_node(b, "Slice", overlap ? "qkv 12 20 last" : "qkv 8 16 last", "k", "");
    mb_node(b, "Slice", "qkv 16 24 last", "v", "");
    mb_node(b, "Reshape", "q heads", "q4", "");
    mb_node(b, "Transpose", "q4", "qt", "perm=0,2,1,3");
    mb_node(b, "Reshape", "k heads", "k4", "");
    mb_node(b, "Transpose", "k4", "kt", "perm=0,2,3,1");
    mb_node(b, "Reshape", "v heads", "v4", "");
    mb_node(b, "Transpose", "v4", "vt", "perm=0,2,1,3");
    mb_node(b, "MatMul", "qt kt", "qk", "");
    mb_node(b, "Softmax", "qk", "p", "axis=-1");
    mb_node(b, "MatMul", "p vt", "pv", "");
    mb_node(b, "Transpose", "pv", "pt", "perm=0,2,1,3");
    mb_node(b, "Reshape", "pt o_shape", "o_in", "");
    linear(b, "o_in", "o", 4, 8, 8);
    mb_output(b, "o");
    return b;
}

/* ---- a sweep over one of them ---- */

struct run { struct builder *b; struct ground *gr; struct recipe recipe; struct outcome *o; };

static struct run run_of(struct builder *b, double alpha)
{
    struct run r = { .b = b, .gr = ground_of(b, ROWS_GIVEN), .recipe = *recipe_preset("smoothquant-w8a8") };
    r.recipe.smoothing.alpha = alpha;
    r.o = sweep_well(r.gr, &(struct how_to){ .recipe = &r.recipe, .threads = 2, .memory = UINT64_MAX });
    return r;
}

static void run_free(struct run *r)
{
    outcome_free(r->o);
    ground_free(r->gr);
    mb_free(r->b);
}

static const struct site *site_of(const struct run *r, const char *value)
{
    for (int i = 0; i < r->o->sweep.n_sites; i++)
        if (strcmp(r->gr->g->values[r->o->sweep.sites[i].value].name, value) == 0)
            return &r->o->sweep.sites[i];
    fail_msg("no site %s", value);
    return NULL;
}

/* The float network is what it was, and not because nothing changed. */
static void check_unchanged(const struct run *r, const char *label)
{
    struct err e = { 0 };
    struct lowering how;
    struct shape shape;
    const struct graph *changed = r->o->sweep.g;
    assert_ptr_not_equal(changed, r->gr->g);
    need(lowering_new(&how, r->gr->g, r->o->mem, &e), &e);
    float *a = run_all(r->gr->g, &how, &r->gr->samples, r->o->mem, &shape);
    float *b = run_all(changed, &how, &r->gr->samples, r->o->mem, &shape);
    double off = 0, largest = 0;
    for (int64_t i = 0; i < shape_elements(&shape); i++) {
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)a[i]));
    }
    if (!(off <= 2e-6 * largest))
        fail_msg("%s: off by %g of %g", label, off, largest);
    bool same = true;
    for (int i = 0; i < changed->n_values; i++)
        same &= changed->values[i].data == r->gr->g->values[i].data;
    assert_false(same);
}

static void check_absorbed(struct builder *b, const char *value)
{
    struct run r = run_of(b, 0.5);
    const struct site *s = site_of(&r, value);
    if (!s->absorbed || s->q.mul)
        fail_msg("%s: nothing before it took its factors up", value);
    assert_true(s->q.exponent == 0.5);
    check_unchanged(&r, value);
    run_free(&r);
}

static void check_multiplied(struct builder *b, const char *value)
{
    struct run r = run_of(b, 0.5);
    const struct site *s = site_of(&r, value);
    if (s->absorbed || !s->q.mul)
        fail_msg("%s: its factors went somewhere they must not", value);
    assert_ptr_equal(r.o->sweep.g, r.gr->g);
    run_free(&r);
}

static void the_linear_before_takes_factors_up_where_it_can(void **state)
{
    (void)state;
    check_absorbed(gated(""), "inner");
    check_absorbed(plain("Relu"), "inner");
    check_absorbed(grouped(false), "o_in");
    check_absorbed(fused(false), "o_in");
}

static void a_linear_may_read_one_site_and_make_the_next(void **state)
{
    (void)state;
    check_absorbed(chained(), "first");
    check_absorbed(chained(), "inner");
}

static void elsewhere_a_mul_does_and_the_network_stays(void **state)
{
    (void)state;
    check_multiplied(gated("Neg"), "inner");           /* somebody else reads up */
    check_multiplied(plain("Gelu"), "inner");          /* GELU(x / s) is something else */
    check_multiplied(plain("Tanh"), "inner");
    check_multiplied(fused(true), "o_in");             /* k has some of v's channels */
}

static void without_multiply_what_cannot_fold_stays_as_it_is(void **state)
{
    (void)state;
    struct builder *b = plain("Gelu");
    struct ground *gr = ground_of(b, ROWS_GIVEN);
    struct recipe r = *recipe_preset("smoothquant-w8a8");
    r.smoothing.multiply = false;
    r.smoothing.alpha = 0.5;
    struct outcome *o = sweep_well(gr, &(struct how_to){ .recipe = &r, .memory = UINT64_MAX });
    for (int i = 0; i < o->sweep.n_sites; i++)
        assert_true(!o->sweep.sites[i].q.mul && !o->sweep.sites[i].absorbed);
    outcome_free(o);
    ground_free(gr);
    mb_free(b);
}

/* Query heads 0 and 1 read key-value head 0: channels 4 h + d of o come from channel 4 (h / 2) + d of v. */
static void query_heads_of_a_group_have_one_factor(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct run r = run_of(grouped(false), 0.5);
    struct absorb_path path;
    struct frame f = { 0 };
    struct lowering how;
    bool fits;
    int site = (int)(site_of(&r, "o_in") - r.o->sweep.sites);
    assert_true(absorb_trace(&r.o->task, &r.o->sweep, site, &path));
    need(lowering_new(&how, r.gr->g, r.o->mem, &e) && chunk_bind(&r.o->sweep.chunks, 0, &how, &f, &e), &e);
    need(absorb_map(r.gr->g, &r.o->sweep, &f, r.o->mem, &path, &fits, &e), &e);
    assert_true(fits);
    for (int c = 0; c < 16; c++)
        assert_int_equal(path.map[c], c / 8 * 4 + c % 4);
    frame_release(&f);
    run_free(&r);
}

static void a_group_that_mixes_channels_is_left_alone(void **state)
{
    (void)state;
    struct run r = run_of(grouped(true), 0.5);
    assert_false(site_of(&r, "o_in")->absorbed);
    run_free(&r);
}

static void alpha_by_search_gives_the_same_bytes_on_any_number_of_threads(void **state)
{
    (void)state;
    struct builder *b = grouped(false);
    struct ground *gr = ground_of(b, ROWS_GIVEN);
    struct outcome *o[2];
    for (int i = 0; i < 2; i++)
        o[i] = sweep_well(gr, &(struct how_to){ .recipe = recipe_preset("smoothquant-w8a8"), .threads = 1 + 2 * i,
                                                .memory = i ? 0 : UINT64_MAX });
    assert_same(o[0], o[1], "threads and memory");
    outcome_free(o[0]);
    outcome_free(o[1]);
    ground_free(gr);
    mb_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_linear_before_takes_factors_up_where_it_can),
        cmocka_unit_test(a_linear_may_read_one_site_and_make_the_next),
        cmocka_unit_test(elsewhere_a_mul_does_and_the_network_stays),
        cmocka_unit_test(without_multiply_what_cannot_fold_stays_as_it_is),
        cmocka_unit_test(query_heads_of_a_group_have_one_factor),
        cmocka_unit_test(a_group_that_mixes_channels_is_left_alone),
        cmocka_unit_test(alpha_by_search_gives_the_same_bytes_on_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
