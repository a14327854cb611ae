/*
 * retention.c - what is kept for a time only.
 */
#include "core/base/clock.h"
#include "storage/inner.h"

/* Batch by batch, so that nobody waits long for the writer. */
static bool forget(struct store *s, enum sql which, int64_t age_us, int64_t *ret_n, struct err *e)
{
    int64_t n = 1, before = clock_now_us() - age_us;
    *ret_n = 0;
    for (bool ok = true; ok && n > 0 && age_us > 0;) {
        struct conn *c = db_write(s->db, e);
        if (!c)
            return false;
        struct stmt *q = stmt_begin(c, which);
        stmt_int(q, 1, before);
        ok = stmt_run(q, e);
        n = ok ? stmt_changed(q) : 0;
        stmt_end(q);
        if (!db_write_end(c, ok, e))
            return false;
        *ret_n += n;
    }
    return true;
}

bool store_forget(struct store *s, const struct retention *keep, struct forgotten *ret, struct err *e)
{
    *ret = (struct forgotten){ 0 };
    return forget(s, SQL_FORGET_ARTIFACTS, keep->artifacts_us, &ret->artifacts, e)
        && forget(s, SQL_FORGET_EVENTS, keep->events_us, &ret->events, e)
        && forget(s, SQL_FORGET_JOBS, keep->jobs_us, &ret->jobs, e)
        && forget(s, SQL_FORGET_DELIVERIES, keep->deliveries_us, &ret->deliveries, e)
        && forget(s, SQL_FORGET_WEBHOOKS, keep->deliveries_us, &ret->webhooks, e)
        && (!keep->audit_us || audit_forget(s, clock_now_us() - keep->audit_us, e)) && forget(s, SQL_FORGET_AUDIT, keep->audit_us, &ret->audit, e);
}
