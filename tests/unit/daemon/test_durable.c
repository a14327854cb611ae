/* test_durable.c - what is acknowledged is on the disk: no byte that was written and no name that was given still waits for a sync. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/io.h"
#include "storage/backup.h"
#include "storage/upload.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/uio.h>

#define WORLD "blobs/48/486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"

/* ---- a disk that keeps books ---- */

enum { INODES = 1024 };
struct inodes { ino_t ino[INODES]; int n; };

static struct {
    pthread_mutex_t mu;             /* spools write on threads of their own */
    struct inodes waiting, synced;  /* files with bytes and folders with names that only the cache has; what was synced since it was opened */
    bool early;                     /* a manifest got its name while something waited */
    struct sys real;
} book = { .mu = PTHREAD_MUTEX_INITIALIZER };

static int find(const struct inodes *l, ino_t ino)
{
    for (int i = 0; i < l->n; i++)
        if (l->ino[i] == ino)
            return i;
    return -1;
}

static void add(struct inodes *l, ino_t ino)
{
    pthread_mutex_lock(&book.mu);
    if (find(l, ino) < 0 && l->n < INODES)
        l->ino[l->n++] = ino;
    pthread_mutex_unlock(&book.mu);
}

static void drop(struct inodes *l, ino_t ino)
{
    pthread_mutex_lock(&book.mu);
    int i = find(l, ino);
    if (i >= 0)
        l->ino[i] = l->ino[--l->n];
    pthread_mutex_unlock(&book.mu);
}

static ino_t inode_at(int dir, const char *path)
{
    struct stat st;
    return fstatat(dir, path, &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static ssize_t noted_write(int fd, const void *p, size_t n)
{
    add(&book.waiting, inode_at(fd, ""));
    return book.real.write(fd, p, n);
}

static ssize_t noted_pwritev(int fd, const struct iovec *io, int n, off_t at)
{
    add(&book.waiting, inode_at(fd, ""));
    return book.real.pwritev(fd, io, n, at);
}

static int noted_fsync(int fd)
{
    drop(&book.waiting, inode_at(fd, ""));
    add(&book.synced, inode_at(fd, ""));
    return book.real.fsync(fd);
}

static int noted_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(to, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - to) : 1, slash ? to : ".");
    book.early = book.early || (strcmp(to, "manifest.json") == 0 && book.waiting.n);
    add(&book.waiting, inode_at(to_dir, folder));
    return book.real.renameat(from_dir, from, to_dir, to);
}

static void open_book(void)
{
    book.waiting.n = book.synced.n = 0;
    book.early = false;
    book.real = sys;
    sys = (struct sys){ noted_write, noted_pwritev, noted_fsync, noted_rename, book.real.fstatvfs, book.real.mkdirat, book.real.unlinkat };
}

static void close_book(void)
{
    sys = book.real;
    assert_int_equal(book.waiting.n, 0);
    assert_false(book.early);
}

static void is_synced(const struct fixture *f, const char *below)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", f->dir, below);
    ino_t ino = inode_at(AT_FDCWD, path);
    if (!ino || find(&book.synced, ino) < 0)
        fail_msg("%s %s", below, ino ? "was not synced" : "is not there");
}

/* ---- what is promised ---- */

static void a_new_folder_is_there_with_what_is_in_it(void **state)
{
    struct fixture *f = *state;
    char path[300];
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/new", f->dir);
    open_book();
    struct store *s = store_open(path, &e);
    close_book();
    assert_non_null(s);
    store_close(s);
    is_synced(f, "");
    is_synced(f, "new");
    is_synced(f, "new/blobs");
}

static void a_blob_is_there_with_its_name(void **state)
{
    struct fixture *f = *state;
    open_book();
    fixture_blob(f, TEAM_LOCAL, "world");
    close_book();
    is_synced(f, WORLD);
    is_synced(f, "blobs/48");
}

static struct upload part(struct fixture *f, struct upload_part *p, const char *text)
{
    struct upload u;
    struct err e = { 0 };
    if (!upload_write(p, text, strlen(text), &e) || !upload_end(p, &u, &e))
        fail_msg("%s: %s", e.where, e.text);
    (void)f;
    return u;
}

static void each_part_of_an_upload_is_there_and_the_last_with_its_name(void **state)
{
    struct fixture *f = *state;
    struct upload_part p;
    struct upload_wish wish = { .length = 5 };
    struct err e = { 0 };
    char file[ID_SIZE + 8];
    open_book();
    assert_true(upload_begin(&p, f->store, TEAM_LOCAL, &wish, &e));
    struct upload u = part(f, &p, "wo");
    close_book();
    snprintf(file, sizeof file, "blobs/%s", u.id);
    is_synced(f, file);
    is_synced(f, "blobs");
    open_book();
    assert_true(upload_resume(&p, f->store, TEAM_LOCAL, u.id, 2, &e));
    u = part(f, &p, "rld");
    close_book();
    assert_true(u.digest[0]);
    is_synced(f, WORLD);
    is_synced(f, "blobs/48");
}

static void a_backup_is_there_before_its_manifest_says_so(void **state)
{
    struct fixture *f = *state;
    char to[300], data[300];
    struct backup_sum sum;
    struct err e = { 0 };
    snprintf(to, sizeof to, "%s/backup.d", f->dir);
    snprintf(data, sizeof data, "%s/restored", f->dir);
    open_book();
    bool ok = backup_make(f->dir, to, "0", &sum, &e);
    close_book();
    assert_true(ok && sum.blobs == 1);
    is_synced(f, "");
    is_synced(f, "backup.d");
    is_synced(f, "backup.d/blobs");
    is_synced(f, "backup.d/blobs/2c");
    open_book();
    ok = backup_restore(to, data, &sum, &e);
    close_book();
    assert_true(ok && sum.blobs == 1);
    is_synced(f, "");
    is_synced(f, "restored");
    is_synced(f, "restored/blobs");
    is_synced(f, "restored/blobs/2c");
    is_synced(f, "restored/repquant.db");
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_new_folder_is_there_with_what_is_in_it),
        T(a_blob_is_there_with_its_name),
        T(each_part_of_an_upload_is_there_and_the_last_with_its_name),
        T(a_backup_is_there_before_its_manifest_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
