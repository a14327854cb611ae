#include "client/watch.h"

#include "client/show.h"

#include <stdio.h>
#include <string.h>

enum { FIRST_MS = 200, MOST_MS = 5000, PATIENCE_S = 600 };

static bool terminal_state(const char *state)
{
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "canceled") == 0;
}

int job_exit(const json_t *job) { return strcmp(text_of(job, "state"), "succeeded") == 0 ? EXIT_DONE : EXIT_INPUT; }

/* One page; *ret_n events were new. */
static bool read_page(struct client *c, struct watch *w, size_t *ret_n, bool *ret_ended, bool *ret_more)
{
    char suffix[64], path[160];
    snprintf(suffix, sizeof suffix, "/events?limit=1000&after=%lld", (long long)w->after);
    json_t *page = job_path(c, w->job, suffix, path, sizeof path) ? http_get(&c->service, path, &c->f) : NULL;
    const json_t *data = json_object_get(page, "data");
    *ret_n = 0;
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *event = json_array_get(data, i);
        int64_t seq = json_integer_value(json_object_get(event, "seq"));
        if (seq <= w->after)
            continue;
        w->after = seq;
        ++*ret_n;
        if (!w->event(c, event, w->arg)) {
            fail(&c->f, EXIT_ENVIRONMENT, "client.output", "standard output", "it can no longer be written to");
            break;
        }
        const char *type = text_of(event, "type");
        *ret_ended |= strncmp(type, "job.", 4) == 0 && terminal_state(type + 4);
    }
    *ret_more = *text_of(page, "next_cursor") && *ret_n;
    json_decref(page);
    return !c->f.exit;
}

/* A job whose last event was read in an earlier run tells nothing more. */
static bool ended_already(struct client *c, const char *id, bool *ret)
{
    char path[160];
    json_t *job = job_path(c, id, "", path, sizeof path) ? http_get(&c->service, path, &c->f) : NULL;
    *ret = terminal_state(text_of(job, "state"));
    json_decref(job);
    return job;
}

static bool rest(struct client *c, const struct watch *w, int64_t *delay, bool news)
{
    int64_t left = c->service.until ? c->service.until - now_ms() : MOST_MS;
    *delay = news ? FIRST_MS : *delay * 3 / 2 < MOST_MS ? *delay * 3 / 2 : MOST_MS;
    if (left <= 0)
        return false;       /* settle() says so */
    return pause_ms(*delay < left ? *delay : left) || fail(&c->f, EXIT_INTERRUPTED, "client.interrupted", w->job, "interrupted");
}

static bool follow(struct client *c, struct watch *w)
{
    int64_t delay = FIRST_MS;
    bool ended = false, more = false, asked = false;
    for (size_t n = 0; !ended || more;) {
        if (!read_page(c, w, &n, &ended, &more))
            return false;
        if (more)
            continue;
        if (w->once)
            return true;
        if (!ended && !n && (!asked || delay == MOST_MS)) {
            if (!ended_already(c, w->job, &ended))
                return false;
            more = ended && !asked;         /* it may have ended between the two questions */
            asked = true;
        }
        if (!ended && !rest(c, w, &delay, n > 0))
            return false;
    }
    return true;
}

/* Each request has what is left of the time: a service that hangs takes no more of it. */
static void begin(struct client *c, const struct watch *w)
{
    if (c->o.patience_s < 0 && !w->once)
        c->service.patience_ms = PATIENCE_S * 1000;
    c->service.until = w->timeout_s ? now_ms() + w->timeout_s * 1000 : 0;
}

/* Whatever failed when the time was over, that it was over is why. */
static bool settle(struct client *c, const struct watch *w, bool ok)
{
    if (!ok && c->service.until && now_ms() >= c->service.until && c->f.exit != EXIT_INTERRUPTED) {
        c->f = (struct failure){ 0 };
        fail(&c->f, EXIT_ENVIRONMENT, "client.timeout", w->job, "the job has not ended in %lld seconds; it goes on: repquantctl wait %s",
             (long long)w->timeout_s, w->job);
    }
    c->service.until = 0;
    return ok;
}

bool watch_job(struct client *c, struct watch *w)
{
    begin(c, w);
    return settle(c, w, follow(c, w));
}

/* ---- with progress ---- */

struct progress {
    char stage[32];
    double shown;           /* percent last listed */
};

static void list_percent(struct client *c, struct progress *p, const json_t *data)
{
    double total = number_of(data, "total"), percent = total > 0 ? 100 * number_of(data, "done") / total : 0;
    if (c->terminal) {
        show_bar(c, p->stage[0] ? p->stage : "running", number_of(data, "done"), total);
    } else if (percent < p->shown || percent >= p->shown + 10) {
        show_note(c, "%s %.0f %%", p->stage[0] ? p->stage : "running", percent);
        p->shown = percent;
    }
}

static bool on_event(struct client *c, const json_t *event, void *arg)
{
    char line[600];
    struct progress *p = arg;
    const char *type = text_of(event, "type");
    const json_t *data = json_object_get(event, "data");
    if (strcmp(type, "job.progress") == 0) {
        list_percent(c, p, data);
        return true;
    }
    if (strcmp(type, "job.stage_changed") == 0)
        snprintf(p->stage, sizeof p->stage, "%s", text_of(data, "stage"));
    if (strcmp(type, "job.layer_completed") == 0)
        return true;
    if (c->terminal && strcmp(type, "job.stage_changed") == 0) {
        show_bar(c, p->stage, 0, 0);
        return true;
    }
    show_event(event, line, sizeof line);
    if (line[0])
        show_note(c, "%s", line);
    return true;
}

static void leave_job(struct client *c, const char *job)
{
    char path[160];
    struct failure f = { 0 };
    if (!c->o.cancel_on_interrupt) {
        snprintf(c->f.text, sizeof c->f.text, "interrupted; the job goes on. `repquantctl wait %s` watches it, `repquantctl cancel %s` ends it", job, job);
        return;
    }
    interrupt_forget();
    c->service.patience_ms = 5000;
    job_path(c, job, "/cancel", path, sizeof path);
    json_t *answer = http_post(&c->service, path, NULL, false, &f);
    snprintf(c->f.text, sizeof c->f.text, answer ? "interrupted; the job was canceled" : "interrupted, and canceling the job failed: %.300s", f.text);
    json_decref(answer);
}

json_t *await_job(struct client *c, const char *job)
{
    char path[160];
    struct progress p = { .shown = 0 };
    struct watch w = { .job = job, .timeout_s = c->o.timeout_s, .event = on_event, .arg = &p };
    json_t *end = NULL;
    if (job_path(c, job, "", path, sizeof path)) {
        begin(c, &w);
        end = follow(c, &w) ? http_get(&c->service, path, &c->f) : NULL;
        settle(c, &w, end);
    }
    if (c->f.exit == EXIT_INTERRUPTED)
        leave_job(c, job);
    show_bar_end(c);
    return end;
}
