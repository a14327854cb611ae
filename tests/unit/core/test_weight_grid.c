/* Which weights share a scale, and the worked examples of the specification: E2, E4b, E4c. */
#include "core/exec/lowering.h"
#include "core/quant/quantizer.h"
#include "tests/unit/core/reconstruct_fixture.h"

/* One output channel of eight weights, in two groups. */
static const float eight[8] = { .70f, -.38f, .11f, .22f, -.05f, .021f, .033f, -.012f };

static struct qweight rounded(size_t k, size_t n, const float *w, int bits, struct weight_grid grid, bool symmetric)
{
    struct err e = { 0 };
    struct value v = { .name = "w", .dtype = DT_F32, .is_const = true, .data = w };
    struct graph g = { .values = &v, .n_values = 1 };
    struct layer l = { .kind = LAYER_LINEAR, .name = "fc", .k = (int64_t)k, .n = (int64_t)n };
    struct qweight q;
    if (!qweight_round(&g, &l, NULL, bits, &grid, symmetric, mem, &q, &e))
        fail_msg("%s", e.text);
    return q;
}

static void four_bits_in_groups_of_four_are_the_worked_ones(void **state)
{
    (void)state;
    static const struct { size_t group; bool symmetric; double scale[2]; int zero[2], code[8]; double mse; } rows[] = {
        { 4, true, { .1, .007142857 }, { 0, 0 }, { 7, -4, 1, 2, -7, 3, 5, -2 }, 1.14097e-4 },
        { 0, true, { .1, 0 }, { 0, 0 }, { 7, -4, 1, 2, 0, 0, 0, 0 }, 6.34250e-4 },
        { 4, false, { .072, .005533333 }, { 5 - 8, 9 - 8 }, { 15 - 8, 0 - 8, 7 - 8, 8 - 8, 0 - 8, 13 - 8, 15 - 8, 7 - 8 }, 2.46779e-4 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct qweight q = rounded(8, 1, eight, 4, (struct weight_grid){ .rows = 1, .group = rows[i].group }, rows[i].symmetric);
        assert_int_equal(qweight_groups(&q), rows[i].group ? 2 : 1);
        for (size_t g = 0; g < qweight_groups(&q); g++) {
            near((double)q.scale[g], rows[i].scale[g], 1e-8, "scale");
            assert_true(rows[i].symmetric ? !q.zero : q.zero[g] == rows[i].zero[g]);
        }
        for (size_t k = 0; k < 8; k++)
            assert_int_equal(q.codes[k], rows[i].code[k]);
        near(q.error / 8, rows[i].mse, 1e-9, "mean squared error");
    }
    static const uint8_t packed[] = { 0xc7, 0x21, 0x39, 0xe5 };
    struct qweight q = rounded(8, 1, eight, 4, (struct weight_grid){ .rows = 1, .group = 4 }, true);
    uint8_t got[4];
    pack_int4(8, q.codes, got);
    assert_memory_equal(got, packed, sizeof packed);
}

static void two_levels_are_the_worked_ones(void **state)
{
    (void)state;
    static const int back[] = { 120, -60, 24, 36, -8, 4, 6, -2 };
    struct qweight q = rounded(8, 1, eight, 4, (struct weight_grid){ 1, 4, true }, false);
    near((double)q.scale[0], .70 / 119, 1e-9, "first level");
    assert_true(q.group == 0 && q.step_group == 4 && q.step[0] == 12 && q.step[1] == 1);
    assert_true(q.stored_zero[0] == 5 - 8 && q.stored_zero[1] == 8 - 8 && !q.zero);
    for (size_t k = 0; k < 8; k++)
        assert_int_equal(q.codes[k], back[k]);
}

static void a_product_of_groups_is_the_worked_one(void **state)
{
    (void)state;
    static const float x[] = { 64, -32, 17, 127, 67, 32, -127, 95 }, w[] = { 7, -4, 4, 7, 7, 7, -4, 4 };
    static const float scale[] = { .1f, .028571429f, .003f, .007142857f }, token[] = { .015748031f, .003149606f };
    static const double want[] = { .48555905, -.14544432, .17604095, -.015410573 };
    float y[4], scratch[4096];
    struct qop q = { .kind = QOP_MATMUL, .y = -1, .ax = { 1, 0, -128, 127, DT_I8 }, .w = w, .w_reach = 8, .k = 4, .n = 2, .group = 2,
                     .scale = scale };
    struct tensor in = { DT_F32, { .rank = 2, .dim = { 2, 4 } }, (void *)(uintptr_t)x }, out = { DT_F32, { .rank = 2, .dim = { 2, 2 } }, y };
    struct node node = { .op = OP_MATMUL, .name = "fc" };
    struct err e = { 0 };
    assert_true(qop_scratch(OP_MATMUL, true, &in, NULL, &out) <= sizeof scratch);
    assert_true(qop_run(&q, NULL, &node, &in, NULL, &out, scratch, &e));
    for (int i = 0; i < 4; i++)
        near((double)(y[i] * token[i / 2]), want[i], 1e-7, "y");
}

/* ---- which group a layer has ---- */

static void a_layer_has_the_group_that_divides_its_inputs(void **state)
{
    (void)state;
    static const struct {
        enum recipe_granularity of;
        int size, bits;
        enum layer_kind kind;
        int64_t k;
        struct weight_grid want;
        bool falls_back;
    } rows[] = {
        { RECIPE_PER_TENSOR, 0, 8, LAYER_LINEAR, 192, { 0, 0, false }, false },
        { RECIPE_PER_CHANNEL, 0, 8, LAYER_LINEAR, 192, { 1, 0, false }, false },
        { RECIPE_PER_ROWS, 48, 8, LAYER_CONV, 192, { 48, 0, false }, false },
        { RECIPE_PER_GROUP, 64, 8, LAYER_LINEAR, 192, { 1, 64, false }, false },
        { RECIPE_PER_GROUP, 48, 8, LAYER_LINEAR, 192, { 1, 48, false }, false },
        { RECIPE_PER_GROUP, 64, 8, LAYER_LINEAR, 96, { 1, 32, false }, false },
        { RECIPE_PER_GROUP, 64, 8, LAYER_LINEAR, 80, { 1, 16, false }, false },
        { RECIPE_PER_GROUP, 64, 8, LAYER_LINEAR, 64, { 1, 0, false }, false },         /* one group is a channel */
        { RECIPE_PER_GROUP, 64, 8, LAYER_LINEAR, 72, { 1, 0, false }, true },          /* 8 is too few */
        { RECIPE_PER_GROUP, 64, 8, LAYER_CONV, 768, { 1, 0, false }, false },
        { RECIPE_TWO_LEVEL, 64, 4, LAYER_LINEAR, 192, { 1, 64, true }, false },
        { RECIPE_TWO_LEVEL, 64, 8, LAYER_LINEAR, 192, { 1, 0, false }, false },        /* 8-bit codes are there already */
        { RECIPE_TWO_LEVEL, 64, 4, LAYER_LINEAR, 72, { 1, 0, false }, true },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct recipe r = *recipe_preset("minmax-w8a8");
        struct layer l = { .kind = rows[i].kind, .k = rows[i].k, .n = 10 };
        r.weights.granularity = rows[i].of;
        r.weights.group_size = rows[i].size;
        struct weight_grid got = weight_grid_of(&r, &l, rows[i].bits);
        if (got.rows != rows[i].want.rows || got.group != rows[i].want.group || got.two_level != rows[i].want.two_level
            || weight_grid_falls_back(&r, &l) != rows[i].falls_back)
            fail_msg("row %zu: rows %zu, group %zu", i, got.rows, got.group);
    }
}

/* ---- laws ---- */

static void runs_of_channels_share_one_scale_and_the_last_may_be_short(void **state)
{
    (void)state;
    float w[16 * 7];
    for (size_t i = 0; i < COUNT(w); i++)
        w[i] = (float)(uniform(-1, 1) * (double)(1 + i % 7));
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        struct qweight q = rounded(16, 7, w, 5, (struct weight_grid){ .rows = 3 }, symmetric);
        for (size_t c = 0; c < 7; c++) {
            float lo = 0, hi = 0;
            for (size_t k = 0; k < 16; k++)
                for (size_t o = c / 3 * 3; o < 7 && o < c / 3 * 3 + 3; o++) {
                    lo = fminf(lo, w[k * 7 + o]);
                    hi = fmaxf(hi, w[k * 7 + o]);
                }
            struct affine a = quantizer_from_range(lo, hi, 5, symmetric);
            assert_true(q.scale[c] == a.scale && (symmetric || q.zero[c] == a.zero - 16));
        }
    }
}

/* From one end to the other no product of code and step leaves int8, and what is covered comes back to half a step and what may be clipped. */
static void codes_of_two_levels_never_leave_their_byte(void **state)
{
    (void)state;
    for (int bits = 2; bits <= TWO_LEVEL_MOST_BITS; bits++)
        for (int low = -119; low <= 0; low++)
            for (int high = 0; high <= 119; high++)
                for (int symmetric = 0; symmetric < 2; symmetric++) {
                    struct weight_range r = weight_range_of((float)low, (float)high, bits, symmetric, 1);
                    int half = 1 << (bits - 1);
                    assert_true(r.step >= 1 && r.scale == (float)r.step && r.lo * r.step >= -128 && r.hi * r.step <= 127 && r.lo <= 0 && r.hi >= 0);
                    assert_true(r.lo + r.zero >= -half && r.hi + r.zero < half && (!symmetric || r.zero == 0));
                    double spared = 0.3 * (2 * half - 1) * r.step + 0.5 * r.step;
                    assert_true(r.lo * r.step <= low + spared && r.hi * r.step >= high - spared);
                }
}

static void check_shared(struct reconstruct_task t)
{
    struct reconstruct_result r = solve(&t);
    int half = 1 << (t.bits - 1);
    double error = error_of(&t, &r, r.damping);
    if (!(fabs(error - r.error_final) <= 1e-4 * r.error_nearest) || !(r.error_final <= r.error_nearest) || r.fell_back)
        fail_msg("group %zu, rows %zu: error %g, said to be %g after %g", t.grid.group, t.grid.rows, error, r.error_final, r.error_nearest);
    for (size_t row = 0; row < t.n; row++)
        for (size_t i = 0; i < t.k; i++) {
            size_t at = row * r.groups + i / (t.k / r.groups);
            int code = r.codes[row * t.k + i], whole = (code - r.zero[at]) * r.step[at];
            assert_true(code >= -half && code < half && whole >= -255 && whole <= 255);
            assert_true(!t.grid.two_level || (whole >= -128 && whole <= 127 && r.scale[at] == r.unit[row] * (float)r.step[at]));
            assert_true(t.grid.rows == 1 || r.scale[row] == r.scale[row / t.grid.rows * t.grid.rows]);
        }
}

static void errors_are_those_of_the_codes_whatever_shares_a_scale(void **state)
{
    (void)state;
    static const struct weight_grid grids[] = {
        { 1, 8, false }, { 1, 24, false }, { 1, 36, true }, { 1, 8, true }, { 5, 0, false }, { 64, 0, false },
    };
    struct reconstruct_task t = problem(67, 72);
    for (size_t i = 0; i < COUNT(grids); i++)
        for (int way = 0; way < 12; way++) {
            t.grid = grids[i];
            t.bits = 2 + way % 3 * 2;
            t.symmetric = way & 1;
            t.act_order = t.search = way & 2;
            t.rounding = (enum reconstruct_rounding)(way % 3);
            t.descents = way / 4;
            t.steps = 20;
            check_shared(t);
        }
}

static void smaller_groups_lose_less_and_threads_do_not_show(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(70, 96);
    float *v = array(t.n * t.k, sizeof *v);
    for (size_t i = 0; i < t.n * t.k; i++)
        v[i] = t.v[i] * (i % 96 / 24 == 1 ? 8 : 1);      /* some inputs have large weights */
    t.v = v;
    double last = INFINITY;
    for (size_t group = 96; group >= 24; group /= 2) {
        struct err e = { 0 };
        t.grid = (struct weight_grid){ .rows = 1, .group = group == 96 ? 0 : group };
        struct pool *pool = pool_new(2, &e);
        struct reconstruct_result one = solve(&t), two = solve_with(&t, pool);
        pool_free(pool);
        assert_memory_equal(one.codes, two.codes, t.n * t.k);
        assert_memory_equal(one.scale, two.scale, t.n * one.groups * sizeof *one.scale);
        assert_true(one.error_final < last);
        last = one.error_final;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_bits_in_groups_of_four_are_the_worked_ones),
        cmocka_unit_test(two_levels_are_the_worked_ones),
        cmocka_unit_test(a_product_of_groups_is_the_worked_one),
        cmocka_unit_test(a_layer_has_the_group_that_divides_its_inputs),
        cmocka_unit_test(runs_of_channels_share_one_scale_and_the_last_may_be_short),
        cmocka_unit_test(codes_of_two_levels_never_leave_their_byte),
        cmocka_unit_test(errors_are_those_of_the_codes_whatever_shares_a_scale),
        cmocka_unit_test(smaller_groups_lose_less_and_threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
