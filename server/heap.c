/*
 * heap.c - malloc would make eight heaps for each processor, and our threads would fill each to the most it ever needed: after five minutes of mixed
 * load they held twice what two heaps do.  No more threads than processors allocate at the same moment.
 *
 * By itself malloc gives back the end of a heap alone, and something that stays is soon behind whatever a long list took.
 */
#include "server/heap.h"

#include "core/base/clock.h"

#include <malloc.h>
#include <unistd.h>

static const int64_t GIVE_BACK_US = 10 * 1000000;

void heap_share(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, cores > 2 ? (int)cores : 2);   // NOLINT(concurrency-mt-unsafe): no threads yet
}

void heap_give_back(int64_t *last_us)
{
    if (clock_mono_us() - *last_us < GIVE_BACK_US)
        return;
    malloc_trim(0);
    *last_us = clock_mono_us();
}
