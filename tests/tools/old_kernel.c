/*
 * old_kernel.c - a preloaded library: a kernel without what WITHOUT lists, "landlock", "seccomp" or both, as syscall() answers for it.
 * A program that the process starts without its environment is on the real one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { const char *name; long number; } absent[] = {
    { "landlock", SYS_landlock_create_ruleset }, { "landlock", SYS_landlock_add_rule }, { "landlock", SYS_landlock_restrict_self },
    { "seccomp", SYS_seccomp },
};

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    const char *without = getenv("WITHOUT");
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    for (size_t i = 0; without && i < sizeof absent / sizeof absent[0]; i++)
        if (number == absent[i].number && strstr(without, absent[i].name)) {
            errno = ENOSYS;
            return -1;
        }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
