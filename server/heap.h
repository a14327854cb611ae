/*
 * heap.h - how malloc serves a daemon that has fifty threads and lives for months.
 */
#ifndef SERVER_HEAP_H
#define SERVER_HEAP_H

#include <stdint.h>

/* A heap for each processor.  Before the first thread. */
void heap_share(void);

/* Every ten seconds: what a burst of requests has left free amidst what lives long goes back to the kernel.  *last_us: when it last did. */
void heap_give_back(int64_t *last_us);

#endif
