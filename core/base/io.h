/*
 * io.h - files and descriptors: whole transfers, read-only maps, and files that exist
 * completely or not at all.
 *
 * The system calls that tests must be able to fail, or to answer, go through
 * `sys`.  The programs never change the table.
 */
#ifndef CORE_BASE_IO_H
#define CORE_BASE_IO_H

#include "core/base/err.h"

#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

struct sys {
    ssize_t (*write)(int fd, const void *p, size_t n);
    ssize_t (*pwritev)(int fd, const struct iovec *io, int n, off_t at);
    int (*fsync)(int fd);
    int (*renameat)(int from_dir, const char *from, int to_dir, const char *to);
    int (*fstatvfs)(int fd, struct statvfs *ret);
    int (*mkdirat)(int dir, const char *name, mode_t mode);     /* of control groups: they come with files in them */
    int (*unlinkat)(int dir, const char *name, int flags);      /* likewise */
};
extern struct sys sys;

/* All n bytes, through short writes and EINTR.  0, or -1 with errno. */
int io_write_all(int fd, const void *p, size_t n);
/* The same at `at`; changes io. */
int io_pwrite_all(int fd, struct iovec *io, int n, off_t at);

/*
 * fsync() through sys, which is never asked twice: after a failure the kernel may have dropped the pages and would say "ok". False
 * with errno; from then on io_sync_failed() is true, and whoever promised something must stop and look at the disk again.
 */
bool io_sync(int fd);
/* Makes the name of an open folder durable, which is in the one above it.  False with errno. */
bool io_sync_name(int dir);
bool io_sync_failed(void);
/* As a restart does; for tests. */
void io_sync_forget(void);

/* Makes a folder and those above it that are absent, with this mode less the umask.  False with errno; one that is there is none. */
bool io_make_folder(const char *path, mode_t mode);

/* All bytes of fd from its start, at most `limit`, NUL-terminated; the caller frees *ret. */
bool io_read_all(int fd, const char *where, uint64_t limit, char **ret, size_t *ret_n, struct err *e);

/* A read-only view of a whole file.  {0} is a valid, empty mapping. */
struct mapping {
    const uint8_t *data;
    uint64_t size;
    bool of_file;           /* false where a caller wraps ordinary memory */
    dev_t dev;              /* which file, where it is one */
    ino_t ino;
};

/* Maps fd (which may be closed afterwards).  An empty file maps to size 0. */
bool mapping_fd(struct mapping *m, int fd, const char *where, struct err *e);
bool mapping_path(struct mapping *m, const char *path, struct err *e);
void mapping_release(struct mapping *m);

/* May a new file be put under this name?  Not where one of m[0..n) is what is there, which would be lost, nor anything but a regular file. */
bool mapping_spared(const char *path, const struct mapping *m, size_t n, struct err *e);

/* A view of `size` zero bytes to write to, in a file of its own without a name in `dir`: memory that is not lost when it is
 * needed elsewhere.  The disk space is taken at once.  NULL without it; munmap() ends it. */
void *scratch_map(const char *dir, uint64_t size, struct err *e);
/* Will not be read soon: the pages of [p, p + n) leave this process's memory, and come back from their file when they are
 * read again.  p must be in a mapping of a file or from scratch_map(); anything else would be lost. */
void mapping_rest(const void *p, uint64_t n);

/*
 * newfile: a file that exists completely or not at all.
 *
 *                  newfile_write()*       newfile_commit()
 *   newfile_open() ------------> open ----------------------> gone, file in place
 *                                  |
 *                                  +--------- newfile_abort() -> gone, no trace
 *
 * Bytes go to a temporary name `new.XXXXXX` in the folder; commit makes them
 * durable (fsync the file, rename, fsync the folder).  Abort accepts a
 * finished newfile, so it may stand unconditionally in a cleanup path.
 */
struct newfile {
    int dir, fd;            /* -1 when finished */
    char name[24];          /* the temporary name inside dir */
    uint64_t size, limit;   /* bytes so far; bytes allowed */
};
#define NEWFILE_NONE ((struct newfile){ .dir = -1, .fd = -1 })

/* mode: the permissions of the finished file less the umask, e.g. 0400; those of the temporary one, too. */
bool newfile_open(struct newfile *f, const char *dir, mode_t mode, uint64_t limit, struct err *e);
bool newfile_write(struct newfile *f, const void *p, size_t n, struct err *e);
bool newfile_commit(struct newfile *f, const char *name, struct err *e);
void newfile_abort(struct newfile *f);

/* Create, write and commit in one call. */
bool io_save(const char *dir, const char *name, const void *p, size_t n, struct err *e);

#endif
