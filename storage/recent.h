/*
 * recent.h - what was read a moment ago and is still true: as long as nothing has been committed since.
 *
 * Watchers ask for the same rows again and again.  An entry carries the number of commits before it was read; one commit more and
 * it is not found any more, whatever that was about.  A commit is counted before its writer is told, so nobody who knows of a change sees
 * what was before it.  What depends on the clock is for the reader to check.
 */
#ifndef STORAGE_RECENT_H
#define STORAGE_RECENT_H

#include "core/base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct recent;

enum { RECENT_BYTES_MAX = 64 << 10 };

/* What an entry is about.  A digest of the whole, as a text that is cut to fit would be another one's, too. */
struct recent_key { uint8_t digest[HASH_SIZE]; };

struct recent *recent_new(void);                    /* NULL without memory */
void recent_free(struct recent *r);                 /* NULL is fine */

/* The key of what was asked, texts of any length: `kind` tells apart who keeps something here, `of` is whose it is ("" is fine). */
struct recent_key recent_key(const char *kind, const char *of, const char *asked);

/* Before what is to be kept is read. */
uint64_t recent_now(struct store *s);
/* Keeps a copy of n bytes under the key, which may push another entry out. */
void recent_put(struct store *s, const struct recent_key *key, uint64_t read_at, const void *p, size_t n);
/* Frees what is not true any more: after a commit that is all of it. */
void recent_sweep(struct store *s);
/* A copy, malloc'd; NULL if there is none that is still true. */
void *recent_get(struct store *s, const struct recent_key *key, size_t *ret_n);

#endif
