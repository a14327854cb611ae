#include "core/report/errors.h"

#include "core/kernel/clones.h"
#include "core/kernel/kernel.h"

#include <math.h>
#include <stdbool.h>

/* WIDTH independent sums: the loop vectorises without reordering any of them. */
KERNEL_CLONES
void errors_add(struct errors *s, const float *want, const float *got, size_t n)
{
    double signal[WIDTH] = { 0 }, noise[WIDTH] = { 0 }, power[WIDTH] = { 0 }, dot[WIDTH] = { 0 };
    size_t whole = n / WIDTH * WIDTH;
    for (size_t i = 0; i < whole; i += WIDTH)
        for (size_t j = 0; j < WIDTH; j++) {
            double a = want[i + j], b = got[i + j], d = a - b;
            signal[j] += a * a;
            noise[j] += d * d;
            power[j] += b * b;
            dot[j] += a * b;
        }
    for (size_t i = whole; i < n; i++) {
        double a = want[i], b = got[i], d = a - b;
        signal[0] += a * a;
        noise[0] += d * d;
        power[0] += b * b;
        dot[0] += a * b;
    }
    for (size_t j = 0; j < WIDTH; j++) {
        s->signal += signal[j];
        s->noise += noise[j];
        s->got += power[j];
        s->dot += dot[j];
    }
    s->n += n;
}

static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }

void errors_add_rows(struct errors *s, const float *want, const float *want_bias, const float *got, const float *got_bias,
                     size_t rows, size_t n)
{
    enum { ROOM = 2048 };      /* of a stream: both stay in the first cache */
    float with[2][ROOM];
    if (want_bias == got_bias) {
        errors_add(s, want, got, rows * n);
        return;
    }
    size_t width = lesser(n, ROOM), height = ROOM / width;
    for (size_t r = 0; r < rows; r += height)
        for (size_t c = 0; c < n; c += width) {
            size_t at = r * n + c, wide = lesser(width, n - c), high = lesser(height, rows - r);      /* a piece of a row, or whole rows */
            vec_add_row(high, wide, want + at, want_bias + c, with[0]);
            vec_add_row(high, wide, got + at, got_bias + c, with[1]);
            errors_add(s, with[0], with[1], high * wide);
        }
}

size_t errors_add_finite(struct errors *s, const float *want, const float *got, size_t n)
{
    enum { ROOM = 2048 };
    float finite[2][ROOM];
    size_t odd = 0;
    for (size_t at = 0; at < n; at += ROOM) {
        size_t many = lesser(ROOM, n - at);
        for (size_t i = 0; i < many; i++) {
            bool is = isfinite(want[at + i]);
            odd += !is;
            finite[0][i] = is ? want[at + i] : 0;
            finite[1][i] = isfinite(got[at + i]) ? got[at + i] : 0;
        }
        errors_add(s, finite[0], finite[1], many);
    }
    return odd;
}

void errors_merge(struct errors *s, const struct errors *other)
{
    s->signal += other->signal;
    s->noise += other->noise;
    s->got += other->got;
    s->dot += other->dot;
    s->n += other->n;
}

double errors_sqnr_db(double signal, double noise)
{
    if (isnan(signal) || isnan(noise))
        return NAN;
    if (noise == 0)
        return 200;
    return signal > 0 ? 10 * log10(signal / noise) : 0;
}

double errors_mse(const struct errors *s) { return s->n ? s->noise / (double)s->n : 0; }

double errors_cosine(const struct errors *s)
{
    double norm = sqrt(s->signal) * sqrt(s->got);
    return norm > 0 ? s->dot / norm : 1;
}
