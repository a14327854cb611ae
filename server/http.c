/*
 * http.c - libmicrohttpd on one side, struct request and struct reply on the other.
 *
 * DESIGN
 *
 * A small pool of epoll threads serves all connections, so nothing on it may wait for more than
 * about a millisecond; who asks they look up with readers kept for them.  A handler that may wait runs on
 * an I/O worker (http_io.h) while its connection is suspended:
 *
 *   on_target    the request line: makes the request
 *   on_head      first call, no body yet: the only moment an early answer works.  While body bytes are being
 *                delivered the library refuses one, and the client would see a broken connection, not our 413
 *   on_body      zero or more calls
 *   on_complete  all received: run the handler here, or suspend and hand it over
 *   run_task     on an I/O worker: run the handler, resume; or wait for an event (http_watch.h) or for a worker with more time, then do so
 *   (resumed)    the library calls again: answer
 *   on_done      exactly once per request that on_target made, also when the client vanished: log and free; what came of
 *                a broken upload is made durable on an I/O worker
 *
 * Thread per connection is not an option: with it this version of the library loses wake-ups of
 * suspended connections, and costs twice the processor time.
 *
 * A request belongs to one thread at a time: the pool thread of its connection, or between suspend
 * and resume the I/O worker.  The library orders the two.
 *
 * What is used of the library is as little as possible: raw bodies, raw targets, header fields.  Its form and
 * multipart parser, cookies and authentication helpers have had holes and are not called; its percent-decoder
 * is replaced by one that does nothing, because api/target.c decodes.
 *
 * What it does before we see a request cannot be changed, only noticed (http_head.h): it takes a bare line feed for a line's end
 * and cuts a field's value at a NUL byte.  It answers what it cannot parse with a page of its own.
 */
#include "server/http.h"

#include "api/app.h"
#include "api/metrics.h"
#include "api/request.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/metric.h"
#include "server/http_answer.h"
#include "server/http_head.h"
#include "server/http_io.h"
#include "server/http_log.h"
#include "server/http_stream.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    CONNECTION_BYTES = 64 * 1024,          /* per connection, in use while it is open; half of it is one piece of a body */
    CONNECTIONS_MAX = 4096, DESCRIPTORS_KEPT = 256,
    STACK_BYTES = 512 * 1024,
};

static const struct { int threads, queue; } lane_sizes[LANES] = {
    [LANE_IO] = { 16, 1024 }, [LANE_BULK] = { 3, 256 }, [LANE_WRITE] = { 32, 1024 }, [LANE_DISK] = { 8, 256 }, [LANE_SLOW] = { 4, 64 },
    [LANE_PROBE] = { 1, 256 },
};

struct http {
    struct MHD_Daemon *mhd;
    struct app *app;
    struct watch *watch;            /* borrowed */
    struct reaper *reaper;
    struct io_lane *lanes[LANES];   /* none for LANE_HERE */
    int listener, port;
    int per_address;                /* connections of one address; 0: any number */
    const char *tls_cert, *tls_key;         /* NULL: plain HTTP */
    struct answers answers;
    atomic_bool stopping;                   /* every answer ends its connection */
    atomic_bool hurrying;                   /* the grace is over: no handler is started any more */
};

struct live {                               /* one request between on_target() and on_done() */
    struct io_task task;                    /* first: run_task() casts back */
    struct http *http;
    struct MHD_Connection *connection;
    struct conn *conn;
    enum { LIVE_HEAD, LIVE_BODY, LIVE_ANSWER } stage;
    int64_t started_us;
    struct request req;
    struct reply reply;
    int status;                             /* what was answered; 0: nothing */
};

static struct conn *conn_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *c)
{
    struct http *h = cls;
    struct live *r = calloc(1, sizeof *r);
    store_serve_many();                     /* whoever calls us does */
    if (!r)
        return NULL;                        /* on_request() then refuses the connection */
    r->http = h;
    r->connection = c;
    r->conn = conn_of(c);
    r->started_us = clock_mono_us();
    r->reply = REPLY_INIT;
    request_open(&r->req, target);
    metric_add(METRIC_HTTP_OPEN, 1);
    reaper_phase(r->conn, CONN_HEAD);
    return r;
}

/* False: one of them could not be added, and an answer without it is not what was meant. */
static bool add_fields(struct MHD_Response *resp, const struct request *req, const struct reply *reply, bool tls)
{
    static const char *const always[][2] = {
        { "X-Content-Type-Options", "nosniff" },
        { "Referrer-Policy", "no-referrer" },
        { "X-Frame-Options", "DENY" },
        { "Cross-Origin-Resource-Policy", "same-origin" },
        { "Cross-Origin-Opener-Policy", "same-origin" },
        { "Cache-Control", "no-store" },
    };
    bool ok = !reply->incomplete;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        ok = ok && MHD_add_response_header(resp, always[i][0], always[i][1]);
    ok = ok && MHD_add_response_header(resp, "X-Request-Id", req->id);
    if (tls)
        ok = ok && MHD_add_response_header(resp, "Strict-Transport-Security", "max-age=31536000");
    if (reply->type)
        ok = ok && MHD_add_response_header(resp, "Content-Type", reply->type);
    for (int i = 0; i < reply->fields; i++) {
        if (strcmp(reply->field[i].name, "Cache-Control") == 0)
            MHD_del_response_header(resp, "Cache-Control", "no-store");
        if (reply->field[i].value[0])       /* the library takes no empty value */
            ok = ok && MHD_add_response_header(resp, reply->field[i].name, reply->field[i].value);
    }
    if (reply->close)
        ok = ok && MHD_add_response_header(resp, "Connection", "close");
    return ok;
}

static void refuse(struct live *r, const struct err *e)
{
    reply_problem(&r->req, &r->reply, e);
    reply_seal(&r->reply);
}

/* Or the reason why not. */
static struct MHD_Response *begin_stream(struct live *r)
{
    struct err e = { 0 };
    struct MHD_Response *resp = http_stream(r->http->watch, r->reply.stream, r->connection, &e);
    if (resp && strcmp(r->req.method, "HEAD") != 0)
        return resp;
    if (resp) {
        MHD_destroy_response(resp);         /* the library would send the end of the body that it does not send */
        free(r->reply.stream);
        r->reply.stream = NULL;
    } else {
        refuse(r, &e);
    }
    return http_answer(&r->http->answers, &r->reply, true);
}

/* Where too much waits to be read another answer must wait, too, unless it tells of a change: that has happened. */
static struct MHD_Response *make_response(struct live *r)
{
    struct err e = { 0 };
    bool reads = r->req.method && (strcmp(r->req.method, "GET") == 0 || strcmp(r->req.method, "HEAD") == 0);
    struct MHD_Response *resp = http_answer(&r->http->answers, &r->reply, !reads);
    if (resp || !reads || !http_answer_large(&r->reply))
        return resp;
    err_set(&e, ERR_BUSY, "", "too many large answers wait to be read; try again");
    reply_drop_fields(&r->reply);
    refuse(r, &e);
    return http_answer(&r->http->answers, &r->reply, true);
}

static enum MHD_Result answer(struct live *r)
{
    struct reply *reply = &r->reply;
    reply->close = reply->close || atomic_load(&r->http->stopping);
    struct MHD_Response *resp = reply->stream ? begin_stream(r) : make_response(r);
    if (!resp)
        return MHD_NO;
    if (!add_fields(resp, &r->req, reply, r->http->tls_cert)) {
        MHD_destroy_response(resp);
        return MHD_NO;
    }
    r->status = reply->status;
    reaper_phase(r->conn, reply->stream ? CONN_STREAM : CONN_SEND);
    enum MHD_Result ok = MHD_queue_response(r->connection, (unsigned)reply->status, resp);
    MHD_destroy_response(resp);
    return ok;
}

static void resume(struct live *r)
{
    r->stage = LIVE_ANSWER;
    MHD_resume_connection(r->connection);   /* r may be gone after this */
}

static void refuse_busy(struct live *r)
{
    struct err e = { 0 };
    err_set(&e, ERR_BUSY, "", "the queue of requests is full");
    refuse(r, &e);
}

/* The handler runs on a lane, while the connection is suspended. */
static void submit(struct live *r, enum lane lane)
{
    if (io_lane_submit(r->http->lanes[lane], &r->task))
        return;
    refuse_busy(r);
    resume(r);
}

/* What the request waited for has come, or will not: the handler is run again. */
static void unpark(struct watcher *w)
{
    struct live *r = w->owner;
    watch_remove(r->http->watch, w);
    free(w);
    r->req.waited = true;
    submit(r, r->req.route->lane);
}

/* False: the reply says why it does not wait. */
static bool park(struct live *r)
{
    struct err e = { 0 };
    struct watcher *w = calloc(1, sizeof *w);
    if (w)
        *w = (struct watcher){ .stream = *r->reply.stream, .until_us = clock_mono_us() + r->reply.wait_us, .wake = unpark, .owner = r };
    reply_release(&r->reply);
    if (w ? watch_add(r->http->watch, w, &e) : err_sys(&e, "events", "wait")) {
        watch_sleep(r->http->watch, w, NULL);
        return true;
    }
    free(w);
    refuse(r, &e);
    return false;
}

/* The handler is run again where seconds hold up nobody; false: the reply says that there is no room. */
static bool run_slowly(struct live *r)
{
    r->req.slow = true;
    if (io_lane_submit(r->http->lanes[LANE_SLOW], &r->task))
        return true;
    refuse_busy(r);
    return false;
}

static void run_task(struct io_task *task)
{
    struct live *r = (struct live *)task;
    struct err e = { 0 };
    if (atomic_load(&r->http->hurrying)) {
        err_set(&e, ERR_DRAINING, "", "the service is shutting down");
        refuse(r, &e);
    } else {
        request_answer(r->http->app, &r->req, &r->reply);
        if ((r->reply.wait_us && park(r)) || (r->reply.slow && run_slowly(r)))
            return;
    }
    resume(r);
}

static enum MHD_Result hand_over(struct live *r, enum lane lane)
{
    r->task.run = run_task;
    MHD_suspend_connection(r->connection);  /* before the worker can resume it */
    submit(r, lane);
    return MHD_YES;
}

static enum MHD_Result on_head(struct live *r, const char *method, const char *version)
{
    r->req.method = method;
    http_head(r->connection, version, &r->req);
    request_trace(&r->req);
    if (request_admit(r->http->app, &r->req, &r->reply)) {
        r->stage = LIVE_BODY;
        reaper_phase(r->conn, CONN_BODY);
        return MHD_YES;
    }
    if (r->req.known) {
        reaper_phase(r->conn, CONN_RUN);
        return hand_over(r, LANE_WRITE);
    }
    if (!r->reply.close) {
        r->stage = LIVE_ANSWER;             /* nothing follows: answered on the next call, the connection can go on */
        return MHD_YES;
    }
    reaper_linger(r->http->reaper, r->conn);
    return answer(r);
}

static enum MHD_Result on_complete(struct live *r)
{
    enum lane lane = r->req.route->lane;
    reaper_phase(r->conn, CONN_RUN);
    r->req.slow = lane == LANE_SLOW;
    if (request_at_hand(r->http->app, &r->req, &r->reply))
        return answer(r);
    if (lane == LANE_HERE) {
        request_answer(r->http->app, &r->req, &r->reply);
        return answer(r);
    }
    return hand_over(r, lane);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n, void **state)
{
    (void)cls, (void)c, (void)url;
    struct live *r = *state;
    if (!r)
        return MHD_NO;
    switch (r->stage) {
    case LIVE_HEAD:
        return on_head(r, method, version);
    case LIVE_BODY:
        if (!*n)
            return on_complete(r);
        if (!request_body(r->http->app, &r->req, data, *n))
            return MHD_NO;
        *n = 0;                             /* all taken */
        return MHD_YES;
    case LIVE_ANSWER:
        if (r->req.known && r->reply.close)
            reaper_linger(r->http->reaper, r->conn);
        return answer(r);
    }
    return MHD_NO;
}

static void forget(struct live *r)
{
    request_release(&r->req);
    reply_release(&r->reply);
    free(r);
}

static void run_forget(struct io_task *task) { forget((struct live *)task); }

static void on_done(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode how)
{
    (void)cls, (void)c;
    struct live *r = *state;
    if (!r)
        return;
    http_log(&r->req, &r->reply, r->status, r->started_us, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    metrics_request(&r->req, r->status, (double)(clock_mono_us() - r->started_us) / 1e6, r->reply.stream);
    metric_add(METRIC_HTTP_OPEN, -1);
    reaper_phase(r->conn, CONN_IDLE);
    *state = NULL;
    r->task.run = run_forget;
    if (!request_lingers(&r->req) || !io_lane_submit(r->http->lanes[LANE_DISK], &r->task))
        forget(r);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http *h = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        reaper_remove(h->reaper, *context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *peer = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char address[PEER_SIZE];
    http_address(peer ? peer->client_addr : NULL, address, sizeof address);
    *context = info ? reaper_add(h->reaper, info->connect_fd, address) : NULL;
}

/* One address must not take all connections.  A proxy we trust has many clients behind it. */
static enum MHD_Result on_accept(void *cls, const struct sockaddr *a, socklen_t n)
{
    const struct http *h = cls;
    char address[PEER_SIZE];
    (void)n;
    if (!h->per_address)
        return MHD_YES;
    http_address(a, address, sizeof address);
    bool ok = proxies_trust(h->app->proxies, address) || reaper_count(h->reaper, address) < h->per_address;
    return ok ? MHD_YES : MHD_NO;
}

static size_t leave_encoded(void *cls, struct MHD_Connection *c, char *s)
{
    (void)cls, (void)c;
    return strlen(s);
}

/* The library's own complaints are about clients that went away; nobody needs to be woken. */
__attribute__((format(printf, 2, 0))) static void on_library_message(void *cls, const char *fmt, va_list ap)
{
    char text[256];
    (void)cls;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_line(LOG_DEBUG, "http.library", "%s", text);
}

/* A connection may need two descriptors, its own and a file's; the rest of the process needs some too. */
static unsigned connections_max(unsigned threads)
{
    struct rlimit limit;
    unsigned n = CONNECTIONS_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < 4 * CONNECTIONS_MAX ? limit.rlim_max : 4 * CONNECTIONS_MAX;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_cur < 2 * CONNECTIONS_MAX + DESCRIPTORS_KEPT)
            n = limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? (unsigned)(limit.rlim_cur - DESCRIPTORS_KEPT) / 2 : DESCRIPTORS_KEPT / 2;
    }
    return (n / threads ? n / threads : 1) * threads;       /* the library divides it among its threads */
}

static struct MHD_Daemon *start_daemon(struct http *h)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = cores > 2 ? 2 * (unsigned)cores : 4;
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)h->tls_cert },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)h->tls_key },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
        { MHD_OPTION_END, 0, NULL },
    };
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG | (h->tls_cert ? MHD_USE_TLS : 0), 0,
        on_accept, h, on_request, h,
        MHD_OPTION_ARRAY, h->tls_cert ? tls : tls + 3,
        MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL,
        MHD_OPTION_LISTEN_SOCKET, h->listener,
        MHD_OPTION_THREAD_POOL_SIZE, threads,
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, connections_max(threads),
        MHD_OPTION_CONNECTION_TIMEOUT, 0u,      /* the reaper's */
        MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, h,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_encoded, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
        MHD_OPTION_NOTIFY_COMPLETED, on_done, h,
        MHD_OPTION_END);
}

static void release(struct http *h)
{
    for (int i = 0; i < LANES; i++)
        io_lane_free(h->lanes[i]);
    reaper_stop(h->reaper);
    if (h->listener >= 0)
        close(h->listener);
    free(h);
}

static bool open_lanes(struct http *h, struct err *e)
{
    for (int i = LANE_HERE + 1; i < LANES; i++)
        if (!(h->lanes[i] = io_lane_new(lane_sizes[i].threads, lane_sizes[i].queue, e)))
            return false;
    return true;
}

struct http *http_start(const struct http_options *options, struct app *app, struct err *e)
{
    static const struct http_limits limits_default = HTTP_LIMITS_DEFAULT;
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        err_sys(e, "http", "start");
        return NULL;
    }
    h->app = app;
    h->watch = options->watch;
    h->per_address = options->per_address;
    h->tls_cert = options->tls_cert;
    h->tls_key = options->tls_key;
    h->answers.max = options->answer_bytes ? options->answer_bytes : ANSWER_BYTES;
    h->listener = http_listen(options->listen, options->port, &h->port, e);
    if (h->listener >= 0
        && (h->reaper = reaper_start(options->limits.header_seconds ? &options->limits : &limits_default, e))
        && open_lanes(h, e)) {
        h->mhd = start_daemon(h);
        if (h->mhd)
            return h;
        if (h->tls_cert)
            err_set(e, ERR_CONFIG, "tls-cert", "the certificate and the key cannot be used; they must be PEM and belong together");
        else
            err_sys(e, "http", "start the HTTP server");
    }
    release(h);
    return NULL;
}

int http_port(const struct http *h) { return h->port; }

void http_stop(struct http *h, int seconds)
{
    if (!h)
        return;
    atomic_store(&h->app->draining, true);
    atomic_store(&h->stopping, true);
    MHD_quiesce_daemon(h->mhd);
    watch_drain(h->watch);
    reaper_cut(h->reaper, false);
    for (int64_t end = clock_mono_us() + (int64_t)seconds * 1000000; !reaper_wait(h->reaper, 1) && clock_mono_us() < end;)
        reaper_cut(h->reaper, false);       /* an answer that was under way may have left its connection idle */
    /* Stopping the library with a suspended connection would abort the process, so all of them
     * must be gone first; a suspended one goes when its handler has returned. */
    atomic_store(&h->hurrying, true);
    do
        reaper_cut(h->reaper, true);
    while (!reaper_wait(h->reaper, 1));
    MHD_stop_daemon(h->mhd);
    release(h);
}
