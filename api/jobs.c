/*
 * jobs.c - /v1/jobs: watch jobs, end them, remove them.  Asking for one is in submit.c.
 */
#include "api/app.h"
#include "api/handlers.h"
#include "api/job_row.h"
#include "api/rows.h"
#include "storage/recent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REASON_BYTES = 256 };

/* {"reason": "..."} or nothing. */
static bool take_reason(const struct request *req, json_t **ret_body, const char **ret_reason, struct err *e)
{
    static const char *const members[] = { "reason", NULL };
    *ret_body = request_json(req, members, true, e);
    return *ret_body && json_get_str(*ret_body, "reason", "", true, MAX_REASON_BYTES, ret_reason, ERR_REQUEST_JSON, e);
}

bool post_job_cancel(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    json_t *body = NULL;
    const char *reason = NULL;
    reply->status = 202;
    bool ok = take_reason(req, &body, &reason, e) && job_cancel(app->store, req->who.team, req->param[0], req->who.id, reason, &job, e);
    json_decref(body);
    if (ok && job.state == JOB_CANCELING)
        app->cancel(app->server, job.id);
    ok = ok && reply_job(reply, 202, &job, e);
    job_release(&job);
    return ok;
}

bool delete_job(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return job_delete(app->store, req->who.team, req->param[0], e);
}

static struct recent_key recent_job(const struct request *req) { return recent_key("job", req->who.team, req->param[0]); }

bool get_job(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct job job = { 0 };
    int64_t ahead = -1;
    struct recent_key key = recent_job(req);
    uint64_t now = recent_now(app->store);
    if (!job_get(app->store, req->who.team, req->param[0], &job, e))
        return false;
    json_t *row = job_json_moving(&job, reply);
    if (job.state == JOB_QUEUED && queue_position(app->store, req->who.team, job.id, &ahead, NULL) && ahead >= 0)
        json_object_set_new(row, "queue", json_pack("{s:I}", "ahead", (json_int_t)ahead));
    job_release(&job);
    if (!reply_json(reply, 200, row, e))
        return false;
    reply_seal(reply);
    if (reply->text)
        recent_put(app->store, &key, now, reply->text, reply->size);
    return true;
}

bool job_at_hand(struct app *app, struct request *req, struct reply *reply)
{
    struct recent_key key = recent_job(req);
    reply->text = recent_get(app->store, &key, &reply->size);
    if (!reply->text)
        return false;
    reply->status = 200;
    reply->type = "application/json";
    return true;
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
    *ret = json_text(label, JSON_COMPACT);
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
