/*
 * gate.c - what is decided from the head of a request, before a byte of its body is read.
 *
 * The order matters and is the list in request_admit(): framing first, because a message whose
 * ends are in doubt must not reach anything; then whether we are the host that was meant
 * (a browser tricked by DNS rebinding names another); then the route; then who asks; and only
 * then anything that costs memory or disk.
 */
#include "api/access.h"
#include "api/app.h"
#include "api/audit.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/request.h"
#include "api/uploads.h"
#include "core/base/metric.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool request_digits(const char *text, uint64_t *ret)
{
    uint64_t n = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    *ret = n;
    return true;
}

/* The library takes any bytes for one; from here on it is a token (RFC 9110, 5.6.2). */
static bool check_method(const char *method, struct err *e)
{
    enum { METHOD_MAX = 32 };
    static const char token[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t n = strspn(method, token);
    return (n > 0 && n <= METHOD_MAX && !method[n])
        || err_set(e, ERR_REQUEST_FRAMING, "method", "the method must be a word of at most %d ASCII letters, like GET", (int)METHOD_MAX);
}

static bool check_framing(const struct request *req, struct err *e)
{
    const char *length = req->header[HDR_CONTENT_LENGTH], *coding = req->header[HDR_TRANSFER_ENCODING];
    uint64_t n;
    if (!check_method(req->method, e))
        return false;
    if (req->fault.code) {
        *e = req->fault;
        return false;
    }
    if (!req->header[HDR_HOST] || !req->header[HDR_HOST][0])
        return err_set(e, ERR_REQUEST_FRAMING, "Host", "send exactly one Host header field");
    if (length && coding)
        return err_set(e, ERR_REQUEST_FRAMING, "Transfer-Encoding", "send Content-Length or Transfer-Encoding, not both");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return err_set(e, ERR_REQUEST_FRAMING, "Transfer-Encoding", "the only transfer coding taken is chunked");
    if (length && !request_digits(length, &n))
        return err_set(e, ERR_REQUEST_FRAMING, "Content-Length", "Content-Length must be a decimal number");
    return true;
}

/* Compares without the port and without a root dot. */
static bool host_is(const char *host, const char *name)
{
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (n > 0 && n <= strlen(host) && host[n - 1] == '.')
        n--;
    return strlen(name) == n && strncasecmp(host, name, n) == 0;
}

static bool check_host(const struct app *app, const struct request *req, struct err *e)
{
    static const char *const loopback[] = { "localhost", "127.0.0.1", "[::1]", NULL };
    const char *host = req->header[HDR_HOST];
    if (route_lists("/healthz /readyz", req->target.path))
        return true;        /* an orchestrator's probe names the address it was given, and learns nothing here */
    for (const char *const *h = loopback; *h; h++)
        if (host_is(host, *h))
            return true;
    for (const char *const *h = app->hosts; h && *h; h++)
        if (host_is(host, *h))
            return true;
    return err_set(e, ERR_AUTH_HOST, "Host", "this service does not answer for that host name; its operator can add it");
}

static bool check_query(const struct request *req, struct err *e)
{
    for (int i = 0; i < req->target.queries; i++) {
        const char *name = req->target.query[i].name;
        if (!route_lists(req->route->query, name))
            return err_set(e, ERR_REQUEST_INVALID, "query", "the parameter \"%.60s\" is unknown; this path takes: %s", name,
                           req->route->query[0] ? req->route->query : "none");
    }
    return true;
}

/* Is `type` (without parameters) one of the words? */
static bool media_type_in(const char *type, const char *words)
{
    char bare[64];
    size_t n = strcspn(type, "; \t");
    if (n >= sizeof bare)
        return false;
    for (size_t i = 0; i < n; i++)
        bare[i] = (char)tolower((unsigned char)type[i]);
    bare[n] = '\0';
    return route_lists(words, bare);
}

static bool check_type(const struct request *req, bool body, struct err *e)
{
    static const char *const taken[] = {
        [BODY_NONE] = "",
        [BODY_JSON] = "application/json",
        [BODY_BLOB] = "application/octet-stream application/onnx application/x-onnx application/x-protobuf "
                      "application/zip application/x-npy application/x-npz",
        [BODY_PART] = "application/offset+octet-stream",
    };
    const char *type = req->header[HDR_CONTENT_TYPE], *coding = req->header[HDR_CONTENT_ENCODING];
    if (!body || req->route->body == BODY_NONE)
        return true;
    if (coding && strcasecmp(coding, "identity") != 0)
        return err_set(e, ERR_REQUEST_MEDIA_TYPE, "Content-Encoding", "send the body without a content coding");
    if (!type && req->route->body == BODY_BLOB)
        return true;        /* curl -T sends none */
    if (!type || !media_type_in(type, taken[req->route->body]))
        return err_set(e, ERR_REQUEST_MEDIA_TYPE, "Content-Type", "send one of: %s", taken[req->route->body]);
    return true;
}

static bool check_length(const struct app *app, const struct request *req, bool *ret_body, struct err *e)
{
    const char *length = req->header[HDR_CONTENT_LENGTH];
    uint64_t n = 0, limit = request_body_limit(app, req);
    bool chunked = req->header[HDR_TRANSFER_ENCODING];
    if (length)
        request_digits(length, &n);
    if (req->route->body == BODY_BLOB && !length && !chunked)
        return err_set(e, ERR_REQUEST_LENGTH, "Content-Length", "send Content-Length, or a chunked body");
    if (n > limit)
        return err_set(e, ERR_REQUEST_TOO_LARGE, "Content-Length", "this path takes at most %llu bytes",
                       (unsigned long long)limit);
    *ret_body = chunked || n > 0;
    return true;
}

/* The disk space of the declared bytes, and their part of the quota, are taken before they are sent. */
static bool begin_blob(const struct app *app, struct request *req, struct err *e)
{
    const char *last = req->target.segment[req->target.segments - 1], *length = req->header[HDR_CONTENT_LENGTH];
    uint8_t digest[HASH_SIZE];
    uint64_t n = 0;
    if (length)
        request_digits(length, &n);
    if (!(req->upload = malloc(sizeof *req->upload)))
        return err_sys(e, "body", "receive");
    *req->upload = BLOB_WRITER_NONE;
    return blob_begin(req->upload, app->store, req->who.team, hash_parse(last, digest) ? last : NULL, app->max_upload, e)
        && blob_reserve(req->upload, n, e);
}

static bool begin_body(struct app *app, struct request *req, bool body, struct err *e)
{
    req->body = BUF_INIT((size_t)req->route->body_limit);
    switch (req->route->body) {
    case BODY_BLOB: return begin_blob(app, req, e);
    case BODY_PART: return uploads_begin(app, req, body, e);
    case BODY_JSON:
    case BODY_NONE: break;
    }
    return true;
}

/* Bytes that this team owns need not be sent again, if the client asks before it sends. */
static bool known_blob(const struct app *app, const struct request *req)
{
    struct blob blob;
    const char *expect = req->header[HDR_EXPECT];
    return req->route->handle == put_blob && expect && strcasecmp(expect, "100-continue") == 0
        && blob_owned(app->store, req->who.team, req->param[0], &blob);
}

static bool admit(struct app *app, struct request *req, struct reply *reply, char *allow, size_t allow_size, bool *ret_body, struct err *e)
{
    if (!check_framing(req, e) || !access_peer(app, req, e) || !check_host(app, req, e))
        return false;
    req->route = route_find(req->method, req->target.segments, req->target.segment, req->param, allow, allow_size, e);
    return req->route && access_site(req, e) && access_token(app, req, reply, e) && check_query(req, e)
        && check_length(app, req, ret_body, e) && check_type(req, *ret_body, e);
}

bool request_admit(struct app *app, struct request *req, struct reply *reply)
{
    struct err e = { 0 };
    char allow[128] = "";
    bool body = false;
    uploads_fields(req, reply);
    bool ok = admit(app, req, reply, allow, sizeof allow, &body, &e);
    req->known = ok && known_blob(app, req);
    if (ok && !req->known && begin_body(app, req, body, &e)) {
        req->sending = req->route->body == BODY_BLOB || req->part;
        metric_add(METRIC_UPLOADS, req->sending);
        return true;
    }
    if (req->known) {
        /* the handler answers: it has a promise to write down */
    } else if (e.code == ERR_METHOD && strcmp(req->method, "OPTIONS") == 0) {
        reply->status = 204;
        reply_field(reply, "Allow", "%s", allow);
        uploads_options(app, req, reply);
    } else {
        if (e.code == ERR_METHOD)
            reply_field(reply, "Allow", "%s", allow);
        reply_problem(req, reply, &e);
        audit_refused(app, req, reply);
    }
    /* What follows on the connection is a body nobody will read. */
    const char *length = req->header[HDR_CONTENT_LENGTH];
    reply->close = reply->close || req->header[HDR_TRANSFER_ENCODING] || (length && strcmp(length, "0") != 0);
    if (!req->known)
        reply_seal(reply);
    return false;
}
