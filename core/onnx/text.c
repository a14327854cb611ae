/* text.c - names from a stranger's file: what may be one, and how to print it. */
#include "core/onnx/message.h"

#include "core/base/utf8.h"

#include <stdio.h>

bool text_is_name(const char *s, size_t n)
{
    for (size_t i = 0, step; i < n; i += step)
        if ((step = utf8_sequence(s + i, n - i)) == 0)
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
