#include "storage/used.h"

#include "core/base/hash.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Notes are looked for at a few places from where their id's hash says, so a full table costs no more than an empty one. */
enum { TRIES = 8 };

void used_note(struct store *s, enum sql which, const char *id, int64_t at)
{
    unsigned first = (unsigned)(hash_name(id) % USED_WAITING);
    pthread_mutex_lock(&s->used.mu);
    for (unsigned i = 0; i < TRIES; i++) {
        struct used *note = &s->used.notes[(first + i) % USED_WAITING];
        if (note->id[0] && strcmp(note->id, id) != 0)
            continue;
        s->used.n += !note->id[0];
        note->which = which;
        note->at = at > note->at ? at : note->at;
        snprintf(note->id, sizeof note->id, "%s", id);
        break;
    }
    pthread_mutex_unlock(&s->used.mu);
}

/* A malloc'd copy of the table, which is empty then; NULL: nothing waits, or *e says why it goes on waiting. */
static struct used *take(struct store *s, struct err *e)
{
    struct used *all = NULL;
    pthread_mutex_lock(&s->used.mu);
    if (s->used.n && !(all = malloc(sizeof s->used.notes)))
        err_sys(e, "tokens", "note a use");
    if (all) {
        memcpy(all, s->used.notes, sizeof s->used.notes);
        memset(s->used.notes, 0, sizeof s->used.notes);
        s->used.n = 0;
    }
    pthread_mutex_unlock(&s->used.mu);
    return all;
}

static bool write_note(struct conn *c, const struct used *note, struct err *e)
{
    struct stmt *q = stmt_begin(c, note->which);
    stmt_text(q, 1, note->id);
    stmt_int(q, 2, note->at);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

bool used_flush(struct store *s, struct err *e)
{
    struct err why = { 0 };
    struct used *all = take(s, &why);
    if (!all)
        return err_clean(&why, e);
    struct conn *c = db_write(s->db, e);
    bool ok = c;
    for (int i = 0; ok && i < USED_WAITING; i++)
        ok = !all[i].id[0] || write_note(c, &all[i], e);
    ok = c && db_write_end(c, ok, e);
    free(all);
    return ok;
}
