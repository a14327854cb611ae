/*
 * tries.h - what a quantizer that a hostile file has taken over might try; part of fake_job.c.
 * Each returns a negative number, with errno, when it was refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t parent;                /* the daemon: asked for before the filter, which would not let us */

/* A thread that is there before the filter, as OpenBLAS' are: told to, it opens a socket. */
static int old_thread_in = -1, old_thread_out = -1;

static void *old_thread_main(void *arg)
{
    const int *fd = arg;
    char byte;
    if (read(fd[0], &byte, 1) == 1 && socket(AF_INET, SOCK_STREAM, 0) >= 0 && write(fd[1], &byte, 1) < 0)
        return NULL;
    return NULL;
}

static bool start_old_thread(void)
{
    static int ends[2];
    int in[2], out[2];
    pthread_t thread;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return false;
    ends[0] = in[0];
    ends[1] = out[1];
    old_thread_in = in[1];
    old_thread_out = out[0];
    return pthread_create(&thread, NULL, old_thread_main, ends) == 0 && pthread_detach(thread) == 0;
}

static int try_read(void) { return open("/etc/passwd", O_RDONLY | O_CLOEXEC); }
static int try_write_outside(void) { return open("../../outside", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }
static int try_reopen(void) { return open("/proc/self/fd/4", O_RDWR | O_CLOEXEC); }
static int try_other_process(void) { return open("/proc/1/environ", O_RDONLY | O_CLOEXEC); }
static int try_symlink(void) { return symlink("/etc/passwd", "link"); }
static int try_socket(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int try_unix_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static int try_fork(void) { return fork(); }
static int try_kill(void) { return kill(parent, 0); }
/* kill() by another name, */
static int try_tgkill(void) { return (int)syscall(SYS_tgkill, parent, parent, 0); }
/* and by a pipe that is told whom to signal. */
static int try_owner(void) { return fcntl(STDOUT_FILENO, F_SETOWN, parent); }
/* An input is the store's own file. */
static int try_chmod(void) { return fchmod(4, 0400); }

/* The limits of the daemon; the new ones lie where the lower half of a pointer to them is 0. */
static int try_limits(void)
{
    void *there = (void *)(uintptr_t)(UINT64_C(1) << 32);
    struct rlimit *at = mmap(there, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at == MAP_FAILED)
        return 0;                                       /* shows nothing: the test is to fail */
    *at = (struct rlimit){ 0, 0 };
    return (int)syscall(SYS_prlimit64, parent, RLIMIT_CORE, at, NULL);
}

static int try_ptrace(void) { return (int)ptrace(PTRACE_ATTACH, parent, 0, 0); }

static int try_exec(void)
{
    char *argv[] = { (char *)(uintptr_t)"/bin/true", NULL };
    return execve(argv[0], argv, NULL);
}

/* Code of its own making. */
static int try_code(void) { return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0; }

/* In a thread that was there before the filter was. */
static int try_old_thread(void)
{
    static char go = 'g';
    int fd[2] = { old_thread_in, old_thread_out };
    return write(fd[0], &go, 1) == 1 && read(fd[1], &go, 1) == 1 ? 0 : -1;
}

/* The kernel itself would promise as much: it has to be the limit that refuses. */
static int try_memory(void)
{
    size_t bytes = (size_t)100 << 30;
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED ? -1 : 0;
}

static int try_loop(void)
{
    volatile unsigned i = 0;
    while (i + 1 != i)
        i++;
    return 0;
}

static int try_stack(void)
{
    static volatile int64_t left = INT64_C(1) << 40;
    char here[4096];
    volatile char *use = here;
    use[0] = 1;
    return left-- > 0 ? try_stack() + use[0] : 0;       /* not a tail call */
}

static int try_file(void)
{
    static char piece[1 << 20];
    int fd = open("big", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || lseek(fd, (off_t)20 << 30, SEEK_SET) < 0)
        return -1;
    return (int)write(fd, piece, sizeof piece);
}

static const struct { const char *name; int (*run)(void); } tries[] = {
    { "read", try_read }, { "write-outside", try_write_outside }, { "reopen", try_reopen }, { "other-process", try_other_process },
    { "symlink", try_symlink }, { "socket", try_socket }, { "unix-socket", try_unix_socket }, { "fork", try_fork }, { "kill", try_kill },
    { "tgkill", try_tgkill }, { "owner", try_owner }, { "chmod", try_chmod }, { "limits", try_limits },
    { "ptrace", try_ptrace }, { "exec", try_exec }, { "code", try_code }, { "old-thread", try_old_thread }, { "memory", try_memory },
    { "loop", try_loop }, { "stack", try_stack }, { "file", try_file },
};
