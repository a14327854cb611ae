/*
 * role.h - what a token may do: scopes, and the roles that are named sets of them.
 *
 * A token holds scopes, words with one space between, in the order of scope_names().  A role is how people ask for such a set; it is not stored, so
 * a role that gains a scope in a later version gives it to no token that exists.  `admin` includes every scope.
 */
#ifndef API_ROLE_H
#define API_ROLE_H

#include <stdbool.h>

#define SCOPE_ANY ""            /* of a route: any valid token */
#define SCOPE_ADMIN "admin"

extern const char *const scope_names[];         /* NULL-terminated */
extern const char *const role_names[];          /* from the least to the most; NULL-terminated */

const char *role_scopes(const char *role);      /* NULL: there is no such role */
const char *role_of(const char *scopes);        /* "custom" for a set without a name */

/* Whether somebody with the scopes `have` holds the scope `want`. */
bool scopes_hold(const char *have, const char *want);

/* Whether every one of the scopes `want` is held; *ret_missing is the first that is not (static). */
bool scopes_cover(const char *have, const char *want, const char **ret_missing);

#endif
