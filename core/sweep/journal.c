#include "core/sweep/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char magic[8] = { 'R', 'Q', 'J', 'O', 'U', 'R', 'N', '2' };

struct head { uint32_t type, index; uint64_t size; };
enum { FILE_HEAD = sizeof magic + HASH_SIZE, MIN_RECORD = sizeof(struct head) + HASH_SIZE };

/* Hands out whole records and returns where they end. */
static bool replay_all(const struct mapping *m, journal_fn *replay, void *arg, uint64_t *ret_end, struct err *e)
{
    uint64_t at = FILE_HEAD;
    while (m->size - at >= MIN_RECORD) {
        struct head h;
        uint8_t digest[HASH_SIZE];
        memcpy(&h, m->data + at, sizeof h);
        if (h.size > m->size - at - MIN_RECORD)
            break;
        hash_bytes(m->data + at, (size_t)(sizeof h + h.size), digest);
        if (!hash_equal(digest, m->data + at + sizeof h + h.size))
            break;
        if (!replay(arg, (enum journal_type)h.type, h.index, m->data + at + sizeof h, h.size, e))
            return false;
        at += MIN_RECORD + h.size;
    }
    *ret_end = at;
    return true;
}

static bool start_anew(int fd, const uint8_t fingerprint[HASH_SIZE], struct err *e)
{
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0 || io_write_all(fd, magic, sizeof magic) != 0
        || io_write_all(fd, fingerprint, HASH_SIZE) != 0 || sys.fsync(fd) != 0)
        return err_sys(e, "journal", "start");
    return true;
}

static bool resume(int fd, const uint8_t fingerprint[HASH_SIZE], journal_fn *replay, void *arg, struct err *e)
{
    struct mapping m;
    uint64_t end = 0;
    if (!mapping_fd(&m, fd, "journal", e))
        return false;
    bool ours = m.size >= FILE_HEAD && memcmp(m.data, magic, sizeof magic) == 0
             && memcmp(m.data + sizeof magic, fingerprint, HASH_SIZE) == 0;
    bool ok = !ours || replay_all(&m, replay, arg, &end, e);
    mapping_release(&m);
    if (!ok)
        return false;
    if (!ours)
        return start_anew(fd, fingerprint, e);
    if (ftruncate(fd, (off_t)end) != 0 || lseek(fd, (off_t)end, SEEK_SET) < 0)
        return err_sys(e, "journal", "continue");
    return true;
}

bool journal_open(struct journal *j, const char *dir, const uint8_t fingerprint[HASH_SIZE], journal_fn *replay, void *arg,
                  struct err *e)
{
    char path[4096];
    j->fd = -1;
    if (!dir)
        return true;
    if ((size_t)snprintf(path, sizeof path, "%s/journal", dir) >= sizeof path)
        return err_set(e, ERR_NO_FILE, dir, "the folder's path is too long");
    j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        return err_sys(e, path, "open");
    if (resume(j->fd, fingerprint, replay, arg, e))
        return true;
    journal_close(j);
    return false;
}

void journal_close(struct journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
}

bool journal_append(struct journal *j, enum journal_type type, uint32_t index, const struct journal_piece *pieces, size_t count,
                    struct err *e)
{
    struct head h = { type, index, 0 };
    struct hash sum;
    uint8_t digest[HASH_SIZE];
    if (j->fd < 0)
        return true;
    for (size_t i = 0; i < count; i++)
        h.size += pieces[i].n;
    hash_init(&sum);
    hash_add(&sum, &h, sizeof h);
    bool ok = io_write_all(j->fd, &h, sizeof h) == 0;
    for (size_t i = 0; i < count; i++)
        if (pieces[i].n) {
            hash_add(&sum, pieces[i].p, pieces[i].n);
            ok = ok && io_write_all(j->fd, pieces[i].p, pieces[i].n) == 0;
        }
    hash_end(&sum, digest);
    ok = ok && io_write_all(j->fd, digest, sizeof digest) == 0;
    return ok || err_sys(e, "journal", "write");
}

bool journal_sync(struct journal *j, struct err *e)
{
    return j->fd < 0 || sys.fsync(j->fd) == 0 || err_sys(e, "journal", "sync");
}
