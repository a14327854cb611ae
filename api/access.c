#include "api/access.h"

#include "api/app.h"
#include "api/limit.h"
#include "api/role.h"
#include "storage/team.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool safe_method(const char *method)
{
    return route_lists("GET HEAD OPTIONS", method);
}

bool access_site(const struct request *req, struct err *e)
{
    const char *site = req->header[HDR_SEC_FETCH_SITE], *origin = req->header[HDR_ORIGIN];
    if (safe_method(req->method) || req->header[HDR_AUTHORIZATION])
        return true;        /* no browser adds a bearer token by itself */
    if (site)
        return route_lists("same-origin none", site)
            || err_set(e, ERR_AUTH_FORBIDDEN, "Sec-Fetch-Site", "a page of another site may not do this; use a token");
    const char *host = origin ? strstr(origin, "://") : NULL;
    if (origin && (!host || strcasecmp(host + 3, req->header[HDR_HOST]) != 0))
        return err_set(e, ERR_AUTH_FORBIDDEN, "Origin", "a page of another site may not do this; use a token");
    return true;
}

static void be_local(struct request *req)
{
    snprintf(req->who.team, sizeof req->who.team, "%s", TEAM_LOCAL);
    snprintf(req->who.scopes, sizeof req->who.scopes, SCOPE_ADMIN);
}

/* "Bearer rq_..." */
static bool by_bearer(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    const char *text = req->header[HDR_AUTHORIZATION];
    struct err why = { 0 };
    if (!text || strncasecmp(text, "Bearer ", 7) != 0)
        return err_set(e, ERR_AUTH_REQUIRED, "Authorization", "send \"Authorization: Bearer rq_...\"");
    text += 7;
    if (strncmp(text, "rq_", 3) != 0 || strlen(text) >= TOKEN_TEXT_SIZE)
        return err_set(e, ERR_AUTH_REQUIRED, "Authorization", "the token is not valid");
    if (token_verify(app->store, text, &req->who, &why))
        return true;
    return (why.code != ERR_AUTH_REQUIRED || limit_guess(app, req, reply, e)) && err_set(e, why.code, why.where, "%s", why.text);
}

bool access_token(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    if (!req->route->scope)
        return true;
    if (!app->auth) {
        be_local(req);
        return true;
    }
    if (!by_bearer(app, req, reply, e) || !limit_token(app, req, reply, e))
        return false;
    return scopes_hold(req->who.scopes, req->route->scope)
        || err_set(e, ERR_AUTH_FORBIDDEN, "Authorization", "the token needs the scope %s", req->route->scope);
}

bool access_is_admin(const struct request *req) { return route_lists(req->who.scopes, SCOPE_ADMIN); }

bool access_team(struct app *app, const struct request *req, const char *name, const char *where, enum err_code absent,
                 char ret[TEAM_SIZE], struct err *e)
{
    struct team team;
    struct err why = { 0 };
    bool own = !name || strcmp(name, req->who.team) == 0;
    bool found = own || (access_is_admin(req) && team_get(app->store, name, &team, &why));
    if (why.code && why.code != ERR_NOT_FOUND)
        return err_set(e, why.code, why.where, "%s", why.text);
    if (!found)
        return err_set(e, absent, where, "there is no team \"%.60s\"", name);
    snprintf(ret, TEAM_SIZE, "%s", own ? req->who.team : name);
    return true;
}
