/* Ranges per channel as one scale and zero point: the worked example, the algebra, and laws of the factors. */
#include "core/quant/channels.h"

#include "channel_data.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 640, CHANNELS = 32, OUTPUTS = 48 };

static float x[ROWS * CHANNELS], w[OUTPUTS * CHANNELS], energy[CHANNELS];

static int setup(void **state)
{
    *state = arena_new(1 << 28);
    for (size_t i = 0; i < COUNT(w); i++)
        w[i] = 0.1f * bell();
    channel_energy(w, OUTPUTS, CHANNELS, energy);
    return *state ? 0 : -1;
}

static struct channel_fold fold_of(const struct ranges *r, size_t channels, int bits, enum channel_offset offset, struct arena *mem)
{
    struct err e = { 0 };
    struct channel_fold f;
    if (!channel_fold(r, channels, bits, offset, mem, &f, &e))
        fail_msg("%s", e.text);
    return f;
}

/* ---- the linear that reads folded values, in double ---- */

/* What it gets for row v: x~, or the value of its code. */
static double moved(const struct channel_fold *f, size_t c, double v) { return v * (double)f->mul[c] + (double)f->add[c]; }

static int code_of(const struct channel_fold *f, size_t c, double v, int bits)
{
    double q = rint(moved(f, c, v) / (double)f->scale) + f->zero, top = (1 << bits) - 1;
    return (int)fmax(0, fmin(top, q));
}

static double level_of(const struct channel_fold *f, int code) { return (code - f->zero) * (double)f->scale; }

static double folded_weight(const struct channel_fold *f, size_t o, size_t channels, size_t c, const float *weights)
{
    return (double)weights[o * channels + c] / (double)f->mul[c];
}

static double folded_bias(const struct channel_fold *f, size_t o, size_t channels, const float *weights, double b)
{
    for (size_t c = 0; c < channels; c++)
        b -= folded_weight(f, o, channels, c, weights) * (double)f->add[c];
    return b;
}

/* ---- the worked example ---- */

enum { EXAMPLE = 4 };
static const float u[2 * EXAMPLE] = { 1, -.5f, 2, .3f, -1.2f, .4f, .1f, 1.9f };
static const float gamma_of[EXAMPLE] = { 1, .2f, 4, .5f }, beta_of[EXAMPLE] = { .1f, 1.5f, -2, 0 };
static const float example_lo[EXAMPLE] = { -1.4f, 1.2f, -8, -.9f }, example_hi[EXAMPLE] = { 1.6f, 1.8f, 6, .9f };
static const float example_w[3 * EXAMPLE] = { .5f, -1, .25f, 2, -.75f, .3f, .1f, -.4f, 1.2f, .6f, -.05f, .9f };
static const double example_b[3] = { .1, -.2, .3 };
static const int example_codes[2 * EXAMPLE] = { 9, 1, 13, 6, 1, 8, 6, 14 };

static bool near(double a, double b, double bound) { return fabs(a - b) <= bound; }

/* The rounded mean zero point would be -2, which uint8 cannot hold: 0 shifts x~ by two steps and changes no code. */
static void the_worked_layernorm_folds_as_by_hand(void **state)
{
    static const double want_gamma[] = { 1.616667, 1.616667, 1.385714, 1.347222 }, want_beta[] = { 3.071667, 3.071667, 2.863810, 3.233333 };
    static const double want_w[] = { .309278, -.123711, .721649, .742268, -.463918, .037113, .288660, -.148454,
                                     .742268, .074227, -.144330, .334021 };
    static const double want_b[] = { -6.886667, .939333, -1.754667 };
    struct ranges r = { (float *)example_lo, (float *)example_hi };
    struct channel_fold f = fold_of(&r, EXAMPLE, 4, OFFSET_INTEGER, *state);
    double two = 2 * (double)f.scale;
    assert_true(near((double)f.scale, .3233333, 1e-6) && f.zero == 0);
    for (size_t c = 0; c < EXAMPLE; c++)
        assert_true(near((double)gamma_of[c] * (double)f.mul[c], want_gamma[c], 2e-6)
                    && near(moved(&f, c, (double)beta_of[c]) + two, want_beta[c], 2e-6));
    for (size_t o = 0; o < 3; o++) {
        double b = folded_bias(&f, o, EXAMPLE, example_w, example_b[o]);
        for (size_t c = 0; c < EXAMPLE; c++) {
            assert_true(near(folded_weight(&f, o, EXAMPLE, c, example_w), want_w[o * EXAMPLE + c], 2e-6));
            b -= folded_weight(&f, o, EXAMPLE, c, example_w) * two;
        }
        assert_true(near(b, want_b[o], 1e-5));
    }
}

static void the_worked_codes_and_outputs_come_out(void **state)
{
    static const double want_y[] = { -.486667, .341333, 1.121333, -1.28, .588, .56 };
    struct ranges r = { (float *)example_lo, (float *)example_hi };
    struct channel_fold f = fold_of(&r, EXAMPLE, 4, OFFSET_INTEGER, *state);
    float normed[2 * EXAMPLE];
    layernorm(2, EXAMPLE, u, gamma_of, beta_of, 1e-6f, normed);
    for (size_t i = 0; i < 2; i++)
        for (size_t o = 0; o < 3; o++) {
            double y = folded_bias(&f, o, EXAMPLE, example_w, example_b[o]);
            for (size_t c = 0; c < EXAMPLE; c++) {
                int code = code_of(&f, c, (double)normed[i * EXAMPLE + c], 4);
                assert_int_equal(code, example_codes[i * EXAMPLE + c]);
                y += folded_weight(&f, o, EXAMPLE, c, example_w) * level_of(&f, code);
            }
            assert_true(near(y, want_y[i * 3 + o], 2e-6));
        }
}

/* ---- the algebra ---- */

/* Ranges that leave some values out. */
static struct ranges random_ranges(struct arena *mem)
{
    fill_channels(ROWS, CHANNELS, 1, x);
    struct ranges r = extremes_of(ROWS, CHANNELS, x, mem);
    for (size_t c = 0; c < CHANNELS; c++) {
        float width = r.hi[c] - r.lo[c];
        r.lo[c] += uniform(0, 0.3f) * width;
        r.hi[c] -= uniform(0, 0.3f) * width;
    }
    return r;
}

/* The code that a quantizer of this channel alone gives, its zero point being an integer. */
static int own_code(const struct ranges *r, size_t c, double v, double step, int bits)
{
    double top = (1 << bits) - 1, zero = rint(top / 2 - ((double)r->lo[c] + (double)r->hi[c]) / 2 / step);
    return (int)fmax(0, fmin(top, rint(v / step) + zero));
}

static void integer_offsets_give_each_channel_its_own_codes(void **state)
{
    struct err e = { 0 };
    float step[CHANNELS];
    for (int bits = 3; bits <= 8; bits++) {
        struct ranges r = random_ranges(*state);
        struct channel_fold f = fold_of(&r, CHANNELS, bits, OFFSET_INTEGER, *state);
        size_t differ = 0;
        assert_true(channel_steps(&r, CHANNELS, bits, *state, step, &e));
        for (size_t i = 0; i < ROWS; i++)
            for (size_t c = 0; c < CHANNELS; c++) {
                double v = (double)x[i * CHANNELS + c];
                int off = code_of(&f, c, v, bits) - own_code(&r, c, v, (double)step[c], bits);
                assert_true(abs(off) <= 1);
                /* The constant channels lie on a tie. */
                differ += off != 0 && c > 1;
            }
        if (differ > ROWS * CHANNELS / 10000 + 1)
            fail_msg("%d bits: %zu codes differ", bits, differ);
    }
}

static void a_free_offset_puts_both_ends_on_the_outermost_codes(void **state)
{
    for (int bits = 2; bits <= 8; bits++) {
        struct ranges r = random_ranges(*state);
        struct channel_fold f = fold_of(&r, CHANNELS, bits, OFFSET_FREE, *state);
        int top = (1 << bits) - 1;
        assert_int_equal(f.zero, 1 << (bits - 1));
        for (size_t c = 2; c < CHANNELS; c++) {
            double step = ((double)r.hi[c] - (double)r.lo[c]) / top;
            assert_true(near(moved(&f, c, (double)r.lo[c]) / (double)f.scale + f.zero, 0, 1e-3));
            assert_true(near(moved(&f, c, (double)r.hi[c]) / (double)f.scale + f.zero, top, 1e-3));
            assert_true(near((double)f.scale / (double)f.mul[c], step, 1e-5 * step));
        }
    }
}

/* Without rounding nothing changes; neither for the linear nor, scaled back, for a residual that wants x itself. */
static void folding_changes_no_float_result(void **state)
{
    struct err e = { 0 };
    for (int kind = 0; kind < 3; kind++) {
        struct ranges r = random_ranges(*state);
        struct channel_fold f;
        if (kind < 2)
            f = fold_of(&r, CHANNELS, 4, kind ? OFFSET_INTEGER : OFFSET_FREE, *state);
        else
            assert_true(channel_fold_scales(&r, CHANNELS, 4, energy, 0, *state, &f, &e));
        for (size_t o = 0; o < OUTPUTS; o++) {
            double plain = .25, folded = folded_bias(&f, o, CHANNELS, w, .25), size = fabs(folded);
            for (size_t c = 0; c < CHANNELS; c++) {
                double v = (double)x[o * CHANNELS + c], m = moved(&f, c, v);
                plain += v * (double)w[o * CHANNELS + c];
                folded += m * folded_weight(&f, o, CHANNELS, c, w);
                size += fabs(m * folded_weight(&f, o, CHANNELS, c, w));
                assert_true(near((m - (double)f.add[c]) / (double)f.mul[c], v, 1e-13 * (fabs(v) + fabs((double)f.add[c] / (double)f.mul[c]))));
            }
            assert_true(near(plain, folded, 1e-13 * size));
        }
    }
}

/* Codes of a row of weights rounded to nearest at 4 bits over its extremes, and its step. */
static double round_row(const double *row, int *codes)
{
    double lo = 0, hi = 0;
    for (size_t c = 0; c < CHANNELS; c++) {
        lo = fmin(lo, row[c]);
        hi = fmax(hi, row[c]);
    }
    double step = (hi - lo) / 15, zero = rint(-lo / step);
    for (size_t c = 0; c < CHANNELS; c++)
        codes[c] = (int)(fmax(0, fmin(15, rint(row[c] / step) + zero)) - zero);
    return step;
}

static void the_common_scale_does_not_show_in_the_codes_of_weights(void **state)
{
    struct ranges r = random_ranges(*state);
    struct channel_fold f = fold_of(&r, CHANNELS, 4, OFFSET_FREE, *state);
    for (size_t o = 0; o < OUTPUTS; o++) {
        double row[CHANNELS], larger[CHANNELS];
        int codes[CHANNELS], again[CHANNELS];
        for (size_t c = 0; c < CHANNELS; c++) {
            row[c] = folded_weight(&f, o, CHANNELS, c, w);
            larger[c] = row[c] / 3.7;
        }
        round_row(row, codes);
        round_row(larger, again);
        assert_memory_equal(codes, again, sizeof codes);
    }
}

/* Outputs of rounded weights on rounded values, the mean error of each output taken out. */
static void corrected_outputs(const struct channel_fold *f, double *y)
{
    for (size_t o = 0; o < OUTPUTS; o++) {
        double row[CHANNELS], mean = 0;
        int codes[CHANNELS];
        for (size_t c = 0; c < CHANNELS; c++)
            row[c] = folded_weight(f, o, CHANNELS, c, w);
        double step = round_row(row, codes);
        for (size_t i = 0; i < ROWS; i++) {
            double sum = 0, plain = 0;
            for (size_t c = 0; c < CHANNELS; c++) {
                double v = (double)x[i * CHANNELS + c];
                sum += step * codes[c] * level_of(f, code_of(f, c, v, 4));
                plain += v * (double)w[o * CHANNELS + c];
            }
            y[i * OUTPUTS + o] = sum;
            mean += (plain - sum) / ROWS;
        }
        for (size_t i = 0; i < ROWS; i++)
            y[i * OUTPUTS + o] += mean;
    }
}

static void the_zero_point_does_not_show_behind_a_corrected_bias(void **state)
{
    static double y[ROWS * OUTPUTS], again[ROWS * OUTPUTS];
    struct ranges r = random_ranges(*state);
    struct channel_fold f = fold_of(&r, CHANNELS, 4, OFFSET_FREE, *state);
    /* Round numbers, so that the shift is exact in float. */
    f.scale = 0.25f;
    for (size_t c = 0; c < CHANNELS; c++)
        f.add[c] = rintf(f.add[c] * 1024) / 1024;
    corrected_outputs(&f, y);
    f.zero -= 5;
    for (size_t c = 0; c < CHANNELS; c++)
        f.add[c] += 5 * f.scale;
    corrected_outputs(&f, again);
    for (size_t i = 0; i < COUNT(y); i++)
        assert_true(near(y[i], again[i], 1e-9));
}

static void awkward_channels_get_usable_factors(void **state)
{
    struct err e = { 0 };
    static const struct { const char *label; size_t n; float unit; } rows[] = {
        { "ordinary", ROWS, 1 }, { "one row", 1, 1 }, { "all zero", 4, 0 }, { "tiny", 100, 1e-30f }, { "huge", 100, 1e30f },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (int kind = 0; kind < 4; kind++) {
            fill_channels(rows[i].n, CHANNELS, rows[i].unit, x);
            struct ranges full = extremes_of(rows[i].n, CHANNELS, x, *state);
            struct rows r = prepared(x, rows[i].n, CHANNELS, NULL, *state);
            struct channel_fold f;
            double factor;
            if (kind < 2)
                f = fold_of(&full, CHANNELS, 4, kind ? OFFSET_INTEGER : OFFSET_FREE, *state);
            else if (kind == 2)
                assert_true(channel_fold_scales(&full, CHANNELS, 4, NULL, 0, *state, &f, &e));
            else
                assert_true(channel_fold_anchored(&r, &full, 4, NULL, .9, NULL, *state, &f, &factor, &e));
            assert_true(isfinite(f.scale) && f.scale > 0 && f.zero >= 0 && f.zero <= 15);
            for (size_t c = 0; c < CHANNELS; c++)
                if (!(f.mul[c] >= 1e-3f && f.mul[c] <= 1e3f && isfinite(f.add[c]) && (kind < 2 || f.add[c] == 0)))
                    fail_msg("%s, kind %d, channel %zu: times %g plus %g", rows[i].label, kind, c, (double)f.mul[c], (double)f.add[c]);
        }
}

/* ---- factors without offsets ---- */

static const struct { const char *label; float lo, hi; } shapes[] = {
    { "both signs", -4, 4 }, { "GELU", -.17f, 3 }, { "not negative", 0, 2 }, { "not positive", -2, 0 }, { "above zero", 1, 3 },
};

static struct ranges shaped(size_t shape, struct arena *mem)
{
    struct err e = { 0 };
    struct ranges r;
    assert_true(ranges_new(CHANNELS, mem, &r, &e));
    for (size_t c = 0; c < CHANNELS; c++) {
        float unit = c < 3 ? 20 : uniform(0.3f, 2);
        bool fixed = shapes[shape].lo > -1 && shapes[shape].lo < 0;
        r.lo[c] = shapes[shape].lo * (fixed ? 1 : unit);
        r.hi[c] = shapes[shape].hi * unit;
    }
    return r;
}

static void one_factor_a_channel_represents_all_values_to_half_a_step(void **state)
{
    struct err e = { 0 };
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (int bits = 2; bits <= 8; bits++)
            for (int floor = 0; floor < 2; floor++) {
                struct ranges r = shaped(s, *state);
                struct channel_fold f;
                assert_true(channel_fold_scales(&r, CHANNELS, bits, energy, floor ? .9 : 0, *state, &f, &e));
                for (size_t c = 0; c < CHANNELS; c++)
                    for (int i = 0; i <= 20; i++) {
                        double v = (double)r.lo[c] + ((double)r.hi[c] - (double)r.lo[c]) * i / 20;
                        double off = level_of(&f, code_of(&f, c, v, bits)) / (double)f.mul[c] - v, step = (double)f.scale / (double)f.mul[c];
                        if (!(fabs(off) <= 0.5001 * step))
                            fail_msg("%s, %d bits, zero %d: %g is off by %g steps", shapes[s].label, bits, f.zero, v, off / step);
                    }
                assert_true(f.zero == 0 || s < 2 || s == 3);
                assert_true(f.zero == (1 << bits) - 1 || s != 3);
            }
}

static void a_floor_gives_quiet_channels_the_step_of_the_others(void **state)
{
    struct err e = { 0 };
    struct ranges r = shaped(1, *state);
    r.lo[7] = r.hi[7] = 0;
    struct channel_fold f;
    assert_true(channel_fold_scales(&r, CHANNELS, 8, NULL, .9, *state, &f, &e));
    for (size_t c = 4; c < CHANNELS; c++)
        assert_true(f.mul[c] == f.mul[7] || f.mul[c] < f.mul[7]);
    assert_true(f.mul[0] < f.mul[7] / 2);
}

static void fill_gelu(size_t n)
{
    fill_channels(n, CHANNELS, 1, x);
    vec_gelu(n * CHANNELS, x, x);
}

/* Sum over channels of energy times squared error. */
static double cost_of(const struct rows *r, const struct channel_fold *f, int bits)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++)
        for (size_t c = 0; c < CHANNELS; c++) {
            double v = (double)r->x[i * CHANNELS + c];
            double off = level_of(f, code_of(f, c, v, bits)) / (double)f->mul[c] - v;
            sum += (double)energy[c] * off * off;
        }
    return sum;
}

static void the_common_factor_is_better_than_none_and_never_clips_at_eight_bits(void **state)
{
    struct err e = { 0 };
    for (int bits = 3; bits <= 8; bits++)
        for (int kind = 0; kind < 2; kind++) {
            fill_channels(ROWS, CHANNELS, 1, x);
            if (kind)
                fill_gelu(ROWS);
            struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
            struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
            struct channel_fold plain, f;
            double factor;
            assert_true(channel_fold_scales(&full, CHANNELS, bits, energy, .9, *state, &plain, &e));
            assert_true(channel_fold_anchored(&r, &full, bits, energy, .9, NULL, *state, &f, &factor, &e));
            double with = cost_of(&r, &f, bits), without = cost_of(&r, &plain, bits);
            if (!(with <= without * (1 + 1e-4)))
                fail_msg("%d bits: %g with the factor %g, %g without", bits, with, factor, without);
            assert_true(bits < 8 || factor >= 1);
            for (size_t c = 0; c < CHANNELS && kind; c++) {
                double step = (double)f.scale / (double)f.mul[c];
                assert_true((double)full.lo[c] >= -(f.zero + 0.501) * step);
            }
        }
}

/* Half of the values just below zero as GELU makes them, the others up to 1, and a row far out that does not count. */
static void an_outlier_is_given_up_below_eight_bits_and_the_lower_end_is_not(void **state)
{
    struct err e = { 0 };
    float weight[ROWS];
    for (size_t i = 0; i < ROWS * CHANNELS; i++) {
        x[i] = i / CHANNELS % 2 ? uniform(-.17f, -.1f) : i < CHANNELS ? 8 : uniform(0, 1);
        weight[i / CHANNELS] = i >= CHANNELS;
    }
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
    struct channel_fold f;
    double factor;
    r.weight = weight;
    for (int bits = 3; bits <= 8; bits++) {
        assert_true(channel_fold_anchored(&r, &full, bits, energy, .9, NULL, *state, &f, &factor, &e));
        double step = (double)f.scale / (double)f.mul[0];
        if (!(bits < 8 ? factor < 1 && f.zero >= 1 : factor == 1 && f.zero >= 4))
            fail_msg("%d bits: factor %g, zero point %d", bits, factor, f.zero);
        assert_true(code_of(&f, 0, (double)full.lo[0], bits) == f.zero + (int)rint((double)full.lo[0] / step));
    }
}

static void two_threads_choose_the_same_factor(void **state)
{
    struct err e = { 0 };
    struct pool *pool = pool_new(2, &e);
    assert_non_null(pool);
    fill_gelu(ROWS);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
    struct channel_fold f, g;
    double factor, again;
    assert_true(channel_fold_anchored(&r, &full, 4, energy, .9, NULL, *state, &f, &factor, &e));
    assert_true(channel_fold_anchored(&r, &full, 4, energy, .9, pool, *state, &g, &again, &e));
    assert_true(factor == again && f.zero == g.zero && f.scale == g.scale);
    assert_memory_equal(f.mul, g.mul, CHANNELS * sizeof *f.mul);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_worked_layernorm_folds_as_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(the_worked_codes_and_outputs_come_out, setup, teardown),
        cmocka_unit_test_setup_teardown(integer_offsets_give_each_channel_its_own_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_free_offset_puts_both_ends_on_the_outermost_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(folding_changes_no_float_result, setup, teardown),
        cmocka_unit_test_setup_teardown(the_common_scale_does_not_show_in_the_codes_of_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(the_zero_point_does_not_show_behind_a_corrected_bias, setup, teardown),
        cmocka_unit_test_setup_teardown(awkward_channels_get_usable_factors, setup, teardown),
        cmocka_unit_test_setup_teardown(one_factor_a_channel_represents_all_values_to_half_a_step, setup, teardown),
        cmocka_unit_test_setup_teardown(a_floor_gives_quiet_channels_the_step_of_the_others, setup, teardown),
        cmocka_unit_test_setup_teardown(the_common_factor_is_better_than_none_and_never_clips_at_eight_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outlier_is_given_up_below_eight_bits_and_the_lower_end_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(two_threads_choose_the_same_factor, setup, teardown),
    };
    struct err e = { 0 };
    return blas_init(&e) ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
