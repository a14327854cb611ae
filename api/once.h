/* once.h - what a request makes is made once, however often the request is repeated with its Idempotency-Key. */
#ifndef API_ONCE_H
#define API_ONCE_H

#include "api/request.h"
#include "storage/idempotency.h"

/* What a request makes. */
struct once {
    const char *path;               /* its Location is this, a slash and its id */
    int status;                     /* of the answer, as far as is known beforehand */
    char *(*answer)(const void *made, int *ret_status);     /* see idempotency.h */
    /* Makes it, keeping the answer under the key in the same transaction, and fills the reply. */
    bool (*make)(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply, struct err *e);
};

/* The answer of an earlier request with the same key, or what make() makes. */
bool reply_once(struct app *app, const struct request *req, const struct once *once, struct reply *reply, struct err *e);

/* An answer to keep; takes the row, NULL is out of memory. */
char *once_text(json_t *row);

bool reply_made(struct reply *reply, int status, const char *path, const char *id, json_t *row, struct err *e);

#endif
