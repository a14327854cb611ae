/*
 * seal.c - the filter is a list: what is not in it kills.
 *
 * The list was made by strace over all commands and job types, and is longer than that only by what
 * libc takes on other paths (EINTR, abort(), a second arena).  Some calls are allowed by an argument; a few that
 * libraries try and can do without are refused with an error, so that trying is no crime:
 *
 *   clone       threads only; clone3 hides its flags from us, and libc falls back to clone when it is ENOSYS
 *   mmap, mprotect      not executable: all libraries are loaded by now
 *   prlimit64   asking, not setting: with it one sets the limits of other processes, too
 *   tgkill      to itself: abort() and pthread_cancel()
 *   fcntl       asking for flags (fdopendir()): a pipe can be told to signal its owner, and the owner can be anybody
 *
 * fchmod is not in it: the inputs are the store's own files.
 */
#include "core/base/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#define THIS_ARCH 0u                    /* nothing is offered */
#endif

static const int allowed[] = {
    /* files that are open, and those Landlock lets it open */
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close, SYS_fstat, SYS_newfstatat, SYS_openat,
    SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_renameat, SYS_unlinkat,
    /* memory */
    SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_mbind,
    /* threads and time */
    SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_set_robust_list, SYS_rseq, SYS_getpid, SYS_gettid, SYS_getcpu,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_restart_syscall, SYS_exit, SYS_exit_group,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack,
    /* itself */
    SYS_getrandom, SYS_getrusage, SYS_sysinfo, SYS_uname, SYS_ppoll,
#if defined __x86_64__
    SYS_poll, SYS_unlink, SYS_rename, SYS_time, SYS_getrlimit,
#endif
};

enum { TO_ITSELF = -1 };                /* a value: our process id */

/* Allowed where (argument & mask) == value, otherwise an error. */
static const struct { int nr, arg; uint64_t mask; int value; uint32_t otherwise; } conditional[] = {
    { SYS_mmap, 2, PROT_EXEC, 0, SECCOMP_RET_KILL_PROCESS },
    { SYS_mprotect, 2, PROT_EXEC, 0, SECCOMP_RET_KILL_PROCESS },
    { SYS_clone, 0, CLONE_THREAD, CLONE_THREAD, SECCOMP_RET_KILL_PROCESS },
    { SYS_prlimit64, 2, UINT64_MAX, 0, SECCOMP_RET_ERRNO | EPERM },
    { SYS_tgkill, 0, UINT32_MAX, TO_ITSELF, SECCOMP_RET_KILL_PROCESS },
    { SYS_fcntl, 1, UINT32_MAX, F_GETFL, SECCOMP_RET_KILL_PROCESS },
};

static const struct { int nr, error; } refused[] = {
    { SYS_clone3, ENOSYS }, { SYS_ioctl, ENOTTY }, { SYS_prctl, EPERM }, { SYS_readlinkat, EACCES }, { SYS_faccessat, EACCES },
    { SYS_get_mempolicy, EPERM }, { SYS_set_mempolicy, EPERM }, { SYS_sched_setaffinity, EPERM }, { SYS_statx, ENOSYS }, { SYS_membarrier, ENOSYS },
#if defined __x86_64__
    { SYS_readlink, EACCES }, { SYS_access, EACCES },
#endif
};

enum { LENGTH_OF_CONDITION = 9, COUNT_ALLOWED = sizeof allowed / sizeof allowed[0] };
enum { COUNT_CONDITIONAL = sizeof conditional / sizeof conditional[0], COUNT_REFUSED = sizeof refused / sizeof refused[0] };
enum { FILTER_MAX = 4 + 2 * COUNT_ALLOWED + LENGTH_OF_CONDITION * COUNT_CONDITIONAL + 2 * COUNT_REFUSED + 1 };

struct filter { struct sock_filter step[FILTER_MAX]; unsigned short n; };

static void put(struct filter *f, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
    f->step[f->n++] = (struct sock_filter){ (uint16_t)code, (uint8_t)yes, (uint8_t)no, k };
}

static void load(struct filter *f, size_t at) { put(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)at, 0, 0); }
static void give(struct filter *f, uint32_t action) { put(f, BPF_RET | BPF_K, action, 0, 0); }
static void skip_unless(struct filter *f, uint32_t value, unsigned steps) { put(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps); }

/* Go on where a half of an argument has the value under the mask.  Both processors are little-endian. */
static void compare(struct filter *f, int arg, int half, uint64_t mask, uint64_t value, unsigned otherwise)
{
    load(f, offsetof(struct seccomp_data, args) + (size_t)arg * sizeof(uint64_t) + (size_t)half * sizeof(uint32_t));
    put(f, BPF_ALU | BPF_AND | BPF_K, (uint32_t)(mask >> 32 * half), 0, 0);
    skip_unless(f, (uint32_t)(value >> 32 * half), otherwise);
}

static void build(struct filter *f)
{
    f->n = 0;
    load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
    give(f, SECCOMP_RET_KILL_PROCESS);
    load(f, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT_ALLOWED; i++) {
        skip_unless(f, (uint32_t)allowed[i], 1);
        give(f, SECCOMP_RET_ALLOW);
    }
    for (int i = 0; i < COUNT_REFUSED; i++) {
        skip_unless(f, (uint32_t)refused[i].nr, 1);
        give(f, SECCOMP_RET_ERRNO | (uint32_t)refused[i].error);
    }
    for (int i = 0; i < COUNT_CONDITIONAL; i++) {
        uint64_t value = (uint64_t)(conditional[i].value == TO_ITSELF ? getpid() : conditional[i].value);
        skip_unless(f, (uint32_t)conditional[i].nr, LENGTH_OF_CONDITION - 1);
        compare(f, conditional[i].arg, 0, conditional[i].mask, value, 4);
        compare(f, conditional[i].arg, 1, conditional[i].mask, value, 1);
        give(f, SECCOMP_RET_ALLOW);
        give(f, conditional[i].otherwise);
    }
    give(f, SECCOMP_RET_KILL_PROCESS);
}

bool seal_offered(void)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;
    return THIS_ARCH && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

bool seal_process(struct err *e)
{
    struct filter f;
    build(&f);
    struct sock_fprog program = { .len = f.n, .filter = f.step };
    if (!seal_offered())
        return err_set(e, ERR_PERMISSION, "sandbox", "this kernel has no seccomp filters; start the daemon with --sandbox=best-effort or off");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_sys(e, "sandbox", "prepare the filter of system calls");
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (rc < 0)
        return err_sys(e, "sandbox", "filter system calls");
    return rc == 0 || err_set(e, ERR_PERMISSION, "sandbox", "thread %ld did not take the filter of system calls", rc);
}
