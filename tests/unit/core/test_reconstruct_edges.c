/* Reconstruction of weights where something is degenerate, and the same on every number of threads. */
#include "tests/unit/core/reconstruct_fixture.h"

static void moments_without_full_rank_work(void **state)
{
    (void)state;
    static const double dampings[] = { 0, 1e-12, .01 };
    for (size_t i = 0; i < COUNT(dampings); i++) {
        struct reconstruct_task t = problem(4, 50);
        for (size_t a = 0; a < t.k; a++)    /* all inputs are multiples of one */
            for (size_t b = a; b < t.k; b++)
                ((double *)t.h)[a * t.k + b] = (double)((1 + a % 3) * (1 + b % 3));
        t.damping = dampings[i];
        t.descents = 2;
        t.c = cross(&t, 0);
        struct reconstruct_result r = solve(&t);
        check_codes(&t, &r);
        assert_true(!r.fell_back && r.damping >= t.damping && r.damping <= .01 && r.error_final <= r.error_nearest);
    }
}

static void what_is_no_covariance_falls_back_to_nearest(void **state)
{
    (void)state;
    static const double h[4] = { 1, 5000, 5000, 1 }, negative[4] = { 1, 0, 0, -2000 };
    static const float v[2] = { .3f, -.2f };
    static const double c[2] = { 1, 2 };
    for (int way = 0; way < 4; way++) {
        struct reconstruct_task t = {
            .v = v, .n = 1, .k = 2, .h = way & 1 ? h : negative, .c = way & 2 ? c : NULL, .bits = 4,
            .rounding = ROUND_GPTQ, .damping = .01, .descents = 3,
        };
        struct reconstruct_result r = solve(&t);
        assert_true(r.fell_back && r.ridge == 0);
        assert_memory_equal(r.target, v, sizeof v);
        assert_int_equal(r.codes[0] - r.zero[0], lrintf(v[0] / r.scale[0]));
        assert_int_equal(r.codes[1] - r.zero[0], lrintf(v[1] / r.scale[0]));
    }
}

/* Where H is about zero they were always 0; so are, with means, those of mean 0: every other one here.  The rest keep what they had. */
static void inputs_that_never_vary_get_no_weight_or_keep_theirs(void **state)
{
    (void)state;
    for (int way = 0; way < 24; way++) {
        struct reconstruct_task t = problem(5, 31);
        double mean[31];
        for (size_t i = 0; i < t.k; i++)
            mean[i] = i & 1 ? 0 : 1;
        t.mean = way >= 12 ? mean : NULL;
        for (size_t i = 0; i < t.k; i++)
            for (size_t j = 0; j < t.k; j++)
                if (i % 5 == 2 || j % 5 == 2 || way % 12 > 8)
                    ((double *)t.h)[i * t.k + j] = 0;
        t.c = way & 1 ? cross(&t, 0) : NULL;
        t.act_order = way & 2;
        t.rounding = (enum reconstruct_rounding)(way % 3);
        t.steps = 10;
        t.descents = 1;
        struct reconstruct_result r = solve(&t);
        check_codes(&t, &r);
        for (size_t i = 0; i < t.n * t.k; i++) {
            bool zero = !t.mean || i % t.k & 1;
            if (i % t.k % 5 == 2 || way % 12 > 8)
                assert_true(zero ? r.codes[i] == r.zero[i / t.k] && r.target[i] == 0 : r.target[i] == t.v[i]);
        }
        assert_false(r.fell_back);
    }
}

static void constant_rows_and_rows_of_zeros_are_exact(void **state)
{
    (void)state;
    static const float values[] = { 0, .5f, -.25f, 0, 3e-30f };
    for (int way = 0; way < 12; way++) {
        struct reconstruct_task t = problem(COUNT(values), 37);
        for (size_t i = 0; i < t.n * t.k; i++)
            ((float *)t.v)[i] = values[i / t.k];
        t.symmetric = way & 1;
        t.search = false;
        t.bits = 2 + way % 7;
        t.rounding = (enum reconstruct_rounding)(way % 3);
        t.steps = 10;
        t.descents = 2;
        struct reconstruct_result r = solve(&t);
        for (size_t row = 0; row < t.n; row++)
            for (size_t i = 0; i < t.k; i++)
                near(weight_of(&t, &r, row, i), (double)values[row], 1e-6 * fabs((double)values[row]), "weight");
        assert_true(r.scale[0] == 1 && r.scale[3] == 1);
    }
}

static void one_row_and_one_input_are_enough(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 1, 1 }, { 1, 65 }, { 65, 1 }, { 64, 64 }, { 1, 128 } };
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int how = 0; how < 3; how++) {
            struct reconstruct_task t = problem(sizes[i][0], sizes[i][1]);
            t.rounding = (enum reconstruct_rounding)how;
            t.steps = 10;
            t.c = cross(&t, .1);
            t.descents = 2;
            struct reconstruct_result r = solve(&t);
            check_codes(&t, &r);
            near(error_of(&t, &r, r.damping), r.error_final, 1e-4 * r.error_nearest + 1e-12, "error");
        }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(200, 90);
    t.c = cross(&t, .1);
    t.ridge = .1;
    t.descents = 2;
    t.steps = 20;
    for (int way = 0; way < 6; way++) {
        t.rounding = (enum reconstruct_rounding)(way % 3);
        t.grid.rows = way < 3;
        struct reconstruct_result want = solve(&t);
        for (int threads = 1; threads <= 4; threads++) {
            struct pool *pool = pool_new(threads, NULL);
            assert_non_null(pool);
            struct reconstruct_result got = solve_with(&t, pool);
            pool_free(pool);
            assert_memory_equal(got.codes, want.codes, t.n * t.k);
            assert_memory_equal(got.scale, want.scale, t.n * sizeof *got.scale);
            assert_memory_equal(got.zero, want.zero, t.n);
            assert_memory_equal(got.target, want.target, t.n * t.k * sizeof *got.target);
            assert_true(got.error_nearest == want.error_nearest && got.error_rounded == want.error_rounded
                        && got.error_final == want.error_final);
        }
    }
}

static void what_is_not_finite_is_refused(void **state)
{
    (void)state;
    struct reconstruct_task good = problem(3, 5);
    good.c = cross(&good, 0);
    float *v = (float *)good.v;
    double *h = (double *)good.h, *c = (double *)good.c;
    for (int where = 0; where < 3; where++) {
        float v7 = v[7];
        double h6 = h[6], c7 = c[7];
        v[7] = where == 0 ? NAN : v7;
        h[6] = where == 1 ? (double)INFINITY : h6;
        c[7] = where == 2 ? (double)NAN : c7;
        struct err e = { 0 };
        struct reconstruct_result r;
        assert_false(reconstruct(&good, NULL, mem, &r, &e));
        assert_int_equal(e.code, ERR_NUMERIC_NONFINITE);
        v[7] = v7;
        h[6] = h6;
        c[7] = c7;
    }
    solve(&good);
}

static void refused_memory_is_an_error(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(30, 50);
    struct arena *small = arena_new(5000);
    struct reconstruct_result r = { 0 };
    struct err e = { 0 };
    assert_false(reconstruct(&t, NULL, small, &r, &e));
    assert_int_equal(e.code, ERR_MEMORY);
    assert_null(r.codes);
    arena_free(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_without_full_rank_work),
        cmocka_unit_test(what_is_no_covariance_falls_back_to_nearest),
        cmocka_unit_test(inputs_that_never_vary_get_no_weight_or_keep_theirs),
        cmocka_unit_test(constant_rows_and_rows_of_zeros_are_exact),
        cmocka_unit_test(one_row_and_one_input_are_enough),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
