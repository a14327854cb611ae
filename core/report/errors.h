/*
 * errors.h - how far a tensor is from what it should be, as sums that add up in any fixed order.
 *
 * Sums are kept per chunk of samples and added in chunk order, so the number of
 * threads cannot show in a digit.
 */
#ifndef CORE_REPORT_ERRORS_H
#define CORE_REPORT_ERRORS_H

#include <stddef.h>
#include <stdint.h>

struct errors {
    double signal;       /* sum of want^2 */
    double noise;        /* sum of (want - got)^2 */
    double got;          /* sum of got^2 */
    double dot;          /* sum of want * got */
    uint64_t n;
};

void errors_add(struct errors *s, const float *want, const float *got, size_t n);
/* The same of [rows, n] to which biases [n] are yet to be added; both or neither may be NULL. */
void errors_add_rows(struct errors *s, const float *want, const float *want_bias, const float *got, const float *got_bias,
                     size_t rows, size_t n);
/*
 * The same, where values may be infinite or none (NaN): what is so in both does not count, what is so in one counts as zero there.
 * Returns how many of `want` are so.
 */
size_t errors_add_finite(struct errors *s, const float *want, const float *got, size_t n);
void errors_merge(struct errors *s, const struct errors *other);

/* 10 log10(signal / noise) in dB; 200 when nothing differs, 0 without signal, NaN where a value was none. */
double errors_sqnr_db(double signal, double noise);
double errors_mse(const struct errors *s);
double errors_cosine(const struct errors *s);     /* 1 when both are zero */

#endif
