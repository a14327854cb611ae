#include "server/cgroup.h"

#include "core/base/io.h"
#include "core/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { GONE_MS = 2000, TEXT_MAX = 4096 };
static const char prefix[] = "job-";

/* ---- its files ---- */

static void close_fd(int *fd)
{
    int why = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = why;
}

static int open_folder(int at, const char *name) { return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

/* False with *e, and with errno. */
static bool put(int dir, const char *name, const char *text, struct err *e)
{
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && io_write_all(fd, text, strlen(text)) == 0;
    close_fd(&fd);
    int why = errno;
    if (!ok)
        err_sys(e, name, "write");
    errno = why;
    return ok;
}

static bool put_number(int dir, const char *name, int64_t n, struct err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)n);
    return put(dir, name, text, e);
}

static bool put_if_there(int dir, const char *name, const char *text, struct err *e)
{
    struct err why = { 0 };
    return put(dir, name, text, &why) || errno == ENOENT || err_set(e, why.code, why.where, "%s", why.text);
}

static bool get(int dir, const char *name, char ret[TEXT_MAX])
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret, TEXT_MAX - 1) : -1;
    close_fd(&fd);
    ret[n < 0 ? 0 : n] = '\0';
    return n >= 0;
}

/* What follows `word` in a file with lines such as "oom_kill 1"; 0 if nothing does. */
static int64_t count_of(int dir, const char *name, const char *word)
{
    char text[TEXT_MAX], *rest = text;
    size_t n = strlen(word);
    get(dir, name, text);
    for (char *line; (line = strsep(&rest, "\n"));)
        if (strncmp(line, word, n) == 0 && line[n] == ' ')
            return strtoll(line + n, NULL, 10);
    return 0;
}

/* ---- the end of a group ---- */

/* The killed need a moment to be gone; the file of events tells when that changes.  False with errno. */
static bool remove_when_empty(int at, int dir, const char *name)
{
    char text[TEXT_MAX];
    struct pollfd events = { .fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC), .events = POLLPRI };
    bool gone = false, changed = true;
    while (!gone && changed) {
        ssize_t seen = pread(events.fd, text, sizeof text, 0);      /* what comes after this is news to poll() */
        gone = sys.unlinkat(at, name, AT_REMOVEDIR) == 0;
        changed = !gone && errno == EBUSY && seen > 0 && poll(&events, 1, GONE_MS) > 0;
    }
    close_fd(&events.fd);
    return gone;
}

/* cgroup.kill is there from Linux 5.14 on.  Without it the child is dead all the same (server/child.c); what it started may keep the group. */
static void end_group(int at, int dir, const char *name)
{
    put_if_there(dir, "cgroup.kill", "1", NULL);
    if (!remove_when_empty(at, dir, name))
        log_line(LOG_WARN, "cgroup.left", "%s could not be removed: %s", name, strerrordesc_np(errno));
}

static void end_left_over(int at)
{
    int fd = open_folder(at, ".");
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; d && (entry = readdir(d));) {
        int dir = strncmp(entry->d_name, prefix, strlen(prefix)) == 0 ? open_folder(at, entry->d_name) : -1;
        if (dir >= 0)
            end_group(at, dir, entry->d_name);
        close_fd(&dir);
    }
    if (d)
        closedir(d);
    else
        close_fd(&fd);
}

/* ---- the folder ---- */

static bool move_ourselves(int at, struct err *e)
{
    if (sys.mkdirat(at, "daemon", 0755) != 0 && errno != EEXIST)
        return err_sys(e, "daemon", "make");
    return put(at, "daemon/cgroup.procs", "0", e);
}

/* Each on its own: one that is refused is named. */
static bool hand_down(struct cgroups *g, const char *offered, struct err *e)
{
    static const struct { const char *name, *order; } wanted[CGROUP_CONTROLLERS] = { { "memory", "+memory" }, { "pids", "+pids" } };
    int n = 0;
    for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
        char text[TEXT_MAX], *rest = text, *word;
        snprintf(text, sizeof text, "%s", offered);
        while ((word = strsep(&rest, " \n")) && strcmp(word, wanted[i].name) != 0)
            ;
        if (word && !put(g->dir, "cgroup.subtree_control", wanted[i].order, e))
            return false;
        if (word)
            g->used[n++] = wanted[i].name;
    }
    return true;
}

static bool use(struct cgroups *g, struct err *e)
{
    char offered[TEXT_MAX];
    if (g->dir < 0)
        return err_sys(e, "the folder", "open");
    if (flock(g->dir, LOCK_EX | LOCK_NB) != 0)
        return err_set(e, ERR_CONFLICT, "the folder", "another repquantd uses it");
    if (!get(g->dir, "cgroup.controllers", offered))
        return err_sys(e, "cgroup.controllers", "read");
    end_left_over(g->dir);
    return move_ourselves(g->dir, e) && hand_down(g, offered, e);
}

static bool use_folder(const char *path, struct cgroups *ret, struct err *e)
{
    struct err why = { 0 };
    *ret = (struct cgroups){ .dir = open_folder(AT_FDCWD, path) };
    if (use(ret, &why))
        return true;
    cgroups_close(ret);
    return err_set(e, ERR_CONFIG, "cgroup", "%.150s: %.40s: %.60s; give a cgroup v2 folder that the daemon may write to and no other process is in, or off:"
                   " see deploy/README.md", path, why.where, why.text);
}

/* Only root may ask for the first mark. */
static bool marked(const char *path)
{
    static const char *const marks[] = { "trusted.delegate", "user.delegate" };
    char value = 0;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getxattr(path, marks[i], &value, sizeof value) == 1 && value == '1')
            return true;
    return false;
}

bool cgroups_delegated(const char *list, const char *root, char *ret, size_t size)
{
    char text[TEXT_MAX], *rest = text;
    get(AT_FDCWD, list, text);
    for (char *line; (line = strsep(&rest, "\n"));)
        if (strncmp(line, "0::/", 4) == 0)              /* version 2; the other lines are hierarchies of version 1 */
            return (size_t)snprintf(ret, size, "%s%s", root, line + 3) < size && marked(ret);
    return false;
}

bool cgroups_open(const char *which, struct cgroups *ret, struct err *e)
{
    static const char list[] = "/proc/self/cgroup";
    char own[PATH_MAX];
    struct err why = { 0 };
    *ret = (struct cgroups){ .dir = -1 };
    if (strcmp(which, "off") == 0)
        return true;
    if (strcmp(which, "auto") != 0)
        return which[0] == '/' ? use_folder(which, ret, e)
                               : err_set(e, ERR_CONFIG, "cgroup", "\"%.40s\" is not auto, off or the path of a folder", which);
    if ((cgroups_delegated(list, "/sys/fs/cgroup", own, sizeof own) || cgroups_delegated(list, "/sys/fs/cgroup/unified", own, sizeof own))
        && !use_folder(own, ret, &why))
        log_line(LOG_WARN, "cgroup.unused", "%s: %s", why.where, why.text);
    return true;
}

void cgroups_close(struct cgroups *g)
{
    close_fd(&g->dir);
    *g = (struct cgroups){ .dir = -1 };
}

const char *const *cgroups_used(const struct cgroups *g) { return g && g->dir >= 0 ? g->used : NULL; }

/* ---- one group ---- */

static bool uses(const struct cgroups *g, const char *name)
{
    for (int i = 0; g->used[i]; i++)
        if (strcmp(g->used[i], name) == 0)
            return true;
    return false;
}

/* What it holds shall not go to the swap instead, and where one of its tasks is killed for memory, all are. */
static bool bound(const struct cgroups *of, int dir, const struct cgroup_bounds *b, struct err *e)
{
    bool memory = uses(of, "memory"), tasks = uses(of, "pids");
    return (!memory || (put_number(dir, "memory.max", b->memory, e) && put_if_there(dir, "memory.swap.max", "0", e)
                        && put_if_there(dir, "memory.oom.group", "1", e)))
        && (!tasks || put_number(dir, "pids.max", b->tasks, e));
}

bool cgroup_make(const struct cgroups *of, const struct cgroup_bounds *bounds, struct cgroup *ret, struct err *e)
{
    static atomic_uint made;
    struct cgroup g = CGROUP_NONE;
    *ret = g;
    if (!cgroups_used(of))
        return true;
    do {                                                /* one that could not be removed at the start may have the name */
        snprintf(g.name, sizeof g.name, "%s%u", prefix, atomic_fetch_add(&made, 1) + 1);
        g.dir = sys.mkdirat(of->dir, g.name, 0755) == 0 ? open_folder(of->dir, g.name) : -1;
    } while (g.dir < 0 && errno == EEXIST);
    if (g.dir < 0) {
        err_sys(e, "the control group of a process", "make");
        sys.unlinkat(of->dir, g.name, AT_REMOVEDIR);    /* made, and could not be opened */
        return false;
    }
    g.procs = openat(g.dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    *ret = g;
    if ((g.procs >= 0 || err_sys(e, "cgroup.procs", "open")) && bound(of, g.dir, bounds, e))
        return true;
    cgroup_end(of, ret, &(struct cgroup_events){ 0 });
    return false;
}

void cgroup_end(const struct cgroups *of, struct cgroup *g, struct cgroup_events *ret)
{
    *ret = (struct cgroup_events){ 0 };
    if (g->dir < 0)
        return;
    /* `oom` counts this group's own limit; without it the kill was the machine's need or the service's. */
    ret->memory = count_of(g->dir, "memory.events", "oom_kill") > 0 && count_of(g->dir, "memory.events", "oom") > 0;
    ret->tasks = count_of(g->dir, "pids.events", "max") > 0;
    end_group(of->dir, g->dir, g->name);
    close_fd(&g->procs);
    close_fd(&g->dir);
}
