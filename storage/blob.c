/*
 * blob.c - the blob store.
 *
 * Order is everything: the bytes are synced before they get their name, the name is synced before the
 * row is committed, the row is deleted before the name.  publish_mu keeps the removal of a digest from
 * meeting a fresh upload of it between those steps.  A crash leaves at worst a file without a row, which
 * the next start removes.
 */
#include "storage/blob.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 256 << 10, TAKE_MIN = 1 << 20, TAKE_MAX = 64 << 20 };

bool blob_path(const char *digest, char ret[BLOB_PATH_SIZE])
{
    uint8_t bytes[HASH_SIZE];
    char hex[HASH_HEX_SIZE];
    if (!hash_parse(digest, bytes))
        return false;
    hash_hex(bytes, hex);                   /* from the bytes: what a client wrote never becomes a path */
    snprintf(ret, BLOB_PATH_SIZE, "%.2s/%s", hex, hex);
    return true;
}

/* ---- writing ---- */

bool blob_begin(struct blob_writer *w, struct store *s, const char *team, const char *digest,
                uint64_t limit, struct err *e)
{
    *w = BLOB_WRITER_NONE;
    if (digest && !hash_parse(digest, w->want))
        return err_set(e, ERR_REQUEST_INVALID, "digest", "a digest is \"sha256:\" and 64 lower-case hexadecimal digits");
    if (!newfile_open(&w->file, s->blobs, 0400, limit, e))
        return false;
    w->store = s;
    struct blob b;
    w->expected = digest != NULL;
    w->known = digest && blob_get(s, team, digest, &b, NULL);
    snprintf(w->team, sizeof w->team, "%s", team);
    spool_begin(&w->spool, s->spooler, w->file.fd, 0, NULL);
    return true;
}

/* Space for at least `need` bytes, if there is room for `bytes` of them. */
static bool take(struct blob_writer *w, uint64_t need, uint64_t bytes, struct err *e)
{
    if (bytes > w->file.limit)
        bytes = w->file.limit;
    if (need > bytes)
        need = bytes;
    if (!w->exempt && !w->known && !hold_bytes(&w->hold, w->store, w->team, need, &bytes, e))
        return false;
    if (bytes <= w->taken)
        return true;
    if (!disk_take(w->store, w->file.fd, w->taken, bytes - w->taken, e))
        return false;
    w->taken = bytes;
    return true;
}

bool blob_reserve(struct blob_writer *w, uint64_t bytes, struct err *e) { return take(w, bytes, bytes, e); }

/* A body of unknown length takes space in steps that grow with it. */
static bool reserve_more(struct blob_writer *w, size_t n, struct err *e)
{
    uint64_t step = w->file.size < TAKE_MIN ? TAKE_MIN : w->file.size < TAKE_MAX ? w->file.size : TAKE_MAX;
    return w->file.size + n <= w->taken || take(w, w->file.size + n, w->file.size + n + step, e);
}

bool blob_write(struct blob_writer *w, const void *p, size_t n, struct err *e)
{
    if (n > w->file.limit - w->file.size)
        return err_set(e, ERR_REQUEST_TOO_LARGE, "body", "more than %llu bytes; send less or raise the daemon's limit",
                       (unsigned long long)w->file.limit);
    if (!reserve_more(w, n, e) || !spool_add(&w->spool, p, n, e))
        return false;
    w->file.size += n;
    return true;
}

bool blob_sync_folder(struct store *s, const char *path, struct err *e)
{
    char folder[3] = { path[0], path[1], '\0' };
    int fd = openat(s->blobs_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && io_sync(fd);
    if (!ok)
        err_sys(e, "blobs", "sync the folder");
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool owned(struct conn *c, const char *team, const char *digest, struct blob *ret, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_BLOB_GET);
    stmt_text(s, 1, team);
    stmt_text(s, 2, digest);
    bool got = stmt_row(s, e);
    if (got) {
        ret->size = (uint64_t)stmt_get_int(s, 0);
        ret->corrupt = stmt_get_int(s, 1) != 0;
    }
    stmt_end(s);
    return got;
}

static bool own(struct conn *c, const char *team, const char *digest, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_BLOB_OWN);
    stmt_text(s, 1, team);
    stmt_text(s, 2, digest);
    stmt_int(s, 3, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

bool blob_renew(struct conn *c, const char *team, struct blob *b, struct err *e)
{
    struct err why = { 0 };
    b->existed = owned(c, team, b->digest, b, &why);
    if (!b->existed)
        return err_clean(&why, e) && err_set(e, ERR_BUSY, "digest", "the blob %.80s has just been removed; send the request again", b->digest);
    return own(c, team, b->digest, e);
}

bool blob_keep(struct store *s, const char *team, const char *digest, struct blob *ret, struct err *e)
{
    struct blob b = { 0 };
    snprintf(b.digest, sizeof b.digest, "%s", digest);
    struct conn *c = db_write(s->db, e);
    if (!c || !db_write_end(c, blob_renew(c, team, &b, e), e))
        return false;
    *ret = b;
    return true;
}

bool blob_add_rows(struct conn *c, const char *team, bool exempt, struct blob *b, struct err *e)
{
    struct blob had;
    struct err why = { 0 };
    b->existed = owned(c, team, b->digest, &had, &why);
    if (!err_clean(&why, e) || (!exempt && !b->existed && !quota_admit_bytes(c, team, b->size, e)))
        return false;
    struct stmt *s = stmt_begin(c, SQL_BLOB_INSERT);
    stmt_text(s, 1, b->digest);
    stmt_int(s, 2, (int64_t)b->size);
    stmt_int(s, 3, clock_now_us());
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok && own(c, team, b->digest, e);
}

static bool known(struct store *s, const char *hex, bool *ret, struct err *e)
{
    char digest[HASH_TEXT_SIZE];
    struct err why = { 0 };
    snprintf(digest, sizeof digest, "sha256:%.64s", hex);
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_BLOB_KNOWN);
    stmt_text(q, 1, digest);
    *ret = stmt_row(q, &why);
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

bool blob_withdraw(struct store *s, const char *path, const struct err *why)
{
    bool is_known = true;
    return why->code && !store_broken(s) && known(s, path + 3, &is_known, NULL) && !is_known && unlinkat(s->blobs_fd, path, 0) == 0;
}

static bool publish(struct blob_writer *w, struct blob *b, struct err *e)
{
    char path[BLOB_PATH_SIZE];
    struct store *s = w->store;
    blob_path(b->digest, path);
    hold_blob(&w->hold, b->digest);
    /* Space that was taken and not used goes back.  The long fsync happens before the lock; newfile_commit()'s finds nothing to do. */
    if ((w->taken > w->file.size && ftruncate(w->file.fd, (off_t)w->file.size) != 0) || !io_sync(w->file.fd))
        return err_sys(e, "upload", "sync");
    pthread_mutex_lock(&s->publish_mu);
    /* Over what may be there: the bytes are the same, or the old ones have rotted. */
    bool ok = newfile_commit(&w->file, path, e) && blob_sync_folder(s, path, e);
    struct err why = { 0 };
    struct conn *c = ok ? db_write(s->db, &why) : NULL;
    ok = c && db_write_end(c, blob_add_rows(c, w->team, w->exempt, b, &why), &why);
    blob_withdraw(s, path, &why);
    pthread_mutex_unlock(&s->publish_mu);
    return ok || (why.code && err_clean(&why, e));
}

bool blob_finish(struct blob_writer *w, struct blob *ret, struct err *e)
{
    uint8_t digest[HASH_SIZE];
    struct blob b = { .size = w->file.size };
    bool ok = spool_flush(&w->spool, e);
    hash_end(&w->spool.hash, digest);
    hash_text(digest, b.digest);
    if (ok && w->expected && !hash_equal(digest, w->want))
        ok = err_set(e, ERR_UPLOAD_DIGEST, "digest", "the %llu bytes received have %s; send them again",
                     (unsigned long long)b.size, b.digest);
    else
        ok = ok && publish(w, &b, e);
    if (ok)
        *ret = b;
    blob_abort(w);
    return ok;
}

void blob_abort(struct blob_writer *w)
{
    spool_end(&w->spool);
    newfile_abort(&w->file);
    hold_end(&w->hold);
    w->store = NULL;
}

bool blob_each_piece(int fd, bool (*use)(void *arg, const void *p, size_t n, struct err *e), void *arg, struct err *e)
{
    char *piece = malloc(PIECE);
    bool ok = piece || err_sys(e, "file", "read");
    for (off_t at = 0; ok;) {
        ssize_t n = pread(fd, piece, PIECE, at);
        if (n < 0)
            ok = err_sys(e, "file", "read");
        if (n <= 0)
            break;
        ok = use(arg, piece, (size_t)n, e);
        at += n;
    }
    free(piece);
    return ok;
}

struct copying { struct newfile *to; uint64_t left; };

static bool copy_piece(void *arg, const void *p, size_t n, struct err *e)
{
    struct copying *c = arg;
    size_t some = n < c->left ? n : (size_t)c->left;
    c->left -= some;
    return newfile_write(c->to, p, some, e);
}

bool blob_copy_pieces(int fd, uint64_t most, struct newfile *to, struct err *e)
{
    return blob_each_piece(fd, copy_piece, &(struct copying){ to, most }, e);
}

static bool write_piece(void *arg, const void *p, size_t n, struct err *e) { return blob_write(arg, p, n, e); }

bool blob_adopt(struct store *s, const char *team, int fd, uint64_t limit, struct blob *ret, struct err *e)
{
    struct blob_writer w;
    bool ok = blob_begin(&w, s, team, NULL, limit, e);
    w.taken = UINT64_MAX;               /* a job's result: it was promised its space when the job was accepted */
    w.exempt = true;
    ok = ok && blob_each_piece(fd, write_piece, &w, e) && blob_finish(&w, ret, e);
    blob_abort(&w);
    return ok;
}

/* ---- reading ---- */

bool blob_get(struct store *s, const char *team, const char *digest, struct blob *ret, struct err *e)
{
    struct err why = { 0 };
    struct blob b = { .existed = true };
    struct conn *c = db_read(s->db);
    bool got = owned(c, team, digest, &b, &why);
    db_read_end(c);
    if (!got)
        return err_clean(&why, e) && err_set(e, ERR_NOT_FOUND, "digest", "there is no blob %.80s; upload it first", digest);
    snprintf(b.digest, sizeof b.digest, "%s", digest);
    *ret = b;
    return true;
}

static bool hash_piece(void *arg, const void *p, size_t n, struct err *e)
{
    (void)e;
    hash_add(arg, p, n);
    return true;
}

bool blob_rotted(const char *digest, const char *how, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "blob", "the stored bytes of %s %s; upload them again, or run the job again that made them", digest, how);
}

/* *ret: what has become of the bytes in fd, NULL if they are right. */
static bool look(int fd, bool rehash, const struct blob *b, const char **ret, struct err *e)
{
    struct hash h;
    uint8_t got[HASH_SIZE];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_sys(e, "blob", "open");
    *ret = S_ISREG(st.st_mode) && (uint64_t)st.st_size == b->size ? NULL : "have another length";
    if (*ret || !rehash)
        return true;
    hash_init(&h);
    if (!blob_each_piece(fd, hash_piece, &h, e))
        return false;
    hash_end(&h, got);
    *ret = hash_is(got, b->digest) ? NULL : "have changed";
    return true;
}

/* Marks nothing: it is asked on threads that must not wait for a commit. */
bool blob_owned(struct store *s, const char *team, const char *digest, struct blob *ret)
{
    const char *how = NULL;
    if (!blob_get(s, team, digest, ret, NULL) || ret->corrupt)
        return false;
    int fd = blob_file(s, digest);
    bool ok = fd >= 0 && look(fd, false, ret, &how, NULL) && !how;
    if (fd >= 0)
        close(fd);
    return ok;
}

int blob_file(struct store *s, const char *digest)
{
    char path[BLOB_PATH_SIZE];
    return blob_path(digest, path) ? openat(s->blobs_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : (errno = EINVAL, -1);
}

bool blob_open(struct store *s, const char *team, const char *digest, bool rehash,
               int *ret_fd, uint64_t *ret_size, struct err *e)
{
    struct blob b;
    const char *how = NULL;
    if (!blob_get(s, team, digest, &b, e))
        return false;
    if (b.corrupt && !rehash)
        return blob_rotted(digest, "have rotted", e);
    int fd = blob_file(s, digest);
    if (fd < 0 && errno == ENOENT)
        how = "are gone";
    else if (fd < 0)
        return err_sys(e, "blob", "open");
    bool ok = how || look(fd, rehash, &b, &how, e);
    if (ok && (how || b.corrupt))
        blob_mark(s, digest, fd, how != NULL);
    if (ok && !how) {
        *ret_fd = fd;
        *ret_size = b.size;
        return true;
    }
    if (fd >= 0)
        close(fd);
    return ok && blob_rotted(digest, how, e);
}

/* ---- sweeping ---- */

static bool expire(struct store *s, int64_t before, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_BLOB_DISOWN);
    stmt_int(q, 1, before);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return db_write_end(c, ok && idempotency_expire(c, e), e);
}

/* Takes one digest that nobody owns out of the table; "" when there is none. */
static bool forget_one(struct store *s, char digest[HASH_TEXT_SIZE], struct err *e)
{
    struct conn *c = db_write(s->db, e);
    struct err why = { 0 };
    if (!c)
        return false;
    digest[0] = '\0';
    struct stmt *q = stmt_begin(c, SQL_BLOB_ORPHAN);
    bool got = stmt_row(q, &why);
    if (got)
        stmt_get_text(q, 0, digest, HASH_TEXT_SIZE);
    stmt_end(q);
    bool ok = err_clean(&why, e);
    return db_write_end(c, ok && (!got || stmt_exec(c, SQL_BLOB_DELETE, digest, NULL, e)), e);
}

bool store_sweep(struct store *s, int64_t grace_us, int *ret_removed, struct err *e)
{
    char digest[HASH_TEXT_SIZE] = "", path[BLOB_PATH_SIZE];
    *ret_removed = 0;
    bool ok = expire(s, clock_now_us() - grace_us, e);
    bool alone = flock(s->backup_fd, LOCK_EX | LOCK_NB) == 0;       /* else a backup reads: see backup.h */
    while (ok && alone) {
        pthread_mutex_lock(&s->publish_mu);         /* let go after each, so that uploads get their turn */
        ok = forget_one(s, digest, e);
        bool more = ok && blob_path(digest, path);
        if (more)
            *ret_removed += unlinkat(s->blobs_fd, path, 0) == 0;
        pthread_mutex_unlock(&s->publish_mu);
        if (!more)
            break;
    }
    if (alone)
        flock(s->backup_fd, LOCK_UN);
    ballast_make(s);
    return upload_sweep(s, e) && ok;
}

static bool sweep_folder(struct store *s, int i, int *removed, struct err *e)
{
    char name[3];
    snprintf(name, sizeof name, "%02x", i);
    int fd = openat(s->blobs_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        err_sys(e, "blobs", "read a folder");
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = true, is_known;
    for (struct dirent *entry; ok && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        ok = known(s, entry->d_name, &is_known, e);
        if (ok && !is_known)
            *removed += unlinkat(dirfd(dir), entry->d_name, 0) == 0;
    }
    closedir(dir);
    return ok;
}

bool blob_sweep_files(struct store *s, int *ret_removed, struct err *e)
{
    *ret_removed = 0;
    bool ok = true;
    pthread_mutex_lock(&s->publish_mu);
    for (int i = 0; ok && i < 256; i++)
        ok = sweep_folder(s, i, ret_removed, e);
    pthread_mutex_unlock(&s->publish_mu);
    return ok;
}

void blob_sweep_unfinished(struct store *s)
{
    DIR *dir = opendir(s->blobs);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, "new.", 4) == 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}
