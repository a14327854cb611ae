/*
 * log.h - one line on stderr per message, written with one write(2): JSON, or text for people.
 *
 * Control characters and bytes that are not ASCII are escaped, so nothing a client sends can
 * forge a line or drive a terminal.  Only the top loops log: main, the HTTP answer, the worker.
 */
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_LEVELS };
extern const char *const log_level_name[LOG_LEVELS];       /* "debug", "info", "warn", "error" */
bool log_level_parse(const char *name, enum log_level *ret);

void log_set_level(enum log_level least);

enum log_format { LOG_JSON, LOG_TEXT };
void log_set_format(enum log_format f);

/* {"time":...,"level":...,"event":event,"text":...}; `event` is a fixed word such as "job.failed". */
void log_line(enum log_level level, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * The same with members of its own instead of "text": {"time":...,"level":...,"event":event,name:value,...}.  A field whose text is "" is
 * left out; text NULL: a number.
 */
struct log_field { const char *name, *text; double number; };
void log_fields(enum log_level level, const char *event, const struct log_field *fields, int n);

#endif
