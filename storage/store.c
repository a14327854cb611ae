#include "storage/inner.h"

#include "core/base/io.h"
#include "storage/problem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { BALLAST_BYTES = 8 << 20 };
static const uint64_t PLENTY_BYTES = 4ull * BALLAST_BYTES;

/* ---- opening ---- */

static bool path_of(const char *dir, const char *name, char **ret, struct err *e)
{
    return asprintf(ret, "%s/%s", dir, name) >= 0 || (*ret = NULL, err_sys(e, dir, "name a file in"));
}

static bool folder(const char *path, int *ret_fd, struct err *e)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_sys(e, path, "make the folder");
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd >= 0 || err_sys(e, path, "open the folder");
}

/* All 256 exist from the start, so publishing a blob never makes a folder. */
bool store_fan_out(int blobs_fd, const char *path, struct err *e)
{
    for (int i = 0; i < 256; i++) {
        char name[3];
        snprintf(name, sizeof name, "%02x", i);
        if (mkdirat(blobs_fd, name, 0700) != 0 && errno != EEXIST)
            return err_sys(e, path, "make a folder in");
    }
    return sys.fsync(blobs_fd) == 0 || err_sys(e, path, "sync");
}

bool store_folder(const char *path, const char *make, int *ret_fd, struct err *e)
{
    bool made = mkdir(path, 0700) == 0;
    if (!made && errno != EEXIST)
        return err_sys(e, path, make);
    *ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0)
        return err_sys(e, path, "open the folder");
    return io_sync_name(*ret_fd) || !made || err_sys(e, path, "sync the name of");
}

/*
 * A daemon that was killed in the moment it started a child leaves its lock with that child until the child's exec closes it.
 * Nothing tells when that is, so it is asked for a second.
 */
static bool lock_soon(int fd)
{
    enum { TRIES = 100, STEP_NS = 10 * 1000 * 1000 };
    for (int i = 1; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EWOULDBLOCK || i == TRIES)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = STEP_NS }, NULL);
    }
    return true;
}

static bool take_lock(struct store *s, struct err *e)
{
    s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return err_sys(e, s->dir, "open the lock in");
    if (lock_soon(s->lock_fd))
        return true;
    if (errno == EWOULDBLOCK)
        return err_set(e, ERR_CONFLICT, s->dir, "another repquantd has this data folder; stop it or choose another folder");
    return err_sys(e, s->dir, "lock");
}

/* SQLite's WAL needs memory that all processes share, and flock() must mean something. */
static bool local_disk(const struct store *s, struct err *e)
{
    struct statfs fs;
    if (fstatfs(s->dir_fd, &fs) == 0 && fs.f_type == NFS_SUPER_MAGIC)
        return err_set(e, ERR_CONFIG, s->dir, "the data folder is on NFS; choose one on a local disk");
    return true;
}

static bool read_boot_id(char *ret, size_t size, struct err *e)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return err_sys(e, path, "read");
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return true;
}

static bool open_backup_lock(struct store *s, struct err *e)
{
    s->backup_fd = openat(s->dir_fd, "backup", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return s->backup_fd >= 0 || err_sys(e, s->dir, "open the file backup in");
}

static bool open_folders(struct store *s, struct err *e)
{
    return store_folder(s->dir, "make the folder", &s->dir_fd, e) && local_disk(s, e) && take_lock(s, e)
        && path_of(s->dir, "blobs", &s->blobs, e) && folder(s->blobs, &s->blobs_fd, e)
        && store_fan_out(s->blobs_fd, s->blobs, e)
        && path_of(s->dir, "scratch", &s->scratch, e) && folder(s->scratch, &s->scratch_fd, e)
        && open_backup_lock(s, e)
        && (sys.fsync(s->dir_fd) == 0 || err_sys(e, s->dir, "sync"));
}

/* ---- the ballast ---- */

/*
 * On a full disk SQLite cannot write even to delete, so nobody could make room.  The ballast is room kept for
 * that moment: the write that found the disk full fails, the next one goes through.
 */
void ballast_drop(void *store)
{
    struct store *s = store;
    unlinkat(s->dir_fd, "ballast", 0);
}

void ballast_make(struct store *s)
{
    struct stat st;
    if (fstatat(s->dir_fd, "ballast", &st, AT_SYMLINK_NOFOLLOW) == 0 || store_free_bytes(s) < PLENTY_BYTES)
        return;
    int fd = openat(s->dir_fd, "ballast", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (posix_fallocate(fd, 0, BALLAST_BYTES) != 0)
        ballast_drop(s);
    close(fd);
}

static bool open_all(struct store *s, const char *dir, struct err *e)
{
    char *path = NULL;
    if (!(s->dir = strdup(dir)))
        return err_sys(e, dir, "open");
    bool ok = (s->spooler = spooler_start(e)) && ((s->recent = recent_new()) || err_sys(e, dir, "open")) && read_boot_id(s->boot_id, sizeof s->boot_id, e)
           && open_folders(s, e)
           && path_of(dir, "repquant.db", &path, e) && (s->db = db_open(path, e)) != NULL;
    free(path);
    if (!ok)
        return false;
    db_on_full(s->db, ballast_drop, s);
    blob_sweep_unfinished(s);
    upload_sweep_files(s);
    ballast_make(s);
    return true;
}

struct store *store_open(const char *dir, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        err_sys(e, dir, "open");
        return NULL;
    }
    s->dir_fd = s->blobs_fd = s->scratch_fd = s->lock_fd = s->backup_fd = -1;
    s->limits = STORE_LIMITS_DEFAULT;
    pthread_mutex_init(&s->publish_mu, NULL);
    pthread_mutex_init(&s->room_mu, NULL);
    pthread_mutex_init(&s->parts_mu, NULL);
    pthread_cond_init(&s->parts_changed, NULL);
    pthread_mutex_init(&s->audit.mu, NULL);
    pthread_mutex_init(&s->used.mu, NULL);
    if (open_all(s, dir, e))
        return s;
    store_close(s);     /* safe on a half-open store */
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    spooler_stop(s->spooler);
    if (s->db) {
        audit_flush(s, NULL);
        used_flush(s, NULL);
    }
    db_close(s->db);
    recent_free(s->recent);
    int fds[] = { s->blobs_fd, s->scratch_fd, s->backup_fd, s->dir_fd, s->lock_fd };     /* the lock last */
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(s->dir);
    free(s->blobs);
    free(s->scratch);
    pthread_mutex_destroy(&s->publish_mu);
    pthread_mutex_destroy(&s->room_mu);
    pthread_mutex_destroy(&s->parts_mu);
    pthread_cond_destroy(&s->parts_changed);
    pthread_mutex_destroy(&s->audit.mu);
    pthread_mutex_destroy(&s->used.mu);
    free(s);
}

const char *store_dir(const struct store *s) { return s->dir; }

void store_limit(struct store *s, const struct store_limits *limits)
{
    s->limits = *limits;
    db_set_public_url(s->db, limits->public_url);
}

void store_watch(struct store *s, store_watch_fn *fn, void *arg) { db_watch(s->db, fn, arg); }

void store_on_post(struct store *s, void (*fn)(void *arg), void *arg) { db_on_post(s->db, fn, arg); }

void store_on_revoked(struct store *s, store_revoked_fn *fn, void *arg)
{
    s->revoked = fn;
    s->revoked_arg = arg;
}

void store_revoked(struct store *s, const char *id)
{
    if (s->revoked)
        s->revoked(s->revoked_arg, id);
}

void store_serve_many(void) { db_serve_many(); }

/* ---- health ---- */

bool store_ping(struct store *s, struct err *e)
{
    if (store_broken(s))
        return err_set(e, ERR_IO, "storage", "something could not be written or synced; the daemon stops");
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_PING);
    bool ok = stmt_row(q, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}

bool store_broken(const struct store *s) { return db_broken(s->db) || io_sync_failed(); }

uint64_t store_free_bytes(const struct store *s)
{
    struct statvfs fs;
    return sys.fstatvfs(s->blobs_fd, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
}

int64_t store_last_backup(const struct store *s)
{
    char text[24] = "";
    return pread(s->backup_fd, text, sizeof text - 1, 0) > 0 ? strtoll(text, NULL, 10) : 0;
}

/* ---- recovery ---- */

uint64_t store_memory(void) { return db_memory(); }

/* One transaction of at most eight jobs; *ret_n 0: none is left. */
static bool recover_some(struct store *s, const char *problem, struct recovery *r, int *ret_n, struct err *e)
{
    struct moving left[8];
    int n = 0;
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_RUN_LEFT);
    struct err why = { 0 };
    while (n < 8 && stmt_row(q, &why))
        moving_of_row(q, &left[n++]);
    stmt_end(q);
    bool ok = err_clean(&why, e);
    for (int i = 0; ok && i < n; i++) {
        ok = job_move(c, &left[i], job_move_lost(&left[i], problem), e);
        r->requeued += left[i].state == JOB_QUEUED;
        r->failed += left[i].state == JOB_FAILED;
        r->canceled += left[i].state == JOB_CANCELED;
    }
    *ret_n = n;
    return db_write_end(c, ok, e);
}

/* The running sum once more from its parts: whatever became of it, it is right again. */
static bool count_promises(struct store *s, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_DISK_PROMISES_SUM);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}

bool store_recover(struct store *s, struct recovery *ret, struct err *e)
{
    struct err lost = { 0 };
    err_set(&lost, ERR_WORKER_LOST, "", "the daemon stopped while the job was running");
    char *problem = problem_text(&lost);
    int n = 1;
    bool ok = (problem || err_sys(e, "recovery", "report")) && count_promises(s, e);
    *ret = (struct recovery){ 0 };
    while (ok && n)
        ok = recover_some(s, problem, ret, &n, e);
    free(problem);
    return ok && scratch_sweep(s, &ret->folders_removed, e) && blob_sweep_files(s, &ret->blobs_removed, e);
}
