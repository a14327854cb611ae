/*
 * scratch.c - folders of attempts.  The names in them are a child's, so nothing here follows a link,
 * waits for a FIFO or trusts a size it has not just asked for.
 */
#include "storage/scratch.h"

#include "core/base/io.h"
#include "storage/inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TREE_MAX_DEPTH = 32, TOKEN_TEXT = 24 };
static const uint64_t JOURNAL_MAX = 16ull << 30;

/* ---- removing ---- */

static void remove_inside(int dir, const char *name, const char *keep, int depth)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)     /* a child may have locked its own folder */
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        const char *n = entry->d_name;
        if (strcmp(n, ".") == 0 || strcmp(n, "..") == 0 || (keep && strcmp(n, keep) == 0))
            continue;
        if (unlinkat(dirfd(d), n, 0) == 0 || (errno != EISDIR && errno != EPERM) || depth == 0)
            continue;
        remove_inside(dirfd(d), n, NULL, depth - 1);
        unlinkat(dirfd(d), n, AT_REMOVEDIR);
    }
    closedir(d);
}

void tree_remove(int dir, const char *name, const char *keep)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        unlinkat(dir, name, 0);
        return;
    }
    remove_inside(dir, name, keep, TREE_MAX_DEPTH);
    if (!keep)
        unlinkat(dir, name, AT_REMOVEDIR);
}

/* ---- the journal ---- */

/* The largest claim in the job's folder below `token`; 0: none.  A name that is no number is no claim. */
static int64_t newest_older(int job_dir, int64_t token)
{
    int64_t best = 0;
    int fd = openat(job_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0)
        close(fd);
    if (!d)
        return 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        char *end;
        errno = 0;
        long long n = strtoll(entry->d_name, &end, 10);
        if (errno == 0 && *end == '\0' && n > best && n < token)
            best = n;
    }
    closedir(d);
    return best;
}

/* A missing journal is no error, and neither is one we cannot copy: the attempt starts over. */
static void carry_journal(int job_dir, int64_t from, const char *to)
{
    char name[TOKEN_TEXT];
    int fd = -1;
    struct newfile f = NEWFILE_NONE;
    snprintf(name, sizeof name, "%lld", (long long)from);
    int dir = openat(job_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return;
    if (scratch_open(dir, "journal", JOURNAL_MAX, &fd, NULL) && newfile_open(&f, to, 0600, JOURNAL_MAX, NULL)
        && blob_copy_pieces(fd, UINT64_MAX, &f, NULL))
        newfile_commit(&f, "journal", NULL);
    newfile_abort(&f);
    if (fd >= 0)
        close(fd);
    close(dir);
}

static void remove_all_but(int job_dir, int64_t token)
{
    for (int64_t older; (older = newest_older(job_dir, token));) {
        char name[TOKEN_TEXT];
        snprintf(name, sizeof name, "%lld", (long long)older);
        tree_remove(job_dir, name, NULL);
        if (faccessat(job_dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return;             /* it would not go; the next start tries again */
    }
}

/* ---- the folder ---- */

static bool make_folder(int dir, const char *name, int *ret_fd, struct err *e)
{
    if (mkdirat(dir, name, 0700) != 0 && errno != EEXIST)
        return err_sys(e, "scratch", "make a folder in");
    *ret_fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd >= 0 || err_sys(e, "scratch", "open a folder in");
}

bool scratch_make(struct store *s, const struct claim *c, int *ret_dir, struct err *e)
{
    char name[TOKEN_TEXT];
    char *path = NULL;
    int job_dir = -1, dir = -1;
    snprintf(name, sizeof name, "%lld", (long long)c->token);
    bool ok = make_folder(s->scratch_fd, c->job, &job_dir, e) && make_folder(job_dir, name, &dir, e)
           && (asprintf(&path, "%s/%s/%s", s->scratch, c->job, name) >= 0 || err_sys(e, "scratch", "name"));
    int64_t older = ok ? newest_older(job_dir, c->token) : 0;
    if (older) {
        carry_journal(job_dir, older, path);
        remove_all_but(job_dir, c->token);
    }
    if (ok)
        *ret_dir = dir;
    else if (dir >= 0)
        close(dir);
    if (job_dir >= 0)
        close(job_dir);
    free(path);
    return ok;
}

void scratch_drop(struct store *s, const struct claim *c, bool keep_journal)
{
    char name[TOKEN_TEXT];
    snprintf(name, sizeof name, "%lld", (long long)c->token);
    int job_dir = openat(s->scratch_fd, c->job, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (job_dir < 0)
        return;
    tree_remove(job_dir, name, keep_journal ? "journal" : NULL);
    if (!keep_journal)
        remove_all_but(job_dir, c->token);              /* a claim that ended before scratch_make() has left them */
    close(job_dir);
    unlinkat(s->scratch_fd, c->job, AT_REMOVEDIR);      /* refused while another attempt's folder is in it */
}

void scratch_forget(struct store *s, const char *job_id) { tree_remove(s->scratch_fd, job_id, NULL); }

static bool plain_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strlen(name);
    return n >= 1 && n <= 63 && name[0] != '.' && strspn(name, allowed) == n;
}

bool scratch_open(int dir, const char *name, uint64_t limit, int *ret_fd, struct err *e)
{
    struct stat st;
    if (!plain_name(name))
        return err_set(e, ERR_BUG, "result", "a result has a name that is not plain");
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_sys(e, name, "open the result");
    } else if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
        err_set(e, ERR_BUG, name, "the result is not a plain file of its own");
    } else if ((uint64_t)st.st_size > limit) {
        err_set(e, ERR_DISK, name, "the result has %lld bytes, more than %llu", (long long)st.st_size, (unsigned long long)limit);
    } else {
        *ret_fd = fd;
        return true;
    }
    if (fd >= 0)
        close(fd);
    return false;
}

bool scratch_make_named(struct store *s, const char *name, int *ret_dir, struct err *e)
{
    return make_folder(s->scratch_fd, name, ret_dir, e);
}

void scratch_drop_named(struct store *s, const char *name) { tree_remove(s->scratch_fd, name, NULL); }

/* ---- at start ---- */

static bool still_queued(struct store *s, const char *job_id, bool *ret, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_JOB_QUEUED);
    stmt_text(q, 1, job_id);
    *ret = stmt_row(q, &why);
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}

/* Of a job that will run again only the journals stay, for scratch_make() to pick from. */
static void strip(int scratch_fd, const char *job_id)
{
    int fd = openat(scratch_fd, job_id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0)
        close(fd);
    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            tree_remove(dirfd(d), entry->d_name, "journal");
    closedir(d);
}

bool scratch_sweep(struct store *s, int *ret_removed, struct err *e)
{
    DIR *d = opendir(s->scratch);
    if (!d)
        return err_sys(e, s->scratch, "read");
    bool ok = true, queued;
    *ret_removed = 0;
    for (struct dirent *entry; ok && (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        ok = still_queued(s, entry->d_name, &queued, e);
        if (ok && queued) {
            strip(dirfd(d), entry->d_name);
        } else if (ok) {
            tree_remove(dirfd(d), entry->d_name, NULL);
            (*ret_removed)++;
        }
    }
    closedir(d);
    return ok;
}
