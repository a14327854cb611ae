/*
 * wire_text.h - protobuf bytes from a small notation, so that tests can write messages that are wrong on purpose:
 *
 *   8:17       field 8, varint          1'text'    field 1, length-delimited text
 *   3#0000803f field 3, fixed 32 bits   7{ ... }   field 7, a message
 *   3%...      field 3, fixed 64 bits   9=00ff     field 9, length-delimited, bytes in hex
 *   !0aff      these bytes as they are
 *
 * Included after cmocka.h.
 */
#ifndef TESTS_UNIT_CORE_WIRE_TEXT_H
#define TESTS_UNIT_CORE_WIRE_TEXT_H

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SPELL_MAX = (1 << 20) + (16 << 10) };      /* a list of a million numbers fits */
struct spelled { uint8_t p[SPELL_MAX]; size_t n; };

static inline void put(struct spelled *s, const void *p, size_t n)
{
    assert_true(s->n + n <= SPELL_MAX);
    memcpy(s->p + s->n, p, n);
    s->n += n;
}

static inline void put_varint(struct spelled *s, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put(s, &(uint8_t){ (uint8_t)(v | 0x80) }, 1);
    put(s, &(uint8_t){ (uint8_t)v }, 1);
}

static inline void put_payload(struct spelled *s, uint64_t number, const struct spelled *body)
{
    put_varint(s, number << 3 | 2);
    put_varint(s, body->n);
    put(s, body->p, body->n);
}

static inline const char *put_hex(struct spelled *s, const char *at)
{
    for (; isxdigit((unsigned char)at[0]) && isxdigit((unsigned char)at[1]); at += 2) {
        const char digits[] = { at[0], at[1], '\0' };
        put(s, &(uint8_t){ (uint8_t)strtoul(digits, NULL, 16) }, 1);
    }
    return at;
}

/* Appends the fields that the text spells, up to its end or a '}'; returns where it stopped. */
static inline const char *spell_fields(struct spelled *s, const char *at);

static inline const char *spell_field(struct spelled *s, const char *at)
{
    char *after;
    uint64_t number = strtoull(at, &after, 10);
    struct spelled *body = calloc(1, sizeof *body);
    const char *start = after + 1;
    assert_non_null(body);
    switch (*after) {
    case ':':
        put_varint(s, number << 3);
        put_varint(s, *start == '-' ? (uint64_t)strtoll(start, &after, 10) : strtoull(start, &after, 10));
        break;
    case '\'':
        after = strchr(start, '\'');
        put(body, start, (size_t)(after - start));
        put_payload(s, number, body);
        after++;
        break;
    case '{':
        after = (char *)spell_fields(body, start) + 1;
        put_payload(s, number, body);
        break;
    case '=':
        after = (char *)put_hex(body, start);
        put_payload(s, number, body);
        break;
    case '#': case '%':
        put_varint(s, number << 3 | (*after == '#' ? 5 : 1));
        after = (char *)put_hex(s, start);
        break;
    default:
        fail_msg("cannot spell '%s'", at);
    }
    free(body);
    return after;
}

static inline const char *spell_fields(struct spelled *s, const char *at)
{
    while (*at && *at != '}') {
        if (*at == ' ')
            at++;
        else if (*at == '!')
            at = put_hex(s, at + 1);
        else
            at = spell_field(s, at);
    }
    return at;
}

#endif
