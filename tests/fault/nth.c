/*
 * nth.c - a preloaded library: the n-th call of a class fails, once or from then on.
 *
 * Commands and counts are in the file that NTH_FILE names (struct board), which the test maps too: nothing fails until it
 * says so, and a daemon is told again and again without a restart.  A process that is started by the daemon is left alone.
 *
 * Counts `live` allocations as well, so that a test sees what a failure leaks.
 *
 * Before AddressSanitizer's library (ASAN_OPTIONS=verify_asan_link_order=0) it stands between the program and that: what does not fail is
 * the sanitizer's, whose leak detector then knows who has allocated what was left.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum class { MEMORY, OPEN, WRITE, SYNC, NAME, MAP, SOCKET, THREAD, SPAWN, CLASSES };

struct board {
    _Atomic int64_t class;          /* which shall fail; -1: none */
    _Atomic int64_t at;             /* its call with this number, from 1 */
    _Atomic int64_t sticky;         /* and all later ones */
    _Atomic int64_t error;          /* errno */
    _Atomic int64_t failed;         /* how many did */
    _Atomic int64_t live;           /* allocations that have not been freed */
    _Atomic int64_t count[CLASSES]; /* calls so far; the test sets them to 0 */
};

static struct board *board;
static _Thread_local bool spared __attribute__((tls_model("initial-exec")));      /* what this thread calls now does not count */

/* Who allocates: the C library or, where there is one, the sanitizer.  Looked up by the loader: dlsym() allocates. */
#define ALLOCATOR(ret, name, ...)                                      \
    extern ret __libc_##name(__VA_ARGS__);                             \
    extern ret __interceptor_##name(__VA_ARGS__) __attribute__((weak))
ALLOCATOR(void *, malloc, size_t);
ALLOCATOR(void *, calloc, size_t, size_t);
ALLOCATOR(void *, realloc, void *, size_t);
ALLOCATOR(void, free, void *);
#define THEIRS(name) (__interceptor_##name ? __interceptor_##name : __libc_##name)

static bool a_launcher(void)
{
    char text[256];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : 0;
    if (fd >= 0)
        close(fd);
    return n > 0 && memmem(text, (size_t)n, "--launch", 8);
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("NTH_FILE");
    int fd = path && !a_launcher() ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (at != MAP_FAILED)
        board = at;
}

static bool fails(enum class class)
{
    if (!board || spared)
        return false;
    int64_t n = atomic_fetch_add(&board->count[class], 1) + 1, at = atomic_load(&board->at);
    if (atomic_load(&board->class) != (int64_t)class || n < at || (n > at && !atomic_load(&board->sticky)))
        return false;
    atomic_fetch_add(&board->failed, 1);
    errno = (int)atomic_load(&board->error);
    return true;
}

static void *lived(void *p)
{
    if (p && board)
        atomic_fetch_add(&board->live, 1);
    return p;
}

void *malloc(size_t n) { return fails(MEMORY) ? NULL : lived(THEIRS(malloc)(n)); }
void *calloc(size_t n, size_t size) { return fails(MEMORY) ? NULL : lived(THEIRS(calloc)(n, size)); }

void *realloc(void *p, size_t n)
{
    if (n && fails(MEMORY))
        return NULL;
    void *got = THEIRS(realloc)(p, n);
    if (!p)
        lived(got);
    else if (!n && board)
        atomic_fetch_sub(&board->live, 1);
    return got;
}

void free(void *p)
{
    if (p && board)
        atomic_fetch_sub(&board->live, 1);
    THEIRS(free)(p);
}

/* The sanitizer's own would go past malloc(). */
char *strndup(const char *s, size_t most)
{
    size_t n = strnlen(s, most);
    char *copy = malloc(n + 1);
    if (copy)
        *(char *)mempcpy(copy, s, n) = '\0';
    return copy;
}

char *strdup(const char *s) { return strndup(s, PTRDIFF_MAX); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ONCE(name)                                                     \
    static __typeof__(&name) real;                                     \
    if (!real)                                                         \
        real = REAL(name)

static mode_t mode_of(int flags, va_list args) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0; }

#define OPENER(name)                                                   \
    int name(const char *path, int flags, ...)                         \
    {                                                                  \
        ONCE(name);                                                    \
        va_list args;                                                  \
        va_start(args, flags);                                         \
        mode_t mode = mode_of(flags, args);                            \
        va_end(args);                                                  \
        return fails(OPEN) ? -1 : real(path, flags, mode);             \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                                \
    int name(int dir, const char *path, int flags, ...)                \
    {                                                                  \
        ONCE(name);                                                    \
        va_list args;                                                  \
        va_start(args, flags);                                         \
        mode_t mode = mode_of(flags, args);                            \
        va_end(args);                                                  \
        return fails(OPEN) ? -1 : real(dir, path, flags, mode);        \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

/* The disk's failures: pipes, sockets and the log have others. */
static bool write_fails(int fd)
{
    struct stat st;
    int kept = errno;
    bool file = fd > STDERR_FILENO && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    errno = kept;
    return file && fails(WRITE);
}

ssize_t write(int fd, const void *p, size_t n)
{
    ONCE(write);
    return write_fails(fd) ? -1 : real(fd, p, n);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    ONCE(writev);
    return write_fails(fd) ? -1 : real(fd, v, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    ONCE(pwrite);
    return write_fails(fd) ? -1 : real(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    ONCE(pwrite64);
    return write_fails(fd) ? -1 : real(fd, p, n, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    ONCE(pwritev);
    return write_fails(fd) ? -1 : real(fd, v, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
    ONCE(pwritev64);
    return write_fails(fd) ? -1 : real(fd, v, n, at);
}

int ftruncate(int fd, off_t n)
{
    ONCE(ftruncate);
    return write_fails(fd) ? -1 : real(fd, n);
}

int ftruncate64(int fd, off64_t n)
{
    ONCE(ftruncate64);
    return write_fails(fd) ? -1 : real(fd, n);
}

int fsync(int fd)
{
    ONCE(fsync);
    return fails(SYNC) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    ONCE(fdatasync);
    return fails(SYNC) ? -1 : real(fd);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    ONCE(renameat);
    return fails(NAME) ? -1 : real(from_dir, from, to_dir, to);
}

int unlinkat(int dir, const char *name, int flags)
{
    ONCE(unlinkat);
    return fails(NAME) ? -1 : real(dir, name, flags);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    ONCE(mkdirat);
    return fails(NAME) ? -1 : real(dir, name, mode);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    ONCE(mmap);
    return fails(MAP) ? MAP_FAILED : real(at, n, prot, flags, fd, offset);
}

int socket(int domain, int type, int protocol)
{
    ONCE(socket);
    return fails(SOCKET) ? -1 : real(domain, type, protocol);
}

int accept4(int fd, struct sockaddr *restrict a, socklen_t *restrict n, int flags)
{
    ONCE(accept4);
    return fails(SOCKET) ? -1 : real(fd, a, n, flags);
}

int pthread_create(pthread_t *restrict ret, const pthread_attr_t *restrict attr, void *(*run)(void *), void *restrict arg)
{
    ONCE(pthread_create);
    return fails(THREAD) ? EAGAIN : real(ret, attr, run, arg);
}

/* The sanitizer asks where a new thread's stack is, and ends the process if it is not told. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *ret)
{
    ONCE(pthread_getattr_np);
    spared = true;
    int rc = real(thread, ret);
    spared = false;
    return rc;
}

int pipe2(int fd[2], int flags)
{
    ONCE(pipe2);
    return fails(SPAWN) ? -1 : real(fd, flags);
}

int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
                const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict])
{
    ONCE(posix_spawn);
    return fails(SPAWN) ? errno : real(pid, path, actions, attr, argv, env);
}
