/* http_log.h - the one place that logs a request and what went wrong with it: no query, no header field, so no secret. */
#ifndef SERVER_HTTP_LOG_H
#define SERVER_HTTP_LOG_H

#include "api/request.h"

/* status: what was answered, 0 if nothing was; started_us: clock_mono_us() then; whole: the client got all of the answer. */
void http_log(const struct request *req, const struct reply *reply, int status, int64_t started_us, bool whole);

#endif
