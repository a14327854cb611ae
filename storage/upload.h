/*
 * upload.h - a blob that arrives in parts, over connections that break.
 *
 *                 upload_begin()            upload_write()*       upload_end()
 *      (nothing) ---------------> writing ----------------> ... --------------> waiting for the next part, or a blob
 *                 upload_resume()    |
 *      waiting   ---------------->   +-- upload_abandon() --> waiting; what arrived is kept
 *
 * An offset that a client was told is durable: the bytes below it and the row that says so are on disk.  A crash loses at
 * most what came after.  The disk space of all the bytes is taken at the beginning.  Threads hash and write them (spool.h),
 * and the state of the hash is kept in the row, so a resumed upload does not begin it again.
 *
 * One request writes at a time.  Whoever asks for the offset takes the upload over from a connection that is still open
 * (it has been forgotten by the client, or the client has forgotten it), so a resume never waits for a timeout.
 * An unfinished upload is removed some time after its last part; the rows of finished ones too, their blobs stay.
 */
#ifndef STORAGE_UPLOAD_H
#define STORAGE_UPLOAD_H

#include "storage/hold.h"
#include "storage/spool.h"
#include "storage/store.h"
#include "storage/ulid.h"

#include <pthread.h>

enum { UPLOAD_METADATA_SIZE = 1001, UPLOAD_SOURCE_SIZE = 256 };

struct upload {
    char id[ID_SIZE];
    int64_t length;                         /* -1: not known yet */
    uint64_t offset;
    char digest[HASH_TEXT_SIZE];            /* of the blob; "" until all bytes are there */
    char metadata[UPLOAD_METADATA_SIZE];    /* as the client sent it */
    char source[UPLOAD_SOURCE_SIZE];        /* an import's: where the bytes come from, without the query; "" else */
    char *problem;                          /* malloc'd JSON: why it ended without a blob; NULL: it did not */
    int64_t created_at, expires_at;
};
void upload_release(struct upload *u);

struct upload_wish {
    int64_t length;                         /* -1: not known yet */
    const char *want;                       /* "sha256:...": what the bytes must have; NULL: anything */
    const char *metadata, *source;          /* NULL: "" */
};

/* What is known of an upload while somebody writes to it. */
struct upload_state {
    char id[ID_SIZE], team[TEAM_SIZE];
    char want[HASH_TEXT_SIZE];
    int fd;
    bool fresh;                             /* it has no row yet */
    bool summed;                            /* a checksum of this part was sent */
    int64_t length;
    uint64_t start, at;                     /* where this part begins, and how far it has come */
    uint64_t taken;                         /* disk space it has */
    struct spool spool;
    struct checksum sum;
    uint8_t wanted[HASH_SIZE];
    size_t wanted_n;
    char metadata[UPLOAD_METADATA_SIZE], source[UPLOAD_SOURCE_SIZE];
};

/* One part on its way; the caller's memory, e.g. of a request.  Written by one thread at a time, and must not move. */
struct upload_part {
    struct store *store;                    /* NULL: not open */
    struct upload_part *next;               /* guarded by store->parts_mu, as `settling` and `stolen` */
    bool settling, stolen;
    struct hold hold;                       /* of what no row counts yet; the part's whole time */
    pthread_mutex_t mu;                     /* guards `state` */
    struct upload_state state;
};

/*
 * A new upload.  ERR_DISK without the space for its length, ERR_QUOTA when the team has too many or may not have so many bytes.  It gets its row, and the
 * client its name, in upload_end().
 */
bool upload_begin(struct upload_part *p, struct store *s, const char *team, const struct upload_wish *w, struct err *e);

/* The next part.  ERR_NOT_FOUND; ERR_UPLOAD_OFFSET (e's text names the right one); ERR_UPLOAD_BUSY; ERR_CONFLICT. */
bool upload_resume(struct upload_part *p, struct store *s, const char *team, const char *id, uint64_t offset, struct err *e);
/* The one part of an import; upload_resume() is ERR_CONFLICT for it. */
bool upload_resume_import(struct upload_part *p, struct store *s, const char *team, const char *id, struct err *e);

/* Before the first byte: the part will have this checksum, "sha1 <base64>".  ERR_REQUEST_INVALID. */
bool upload_expect(struct upload_part *p, const char *checksum, struct err *e);

/* Says how long an upload of unknown length is, and takes the space.  ERR_DISK, ERR_QUOTA. */
bool upload_set_length(struct upload_part *p, uint64_t length, struct err *e);

bool upload_write(struct upload_part *p, const void *data, size_t n, struct err *e);

/*
 * Ends the part; *ret tells what is durable now.  With the last byte the upload becomes a blob.  ERR_UPLOAD_CHECKSUM: the
 * part is forgotten; ERR_UPLOAD_DIGEST: the upload is; ERR_CONFLICT: another request has taken it over.
 */
bool upload_end(struct upload_part *p, struct upload *ret, struct err *e);

/* The same without an answer: keeps what arrived of a part without a checksum.  May take a disk's time; accepts {0}. */
void upload_abandon(struct upload_part *p);

/* Removes uploads that were abandoned: their rows, and their bytes, which takes a disk's time. */
bool upload_sweep(struct store *s, struct err *e);

/* Where it stands; takes it over from whoever writes to it. */
bool upload_get(struct store *s, const char *team, const char *id, struct upload *ret, struct err *e);

/* An upload that is complete from the start, because the team owns these bytes; they are kept as if they had been sent.  ERR_BUSY as blob_keep(). */
bool upload_known(struct store *s, const char *team, const struct upload_wish *w, struct upload *ret, struct err *e);

/* Ends it for good.  Its blob, if it has become one, stays. */
bool upload_delete(struct store *s, const char *team, const char *id, struct err *e);

/* An import that failed: keeps the row with the problem (JSON) and lets go of the bytes. */
bool upload_fail(struct store *s, const char *team, const char *id, const char *problem, struct err *e);
/* At start: imports that were under way are over. */
bool upload_fail_imports(struct store *s, const char *problem, struct err *e);

#endif
