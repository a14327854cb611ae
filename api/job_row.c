/* job_row.c - a job as clients see it. */
#include "api/job_row.h"

#include "api/rows.h"

#include <stdio.h>
#include <string.h>

static json_t *job_urls(const struct job *job)
{
    static const char *const names[] = { "cancel", "retry", "events", "logs", "layers", "report", "artifacts" };
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
    return json_pack("{s:s, s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "type", job->type, "model_id", job->model_id, "dataset_id", row_text(job->dataset_id),
                     "eval_dataset_id", row_text(job->eval_dataset_id), "priority", job->priority, "labels", row_stored(job->labels),
                     "not_before", row_time(job->not_before), "deadline_s",
                     job->deadline_s ? json_integer(job->deadline_s) : json_null());
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

/* Who asked for the end, when and why; null where nobody did. */
static json_t *job_cancellation(const struct job *job)
{
    if (!job->cancel_requested_at)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "by", row_text(job->cancel_by), "at", row_time(job->cancel_requested_at), "reason",
                     row_text(job->cancel_reason));
}

static json_t *common_json(const struct job *job)
{
    const char *stage = job->state == JOB_RUNNING ? job_stage_name(job->stage) : "";
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", job->id, "type", job->type,
                     "created_at", job_created(job), "state", job_state_name(job->state), "stage", row_text(stage), "progress", job_progress(job),
                     "attempt", job->attempt, "max_attempts", job->max_attempts, "warnings", job->warnings,
                     "retry_of", row_text(job->retry_of), "timestamps", job_times(job), "request", job_request_json(job), "cancellation", job_cancellation(job),
                     "deadline", row_time(job->deadline),
                     "result", row_stored(job->summary), "problem", row_stored(job->problem), "urls", job_urls(job));
}

/* What is stored as JSON, and not in lists. */
static const struct { const char *name; size_t offset; } large[] = {
    { "recipe", offsetof(struct job, recipe) }, { "engine", offsetof(struct job, engine) }, { "estimate", offsetof(struct job, estimate) },
};
enum { LARGE = sizeof large / sizeof large[0] };

static char **large_of(struct job *job, size_t i) { return (char **)(void *)((char *)job + large[i].offset); }

/* NULL where row is. */
static json_t *add_small(json_t *row, const struct job *job)
{
    if (row) {
        json_object_set_new(row, "fingerprint", row_text(job->fingerprint));
        json_object_set_new(row, "trace_id", row_text(job->trace));
    }
    return row;
}

json_t *job_json(const struct job *job, bool whole)
{
    json_t *row = common_json(job);
    if (!row || !whole)
        return row;
    for (size_t i = 0; i < LARGE; i++)
        json_object_set_new(row, large[i].name, row_stored(*large_of((struct job *)(uintptr_t)job, i)));
    return add_small(row, job);
}

json_t *job_json_moving(struct job *job, struct reply *reply)
{
    for (size_t i = 0; i < LARGE; i++)
        reply_stored(reply, large[i].name, large_of(job, i));
    return add_small(common_json(job), job);
}

bool reply_job(struct reply *reply, int status, struct job *job, struct err *e)
{
    if (status == 202)
        reply_field(reply, "Location", "/v1/jobs/%s", job->id);
    return reply_json(reply, status, job_json_moving(job, reply), e);
}
