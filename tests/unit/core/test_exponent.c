/* The exponent that trades error of activations against error of weights, against the plain way of measuring both. */
#include "core/quant/channels.h"

#include "channel_data.h"


enum { ROWS = 640, CHANNELS = 32, OUTPUTS = 48 };

static float x[ROWS * CHANNELS], w[OUTPUTS * CHANNELS];

static int setup(void **state)
{
    *state = arena_new(1 << 28);
    for (size_t i = 0; i < COUNT(w); i++)
        w[i] = 0.1f * bell();
    return *state ? 0 : -1;
}

/* Squared error of outputs with both rounded, the mean taken out: the plain way. */
static double output_error(const struct rows *r, const struct ranges *a, int bits, int weight_bits)
{
    double top = (1 << bits) - 1, last = (1 << weight_bits) - 1, total = 0;
    for (size_t o = 0; o < OUTPUTS; o++) {
        double row[CHANNELS], lo = 0, hi = 0, sum = 0, squares = 0;
        for (size_t c = 0; c < CHANNELS; c++) {
            row[c] = (double)w[o * CHANNELS + c] * fmax((double)a->hi[c] - (double)a->lo[c], 1e-6);
            lo = fmin(lo, row[c]);
            hi = fmax(hi, row[c]);
        }
        double step = (hi - lo) / last, zero = rint(-lo / step);
        for (size_t i = 0; i < r->n; i++) {
            double off = 0;
            for (size_t c = 0; c < CHANNELS; c++) {
                double width = fmax((double)a->hi[c] - (double)a->lo[c], 1e-6), s = width / top, v = (double)r->x[i * CHANNELS + c];
                double level = (double)a->lo[c] + s * rint(fmax(0, fmin(top, (v - (double)a->lo[c]) / s)));
                double rounded = step * (fmax(0, fmin(last, rint(row[c] / step) + zero)) - zero) / width;
                off += level * rounded - v * (double)w[o * CHANNELS + c];
            }
            sum += off;
            squares += off * off;
        }
        total += squares - sum * sum / (double)r->n;
    }
    return total;
}

static double exponent_of(struct rows *r, const struct ranges *full, int bits, int weight_bits, struct pool *pool, struct arena *mem,
                          struct ranges *ret)
{
    struct err e = { 0 };
    double alpha;
    assert_true(ranges_new(CHANNELS, mem, ret, &e));
    assert_true(clip_channels(bits < 8 ? CLIP_GRID : CLIP_MINMAX, r, full, bits, NULL, mem, ret, &e));
    assert_true(channel_exponent(r, full, w, OUTPUTS, bits, weight_bits, pool, mem, ret, &alpha, &e));
    return alpha;
}

static void the_exponent_helps_where_weights_are_coarse(void **state)
{
    struct err e = { 0 };
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state), start, got;
    assert_true(ranges_new(CHANNELS, *state, &start, &e));
    for (int bits = 4; bits <= 8; bits += 4) {
        double fine = exponent_of(&r, &full, bits, 8, NULL, *state, &got), coarse = exponent_of(&r, &full, bits, 3, NULL, *state, &got);
        assert_true(fine >= coarse && coarse < 1 && fine <= 1 && coarse >= 0);
        assert_true(clip_channels(bits < 8 ? CLIP_GRID : CLIP_MINMAX, &r, &full, bits, NULL, *state, &start, &e));
        double before = output_error(&r, &start, bits, 3), after = output_error(&r, &got, bits, 3);
        if (!(after < 0.95 * before))
            fail_msg("%d bits, exponent %g: %g becomes %g", bits, coarse, before, after);
    }
}

/* Ranges have free ends and the bias takes mean errors, so only what varies counts. */
static void where_the_channels_lie_does_not_show(void **state)
{
    static const int bits_of_weights[] = { 3, 4, 6 };
    float offset[CHANNELS];
    fill_channels(ROWS, CHANNELS, 1, x);
    for (size_t c = 0; c < CHANNELS; c++)
        offset[c] = 40 * rintf(4 * bell()) / 4;
    for (size_t i = 0; i < COUNT(bits_of_weights); i++) {
        struct ranges got[2];
        double alpha[2];
        for (int shifted = 0; shifted < 2; shifted++) {
            for (size_t k = 0; k < COUNT(x); k++)
                x[k] += (float)(2 * shifted - 1) * offset[k % CHANNELS];
            struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
            struct ranges full = extremes_of(ROWS, CHANNELS, x, *state);
            alpha[shifted] = exponent_of(&r, &full, 4, bits_of_weights[i], NULL, *state, &got[shifted]);
        }
        assert_true(alpha[0] == alpha[1]);
        for (size_t c = 4; c < CHANNELS; c++)
            assert_true(fabsf((got[1].hi[c] - got[1].lo[c]) / (got[0].hi[c] - got[0].lo[c]) - 1) < 1e-3f);
    }
}

static void two_threads_choose_the_same_exponent(void **state)
{
    struct err e = { 0 };
    struct pool *pool = pool_new(2, &e);
    assert_non_null(pool);
    fill_channels(ROWS, CHANNELS, 1, x);
    struct rows r = prepared(x, ROWS, CHANNELS, NULL, *state);
    struct ranges full = extremes_of(ROWS, CHANNELS, x, *state), one, two;
    assert_true(exponent_of(&r, &full, 4, 4, NULL, *state, &one) == exponent_of(&r, &full, 4, 4, pool, *state, &two));
    assert_memory_equal(one.lo, two.lo, CHANNELS * sizeof *one.lo);
    assert_memory_equal(one.hi, two.hi, CHANNELS * sizeof *one.hi);
    pool_free(pool);
}

static void degenerate_samples_have_an_exponent_too(void **state)
{
    static const struct { size_t n; float unit; } rows[] = { { 1, 1 }, { 2, 1 }, { 5, 0 }, { 100, 1e-18f }, { 100, 1e-30f }, { 100, 1e15f } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        fill_channels(rows[i].n, CHANNELS, rows[i].unit, x);
        struct rows r = prepared(x, rows[i].n, CHANNELS, NULL, *state);
        struct ranges full = extremes_of(rows[i].n, CHANNELS, x, *state), got;
        exponent_of(&r, &full, 4, 4, NULL, *state, &got);
        for (size_t c = 0; c < CHANNELS; c++)
            assert_true(isfinite(got.lo[c]) && isfinite(got.hi[c]) && got.lo[c] <= got.hi[c]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_exponent_helps_where_weights_are_coarse, setup, teardown),
        cmocka_unit_test_setup_teardown(where_the_channels_lie_does_not_show, setup, teardown),
        cmocka_unit_test_setup_teardown(two_threads_choose_the_same_exponent, setup, teardown),
        cmocka_unit_test_setup_teardown(degenerate_samples_have_an_exponent_too, setup, teardown),
    };
    struct err e = { 0 };
    return blas_init(&e) ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
