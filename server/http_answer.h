/*
 * http_answer.h - a reply's body as the library's response.
 *
 * What was made in memory stays there until its reader has taken it, and readers may be slow: so what large answers hold together is bounded.  Files are
 * sent from the disk and hold nothing.
 */
#ifndef SERVER_HTTP_ANSWER_H
#define SERVER_HTTP_ANSWER_H

#include "api/request.h"

#include <stdatomic.h>
#include <stdint.h>

struct MHD_Response;

#define ANSWER_BYTES (INT64_C(256) << 20)

/* Outlives the responses. */
struct answers {
    int64_t max;                    /* bytes that all large answers may hold */
    _Atomic int64_t held;
};

/* Whether it counts: 64 KiB of text and more. */
bool http_answer_large(const struct reply *reply);

/*
 * Takes the body out of the reply, but for one without memory or, unless `always`, a large one for which there is no room: then NULL, and the reply is
 * as it was.
 */
struct MHD_Response *http_answer(struct answers *all, struct reply *reply, bool always);

#endif
