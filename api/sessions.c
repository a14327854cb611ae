/*
 * sessions.c - /v1/session: a browser logs in with a token, once, and out; /v1/sessions: who is logged in.
 *
 * The cookie is always __Host- and Secure.  Chromium (156) takes such a cookie over https, and over plain http from 127.0.0.1 and
 * localhost, which it trusts as much; nowhere else over plain http, where a neighbour on the network could read it.
 */
#include "api/access.h"
#include "api/app.h"
#include "api/handlers.h"
#include "api/role.h"
#include "api/rows.h"

#include <stdio.h>
#include <string.h>

static json_t *session_json(const struct session *s)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "id", s->id, "team", s->team, "token_id", s->token_id, "created_at", row_time(s->created_at),
                     "expires_at", row_time(s->expires_at), "last_used_at", row_time(s->last_used_at));
}

/* What the browser's page needs: who it is, and what it must send with everything that changes something. */
static bool reply_session(int status, const struct session *s, const char *secret, const struct request *req, struct reply *reply, struct err *e)
{
    char csrf[HASH_HEX_SIZE];
    json_t *row = session_json(s);
    access_csrf(secret, csrf);
    json_object_set_new(row, "csrf_token", json_string(csrf));
    json_object_set_new(row, "role", json_string(role_of(req->who.scopes)));
    return reply_json(reply, status, row, e);
}

static void set_cookie(struct reply *reply, const char *secret, int64_t seconds)
{
    reply_field(reply, "Set-Cookie", ACCESS_COOKIE "=%s; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=%lld", secret, (long long)seconds);
}

bool post_session(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct session session;
    char secret[TOKEN_TEXT_SIZE];
    if (!request_nothing(req, e))
        return false;
    if (req->by != BY_TOKEN)
        return err_set(e, ERR_AUTH_FORBIDDEN, "Authorization", "a session is opened with a token: send \"Authorization: Bearer rq_...\"");
    reply->status = 201;
    if (!session_create(app->store, &req->who, &session, secret, e))
        return false;
    set_cookie(reply, secret, SESSION_LIFE_US / 1000000);
    reply_session(201, &session, secret, req, reply, e);
    explicit_bzero(secret, sizeof secret);
    return true;
}

static bool in_session(const struct request *req, struct err *e)
{
    return req->by == BY_SESSION || err_set(e, ERR_NOT_FOUND, "Cookie", "this request comes with no session; POST /v1/session opens one");
}

bool get_session(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char secret[TOKEN_TEXT_SIZE] = "";
    (void)app;
    return in_session(req, e) && access_cookie(req, secret) && reply_session(200, &req->session, secret, req, reply, e);
}

bool delete_session(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    if (!in_session(req, e) || !session_delete(app->store, req->who.team, req->who.id, req->session.id, e))
        return false;
    set_cookie(reply, "", 0);
    return true;
}

/* An administrator of the team sees all of its sessions, everybody else those of the own token. */
static const char *whose(const struct request *req)
{
    return scopes_hold(req->who.scopes, "team:admin") ? NULL : req->who.id;
}

bool list_sessions(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct page page;
    struct session_list list = { 0 };
    if (!row_page(req, "ses", &page, e) || !session_list(app->store, req->who.team, whose(req), page, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, session_json(&list.items[i]));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    session_list_release(&list);
    return reply_json(reply, 200, answer, e);
}

bool delete_one_session(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return session_delete(app->store, req->who.team, whose(req), req->param[0], e);
}
