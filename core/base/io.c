#include "core/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct sys sys = { .write = write, .pwritev = pwritev, .fsync = fsync, .renameat = renameat, .fstatvfs = fstatvfs,
                   .mkdirat = mkdirat, .unlinkat = unlinkat };
static atomic_bool sync_failed;

bool io_sync(int fd)
{
    if (sys.fsync(fd) == 0)
        return true;
    atomic_store(&sync_failed, true);
    return false;
}

bool io_sync_name(int dir)
{
    int above = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = above >= 0 && io_sync(above);
    int why = errno;
    if (above >= 0)
        close(above);
    errno = why;
    return ok;
}

bool io_sync_failed(void) { return atomic_load(&sync_failed); }
void io_sync_forget(void) { atomic_store(&sync_failed, false); }

int io_write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t done = sys.write(fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done == 0)
            errno = ENOSPC;
        if (done <= 0)
            return -1;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int io_pwrite_all(int fd, struct iovec *io, int n, off_t at)
{
    while (n) {
        ssize_t done = io->iov_len ? sys.pwritev(fd, io, n, at) : 0;
        if (done < 0 && errno == EINTR)
            continue;
        if (done == 0 && io->iov_len)
            errno = ENOSPC;
        if (done < 0 || (done == 0 && io->iov_len))
            return -1;
        at += done;
        for (; n && (size_t)done >= io->iov_len; n--, io++)
            done -= (ssize_t)io->iov_len;
        if (n) {
            io->iov_base = (char *)io->iov_base + done;
            io->iov_len -= (size_t)done;
        }
    }
    return 0;
}

bool io_make_folder(const char *path, mode_t mode)
{
    char above[4096];
    size_t n = strlen(path);
    if (n >= sizeof above) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (size_t at = 1; at < n; at++) {
        if (path[at] != '/')
            continue;
        memcpy(above, path, at);
        above[at] = '\0';
        if (mkdir(above, mode) != 0 && errno != EEXIST)
            return false;
    }
    struct stat st;
    if (mkdir(path, mode) == 0)
        return true;
    if (errno != EEXIST || stat(path, &st) != 0)
        return false;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode);
}

bool io_read_all(int fd, const char *where, uint64_t limit, char **ret, size_t *ret_n, struct err *e)
{
    size_t room = 4096, n = 0;
    char *text = malloc(room);
    for (;;) {
        if (!text)
            return err_sys(e, where, "read");
        ssize_t got = read(fd, text + n, room - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_sys(e, where, "read");
            break;
        }
        if (got == 0) {
            text[n] = '\0';
            *ret = text;
            *ret_n = n;
            return true;
        }
        n += (size_t)got;
        if (n > limit) {
            err_set(e, ERR_REQUEST_TOO_LARGE, where, "more than %llu bytes; send a smaller file", (unsigned long long)limit);
            break;
        }
        if (n + 1 == room) {
            char *more = realloc(text, room *= 2);
            if (!more)
                free(text);
            text = more;
        }
    }
    free(text);
    return false;
}

bool mapping_fd(struct mapping *m, int fd, const char *where, struct err *e)
{
    struct stat st;
    *m = (struct mapping){ 0 };
    if (fstat(fd, &st) != 0)
        return err_sys(e, where, "stat");
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_NO_FILE, where, "not a regular file; give the path of a file");
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    if (st.st_size == 0)
        return true;
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return err_sys(e, where, "map");
    m->data = at;
    m->size = (uint64_t)st.st_size;
    m->of_file = true;
    return true;
}

bool mapping_path(struct mapping *m, const char *path, struct err *e)
{
    *m = (struct mapping){ 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, path, "open");
    bool ok = mapping_fd(m, fd, path, e);
    close(fd);
    return ok;
}

bool mapping_spared(const char *path, const struct mapping *m, size_t n, struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return true;                       /* nothing there; or writing will say what is wrong */
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_REQUEST_INVALID, path, "what is there is no regular file, and a result would take its place; write to another place");
    for (size_t i = 0; i < n; i++)
        if (m[i].ino == st.st_ino && m[i].dev == st.st_dev)
            return err_set(e, ERR_REQUEST_INVALID, path, "this is an input, and a result would take its place; write to another place");
    return true;
}

void mapping_release(struct mapping *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, (size_t)m->size);
    *m = (struct mapping){ 0 };
}

void *scratch_map(const char *dir, uint64_t size, struct err *e)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(e, dir, "create a scratch file in");
        return NULL;
    }
    void *at = MAP_FAILED;
    /* Space that was not reserved would be missed in the middle of a write to memory, as SIGBUS. */
    errno = posix_fallocate(fd, 0, (off_t)size);
    if (errno != 0 || (at = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err_sys(e, dir, "take room for arrays in");
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

void mapping_rest(const void *p, uint64_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p / page * page, to = ((uintptr_t)p + n + page - 1) / page * page;
    if (n)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

bool newfile_open(struct newfile *f, const char *dir, mode_t mode, uint64_t limit, struct err *e)
{
    *f = NEWFILE_NONE;
    f->limit = limit;
    f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0)
        return err_sys(e, dir, "open folder");
    for (int tries = 0; tries < 100 && f->fd < 0; tries++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            break;
        snprintf(f->name, sizeof f->name, "new.%016llx", (unsigned long long)random);
        f->fd = openat(f->dir, f->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (f->fd < 0 && errno != EEXIST)
            break;
    }
    if (f->fd >= 0)
        return true;
    err_sys(e, dir, "create a file in");
    f->name[0] = '\0';
    newfile_abort(f);
    return false;
}

bool newfile_write(struct newfile *f, const void *p, size_t n, struct err *e)
{
    if (n > f->limit - f->size)
        return err_set(e, ERR_REQUEST_TOO_LARGE, f->name, "more than %llu bytes", (unsigned long long)f->limit);
    if (io_write_all(f->fd, p, n) != 0)
        return err_sys(e, f->name, "write");
    f->size += n;
    return true;
}

bool newfile_commit(struct newfile *f, const char *name, struct err *e)
{
    bool ok = io_sync(f->fd) && sys.renameat(f->dir, f->name, f->dir, name) == 0;
    if (ok) {
        f->name[0] = '\0';                 /* nothing left to unlink */
        ok = io_sync(f->dir);
    }
    if (!ok)
        err_sys(e, name, "commit file");
    newfile_abort(f);
    return ok;
}

void newfile_abort(struct newfile *f)
{
    if (f->fd >= 0 && f->name[0])
        unlinkat(f->dir, f->name, 0);
    if (f->fd >= 0)
        close(f->fd);
    if (f->dir >= 0)
        close(f->dir);
    *f = NEWFILE_NONE;
}

bool io_save(const char *dir, const char *name, const void *p, size_t n, struct err *e)
{
    struct newfile f;
    bool ok = newfile_open(&f, dir, 0644, UINT64_MAX, e) && newfile_write(&f, p, n, e) && newfile_commit(&f, name, e);
    newfile_abort(&f);
    return ok;
}
