/*
 * sandbox.h - what a child is locked into, as far as this kernel can.
 *
 *   Landlock   by the launcher, before exec: it reads the program and the system's libraries, reads and writes its scratch
 *              folder, opens nothing else by name; no TCP from ABI 4 on, no signals to others from ABI 6 on
 *   seccomp    by the quantizer, before its first untrusted byte (core/base/seal.h): no sockets at all, no programs, no processes
 *
 * What the kernel offers is asked, not tried: what it offers and then refuses is a failed start, in every mode but `off`.
 * So the level that is reported is the one every child has.
 */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include "core/base/err.h"

#include <stdint.h>

struct sandbox {
    int64_t landlock;               /* its ABI; 0: not used */
    bool seccomp;
};

/*
 * mode: "required", "best-effort" or "off"; NULL is off.  False with *e if the word is none of these, or if both are required and
 * this kernel lacks one.
 */
bool sandbox_choose(const char *mode, struct sandbox *ret, struct err *e);

/* "full": both.  "partial": one of them.  "none". */
const char *sandbox_level(const struct sandbox *s);

/* In the launcher: the calling process is locked in with `program` and the folder `scratch`.  False with errno. */
bool sandbox_enter(int64_t landlock, const char *program, int scratch);

#endif
