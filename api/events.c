/*
 * events.c - /v1/jobs/{job}/events: what has happened, as a list; what happens, as a stream.
 *
 * Where a stream ends and how a reader goes on are EventSource's rules: it comes back with the id of the last event it has, and
 * 204 tells it that there is nothing to come back for.
 */
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "api/stream.h"
#include "storage/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Whether the Accept field names the type of streams. */
static bool wants_stream(const struct request *req)
{
    static const char type[] = "text/event-stream";
    size_t n = sizeof type - 1;
    const char *s = req->header[HDR_ACCEPT];
    while (s && *s) {
        s += strspn(s, " \t,");
        if (strncasecmp(s, type, n) == 0 && strchr(" \t,;", s[n]))     /* the NUL counts, too */
            return true;
        s += strcspn(s, ",");
    }
    return false;
}

static struct stream *new_stream(const struct app *app, const struct request *req, const struct stream *like)
{
    struct stream *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    *s = *like;
    snprintf(s->team, sizeof s->team, "%s", req->who.team);
    snprintf(s->job, sizeof s->job, "%s", req->param[0]);
    snprintf(s->token, sizeof s->token, "%s", app->auth ? req->who.id : "");
    snprintf(s->session, sizeof s->session, "%s", req->by == BY_SESSION ? req->session.id : "");
    return s;
}

/* *ret: whether the job is at an end. */
static bool job_ended(struct app *app, const struct request *req, bool *ret, struct err *e)
{
    struct job job = { 0 };
    if (!job_get(app->store, req->who.team, req->param[0], &job, e))
        return false;
    *ret = job_state_terminal(job.state);
    job_release(&job);
    return true;
}

bool reply_stream(struct app *app, const struct request *req, const struct stream *like, const char *type, struct reply *reply,
                  bool *ret_nothing, struct err *e)
{
    struct event_list next = { 0 };
    bool ended;
    /* In this order: a job that has ended adds no events. */
    if (!job_ended(app, req, &ended, e) || !event_list(app->store, req->who.team, req->param[0], like->after, 1, &next, e))
        return false;
    *ret_nothing = ended && !next.n;
    event_list_release(&next);
    if (*ret_nothing)
        return true;
    if (!(reply->stream = new_stream(app, req, like)))
        return err_sys(e, "events", "follow");
    reply->type = type;
    reply_field(reply, "X-Accel-Buffering", "no");      /* nginx would wait for more */
    reply->close = true;        /* who comes back at once on this connection while we shut down would hear 503, and give up for good */
    return true;
}

static bool take_last_id(const struct request *req, int64_t *ret, struct err *e)
{
    const char *text = req->header[HDR_LAST_EVENT_ID];
    uint64_t n = 0;
    if (!text || !*text)
        return true;
    if (!request_digits(text, &n) || n > INT64_MAX)
        return err_set(e, ERR_REQUEST_INVALID, "Last-Event-ID", "send the id of an event of this job as it came, or leave the field out");
    *ret = (int64_t)n;
    return true;
}

static bool follow(struct app *app, struct request *req, struct reply *reply, int64_t after, struct err *e)
{
    bool nothing;
    if (request_query(req, "limit") || request_query(req, "wait"))
        return err_set(e, ERR_REQUEST_INVALID, "query", "\"limit\" and \"wait\" are for lists; a stream goes on until the job has ended");
    if (!take_last_id(req, &after, e) || !reply_stream(app, req, &(struct stream){ .after = after }, "text/event-stream", reply, &nothing, e))
        return false;
    reply->status = nothing ? 204 : 200;
    return true;
}

bool list_job_events(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    enum { WAIT_MAX = 60 };
    int64_t after = 0, limit = 200, wait = 0;
    struct event_list list = { 0 };
    char last[24] = "";
    bool ended = false;
    if (!request_query_int(req, "after", 0, INT64_MAX, &after, e) || !request_query_int(req, "limit", 1, 1000, &limit, e)
        || !request_query_int(req, "wait", 0, WAIT_MAX, &wait, e))
        return false;
    if (wants_stream(req))
        return follow(app, req, reply, after, e);
    wait = req->waited ? 0 : wait;
    if ((wait && !job_ended(app, req, &ended, e)) || !event_list(app->store, req->who.team, req->param[0], after, (int)limit, &list, e))
        return false;
    if (wait && !list.n && !ended) {
        reply->wait_us = wait * 1000000;
        reply->stream = new_stream(app, req, &(struct stream){ .after = after });
        return reply->stream || err_sys(e, "events", "wait");
    }
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, event_json(&list.items[i]));
    if (list.n)
        snprintf(last, sizeof last, "%lld", (long long)list.items[list.n - 1].seq);
    json_t *answer = row_list(data, list.more, last);
    event_list_release(&list);
    return reply_json(reply, 200, answer, e);
}
