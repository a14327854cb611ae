/*
 * uploads.c - /v1/uploads: blobs in parts, as tus 1.0 wants them (https://tus.io/protocols/resumable-upload).
 *
 * Extensions: creation, creation-with-upload, checksum, expiration, termination.  A finished upload is a blob under its
 * digest; the answer to its last part and GET tell which.  With `sha256` among the metadata the bytes are verified, and not sent
 * at all where this team owns them already.  What another team owns makes no difference to any answer.
 */
#include "api/uploads.h"

#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TUS_VERSION "1.0.0"
#define TUS_EXTENSIONS "creation,creation-with-upload,checksum,expiration,termination"

/* ---- the head ---- */

static bool uploads_path(const struct request *req)
{
    static const char path[] = "/v1/uploads";
    size_t n = sizeof path - 1;
    return strncmp(req->target.path, path, n) == 0 && (!req->target.path[n] || req->target.path[n] == '/');
}

void uploads_fields(const struct request *req, struct reply *reply)
{
    if (!uploads_path(req))
        return;
    reply_field(reply, "Tus-Resumable", TUS_VERSION);
    reply_field(reply, "Tus-Version", TUS_VERSION);
}

void uploads_options(const struct app *app, const struct request *req, struct reply *reply)
{
    if (!uploads_path(req))
        return;
    reply_field(reply, "Tus-Extension", TUS_EXTENSIONS);
    reply_field(reply, "Tus-Max-Size", "%" PRIu64, app->max_upload);
    reply_field(reply, "Tus-Checksum-Algorithm", CHECKSUM_NAMES);
}

static bool check_version(const struct request *req, struct err *e)
{
    const char *version = req->header[HDR_TUS_RESUMABLE];
    return (version && strcmp(version, TUS_VERSION) == 0)
        || err_set(e, ERR_PRECONDITION, "Tus-Resumable", "send \"Tus-Resumable: " TUS_VERSION "\", the version of tus spoken here");
}

static bool take_number(const struct request *req, enum request_header which, const char *name, uint64_t *ret, struct err *e)
{
    const char *text = req->header[which];
    return (text && request_digits(text, ret) && *ret <= INT64_MAX)
        || err_set(e, ERR_REQUEST_INVALID, name, "send \"%s\" with a decimal number of bytes", name);
}

/* One "key base64" of the list at *s, which moves behind it. */
static bool next_pair(const char **s, const char **ret_key, size_t *ret_key_n, const char **ret_value, size_t *ret_value_n)
{
    const char *at = *s + strspn(*s, " ,");
    *ret_key = at;
    *ret_key_n = strcspn(at, " ,");
    at += *ret_key_n;
    at += *at == ' ';
    *ret_value = at;
    *ret_value_n = strcspn(at, " ,");
    *s = at + *ret_value_n;
    return *ret_key_n > 0;
}

/* The header field brings them back, and JSON does. */
static bool printable(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

/* The digest that the metadata announces, if they do, as "sha256:..." in ret. */
static bool take_metadata(const struct request *req, char ret[HASH_TEXT_SIZE], struct err *e)
{
    const char *metadata = req->header[HDR_UPLOAD_METADATA], *key, *value;
    size_t key_n, value_n;
    uint8_t digest[HASH_SIZE];
    ret[0] = '\0';
    if (metadata && strlen(metadata) >= UPLOAD_METADATA_SIZE)
        return err_set(e, ERR_REQUEST_INVALID, "Upload-Metadata", "send at most %d bytes of metadata", UPLOAD_METADATA_SIZE - 1);
    if (metadata && !printable(metadata))
        return err_set(e, ERR_REQUEST_INVALID, "Upload-Metadata", "send keys of ASCII characters, and values in base64, as tus wants them");
    for (const char *s = metadata; s && *s && next_pair(&s, &key, &key_n, &value, &value_n);) {
        if (key_n != 6 || memcmp(key, "sha256", 6) != 0)
            continue;
        memcpy(ret, "sha256:", 7);
        size_t n = base64_decode(value, value_n, ret + 7, HASH_HEX_SIZE - 1);
        ret[7 + n] = '\0';
        if (!hash_parse(ret, digest))
            return err_set(e, ERR_REQUEST_INVALID, "Upload-Metadata", "sha256 must be 64 lower-case hexadecimal digits, in base64");
    }
    return true;
}

/* The strings lie in the request and in ret_want. */
static bool take_wish(const struct app *app, const struct request *req, char ret_want[HASH_TEXT_SIZE], struct upload_wish *ret, struct err *e)
{
    uint64_t length;
    if (!take_number(req, HDR_UPLOAD_LENGTH, "Upload-Length", &length, e) || !take_metadata(req, ret_want, e))
        return false;
    if (length > app->max_upload)
        return err_set(e, ERR_REQUEST_TOO_LARGE, "Upload-Length", "an upload has at most %" PRIu64 " bytes", app->max_upload);
    *ret = (struct upload_wish){ .length = (int64_t)length, .want = ret_want[0] ? ret_want : NULL, .metadata = req->header[HDR_UPLOAD_METADATA] };
    return true;
}

/* Two kilobytes that only these requests have. */
static bool new_part(struct request *req, struct err *e)
{
    req->part = calloc(1, sizeof *req->part);
    return req->part || err_sys(e, "upload", "begin");
}

static bool begin_patch(struct app *app, struct request *req, bool body, struct err *e)
{
    uint64_t offset;
    if (!body && !req->header[HDR_CONTENT_TYPE])
        return err_set(e, ERR_REQUEST_MEDIA_TYPE, "Content-Type", "send application/offset+octet-stream");
    return take_number(req, HDR_UPLOAD_OFFSET, "Upload-Offset", &offset, e)
        && new_part(req, e) && upload_resume(req->part, app->store, req->who.team, req->param[0], offset, e);
}

static bool begin(struct app *app, struct request *req, const struct upload_wish *wish, struct err *e)
{
    return new_part(req, e) && upload_begin(req->part, app->store, req->who.team, wish, e);
}

static bool begin_post(struct app *app, struct request *req, struct err *e)
{
    char want[HASH_TEXT_SIZE];
    struct upload_wish wish;
    return take_wish(app, req, want, &wish, e) && begin(app, req, &wish, e);
}

static bool take_checksum(struct request *req, struct err *e)
{
    const char *checksum = req->header[HDR_UPLOAD_CHECKSUM];
    if (!checksum || upload_expect(req->part, checksum, e))
        return true;
    upload_abandon(req->part);
    return false;
}

bool uploads_begin(struct app *app, struct request *req, bool body, struct err *e)
{
    bool patch = strcmp(req->method, "PATCH") == 0;
    if (!check_version(req, e))
        return false;
    if (!patch && !body)
        return true;                        /* without bytes there is no hurry: the handler does it */
    return (patch ? begin_patch(app, req, body, e) : begin_post(app, req, e)) && take_checksum(req, e);
}

/* ---- the answers ---- */

static void add_expiry(const struct upload *u, struct reply *reply)
{
    char text[40];
    struct tm tm;
    time_t at = (time_t)(u->expires_at / 1000000);
    if (gmtime_r(&at, &tm) && strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        reply_field(reply, "Upload-Expires", "%s", text);
}

static void add_state(const struct upload *u, struct reply *reply)
{
    reply_field(reply, "Upload-Offset", "%" PRIu64, u->offset);
    if (u->digest[0])
        reply_field(reply, "Blob-Digest", "%s", u->digest);
    add_expiry(u, reply);
}

static json_t *upload_json(const struct upload *u)
{
    return json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "id", u->id, "length", u->length < 0 ? json_null() : json_integer(u->length),
                     "offset", (json_int_t)u->offset, "digest", row_text(u->digest), "metadata", row_text(u->metadata),
                     "source", row_text(u->source), "problem", row_stored(u->problem), "created_at", row_time(u->created_at),
                     "expires_at", row_time(u->expires_at));
}

/* The team's own bytes: no transfer.  Bytes that have rotted are no bytes. */
static bool skip_known(struct app *app, const struct request *req, const struct upload_wish *wish, struct upload *ret)
{
    int fd;
    uint64_t size;
    if (!wish->want || !blob_open(app->store, req->who.team, wish->want, true, &fd, &size, NULL))
        return false;
    close(fd);
    return size == (uint64_t)wish->length && upload_known(app->store, req->who.team, wish, ret, NULL);
}

static bool create(struct app *app, struct request *req, struct upload *ret, struct err *e)
{
    char want[HASH_TEXT_SIZE];
    struct upload_wish wish;
    if (req->part)
        return upload_end(req->part, ret, e);
    if (!take_wish(app, req, want, &wish, e))
        return false;
    return (!req->header[HDR_UPLOAD_CHECKSUM] && skip_known(app, req, &wish, ret))
        || (begin(app, req, &wish, e) && take_checksum(req, e) && upload_end(req->part, ret, e));
}

bool post_upload(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct upload u;
    if (!app_takes_work(app, e))
        return false;
    reply->status = 201;
    if (!create(app, req, &u, e))
        return false;
    reply_field(reply, "Location", "/v1/uploads/%s", u.id);
    add_state(&u, reply);
    upload_release(&u);
    return true;
}

bool patch_upload(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct upload u;
    (void)app;
    reply->status = 204;
    if (!upload_end(req->part, &u, e))
        return false;
    add_state(&u, reply);
    upload_release(&u);
    return true;
}

bool get_upload(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct upload u;
    if ((req->header[HDR_TUS_RESUMABLE] && !check_version(req, e)) || !upload_get(app->store, req->who.team, req->param[0], &u, e))
        return false;
    add_state(&u, reply);
    if (u.length >= 0)
        reply_field(reply, "Upload-Length", "%" PRId64, u.length);
    if (u.metadata[0])
        reply_field(reply, "Upload-Metadata", "%s", u.metadata);
    json_t *row = upload_json(&u);
    upload_release(&u);
    return reply_json(reply, 200, row, e);
}

bool delete_upload(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return check_version(req, e) && upload_delete(app->store, req->who.team, req->param[0], e);
}

/* ---- imports ---- */

static bool import(struct app *app, const struct request *req, const json_t *body, struct upload *ret, struct err *e)
{
    enum { URL_MAX_BYTES = 8000 };
    const char *url, *want = NULL;
    uint8_t digest[HASH_SIZE];
    struct blob blob;
    if (!json_get_str(body, "url", "", false, URL_MAX_BYTES, &url, ERR_REQUEST_JSON, e)
        || !json_get_str(body, "digest", "", true, HASH_TEXT_SIZE - 1, &want, ERR_REQUEST_JSON, e))
        return false;
    if (want && !hash_parse(want, digest))
        return err_set(e, ERR_REQUEST_INVALID, "/digest", "the digest must be \"sha256:\" and 64 lower-case hexadecimal digits");
    if (want && blob_owned(app->store, req->who.team, want, &blob)) {
        struct upload_wish wish = { .length = (int64_t)blob.size, .want = want };
        return upload_known(app->store, req->who.team, &wish, ret, e);
    }
    return app->import(app->server, req->who.team, url, want, ret, e);
}

bool post_import(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "url", "digest", NULL };
    struct upload u;
    json_t *body = request_json(req, members, false, e);
    reply->status = 202;
    bool ok = body && import(app, req, body, &u, e);
    json_decref(body);
    if (!ok)
        return false;
    reply_field(reply, "Location", "/v1/uploads/%s", u.id);
    json_t *row = upload_json(&u);
    upload_release(&u);
    return reply_json(reply, 202, row, e);
}
