#include "core/base/log.h"

#include "core/base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int least_level = LOG_INFO, format = LOG_JSON;

void log_set_level(enum log_level least) { least_level = least; }
void log_set_format(enum log_format f) { format = (int)f; }

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

enum { LINE_SIZE = 8192, VALUE_SIZE = 2600, END = 4 };

/* One line in the making; a field that does not fit is left out. */
struct line {
    char text[LINE_SIZE];
    size_t n;
};

static bool plain(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/%?&+,~@{}")] == '\0';
}

static void add_field(struct line *l, const struct log_field *f)
{
    char value[VALUE_SIZE];
    if (f->text && !f->text[0])
        return;
    if (!f->text) {
        snprintf(value, sizeof value, "%.15g", f->number);
    } else if (format == LOG_TEXT && plain(f->text)) {
        snprintf(value, sizeof value, "%s", f->text);
    } else {
        value[0] = '"';
        size_t n = 1 + escape(value + 1, sizeof value - 2, f->text);
        memcpy(value + n, "\"", 2);
    }
    if (strlen(f->name) + strlen(value) + END < sizeof l->text - END - l->n)
        l->n += (size_t)(format == LOG_JSON ? snprintf(l->text + l->n, sizeof l->text - l->n, ",\"%s\":%s", f->name, value)
                                            : snprintf(l->text + l->n, sizeof l->text - l->n, " %s=%s", f->name, value));
}

const char *const log_level_name[LOG_LEVELS] = { "debug", "info", "warn", "error" };

bool log_level_parse(const char *name, enum log_level *ret)
{
    for (int i = 0; i < LOG_LEVELS; i++)
        if (strcmp(name, log_level_name[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    return false;
}

static void begin(struct line *l, enum log_level level, const char *event)
{
    char time[CLOCK_RFC3339_SIZE];
    clock_rfc3339(clock_now_us(), time);
    int n = format == LOG_JSON
        ? snprintf(l->text, sizeof l->text, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%.64s\"", time, log_level_name[level], event)
        : snprintf(l->text, sizeof l->text, "%s %-5s %.64s", time, log_level_name[level], event);
    l->n = n > 0 ? (size_t)n : 0;
}

static void send_line(struct line *l)
{
    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%s", format == LOG_JSON ? "}\n" : "\n");
    ssize_t written = write(STDERR_FILENO, l->text, l->n);
    (void)written;          /* nowhere left to complain */
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, int n)
{
    struct line l;
    if ((int)level < least_level)
        return;
    begin(&l, level, event);
    for (int i = 0; i < n; i++)
        add_field(&l, &fields[i]);
    send_line(&l);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    char text[1024];
    if ((int)level < least_level)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_fields(level, event, &(struct log_field){ .name = "text", .text = text }, 1);
}
