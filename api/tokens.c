/*
 * tokens.c - /v1/tokens: who may ask, and /v1/whoami: who is asking.
 *
 * Nobody makes a token that can do more than their own: neither in scopes nor in time.  The token itself is in the answer that
 * made it and nowhere else.
 */
#include "api/access.h"
#include "api/app.h"
#include "api/handlers.h"
#include "api/role.h"
#include "api/rows.h"
#include "core/base/clock.h"

#include <stdio.h>
#include <string.h>

static json_t *scopes_json(const char *scopes)
{
    json_t *list = json_array();
    for (const char *const *scope = scope_names; *scope; scope++)
        if (route_lists(scopes, *scope))
            json_array_append_new(list, json_string(*scope));
    return list;
}

static json_t *token_json(const struct token *t)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", t->id, "team", t->team, "name", t->name,
                     "role", role_of(t->scopes), "scopes", scopes_json(t->scopes), "created_at", row_time(t->created_at),
                     "expires_at", row_time(t->expires_at), "last_used_at", row_time(t->last_used_at),
                     "created_by", row_text(t->created_by), "identity", row_text(t->identity));
}

bool get_whoami(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    const struct token *who = &req->who;
    (void)app;
    return reply_json(reply, 200,
                      json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "team", who->team, "role", role_of(who->scopes),
                                "scopes", scopes_json(who->scopes), "token_id", row_text(who->id), "name", row_text(who->name),
                                "expires_at", row_time(who->expires_at)), e);
}

/* ---- making ---- */

struct wish {
    const char *name, *identity;
    char team[TEAM_SIZE], scopes[TOKEN_SCOPES_SIZE];
    int64_t expires_at;
};

static bool add_scope(const char *scope, size_t i, struct wish *w, struct err *e)
{
    char where[32];
    snprintf(where, sizeof where, "/scopes/%zu", i);
    for (const char *const *known = scope_names; *known; known++) {
        if (!scope || strcmp(scope, *known) != 0)
            continue;
        size_t n = strlen(w->scopes);
        if (!route_lists(w->scopes, scope))
            snprintf(w->scopes + n, sizeof w->scopes - n, "%s%s", n ? " " : "", scope);
        return true;
    }
    return err_set(e, ERR_REQUEST_JSON, where, "a scope is one of: models:read models:write jobs:read jobs:write artifacts:read audit:read "
                                               "team:admin admin");
}

/* The same set is the same text, however it was spelled. */
static void sort_scopes(char scopes[TOKEN_SCOPES_SIZE])
{
    char sorted[TOKEN_SCOPES_SIZE] = "";
    size_t n = 0;
    for (const char *const *scope = scope_names; *scope; scope++)
        if (route_lists(scopes, *scope))
            n += (size_t)snprintf(sorted + n, sizeof sorted - n, "%s%s", n ? " " : "", *scope);
    memcpy(scopes, sorted, sizeof sorted);
}

static bool take_scopes(const json_t *body, struct wish *w, struct err *e)
{
    const char *role = NULL;
    const json_t *scopes = json_object_get(body, "scopes"), *scope;
    size_t i;
    if (!json_get_str(body, "role", "", true, 32, &role, ERR_REQUEST_JSON, e))
        return false;
    if (!role == !scopes)
        return err_set(e, ERR_REQUEST_JSON, "/role", "give \"role\" (viewer, member, team_admin or admin) or \"scopes\", one of the two");
    if (role && !role_scopes(role))
        return err_set(e, ERR_REQUEST_JSON, "/role", "\"role\" must be viewer, member, team_admin or admin");
    if (role) {
        snprintf(w->scopes, sizeof w->scopes, "%s", role_scopes(role));
        return true;
    }
    if (json_array_size(scopes) == 0)
        return err_set(e, ERR_REQUEST_JSON, "/scopes", "\"scopes\" must be a list of at least one scope");
    json_array_foreach(scopes, i, scope)
        if (!add_scope(json_string_value(scope), i, w, e))
            return false;
    sort_scopes(w->scopes);
    return true;
}

static bool take_expiry(const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    const char *text = NULL;
    char mine[CLOCK_RFC3339_SIZE];
    const json_t *value = json_object_get(body, "expires_at");
    w->expires_at = req->who.expires_at;
    if (!value || json_is_null(value))
        return true;            /* as long as the token that makes it */
    if (!json_get_str(body, "expires_at", "", false, 40, &text, ERR_REQUEST_JSON, e))
        return false;
    if (!clock_parse_rfc3339(text, &w->expires_at) || w->expires_at <= clock_now_us())
        return err_set(e, ERR_REQUEST_JSON, "/expires_at", "\"expires_at\" must be a time to come, such as 2030-01-31T12:00:00Z");
    if (req->who.expires_at && w->expires_at > req->who.expires_at)
        return err_set(e, ERR_AUTH_FORBIDDEN, "/expires_at", "your own token ends at %s; a token you make cannot last longer",
                       clock_rfc3339(req->who.expires_at, mine));
    return true;
}

/* Who names an identity decides where that person's work goes: not a matter of one team. */
static bool take_identity(const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    const char *identity = NULL;
    if (!json_get_str(body, "identity", "", true, TOKEN_IDENTITY_SIZE - 1, &identity, ERR_REQUEST_JSON, e))
        return false;
    w->identity = identity;
    if (!identity)
        return true;
    if (!access_is_admin(req))
        return err_set(e, ERR_AUTH_FORBIDDEN, "/identity", "only an administrator says who the proxy's users are");
    for (const char *s = identity; *s; s++)
        if (*s <= ' ' || *s >= 0x7f)
            return err_set(e, ERR_REQUEST_JSON, "/identity", "\"identity\" is as the proxy writes it: printable ASCII without spaces");
    return identity[0] || err_set(e, ERR_REQUEST_JSON, "/identity", "\"identity\" is empty; leave it out for a token with a secret");
}

static bool take_wish(struct app *app, const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    const char *team = NULL, *missing;
    if (!json_get_str(body, "name", "", false, TOKEN_NAME_SIZE - 1, &w->name, ERR_REQUEST_JSON, e)
        || !json_get_str(body, "team", "", true, TEAM_SIZE - 1, &team, ERR_REQUEST_JSON, e)
        || !request_name(w->name, "/name", e) || !access_team(app, req, team, "/team", ERR_REQUEST_REFERENCE, w->team, e)
        || !take_scopes(body, w, e) || !take_expiry(req, body, w, e)
        || !take_identity(req, body, w, e))
        return false;
    return scopes_cover(req->who.scopes, w->scopes, &missing)
        || err_set(e, ERR_AUTH_FORBIDDEN, json_object_get(body, "role") ? "/role" : "/scopes",
                   "your own token does not hold the scope %s, so a token you make cannot", missing);
}

bool post_token(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "name", "role", "scopes", "team", "expires_at", "identity", NULL };
    struct wish w = { 0 };
    struct token token;
    char text[TOKEN_TEXT_SIZE];
    json_t *body = request_json(req, members, false, e), *row = NULL;
    bool ok = body && take_wish(app, req, body, &w, e);
    struct token_request request = { .name = w.name, .scopes = w.scopes, .expires_at = w.expires_at, .created_by = req->who.id,
                                     .identity = w.identity };
    reply->status = 201;
    if (ok && token_issue(app->store, w.team, &request, &token, text, e)) {
        row = token_json(&token);
        if (text[0])
            json_object_set_new(row, "token", json_string(text));
        explicit_bzero(text, sizeof text);
        bool own = strcmp(w.team, req->who.team) == 0;      /* another team's token is found with its team alone */
        reply_field(reply, "Location", "/v1/tokens/%s%s%s", token.id, own ? "" : "?team=", own ? "" : w.team);
        reply_json(reply, 201, row, e);
    }
    json_decref(body);
    return row != NULL;
}

/* ---- what there is ---- */

/* The team of ?team=, or the asker's. */
static bool asked_team(struct app *app, const struct request *req, char ret[TEAM_SIZE], struct err *e)
{
    return access_team(app, req, request_query(req, "team"), "team", ERR_NOT_FOUND, ret, e);
}

bool list_tokens(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char team[TEAM_SIZE];
    struct page page;
    struct token_list list = { 0 };
    if (!row_page(req, "tok", &page, e) || !asked_team(app, req, team, e) || !token_list(app->store, team, page, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, token_json(&list.items[i]));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    token_list_release(&list);
    return reply_json(reply, 200, answer, e);
}

bool get_token(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char team[TEAM_SIZE];
    struct token token;
    return asked_team(app, req, team, e) && token_get(app->store, team, req->param[0], &token, e)
        && reply_json(reply, 200, token_json(&token), e);
}

bool delete_token(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char team[TEAM_SIZE];
    struct token token;
    const char *missing;
    if (!asked_team(app, req, team, e) || !token_get(app->store, team, req->param[0], &token, e))
        return false;
    if (!scopes_cover(req->who.scopes, token.scopes, &missing))
        return err_set(e, ERR_AUTH_FORBIDDEN, "Authorization", "the token to delete holds the scope %s, which yours does not", missing);
    reply->status = 204;
    return token_delete(app->store, team, req->param[0], e);
}
