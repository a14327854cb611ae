/*
 * app.h - what handlers may use.  Filled by the server before the first request; the flags at
 * the end are the only part that changes afterwards.
 */
#ifndef API_APP_H
#define API_APP_H

#include "api/proxy.h"
#include "api/rate.h"
#include "storage/asset.h"
#include "storage/upload.h"
#include "storage/webhook.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A job that is only asked about. */
struct foresight { const struct asset *model, *dataset, *evaluation; /* these two NULL: none */ const char *recipe; };

struct app {
    struct store *store;
    const char *version;            /* of the service */
    uint64_t max_upload;            /* bytes of one upload */
    bool auth;                      /* false: everybody is the administrator of TEAM_LOCAL; for loopback only */
    const char *const *hosts;       /* served beside the loopback names; NULL-terminated, or NULL */
    const struct proxies *proxies;  /* whose word about addresses is taken; NULL: nobody's */
    const char *proxy_secret;       /* with it also about who logged in; NULL or "": not */
    struct rate_table *rates;       /* requests by token; NULL: no limit */
    struct rate_table *guesses;     /* tokens that are not valid, by address; NULL: no limit */
    struct rate_table *stranger_rows;   /* refusals of strangers that the audit log names one by one; NULL: all */
    int metrics;                    /* enum metrics_for */
    const char *sandbox;            /* full, partial or none: what jobs are locked into */
    int64_t landlock;               /* the ABI of it, 0: none */
    const char *const *cgroup;      /* controllers that bound them, up to NULL; NULL: they have no groups */
    int64_t workers;                /* jobs that run at a time, for people to read */
    int64_t jobs_memory;            /* bytes that all running jobs may take; 0: any */
    int64_t job_threads, job_budget;    /* of each job; an estimate is for these */

    /* What the rest of the server does for us; `server` is handed back to it. */
    void *server;
    void (*kick)(void *server);                         /* a job was queued */
    void (*cancel)(void *server, const char *job_id);   /* the job's row says CANCELING */
    /* Looks into uploaded files in a child process and waits for it.  *ret_json: the inventory, malloc'd. */
    bool (*inspect)(void *server, const char *team, enum asset_kind kind, const struct asset_file *files, size_t n,
                    char **ret_json, struct err *e);
    /* What a job would do and take: the JSON of core/cli/foresee.h, malloc'd, or {}.  Waits.  NULL: nobody can tell. */
    bool (*foresee)(void *server, const char *team, const struct foresight *of, char **ret_json, struct err *e);

    /* The same for a data set against a model, both with their files.  *ret_json: {ok, samples, checks}. */
    bool (*validate)(void *server, const char *team, const struct asset *model, const struct asset *data, char **ret_json, struct err *e);
    /* Begins to fetch a file; *ret: the upload it becomes.  want: "sha256:..." or NULL. */
    bool (*import)(void *server, const char *team, const char *url, const char *want, struct upload *ret, struct err *e);

    /* Whether a webhook may go to this URL, as far as that can be told without asking; *ret_origin: its "host:port".  ERR_TARGET. */
    bool (*target)(void *server, const char *url, char ret_origin[WEBHOOK_ORIGIN_SIZE], struct err *e);

    atomic_bool draining;           /* shutting down: no new work, readiness is over */
    _Atomic int64_t ready_until;    /* until when, of clock_mono_us(), a GET /readyz that found all well speaks for others */
};

static inline bool app_takes_work(const struct app *app, struct err *e)
{
    return !atomic_load(&app->draining) || err_set(e, ERR_DRAINING, "", "shutting down");
}

#endif
