#include "core/base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* jansson alone would allow 2,048 levels; our documents have fewer than ten. */
static bool depth_ok(const char *text, size_t n, int max_depth)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max_depth)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

json_t *json_parse(const char *text, size_t n, int max_depth, enum err_code code, struct err *e)
{
    if (!depth_ok(text, n, max_depth)) {
        err_set(e, code, "", "the JSON is nested deeper than %d levels", max_depth);
        return NULL;
    }
    json_error_t je;
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!value)
        err_set(e, code, "", "line %d, column %d: %s", je.line, je.column, je.text);
    return value;
}

/* value[key], or NULL with *ret_ok telling whether that is fine. */
static const json_t *find(const json_t *object, const char *key, const char *pointer, bool optional,
                          bool *ret_ok, enum err_code code, struct err *e)
{
    const json_t *v = json_object_get(object, key);
    *ret_ok = v || optional;
    if (!*ret_ok) {
        char where[160];
        snprintf(where, sizeof where, "%s/%s", pointer, key);
        err_set(e, code, where, "the field \"%s\" is missing; give it", key);
    }
    return v;
}

static bool wrong(const char *pointer, const char *key, enum err_code code, struct err *e, const char *want)
{
    char where[160];
    snprintf(where, sizeof where, "%s/%s", pointer, key);
    return err_set(e, code, where, "\"%s\" must be %s", key, want);
}

bool json_get_int(const json_t *object, const char *key, const char *pointer, bool optional,
                  int64_t lo, int64_t hi, int64_t *ret, enum err_code code, struct err *e)
{
    bool ok;
    const json_t *v = find(object, key, pointer, optional, &ok, code, e);
    if (!v)
        return ok;
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi) {
        char want[96];
        snprintf(want, sizeof want, "an integer from %lld to %lld", (long long)lo, (long long)hi);
        return wrong(pointer, key, code, e, want);
    }
    *ret = json_integer_value(v);
    return true;
}

bool json_get_real(const json_t *object, const char *key, const char *pointer, bool optional,
                   double lo, double hi, double *ret, enum err_code code, struct err *e)
{
    bool ok;
    const json_t *v = find(object, key, pointer, optional, &ok, code, e);
    if (!v)
        return ok;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= lo && x <= hi)) {
        char want[96];
        snprintf(want, sizeof want, "a number from %g to %g", lo, hi);
        return wrong(pointer, key, code, e, want);
    }
    *ret = x;
    return true;
}

bool json_get_bool(const json_t *object, const char *key, const char *pointer, bool optional,
                   bool *ret, enum err_code code, struct err *e)
{
    bool ok;
    const json_t *v = find(object, key, pointer, optional, &ok, code, e);
    if (!v)
        return ok;
    if (!json_is_boolean(v))
        return wrong(pointer, key, code, e, "true or false");
    *ret = json_is_true(v);
    return true;
}

bool json_get_str(const json_t *object, const char *key, const char *pointer, bool optional,
                  size_t max_len, const char **ret, enum err_code code, struct err *e)
{
    bool ok;
    const json_t *v = find(object, key, pointer, optional, &ok, code, e);
    if (!v)
        return ok;
    if (!json_is_string(v) || json_string_length(v) > max_len || strlen(json_string_value(v)) != json_string_length(v)) {
        char want[96];
        snprintf(want, sizeof want, "a string of at most %zu bytes", max_len);
        return wrong(pointer, key, code, e, want);
    }
    *ret = json_string_value(v);
    return true;
}

json_t *json_finite(double x) { return isfinite(x) ? json_real(x) : json_null(); }
