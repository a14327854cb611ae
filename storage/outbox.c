/*
 * outbox.c - what hooks are told: a row a hook and event, made in the transaction of the event, and what became of sending it.
 *
 * The body is made with the row and never changes: every attempt sends the same bytes.  It is a CloudEvent in JSON, thin: what is large is a link.
 */
#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MAX = 20000 };          /* receivers of Standard Webhooks expect less */

/* ---- bodies ---- */

static json_t *link_to(const struct conn *c, const char *subject, const char *rest)
{
    char text[WEBHOOK_URL_SIZE];
    snprintf(text, sizeof text, "%s/v1/jobs/%s%s", db_public_url(c), subject, rest);
    return json_string(text);
}

static json_t *stored(struct stmt *q, int column, struct err *why)
{
    char *text = NULL;
    json_t *value = stmt_dup_text(q, column, &text, why) && text ? json_read(text, 0) : json_null();
    free(text);
    return value;
}

static json_t *text_or_null(struct stmt *q, int column)
{
    char text[ID_SIZE];
    stmt_get_text(q, column, text, sizeof text);
    return text[0] ? json_string(text) : json_null();
}

/* {job, event, result, urls} of a job as this transaction sees it; *ret_seq: of the event it is about. */
static json_t *job_data(struct conn *c, const char *job_id, json_t *event, int64_t *ret_seq, struct err *why)
{
    json_t *data = NULL;
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_JOB);
    stmt_text(q, 1, job_id);
    if (stmt_row(q, why)) {
        json_t *job = json_pack("{s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "id", job_id, "state", text_or_null(q, 0), "attempt", (json_int_t)stmt_get_int(q, 1),
                                "model_id", text_or_null(q, 2), "dataset_id", text_or_null(q, 3), "eval_dataset_id", text_or_null(q, 4),
                                "retry_of", text_or_null(q, 5), "labels", stored(q, 6, why));
        data = json_pack("{s:o, s:O, s:o, s:{s:o, s:o, s:o}}", "job", job, "event", event, "result", stored(q, 7, why), "urls",
                         "job", link_to(c, job_id, ""), "report", link_to(c, job_id, "/report"), "artifacts", link_to(c, job_id, "/artifacts"));
        *ret_seq = stmt_get_int(q, 8);
    }
    stmt_end(q);
    return data;
}

struct event_row { char id[ID_SIZE]; const char *type, *subject; int64_t at, seq; /* 0: its place tells nothing */ };

/* Takes data. */
static char *body_text(const struct conn *c, const struct event_row *x, json_t *data)
{
    char source[WEBHOOK_URL_SIZE], type[48], time[CLOCK_RFC3339_SIZE], sequence[24];
    snprintf(source, sizeof source, "%s/v1", db_public_url(c));
    snprintf(type, sizeof type, "io.repquant.%s", x->type);
    snprintf(sequence, sizeof sequence, "%010lld", (long long)x->seq);
    json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s*, s:o}", "specversion", "1.0", "id", x->id, "source", source, "type", type,
                            "subject", x->subject, "time", clock_rfc3339(x->at, time), "datacontenttype", "application/json",
                            "sequence", x->seq ? sequence : NULL, "data", data);
    char *text = doc ? json_text(doc, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    static const char *const spare[] = { "event", "result" };       /* also at the links */
    for (size_t i = 0; text && strlen(text) > BODY_MAX && i < sizeof spare / sizeof *spare; i++) {
        json_object_set_new(json_object_get(doc, "data"), spare[i], json_null());
        free(text);
        text = json_text(doc, JSON_COMPACT | JSON_REAL_PRECISION(9));
    }
    json_decref(doc);
    return text;
}

/* ---- putting in ---- */

static bool put(struct conn *c, const char *team, const char *hook, const struct event_row *x, const char *body, char ret_id[ID_SIZE], struct err *e)
{
    id_new("dlv", ret_id);
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_INSERT);
    stmt_text(q, 1, team);
    stmt_text(q, 2, ret_id);
    stmt_text(q, 3, hook);
    stmt_text(q, 4, x->id);
    stmt_text(q, 5, x->type);
    stmt_text(q, 6, x->subject);
    stmt_text(q, 7, body);
    stmt_int(q, 8, x->at);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    db_post(c);
    return ok && stmt_exec(c, SQL_WEBHOOK_DUE, hook, NULL, e);
}

struct hooks { char (*items)[ID_SIZE]; size_t n; };

static bool find_hooks(struct conn *c, const char *team, const char *job_id, const char *type, const char *but, struct hooks *ret, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_WEBHOOK_WANTING);
    stmt_text(q, 1, team);
    stmt_text(q, 2, job_id);
    stmt_text(q, 3, type);
    stmt_text(q, 4, but);
    while (stmt_row(q, why) && list_grow(&ret->items, ret->n, sizeof *ret->items, why))
        stmt_get_text(q, 0, ret->items[ret->n++], ID_SIZE);
    stmt_end(q);
    return why->code == ERR_NONE;
}

static bool put_for(struct conn *c, const char *team, const struct hooks *hooks, const struct event_row *x, const char *body, struct err *why)
{
    char id[ID_SIZE];
    bool ok = body || err_set(why, ERR_MEMORY, x->subject, "no memory for a webhook; try again");
    for (size_t i = 0; ok && i < hooks->n; i++)
        ok = put(c, team, hooks->items[i], x, body, id, why);
    return ok;
}

/* A job's event to hooks. */
static void tell(struct conn *c, const char *team, const struct hooks *hooks, struct event_row *x, json_t *event, struct err *why)
{
    json_t *data = job_data(c, x->subject, event, &x->seq, why);
    id_new("evt", x->id);
    char *body = data ? body_text(c, x, data) : NULL;
    if (!why->code)
        put_for(c, team, hooks, x, body, why);
    free(body);
}

bool outbox_add(struct conn *c, const char *team, const char *job_id, const char *type, json_t *event, int64_t at, struct err *e)
{
    struct err why = { 0 };
    struct hooks hooks = { 0 };
    if (find_hooks(c, team, job_id, type, "", &hooks, &why) && hooks.n) {
        struct event_row x = { .type = type, .subject = job_id, .at = at };
        tell(c, team, &hooks, &x, event, &why);
    }
    free(hooks.items);
    return err_clean(&why, e);
}

bool outbox_repeat(struct conn *c, const char *team, const char *job_id, const char *hook, struct err *e)
{
    struct err why = { 0 };
    struct event_row x = { .subject = job_id, .at = clock_now_us() };
    char type[32] = "", one[1][ID_SIZE];
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_LAST_EVENT);
    stmt_text(q, 1, team);
    stmt_text(q, 2, job_id);
    bool got = stmt_row(q, &why);
    json_t *event = got ? stored(q, 1, &why) : NULL;
    if (got)
        stmt_get_text(q, 0, type, sizeof type);
    stmt_end(q);
    if (got && !why.code) {
        x.type = type;
        snprintf(one[0], sizeof one[0], "%s", hook);
        tell(c, team, &(struct hooks){ one, 1 }, &x, event, &why);
    }
    json_decref(event);
    return err_clean(&why, e);
}

/* About a hook, not a job. */
static char *hook_body(const struct conn *c, const struct event_row *x, const char *name, const char *reason)
{
    json_t *data = json_pack("{s:{s:s, s:s, s:s*}}", "webhook", "id", x->subject, "name", name, "reason", reason);
    return data ? body_text(c, x, data) : NULL;
}

static bool tell_others(struct conn *c, const struct letter *l, const char *reason, struct err *e)
{
    struct err why = { 0 };
    struct hooks others = { 0 };
    struct webhook h;
    struct event_row x = { .type = "webhook.disabled", .subject = l->webhook_id, .at = clock_now_us() };
    id_new("evt", x.id);
    if (find_hooks(c, l->team, "", x.type, l->webhook_id, &others, &why) && others.n && webhook_read(c, l->team, l->webhook_id, &h, &why)) {
        char *body = hook_body(c, &x, h.name, reason);
        put_for(c, l->team, &others, &x, body, &why);
        free(body);
    }
    free(others.items);
    return err_clean(&why, e);
}

/* ---- what became of it ---- */

static bool add_attempt(struct conn *c, const struct letter *l, const struct letter_result *r, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_ATTEMPT_INSERT);
    stmt_text(q, 1, l->id);
    stmt_int(q, 2, r->at);
    stmt_int(q, 3, r->us);
    stmt_int(q, 4, r->status);
    stmt_text(q, 5, r->problem);
    stmt_text(q, 6, r->response);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

static bool set_state(struct conn *c, const struct letter *l, const struct letter_result *r, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_TRIED);
    stmt_text(q, 1, l->id);
    stmt_text(q, 2, delivery_state_name(r->state));
    stmt_int(q, 3, r->due_at);
    stmt_int(q, 4, r->state == DELIVERY_PENDING ? 0 : r->at + r->us);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

static bool note_hook(struct conn *c, const struct letter *l, const struct letter_result *r, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_HOOK_TRIED);
    stmt_text(q, 1, l->webhook_id);
    stmt_int(q, 2, r->at);
    stmt_int(q, 3, r->state == DELIVERY_DELIVERED ? r->at + r->us : 0);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

/* Nothing has reached the hook since this delivery was made. */
static bool is_dead(struct conn *c, const struct letter *l, int64_t since, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_DEAD);
    stmt_text(q, 1, l->webhook_id);
    stmt_int(q, 2, since);
    bool dead = stmt_row(q, why);
    stmt_end(q);
    return dead;
}

static bool maybe_disable(struct conn *c, const struct letter *l, const struct letter_result *r, bool *ret, struct err *e)
{
    struct err why = { 0 };
    const char *reason = r->gone ? "the receiver answered with 410: it wants nothing more" : "a delivery used up its attempts, and nothing else was delivered meanwhile";
    if (r->state != DELIVERY_FAILED || !is_dead(c, l, r->gone ? INT64_MAX : l->created_at, &why))
        return err_clean(&why, e);
    *ret = true;
    return webhook_disable(c, l->webhook_id, reason, e) && tell_others(c, l, reason, e);
}

bool outbox_result(struct store *s, const struct letter *l, const struct letter_result *r, bool *ret_disabled, struct err *e)
{
    bool disabled = false;
    *ret_disabled = false;
    struct conn *c = db_write(s->db, e);
    if (!c || !db_write_end(c, add_attempt(c, l, r, e) && set_state(c, l, r, e) && note_hook(c, l, r, e)
                            && maybe_disable(c, l, r, &disabled, e) && stmt_exec(c, SQL_WEBHOOK_DUE, l->webhook_id, NULL, e), e))
        return false;
    *ret_disabled = disabled;
    return true;
}

/* ---- what is next ---- */

static bool letter_of_row(struct stmt *q, struct letter *l, struct err *why)
{
    *l = (struct letter){ .created_at = stmt_get_int(q, 9), .tries = (int)stmt_get_int(q, 10) };
    stmt_get_text(q, 0, l->id, sizeof l->id);
    stmt_get_text(q, 1, l->event_id, sizeof l->event_id);
    stmt_get_text(q, 2, l->webhook_id, sizeof l->webhook_id);
    stmt_get_text(q, 3, l->team, sizeof l->team);
    stmt_get_text(q, 4, l->type, sizeof l->type);
    stmt_get_text(q, 5, l->lane, sizeof l->lane);
    stmt_get_text(q, 6, l->url, sizeof l->url);
    stmt_get_text(q, 7, l->secret, sizeof l->secret);
    stmt_get_text(q, 8, l->old_secret, sizeof l->old_secret);
    return stmt_dup_text(q, 11, &l->body, why);
}

void letter_release(struct letter *l)
{
    free(l->body);
    explicit_bzero(l, sizeof *l);
}

bool outbox_next(struct store *s, const char *busy, const char *only, struct letter *ret, int64_t *ret_due, struct err *e)
{
    struct err why = { 0 };
    *ret_due = 0;
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_NEXT);
    stmt_text(q, 1, busy);
    stmt_int(q, 2, clock_now_us());
    stmt_text(q, 3, only);
    bool got = stmt_row(q, &why) && letter_of_row(q, ret, &why);
    stmt_end(q);
    if (!got && !why.code) {
        q = stmt_begin(c, SQL_OUTBOX_NEXT_DUE);
        stmt_text(q, 1, busy);
        stmt_text(q, 2, only);
        if (stmt_row(q, &why))
            *ret_due = stmt_get_int(q, 0);
        stmt_end(q);
    }
    db_read_end(c);
    err_clean(&why, e);
    return got;
}

bool outbox_count(struct store *s, struct outbox_counts *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_COUNT);
    bool got = stmt_row(q, e);
    if (got)
        *ret = (struct outbox_counts){ stmt_get_int(q, 0), stmt_get_int(q, 1), stmt_get_int(q, 2) };
    stmt_end(q);
    db_read_end(c);
    return got;
}

bool webhook_ping(struct store *s, const char *team, const char *webhook_id, struct delivery *ret, struct err *e)
{
    struct webhook h;
    char id[ID_SIZE];
    struct event_row x = { .type = "ping", .subject = webhook_id, .at = clock_now_us() };
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    id_new("evt", x.id);
    char *body = NULL;
    bool ok = webhook_read(c, team, webhook_id, &h, e) && webhook_is_enabled(&h, e)
           && ((body = hook_body(c, &x, h.name, NULL)) || err_set(e, ERR_MEMORY, "webhook", "no memory for a ping; try again"))
           && put(c, team, webhook_id, &x, body, id, e) && delivery_read(c, team, webhook_id, id, ret, e);
    free(body);
    bool ended = db_write_end(c, ok, e);
    if (ok && !ended)
        delivery_release(ret);
    return ended;
}
