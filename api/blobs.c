/* blobs.c - /v1/blobs: bytes by their digest. */
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "api/serve.h"

#include <stdio.h>

static bool want_digest(const struct request *req, struct err *e)
{
    uint8_t digest[HASH_SIZE];
    return hash_parse(req->param[0], digest)
        || err_set(e, ERR_REQUEST_INVALID, "digest", "the digest must be \"sha256:\" and 64 lower-case hexadecimal digits");
}

/* Whoever is told that the bytes are there may register them as long as if they had been sent. */
static bool keep(struct app *app, const struct request *req, struct reply *reply, struct err *e)
{
    struct blob blob;
    reply->status = 200;
    return blob_keep(app->store, req->who.team, req->param[0], &blob, e) && reply_blob(reply, &blob, e);
}

bool put_blob(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct blob blob;
    if (!want_digest(req, e))
        return false;
    if (req->known)
        return keep(app, req, reply, e);
    reply->status = blob_get(app->store, req->who.team, req->param[0], &blob, NULL) ? 200 : 201;
    if (!blob_finish(req->upload, &blob, e))
        return false;
    return reply_blob(reply, &blob, e);
}

bool get_blob(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    return want_digest(req, e) && reply_stored_file(app, req, reply, req->param[0], req->param[0], e);
}
