/*
 * request.h - what a handler sees of HTTP, and all it sees.
 *
 *   request_open()   the raw target, as soon as the request line is known
 *   request_admit()  everything that can be decided from the head (api/gate.c)
 *   request_body()   zero or more pieces
 *   request_answer() the handler, and the reply as bytes
 *   request_release(), reply_release()
 *
 * The server calls them in this order and calls nothing else of this folder.  A request that
 * request_admit() refuses goes straight to its reply.  Nothing here knows the HTTP library, so
 * tests make a request by filling the struct.
 */
#ifndef API_REQUEST_H
#define API_REQUEST_H

#include "api/proxy.h"
#include "api/route.h"
#include "core/base/buf.h"
#include "core/base/json.h"
#include "storage/blob.h"
#include "storage/session.h"
#include "storage/upload.h"

#include <stdbool.h>
#include <stdint.h>

struct app;
struct stream;

/* The header fields the API reads.  Each but Accept and traceparent is a singleton: a second copy is refused as ambiguous framing. */
#define REQUEST_HEADERS(X)                                                                              \
    X(HOST, "Host") X(CONTENT_LENGTH, "Content-Length") X(TRANSFER_ENCODING, "Transfer-Encoding")        \
    X(CONTENT_TYPE, "Content-Type") X(CONTENT_ENCODING, "Content-Encoding") X(EXPECT, "Expect")          \
    X(AUTHORIZATION, "Authorization") X(ORIGIN, "Origin") X(SEC_FETCH_SITE, "Sec-Fetch-Site")            \
    X(RANGE, "Range") X(IF_RANGE, "If-Range") X(IF_NONE_MATCH, "If-None-Match")                          \
    X(IDEMPOTENCY_KEY, "Idempotency-Key") X(TUS_RESUMABLE, "Tus-Resumable")                             \
    X(UPLOAD_LENGTH, "Upload-Length") X(UPLOAD_OFFSET, "Upload-Offset")                                  \
    X(UPLOAD_METADATA, "Upload-Metadata") X(UPLOAD_CHECKSUM, "Upload-Checksum")                          \
    X(ACCEPT, "Accept") X(LAST_EVENT_ID, "Last-Event-ID") X(TRACEPARENT, "traceparent")                                                \
    X(COOKIE, "Cookie") X(CSRF, "X-Repquant-Csrf")                                                       \
    X(FORWARDED_FOR, "X-Forwarded-For") X(FORWARDED_USER, "X-Forwarded-User") X(PROXY_SECRET, "X-Repquant-Proxy-Secret")

enum request_header {
#define X(name, text) HDR_##name,
    REQUEST_HEADERS(X)
#undef X
    HDR_COUNT
};

enum { REQUEST_MAX_SEGMENTS = 8, REQUEST_MAX_QUERY = 16, REQUEST_MAX_TARGET = 4096, REQUEST_ID_SIZE = 21 };

/* A request target after decoding, once: every string is NUL-terminated UTF-8 without control bytes. */
struct target {
    char *text;                                     /* owned; the strings below lie in it */
    char path[256];                                 /* as sent, without the query: for logs and `instance` */
    int segments, queries;
    const char *segment[REQUEST_MAX_SEGMENTS];      /* never "." or ".."; without '/' and '\'; "" after a doubled or last slash */
    struct { const char *name, *value; } query[REQUEST_MAX_QUERY];
};

/* False with *e REQUEST_FRAMING: bad percent-encoding, control bytes, dot segments, absolute form, too long. */
bool target_parse(const char *raw, struct target *ret, struct err *e);
void target_release(struct target *t);

struct request {
    /* set by the server */
    const char *method;                             /* borrowed, as sent */
    const char *header[HDR_COUNT];                  /* borrowed; NULL: absent */
    char peer[PEER_SIZE];                           /* the address the request came from; "" if there is none */
    bool underscore;                                /* the name of a header field holds one */
    struct err fault;                               /* the first of the head, or of receiving the body: the rest is discarded */
    bool waited;                                    /* what a handler asked to wait for has come, or will not: it must answer */
    bool slow;                                      /* the handler runs on LANE_SLOW */

    /* set by request_open() and request_admit() */
    char id[REQUEST_ID_SIZE];                       /* "req_" + 16 hex digits */
    char trace[TRACE_ID_SIZE];                        /* the trace it belongs to, 32 hex digits (W3C traceparent); "": none */
    struct target target;
    bool vouched;                                   /* a trusted proxy sent it and showed its secret */
    const struct route *route;
    const char *param[REQUEST_MAX_SEGMENTS];        /* what the pattern's {names} matched, in order */
    enum { BY_NOBODY, BY_TOKEN, BY_SESSION, BY_PROXY } by;    /* how the asker was told; BY_NOBODY also without tokens */
    struct token who;                               /* whose token it is; on open routes nobody's: all "" */
    struct session session;                         /* BY_SESSION: which; else all "" */

    /* the body: one of the three, as the route says */
    struct buf body;                                /* BODY_JSON */
    struct upload_part *part;                       /* BODY_PART, owned; the handler ends it with upload_end() */
    struct blob_writer *upload;                     /* BODY_BLOB, owned; the handler ends it with blob_finish() */
    bool sending;                                   /* it brings a file, and is counted */
    bool known;                                     /* a file the team owns: the handler answers without its bytes */
    uint64_t received, discarded;
};

enum { REPLY_MAX_FIELDS = 12, REPLY_MAX_STORED = 3 };

/*
 * What the server sends.  Exactly one of text, borrowed, fd and stream is the body.  With wait_us there is no answer yet: the server
 * calls the handler again when the stream's job has an event, after wait_us at the latest.  With slow there is none either: the handler, on its
 * route's lane, found that it would take seconds, and is called again on LANE_SLOW.
 */
struct reply {
    int status;                                     /* 0: 200.  A handler that changes something sets it first: the audit log is told then */
    const char *type;                               /* static; the Content-Type */
    json_t *json;                                   /* owned; becomes text */
    int nstored;                                    /* members of `json`, an object that has others, that are text already */
    struct { const char *name; char *text; } stored[REPLY_MAX_STORED];      /* text: malloc'd JSON, or NULL for null */
    char *text;                                     /* owned, malloc'd */
    const char *borrowed;                           /* static storage */
    size_t size;                                    /* of text or borrowed */
    int fd;                                         /* >= 0: a file; closed by whoever sends it */
    uint64_t offset, length;                        /* of the part of fd to send */
    struct stream *stream;                          /* owned */
    int64_t wait_us;
    bool slow;
    struct err error;                               /* what a problem document is about, in full: for the log */
    bool incomplete;                                /* a field was lost for want of memory: not to be sent */
    bool close;                                     /* the connection ends after this answer */
    int fields;
    struct { const char *name; char *value; } field[REPLY_MAX_FIELDS];      /* values are malloc'd */
};
#define REPLY_INIT ((struct reply){ .fd = -1 })

/* Zeroes *req, names it, parses the target. */
void request_open(struct request *req, const char *raw_target);

/* One header field of the head, by name and length; keeps or refuses it. */
void request_field(struct request *req, const char *name, const char *value, size_t value_n);

/* After the last field: which trace the request belongs to. */
void request_trace(struct request *req);

/* Body bytes are to come iff true; false: the body is not read, and the reply is complete unless req->known: then request_answer() makes it. */
bool request_admit(struct app *app, struct request *req, struct reply *reply);

/* Stores a piece of the body, or remembers why not and discards it.  False: cut the connection. */
bool request_body(struct app *app, struct request *req, const void *data, size_t n);

/* Completes the reply with what is still true of a moment ago; false: the handler must be run. */
bool request_at_hand(struct app *app, struct request *req, struct reply *reply);

/* Runs the handler and completes the reply, whatever happens; with reply->wait_us or reply->slow it is to be called again. */
void request_answer(struct app *app, struct request *req, struct reply *reply);

/* Aborts an upload that no handler took. */
void request_release(struct request *req);
/* Whether that will wait for the disk: what came of an upload's part is kept. */
bool request_lingers(const struct request *req);

/* The value of a query parameter, or NULL. */
const char *request_query(const struct request *req, const char *name);

/* As json_get_int for a query parameter; absent keeps *ret. */
bool request_query_int(const struct request *req, const char *name, int64_t lo, int64_t hi, int64_t *ret,
                       struct err *e);

/* The body as a JSON object whose members are all among `members` (NULL-terminated); the caller decrefs.
 * An empty body counts as {} if `optional`. */
json_t *request_json(const struct request *req, const char *const *members, bool optional, struct err *e);
/* Whether the body has no members, or there is none. */
bool request_nothing(const struct request *req, struct err *e);

/* Whether `object` is one and has no members but these; `pointer` is where it stands in the body. */
bool request_members(const json_t *object, const char *const *members, const char *pointer, struct err *e);

/* Digits alone: no sign, no space, no overflow. */
bool request_digits(const char *text, uint64_t *ret);
/* Whether `name` may stand for something of the client's: 1 to 200 bytes without control characters. */
bool request_name(const char *name, const char *where, struct err *e);

uint64_t request_body_limit(const struct app *app, const struct request *req);

void reply_field(struct reply *reply, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

bool reply_has(const struct reply *reply, const char *name);

/* Adds *take_json, JSON that was stored as text, to the object that the reply becomes, which has other members: it is neither parsed nor written
 * again.  Sets it to NULL. */
void reply_stored(struct reply *reply, const char *name, char **take_json);

/* Takes `json`; NULL is out of memory and becomes an error.  Always true: `return reply_json(...)`. */
bool reply_json(struct reply *reply, int status, json_t *json, struct err *e);

/* Takes back fields that tell of a body (ranges, digests, dispositions) and no longer hold. */
void reply_drop_fields(struct reply *reply);

/* Turns *e into a problem document; keeps the fields already set. */
void reply_problem(const struct request *req, struct reply *reply, const struct err *e);

void reply_close_file(struct reply *reply);          /* no file after all */

/* Turns the JSON into bytes and fills in the status; the server may send it then. */
void reply_seal(struct reply *reply);

void reply_release(struct reply *reply);            /* closes fd if it is still there */

#endif
