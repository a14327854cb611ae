#include "server/sandbox.h"

#include "core/base/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's header ends with ABI 2; kernels know more. */
enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NETWORK = 4, ABI_IOCTL = 5, ABI_SCOPES = 6 };
static const uint64_t FS_TRUNCATE = 1 << 14, FS_IOCTL_DEV = 1 << 15, NET_BIND_AND_CONNECT = 3, SCOPE_SOCKETS_AND_SIGNALS = 3;
struct ruleset { uint64_t fs, net, scoped; };

enum { SEE = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR, RUN = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE };

/* What the loader and the libraries open.  A path that is not there gives no rule. */
static const struct { const char *path; uint64_t access; } everyone[] = {
    { "/usr/lib", SEE | RUN },                  /* /lib and /lib64 lead here */
    { "/lib", SEE | RUN },
    { "/lib64", SEE | RUN },
    { "/usr/local/lib", SEE | RUN },
    { "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE },
    { "/sys/devices/system", SEE },             /* processors and memory nodes, for OpenBLAS */
    { "/proc/self", SEE },                      /* its own, which exec keeps: the peak of memory */
    { "/dev/urandom", LANDLOCK_ACCESS_FS_READ_FILE },
};

static int64_t landlock_offered(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? abi : 0;
}

bool sandbox_choose(const char *mode, struct sandbox *ret, struct err *e)
{
    *ret = (struct sandbox){ 0 };
    if (!mode || strcmp(mode, "off") == 0)
        return true;
    bool required = strcmp(mode, "required") == 0;
    if (!required && strcmp(mode, "best-effort") != 0)
        return err_set(e, ERR_CONFIG, "sandbox", "\"%.40s\" is not required, best-effort or off", mode);
    *ret = (struct sandbox){ landlock_offered(), seal_offered() };
    return !required || (ret->landlock && ret->seccomp)
        || err_set(e, ERR_CONFIG, "sandbox", "this kernel offers no %s, which --sandbox=required wants; see deploy/README.md",
                   ret->landlock ? "seccomp filters" : "Landlock");
}

const char *sandbox_level(const struct sandbox *s)
{
    return s->landlock && s->seccomp ? "full" : s->landlock || s->seccomp ? "partial" : "none";
}

/* ---- entering ---- */

static uint64_t every_right(int64_t abi)
{
    uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;      /* those of ABI 1 */
    return all | (abi >= ABI_REFER ? LANDLOCK_ACCESS_FS_REFER : 0) | (abi >= ABI_TRUNCATE ? FS_TRUNCATE : 0) | (abi >= ABI_IOCTL ? FS_IOCTL_DEV : 0);
}

static int make_ruleset(int64_t abi)
{
    struct ruleset r = { every_right(abi), abi >= ABI_NETWORK ? NET_BIND_AND_CONNECT : 0, abi >= ABI_SCOPES ? SCOPE_SOCKETS_AND_SIGNALS : 0 };
    size_t size = abi >= ABI_SCOPES ? sizeof r : abi >= ABI_NETWORK ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
    return (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
}

static bool allow(int rules, int fd, uint64_t access)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = fd };
    return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

static bool allow_path(int rules, const char *path, uint64_t access, bool must_exist)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return !must_exist;
    bool ok = allow(rules, fd, access);
    int why = errno;
    close(fd);
    errno = why;
    return ok;
}

static bool fill(int rules, int64_t abi, const char *program, int scratch)
{
    uint64_t keep = SEE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE
                  | (abi >= ABI_TRUNCATE ? FS_TRUNCATE : 0);
    bool ok = allow(rules, scratch, keep) && allow_path(rules, program, RUN, true);
    for (size_t i = 0; ok && i < sizeof everyone / sizeof everyone[0]; i++)
        ok = allow_path(rules, everyone[i].path, everyone[i].access, false);
    return ok;
}

bool sandbox_enter(int64_t landlock, const char *program, int scratch)
{
    if (!landlock)
        return true;
    int rules = make_ruleset(landlock);
    bool ok = rules >= 0 && fill(rules, landlock, program, scratch) && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
    int why = errno;
    if (rules >= 0)
        close(rules);
    errno = why;
    return ok;
}
