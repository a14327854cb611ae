#include "core/base/name_set.h"

#include "core/base/hash.h"

#include <string.h>

enum { FIRST_ROOM = 64, FIRST_NUMBER = 2 };

/* name NULL: a free place.  next: the least number behind the name that may be free. */
struct taken_name { const char *name; uint64_t hash; int next; };

/* The place of a name: its own, or the free one where it belongs. */
static struct taken_name *place_of(const struct name_set *s, const char *name, uint64_t hash)
{
    size_t at = hash & (s->room - 1);
    while (s->at[at].name && (s->at[at].hash != hash || strcmp(s->at[at].name, name) != 0))
        at = (at + 1) & (s->room - 1);
    return &s->at[at];
}

static bool room_for_one(struct name_set *s, struct arena *mem, struct err *e)
{
    if (2 * (s->n + 1) <= s->room)
        return true;
    struct name_set larger = { .n = s->n, .room = s->room ? 2 * s->room : FIRST_ROOM };
    larger.at = arena_array(mem, larger.room, sizeof *larger.at, e);
    if (!larger.at)
        return false;
    for (size_t i = 0; i < s->room; i++)
        if (s->at[i].name)
            *place_of(&larger, s->at[i].name, s->at[i].hash) = s->at[i];
    *s = larger;
    return true;
}

/* Into its place, which is free. */
static void put(struct name_set *s, struct taken_name *at, const char *name, uint64_t hash)
{
    *at = (struct taken_name){ name, hash, FIRST_NUMBER };
    s->n++;
}

bool name_set_add(struct name_set *s, const char *name, struct arena *mem, struct err *e)
{
    uint64_t hash = hash_name(name);
    if (!room_for_one(s, mem, e))
        return false;
    struct taken_name *at = place_of(s, name, hash);
    if (!at->name)
        put(s, at, name, hash);
    return true;
}

const char *name_set_new(struct name_set *s, const char *name, char mark, struct arena *mem, struct err *e)
{
    uint64_t hash = hash_name(name);
    if (!room_for_one(s, mem, e))
        return NULL;
    struct taken_name *base = place_of(s, name, hash), *at = base;
    const char *made = name;
    while (at->name) {
        made = arena_printf(mem, e, "%s%c%d", name, mark, base->next++);
        if (!made)
            return NULL;
        hash = hash_name(made);
        at = place_of(s, made, hash);
    }
    put(s, at, made, hash);
    return made;
}
