#include "server/upkeep.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "server/heap.h"
#include "storage/audit.h"
#include "storage/recent.h"
#include "storage/session.h"
#include "storage/upload.h"
#include "storage/used.h"

static const int64_t SWEEP_US = 3600LL * 1000000, DAY_US = 86400LL * 1000000;
static const int64_t UPLOAD_GRACE_US = 24LL * 3600 * 1000000;  /* to register what was uploaded */

static void warn(const char *event, const struct err *e)
{
    if (e->code)
        log_line(LOG_WARN, event, "%s: %s", e->where, e->text);
}

/* Forgets what was kept long enough, blobs that nobody registered, and sessions that are over. */
static void sweep(struct upkeep *u)
{
    const struct config *c = u->config;
    struct err e = { 0 }, sessions = { 0 };
    struct forgotten f;
    int removed;
    struct retention keep = { c->keep_jobs * DAY_US, c->keep_events * DAY_US, c->keep_artifacts * DAY_US,
                              c->keep_deliveries * DAY_US, c->keep_audit * DAY_US };
    u->swept_at = clock_mono_us();
    if (store_forget(u->store, &keep, &f, &e) && store_sweep(u->store, UPLOAD_GRACE_US, &removed, &e)
        && (f.jobs || f.events || f.artifacts || f.deliveries || f.webhooks || f.audit || removed))
        log_line(LOG_INFO, "store.sweep", "removed: %lld jobs, %lld events, %lld artifacts, %lld deliveries, %lld webhooks, %lld rows of the audit log, %d blobs",
                 (long long)f.jobs, (long long)f.events, (long long)f.artifacts, (long long)f.deliveries, (long long)f.webhooks, (long long)f.audit,
                 removed);
    warn("store.sweep", &e);
    session_sweep(u->store, &sessions);
    warn("session.sweep", &sessions);
}

void upkeep_begin(struct upkeep *u, struct store *s, const struct config *c)
{
    *u = (struct upkeep){ .config = c, .store = s, .trimmed_at = clock_mono_us() };
    scrub_begin(&u->scrub, s, c->scrub_days * DAY_US);
    sweep(u);
}

void upkeep_turn(struct upkeep *u)
{
    struct err audit = { 0 }, uploads = { 0 }, rot = { 0 };
    audit_flush(u->store, &audit);
    warn("audit.flush", &audit);
    used_flush(u->store, NULL);                         /* a use that could not be noted is still a use */
    upload_sweep(u->store, &uploads);
    warn("upload.sweep", &uploads);
    recent_sweep(u->store);
    heap_give_back(&u->trimmed_at);
    if (!scrub_turn(&u->scrub, &rot))
        log_line(LOG_ERROR, "store.scrub", "%s: %s", rot.where, rot.text);
    if (clock_mono_us() - u->swept_at >= SWEEP_US)
        sweep(u);
}

void upkeep_end(struct upkeep *u) { scrub_end(&u->scrub); }
