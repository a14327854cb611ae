#include "api/problem.h"
#include "api/request.h"
#include "core/base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void reply_field(struct reply *reply, const char *name, const char *fmt, ...)
{
    if (reply->fields == REPLY_MAX_FIELDS)
        return;
    char *value = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&value, fmt, ap);
    va_end(ap);
    reply->incomplete = reply->incomplete || n < 0;     /* a 201 without its Location is worse than a cut connection */
    if (n < 0)
        return;
    reply->field[reply->fields].name = name;
    reply->field[reply->fields++].value = value;
}

void reply_drop_fields(struct reply *reply)
{
    while (reply->fields) {
        char **value = &reply->field[--reply->fields].value;
        free(*value);
        *value = NULL;
    }
}

bool reply_has(const struct reply *reply, const char *name)
{
    for (int i = 0; i < reply->fields; i++)
        if (strcmp(reply->field[i].name, name) == 0)
            return true;
    return false;
}

bool reply_json(struct reply *reply, int status, json_t *json, struct err *e)
{
    if (!json)
        return err_set(e, ERR_MEMORY, "reply", "no memory for the answer");
    reply->status = status;
    reply->json = json;
    reply->type = "application/json";
    return true;
}

void reply_close_file(struct reply *reply)
{
    if (reply->fd >= 0)
        close(reply->fd);
    reply->fd = -1;
}

void reply_stored(struct reply *reply, const char *name, char **take_json)
{
    assert(reply->nstored < REPLY_MAX_STORED);
    reply->stored[reply->nstored].name = name;
    reply->stored[reply->nstored++].text = *take_json;
    *take_json = NULL;
}

static void drop_stored(struct reply *reply)
{
    for (int i = 0; i < reply->nstored; i++)
        free(reply->stored[i].text);
    reply->nstored = 0;
}

/* Everything but the header fields; they may tell what the problem is about (Allow, WWW-Authenticate). */
static void drop_body(struct reply *reply)
{
    json_decref(reply->json);
    drop_stored(reply);
    free(reply->text);
    free(reply->stream);
    reply_close_file(reply);
    reply->json = NULL;
    reply->text = NULL;
    reply->borrowed = NULL;
    reply->size = 0;
    reply->stream = NULL;
    reply->wait_us = 0;
}

/* In front of the brace that ends the object. */
static void add_stored(struct reply *reply)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    buf_add(&text, reply->text, reply->size - 1);
    for (int i = 0; i < reply->nstored; i++) {
        const char *value = reply->stored[i].text ? reply->stored[i].text : "null";
        buf_printf(&text, ",\"%s\":", reply->stored[i].name);
        buf_add(&text, value, strlen(value));
    }
    buf_add(&text, "}", 2);             /* with the NUL */
    free(reply->text);
    if (text.bad)
        buf_release(&text);
    reply->text = text.p;
    reply->size = text.n ? text.n - 1 : 0;
}

static void serialize(struct reply *reply)
{
    reply->text = json_short() ? NULL : json_text(reply->json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    json_decref(reply->json);
    reply->json = NULL;
    reply->size = reply->text ? strlen(reply->text) : 0;
    if (reply->text && reply->nstored)
        add_stored(reply);
    drop_stored(reply);
}

void reply_problem(const struct request *req, struct reply *reply, const struct err *e)
{
    drop_body(reply);
    json_begin();           /* that there was no memory is told, too */
    reply->error = *e;
    reply->status = err_http_status(e->code);
    reply->type = "application/problem+json";
    reply->json = problem_json(e, req->target.path, req->id);
    serialize(reply);
    if ((reply->status == 503 || reply->status == 429) && !reply_has(reply, "Retry-After"))
        reply_field(reply, "Retry-After", "%d", 2);
    if (e->code == ERR_AUTH_REQUIRED)
        reply_field(reply, "WWW-Authenticate", "Bearer realm=\"repquant\"");
    if (e->code == ERR_REQUEST_FRAMING)
        reply->close = true;
}

/* Turns json into text; out of memory becomes a reply without a body. */
void reply_seal(struct reply *reply)
{
    if (!reply->status)
        reply->status = 200;
    if (!reply->json)
        return;
    serialize(reply);
    if (!reply->text)
        reply->status = 503;
}

void reply_release(struct reply *reply)
{
    drop_body(reply);
    reply_drop_fields(reply);
    *reply = REPLY_INIT;
}
