/*
 * child.c - the supervision of one child.
 *
 * One loop polls four descriptors (its exit, its events, its diagnostics, our stopper) and knows
 * four clocks (deadline, silence, our heartbeat, the steps of stopping).  Nothing blocks but the poll.
 *
 * Stopping has steps, so that a child that listens can finish the line it writes and one that does
 * not is gone all the same, within 1.2 seconds:
 *
 *     0.0 s  the control pipe closes      0.5 s  SIGTERM      1.2 s  SIGKILL
 *
 * Signals go to the whole process group.  The group cannot be somebody else's: its leader is our
 * child and is not reaped before the last kill.
 */
#include "server/child.h"

#include "core/base/clock.h"
#include "core/base/metric.h"
#include "server/child_spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t TERM_US = 500000, KILL_US = 1200000;
static const int64_t LINGER_US = 5000000;   /* between the last event and the exit */
/* A burst of small layers is fine, a flood is not: each line costs us a transaction. */
enum { LINES_BURST = 5000, LINES_PER_SECOND = 200 };
/* Nor is a trickle that lasts for days: each byte stays with the job.  Progress does not, there is one row of it a second at most. */
static const int64_t BYTES_KEPT = INT64_C(64) << 20;

/* ---- the stopper ---- */

bool stopper_init(struct stopper *s, struct err *e)
{
    atomic_init(&s->why, STOP_NO);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->wake >= 0 || err_sys(e, "worker", "make an eventfd");
}

void stopper_release(struct stopper *s)
{
    if (s->wake >= 0)
        close(s->wake);
    s->wake = -1;
}

void stopper_reset(struct stopper *s)
{
    uint64_t n;
    atomic_store(&s->why, STOP_NO);
    ssize_t got = read(s->wake, &n, sizeof n);
    (void)got;                              /* EAGAIN: there was nothing */
}

void stopper_stop(struct stopper *s, enum stop why)
{
    int no = STOP_NO;
    uint64_t one = 1;
    if (!atomic_compare_exchange_strong(&s->why, &no, (int)why))
        return;
    ssize_t put = write(s->wake, &one, sizeof one);
    (void)put;                              /* cannot fail: the counter is far from full */
}

enum stop stopper_why(struct stopper *s) { return (enum stop)atomic_load(&s->why); }

/* ---- the child ---- */

struct child {
    const struct child_spec *spec;
    struct stopper *stopper;
    struct child_outcome *out;
    struct spawned proc;                    /* its descriptors are -1 once closed */
    struct cgroup group;
    struct cgroup_events events;            /* of its group, when that has ended */

    char line[CHILD_LINE_MAX];              /* an event that has not ended */
    size_t line_n;
    double credit;                          /* lines it may still write now */
    int64_t credit_at, kept;                /* bytes of its lines that stay */
    char ring[CHILD_LOG_SIZE];              /* the last diagnostics */
    size_t ring_n;                          /* bytes ever written to it */

    bool decided;                           /* out->end is final, whatever it does now */
    bool finished;                          /* `done` or `problem` was seen */
    bool exited;
    int64_t deadline, silence, beat;        /* when these are due */
    int64_t stopping;                       /* since when; 0: it may run */
    bool termed, killed;
};

static void kill_group(struct child *c, int sig)
{
    kill(-c->proc.pid, sig);                     /* not reaped yet, so the number is still its own */
}

/* The end is decided by us: it is killed now, and nothing it says counts any more. */
static void put_an_end(struct child *c, enum child_end end, bool retryable)
{
    if (c->decided)
        return;
    c->decided = true;
    c->out->end = end;
    c->out->retryable = retryable;
    kill_group(c, SIGKILL);
    c->killed = true;
}

static void give_up(struct child *c, const char *why)
{
    if (!c->decided)
        err_set(&c->out->problem, ERR_WORKER_LOST, "", "the job's process %s", why);
    put_an_end(c, CHILD_LOST, true);
}

/* ---- its events ---- */

/* It has said its last word; what is done is done, even if it then does not end by itself. */
static void finish(struct child *c, enum child_end end)
{
    c->finished = true;
    c->out->end = end;
    c->silence = clock_mono_us() + LINGER_US;
}

static void take_done(struct child *c, const struct child_event *ev)
{
    size_t n = json_array_size(ev->files);
    if (n > CHILD_MAX_FILES) {
        give_up(c, "named too many results");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(ev->files, i));
        if (strlen(name) >= CHILD_FILE_NAME_SIZE) {
            give_up(c, "named a result that has too long a name");
            return;
        }
        snprintf(c->out->files[i], CHILD_FILE_NAME_SIZE, "%s", name);
    }
    c->out->nfiles = (int)n;
    c->out->peak_bytes = ev->peak_bytes;
    c->out->cpu_seconds = ev->cpu_seconds;
    finish(c, CHILD_DONE);
}

/* Title, status and meaning are ours; what the child says is the code and a sentence. */
static void take_problem(struct child *c, const struct child_event *ev)
{
    enum err_code code = err_from_slug(ev->code);
    err_set(&c->out->problem, code ? code : ERR_BUG, ev->where, "%s", ev->detail);
    c->out->retryable = ev->retryable;
    finish(c, CHILD_PROBLEM);
}

static void take_event(struct child *c, const struct child_event *ev)
{
    if (ev->kind == EVENT_DONE) {
        take_done(c, ev);
        if (json_integer_value(json_object_get(ev->line, "peak_bytes")) > 0)
            metric_observe(METRIC_CHILD_BYTES, 0, (double)json_integer_value(json_object_get(ev->line, "peak_bytes")));
    }
    if (ev->kind == EVENT_PROBLEM)
        take_problem(c, ev);
    else if (ev->kind != EVENT_DONE && ev->kind != EVENT_OTHER && !c->spec->event(c->spec->arg, ev, &c->out->problem))
        put_an_end(c, CHILD_REFUSED, false);
}

static bool within_rate(struct child *c, int64_t now)
{
    c->credit += (double)(now - c->credit_at) / 1e6 * LINES_PER_SECOND;
    c->credit_at = now;
    if (c->credit > LINES_BURST)
        c->credit = LINES_BURST;
    return --c->credit >= 0;
}

static void take_line(struct child *c, size_t n)
{
    struct child_event ev;
    int64_t now = clock_mono_us();
    if (c->decided || c->finished)
        return;                             /* the last line has been said */
    c->silence = now + c->spec->silence_us;
    if (!within_rate(c, now)) {
        give_up(c, "wrote events without end");
    } else if (!child_event_parse(c->line, n, &ev, NULL)) {
        give_up(c, "wrote something that is no event");
    } else {
        c->kept += ev.kind == EVENT_PROGRESS ? 0 : (int64_t)n;
        if (c->kept > BYTES_KEPT)
            give_up(c, "wrote more events than are kept");
        else
            take_event(c, &ev);
        child_event_release(&ev);
    }
}

static void take_lines(struct child *c)
{
    for (char *end; (end = memchr(c->line, '\n', c->line_n));) {
        size_t n = (size_t)(end - c->line);
        take_line(c, n);
        c->line_n -= n + 1;
        memmove(c->line, end + 1, c->line_n);
    }
    if (c->line_n == sizeof c->line) {
        give_up(c, "wrote a line that does not end");
        c->line_n = 0;
    }
}

/* One read; false when there is nothing more now. */
static bool read_events(struct child *c)
{
    if (c->proc.events < 0)
        return false;
    ssize_t n = read(c->proc.events, c->line + c->line_n, sizeof c->line - c->line_n);
    if (n > 0) {
        c->line_n += (size_t)n;
        take_lines(c);
        return true;
    }
    if (n == 0) {
        close(c->proc.events);
        c->proc.events = -1;
    }
    return false;
}

static bool read_errors(struct child *c)
{
    char piece[4096];
    if (c->proc.errors < 0)
        return false;
    ssize_t n = read(c->proc.errors, piece, sizeof piece);
    for (ssize_t i = 0; i < n; i++)
        c->ring[c->ring_n++ % sizeof c->ring] = piece[i];
    if (n == 0) {
        close(c->proc.errors);
        c->proc.errors = -1;
    }
    return n > 0;
}

static char *ring_text(const struct child *c)
{
    size_t n = c->ring_n < sizeof c->ring ? c->ring_n : sizeof c->ring;
    char *text = malloc(n + 1);
    if (!text)
        return NULL;
    for (size_t i = 0; i < n; i++)
        text[i] = c->ring[(c->ring_n - n + i) % sizeof c->ring];
    text[n] = '\0';
    return text;
}

/* ---- its clocks ---- */

static void stop_step(struct child *c, int64_t now)
{
    if (!c->stopping) {
        c->stopping = now;
        close(c->proc.control);
        c->proc.control = -1;
    }
    if (!c->termed && now >= c->stopping + TERM_US) {
        kill_group(c, SIGTERM);
        c->termed = true;
    }
    if (!c->killed && now >= c->stopping + KILL_US) {
        kill_group(c, SIGKILL);
        c->killed = true;
    }
}

static void check_clocks(struct child *c)
{
    int64_t now = clock_mono_us();
    if (stopper_why(c->stopper) != STOP_NO)
        stop_step(c, now);
    if (c->decided || c->stopping)
        return;
    if (now >= c->deadline) {
        err_set(&c->out->problem, ERR_DEADLINE, "", "the job took longer than %lld seconds; ask for less, or raise --job-timeout",
                (long long)(c->spec->deadline_us / 1000000));
        put_an_end(c, CHILD_PROBLEM, false);
    } else if (now >= c->silence && c->finished) {
        put_an_end(c, c->out->end, c->out->retryable);
    } else if (now >= c->silence) {
        give_up(c, "said nothing for too long and was taken for hung");
    } else if (c->spec->beat && now >= c->beat) {
        c->beat = now + c->spec->beat_us;
        if (!c->spec->beat(c->spec->arg, &c->out->problem))
            put_an_end(c, CHILD_REFUSED, false);
    }
}

static int64_t earliest(int64_t a, int64_t b) { return a < b ? a : b; }

static int next_timeout_ms(const struct child *c)
{
    int64_t at = earliest(c->deadline, c->silence);
    if (c->killed)
        at = INT64_MAX;                     /* only its exit is left */
    else if (c->stopping)
        at = c->stopping + (c->termed ? KILL_US : TERM_US);
    else if (c->spec->beat)
        at = earliest(at, c->beat);
    int64_t ms = at == INT64_MAX ? 1000 : (at - clock_mono_us()) / 1000 + 1;
    return ms < 0 ? 0 : ms > 1000 ? 1000 : (int)ms;
}

/* ---- the loop ---- */

static void supervise(struct child *c)
{
    while (!c->exited) {
        /* A stop is waited for only once: afterwards its clock runs. */
        struct pollfd fds[] = {
            { .fd = c->proc.pidfd, .events = POLLIN }, { .fd = c->proc.events, .events = POLLIN },
            { .fd = c->proc.errors, .events = POLLIN }, { .fd = c->stopping ? -1 : c->stopper->wake, .events = POLLIN },
        };
        int n = poll(fds, sizeof fds / sizeof fds[0], next_timeout_ms(c));
        if (n > 0) {
            c->exited = fds[0].revents != 0;
            if (fds[1].revents)
                read_events(c);
            if (fds[2].revents)
                read_errors(c);
        }
        check_clocks(c);
    }
    /* What it wrote before it ended is in the pipes; a grandchild that holds them open does not keep us. */
    kill_group(c, SIGKILL);
    for (int i = 0; i < 64 && read_events(c); i++)
        ;
    for (int i = 0; i < 64 && read_errors(c); i++)
        ;
}

/* Limits and the sandbox tell by a signal that it met them; another attempt would meet them again. */
static const struct { int signal; enum err_code code; const char *text; } told_by_signal[] = {
    { SIGSYS, ERR_WORKER_LOST, "the job's process made a system call that the sandbox forbids, and was ended" },
    { SIGXCPU, ERR_DEADLINE, "the job's process used up its processor time" },
    { SIGXFSZ, ERR_DISK, "the job's process wrote a larger file than it may" },
};

static bool told(struct child *c, const siginfo_t *info)
{
    for (size_t i = 0; info->si_code != CLD_EXITED && i < sizeof told_by_signal / sizeof told_by_signal[0]; i++)
        if (info->si_status == told_by_signal[i].signal) {
            err_set(&c->out->problem, told_by_signal[i].code, "", "%s", told_by_signal[i].text);
            c->out->retryable = false;
            return true;
        }
    return false;
}

/* So does its control group, by its counts. */
static bool told_by_group(struct child *c, const siginfo_t *info)
{
    bool killed = info->si_code != CLD_EXITED && info->si_status == SIGKILL;
    if (killed && c->events.memory)
        err_set(&c->out->problem, ERR_MEMORY_LIMIT, "", "the job's process went over the %lld bytes of memory it may have, and was ended; use a smaller model,"
                " fewer or smaller samples, or raise --memory", (long long)c->spec->bounds.memory);
    else if (c->events.tasks && !killed)
        err_set(&c->out->problem, ERR_WORKER_LOST, "", "the job's process asked for more than the %lld threads it may have, and ended without a result",
                (long long)c->spec->bounds.tasks);
    else
        return false;
    c->out->retryable = false;
    return true;
}

static void describe_exit(struct child *c, const siginfo_t *info)
{
    if (told(c, info) || told_by_group(c, info))
        return;
    if (info->si_code == CLD_EXITED) {
        err_set(&c->out->problem, ERR_WORKER_LOST, "", "the job's process ended with status %d and without a result", info->si_status);
        return;
    }
    const char *name = sigdescr_np(info->si_status);
    err_set(&c->out->problem, ERR_WORKER_LOST, "", "the job's process was ended by signal %d (%s)", info->si_status,
            name ? name : "unknown");
}

static void reap(struct child *c)
{
    siginfo_t info = { 0 };
    while (waitid(P_PIDFD, (id_t)c->proc.pidfd, &info, WEXITED) != 0 && errno == EINTR)
        ;
    if (c->decided)
        return;
    if (c->finished && (c->out->end == CHILD_DONE || !c->stopping))
        return;
    if (c->stopping) {                      /* a problem it reports now is that we stopped it */
        bool canceled = stopper_why(c->stopper) == STOP_CANCEL;
        c->out->end = CHILD_STOPPED;
        c->out->problem = (struct err){ 0 };
        err_set(&c->out->problem, canceled ? ERR_CANCELED : ERR_DRAINING, "", canceled ? "the job was canceled" : "the service is shutting down");
        return;
    }
    c->out->end = CHILD_LOST;
    c->out->retryable = true;
    describe_exit(c, &info);
}

/* ---- the whole ---- */

static void run(struct child *c)
{
    int64_t now = clock_mono_us();
    c->deadline = now + c->spec->deadline_us;
    c->silence = now + c->spec->silence_us;
    c->beat = now + c->spec->beat_us;
    c->credit = LINES_BURST;
    c->credit_at = now;
    supervise(c);
    cgroup_end(c->spec->cgroups, &c->group, &c->events);
    reap(c);
    c->out->log = ring_text(c);
    int fds[] = { c->proc.control, c->proc.events, c->proc.errors, c->proc.pidfd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

bool child_run(const struct child_spec *spec, struct stopper *stopper, struct child_outcome *ret, struct err *e)
{
    struct child *c = calloc(1, sizeof *c);         /* 80 KiB: not for a stack */
    *ret = (struct child_outcome){ 0 };
    if (!c)
        return err_sys(e, "worker", "watch a process");
    c->spec = spec;
    c->stopper = stopper;
    c->out = ret;
    bool ok = cgroup_make(spec->cgroups, &spec->bounds, &c->group, e) && child_spawn(spec, c->group.procs, &c->proc, e);
    if (ok)
        run(c);
    else
        cgroup_end(spec->cgroups, &c->group, &c->events);
    free(c);
    return ok;
}

void child_outcome_release(struct child_outcome *o)
{
    free(o->log);
    *o = (struct child_outcome){ 0 };
}
