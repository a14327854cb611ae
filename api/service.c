/* service.c - about the service itself: is it alive, is it ready, what can it do, what waits. */
#include "api/app.h"
#include "api/embed.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "core/base/clock.h"
#include "core/recipe/recipe.h"
#include "storage/job.h"
#include "storage/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From memory alone: a full queue or a slow disk must not make an orchestrator kill a healthy process. */
bool get_healthz(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    (void)req;
    return reply_json(reply, 200, json_pack("{s:s, s:s}", "status", "ok", "version", app->version), e);
}

static bool reply_readiness(struct reply *reply, bool database, bool disk, bool draining, struct err *e)
{
    bool ready = database && disk && !draining;
    return reply_json(reply, ready ? 200 : 503,
                      json_pack("{s:b, s:{s:s, s:s, s:s}}", "ready", ready, "checks", "database", database ? "ok" : "failing", "disk",
                                disk ? "ok" : "low", "accepting", draining ? "draining" : "ok"), e);
}

/* Everybody may ask, and each look costs a commit: who comes within a second of one that found all well is told the same. */
static bool was_ready(const struct app *app)
{
    return clock_mono_us() < atomic_load(&app->ready_until) && !atomic_load(&app->draining) && !store_broken(app->store);
}

bool readyz_at_hand(struct app *app, struct request *req, struct reply *reply)
{
    (void)req;
    if (!was_ready(app))
        return false;
    json_begin();
    if (!reply_readiness(reply, true, true, false, NULL))
        return false;
    reply_seal(reply);
    return true;
}

bool get_readyz(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const int64_t KEPT_US = 1000000;
    struct err storage = { 0 };
    (void)req;
    if (was_ready(app))                 /* since this one began to wait for its turn */
        return reply_readiness(reply, true, true, false, e);
    bool database = store_ping(app->store, &storage), disk = store_room(app->store) > 0;
    if (database && disk)
        atomic_store(&app->ready_until, clock_mono_us() + KEPT_US);
    reply->error = storage;             /* for the log; the client gets one word */
    return reply_readiness(reply, database, disk, atomic_load(&app->draining), e);
}

bool get_openapi(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct embedded file = embed_openapi();
    (void)app, (void)req, (void)e;
    reply->borrowed = file.data;
    reply->size = file.size;
    reply->type = "application/json";
    return true;
}

bool get_queue(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct queue_counts counts;
    if (!queue_count(app->store, req->who.team, &counts, e))
        return false;
    json_t *jobs = json_object();
    for (int s = 0; s < JOB_STATES; s++)
        json_object_set_new(jobs, job_state_name((enum job_state)s), json_integer(counts.jobs[s]));
    return reply_json(reply, 200,
                      json_pack("{s:o, s:I, s:o, s:I}", "jobs", jobs, "workers", (json_int_t)app->workers, "oldest_queued_at",
                                row_time(counts.oldest_queued_at), "room_bytes", (json_int_t)store_room(app->store)), e);
}

bool get_queue_history(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    enum { POINTS = 48 };
    static const int64_t span = 30 * 60 * INT64_C(1000000);
    struct queue_point points[POINTS];
    if (!queue_history(app->store, req->who.team, clock_now_us(), span, POINTS, points, e))
        return false;
    json_t *data = json_array();
    for (int i = 0; i < POINTS; i++) {
        const struct queue_point *p = &points[i];
        json_t *wait = p->started ? json_real((double)p->waited_us / 1e6 / (double)p->started) : json_null();
        json_array_append_new(data, json_pack("{s:o, s:I, s:I, s:o}", "at", row_time(p->at), "depth", (json_int_t)p->depth, "started",
                                              (json_int_t)p->started, "wait_seconds", wait));
    }
    return reply_json(reply, 200, json_pack("{s:o}", "data", data), e);
}

static json_t *names_of_recipes(void)
{
    size_t n;
    const struct recipe_preset *presets = recipe_presets(&n);
    json_t *names = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(names, json_string(presets[i].name));
    return names;
}

#define NAMES(of, count, name_of)                                                      \
    static json_t *of(void)                                                            \
    {                                                                                  \
        json_t *names = json_array();                                                  \
        for (int i = 0; i < (count); i++)                                              \
            if (*name_of(i))                                                           \
                json_array_append_new(names, json_string(name_of(i)));                 \
        return names;                                                                  \
    }
NAMES(names_of_states, JOB_STATES, job_state_name)
NAMES(names_of_stages, JOB_STAGES, job_stage_name)
NAMES(names_of_sorts, LAYER_SORTS, layer_sort_name)

bool get_capabilities(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    (void)req;
    json_t *row = json_pack("{s:s, s:s, s:[s], s:[s], s:[s,s,s,s], s:[s,s,s], s:{s:I, s:i}, s:{s:s, s:I, s:o}, s:o, s:o, s:o, s:o, s:o}", "service", "repquant",
                            "version", app->version, "job_types", "quantize", "model_formats", "onnx",
                            "dataset_formats", "npz", "npy", "safetensors", "images", "report_formats", "json", "csv", "html",
                            "limits", "upload_bytes", (json_int_t)app->max_upload, "files_per_model", ASSET_MAX_FILES,
                            "sandbox", "level", app->sandbox ? app->sandbox : "none", "landlock_abi", (json_int_t)app->landlock, "cgroup", json_strings(app->cgroup),
                            "recipes", names_of_recipes(), "recipe_schema", recipe_schema(), "job_states", names_of_states(),
                            "job_stages", names_of_stages(), "layer_sorts", names_of_sorts());
    return reply_json(reply, 200, row, e);
}
