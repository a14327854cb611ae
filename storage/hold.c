#include "storage/hold.h"

#include "core/base/metric.h"
#include "storage/inner.h"

#include <stdio.h>
#include <string.h>

enum { ROWS_BYTES_MAX = 1 << 20 };

const char *held_rows(const struct held *h) { return h && h->rows.p ? h->rows.p : ""; }

void held_release(struct held *h) { buf_release(&h->rows); }

/* What the team holds but for `mine`.  With s->room_mu. */
static bool others(struct store *s, const struct hold *mine, const char *team, struct held *ret, struct err *e)
{
    *ret = (struct held){ .rows = BUF_INIT(ROWS_BYTES_MAX) };
    for (const struct hold *h = s->holds; h; h = h->next) {
        if (h == mine || strcmp(h->team, team) != 0)
            continue;
        ret->bytes += h->bytes;
        ret->uploads += h->id[0] && !h->digest[0];          /* with its blob it is no unfinished one any more */
        if (h->id[0] || h->digest[0])
            buf_printf(&ret->rows, "%s,%s,", h->id, h->digest);
    }
    if (!ret->rows.bad)
        return true;
    held_release(ret);
    return err_set(e, ERR_MEMORY, "uploads", "no memory to count what is under way");
}

bool held_read(struct store *s, const char *team, struct held *ret, struct err *e)
{
    pthread_mutex_lock(&s->room_mu);
    bool ok = others(s, NULL, team, ret, e);
    pthread_mutex_unlock(&s->room_mu);
    return ok;
}

/* With s->room_mu. */
static void join(struct hold *h, struct store *s, const char *team)
{
    if (h->store)
        return;
    *h = (struct hold){ .store = s, .next = s->holds };
    snprintf(h->team, sizeof h->team, "%s", team);
    s->holds = h;
}

bool hold_upload(struct hold *h, struct store *s, const char *team, const char *id, struct err *e)
{
    struct held held;
    pthread_mutex_lock(&s->room_mu);
    bool ok = others(s, h, team, &held, e) && upload_few_enough(s, team, &held, e);
    if (ok) {
        join(h, s, team);
        snprintf(h->id, sizeof h->id, "%s", id);
    }
    pthread_mutex_unlock(&s->room_mu);
    held_release(&held);
    return ok;
}

static bool grant(struct store *s, const char *team, const struct held *held, uint64_t need, uint64_t *bytes, struct err *e)
{
    struct conn *c = db_read_briefly(s->db);
    bool ok = quota_grant(c, team, held, need, bytes, e);
    db_read_end(c);
    return ok;
}

bool hold_bytes(struct hold *h, struct store *s, const char *team, uint64_t need, uint64_t *bytes, struct err *e)
{
    struct held held;
    pthread_mutex_lock(&s->room_mu);
    bool ok = others(s, h, team, &held, e) && grant(s, team, &held, need, bytes, e);
    if (ok) {
        join(h, s, team);
        metric_add(METRIC_UPLOAD_HELD, (int64_t)*bytes - (int64_t)h->bytes);
        h->bytes = *bytes;
    }
    pthread_mutex_unlock(&s->room_mu);
    held_release(&held);
    return ok;
}

void hold_blob(struct hold *h, const char *digest)
{
    struct store *s = h->store;
    if (!s)
        return;
    pthread_mutex_lock(&s->room_mu);
    snprintf(h->digest, sizeof h->digest, "%s", digest);
    pthread_mutex_unlock(&s->room_mu);
}

void hold_end(struct hold *h)
{
    struct store *s = h->store;
    if (!s)
        return;
    pthread_mutex_lock(&s->room_mu);
    struct hold **at = &s->holds;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    metric_add(METRIC_UPLOAD_HELD, -(int64_t)h->bytes);
    pthread_mutex_unlock(&s->room_mu);
    *h = (struct hold){ 0 };
}
