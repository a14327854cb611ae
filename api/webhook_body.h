/* webhook_body.h - what a body says of a webhook: POST and PATCH /v1/webhooks, and "webhook" of POST /v1/jobs. */
#ifndef API_WEBHOOK_BODY_H
#define API_WEBHOOK_BODY_H

#include "api/app.h"
#include "core/base/json.h"
#include "storage/webhook.h"

struct webhook_wish {
    const char *url, *name, *secret;                /* NULL: not given; borrowed from the body */
    bool has_events;
    char events[WEBHOOK_EVENTS_SIZE], origin[WEBHOOK_ORIGIN_SIZE];
};

/* Reads what is there; pointer: where the object stands in the body, "" for all of it. */
bool webhook_wish(struct app *app, const json_t *object, const char *pointer, struct webhook_wish *ret, struct err *e);
bool webhook_wish_url_given(const struct webhook_wish *w, const char *pointer, struct err *e);

struct webhook_request webhook_wish_request(const struct webhook_wish *w, const char *created_by);

json_t *webhook_json(const struct webhook *h);

#endif
