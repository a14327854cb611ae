/*
 * slow_sync.c - LD_PRELOAD: fsync() and fdatasync() take SLOW_SYNC_US microseconds longer, as on a disk that waits for its medium.
 *
 * The wait is asleep: a disk's queue does not use the processor.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for_medium(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long us = text ? strtol(text, NULL, 10) : 0;
    struct timespec left = { us / 1000000, us % 1000000 * 1000 };
    while (us > 0 && nanosleep(&left, &left) != 0)
        ;
}

#define SLOW(name)                                                                     \
    int name(int fd)                                                                   \
    {                                                                                  \
        static int (*real)(int);                                                       \
        if (!real)                                                                     \
            real = (int (*)(int))dlsym(RTLD_NEXT, #name);                              \
        wait_for_medium();                                                             \
        return real(fd);                                                               \
    }
int fsync(int fd);
int fdatasync(int fd);
SLOW(fsync)
SLOW(fdatasync)
