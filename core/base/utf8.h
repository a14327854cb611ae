/*
 * utf8.h - text of strangers, which may be any bytes, and text that must be cut.  JSON takes well-formed UTF-8 only, and gives NULL for all else:
 * what is to be shown is cut between characters, and mended where it did not come that way.
 */
#ifndef CORE_BASE_UTF8_H
#define CORE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character at s, of which n may be read; 0 if there is none: no overlong forms, no surrogates, nothing above U+10FFFF, no NUL. */
size_t utf8_sequence(const char *s, size_t n);

bool utf8_valid(const char *text);

/* The most bytes, at most `most`, that the text can be cut to without cutting a character. */
size_t utf8_fit(const char *text, size_t most);

/* In place: each byte that is part of no character becomes '?'; the beginning of one at the end, which was cut, goes.  Returns text. */
char *utf8_mend(char *text);

#endif
