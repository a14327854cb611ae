/*
 * seal.h - give up every system call that quantizing does not need: the last step of the sandbox.
 *
 * Called by a process that shall read strangers' bytes, before the first of them.  It holds for every thread
 * there is (OpenBLAS starts its own before main()) and for all that come.  From then on the process cannot
 * open a socket, start a program or a process, signal others, or make memory executable: it is killed
 * by SIGSYS.  What it may open by name is for Landlock to say (server/sandbox.h).
 */
#ifndef CORE_BASE_SEAL_H
#define CORE_BASE_SEAL_H

#include "core/base/err.h"

/* Whether this kernel can do it, for a program built for this processor. */
bool seal_offered(void);

/* There is no way back.  False with *e: nothing has changed. */
bool seal_process(struct err *e);

#endif
