/*
 * http_head.h - the head of a request as the library has parsed it, and what the library lets pass.
 *
 * libmicrohttpd 0.9.75 takes a bare line feed or carriage return for a line's end, and ends a field's value at a NUL byte. Another
 * server before us may not, and then the two see different messages (request smuggling). The library leaves its traces,
 * though: it parses in place and puts a NUL over each byte that ends a line. So behind the text of a version or a value
 * lie two NUL bytes if the line ended with CR LF, and something else if it did not; and the next name, unless the
 * library has copied a folded field elsewhere.
 */
#ifndef SERVER_HTTP_HEAD_H
#define SERVER_HTTP_HEAD_H

#include "api/request.h"

#include <microhttpd.h>
#include <sys/socket.h>

/* The library itself takes heads up to a connection's memory; what is left of that is the answer's. */
enum { HEAD_FIELDS_MAX = 100, HEAD_FIELD_MAX = 8192, HEAD_BYTES_MAX = 48 * 1024 };

/* Fills req->header and req->peer; what is wrong goes to req->head. version: as the library gives it. */
void http_head(struct MHD_Connection *c, const char *version, struct request *req);

/* Text of an address.  An IPv4 client of an IPv6 socket is the same client. */
void http_address(const struct sockaddr *a, char *ret, size_t size);

#endif
