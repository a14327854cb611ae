/*
 * cgroup.h - a control group (cgroup v2) for every child, where the daemon has a folder to make them in.
 *
 *     FOLDER           is the daemon's: systemd's Delegate= or an administrator gave it away
 *     FOLDER/daemon    where the daemon itself goes, because a group that hands controllers down holds no processes
 *     FOLDER/job-N     a child, from before its other locks are on until it has ended: memory.max and pids.max
 *
 * Limits of a process (server/launcher.h) bound what it may map; these bound what it, its threads and whatever it starts hold at a time.
 * When a group ends, everything in it does.  Groups that a killed daemon left end at the next start, with the processes in them.
 */
#ifndef SERVER_CGROUP_H
#define SERVER_CGROUP_H

#include "core/base/err.h"

#include <stdint.h>

enum { CGROUP_CONTROLLERS = 2 };

/* The folder.  It is locked as long as it is open: two daemons would end each other's children. */
struct cgroups {
    int dir;                                    /* -1: children have no groups */
    const char *used[CGROUP_CONTROLLERS + 1];   /* "memory", "pids" as far as they are offered; ends with NULL */
};

/*
 * which: "off", "auto" or the absolute path of a folder.  "auto" is the daemon's own group if systemd has marked it as delegated, else none; where that cannot
 * be used, a line of the log says why.  Moves the calling process.  False with ERR_CONFIG if the folder that was named cannot be used.
 */
bool cgroups_open(const char *which, struct cgroups *ret, struct err *e);
void cgroups_close(struct cgroups *g);

/* The group that `list` (as /proc/self/cgroup) names, in a cgroup v2 file system at `root`, if it is marked as delegated: its path. */
bool cgroups_delegated(const char *list, const char *root, char *ret, size_t size);

/* The names of the controllers that bound children; NULL where they have no groups.  g may be NULL. */
const char *const *cgroups_used(const struct cgroups *g);

struct cgroup_bounds {
    int64_t memory;                 /* bytes held at a time */
    int64_t tasks;                  /* threads and processes */
};

/* One child's. */
struct cgroup {
    int dir, procs;                 /* -1: there is none; procs is what the launcher writes to */
    char name[32];                  /* in the folder */
};
#define CGROUP_NONE ((struct cgroup){ .dir = -1, .procs = -1 })

/* What the kernel refused it. */
struct cgroup_events {
    bool memory;                    /* it went over its memory and was killed for that */
    bool tasks;                     /* it asked for more tasks than it may have */
};

/* CGROUP_NONE if `of` is NULL or none.  False with *e: nothing is left. */
bool cgroup_make(const struct cgroups *of, const struct cgroup_bounds *bounds, struct cgroup *ret, struct err *e);

/* Kills what is still in it, tells what happened in it, and removes it.  CGROUP_NONE is fine. */
void cgroup_end(const struct cgroups *of, struct cgroup *g, struct cgroup_events *ret);

#endif
