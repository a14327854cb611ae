/*
 * children.c - a preloaded library: how the daemon starts and watches processes, said in calls that Debian 12's valgrind (3.19) knows.
 *
 * It has no pidfd_open(), and starting "/proc/self/exe" would start valgrind's own program.  So a descriptor of a process is here one of
 * an event, which a thread of ours tells when the process has ended, and waitid() finds the process again.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DESCRIPTORS = 1024 };
static _Atomic pid_t watched[DESCRIPTORS];      /* by descriptor; a number that was closed is overwritten when it comes again */

static int (*real_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
static int (*real_waitid)(idtype_t, id_t, siginfo_t *, int);

__attribute__((constructor)) static void start(void)
{
    *(void **)&real_spawn = dlsym(RTLD_NEXT, "posix_spawn");
    *(void **)&real_waitid = dlsym(RTLD_NEXT, "waitid");
}

struct watch { pid_t pid; int event; };

static void *wait_for_it(void *arg)
{
    struct watch *w = arg;
    siginfo_t info;
    while (real_waitid(P_PID, (id_t)w->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
        ;
    if (eventfd_write(w->event, 1) != 0)
        abort();
    close(w->event);
    free(w);
    return NULL;
}

int pidfd_open(pid_t pid, unsigned flags)
{
    (void)flags;
    pthread_t thread;
    struct watch *w = malloc(sizeof *w);
    int fd = eventfd(0, EFD_CLOEXEC), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (!w || copy < 0 || fd >= DESCRIPTORS)
        abort();
    *w = (struct watch){ pid, copy };
    watched[fd] = pid;
    if (pthread_create(&thread, NULL, wait_for_it, w) != 0 || pthread_detach(thread) != 0)
        abort();
    return fd;
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    if (type != P_PIDFD)
        return real_waitid(type, id, info, options);
    return real_waitid(P_PID, (id_t)watched[id % DESCRIPTORS], info, options);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const argv[], char *const env[])
{
    char self[4096] = "";
    if (strcmp(path, "/proc/self/exe") == 0 && readlink(path, self, sizeof self - 1) > 0)
        path = self;
    return real_spawn(pid, path, actions, attributes, argv, env);
}
