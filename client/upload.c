#include "client/upload.h"

#include "client/account.h"
#include "client/show.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TUS "Tus-Resumable: 1.0.0"
#define MiB (UINT64_C(1) << 20)
static const uint64_t RESUMABLE_FROM = 8 * MiB;

bool source_open(struct client *c, const char *path, struct source *ret)
{
    struct sha256 hash;
    struct stat st;
    const char *slash = strrchr(path, '/');
    *ret = (struct source){ .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
    snprintf(ret->name, sizeof ret->name, "%.255s", slash ? slash + 1 : path);
    if (ret->fd < 0 || fstat(ret->fd, &st) != 0)
        return fail_errno(&c->f, path, "open");
    if (S_ISDIR(st.st_mode))
        return fail(&c->f, EXIT_INPUT, "client.folder", path,
                    "a folder cannot be sent; zip what is in it: (cd FOLDER && zip -r ../data.zip .), and give the zip");
    if (!S_ISREG(st.st_mode))
        return fail(&c->f, EXIT_INPUT, "client.file", path, "not a regular file; it is read twice, so write it to disk first");
    show_bar(c, "reading", 0, 0);
    sha256_init(&hash);
    if (!sha256_file(&hash, ret->fd, path, &ret->bytes, &c->f))
        return false;
    sha256_end(&hash, ret->digest);
    return ret->bytes > 0 || fail(&c->f, EXIT_INPUT, "client.file", path, "the file is empty");
}

void source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* ---- small ---- */

struct sending {
    struct client *c;
    const struct source *s;
};

static void on_sent(void *arg, uint64_t bytes)
{
    const struct sending *x = arg;
    show_bar(x->c, x->s->name, (double)bytes, (double)x->s->bytes);
}

static bool send_whole(struct client *c, const struct source *s)
{
    char path[96];
    struct sending x = { c, s };
    struct http_answer a;
    snprintf(path, sizeof path, "/v1/blobs/%s", s->digest);
    struct http_request r = { .method = "PUT", .path = path, .fd = s->fd, .length = s->bytes, .sent = on_sent, .arg = &x,
                              .fields = { "Expect: 100-continue", "Content-Type: application/octet-stream" } };
    if (!http_send(&c->service, &r, &a, &c->f))
        return false;
    http_release(&a);
    return true;
}

/* ---- large ---- */

/* Where the place of an unfinished upload is noted: a file named by service and digest. */
static bool note_path(struct client *c, const struct source *s, char *ret, size_t size)
{
    char folder[440], name[DIGEST_SIZE];
    struct sha256 hash;
    struct failure ignored = { 0 };
    if (!account_folder("XDG_CACHE_HOME", ".cache", folder, sizeof folder - 16, &ignored))
        return false;
    snprintf(folder + strlen(folder), sizeof folder - strlen(folder), "/uploads");
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return false;
    sha256_init(&hash);
    sha256_add(&hash, c->service.url, strlen(c->service.url) + 1);
    sha256_add(&hash, s->digest, strlen(s->digest));
    sha256_end(&hash, name);
    snprintf(ret, size, "%s/%s", folder, name + 7);
    return true;
}

/* An upload of ours in this service?  Nothing else may be made of what a file or an answer says. */
static bool upload_place(const char *text, char *ret, size_t size)
{
    const char *at = strstr(text, "/v1/uploads/upl_");
    size_t n = at ? strlen("/v1/uploads/upl_") : 0;
    if (!at || strlen(at) != n + 26 || strspn(at + n, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 26)
        return false;
    snprintf(ret, size, "%s", at);
    return true;
}

static bool noted(const char *note, char *ret, size_t size)
{
    char text[128] = "";
    int fd = open(note, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    return n > 0 && upload_place(text, ret, size);
}

static void base64(const char *text, char *ret)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)(unsigned char)text[i] << 16;
        if (i + 1 < n)
            v |= (unsigned)(unsigned char)text[i + 1] << 8;
        if (i + 2 < n)
            v |= (unsigned char)text[i + 2];
        *ret++ = digits[v >> 18];
        *ret++ = digits[v >> 12 & 63];
        *ret++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *ret++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *ret = '\0';
}

/* One large file on its way. */
struct part {
    struct client *c;
    const struct source *s;
    char place[64];             /* path of the upload; "" when there is none yet */
    char note[512];             /* file that remembers it; "" if there is no place for one */
    uint64_t at;                /* bytes the service has */
    bool done;
};

static bool take_offset(struct part *p, const struct http_answer *a)
{
    const char *text = a->header[H_UPLOAD_OFFSET];
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n > p->s->bytes)
        return fail(&p->c->f, EXIT_ENVIRONMENT, "client.answer", p->place, "the service does not tell how much it has; is a proxy between?");
    p->at = n;
    p->done = n == p->s->bytes;
    return true;
}

static bool begin(struct part *p)
{
    char length[48], encoded[96], metadata[128];
    struct http_answer a;
    base64(p->s->digest + 7, encoded);
    snprintf(metadata, sizeof metadata, "Upload-Metadata: sha256 %s", encoded);
    snprintf(length, sizeof length, "Upload-Length: %llu", (unsigned long long)p->s->bytes);
    struct http_request r = { .method = "POST", .path = "/v1/uploads", .fields = { TUS, length, metadata }, .single = true };
    if (!http_send(&p->c->service, &r, &a, &p->c->f))
        return false;
    bool ok = upload_place(a.header[H_LOCATION], p->place, sizeof p->place)
        || fail(&p->c->f, EXIT_ENVIRONMENT, "client.answer", "Location", "the service does not tell where the upload is; is a proxy between?");
    ok = ok && take_offset(p, &a);
    http_release(&a);
    struct failure ignored = { 0 };
    if (ok && p->note[0] && !p->done)
        save_private(p->note, p->place, &ignored);
    return ok;
}

static bool ask_offset(struct part *p)
{
    struct http_answer a;
    struct http_request r = { .method = "HEAD", .path = p->place, .fields = { TUS }, .single = true };
    if (!http_send(&p->c->service, &r, &a, &p->c->f))
        return false;
    bool ok = take_offset(p, &a);
    http_release(&a);
    return ok;
}

static void on_part(void *arg, uint64_t bytes)
{
    const struct part *p = arg;
    show_bar(p->c, p->s->name, (double)bytes, (double)p->s->bytes);
}

static bool send_rest(struct part *p)
{
    char offset[48];
    struct http_answer a;
    snprintf(offset, sizeof offset, "Upload-Offset: %llu", (unsigned long long)p->at);
    struct http_request r = { .method = "PATCH", .path = p->place, .fd = p->s->fd, .from = p->at, .length = p->s->bytes - p->at,
                              .sent = on_part, .arg = p, .single = true,
                              .fields = { TUS, offset, "Content-Type: application/offset+octet-stream", "Expect: 100-continue" } };
    if (!http_send(&p->c->service, &r, &a, &p->c->f))
        return false;
    bool ok = take_offset(p, &a);
    http_release(&a);
    return ok;
}

/* The upload is no longer there, or stands elsewhere: neither is a failure, but something to look at again. */
static void look_again(struct part *p)
{
    struct failure *f = &p->c->f;
    if (f->status == 404 || f->status == 410) {
        p->place[0] = '\0';
        f->again = true;
    } else if (f->status == 409) {
        f->again = true;
    }
}

static bool send_resumable(struct client *c, const struct source *s)
{
    struct part p = { .c = c, .s = s };
    struct backoff b = service_backoff(&c->service);
    if (!note_path(c, s, p.note, sizeof p.note) || !noted(p.note, p.place, sizeof p.place))
        p.place[0] = '\0';
    for (uint64_t before = 0; !p.done;) {
        bool ok = p.place[0] ? ask_offset(&p) : begin(&p);
        if (ok && p.at > before)
            backoff_reset(&b);
        before = p.at;
        if (ok && !p.done)
            ok = send_rest(&p);
        if (ok)
            continue;
        look_again(&p);
        if (!backoff_again(&b, &c->f))
            return false;
    }
    if (p.note[0])
        unlink(p.note);
    return true;
}

bool source_send(struct client *c, const struct source *s)
{
    bool ok = s->bytes < RESUMABLE_FROM ? send_whole(c, s) : send_resumable(c, s);
    if (!ok && !c->f.where[0])
        snprintf(c->f.where, sizeof c->f.where, "%s", s->path);
    show_bar_end(c);
    return ok;
}
