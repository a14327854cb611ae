#include "api/serve.h"

#include "api/app.h"
#include "storage/blob.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Digits into *ret, saturating: a position beyond 2^64 is beyond every file.  Returns what follows them, NULL if there are none. */
static const char *parse_position(const char *s, uint64_t *ret)
{
    uint64_t n = 0;
    const char *start = s;
    for (; *s >= '0' && *s <= '9'; s++) {
        unsigned digit = (unsigned)(*s - '0');
        n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
    }
    *ret = n;
    return s == start ? NULL : s;
}

static enum range parse_suffix(const char *s, uint64_t size, uint64_t *ret_offset, uint64_t *ret_length)
{
    uint64_t n;
    s = parse_position(s, &n);
    if (!s || *s)
        return RANGE_WHOLE;
    if (n == 0 || size == 0)
        return RANGE_OUTSIDE;
    *ret_length = n < size ? n : size;
    *ret_offset = size - *ret_length;
    return RANGE_PART;
}

enum range range_parse(const char *text, uint64_t size, uint64_t *ret_offset, uint64_t *ret_length)
{
    uint64_t first, last = UINT64_MAX;
    if (!text || strncasecmp(text, "bytes=", 6) != 0)
        return RANGE_WHOLE;
    const char *s = text + 6;
    if (*s == '-')
        return parse_suffix(s + 1, size, ret_offset, ret_length);
    s = parse_position(s, &first);
    if (!s || *s++ != '-')
        return RANGE_WHOLE;
    if (*s && (!(s = parse_position(s, &last)) || *s || last < first))
        return RANGE_WHOLE;
    if (first >= size)
        return RANGE_OUTSIDE;
    *ret_offset = first;
    *ret_length = (last < size ? last : size - 1) - first + 1;
    return RANGE_PART;
}

bool etag_listed(const char *field, const char *etag)
{
    size_t n = strlen(etag);
    if (!field)
        return false;
    for (const char *s = field; *s;) {
        s += strspn(s, " \t,");
        if (strncmp(s, "W/", 2) == 0)
            s += 2;             /* If-None-Match compares weakly */
        size_t length = strcspn(s, ",");
        size_t bare = length;
        while (bare && (s[bare - 1] == ' ' || s[bare - 1] == '\t'))
            bare--;
        if ((bare == n && memcmp(s, etag, n) == 0) || (bare == 1 && *s == '*'))
            return true;
        s += length;
    }
    return false;
}

/* RFC 9530: the digest as a structured-field byte sequence. */
static void add_repr_digest(struct reply *reply, const char *digest)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t bytes[HASH_SIZE + 1] = { 0 };       /* one zero byte makes it a multiple of three */
    char text[48], *out = text;
    if (!hash_parse(digest, bytes))
        return;
    for (size_t i = 0; i < HASH_SIZE; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16 | (unsigned)bytes[i + 1] << 8 | bytes[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = alphabet[v >> shift & 63];
    }
    out[-1] = '=';
    *out = '\0';
    reply_field(reply, "Repr-Digest", "sha-256=:%s:", text);
}

static void add_disposition(struct reply *reply, const char *name)
{
    char safe[128];
    snprintf(safe, sizeof safe, "%s", name);
    for (char *s = safe; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr(".-_", *s))
            *s = '_';
    reply_field(reply, "Content-Disposition", "attachment; filename=\"%s\"", safe);
}

static enum range asked_range(const struct request *req, const char *etag, uint64_t size, struct reply *reply)
{
    const char *if_range = req->header[HDR_IF_RANGE];
    bool wanted = strcmp(req->method, "GET") == 0 && (!if_range || strcmp(if_range, etag) == 0);
    return range_parse(wanted ? req->header[HDR_RANGE] : NULL, size, &reply->offset, &reply->length);
}

/* RFC 9110: where a range that cannot be served would have to lie. */
static bool outside(struct reply *reply, uint64_t size, struct err *e)
{
    reply_field(reply, "Content-Range", "bytes */%llu", (unsigned long long)size);
    return err_set(e, ERR_REQUEST_RANGE, "Range", "the file has %llu bytes", (unsigned long long)size);
}

static void part_of(struct reply *reply, uint64_t size)
{
    reply->status = 206;
    reply_field(reply, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)reply->offset,
                (unsigned long long)(reply->offset + reply->length - 1), (unsigned long long)size);
}

/* The rest does not lie in memory while a slow reader takes this. */
static void keep_part(struct buf *text, uint64_t offset, uint64_t length)
{
    memmove(text->p, text->p + offset, length);
    char *less = realloc(text->p, length);
    text->p = less ? less : text->p;
}

bool reply_part(const struct request *req, struct reply *reply, struct buf *text, struct err *e)
{
    enum range range = asked_range(req, "", text->n, reply);
    reply_field(reply, "Accept-Ranges", "bytes");
    if (range == RANGE_OUTSIDE)
        return outside(reply, text->n, e);
    if (range == RANGE_PART)
        part_of(reply, text->n);
    reply->size = range == RANGE_PART ? reply->length : text->n;
    if (range == RANGE_PART)
        keep_part(text, reply->offset, reply->length);
    reply->text = text->p ? text->p : strdup("");
    *text = BUF_INIT(text->limit);
    return reply->text || err_set(e, ERR_MEMORY, "", "no memory for the answer");
}

bool reply_file(const struct request *req, struct reply *reply, int fd, uint64_t size, const char *digest,
                const char *name, struct err *e)
{
    char etag[HASH_TEXT_SIZE + 2];
    snprintf(etag, sizeof etag, "\"%s\"", digest);
    reply->fd = fd;
    reply->type = "application/octet-stream";   /* always: a stranger's bytes must not be taken for a page */
    reply_field(reply, "ETag", "%s", etag);
    reply_field(reply, "Accept-Ranges", "bytes");
    reply_field(reply, "Cache-Control", "private, no-cache");
    if (etag_listed(req->header[HDR_IF_NONE_MATCH], etag)) {
        reply->status = 304;
        reply->type = NULL;
        reply_close_file(reply);
        return true;
    }
    switch (asked_range(req, etag, size, reply)) {
    case RANGE_OUTSIDE:
        return outside(reply, size, e);
    case RANGE_PART:
        part_of(reply, size);
        break;
    case RANGE_WHOLE:
        reply->status = 200;
        reply->offset = 0;
        reply->length = size;
        break;
    }
    add_repr_digest(reply, digest);
    add_disposition(reply, name);
    return true;
}

bool reply_stored_file(struct app *app, const struct request *req, struct reply *reply, const char *digest, const char *name, struct err *e)
{
    int fd;
    uint64_t size;
    const char *asked = request_query(req, "verify");
    bool verify = asked && strcmp(asked, "1") == 0;
    if (asked && !verify && strcmp(asked, "0") != 0)
        return err_set(e, ERR_REQUEST_INVALID, "verify", "\"verify\" is 1 or 0");
    reply->slow = verify && !req->slow;
    return !reply->slow && blob_open(app->store, req->who.team, digest, verify, &fd, &size, e)
        && reply_file(req, reply, fd, size, digest, name, e);
}
