#include "core/base/log.h"

#include "core/base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int least = LOG_INFO;

void log_set_level(enum log_level level) { least = level; }

static size_t escape(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s && n + 8 < room; s++) {
        if (*s == '"' || *s == '\\')
            n += (size_t)snprintf(out + n, room - n, "\\%c", *s);
        else if (*s < 0x20 || *s >= 0x7f)
            n += (size_t)snprintf(out + n, room - n, "\\u%04x", *s);
        else
            out[n++] = (char)*s;
    }
    out[n] = '\0';
    return n;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    if ((int)level < least)
        return;
    char text[1024], safe[2048], line[2300], time[CLOCK_RFC3339_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    escape(safe, sizeof safe, text);
    int n = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"text\":\"%s\"}\n",
                     clock_rfc3339(clock_now_us(), time), names[level], event, safe);
    if (n > 0) {
        ssize_t written = write(STDERR_FILENO, line, (size_t)n);
        (void)written;      /* nowhere left to complain */
    }
}
