#include "storage/scrub.h"

#include "core/base/clock.h"
#include "core/base/metric.h"
#include "storage/inner.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A row is written once in RENEW_US or for SCRUB_BATCH blobs; what a kill forgets is looked at again. */
static const int64_t TURN_US = 100 * 1000, RENEW_US = 600LL * 1000000, LATE_US = 60LL * 1000000;
enum { PIECE = 64 << 10, LEAST_QUOTA = 8 << 20, COST = 4096 /* of a blob, beside its bytes */ };

/* ---- the mark ---- */

static bool is_still(struct store *s, const char *digest, int fd)
{
    struct stat now, read;
    char path[BLOB_PATH_SIZE];
    bool there = blob_path(digest, path) && fstatat(s->blobs_fd, path, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if (fd < 0)
        return !there && errno == ENOENT;
    return there && fstat(fd, &read) == 0 && now.st_dev == read.st_dev && now.st_ino == read.st_ino;    /* nobody gets the number while fd is open */
}

/* Whether the row said something else before; what could not be written is true all the same. */
static bool write_mark(struct store *s, const char *digest, bool corrupt)
{
    int64_t now = clock_now_us();
    struct conn *c = db_write(s->db, NULL);
    if (!c)
        return true;
    struct stmt *q = stmt_begin(c, SQL_BLOB_MARK);
    stmt_text(q, 1, digest);
    stmt_int(q, 2, corrupt ? now : 0);
    stmt_int(q, 3, now);
    bool ok = stmt_run(q, NULL), same = ok && stmt_changed(q) == 0;
    stmt_end(q);
    (void)db_write_end(c, ok, NULL);
    return !same;
}

bool blob_mark(struct store *s, const char *digest, int fd, bool corrupt)
{
    struct audit_scope *request = audit_enter(NULL);        /* which has not asked for this change */
    pthread_mutex_lock(&s->publish_mu);
    bool news = is_still(s, digest, fd) && write_mark(s, digest, corrupt);
    pthread_mutex_unlock(&s->publish_mu);
    audit_enter(request);
    metric_add(METRIC_ROTTED, news && corrupt);
    return news;
}

bool scrub_count(struct store *s, int64_t *ret, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_BLOB_CORRUPT);
    if (stmt_row(q, &why))
        *ret = stmt_get_int(q, 0);
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

/* ---- a batch ---- */

static bool save(struct scrub *s, struct err *e)
{
    int64_t now = clock_now_us();
    struct conn *c = s->next ? db_write(s->store->db, e) : NULL;
    bool ok = true;
    if (!c)
        return !s->next;
    for (int i = 0; ok && i < s->next; i++) {
        struct stmt *q = stmt_begin(c, SQL_BLOB_CHECKED);
        stmt_text(q, 1, s->blobs[i].digest);
        stmt_int(q, 2, now);
        ok = stmt_run(q, e);
        stmt_end(q);
    }
    return db_write_end(c, ok, e);
}

static bool load(struct scrub *s, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->store->db);
    struct stmt *q = stmt_begin(c, SQL_BLOB_TOTAL);
    double total = stmt_row(q, &why) ? (double)stmt_get_int(q, 0) * COST + (double)stmt_get_int(q, 1) : 0;
    stmt_end(q);
    s->rate = total / (double)s->period_us;
    if (s->debt > total)
        s->debt = total;            /* of a store that was larger */
    q = stmt_begin(c, SQL_BLOB_OLDEST);
    stmt_int(q, 1, SCRUB_BATCH);
    while (s->n < SCRUB_BATCH && stmt_row(q, &why)) {
        stmt_get_text(q, 0, s->blobs[s->n].digest, sizeof s->blobs[s->n].digest);
        s->blobs[s->n++].corrupt = stmt_get_int(q, 1) != 0;
    }
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

/* With the next batch comes how much there is to read by now. */
static bool renew(struct scrub *s, int64_t now, struct err *e)
{
    bool ok = save(s, e);
    s->n = s->next = 0;
    s->loaded_at = now;
    return ok && load(s, e);
}

/* ---- one blob ---- */

/* What was found is new, else nobody needs to hear of it once more. */
static bool found(struct scrub *s, const char *how, struct err *e)
{
    int i = s->next++, fd = s->fd;
    bool news = (how || s->blobs[i].corrupt) && blob_mark(s->store, s->blobs[i].digest, fd, how != NULL);
    if (fd >= 0)
        close(fd);
    s->fd = -1;
    return !how || !news || blob_rotted(s->blobs[i].digest, how, e);
}

static bool failed(struct scrub *s, struct err *e)
{
    int i = s->next++;
    err_sys(e, s->blobs[i].digest, "read what is stored");
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    return false;
}

static bool open_next(struct scrub *s, struct err *e)
{
    s->debt += COST;
    s->fd = blob_file(s->store, s->blobs[s->next].digest);
    if (s->fd < 0)
        return errno == ENOENT ? found(s, "are gone", e) : failed(s, e);
    (void)posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);      /* what is on the disk is of interest, not what memory holds */
    s->at = 0;
    hash_init(&s->hash);
    return true;
}

static bool read_piece(struct scrub *s, struct err *e)
{
    char piece[PIECE];
    uint8_t got[HASH_SIZE];
    ssize_t n = pread(s->fd, piece, sizeof piece, s->at);
    if (n < 0)
        return failed(s, e);
    hash_add(&s->hash, piece, (size_t)n);
    if (n > 0) {
        (void)posix_fadvise(s->fd, s->at, n, POSIX_FADV_DONTNEED);
        s->at += n;
        s->debt += (double)n;
        return true;
    }
    hash_end(&s->hash, got);
    return found(s, hash_is(got, s->blobs[s->next].digest) ? NULL : "have changed", e);
}

/* ---- its turns ---- */

void scrub_begin(struct scrub *s, struct store *store, int64_t period_us)
{
    *s = (struct scrub){ .store = store, .period_us = period_us, .turned_at = clock_mono_us(), .loaded_at = -RENEW_US, .fd = -1 };
}

/* One step; false: there is nothing to do now, or *e says what came up. */
static bool step(struct scrub *s, int64_t now, struct err *e)
{
    if (s->fd >= 0)
        return read_piece(s, e);
    bool due = s->debt <= 0, empty = s->next == s->n;
    if (now - s->loaded_at > RENEW_US || (empty && due && s->n))
        return renew(s, now, e) && s->n;
    return due && !empty && open_next(s, e);
}

bool scrub_turn(struct scrub *s, struct err *e)
{
    struct err why = { 0 };
    int64_t now = clock_mono_us(), end = now + TURN_US;
    double passed = (double)(now - s->turned_at) * s->rate;
    if (!s->period_us)
        return true;
    s->turned_at = now;
    s->debt -= passed;
    if (s->debt < -s->rate * (double)LATE_US)
        s->debt = -s->rate * (double)LATE_US;           /* what lies longer behind was not time to read in */
    double stop = s->debt + (passed > LEAST_QUOTA ? passed : LEAST_QUOTA);
    while (s->debt < stop && now < end && step(s, now, &why))
        now = clock_mono_us();
    return err_clean(&why, e);
}

void scrub_end(struct scrub *s)
{
    if (!s->store)
        return;
    if (s->fd >= 0)
        close(s->fd);
    (void)save(s, NULL);
    *s = (struct scrub){ .fd = -1 };
}
