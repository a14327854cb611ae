#include "core/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_now_us(void) { return read_us(CLOCK_REALTIME); }
int64_t clock_mono_us(void) { return read_us(CLOCK_BOOTTIME); }

const char *clock_rfc3339(int64_t us, char *buf)
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char date[24];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf, CLOCK_RFC3339_SIZE, "%s.%03dZ", date, (int)(us / 1000 % 1000));
    return buf;
}
