/*
 * arena.h - memory that dies together.
 *
 * Everything of one lifetime (a parsed model, one job, one layer) comes from
 * one arena and is freed by one call.  Blocks are 64-byte aligned and zeroed:
 * a short read into one yields zeros, never somebody else's bytes.  An arena
 * has a hard limit, so that no input can grow it without end.
 *
 * Not thread-safe: an arena belongs to one thread at a time.
 */
#ifndef CORE_BASE_ARENA_H
#define CORE_BASE_ARENA_H

#include "core/base/err.h"

#include <stdint.h>

struct arena;

/* An empty arena that will hold at most `limit` bytes, or NULL without memory. */
struct arena *arena_new(uint64_t limit);

/* The same, with blocks of ARENA_PAGED bytes and more in scratch files in `dir` (borrowed): mapping_rest() may be called on them. */
enum { ARENA_PAGED = 1 << 20 };
struct arena *arena_new_paged(uint64_t limit, const char *dir);
/* Is a block of n bytes from this arena one of those? */
bool arena_paged(const struct arena *a, uint64_t n);

/* Frees everything; NULL is fine. */
void arena_free(struct arena *a);

/* n zeroed bytes (n may be 0), or NULL with *e ERR_MEMORY naming the limit. */
void *arena_alloc(struct arena *a, uint64_t n, struct err *e);

/* count * size with the product checked. */
void *arena_array(struct arena *a, uint64_t count, uint64_t size, struct err *e);
/* The same, not zeroed if it is large: for numbers of our own that are all written before they are read. */
void *arena_scratch(struct arena *a, uint64_t count, uint64_t size, struct err *e);

/* A NUL-terminated copy of s[0..n). */
char *arena_strndup(struct arena *a, const char *s, uint64_t n, struct err *e);
char *arena_printf(struct arena *a, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

uint64_t arena_used(const struct arena *a);

#endif
