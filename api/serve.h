/* serve.h - a stored file as an answer: ranges, validators, and what keeps a browser from running it. */
#ifndef API_SERVE_H
#define API_SERVE_H

#include "api/request.h"
#include "core/base/buf.h"

enum range { RANGE_WHOLE, RANGE_PART, RANGE_OUTSIDE };

/*
 * What a Range header field asks of `size` bytes.  One range of bytes is served; a field that is absent, malformed or
 * asks for several is ignored, as RFC 9110 allows.  ret_offset and ret_length are set for RANGE_PART.
 */
enum range range_parse(const char *text, uint64_t size, uint64_t *ret_offset, uint64_t *ret_length);

/* Whether an If-None-Match field lists this entity tag (quotes included), or is "*". */
bool etag_listed(const char *field, const char *etag);

/*
 * Fills the reply with fd: 200, 206, 304 or 416.  Takes fd, whatever happens.  digest is "sha256:...": the entity tag and the
 * Repr-Digest.  `name` is what a browser saves it as; anything but letters, digits, '.', '-' and '_' in it becomes '_'.
 */
bool reply_file(const struct request *req, struct reply *reply, int fd, uint64_t size, const char *digest,
                const char *name, struct err *e);

/* The same of a blob the team owns: ERR_NOT_FOUND, ERR_CORRUPT.  With ?verify=1 its bytes are compared with the digest before the first is sent; that takes
 * as long as the disk does, so false asks to be called again on LANE_SLOW. */
bool reply_stored_file(struct app *app, const struct request *req, struct reply *reply, const char *digest, const char *name, struct err *e);

/* Fills the reply with text that only grows: 200, 206 or 416.  Takes the buffer if it returns true. */
bool reply_part(const struct request *req, struct reply *reply, struct buf *text, struct err *e);

#endif
