/* webhook.c - hooks as their team sees them.  What they are told is in outbox.c. */
#include "storage/webhook.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char secret_prefix[] = "whsec_";
enum { SECRET_PREFIX = sizeof secret_prefix - 1, KEY_BYTES = 32 };

const char *const webhook_events[] = {
#define X(type, by_default) type,
    WEBHOOK_EVENTS_(X)
#undef X
    NULL,
};

/* As text with a space between, so that SQL can look for one. */
#define WORD_0(type)
#define WORD_1(type) type " "
#define X(type, by_default) WORD_##by_default(type)
const char webhook_events_default[] = WEBHOOK_EVENTS_(X);
#undef X

static bool no_webhook(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no webhook %.40s", id);
}

/* ---- secrets ---- */

bool webhook_key(const char *secret, uint8_t ret[WEBHOOK_KEY_MAX], size_t *ret_n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    if (strncmp(secret, secret_prefix, SECRET_PREFIX) != 0 || strlen(secret) >= WEBHOOK_SECRET_SIZE)
        return false;
    const char *text = secret + SECRET_PREFIX;
    size_t n = strlen(text);
    *ret_n = strspn(text, digits) == n ? base64_decode(text, n, ret, WEBHOOK_KEY_MAX) : 0;
    return *ret_n >= WEBHOOK_KEY_MIN;
}

static bool make_secret(char ret[WEBHOOK_SECRET_SIZE], struct err *e)
{
    uint8_t key[KEY_BYTES];
    if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
        return err_sys(e, "webhook", "draw random bytes");
    char *text = base64_encode(key, sizeof key);
    explicit_bzero(key, sizeof key);
    if (!text)
        return err_sys(e, "webhook", "keep a secret");
    snprintf(ret, WEBHOOK_SECRET_SIZE, "%s%s", secret_prefix, text);
    explicit_bzero(text, strlen(text));
    free(text);
    return true;
}

/* ---- making ---- */

/* What a team's hooks at one host and port have in common. */
static void lane_of(const char *team, const char *origin, char ret[WEBHOOK_LANE_SIZE])
{
    struct hash h;
    uint8_t digest[HASH_SIZE];
    char hex[HASH_HEX_SIZE];
    hash_init(&h);
    hash_add(&h, team, strlen(team) + 1);
    hash_add(&h, origin, strlen(origin));
    hash_end(&h, digest);
    hash_hex(digest, hex);
    snprintf(ret, WEBHOOK_LANE_SIZE, "%.16s", hex);
}

/* A hook as it is inserted; what it borrows must outlive it. */
struct made { char id[ID_SIZE]; const char *job_id, *name, *url, *lane, *events, *secret, *created_by; };

static bool insert(struct conn *c, const char *team, const struct made *m, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_INSERT);
    stmt_text(q, 1, team);
    stmt_text(q, 2, m->id);
    stmt_text(q, 3, m->job_id);
    stmt_text(q, 4, m->name);
    stmt_text(q, 5, m->url);
    stmt_text(q, 6, m->lane);
    stmt_text(q, 7, m->events);
    stmt_text(q, 8, m->secret);
    stmt_int(q, 9, clock_now_us());
    stmt_text(q, 10, m->created_by);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

/* Each event of a job is a row a hook, in the transaction of the event. */
static bool has_room(struct conn *c, const char *team, const char *job_id, int64_t limit, const char *remedy, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_COUNT);
    stmt_text(q, 1, team);
    stmt_text(q, 2, job_id);
    bool got = stmt_row(q, e);
    int64_t n = got ? stmt_get_int(q, 0) : 0;
    stmt_end(q);
    if (got && n >= limit)
        return err_set(e, ERR_QUOTA, "webhooks", "there are %lld webhooks, as many as there may be; %s", (long long)n, remedy);
    return got;
}

bool webhook_add(struct conn *c, const char *team, const char *job_id, const struct webhook_request *r, char ret_id[ID_SIZE],
                 char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e)
{
    char lane[WEBHOOK_LANE_SIZE];
    struct made m = { .job_id = job_id, .name = r->name ? r->name : "", .url = r->url, .lane = lane, .secret = ret_secret,
                      .events = r->events ? r->events : webhook_events_default, .created_by = r->created_by ? r->created_by : "" };
    if (r->secret)
        snprintf(ret_secret, WEBHOOK_SECRET_SIZE, "%s", r->secret);
    else if (!make_secret(ret_secret, e))
        return false;
    id_new("whk", m.id);
    lane_of(team, r->origin, lane);
    memcpy(ret_id, m.id, sizeof m.id);
    return (!job_id[0] || has_room(c, team, job_id, WEBHOOKS_PER_JOB, "delete one of the job's: GET /v1/webhooks?job_id=", e)) && insert(c, team, &m, e);
}

bool webhook_create(struct store *s, const char *team, const struct webhook_request *r, struct webhook *ret,
                    char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e)
{
    char id[ID_SIZE];
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, has_room(c, team, "", s->limits.webhooks_per_team, "delete one, or ask the operator for more (--webhooks)", e)
                             && webhook_add(c, team, "", r, id, ret_secret, e) && webhook_read(c, team, id, ret, e), e);
}

/* ---- those of a job ---- */

struct copies { struct copy { char name[WEBHOOK_NAME_SIZE], url[WEBHOOK_URL_SIZE], lane[WEBHOOK_LANE_SIZE], events[WEBHOOK_EVENTS_SIZE],
                              secret[WEBHOOK_SECRET_SIZE], created_by[ID_SIZE]; } *items; size_t n; };

static bool read_copies(struct conn *c, const char *team, const char *job_id, struct copies *ret, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_OF_JOB);
    stmt_text(q, 1, team);
    stmt_text(q, 2, job_id);
    while (stmt_row(q, why)) {
        if (!list_grow(&ret->items, ret->n, sizeof *ret->items, why))
            break;
        struct copy *x = &ret->items[ret->n++];
        stmt_get_text(q, 0, x->name, sizeof x->name);
        stmt_get_text(q, 1, x->url, sizeof x->url);
        stmt_get_text(q, 2, x->lane, sizeof x->lane);
        stmt_get_text(q, 3, x->events, sizeof x->events);
        stmt_get_text(q, 4, x->secret, sizeof x->secret);
        stmt_get_text(q, 5, x->created_by, sizeof x->created_by);
    }
    stmt_end(q);
    return why->code == ERR_NONE;
}

bool webhook_copy(struct conn *c, const char *team, const char *from_job, const char *to_job, struct err *e)
{
    struct copies copies = { 0 };
    struct err why = { 0 };
    bool ok = read_copies(c, team, from_job, &copies, &why);
    for (size_t i = 0; ok && i < copies.n; i++) {
        const struct copy *x = &copies.items[i];
        struct made m = { .job_id = to_job, .name = x->name, .url = x->url, .lane = x->lane, .events = x->events, .secret = x->secret,
                          .created_by = x->created_by };
        id_new("whk", m.id);
        ok = insert(c, team, &m, &why);
    }
    if (copies.items)
        explicit_bzero(copies.items, copies.n * sizeof *copies.items);
    free(copies.items);
    return err_clean(&why, e);
}

/* ---- looking ---- */

static void webhook_of_row(struct stmt *q, struct webhook *h)
{
    *h = (struct webhook){ .created_at = stmt_get_int(q, 8), .disabled_at = stmt_get_int(q, 9), .tried_at = stmt_get_int(q, 10),
                           .delivered_at = stmt_get_int(q, 11), .rotated_until = stmt_get_int(q, 12), .pending = stmt_get_int(q, 13) };
    stmt_get_text(q, 0, h->id, sizeof h->id);
    stmt_get_text(q, 1, h->team, sizeof h->team);
    stmt_get_text(q, 2, h->job_id, sizeof h->job_id);
    stmt_get_text(q, 3, h->name, sizeof h->name);
    stmt_get_text(q, 4, h->url, sizeof h->url);
    stmt_get_text(q, 5, h->events, sizeof h->events);
    stmt_get_text(q, 6, h->created_by, sizeof h->created_by);
    stmt_get_text(q, 7, h->disabled_why, sizeof h->disabled_why);
}

bool webhook_read(struct conn *c, const char *team, const char *id, struct webhook *ret, struct err *e)
{
    struct err why = { 0 };
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool got = stmt_row(q, &why);
    if (got)
        webhook_of_row(q, ret);
    stmt_end(q);
    return got || (err_clean(&why, e) && no_webhook(id, e));
}

bool webhook_get(struct store *s, const char *team, const char *id, struct webhook *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    bool ok = webhook_read(c, team, id, ret, e);
    db_read_end(c);
    return ok;
}

bool webhook_list(struct store *s, const char *team, const char *job_id, struct page page, struct webhook_list *ret, struct err *e)
{
    struct webhook_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_WEBHOOK_LIST_UP : SQL_WEBHOOK_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, job_id ? job_id : "");
    stmt_text(q, 3, page_start(page));
    stmt_int(q, 4, (int64_t)page.limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        webhook_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        webhook_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void webhook_list_release(struct webhook_list *l)
{
    free(l->items);
    *l = (struct webhook_list){ 0 };
}

/* ---- changing ---- */

static bool update(struct conn *c, const char *team, const char *id, const struct webhook_change *change, struct err *e)
{
    char lane[WEBHOOK_LANE_SIZE];
    if (change->origin)
        lane_of(team, change->origin, lane);
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_CHANGE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    stmt_text(q, 3, change->name);
    stmt_text(q, 4, change->url);
    stmt_text(q, 5, change->origin ? lane : NULL);
    stmt_text(q, 6, change->events);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_webhook(id, e);
    stmt_end(q);
    return ok;
}

bool webhook_disable(struct conn *c, const char *id, const char *why, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_DISABLE);
    stmt_text(q, 1, id);
    stmt_int(q, 2, clock_now_us());
    stmt_text(q, 3, why);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

static bool enable(struct conn *c, const char *id, int enabled, struct err *e)
{
    bool ok = enabled < 0 || (enabled ? stmt_exec(c, SQL_WEBHOOK_ENABLE, id, NULL, e) : webhook_disable(c, id, "its team has disabled it", e));
    db_post(c);
    return ok && stmt_exec(c, SQL_WEBHOOK_DUE, id, NULL, e);
}

bool webhook_change(struct store *s, const char *team, const char *id, const struct webhook_change *change, struct webhook *ret, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, update(c, team, id, change, e) && enable(c, id, change->enabled, e)
                             && webhook_read(c, team, id, ret, e), e);
}

static bool rotate(struct conn *c, const char *team, const char *id, const char *secret, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_ROTATE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    stmt_text(q, 3, secret);
    stmt_int(q, 4, clock_now_us() + WEBHOOK_OVERLAP_US);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_webhook(id, e);
    stmt_end(q);
    return ok;
}

bool webhook_rotate(struct store *s, const char *team, const char *id, struct webhook *ret, char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e)
{
    if (!make_secret(ret_secret, e))
        return false;
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, rotate(c, team, id, ret_secret, e) && webhook_read(c, team, id, ret, e), e);
}

bool webhook_delete(struct store *s, const char *team, const char *id, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_webhook(id, e);
    stmt_end(q);
    return db_write_end(c, ok, e);
}
