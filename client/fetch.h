/*
 * fetch.h - a job's results as files: complete and verified, or not there.
 *
 * Bytes go to a hidden `.NAME.DIGEST.part` beside the target.  Where an earlier try left one, its bytes are hashed and the rest is asked
 * for by Range.  Only what has the announced length and SHA-256 is renamed to its name.  Who writes to a part holds a lock on it.
 */
#ifndef CLIENT_FETCH_H
#define CLIENT_FETCH_H

#include "client/client.h"

/* Makes the folder, with those above it, before a job is asked for.  False with c->f: also where its results would replace what is submitted. */
bool fetch_prepare(struct client *c, const char *folder);
/* All artifacts of a job that has succeeded into `folder` (made if absent).  A list of {name, path, digest, bytes}, which the caller
 * decrefs; NULL with c->f. */
json_t *fetch_results(struct client *c, const char *job, const char *folder);

/* Can this be the name of a file in the folder?  No path, nothing hidden, no control characters. */
bool fetch_name_ok(const char *name);

/* "bytes FROM-TO/SIZE" with exactly these numbers? */
bool fetch_range_ok(const char *content_range, uint64_t from, uint64_t size);

#endif
