#include "server/http_watch.h"

#include "core/base/clock.h"
#include "core/base/cond.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/metric.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKETS = 1024, SECOND = 1000000 };

/* The events behind a position are the same for all who stand there, until the next commit. */
struct shared {
    uint64_t generation;        /* of the answer; it holds while no event has come since */
    struct stream before, after;
    struct buf text;
    bool more;
};

struct watch {
    struct store *store;
    struct watch_limits limits;
    pthread_mutex_t mu;         /* guards all below but `shared`; a leaf, the library's own lock aside: see watch_sleep() */
    pthread_cond_t changed;     /* something is ready, or an end */
    struct watcher *bucket[BUCKETS];
    struct watcher *first, **last;      /* ready: asleep, and there is something to look at */
    int count;
    uint64_t generation;        /* events so far */
    bool draining, stopping;
    struct shared shared;       /* the thread's */
    pthread_t thread;
};

static struct watcher **bucket_of(struct watch *watch, const char *job)
{
    return &watch->bucket[hash_name(job) % BUCKETS];
}

/* ---- with the lock ---- */

static void make_ready(struct watch *watch, struct watcher *w)
{
    if (!w->asleep || w->queued)
        return;
    w->queued = true;
    w->next_ready = NULL;
    *watch->last = w;
    watch->last = &w->next_ready;
    pthread_cond_signal(&watch->changed);
}

static struct watcher *take_ready(struct watch *watch)
{
    struct watcher *w = watch->first;
    if (!w)
        return NULL;
    watch->first = w->next_ready;
    if (!watch->first)
        watch->last = &watch->first;
    return w;                   /* queued until it has been served, so it is not queued twice */
}

/* Those whose time has come; once a second, so a time is right to a second. */
static void look_at_clock(struct watch *watch, int64_t now)
{
    int64_t date = clock_now_us();
    for (int i = 0; i < BUCKETS; i++)
        for (struct watcher *w = watch->bucket[i]; w; w = w->next) {
            bool due = now >= (w->until_us ? w->until_us : w->beat_us), ends = w->stream.right_ends && date >= w->stream.right_ends;
            w->due |= due;
            w->doubted |= ends;
            if (due || ends)
                make_ready(watch, w);
        }
}

static void nap(struct watch *watch)
{
    struct timespec until = cond_in(SECOND);
    pthread_cond_timedwait(&watch->changed, &watch->mu, &until);
}

/* ---- what the thread does for a watcher, without the lock ---- */

static bool same_place(const struct stream *a, const struct stream *b)
{
    return a->after == b->after && a->lines == b->lines && a->least == b->least && strcmp(a->job, b->job) == 0 && strcmp(a->team, b->team) == 0;
}

/* As stream_next(); `generation` was read before. */
static bool next_events(struct watch *watch, struct watcher *w, uint64_t generation, struct err *e)
{
    struct shared *sh = &watch->shared;
    if (sh->generation != generation || !same_place(&sh->before, &w->stream)) {
        sh->before = sh->after = w->stream;
        sh->generation = 0;     /* no answer, until there is one */
        buf_release(&sh->text);
        if (!stream_next(watch->store, &sh->after, &sh->text, &sh->more, e))
            return false;
        sh->generation = generation;
    }
    w->stream.after = sh->after.after;
    w->stream.ended = sh->after.ended;
    w->more = sh->more;
    if (sh->text.n)
        buf_add(&w->text, sh->text.p, sh->text.n);
    return !w->text.bad || err_set(e, ERR_MEMORY, w->stream.job, "no memory for a reader's events");
}

static void say_goodbye(struct watcher *w, const char *why)
{
    if (!w->stream.lines)
        buf_printf(&w->text, "event: %s\ndata: {}\n\n", why);
    w->over = true;
}

/* What there was to see when a watcher's turn came. */
struct sight {
    bool due, doubted, draining;
    uint64_t generation;
};

/* Whether the reader is to be woken. */
static bool serve_reader(struct watch *watch, struct watcher *w, struct sight now)
{
    struct err e = { 0 };
    if (now.draining) {
        say_goodbye(w, "shutdown");     /* no id: the reader comes back with the last it has */
        return true;
    }
    if ((now.doubted && !stream_allowed(watch->store, &w->stream, &e)) || !next_events(watch, w, now.generation, &e)) {
        if (e.code != ERR_NOT_FOUND && e.code != ERR_AUTH_REQUIRED)
            log_line(LOG_WARN, "watch.failed", "%s: %s", e.where, e.text);
        w->over = true;
        return true;
    }
    w->over = w->stream.ended;
    if (!w->text.n && now.due)
        buf_str(&w->text, w->stream.lines ? "\n" : ":\n\n");
    return w->text.n || w->over;
}

/* Whether the waiting request is to be run again: it looks for itself. */
static bool serve_request(struct watch *watch, struct watcher *w, struct sight now)
{
    struct event_list list = { 0 };
    struct err e = { 0 };
    bool failed = !event_list(watch->store, w->stream.team, w->stream.job, w->stream.after, 1, &list, &e), any = list.n > 0;
    event_list_release(&list);
    return any || failed || now.due || now.draining || (now.doubted && !stream_allowed(watch->store, &w->stream, &e));
}

static void serve(struct watch *watch, struct watcher *w)
{
    struct sight now = { w->due, w->doubted, watch->draining, watch->generation };
    w->due = w->touched = w->doubted = false;
    pthread_mutex_unlock(&watch->mu);
    bool wake = w->until_us ? serve_request(watch, w, now) : serve_reader(watch, w, now);
    pthread_mutex_lock(&watch->mu);
    w->queued = false;
    if (!wake) {
        if (w->touched || w->due || w->doubted || watch->draining)
            make_ready(watch, w);
        return;
    }
    w->asleep = false;
    w->touched = w->touched || w->more;
    w->beat_us = clock_mono_us() + (int64_t)watch->limits.beat_seconds * SECOND;
    pthread_mutex_unlock(&watch->mu);
    w->wake(w);
    pthread_mutex_lock(&watch->mu);
}

static void *watch_main(void *arg)
{
    struct watch *watch = arg;
    int64_t looked = clock_mono_us();
    pthread_mutex_lock(&watch->mu);
    while (!watch->stopping) {
        /* watch->mu is held here, at the top of every round. */
        struct watcher *w = take_ready(watch);
        int64_t now = clock_mono_us();
        if (w)
            serve(watch, w);
        else if (now - looked < SECOND)
            nap(watch);
        if (now - looked >= SECOND) {
            look_at_clock(watch, now);
            looked = now;
        }
    }
    pthread_mutex_unlock(&watch->mu);
    return NULL;
}

/* ---- from outside ---- */

static void watch_touched(void *arg, const char *team, const char *job)
{
    struct watch *watch = arg;
    (void)team;
    pthread_mutex_lock(&watch->mu);
    watch->generation++;
    for (struct watcher *w = *bucket_of(watch, job); w; w = w->next)
        if (strcmp(w->stream.job, job) == 0) {
            w->touched = true;
            make_ready(watch, w);
        }
    pthread_mutex_unlock(&watch->mu);
}

static void watch_revoked(void *arg, const char *id)
{
    struct watch *watch = arg;
    pthread_mutex_lock(&watch->mu);
    for (int i = 0; i < BUCKETS; i++)
        for (struct watcher *w = watch->bucket[i]; w; w = w->next)
            if (strcmp(w->stream.token, id) == 0 || strcmp(w->stream.session, id) == 0) {
                w->doubted = true;
                make_ready(watch, w);
            }
    pthread_mutex_unlock(&watch->mu);
}

struct watch *watch_start(struct store *store, struct watch_limits limits, struct err *e)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        err_sys(e, "watch", "start");
        return NULL;
    }
    cond_init(&watch->changed);
    pthread_mutex_init(&watch->mu, NULL);
    watch->store = store;
    watch->limits = limits;
    watch->last = &watch->first;
    watch->generation = 1;
    watch->shared.text = BUF_INIT(STREAM_EVENT_MAX + STREAM_ENOUGH);
    if (pthread_create(&watch->thread, NULL, watch_main, watch) == 0) {
        store_watch(store, watch_touched, watch);
        store_on_revoked(store, watch_revoked, watch);
        return watch;
    }
    err_set(e, ERR_MEMORY, "watch", "no thread for those who wait for events");
    free(watch);
    return NULL;
}

void watch_stop(struct watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mu);
    watch->stopping = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->mu);
    pthread_join(watch->thread, NULL);
    store_watch(watch->store, NULL, NULL);
    store_on_revoked(watch->store, NULL, NULL);
    buf_release(&watch->shared.text);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->mu);
    free(watch);
}

void watch_drain(struct watch *watch)
{
    pthread_mutex_lock(&watch->mu);
    watch->draining = true;
    for (int i = 0; i < BUCKETS; i++)
        for (struct watcher *w = watch->bucket[i]; w; w = w->next)
            make_ready(watch, w);
    pthread_mutex_unlock(&watch->mu);
}

/* One token may not take what all others need. */
static int count_token(const struct watch *watch, const char *token)
{
    int n = 0;
    for (int i = 0; *token && i < BUCKETS; i++)
        for (const struct watcher *w = watch->bucket[i]; w; w = w->next)
            n += strcmp(w->stream.token, token) == 0;
    return n;
}

bool watch_add(struct watch *watch, struct watcher *w, struct err *e)
{
    int max = watch->limits.watchers;
    pthread_mutex_lock(&watch->mu);
    bool draining = watch->draining, room = watch->count < max, fair = count_token(watch, w->stream.token) < max - max / 2;
    if (!draining && room && fair) {
        struct watcher **at = bucket_of(watch, w->stream.job);
        w->text = BUF_INIT(STREAM_EVENT_MAX + STREAM_ENOUGH);
        w->touched = w->doubted = true;     /* what has happened before nobody told us of */
        w->beat_us = clock_mono_us() + (int64_t)watch->limits.beat_seconds * SECOND;
        w->next = *at;
        if (w->next)
            w->next->at = &w->next;
        w->at = at;
        *at = w;
        watch->count++;
        metric_add(METRIC_EVENT_READERS, 1);
    }
    pthread_mutex_unlock(&watch->mu);
    if (draining)
        return err_set(e, ERR_DRAINING, "", "the service is shutting down");
    return (room && fair)
        || err_set(e, ERR_BUSY, "", "%s waits for events %d times already; close some, or ask again later", room ? "this token" : "the service",
                   room ? max - max / 2 : max);
}

void watch_remove(struct watch *watch, struct watcher *w)
{
    pthread_mutex_lock(&watch->mu);
    *w->at = w->next;
    if (w->next)
        w->next->at = w->at;
    watch->count--;
    metric_add(METRIC_EVENT_READERS, -1);
    pthread_mutex_unlock(&watch->mu);
    buf_release(&w->text);
}

void watch_sleep(struct watch *watch, struct watcher *w, void (*suspend)(struct watcher *w))
{
    pthread_mutex_lock(&watch->mu);
    if (suspend)
        suspend(w);                         /* with the lock: the thread could otherwise wake what does not sleep yet */
    w->asleep = true;
    if (w->touched || w->doubted || watch->draining)
        make_ready(watch, w);
    pthread_mutex_unlock(&watch->mu);
}
