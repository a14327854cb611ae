/* clock.h - two clocks: one for records, one for durations. */
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

int64_t clock_now_us(void);     /* microseconds since the Unix epoch, UTC; for records only */
int64_t clock_mono_us(void);    /* microseconds that never step and run through suspend; for durations */

enum { CLOCK_RFC3339_SIZE = 40 };
/* "2026-01-01T00:00:00.000Z" into buf[CLOCK_RFC3339_SIZE]; returns buf. */
const char *clock_rfc3339(int64_t us, char *buf);
/* The reverse: a date, a time with or without a fraction, and Z or an offset.  False: it is no such time, or before 1970. */
bool clock_parse_rfc3339(const char *text, int64_t *ret);

#endif
