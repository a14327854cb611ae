/*
 * inspect.c - two threads that look into uploads, a queue in front of them.
 *
 * LOCKING  i->mu guards the queue and `stopping`.  It is never held while a child runs or a callback is called.
 */
#include "server/inspect.h"

#include "core/base/io.h"
#include "core/base/log.h"
#include "server/child.h"
#include "server/task.h"
#include "storage/scratch.h"
#include "storage/ulid.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INSPECT_THREADS = 2, QUEUE_MAX = 32, RESULT_MAX = 16 << 20, RESULT_DEPTH = 64, LOG_TAIL = 900 };

struct request {
    struct request *next;
    char team[TEAM_SIZE];
    enum asset_kind kind;
    struct asset_file *files;       /* a copy */
    size_t n;
    struct asset_file *data;        /* a copy, or NULL */
    json_t *job;                    /* ours, or NULL */
    inspect_done_fn *done;
    void *arg;
};

struct inspect_thread {
    struct inspector *inspector;
    pthread_t thread;
    struct stopper stopper;
};

struct inspector {
    const struct config *config;
    struct store *store;
    char *program;

    pthread_mutex_t mu;             /* guards the fields down to `stopping` */
    pthread_cond_t changed;
    struct request *first, **last;
    int queued;
    bool stopping;

    int started;
    struct inspect_thread threads[INSPECT_THREADS];
};

static void request_free(struct request *r)
{
    free(r->files);
    free(r->data);
    json_decref(r->job);
    free(r);
}

/* ---- one request ---- */

/* What a data set unpacks to lies on disk: it may be more than a job holds in memory, but not more than the disk has left. */
static int64_t unpack_limit(const struct inspector *i)
{
    enum { TIMES_MEMORY = 4 };
    int64_t room = (int64_t)(store_room(i->store) / INSPECT_THREADS), most = TIMES_MEMORY * i->config->memory;
    return room < most ? room : most;
}

static bool prepare(struct inspector *i, const struct request *r, const char *folder, struct task *t, struct err *e)
{
    bool model = r->kind == ASSET_MODEL;
    return task_begin(t, r->data ? "validate" : r->job ? "inspect_job" : model ? "inspect_model" : "inspect_dataset", e)
        && (model ? task_add_model(t, i->store, r->team, r->files, r->n, e)
                  : task_add_file(t, "calibration", i->store, r->team, &r->files[0], e))
        && (!r->data || task_add_file(t, "calibration", i->store, r->team, r->data, e))
        && (!r->job || task_set_all(t, r->job, e))
        && task_set_int(t, "threads", r->job ? task_threads(i->config) : 1, e)
        && task_set_int(t, "memory", r->job ? i->config->memory : unpack_limit(i), e)
        && scratch_make_named(i->store, folder, &t->scratch, e) && task_write(t, e);
}

static bool ignore_event(void *arg, const struct child_event *ev, struct err *e)
{
    (void)arg, (void)ev, (void)e;
    return true;
}

bool inspect_result_ok(const char *text, size_t n, struct err *e)
{
    json_t *value = json_parse(text, n, RESULT_DEPTH, ERR_BUG, e);
    bool ok = value && (json_is_object(value) || err_set(e, ERR_BUG, "result.json", "the inventory is no JSON object"));
    json_decref(value);
    return ok;
}

static bool read_result(const struct task *t, char **ret, struct err *e)
{
    int fd;
    size_t n;
    char *text = NULL;
    if (!scratch_open(t->scratch, "result.json", RESULT_MAX, &fd, e))
        return false;
    bool ok = io_read_all(fd, "result.json", RESULT_MAX, &text, &n, e);
    close(fd);
    ok = ok && inspect_result_ok(text, n, e);
    if (ok)
        *ret = text;
    else
        free(text);
    return ok;
}

static void show_log(const struct child_outcome *out)
{
    if (!out->log || !out->log[0] || out->end == CHILD_DONE || out->end == CHILD_STOPPED)
        return;
    size_t n = strlen(out->log);
    log_line(LOG_WARN, "inspect.log", "%s", out->log + (n > LOG_TAIL ? n - LOG_TAIL : 0));
}

static bool run_child(struct inspect_thread *t, const struct task *task, char **ret, struct err *e)
{
    const struct config *c = t->inspector->config;
    struct child_outcome out;
    struct child_spec spec = {
        .launch = task_launch(task, c, t->inspector->program, 1, c->inspect_seconds),
        .cgroups = c->cgroups, .bounds = task_bounds(task, c, task_threads(c)),
        .scratch = task->scratch, .inputs = task->inputs, .event = ignore_event,
        .deadline_us = c->inspect_seconds * 1000000, .silence_us = c->inspect_seconds * 1000000,
    };
    if (!child_run(&spec, &t->stopper, &out, e))
        return false;
    show_log(&out);
    bool ok = out.end == CHILD_DONE ? read_result(task, ret, e)
                                    : err_set(e, out.problem.code, out.problem.where, "%s", out.problem.text);
    child_outcome_release(&out);
    return ok;
}

static void answer(struct inspect_thread *t, struct request *r)
{
    char folder[ID_SIZE];
    struct err e = { 0 };
    struct task task = TASK_NONE;
    char *json = NULL;
    id_new("look", folder);
    bool ok = prepare(t->inspector, r, folder, &task, &e) && run_child(t, &task, &json, &e);
    task_release(&task);
    scratch_drop_named(t->inspector->store, folder);
    r->done(r->arg, ok ? json : NULL, &e);
    request_free(r);
}

/* ---- the threads ---- */

static struct request *take(struct inspector *i)
{
    struct request *r = i->first;
    i->first = r->next;
    if (!i->first)
        i->last = &i->first;
    i->queued--;
    return r;
}

static void *inspect_main(void *arg)
{
    struct inspect_thread *t = arg;
    struct inspector *i = t->inspector;

    pthread_mutex_lock(&i->mu);
    for (;;) {
        /* i->mu is held here, at the top of every round. */
        while (!i->first && !i->stopping)
            pthread_cond_wait(&i->changed, &i->mu);
        if (i->stopping)
            break;
        struct request *r = take(i);
        pthread_mutex_unlock(&i->mu);
        answer(t, r);
        pthread_mutex_lock(&i->mu);
    }
    pthread_mutex_unlock(&i->mu);
    return NULL;
}

/* ---- asking ---- */

static void *copy_files(const struct asset_file *files, size_t n)
{
    void *copy = n ? calloc(n, sizeof *files) : NULL;
    return copy ? memcpy(copy, files, n * sizeof *files) : NULL;
}

static struct request *request_new(const struct inspect_wish *w, inspect_done_fn *done, void *arg)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r) {
        json_decref(w->job);
        return NULL;
    }
    *r = (struct request){ .kind = w->kind, .n = w->n, .job = w->job, .done = done, .arg = arg };
    snprintf(r->team, sizeof r->team, "%s", w->team);
    r->files = copy_files(w->files, w->n);
    r->data = w->data ? copy_files(w->data, 1) : NULL;
    if (r->files && (r->data || !w->data))
        return r;
    request_free(r);
    return NULL;
}

static bool put(struct inspector *i, struct request *r, struct err *e)
{
    if (i->stopping)
        return err_set(e, ERR_DRAINING, "", "the service is shutting down; try again later");
    if (i->queued == QUEUE_MAX)
        return err_set(e, ERR_BUSY, "", "%d uploads are waiting to be looked into; try again later", i->queued);
    *i->last = r;
    i->last = &r->next;
    i->queued++;
    pthread_cond_signal(&i->changed);
    return true;
}

bool inspect_submit(struct inspector *i, const struct inspect_wish *wish, inspect_done_fn *done, void *arg, struct err *e)
{
    struct request *r = request_new(wish, done, arg);
    if (!r)
        return err_set(e, ERR_MEMORY, "files", "the request could not be kept; give at least one file");
    pthread_mutex_lock(&i->mu);
    bool ok = put(i, r, e);
    pthread_mutex_unlock(&i->mu);
    if (!ok)
        request_free(r);
    return ok;
}

struct waiter {
    pthread_mutex_t mu;             /* guards the three below */
    pthread_cond_t answered;
    bool done;
    char *json;
    struct err error;
};

static void wake(void *arg, char *json, const struct err *e)
{
    struct waiter *w = arg;
    pthread_mutex_lock(&w->mu);
    w->json = json;
    w->error = *e;
    w->done = true;
    pthread_cond_signal(&w->answered);
    pthread_mutex_unlock(&w->mu);
}

bool inspect_wait(struct inspector *i, const struct inspect_wish *wish, char **ret_json, struct err *e)
{
    struct waiter w = { .mu = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER };
    if (!inspect_submit(i, wish, wake, &w, e))
        return false;
    pthread_mutex_lock(&w.mu);
    while (!w.done)
        pthread_cond_wait(&w.answered, &w.mu);
    pthread_mutex_unlock(&w.mu);
    pthread_cond_destroy(&w.answered);
    pthread_mutex_destroy(&w.mu);
    if (!w.json)
        return err_set(e, w.error.code, w.error.where, "%s", w.error.text);
    *ret_json = w.json;
    return true;
}

/* ---- starting and stopping ---- */

static bool start_one(struct inspector *i, int k, struct err *e)
{
    struct inspect_thread *t = &i->threads[k];
    t->inspector = i;
    if (!stopper_init(&t->stopper, e))
        return false;
    if (pthread_create(&t->thread, NULL, inspect_main, t) != 0)
        return err_set(e, ERR_MEMORY, "inspector", "the system refused a thread");
    i->started++;
    return true;
}

struct inspector *inspector_start(const struct config *config, struct store *store, struct err *e)
{
    struct inspector *i = calloc(1, sizeof *i);
    if (!i) {
        err_sys(e, "inspector", "start");
        return NULL;
    }
    i->config = config;
    i->store = store;
    i->last = &i->first;
    pthread_mutex_init(&i->mu, NULL);
    pthread_cond_init(&i->changed, NULL);
    for (int k = 0; k < INSPECT_THREADS; k++)
        i->threads[k].stopper.wake = -1;
    bool ok = (i->program = task_program(config, e)) != NULL;
    for (int k = 0; ok && k < INSPECT_THREADS; k++)
        ok = start_one(i, k, e);
    if (ok)
        return i;
    inspector_stop(i);      /* safe on a half-started one */
    return NULL;
}

void inspector_drain(struct inspector *i)
{
    struct err e = { 0 };
    err_set(&e, ERR_DRAINING, "", "the service is shutting down; try again later");
    pthread_mutex_lock(&i->mu);
    i->stopping = true;
    struct request *r = i->first;
    i->first = NULL;
    i->last = &i->first;
    i->queued = 0;
    for (int k = 0; k < i->started; k++)
        stopper_stop(&i->threads[k].stopper, STOP_DRAIN);
    pthread_cond_broadcast(&i->changed);
    pthread_mutex_unlock(&i->mu);
    while (r) {
        struct request *next = r->next;
        r->done(r->arg, NULL, &e);
        request_free(r);
        r = next;
    }
}

void inspector_stop(struct inspector *i)
{
    if (!i)
        return;
    inspector_drain(i);
    for (int k = 0; k < i->started; k++)
        pthread_join(i->threads[k].thread, NULL);
    for (int k = 0; k < INSPECT_THREADS; k++)
        stopper_release(&i->threads[k].stopper);
    pthread_cond_destroy(&i->changed);
    pthread_mutex_destroy(&i->mu);
    free(i->program);
    free(i);
}
