/* test_spool.c - bytes get into their file and into their hash whatever their sizes, however many come at once, and a failure is told. */
#include "core/base/io.h"
#include "storage/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = SPOOL_BUFFERS + 8, SIZE = 5 * SPOOL_BUFFER / 2 + 77, PIECE = 99991, HUGE_SIZE = 30 * SPOOL_BUFFER };

static struct spooler *spooler;
static uint8_t *bytes;

static int setup(void **state)
{
    (void)state;
    spooler = spooler_start(NULL);
    bytes = malloc(HUGE_SIZE);
    for (size_t i = 0; bytes && i < HUGE_SIZE; i += 8) {
        uint64_t word = hash_mix(1, i);
        memcpy(bytes + i, &word, sizeof word);
    }
    return spooler && bytes ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    spooler_stop(spooler);
    free(bytes);
    return 0;
}

static int new_file(void)
{
    char path[] = "build/spool.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* The file holds the first n bytes, and the hash is theirs. */
static void assert_holds(const struct spool *x, int fd, size_t n)
{
    uint8_t want[HASH_SIZE], got[HASH_SIZE];
    struct hash h = x->hash;
    uint8_t *read_back = malloc(n);
    assert_int_equal(lseek(fd, 0, SEEK_END), n);
    assert_int_equal(pread(fd, read_back, n, 0), n);
    assert_memory_equal(read_back, bytes, n);
    free(read_back);
    hash_bytes(bytes, n, want);
    hash_end(&h, got);
    assert_memory_equal(got, want, HASH_SIZE);
}

static void add(struct spool *x, size_t upto)
{
    struct err e = { 0 };
    while (x->at < upto) {
        size_t n = upto - x->at < PIECE ? upto - x->at : PIECE;
        if (!spool_add(x, bytes + x->at, n, &e))
            fail_msg("%s: %s", e.where, e.text);
    }
}

static void flush(struct spool *x)
{
    struct err e = { 0 };
    if (!spool_flush(x, &e))
        fail_msg("%s: %s", e.where, e.text);
}

/* More than there are buffers, each in the middle of one: nobody waits for another. */
static void more_spools_than_buffers_get_on(void **state)
{
    static struct spool x[MANY];
    int fd[MANY];
    (void)state;
    for (int i = 0; i < MANY; i++)
        spool_begin(&x[i], spooler, fd[i] = new_file(), 0, NULL);
    for (size_t at = PIECE; at < SIZE + PIECE; at += PIECE)
        for (int i = 0; i < MANY; i++)
            add(&x[i], at < SIZE ? at : SIZE);
    for (int i = 0; i < MANY; i++) {
        flush(&x[i]);
        assert_holds(&x[i], fd[i], SIZE);
        spool_end(&x[i]);
        close(fd[i]);
    }
}

/* Flushed at odd places, gone on from there by another spool: with the hash so far, or without. */
static void a_file_goes_on_at_any_byte(void **state)
{
    struct spool x;
    struct hash so_far;
    (void)state;
    for (int known = 0; known < 2; known++) {
        int fd = new_file();
        spool_begin(&x, spooler, fd, 0, NULL);
        add(&x, SIZE);
        flush(&x);
        so_far = x.hash;
        spool_end(&x);
        spool_begin(&x, spooler, fd, SIZE, known ? &so_far : NULL);
        add(&x, 2 * SIZE + 1);
        flush(&x);
        add(&x, 3 * SIZE);
        flush(&x);
        assert_holds(&x, fd, 3 * SIZE);
        spool_end(&x);
        close(fd);
    }
}

static int asked, direct_asked, fail_at, fail_with;

static ssize_t bad_pwritev(int fd, const struct iovec *io, int n, off_t at)
{
    bool direct = fcntl(fd, F_GETFL) & O_DIRECT;
    int i = __atomic_add_fetch(&asked, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&direct_asked, direct, __ATOMIC_SEQ_CST);
    if (fail_with == EINVAL ? direct : i == fail_at) {
        errno = fail_with;
        return -1;
    }
    return pwritev(fd, io, fail_with == EINTR && n > 1 ? 1 : n, at);     /* and short writes */
}

static void file_systems_without_direct_writes_are_written_to_all_the_same(void **state)
{
    struct spool x;
    int fd = new_file();
    (void)state;
    fail_with = EINVAL;
    sys.pwritev = bad_pwritev;
    spool_begin(&x, spooler, fd, 0, NULL);
    add(&x, HUGE_SIZE);
    flush(&x);
    sys.pwritev = pwritev;
    assert_holds(&x, fd, HUGE_SIZE);
    assert_true(direct_asked <= 1);         /* once refused, it is not asked for again */
    spool_end(&x);
    close(fd);
}

static void a_disk_that_fails_is_told_to_whoever_sends(void **state)
{
    static const struct { int error; enum err_code code; } cases[] = { { ENOSPC, ERR_DISK }, { EIO, ERR_IO }, { EINTR, ERR_NONE } };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct spool x;
        struct err e = { 0 };
        bool ok = true;
        int fd = new_file();
        asked = 0;
        fail_at = 2;
        fail_with = cases[c].error;
        sys.pwritev = bad_pwritev;
        spool_begin(&x, spooler, fd, 0, NULL);
        while (ok && x.at < HUGE_SIZE)
            ok = spool_add(&x, bytes + x.at, SPOOL_BUFFER, &e);
        ok = ok && spool_flush(&x, &e);
        sys.pwritev = pwritev;
        assert_int_equal(ok, cases[c].code == ERR_NONE);
        assert_int_equal(e.code, cases[c].code);
        if (ok)
            assert_holds(&x, fd, HUGE_SIZE);
        spool_end(&x);
        close(fd);
    }
}

static void an_end_without_a_flush_gives_everything_back(void **state)
{
    struct spool x = SPOOL_NONE;
    (void)state;
    spool_end(&x);
    for (int i = 0; i < 2 * SPOOL_BUFFERS; i++) {
        int fd = new_file();
        spool_begin(&x, spooler, fd, 0, NULL);
        add(&x, 3 * SPOOL_BUFFER + 1);
        spool_end(&x);
        spool_end(&x);
        close(fd);
    }
    int fd = new_file();
    spool_begin(&x, spooler, fd, 0, NULL);
    add(&x, 1);
    assert_non_null(x.filling.p);           /* there still are buffers */
    spool_end(&x);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_spools_than_buffers_get_on),
        cmocka_unit_test(a_file_goes_on_at_any_byte),
        cmocka_unit_test(file_systems_without_direct_writes_are_written_to_all_the_same),
        cmocka_unit_test(a_disk_that_fails_is_told_to_whoever_sends),
        cmocka_unit_test(an_end_without_a_flush_gives_everything_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
