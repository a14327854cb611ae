/*
 * fuzz_state.c - libFuzzer over a damaged database: a folder with jobs in several states, whose file gets other bytes where the input says, or an
 * end that is missing.  It is opened and recovered, or refused with a reason; then all jobs can be listed, or that fails with a reason.
 * The input: two bytes that say how much is missing (0: nothing), then changes of four bytes, three of the place and one value.
 */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/io.h"
#include "core/base/log.h"

#include <assert.h>
#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *database;
static size_t database_n;
static struct fixture *fixture;
static char path[300];

static void make_database(void)
{
    void *state;
    char job[ID_SIZE];
    assert(fixture_setup(&state) == 0);
    fixture = state;
    for (int i = 0; i < 4; i++)
        fixture_job(fixture, i, job);
    struct claim claim;
    struct job held = { 0 };
    assert(run_claim(fixture->store, &(struct claim_terms){ .worker = "w", .lease_us = 60000000 }, &claim, &held, NULL));
    job_release(&held);
    store_close(fixture->store);
    fixture->store = NULL;
    snprintf(path, sizeof path, "%s/repquant.db", fixture->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && io_read_all(fd, path, 64 << 20, &database, &database_n, NULL));
    close(fd);
    log_set_level(LOG_LEVELS);
}

static void write_database(const uint8_t *data, size_t size)
{
    char *bytes = malloc(database_n), side[320];
    size_t missing = size >= 2 ? data[0] * 256u + data[1] : 0;
    assert(bytes);
    memcpy(bytes, database, database_n);
    for (size_t i = 2; i + 4 <= size; i += 4)
        bytes[(data[i] << 16 | data[i + 1] << 8 | data[i + 2]) % database_n] = (char)data[i + 3];
    for (int i = 0; i < 2; i++) {
        snprintf(side, sizeof side, "%s%s", path, i ? "-shm" : "-wal");
        unlink(side);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0 && io_write_all(fd, bytes, database_n - missing % database_n) == 0);
    close(fd);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = { 0 };
    struct recovery recovery;
    struct job_list list = { 0 };
    if (!database)
        make_database();
    write_database(data, size);
    struct store *s = store_open(fixture->dir, &e);
    bool ok = s && store_recover(s, &recovery, &e) && job_list(s, TEAM_LOCAL, &(struct job_filter){ 0 }, (struct page){ .limit = 100 }, &list, &e);
    assert(ok == (e.code == ERR_NONE) && (ok || e.text[0]));
    job_list_release(&list);
    store_close(s);
    return 0;
}
