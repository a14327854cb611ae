/* The HTTP server over real sockets: time limits, suspended requests, framing on the wire, shutting down. */
#include "tests/unit/daemon/api_fixture.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/metric.h"
#include "server/http.h"
#include "server/http_head.h"
#include "server/http_watch.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

enum { SECOND = 1000000 };

/* A server with short limits whose inspections wait for the test. */
struct site {
    struct api api;
    struct http *http;
    struct watch *watch;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool held;
    int inspecting;
};

static bool wait_inspect(void *server, const char *team, enum asset_kind kind, const struct asset_file *files, size_t n, char **ret_json,
                         struct err *e)
{
    struct site *s = server;
    (void)team, (void)kind, (void)files, (void)n;
    pthread_mutex_lock(&s->mu);
    s->inspecting++;
    pthread_cond_broadcast(&s->changed);
    while (s->held)
        pthread_cond_wait(&s->changed, &s->mu);
    pthread_mutex_unlock(&s->mu);
    *ret_json = strdup("{}");
    return *ret_json || err_sys(e, "inspect", "copy");
}

static void hold(struct site *s, bool held)
{
    pthread_mutex_lock(&s->mu);
    s->held = held;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

static void wait_for_inspections(struct site *s, int n)
{
    pthread_mutex_lock(&s->mu);
    while (s->inspecting < n)
        pthread_cond_wait(&s->changed, &s->mu);
    pthread_mutex_unlock(&s->mu);
}

static struct site *site_open_with(void **state, struct http_options options)
{
    struct site *s = calloc(1, sizeof *s);
    struct err e = { 0 };
    options.listen = "127.0.0.1";
    assert_non_null(s);
    api_open(&s->api, *state);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->api.app.server = s;
    s->api.app.inspect = wait_inspect;
    s->api.app.auth = false;
    s->api.app.max_upload = 64 << 20;
    log_set_level(LOG_ERROR);
    options.watch = s->watch = watch_start(s->api.fixture->store, (struct watch_limits){ .watchers = 4, .beat_seconds = 1 }, NULL);
    assert_non_null(s->watch);
    if (!(s->http = http_start(&options, &s->api.app, &e)))
        fail_msg("%s: %s", e.where, e.text);
    return s;
}

static struct site *site_open(void **state) { return site_open_with(state, (struct http_options){ .limits = { 1, 1, 1, 1000 } }); }

/* After http_stop(). */
static void site_free(struct site *s)
{
    watch_stop(s->watch);
    api_close(&s->api);
    free(s);
}

static void site_close(struct site *s)
{
    http_stop(s->http, 5);
    site_free(s);
}

static int client_small(struct site *s, int receive_buffer)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(s->http)) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static int client(struct site *s) { return client_small(s, 0); }

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads until the other side closes (all: else until one answer with Content-Length is complete), two minutes at most. */
static size_t hear(int fd, char *buf, size_t size, bool all)
{
    size_t n = 0;
    int64_t end = clock_mono_us() + 120 * SECOND;
    while (n + 1 < size) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (clock_mono_us() > end || poll(&p, 1, 120000) <= 0)
            fail_msg("no answer in two minutes");
        ssize_t got = recv(fd, buf + n, size - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        buf[n] = '\0';
        const char *body = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");
        if (!all && body && length && n >= (size_t)(body + 4 - buf) + strtoul(length + 16, NULL, 10))
            break;
    }
    buf[n] = '\0';
    return n;
}

static int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

/* Sends a byte of `text` (again and again) every tenth of a second until the server closes; returns the seconds. */
static double trickle_until_closed(int fd, const char *text)
{
    int64_t start = clock_mono_us();
    for (size_t i = 0; clock_mono_us() - start < 20 * SECOND; i++) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char c;
        if (poll(&p, 1, 100) > 0 && recv(fd, &c, 1, MSG_DONTWAIT) <= 0)
            break;
        if (send(fd, &text[i % strlen(text)], 1, MSG_NOSIGNAL) != 1)
            break;
    }
    return (double)(clock_mono_us() - start) / SECOND;
}

static void a_head_that_comes_byte_by_byte_is_cut(void **state)
{
    struct site *s = site_open(state);
    int fd = client(s);
    say(fd, "GET /healthz HTTP/1.1\r\nX-Slow: ");
    assert_true(trickle_until_closed(fd, "a") < 5);
    close(fd);
    fd = client(s);
    assert_true(trickle_until_closed(fd, "G") < 5);        /* not even a request line */
    close(fd);
    site_close(s);
}

static void an_idle_connection_is_closed_after_its_time(void **state)
{
    struct site *s = site_open(state);
    char buf[4096];
    int fd = client(s);
    say(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, buf, sizeof buf, false);
    assert_int_equal(status_of(buf), 200);
    say(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");        /* it was kept */
    hear(fd, buf, sizeof buf, false);
    assert_int_equal(status_of(buf), 200);
    assert_int_equal(hear(fd, buf, sizeof buf, true), 0);               /* and then closed */
    close(fd);
    site_close(s);
}

static int files_in(const struct fixture *f, const char *prefix)
{
    char path[300];
    int n = 0;
    snprintf(path, sizeof path, "%s/blobs", f->dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}

static void a_body_that_comes_too_slowly_is_cut_and_leaves_nothing(void **state)
{
    struct site *s = site_open(state);
    int fd = client(s);
    say(fd, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    assert_true(trickle_until_closed(fd, "x") < 6);
    close(fd);
    struct fixture *f = s->api.fixture;
    http_stop(s->http, 5);              /* after it every request has been released */
    assert_int_equal(files_in(f, "new."), 0);
    site_free(s);
}

static void an_upload_that_breaks_off_leaves_nothing(void **state)
{
    static const char piece[70000];
    struct site *s = site_open(state);
    for (int i = 0; i < 4; i++) {
        int fd = client(s);
        struct linger reset = { .l_onoff = 1, .l_linger = 0 };
        say(fd, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
        for (int k = 0; k < i; k++)
            assert_true(send(fd, piece, sizeof piece, MSG_NOSIGNAL) > 0);
        if (i % 2)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    struct fixture *f = s->api.fixture;
    http_stop(s->http, 5);
    assert_int_equal(files_in(f, "new."), 0);
    assert_int_equal(s->inspecting, 0);
    site_free(s);
}

/* A blob of `size` bytes; its digest as text. */
static struct blob large_blob(struct fixture *f, size_t size)
{
    struct blob_writer w;
    struct blob b;
    struct err e = { 0 };
    char *bytes = calloc(1, size);
    assert_non_null(bytes);
    assert_true(blob_begin(&w, f->store, TEAM_LOCAL, NULL, size, &e) && blob_write(&w, bytes, size, &e) && blob_finish(&w, &b, &e));
    free(bytes);
    return b;
}

static void a_reader_that_does_not_read_is_cut(void **state)
{
    enum { SIZE = 32 << 20 };
    struct site *s = site_open(state);
    struct blob b = large_blob(s->api.fixture, SIZE);
    char ask[256], *all = malloc(SIZE + 4096);
    assert_non_null(all);
    int fd = client_small(s, 4096);
    snprintf(ask, sizeof ask, "GET /v1/blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", b.digest);
    say(fd, ask);
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };
    assert_int_equal(poll(&p, 1, 10000), 1);            /* the server hangs up though we never read */
    assert_true(hear(fd, all, SIZE + 4096, true) < SIZE);
    close(fd);
    free(all);
    site_close(s);
}

/* More than the kernel keeps of it for a reader that does not read. */
enum { LARGE_LOG = 4 << 20 };

static void make_large_log(struct fixture *f, char job[ID_SIZE])
{
    enum { PIECE = 4 << 20 };
    struct claim c;
    struct job claimed;
    char *piece = malloc(PIECE + 1);
    assert_non_null(piece);
    memset(piece, 'x', PIECE);
    piece[PIECE] = '\0';
    fixture_job(f, 5, job);
    assert_true(run_claim(f->store, &(struct claim_terms){ .worker = "w0", .lease_us = 1000LL * SECOND }, &c, &claimed, NULL));
    job_release(&claimed);
    for (int i = 0; i < LARGE_LOG / PIECE; i++)
        assert_true(run_warning(f->store, &c, "x", "x", piece, NULL));
    free(piece);
}

static int get(struct site *s, const char *path, const char *fields, char *answer, size_t size)
{
    char ask[256];
    int fd = client(s);
    snprintf(ask, sizeof ask, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, fields);
    say(fd, ask);
    hear(fd, answer, size, false);
    close(fd);
    return status_of(answer);
}

static void wait_for_held(int64_t least, int64_t most)
{
    for (int64_t end = clock_mono_us() + 120 * 1000000, held; (held = metric_value(METRIC_ANSWER_BYTES)) < least || held > most; sched_yield())
        if (clock_mono_us() > end)
            fail_msg("%lld bytes wait to be read", (long long)held);
}

static void what_slow_readers_hold_in_memory_is_bounded(void **state)
{
    enum { SIZE = LARGE_LOG + (1 << 20) };
    struct site *s = site_open_with(state, (struct http_options){ .answer_bytes = LARGE_LOG * 3 / 2, .limits = { 100, 100, 100, 1 } });
    char job[ID_SIZE], path[80], ask[160], *answer = malloc(SIZE);
    assert_non_null(answer);
    make_large_log(s->api.fixture, job);
    snprintf(path, sizeof path, "/v1/jobs/%s/logs", job);
    snprintf(ask, sizeof ask, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    int slow = client_small(s, 4096);
    say(slow, ask);
    wait_for_held(LARGE_LOG, INT64_MAX);
    assert_int_equal(get(s, path, "", answer, SIZE), 503);
    assert_non_null(strstr(answer, "service.busy"));
    assert_non_null(strstr(answer, "\r\nRetry-After: "));
    assert_int_equal(get(s, path, "Range: bytes=0-99\r\n", answer, SIZE), 206);         /* holds little */
    assert_int_equal(get(s, "/v1/jobs", "", answer, SIZE), 200);
    close(slow);
    wait_for_held(0, 0);
    assert_int_equal(get(s, path, "", answer, SIZE), 200);
    free(answer);
    site_close(s);
    assert_int_equal(metric_value(METRIC_ANSWER_BYTES), 0);
}

static void handlers_that_wait_do_not_make_others_wait(void **state)
{
    enum { WAITING = 12 };
    struct site *s = site_open(state);
    char buf[4096];
    int fds[WAITING];
    hold(s, true);
    for (int i = 0; i < WAITING; i++) {
        fds[i] = client(s);
        say(fds[i], "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    }
    wait_for_inspections(s, 4);             /* as many as there are slow workers */
    for (int i = 0; i < 20; i++) {
        int fd = client(s);
        say(fd, i % 2 ? "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" : "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n");
        hear(fd, buf, sizeof buf, false);
        assert_int_equal(status_of(buf), 200);
        close(fd);
    }
    hold(s, false);
    for (int i = 0; i < WAITING; i++) {
        hear(fds[i], buf, sizeof buf, false);
        assert_int_equal(status_of(buf), 201);
        close(fds[i]);
    }
    site_close(s);
}

static void a_client_that_leaves_while_its_handler_waits_harms_nobody(void **state)
{
    struct site *s = site_open(state);
    char buf[4096];
    hold(s, true);
    int fd = client(s);
    say(fd, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    wait_for_inspections(s, 1);
    close(fd);
    hold(s, false);
    fd = client(s);
    say(fd, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, buf, sizeof buf, false);
    assert_int_equal(status_of(buf), 200);
    close(fd);
    site_close(s);
}

static void two_requests_in_one_packet_get_two_answers(void **state)
{
    struct site *s = site_open(state);
    char buf[8192];
    int fd = client(s);
    say(fd, "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    hear(fd, buf, sizeof buf, true);
    const char *second = strstr(buf + 9, "HTTP/1.1 200");
    assert_int_equal(status_of(buf), 200);
    assert_non_null(second);
    assert_non_null(strstr(second, "\"status\":\"ok\""));
    close(fd);
    site_close(s);
}

/* Each ends with a request that must not be executed. */
#define SMUGGLED "DELETE /v1/models/mdl_00000000000000000000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void no_second_request_is_smuggled_behind_doubtful_framing(void **state)
{
    static const char *const messages[] = {
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 90\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n" SMUGGLED,
        "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" SMUGGLED,
        "GET /healthz HTTP/1.1\r\n\r\n" SMUGGLED,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n" SMUGGLED,
        "GET /healthz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n" SMUGGLED,
        "GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" SMUGGLED,
    };
    struct site *s = site_open(state);
    char buf[8192];
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        int fd = client(s);
        say(fd, messages[i]);
        hear(fd, buf, sizeof buf, true);
        if (status_of(buf) != 400 || strstr(buf, "404 Not Found"))      /* 404 would be the second request's answer */
            fail_msg("message %zu: %s", i, buf);
        close(fd);
    }
    site_close(s);
}

static void an_early_refusal_reaches_a_client_that_is_still_sending(void **state)
{
    static const char piece[65536];
    struct site *s = site_open(state);
    char buf[4096];
    int fd = client(s);
    say(fd, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
    for (int i = 0; i < 64; i++)
        if (send(fd, piece, sizeof piece, MSG_NOSIGNAL) < 0)
            break;
    hear(fd, buf, sizeof buf, true);
    assert_int_equal(status_of(buf), 413);
    close(fd);
    site_close(s);
}

static void a_refusal_comes_instead_of_100_continue(void **state)
{
    struct site *s = site_open(state);
    char buf[4096];
    s->api.app.auth = true;
    int fd = client(s);
    say(fd, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    hear(fd, buf, sizeof buf, true);
    assert_int_equal(status_of(buf), 401);
    assert_null(strstr(buf, "100 Continue"));
    close(fd);
    site_close(s);
}

static void a_blob_that_is_known_is_answered_instead_of_100_continue(void **state)
{
    struct site *s = site_open(state);
    char buf[4096];
    for (int i = 0; i < 3; i++) {
        int fd = client(s);
        say(fd, "PUT /v1/blobs/" FIXTURE_DIGEST " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        if (i > 0)
            say(fd, i == 1 ? "hel" : "hello");              /* who does not wait */
        hear(fd, buf, sizeof buf, true);
        assert_int_equal(status_of(buf), 200);
        assert_null(strstr(buf, "100 Continue"));
        assert_non_null(strstr(buf, "Connection: close"));
        close(fd);
    }
    site_close(s);
}

static void *stop_it(void *arg)
{
    http_stop(((struct site *)arg)->http, 10);
    return NULL;
}

static void stopping_lets_requests_under_way_finish(void **state)
{
    enum { SIZE = 8 << 20 };
    struct site *s = site_open(state);
    struct blob b = large_blob(s->api.fixture, SIZE);
    char ask[256], *all = malloc(SIZE + 4096), buf[4096];
    pthread_t stopper;
    assert_non_null(all);
    hold(s, true);
    int waiting = client(s), loading = client(s), idle = client(s);
    say(waiting, "PUT /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    wait_for_inspections(s, 1);
    snprintf(ask, sizeof ask, "GET /v1/blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", b.digest);
    say(loading, ask);
    assert_int_equal(recv(loading, all, 1, 0), 1);          /* the download has begun */
    pthread_create(&stopper, NULL, stop_it, s);
    assert_int_equal(hear(idle, buf, sizeof buf, true), 0); /* idle connections end at once */
    assert_true(hear(loading, all + 1, SIZE + 4095, true) > SIZE);
    hold(s, false);
    hear(waiting, buf, sizeof buf, true);
    assert_int_equal(status_of(buf), 201);
    assert_non_null(strstr(buf, "Connection: close"));
    pthread_join(stopper, NULL);
    close(waiting);
    close(loading);
    close(idle);
    free(all);
    site_free(s);
}

static void a_taken_port_and_a_host_name_are_refused_with_the_address(void **state)
{
    struct site *s = site_open(state);
    struct err e = { 0 };
    int port;
    assert_int_equal(http_listen("127.0.0.1", http_port(s->http), &port, &e), -1);
    assert_non_null(strstr(e.where, "127.0.0.1"));
    e = (struct err){ 0 };
    assert_int_equal(http_listen("localhost", 0, &port, &e), -1);
    assert_int_equal(e.code, ERR_CONFIG);
    site_close(s);
}

/* The same client by either family of sockets is one client to limits and logs. */
static void an_address_is_told_as_its_client_is_known(void **state)
{
    (void)state;
    static const struct { const char *six, *want; } rows[] = {
        { "::1", "::1" }, { "2001:db8::a:1", "2001:db8::a:1" }, { "::ffff:192.0.2.7", "192.0.2.7" }, { "::192.0.2.7", "::192.0.2.7" },
    };
    char text[64];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
        assert_int_equal(inet_pton(AF_INET6, rows[i].six, &a.sin6_addr), 1);
        http_address((const struct sockaddr *)&a, text, sizeof text);
        assert_string_equal(text, rows[i].want);
    }
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC0000207) };
    http_address((const struct sockaddr *)&four, text, sizeof text);
    assert_string_equal(text, "192.0.2.7");
    struct sockaddr none = { .sa_family = AF_UNIX };
    http_address(&none, text, sizeof text);
    assert_string_equal(text, "");
    http_address(NULL, text, sizeof text);
    assert_string_equal(text, "");
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_head_that_comes_byte_by_byte_is_cut),
        WITH_STORE(an_idle_connection_is_closed_after_its_time),
        WITH_STORE(a_body_that_comes_too_slowly_is_cut_and_leaves_nothing),
        WITH_STORE(an_upload_that_breaks_off_leaves_nothing),
        WITH_STORE(a_reader_that_does_not_read_is_cut),
        WITH_STORE(what_slow_readers_hold_in_memory_is_bounded),
        WITH_STORE(handlers_that_wait_do_not_make_others_wait),
        WITH_STORE(a_client_that_leaves_while_its_handler_waits_harms_nobody),
        WITH_STORE(two_requests_in_one_packet_get_two_answers),
        WITH_STORE(no_second_request_is_smuggled_behind_doubtful_framing),
        WITH_STORE(an_early_refusal_reaches_a_client_that_is_still_sending),
        WITH_STORE(a_refusal_comes_instead_of_100_continue),
        WITH_STORE(a_blob_that_is_known_is_answered_instead_of_100_continue),
        WITH_STORE(stopping_lets_requests_under_way_finish),
        cmocka_unit_test(an_address_is_told_as_its_client_is_known),
        WITH_STORE(a_taken_port_and_a_host_name_are_refused_with_the_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
