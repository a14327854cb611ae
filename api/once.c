#include "api/once.h"

#include "api/app.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_KEY_BYTES = 255 };

bool reply_made(struct reply *reply, int status, const char *path, const char *id, json_t *row, struct err *e)
{
    reply_field(reply, "Location", "%s/%s", path, id);
    return reply_json(reply, status, row, e);
}

char *once_text(json_t *row)
{
    char *text = row && !json_short() ? json_text(row, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(row);
    return text;
}

/* The key, with a fingerprint of what was asked with it.  key stays NULL without the header field. */
static bool take_key(const struct request *req, const struct once *once, struct idempotency *ret, struct err *e)
{
    const char *key = req->header[HDR_IDEMPOTENCY_KEY];
    struct hash h;
    if (!key)
        return true;
    if (!*key || strlen(key) > MAX_KEY_BYTES)
        return err_set(e, ERR_REQUEST_INVALID, IDEMPOTENCY_FIELD, "the key must have 1 to %d bytes", MAX_KEY_BYTES);
    hash_init(&h);
    hash_add(&h, req->method, strlen(req->method) + 1);
    hash_add(&h, req->target.path, strlen(req->target.path) + 1);
    hash_add(&h, req->body.p, req->body.n);
    hash_end(&h, ret->fingerprint);
    ret->key = key;
    ret->answer = once->answer;
    return true;
}

/* *ret_replayed: an earlier request with this key has made its own, and the reply is what that was answered. */
static bool replay(struct app *app, const struct request *req, const struct once *once, const struct idempotency *key, struct reply *reply,
                   bool *ret_replayed, struct err *e)
{
    struct answer answer;
    if (!idempotency_find(app->store, req->who.team, key, &answer, e))
        return false;
    *ret_replayed = answer.body != NULL;
    if (!answer.body)
        return true;
    json_t *row = json_read(answer.body, 0);
    free(answer.body);
    reply_field(reply, "Idempotency-Replayed", "true");
    return reply_made(reply, answer.status, once->path, answer.id, row, e);
}

bool reply_once(struct app *app, const struct request *req, const struct once *once, struct reply *reply, struct err *e)
{
    struct idempotency key = { 0 };
    struct err why = { 0 };
    bool replayed;
    if (!take_key(req, once, &key, e) || !replay(app, req, once, &key, reply, &replayed, e))
        return false;
    if (replayed)
        return true;
    if (!app_takes_work(app, e))
        return false;
    reply->status = once->status;
    if (once->make(app, req, &key, reply, &why))
        return true;
    if (why.code == ERR_CONFLICT && strcmp(why.where, IDEMPOTENCY_FIELD) == 0
        && replay(app, req, once, &key, reply, &replayed, e) && replayed)
        return true;        /* its twin was faster by a moment */
    if (e->code == ERR_NONE)
        *e = why;
    return false;
}
