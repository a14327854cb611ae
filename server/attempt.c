/*
 * attempt.c - a row becomes a scratch folder, a scratch folder becomes blobs and rows.
 *
 *     inputs, scratch, job.json -> child -> done     publish -> SUCCEEDED
 *                                        -> problem  FAILED
 *                                        -> lost     QUEUED again, or FAILED the third time
 *                                        -> stopped  CANCELED, or QUEUED when we shut down
 *
 * The claim may turn out to be stale at any write (run.h): then the child is killed, its folder dropped
 * and nothing said; the job is somebody else's.
 */
#include "server/attempt.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/metric.h"
#include "core/base/version.h"
#include "server/sandbox.h"
#include "server/task.h"
#include "storage/asset.h"
#include "storage/blob.h"
#include "storage/problem.h"
#include "storage/result.h"
#include "storage/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t BEAT_US = 10 * 1000000, PROGRESS_US = 1000000;
enum { MAX_WARNINGS = 1000, MAX_METRICS = 64, LOG_TAIL = 900 };

/* One attempt, on the worker's stack. */
struct attempt {
    const struct attempt_of *of;
    struct store *store;
    struct claim claim;
    struct task task;
    json_t *metrics;                /* for the summary */
    int layers, warnings;
    struct { int64_t done, total, samples; bool news; } progress;
    int64_t progress_at;            /* when it was last written */
    int64_t started_at, model_bytes;
    enum job_stage stage;           /* the last it told, and when */
    int64_t stage_at;
};

/* ---- what the child reports ---- */

static bool write_progress(struct attempt *a, struct err *e)
{
    if (!a->progress.news)
        return true;
    a->progress.news = false;
    a->progress_at = clock_mono_us();
    return run_progress(a->store, &a->claim, a->progress.done, a->progress.total, a->progress.samples, e);
}

/* At most one a second reaches the table; the last one always does, before the next stage or the end. */
static bool on_progress(struct attempt *a, const struct child_event *ev, struct err *e)
{
    a->progress.done = ev->done;
    a->progress.total = ev->total;
    a->progress.samples = ev->samples;
    a->progress.news = true;
    return clock_mono_us() < a->progress_at + PROGRESS_US || write_progress(a, e);
}

static void time_stage(struct attempt *a, enum job_stage next)
{
    int64_t now = clock_mono_us();
    if (a->stage)
        metric_observe(METRIC_STAGE_SECONDS, (int)a->stage - 1, (double)(now - a->stage_at) / 1e6);    /* the label's words are the stages */
    a->stage = next;
    a->stage_at = now;
}

static bool on_stage(struct attempt *a, const struct child_event *ev, struct err *e)
{
    enum job_stage stage;
    if (!job_stage_parse(ev->name, &stage))
        return true;                /* one of a newer quantizer */
    time_stage(a, stage);
    return write_progress(a, e) && run_stage(a->store, &a->claim, stage, e);
}

static bool on_resumed(struct attempt *a, const struct child_event *ev, struct err *e)
{
    return run_resumed(a->store, &a->claim, ev->sites, ev->weights, e);
}

static bool on_layer(struct attempt *a, const struct child_event *ev, struct err *e)
{
    char *row = child_event_row(ev);
    if (!row)
        return err_sys(e, "layer", "copy");
    a->layers++;
    bool ok = run_layer(a->store, &a->claim, ev->index, row, e);
    free(row);
    return ok;
}

static bool on_warning(struct attempt *a, const struct child_event *ev, struct err *e)
{
    return a->warnings++ >= MAX_WARNINGS || run_warning(a->store, &a->claim, ev->code, ev->where, ev->detail, e);
}

static bool on_metric(struct attempt *a, const struct child_event *ev, struct err *e)
{
    if (strlen(ev->name) > 31 || json_object_size(a->metrics) >= MAX_METRICS)
        return true;
    if (json_object_set_new(a->metrics, ev->name, metric_json(ev->x_float, ev->x_quantized, ev->samples)) != 0)
        return err_set(e, ERR_MEMORY, "metric", "no memory for a metric; try again");
    return run_metric(a->store, &a->claim, ev->name, ev->x_float, ev->x_quantized, ev->samples, e);
}

static bool on_event(void *arg, const struct child_event *ev, struct err *e)
{
    static bool (*const handlers[EVENT_KINDS])(struct attempt *, const struct child_event *, struct err *) = {
        [EVENT_STAGE] = on_stage, [EVENT_PROGRESS] = on_progress, [EVENT_RESUMED] = on_resumed, [EVENT_LAYER] = on_layer,
        [EVENT_WARNING] = on_warning, [EVENT_METRIC] = on_metric,
    };
    return !handlers[ev->kind] || handlers[ev->kind](arg, ev, e);
}

/* Extends the lease, and hears of a cancellation whose kick came before we were there to take it. */
static bool on_beat(void *arg, struct err *e)
{
    struct attempt *a = arg;
    bool canceling;
    if (!run_heartbeat(a->store, &a->claim, a->of->lease_us, &canceling, e))
        return false;
    if (canceling)
        stopper_stop(a->of->stopper, STOP_CANCEL);
    return true;
}

/* ---- what it needs ---- */

static bool add_dataset(struct attempt *a, const char *key, const char *id, struct err *e)
{
    struct asset set = { 0 };
    if (!id[0])
        return true;
    bool ok = asset_get(a->store, a->claim.team, ASSET_DATASET, id, &set, e)
           && task_add_file(&a->task, key, a->store, a->claim.team, &set.files[0], e);
    asset_release(&set);
    return ok;
}

static bool add_model(struct attempt *a, struct err *e)
{
    struct asset model = { 0 };
    bool ok = asset_get(a->store, a->claim.team, ASSET_MODEL, a->of->job->model_id, &model, e)
           && task_add_model(&a->task, a->store, a->claim.team, model.files, model.nfiles, e);
    a->model_bytes = (int64_t)model.bytes;
    asset_release(&model);
    return ok;
}

static bool note_engine(struct attempt *a, int64_t threads, struct err *e)
{
    const struct config *c = a->of->config;
    struct sandbox box;
    sandbox_choose(c->sandbox, &box, NULL);
    json_t *doc = json_pack("{s:s, s:I, s:I, s:s, s:o}", "version", engine_version, "threads", (json_int_t)threads, "memory", (json_int_t)c->memory,
                            "sandbox", sandbox_level(&box), "cgroup", json_strings(cgroups_used(c->cgroups)));
    char *text = doc ? json_text(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    bool ok = text ? run_engine(a->store, &a->claim, text, e) : err_sys(e, "engine", "write");
    free(text);
    return ok;
}

static bool prepare(struct attempt *a, struct err *e)
{
    const struct config *c = a->of->config;
    int64_t threads = task_threads(c);
    if (!task_begin(&a->task, a->of->job->type, e))
        return false;
    a->task.foreseen = a->of->job->memory;
    return add_model(a, e)
        && add_dataset(a, "calibration", a->of->job->dataset_id, e) && add_dataset(a, "evaluation", a->of->job->eval_dataset_id, e)
        && task_set_json(&a->task, "recipe", a->of->job->recipe, e)
        && task_set_int(&a->task, "threads", threads, e) && task_set_int(&a->task, "memory", c->memory, e)
        && scratch_make(a->store, &a->claim, &a->task.scratch, e) && task_write(&a->task, e)
        && note_engine(a, threads, e);
}

/* ---- what it left ---- */

static const char *media_type(const char *name)
{
    static const struct { const char *end, *type; } types[] = {
        { ".json", "application/json" }, { ".csv", "text/csv" }, { ".html", "text/html" },
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(dot, types[i].end) == 0)
            return types[i].type;
    return "application/octet-stream";
}

static bool adopt(struct attempt *a, const char *name, struct result *ret, struct err *e)
{
    struct blob b;
    int fd = -1;
    uint64_t limit = task_result_limit(&a->task);
    bool ok = scratch_open(a->task.scratch, name, limit, &fd, e) && blob_adopt(a->store, a->claim.team, fd, limit, &b, e);
    if (fd >= 0)
        close(fd);
    if (!ok)
        return false;
    *ret = (struct result){ .size = b.size };
    snprintf(ret->name, sizeof ret->name, "%s", name);
    snprintf(ret->media_type, sizeof ret->media_type, "%s", media_type(name));
    snprintf(ret->digest, sizeof ret->digest, "%s", b.digest);
    return true;
}

static char *summary(const struct attempt *a, const struct child_outcome *out, const struct result *results)
{
    int64_t after = 0;
    for (int i = 0; i < out->nfiles; i++)
        if (strcmp(results[i].name, "model.onnx") == 0)
            after = (int64_t)results[i].size;
    json_t *doc = json_pack("{s:O, s:i, s:i, s:I, s:I, s:I, s:o, s:f}", "metrics", a->metrics, "layers", a->layers, "warnings", a->warnings,
                            "bytes_before", (json_int_t)a->model_bytes, "bytes_after", (json_int_t)after,
                            "peak_bytes", (json_int_t)out->peak_bytes, "cpu_seconds", json_finite(out->cpu_seconds),
                            "seconds", (double)(clock_mono_us() - a->started_at) / 1e6);
    char *text = doc ? json_text(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

/* Files first, each hashed into the store; then one transaction makes them the job's. */
static bool publish(struct attempt *a, const struct child_outcome *out, struct err *e)
{
    struct result results[CHILD_MAX_FILES];
    bool ok = write_progress(a, e);
    for (int i = 0; ok && i < out->nfiles; i++)
        ok = adopt(a, out->files[i], &results[i], e);
    char *text = ok ? summary(a, out, results) : NULL;
    if (ok && !text)
        ok = err_sys(e, "summary", "write");
    ok = ok && run_finish(a->store, &a->claim, results, (size_t)out->nfiles, text, e);
    free(text);
    return ok;
}

/* ---- the end of an attempt ---- */

static void say(const struct attempt *a, enum log_level level, const char *event, const char *text)
{
    log_line(level, event, "%s attempt %d: %s", a->claim.job, a->of->job->attempt, text);
}

/* The row could not be written: recovery at the next start, or the next claim, will find it as it is. */
static void unwritten(const struct attempt *a, const struct err *why)
{
    say(a, why->code == ERR_CONFLICT ? LOG_WARN : LOG_ERROR, why->code == ERR_CONFLICT ? "job.stale" : "job.unwritten", why->text);
}

/* The write that finds the disk full fails and lets go of the ballast (storage/store.c); the next one goes through. */
static bool worth_another(struct err *e)
{
    bool full = e->code == ERR_DISK;
    if (full)
        *e = (struct err){ 0 };
    return full;
}

/* Our own trouble may pass: the attempt is lost.  The input's never does: the job fails. */
static bool write_problem(struct attempt *a, const char *text, bool retryable, enum job_state *ret, struct err *e)
{
    *ret = JOB_FAILED;
    return retryable ? run_lost(a->store, &a->claim, text, ret, e) : run_fail(a->store, &a->claim, text, e);
}

static void end_with_problem(struct attempt *a, const struct err *problem, bool retryable)
{
    struct err e = { 0 };
    enum job_state to;
    char *text = problem_text(problem);
    bool ok = write_problem(a, text, retryable, &to, &e) || (worth_another(&e) && write_problem(a, text, retryable, &to, &e));
    free(text);
    if (!ok)
        unwritten(a, &e);
    else
        say(a, LOG_WARN, to == JOB_QUEUED ? "job.requeued" : "job.failed", problem->text);
    scratch_drop(a->store, &a->claim, ok && to == JOB_QUEUED);
}

static void end_stopped(struct attempt *a)
{
    struct err e = { 0 };
    bool drain = stopper_why(a->of->stopper) == STOP_DRAIN;
    bool (*write)(struct store *, const struct claim *, struct err *) = drain ? run_requeue : run_canceled;
    bool ok = write(a->store, &a->claim, &e) || (worth_another(&e) && write(a->store, &a->claim, &e));
    if (!ok)
        unwritten(a, &e);
    else
        say(a, LOG_INFO, drain ? "job.requeued" : "job.canceled", "stopped");
    scratch_drop(a->store, &a->claim, drain);
}

/* Something of ours failed.  If the claim is stale there is nothing to say; else the job must hear of it. */
static void end_unwritten(struct attempt *a, const struct err *why)
{
    if (why->code != ERR_CONFLICT) {
        end_with_problem(a, why, err_retryable(why->code));
        return;
    }
    unwritten(a, why);
    scratch_drop(a->store, &a->claim, false);
}

static void end_done(struct attempt *a, const struct child_outcome *out)
{
    struct err e = { 0 };
    if (stopper_why(a->of->stopper) == STOP_CANCEL) {
        end_stopped(a);
    } else if (publish(a, out, &e)) {
        say(a, LOG_INFO, "job.succeeded", "published");
        scratch_drop(a->store, &a->claim, false);
    } else if (e.code == ERR_CANCELED) {
        stopper_stop(a->of->stopper, STOP_CANCEL);
        end_stopped(a);
    } else {
        end_unwritten(a, &e);
    }
}

static void show_log(const struct attempt *a, const struct child_outcome *out)
{
    if (!out->log || !out->log[0] || out->end == CHILD_DONE || out->end == CHILD_STOPPED)
        return;
    size_t n = strlen(out->log);
    say(a, LOG_WARN, "job.log", out->log + (n > LOG_TAIL ? n - LOG_TAIL : 0));
}

static void end_attempt(struct attempt *a, const struct child_outcome *out)
{
    show_log(a, out);
    switch (out->end) {
    case CHILD_DONE: end_done(a, out); break;
    case CHILD_STOPPED: end_stopped(a); break;
    case CHILD_PROBLEM:
    case CHILD_LOST: end_with_problem(a, &out->problem, out->retryable); break;
    case CHILD_REFUSED: end_unwritten(a, &out->problem); break;
    }
}

/* Microseconds the child may take: the daemon's limit, and what is left until the job's deadline. */
static int64_t time_left(const struct attempt *a)
{
    int64_t most = a->of->config->job_seconds * 1000000, deadline = a->of->job->deadline;
    int64_t left = deadline ? deadline - clock_now_us() : most;
    return left < 0 ? 0 : left < most ? left : most;
}

static void say_which_deadline(const struct attempt *a, struct child_outcome *out)
{
    int64_t deadline = a->of->job->deadline;
    if (out->problem.code != ERR_DEADLINE || !deadline || clock_now_us() < deadline)
        return;
    out->problem = (struct err){ 0 };
    err_set(&out->problem, ERR_DEADLINE, "/deadline_s", "the job's deadline passed before it was done; give it more time");
}

static bool run_child(struct attempt *a, struct child_outcome *out, struct err *e)
{
    const struct config *c = a->of->config;
    struct child_spec spec = {
        .launch = task_launch(&a->task, c, a->of->program, task_threads(c), c->job_seconds),
        .cgroups = c->cgroups, .bounds = task_bounds(&a->task, c, task_threads(c)),
        .scratch = a->task.scratch, .inputs = a->task.inputs,
        .deadline_us = time_left(a), .silence_us = c->silence_seconds * 1000000,
        .event = on_event, .beat = on_beat, .beat_us = BEAT_US, .arg = a,
    };
    bool ok = on_beat(a, e) && child_run(&spec, a->of->stopper, out, e);
    if (ok)
        say_which_deadline(a, out);
    return ok;
}

void attempt_run(const struct attempt_of *of)
{
    struct err e = { 0 };
    struct child_outcome out = { 0 };
    struct attempt a = { .of = of, .store = of->store, .claim = *of->claim, .task = TASK_NONE, .metrics = json_object(),
                         .started_at = clock_mono_us() };
    say(&a, LOG_INFO, "job.started", of->job->type);
    if (a.metrics && prepare(&a, &e) && run_child(&a, &out, &e))
        end_attempt(&a, &out);
    else
        end_unwritten(&a, &e);
    time_stage(&a, STAGE_NONE);
    child_outcome_release(&out);
    task_release(&a.task);
    json_decref(a.metrics);
}
