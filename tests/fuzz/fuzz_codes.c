/*
 * fuzz_codes.c - libFuzzer over quantizers: any range gives codes that hold what quantizer.h says of them, INT4 packs and unpacks to the same
 * codes, and logarithmic codes stand for the levels that levels.h names.
 */
#include "core/quant/levels.h"
#include "core/quant/quantizer.h"

#include <assert.h>
#include <math.h>
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

static void check_int4(const uint8_t *data, size_t n)
{
    int8_t codes[MOST];
    uint8_t packed[MOST / 2 + 1];
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)((data[i] & 15) - 8);
    packed[(n + 1) / 2] = 0xa5;
    pack_int4(n, codes, packed);
    assert(packed[(n + 1) / 2] == 0xa5);
    for (size_t i = 0; i < n; i++)
        assert((int8_t)(((packed[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8) == codes[i]);
}

static void check_levels(const struct log_levels *l, const float *x, size_t n)
{
    uint8_t codes[MOST];
    float y[MOST];
    int zero = log_levels_zero(l);
    log_levels_quantize(l, n, x, zero <= UINT8_MAX ? codes : NULL, y);
    for (size_t i = 0; i < n; i++) {
        assert(y[i] >= 0 && y[i] <= 1);
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
    if (isfinite(lo) && isfinite(hi))
        check_affine(fminf(lo, hi), fmaxf(lo, hi), bits, data[8] & 128);
    struct log_levels l = { .bits = bits, .j = data[9] % (LOG_MOST_J + 1), .steps_per_octave = 1 + data[10] % 2,
                            .extra_zero = bits < 8 && data[10] & 128 };
    size_t n = (size - HEAD) / 4 < MOST ? (size - HEAD) / 4 : MOST;
    memcpy(x, data + HEAD, n * 4);
    for (size_t i = 0; i < n; i++)
        x[i] = isfinite(x[i]) ? fabsf(x[i]) : 0;
    check_levels(&l, x, n);
    check_int4(data + HEAD, size - HEAD < MOST ? size - HEAD : MOST);
    return 0;
}
