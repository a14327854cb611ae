/*
 * import.c - two threads that fetch, a queue in front of them.
 *
 * LOCKING  i->mu guards the queue.  It is never held while something is fetched or stored.
 */
#include "server/import.h"

#include "core/base/log.h"
#include "core/base/utf8.h"
#include "server/outbound.h"
#include "storage/problem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMPORT_THREADS = 2, QUEUE_MAX = 64 };

struct order {
    struct order *next;
    char team[TEAM_SIZE], id[ID_SIZE];
    char *url;                              /* may hold a signature: it is nobody's to log or to store */
};

struct importer {
    const struct config *config;
    struct store *store;
    struct outbound *outbound;
    atomic_bool stopping;
    pthread_mutex_t mu;                     /* guards the three below */
    pthread_cond_t changed;
    struct order *first, **last;
    int queued;
    int started;
    pthread_t threads[IMPORT_THREADS];
};

static void order_free(struct order *o)
{
    if (o)
        free(o->url);
    free(o);
}

/* ---- one import ---- */

struct transfer { struct upload_part part; uint64_t limit, taken; bool sized; };

static bool take_head(void *arg, int status, int64_t length, struct err *e)
{
    struct transfer *t = arg;
    if (status != 200)
        return err_set(e, ERR_TARGET_FAILED, "/url", "the server answered with %d; is the URL right, and its signature still valid?", status);
    if (length > 0 && (uint64_t)length > t->limit)
        return err_set(e, ERR_REQUEST_TOO_LARGE, "/url", "the file has %lld bytes, an upload at most %llu", (long long)length, (unsigned long long)t->limit);
    t->sized = length >= 0;
    return !t->sized || upload_set_length(&t->part, (uint64_t)length, e);
}

static bool take_bytes(void *arg, const void *p, size_t n, struct err *e)
{
    struct transfer *t = arg;
    t->taken += n;
    return upload_write(&t->part, p, n, e);
}

static bool fetch(struct importer *i, const struct order *o, struct upload *ret, struct err *e)
{
    struct transfer t = { .limit = (uint64_t)i->config->max_upload };
    struct outbound_request r = {
        .method = "GET", .url = o->url, .listed = true, .seconds = i->config->import_seconds, .limit = t.limit, .stop = &i->stopping,
        .head = take_head, .take = take_bytes, .arg = &t,
    };
    struct outbound_answer answer;
    if (!upload_resume_import(&t.part, i->store, o->team, o->id, e))
        return false;
    if (outbound_run(i->outbound, &r, &answer, e) && (t.sized || upload_set_length(&t.part, t.taken, e)))
        return upload_end(&t.part, ret, e);
    upload_abandon(&t.part);
    return false;
}

static void say(const struct order *o, const struct err *e)
{
    if (e->code)
        log_line(LOG_WARN, "import.failed", "%s: %s %s: %s", o->id, err_slug(e->code), e->where, e->text);
    else
        log_line(LOG_INFO, "import.done", "%s", o->id);
}

static void run_order(struct importer *i, struct order *o)
{
    struct upload u;
    struct err e = { 0 };
    if (fetch(i, o, &u, &e)) {
        upload_release(&u);
    } else {
        char *problem = problem_text(&e);
        upload_fail(i->store, o->team, o->id, problem ? problem : "{}", NULL);
        free(problem);
    }
    say(o, &e);
    order_free(o);
}

/* ---- the threads ---- */

static void *import_main(void *arg)
{
    struct importer *i = arg;
    pthread_mutex_lock(&i->mu);
    for (;;) {
        /* i->mu is held here, at the top of every round.  What is queued at the end is told so by run_order(). */
        while (!i->first && !atomic_load(&i->stopping))
            pthread_cond_wait(&i->changed, &i->mu);
        struct order *o = i->first;
        if (!o)
            break;
        i->first = o->next;
        if (!i->first)
            i->last = &i->first;
        i->queued--;
        pthread_mutex_unlock(&i->mu);
        run_order(i, o);
        pthread_mutex_lock(&i->mu);
    }
    pthread_mutex_unlock(&i->mu);
    return NULL;
}

static bool put(struct importer *i, struct order *o, struct err *e)
{
    pthread_mutex_lock(&i->mu);
    bool ok = atomic_load(&i->stopping) ? err_set(e, ERR_DRAINING, "", "the service is shutting down; try again later")
            : i->queued < QUEUE_MAX || err_set(e, ERR_BUSY, "", "%d imports are waiting; try again later", i->queued);
    if (ok) {
        *i->last = o;
        i->last = &o->next;
        i->queued++;
        pthread_cond_signal(&i->changed);
    }
    pthread_mutex_unlock(&i->mu);
    return ok;
}

bool importer_add(struct importer *i, const char *team, const char *url, const char *want, struct upload *ret, struct err *e)
{
    struct upload_part part;
    char source[UPLOAD_SOURCE_SIZE];
    if (!outbound_check(i->outbound, url, true, e))
        return false;
    size_t n = strcspn(url, "?#");              /* a presigned URL's query is a secret */
    snprintf(source, sizeof source, "%.*s", (int)utf8_fit(url, n < sizeof source ? n : sizeof source - 1), url);
    struct upload_wish wish = { .length = -1, .want = want, .source = source };
    struct order *o = calloc(1, sizeof *o);
    if (!o || !(o->url = strdup(url))) {
        order_free(o);
        return err_sys(e, "import", "keep");
    }
    if (!upload_begin(&part, i->store, team, &wish, e) || !upload_end(&part, ret, e)) {
        order_free(o);
        return false;
    }
    snprintf(o->team, sizeof o->team, "%s", team);
    snprintf(o->id, sizeof o->id, "%s", ret->id);
    if (put(i, o, e))
        return true;
    upload_delete(i->store, team, ret->id, NULL);
    upload_release(ret);
    order_free(o);
    return false;
}

/* ---- starting and stopping ---- */

static bool end_old_ones(struct store *store, struct err *e)
{
    struct err lost = { 0 };
    err_set(&lost, ERR_WORKER_LOST, "", "the daemon stopped while the import was under way; ask for it again");
    char *problem = problem_text(&lost);
    bool ok = problem ? upload_fail_imports(store, problem, e) : err_sys(e, "import", "start");
    free(problem);
    return ok;
}

struct importer *importer_start(const struct config *config, struct store *store, struct outbound *outbound, struct err *e)
{
    struct importer *i = calloc(1, sizeof *i);
    if (!i) {
        err_sys(e, "import", "start");
        return NULL;
    }
    i->config = config;
    i->store = store;
    i->outbound = outbound;
    i->last = &i->first;
    pthread_mutex_init(&i->mu, NULL);
    pthread_cond_init(&i->changed, NULL);
    bool ok = end_old_ones(store, e);
    for (; ok && i->started < IMPORT_THREADS; i->started += ok)
        ok = pthread_create(&i->threads[i->started], NULL, import_main, i) == 0 || err_set(e, ERR_MEMORY, "import", "the system refused a thread");
    if (ok)
        return i;
    importer_stop(i);
    return NULL;
}

void importer_drain(struct importer *i)
{
    atomic_store(&i->stopping, true);
    pthread_mutex_lock(&i->mu);
    pthread_cond_broadcast(&i->changed);
    pthread_mutex_unlock(&i->mu);
}

void importer_stop(struct importer *i)
{
    if (!i)
        return;
    importer_drain(i);
    for (int k = 0; k < i->started; k++)
        pthread_join(i->threads[k], NULL);
    pthread_cond_destroy(&i->changed);
    pthread_mutex_destroy(&i->mu);
    free(i);
}
