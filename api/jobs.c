/*
 * jobs.c - /v1/jobs: ask for a quantization, watch it, end it, ask again.
 *
 * The recipe is checked and completed here, so what is queued can be run: a mistake in it is the
 * answer to the request that made it, not a failed job an hour later.
 */
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "core/recipe/recipe.h"
#include "storage/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRIORITY_MIN = 0, PRIORITY_MAX = 9, PRIORITY_DEFAULT = 5, MAX_LABELS = 16, MAX_LABEL_BYTES = 128, MAX_KEY_BYTES = 200 };

static json_t *job_urls(const struct job *job)
{
    static const char *const names[] = { "cancel", "retry", "events", "layers", "report", "artifacts" };
    char path[96];
    snprintf(path, sizeof path, "/v1/jobs/%s", job->id);
    json_t *urls = json_pack("{s:s}", "self", path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/v1/jobs/%s/%s", job->id, names[i]);
        json_object_set_new(urls, names[i], json_string(path));
    }
    return urls;
}

/* When it last entered each state it has been in. */
static json_t *job_times(const struct job *job)
{
    json_t *times = json_object();
    for (int s = 0; s < JOB_STATES; s++)
        if (job->at[s])
            json_object_set_new(times, job_state_name((enum job_state)s), row_time(job->at[s]));
    if (job->cancel_requested_at)
        json_object_set_new(times, "cancel_requested", row_time(job->cancel_requested_at));
    return times;
}

static json_t *job_progress(const struct job *job)
{
    double percent = job->total > 0 ? 100.0 * (double)job->done / (double)job->total : 0;
    if (job->state == JOB_SUCCEEDED)
        percent = 100;
    return json_pack("{s:I, s:I, s:f}", "done", (json_int_t)job->done, "total", (json_int_t)job->total, "percent", percent);
}

static json_t *job_request_json(const struct job *job)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:i, s:o}", "type", job->type, "model_id", job->model_id, "dataset_id", job->dataset_id,
                     "eval_dataset_id", row_text(job->eval_dataset_id), "priority", job->priority, "labels",
                     row_stored(job->labels));
}

/* A job that was requeued has a later `queued`; its id still tells when it was made (milliseconds in Crockford's base 32). */
static json_t *job_created(const struct job *job)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    enum { TIME_DIGITS = 10 };
    const char *text = strchr(job->id, '_');
    int64_t ms = 0;
    for (int i = 0; text && i < TIME_DIGITS && text[1 + i]; i++) {
        const char *digit = strchr(digits, text[1 + i]);
        ms = ms * 32 + (digit ? digit - digits : 0);
    }
    return row_time(ms * 1000);
}

/* A list has the same members but the large ones. */
static json_t *job_json(const struct job *job, bool whole)
{
    const char *stage = job->state == JOB_RUNNING ? job_stage_name(job->stage) : "";
    json_t *row = json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "id", job->id, "type", job->type,
                            "created_at", job_created(job), "state", job_state_name(job->state), "stage", row_text(stage), "progress", job_progress(job),
                            "attempt", job->attempt, "max_attempts", job->max_attempts, "warnings", job->warnings,
                            "retry_of", row_text(job->retry_of), "timestamps", job_times(job), "request", job_request_json(job),
                            "result", row_stored(job->summary), "problem", row_stored(job->problem), "urls", job_urls(job));
    if (row && whole) {
        json_object_set_new(row, "recipe", row_stored(job->recipe));
        json_object_set_new(row, "engine", row_stored(job->engine));
    }
    return row;
}

static bool reply_job(struct reply *reply, int status, const struct job *job, struct err *e)
{
    if (status == 202)
        reply_field(reply, "Location", "/v1/jobs/%s", job->id);
    return reply_json(reply, status, job_json(job, true), e);
}

/* What is needed of a body, as text where storage wants text. */
struct wish {
    struct job_request request;
    char *recipe, *labels;
};

static void wish_release(struct wish *w)
{
    free(w->recipe);
    free(w->labels);
}

static bool take_id(struct app *app, const struct request *req, const json_t *body, const char *key, bool optional,
                    enum asset_kind kind, const char **ret, struct err *e)
{
    char where[32];
    struct asset asset = { 0 };
    struct err missing = { 0 };
    if (!json_get_str(body, key, "", optional, ID_SIZE - 1, ret, ERR_REQUEST_JSON, e))
        return false;
    if (!*ret)
        return true;
    bool found = asset_get(app->store, req->who.team, kind, *ret, &asset, &missing);
    asset_release(&asset);
    if (found)
        return true;
    snprintf(where, sizeof where, "/%s", key);
    if (missing.code == ERR_NOT_FOUND)
        return err_set(e, ERR_REQUEST_REFERENCE, where, "there is no %s with this id", kind == ASSET_MODEL ? "model" : "data set");
    *e = missing;
    return false;
}

static bool take_recipe(const json_t *body, struct wish *w, struct err *e)
{
    const json_t *value = json_object_get(body, "recipe");
    if (!value)
        return err_set(e, ERR_REQUEST_JSON, "/recipe", "name a recipe (GET /v1/recipes) or give one as an object");
    struct recipe *recipe = malloc(sizeof *recipe);     /* tens of kilobytes: not for a thread's stack */
    bool ok = recipe ? recipe_from_json(value, "/recipe", recipe, e) : err_sys(e, "/recipe", "keep the recipe");
    if (ok && !(w->recipe = recipe_text(recipe)))
        ok = err_set(e, ERR_MEMORY, "/recipe", "no memory for the recipe");
    w->request.recipe = w->recipe;
    free(recipe);
    return ok;
}

static bool take_labels(const json_t *body, struct wish *w, struct err *e)
{
    const char *key;
    json_t *labels = json_object_get(body, "labels"), *value;
    if (!labels)
        return true;
    if (!json_is_object(labels) || json_object_size(labels) > MAX_LABELS)
        return err_set(e, ERR_REQUEST_JSON, "/labels", "\"labels\" must be an object of at most %d strings", MAX_LABELS);
    json_object_foreach(labels, key, value)
        if (!json_is_string(value) || json_string_length(value) > MAX_LABEL_BYTES || strlen(key) > MAX_LABEL_BYTES || strchr(key, ':'))
            return err_set(e, ERR_REQUEST_JSON, "/labels", "a label is a name without ':' and a string, each of at most %d bytes",
                           MAX_LABEL_BYTES);
    w->labels = json_dumps(labels, JSON_COMPACT | JSON_SORT_KEYS);
    w->request.labels = w->labels;
    return w->labels || err_set(e, ERR_MEMORY, "/labels", "no memory for the labels");
}

static bool take_wish(struct app *app, const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    int64_t priority = PRIORITY_DEFAULT;
    if (!json_get_str(body, "type", "", false, JOB_TYPE_SIZE - 1, &w->request.type, ERR_REQUEST_JSON, e)
        || !json_get_int(body, "priority", "", true, PRIORITY_MIN, PRIORITY_MAX, &priority, ERR_REQUEST_JSON, e))
        return false;
    if (strcmp(w->request.type, "quantize") != 0)
        return err_set(e, ERR_REQUEST_JSON, "/type", "\"type\" must be \"quantize\"");
    w->request.priority = (int)priority;
    return take_id(app, req, body, "model_id", false, ASSET_MODEL, &w->request.model_id, e)
        && take_id(app, req, body, "dataset_id", false, ASSET_DATASET, &w->request.dataset_id, e)
        && take_id(app, req, body, "eval_dataset_id", true, ASSET_DATASET, &w->request.eval_dataset_id, e)
        && take_recipe(body, w, e) && take_labels(body, w, e);
}

/* The key, with a fingerprint of what was asked with it.  key stays NULL without the header field. */
static bool take_key(const struct request *req, struct idempotency *ret, struct err *e)
{
    const char *key = req->header[HDR_IDEMPOTENCY_KEY];
    struct hash h;
    if (!key)
        return true;
    if (!*key || strlen(key) > MAX_KEY_BYTES)
        return err_set(e, ERR_REQUEST_INVALID, "Idempotency-Key", "the key must have 1 to %d bytes", MAX_KEY_BYTES);
    hash_init(&h);
    hash_add(&h, req->method, strlen(req->method) + 1);
    hash_add(&h, req->target.path, strlen(req->target.path) + 1);
    hash_add(&h, req->body.p, req->body.n);
    hash_end(&h, ret->fingerprint);
    ret->key = key;
    return true;
}

/* *ret_replayed: an earlier request with this key has made its job, and the reply is that. */
static bool replay(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply,
                   bool *ret_replayed, struct err *e)
{
    char id[ID_SIZE] = "";
    struct job job = { 0 };
    *ret_replayed = false;
    if (!key->key)
        return true;
    if (!idempotency_find(app->store, req->who.team, key, id, e))
        return false;
    if (!id[0])
        return true;
    *ret_replayed = true;
    reply_field(reply, "Idempotency-Replayed", "true");
    bool ok = job_get(app->store, req->who.team, id, &job, e) && reply_job(reply, 202, &job, e);
    job_release(&job);
    return ok;
}

/* make() queues a job; this is what surrounds it whichever way the job comes about. */
static bool queue_job(struct app *app, const struct request *req, struct reply *reply, struct err *e,
                      bool (*make)(struct app *, const struct request *, const struct idempotency *, struct job *, struct err *))
{
    struct idempotency key = { 0 };
    struct job job = { 0 };
    struct err why = { 0 };
    bool replayed;
    if (!take_key(req, &key, e) || !replay(app, req, &key, reply, &replayed, e))
        return false;
    if (replayed)
        return true;
    if (atomic_load(&app->draining))
        return err_set(e, ERR_DRAINING, "", "shutting down");
    bool ok = make(app, req, &key, &job, &why);
    if (!ok && why.code == ERR_CONFLICT && strcmp(why.where, "Idempotency-Key") == 0
        && replay(app, req, &key, reply, &replayed, e) && replayed)
        return true;        /* its twin was faster by a moment */
    if (ok) {
        app->kick(app->server);
        ok = reply_job(reply, 202, &job, e);
    } else if (e->code == ERR_NONE) {
        *e = why;
    }
    job_release(&job);
    return ok;
}

static bool make_from_body(struct app *app, const struct request *req, const struct idempotency *key, struct job *ret, struct err *e)
{
    static const char *const members[] = { "type", "model_id", "dataset_id", "eval_dataset_id", "recipe", "priority", "labels", NULL };
    struct wish w = { .request.idempotency = *key };
    json_t *body = request_json(req, members, false, e);
    bool ok = body && take_wish(app, req, body, &w, e) && job_insert(app->store, req->who.team, &w.request, ret, e);
    wish_release(&w);
    json_decref(body);
    return ok;
}

static bool make_again(struct app *app, const struct request *req, const struct idempotency *key, struct job *ret, struct err *e)
{
    return job_retry(app->store, req->who.team, req->param[0], key, ret, e);
}

bool post_job(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    return queue_job(app, req, reply, e, make_from_body);
}

static bool no_members(const struct request *req, struct err *e)
{
    static const char *const members[] = { NULL };
    json_t *body = request_json(req, members, true, e);
    json_decref(body);
    return body;
}

bool post_job_retry(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    return no_members(req, e) && queue_job(app, req, reply, e, make_again);
}

bool post_job_cancel(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    if (!no_members(req, e) || !job_cancel(app->store, req->who.team, req->param[0], &job, e))
        return false;
    if (job.state == JOB_CANCELING)
        app->cancel(app->server, job.id);
    bool ok = reply_job(reply, 202, &job, e);
    job_release(&job);
    return ok;
}

bool get_job(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    int64_t ahead = -1;
    if (!job_get(app->store, req->who.team, req->param[0], &job, e))
        return false;
    json_t *row = job_json(&job, true);
    if (job.state == JOB_QUEUED && queue_position(app->store, req->who.team, job.id, &ahead, NULL) && ahead >= 0)
        json_object_set_new(row, "queue", json_pack("{s:I}", "ahead", (json_int_t)ahead));
    job_release(&job);
    return reply_json(reply, 200, row, e);
}

/* state=queued,running */
static bool take_states(const char *text, unsigned *ret, struct err *e)
{
    char words[128];
    if (!text)
        return true;
    snprintf(words, sizeof words, "%s", text);
    char *rest = words;
    for (char *word; (word = strsep(&rest, ","));) {
        enum job_state state;
        if (!job_state_parse(word, &state))
            return err_set(e, ERR_REQUEST_INVALID, "state",
                           "\"state\" is one or more of queued,running,canceling,canceled,failed,succeeded");
        *ret |= 1u << state;
    }
    return true;
}

/* label=name:value; *ret is malloc'd JSON. */
static bool take_label(const char *text, char **ret, struct err *e)
{
    const char *colon = text ? strchr(text, ':') : NULL;
    if (!text)
        return true;
    if (!colon || colon == text)
        return err_set(e, ERR_REQUEST_INVALID, "label", "\"label\" is name:value");
    json_t *name = json_stringn(text, (size_t)(colon - text));
    json_t *label = json_object();
    if (name)
        json_object_set_new(label, json_string_value(name), json_string(colon + 1));
    *ret = json_dumps(label, JSON_COMPACT);
    json_decref(name);
    json_decref(label);
    return *ret || err_set(e, ERR_MEMORY, "label", "no memory for the filter");
}

bool list_jobs(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct page page;
    struct job_list list = { 0 };
    struct job_filter filter = { .model_id = request_query(req, "model_id") };
    char *label = NULL;
    bool ok = row_page(req, "job", &page, e) && take_states(request_query(req, "state"), &filter.states, e)
        && take_label(request_query(req, "label"), &label, e);
    filter.labels = label;
    ok = ok && job_list(app->store, req->who.team, &filter, page, &list, e);
    free(label);
    if (!ok)
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, job_json(&list.items[i], false));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    job_list_release(&list);
    return reply_json(reply, 200, answer, e);
}
