#include "core/base/utf8.h"

#include <stdint.h>
#include <string.h>

/* What the first two bytes of a character may be; all behind them are 0x80 to 0xbf. */
static const struct form { uint8_t first_lo, first_hi, second_lo, second_hi; size_t n; } forms[] = {
    { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
    { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
    { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
};

/* How many bytes the character at s should have, 0 if none begins so; *ret: how many of them are there. */
static size_t begun(const uint8_t *s, size_t n, size_t *ret)
{
    *ret = 1;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const struct form *f = &forms[i];
        if (s[0] < f->first_lo || s[0] > f->first_hi)
            continue;
        if (n > 1 && (s[1] < f->second_lo || s[1] > f->second_hi))
            return 0;
        while (*ret < n && *ret < f->n && (s[*ret] & 0xc0) == 0x80)
            ++*ret;
        return f->n;
    }
    return 0;
}

size_t utf8_sequence(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t there, all;
    if (n == 0 || p[0] < 0x80)
        return n > 0 && p[0] != 0;
    all = begun(p, n, &there);
    return all == there ? all : 0;
}

bool utf8_valid(const char *text)
{
    for (size_t n = strlen(text), step; n > 0; text += step, n -= step)
        if ((step = utf8_sequence(text, n)) == 0)
            return false;
    return true;
}

size_t utf8_fit(const char *text, size_t most)
{
    size_t n = strnlen(text, most);
    if (n < most || !text[n])
        return n;
    for (size_t back = 0; back < 4 && back <= n; back++)
        if ((text[n - back] & 0xc0) != 0x80)
            return n - back;
    return n;               /* no UTF-8: it can be cut anywhere */
}

char *utf8_mend(char *text)
{
    for (size_t n = strlen(text), at = 0, step; at < n; at += step) {
        size_t there;
        if ((step = utf8_sequence(text + at, n - at)) > 0)
            continue;
        if (begun((const uint8_t *)text + at, n - at, &there) && there == n - at) {
            text[at] = '\0';
            return text;
        }
        text[at] = '?';
        step = 1;
    }
    return text;
}
