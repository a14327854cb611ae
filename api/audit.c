/* audit.c - what goes into the audit log, and GET /v1/audit, which exports it. */
#include "api/audit.h"

#include "api/access.h"
#include "api/app.h"
#include "api/handlers.h"
#include "api/rows.h"
#include "core/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static void fill(const struct request *req, const struct reply *reply, struct audit *row)
{
    *row = (struct audit){ .at = clock_now_us(), .status = reply->status };
    snprintf(row->request, sizeof row->request, "%s", req->id);
    snprintf(row->team, sizeof row->team, "%s", req->who.team);
    snprintf(row->token, sizeof row->token, "%s", req->who.id);
    snprintf(row->session, sizeof row->session, "%s", req->session.id);
    snprintf(row->peer, sizeof row->peer, "%s", req->peer);
    snprintf(row->method, sizeof row->method, "%s", req->method);
    snprintf(row->action, sizeof row->action, "%s", req->route ? req->route->pattern : "");
    snprintf(row->target, sizeof row->target, "%s", req->target.path);
    snprintf(row->code, sizeof row->code, "%s", reply->error.code ? err_slug(reply->error.code) : "");
}

static bool changes(const struct request *req) { return !route_lists("GET HEAD OPTIONS", req->method); }

/* Everything that may change something (which is noted with the change), and whatever only administrators may see. */
static bool concerns(const struct request *req)
{
    return changes(req) || route_lists("admin team:admin audit:read", req->route->scope ? req->route->scope : "");
}

static void fill_note(void *arg, struct audit *row)
{
    const struct audit_note *n = arg;
    fill(n->req, n->reply, row);
    if (!row->status)
        row->status = 200;
}

void audit_begin(struct audit_note *n, const struct request *req, const struct reply *reply)
{
    *n = (struct audit_note){ .scope = { .fill = fill_note, .arg = n }, .req = req, .reply = reply };
    if (changes(req))
        audit_enter(&n->scope);
}

/* What was written with the change holds, unless the answer became another one. */
static bool told(const struct audit_note *n, const struct audit *row)
{
    return n->scope.written && n->scope.status == row->status && strcmp(n->scope.code, row->code) == 0;
}

void audit_end(struct app *app, struct audit_note *n, struct reply *reply)
{
    struct audit row;
    struct err e = { 0 };
    audit_enter(NULL);
    if (!concerns(n->req))
        return;
    fill(n->req, reply, &row);
    if (told(n, &row)) {
        audit_flush(app->store, NULL);      /* refusals that wait for company */
        return;
    }
    if (!audit_add(app->store, &row, &e) && !reply->error.code)
        reply->error = e;               /* what was done stays done; the log tells that its row is missing */
}

void audit_refused(struct app *app, const struct request *req, const struct reply *reply)
{
    struct audit row;
    struct rate_state rate;
    enum err_code code = reply->error.code;
    if (code != ERR_AUTH_REQUIRED && code != ERR_AUTH_FORBIDDEN && code != ERR_AUTH_HOST)
        return;
    bool stranger = !req->who.id[0];
    if (stranger && app->stranger_rows && !rate_take(app->stranger_rows, "", clock_mono_us(), &rate)) {
        audit_drop(app->store);         /* nobody fills the disk by knocking */
        return;
    }
    fill(req, reply, &row);
    audit_later(app->store, &row);
}

/* ---- reading ---- */

static json_t *audit_json(const struct audit *r)
{
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:s}", "seq", (json_int_t)r->seq, "at", row_time(r->at),
                     "request", row_text(r->request), "team", row_text(r->team), "token", row_text(r->token), "session", row_text(r->session),
                     "peer", row_text(r->peer), "method", row_text(r->method), "action", row_text(r->action), "target", row_text(r->target),
                     "status", r->status, "code", row_text(r->code), "prev", row_text(r->prev), "hash", r->hash);
}

static bool add_line(struct buf *out, const struct audit *r)
{
    json_t *row = audit_json(r);
    char *line = row ? json_text(row, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(row);
    if (line)
        buf_printf(out, "%s\n", line);
    free(line);
    return line && !out->bad;
}

static bool reply_lines(const struct audit_list *list, struct reply *reply, struct err *e)
{
    struct buf out = BUF_INIT(8 << 20);
    bool ok = true;
    for (size_t i = 0; ok && i < list->n; i++)
        ok = add_line(&out, &list->items[i]);
    if (!ok) {
        buf_release(&out);
        return err_set(e, ERR_MEMORY, "audit", "no memory for the rows; ask for fewer with \"limit\"");
    }
    reply->text = out.p;
    reply->size = out.n;
    reply->type = "application/x-ndjson";
    return true;
}

static void add_next(const struct audit_wish *w, const char *asked, const struct audit_list *list, struct reply *reply)
{
    if (list->more)
        reply_field(reply, "Link", "</v1/audit?after=%lld&limit=%d%s%s%s%s%s>; rel=\"next\"", (long long)list->items[list->n - 1].seq, w->limit,
                    w->newest_first ? "&order=desc" : "", asked ? "&team=" : "", asked ? asked : "", w->token ? "&actor=" : "", w->token ? w->token : "");
}

/* The whole log is an administrator's; others get the rows of their team. */
bool get_audit(struct app *app, struct request *req, struct reply *reply, struct err *e)
{
    int64_t limit = 1000;
    char team[TEAM_SIZE];
    struct audit_list list = { 0 };
    const char *asked = request_query(req, "team"), *order = request_query(req, "order");
    struct audit_wish w = { .token = request_query(req, "actor") };
    if (w.token && !id_valid(w.token, "tok"))
        return err_set(e, ERR_REQUEST_INVALID, "actor", "\"actor\" is the id of a token");
    if (!row_order(order, e) || !request_query_int(req, "after", 0, INT64_MAX, &w.after, e) || !request_query_int(req, "limit", 1, 5000, &limit, e)
        || !access_team(app, req, asked, "team", ERR_NOT_FOUND, team, e))
        return false;
    w.newest_first = order && strcmp(order, "desc") == 0;
    w.limit = (int)limit;
    w.team = access_is_admin(req) && !asked ? NULL : team;
    if (!audit_flush(app->store, e) || !audit_list(app->store, &w, &list, e))
        return false;
    add_next(&w, asked, &list, reply);
    bool ok = reply_lines(&list, reply, e);
    audit_list_release(&list);
    return ok;
}
