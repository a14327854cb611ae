/* teams.c - /v1/teams: who owns rows, and how much of the service they may take. */
#include "api/access.h"
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "storage/team.h"

#include <stdio.h>
#include <string.h>

static json_t *limit_json(int64_t limit) { return limit == QUOTA_NONE ? json_null() : json_integer(limit); }

static json_t *team_json(const struct team *t, bool whole)
{
    json_t *row = json_pack("{s:s, s:o, s:{s:o, s:o, s:o}}", "name", t->name, "created_at", row_time(t->created_at), "quota",
                            "max_running", limit_json(t->quota.running), "max_queued", limit_json(t->quota.queued),
                            "max_bytes", limit_json(t->quota.bytes));
    if (row && whole)
        json_object_set_new(row, "used", json_pack("{s:I, s:I, s:I}", "running", (json_int_t)t->used.running,
                                                   "queued", (json_int_t)t->used.queued, "bytes", (json_int_t)t->used.bytes));
    return row;
}

static bool reply_team(struct app *app, const char *name, int status, struct reply *reply, struct err *e)
{
    struct team team;
    return team_get(app->store, name, &team, e) && reply_json(reply, status, team_json(&team, true), e);
}

/* Names appear in paths, logs and metrics. */
static bool take_team_name(const char *name, struct err *e)
{
    enum { TEAM_MAX_BYTES = 40 };
    size_t n = strlen(name);
    bool ok = n > 0 && n <= TEAM_MAX_BYTES && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n && name[0] != '-';
    return ok || err_set(e, ERR_REQUEST_JSON, "/name", "a team's name is 1 to %d of a-z, 0-9 and '-', and does not begin with '-'",
                         TEAM_MAX_BYTES);
}

/* Absent and null are no limit. */
static bool take_limit(const json_t *object, const char *key, const char *pointer, int64_t *ret, struct err *e)
{
    *ret = QUOTA_NONE;
    return json_is_null(json_object_get(object, key))
        || json_get_int(object, key, pointer, true, 0, INT64_C(1) << 60, ret, ERR_REQUEST_JSON, e);
}

static bool take_quota(const json_t *object, const char *pointer, struct quota *ret, struct err *e)
{
    static const char *const members[] = { "max_running", "max_queued", "max_bytes", NULL };
    return request_members(object, members, pointer, e) && take_limit(object, "max_running", pointer, &ret->running, e)
        && take_limit(object, "max_queued", pointer, &ret->queued, e) && take_limit(object, "max_bytes", pointer, &ret->bytes, e);
}

bool post_team(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "name", "quota", NULL };
    struct quota quota = { QUOTA_NONE, QUOTA_NONE, QUOTA_NONE };
    const char *name;
    json_t *body = request_json(req, members, false, e);
    const json_t *limits = json_object_get(body, "quota");
    reply->status = 201;
    bool ok = body && json_get_str(body, "name", "", false, TEAM_SIZE - 1, &name, ERR_REQUEST_JSON, e) && take_team_name(name, e)
        && (!limits || take_quota(limits, "/quota", &quota, e)) && team_create(app->store, name, &quota, e);
    if (ok)
        reply_field(reply, "Location", "/v1/teams/%s", name);
    ok = ok && reply_team(app, name, 201, reply, e);
    json_decref(body);
    return ok;
}

/* An administrator sees all teams, everybody else the own one. */
bool list_teams(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct team_list list = { 0 };
    if (!team_list(app->store, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        if (access_is_admin(req) || strcmp(list.items[i].name, req->who.team) == 0)
            json_array_append_new(data, team_json(&list.items[i], false));
    team_list_release(&list);
    return reply_json(reply, 200, row_list(data, false, ""), e);
}

bool get_team(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char team[TEAM_SIZE];
    return access_team(app, req, req->param[0], "team", ERR_NOT_FOUND, team, e) && reply_team(app, team, 200, reply, e);
}

bool delete_team(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return team_delete(app->store, req->param[0], e);
}

bool put_team_quota(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct quota quota;
    static const char *const members[] = { "max_running", "max_queued", "max_bytes", NULL };
    json_t *body = request_json(req, members, false, e);
    bool ok = body && take_quota(body, "", &quota, e) && team_set_quota(app->store, req->param[0], &quota, e);
    json_decref(body);
    if (ok)
        app->kick(app->server);     /* jobs that waited for the old limit may go */
    return ok && reply_team(app, req->param[0], 200, reply, e);
}
