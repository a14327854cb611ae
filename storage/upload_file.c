/*
 * upload_file.c - the file of an upload that goes on.
 *
 * A last part whose commit failed, or was cut by a crash, leaves a file that is read-only and may have a digest as a second name.  The
 * bytes under a digest are everybody's who owns it, and never written to.
 */
#include "storage/upload.h"

#include "core/base/io.h"
#include "storage/inner.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The acknowledged bytes in a file that has no other name, as durable as they were. */
static bool part_from_blob(struct upload_part *p, int fd, struct err *e)
{
    struct newfile to;
    struct store *s = p->store;
    const struct upload_state *st = &p->state;
    bool ok = newfile_open(&to, s->blobs, 0600, st->at, e) && disk_take(s, to.fd, 0, st->taken, e)
           && blob_copy_pieces(fd, st->at, &to, e) && newfile_commit(&to, st->id, e);
    newfile_abort(&to);
    return ok;
}

static bool make_ours(struct upload_part *p, int fd, struct err *e)
{
    struct stat file;
    if (fd < 0 || fstat(fd, &file) != 0)
        return err_sys(e, "upload", "open the file");
    if ((uint64_t)file.st_size < p->state.at)
        return err_set(e, ERR_IO, "upload", "bytes of %s are missing; delete it and begin a new one", p->state.id);
    if (file.st_nlink > 1)
        return part_from_blob(p, fd, e);
    return (file.st_mode & 0200) || fchmod(fd, 0600) == 0 || err_sys(e, "upload", "open the file");
}

bool upload_file_open(struct upload_part *p, const char *hash, struct err *e)
{
    struct hash had;
    struct upload_state *st = &p->state;
    int fd = openat(p->store->blobs_fd, st->id, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = make_ours(p, fd, e);
    if (fd >= 0)
        close(fd);
    if (!ok)
        return false;
    st->fd = openat(p->store->blobs_fd, st->id, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (st->fd < 0)
        return err_sys(e, "upload", "open the file");
    spool_begin(&st->spool, p->store->spooler, st->fd, st->at, hash_load(hash, &had) ? &had : NULL);
    return true;
}

bool upload_file_seal(const struct upload_state *st, struct err *e)
{
    struct stat file;
    if (fstat(st->fd, &file) != 0)
        return err_sys(e, "upload", "look at the file");
    if ((uint64_t)file.st_size < st->at)
        return err_set(e, ERR_IO, "upload", "bytes of %s are missing; delete it and begin a new one", st->id);
    return (ftruncate(st->fd, (off_t)st->at) == 0 && io_sync(st->fd)) || err_sys(e, "upload", "sync");
}
