/* text.c - names from a stranger's file: what may be one, and how to print it. */
#include "core/onnx/message.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 sequence at s, 0 if there is none: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t sequence(const uint8_t *s, size_t n)
{
    static const struct { uint8_t first_lo, first_hi, second_lo, second_hi; size_t n; } rows[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    if (s[0] < 0x80)
        return s[0] != 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (s[0] < rows[i].first_lo || s[0] > rows[i].first_hi)
            continue;
        if (n < rows[i].n || s[1] < rows[i].second_lo || s[1] > rows[i].second_hi)
            return 0;
        for (size_t k = 2; k < rows[i].n; k++)
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        return rows[i].n;
    }
    return 0;
}

bool text_is_name(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;
    for (size_t i = 0, step; i < n; i += step)
        if ((step = sequence(p + i, n - i)) == 0)
            return false;
    return true;
}

const char *text_printable(char *buf, size_t size, const char *s, size_t n)
{
    enum { ESCAPE = 4, DOTS = 4 };             /* "\xNN"; "..." and the NUL */
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (used + ESCAPE + DOTS > size) {
            snprintf(buf + used, size - used, "...");
            return buf;
        }
        bool plain = c >= 0x20 && c < 0x7f && c != '\\';
        used += (size_t)snprintf(buf + used, size - used, plain ? "%c" : "\\x%02x", c);
    }
    buf[used] = '\0';
    return buf;
}
