/* problem.h - struct err as a problem document (RFC 9457). */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include "core/base/err.h"
#include "core/base/json.h"

/*
 * {type, title, status, code, detail, pointer | where, instance, request_id, retryable}; new, or NULL out of memory.
 * For statuses of 500 and above the detail is a fixed sentence: paths, SQL and system errors stay in
 * the log, under the request id.
 */
json_t *problem_json(const struct err *e, const char *instance, const char *request_id);

#endif
