#include "api/details.h"

#include <string.h>

enum { ENTRY_MAX_BYTES = 1 << 20, ENTRY_MAX_DEPTH = 16 };

/* Past the string that starts at *s == '"'. */
static const char *skip_string(const char *s, const char *end)
{
    for (s++; s < end && *s != '"'; s++)
        if (*s == '\\')
            s++;
    return s < end ? s + 1 : end;
}

/* The next object that stands directly in the list, from s on.  NULL at the list's end. */
static const char *next_entry(const char *s, const char *end, const char **ret_end)
{
    const char *start = NULL;
    int depth = 0;
    while (s < end) {
        if (*s == '"') {
            s = skip_string(s, end);
            continue;
        }
        if (*s == '{' || *s == '[') {
            if (depth++ == 0)
                start = s;
        } else if (*s == '}' || *s == ']') {
            if (depth == 0)
                return NULL;
            if (--depth == 0) {
                *ret_end = s + 1;
                return start;
            }
        }
        s++;
    }
    return NULL;
}

static json_t *entry_of_index(const char *text, size_t n, int64_t index)
{
    if (n > ENTRY_MAX_BYTES)
        return NULL;
    json_t *entry = json_parse(text, n, ENTRY_MAX_DEPTH, ERR_BUG, NULL);
    const json_t *found = json_object_get(entry, "index");
    if (json_is_integer(found) && json_integer_value(found) == index)
        return entry;
    json_decref(entry);
    return NULL;
}

/* Entry number `skip` of the list that starts at s, if it has the index. */
static json_t *entry_at(const char *s, const char *end, int64_t skip, int64_t index)
{
    const char *stop;
    for (const char *p; (p = next_entry(s, end, &stop)); s = stop)
        if (skip-- == 0)
            return entry_of_index(p, (size_t)(stop - p), index);
    return NULL;
}

json_t *details_find(const char *text, size_t n, int64_t index, struct err *e)
{
    const char *end = text + n, *list = n ? memchr(text, '[', n) : NULL, *stop;
    json_t *entry = list ? entry_at(list + 1, end, index, index) : NULL;     /* usually entry i has index i */
    const char *s = list ? list + 1 : end;
    for (const char *p; !entry && (p = next_entry(s, end, &stop)); s = stop)
        entry = entry_of_index(p, (size_t)(stop - p), index);
    if (!entry)
        err_set(e, ERR_NOT_FOUND, "index", "the job has no details for a layer of this index");
    return entry;
}
