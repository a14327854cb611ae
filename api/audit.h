/* audit.h - which requests the audit log hears of.  Called where an answer is complete. */
#ifndef API_AUDIT_H
#define API_AUDIT_H

#include "api/request.h"
#include "storage/audit.h"

/* After a handler: a row for whatever may have changed something, on disk before the answer is sent. */
void audit_answered(struct app *app, const struct request *req, struct reply *reply);

/* After a refusal at the gate: a row for access that was denied, later. */
void audit_refused(struct app *app, const struct request *req, const struct reply *reply);

#endif
