/*
 * target.c - a request target, decoded exactly once.
 *
 * Servers of this kind were broken again and again by paths that two layers decoded
 * differently.  So there is one decoder, it works on the raw bytes of the request line, and what
 * it cannot decode without doubt it refuses.  No decoded string ever becomes a file name.
 */
#include "api/request.h"

#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

static bool bad(struct err *e, const char *why)
{
    return err_set(e, ERR_REQUEST_FRAMING, "target", "%s", why);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes s in place; `plus` also turns '+' into a space, as forms do. */
static bool decode(char *s, bool plus, const char *refused, struct err *e)
{
    char *out = s;
    for (; *s; s++) {
        int c = (unsigned char)*s;
        if (c == '%') {
            int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);
            if (lo < 0)
                return bad(e, "a percent sign is not followed by two hexadecimal digits; encode it as %25");
            c = hi * 16 + lo;
            s += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f)
            return bad(e, "an encoded control character is not allowed");
        if (strchr(refused, c))
            return bad(e, "an encoded slash or backslash is not allowed in the path");
        *out++ = (char)c;
    }
    *out = '\0';
    return true;
}

static bool decode_text(char *s, bool plus, const char *refused, struct err *e)
{
    if (!decode(s, plus, refused, e))
        return false;
    return utf8_valid(s) || bad(e, "the decoded text is not UTF-8");
}

static bool parse_path(char *path, struct target *t, struct err *e)
{
    for (char *next = path; next;) {
        char *segment = next + 1;           /* past the slash */
        next = strchr(segment, '/');
        if (next)
            *next = '\0';
        if (!next && !*segment && t->segments == 0)
            return true;                    /* "/" itself */
        if (t->segments == REQUEST_MAX_SEGMENTS)
            return bad(e, "the path has too many segments");
        if (!decode_text(segment, false, "/\\", e))
            return false;
        if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
            return bad(e, "a dot segment is not allowed in the path");
        t->segment[t->segments++] = segment;
    }
    return true;
}

static bool parse_query(char *query, struct target *t, struct err *e)
{
    for (char *pair; (pair = strsep(&query, "&"));) {
        if (!*pair)
            continue;
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        else
            value = pair + strlen(pair);
        if (t->queries == REQUEST_MAX_QUERY)
            return bad(e, "the query has too many parameters");
        if (!decode_text(pair, true, "", e) || !decode_text(value, true, "", e))
            return false;
        for (int i = 0; i < t->queries; i++)
            if (strcmp(t->query[i].name, pair) == 0)
                return bad(e, "a query parameter is given twice");
        t->query[t->queries].name = pair;
        t->query[t->queries++].value = value;
    }
    return true;
}

static bool raw_ok(const char *raw, struct err *e)
{
    if (strlen(raw) > REQUEST_MAX_TARGET)
        return bad(e, "the target is too long");
    if (raw[0] != '/')
        return bad(e, "the target must be a path that starts with a slash");
    for (const char *s = raw; *s; s++)
        if (*s <= 0x20 || *s >= 0x7f || *s == '\\' || *s == '#')
            return bad(e, "a byte in the target must be percent-encoded");
    return true;
}

bool target_parse(const char *raw, struct target *ret, struct err *e)
{
    *ret = (struct target){ 0 };
    size_t path = strcspn(raw, "?");
    size_t shown = path < sizeof ret->path ? path : sizeof ret->path - 1;
    memcpy(ret->path, raw, shown);
    ret->path[shown] = '\0';
    if (!raw_ok(raw, e))
        return false;
    ret->text = strdup(raw);
    if (!ret->text)
        return err_sys(e, "target", "keep the request target");
    if (ret->text[path] == '?') {
        ret->text[path] = '\0';
        if (!parse_query(ret->text + path + 1, ret, e))
            return false;
    }
    return parse_path(ret->text, ret, e);
}

void target_release(struct target *t)
{
    free(t->text);
    *t = (struct target){ 0 };
}
