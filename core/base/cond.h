/*
 * cond.h - conditions that can be waited for until a time which no step of the wall clock moves.
 *
 *     cond_init(&c);
 *     struct timespec until = cond_in(500000);
 *     while (!what_is_waited_for)
 *         if (pthread_cond_timedwait(&c, &mu, &until) == ETIMEDOUT)
 *             break;
 */
#ifndef CORE_BASE_COND_H
#define CORE_BASE_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void cond_init(pthread_cond_t *c);
struct timespec cond_in(int64_t us);        /* so far from now, >= 0 */

#endif
