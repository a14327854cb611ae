/*
 * fuzz_http.c - libFuzzer over the HTTP server itself: the bytes go to it through a socket, and it may answer or hang up, but not fail, hang or
 * say what is no HTTP.  Nobody has to log in, so that inputs reach the handlers.
 */
#include "tests/unit/daemon/api_fixture.h"

#include "core/base/log.h"
#include "server/http.h"
#include "server/http_watch.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUTS = 4000, TURN_MS = 2, PATIENCE_MS = 20000 };       /* to a store: it keeps what was uploaded */

struct site { void *state; struct api api; struct watch *watch; struct http *http; };

static void site_open(struct site *s)
{
    struct http_options options = { .listen = "127.0.0.1", .limits = { 5, 5, 5, 0 } };
    assert(fixture_setup(&s->state) == 0);
    api_open(&s->api, s->state);
    s->api.app.auth = false;
    log_set_level(LOG_ERROR);
    options.watch = s->watch = watch_start(s->api.fixture->store, (struct watch_limits){ .watchers = 4, .beat_seconds = 1 }, NULL);
    assert(s->watch && (s->http = http_start(&options, &s->api.app, NULL)));
}

static void site_close(struct site *s)
{
    http_stop(s->http, 1);
    watch_stop(s->watch);
    api_close(&s->api);
    fixture_teardown(&s->state);
}

static int client(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct linger reset = { .l_onoff = 1 };        /* no port stays taken for a minute */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return fd;
}

/* What comes until the other side hangs up; its first bytes. */
static size_t hear(int fd, char *ret, size_t room)
{
    char more[4096];
    size_t n = 0;
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int ready;
        do
            ready = poll(&p, 1, PATIENCE_MS);
        while (ready < 0 && errno == EINTR);        /* libFuzzer's clock */
        assert(ready == 1);
        ssize_t got = recv(fd, more, sizeof more, 0);
        if (got <= 0)
            return n;
        size_t kept = (size_t)got < room - n ? (size_t)got : room - n;
        memcpy(ret + n, more, kept);
        n += kept;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct site site;
    static int inputs;
    char answer[16] = "";
    if (site.http && inputs++ % INPUTS == INPUTS - 1) {
        site_close(&site);
        site = (struct site){ 0 };
    }
    if (!site.http)
        site_open(&site);
    int fd = client(http_port(site.http));
    (void)!send(fd, data, size, MSG_NOSIGNAL);
    poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, TURN_MS);      /* an end that comes with the last bytes is seen a second later */
    shutdown(fd, SHUT_WR);
    size_t n = hear(fd, answer, sizeof answer - 1);
    close(fd);
    if (n >= 12)
        assert(memcmp(answer, "HTTP/1.", 7) == 0 && memcmp(answer + 9, "500", 3) != 0);
    return 0;
}
