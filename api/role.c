#include "api/role.h"

#include "api/route.h"

#include <string.h>

#define READS "models:read jobs:read artifacts:read"
#define WRITES "models:read models:write jobs:read jobs:write artifacts:read"

const char *const scope_names[] = {
    "models:read", "models:write", "jobs:read", "jobs:write", "artifacts:read", "audit:read", "webhooks:write", "team:admin", SCOPE_ADMIN, NULL,
};

static const struct { const char *name, *scopes; } roles[] = {
    { "viewer", READS },                                    /* looks and downloads */
    { "member", WRITES },                                   /* uploads, saves recipes, submits, cancels, deletes */
    { "team_admin", WRITES " audit:read webhooks:write team:admin" },      /* and makes the team's webhooks and tokens */
    { "admin", SCOPE_ADMIN },                               /* and teams, quotas, tokens of any team */
};
enum { ROLES = sizeof roles / sizeof *roles };
const char *const role_names[] = { "viewer", "member", "team_admin", "admin", NULL };

const char *role_scopes(const char *role)
{
    for (int i = 0; i < ROLES; i++)
        if (strcmp(roles[i].name, role) == 0)
            return roles[i].scopes;
    return NULL;
}

const char *role_of(const char *scopes)
{
    for (int i = 0; i < ROLES; i++)
        if (strcmp(roles[i].scopes, scopes) == 0)
            return roles[i].name;
    return "custom";
}

bool scopes_hold(const char *have, const char *want)
{
    return !want[0] || route_lists(have, SCOPE_ADMIN) || route_lists(have, want);
}

bool scopes_cover(const char *have, const char *want, const char **ret_missing)
{
    for (const char *const *scope = scope_names; *scope; scope++)
        if (route_lists(want, *scope) && !scopes_hold(have, *scope)) {
            *ret_missing = *scope;
            return false;
        }
    return true;
}
