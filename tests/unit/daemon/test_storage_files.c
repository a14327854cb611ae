/* test_storage_files.c - blobs, scratch folders and what a failing disk does to them. */
#include "tests/unit/daemon/storage_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

static const char world[] = "sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7";

static char *path_in(struct fixture *f, const char *below)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", f->dir, below);
    return path;
}

static bool exists(struct fixture *f, const char *below) { return access(path_in(f, below), F_OK) == 0; }

static void put(struct fixture *f, const char *below, const char *text)
{
    FILE *file = fopen(path_in(f, below), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void get(struct fixture *f, const char *below, char *ret, size_t size)
{
    FILE *file = fopen(path_in(f, below), "r");
    ret[0] = '\0';
    if (!file)
        return;
    ret[fread(ret, 1, size - 1, file)] = '\0';
    fclose(file);
}

static int unfinished(struct fixture *f)
{
    DIR *d = opendir(path_in(f, "blobs"));
    int n = 0;
    for (struct dirent *entry; (entry = readdir(d));)
        n += strncmp(entry->d_name, "new.", 4) == 0;
    closedir(d);
    return n;
}

/* ---- blobs ---- */

static void a_blob_is_found_under_its_hash_and_cannot_be_changed(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    int fd;
    uint64_t size;
    char text[8] = "";
    struct blob b = fixture_blob(f, TEAM_LOCAL, "hello");
    assert_true(b.existed);
    assert_string_equal(b.digest, FIXTURE_DIGEST);
    assert_int_equal(stat(path_in(f, "blobs/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    assert_true(blob_open(f->store, TEAM_LOCAL, b.digest, true, &fd, &size, NULL));
    assert_int_equal(size, 5);
    assert_int_equal(read(fd, text, sizeof text), 5);
    assert_string_equal(text, "hello");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

static void bytes_that_do_not_match_their_digest_leave_no_trace(void **state)
{
    struct fixture *f = *state;
    struct blob_writer w;
    struct blob b;
    struct err e = { 0 };
    assert_true(blob_begin(&w, f->store, TEAM_LOCAL, world, 100, NULL));
    assert_true(blob_write(&w, "worlt", 5, NULL));
    assert_false(blob_finish(&w, &b, &e));
    assert_int_equal(e.code, ERR_UPLOAD_DIGEST);
    assert_int_equal(unfinished(f), 0);
    assert_false(blob_get(f->store, TEAM_LOCAL, world, &b, NULL));
    assert_true(blob_begin(&w, f->store, TEAM_LOCAL, world, 100, NULL));
    assert_true(blob_write(&w, "world", 5, NULL));
    assert_true(blob_finish(&w, &b, NULL));
    assert_string_equal(b.digest, world);
}

static void an_upload_over_its_limit_or_abandoned_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    struct blob_writer w;
    struct err e = { 0 };
    assert_true(blob_begin(&w, f->store, TEAM_LOCAL, NULL, 4, NULL));
    assert_true(blob_write(&w, "1234", 4, NULL));
    assert_false(blob_write(&w, "5", 1, &e));
    assert_int_equal(e.code, ERR_REQUEST_TOO_LARGE);
    blob_abort(&w);
    blob_abort(&w);
    assert_int_equal(unfinished(f), 0);
    e = (struct err){ 0 };
    assert_false(blob_begin(&w, f->store, TEAM_LOCAL, "sha256:../../../etc/passwd", 4, &e));
    assert_int_equal(e.code, ERR_REQUEST_INVALID);
}

static void a_blob_that_rotted_is_never_opened_and_an_upload_heals_it(void **state)
{
    struct fixture *f = *state;
    static const char at[] = "blobs/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    int fd;
    uint64_t size;
    struct err e = { 0 };
    assert_int_equal(chmod(path_in(f, at), 0600), 0);
    put(f, at, "hellO");
    assert_false(blob_open(f->store, TEAM_LOCAL, FIXTURE_DIGEST, true, &fd, &size, &e));
    assert_int_equal(e.code, ERR_CORRUPT);
    put(f, at, "hell");
    assert_false(blob_open(f->store, TEAM_LOCAL, FIXTURE_DIGEST, false, &fd, &size, NULL));
    fixture_blob(f, TEAM_LOCAL, "hello");
    assert_true(blob_open(f->store, TEAM_LOCAL, FIXTURE_DIGEST, true, &fd, &size, NULL));
    close(fd);
}

static void sweeping_removes_what_nobody_uses_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct blob b;
    int removed, fd;
    uint64_t size;
    fixture_blob(f, TEAM_LOCAL, "world");
    assert_true(store_sweep(f->store, 3600LL * 1000000, &removed, NULL));
    assert_int_equal(removed, 0);                       /* young: somebody may be about to register it */
    assert_true(store_sweep(f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_false(blob_get(f->store, TEAM_LOCAL, world, &b, NULL));
    assert_false(exists(f, "blobs/48/486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"));
    assert_true(blob_open(f->store, TEAM_LOCAL, FIXTURE_DIGEST, true, &fd, &size, NULL));
    close(fd);
}

static void sweeping_waits_for_a_backup_to_end(void **state)
{
    struct fixture *f = *state;
    int removed, backup = open(path_in(f, "backup"), O_RDWR | O_CLOEXEC);
    fixture_blob(f, TEAM_LOCAL, "world");
    assert_int_equal(flock(backup, LOCK_SH), 0);
    assert_true(store_sweep(f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 0);
    assert_true(exists(f, "blobs/48/486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"));
    close(backup);
    assert_true(store_sweep(f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 1);
}

static void a_start_removes_files_without_rows_and_unfinished_uploads(void **state)
{
    struct fixture *f = *state;
    struct recovery r;
    put(f, "blobs/00/0000000000000000000000000000000000000000000000000000000000000000", "x");
    put(f, "blobs/new.0123", "half");
    fixture_reopen(f);
    assert_int_equal(unfinished(f), 0);
    assert_true(store_recover(f->store, &r, NULL));
    assert_int_equal(r.blobs_removed, 1);
    assert_true(exists(f, "blobs/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"));
}

/* ---- a failing disk ---- */

static int calls, fail_at;
static int fail_errno;
static struct sys real;

static bool fails(void) { return ++calls == fail_at && (errno = fail_errno, true); }
static ssize_t bad_write(int fd, const void *p, size_t n) { return fails() ? -1 : real.write(fd, p, n); }
static ssize_t bad_pwritev(int fd, const struct iovec *io, int n, off_t at) { return fails() ? -1 : real.pwritev(fd, io, n, at); }
static int bad_fsync(int fd) { return fails() ? -1 : real.fsync(fd); }
static int bad_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails() ? -1 : real.renameat(from_dir, from, to_dir, to);
}

static bool try_upload(struct fixture *f, struct err *e)
{
    struct blob_writer w;
    struct blob b;
    bool ok = blob_begin(&w, f->store, TEAM_LOCAL, world, 100, e) && blob_write(&w, "wor", 3, e) && blob_write(&w, "ld", 2, e)
           && blob_finish(&w, &b, e);
    blob_abort(&w);
    return ok;
}

/* The n-th call fails, for every n: either the blob is there, whole, or it is not there at all. */
static void an_upload_is_all_or_nothing_whichever_call_fails(void **state)
{
    struct fixture *f = *state;
    struct blob b;
    int fd, n;
    uint64_t size;
    bool done = false;
    real = sys;
    for (n = 1; !done; n++) {
        struct err e = { 0 };
        calls = 0;
        fail_at = n;
        fail_errno = n % 2 ? ENOSPC : EIO;
        sys = (struct sys){ bad_write, bad_pwritev, bad_fsync, bad_rename, real.fstatvfs, real.mkdirat, real.unlinkat };
        done = try_upload(f, &e);
        sys = real;
        io_sync_forget();
        assert_int_equal(unfinished(f), 0);
        bool known = blob_get(f->store, TEAM_LOCAL, world, &b, NULL);
        if (known != done)
            fail_msg("call %d failed: upload says %d, the table %d", n, done, known);
        if (!done && e.code != ERR_DISK && e.code != ERR_IO)
            fail_msg("call %d: %s", n, e.text);
    }
    assert_true(n - 1 > 5);                             /* writes, syncs, the rename: they were all tried */
    assert_true(blob_open(f->store, TEAM_LOCAL, world, true, &fd, &size, NULL));
    close(fd);
}

/* A small file system of our own; false, with a word, where we may not have one. */
static bool small_disk(const char *path)
{
    if (mkdir(path, 0700) == 0 && mount("none", path, "tmpfs", 0, "size=48m,mode=700") == 0)
        return true;
    rmdir(path);
    print_message("SKIPPED: mounting a small file system: %s\n", strerrordesc_np(errno));
    return false;
}

static void fill(const char *path)
{
    static char zeros[1 << 16];
    size_t step = sizeof zeros;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (step)
        if (write(fd, zeros, step) <= 0)
            step /= 2;
    close(fd);
}

/* Without the ballast nobody could cancel or delete anything again, to make room. */
static void on_a_full_disk_a_job_can_still_be_canceled(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE], disk[300], file[320];
    struct job job;
    struct err e = { 0 };
    snprintf(disk, sizeof disk, "%s.disk", f->dir);
    snprintf(file, sizeof file, "%s/filler", disk);
    if (!small_disk(disk)) {
        skip();
        return;
    }
    struct fixture on = *f;
    snprintf(on.dir, sizeof on.dir, "%.200s/data", disk);
    assert_non_null(on.store = store_open(on.dir, &e));
    fixture_blob(&on, TEAM_LOCAL, "hello");
    fixture_asset(&on, ASSET_MODEL, on.model);
    fixture_asset(&on, ASSET_DATASET, on.dataset);
    fixture_job(&on, 0, id);
    fill(file);
    bool was_full = false;
    for (int i = 0; i < 4000 && !was_full; i++) {       /* until the WAL needs room that is not there */
        struct job_request r = fixture_request(&on);
        was_full = !job_insert(on.store, TEAM_LOCAL, &r, &job, &e);
        if (!was_full)
            job_release(&job);
    }
    assert_true(was_full);
    assert_int_equal(e.code, ERR_DISK);
    assert_true(job_get(on.store, TEAM_LOCAL, id, &job, NULL));
    job_release(&job);
    assert_true(job_cancel(on.store, TEAM_LOCAL, id, NULL, NULL, &job, NULL));
    assert_int_equal(job.state, JOB_CANCELED);
    job_release(&job);
    store_close(on.store);
    assert_int_equal(umount(disk), 0);
    rmdir(disk);
}

/* ---- scratch ---- */

static struct claim claim_of(struct fixture *f, int lease)
{
    struct claim c;
    struct job job;
    struct err e = { 0 };
    assert_true(run_claim(f->store, &(struct claim_terms){ .worker = "w", .lease_us = lease }, &c, &job, &e));
    job_release(&job);
    return c;
}

/* A job whose first attempt has its folder. */
static struct claim begun(struct fixture *f, char ret_id[ID_SIZE])
{
    int dir;
    fixture_job(f, 0, ret_id);
    struct claim c = claim_of(f, 1000000000);
    assert_true(scratch_make(f->store, &c, &dir, NULL));
    close(dir);
    return c;
}

static void the_journal_of_a_lost_attempt_is_carried_to_the_next(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE], below[128], text[32];
    struct recovery r;
    int dir;
    struct claim c = begun(f, id);
    snprintf(below, sizeof below, "scratch/%s/1/journal", id);
    put(f, below, "site 1..7");
    snprintf(below, sizeof below, "scratch/%s/1/spill.bin", id);
    put(f, below, "big");

    fixture_reopen(f);                                  /* the daemon dies and comes back */
    assert_true(store_recover(f->store, &r, NULL));
    assert_false(exists(f, below));                     /* only the journal is kept */

    c = claim_of(f, 1000000000);
    assert_int_equal(c.token, 2);
    assert_true(scratch_make(f->store, &c, &dir, NULL));
    close(dir);
    snprintf(below, sizeof below, "scratch/%s/2/journal", id);
    get(f, below, text, sizeof text);
    assert_string_equal(text, "site 1..7");
    snprintf(below, sizeof below, "scratch/%s/1", id);
    assert_false(exists(f, below));
    scratch_drop(f->store, &c, false);
    snprintf(below, sizeof below, "scratch/%s", id);
    assert_false(exists(f, below));
}

static void a_claim_that_ends_without_a_folder_of_its_own_leaves_no_older_one(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE], below[128];
    struct recovery r;
    struct claim c = begun(f, id);
    fixture_reopen(f);
    assert_true(store_recover(f->store, &r, NULL));
    c = claim_of(f, 1000000000);
    scratch_drop(f->store, &c, true);                   /* given back to the queue: the journal is for the next */
    snprintf(below, sizeof below, "scratch/%s/1", id);
    assert_true(exists(f, below));
    scratch_drop(f->store, &c, false);                  /* ended */
    snprintf(below, sizeof below, "scratch/%s", id);
    assert_false(exists(f, below));
}

static void scratch_of_jobs_that_ended_is_removed_at_start(void **state)
{
    struct fixture *f = *state;
    char id[ID_SIZE], below[128];
    struct recovery r;
    struct claim c = begun(f, id);
    assert_true(run_fail(f->store, &c, "{}", NULL));
    snprintf(below, sizeof below, "scratch/%s/1/deep", id);
    assert_int_equal(mkdir(path_in(f, below), 0), 0);
    assert_int_equal(symlink("/etc", path_in(f, "scratch/link")), 0);
    fixture_reopen(f);
    assert_true(store_recover(f->store, &r, NULL));
    assert_int_equal(r.folders_removed, 2);
    assert_false(exists(f, "scratch/link"));
    snprintf(below, sizeof below, "scratch/%s", id);
    assert_false(exists(f, below));
    assert_int_equal(access("/etc/passwd", F_OK), 0);
}

static void only_a_plain_file_of_its_own_is_a_result(void **state)
{
    struct fixture *f = *state;
    int dir, fd = -1;
    struct err e = { 0 };
    assert_true(scratch_make_named(f->store, "inspect-1", &dir, NULL));
    put(f, "scratch/inspect-1/good", "12345");
    put(f, "scratch/inspect-1/twice", "x");
    assert_int_equal(link(path_in(f, "scratch/inspect-1/twice"), "/dev/null/x"), -1);
    char from[600];
    snprintf(from, sizeof from, "%s", path_in(f, "scratch/inspect-1/twice"));
    assert_int_equal(link(from, path_in(f, "scratch/inspect-1/hard")), 0);
    assert_int_equal(symlink("/etc/passwd", path_in(f, "scratch/inspect-1/soft")), 0);
    assert_int_equal(symlink("good", path_in(f, "scratch/inspect-1/near")), 0);
    assert_int_equal(mkfifo(path_in(f, "scratch/inspect-1/fifo"), 0600), 0);
    assert_int_equal(mkdir(path_in(f, "scratch/inspect-1/folder"), 0700), 0);
    static const char *const there[] = { "folder/good", ".good", "good ", "good\n", "g\xc3\xb6od" };
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) {
        snprintf(from, sizeof from, "scratch/inspect-1/%s", there[i]);
        put(f, from, "1");
        if (scratch_open(dir, there[i], 100, &fd, NULL))
            fail_msg("opened \"%s\"", there[i]);
    }
    static const char *const bad[] = { "twice", "hard", "soft", "near", "fifo", "folder", "none", "../1", "../inspect-1/good", "./good", ".", "..", "", "a/b" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (scratch_open(dir, bad[i], 100, &fd, NULL))
            fail_msg("opened \"%s\"", bad[i]);
    assert_false(scratch_open(dir, "good", 4, &fd, &e));
    assert_int_equal(e.code, ERR_DISK);
    assert_true(scratch_open(dir, "good", 5, &fd, NULL));
    close(fd);
    close(dir);
    scratch_drop_named(f->store, "inspect-1");
    assert_false(exists(f, "scratch/inspect-1"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_blob_is_found_under_its_hash_and_cannot_be_changed),
        T(bytes_that_do_not_match_their_digest_leave_no_trace),
        T(an_upload_over_its_limit_or_abandoned_leaves_no_trace),
        T(a_blob_that_rotted_is_never_opened_and_an_upload_heals_it),
        T(sweeping_removes_what_nobody_uses_and_nothing_else),
        T(sweeping_waits_for_a_backup_to_end),
        T(a_start_removes_files_without_rows_and_unfinished_uploads),
        T(an_upload_is_all_or_nothing_whichever_call_fails),
        T(on_a_full_disk_a_job_can_still_be_canceled),
        T(the_journal_of_a_lost_attempt_is_carried_to_the_next),
        T(a_claim_that_ends_without_a_folder_of_its_own_leaves_no_older_one),
        T(scratch_of_jobs_that_ended_is_removed_at_start),
        T(only_a_plain_file_of_its_own_is_a_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
