#include "api/route.h"

#include "api/handlers.h"
#include "api/role.h"

#include <stdio.h>
#include <string.h>

#define KiB 1024u

/* The open routes come first: whatever stands below them needs a token; of /metrics see metrics_open(). */
const struct route routes[] = {
    /* method    pattern                          scope             body       limit      lane       query               handler */
    { "GET",    "/",                              NULL,             BODY_NONE, 0,         LANE_HERE,  "",                 get_page },
    { "GET",    "/dashboard/{file}",              NULL,             BODY_NONE, 0,         LANE_HERE,  "",                 get_dashboard_file },
    { "GET",    "/healthz",                       NULL,             BODY_NONE, 0,         LANE_HERE,  "",                 get_healthz },
    { "GET",    "/readyz",                        NULL,             BODY_NONE, 0,         LANE_PROBE, "",                 get_readyz },
    { "GET",    "/metrics",                       SCOPE_ANY,        BODY_NONE, 0,         LANE_IO,    "",                 get_metrics },
    { "GET",    "/v1/openapi.json",               "models:read",    BODY_NONE, 0,         LANE_HERE,  "",                 get_openapi },
    { "GET",    "/v1/capabilities",               "models:read",    BODY_NONE, 0,         LANE_HERE,  "",                 get_capabilities },
    { "GET",    "/v1/queue",                      "jobs:read",      BODY_NONE, 0,         LANE_IO,    "",                 get_queue },
    { "GET",    "/v1/queue/history",              "jobs:read",      BODY_NONE, 0,         LANE_IO,    "",                 get_queue_history },

    { "PUT",    "/v1/blobs/{digest}",             "models:write",   BODY_BLOB, 0,         LANE_DISK,  "",                 put_blob },
    { "GET",    "/v1/blobs/{digest}",             "models:read",    BODY_NONE, 0,         LANE_IO,    "verify",           get_blob },

    { "POST",   "/v1/uploads",                    "models:write",   BODY_PART, 0,         LANE_DISK,  "",                 post_upload },
    { "PATCH",  "/v1/uploads/{upload}",           "models:write",   BODY_PART, 0,         LANE_DISK,  "",                 patch_upload },
    { "GET",    "/v1/uploads/{upload}",           "models:write",   BODY_NONE, 0,         LANE_DISK,  "",                 get_upload },
    { "DELETE", "/v1/uploads/{upload}",           "models:write",   BODY_NONE, 0,         LANE_DISK,  "",                 delete_upload },
    { "POST",   "/v1/imports",                    "models:write",   BODY_JSON, 16 * KiB,  LANE_DISK,  "",                 post_import },

    { "GET",    "/v1/models",                     "models:read",    BODY_NONE, 0,         LANE_IO,    "limit cursor order", list_models },
    { "POST",   "/v1/models",                     "models:write",   BODY_JSON, 64 * KiB,  LANE_SLOW,  "",                 post_model },
    { "PUT",    "/v1/models",                     "models:write",   BODY_BLOB, 0,         LANE_SLOW,  "name",             put_model },
    { "PUT",    "/v1/models/{model}",             "models:write",   BODY_BLOB, 0,         LANE_SLOW,  "name",             put_model },
    { "GET",    "/v1/models/{model}",             "models:read",    BODY_NONE, 0,         LANE_IO,    "",                 get_model },
    { "DELETE", "/v1/models/{model}",             "models:write",   BODY_NONE, 0,         LANE_WRITE, "",                 delete_model },

    { "GET",    "/v1/datasets",                   "models:read",    BODY_NONE, 0,         LANE_IO,    "limit cursor order", list_datasets },
    { "POST",   "/v1/datasets",                   "models:write",   BODY_JSON, 64 * KiB,  LANE_SLOW,  "",                 post_dataset },
    { "PUT",    "/v1/datasets",                   "models:write",   BODY_BLOB, 0,         LANE_SLOW,  "name format",      put_dataset },
    { "PUT",    "/v1/datasets/{dataset}",         "models:write",   BODY_BLOB, 0,         LANE_SLOW,  "name format",      put_dataset },
    { "GET",    "/v1/datasets/{dataset}",         "models:read",    BODY_NONE, 0,         LANE_IO,    "",                 get_dataset },
    { "DELETE", "/v1/datasets/{dataset}",         "models:write",   BODY_NONE, 0,         LANE_WRITE, "",                 delete_dataset },
    { "POST",   "/v1/datasets/{dataset}/validations", "models:read", BODY_JSON, 4 * KiB,  LANE_SLOW,  "",                 post_validation },

    { "GET",    "/v1/recipes",                    "models:read",    BODY_NONE, 0,         LANE_IO,    "",                 list_recipes },
    { "POST",   "/v1/recipes",                    "models:write",   BODY_JSON, 512 * KiB, LANE_WRITE, "",                 post_recipe },
    { "GET",    "/v1/recipes/{name}",             "models:read",    BODY_NONE, 0,         LANE_IO,    "",                 get_recipe },
    { "DELETE", "/v1/recipes/{name}",             "models:write",   BODY_NONE, 0,         LANE_WRITE, "",                 delete_recipe },

    { "POST",   "/v1/jobs",                       "jobs:write",     BODY_JSON, 512 * KiB, LANE_WRITE, "dry_run",          post_job },
    { "GET",    "/v1/jobs",                       "jobs:read",      BODY_NONE, 0,         LANE_IO,    "state label model_id limit cursor order", list_jobs },
    { "GET",    "/v1/jobs/{job}",                 "jobs:read",      BODY_NONE, 0,         LANE_IO,    "",                 get_job },
    { "DELETE", "/v1/jobs/{job}",                 "jobs:write",     BODY_NONE, 0,         LANE_WRITE, "",                 delete_job },
    { "POST",   "/v1/jobs/{job}/cancel",          "jobs:write",     BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_job_cancel },
    { "POST",   "/v1/jobs/{job}/retry",           "jobs:write",     BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_job_retry },
    { "GET",    "/v1/jobs/{job}/events",          "jobs:read",      BODY_NONE, 0,         LANE_IO,    "after limit wait", list_job_events },
    { "GET",    "/v1/jobs/{job}/logs",            "jobs:read",      BODY_NONE, 0,         LANE_BULK,  "after level follow", get_job_logs },
    { "GET",    "/v1/jobs/{job}/layers",          "jobs:read",      BODY_NONE, 0,         LANE_BULK,  "sort order",       list_job_layers },
    { "GET",    "/v1/jobs/{job}/layers/{index}/details", "jobs:read", BODY_NONE, 0,       LANE_IO,    "",                 get_layer_details },
    { "GET",    "/v1/jobs/{job}/report",          "artifacts:read", BODY_NONE, 0,         LANE_BULK,  "format",           get_job_report },
    { "GET",    "/v1/jobs/{job}/artifacts",       "artifacts:read", BODY_NONE, 0,         LANE_IO,    "",                 list_job_artifacts },
    { "GET",    "/v1/artifacts/{artifact}",       "artifacts:read", BODY_NONE, 0,         LANE_IO,    "",                 get_artifact },
    { "GET",    "/v1/artifacts/{artifact}/content", "artifacts:read", BODY_NONE, 0,       LANE_IO,    "verify",           get_artifact_content },

    { "POST",   "/v1/webhooks",                   "webhooks:write", BODY_JSON, 16 * KiB,  LANE_WRITE, "",                 post_webhook },
    { "GET",    "/v1/webhooks",                   "jobs:write",     BODY_NONE, 0,         LANE_IO,    "job_id limit cursor order", list_webhooks },
    { "GET",    "/v1/webhooks/{webhook}",         "jobs:write",     BODY_NONE, 0,         LANE_IO,    "",                 get_webhook },
    { "PATCH",  "/v1/webhooks/{webhook}",         "webhooks:write", BODY_JSON, 16 * KiB,  LANE_WRITE, "",                 patch_webhook },
    { "DELETE", "/v1/webhooks/{webhook}",         "webhooks:write", BODY_NONE, 0,         LANE_WRITE, "",                 delete_webhook },
    { "POST",   "/v1/webhooks/{webhook}/rotate_secret", "webhooks:write", BODY_JSON, 4 * KiB, LANE_WRITE, "",               post_webhook_rotation },
    { "POST",   "/v1/webhooks/{webhook}/ping",    "webhooks:write", BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_webhook_ping },
    { "GET",    "/v1/webhooks/{webhook}/deliveries", "jobs:write",  BODY_NONE, 0,         LANE_IO,    "state limit cursor order", list_deliveries },
    { "GET",    "/v1/webhooks/{webhook}/deliveries/{delivery}", "jobs:write", BODY_NONE, 0, LANE_IO,  "",                 get_delivery },
    { "POST",   "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", "webhooks:write", BODY_JSON, 4 * KiB, LANE_WRITE, "", post_redelivery },

    { "GET",    "/v1/whoami",                     SCOPE_ANY,        BODY_NONE, 0,         LANE_HERE,  "",                 get_whoami },
    { "POST",   "/v1/tokens",                     "team:admin",     BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_token },
    { "GET",    "/v1/tokens",                     "team:admin",     BODY_NONE, 0,         LANE_IO,    "team limit cursor order", list_tokens },
    { "GET",    "/v1/tokens/{token}",             "team:admin",     BODY_NONE, 0,         LANE_IO,    "team",             get_token },
    { "DELETE", "/v1/tokens/{token}",             "team:admin",     BODY_NONE, 0,         LANE_WRITE, "team",             delete_token },
    { "POST",   "/v1/teams",                      SCOPE_ADMIN,      BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_team },
    { "GET",    "/v1/teams",                      SCOPE_ANY,        BODY_NONE, 0,         LANE_IO,    "",                 list_teams },
    { "GET",    "/v1/teams/{team}",               SCOPE_ANY,        BODY_NONE, 0,         LANE_IO,    "",                 get_team },
    { "DELETE", "/v1/teams/{team}",               SCOPE_ADMIN,      BODY_NONE, 0,         LANE_WRITE, "",                 delete_team },
    { "PUT",    "/v1/teams/{team}/quota",         SCOPE_ADMIN,      BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 put_team_quota },
    { "GET",    "/v1/audit",                      "audit:read",     BODY_NONE, 0,         LANE_IO,    "team actor order after limit", get_audit },
    { "POST",   "/v1/session",                    SCOPE_ANY,        BODY_JSON, 4 * KiB,   LANE_WRITE, "",                 post_session },
    { "GET",    "/v1/session",                    SCOPE_ANY,        BODY_NONE, 0,         LANE_HERE,  "",                 get_session },
    { "DELETE", "/v1/session",                    SCOPE_ANY,        BODY_NONE, 0,         LANE_WRITE, "",                 delete_session },
    { "GET",    "/v1/sessions",                   SCOPE_ANY,        BODY_NONE, 0,         LANE_IO,    "limit cursor order", list_sessions },
    { "DELETE", "/v1/sessions/{session}",         SCOPE_ANY,        BODY_NONE, 0,         LANE_WRITE, "",                 delete_one_session },
};
const size_t routes_count = sizeof routes / sizeof *routes;

bool route_lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    if (!n)
        return false;
    for (const char *s = list; *s; s += strspn(s, " ")) {
        size_t length = strcspn(s, " ");
        if (length == n && memcmp(s, word, n) == 0)
            return true;
        s += length;
    }
    return false;
}

/* Segment by segment; params[] is only complete if it returns true. */
static bool matches(const char *pattern, int segments, const char *const *segment, const char **ret_param)
{
    int params = 0;
    for (int i = 0; i < segments; i++) {
        if (*pattern++ != '/')
            return false;
        size_t n = strcspn(pattern, "/");
        if (*pattern == '{') {
            if (!*segment[i])
                return false;
            ret_param[params++] = segment[i];
        } else if (strlen(segment[i]) != n || memcmp(pattern, segment[i], n) != 0) {
            return false;
        }
        pattern += n;
    }
    return segments ? !*pattern : strcmp(pattern, "/") == 0;
}

static void add_method(char *allow, size_t size, const char *method)
{
    size_t n = strlen(allow);
    snprintf(allow + n, size - n, "%s%s", n ? ", " : "", method);
}

const struct route *route_find(const char *method, int segments, const char *const *segment, const char **ret_param,
                               char *ret_allow, size_t allow_size, struct err *e)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    ret_allow[0] = '\0';
    for (size_t i = 0; i < routes_count; i++) {
        if (!matches(routes[i].pattern, segments, segment, ret_param))
            continue;
        if (strcmp(routes[i].method, wanted) == 0)
            return &routes[i];
        add_method(ret_allow, allow_size, routes[i].method);
        if (strcmp(routes[i].method, "GET") == 0)
            add_method(ret_allow, allow_size, "HEAD");
    }
    if (ret_allow[0]) {
        add_method(ret_allow, allow_size, "OPTIONS");
        err_set(e, ERR_METHOD, "method", "this path takes: %s", ret_allow);
    } else {
        err_set(e, ERR_NOT_FOUND, "path", "there is nothing at this path; GET /v1/openapi.json lists what there is");
    }
    return NULL;
}
