#include "core/base/log.h"

#include "core/base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int least_level = LOG_INFO, format = LOG_JSON;

void log_set_level(enum log_level least) { least_level = least; }
void log_set_format(enum log_format f) { format = (int)f; }

enum { LINE_SIZE = 8192, VALUE_SIZE = 2600, END = 4 };

/* One line in the making; a field that does not fit is left out. */
struct line {
    size_t n;
    bool over;                      /* something did not fit */
    char text[LINE_SIZE];
};

static void put(struct line *l, const char *text, size_t n)
{
    if (n > sizeof l->text - END - l->n) {
        l->over = true;
        return;
    }
    memcpy(l->text + l->n, text, n);
    l->n += n;
}

static void put_text(struct line *l, const char *text) { put(l, text, strlen(text)); }

/* What is too long for a value is cut: escapes make it up to six times as long. */
static void put_quoted(struct line *l, const char *text)
{
    size_t end = l->n + VALUE_SIZE;
    char code[8];
    put(l, "\"", 1);
    for (; *text && l->n + sizeof code < end; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            put(l, text, 1);
            continue;
        }
        snprintf(code, sizeof code, c == '"' || c == '\\' ? "\\%c" : "\\u%04x", c);
        put_text(l, code);
    }
    put(l, "\"", 1);
}

static void put_number(struct line *l, double x)
{
    char text[32];
    if (fabs(x) < 1e9 && x == (int)x)
        snprintf(text, sizeof text, "%d", (int)x);      /* a tenth of the time */
    else
        snprintf(text, sizeof text, "%.15g", x);
    put_text(l, text);
}

static bool plain(const char *text)
{
    return text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/%?&+,~@{}")] == '\0';
}

static void add_field(struct line *l, const struct log_field *f)
{
    size_t before = l->n;
    if (f->text && !f->text[0])
        return;
    put_text(l, format == LOG_JSON ? ",\"" : " ");
    put_text(l, f->name);
    put_text(l, format == LOG_JSON ? "\":" : "=");
    if (!f->text)
        put_number(l, f->number);
    else if (format == LOG_TEXT && plain(f->text))
        put_text(l, f->text);
    else
        put_quoted(l, f->text);
    if (l->over)
        l->n = before;
    l->over = false;
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
    l->n += (size_t)snprintf(l->text + l->n, END, "%s", format == LOG_JSON ? "}\n" : "\n");
    ssize_t written = write(STDERR_FILENO, l->text, l->n);
    (void)written;          /* nowhere left to complain */
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, int n)
{
    struct line l;
    if ((int)level < least_level)
        return;
    l.over = false;
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
