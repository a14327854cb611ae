#include "core/report/errors.h"

#include <math.h>

enum { LANES = 8 };      /* independent sums, so that the loop vectorises without reordering any of them */

void errors_add(struct errors *s, const float *want, const float *got, size_t n)
{
    double signal[LANES] = { 0 }, noise[LANES] = { 0 }, power[LANES] = { 0 }, dot[LANES] = { 0 };
    size_t whole = n / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
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
    for (size_t j = 0; j < LANES; j++) {
        s->signal += signal[j];
        s->noise += noise[j];
        s->got += power[j];
        s->dot += dot[j];
    }
    s->n += n;
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
