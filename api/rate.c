/*
 * rate.c - the buckets.
 *
 * A table of SETS rows with WAYS buckets each; a key's hash says which row, so a request looks at WAYS buckets and no more.  The hash
 * is seeded at random: who chooses keys (an address is one) cannot choose rows.  Levels are in millionths of a request.
 *
 * LOCKING  t->mu guards everything; a leaf, held for some ten comparisons.
 */
#include "api/rate.h"

#include "core/base/hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { WAYS = 8 };
static const int64_t ONE = 1000000;     /* request */

struct bucket {
    uint64_t key;                   /* hash; 0: free */
    int64_t level, at;              /* as it was at the time `at` */
};

struct rate_table {
    pthread_mutex_t mu;
    struct rate_limit limit;
    uint64_t seed;
    size_t sets;                    /* a power of two */
    struct bucket bucket[];
};

struct rate_table *rate_new(struct rate_limit limit, size_t keys, struct err *e)
{
    size_t sets = 1;
    while (sets * WAYS < keys)
        sets *= 2;
    struct rate_table *t = calloc(1, sizeof *t + sets * WAYS * sizeof t->bucket[0]);
    if (!t || getrandom(&t->seed, sizeof t->seed, 0) != sizeof t->seed) {
        err_sys(e, "rate", "make the table");
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->mu, NULL);
    t->limit = limit;
    t->sets = sets;
    return t;
}

void rate_free(struct rate_table *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->mu);
    free(t);
}

static uint64_t hash_of(const struct rate_table *t, const char *key)
{
    uint64_t h = t->seed;
    for (; *key; key++)
        h = hash_mix(h, (unsigned char)*key);
    return h ? h : 1;
}

/* An hour fills every bucket that a limit allows; more could overflow. */
static int64_t level_now(const struct rate_table *t, const struct bucket *b, int64_t now)
{
    int64_t full = t->limit.burst * ONE, elapsed = now - b->at;
    if (!b->key || elapsed > full / t->limit.per_second)
        return full;
    int64_t level = b->level + (elapsed > 0 ? elapsed * t->limit.per_second : 0);
    return level < full ? level : full;
}

/* The key's bucket, or the one that is given up for it. */
static struct bucket *find(struct rate_table *t, uint64_t key, int64_t now)
{
    struct bucket *row = &t->bucket[(key & (t->sets - 1)) * WAYS], *fullest = row;
    for (struct bucket *b = row; b < row + WAYS; b++) {
        if (b->key == key)
            return b;
        if (level_now(t, b, now) > level_now(t, fullest, now))
            fullest = b;
    }
    *fullest = (struct bucket){ .key = key, .level = t->limit.burst * ONE, .at = now };
    return fullest;
}

bool rate_take(struct rate_table *t, const char *key, int64_t now_us, struct rate_state *ret)
{
    int64_t full = t->limit.burst * ONE, rate = t->limit.per_second;
    pthread_mutex_lock(&t->mu);
    struct bucket *b = find(t, hash_of(t, key), now_us);
    int64_t level = level_now(t, b, now_us);
    bool ok = level >= ONE;
    b->level = level -= ok ? ONE : 0;
    b->at = now_us;
    pthread_mutex_unlock(&t->mu);
    *ret = (struct rate_state){ .limit = t->limit, .remaining = level / ONE, .full_us = (full - level + rate - 1) / rate,
                                .wait_us = ok ? 0 : (ONE - level + rate - 1) / rate };
    return ok;
}
