/*
 * rate.h - how often somebody may ask: a bucket for each key, that fills with time and loses one drop a request.
 *
 * The memory is fixed when the table is made.  Where more keys than that ask at the same time, the key whose bucket is
 * fullest is forgotten: it loses nothing but the few requests it had made.
 */
#ifndef API_RATE_H
#define API_RATE_H

#include "core/base/err.h"

#include <stdint.h>

struct rate_limit {
    int64_t per_second;             /* 1 to 1,000,000 */
    int64_t burst;                  /* at once, after a rest; 1 to 1,000,000 */
};

struct rate_table;

/* Room for at least `keys` keys. */
struct rate_table *rate_new(struct rate_limit limit, size_t keys, struct err *e);
void rate_free(struct rate_table *t);               /* NULL is fine */

struct rate_state {
    struct rate_limit limit;
    int64_t remaining;              /* requests that may follow at once */
    int64_t full_us;                /* until the bucket is full again */
    int64_t wait_us;                /* until the next request may come; 0 if it may now */
};

/* Takes one request of `key` at `now_us` (clock_mono_us()); false if it must wait.  Thread-safe. */
bool rate_take(struct rate_table *t, const char *key, int64_t now_us, struct rate_state *ret);

#endif
