/*
 * http_reaper.h - cuts connections that take longer than an honest client would.
 *
 * libmicrohttpd's own timeout only sees silence; one byte every few seconds holds a connection for
 * ever.  So every connection is in a table with a phase, and a thread looks at the table once a
 * second.  It never closes a descriptor, it calls shutdown(2): the library notices and cleans up.
 *
 *   HEAD     accepted, or a request line has come   a deadline: header_seconds
 *   BODY     receiving                              a rate, from the kernel's count of received bytes
 *   RUN      a handler has it                       nothing: we are the slow one
 *   SEND     answering                              a rate, from the kernel's count of acknowledged bytes
 *   STREAM   answering as things happen             rate_seconds in which nothing of what waits to be sent was taken
 *   IDLE     between two requests                   a deadline: idle_seconds
 *
 * The rate is at least rate_bytes per rate_seconds.  Sockets that are not TCP have no such counts and no rate.
 *
 * A connection leaves the table before its descriptor is closed, under the same lock that the
 * thread holds while it looks, so a reused number is never hit.
 */
#ifndef SERVER_HTTP_REAPER_H
#define SERVER_HTTP_REAPER_H

#include "core/base/err.h"

#include <stdint.h>

struct http_limits {
    int header_seconds, idle_seconds, rate_seconds;
    uint64_t rate_bytes;
};
#define HTTP_LIMITS_DEFAULT ((struct http_limits){ 10, 60, 30, 30 * 1024 })

enum conn_phase { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_RUN, CONN_SEND, CONN_STREAM };

struct conn;
struct reaper;

struct reaper *reaper_start(const struct http_limits *limits, struct err *e);
void reaper_stop(struct reaper *r);         /* after the last connection is gone; NULL is fine */

/* In HEAD; NULL without memory, which the others accept. */
struct conn *reaper_add(struct reaper *r, int fd, const char *address);
void reaper_remove(struct reaper *r, struct conn *c);      /* before the descriptor is closed */
/* Cheap and without a lock: several times per request.  Called by the thread that has the connection. */
void reaper_phase(struct conn *c, enum conn_phase phase);

/*
 * Answered before the client had sent everything: reads and discards what it still sends, for up to two
 * seconds, after the library has closed its side.  Closing at once would reset the connection and the client might never see
 * the answer.  Works on a duplicate of the descriptor; does nothing if there are too many.
 */
void reaper_linger(struct reaper *r, struct conn *c);

/* Connections there are from an address. */
int reaper_count(struct reaper *r, const char *address);

/* Shuts down connections in IDLE and HEAD (all: every one). */
void reaper_cut(struct reaper *r, bool all);

/* Waits until no connection is left, for at most so long; true if none is. */
bool reaper_wait(struct reaper *r, int seconds);

#endif
