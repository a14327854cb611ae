/*
 * hold.h - what requests that are under way take of a team's quota, before there are rows of it.
 *
 *   hold_upload(), hold_bytes()*  ->  held  ->  hold_end(): after the rows are committed, or when nothing comes of it
 *
 * Disk space is taken when a request begins, its rows are written when it ends.  A hold counts in between, so that many slow requests together take
 * no more than the team may.  It is memory alone: no request outlives the daemon.
 *
 * For a moment both the hold and its rows are there.  Who counts leaves out the rows of what is held, in the one statement that adds up the rest: so
 * nothing is counted twice and nothing is missed, without a lock that is held while a commit waits for the disk.
 *
 * LOCKING  store->room_mu guards the list and what is in it.
 */
#ifndef STORAGE_HOLD_H
#define STORAGE_HOLD_H

#include "core/base/hash.h"
#include "storage/store.h"
#include "storage/ulid.h"

/* Part of the object that needs it, which must not move meanwhile. */
struct hold {
    struct store *store;            /* NULL: nothing is held */
    struct hold *next;
    char team[TEAM_SIZE];
    uint64_t bytes;
    char id[ID_SIZE];               /* one more unfinished upload; "": none */
    char digest[HASH_TEXT_SIZE];    /* of the blob it is about to become; "": not yet */
};

/* ERR_QUOTA when the team has as many unfinished uploads as it may. */
bool hold_upload(struct hold *h, struct store *s, const char *team, const char *id, struct err *e);

/* From now on h holds *bytes, or as many as there is room for and at least `need`: *bytes says.  ERR_QUOTA if that is too much. */
bool hold_bytes(struct hold *h, struct store *s, const char *team, uint64_t need, uint64_t *bytes, struct err *e);

/* Before rows of the blob are written: they count the same bytes.  Accepts {0}. */
void hold_blob(struct hold *h, const char *digest);

/* Accepts {0}. */
void hold_end(struct hold *h);

#endif
