/*
 * buf.h - a growing byte buffer that must be given its limit at birth, so that no input can
 * grow it without end.  Sticky: after the first failure `bad` stays true and appends do
 * nothing; check once at the end.
 */
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *p;            /* owned; NUL-terminated whenever n > 0 */
    size_t n, room, limit;
    bool bad;           /* out of memory or over the limit */
};
#define BUF_INIT(max) ((struct buf){ .limit = (max) })

void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_release(struct buf *b);     /* frees; the buf may be used again */

#endif
