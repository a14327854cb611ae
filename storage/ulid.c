/*
 * ulid.c - within one millisecond the random part counts up, and a clock that steps back is
 * ignored, so ids of this process never decrease.
 */
#include "storage/ulid.h"

#include "core/base/clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;     /* guards the three below */
static uint64_t last_ms;
static uint16_t high;                                      /* the upper 16 random bits */
static uint64_t low;                                       /* the lower 64 */

static void draw(void)
{
    struct { uint64_t low; uint16_t high; } random;
    while (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        ;
    high = random.high & 0x7fff;        /* room to count up */
    low = random.low;
}

static void next(uint64_t *ret_ms, uint16_t *ret_high, uint64_t *ret_low)
{
    uint64_t ms = (uint64_t)(clock_now_us() / 1000);
    pthread_mutex_lock(&mu);
    if (ms > last_ms) {
        last_ms = ms;
        draw();
    } else if (++low == 0) {
        high++;
    }
    *ret_ms = last_ms;
    *ret_high = high;
    *ret_low = low;
    pthread_mutex_unlock(&mu);
}

void id_new(const char *prefix, char ret[ID_SIZE])
{
    uint64_t ms, lo;
    uint16_t hi;
    char text[27];
    assert(strlen(prefix) <= ID_PREFIX_MAX);
    next(&ms, &hi, &lo);
    for (int i = 9; i >= 0; i--, ms >>= 5)
        text[i] = digits[ms & 31];
    for (int i = 25; i >= 10; i--) {
        text[i] = digits[lo & 31];
        lo = lo >> 5 | (uint64_t)(hi & 31) << 59;
        hi = (uint16_t)(hi >> 5);
    }
    text[26] = '\0';
    snprintf(ret, ID_SIZE, "%s_%s", prefix, text);
}

bool id_valid(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0 || text[n] != '_' || strlen(text) != n + 27)
        return false;
    return strspn(text + n + 1, digits) == 26;
}
