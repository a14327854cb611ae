/* Ranges to quantizers, weights to codes: rows with labels, laws beside them. */
#include "core/quant/quantizer.h"
#include "core/kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint64_t state_of_random = 1;

static float uniform(float lo, float hi)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(state_of_random >> 40) * 0x1p-24f;
}

/* ---- quantizer_from_range ---- */

static void a_range_gives_the_quantizer_that_covers_it_and_zero(void **state)
{
    (void)state;
    static const struct {
        const char *label;
        float lo, hi;
        int bits;
        bool symmetric;
        struct affine want;
    } rows[] = {
        { "symmetric, the positive side is larger", -1.0f, 1.27f, 8, true, { 0.01f, 0, -128, 127, DT_I8 } },
        { "symmetric, the negative side is larger", -2.54f, 1.0f, 8, true, { 0.02f, 0, -128, 127, DT_I8 } },
        { "asymmetric", -1.0f, 1.55f, 8, false, { 0.01f, 100, 0, 255, DT_U8 } },
        { "a range above zero is widened", 1.0f, 2.55f, 8, false, { 0.01f, 0, 0, 255, DT_U8 } },
        { "a range below zero is widened", -2.55f, -1.0f, 8, false, { 0.01f, 255, 0, 255, DT_U8 } },
        { "4 bits symmetric", -7.0f, 7.0f, 4, true, { 1.0f, 0, -8, 7, DT_I8 } },
        { "4 bits asymmetric", -5.0f, 10.0f, 4, false, { 1.0f, 5, 0, 15, DT_U8 } },
        { "2 bits symmetric", -3.0f, 2.0f, 2, true, { 3.0f, 0, -2, 1, DT_I8 } },
        { "2 bits asymmetric", 0.0f, 3.0f, 2, false, { 1.0f, 0, 0, 3, DT_U8 } },
        { "the zero point is rounded half to even", -0.5f, 254.5f, 8, false, { 1.0f, 0, 0, 255, DT_U8 } },
        { "a constant zero, symmetric", 0.0f, 0.0f, 8, true, { 1.0f, 0, -128, 127, DT_I8 } },
        { "a constant zero, asymmetric", 0.0f, -0.0f, 8, false, { 1.0f, 0, 0, 255, DT_U8 } },
        { "denormals do not make a scale of zero", -1e-44f, 1e-44f, 8, true, { FLT_MIN, 0, -128, 127, DT_I8 } },
        { "nor asymmetric ones", 0, 1e-44f, 8, false, { FLT_MIN, 0, 0, 255, DT_U8 } },
        { "the whole float range does not overflow", -FLT_MAX, FLT_MAX, 8, false, { FLT_MAX / 127.5f, 128, 0, 255, DT_U8 } },
        { "nor does it symmetric", -FLT_MAX, FLT_MAX, 8, true, { FLT_MAX / 127.0f, 0, -128, 127, DT_I8 } },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct affine got = quantizer_from_range(rows[i].lo, rows[i].hi, rows[i].bits, rows[i].symmetric), want = rows[i].want;
        if (!(fabsf(got.scale / want.scale - 1) < 1e-6f) || got.zero != want.zero || got.qmin != want.qmin || got.qmax != want.qmax
            || got.dtype != want.dtype)
            fail_msg("%s: scale %g zero %d codes %d..%d", rows[i].label, (double)got.scale, got.zero, got.qmin, got.qmax);
    }
}

static float round_trip(float x, const struct affine *a)
{
    float q;
    quantize_to_float(1, &x, a->scale, a->zero, a->qmin, a->qmax, &q);
    return q * a->scale;
}

static void check_round_trip(float lo, float hi, int bits, bool symmetric)
{
    struct affine a = quantizer_from_range(lo, hi, bits, symmetric);
    assert_true(a.scale > 0 && isfinite(a.scale) && a.zero >= a.qmin && a.zero <= a.qmax);
    assert_true(a.qmax - a.qmin == (1 << bits) - 1);
    assert_true(round_trip(0, &a) == 0);
    for (int i = 0; i <= 100; i++) {
        float x = (float)((double)lo + ((double)hi - (double)lo) * i / 100);
        double off = fabs((double)round_trip(x, &a) - (double)x), slack = 1e-6 * fabs((double)x);
        if (!(off <= 0.5 * (double)a.scale + slack))
            fail_msg("[%g, %g] %d bits: %g comes back %g steps away", (double)lo, (double)hi, bits, (double)x, off / (double)a.scale);
    }
}

static void what_lies_in_the_range_comes_back_within_half_a_step_and_zero_exactly(void **state)
{
    (void)state;
    for (int bits = 2; bits <= 8; bits++)
        for (int i = 0; i < 200; i++) {
            float a = uniform(-1, 1), b = uniform(-1, 1);
            int size = (int)uniform(-126, 126);
            float lo = ldexpf(fminf(a, b), size), hi = ldexpf(fmaxf(a, b), size);
            check_round_trip(lo, hi, bits, false);
            check_round_trip(lo, hi, bits, true);
        }
    check_round_trip(-0.99f * FLT_MAX, 0.99f * FLT_MAX, 8, false);
    check_round_trip(-0.99f * FLT_MAX, 0.99f * FLT_MAX, 8, true);
    check_round_trip(0, 0.99f * FLT_MAX, 2, false);
    check_round_trip(-1e-44f, 3e-45f, 8, false);
}

static void the_limits_are_the_values_of_the_outermost_codes(void **state)
{
    (void)state;
    float lo, hi;
    struct affine a = { 0.5f, 3, 0, 15, DT_U8 };
    quantizer_limits(&a, &lo, &hi);
    assert_true(lo == -1.5f && hi == 6.0f);
    assert_true(round_trip(-100, &a) == lo && round_trip(100, &a) == hi);
    assert_true(round_trip(-INFINITY, &a) == lo && round_trip(INFINITY, &a) == hi);
}

static void a_bias_is_rounded_to_even_and_saturates(void **state)
{
    (void)state;
    static const struct { float b, scale; int32_t want; } rows[] = {
        { 1, 1, 1 }, { 2.5f, 1, 2 }, { 3.5f, 1, 4 }, { -2.5f, 1, -2 }, { 1, 0.25f, 4 },
        { 1e30f, 1e-10f, INT32_MAX }, { -1e30f, 1e-10f, INT32_MIN }, { FLT_MAX, FLT_MIN, INT32_MAX }, { 0, FLT_MIN, 0 },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(quantizer_bias(rows[i].b, rows[i].scale), rows[i].want);
}

/* ---- weights ---- */

/* A graph of one constant, seen as some layer's weight. */
struct source { struct arena *mem; struct graph g; struct value v; struct layer l; float *w; };

static void source_make(struct source *s, enum layer_kind kind, bool transposed, int64_t k, int64_t n)
{
    *s = (struct source){ .mem = arena_new(1 << 24) };
    s->w = arena_array(s->mem, (uint64_t)(k * n), sizeof *s->w, NULL);
    for (int64_t i = 0; i < k * n; i++)
        s->w[i] = uniform(-1, 1) * (float)(1 + i % 7);
    s->v = (struct value){ .name = "w", .dtype = DT_F32, .is_const = true, .data = s->w };
    s->l = (struct layer){ .kind = kind, .name = "fc", .weight = 0, .transposed = transposed, .k = k, .n = n };
}

static const struct graph *graph_around(struct source *s)
{
    s->g = (struct graph){ .values = &s->v, .n_values = 1 };
    return &s->g;
}

/* Element (k, n) of the layer's product, whatever its layout. */
static float element(const struct source *s, int64_t k, int64_t n)
{
    bool by_output = s->l.transposed || s->l.kind == LAYER_CONV;
    return by_output ? s->w[n * s->l.k + k] : s->w[k * s->l.n + n];
}

static int8_t code(const struct source *s, const struct qweight *w, int64_t k, int64_t n)
{
    return s->l.kind == LAYER_CONV ? w->codes[n * s->l.k + k] : w->codes[k * s->l.n + n];
}

static const struct weight_grid per_channel_grid = { .rows = 1 };

static void check_against_plain_loops(struct source *s, int bits, bool per_channel)
{
    struct err e = { 0 };
    struct qweight w;
    struct weight_grid grid = { .rows = per_channel };
    assert_true(qweight_round(graph_around(s), &s->l, NULL, bits, &grid, true, s->mem, &w, &e));
    assert_true(w.k == (size_t)s->l.k && w.n == (size_t)s->l.n && w.bits == bits);
    float top = (float)((1 << (bits - 1)) - 1), reach_all = 0;
    for (int64_t i = 0; i < s->l.k * s->l.n; i++)
        reach_all = fmaxf(reach_all, fabsf(s->w[i]));
    double signal = 0, noise = 0;
    for (int64_t n = 0; n < s->l.n; n++) {
        float reach = 0;
        for (int64_t k = 0; k < s->l.k; k++)
            reach = fmaxf(reach, fabsf(element(s, k, n)));
        float scale = (per_channel ? reach : reach_all) > 0 ? (per_channel ? reach : reach_all) / top : 1;
        assert_true(w.scale[n] == scale);
        for (int64_t k = 0; k < s->l.k; k++) {
            float x = element(s, k, n);
            assert_int_equal(code(s, &w, k, n), (int)rintf(x / scale));
            double off = (double)x - (double)((float)code(s, &w, k, n) * scale);
            assert_true(fabs(off) <= 0.50001 * (double)scale);
            signal += (double)x * (double)x;
            noise += off * off;
        }
    }
    assert_true(fabs(w.signal / signal - 1) < 1e-12 && fabs(w.error - noise) <= 1e-12 * noise);
    const float *floats = qweight_floats(&w, &s->l, s->mem, &e);
    for (int64_t i = 0; i < s->l.k * s->l.n; i++)
        assert_true(floats[i] == (float)w.codes[i]);
}

static void weights_of_every_layout_are_rounded_as_plain_loops_do(void **state)
{
    (void)state;
    static const struct { enum layer_kind kind; bool transposed; } layouts[] = {
        { LAYER_LINEAR, false }, { LAYER_LINEAR, true }, { LAYER_CONV, false },
    };
    static const int64_t sizes[][2] = { { 1, 1 }, { 5, 3 }, { 3, 5 }, { 33, 17 }, { 1, 9 }, { 9, 1 } };
    for (size_t i = 0; i < COUNT(layouts); i++)
        for (size_t k = 0; k < COUNT(sizes); k++)
            for (int bits = 2; bits <= 8; bits++) {
                struct source s;
                source_make(&s, layouts[i].kind, layouts[i].transposed, sizes[k][0], sizes[k][1]);
                check_against_plain_loops(&s, bits, true);
                check_against_plain_loops(&s, bits, false);
                arena_free(s.mem);
            }
}

static void a_channel_of_zeros_keeps_a_usable_scale_and_is_counted(void **state)
{
    (void)state;
    struct source s;
    struct err e = { 0 };
    struct qweight w;
    source_make(&s, LAYER_LINEAR, false, 4, 3);
    for (int k = 0; k < 4; k++)
        s.w[k * 3 + 1] = 0;
    s.w[2] = 1e-44f;      /* and one of denormals alone */
    s.w[5] = s.w[8] = s.w[11] = 0;
    assert_true(qweight_round(graph_around(&s), &s.l, NULL, 8, &per_channel_grid, true, s.mem, &w, &e));
    assert_true(w.zero_channels == 1 && w.scale[1] == 1 && w.scale[2] == FLT_MIN);
    assert_true(w.codes[1] == 0 && w.codes[2] == 0);
    arena_free(s.mem);
}

/* What a convolution of two inputs and two channels gives on codes 100 and -50 of a step of 0.5, bias in whole units. */
static double on_codes(const struct qweight *w, int channel, float bias)
{
    int zero = w->zero ? w->zero[channel] : 0;
    int32_t sum = 100 * (w->codes[2 * channel] - zero) - 50 * (w->codes[2 * channel + 1] - zero);
    int32_t unit = quantizer_bias(bias, 0.5f * w->scale[channel]);
    assert_true(abs(unit) <= 1 << 28);
    return (double)(sum + unit) * 0.5 * (double)w->scale[channel];
}

static void scales_leave_room_for_a_convolutions_bias(void **state)
{
    (void)state;
    static const struct { const char *label; float w[4], bias[2]; size_t rows; bool changed; } cases[] = {
        { "ordinary weights", { 1, -0.5f, 0.25f, 1 }, { 0.4f, -3 }, 1, false },
        { "no weights", { 1, -0.5f, 0, 0 }, { 0.4f, -0.21f }, 1, true },
        { "no weights and no bias", { 1, -0.5f, 0, 0 }, { 0.4f, 0 }, 1, false },
        { "tiny weights", { 1, -0.5f, 1e-11f, -1e-11f }, { 0.4f, 0.45f }, 1, true },
        { "denormals", { 1, -0.5f, 1e-42f, 0 }, { 0.4f, 1e4f }, 1, true },
        { "tiny weights that share a scale", { 1e-11f, 0, 2e-11f, 0 }, { 0.4f, 0.45f }, 0, true },
        { "one channel without weights under a shared scale", { 1, -0.5f, 0, 0 }, { 0.4f, 0.45f }, 0, false },
    };
    for (size_t i = 0; i < COUNT(cases) * 2; i++) {
        struct source s;
        struct err e = { 0 };
        struct qweight w;
        struct weight_grid grid = { .rows = cases[i / 2].rows };
        source_make(&s, LAYER_CONV, false, 2, 2);
        memcpy(s.w, cases[i / 2].w, sizeof cases[0].w);
        assert_true(qweight_round(graph_around(&s), &s.l, NULL, 8, &grid, i % 2, s.mem, &w, &e));
        w.bias = arena_array(s.mem, 2, sizeof *w.bias, &e);
        memcpy(w.bias, cases[i / 2].bias, sizeof cases[0].bias);
        if (qweight_fit_bias(&s.g, &s.l, grid.rows, 0.5f, &w) != cases[i / 2].changed)
            fail_msg("%s: scales %g %g", cases[i / 2].label, (double)w.scale[0], (double)w.scale[1]);
        assert_true(grid.rows == 1 || w.scale[0] == w.scale[1]);
        for (int c = 0; c < 2; c++) {
            double want = 50 * (double)s.w[2 * c] - 25 * (double)s.w[2 * c + 1] + (double)w.bias[c], got = on_codes(&w, c, w.bias[c]);
            if (!(fabs(got - want) <= 0.02 * fabs(want)))
                fail_msg("%s: channel %d gives %g, not %g", cases[i / 2].label, c, got, want);
        }
        arena_free(s.mem);
    }
}

static void a_weight_that_is_not_finite_is_refused_with_its_channel(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct source s;
        struct err e = { 0 };
        struct qweight w;
        source_make(&s, LAYER_LINEAR, true, 4, 3);
        s.w[2 * 4 + 1] = bad[i];
        assert_false(qweight_round(graph_around(&s), &s.l, NULL, 8, &per_channel_grid, true, s.mem, &w, &e));
        assert_int_equal(e.code, ERR_NUMERIC_NONFINITE);
        assert_string_equal(e.where, "w");
        assert_non_null(strstr(e.text, "output channel 2"));
        assert_non_null(strstr(e.text, "layer 'fc'"));
        arena_free(s.mem);
    }
}

static void histograms_before_and_after_count_every_weight(void **state)
{
    (void)state;
    for (int conv = 0; conv < 2; conv++) {
        struct source s;
        struct err e = { 0 };
        struct qweight w;
        uint64_t before[16] = { 0 }, after[16] = { 0 }, sums[2] = { 0 };
        float lo, hi;
        source_make(&s, conv ? LAYER_CONV : LAYER_LINEAR, false, 12, 7);
        assert_true(qweight_round(graph_around(&s), &s.l, NULL, 2, &per_channel_grid, true, s.mem, &w, &e));
        qweight_histogram(&s.g, &s.l, &w, NULL, 16, &lo, &hi, before, after);
        for (int i = 0; i < 16; i++) {
            sums[0] += before[i];
            sums[1] += after[i];
        }
        assert_true(sums[0] == 84 && sums[1] == 84 && lo == -hi && hi > 0);
        assert_memory_not_equal(before, after, sizeof before);
        arena_free(s.mem);
    }
}

/* ---- packing ---- */

static void codes_of_four_bits_are_packed_low_half_first(void **state)
{
    (void)state;
    static const int8_t codes[] = { 1, -1, -8, 7, 3 };
    static const uint8_t want[] = { 0xf1, 0x78, 0x03 };
    for (size_t n = 0; n <= COUNT(codes); n++) {
        uint8_t got[4] = { 0xaa, 0xaa, 0xaa, 0xaa };
        pack_int4(n, codes, got);
        assert_memory_equal(got, want, n / 2);
        if (n % 2)
            assert_int_equal(got[n / 2], want[n / 2] & 15);
        assert_int_equal(got[(n + 1) / 2], 0xaa);
    }
}

static void every_pair_of_codes_comes_back_from_its_byte(void **state)
{
    (void)state;
    for (int lo = -8; lo < 8; lo++)
        for (int hi = -8; hi < 8; hi++) {
            uint8_t byte;
            pack_int4(2, (const int8_t[]){ (int8_t)lo, (int8_t)hi }, &byte);
            assert_true(((byte & 15) ^ 8) - 8 == lo && ((byte >> 4) ^ 8) - 8 == hi);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_gives_the_quantizer_that_covers_it_and_zero),
        cmocka_unit_test(what_lies_in_the_range_comes_back_within_half_a_step_and_zero_exactly),
        cmocka_unit_test(the_limits_are_the_values_of_the_outermost_codes),
        cmocka_unit_test(a_bias_is_rounded_to_even_and_saturates),
        cmocka_unit_test(weights_of_every_layout_are_rounded_as_plain_loops_do),
        cmocka_unit_test(a_channel_of_zeros_keeps_a_usable_scale_and_is_counted),
        cmocka_unit_test(scales_leave_room_for_a_convolutions_bias),
        cmocka_unit_test(a_weight_that_is_not_finite_is_refused_with_its_channel),
        cmocka_unit_test(histograms_before_and_after_count_every_weight),
        cmocka_unit_test(codes_of_four_bits_are_packed_low_half_first),
        cmocka_unit_test(every_pair_of_codes_comes_back_from_its_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
