#include "core/base/clock.h"

#include <stdio.h>
#include <string.h>
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
    size_t n = strftime(buf, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf + n, CLOCK_RFC3339_SIZE - n, ".%03dZ", (int)(us / 1000 % 1000));
    return buf;
}

/* Exactly n digits; moves *s behind them. */
static bool digits(const char **s, int n, int lo, int hi, int *ret)
{
    int x = 0;
    for (; n > 0; n--, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        x = x * 10 + (**s - '0');
    }
    *ret = x;
    return x >= lo && x <= hi;
}

static bool one_of(const char **s, const char *set)
{
    bool ok = **s && strchr(set, **s);
    *s += ok;
    return ok;
}

/* Microseconds of ".123"; nothing is 0. */
static bool fraction(const char **s, int64_t *ret)
{
    int64_t unit = 100000;
    *ret = 0;
    if (**s != '.')
        return true;
    for (++*s; **s >= '0' && **s <= '9'; ++*s, unit /= 10)
        *ret += unit * (**s - '0');
    return (*s)[-1] != '.';
}

/* Seconds that the text's clock is ahead of UTC. */
static bool offset(const char **s, int *ret)
{
    int hours, minutes, sign = **s == '-' ? -1 : 1;
    *ret = 0;
    if (one_of(s, "Zz"))
        return true;
    if (!one_of(s, "+-") || !digits(s, 2, 0, 23, &hours) || !one_of(s, ":") || !digits(s, 2, 0, 59, &minutes))
        return false;
    *ret = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool clock_parse_rfc3339(const char *text, int64_t *ret)
{
    struct tm tm = { 0 };
    int ahead;
    int64_t us;
    const char *s = text;
    if (!digits(&s, 4, 1970, 9999, &tm.tm_year) || !one_of(&s, "-") || !digits(&s, 2, 1, 12, &tm.tm_mon) || !one_of(&s, "-")
        || !digits(&s, 2, 1, 31, &tm.tm_mday) || !one_of(&s, "Tt ") || !digits(&s, 2, 0, 23, &tm.tm_hour) || !one_of(&s, ":")
        || !digits(&s, 2, 0, 59, &tm.tm_min) || !one_of(&s, ":") || !digits(&s, 2, 0, 59, &tm.tm_sec) || !fraction(&s, &us)
        || !offset(&s, &ahead) || *s)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    int day = tm.tm_mday;
    int64_t seconds = timegm(&tm) - ahead;
    *ret = seconds * 1000000 + us;
    return tm.tm_mday == day && seconds >= 0;       /* the 31st of a shorter month would be another day */
}
