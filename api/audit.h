/* audit.h - which requests the audit log hears of.  Called where an answer is complete. */
#ifndef API_AUDIT_H
#define API_AUDIT_H

#include "api/request.h"
#include "storage/audit.h"

/*
 * Around a handler.  Its row goes into the transaction that makes its change; what changed nothing gets one of its own; and what was noted and
 * then answered otherwise (a file stored that proved to be no model) one more, of the answer.  All are on disk before it is sent.
 */
struct audit_note {
    struct audit_scope scope;
    const struct request *req;
    const struct reply *reply;
};
void audit_begin(struct audit_note *n, const struct request *req, const struct reply *reply);
void audit_end(struct app *app, struct audit_note *n, struct reply *reply);

/* After a refusal at the gate: a row for access that was denied, later. */
void audit_refused(struct app *app, const struct request *req, const struct reply *reply);

#endif
