/* delivery.c - the outbox as a team sees it: what was sent to a hook, how often, and what the receiver said. */
#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdlib.h>
#include <string.h>

static const char *const states[DELIVERY_STATES] = {
    [DELIVERY_PENDING] = "pending", [DELIVERY_DELIVERED] = "delivered", [DELIVERY_FAILED] = "failed", [DELIVERY_BLOCKED] = "blocked",
};

const char *delivery_state_name(enum delivery_state state) { return states[state]; }

bool delivery_state_parse(const char *text, enum delivery_state *ret)
{
    for (int i = 0; i < DELIVERY_STATES; i++)
        if (strcmp(text, states[i]) == 0) {
            *ret = (enum delivery_state)i;
            return true;
        }
    return false;
}

static bool no_delivery(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no delivery %.40s", id);
}

bool webhook_is_enabled(const struct webhook *h, struct err *e)
{
    return !h->disabled_at || err_set(e, ERR_CONFLICT, "webhook", "the webhook is disabled (%.150s); enable it first", h->disabled_why);
}

void delivery_release(struct delivery *d)
{
    for (size_t i = 0; i < d->nlog; i++) {
        free(d->log[i].problem);
        free(d->log[i].response);
    }
    free(d->log);
    free(d->body);
    *d = (struct delivery){ 0 };
}

static void delivery_of_row(struct stmt *q, struct delivery *d)
{
    char state[16];
    *d = (struct delivery){ .created_at = stmt_get_int(q, 6), .due_at = stmt_get_int(q, 7), .ended_at = stmt_get_int(q, 8),
                            .attempts = stmt_get_int(q, 9) };
    stmt_get_text(q, 0, d->id, sizeof d->id);
    stmt_get_text(q, 1, d->webhook_id, sizeof d->webhook_id);
    stmt_get_text(q, 2, d->event_id, sizeof d->event_id);
    stmt_get_text(q, 3, d->subject, sizeof d->subject);
    stmt_get_text(q, 4, d->type, sizeof d->type);
    stmt_get_text(q, 5, state, sizeof state);
    delivery_state_parse(state, &d->state);             /* the table's CHECK allows no other text */
}

static bool read_log(struct conn *c, struct delivery *d, struct err *why)
{
    struct stmt *q = stmt_begin(c, SQL_ATTEMPT_LIST);
    stmt_text(q, 1, d->id);
    while (stmt_row(q, why) && list_grow(&d->log, d->nlog, sizeof *d->log, why)) {
        struct delivery_attempt *a = &d->log[d->nlog++];
        *a = (struct delivery_attempt){ .n = stmt_get_int(q, 0), .at = stmt_get_int(q, 1), .us = stmt_get_int(q, 2),
                                        .status = (int)stmt_get_int(q, 3) };
        if (!stmt_dup_text(q, 4, &a->problem, why) || !stmt_dup_text(q, 5, &a->response, why))
            break;
    }
    stmt_end(q);
    return why->code == ERR_NONE;
}

bool delivery_read(struct conn *c, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e)
{
    struct err why = { 0 };
    struct delivery d = { 0 };
    struct stmt *q = stmt_begin(c, SQL_DELIVERY_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, webhook_id);
    stmt_text(q, 3, id);
    bool got = stmt_row(q, &why);
    if (got) {
        delivery_of_row(q, &d);
        if (stmt_dup_text(q, 10, &d.body, &why))
            read_log(c, &d, &why);              /* before this row is let go: so both are of one moment */
    }
    stmt_end(q);
    if (!got)
        return err_clean(&why, e) && no_delivery(id, e);
    if (!why.code) {
        *ret = d;
        return true;
    }
    delivery_release(&d);
    return err_clean(&why, e);
}

bool delivery_get(struct store *s, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e)
{
    struct conn *c = db_read(s->db);
    bool ok = delivery_read(c, team, webhook_id, id, ret, e);
    db_read_end(c);
    return ok;
}

bool delivery_list(struct store *s, const char *team, const char *webhook_id, const enum delivery_state *state, struct page page,
                   struct delivery_list *ret, struct err *e)
{
    struct delivery_list l = { 0 };
    struct webhook h;
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    bool there = webhook_read(c, team, webhook_id, &h, &why);       /* an empty list and no hook are different answers */
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_DELIVERY_LIST_UP : SQL_DELIVERY_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, webhook_id);
    stmt_text(q, 3, page_start(page));
    stmt_text(q, 4, state ? states[*state] : NULL);
    stmt_int(q, 5, (int64_t)page.limit + 1);
    while (there && !l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        delivery_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        delivery_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void delivery_list_release(struct delivery_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        delivery_release(&l->items[i]);
    free(l->items);
    *l = (struct delivery_list){ 0 };
}

static bool again(struct conn *c, const char *team, const char *webhook_id, const char *id, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_OUTBOX_AGAIN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, webhook_id);
    stmt_text(q, 3, id);
    stmt_int(q, 4, clock_now_us());
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_delivery(id, e);
    stmt_end(q);
    db_post(c);
    return ok && stmt_exec(c, SQL_WEBHOOK_DUE, webhook_id, NULL, e);
}

bool delivery_again(struct store *s, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e)
{
    struct webhook h;
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    /* One that is not there is said before a hook that is disabled; what was changed then is undone. */
    bool ok = webhook_read(c, team, webhook_id, &h, e) && again(c, team, webhook_id, id, e) && webhook_is_enabled(&h, e)
           && delivery_read(c, team, webhook_id, id, ret, e);
    bool ended = db_write_end(c, ok, e);
    if (ok && !ended)
        delivery_release(ret);
    return ended;
}
