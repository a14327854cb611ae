/* Reconstruction of weights: an example worked by hand, and laws over random problems. */
#include "core/quant/quantizer.h"
#include "tests/unit/core/reconstruct_fixture.h"

/* ---- an example by hand: one row, four inputs, 3 bits ---- */

static const double example_x[6][4] = {
    { -.9, 1, .8, .4 }, { -1, .6, -.4, .4 }, { .1, .6, -2.7, .9 }, { 1.1, -.1, 0, -.2 }, { .2, -1, .5, -.8 }, { 1.9, 1.5, -2, -.3 },
};
static const float example_w[4] = { .54f, .09f, -.61f, -.56f };
/* The same inputs in 3 bits: (code - 4) * scale. */
static const int example_code[6][4] = { { 3, 6, 5, 5 }, { 2, 5, 3, 5 }, { 4, 5, 0, 5 }, { 6, 4, 4, 4 }, { 4, 2, 5, 3 }, { 7, 6, 1, 4 } };
static const double example_scale = .6571429;

struct example { double x[6][4], xq[6][4], h[16], hq[16], c[4]; };

static void sum_moments(const double (*x)[4], double *h)
{
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++)
            for (size_t r = 0; r < 6; r++)
                h[i * 4 + j] += x[r][i] * x[r][j];
}

static struct example example(void)
{
    struct example s = { 0 };
    memcpy(s.x, example_x, sizeof s.x);
    for (size_t r = 0; r < 6; r++) {
        double y = 0;
        for (size_t i = 0; i < 4; i++) {
            s.xq[r][i] = (example_code[r][i] - 4) * example_scale;
            y += s.x[r][i] * (double)example_w[i];
        }
        for (size_t i = 0; i < 4; i++)
            s.c[i] += y * s.xq[r][i];
    }
    sum_moments(s.x, s.h);
    sum_moments(s.xq, s.hq);
    return s;
}

/* || a w - x w0 ||^2 */
static double output_error(const double (*a)[4], const double w[4], const double (*x)[4])
{
    double sum = 0;
    for (size_t r = 0; r < 6; r++) {
        double off = 0;
        for (size_t i = 0; i < 4; i++)
            off += a[r][i] * w[i] - x[r][i] * (double)example_w[i];
        sum += off * off;
    }
    return sum;
}

static void check_example(const struct example *s, bool quantized_input, enum reconstruct_rounding how, const int want[4], double want_error)
{
    struct reconstruct_task t = {
        .v = example_w, .n = 1, .k = 4, .h = quantized_input ? s->hq : s->h, .bits = 3, .grid = { .rows = 1 }, .rounding = how, .damping = .01,
    };
    struct reconstruct_result r = solve(&t);
    double w[4];
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(r.codes[i] + 4, want[i]);
        w[i] = weight_of(&t, &r, 0, i);
    }
    assert_int_equal(r.zero[0] + 4, 4);
    near((double)r.scale[0], 1.15 / 7, 1e-7, "scale");
    near(output_error(quantized_input ? s->xq : s->x, w, s->x), want_error, 1e-6, "output error");
    assert_true(r.damping == .01 && r.ridge == 0 && !r.fell_back);
}

static void the_worked_example_rounds_as_by_hand(void **state)
{
    (void)state;
    static const int nearest[4] = { 7, 5, 0, 1 }, gptq[4] = { 7, 5, 0, 0 };
    struct example s = example();
    check_example(&s, false, ROUND_NEAREST, nearest, .1223055);
    check_example(&s, false, ROUND_GPTQ, gptq, .0366798);
    check_example(&s, true, ROUND_NEAREST, nearest, .3705648);
    check_example(&s, true, ROUND_GPTQ, gptq, .1961292);
    check_example(&s, false, ROUND_LEARNED, nearest, .1223055);    /* of no steps */
}

static void the_worked_example_is_learned_and_descended_to_its_optimum(void **state)
{
    (void)state;
    struct example s = example();
    struct reconstruct_task t = { .v = example_w, .n = 1, .k = 4, .h = s.h, .bits = 3, .grid = { .rows = 1 },
                                  .rounding = ROUND_LEARNED, .steps = 400 };
    near(solve(&t).error_rounded, .0366798, 1e-6, "learned");
    t.rounding = ROUND_NEAREST;
    t.descents = 9;
    struct reconstruct_result r = solve(&t);
    near(r.error_nearest, .1223055, 1e-6, "nearest");
    near(r.error_final, .0366798, 1e-6, "descended");
}

static void the_worked_example_is_fitted_to_its_quantized_input(void **state)
{
    (void)state;
    static const double want[4] = { -.050110, .021483, -.064471, -.252412 };
    struct example s = example();
    struct reconstruct_task t = { .v = example_w, .n = 1, .k = 4, .h = s.hq, .c = s.c, .bits = 8, .grid = { .rows = 1 } };
    t.ridge = .1 / mean_diagonal(&t);
    struct reconstruct_result r = solve(&t);
    double w[4], before[4];
    for (size_t i = 0; i < 4; i++) {
        before[i] = (double)example_w[i];
        w[i] = (double)r.target[i];
        near(w[i] - before[i], want[i], 2e-6, "change of weight");
    }
    near(output_error(s.xq, before, s.x), .1597870, 1e-6, "error before");
    near(output_error(s.xq, w, s.x), .1051685, 1e-6, "error after");
    assert_true(r.ridge == t.ridge);
}

/* Example E5 of the specification: two rows of three inputs, 4 bits. */
static void the_specifications_example_of_gptq_is_met(void **state)
{
    (void)state;
    static const double h[] = { 26, 30, 10, 30, 40, 12, 10, 12, 4 };
    static const float w[] = { .8f, -.6f, -.6f, -.8f, -.2f, .7f };
    static const int nearest[] = { 7, -5, -5, -7, -2, 6 }, gptq[] = { 7, -5, -6, -7, -2, 7 };
    struct reconstruct_task t = { .v = w, .n = 2, .k = 3, .h = h, .bits = 4, .symmetric = true, .grid = { .rows = 1 }, .damping = .01 };
    for (t.rounding = ROUND_NEAREST; t.rounding <= ROUND_GPTQ; t.rounding++) {
        struct reconstruct_result r = solve(&t);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(r.codes[i], (t.rounding == ROUND_GPTQ ? gptq : nearest)[i]);
        near((double)r.scale[0], .8 / 7, 1e-8, "scale");
        near(error_of(&t, &r, 0) / 2, t.rounding == ROUND_GPTQ ? .00367347 : .0493878, 1e-7, "output error");
        if (t.rounding == ROUND_GPTQ)
            near(r.error_final / 2, .00588776, 1e-7, "damped error");
    }
}

/* ---- random problems ---- */

static void check_every_way(struct reconstruct_task t, int way)
{
    t.symmetric = way & 1;
    t.grid.rows = way & 2 ? 1 : 0;
    t.search = way & 4;
    t.act_order = way & 8;
    t.descents = way % 3;
    t.rounding = (enum reconstruct_rounding)(way % 3);
    t.steps = 20;
    struct reconstruct_result r = solve(&t);
    check_codes(&t, &r);
    double error = error_of(&t, &r, r.damping);
    if (!(fabs(error - r.error_final) <= 1e-4 * r.error_nearest) || !(r.error_final <= r.error_nearest) || r.fell_back)
        fail_msg("%d bits, way %d: error %g, said to be %g after %g and %g", t.bits, way, error, r.error_final, r.error_nearest, r.error_rounded);
}

static void errors_are_those_of_the_codes_in_every_way(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(67, 71);    /* two blocks of rows, two of columns */
    for (t.bits = 2; t.bits <= 8; t.bits++)
        for (int way = 0; way < 16; way++)
            check_every_way(t, way);
}

static void gptq_is_better_than_nearest_on_average_and_descents_never_worse(void **state)
{
    (void)state;
    double nearest = 0, gptq = 0, descended = 0;
    for (int trial = 0; trial < 12; trial++) {
        struct reconstruct_task t = problem(9, 30 + 7 * (size_t)trial);
        t.bits = 2 + trial % 4;
        t.act_order = trial % 2;
        struct reconstruct_result before = solve(&t);
        nearest += before.error_nearest / before.error_nearest;
        gptq += before.error_rounded / before.error_nearest;
        for (t.descents = 1; t.descents < 5; t.descents++) {
            struct reconstruct_result after = solve(&t);
            for (size_t row = 0; row < t.n; row++)
                assert_true(row_error(&t, &after, after.target, row, .01) <= row_error(&t, &before, before.target, row, .01) * (1 + 1e-5));
            before = after;
        }
        descended += before.error_final / before.error_nearest;
    }
    assert_true(gptq < 0.9 * nearest);
    assert_true(descended < 0.98 * gptq);
}

static void after_enough_descents_no_single_code_can_be_bettered(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(3, 71);    /* two blocks of columns */
    t.bits = 3;
    t.descents = 100;
    struct reconstruct_result r = solve(&t);
    for (size_t at = 0; at < t.n * t.k; at++)
        for (int by = -1; by <= 1; by += 2) {
            double before = row_error(&t, &r, r.target, at / t.k, r.damping);
            if (r.codes[at] + by < -4 || r.codes[at] + by > 3)
                continue;
            r.codes[at] = (int8_t)(r.codes[at] + by);
            double gain = before - row_error(&t, &r, r.target, at / t.k, r.damping);
            r.codes[at] = (int8_t)(r.codes[at] - by);
            assert_true(gain <= 1e-2 * before);    /* less than the margin asks for */
        }
}

static void learned_rounding_is_better_than_nearest(void **state)
{
    (void)state;
    for (int trial = 0; trial < 4; trial++) {
        struct reconstruct_task t = problem(5, 40 + 9 * (size_t)trial);
        t.bits = 3 + trial % 2;
        t.rounding = ROUND_LEARNED;
        t.steps = 400;
        struct reconstruct_result r = solve(&t), again = solve(&t);
        assert_true(r.error_rounded < 0.85 * r.error_nearest && r.error_final <= r.error_rounded);
        assert_memory_equal(r.codes, again.codes, t.n * t.k);
    }
}

/* The weighted error of rounding a row to nearest in its range, shrunk. */
static double shrunk_error(const struct reconstruct_task *t, size_t row, float shrink)
{
    const float *v = t->v + row * t->k;
    struct range r = { 0 };
    range_of(t->k, v, &r);
    struct affine q = quantizer_from_range(r.lo * shrink, r.hi * shrink, t->bits, t->symmetric);
    double sum = 0, m = mean_diagonal(t);
    for (size_t i = 0; i < t->k; i++) {
        double code = fmax(q.qmin, fmin(q.qmax, rint((double)(v[i] / q.scale)) + q.zero));
        double off = (code - q.zero) * (double)q.scale - (double)v[i];
        sum += off * off * (moment(t, i, i) + t->damping * m);
    }
    return sum;
}

static void forget_correlations(const struct reconstruct_task *t)
{
    for (size_t i = 0; i < t->k; i++)
        for (size_t j = 0; j < t->k; j++)
            ((double *)t->h)[i * t->k + j] *= i == j;
}

static void a_range_per_row_is_the_best_of_31(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct reconstruct_task t = problem(10, 70);
        forget_correlations(&t);    /* so that the weighted error is the error */
        t.symmetric = way & 1;
        t.act_order = way & 2;
        t.bits = 3;
        t.rounding = ROUND_NEAREST;
        struct reconstruct_result r = solve(&t);
        for (size_t row = 0; row < t.n; row++) {
            double least = INFINITY;
            for (int i = 0; i <= 30; i++)
                least = fmin(least, shrunk_error(&t, row, 1 - 0.02f * (float)i));
            near(row_error(&t, &r, t.v, row, t.damping), least, 1e-4 * least, "error");
        }
    }
}

static void a_range_for_all_is_better_shrunk(void **state)
{
    (void)state;
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        struct reconstruct_task t = problem(70, 60);
        forget_correlations(&t);
        t.symmetric = symmetric;
        t.grid.rows = 0;
        t.search = false;
        t.bits = 3;
        t.rounding = ROUND_NEAREST;
        struct reconstruct_result full = solve(&t);
        t.search = true;
        struct reconstruct_result searched = solve(&t);
        assert_true(searched.error_final < full.error_final);
        assert_true(searched.scale[0] < full.scale[0] && searched.scale[0] >= .399f * full.scale[0]);
    }
}

/* ---- the target ---- */

static void a_target_that_is_the_layer_itself_changes_nothing(void **state)
{
    (void)state;
    static const double ridges[] = { 0, 1e-3, 1, 100 };
    for (size_t i = 0; i < COUNT(ridges); i++) {
        struct reconstruct_task t = problem(66, 40);
        t.act_order = i % 2;
        struct reconstruct_result without = solve(&t);
        t.c = cross(&t, 0);
        t.ridge = ridges[i];
        struct reconstruct_result with = solve(&t);
        for (size_t j = 0; j < t.n * t.k; j++)
            near((double)with.target[j], (double)t.v[j], 1e-7, "target");
        near(with.error_final / without.error_final, 1, 1e-3, "error");
        assert_true(with.ridge == fmax(ridges[i], 1e-6) && without.ridge == 0);
    }
}

static double fit(const struct reconstruct_task *t, const float *w)
{
    double sum = 0;
    for (size_t r = 0; r < t->n; r++)
        for (size_t i = 0; i < t->k; i++) {
            sum -= 2 * (double)w[r * t->k + i] * t->c[r * t->k + i];
            for (size_t j = 0; j < t->k; j++)
                sum += (double)w[r * t->k + i] * moment(t, i, j) * (double)w[r * t->k + j];
        }
    return sum;
}

static void a_target_fits_better_the_smaller_the_ridge(void **state)
{
    (void)state;
    struct reconstruct_task t = problem(7, 33);
    t.c = cross(&t, 1);
    double before = fit(&t, t.v);
    for (t.ridge = 100; t.ridge > 1e-4; t.ridge /= 10) {
        double after = fit(&t, solve(&t).target);
        assert_true(after < before);
        before = after;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worked_example_rounds_as_by_hand),
        cmocka_unit_test(the_worked_example_is_learned_and_descended_to_its_optimum),
        cmocka_unit_test(the_worked_example_is_fitted_to_its_quantized_input),
        cmocka_unit_test(the_specifications_example_of_gptq_is_met),
        cmocka_unit_test(errors_are_those_of_the_codes_in_every_way),
        cmocka_unit_test(gptq_is_better_than_nearest_on_average_and_descents_never_worse),
        cmocka_unit_test(after_enough_descents_no_single_code_can_be_bettered),
        cmocka_unit_test(learned_rounding_is_better_than_nearest),
        cmocka_unit_test(a_range_per_row_is_the_best_of_31),
        cmocka_unit_test(a_range_for_all_is_better_shrunk),
        cmocka_unit_test(a_target_that_is_the_layer_itself_changes_nothing),
        cmocka_unit_test(a_target_fits_better_the_smaller_the_ridge),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
