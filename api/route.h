/*
 * route.h - every URL of the service, in one table.
 *
 * What can be checked before a handler runs is a column, not code in the handler: who may call,
 * what the body may be, which query parameters exist.  A route added without a check cannot be
 * written, and a test walks the table against api/openapi.yaml.
 *
 * A handler sees a struct request and fills a struct reply.  It returns false with *e set to
 * answer with a problem document, or with reply->slow to be called again on LANE_SLOW.
 */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "core/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct app;
struct request;
struct reply;

typedef bool handler(struct app *app, struct request *req, struct reply *reply, struct err *e);

enum body_kind {
    BODY_NONE,          /* anything but an empty body is refused */
    BODY_JSON,          /* application/json, kept in memory */
    BODY_BLOB,          /* any bytes, streamed into the blob store while they are hashed */
    BODY_PART,          /* a part of an upload (tus), streamed into its file */
};

/* Where the handler runs.  The HTTP threads are few and shared, so they never wait. */
enum lane {
    LANE_HERE,          /* from memory alone: on the HTTP thread */
    LANE_IO,            /* reads of the database and small files: milliseconds, on the I/O workers */
    LANE_BULK,          /* the same where an answer may have tens of megabytes, which are made in memory: on few workers, so a few at a time */
    LANE_WRITE,         /* waits for a commit, which all who wait share: on many workers of its own, so that readers do not wait for the disk */
    LANE_DISK,          /* finishing a large file: as long as the disk takes, on workers of its own */
    LANE_SLOW,          /* a child looks at an upload, or ahead at a job: seconds, on workers of its own */
    LANE_PROBE,         /* LANE_WRITE's for who needs no token: one worker, so that strangers hold up only each other */
    LANES
};

struct route {
    const char *method;
    const char *pattern;        /* "{name}" matches one path segment: req->param[0], [1], ... in order */
    const char *scope;          /* the token must hold it, see role.h; SCOPE_ANY: any token; NULL: open to everybody */
    enum body_kind body;
    uint64_t body_limit;        /* bytes of a BODY_JSON; blobs have the configured upload limit */
    enum lane lane;
    const char *query;          /* the parameters it takes, separated by spaces; "" for none */
    handler *handle;
};

extern const struct route routes[];
extern const size_t routes_count;

/*
 * The route of method and path segments; HEAD finds GET.  Fills ret_param.  NULL with *e NOT_FOUND, or with *e
 * METHOD.  ret_allow[allow_size] then holds the methods the path takes ("GET, HEAD, OPTIONS"), or "".
 */
const struct route *route_find(const char *method, int segments, const char *const *segment, const char **ret_param,
                               char *ret_allow, size_t allow_size, struct err *e);

/* Are all n bytes of `word` one of the space-separated words of `list`? */
bool route_lists(const char *list, const char *word);

#endif
