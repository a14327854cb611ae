#include "client/fetch.h"

#include "client/sha256.h"
#include "client/show.h"
#include "core/base/io.h"
#include "core/base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool fetch_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 150 || name[0] == '.' || strchr(name, '/'))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

bool fetch_range_ok(const char *content_range, uint64_t from, uint64_t size)
{
    char want[96];
    snprintf(want, sizeof want, "bytes %llu-%llu/%llu", (unsigned long long)from, (unsigned long long)size - 1, (unsigned long long)size);
    return strcmp(content_range, want) == 0;
}

/* One artifact on its way. */
struct download {
    struct client *c;
    int folder, fd;                 /* of the part */
    const char *name, *digest, *path;
    uint64_t size, at;              /* announced; there */
    struct sha256 hash;             /* of what is there */
    char part[256];
};

/* From the beginning: the service sends all, or what was there is not a beginning of it. */
static bool start_over(struct download *d)
{
    d->at = 0;
    sha256_init(&d->hash);
    return (ftruncate(d->fd, 0) == 0 && lseek(d->fd, 0, SEEK_SET) == 0) || fail_errno(&d->c->f, d->part, "shorten");
}

static bool lies(struct download *d, const char *why)
{
    return fail(&d->c->f, EXIT_ENVIRONMENT, "client.answer", d->name, "%s; the file was not kept. Is a proxy between that changes bytes?", why);
}

static bool keep(struct download *d, const void *p, size_t n)
{
    if (n > d->size - d->at)
        return lies(d, "the service sends more bytes than it announced");
    if (io_write_all(d->fd, p, n) != 0)
        return fail_errno(&d->c->f, d->name, "write");
    sha256_add(&d->hash, p, n);
    d->at += n;
    show_bar(d->c, d->name, (double)d->at, (double)d->size);
    return true;
}

/* The head of the answer decides once where its bytes belong. */
struct transfer {
    struct download *d;
    bool begun;
    uint64_t from;
};

static bool take_piece(void *arg, long status, const struct http_answer *a, const void *p, size_t n, struct failure *f)
{
    struct transfer *t = arg;
    (void)f;
    if (!t->begun) {
        t->begun = true;
        if (status == 206 && !fetch_range_ok(a->header[H_CONTENT_RANGE], t->from, t->d->size))
            return lies(t->d, "the service sends another range than was asked for");
        if (status != 206 && t->from && !start_over(t->d))
            return false;
    }
    return keep(t->d, p, n);
}

static bool transfer(struct download *d)
{
    char range[48], same[96];
    struct transfer t = { .d = d, .from = d->at };
    struct http_answer a;
    struct http_request r = { .method = "GET", .path = d->path, .take = take_piece, .arg = &t, .single = true };
    snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)d->at);
    snprintf(same, sizeof same, "If-Range: \"%s\"", d->digest);
    if (d->at) {
        r.fields[0] = range;
        r.fields[1] = same;
    }
    if (!http_send(&d->c->service, &r, &a, &d->c->f))
        return false;
    http_release(&a);
    if (d->at < d->size)
        return lies(d, "the service sent fewer bytes than it announced");
    return true;
}

/* ---- what the folder has ---- */

/* One of the files that this command submits? */
static bool is_input(const struct client *c, const struct stat *st)
{
    const char *const others[] = { c->o.calibration, c->o.evaluation, c->o.recipe };
    struct stat input;
    for (int i = 0; i < c->o.nwords + 3; i++) {
        const char *path = i < c->o.nwords ? c->o.words[i] : others[i - c->o.nwords];
        if (path && stat(path, &input) == 0 && input.st_dev == st->st_dev && input.st_ino == st->st_ino)
            return true;
    }
    return false;
}

static bool spares_inputs(struct client *c, int folder, const char *name)
{
    struct stat st;
    return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !is_input(c, &st)
        || fail(&c->f, EXIT_USAGE, "client.usage", name, "a result of this name would take the place of what is submitted; give another --output");
}

static bool has_digest(struct download *d, bool *ret)
{
    char digest[DIGEST_SIZE];
    struct sha256 hash;
    uint64_t bytes;
    int fd = openat(d->folder, d->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail_errno(&d->c->f, d->name, "open");
    sha256_init(&hash);
    bool ok = sha256_file(&hash, fd, d->name, &bytes, &d->c->f);
    close(fd);
    sha256_end(&hash, digest);
    *ret = ok && strcmp(digest, d->digest) == 0;
    return ok;
}

/* Is the file there already?  Another file under its name, or a link to wherever, is not ours to replace, unless told to; what is no file never. */
static bool present(struct download *d, bool *ret)
{
    struct failure *f = &d->c->f;
    struct stat st;
    *ret = false;
    if (fstatat(d->folder, d->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || fail_errno(f, d->name, "look at");
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
        return fail(f, EXIT_INPUT, "client.exists", d->name, "what the folder has under this name is no file; give another --output");
    if (!spares_inputs(d->c, d->folder, d->name) || (S_ISREG(st.st_mode) && !has_digest(d, ret)))
        return false;
    return *ret || d->c->o.force
        || fail(f, EXIT_INPUT, "client.exists", d->name, "the folder has another file of this name; give --force or another --output");
}

/* ---- one file ---- */

/* Another command may be fetching the same.  Where locks are not to be had we go on without. */
static bool lock_part(struct download *d)
{
    if (flock(d->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return true;
    show_note(d->c, "another command is fetching %s; waiting for it", d->name);
    while (flock(d->fd, LOCK_EX) != 0 && errno == EINTR)
        if (interrupted())
            return fail(&d->c->f, EXIT_INTERRUPTED, "client.interrupted", "", "interrupted");
    return true;
}

/* Has the part its name still?  If not, who had the lock has put it in place, or thrown it away. */
static bool is_part(const struct download *d)
{
    struct stat ours, named;
    return fstat(d->fd, &ours) == 0 && fstatat(d->folder, d->part, &named, AT_SYMLINK_NOFOLLOW) == 0
        && ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/* What an earlier try left.  *ret_there: the file itself is there meanwhile. */
static bool open_part(struct download *d, bool *ret_there)
{
    uint64_t there = 0;
    snprintf(d->part, sizeof d->part, ".%s.%.16s.part", d->name, d->digest + 7);
    for (;;) {
        d->fd = openat(d->folder, d->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (d->fd < 0)
            return fail_errno(&d->c->f, d->part, "create");
        if (!lock_part(d))
            return false;
        if (is_part(d))
            break;
        close(d->fd);
        d->fd = -1;
        if (!present(d, ret_there) || *ret_there)
            return *ret_there;
    }
    sha256_init(&d->hash);
    if (!sha256_file(&d->hash, d->fd, d->part, &there, &d->c->f))
        return false;
    d->at = there;
    return there <= d->size || start_over(d);
}

static bool put_in_place(struct download *d)
{
    char digest[DIGEST_SIZE];
    sha256_end(&d->hash, digest);
    if (strcmp(digest, d->digest) != 0) {
        unlinkat(d->folder, d->part, 0);
        return fail(&d->c->f, EXIT_ENVIRONMENT, "client.digest_mismatch", d->name,
                    "the bytes have the digest %s, not the announced one; they were thrown away. Download once more", digest);
    }
    if (fsync(d->fd) == 0 && renameat(d->folder, d->part, d->folder, d->name) == 0 && fsync(d->folder) == 0)
        return true;
    bool same = false;
    int why = errno;
    if (why == ENOENT && has_digest(d, &same) && same)
        return true;        /* without locks another command may have been faster */
    d->c->f = (struct failure){ 0 };
    errno = why;
    return fail_errno(&d->c->f, d->name, "put in place");
}

static bool run(struct download *d)
{
    struct backoff b = service_backoff(&d->c->service);
    struct client *c = d->c;
    bool there = false;
    if (!open_part(d, &there) || there)
        return there;
    for (uint64_t before = d->at; d->at < d->size; before = d->at) {
        if (transfer(d))
            continue;
        if (d->at > before)
            backoff_reset(&b);
        if (!backoff_again(&b, &c->f))
            return false;
    }
    return put_in_place(d);
}

static bool fetch_one(struct client *c, int folder, const json_t *artifact)
{
    char path[512];
    const char *content = text_of(json_object_get(artifact, "urls"), "content");
    struct download d = { .c = c, .folder = folder, .fd = -1, .name = text_of(artifact, "name"), .digest = text_of(artifact, "digest"),
                          .path = path, .size = (uint64_t)json_integer_value(json_object_get(artifact, "bytes")) };
    bool there;
    if (!fetch_name_ok(d.name) || !digest_valid(d.digest) || strncmp(content, "/v1/artifacts/", 14) != 0 || strlen(content) >= sizeof path)
        return fail(&c->f, EXIT_ENVIRONMENT, "client.answer", d.name, "the service describes a result as no repquantd does; nothing was written for it");
    snprintf(path, sizeof path, "%s", content);
    if (!present(&d, &there))
        return false;
    bool ok = there || run(&d);
    if (d.fd >= 0)
        close(d.fd);
    show_bar_end(c);
    return ok;
}

static json_t *row_of(const json_t *artifact, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, text_of(artifact, "name"));
    return json_pack("{s:s, s:s, s:s, s:O}", "name", text_of(artifact, "name"), "path", utf8_mend(path), "digest", text_of(artifact, "digest"), "bytes",
                     json_object_get(artifact, "bytes"));
}

static json_t *list_results(struct client *c, const char *id)
{
    char path[160];
    json_t *job = job_path(c, id, "", path, sizeof path) ? http_get(&c->service, path, &c->f) : NULL;
    const char *state = text_of(job, "state");
    if (job && strcmp(state, "succeeded") != 0)
        fail(&c->f, EXIT_INPUT, "client.no_results", id, "the job is %.20s; results exist once it has succeeded (repquantctl wait %s)", state, id);
    json_decref(job);
    return !c->f.exit && job_path(c, id, "/artifacts", path, sizeof path) ? http_get(&c->service, path, &c->f) : NULL;
}

static int open_folder(struct client *c, const char *folder)
{
    if (!io_make_folder(folder, 0777)) {
        fail_errno(&c->f, folder, "make the folder");
        return -1;
    }
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        fail_errno(&c->f, folder, "open the folder");
    return dir;
}

bool fetch_prepare(struct client *c, const char *folder)
{
    static const char *const usual[] = { "model.onnx", "report.json", "details.json", "manifest.json" };
    int dir = open_folder(c, folder);
    for (size_t i = 0; i < sizeof usual / sizeof *usual && !c->f.exit; i++)
        spares_inputs(c, dir, usual[i]);
    if (dir >= 0 && faccessat(dir, ".", W_OK | X_OK, 0) != 0)
        fail_errno(&c->f, folder, "write to the folder");
    if (dir >= 0)
        close(dir);
    return !c->f.exit;
}

json_t *fetch_results(struct client *c, const char *job, const char *folder)
{
    json_t *list = list_results(c, job), *files = json_array();
    const json_t *data = json_object_get(list, "data");
    int dir = list ? open_folder(c, folder) : -1;
    for (size_t i = 0; i < json_array_size(data) && !c->f.exit; i++)
        if (fetch_one(c, dir, json_array_get(data, i)))
            json_array_append_new(files, row_of(json_array_get(data, i), folder));
    if (dir >= 0)
        close(dir);
    json_decref(list);
    if (!c->f.exit)
        return files;
    json_decref(files);
    return NULL;
}
