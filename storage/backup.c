/*
 * backup.c - see backup.h for what a backup is and why an interrupted one does no harm.
 *
 * Order of a backup: the database's copy first, then the bytes it names, then the manifest.  Rows that come later are not in the
 * copy, and bytes that rows name stay while DIR/backup is held, so every row of the copy finds its bytes.
 */
#include "storage/backup.h"

#include "core/base/clock.h"
#include "storage/inner.h"
#include "storage/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "repquant-backup-1"
enum { DB_NAME_SIZE = HASH_HEX_SIZE + 3, MANIFEST_MAX = 64 << 10 };

/* A data folder or a backup. */
struct place {
    const char *path;
    int fd, blobs_fd, lock_fd;
};
#define PLACE_NONE ((struct place){ .fd = -1, .blobs_fd = -1, .lock_fd = -1 })

static void place_close(struct place *p)
{
    int fds[] = { p->blobs_fd, p->fd, p->lock_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    *p = PLACE_NONE;
}

static bool place_open(struct place *p, const char *path, struct err *e)
{
    *p = PLACE_NONE;
    p->path = path;
    p->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p->fd >= 0 || err_sys(e, path, "open the folder");
}

/* Those above are not made: a disk that is not mounted must not become a folder on this one. */
static bool place_make(struct place *p, const char *path, struct err *e)
{
    *p = PLACE_NONE;
    p->path = path;
    return store_folder(path, "make the folder, in one that must be there", &p->fd, e);
}

static bool open_blobs(struct place *p, struct err *e)
{
    p->blobs_fd = openat(p->fd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p->blobs_fd >= 0 || err_sys(e, p->path, "open blobs/ in");
}

static bool has(const struct place *p, const char *name)
{
    struct stat st;
    return fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Takes the lock that another command has while it writes to a backup. */
static bool lock_backup(struct place *p, int flags, int how, struct err *e)
{
    p->lock_fd = openat(p->fd, "lock", flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock_fd < 0)
        return err_sys(e, p->path, "open the lock in");
    if (flock(p->lock_fd, how | LOCK_NB) == 0)
        return true;
    return errno == EWOULDBLOCK ? err_set(e, ERR_CONFLICT, p->path, "another command writes to this folder; try again when it has ended")
                                : err_sys(e, p->path, "lock");
}

/* A data folder whose daemon removes no bytes until the place is closed. */
static bool hold_data(struct place *p, const char *path, struct err *e)
{
    struct stat st;
    if (!place_open(p, path, e))
        return false;
    if (!has(p, "repquant.db"))
        return err_set(e, ERR_CONFIG, path, "there is no repquant.db in it; give the daemon's data folder as --data");
    p->lock_fd = openat(p->fd, "backup", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock_fd < 0)
        return err_sys(e, path, "open the file backup in");
    if (fstat(p->fd, &st) != 0 || (geteuid() == 0 && fchown(p->lock_fd, st.st_uid, st.st_gid) != 0))     /* the daemon must open it, too */
        return err_sys(e, path, "hand over the file backup in");
    return (flock(p->lock_fd, LOCK_SH) == 0 || err_sys(e, path, "lock")) && open_blobs(p, e);
}

/* ---- files ---- */

struct copying {
    struct newfile file;
    struct hash hash;
    uint64_t size;
};

static bool hash_piece(void *arg, const void *p, size_t n, struct err *e)
{
    struct copying *c = arg;
    (void)e;
    hash_add(&c->hash, p, n);
    c->size += n;
    return true;
}

static bool copy_piece(void *arg, const void *p, size_t n, struct err *e)
{
    return newfile_write(&((struct copying *)arg)->file, p, n, e) && hash_piece(arg, p, n, e);
}

static bool is_the_one(struct copying *c, const char *name, const char *digest, uint64_t size, struct err *e)
{
    uint8_t got[HASH_SIZE];
    char text[HASH_TEXT_SIZE];
    hash_end(&c->hash, got);
    hash_text(got, text);
    if (c->size != size)
        return err_set(e, ERR_IO, name, "it has %llu bytes instead of %llu", (unsigned long long)c->size, (unsigned long long)size);
    return hash_is(got, digest) || err_set(e, ERR_IO, name, "its bytes have changed: they are %s now", text);
}

/* Reads a file and compares it with its digest. */
static bool verify_file(int dir, const char *name, const char *digest, uint64_t size, struct err *e)
{
    struct copying c = { .file = NEWFILE_NONE };
    hash_init(&c.hash);
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, name, "open");
    bool ok = blob_each_piece(fd, hash_piece, &c, e) && is_the_one(&c, name, digest, size, e);
    close(fd);
    return ok;
}

/* The same, into to_dir/to_name, which appears whole or not at all. */
static bool copy_file(int from, const char *name, const char *digest, uint64_t size, const char *to_dir, const char *to_name,
                      mode_t mode, struct err *e)
{
    struct copying c = { 0 };
    hash_init(&c.hash);
    int fd = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, name, "open");
    bool ok = newfile_open(&c.file, to_dir, mode, UINT64_MAX, e);
    if (ok)
        ok = blob_each_piece(fd, copy_piece, &c, e) && is_the_one(&c, name, digest, size, e) && newfile_commit(&c.file, to_name, e);
    newfile_abort(&c.file);
    close(fd);
    return ok;
}

/* Whether the blob's file is there in full length; its bytes are for verifying to read. */
static bool has_blob(const struct place *p, const char *path, uint64_t size)
{
    struct stat st;
    return fstatat(p->blobs_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

static bool copy_blobs(struct snapshot *s, const struct place *from, const struct place *to, struct backup_sum *sum, struct err *e)
{
    char digest[HASH_TEXT_SIZE], path[BLOB_PATH_SIZE], folder[PATH_MAX];
    struct err why = { 0 };
    uint64_t size;
    while (snapshot_next_blob(s, digest, &size, &why)) {
        if (!blob_path(digest, path))
            return err_set(e, ERR_IO, "database", "it names a blob \"%.80s\", which is no digest", digest);
        sum->blobs++;
        sum->bytes += size;
        if (has_blob(to, path, size))
            continue;
        snprintf(folder, sizeof folder, "%s/blobs/%.2s", to->path, path);
        if (!copy_file(from->blobs_fd, path, digest, size, folder, path + 3, 0400, e))
            return false;
        sum->copied++;
    }
    return err_clean(&why, e);
}

/* ---- making one ---- */

static bool is_db_name(const char *name)
{
    return strspn(name, "0123456789abcdef") == HASH_HEX_SIZE - 1 && strcmp(name + HASH_HEX_SIZE - 1, ".db") == 0;
}

static bool is_temporary(const char *name) { return strncmp(name, "new.", 4) == 0; }

static bool belongs(const char *name)
{
    return name[0] == '.' || strcmp(name, "lock") == 0 || strcmp(name, "blobs") == 0 || strcmp(name, "manifest.json") == 0
        || strcmp(name, "lost+found") == 0 || is_temporary(name) || is_db_name(name);
}

/* fn(arg, name) of each entry while it returns true. */
static bool each_name(int dir_fd, const char *path, bool (*fn)(void *arg, int dir, const char *name), void *arg, struct err *e)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool go_on = true;
    if (!dir) {
        err_sys(e, path, "read the folder");
        if (fd >= 0)
            close(fd);
        return false;
    }
    for (struct dirent *entry; go_on && (entry = readdir(dir));)
        go_on = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || fn(arg, dirfd(dir), entry->d_name);
    closedir(dir);
    return go_on;
}

static bool only_ours(void *arg, int dir, const char *name)
{
    (void)dir;
    return belongs(name) || err_set(arg, ERR_CONFIG, "backup", "the folder holds \"%.100s\", so it is neither empty nor a backup; choose another one", name);
}

/* Existing or new, empty or a backup. */
static bool open_target(struct place *p, const char *path, struct err *e)
{
    return place_make(p, path, e) && each_name(p->fd, path, only_ours, e, e) && lock_backup(p, O_RDWR | O_CREAT, LOCK_EX, e)
        && (mkdirat(p->fd, "blobs", 0700) == 0 || errno == EEXIST || err_sys(e, path, "make blobs/ in"))
        && open_blobs(p, e) && store_fan_out(p->blobs_fd, path, e);
}

/* The copy of the database, under a temporary name; checked, so that a damaged one never takes a good one's place. */
static struct snapshot *copy_database(const struct place *data, const struct place *to, const char *path, struct err *e)
{
    char *from = NULL;
    if (asprintf(&from, "%s/repquant.db", data->path) < 0) {
        err_sys(e, data->path, "read");
        return NULL;
    }
    unlinkat(to->fd, "new.db", 0);
    struct snapshot *live = snapshot_open(from, e);
    bool ok = live && snapshot_save(live, path, e);
    snapshot_close(live);
    free(from);
    struct snapshot *copy = ok ? snapshot_open(path, e) : NULL;
    if (copy && snapshot_check(copy, e))
        return copy;
    snapshot_close(copy);
    return NULL;
}

/* Names the database by its digest. */
static bool name_database(const struct place *to, char ret_digest[HASH_TEXT_SIZE], uint64_t *ret_size, struct err *e)
{
    struct copying c = { .file = NEWFILE_NONE };
    uint8_t digest[HASH_SIZE];
    char name[DB_NAME_SIZE];
    hash_init(&c.hash);
    int fd = openat(to->fd, "new.db", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = fd >= 0 && blob_each_piece(fd, hash_piece, &c, e) && fchmod(fd, 0400) == 0 && sys.fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return err_sys(e, to->path, "read the database's copy in");
    hash_end(&c.hash, digest);
    hash_text(digest, ret_digest);
    *ret_size = c.size;
    snprintf(name, sizeof name, "%s.db", ret_digest + strlen("sha256:"));
    return (sys.renameat(to->fd, "new.db", to->fd, name) == 0 && sys.fsync(to->fd) == 0) || err_sys(e, to->path, "name the database in");
}

static bool write_manifest(const struct place *to, const char *version, const char *digest, uint64_t size, const struct backup_sum *sum,
                           struct err *e)
{
    char at[CLOCK_RFC3339_SIZE];
    json_t *m = json_pack("{s:s, s:s, s:s, s:{s:s, s:I}, s:{s:I, s:I}}", "format", FORMAT, "made_at", clock_rfc3339(clock_now_us(), at),
                          "version", version, "database", "digest", digest, "bytes", (json_int_t)size,
                          "blobs", "count", (json_int_t)sum->blobs, "bytes", (json_int_t)sum->bytes);
    char *text = m ? json_text(m, JSON_INDENT(1)) : NULL;
    json_decref(m);
    bool ok = text ? io_save(to->path, "manifest.json", text, strlen(text), e) : err_set(e, ERR_MEMORY, "manifest.json", "no memory for it");
    free(text);
    return ok;
}

struct pruning {
    struct snapshot *keep;
    char db[DB_NAME_SIZE];
};

static bool prune_database(void *arg, int dir, const char *name)
{
    struct pruning *p = arg;
    if (is_temporary(name) || (is_db_name(name) && strcmp(name, p->db) != 0))
        unlinkat(dir, name, 0);
    return true;
}

static bool prune_blob(void *arg, int dir, const char *name)
{
    char digest[HASH_TEXT_SIZE];
    snprintf(digest, sizeof digest, "sha256:%.64s", name);
    if (!snapshot_names(((struct pruning *)arg)->keep, digest))
        unlinkat(dir, name, 0);
    return true;
}

/* Removes what only earlier backups needed; what cannot be removed is in nobody's way. */
static void prune(const struct place *to, struct snapshot *keep, const char *digest)
{
    struct pruning p = { .keep = keep };
    snprintf(p.db, sizeof p.db, "%s.db", digest + strlen("sha256:"));
    each_name(to->fd, to->path, prune_database, &p, NULL);
    for (int i = 0; i < 256; i++) {
        char name[3];
        snprintf(name, sizeof name, "%02x", i);
        int fd = openat(to->blobs_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        each_name(fd, name, prune_blob, &p, NULL);
        close(fd);
    }
}

/* For /metrics: when a backup was last complete. */
static void note_success(const struct place *data)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)(clock_now_us() / 1000000));
    if (pwrite(data->lock_fd, text, (size_t)n, 0) != n)
        return;                         /* the backup is complete all the same */
}

bool backup_make(const char *data, const char *to, const char *version, struct backup_sum *ret, struct err *e)
{
    struct place from = PLACE_NONE, target = PLACE_NONE;
    struct snapshot *copy = NULL;
    char *path = NULL, digest[HASH_TEXT_SIZE];
    uint64_t size;
    *ret = (struct backup_sum){ 0 };
    bool ok = hold_data(&from, data, e) && open_target(&target, to, e)
           && (asprintf(&path, "%s/new.db", to) >= 0 || (path = NULL, err_sys(e, to, "name a file in")))
           && (copy = copy_database(&from, &target, path, e)) != NULL && copy_blobs(copy, &from, &target, ret, e)
           && name_database(&target, digest, &size, e) && write_manifest(&target, version, digest, size, ret, e);
    if (ok) {
        prune(&target, copy, digest);
        note_success(&from);
    }
    snapshot_close(copy);
    free(path);
    place_close(&target);
    place_close(&from);
    return ok;
}

/* ---- reading one ---- */

struct manifest {
    char digest[HASH_TEXT_SIZE], db[DB_NAME_SIZE];
    uint64_t size;
};

static bool take_manifest(const json_t *json, struct manifest *ret, struct err *e)
{
    const char *format, *digest;
    int64_t size;
    uint8_t hash[HASH_SIZE];
    const json_t *database = json_object_get(json, "database");
    if (!json_get_str(json, "format", "/format", false, 64, &format, ERR_IO, e))
        return false;
    if (strcmp(format, FORMAT) != 0)
        return err_set(e, ERR_CONFIG, "/format", "it is \"%.40s\", this program knows " FORMAT "; use a newer repquantd", format);
    if (!json_get_str(database, "digest", "/database/digest", false, HASH_TEXT_SIZE, &digest, ERR_IO, e)
        || !json_get_int(database, "bytes", "/database/bytes", false, 0, INT64_MAX, &size, ERR_IO, e))
        return false;
    if (!hash_parse(digest, hash))
        return err_set(e, ERR_IO, "/database/digest", "this is no digest");
    *ret = (struct manifest){ .size = (uint64_t)size };
    snprintf(ret->digest, sizeof ret->digest, "%s", digest);
    snprintf(ret->db, sizeof ret->db, "%s.db", digest + strlen("sha256:"));
    return true;
}

static bool read_manifest(const struct place *p, struct manifest *ret, struct err *e)
{
    char *text = NULL;
    size_t n;
    int fd = openat(p->fd, "manifest.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? err_set(e, ERR_CONFIG, p->path, "there is no manifest.json in it, so it is no backup, or one that was never finished")
                               : err_sys(e, p->path, "open manifest.json in");
    struct err why = { 0 };
    bool ok = io_read_all(fd, "manifest.json", MANIFEST_MAX, &text, &n, &why);
    close(fd);
    json_t *json = ok ? json_parse(text, n, 8, ERR_IO, &why) : NULL;
    ok = json && take_manifest(json, ret, &why);
    json_decref(json);
    free(text);
    return ok || err_set(e, why.code, "manifest.json", "%s%s%s", why.where, *why.where ? ": " : "", why.text);
}

static struct snapshot *open_inside(const struct place *p, const char *name, struct err *e)
{
    char *path = NULL;
    struct snapshot *s = asprintf(&path, "%s/%s", p->path, name) >= 0 ? snapshot_open(path, e) : (path = NULL, err_sys(e, p->path, "open"), NULL);
    free(path);
    return s;
}

/* A backup whose database is what its manifest says. */
static struct snapshot *open_backup(struct place *p, struct manifest *m, struct err *e)
{
    bool ok = read_manifest(p, m, e) && lock_backup(p, O_RDONLY, LOCK_SH, e) && open_blobs(p, e)
           && verify_file(p->fd, m->db, m->digest, m->size, e);
    return ok ? open_inside(p, m->db, e) : NULL;
}

static bool verify_blobs(struct snapshot *s, const struct place *p, backup_tell_fn *tell, void *arg, struct backup_sum *sum, struct err *e)
{
    char digest[HASH_TEXT_SIZE], path[BLOB_PATH_SIZE];
    struct err why = { 0 }, first = { 0 };
    uint64_t size;
    while (snapshot_next_blob(s, digest, &size, &why)) {
        struct err damage = { 0 };
        sum->blobs++;
        sum->bytes += size;
        bool ok = blob_path(digest, path) ? verify_file(p->blobs_fd, path, digest, size, &damage)
                                          : err_set(&damage, ERR_IO, "database", "it names a blob \"%.80s\", which is no digest", digest);
        if (ok)
            continue;
        tell(arg, &damage);
        if (!first.code)
            first = damage;
    }
    return err_clean(&why, e) && err_clean(&first, e);
}

bool backup_verify(const char *folder, backup_tell_fn *tell, void *arg, struct backup_sum *ret, struct err *e)
{
    struct place p = PLACE_NONE;
    struct manifest m;
    struct snapshot *s = NULL;
    struct err damage = { 0 };
    *ret = (struct backup_sum){ 0 };
    bool ok = place_open(&p, folder, e);
    bool live = ok && has(&p, "repquant.db");
    if (live) {
        place_close(&p);
        ok = hold_data(&p, folder, e) && (s = open_inside(&p, "repquant.db", e)) != NULL;
    } else {
        ok = ok && (s = open_backup(&p, &m, e)) != NULL;
    }
    if (ok && !snapshot_check(s, &damage)) {
        tell(arg, &damage);
        ok = err_clean(&damage, e);
    }
    ok = ok && verify_blobs(s, &p, tell, arg, ret, e);
    snapshot_close(s);
    place_close(&p);
    return ok;
}

static bool nothing_but_lost(void *arg, int dir, const char *name)
{
    (void)dir;
    return strcmp(name, "lost+found") == 0 || err_set(arg, ERR_CONFLICT, "data", "the folder holds \"%.100s\"; restore into an empty one", name);
}

bool backup_restore(const char *from, const char *data, struct backup_sum *ret, struct err *e)
{
    struct place source = PLACE_NONE, target = PLACE_NONE;
    struct manifest m;
    struct snapshot *s = NULL;
    *ret = (struct backup_sum){ 0 };
    bool ok = place_open(&source, from, e) && (s = open_backup(&source, &m, e)) != NULL && snapshot_check(s, e)
           && place_make(&target, data, e) && each_name(target.fd, data, nothing_but_lost, e, e)
           && lock_backup(&target, O_RDWR | O_CREAT, LOCK_EX, e)       /* the daemon's own: none starts in between */
           && (mkdirat(target.fd, "blobs", 0700) == 0 || err_sys(e, data, "make blobs/ in"))
           && open_blobs(&target, e) && store_fan_out(target.blobs_fd, data, e)
           && copy_blobs(s, &source, &target, ret, e)
           && copy_file(source.fd, m.db, m.digest, m.size, data, "repquant.db", 0600, e);
    snapshot_close(s);
    place_close(&target);
    place_close(&source);
    return ok;
}
