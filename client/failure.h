/*
 * failure.h - what went wrong, as the client's user needs it: what, where, what to do, and the exit code.
 *
 * Most failures come from the service as problem documents (RFC 9457), with codes of its own that may be newer than this program; so
 * they are kept as text here.  Ours have codes that begin with "client.".  The struct owns no memory; the first failure wins.
 */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

#include "core/base/json.h"

#include <stdbool.h>

/* Exit codes are those of `repquant`, and what shells make of a Ctrl-C. */
enum { EXIT_DONE = 0, EXIT_INPUT = 1, EXIT_USAGE = 2, EXIT_ENVIRONMENT = 3, EXIT_INTERRUPTED = 130 };

struct failure {
    int exit;                   /* EXIT_DONE: nothing failed */
    long status;                /* of the answer; 0 if there was none */
    bool again;                 /* the same may succeed in a moment */
    int wait_s;                 /* Retry-After of the answer; 0: not told */
    char code[64];
    char what[128], where[256], text[512];
    char request_id[64];
};

/* Fills f unless it is filled.  Always returns false. */
bool fail(struct failure *f, int exit, const char *code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 5, 6), cold));
/* As fail() with errno's text: a file that is not there is the input's fault, what else there is the environment's. */
bool fail_errno(struct failure *f, const char *where, const char *what) __attribute__((cold));

#define fail(...) (fail(__VA_ARGS__), err_false())             /* see core/base/err.h */
#define fail_errno(...) (fail_errno(__VA_ARGS__), err_false())

/* From the answer to a request; doc is the problem document, or NULL where the answer has none.  Returns false. */
bool fail_problem(struct failure *f, long status, const json_t *doc);

/* What to do beyond what the text says; "" where that says it all. */
const char *failure_advice(const struct failure *f);

/* As a problem document; the caller decrefs. */
json_t *failure_json(const struct failure *f);

#endif
