/*
 * upload.h - files to blobs of the service, each byte once.
 *
 * A file is read first, for its digest.  What the team owns is not sent: a small file is offered with Expect: 100-continue and the
 * service answers before the body; a large one is a tus upload that begins complete.  Where a large upload broke off, in this run or an
 * earlier one, it goes on.
 */
#ifndef CLIENT_UPLOAD_H
#define CLIENT_UPLOAD_H

#include "client/client.h"
#include "client/sha256.h"

struct source {
    const char *path;           /* on this machine */
    char name[256];             /* what the model calls it */
    char digest[DIGEST_SIZE];
    uint64_t bytes;
    int fd;                     /* open from source_open() to source_close(); -1 */
};

/* Opens and hashes. */
bool source_open(struct client *c, const char *path, struct source *ret);
void source_close(struct source *s);
/* The bytes are in the service, and the team owns them. */
bool source_send(struct client *c, const struct source *s);

#endif
