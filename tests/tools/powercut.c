/*
 * powercut.c - a power cut for one process, by LD_PRELOAD.
 *
 * kill -9 cannot show a missing fsync, because the page cache survives it.  This keeps an undo log of everything that was done below
 * POWERCUT_ROOT and not yet synced: bytes until their file is synced, names until their folder is.  At the POWERCUT_AT-th such call it
 * takes back a random three quarters of the log, newest first, and ends the process.
 *
 *   POWERCUT_ROOT    the data folder
 *   POWERCUT_AT      which call; 0: never
 *   POWERCUT_SEED    which three quarters
 *   POWERCUT_DEAF    set: a sync is believed to work and does not, which a test must notice
 *
 * Memory that is mapped (SQLite's -shm) is left alone: it is rebuilt.  Not modelled: torn pages.  Children are not followed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { BYTES, NEW_NAME, MOVED, REMOVED };

struct undo {
    struct undo *older;
    enum kind kind;
    ino_t file;                             /* BYTES: whose */
    char path[PATH_MAX], to[PATH_MAX];      /* to: of MOVED */
    off_t at, size;                         /* BYTES: where, and how long the file was */
    void *old;                              /* what was there before: bytes, or a whole file */
    size_t n;
    bool had;                               /* MOVED: there was a file under the new name */
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside;                /* our own calls are not counted */
static struct undo *log_top;
static char root[PATH_MAX];
static long calls, cut_at;
static unsigned seed;
static bool deaf;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void)
{
    const char *where = getenv("POWERCUT_ROOT"), *at = getenv("POWERCUT_AT"), *random = getenv("POWERCUT_SEED");
    if (where)
        snprintf(root, sizeof root, "%s/", where);
    cut_at = at ? strtol(at, NULL, 10) : 0;
    seed = random ? (unsigned)strtoul(random, NULL, 10) : 1;
    deaf = getenv("POWERCUT_DEAF");
    unsetenv("LD_PRELOAD");
}

/* ---- names ---- */

/* SQLite's -shm is not: to cut off what other threads have mapped would be a SIGBUS for them before the process has ended. */
static bool below(const char *path)
{
    size_t n = strlen(path);
    return root[0] && strncmp(path, root, strlen(root)) == 0 && (n < 4 || strcmp(path + n - 4, "-shm") != 0);
}

static bool path_of(int fd, char ret[PATH_MAX])
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, ret, PATH_MAX - 1);
    ret[n < 0 ? 0 : n] = '\0';
    return n > 0 && below(ret);
}

static bool path_at(int dir, const char *name, char ret[PATH_MAX])
{
    char folder[PATH_MAX];
    if (name[0] == '/' || dir == AT_FDCWD) {
        snprintf(ret, PATH_MAX, "%s", name);
        return below(ret);
    }
    path_of(dir, folder);
    snprintf(ret, PATH_MAX, "%.2000s/%.2000s", folder, name);
    return below(ret);
}

/* ---- the log ---- */

static struct undo *remember(enum kind kind, const char *path)
{
    struct undo *u = calloc(1, sizeof *u);
    if (!u)
        _exit(3);
    u->kind = kind;
    snprintf(u->path, sizeof u->path, "%s", path);
    u->older = log_top;
    log_top = u;
    return u;
}

static void keep_file(struct undo *u, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    u->had = true;
    u->old = malloc((size_t)st.st_size + 1);
    ssize_t n = pread(fd, u->old, (size_t)st.st_size, 0);
    u->n = n > 0 ? (size_t)n : 0;
    close(fd);
}

static void keep_bytes(int fd, const char *path, off_t at, size_t n)
{
    struct stat st;
    struct undo *u = remember(BYTES, path);
    fstat(fd, &st);
    u->file = st.st_ino;
    u->at = at;
    u->size = st.st_size;
    int again = open(path, O_RDONLY);       /* fd may be write-only */
    u->old = malloc(n + 1);
    ssize_t got = again >= 0 ? pread(again, u->old, n, at) : 0;
    u->n = got > 0 ? (size_t)got : 0;
    if (again >= 0)
        close(again);
}

static void write_file(const char *path, const struct undo *u)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && write(fd, u->old, u->n) < 0)
        fd = -1;
}

static void take_back(const struct undo *u)
{
    struct stat st;
    int fd;
    switch (u->kind) {
    case BYTES:
        fd = open(u->path, O_WRONLY);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == u->file && pwrite(fd, u->old, u->n, u->at) >= 0 && st.st_size > u->size)
            (void)!ftruncate(fd, u->size);
        break;
    case NEW_NAME:
        unlink(u->path);
        break;
    case MOVED:
        rename(u->to, u->path);
        if (u->had)
            write_file(u->to, u);
        break;
    case REMOVED:
        write_file(u->path, u);
        break;
    }
}

/* One more call.  mu is held, and stays so when the power goes. */
static void tick(void)
{
    if (++calls != cut_at)
        return;
    int lost = 0, all = 0;
    for (struct undo *u = log_top; u; u = u->older, all++) {
        if (rand_r(&seed) % 4 == 0)
            continue;                       /* had reached the disk by itself */
        chmod(u->path, 0600);
        take_back(u);
        lost++;
    }
    dprintf(STDERR_FILENO, "powercut: call %ld, %d of %d unsynced operations lost\n", calls, lost, all);
    _exit(137);
}

static bool begin(void)
{
    if (inside)
        return false;
    pthread_mutex_lock(&mu);
    return inside = true;
}

static void end(void)
{
    int error = errno;
    inside = false;
    pthread_mutex_unlock(&mu);
    errno = error;
}

/* ---- what is synced ---- */

static bool settled_by(const struct undo *u, const char *path, const struct stat *st)
{
    if (u->kind == BYTES)
        return S_ISREG(st->st_mode) && u->file == st->st_ino;
    const char *name = u->kind == MOVED ? u->to : u->path, *slash = strrchr(name, '/');
    return S_ISDIR(st->st_mode) && strlen(path) == (size_t)(slash - name) && memcmp(name, path, (size_t)(slash - name)) == 0;
}

static void settle(int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return;
    for (struct undo **at = &log_top; *at;) {
        struct undo *u = *at;
        if (!settled_by(u, path, &st)) {
            at = &u->older;
            continue;
        }
        *at = u->older;
        free(u->old);
        free(u);
    }
}

static int sync_call(int (*real)(int), int fd)
{
    char path[PATH_MAX];
    if (!begin())
        return real(fd);
    size_t n = strlen(root);
    bool ours = path_of(fd, path) || (n && strlen(path) == n - 1 && strncmp(path, root, n - 1) == 0);     /* the folder itself */
    if (ours)
        tick();
    int status = ours && deaf ? 0 : real(fd);
    if (ours && !deaf && status == 0)
        settle(fd, path);
    end();
    return status;
}

int fsync(int fd) { return sync_call(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_call(REAL(fdatasync), fd); }

/* ---- what changes bytes ---- */

static void before_write(int fd, off_t at, size_t n)
{
    char path[PATH_MAX];
    if (!begin())
        return;
    if (path_of(fd, path)) {
        keep_bytes(fd, path, at, n);
        tick();
    }
    end();
}

ssize_t write(int fd, const void *p, size_t n)
{
    before_write(fd, lseek(fd, 0, SEEK_CUR), n);
    return REAL(write)(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    before_write(fd, at, n);
    return REAL(pwrite)(fd, p, n, at);
}
ssize_t pwritev(int fd, const struct iovec *io, int n, off_t at)
{
    size_t all = 0;
    for (int i = 0; i < n; i++)
        all += io[i].iov_len;
    before_write(fd, at, all);
    return REAL(pwritev)(fd, io, n, at);
}
ssize_t pwritev64(int fd, const struct iovec *io, int n, off_t at) { return pwritev(fd, io, n, at); }
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) { return pwrite(fd, p, n, at); }

int ftruncate(int fd, off_t size)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > size)
        before_write(fd, size, (size_t)(st.st_size - size));
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* ---- what changes names ---- */

static int open_call(int dir, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    bool counted = flags & O_CREAT && begin(), fresh = counted && path_at(dir, name, path) && access(path, F_OK) != 0;
    if (fresh) {
        remember(NEW_NAME, path);
        tick();
    }
    int fd = REAL(openat)(dir, name, flags, mode);
    if (counted)
        end();
    return fd;
}

#define OPEN(name, parameters, dir)                         \
    int name parameters                                     \
    {                                                       \
        va_list ap;                                         \
        va_start(ap, flags);                                \
        mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0; \
        va_end(ap);                                         \
        return open_call(dir, path, flags, mode);           \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int dir, const char *path, int flags, ...), dir)
OPEN(openat64, (int dir, const char *path, int flags, ...), dir)

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char path[PATH_MAX], target[PATH_MAX];
    if (!begin())
        return REAL(renameat)(from_dir, from, to_dir, to);
    if (path_at(from_dir, from, path) && path_at(to_dir, to, target)) {
        struct undo *u = remember(MOVED, path);
        snprintf(u->to, sizeof u->to, "%s", target);
        keep_file(u, target);
        tick();
    }
    int status = REAL(renameat)(from_dir, from, to_dir, to);
    end();
    return status;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char path[PATH_MAX];
    bool counted = begin();
    if (counted && path_at(to_dir, to, path)) {
        remember(NEW_NAME, path);
        tick();
    }
    int status = REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (counted)
        end();
    return status;
}

static void before_unlink(int dir, const char *name)
{
    char path[PATH_MAX];
    if (path_at(dir, name, path)) {
        struct undo *u = remember(REMOVED, path);
        keep_file(u, path);
        tick();
    }
}

int unlinkat(int dir, const char *name, int flags)
{
    bool counted = !(flags & AT_REMOVEDIR) && begin();
    if (counted)
        before_unlink(dir, name);
    int status = REAL(unlinkat)(dir, name, flags);
    if (counted)
        end();
    return status;
}

int unlink(const char *name)
{
    bool counted = begin();
    if (counted)
        before_unlink(AT_FDCWD, name);
    int status = REAL(unlink)(name);
    if (counted)
        end();
    return status;
}
