/*
 * child_spawn.h - the start of a child: pipes, descriptors in their places, a session of its own.
 */
#ifndef SERVER_CHILD_SPAWN_H
#define SERVER_CHILD_SPAWN_H

#include "core/base/err.h"
#include "server/child.h"

#include <sys/types.h>

/* A started process and our ends of its pipes. */
struct spawned {
    pid_t pid;                      /* leader of its session and process group; not reaped */
    int pidfd;                      /* readable when it has ended */
    int control;                    /* to write to; closing it asks for the end */
    int events, errors;             /* to read from; they do not block */
};

/* group: of its control group, what it enters by; -1: none.  False with *e: there is no process, and nothing is left open. */
bool child_spawn(const struct child_spec *spec, int group, struct spawned *ret, struct err *e);

#endif
