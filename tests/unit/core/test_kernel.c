/* Every fast kernel but the products against its plain meaning in kernel/ref, within the bound kernel.h states. */
#include "core/kernel/kernel.h"
#include "core/kernel/ref/ref.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const size_t sizes[] = { 0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 100, 197, 512, 513, 1000, 1601 };
enum { MOST = 1601, ROWS = 5, ROOM = ROWS * MOST + 64 };

/* Buffers of the tests; `+ 1` on a pointer into them is the unaligned case. */
static float in[ROOM], in2[ROOM], in3[ROOM], got[ROOM], want[ROOM];

/* ---- numbers ---- */

static uint64_t state_of_random = 1;

static uint32_t random_bits(void)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_random >> 32);
}

static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(random_bits() >> 8) * 0x1p-24f; }

static void fill(size_t n, float *x, float lo, float hi)
{
    for (size_t i = 0; i < n; i++)
        x[i] = uniform(lo, hi);
}

/* Every seventh element something awkward. */
static void fill_awkward(size_t n, float *x)
{
    static const float awkward[] = {
        NAN, INFINITY, -INFINITY, 0.0f, -0.0f, FLT_MIN / 2, -FLT_MIN / 8, 1e-45f, FLT_MIN, FLT_MAX, -FLT_MAX,
        88.5f, 89.0f, -87.5f, -88.0f, -103.0f, -104.5f, 3.95f, -3.95f, 9.0f, -9.5f, 1e-20f, -1e20f, 0.5f, 1.5f, 2.5f,
    };
    fill(n, x, -12, 12);
    for (size_t i = 0; i < n; i += 7)
        x[i] = awkward[random_bits() % COUNT(awkward)];
}

static bool close_to(float a, float b, double bound)
{
    return a == b || (isnan(a) && isnan(b)) || fabs((double)a - (double)b) <= bound;
}

static void expect_close(const char *what, size_t n, const float *a, const float *b, double absolute, double relative)
{
    for (size_t i = 0; i < n; i++)
        if (!close_to(a[i], b[i], absolute + relative * fabs((double)b[i])))
            fail_msg("%s: element %zu of %zu is %.9g instead of %.9g", what, i, n, (double)a[i], (double)b[i]);
}

static void expect_same(const char *what, size_t n, const float *a, const float *b)
{
    expect_close(what, n, a, b, 0, 0);
}

/* ---- rows ---- */

/* y may be x: run once more in place and expect the same bits. */
static void expect_norms(const char *what, size_t rows, size_t n, const float *x, const float *gamma, const float *beta)
{
    double bound = 0;
    layernorm(rows, n, x, gamma, beta, 1e-5f, got);
    ref_layernorm(rows, n, x, gamma, beta, 1e-5f, want);
    for (size_t i = 0; i < rows * n; i++)
        bound = fmax(bound, 2e-6 * fabs((double)want[i]));
    expect_close(what, rows * n, got, want, bound, 0);
    memcpy(want, x, rows * n * sizeof *want);
    layernorm(rows, n, want, gamma, beta, 1e-5f, want);
    expect_same(what, rows * n, want, got);
    rmsnorm(rows, n, x, gamma, 1e-6f, got);
    ref_rmsnorm(rows, n, x, gamma, 1e-6f, want);
    expect_close(what, rows * n, got, want, 0, 1e-6);
    memcpy(want, x, rows * n * sizeof *want);
    rmsnorm(rows, n, want, gamma, 1e-6f, want);
    expect_same(what, rows * n, want, got);
}

static void norms_agree_with_the_double_formula(void **state)
{
    (void)state;
    static const float means[] = { 0, 1, -100, 30000 };
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t j = 0; j < COUNT(means); j++) {
            fill(ROOM, in, means[j] - 3, means[j] + 3);
            fill(MOST + 1, in2, -2, 2);
            fill(MOST + 1, in3, -1, 1);
            in[sizes[i] / 2] = means[j] + 500;    /* an outlier channel */
            expect_norms("norm with gamma and beta", ROWS, sizes[i], in + 1, in2 + 1, in3 + 1);
            expect_norms("plain norm", ROWS, sizes[i], in, NULL, NULL);
            expect_norms("norm with gamma", ROWS, sizes[i], in, in2, NULL);
            expect_norms("norm with beta", ROWS, sizes[i], in, NULL, in3);
        }
}

static void a_constant_row_has_no_variance(void **state)
{
    (void)state;
    for (size_t i = 1; i < COUNT(sizes); i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            in[j] = 12345.678f;
        layernorm(1, sizes[i], in, NULL, NULL, 1e-5f, got);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_true(got[j] == 0);
    }
}

static void one_bad_element_spoils_its_own_row_only(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < COUNT(bad); i++) {
        fill(300, in, -1, 1);
        in[150] = bad[i];
        layernorm(3, 100, in, NULL, NULL, 1e-5f, got);
        for (size_t j = 0; j < 300; j++)
            assert_true((isnan(got[j]) != 0) == (j / 100 == 1));
    }
}

static void check_softmax(size_t rows, size_t n, const float *x)
{
    softmax(rows, n, x, got);
    ref_softmax(rows, n, x, want);
    for (size_t i = 0; i < rows * n; i++)    /* |x - max| <= |log y| + log n */
        if (!close_to(got[i], want[i], 2e-38 + (double)want[i] * (1e-6 + 6e-8 * (8 - log((double)want[i] + 1e-300)))))
            fail_msg("softmax: element %zu of rows of %zu is %.9g instead of %.9g", i, n, (double)got[i], (double)want[i]);
    memcpy(want, x, rows * n * sizeof *want);
    softmax(rows, n, want, want);
    expect_same("softmax in place", rows * n, want, got);
    log_softmax(rows, n, x, got);
    ref_log_softmax(rows, n, x, want);
    expect_close("log_softmax", rows * n, got, want, 1e-6, 1e-6);
    memcpy(want, x, rows * n * sizeof *want);
    log_softmax(rows, n, want, want);
    expect_same("log_softmax in place", rows * n, want, got);
}

static void a_masked_softmax_is_one_of_what_was_scaled_and_masked(void **state)
{
    (void)state;
    static const size_t mask_rows[] = { 1, ROWS };
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t j = 0; j < 3; j++) {
            const float *mask = j < COUNT(mask_rows) ? in2 : NULL;
            size_t n = sizes[i], m = mask ? mask_rows[j] : 1;
            fill(ROOM, in, -6, 6);
            fill(ROOM, in2, -3, 3);
            softmax_masked(ROWS, n, in, 0.37f, mask, m, got);
            ref_softmax_masked(ROWS, n, in, 0.37f, mask, m, want);
            for (size_t k = 0; k < ROWS * n; k++)
                assert_true(close_to(got[k], want[k], 3e-6 * (double)want[k] + 2e-38));
            memcpy(want, in, ROWS * n * sizeof *want);
            softmax_masked(ROWS, n, want, 0.37f, mask, m, want);
            expect_same("masked softmax in place", ROWS * n, want, got);
        }
}

static void softmax_agrees_with_the_double_formula(void **state)
{
    (void)state;
    static const float widths[] = { 0, 1, 10, 100, 1e30f };
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t j = 0; j < COUNT(widths); j++) {
            fill(ROOM, in, -widths[j], widths[j]);
            check_softmax(ROWS, sizes[i], in + 1);
        }
}

static void softmax_treats_infinities_and_nan_as_the_formula_does(void **state)
{
    (void)state;
    static const float special[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 1; i < COUNT(sizes); i++)
        for (size_t j = 0; j < COUNT(special); j++) {
            fill(ROOM, in, -5, 5);
            in[sizes[i] - 1] = special[j];
            in[sizes[i] + sizes[i] / 2] = -special[j];
            for (size_t c = 0; c < sizes[i]; c++)
                in[2 * sizes[i] + c] = -INFINITY;    /* a row masked out completely: NaN */
            check_softmax(ROWS, sizes[i], in);
        }
}

/* ---- elements ---- */

typedef void elements(size_t n, const float *x, float *y);

/* bound: absolute, times max(1, |x|) if `grows`. */
static const struct function { const char *name; elements *fast, *ref; double absolute; bool grows; } functions[] = {
    { "erf", vec_erf, ref_vec_erf, 4e-7, false },
    { "tanh", vec_tanh, ref_vec_tanh, 4e-7, false },
    { "sigmoid", vec_sigmoid, ref_vec_sigmoid, 4e-7, false },
    { "gelu", vec_gelu, ref_vec_gelu, 4e-7, true },
    { "silu", vec_silu, ref_vec_silu, 4e-7, true },
};

static void check_function(const struct function *f, size_t n, const float *x)
{
    f->fast(n, x, got);
    f->ref(n, x, want);
    for (size_t i = 0; i < n; i++) {
        double scale = f->grows && fabsf(x[i]) > 1 && isfinite(x[i]) ? fabs((double)x[i]) : 1;
        if (!close_to(got[i], want[i], f->absolute * scale))
            fail_msg("%s(%.9g) is %.9g instead of %.9g", f->name, (double)x[i], (double)got[i], (double)want[i]);
    }
    memcpy(want, x, n * sizeof *want);
    f->fast(n, want, want);
    expect_same(f->name, n, want, got);
}

static void element_functions_agree_with_libm(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(functions); f++) {
        for (size_t i = 0; i < COUNT(sizes); i++)
            for (size_t offset = 0; offset < 3; offset++) {
                fill_awkward(ROOM, in);
                check_function(&functions[f], sizes[i], in + offset);
            }
        for (int i = 0; i < 100; i++) {
            fill(MOST, in, (float)(i - 50) / 4, (float)(i - 49) / 4);
            check_function(&functions[f], MOST, in);
        }
    }
}

static void small_arguments_keep_their_relative_accuracy(void **state)
{
    (void)state;
    for (int e = -140; e < 0; e++) {
        fill(64, in, -ldexpf(1, e), ldexpf(1, e));
        vec_tanh(64, in, got);
        ref_vec_tanh(64, in, want);
        expect_close("tanh", 64, got, want, 2e-45, 4e-7);
        vec_erf(64, in, got);
        ref_vec_erf(64, in, want);
        expect_close("erf", 64, got, want, 2e-45, 4e-7);
    }
}

static void exp_is_within_two_ulp_and_denormal_results_within_two_steps(void **state)
{
    (void)state;
    for (int i = -106; i < 90; i++) {
        fill(MOST, in, (float)i, (float)i + 1);
        vec_exp(MOST, in + 1, got);
        ref_vec_exp(MOST, in + 1, want);
        for (size_t j = 0; j < MOST - 1; j++) {
            double ulp = isinf(want[j]) ? 0 : (double)nextafterf(want[j], INFINITY) - (double)want[j];
            if (!close_to(got[j], want[j], 2 * ulp))
                fail_msg("exp(%.9g) is %.9g instead of %.9g", (double)in[j + 1], (double)got[j], (double)want[j]);
        }
    }
}

static void exp_meets_its_limits(void **state)
{
    (void)state;
    const float x[] = { -INFINITY, INFINITY, NAN, 0, -0.0f, -200, 200, FLT_MAX, -FLT_MAX, 1e-45f };
    const float y[] = { 0, INFINITY, NAN, 1, 1, 0, INFINITY, INFINITY, 0, 1 };
    vec_exp(COUNT(x), x, got);
    expect_same("exp", COUNT(x), got, y);
}

static void saturated_functions_are_exactly_one(void **state)
{
    (void)state;
    fill(MOST, in, -1e30f, -20);
    vec_gelu(MOST, in, got);
    for (size_t i = 0; i < MOST; i++)
        assert_true(got[i] == 0);
    for (size_t i = 0; i < MOST; i++)
        in[i] = -in[i];
    vec_gelu(MOST, in, got);
    expect_same("gelu", MOST, got, in);
    vec_tanh(MOST, in, got);
    for (size_t i = 0; i < MOST; i++)
        assert_true(got[i] == 1);
}

static void a_row_is_added_to_every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        fill_awkward(ROOM, in);
        fill(ROOM, in2, -1, 1);
        vec_affine_row(ROWS, sizes[i], in + 1, in2 + 2, in2 + 3, got);
        ref_vec_affine_row(ROWS, sizes[i], in + 1, in2 + 2, in2 + 3, want);
        expect_same("affine_row", ROWS * sizes[i], got, want);
        vec_affine_row(ROWS, sizes[i], in + 1, in2 + 2, NULL, got);
        ref_vec_affine_row(ROWS, sizes[i], in + 1, in2 + 2, NULL, want);
        expect_same("affine_row without shift", ROWS * sizes[i], got, want);
        vec_threshold(ROWS * sizes[i], in + 1, 0.25f, got);
        ref_vec_threshold(ROWS * sizes[i], in + 1, 0.25f, want);
        expect_same("threshold", ROWS * sizes[i], got, want);
        level_codes(ROWS * sizes[i], in + 1, -2.885390f, 3, -0.346574f, got);
        ref_level_codes(ROWS * sizes[i], in + 1, -2.885390f, 3, -0.346574f, want);
        expect_same("level_codes", ROWS * sizes[i], got, want);
        fake_quantize(ROWS * sizes[i], in + 1, 0.37f, -5.3f, 9.7f, got);
        ref_fake_quantize(ROWS * sizes[i], in + 1, 0.37f, -5.3f, 9.7f, want);
        expect_same("fake_quantize", ROWS * sizes[i], got, want);
        vec_add_row(ROWS, sizes[i], in + 1, in2 + 2, got);
        ref_vec_add_row(ROWS, sizes[i], in + 1, in2 + 2, want);
        expect_same("add_row", ROWS * sizes[i], got, want);
        vec_add_row(ROWS, sizes[i], in + 1, in2 + 2, in + 1);
        expect_same("add_row in place", ROWS * sizes[i], in + 1, want);
    }
}

/* ---- layout ---- */

static void transposing_moves_every_element_and_twice_moves_it_back(void **state)
{
    (void)state;
    static const size_t dims[] = { 0, 1, 3, 4, 5, 15, 16, 17, 33, 63, 64 };
    for (size_t i = 0; i < COUNT(dims); i++)
        for (size_t j = 0; j < COUNT(dims); j++) {
            size_t rows = dims[i], cols = dims[j], ldx = cols + 3, ldy = rows + 1;
            fill_awkward(ROOM, in);
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            transpose_2d(rows, cols, in + 1, ldx, got, ldy);
            ref_transpose_2d(rows, cols, in + 1, ldx, want, ldy);
            assert_memory_equal(got, want, sizeof got);
            memcpy(want, in, sizeof want);
            transpose_2d(cols, rows, got, ldy, in + 1, ldx);
            assert_memory_equal(in, want, sizeof in);
        }
}

static void im2col_agrees_with_the_padded_image(void **state)
{
    (void)state;
    static const struct conv_shape shapes[] = {    /* c h w, kernel, stride, pad, dilation, output */
        { 3, 32, 32, 16, 16, 16, 16, 0, 0, 1, 1, 2, 2 }, { 2, 7, 9, 3, 3, 1, 1, 1, 1, 1, 1, 7, 9 },
        { 1, 5, 6, 3, 2, 2, 3, 0, 1, 1, 1, 2, 3 },       { 2, 8, 8, 3, 3, 1, 1, 2, 2, 2, 2, 8, 8 },
        { 1, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1 },       { 4, 6, 5, 1, 1, 1, 1, 0, 0, 1, 1, 6, 5 },
        { 1, 2, 2, 2, 2, 3, 3, 5, 5, 1, 1, 4, 4 },       { 3, 9, 11, 1, 5, 1, 2, 0, 2, 1, 1, 9, 6 },
    };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const struct conv_shape *s = &shapes[i];
        size_t n = s->oh * s->ow * s->c * s->kh * s->kw;
        assert_true(n < ROOM);
        fill(ROOM, in, 1, 2);
        memset(got, 0xff, sizeof got);
        memset(want, 0xff, sizeof want);
        im2col(s, in + 1, got);
        ref_im2col(s, in + 1, want);
        assert_memory_equal(got, want, sizeof got);
    }
}

/* ---- quantization ---- */

static void check_quantize(size_t n, const float *x, float scale, int zero, int qmin, int qmax)
{
    static uint8_t u[2][ROOM];
    static int8_t s[2][ROOM];
    if (qmin >= 0) {
        quantize_u8(n, x, scale, zero, qmin, qmax, u[0] + 1);
        ref_quantize_u8(n, x, scale, zero, qmin, qmax, u[1] + 1);
        assert_memory_equal(u[0] + 1, u[1] + 1, n);
    } else {
        quantize_i8(n, x, scale, zero, qmin, qmax, s[0] + 1);
        ref_quantize_i8(n, x, scale, zero, qmin, qmax, s[1] + 1);
        assert_memory_equal(s[0] + 1, s[1] + 1, n);
    }
    quantize_to_float(n, x, scale, zero, qmin, qmax, got);
    ref_quantize_to_float(n, x, scale, zero, qmin, qmax, want);
    expect_same("quantize_to_float", n, got, want);
    memcpy(want, x, n * sizeof *want);
    quantize_to_float(n, want, scale, zero, qmin, qmax, want);
    expect_same("quantize_to_float in place", n, want, got);
}

static const struct code_range { int zero, qmin, qmax; } code_ranges[] = {
    { 128, 0, 255 }, { 0, 0, 255 }, { 255, 0, 255 }, { 0, -128, 127 }, { 0, -127, 127 }, { -17, -128, 127 },
    { 8, 0, 15 }, { 0, -7, 7 }, { 32, 0, 63 }, { 3, 5, 9 }, { 0, -9, -3 },
};

static void quantizing_agrees_on_a_million_values_and_their_ties(void **state)
{
    (void)state;
    for (int round = 0; round < 160; round++) {
        const struct code_range *c = &code_ranges[(size_t)round % COUNT(code_ranges)];
        float scale = round % 2 ? ldexpf(1, (int)(random_bits() % 60) - 30) : uniform(0.001f, 2.0f);
        for (size_t i = 0; i < 6400; i++)    /* half of them exact ties or their neighbours */
            in[i] = i % 2 ? uniform(-300, 300) * scale : ((float)((int)(random_bits() % 600) - 300) + 0.5f) * scale;
        for (size_t i = 0; i < 6400; i += 6)
            in[i] = nextafterf(in[i], i % 4 ? INFINITY : -INFINITY);
        check_quantize(6400, in, scale, c->zero, c->qmin, c->qmax);
    }
}

static void quantizing_agrees_on_odd_sizes_and_awkward_values(void **state)
{
    (void)state;
    static const float scales[] = { 0.1f, 1, FLT_MIN, 1e-45f, 1e30f };
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t j = 0; j < COUNT(code_ranges); j++)
            for (size_t k = 0; k < COUNT(scales); k++) {
                const struct code_range *c = &code_ranges[j];
                fill_awkward(ROOM, in);
                check_quantize(sizes[i], in + 1, scales[k], c->zero, c->qmin, c->qmax);
            }
}

static void nan_becomes_the_lowest_code_and_infinities_saturate(void **state)
{
    (void)state;
    const float x[] = { NAN, INFINITY, -INFINITY, 0.5f, 1.5f, -2.5f };
    const uint8_t u[] = { 0, 255, 0, 128, 130, 126 };
    const int8_t s[] = { -128, 127, -128, 3, 5, 1 };
    uint8_t qu[COUNT(x)];
    int8_t qs[COUNT(x)];
    quantize_u8(COUNT(x), x, 1, 128, 0, 255, qu);
    quantize_i8(COUNT(x), x, 1, 3, -128, 127, qs);
    assert_memory_equal(qu, u, sizeof u);
    assert_memory_equal(qs, s, sizeof s);
}

static void every_code_dequantizes_as_written(void **state)
{
    (void)state;
    uint8_t u[257];
    int8_t s[257];
    for (int i = 0; i < 257; i++) {
        u[i] = (uint8_t)i;
        s[i] = (int8_t)(i - 128);
    }
    for (int zero = -128; zero < 256; zero += 17)
        for (size_t n = 0; n < 257; n += 1 + n / 4) {
            dequantize_u8(n, u + 1, 0.037f, zero, got);
            ref_dequantize_u8(n, u + 1, 0.037f, zero, want);
            expect_same("dequantize_u8", n, got, want);
            dequantize_i8(n, s + 1, 0.037f, zero, got);
            ref_dequantize_i8(n, s + 1, 0.037f, zero, want);
            expect_same("dequantize_i8", n, got, want);
        }
}

static void codes_survive_dequantizing_and_quantizing(void **state)
{
    (void)state;
    uint8_t u[256], again[256];
    for (int i = 0; i < 256; i++)
        u[i] = (uint8_t)i;
    for (int round = 0; round < 200; round++) {
        float scale = uniform(1e-4f, 3);
        dequantize_u8(256, u, scale, round, got);
        quantize_u8(256, got, scale, round, 0, 255, again);
        assert_memory_equal(u, again, sizeof u);
    }
}

static void sums_are_scaled_and_biased_with_two_roundings(void **state)
{
    (void)state;
    static int32_t acc[ROOM];
    for (size_t i = 0; i < ROOM; i++)
        in3[i] = (float)(acc[i] = (int32_t)random_bits());
    fill(ROOM, in, 1e-9f, 1e-8f);
    fill(ROOM, in2, -1, 1);
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int bits = 0; bits < 4; bits++) {
            size_t n = sizes[i], rows = 4, scale_n = bits & 1 ? n : 1, ld = n + 5;
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            dequantize_acc(rows, n, acc + 1, ld, in + 1, scale_n, bits & 2 ? in2 + 1 : NULL, got, ld);
            ref_dequantize_acc(rows, n, acc + 1, ld, in + 1, scale_n, bits & 2 ? in2 + 1 : NULL, want, ld);
            assert_memory_equal(got, want, sizeof got);
            memset(got, 0, sizeof got);
            dequantize_sums(rows, n, in3 + 1, ld, in + 1, scale_n, bits & 2 ? in2 + 1 : NULL, got, ld);
            assert_memory_equal(got, want, sizeof got);
        }
}

/* ---- ranges ---- */

static void expect_range(size_t n, const float *x)
{
    struct range r = RANGE_EMPTY, s = RANGE_EMPTY;
    range_of(n, x, &r);
    ref_range_of(n, x, &s);
    assert_true(r.lo == s.lo && r.hi == s.hi);
    assert_int_equal(r.nan, s.nan);
    assert_int_equal(r.inf, s.inf);
}

static void ranges_cover_the_finite_and_count_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t offset = 0; offset < 3; offset++) {
            fill(ROOM, in, -10, -1);
            expect_range(sizes[i], in + offset);
            fill(ROOM, in, 1, 10);
            expect_range(sizes[i], in + offset);
            fill_awkward(ROOM, in);
            expect_range(sizes[i], in + offset);
            for (size_t j = 0; j < sizes[i]; j++)
                in[j] = j % 3 ? NAN : -INFINITY;
            expect_range(sizes[i], in);
        }
    const float edges[] = { -FLT_MAX, FLT_MAX, copysignf(NAN, -1), -INFINITY };
    expect_range(2, edges);
    expect_range(4, edges);
}

static void ranges_extend_in_any_order(void **state)
{
    (void)state;
    struct range all = RANGE_EMPTY, parts = RANGE_EMPTY;
    fill_awkward(MOST, in);
    range_of(MOST, in, &all);
    for (size_t at = MOST; at > 0; at -= at < 100 ? at : 100)
        range_of(at < 100 ? at : 100, in + (at < 100 ? 0 : at - 100), &parts);
    assert_memory_equal(&all, &parts, sizeof all);
}

static void columns_have_their_own_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t rows = 0; rows <= ROWS; rows++) {
            size_t n = sizes[i];
            fill_awkward(ROOM, in);
            for (size_t c = 0; c < 2 * n; c++) {
                got[c] = want[c] = c < n ? FLT_MAX : -FLT_MAX;
            }
            range_of_columns(rows, n, in + 1, got, got + n);
            ref_range_of_columns(rows, n, in + 1, want, want + n);
            expect_same("range_of_columns", 2 * n, got, want);
        }
}

static void squares_add_up_in_double(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        double sum = 0;
        fill(ROOM, in, -1e20f, 1e20f);
        for (size_t j = 0; j < sizes[i]; j++)
            sum += (double)in[j + 1] * (double)in[j + 1];
        assert_true(fabs(sum_of_squares(sizes[i], in + 1) - sum) <= 1e-15 * (double)sizes[i] * sum);
    }
}

static void the_features_of_the_machine_have_names(void **state)
{
    (void)state;
    assert_non_null(cpu_features());
    assert_string_equal(cpu_features(), cpu_features());
    if (cpu_has_vnni())
        assert_non_null(strstr(cpu_features(), "vnni"));
    else
        assert_null(strstr(cpu_features(), "vnni"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_agree_with_the_double_formula),
        cmocka_unit_test(a_constant_row_has_no_variance),
        cmocka_unit_test(one_bad_element_spoils_its_own_row_only),
        cmocka_unit_test(softmax_agrees_with_the_double_formula),
        cmocka_unit_test(a_masked_softmax_is_one_of_what_was_scaled_and_masked),
        cmocka_unit_test(softmax_treats_infinities_and_nan_as_the_formula_does),
        cmocka_unit_test(element_functions_agree_with_libm),
        cmocka_unit_test(small_arguments_keep_their_relative_accuracy),
        cmocka_unit_test(exp_is_within_two_ulp_and_denormal_results_within_two_steps),
        cmocka_unit_test(exp_meets_its_limits),
        cmocka_unit_test(saturated_functions_are_exactly_one),
        cmocka_unit_test(a_row_is_added_to_every_row),
        cmocka_unit_test(transposing_moves_every_element_and_twice_moves_it_back),
        cmocka_unit_test(im2col_agrees_with_the_padded_image),
        cmocka_unit_test(quantizing_agrees_on_a_million_values_and_their_ties),
        cmocka_unit_test(quantizing_agrees_on_odd_sizes_and_awkward_values),
        cmocka_unit_test(nan_becomes_the_lowest_code_and_infinities_saturate),
        cmocka_unit_test(every_code_dequantizes_as_written),
        cmocka_unit_test(codes_survive_dequantizing_and_quantizing),
        cmocka_unit_test(sums_are_scaled_and_biased_with_two_roundings),
        cmocka_unit_test(ranges_cover_the_finite_and_count_the_rest),
        cmocka_unit_test(ranges_extend_in_any_order),
        cmocka_unit_test(columns_have_their_own_ranges),
        cmocka_unit_test(squares_add_up_in_double),
        cmocka_unit_test(the_features_of_the_machine_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
