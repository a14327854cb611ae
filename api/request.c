#include "api/request.h"

#include "api/handlers.h"

#include "api/access.h"
#include "api/app.h"
#include "api/audit.h"
#include "core/base/metric.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

static const char *const header_names[HDR_COUNT] = {
#define X(name, text) [HDR_##name] = text,
    REQUEST_HEADERS(X)
#undef X
};

/* For ids in logs, nobody's secrets: one call of the kernel for many requests. */
static void take_random(unsigned char *ret, size_t n)
{
    static _Thread_local unsigned char some[256];
    static _Thread_local size_t left;
    if (left < n)
        left = getrandom(some, sizeof some, 0) == sizeof some ? sizeof some : n;
    left -= n;
    memcpy(ret, some + left, n);
}

void request_open(struct request *req, const char *raw_target)
{
    unsigned char random[8];
    *req = (struct request){ 0 };
    take_random(random, sizeof random);
    memcpy(req->id, "req_", 4);
    for (size_t i = 0; i < 2 * sizeof random; i++)
        req->id[4 + i] = "0123456789abcdef"[random[i / 2] >> (i % 2 ? 0 : 4) & 15];
    target_parse(raw_target, &req->target, &req->fault);
}

static bool field_text(const char *value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)value[i] < 0x20 && value[i] != '\t')
            return false;
    return true;
}

void request_field(struct request *req, const char *name, const char *value, size_t value_n)
{
    for (const char *s = name; *s; s++)
        if (*s <= ' ' || *s >= 0x7f)
            err_set(&req->fault, ERR_REQUEST_FRAMING, "head", "a header field's name holds a byte it must not");
    req->underscore = req->underscore || strchr(name, '_');
    if (!field_text(value, value_n))
        err_set(&req->fault, ERR_REQUEST_FRAMING, name, "a header field's value holds a control character");
    for (int i = 0; i < HDR_COUNT; i++) {
        if (strcasecmp(name, header_names[i]) != 0)
            continue;
        if (req->header[i] && (i == HDR_ACCEPT || i == HDR_TRACEPARENT))
            continue;           /* a list, which may come in pieces, and what is for logs alone: the first is heard */
        if (req->header[i])
            err_set(&req->fault, ERR_REQUEST_FRAMING, name, "this header field is given twice");
        req->header[i] = value;
    }
}

/* version "-" trace "-" span "-" flags, in lower-case hexadecimal; a trace of zeros is none.  What is malformed is ignored, as W3C says. */
void request_trace(struct request *req)
{
    static const char form[] = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    const char *text = req->header[HDR_TRACEPARENT];
    size_t n = text ? strlen(text) : 0;
    bool ok = n >= sizeof form - 1 && strncmp(text, "ff", 2) != 0 && strspn(text + 3, "0") < TRACE_ID_SIZE - 1
           && (n == sizeof form - 1 || (strncmp(text, "00", 2) != 0 && text[sizeof form - 1] == '-'));
    for (size_t i = 0; ok && form[i]; i++)
        ok = form[i] == 'h' ? text[i] && strchr("0123456789abcdef", text[i]) : text[i] == form[i];
    if (ok)
        snprintf(req->trace, sizeof req->trace, "%.32s", text + 3);
}

uint64_t request_body_limit(const struct app *app, const struct request *req)
{
    return req->route->body == BODY_JSON ? req->route->body_limit : req->route->body == BODY_NONE ? 0 : app->max_upload;
}

bool request_body(struct app *app, struct request *req, const void *data, size_t n)
{
    uint64_t limit = request_body_limit(app, req);
    enum { DISCARD_MAX = 4 << 20 };     /* of a body that is lost already; then the connection is cut */
    req->received += n;
    if (req->sending)
        metric_add(METRIC_UPLOAD_BYTES, (int64_t)n);
    if (req->fault.code)
        return (req->discarded += n) <= DISCARD_MAX;
    if (req->received > limit)
        err_set(&req->fault, ERR_REQUEST_TOO_LARGE, "body", "this path takes at most %llu bytes", (unsigned long long)limit);
    else if (req->route->body == BODY_BLOB)
        blob_write(req->upload, data, n, &req->fault);
    else if (req->route->body == BODY_PART)
        upload_write(req->part, data, n, &req->fault);
    else
        buf_add(&req->body, data, n);
    if (req->body.bad)
        err_set(&req->fault, ERR_MEMORY, "body", "no memory for the body");
    return true;
}

bool request_at_hand(struct app *app, struct request *req, struct reply *reply)
{
    handler *handle = req->route->handle;
    return !req->fault.code
        && ((handle == get_job && job_at_hand(app, req, reply)) || (handle == get_readyz && readyz_at_hand(app, req, reply)));
}

void request_answer(struct app *app, struct request *req, struct reply *reply)
{
    struct err e = req->fault;
    struct audit_note note;
    json_begin();
    audit_begin(&note, req, reply);
    reply->slow = false;
    if (!e.code && (!req->waited || access_still(app, req, &e)) && !req->route->handle(app, req, reply, &e) && !reply->slow && !e.code)
        err_set(&e, ERR_BUG, "", "the request failed and nobody said why");      /* it must not look like a success */
    if (e.code)
        reply_problem(req, reply, &e);
    else if (reply->wait_us || reply->slow) {
        audit_enter(NULL);
        return;
    }
    reply_seal(reply);
    audit_end(app, &note, reply);
}

void request_release(struct request *req)
{
    metric_add(METRIC_UPLOADS, -req->sending);
    if (req->upload)
        blob_abort(req->upload);
    free(req->upload);
    if (req->part)
        upload_abandon(req->part);
    free(req->part);
    buf_release(&req->body);
    target_release(&req->target);
}

bool request_lingers(const struct request *req) { return req->part && req->part->store; }

const char *request_query(const struct request *req, const char *name)
{
    for (int i = 0; i < req->target.queries; i++)
        if (strcmp(req->target.query[i].name, name) == 0)
            return req->target.query[i].value;
    return NULL;
}

bool request_query_int(const struct request *req, const char *name, int64_t lo, int64_t hi, int64_t *ret, struct err *e)
{
    const char *text = request_query(req, name);
    if (!text)
        return true;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    bool digits = *text >= '0' && *text <= '9';     /* strtoll would also take spaces and signs */
    if (!digits || *end || errno || n < lo || n > hi)
        return err_set(e, ERR_REQUEST_INVALID, name, "\"%s\" must be an integer from %lld to %lld", name, (long long)lo,
                       (long long)hi);
    *ret = n;
    return true;
}

static bool known_members(const json_t *object, const char *const *members, const char *pointer, struct err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        const char *const *m = members;
        while (*m && strcmp(*m, key) != 0)
            m++;
        if (!*m) {
            char where[160];
            snprintf(where, sizeof where, "%s/%s", pointer, key);
            return err_set(e, ERR_REQUEST_JSON, where, "there is no member of this name; remove it");
        }
    }
    return true;
}

bool request_members(const json_t *object, const char *const *members, const char *pointer, struct err *e)
{
    return json_is_object(object) ? known_members(object, members, pointer, e)
                                  : err_set(e, ERR_REQUEST_JSON, pointer, "send a JSON object");
}

json_t *request_json(const struct request *req, const char *const *members, bool optional, struct err *e)
{
    enum { MAX_DEPTH = 16 };
    const bool empty = req->body.n == 0;
    if (empty && !optional) {
        err_set(e, ERR_REQUEST_JSON, "body", "the body is empty; send a JSON object");
        return NULL;
    }
    json_t *object = json_parse(empty ? "{}" : req->body.p, empty ? 2 : req->body.n, MAX_DEPTH, ERR_REQUEST_JSON, e);
    if (object && request_members(object, members, "", e))
        return object;
    json_decref(object);
    return NULL;
}

bool request_nothing(const struct request *req, struct err *e)
{
    static const char *const members[] = { NULL };
    json_t *body = request_json(req, members, true, e);
    json_decref(body);
    return body != NULL;
}

/* JSON and the query decoder have seen to it that it is UTF-8. */
bool request_name(const char *name, const char *where, struct err *e)
{
    enum { NAME_MAX_BYTES = 200 };
    size_t n = strlen(name);
    if (n == 0 || n > NAME_MAX_BYTES)
        return err_set(e, ERR_REQUEST_INVALID, where, "it must have 1 to %d bytes", NAME_MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return err_set(e, ERR_REQUEST_INVALID, where, "it must not hold control characters");
    return true;
}
