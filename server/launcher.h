/*
 * launcher.h - the stage between the daemon and a child: `repquantd --launch`.
 *
 * The daemon starts its own program again with exactly these descriptors, whose numbers both ends know:
 *
 *     0       control pipe; it closes when the daemon wants the end, or is dead
 *     1       event pipe
 *     2       diagnostics
 *     3       the scratch folder
 *     4...    inputs, read-only, by the numbers in job.json
 *     and     where it enters its control group, if it has one; the quantizer does not get it
 *
 * The launcher locks the process in and becomes `repquant job [--sealed] .`.  It is a program of its own because
 * nothing but exec makes all of that hold for every thread of what runs later.
 */
#ifndef SERVER_LAUNCHER_H
#define SERVER_LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAUNCH_SCRATCH_FD = 3, LAUNCH_FIRST_INPUT_FD = 4 };

/* What the launcher is told; its arguments are these, as text, in this order. */
struct launch {
    const char *program;            /* to exec */
    int64_t inputs;                 /* descriptors from LAUNCH_FIRST_INPUT_FD on */
    int64_t address_space;          /* bytes it may map; INT64_MAX: any */
    int64_t cpu_seconds;
    int64_t file_size;              /* bytes of the largest file it may write */
    int64_t landlock;               /* ABI to use; 0: none */
    int64_t sealed;                 /* 1: the program filters its system calls (job --sealed) */
    int64_t grouped;                /* 1: there is a control group to enter */
};

/* argv for posix_spawn(); the strings live in the struct. */
enum { LAUNCH_NUMBERS = 7 };
struct launch_argv { char number[LAUNCH_NUMBERS][24]; char *argv[LAUNCH_NUMBERS + 4]; };
void launch_argv(const struct launch *l, struct launch_argv *ret);

/* Whether argv is the launcher's. */
bool launcher_called(int argc, char **argv);

/* main() of `repquantd --launch ...`; returns only when it failed, with the exit status. */
int launcher_main(int argc, char **argv);

#endif
