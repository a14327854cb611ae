/* uploads.h - what the gate needs to know of /v1/uploads: its header fields, and how a body begins. */
#ifndef API_UPLOADS_H
#define API_UPLOADS_H

#include "api/request.h"

/* Adds what every answer of the path carries; nothing elsewhere. */
void uploads_fields(const struct request *req, struct reply *reply);
/* ... and what OPTIONS tells. */
void uploads_options(const struct app *app, const struct request *req, struct reply *reply);

/* Checks the head and opens req->part; body: bytes are to come. */
bool uploads_begin(struct app *app, struct request *req, bool body, struct err *e);

#endif
