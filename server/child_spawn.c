#include "server/child_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct pipes { int control[2], events[2], errors[2]; };

static void close_pair(int fd[2])
{
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

static void pipes_close(struct pipes *p)
{
    close_pair(p->control);
    close_pair(p->events);
    close_pair(p->errors);
}

static bool pipes_open(struct pipes *p, struct err *e)
{
    *p = (struct pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
    if (pipe2(p->control, O_CLOEXEC) == 0 && pipe2(p->events, O_CLOEXEC) == 0 && pipe2(p->errors, O_CLOEXEC) == 0)
        return true;
    err_sys(e, "worker", "make a pipe");
    pipes_close(p);
    return false;
}

/*
 * The child's descriptors are 0, 1, 2, ... in a fixed order, and ours may have any of those numbers.  So
 * each source is first copied above all targets; the copies close themselves on exec.
 */
static bool map_descriptors(posix_spawn_file_actions_t *actions, int *copies, const int *sources, int n, struct err *e)
{
    for (int i = 0; i < n; i++)
        copies[i] = -1;
    for (int i = 0; i < n; i++) {
        copies[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, n);
        if (copies[i] < 0)
            return err_sys(e, "worker", "copy a descriptor");
        int rc = posix_spawn_file_actions_adddup2(actions, copies[i], i);
        if (rc) {
            errno = rc;
            return err_sys(e, "worker", "prepare a process");
        }
    }
    return true;
}

/* A fresh session, no signal blocked or ignored: what the daemon's threads chose is not the child's. */
static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(attr, &all);
    return rc ? rc : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static bool spawn(const struct launch *launch, pid_t *ret_pid, const int *sources, int n, struct err *e)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    struct launch_argv args;
    int *copies = calloc((size_t)n, sizeof *copies);
    if (!copies)
        return err_sys(e, "worker", "prepare a process");
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    launch_argv(launch, &args);
    bool ok = map_descriptors(&actions, copies, sources, n, e);
    int rc = ok ? set_attributes(&attr) : 0;
    if (ok && !rc)
        rc = posix_spawn(ret_pid, "/proc/self/exe", &actions, &attr, args.argv, environ);
    if (rc) {
        errno = rc;
        ok = err_sys(e, "worker", "start a process");
    }
    for (int i = 0; i < n; i++)
        if (copies[i] >= 0)
            close(copies[i]);
    free(copies);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return ok;
}

/* A process we cannot watch must not stay. */
static bool watch(struct spawned *s, struct err *e)
{
    s->pidfd = pidfd_open(s->pid, 0);
    if (s->pidfd >= 0)
        return true;
    err_sys(e, "worker", "watch a process");
    kill(-s->pid, SIGKILL);
    while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return false;
}

static bool start(const struct child_spec *spec, int group, const struct pipes *p, struct spawned *s, struct err *e)
{
    struct launch launch = spec->launch;
    launch.grouped = group >= 0;
    int n = LAUNCH_FIRST_INPUT_FD + (int)launch.inputs;
    int *sources = calloc((size_t)n + 1, sizeof *sources);
    if (!sources)
        return err_sys(e, "worker", "prepare a process");
    sources[0] = p->control[0];
    sources[1] = p->events[1];
    sources[2] = p->errors[1];
    sources[LAUNCH_SCRATCH_FD] = spec->scratch;
    for (int i = LAUNCH_FIRST_INPUT_FD; i < n; i++)
        sources[i] = spec->inputs[i - LAUNCH_FIRST_INPUT_FD];
    sources[n] = group;
    bool ok = spawn(&launch, &s->pid, sources, n + (int)launch.grouped, e) && watch(s, e);
    free(sources);
    return ok;
}

/* Keeps our ends; the child's must close here, or its end of a pipe would never be the last. */
static void keep_our_ends(struct spawned *s, const struct pipes *p)
{
    s->control = p->control[1];
    s->events = p->events[0];
    s->errors = p->errors[0];
    close(p->control[0]);
    close(p->events[1]);
    close(p->errors[1]);
    fcntl(s->events, F_SETFL, O_NONBLOCK);
    fcntl(s->errors, F_SETFL, O_NONBLOCK);
}

bool child_spawn(const struct child_spec *spec, int group, struct spawned *ret, struct err *e)
{
    struct pipes p;
    struct spawned s = { .pidfd = -1 };
    if (!pipes_open(&p, e))
        return false;
    if (!start(spec, group, &p, &s, e)) {
        pipes_close(&p);
        return false;
    }
    keep_our_ends(&s, &p);
    *ret = s;
    return true;
}
