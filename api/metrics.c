/*
 * metrics.c - GET /metrics: what core/base/metric.h counts, and what storage knows, in the text format of OpenMetrics, or in that of
 * Prometheus for who does not ask for it.
 *
 * No label is anything a client has sent: routes are labelled with their patterns, and what matches none is "other".
 */
#include "api/metrics.h"

#include "api/app.h"
#include "api/handlers.h"
#include "core/base/clock.h"
#include "core/base/metric.h"
#include "storage/job.h"
#include "storage/scrub.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUTES = 128, CLASSES = 6 };         /* of status codes; class 0: no answer */
static _Atomic uint64_t requests[MAX_ROUTES][CLASSES];      /* by place in the table of routes; the last: no route */

bool metrics_open(const struct app *app, const struct request *req)
{
    struct in_addr four;
    if (app->metrics != METRICS_LOCAL)
        return app->metrics == METRICS_EVERYBODY;
    bool here = strcmp(req->peer, "::1") == 0 || (inet_pton(AF_INET, req->peer, &four) == 1 && ntohl(four.s_addr) >> 24 == 127);
    return here && !req->header[HDR_FORWARDED_FOR];         /* else a proxy on this machine asks for somebody */
}

void metrics_request(const struct request *req, int status, double seconds, bool stream)
{
    size_t route = req->route ? (size_t)(req->route - routes) : MAX_ROUTES - 1;
    atomic_fetch_add_explicit(&requests[route < MAX_ROUTES ? route : MAX_ROUTES - 1][status / 100 % CLASSES], 1, memory_order_relaxed);
    if (!stream)
        metric_observe(METRIC_HTTP_SECONDS, 0, seconds);
}

/* ---- text ---- */

struct sheet {
    struct buf text;
    bool open;                  /* OpenMetrics */
};

/* The name of a counter ends in _total, in OpenMetrics only where it has a value. */
static void head(struct sheet *p, const char *name, const char *kind, const char *unit, const char *help)
{
    const char *end = !p->open && strcmp(kind, "counter") == 0 ? "_total" : "";
    buf_printf(&p->text, "# TYPE repquant_%s%s %s\n", name, end, kind);
    if (p->open && *unit)
        buf_printf(&p->text, "# UNIT repquant_%s %s\n", name, unit);
    buf_printf(&p->text, "# HELP repquant_%s%s %s\n", name, end, help);
}

static void gauge(struct sheet *p, const char *name, const char *unit, const char *help, double x)
{
    head(p, name, "gauge", unit, help);
    buf_printf(&p->text, "repquant_%s %.17g\n", name, x);
}

static void histogram(struct sheet *p, enum metric_id m, int word, const char *text, size_t text_n)
{
    const struct metric_info *info = &metric_infos[m];
    struct metric_histogram h;
    char label[64] = "";
    metric_histogram(m, word, &h);
    if (*info->label)
        snprintf(label, sizeof label, "%s=\"%.*s\"", info->label, (int)text_n, text);
    for (int b = 0; b <= METRIC_BUCKETS; b++) {
        char bound[32] = "+Inf";
        if (b < METRIC_BUCKETS)
            snprintf(bound, sizeof bound, "%.12g%s", metric_bound(m, b), metric_bound(m, b) >= 1 && metric_bound(m, b) < 1e12 ? ".0" : "");
        buf_printf(&p->text, "repquant_%s_bucket{%s%sle=\"%s\"} %llu\n", info->name, label, *label ? "," : "", bound,
                   (unsigned long long)(b < METRIC_BUCKETS ? h.upto[b] : h.count));
    }
    const char *open = *label ? "{" : "", *close = *label ? "}" : "";
    buf_printf(&p->text, "repquant_%s_sum%s%s%s %.9g\nrepquant_%s_count%s%s%s %llu\n", info->name, open, label, close, h.sum, info->name, open, label,
               close, (unsigned long long)h.count);
}

static void add_counted(struct sheet *p)
{
    static const char *const kinds[] = { "counter", "gauge", "histogram" };
    for (int i = 0; i < METRIC_COUNT; i++) {
        const struct metric_info *info = &metric_infos[i];
        head(p, info->name, kinds[info->kind], info->unit, info->help);
        if (info->kind == METRIC_HISTOGRAM) {
            const char *word = info->words;
            for (int w = 0; w == 0 || *word; w++) {
                size_t n = strcspn(word, " ");
                histogram(p, (enum metric_id)i, w, word, n);
                word += n;
                word += *word == ' ';
            }
        } else {
            buf_printf(&p->text, "repquant_%s%s %lld\n", info->name, info->kind == METRIC_COUNTER ? "_total" : "", (long long)metric_value((enum metric_id)i));
        }
    }
}

/* Series that have never counted anything are left out. */
static void add_requests(struct sheet *p)
{
    head(p, "http_requests", "counter", "", "Requests by route and class of status; status 0xx: no answer");
    for (size_t r = 0; r < MAX_ROUTES; r++)
        for (int c = 0; c < CLASSES; c++) {
            uint64_t n = atomic_load_explicit(&requests[r][c], memory_order_relaxed);
            if (n)
                buf_printf(&p->text, "repquant_http_requests_total{method=\"%s\",route=\"%s\",status=\"%dxx\"} %llu\n",
                           r < routes_count ? routes[r].method : "other", r < routes_count ? routes[r].pattern : "other", c, (unsigned long long)n);
        }
}

static bool add_webhooks(struct sheet *p, struct app *app, struct err *e)
{
    struct outbox_counts counts;
    int64_t now = clock_now_us();
    if (!outbox_count(app->store, &counts, e))
        return false;
    head(p, "webhook_deliveries", "counter", "", "Attempts to deliver to a webhook by what became of them");
    const char *word = metric_infos[METRIC_WEBHOOK_SECONDS].words;
    for (int w = 0; *word; w++, word += strspn(word, " ")) {
        struct metric_histogram h;
        size_t n = strcspn(word, " ");
        metric_histogram(METRIC_WEBHOOK_SECONDS, w, &h);
        buf_printf(&p->text, "repquant_webhook_deliveries_total{result=\"%.*s\"} %llu\n", (int)n, word, (unsigned long long)h.count);
        word += n;
    }
    gauge(p, "webhook_pending", "", "Deliveries that wait, for a receiver that failed or for their turn", (double)counts.pending);
    gauge(p, "webhook_late_seconds", "seconds", "By how much the delivery that is due longest is late",
          counts.oldest_due && counts.oldest_due < now ? (double)(now - counts.oldest_due) / 1e6 : 0);
    gauge(p, "webhooks_disabled", "", "Webhooks that are disabled", (double)counts.disabled);
    return true;
}

static bool add_stored(struct sheet *p, struct app *app, struct err *e)
{
    struct queue_counts counts;
    int64_t corrupt = 0;
    if (!queue_count(app->store, NULL, &counts, e) || !scrub_count(app->store, &corrupt, e))
        return false;
    head(p, "jobs", "gauge", "", "Jobs by state, of all teams");
    for (int s = 0; s < JOB_STATES; s++)
        buf_printf(&p->text, "repquant_jobs{state=\"%s\"} %lld\n", job_state_name((enum job_state)s), (long long)counts.jobs[s]);
    uint64_t available = store_free_bytes(app->store), room = store_room(app->store);
    gauge(p, "workers", "", "Jobs that may run at a time", (double)app->workers);
    gauge(p, "disk_free_bytes", "bytes", "Free bytes of the data folder's file system", (double)available);
    gauge(p, "disk_reserved_bytes", "bytes", "Free bytes that are promised to waiting jobs or kept free", (double)(available > room ? available - room : 0));
    gauge(p, "last_backup_seconds", "seconds", "When a backup was last complete, since the epoch; 0: never", (double)store_last_backup(app->store));
    gauge(p, "blobs_corrupt", "", "Blobs whose stored bytes are known to have rotted, until they are uploaded again or deleted", (double)corrupt);
    gauge(p, "draining", "", "1 while the service shuts down", atomic_load(&app->draining));
    return add_webhooks(p, app, e);
}

/* What the kernel, malloc and SQLite say of the process. */
static void add_process(struct sheet *p)
{
    struct timespec cpu;
    gauge(p, "heap_bytes", "bytes", "Bytes that malloc has given to the daemon, SQLite's among them", (double)mallinfo2().uordblks);
    gauge(p, "database_memory_bytes", "bytes", "Bytes that SQLite holds: caches of pages, prepared statements, results being read", (double)store_memory());
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) != 0)
        return;
    head(p, "cpu_seconds", "counter", "seconds", "Processor time of the daemon, its children aside");
    buf_printf(&p->text, "repquant_cpu_seconds_total %.3f\n", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
}

bool get_metrics(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    const char *accept = req->header[HDR_ACCEPT];
    struct sheet p = { .text = BUF_INIT(1 << 20), .open = accept && strstr(accept, "application/openmetrics-text") };
    head(&p, p.open ? "build" : "build_info", p.open ? "info" : "gauge", "", "The version that runs");
    buf_printf(&p.text, "repquant_build_info{version=\"%s\"} 1\n", app->version);
    add_counted(&p);
    add_requests(&p);
    add_process(&p);
    bool ok = add_stored(&p, app, e);
    if (p.open)
        buf_str(&p.text, "# EOF\n");
    ok = ok && (!p.text.bad || err_set(e, ERR_MEMORY, "metrics", "no memory for the page"));
    if (!ok) {
        buf_release(&p.text);
        return false;
    }
    reply->text = p.text.p;
    reply->size = p.text.n;
    reply->type = p.open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8";
    return true;
}
