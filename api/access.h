/* access.h - who asks, and whether they may.  The gate calls these once it knows the route; handlers ask about teams. */
#ifndef API_ACCESS_H
#define API_ACCESS_H

#include "api/request.h"

/* Makes req->peer the client's address where a trusted proxy stands between, and req->vouched whether that proxy's word counts. */
bool access_peer(const struct app *app, struct request *req, struct err *e);

/* A page of another site must not act through the browser of somebody who can reach us. */
bool access_site(const struct request *req, struct err *e);

/* Fills req->who.  ERR_AUTH_REQUIRED without a valid token, ERR_AUTH_FORBIDDEN if it lacks the route's scope, ERR_RATE if it asks
 * too often; the reply gets the header fields that tell of it. */
bool access_token(struct app *app, struct request *req, struct reply *reply, struct err *e);

/* Whether who was let in a while ago still would be. */
bool access_still(struct app *app, const struct request *req, struct err *e);

#define ACCESS_COOKIE "__Host-repquant"

/* The secret of the session's cookie; false: the request has none. */
bool access_cookie(const struct request *req, char ret[TOKEN_TEXT_SIZE]);

/*
 * What a page must send as X-Repquant-Csrf with everything that changes something: it follows from the cookie's secret, so nothing is
 * stored, and tells nothing of it.  A page of another site can make a browser send the cookie, but cannot read this.
 */
void access_csrf(const char *secret, char ret[HASH_HEX_SIZE]);

bool access_is_admin(const struct request *req);

/*
 * The team a request is about: `name`, or the asker's own for NULL.  Another team is an administrator's business; to anybody else it
 * does not exist, and then the answer is the same as for one that really does not: `absent` at `where`.
 */
bool access_team(struct app *app, const struct request *req, const char *name, const char *where, enum err_code absent,
                 char ret[TEAM_SIZE], struct err *e);

#endif
