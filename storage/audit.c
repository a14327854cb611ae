#include "storage/audit.h"

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/utf8.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- adding ---- */

static bool hash_row(struct audit *row, struct err *e)
{
    char at[CLOCK_RFC3339_SIZE];
    uint8_t digest[HASH_SIZE];
    struct buf text = BUF_INIT(4096);
    buf_printf(&text, "%s\n%lld\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n%d\n%s", row->prev, (long long)row->seq, clock_rfc3339(row->at, at),
               row->request, row->team, row->token, row->session, row->peer, row->method, row->action, row->target, row->status, row->code);
    bool ok = !text.bad || err_set(e, ERR_MEMORY, "audit", "no memory for a row");
    if (ok) {
        hash_bytes(text.p, text.n, digest);
        hash_hex(digest, row->hash);
    }
    buf_release(&text);
    return ok;
}

/* seq and prev, from the last row there is. */
static bool follow(struct conn *c, struct audit *row, struct err *e)
{
    struct err why = { 0 };
    struct stmt *q = stmt_begin(c, SQL_AUDIT_LAST);
    row->seq = 1;
    if (stmt_row(q, &why)) {
        row->seq = stmt_get_int(q, 0) + 1;
        stmt_get_text(q, 1, row->prev, sizeof row->prev);
    }
    stmt_end(q);
    return err_clean(&why, e);
}

static bool insert(struct conn *c, const struct audit *given, struct err *e)
{
    struct audit row = *given;
    char *const texts[] = { row.request, row.team, row.token, row.session, row.peer, row.method, row.action, row.target };
    row.prev[0] = '\0';
    row.at = row.at / 1000 * 1000;
    for (int i = 0; i < 8; i++)
        utf8_mend(texts[i]);                /* a row stays, and must always be one that can be shown */
    if (!follow(c, &row, e) || !hash_row(&row, e))
        return false;
    struct stmt *q = stmt_begin(c, SQL_AUDIT_INSERT);
    stmt_int(q, 1, row.seq);
    stmt_int(q, 2, row.at);
    for (int i = 0; i < 8; i++)
        stmt_text(q, 3 + i, texts[i]);
    stmt_int(q, 11, row.status);
    stmt_text(q, 12, row.code);
    stmt_text(q, 13, row.prev);
    stmt_text(q, 14, row.hash);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

/* ---- the row of a change ---- */

static _Thread_local struct audit_scope *scope;

struct audit_scope *audit_enter(struct audit_scope *a)
{
    struct audit_scope *was = scope;
    scope = a;
    return was;
}

void audit_expect(int status)
{
    if (scope)
        scope->expected = status;
}

void audit_expect_failure(enum err_code code)
{
    if (scope)
        scope->failure = code;
}

bool audit_join(struct conn *c, bool *ret_joined, struct err *e)
{
    struct audit row;
    *ret_joined = scope && !scope->written;
    if (!*ret_joined)
        return true;
    scope->fill(scope->arg, &row);
    if (scope->expected)
        row.status = scope->expected;
    if (scope->failure) {
        row.status = err_http_status(scope->failure);
        snprintf(row.code, sizeof row.code, "%s", err_slug(scope->failure));
    }
    scope->status = row.status;
    memcpy(scope->code, row.code, sizeof scope->code);
    return insert(c, &row, e);
}

void audit_joined(void) { scope->written = true; }

/* ---- refusals wait in memory ---- */

static bool waiting(struct store *s)
{
    pthread_mutex_lock(&s->audit.mu);
    bool some = s->audit.n || s->audit.dropped;
    pthread_mutex_unlock(&s->audit.mu);
    return some;
}

static int take_waiting(struct store *s, struct audit *rows)
{
    pthread_mutex_lock(&s->audit.mu);
    int n = s->audit.n;
    memcpy(rows, s->audit.rows, (size_t)n * sizeof *rows);
    if (s->audit.dropped) {
        rows[n] = (struct audit){ .at = clock_now_us(), .action = "audit.dropped" };
        snprintf(rows[n++].code, sizeof rows->code, "%lld refusals", (long long)s->audit.dropped);
    }
    s->audit.n = 0;
    s->audit.dropped = 0;
    pthread_mutex_unlock(&s->audit.mu);
    return n;
}

/* What waits, then `row` if it is not NULL, in one transaction. */
static bool add_all(struct store *s, const struct audit *row, struct err *e)
{
    if (!row && !waiting(s))
        return true;
    struct audit *rows = malloc((AUDIT_WAITING + 1) * sizeof *rows);
    if (!rows)
        return err_sys(e, "audit", "write");
    int n = take_waiting(s, rows);
    bool ok = true;
    if (n || row) {
        struct conn *c = db_write(s->db, e);
        for (int i = 0; c && ok && i < n; i++)
            ok = insert(c, &rows[i], e);
        ok = c && db_write_end(c, ok && (!row || insert(c, row, e)), e);
    }
    for (int i = 0; !ok && i < n; i++)
        audit_drop(s);
    free(rows);
    return ok;
}

bool audit_add(struct store *s, const struct audit *row, struct err *e) { return add_all(s, row, e); }

bool audit_flush(struct store *s, struct err *e) { return add_all(s, NULL, e); }

void audit_later(struct store *s, const struct audit *row)
{
    pthread_mutex_lock(&s->audit.mu);
    if (s->audit.n < AUDIT_WAITING)
        s->audit.rows[s->audit.n++] = *row;
    else
        s->audit.dropped++;
    pthread_mutex_unlock(&s->audit.mu);
}

void audit_drop(struct store *s)
{
    pthread_mutex_lock(&s->audit.mu);
    s->audit.dropped++;
    pthread_mutex_unlock(&s->audit.mu);
}

/* ---- forgetting ---- */

/* By whole days, so that a service whose log is swept every hour says so once a day. */
bool audit_forget(struct store *s, int64_t before, struct err *e)
{
    static const int64_t DAY_US = 86400LL * 1000000;
    struct audit row = { .at = clock_now_us(), .action = "audit.forgotten" };
    struct err why = { 0 };
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_AUDIT_OLD);
    stmt_int(q, 1, before / DAY_US * DAY_US);
    int64_t last = stmt_row(q, &why) ? stmt_get_int(q, 0) : 0;
    stmt_end(q);
    snprintf(row.target, sizeof row.target, "%lld", (long long)last);
    return db_write_end(c, err_clean(&why, e) && (!last || insert(c, &row, e)), e);
}

/* ---- reading ---- */

static void audit_of_row(struct stmt *q, struct audit *r)
{
    *r = (struct audit){ .seq = stmt_get_int(q, 0), .at = stmt_get_int(q, 1), .status = (int)stmt_get_int(q, 10) };
    stmt_get_text(q, 2, r->request, sizeof r->request);
    stmt_get_text(q, 3, r->team, sizeof r->team);
    stmt_get_text(q, 4, r->token, sizeof r->token);
    stmt_get_text(q, 5, r->session, sizeof r->session);
    stmt_get_text(q, 6, r->peer, sizeof r->peer);
    stmt_get_text(q, 7, r->method, sizeof r->method);
    stmt_get_text(q, 8, r->action, sizeof r->action);
    stmt_get_text(q, 9, r->target, sizeof r->target);
    stmt_get_text(q, 11, r->code, sizeof r->code);
    stmt_get_text(q, 12, r->prev, sizeof r->prev);
    stmt_get_text(q, 13, r->hash, sizeof r->hash);
}

bool audit_list(struct store *s, const struct audit_wish *w, struct audit_list *ret, struct err *e)
{
    static const enum sql ways[2][2] = { { SQL_AUDIT_LIST, SQL_AUDIT_LIST_TEAM }, { SQL_AUDIT_BACK, SQL_AUDIT_BACK_TEAM } };
    struct audit_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, ways[w->newest_first][w->team != NULL]);
    stmt_text(q, 1, w->team);
    stmt_int(q, 2, w->newest_first && !w->after ? INT64_MAX : w->after);
    stmt_text(q, 3, w->token);
    stmt_int(q, 4, (int64_t)w->limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)w->limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        audit_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        audit_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void audit_list_release(struct audit_list *l)
{
    free(l->items);
    *l = (struct audit_list){ 0 };
}
