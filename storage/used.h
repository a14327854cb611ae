/*
 * used.h - when tokens and sessions were last used.
 *
 * Whoever asks is let in by a thread that must not wait for the disk, so a use is noted in memory, one note for each token and session, and all are
 * written together by used_flush(), which the daemon calls once a second.  A crash loses the notes of that second; so does a write that
 * fails, and what comes when there is no room is not noted: the next use is.
 */
#ifndef STORAGE_USED_H
#define STORAGE_USED_H

#include "storage/store.h"

/* Writes what waits, in one transaction; nothing if nothing does. */
bool used_flush(struct store *s, struct err *e);

#endif
