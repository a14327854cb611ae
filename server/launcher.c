/*
 * launcher.c - lock the process in, then become the quantizer.
 *
 * Everything here happens in a process of one thread that has not read a byte from a stranger.
 * What it sets survives exec; what does not (the dumpable flag), and the filter of system calls, which has no room
 * for exec, are the quantizer's own first act (core/base/seal.h).
 *
 * A child hears of the daemon's death from its control pipe, and one that does not listen from the kernel: the
 * signal comes when the *thread* that spawned us ends, and those outlive their children (child.h).
 */
#include "server/launcher.h"

#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* At the soft limit of processor time comes SIGXCPU, which says why it ends; at the hard one SIGKILL, which does not. */
enum { EXIT_ENVIRONMENT = 3, NICE = 10, NOFILE_SPARE = 64, CPU_GRACE = 5 };

/* ---- the arguments ---- */

void launch_argv(const struct launch *l, struct launch_argv *ret)
{
    const int64_t numbers[LAUNCH_NUMBERS] = { l->inputs, l->address_space, l->cpu_seconds, l->file_size, l->landlock, l->sealed,
                                              l->grouped };
    static char name[] = "repquantd", flag[] = "--launch";
    ret->argv[0] = name;
    ret->argv[1] = flag;
    ret->argv[2] = (char *)(uintptr_t)l->program;
    for (int i = 0; i < LAUNCH_NUMBERS; i++) {
        snprintf(ret->number[i], sizeof ret->number[i], "%lld", (long long)numbers[i]);
        ret->argv[3 + i] = ret->number[i];
    }
    ret->argv[3 + LAUNCH_NUMBERS] = NULL;
}

bool launcher_called(int argc, char **argv) { return argc >= 2 && strcmp(argv[1], "--launch") == 0; }

static bool parse(int argc, char **argv, struct launch *ret)
{
    int64_t numbers[LAUNCH_NUMBERS];
    if (argc != 3 + LAUNCH_NUMBERS)
        return false;
    for (int i = 0; i < LAUNCH_NUMBERS; i++) {
        char *end;
        errno = 0;
        numbers[i] = strtoll(argv[3 + i], &end, 10);
        if (errno || *end || end == argv[3 + i] || numbers[i] < 0)
            return false;
    }
    *ret = (struct launch){ argv[2], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
                            numbers[6] };
    return ret->inputs < 4096;
}

/* ---- locking in ---- */

static bool limit(int resource, int64_t value, int64_t grace)
{
    bool none = value >= INT64_MAX - grace;
    struct rlimit r = { none ? RLIM_INFINITY : (rlim_t)value, none ? RLIM_INFINITY : (rlim_t)(value + grace) };
    return setrlimit((__rlimit_resource_t)resource, &r) == 0;
}

static bool limits(const struct launch *l)
{
    int64_t files = LAUNCH_FIRST_INPUT_FD + l->inputs + NOFILE_SPARE;
    return limit(RLIMIT_CORE, 0, 0)                     /* a core file would hold the model, on our disk */
        && limit(RLIMIT_NOFILE, files, 0) && limit(RLIMIT_FSIZE, l->file_size, 0) && limit(RLIMIT_AS, l->address_space, 0)
        && limit(RLIMIT_CPU, l->cpu_seconds, CPU_GRACE);
}

/* First of all: what this process does and becomes counts there. */
static bool enter_group(const struct launch *l)
{
    return !l->grouped || write(LAUNCH_FIRST_INPUT_FD + (int)l->inputs, "0", 1) == 1;
}

/* Under memory pressure the kernel shall take the job, not the daemon.  Raising it needs no privilege. */
static void first_for_the_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "800", 3);
    (void)n;                                            /* a wish, not a condition */
    close(fd);
}

static bool only_our_descriptors(const struct launch *l)
{
    return close_range((unsigned)(LAUNCH_FIRST_INPUT_FD + l->inputs), UINT_MAX, 0) == 0;
}

/*
 * The new image starts wholly inside: Landlock holds for a thread and what it becomes, and the threads a library starts
 * before main() are born after this.
 */
static bool lock_in(const struct launch *l)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && sandbox_enter(l->landlock, l->program, LAUNCH_SCRATCH_FD);
}

/* False also if the daemon is gone already, and with it who would have been asked to signal. */
static bool die_with_the_daemon(void)
{
    struct pollfd control = { .fd = STDIN_FILENO };
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && (poll(&control, 1, 0) == 0 || (errno = EPIPE, false));
}

static const char *const kept[] = { "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE" };
enum { KEPT = sizeof kept / sizeof kept[0], VARIABLES = KEPT + 1 };

/*
 * Which BLAS kernel runs decides the last bits of the result; nothing else of our environment is the job's.  BLAS's own threads are
 * never used: without this it starts them before main(), and they turn in a loop for the first tenth of a second.
 */
static void environment(char *ret[VARIABLES + 1], char text[KEPT][96])
{
    static char alone[] = "OPENBLAS_NUM_THREADS=1";
    int n = 0;
    ret[n++] = alone;
    for (int i = 0; i < KEPT; i++) {
        const char *value = getenv(kept[i]);
        if (value && snprintf(text[i], 96, "%s=%s", kept[i], value) < 96)
            ret[n++] = text[i];
    }
    ret[n] = NULL;
}

static int failed(const char *what)
{
    dprintf(STDERR_FILENO, "repquantd --launch: %s: %s\n", what, strerrordesc_np(errno));
    return EXIT_ENVIRONMENT;
}

int launcher_main(int argc, char **argv)
{
    struct launch l;
    char *env[VARIABLES + 1], text[KEPT][96];
    char job[] = "job", sealed[] = "--sealed", here[] = ".";
    if (!parse(argc, argv, &l)) {
        errno = EINVAL;
        return failed("arguments");
    }
    /* The session is ours already: posix_spawn() made it, so that the daemon can signal the group from the first instant. */
    umask(077);
    environment(env, text);
    if (!die_with_the_daemon())
        return failed("be ended with the daemon");
    if (!enter_group(&l))
        return failed("enter the control group");
    if (fchdir(LAUNCH_SCRATCH_FD) != 0)
        return failed("enter the scratch folder");
    if (!only_our_descriptors(&l))
        return failed("close descriptors");
    /* Lower than that already, it may stay: without a capability nobody can raise it. */
    if (getpriority(PRIO_PROCESS, 0) < NICE && setpriority(PRIO_PROCESS, 0, NICE) != 0)
        return failed("lower the priority");
    first_for_the_oom_killer();
    if (!limits(&l))
        return failed("set limits");
    if (!lock_in(&l))
        return failed("lock in");
    char *args[] = { (char *)(uintptr_t)l.program, job, l.sealed ? sealed : here, l.sealed ? here : NULL, NULL };
    execve(l.program, args, env);
    return failed(l.program);
}
