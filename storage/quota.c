/*
 * quota.c - whether a team may take more.
 *
 * Asked inside the transaction that takes it, so two requests at the same moment cannot both have the last place.  A team
 * without limits costs one look at its row.
 */
#include "storage/inner.h"
#include "storage/team.h"

static bool over(int64_t limit, int64_t used, int64_t more)
{
    return limit != QUOTA_NONE && (used > limit || more > limit - used);
}

bool quota_admit_job(struct conn *c, const char *team, struct err *e)
{
    struct team t;
    if (!team_read(c, team, &t, e))
        return false;
    if (t.quota.queued == QUOTA_NONE && t.quota.bytes == QUOTA_NONE)
        return true;
    if (!team_read_used(c, team, NULL, &t.used, e))
        return false;
    if (over(t.quota.queued, t.used.queued, 1))
        return err_set(e, ERR_QUOTA, "max_queued", "%lld of the %lld jobs that may wait are waiting; cancel one, wait until one has started, or ask"
                       " an administrator for a larger quota", (long long)t.used.queued, (long long)t.quota.queued);
    if (over(t.quota.bytes, t.used.bytes, 1))       /* its results would come on top */
        return err_set(e, ERR_QUOTA, "max_bytes", "the team has stored %lld of its %lld bytes and a job stores more; delete models or data sets, or ask"
                       " an administrator for a larger quota", (long long)t.used.bytes, (long long)t.quota.bytes);
    return true;
}

static bool full(int64_t used, int64_t limit, uint64_t more, struct err *e)
{
    return err_set(e, ERR_QUOTA, "max_bytes", "%llu bytes more than the %lld that are stored or on their way are over the team's %lld; delete models or data"
                   " sets, or ask an administrator for a larger quota", (unsigned long long)more, (long long)used, (long long)limit);
}

bool quota_grant(struct conn *c, const char *team, const struct held *held, uint64_t need, uint64_t *bytes, struct err *e)
{
    struct team t;
    if (!team_read(c, team, &t, e))
        return false;
    if (t.quota.bytes == QUOTA_NONE)
        return true;
    if (!team_read_used(c, team, held, &t.used, e))
        return false;
    if (over(t.quota.bytes, t.used.bytes, need > INT64_MAX ? INT64_MAX : (int64_t)need))
        return full(t.used.bytes, t.quota.bytes, need, e);
    uint64_t room = (uint64_t)(t.quota.bytes - t.used.bytes);
    if (*bytes > room)
        *bytes = room;
    return true;
}

bool quota_admit_bytes(struct conn *c, const char *team, uint64_t more, struct err *e)
{
    uint64_t bytes = more;
    return quota_grant(c, team, NULL, more, &bytes, e);
}
