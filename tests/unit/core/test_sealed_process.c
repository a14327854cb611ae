/* test_sealed_process.c - what the filter of a sealed process does to one that has to be outside: a child of the test's own. */
#include "core/base/seal.h"

#include <linux/unistd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOBODY = 65534, PAGE = 4096 };

static const struct { const char *name; int before, after; } becoming_code[] = {       /* what is not there when the filter comes */
    { "mprotect to execute", PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC },
    { "mprotect to write and execute", PROT_READ, PROT_READ | PROT_WRITE | PROT_EXEC },
    { "mprotect to read", PROT_READ | PROT_WRITE, PROT_READ },                          /* which malloc does */
};

/* How a child ended that changed a page's protection behind the filter: its status. */
static int protect(int before, int after)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        void *page = mmap(NULL, PAGE, before, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit(page == MAP_FAILED || !seal_process(NULL) ? 2 : mprotect(page, PAGE, after) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void no_page_becomes_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof becoming_code / sizeof becoming_code[0]; i++) {
        int status = protect(becoming_code[i].before, becoming_code[i].after);
        bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        if (becoming_code[i].after & PROT_EXEC ? !killed : status != 0)
            fail_msg("%s: status %x", becoming_code[i].name, (unsigned)status);
    }
}

/* A byte through the pipe, or the other end is gone. */
static void step(int to, int from)
{
    char byte = 's';
    if ((to >= 0 && write(to, &byte, 1) != 1) || (from >= 0 && read(from, &byte, 1) != 1))
        _exit(2);
}

static uid_t owner_of(pid_t pid)
{
    char path[40];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    assert_int_equal(stat(path, &st), 0);
    return st.st_uid;
}

/* Of a process that cannot be dumped, /proc belongs to root: another process of the same user may neither trace it nor read its memory. */
static void a_sealed_process_belongs_to_nobody_but_root(void **state)
{
    (void)state;
    int up[2], down[2], status;
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);
    uid_t user = geteuid() == 0 ? NOBODY : geteuid();
    pid_t child = fork();
    if (child == 0) {
        close(down[1]);             /* so that it ends when the test does */
        if ((geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0) || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
            _exit(2);
        step(up[1], down[0]);
        if (!seal_process(NULL))
            _exit(2);
        step(up[1], down[0]);
        _exit(0);
    }
    step(-1, up[0]);
    assert_int_equal(owner_of(child), user);
    step(down[1], up[0]);
    assert_int_equal(owner_of(child), 0);
    step(down[1], -1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (int i = 0; i < 2; i++) {
        close(up[i]);
        close(down[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_page_becomes_code),
        cmocka_unit_test(a_sealed_process_belongs_to_nobody_but_root),
    };
    if (!seal_offered()) {
        printf("skipped: the kernel has no filters of system calls\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
