/*
 * submit.c - POST /v1/jobs and retry: ask for a quantization, once however often it is asked.
 *
 * The recipe is checked and completed here, so what is queued can be run: a mistake in it is the
 * answer to the request that made it, not a failed job an hour later.
 */
#include "api/app.h"
#include "api/handlers.h"
#include "api/job_row.h"
#include "api/once.h"
#include "api/recipes.h"
#include "api/webhook_body.h"
#include "core/base/clock.h"
#include "core/recipe/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRIORITY_MIN = 0, PRIORITY_MAX = 9, PRIORITY_DEFAULT = 5, MAX_LABELS = 16, MAX_LABEL_BYTES = 128,
       MAX_ATTEMPTS = 100, MAX_DEADLINE_S = 366 * 86400 };

/* ---- the answer ---- */

/* The hook that was made for the request; its secret is shown once, and is not in what is kept to repeat the answer. */
static json_t *webhook_made(const struct job *job, bool secret)
{
    if (!job->webhook_id[0])
        return json_null();
    return json_pack("{s:s, s:s*}", "id", job->webhook_id, "secret", secret ? job->webhook_secret : NULL);
}

/* The job as it was made or found, and whether it was found: "cache" is "hit" or "miss". */
static json_t *finish_answer(json_t *row, const struct job *job, bool secret, int *ret_status)
{
    *ret_status = job->reused && job_state_terminal(job->state) ? 200 : 202;
    if (row && json_object_set_new(row, "cache", json_string(job->reused ? "hit" : "miss")) == 0
        && json_object_set_new(row, "webhook", webhook_made(job, secret)) == 0)
        return row;
    json_decref(row);
    return NULL;
}

static char *answer_text(const void *made, int *ret_status)
{
    return once_text(finish_answer(job_json(made, true), made, false, ret_status));
}

/* ---- the body ---- */

/* What is needed of a body, as text where storage wants text. */
struct wish {
    struct job_request request;
    struct asset model, dataset, evaluation;        /* id "": none */
    char *recipe, *labels, *estimate;
    char fingerprint[HASH_HEX_SIZE];
    struct webhook_wish webhook;
    struct webhook_request hook;
};

static void wish_release(struct wish *w)
{
    asset_release(&w->model);
    asset_release(&w->dataset);
    asset_release(&w->evaluation);
    free(w->recipe);
    free(w->labels);
    free(w->estimate);
}

/* Says of an asset that was not found which member named it. */
static bool no_asset(const char *key, enum asset_kind kind, const struct err *why, struct err *e)
{
    char where[32];
    snprintf(where, sizeof where, "/%s", key);
    if (why->code == ERR_NOT_FOUND)
        return err_set(e, ERR_REQUEST_REFERENCE, where, "there is no %s with this id", kind == ASSET_MODEL ? "model" : "data set");
    *e = *why;
    return false;
}

/* Looks the asset up; *ret is released with the wish. */
static bool take_asset(struct app *app, const struct request *req, const json_t *body, const char *key, bool optional,
                       enum asset_kind kind, const char **ret_id, struct asset *ret, struct err *e)
{
    struct err missing = { 0 };
    if (!json_get_str(body, key, "", optional, ID_SIZE - 1, ret_id, ERR_REQUEST_JSON, e))
        return false;
    return !*ret_id || asset_get_row(app->store, req->who.team, kind, *ret_id, ret, &missing) || no_asset(key, kind, &missing, e);
}

static bool take_recipe(struct app *app, const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    const json_t *value = json_object_get(body, "recipe");
    const char *preset = json_is_string(value) && w->request.dataset_id ? recipe_preset_text(json_string_value(value)) : NULL;
    if (!value)
        return err_set(e, ERR_REQUEST_JSON, "/recipe", "name a recipe (GET /v1/recipes) or give one as an object");
    if (preset) {
        w->request.recipe = w->recipe = strdup(preset);
        return w->recipe || err_sys(e, "/recipe", "keep the recipe");
    }
    struct recipe *recipe = malloc(sizeof *recipe);     /* tens of kilobytes: not for a thread's stack */
    bool ok = recipe ? recipe_wish(app, req->who.team, value, "/recipe", recipe, e) : err_sys(e, "/recipe", "keep the recipe");
    if (ok && !w->request.dataset_id && !recipe->calibration.random_tokens)
        ok = recipe_without_data(recipe, "/recipe", e);
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
    w->labels = json_text(labels, JSON_COMPACT | JSON_SORT_KEYS);
    w->request.labels = w->labels;
    return w->labels || err_set(e, ERR_MEMORY, "/labels", "no memory for the labels");
}

static bool take_when(const json_t *body, struct wish *w, struct err *e)
{
    const char *text = NULL;
    if (!json_get_str(body, "not_before", "", true, CLOCK_RFC3339_SIZE - 1, &text, ERR_REQUEST_JSON, e)
        || !json_get_int(body, "deadline_s", "", true, 1, MAX_DEADLINE_S, &w->request.deadline_s, ERR_REQUEST_JSON, e))
        return false;
    return !text || clock_parse_rfc3339(text, &w->request.not_before)
        || err_set(e, ERR_REQUEST_JSON, "/not_before", "\"not_before\" is a time such as 2026-01-31T18:00:00Z");
}

static bool take_dedupe(const json_t *body, struct wish *w, struct err *e)
{
    const char *text = NULL;
    if (!json_get_str(body, "dedupe", "", true, MAX_LABEL_BYTES, &text, ERR_REQUEST_JSON, e))
        return false;
    return !text || dedupe_parse(text, &w->request.dedupe)
        || err_set(e, ERR_REQUEST_JSON, "/dedupe", "\"dedupe\" is new, reuse, reject or replace_queued");
}

static bool take_numbers(const json_t *body, struct wish *w, struct err *e)
{
    int64_t priority = PRIORITY_DEFAULT, attempts = JOB_MAX_ATTEMPTS;
    if (!json_get_int(body, "priority", "", true, PRIORITY_MIN, PRIORITY_MAX, &priority, ERR_REQUEST_JSON, e)
        || !json_get_int(body, "max_attempts", "", true, 1, MAX_ATTEMPTS, &attempts, ERR_REQUEST_JSON, e))
        return false;
    w->request.priority = (int)priority;
    w->request.max_attempts = (int)attempts;
    return true;
}

static bool take_webhook(struct app *app, const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    static const char *const members[] = { "url", "events", "name", "secret", NULL };
    const json_t *object = json_object_get(body, "webhook");
    if (!object)
        return true;
    if (!request_members(object, members, "/webhook", e) || !webhook_wish(app, object, "/webhook", &w->webhook, e)
        || !webhook_wish_url_given(&w->webhook, "/webhook", e))
        return false;
    w->hook = webhook_wish_request(&w->webhook, req->who.id);
    w->request.webhook = &w->hook;
    return true;
}

/* Two jobs of one fingerprint end with the same bytes: everything their artifacts depend on is in it. */
static void set_fingerprint(const struct app *app, struct wish *w)
{
    const char *const parts[] = { w->request.type, w->model.digest, w->dataset.digest, w->evaluation.digest, w->recipe, app->version };
    uint8_t digest[HASH_SIZE];
    struct hash h;
    hash_init(&h);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        hash_add(&h, parts[i], strlen(parts[i]) + 1);
    hash_end(&h, digest);
    hash_hex(digest, w->fingerprint);
    w->request.fingerprint = w->fingerprint;
}

static bool take_wish(struct app *app, const struct request *req, const json_t *body, struct wish *w, struct err *e)
{
    if (!json_get_str(body, "type", "", false, JOB_TYPE_SIZE - 1, &w->request.type, ERR_REQUEST_JSON, e))
        return false;
    if (strcmp(w->request.type, "quantize") != 0)
        return err_set(e, ERR_REQUEST_JSON, "/type", "\"type\" must be \"quantize\"");
    bool ok = take_numbers(body, w, e) && take_when(body, w, e) && take_dedupe(body, w, e)
        && take_asset(app, req, body, "model_id", false, ASSET_MODEL, &w->request.model_id, &w->model, e)
        && take_asset(app, req, body, "dataset_id", true, ASSET_DATASET, &w->request.dataset_id, &w->dataset, e)
        && take_asset(app, req, body, "eval_dataset_id", true, ASSET_DATASET, &w->request.eval_dataset_id, &w->evaluation, e)
        && take_recipe(app, req, body, w, e) && take_labels(body, w, e) && take_webhook(app, req, body, w, e);
    if (ok)
        set_fingerprint(app, w);
    return ok;
}

/* ---- making one ---- */

static json_t *wish_body(const struct request *req, struct err *e)
{
    static const char *const members[] = { "type", "model_id", "dataset_id", "eval_dataset_id", "recipe", "priority", "labels",
                                           "not_before", "deadline_s", "max_attempts", "dedupe", "webhook", NULL };
    return request_json(req, members, false, e);
}

/* ---- what it would take ---- */

/* Looking ahead takes a child process: false asks to be called again where there is time for one. */
static bool may_foresee(const struct request *req, struct reply *reply)
{
    reply->slow = !req->slow;
    return req->slow;
}

/* What is in the asset, where there is one. */
static bool look_into(struct app *app, const struct request *req, const char *key, struct asset *a, struct err *e)
{
    struct asset row = *a;
    struct err missing = { 0 };
    if (!row.id[0])
        return true;
    asset_release(a);
    return asset_get(app->store, req->who.team, row.kind, row.id, a, &missing) || no_asset(key, row.kind, &missing, e);
}

static json_t *foresee(struct app *app, const struct request *req, struct wish *w, struct err *e)
{
    if (!look_into(app, req, "model_id", &w->model, e) || !look_into(app, req, "dataset_id", &w->dataset, e)
        || !look_into(app, req, "eval_dataset_id", &w->evaluation, e))
        return NULL;
    struct foresight of = { .model = &w->model, .dataset = w->dataset.id[0] ? &w->dataset : NULL,
                            .evaluation = w->evaluation.id[0] ? &w->evaluation : NULL, .recipe = w->recipe };
    char *text = NULL;
    if (!app->foresee(app->server, req->who.team, &of, &text, e))
        return NULL;
    json_t *told = json_read(text, JSON_REJECT_DUPLICATES);
    free(text);
    if (!told)
        err_set(e, ERR_MEMORY, "", "no memory for the plan; try again");
    return told;
}

/* A number of the estimate, which is told by the process that looked into a stranger's model: what no machine has is cut, so that sums cannot
 * overflow. */
static int64_t number_of(const json_t *estimate, const char *name)
{
    int64_t most = (int64_t)1 << 53, n = json_integer_value(json_object_get(estimate, name));
    return n < 0 ? 0 : n > most ? most : n;
}

static int64_t memory_of(const json_t *estimate) { return number_of(estimate, "memory_bytes"); }

/* Too large for this service, with what would make it fit. */
static bool too_large(const struct app *app, const json_t *estimate, struct err *e)
{
    int64_t bytes = memory_of(estimate), budget = number_of(estimate, "budget_bytes");
    int64_t floor = number_of(estimate, "fixed_bytes"), samples = number_of(estimate, "samples");
    int64_t limit = app->jobs_memory, MIB = 1 << 20;
    if (!limit || bytes <= limit)
        return false;
    if (floor >= limit || bytes <= floor)
        err_set(e, ERR_MEMORY_LIMIT, "/model_id", "the job would take about %lld MiB whatever the samples, jobs may take %lld; use a smaller model,"
                " or ask the operator for a higher --jobs-memory", (long long)(bytes / MIB), (long long)(limit / MIB));
    else
        err_set(e, ERR_MEMORY_LIMIT, "/recipe/calibration/samples", "the job would take about %lld MiB, jobs may take %lld; about %lld of the"
                " %lld calibration samples fit, or ask the operator for a --memory below %lld MiB", (long long)(bytes / MIB),
                (long long)(limit / MIB), (long long)((double)samples * (double)(limit - floor) / (double)(bytes - floor)), (long long)samples,
                (long long)(budget / MIB));
    return true;
}

/* The first error among the problems. */
static bool is_blocked(const json_t *told, struct err *e)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(told, "problems"), i, p) {
        const char *level = json_string_value(json_object_get(p, "level")), *code = json_string_value(json_object_get(p, "code"));
        const char *pointer = json_string_value(json_object_get(p, "pointer")), *detail = json_string_value(json_object_get(p, "detail"));
        if (!level || strcmp(level, "error") != 0 || !code || !pointer || !detail)
            continue;
        err_set(e, err_from_slug(code) ? err_from_slug(code) : ERR_MODEL_INVALID, pointer, "%s", detail);
        return true;
    }
    return false;
}

static bool still_holds(const struct app *app, const json_t *estimate)
{
    return json_integer_value(json_object_get(estimate, "threads")) == app->job_threads
        && json_integer_value(json_object_get(estimate, "budget_bytes")) == app->job_budget;
}

/* That of the last job of the same fingerprint, where there is one: looking ahead costs a process. */
static bool known_estimate(struct app *app, const struct request *req, const struct wish *w, json_t **ret, struct err *e)
{
    char *text;
    *ret = NULL;
    if (!job_estimate_find(app->store, req->who.team, w->fingerprint, &text, e))
        return false;
    json_t *estimate = text ? json_read(text, 0) : NULL;
    free(text);
    if (estimate && still_holds(app, estimate))
        *ret = estimate;
    else
        json_decref(estimate);
    return true;
}

/* Fills the wish's estimate, where one can be had; false: the job is refused, or the reply is slow. */
static bool take_estimate(struct app *app, const struct request *req, struct wish *w, struct reply *reply, struct err *e)
{
    json_t *estimate;
    if (!app->foresee)
        return true;
    if (!known_estimate(app, req, w, &estimate, e))
        return false;
    if (!estimate && !may_foresee(req, reply))
        return false;
    if (!estimate) {
        json_t *told = foresee(app, req, w, e);
        estimate = told && !is_blocked(told, e) ? json_incref(json_object_get(told, "estimate")) : NULL;
        bool ok = told && e->code == ERR_NONE;
        json_decref(told);
        if (!ok)
            return false;
    }
    bool ok = !too_large(app, estimate, e);
    w->request.memory = memory_of(estimate);
    w->estimate = json_is_object(estimate) ? json_text(estimate, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    w->request.estimate = w->estimate;
    json_decref(estimate);
    return ok;
}

/* 200 with the plan, whatever stands in the way: that is among the problems. */
static bool dry_run(struct app *app, const struct request *req, struct reply *reply, struct err *e)
{
    struct wish w = { 0 };
    struct err large = { 0 };
    json_t *body = wish_body(req, e), *told = NULL;
    bool ok = body && take_wish(app, req, body, &w, e) && may_foresee(req, reply)
           && (app->foresee || err_set(e, ERR_BUSY, "dry_run", "nobody can look ahead here"))
           && (told = foresee(app, req, &w, e)) != NULL;
    if (ok && too_large(app, json_object_get(told, "estimate"), &large))
        json_array_append_new(json_object_get(told, "problems"),
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "level", "error", "code", err_slug(large.code), "pointer", large.where,
                                        "where", "", "detail", large.text));
    if (ok)
        json_object_set_new(told, "fingerprint", json_string(w.fingerprint));
    wish_release(&w);
    json_decref(body);
    return ok && reply_json(reply, 200, told, e);
}

/* Takes the job.  With a key the answer has the bytes that are kept to repeat it. */
static bool reply_queued(struct app *app, struct job *job, const struct idempotency *key, struct reply *reply, struct err *e)
{
    int status;
    app->kick(app->server);
    json_t *row = finish_answer(key->key ? job_json(job, true) : job_json_moving(job, reply), job, true, &status);
    bool ok = reply_made(reply, status, "/v1/jobs", job->id, row, e);
    job_release(job);
    return ok;
}

static bool make_from_body(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply, struct err *e)
{
    struct wish w = { .request = { .idempotency = *key, .trace = req->trace } };
    struct job job = { 0 };
    json_t *body = wish_body(req, e);
    bool ok = body && take_wish(app, req, body, &w, e) && take_estimate(app, req, &w, reply, e)
           && job_insert(app->store, req->who.team, &w.request, &job, e);
    wish_release(&w);
    json_decref(body);
    return ok && reply_queued(app, &job, key, reply, e);
}

bool post_job(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const struct once once = { "/v1/jobs", 202, answer_text, make_from_body };
    const char *dry = request_query(req, "dry_run");
    if (dry && !route_lists("true false", dry))
        return err_set(e, ERR_REQUEST_INVALID, "dry_run", "\"dry_run\" is true or false");
    return dry && strcmp(dry, "true") == 0 ? dry_run(app, req, reply, e) : reply_once(app, req, &once, reply, e);
}

static bool make_again(struct app *app, const struct request *req, const struct idempotency *key, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    return request_nothing(req, e) && job_retry(app->store, req->who.team, req->param[0], key, req->trace, &job, e)
        && reply_queued(app, &job, key, reply, e);
}

bool post_job_retry(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const struct once once = { "/v1/jobs", 202, answer_text, make_again };
    return reply_once(app, req, &once, reply, e);
}
