/*
 * webhooks.c - /v1/webhooks: who is told of a team's jobs, and what became of telling them.
 *
 * Who may submit may look; who administers the team may change.  A secret is in the answer that made it and nowhere else.
 */
#include "api/handlers.h"
#include "api/rows.h"
#include "api/webhook_body.h"

#include <stdio.h>
#include <string.h>

/* ---- bodies ---- */

static bool is_event(const char *text)
{
    for (const char *const *known = webhook_events; *known; known++)
        if (text && strcmp(text, *known) == 0)
            return true;
    return false;
}

static bool take_events(const json_t *object, const char *pointer, struct webhook_wish *w, struct err *e)
{
    const json_t *list = json_object_get(object, "events"), *value;
    size_t i, n = 0;
    char where[64];
    if (!list)
        return true;
    snprintf(where, sizeof where, "%s/events", pointer);
    if (!json_is_array(list) || !json_array_size(list))
        return err_set(e, ERR_REQUEST_JSON, where, "\"events\" is a list of types, such as [\"job.succeeded\", \"job.failed\"]; leave it out for the usual ones");
    json_array_foreach(list, i, value) {
        const char *type = json_string_value(value);
        snprintf(where, sizeof where, "%s/events/%zu", pointer, i);
        if (!is_event(type))
            return err_set(e, ERR_REQUEST_JSON, where, "there is no event of this type; GET /v1/openapi.json lists them under WebhookEvents");
        if (route_lists(w->events, type))
            return err_set(e, ERR_REQUEST_JSON, where, "%s is named twice", type);
        n += (size_t)snprintf(w->events + n, sizeof w->events - n, "%s%s", n ? " " : "", type);
    }
    w->has_events = true;
    return true;
}

static bool take_url(struct app *app, const json_t *object, const char *pointer, struct webhook_wish *w, struct err *e)
{
    char where[64];
    struct err why = { 0 };
    if (!json_get_str(object, "url", pointer, true, WEBHOOK_URL_SIZE - 1, &w->url, ERR_REQUEST_JSON, e))
        return false;
    if (!w->url || app->target(app->server, w->url, w->origin, &why))
        return true;
    snprintf(where, sizeof where, "%s/url", pointer);
    return err_set(e, why.code, where, "%s", why.text);
}

static bool take_secret(const json_t *object, const char *pointer, struct webhook_wish *w, struct err *e)
{
    uint8_t key[WEBHOOK_KEY_MAX];
    size_t n;
    char where[64];
    if (!json_get_str(object, "secret", pointer, true, WEBHOOK_SECRET_SIZE - 1, &w->secret, ERR_REQUEST_JSON, e))
        return false;
    bool ok = !w->secret || webhook_key(w->secret, key, &n);
    explicit_bzero(key, sizeof key);
    snprintf(where, sizeof where, "%s/secret", pointer);
    return ok || err_set(e, ERR_REQUEST_JSON, where, "\"secret\" is whsec_ and the base64 of %d to %d random bytes; leave it out to have one made",
                         (int)WEBHOOK_KEY_MIN, (int)WEBHOOK_KEY_MAX);
}

bool webhook_wish(struct app *app, const json_t *object, const char *pointer, struct webhook_wish *ret, struct err *e)
{
    char where[64];
    *ret = (struct webhook_wish){ 0 };
    snprintf(where, sizeof where, "%s/name", pointer);
    return json_get_str(object, "name", pointer, true, WEBHOOK_NAME_SIZE - 1, &ret->name, ERR_REQUEST_JSON, e)
        && (!ret->name || request_name(ret->name, where, e)) && take_url(app, object, pointer, ret, e)
        && take_events(object, pointer, ret, e) && take_secret(object, pointer, ret, e);
}

bool webhook_wish_url_given(const struct webhook_wish *w, const char *pointer, struct err *e)
{
    char where[64];
    snprintf(where, sizeof where, "%s/url", pointer);
    return w->url || err_set(e, ERR_REQUEST_JSON, where, "give the https URL that is to be called");
}

struct webhook_request webhook_wish_request(const struct webhook_wish *w, const char *created_by)
{
    return (struct webhook_request){ .name = w->name, .url = w->url, .origin = w->origin, .events = w->has_events ? w->events : NULL,
                                     .secret = w->secret, .created_by = created_by };
}

/* ---- rows ---- */

static json_t *words_json(const char *words)
{
    json_t *list = json_array();
    for (const char *s = words; *s; s += strspn(s, " ")) {
        size_t n = strcspn(s, " ");
        json_array_append_new(list, json_stringn(s, n));
        s += n;
    }
    return list;
}

json_t *webhook_json(const struct webhook *h)
{
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I}", "id", h->id, "job_id", row_text(h->job_id),
                     "name", row_text(h->name), "url", h->url, "events", words_json(h->events), "enabled", !h->disabled_at,
                     "disabled_at", row_time(h->disabled_at), "disabled_reason", row_text(h->disabled_why), "created_at", row_time(h->created_at),
                     "created_by", row_text(h->created_by), "last_attempt_at", row_time(h->tried_at), "last_delivered_at", row_time(h->delivered_at),
                     "old_secret_until", row_time(h->rotated_until), "pending", (json_int_t)h->pending);
}

static json_t *attempt_json(const struct delivery_attempt *a)
{
    return json_pack("{s:I, s:o, s:f, s:o, s:o, s:o}", "attempt", (json_int_t)a->n, "at", row_time(a->at), "seconds", (double)a->us / 1e6,
                     "status", a->status ? json_integer(a->status) : json_null(), "problem", row_stored(a->problem),
                     "response", a->response ? json_string(a->response) : json_null());
}

static json_t *delivery_json(const struct delivery *d)
{
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "id", d->id, "webhook_id", d->webhook_id, "event_id", d->event_id,
                            "type", d->type, "subject", d->subject, "state", delivery_state_name(d->state), "attempts", (json_int_t)d->attempts,
                            "created_at", row_time(d->created_at), "next_attempt_at", row_time(d->state == DELIVERY_PENDING ? d->due_at : 0),
                            "ended_at", row_time(d->ended_at));
    if (!row || !d->body)
        return row;
    json_t *log = json_array();
    for (size_t i = 0; i < d->nlog; i++)
        json_array_append_new(log, attempt_json(&d->log[i]));
    json_object_set_new(row, "log", log);
    json_object_set_new(row, "event", row_stored(d->body));
    return row;
}

/* Takes d. */
static bool reply_delivery(struct reply *reply, int status, struct delivery *d, struct err *e)
{
    json_t *row = delivery_json(d);
    if (status == 202)
        reply_field(reply, "Location", "/v1/webhooks/%s/deliveries/%s", d->webhook_id, d->id);
    delivery_release(d);
    return reply_json(reply, status, row, e);
}

static bool reply_secret(struct reply *reply, int status, const struct webhook *h, char secret[WEBHOOK_SECRET_SIZE], struct err *e)
{
    json_t *row = webhook_json(h);
    json_object_set_new(row, "secret", json_string(secret));
    explicit_bzero(secret, WEBHOOK_SECRET_SIZE);
    return reply_json(reply, status, row, e);
}

/* ---- hooks ---- */

bool post_webhook(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "url", "events", "name", NULL };
    char secret[WEBHOOK_SECRET_SIZE];
    struct webhook_wish w;
    struct webhook h;
    json_t *body = request_json(req, members, false, e);
    bool ok = body && webhook_wish(app, body, "", &w, e) && webhook_wish_url_given(&w, "", e);
    if (ok) {
        struct webhook_request r = webhook_wish_request(&w, req->who.id);
        reply->status = 201;
        ok = webhook_create(app->store, req->who.team, &r, &h, secret, e);
    }
    json_decref(body);
    if (!ok)
        return false;
    reply_field(reply, "Location", "/v1/webhooks/%s", h.id);
    return reply_secret(reply, 201, &h, secret, e);
}

bool list_webhooks(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct page page;
    struct webhook_list list = { 0 };
    const char *job = request_query(req, "job_id");
    if (job && !id_valid(job, "job"))
        return err_set(e, ERR_REQUEST_INVALID, "job_id", "\"job_id\" is the id of a job");
    if (!row_page(req, "whk", &page, e) || !webhook_list(app->store, req->who.team, job, page, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, webhook_json(&list.items[i]));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    webhook_list_release(&list);
    return reply_json(reply, 200, answer, e);
}

bool get_webhook(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct webhook h;
    return webhook_get(app->store, req->who.team, req->param[0], &h, e) && reply_json(reply, 200, webhook_json(&h), e);
}

bool patch_webhook(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    static const char *const members[] = { "url", "events", "name", "enabled", NULL };
    struct webhook_wish w;
    struct webhook h;
    bool enabled = false;
    json_t *body = request_json(req, members, false, e);
    bool ok = body && webhook_wish(app, body, "", &w, e) && json_get_bool(body, "enabled", "", true, &enabled, ERR_REQUEST_JSON, e);
    if (ok) {
        struct webhook_change change = { .name = w.name, .url = w.url, .origin = w.url ? w.origin : NULL, .events = w.has_events ? w.events : NULL,
                                         .enabled = json_object_get(body, "enabled") ? enabled : -1 };
        ok = webhook_change(app->store, req->who.team, req->param[0], &change, &h, e);
    }
    json_decref(body);
    return ok && reply_json(reply, 200, webhook_json(&h), e);
}

bool delete_webhook(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    reply->status = 204;
    return webhook_delete(app->store, req->who.team, req->param[0], e);
}

bool post_webhook_rotation(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    char secret[WEBHOOK_SECRET_SIZE];
    struct webhook h;
    return request_nothing(req, e) && webhook_rotate(app->store, req->who.team, req->param[0], &h, secret, e)
        && reply_secret(reply, 200, &h, secret, e);
}

bool post_webhook_ping(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct delivery d = { 0 };
    reply->status = 202;
    return request_nothing(req, e) && webhook_ping(app->store, req->who.team, req->param[0], &d, e) && reply_delivery(reply, 202, &d, e);
}

/* ---- deliveries ---- */

bool list_deliveries(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct page page;
    enum delivery_state state;
    struct delivery_list list = { 0 };
    const char *wanted = request_query(req, "state");
    if (wanted && !delivery_state_parse(wanted, &state))
        return err_set(e, ERR_REQUEST_INVALID, "state", "\"state\" is pending, delivered, failed or blocked");
    if (!row_page(req, "dlv", &page, e) || !delivery_list(app->store, req->who.team, req->param[0], wanted ? &state : NULL, page, &list, e))
        return false;
    json_t *data = json_array();
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(data, delivery_json(&list.items[i]));
    json_t *answer = row_list(data, list.more, list.n ? list.items[list.n - 1].id : "");
    delivery_list_release(&list);
    return reply_json(reply, 200, answer, e);
}

bool get_delivery(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct delivery d = { 0 };
    return delivery_get(app->store, req->who.team, req->param[0], req->param[1], &d, e) && reply_delivery(reply, 200, &d, e);
}

bool post_redelivery(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    struct delivery d = { 0 };
    reply->status = 202;
    return request_nothing(req, e) && delivery_again(app->store, req->who.team, req->param[0], req->param[1], &d, e)
        && reply_delivery(reply, 202, &d, e);
}
