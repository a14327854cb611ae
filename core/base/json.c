#include "core/base/json.h"

#include "core/base/utf8.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * jansson's own allocations, so that a refusal is noted, and ends the reading of a text at once: its parser would go on without the
 * character, and beyond the end of its buffer if that was the closing quote.
 */
struct block {
    struct block *older, *newer;        /* of the same reading */
};

static _Thread_local bool refused;
static _Thread_local jmp_buf *way_out;          /* of the reading; NULL: there is none */
static _Thread_local struct block *newest;      /* of what it has allocated */

static void *take(size_t n)
{
    struct block *b = n < SIZE_MAX / 2 ? malloc(sizeof *b + n) : NULL;
    refused = refused || !b;
    if (!b && way_out)
        longjmp(*way_out, 1);
    if (!b)
        return NULL;
    *b = (struct block){ .older = way_out ? newest : NULL };
    if (b->older)
        b->older->newer = b;
    if (way_out)
        newest = b;
    return b + 1;
}

static void give(void *p)
{
    struct block *b = p ? (struct block *)p - 1 : NULL;
    if (b && way_out) {                 /* a reading frees nothing but its own */
        *(b->newer ? &b->newer->older : &newest) = b->older;
        if (b->older)
            b->older->newer = b->newer;
    }
    free(b);
}

/* Before main, as no value may outlive a change of its allocator. */
__attribute__((constructor)) static void start(void) { json_set_alloc_funcs(take, give); }

void json_begin(void) { refused = false; }
bool json_short(void) { return refused; }

char *json_text(const json_t *value, size_t flags)
{
    bool before = refused;
    refused = false;
    char *made = json_dumps(value, flags);
    char *text = made && !refused ? strdup(made) : NULL;
    give(made);
    refused = refused || before;
    return text;
}

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

/* NULL with `refused` where it was left halfway. */
static json_t *load_or_leave(const char *text, size_t n, size_t flags, json_error_t *je)
{
    jmp_buf out;
    newest = NULL;
    way_out = &out;
    if (setjmp(out) == 0) {
        json_t *value = json_loadb(text, n, flags, je);
        way_out = NULL;
        return value;
    }
    way_out = NULL;
    for (struct block *b = newest, *older; b; b = older) {
        older = b->older;
        free(b);
    }
    return NULL;
}

static json_t *load(const char *text, size_t n, size_t flags, json_error_t *je, bool *ret_short)
{
    bool before = refused;
    refused = false;
    json_t *value = load_or_leave(text, n, flags, je);
    *ret_short = refused;
    refused = refused || before;
    return value;
}

json_t *json_read(const char *text, size_t flags)
{
    json_error_t je;
    bool short_of_memory;
    return load(text, strlen(text), flags, &je, &short_of_memory);
}

json_t *json_parse(const char *text, size_t n, int max_depth, enum err_code code, struct err *e)
{
    if (!depth_ok(text, n, max_depth)) {
        err_set(e, code, "", "the JSON is nested deeper than %d levels", max_depth);
        return NULL;
    }
    json_error_t je = { .line = 0 };
    bool short_of_memory;
    json_t *value = load(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je, &short_of_memory);
    if (short_of_memory)
        err_set(e, ERR_MEMORY, "", "no memory for the JSON; try again");
    else if (!value)
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

/* 8.0 is 8, as in JSON Schema: some languages write whole numbers so.  Beyond 2^53 a double does not say which integer was meant. */
static bool is_whole(const json_t *v, int64_t *ret)
{
    double x = json_real_value(v);
    bool real = json_is_real(v) && x >= -0x1p53 && x <= 0x1p53 && x == (double)(int64_t)x;
    *ret = real ? (int64_t)x : json_integer_value(v);
    return real || json_is_integer(v);
}

bool json_get_int(const json_t *object, const char *key, const char *pointer, bool optional,
                  int64_t lo, int64_t hi, int64_t *ret, enum err_code code, struct err *e)
{
    bool ok;
    const json_t *v = find(object, key, pointer, optional, &ok, code, e);
    if (!v)
        return ok;
    int64_t whole;
    if (!is_whole(v, &whole) || whole < lo || whole > hi) {
        char want[96];
        snprintf(want, sizeof want, "an integer from %lld to %lld", (long long)lo, (long long)hi);
        return wrong(pointer, key, code, e, want);
    }
    *ret = whole;
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

json_t *json_strings(const char *const *list)
{
    json_t *all = list ? json_array() : json_null();
    for (size_t i = 0; list && list[i]; i++)
        if (json_array_append_new(all, json_string(list[i])) != 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

json_t *json_mended(const char *text)
{
    if (utf8_valid(text))
        return json_string(text);
    char *copy = strdup(text);
    json_t *mended = copy ? json_string(utf8_mend(copy)) : NULL;
    free(copy);
    return mended;
}
