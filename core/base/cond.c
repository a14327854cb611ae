#include "core/base/cond.h"

void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(c, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct timespec cond_in(int64_t us)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t at = now.tv_nsec / 1000 + us;
    return (struct timespec){ .tv_sec = now.tv_sec + at / 1000000, .tv_nsec = at % 1000000 * 1000 };
}
