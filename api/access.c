#include "api/access.h"

#include "api/app.h"
#include "api/handlers.h"
#include "api/limit.h"
#include "api/metrics.h"
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

/* Comparing hashes takes as long for any guess. */
static bool same_secret(const char *given, const char *ours)
{
    uint8_t a[HASH_SIZE], b[HASH_SIZE];
    hash_bytes(given ? given : "", given ? strlen(given) : 0, a);
    hash_bytes(ours, strlen(ours), b);
    return hash_equal(a, b);
}

bool access_peer(const struct app *app, struct request *req, struct err *e)
{
    if (!proxies_trust(app->proxies, req->peer))
        return true;
    if (req->underscore)            /* X_Forwarded_User: some proxies drop one spelling and pass on the other */
        return err_set(e, ERR_REQUEST_FRAMING, "head", "a header field's name holds an underscore, which a proxy must not pass on");
    req->vouched = app->proxy_secret && app->proxy_secret[0] && same_secret(req->header[HDR_PROXY_SECRET], app->proxy_secret);
    proxies_client(app->proxies, req->header[HDR_FORWARDED_FOR], req->peer);
    return true;
}

static void be_local(struct request *req)
{
    snprintf(req->who.team, sizeof req->who.team, "%s", TEAM_LOCAL);
    snprintf(req->who.scopes, sizeof req->who.scopes, SCOPE_ADMIN);
}

/* The same for what is no token, is unknown, was revoked or has expired: who guesses does not hear which. */
static bool no_such_token(struct err *e)
{
    return err_set(e, ERR_AUTH_REQUIRED, "Authorization", "send a valid token: Authorization: Bearer rq_...");
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
        return no_such_token(e);
    req->by = BY_TOKEN;
    if (token_verify(app->store, text, &req->who, &why))
        return true;
    if (why.code != ERR_AUTH_REQUIRED)
        return err_set(e, why.code, why.where, "%s", why.text);
    return limit_guess(app, req, reply, e) && no_such_token(e);
}

/* ---- browsers ---- */

bool access_cookie(const struct request *req, char ret[TOKEN_TEXT_SIZE])
{
    static const char name[] = ACCESS_COOKIE "=";
    const char *s = req->header[HDR_COOKIE];
    for (; s && *s; s += strcspn(s, ";"), s += strspn(s, "; ")) {
        size_t n = strcspn(s, ";");
        if (strncmp(s, name, sizeof name - 1) != 0)
            continue;
        s += sizeof name - 1;
        n -= sizeof name - 1;
        if (n >= TOKEN_TEXT_SIZE)
            n = 0;                  /* no secret of ours; a cut one would not be either */
        memcpy(ret, s, n);
        ret[n] = '\0';
        return true;
    }
    return false;
}

void access_csrf(const char *secret, char ret[HASH_HEX_SIZE])
{
    static const char purpose[] = "repquant csrf ";
    struct hash h;
    uint8_t digest[HASH_SIZE];
    hash_init(&h);
    hash_add(&h, purpose, sizeof purpose - 1);
    hash_add(&h, secret, strlen(secret));
    hash_end(&h, digest);
    hash_hex(digest, ret);
}

/*
 * A browser sends the cookie whoever made it ask, so what changes something must show that our own page asked: by where the browser says
 * the request comes from, and by what only our page can know.  What does not show it is refused.  secret: NULL where a proxy holds the
 * browser's cookie.
 */
static bool from_our_page(const struct request *req, const char *secret, struct err *e)
{
    const char *site = req->header[HDR_SEC_FETCH_SITE], *given = req->header[HDR_CSRF];
    char csrf[HASH_HEX_SIZE];
    if (safe_method(req->method))
        return true;
    if (site ? strcmp(site, "same-origin") != 0 : !req->header[HDR_ORIGIN])     /* access_site() has compared the origin */
        return err_set(e, ERR_AUTH_FORBIDDEN, "Sec-Fetch-Site", "without a token only the service's own page may do this");
    if (!secret)
        return true;
    access_csrf(secret, csrf);
    return same_secret(given, csrf)
        || err_set(e, ERR_AUTH_FORBIDDEN, "X-Repquant-Csrf", "send the csrf_token of GET /v1/session with what changes something");
}

static bool by_cookie(struct app *app, struct request *req, const char *secret, struct reply *reply, struct err *e)
{
    struct err why = { 0 };
    req->by = BY_SESSION;
    if (session_verify(app->store, secret, &req->session, &req->who, &why))
        return from_our_page(req, secret, e);
    return (why.code != ERR_AUTH_REQUIRED || limit_guess(app, req, reply, e)) && err_set(e, why.code, why.where, "%s", why.text);
}

static bool by_proxy(struct app *app, struct request *req, struct err *e)
{
    req->by = BY_PROXY;
    return token_of_identity(app->store, req->header[HDR_FORWARDED_USER], &req->who, e) && from_our_page(req, NULL, e);
}

static bool who_asks(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char secret[TOKEN_TEXT_SIZE];
    bool bearer = req->header[HDR_AUTHORIZATION], cookie = !bearer && access_cookie(req, secret);
    if (!bearer && !cookie && req->vouched && req->header[HDR_FORWARDED_USER])
        return by_proxy(app, req, e);
    if (!cookie)
        return by_bearer(app, req, reply, e);
    bool ok = by_cookie(app, req, secret, reply, e);
    explicit_bzero(secret, sizeof secret);
    return ok;
}

bool access_token(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    if (!req->route->scope)
        return true;
    if (!app->auth) {
        be_local(req);
        return true;
    }
    if (req->route->handle == get_metrics && metrics_open(app, req))
        return true;
    if (!who_asks(app, req, reply, e) || !limit_token(app, req, reply, e))
        return false;
    return scopes_hold(req->who.scopes, req->route->scope)
        || err_set(e, ERR_AUTH_FORBIDDEN, "Authorization", "the token needs the scope %s", req->route->scope);
}

bool access_still(struct app *app, const struct request *req, struct err *e)
{
    int64_t ends;
    return !app->auth || right_valid(app->store, req->who.team, req->who.id, req->by == BY_SESSION ? req->session.id : "", &ends, e);
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
