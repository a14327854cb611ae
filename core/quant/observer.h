/*
 * observer.h - what was seen of one tensor: extremes, counts, and a histogram that needs no second pass.
 *
 * The histogram's bins are the upper 16 bits of a float, put in numeric order:
 * 65,536 bins over all floats, each at most 1/128 of its value wide.  It needs no range in
 * advance and its counts are integers, so it may be filled in any order, by
 * any number of threads, and merged: the result is the same to the bit.
 */
#ifndef CORE_QUANT_OBSERVER_H
#define CORE_QUANT_OBSERVER_H

#include "core/base/err.h"
#include "core/kernel/kernel.h"

#include <stdint.h>

enum { OBSERVER_BINS = 1 << 16, OBSERVER_HEAD_BINS = 1 << 14, OBSERVER_HEAD_FIRST = 1 << 15 };

struct observer {
    struct range range;          /* of the finite values; nan and inf are counted beside */
    uint64_t count;              /* finite values */
    uint64_t *bins;              /* [OBSERVER_BINS] of finite values */
    size_t channels;             /* 0: no channel ranges */
    float *lo, *hi;              /* [channels] per index of the last axis, or per plane */
    size_t heads;                /* 0: no counts of each head */
    uint64_t *head_bins;         /* [heads][OBSERVER_HEAD_BINS]: bins OBSERVER_HEAD_FIRST and up, of values in [0, 2); one more to count in */
};

/* channels: the length of the last axis, or 0. Everything is freed by observer_release(). */
bool observer_init(struct observer *o, size_t channels, struct err *e);
void observer_release(struct observer *o);

/* Counts of each head beside, of an observer without channels. */
bool observer_split(struct observer *o, size_t heads, struct err *e);

/* rows x channels values (channels == 0: `rows` values). */
void observer_add(struct observer *o, const float *x, size_t rows);

/* images x channels x positions values: channels are planes, as convolutions give them. */
void observer_add_planes(struct observer *o, const float *x, size_t images, size_t positions);

/* images x heads x positions probabilities. */
void observer_add_heads(struct observer *o, const float *x, size_t images, size_t positions);

/* Adds what `other` saw; both have the same channels and heads. */
void observer_merge(struct observer *o, const struct observer *other);

/*
 * The value below which a fraction p in [0, 1] of all values lies; inside a bin by linear
 * interpolation, clamped to the observed extremes.  No values: 0.
 */
float observer_quantile(const struct observer *o, double p);

/* Counts of n equal bins over [lo, hi]; values outside go to the outermost ones. */
void observer_rebin(const struct observer *o, float lo, float hi, size_t n, uint64_t *ret);

/* Fraction of the values outside [lo, hi], to the histogram's resolution. */
double observer_outside(const struct observer *o, float lo, float hi);

/* The value that stands for those of one bin: its middle, within the extremes. */
float observer_bin_middle(const struct observer *o, uint32_t bin);

/* Widest range of channels * mul[channels] (NULL: 1) over the median one (a channel of zero width is left out); 1 without channels. */
bool observer_channel_ratio(const struct observer *o, const float *mul, double *ret, struct err *e);

#endif
