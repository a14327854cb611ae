/*
 * name_set.h - names that are taken, and new ones made from them.
 *
 * A hash table in an arena; {0} is an empty one.  Names are borrowed, and of at most 1,000 bytes.
 */
#ifndef CORE_BASE_NAME_SET_H
#define CORE_BASE_NAME_SET_H

#include "core/base/arena.h"

#include <stdint.h>

struct name_set {
    struct taken_name *at;          /* [room], at most half full */
    size_t n, room;                 /* room: a power of two */
};

/* The name is taken from now on, if it was not before.  False without memory. */
bool name_set_add(struct name_set *s, const char *name, struct arena *mem, struct err *e);

/*
 * The name, or where it is taken, name + mark + the least number from 2 on that makes it new ("fc#2"); taken from now on.  NULL without
 * memory.  Takes time for the numbers it tries first only.
 */
const char *name_set_new(struct name_set *s, const char *name, char mark, struct arena *mem, struct err *e);

#endif
