/*
 * json.h - jansson, with the strictness that untrusted text needs.  The only include of
 * <jansson.h>.
 *
 * Getters name the JSON pointer of what is wrong ("/weights/bits") and say what is accepted.
 * They return false after filling *e; `ret` is untouched then.
 */
#ifndef CORE_BASE_JSON_H
#define CORE_BASE_JSON_H

#include "core/base/err.h"

#include <jansson.h>
#include <stdint.h>

/* Parses one value of any kind, refusing duplicate keys, trailing text and more than `max_depth` levels.
 * The caller decrefs.  Errors carry `code` and the line and column. */
json_t *json_parse(const char *text, size_t n, int max_depth, enum err_code code, struct err *e);

/* value[key] as an integer in [lo, hi] (8.0 is one, too); absent is an error unless *ret may keep its value (optional). */
bool json_get_int(const json_t *object, const char *key, const char *pointer, bool optional,
                  int64_t lo, int64_t hi, int64_t *ret, enum err_code code, struct err *e);
bool json_get_real(const json_t *object, const char *key, const char *pointer, bool optional,
                   double lo, double hi, double *ret, enum err_code code, struct err *e);
bool json_get_bool(const json_t *object, const char *key, const char *pointer, bool optional,
                   bool *ret, enum err_code code, struct err *e);
/* *ret is borrowed from the object. */
bool json_get_str(const json_t *object, const char *key, const char *pointer, bool optional,
                  size_t max_len, const char **ret, enum err_code code, struct err *e);

/* json_loads of a text of our own; where that gets no memory for a character, it leaves it out or worse; this gives NULL then. */
json_t *json_read(const char *text, size_t flags);

/* json_dumps, which leaves out a key that it got no memory for; this gives NULL then.  The caller frees; what json_dumps gives is not
 * free()'s to take. */
char *json_text(const json_t *value, size_t flags);

/* Whether jansson has been refused memory in this thread since json_begin(): what has been built of many json_object_set_new, whose
 * results nobody looks at, lacks something then. */
void json_begin(void);
bool json_short(void);

/* A text that may be any bytes: those that are no UTF-8 become '?' (utf8_mend()).  NULL without memory. */
json_t *json_mended(const char *text);

/* A real that JSON can carry: NaN and infinities become null. */
json_t *json_finite(double x);

/* An array of the strings up to NULL; null for no list.  NULL without memory. */
json_t *json_strings(const char *const *list);

#endif
