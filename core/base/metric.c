#include "core/base/metric.h"

#include <stdatomic.h>
#include <string.h>

const struct metric_info metric_infos[METRIC_COUNT] = {
#define X(name, kind, text, unit, help, label, words) { METRIC_##kind, text, unit, help, label, words },
    METRICS(X)
#undef X
};

static struct {
    _Atomic int64_t value;                                          /* counter, gauge */
    _Atomic uint64_t bucket[METRIC_LABELS][METRIC_BUCKETS + 1];     /* histogram; not cumulative */
    _Atomic int64_t micro[METRIC_LABELS];                           /* sum, in millionths of the unit; bytes: in bytes */
} cells[METRIC_COUNT];

/* 1 ms to 2.3 hours, and 4 MiB to 32 GiB, each step a few times the last. */
static const double seconds[METRIC_BUCKETS] = { 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 5, 30, 120, 900, 7200 };
static const double bytes[METRIC_BUCKETS] = { 4 << 20, 8 << 20, 16 << 20, 32 << 20, 64 << 20, 128 << 20, 256 << 20, 512 << 20, 1 << 30,
                                              2.0 * (1 << 30), 4.0 * (1 << 30), 8.0 * (1 << 30), 16.0 * (1 << 30), 32.0 * (1 << 30) };

static int in_bytes(enum metric_id m) { return strcmp(metric_infos[m].unit, "bytes") == 0; }
static double scale(enum metric_id m) { return in_bytes(m) ? 1 : 1e6; }

double metric_bound(enum metric_id m, int bucket) { return (in_bytes(m) ? bytes : seconds)[bucket]; }

void metric_add(enum metric_id m, int64_t n) { atomic_fetch_add_explicit(&cells[m].value, n, memory_order_relaxed); }

int64_t metric_value(enum metric_id m) { return atomic_load_explicit(&cells[m].value, memory_order_relaxed); }

void metric_observe(enum metric_id m, int word, double x)
{
    int b = 0;
    if (word < 0 || word >= METRIC_LABELS || !(x >= 0))
        return;
    while (b < METRIC_BUCKETS && x > metric_bound(m, b))
        b++;
    atomic_fetch_add_explicit(&cells[m].bucket[word][b], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[m].micro[word], (int64_t)(x * scale(m)), memory_order_relaxed);
}

void metric_histogram(enum metric_id m, int word, struct metric_histogram *ret)
{
    ret->count = 0;
    for (int b = 0; b <= METRIC_BUCKETS; b++) {
        ret->count += atomic_load_explicit(&cells[m].bucket[word][b], memory_order_relaxed);
        if (b < METRIC_BUCKETS)
            ret->upto[b] = ret->count;
    }
    ret->sum = (double)atomic_load_explicit(&cells[m].micro[word], memory_order_relaxed) / scale(m);
}
