/*
 * http.h - requests to the service, the only <curl/curl.h>.
 *
 * A token goes nowhere but to the service's own URL: no redirect is followed, and plain http is for loopback only.
 */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include "client/backoff.h"
#include "client/failure.h"
#include "core/base/buf.h"

#include <stdint.h>

struct service {
    char url[512];                  /* scheme, host, port and perhaps a path; no slash at the end */
    char token[256];                /* "" for none */
    const char *ca;                 /* a file of certificates to trust instead of the system's, or NULL */
    int64_t patience_ms;            /* how long requests that may be repeated are */
    int64_t until;                  /* by now_ms(): what is not answered then has failed; 0: without end */
    void (*waiting)(void *arg, const struct failure *why);     /* before a request is repeated; may be NULL */
    void *arg;
    void *curl;                     /* one handle, so that the connection is kept */
};

/* Makes *ret of a URL a person typed: lower-case scheme and host, no slash at the end.  Refuses a user, a query, other schemes. */
bool service_url(const char *text, char *ret, size_t size, struct failure *f);
/* Refuses to send a token where others can read it. */
bool service_check(const struct service *s, struct failure *f);
bool service_open(struct service *s, struct failure *f);
void service_close(struct service *s);
/* For a caller that repeats by itself. */
struct backoff service_backoff(const struct service *s);

struct http_answer;
enum http_header { H_LOCATION, H_RETRY_AFTER, H_UPLOAD_OFFSET, H_BLOB_DIGEST, H_CONTENT_RANGE, H_IDEMPOTENCY_REPLAYED, H_REQUEST_ID, H_HEADERS };

struct http_request {
    const char *method, *path;      /* below the URL, with the query */
    const char *fields[8];          /* "Name: value", NULL-terminated */
    const char *json;               /* the body, or NULL */
    int fd;                         /* > 0: the body is `length` bytes of this file from `from` */
    uint64_t from, length;
    /* Bytes of an answer with 2xx, instead of collecting them.  False with *f filled ends the request. */
    bool (*take)(void *arg, long status, const struct http_answer *a, const void *p, size_t n, struct failure *f);
    void (*sent)(void *arg, uint64_t bytes);    /* how much of the file has gone out; may be NULL */
    void *arg;
    bool once;                      /* not to be repeated when the connection broke or a proxy lost it: the service may have done it already */
    bool single;                    /* tried once, whatever happens: the caller repeats */
};

struct http_answer {
    long status;
    json_t *json;                   /* NULL if the body is none */
    char header[H_HEADERS][256];    /* "" if absent */
};

/* Nobody knows whether the service did what it was asked: the connection broke, or a proxy had no answer of it. */
bool http_unknown(const struct failure *f);

/* True: an answer with 2xx.  Anything else is a failure; f->again tells whether it is worth repeating. */
bool http_send(struct service *s, const struct http_request *r, struct http_answer *ret, struct failure *f);
void http_release(struct http_answer *a);

/* An answer with JSON to GET or POST (json may be NULL for a POST without a body), which the caller decrefs; NULL with f. */
json_t *http_get(struct service *s, const char *path, struct failure *f);
json_t *http_post(struct service *s, const char *path, const char *json, bool once, struct failure *f);

#endif
