/*
 * upload.c - the rows and files of uploads in parts.
 *
 * The bytes lie in blobs/<id> until the last one has come; then the file gets its digest as a second name, the rows of the blob
 * and the end of the upload are one transaction, and only then its first name goes.  So a crash anywhere leaves an
 * upload that can be finished, or a blob.
 *
 * LOCKING  store->parts_mu guards who writes to what; a part's own lock its bytes, so that a write and a takeover do not meet.
 * parts_mu is taken first.  A part stays in the list until its row is committed: `settling` tells that nobody
 * can take it any more, only wait.
 */
#include "storage/upload.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool taken_away(struct err *e)
{
    return err_set(e, ERR_CONFLICT, "id", "another request has taken this upload over; ask for its offset with HEAD");
}

/* ---- who writes to what ---- */

static struct upload_part **find_part(struct store *s, const char *id)
{
    struct upload_part **at = &s->parts;
    while (*at && strcmp((*at)->state.id, id) != 0)
        at = &(*at)->next;
    return at;
}

/* False: somebody else writes to it. */
static bool enter(struct upload_part *p)
{
    pthread_mutex_lock(&p->store->parts_mu);
    bool free_to_use = !*find_part(p->store, p->state.id);
    if (free_to_use) {
        p->next = p->store->parts;
        p->store->parts = p;
    }
    pthread_mutex_unlock(&p->store->parts_mu);
    return free_to_use;
}

static void leave(struct upload_part *p)
{
    struct store *s = p->store;
    pthread_mutex_lock(&s->parts_mu);
    struct upload_part **at = find_part(s, p->state.id);
    if (*at == p) {
        *at = p->next;
        pthread_cond_broadcast(&s->parts_changed);
    }
    pthread_mutex_unlock(&s->parts_mu);
    spool_end(&p->state.spool);
    if (p->state.fd >= 0)
        close(p->state.fd);
    hold_end(&p->hold);
    pthread_mutex_destroy(&p->mu);
    p->store = NULL;
}

/* From here on the part cannot be taken over.  False: it has been. */
static bool settle(struct upload_part *p)
{
    pthread_mutex_lock(&p->store->parts_mu);
    bool mine = !p->stolen;
    p->settling = mine;
    pthread_mutex_unlock(&p->store->parts_mu);
    return mine;
}

static void settled(struct upload_part *p)
{
    pthread_mutex_lock(&p->store->parts_mu);
    p->settling = false;
    pthread_cond_broadcast(&p->store->parts_changed);
    pthread_mutex_unlock(&p->store->parts_mu);
}

static void open_part(struct upload_part *p, struct store *s)
{
    *p = (struct upload_part){ .store = s, .state = { .fd = -1, .spool = SPOOL_NONE } };
    pthread_mutex_init(&p->mu, NULL);
}

/*
 * When it returns, nobody writes to the upload.  A part that was open is taken over into *mine, which must then be settled;
 * false: there was none.  An import is ours and is left alone, unless `imports`.
 */
static bool take_over(struct store *s, const char *team, const char *id, bool imports, struct upload_part *mine)
{
    bool taken = false;
    pthread_mutex_lock(&s->parts_mu);
    for (struct upload_part **at; !taken && *(at = find_part(s, id)) && strcmp((*at)->state.team, team) == 0;) {
        struct upload_part *p = *at;
        if (p->state.source[0] && !imports)
            break;
        if (p->settling) {
            pthread_cond_wait(&s->parts_changed, &s->parts_mu);
            continue;
        }
        open_part(mine, s);
        pthread_mutex_lock(&p->mu);             /* a write that is under way ends first */
        spool_rest(&p->state.spool);
        mine->state = p->state;
        p->state.fd = -1;
        p->state.spool = SPOOL_NONE;
        p->stolen = true;
        pthread_mutex_unlock(&p->mu);
        mine->next = p->next;
        mine->settling = taken = true;
        *at = mine;
    }
    pthread_mutex_unlock(&s->parts_mu);
    return taken;
}

bool upload_is_written(struct store *s, const char *id)
{
    pthread_mutex_lock(&s->parts_mu);
    bool is = *find_part(s, id);
    pthread_mutex_unlock(&s->parts_mu);
    return is;
}

/* ---- beginning ---- */

bool upload_begin(struct upload_part *p, struct store *s, const char *team, const struct upload_wish *w, struct err *e)
{
    open_part(p, s);
    struct upload_state *st = &p->state;
    st->fresh = true;
    st->length = w->length;
    id_new("upl", st->id);
    snprintf(st->team, sizeof st->team, "%s", team);
    snprintf(st->want, sizeof st->want, "%s", w->want ? w->want : "");
    snprintf(st->metadata, sizeof st->metadata, "%s", w->metadata ? w->metadata : "");
    snprintf(st->source, sizeof st->source, "%s", w->source ? w->source : "");
    bool ok = hold_upload(&p->hold, s, team, st->id, e);
    if (ok) {
        st->fd = openat(s->blobs_fd, st->id, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        ok = st->fd >= 0 || err_sys(e, "upload", "create the file");
        spool_begin(&st->spool, s->spooler, st->fd, 0, NULL);
    }
    ok = ok && (w->length < 0 || upload_set_length(p, (uint64_t)w->length, e));
    if (ok && enter(p))
        return true;
    unlinkat(s->blobs_fd, st->id, 0);
    leave(p);
    return false;
}

static bool go_on(struct upload_part *p, struct store *s, const char *team, const char *id, uint64_t offset, bool import, struct err *e)
{
    struct upload u;
    char hash[HASH_STATE_SIZE];
    open_part(p, s);
    struct upload_state *st = &p->state;
    snprintf(st->id, sizeof st->id, "%s", id);
    snprintf(st->team, sizeof st->team, "%s", team);
    if (!upload_row_get(s, team, id, &u, hash, st->want, e)) {            /* before anything that could tell of another team's */
        leave(p);
        return false;
    }
    memcpy(st->source, u.source, sizeof st->source);
    upload_release(&u);
    if (!st->source[0] != !import) {
        leave(p);
        return err_set(e, ERR_CONFLICT, "id", "the bytes of an import come from its URL alone; begin an upload of your own");
    }
    p->settling = true;                                             /* until it is whole nobody may take it over */
    bool mine = enter(p);
    if (!mine)
        err_set(e, ERR_UPLOAD_BUSY, "id", "another request is writing to this upload; ask for its offset with HEAD, then go on from there");
    /* Again, now that nobody else can move it. */
    bool ok = mine && upload_row_get(s, team, id, &u, hash, st->want, e);
    if (ok) {
        st->start = st->at = u.offset;
        st->length = u.length;
        st->taken = u.length < 0 ? u.offset : (uint64_t)u.length;
        if (u.digest[0] || u.problem)
            ok = err_set(e, ERR_UPLOAD_OFFSET, "Upload-Offset", "the upload is over; its offset is %llu", (unsigned long long)u.offset);
        else if (offset != u.offset)
            ok = err_set(e, ERR_UPLOAD_OFFSET, "Upload-Offset", "the upload stands at %llu; go on from there", (unsigned long long)u.offset);
        upload_release(&u);
    }
    ok = ok && upload_file_open(p, hash, e);
    if (ok)
        settled(p);
    else
        leave(p);
    return ok;
}

bool upload_resume(struct upload_part *p, struct store *s, const char *team, const char *id, uint64_t offset, struct err *e)
{
    return go_on(p, s, team, id, offset, false, e);
}

bool upload_resume_import(struct upload_part *p, struct store *s, const char *team, const char *id, struct err *e)
{
    return go_on(p, s, team, id, 0, true, e);
}

static bool expect(struct upload_state *st, const char *checksum, struct err *e)
{
    size_t n = strcspn(checksum, " ");
    if (!checksum_init(&st->sum, checksum, n))
        return err_set(e, ERR_REQUEST_INVALID, "Upload-Checksum", "the checksum must be one of: " CHECKSUM_NAMES);
    const char *value = checksum + n + (checksum[n] == ' ');
    st->wanted_n = base64_decode(value, strlen(value), st->wanted, sizeof st->wanted);
    if (!st->wanted_n)
        return err_set(e, ERR_REQUEST_INVALID, "Upload-Checksum", "send the algorithm, a space and the checksum in base64");
    st->summed = true;
    return true;
}

bool upload_expect(struct upload_part *p, const char *checksum, struct err *e)
{
    pthread_mutex_lock(&p->mu);
    bool ok = expect(&p->state, checksum, e);
    pthread_mutex_unlock(&p->mu);
    return ok;
}

static bool set_length(struct upload_part *p, uint64_t length, struct err *e)
{
    struct upload_state *st = &p->state;
    if (st->fd < 0)
        return taken_away(e);
    if (length < st->at || length > INT64_MAX)
        return err_set(e, ERR_UPLOAD_INCOMPLETE, "Upload-Length", "%llu bytes have arrived of %llu", (unsigned long long)st->at,
                       (unsigned long long)length);
    uint64_t held = length;
    if ((length > st->taken || st->fresh) && !hold_bytes(&p->hold, p->store, st->team, length, &held, e))
        return false;
    if (length > st->taken) {
        if (!disk_take(p->store, st->fd, st->taken, length - st->taken, e))
            return false;
        st->taken = length;
    }
    st->length = (int64_t)length;
    return true;
}

bool upload_set_length(struct upload_part *p, uint64_t length, struct err *e)
{
    pthread_mutex_lock(&p->mu);
    bool ok = set_length(p, length, e);
    pthread_mutex_unlock(&p->mu);
    return ok;
}

/* ---- writing ---- */

static bool add_bytes(struct upload_part *p, const void *data, size_t n, struct err *e)
{
    struct upload_state *st = &p->state;
    if (st->fd < 0)
        return taken_away(e);
    if (st->length >= 0 && n > (uint64_t)st->length - st->at)
        return err_set(e, ERR_REQUEST_TOO_LARGE, "body", "the upload has %lld bytes, more are sent", (long long)st->length);
    if (st->at + n > st->taken) {
        enum { STEP = 16 << 20 };
        uint64_t more = st->at + n + STEP;
        if (!hold_bytes(&p->hold, p->store, st->team, st->at + n, &more, e) || !disk_take(p->store, st->fd, st->taken, more - st->taken, e))
            return false;
        st->taken = more;
    }
    if (!spool_add(&st->spool, data, n, e))
        return false;
    if (st->summed)
        checksum_add(&st->sum, data, n);
    st->at += n;
    return true;
}

bool upload_write(struct upload_part *p, const void *data, size_t n, struct err *e)
{
    pthread_mutex_lock(&p->mu);
    bool ok = add_bytes(p, data, n, e);
    pthread_mutex_unlock(&p->mu);
    return ok;
}

/* ---- ending ---- */

static bool write_row(struct store *s, const struct upload_state *st, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, st->fresh ? upload_row_insert(s, c, st, "", e) : upload_row_update(s, c, st, e), e);
}

/* The part never was. */
static void forget_part(struct store *s, struct upload_state *st)
{
    spool_end(&st->spool);
    if (st->fresh)
        unlinkat(s->blobs_fd, st->id, 0);
    else if (ftruncate(st->fd, (off_t)st->start) == 0 && st->length > (int64_t)st->start)   /* which gave its space back */
        (void)fallocate(st->fd, FALLOC_FL_KEEP_SIZE, (off_t)st->start, (off_t)(st->length - (int64_t)st->start));
}

/* Bytes first, then the row that counts them. */
static bool keep_part(struct store *s, struct upload_state *st, struct err *e)
{
    if (!st->fresh && st->at == st->start)
        return true;
    if (!spool_flush(&st->spool, e))
        return false;
    if (st->at > 0 && !io_sync(st->fd))       /* an upload that only begins has a name to sync, no bytes */
        return err_sys(e, "upload", "sync");
    if (st->fresh && !io_sync(s->blobs_fd))
        return err_sys(e, "blobs", "sync the folder");
    return write_row(s, st, e);
}

/* Gives the file its digest as a second name, over what may be there: the same bytes, or old ones that have rotted. */
static bool name_bytes(struct store *s, const struct upload_state *st, const char *path, struct err *e)
{
    char other[ID_SIZE + 8];
    snprintf(other, sizeof other, "new.%s", st->id);
    bool ok = fchmod(st->fd, 0400) == 0 && linkat(s->blobs_fd, st->id, s->blobs_fd, other, 0) == 0
           && sys.renameat(s->blobs_fd, other, s->blobs_fd, path) == 0;
    if (!ok) {
        err_sys(e, "upload", "name the file");
        unlinkat(s->blobs_fd, other, 0);
    }
    return ok && blob_sync_folder(s, path, e);
}

static bool publish(struct upload_part *p, struct blob *b, struct err *e)
{
    struct store *s = p->store;
    const struct upload_state *st = &p->state;
    char path[BLOB_PATH_SIZE];
    blob_path(b->digest, path);
    if (!upload_file_seal(st, e))
        return false;
    hold_blob(&p->hold, b->digest);
    pthread_mutex_lock(&s->publish_mu);
    bool ok = name_bytes(s, st, path, e), counted = !st->fresh && !st->source[0];     /* since it began: see upload_row_insert() */
    struct err why = { 0 };
    struct conn *c = ok ? db_write(s->db, &why) : NULL;
    ok = c && db_write_end(c, blob_add_rows(c, st->team, counted, b, &why) && upload_row_end(s, c, st, b->digest, &why), &why);
    blob_withdraw(s, path, &why);
    pthread_mutex_unlock(&s->publish_mu);
    if (ok)
        unlinkat(s->blobs_fd, st->id, 0);
    return ok || (why.code && err_clean(&why, e));
}

/* All bytes are there.  Wrong ones are thrown away with the upload: sending the rest again would not help. */
static bool finish(struct upload_part *p, struct err *e)
{
    struct store *s = p->store;
    struct upload_state *st = &p->state;
    uint8_t digest[HASH_SIZE];
    struct blob b = { .size = st->at };
    bool was;
    if (!spool_flush(&st->spool, e))
        return false;
    hash_end(&st->spool.hash, digest);
    hash_text(digest, b.digest);
    if (!st->want[0] || strcmp(st->want, b.digest) == 0)
        return publish(p, &b, e);
    audit_expect_failure(ERR_UPLOAD_DIGEST);
    if (!st->fresh && !st->source[0])       /* who watches an import wants to see why */
        upload_row_delete(s, st->team, st->id, &was, NULL);
    unlinkat(s->blobs_fd, st->id, 0);
    return err_set(e, ERR_UPLOAD_DIGEST, "digest", "the %llu bytes received have %s; upload them again", (unsigned long long)b.size, b.digest);
}

static bool sum_is_right(struct upload_state *st, struct err *e)
{
    uint8_t got[HASH_SIZE];
    if (!st->summed)
        return true;
    size_t n = checksum_end(&st->sum, got);
    return (n == st->wanted_n && memcmp(got, st->wanted, n) == 0)
        || err_set(e, ERR_UPLOAD_CHECKSUM, "Upload-Checksum", "the bytes have another checksum; send them again from offset %llu",
                   (unsigned long long)st->start);
}

static bool end_part(struct upload_part *p, struct err *e)
{
    struct store *s = p->store;
    struct upload_state *st = &p->state;
    if (!sum_is_right(st, e)) {
        forget_part(s, st);
        return false;
    }
    bool complete = st->length >= 0 && st->at == (uint64_t)st->length;
    if (complete ? finish(p, e) : keep_part(s, st, e))
        return true;
    if (st->fresh)
        unlinkat(s->blobs_fd, st->id, 0);
    return false;
}

bool upload_end(struct upload_part *p, struct upload *ret, struct err *e)
{
    char id[ID_SIZE], team[TEAM_SIZE];
    struct store *s = p->store;
    memcpy(id, p->state.id, sizeof id);
    memcpy(team, p->state.team, sizeof team);
    bool ok = settle(p) ? end_part(p, e)
                        : taken_away(e);
    leave(p);
    return ok && upload_row_get(s, team, id, ret, NULL, NULL, e);
}

/* A connection broke: what came of an ordinary part is kept; of one with a checksum nobody knows whether it is right. */
static void keep_rest(struct store *s, struct upload_state *st)
{
    if (st->fresh || st->summed)
        forget_part(s, st);
    else
        keep_part(s, st, NULL);
}

void upload_abandon(struct upload_part *p)
{
    if (!p->store)
        return;
    if (settle(p))
        keep_rest(p->store, &p->state);
    leave(p);
}

/* ---- looking ---- */

static void interrupt(struct store *s, const char *team, const char *id, bool imports)
{
    struct upload_part mine;
    if (!take_over(s, team, id, imports, &mine))
        return;
    keep_rest(s, &mine.state);
    leave(&mine);
}

/* How far an import has come; durable is only its end. */
static void see_progress(struct store *s, struct upload *u)
{
    pthread_mutex_lock(&s->parts_mu);
    struct upload_part *p = *find_part(s, u->id);
    if (p && !p->settling) {
        pthread_mutex_lock(&p->mu);
        u->offset = p->state.at;
        u->length = p->state.length;
        pthread_mutex_unlock(&p->mu);
    }
    pthread_mutex_unlock(&s->parts_mu);
}

bool upload_get(struct store *s, const char *team, const char *id, struct upload *ret, struct err *e)
{
    interrupt(s, team, id, false);
    if (!upload_row_get(s, team, id, ret, NULL, NULL, e))
        return false;
    if (ret->source[0])
        see_progress(s, ret);
    return true;
}

bool upload_delete(struct store *s, const char *team, const char *id, struct err *e)
{
    struct upload u;
    bool was;
    if (!upload_row_get(s, team, id, &u, NULL, NULL, e))
        return false;
    upload_release(&u);
    interrupt(s, team, id, true);
    if (!upload_row_delete(s, team, id, &was, e))
        return false;
    if (!was)
        return upload_none(id, e);
    unlinkat(s->blobs_fd, u.id, 0);
    return true;
}
