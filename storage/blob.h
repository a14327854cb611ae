/*
 * blob.h - bytes by their SHA-256.  Stored once, owned by the teams that brought them.
 *
 *                     blob_write()*         blob_finish()
 *   blob_begin() ------------------> open -----------------> published: name, then row, then owner
 *                                     |
 *                                     +----- blob_abort() --> no trace
 *
 * Threads hash and write them (spool.h); nothing holds a whole body in memory.  When
 * blob_finish() has returned true the bytes, their name and their row are on disk.  A team that
 * does not own a digest is told it does not exist, even while another team owns it.
 */
#ifndef STORAGE_BLOB_H
#define STORAGE_BLOB_H

#include "core/base/io.h"
#include "storage/hold.h"
#include "storage/spool.h"
#include "storage/store.h"
#include "storage/ulid.h"

struct blob {
    char digest[HASH_TEXT_SIZE];    /* "sha256:..." */
    uint64_t size;
    bool existed;                   /* this team owned it already */
    bool corrupt;                   /* of blob_get(): the bytes were found to have rotted, see scrub.h */
};

/* Memory for one upload; the caller's, e.g. part of a request.  Used by one thread at a time. */
struct blob_writer {
    struct store *store;            /* NULL when finished */
    char team[TEAM_SIZE];
    struct newfile file;
    struct spool spool;
    bool exempt;                    /* from the team's quota: a result of a job that was accepted */
    bool expected;                  /* the digest was announced */
    bool known;                     /* it is of bytes the team owns: they cost it nothing more */
    struct hold hold;
    uint64_t taken;                 /* bytes of disk space it has */
    uint8_t want[HASH_SIZE];
};
#define BLOB_WRITER_NONE ((struct blob_writer){ .file = NEWFILE_NONE, .spool = SPOOL_NONE })

/* digest: "sha256:..." if announced, else NULL.  At most `limit` bytes will be taken. */
bool blob_begin(struct blob_writer *w, struct store *s, const char *team, const char *digest,
                uint64_t limit, struct err *e);
/* Takes the disk space of `bytes` in advance; ERR_DISK or ERR_QUOTA, so that nobody sends what will not fit. */
bool blob_reserve(struct blob_writer *w, uint64_t bytes, struct err *e);
/* ERR_REQUEST_TOO_LARGE over the limit, ERR_DISK when the disk is full, ERR_QUOTA when the team's quota is. */
bool blob_write(struct blob_writer *w, const void *p, size_t n, struct err *e);
/* Publishes; ERR_UPLOAD_DIGEST if the bytes are not those announced, ERR_QUOTA if they are too many for the team.  The writer is finished either way. */
bool blob_finish(struct blob_writer *w, struct blob *ret, struct err *e);
void blob_abort(struct blob_writer *w);           /* accepts a finished writer */

/* Publishes what fd holds from its start: the way a job's result becomes a blob. */
bool blob_adopt(struct store *s, const char *team, int fd, uint64_t limit, struct blob *ret, struct err *e);

/* Whether the team owns it, its file is there in full length and nobody has found it rotted; tells nothing of other teams. */
bool blob_owned(struct store *s, const char *team, const char *digest, struct blob *ret);
/* ERR_NOT_FOUND unless the team owns it. */
bool blob_get(struct store *s, const char *team, const char *digest, struct blob *ret, struct err *e);

/* Renews the time a blob that nothing uses yet is kept for its team.  ERR_BUSY if the team owns it no more: it has just been removed. */
bool blob_keep(struct store *s, const char *team, const char *digest, struct blob *ret, struct err *e);

/*
 * A read-only descriptor (close-on-exec) of a blob the team owns; its size has been compared with the row.
 * With `rehash` the bytes too, as long as that takes: a file that rotted is ERR_CORRUPT, never input of a job, and its row says so from
 * then on; bytes that are right again lose the mark.  Without, what is marked is ERR_CORRUPT.
 */
bool blob_open(struct store *s, const char *team, const char *digest, bool rehash,
               int *ret_fd, uint64_t *ret_size, struct err *e);

#endif
