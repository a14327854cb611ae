/*
 * team.h - teams, what each may use, and what it uses.
 *
 * A team is the owner of rows, its name is the column `team` of every other table, and its row here holds its limits.
 * These functions are an administrator's: they name a team instead of acting for one.
 */
#ifndef STORAGE_TEAM_H
#define STORAGE_TEAM_H

#include "storage/store.h"
#include "storage/ulid.h"

enum { QUOTA_NONE = -1 };           /* no limit */

struct quota { int64_t running, queued, bytes; };       /* jobs, jobs, bytes stored or on their way */

struct team {
    char name[TEAM_SIZE];
    int64_t created_at;
    struct quota quota;             /* at most so much; QUOTA_NONE each for no limit */
    struct quota used;              /* right now; filled by team_get() alone */
};

/* ERR_CONFLICT if there is a team of this name. */
bool team_create(struct store *s, const char *name, const struct quota *quota, struct err *e);

/* ERR_NOT_FOUND unless it exists. */
bool team_get(struct store *s, const char *name, struct team *ret, struct err *e);
bool team_set_quota(struct store *s, const char *name, const struct quota *quota, struct err *e);

struct team_list { struct team *items; size_t n; };
bool team_list(struct store *s, struct team_list *ret, struct err *e);      /* all, by name */
void team_list_release(struct team_list *l);

/* ERR_CONFLICT while it has tokens, jobs, models, data sets, bytes, webhooks or recipes. */
bool team_delete(struct store *s, const char *name, struct err *e);

#endif
