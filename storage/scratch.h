/*
 * scratch.h - the folder an attempt works in: DIR/scratch/<job>/<claim token>/.
 *
 * Two attempts never share a folder, not even when the first one's process outlived its daemon.
 * What one attempt hands to the next is a copy of its `journal`, so a new attempt goes on where
 * the lost one stopped.  Everything in here was written by a child and is treated so: opened
 * without following links, and only if it is a plain file with one name.
 */
#ifndef STORAGE_SCRATCH_H
#define STORAGE_SCRATCH_H

#include "storage/run.h"

/* Makes the folder, copies the newest older journal into it, removes the older folders.  *ret_dir: a descriptor, close-on-exec. */
bool scratch_make(struct store *s, const struct claim *c, int *ret_dir, struct err *e);

/* Removes this claim's folder and older ones (keep_journal: all in this claim's but the journal), and the job's if it is empty then. */
void scratch_drop(struct store *s, const struct claim *c, bool keep_journal);

/* Removes all folders of a job that ended while it waited: no attempt will come and do it. */
void scratch_forget(struct store *s, const char *job_id);

/* Opens a file the child left: a plain name, no link, one name only, at most `limit` bytes. */
bool scratch_open(int dir, const char *name, uint64_t limit, int *ret_fd, struct err *e);

/* A folder for work that is no job (looking into an upload): made under DIR/scratch with this name. */
bool scratch_make_named(struct store *s, const char *name, int *ret_dir, struct err *e);
void scratch_drop_named(struct store *s, const char *name);

#endif
