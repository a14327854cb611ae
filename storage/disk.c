/*
 * disk.c - who may still take disk space.
 *
 * An upload takes the space of its declared bytes when it is accepted, by preallocating its file: the file system itself keeps the
 * account, also over a crash and beside other programs.  A job that waits is promised what its end will need, as a number in its
 * row.  What is left is: free, less what jobs were promised, less what --keep-free leaves to the database.
 */
#include "storage/inner.h"

#include <errno.h>
#include <fcntl.h>

static bool read_promised(struct conn *c, uint64_t *ret, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_DISK_PROMISED);
    bool ok = stmt_row(q, e);
    if (ok)
        *ret = (uint64_t)stmt_get_int(q, 0);
    stmt_end(q);
    return ok;
}

static uint64_t left(const struct store *s, uint64_t promised)
{
    uint64_t room = store_free_bytes(s), kept = s->limits.keep_free;
    if (__builtin_add_overflow(kept, promised, &kept))
        return 0;
    return room > kept ? room - kept : 0;
}

uint64_t store_room(struct store *s)
{
    uint64_t promised = 0;
    struct conn *c = db_read_briefly(s->db);
    bool ok = read_promised(c, &promised, NULL);
    db_read_end(c);
    return ok ? left(s, promised) : 0;
}

/* Where nothing at all is left the ballast goes: what is asked next is to cancel or to delete, and that must be written. */
static bool full(struct store *s, const char *where, uint64_t needed, uint64_t room, struct err *e)
{
    enum { NOTHING = 1 << 20 };
    if (store_free_bytes(s) < NOTHING)
        ballast_drop(s);
    return err_set(e, ERR_DISK, where, "%llu bytes of disk are needed, %llu are left; delete what is no longer needed, or try again later",
                   (unsigned long long)needed, (unsigned long long)room);
}

bool disk_take(struct store *s, int fd, uint64_t from, uint64_t bytes, struct err *e)
{
    if (bytes == 0)
        return true;
    pthread_mutex_lock(&s->room_mu);        /* between asking and taking nobody else takes */
    uint64_t room = store_room(s);
    bool ok = bytes <= room || full(s, "Content-Length", bytes, room, e);
    /* The file keeps its size: that is how many bytes have arrived.  A file system that cannot do this has been asked for room, at least. */
    if (ok && fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        ok = errno == ENOSPC ? full(s, "Content-Length", bytes, 0, e) : err_sys(e, "upload", "take disk space");
    pthread_mutex_unlock(&s->room_mu);
    return ok;
}

bool disk_promise_job(struct store *s, struct conn *c, const char *team, const struct job_request *r, uint64_t *ret_bytes, struct err *e)
{
    enum { REPORTS = 64 << 10 };
    uint64_t promised = 0;
    struct stmt *q = stmt_begin(c, SQL_JOB_NEEDS);
    stmt_text(q, 1, team);
    stmt_text(q, 2, r->model_id);
    stmt_text(q, 3, r->dataset_id ? r->dataset_id : "");
    stmt_text(q, 4, r->eval_dataset_id ? r->eval_dataset_id : "");
    bool ok = stmt_row(q, e);
    *ret_bytes = ok ? (uint64_t)stmt_get_int(q, 0) + REPORTS : 0;
    stmt_end(q);
    if (!ok || !read_promised(c, &promised, e))
        return false;
    uint64_t room = left(s, promised);
    if (*ret_bytes > room)
        return full(s, "/model_id", *ret_bytes, room, e);
    q = stmt_begin(c, SQL_DISK_PROMISE);
    stmt_int(q, 1, (int64_t)*ret_bytes);
    ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}
