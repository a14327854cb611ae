/*
 * ulid.h - names of things: a prefix that tells the kind, then a ULID.
 *
 *     job_01JD8Z6W3V7QK5T9N2M4X8C0RB
 *         |--------||--------------|
 *         48 bits    80 random bits
 *         of ms      (Crockford's base 32)
 *
 * Ids of one process sort by creation even within a millisecond and even when the clock steps
 * back, so an id is also the cursor of a list.
 */
#ifndef STORAGE_ULID_H
#define STORAGE_ULID_H

#include <stdbool.h>

enum { ID_SIZE = 32, ID_PREFIX_MAX = 4, TEAM_SIZE = 64, TRACE_ID_SIZE = 33 };

/* "job" gives "job_" and 26 characters; a longer prefix than ID_PREFIX_MAX would cut off what makes ids differ.  Thread-safe; cannot fail. */
void id_new(const char *prefix, char ret[ID_SIZE]);

/* Whether text is an id with this prefix.  Anything else names nothing. */
bool id_valid(const char *text, const char *prefix);

#endif
