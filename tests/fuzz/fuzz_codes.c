/*
 * fuzz_codes.c - libFuzzer over quantizers.  Any floats, NaN, infinities and denormals among them: what is observed of them gives a quantizer that
 * holds what quantizer.h says; their codes are in range and stand for values nearby, and of a NaN and an infinity as kernel.h says; as weights they
 * are refused if one is not finite, and come back within a step else; INT4 packs and unpacks to the same codes; logarithmic codes stand for the
 * levels that levels.h names.
 * The input: two floats, a range or a scale; three bytes of choices; then floats.
 */
#include "core/kernel/kernel.h"
#include "core/quant/levels.h"
#include "core/quant/quantizer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 11, MOST = 256 };

static void check_affine(float lo, float hi, int bits, bool symmetric)
{
    struct affine a = quantizer_from_range(lo, hi, bits, symmetric);
    float low, high;
    quantizer_limits(&a, &low, &high);
    assert(a.scale > 0 && isfinite(a.scale) && a.qmin <= a.zero && a.zero <= a.qmax && a.qmax - a.qmin == (1 << bits) - 1 && low <= 0 && high >= 0);
    double from = fmin(lo, 0), to = fmax(hi, 0);
    for (int i = 0; i <= 16; i++) {
        double x = from + (to - from) * i / 16, q = nearbyint(x / a.scale) + a.zero;
        q = fmin(fmax(q, a.qmin), a.qmax);
        assert(fabs((q - a.zero) * a.scale - x) <= a.scale * 1.001);
    }
}

/* Any scale > 0, denormal ones too; any floats. */
static void check_kernels(float scale, int bits, bool symmetric, const float *x, size_t n)
{
    struct affine a = quantizer_unit(bits, symmetric);
    uint8_t codes[MOST];
    float back[MOST], plain[MOST];
    if (symmetric)
        quantize_i8(n, x, scale, a.zero, a.qmin, a.qmax, (int8_t *)codes);
    else
        quantize_u8(n, x, scale, a.zero, a.qmin, a.qmax, codes);
    if (symmetric)
        dequantize_i8(n, (const int8_t *)codes, scale, a.zero, back);
    else
        dequantize_u8(n, codes, scale, a.zero, back);
    quantize_to_float(n, x, scale, a.zero, a.qmin, a.qmax, plain);
    for (size_t i = 0; i < n; i++) {
        int q = symmetric ? (int8_t)codes[i] : codes[i];
        double ends = fmin(fmax((double)x[i], (double)(a.qmin - a.zero) * scale), (double)(a.qmax - a.zero) * scale);
        assert(a.qmin <= q && q <= a.qmax && plain[i] == (float)(q - a.zero) && back[i] == plain[i] * scale);
        assert(isnan(x[i]) ? q == a.qmin : isinf(x[i]) ? q == (x[i] < 0 ? a.qmin : a.qmax)
                                         : fabs((double)plain[i] * scale - ends) <= 0.5001 * scale + fabs(ends) * 1e-6);
    }
}

static void check_observed(const float *x, size_t n, int bits, bool symmetric)
{
    struct observer o;
    float lo, hi;
    double error;
    size_t finite = 0;
    for (size_t i = 0; i < n; i++)
        finite += isfinite(x[i]) != 0;
    bool ok = observer_init(&o, 0, NULL);
    assert(ok);
    observer_add(&o, x, n);
    assert(o.count == finite && o.range.nan + o.range.inf == n - finite);
    ok = observer_search_range(&o, bits, symmetric, &lo, &hi, NULL) && observer_range_error(&o, lo, hi, bits, symmetric, &error, NULL);
    assert(ok && isfinite(lo) && isfinite(hi) && lo <= hi && error >= 0);
    if (finite)
        assert(o.range.lo <= lo && hi <= o.range.hi);
    check_affine(lo, hi, bits, symmetric);
    observer_release(&o);
}

static void check_int4(size_t n, const int8_t *codes)
{
    uint8_t packed[MOST / 2 + 1];
    packed[(n + 1) / 2] = 0xa5;
    pack_int4(n, codes, packed);
    assert(packed[(n + 1) / 2] == 0xa5);
    for (size_t i = 0; i < n; i++)
        assert((int8_t)(((packed[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8) == codes[i]);
}

static void check_bytes_as_int4(const uint8_t *data, size_t n)
{
    int8_t codes[MOST];
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)((data[i] & 15) - 8);
    check_int4(n, codes);
}

/* What the codes stand for is within a step of the weight divided by its factor, and with two levels what weight_grid.h clips. */
static void check_weights(const struct qweight *w, const struct layer *l, const float *x, const float *mul)
{
    int half = 1 << (w->bits - 1);
    assert(!isnan(w->signal) && !isnan(w->error));
    for (size_t k = 0; k < w->k; k++)
        for (size_t c = 0; c < w->n; c++) {
            size_t at = w->step ? k / w->step_group * w->n + c : qweight_scale_at(w, c, k);
            double scale = (double)w->scale[w->step ? c : at], step = scale * (w->step ? w->step[at] : 1);
            int code = w->codes[qweight_at(l, c, k)], zero = w->zero ? w->zero[at] : 0;
            double value = (double)(x[k * w->n + c] / (mul ? mul[k] : 1));
            assert(isfinite(scale) && scale > 0 && (w->step || (-half <= code && code < half)));
            double clipped = w->step ? 0.3 * (2 * half - 1) * scale : 0;
            assert(fabs((code - zero) * scale - value) <= 1.001 * (step + clipped) + fabs(value) * 1e-6);
        }
}

static void try_weights(const float *x, size_t n, const uint8_t choice[3], int bits, bool symmetric)
{
    float mul[MOST];
    size_t channels = 1 + choice[1] % 4, k = n / channels;
    struct weight_grid grid = { .rows = choice[2] % 3, .group = choice[2] & 4 && k % 4 == 0 ? 4 : 0 };
    grid.two_level = grid.group && bits <= TWO_LEVEL_MOST_BITS && choice[2] & 8;
    if (grid.group)
        grid.rows = 1;
    if (k == 0)
        return;
    bool finite = true;
    for (size_t i = 0; i < k; i++)
        mul[i] = x[i] > 0 && isfinite(x[i]) && choice[2] & 16 ? x[i] : 1;
    for (size_t i = 0; i < k * channels; i++)
        finite = finite && isfinite(x[i] / mul[i / channels]);
    struct value v = { .name = "w", .dtype = DT_F32, .is_const = true, .data = (float *)(uintptr_t)x };
    struct graph g = { .values = &v, .n_values = 1 };
    struct layer l = { .kind = LAYER_LINEAR, .name = "fc", .weight = 0, .bias = -1, .k = (int64_t)k, .n = (int64_t)channels };
    struct arena *mem = arena_new(1 << 20);
    struct qweight w;
    struct err e = { 0 };
    assert(mem);
    bool ok = qweight_round(&g, &l, mul, bits, &grid, symmetric, mem, &w, &e);
    assert(ok == finite && e.code == (ok ? ERR_NONE : ERR_NUMERIC_NONFINITE));
    if (ok)
        check_weights(&w, &l, x, mul);
    if (ok && bits <= 4 && !w.step)
        check_int4(k * channels, w.codes);
    arena_free(mem);
}

/* What is no probability has a code as well: NaN and what is below 0 that of zero. */
static void check_levels(const struct log_levels *l, const float *x, size_t n)
{
    uint8_t codes[MOST];
    float y[MOST];
    int zero = log_levels_zero(l);
    log_levels_quantize(l, n, x, zero <= UINT8_MAX ? codes : NULL, y);
    for (size_t i = 0; i < n; i++) {
        assert(y[i] >= 0 && y[i] <= 1 && (x[i] > 0 || y[i] == 0));
        if (zero <= UINT8_MAX)
            assert(codes[i] <= zero && (double)y[i] == (double)(float)log_levels_value(l, codes[i]) && (codes[i] < zero) == (y[i] > 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float lo, hi, x[MOST];
    if (size < HEAD)
        return 0;
    memcpy(&lo, data, 4);
    memcpy(&hi, data + 4, 4);
    int bits = 2 + data[8] % 7;
    bool symmetric = data[8] & 128;
    struct log_levels l = { .bits = bits, .j = data[9] % (LOG_MOST_J + 1), .steps_per_octave = 1 + data[10] % 2,
                            .extra_zero = bits < 8 && data[10] & 128 };
    size_t n = (size - HEAD) / 4 < MOST ? (size - HEAD) / 4 : MOST;
    memcpy(x, data + HEAD, n * 4);
    if (isfinite(lo) && isfinite(hi))
        check_affine(fminf(lo, hi), fmaxf(lo, hi), bits, symmetric);
    if (lo > 0 && isfinite(lo))
        check_kernels(lo, bits, symmetric, x, n);
    if (data[9] >= 224)             /* fills and reads 65,536 bins, again and again: a hundred times what the others take */
        check_observed(x, n, bits, symmetric);
    try_weights(x, n, data + 8, bits, symmetric);
    check_levels(&l, x, n);
    check_bytes_as_int4(data + HEAD, size - HEAD < MOST ? size - HEAD : MOST);
    return 0;
}
