/* http_stream.h - a stream of events as the body of a response of the HTTP library. */
#ifndef SERVER_HTTP_STREAM_H
#define SERVER_HTTP_STREAM_H

#include "server/http_watch.h"

struct MHD_Connection;
struct MHD_Response;

/* Copies `stream`.  NULL with *e: see watch_add().  The response is for this connection alone. */
struct MHD_Response *http_stream(struct watch *watch, const struct stream *stream, struct MHD_Connection *c, struct err *e);

#endif
