/*
 * http.h - the HTTP server: connections in, struct request and struct reply out.
 *
 * server/http*.c is the only code that knows libmicrohttpd, and it knows nothing of the API but the
 * calling sequence in api/request.h.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "core/base/err.h"
#include "server/http_reaper.h"

#include <stdint.h>

struct app;
struct http;
struct watch;

struct http_options {
    const char *listen;             /* a numeric IPv4 or IPv6 address; host names are not looked up */
    int64_t port;                   /* 0: any free one */
    const char *tls_cert, *tls_key; /* PEM text, kept until http_stop(); NULL: plain HTTP */
    int per_address;                /* connections one address may have; 0: any number */
    int64_t answer_bytes;           /* of large answers that wait to be read, see http_answer.h; 0: 256 MiB */
    struct http_limits limits;      /* {0}: HTTP_LIMITS_DEFAULT */
    struct watch *watch;            /* for those who wait for events; outlives the server */
};

/* Listens and serves from threads of its own until http_stop(); app must outlive it.  ERR_CONFIG for a certificate or key that cannot be used. */
struct http *http_start(const struct http_options *options, struct app *app, struct err *e);

int http_port(const struct http *h);

/*
 * Sets app->draining, stops accepting, ends streams of events, closes idle connections, lets requests under way finish for up to `seconds`, then cuts
 * them.  Waits for running handlers however long they take: what a handler waits for (app->inspect) must end
 * once draining is set.  Frees; NULL is fine.
 */
void http_stop(struct http *h, int seconds);

/* A listening socket, close-on-exec and non-blocking, or -1. */
int http_listen(const char *address, int64_t port, int *ret_port, struct err *e);

#endif
