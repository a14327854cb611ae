/*
 * backoff.h - waiting, in a way that a Ctrl-C ends at once.
 *
 * A Ctrl-C (or SIGTERM) is only noted, so that the command can say how to go on; a second one ends the program there and then.
 */
#ifndef CLIENT_BACKOFF_H
#define CLIENT_BACKOFF_H

#include "client/failure.h"

#include <stdint.h>

int64_t now_ms(void);           /* never steps; for durations */

void interrupt_init(void);
bool interrupted(void);
void interrupt_forget(void);    /* one more request must go out, though interrupted */
/* False: interrupted. */
bool pause_ms(int64_t ms);

/* One thing that is tried again and again.  With since and tries 0 it is fresh. */
struct backoff {
    int64_t patience_ms;        /* how long it may go on failing */
    int64_t until;              /* by now_ms(): no further; 0: without end */
    int64_t since;              /* when it began to fail; 0: it has not */
    int tries;
    void (*tell)(void *arg, const struct failure *why);     /* before each wait; may be NULL */
    void *arg;
};

/* Milliseconds before try n + 1 (n = 0 first): half of 0.25 s * 2^n, at most 15 s, and up to as much again by chance (random: any
 * number); never less than the wait_s the service asked for. */
int64_t backoff_delay(int n, int wait_s, uint32_t random);

/* Waits if f may be tried again and patience is left, clears f and returns true.  False leaves f as it is, or says that it was
 * interrupted. */
bool backoff_again(struct backoff *b, struct failure *f);
/* Something was achieved: patience begins anew. */
void backoff_reset(struct backoff *b);

/* Seconds from the value of a Retry-After field: a number or a date, against `now` in seconds since 1970; 0 if it is neither. */
int retry_after(const char *text, int64_t now);

#endif
