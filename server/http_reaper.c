#include "server/http_reaper.h"

#include "core/base/clock.h"
#include "core/base/cond.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SECOND = 1000000, MAX_LINGERING = 64, LINGER_SECONDS = 2 };

struct conn {
    struct conn *prev, *next;
    int fd;
    char address[48];           /* INET6_ADDRSTRLEN is 46 */
    _Atomic int64_t state;      /* when the phase began, and which: see pack(); the only member two threads share */

    /* the reaper's thread alone */
    int64_t looked;             /* the state that the next two belong to */
    int64_t interval;           /* when counted was read */
    uint64_t counted;
};

static int64_t pack(int64_t since, enum conn_phase phase) { return since * 8 + (int64_t)phase; }
static enum conn_phase phase_of(int64_t state) { return (enum conn_phase)(state & 7); }
static int64_t since_of(int64_t state) { return state / 8; }

struct reaper {
    struct http_limits limits;
    pthread_mutex_t mu;         /* guards all below; a leaf */
    pthread_cond_t changed;     /* stopping, or a connection has gone */
    struct conn *first;
    int count;
    bool stopping;
    struct { int fd; int64_t deadline; } lingering[MAX_LINGERING];
    int nlingering;
    pthread_t thread;
};

/* False: not TCP. */
static bool kernel_info(const struct conn *c, struct tcp_info *ret)
{
    socklen_t n = sizeof *ret;
    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, ret, &n) == 0;
}

/* Bytes received or acknowledged so far. */
static bool kernel_count(const struct conn *c, enum conn_phase phase, uint64_t *ret)
{
    struct tcp_info info = { 0 };
    if (!kernel_info(c, &info))
        return false;
    *ret = phase == CONN_BODY ? info.tcpi_bytes_received : info.tcpi_bytes_acked;
    return true;
}

/* What an interval must bring.  Of a stream nothing, unless something waits to be sent. */
static uint64_t least_bytes(const struct reaper *r, const struct conn *c, enum conn_phase phase)
{
    struct tcp_info info = { 0 };
    if (phase != CONN_STREAM)
        return r->limits.rate_bytes;
    return kernel_info(c, &info) && info.tcpi_notsent_bytes ? 1 : 0;
}

/* Compares the bytes of whole intervals; the first one begins when the reaper first sees the phase. */
static bool too_slow(const struct reaper *r, struct conn *c, int64_t state, int64_t now)
{
    uint64_t count;
    bool first = c->looked != state;
    if (!first && now - c->interval < (int64_t)r->limits.rate_seconds * SECOND)
        return false;
    if (!kernel_count(c, phase_of(state), &count))
        return false;
    if (!first && count - c->counted < least_bytes(r, c, phase_of(state)))
        return true;
    c->looked = state;
    c->interval = now;
    c->counted = count;
    return false;
}

/* Whoever does not read would leave the rest of the answer in the kernel for minutes. */
static void forget_unsent(int fd)
{
    struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/*
 * This version of the library can miss that the other side has closed when that comes together with data.
 * Ending our reading half wakes it: what has arrived can still be read, and an answer still be sent.
 */
static void tell_of_close(const struct conn *c)
{
    enum { CLOSE_WAIT = 8 };    /* TCP_CLOSE_WAIT of <netinet/tcp.h>, which does not go together with <linux/tcp.h> */
    struct tcp_info info = { 0 };
    if (kernel_info(c, &info) && info.tcpi_state == CLOSE_WAIT)
        shutdown(c->fd, SHUT_RD);
}

static bool overdue(const struct reaper *r, struct conn *c, int64_t state, int64_t now)
{
    int64_t seconds = (now - since_of(state)) / SECOND;
    switch (phase_of(state)) {
    case CONN_IDLE: return seconds >= r->limits.idle_seconds;
    case CONN_HEAD: return seconds >= r->limits.header_seconds;
    case CONN_RUN: return false;
    case CONN_BODY:
    case CONN_STREAM:
    case CONN_SEND: return too_slow(r, c, state, now);
    }
    return false;
}

static void look(const struct reaper *r, struct conn *c, int64_t now)
{
    int64_t state = atomic_load(&c->state);
    enum conn_phase phase = phase_of(state);
    if (phase == CONN_IDLE || phase == CONN_HEAD || phase == CONN_BODY)
        tell_of_close(c);
    if (!overdue(r, c, state, now))
        return;
    if (phase == CONN_SEND || phase == CONN_STREAM)
        forget_unsent(c->fd);
    shutdown(c->fd, SHUT_RDWR);
}

static void drain_lingering(struct reaper *r, int64_t now)
{
    static char waste[1 << 16];     /* this thread's alone; nobody reads it */
    for (int i = 0; i < r->nlingering;) {
        ssize_t n = recv(r->lingering[i].fd, waste, sizeof waste, MSG_DONTWAIT);
        bool open = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
        if (open && now < r->lingering[i].deadline) {
            i++;
            continue;
        }
        close(r->lingering[i].fd);
        r->lingering[i] = r->lingering[--r->nlingering];
    }
}

/* Until the next look: a second, or a moment while somebody is still sending to us. */
static void nap(struct reaper *r)
{
    struct timespec until = cond_in(r->nlingering ? 10000 : 1000000);
    pthread_cond_timedwait(&r->changed, &r->mu, &until);
}

static void *reaper_main(void *arg)
{
    struct reaper *r = arg;
    pthread_mutex_lock(&r->mu);
    while (!r->stopping) {
        /* r->mu is held here, at the top of every round; nothing below blocks but nap(). */
        int64_t now = clock_mono_us();
        for (struct conn *c = r->first; c; c = c->next)
            look(r, c, now);
        drain_lingering(r, now);
        nap(r);
    }
    drain_lingering(r, INT64_MAX);
    pthread_mutex_unlock(&r->mu);
    return NULL;
}

struct reaper *reaper_start(const struct http_limits *limits, struct err *e)
{
    struct reaper *r = calloc(1, sizeof *r);
    if (!r) {
        err_sys(e, "http", "start the reaper");
        return NULL;
    }
    cond_init(&r->changed);
    pthread_mutex_init(&r->mu, NULL);
    r->limits = *limits;
    if (pthread_create(&r->thread, NULL, reaper_main, r) == 0)
        return r;
    err_set(e, ERR_MEMORY, "http", "no thread for the reaper");
    free(r);
    return NULL;
}

void reaper_stop(struct reaper *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mu);
    r->stopping = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->mu);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->mu);
    free(r);
}

struct conn *reaper_add(struct reaper *r, int fd, const char *address)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    snprintf(c->address, sizeof c->address, "%s", address);
    atomic_init(&c->state, pack(clock_mono_us(), CONN_HEAD));
    pthread_mutex_lock(&r->mu);
    c->next = r->first;
    if (c->next)
        c->next->prev = c;
    r->first = c;
    r->count++;
    pthread_mutex_unlock(&r->mu);
    return c;
}

void reaper_remove(struct reaper *r, struct conn *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&r->mu);
    *(c->prev ? &c->prev->next : &r->first) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    r->count--;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->mu);
    free(c);
}

void reaper_phase(struct conn *c, enum conn_phase phase)
{
    if (!c || (phase == CONN_HEAD && phase_of(atomic_load(&c->state)) == CONN_HEAD))
        return;                 /* a new connection's time for its head runs since it was accepted */
    atomic_store(&c->state, pack(clock_mono_us(), phase));
}

void reaper_linger(struct reaper *r, struct conn *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&r->mu);
    int fd = r->nlingering < MAX_LINGERING ? fcntl(c->fd, F_DUPFD_CLOEXEC, 3) : -1;
    if (fd >= 0) {
        r->lingering[r->nlingering].fd = fd;
        r->lingering[r->nlingering++].deadline = clock_mono_us() + LINGER_SECONDS * SECOND;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->mu);
}

int reaper_count(struct reaper *r, const char *address)
{
    int n = 0;
    pthread_mutex_lock(&r->mu);
    for (const struct conn *c = r->first; c; c = c->next)
        n += strcmp(c->address, address) == 0;
    pthread_mutex_unlock(&r->mu);
    return n;
}

void reaper_cut(struct reaper *r, bool all)
{
    pthread_mutex_lock(&r->mu);
    for (struct conn *c = r->first; c; c = c->next) {
        enum conn_phase phase = phase_of(atomic_load(&c->state));
        if (all || phase == CONN_IDLE || phase == CONN_HEAD)
            shutdown(c->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&r->mu);
}

bool reaper_wait(struct reaper *r, int seconds)
{
    struct timespec until = cond_in(seconds * INT64_C(1000000));
    pthread_mutex_lock(&r->mu);
    while (r->count)
        if (pthread_cond_timedwait(&r->changed, &r->mu, &until) == ETIMEDOUT)
            break;
    bool none = r->count == 0;
    pthread_mutex_unlock(&r->mu);
    return none;
}
