#include "storage/session.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t USED_STEP_US = 60 * 1000000;       /* as of a token: a use costs a write, so at most one a minute */

static bool not_valid(struct err *e)
{
    return err_set(e, ERR_AUTH_REQUIRED, "Cookie", "the session has ended; log in again with a token: POST /v1/session");
}

/* ---- making ---- */

static bool expire(struct conn *c, int64_t now, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_SESSION_EXPIRE);
    stmt_int(q, 1, now);
    stmt_int(q, 2, now - SESSION_IDLE_US);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

static bool has_room(struct conn *c, const char *token_id, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_SESSION_COUNT);
    stmt_text(q, 1, token_id);
    bool got = stmt_row(q, e);
    int64_t n = got ? stmt_get_int(q, 0) : 0;
    stmt_end(q);
    if (got && n >= SESSIONS_PER_TOKEN)
        return err_set(e, ERR_QUOTA, "Authorization", "this token has %d sessions; end one of them: DELETE /v1/sessions/{id}",
                       (int)SESSIONS_PER_TOKEN);
    return got;
}

static bool insert(struct conn *c, const struct session *s, const char *hash, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_SESSION_INSERT);
    stmt_text(q, 1, s->team);
    stmt_text(q, 2, s->id);
    stmt_text(q, 3, s->token_id);
    stmt_text(q, 4, hash);
    stmt_int(q, 5, s->created_at);
    stmt_int(q, 6, s->expires_at);
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}

bool session_create(struct store *s, const struct token *who, struct session *ret, char ret_text[TOKEN_TEXT_SIZE], struct err *e)
{
    char text[TOKEN_TEXT_SIZE], hash[HASH_HEX_SIZE];
    int64_t now = clock_now_us();
    struct session session = { .created_at = now, .expires_at = now + SESSION_LIFE_US, .last_used_at = now };
    if (who->expires_at && who->expires_at < session.expires_at)
        session.expires_at = who->expires_at;
    if (!secret_make("rs_", text, e))
        return false;
    id_new("ses", session.id);
    snprintf(session.team, sizeof session.team, "%s", who->team);
    snprintf(session.token_id, sizeof session.token_id, "%s", who->id);
    secret_hash(text, hash);
    struct conn *c = db_write(s->db, e);
    bool ok = c && db_write_end(c, expire(c, now, e) && has_room(c, who->id, e) && insert(c, &session, hash, e), e);
    if (ok) {
        *ret = session;
        memcpy(ret_text, text, sizeof text);
    }
    explicit_bzero(text, sizeof text);
    return ok;
}

/* ---- verifying ---- */

static void session_of_row(struct stmt *q, struct session *s)
{
    *s = (struct session){ .created_at = stmt_get_int(q, 3), .expires_at = stmt_get_int(q, 4), .last_used_at = stmt_get_int(q, 5) };
    stmt_get_text(q, 0, s->id, sizeof s->id);
    stmt_get_text(q, 1, s->team, sizeof s->team);
    stmt_get_text(q, 2, s->token_id, sizeof s->token_id);
}

/* When the session ends if it is not used again, and with its token. */
static int64_t end_of(const struct session *s, const struct token *who)
{
    int64_t idle = s->last_used_at + SESSION_IDLE_US, end = idle < s->expires_at ? idle : s->expires_at;
    return who->expires_at && who->expires_at < end ? who->expires_at : end;
}

/* By its hash: what an index search tells by its time is about SHA-256 of a guess, see token.c. */
static bool find(struct store *s, enum sql which, const char *key, struct session *ret, struct err *why)
{
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, which);
    stmt_text(q, 1, key);
    bool got = stmt_row(q, why);
    if (got)
        session_of_row(q, ret);
    stmt_end(q);
    db_read_end(c);
    return got;
}

bool session_verify(struct store *s, const char *text, struct session *ret, struct token *ret_who, struct err *e)
{
    char hash[HASH_HEX_SIZE];
    struct session session = { 0 };
    struct token who = { 0 };
    struct err why = { 0 };
    int64_t now = clock_now_us();
    secret_hash(text, hash);
    bool known = secret_well_formed("rs_", text) && find(s, SQL_SESSION_BY_HASH, hash, &session, &why);
    known = known && token_get(s, session.team, session.token_id, &who, &why);
    if (why.code && why.code != ERR_NOT_FOUND)
        return err_clean(&why, e);
    if (!known || end_of(&session, &who) <= now)
        return not_valid(e);
    if (now - session.last_used_at > USED_STEP_US)
        used_note(s, SQL_SESSION_USED, session.id, now);
    *ret = session;
    *ret_who = who;
    return true;
}

bool right_valid(struct store *s, const char *team, const char *token_id, const char *session_id, int64_t *ret, struct err *e)
{
    struct token who = { 0 };
    struct session session = { 0 };
    struct err why = { 0 };
    bool known = token_get(s, team, token_id, &who, &why);
    known = known && (!session_id[0] || find(s, SQL_SESSION_GET, session_id, &session, &why));
    if (why.code && why.code != ERR_NOT_FOUND)
        return err_clean(&why, e);
    *ret = known && session_id[0] ? end_of(&session, &who) : who.expires_at;
    if (known && (!*ret || *ret > clock_now_us()))
        return true;
    return session_id[0] ? not_valid(e) : err_set(e, ERR_AUTH_REQUIRED, "Authorization", "the token is not valid any more");
}

/* ---- lists ---- */

bool session_list(struct store *s, const char *team, const char *token_id, struct page page, struct session_list *ret, struct err *e)
{
    struct session_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_SESSION_LIST_UP : SQL_SESSION_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, page_start(page));
    stmt_text(q, 3, token_id);
    stmt_int(q, 4, (int64_t)page.limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        session_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        session_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void session_list_release(struct session_list *l)
{
    free(l->items);
    *l = (struct session_list){ 0 };
}

bool session_delete(struct store *s, const char *team, const char *token_id, const char *id, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_SESSION_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    stmt_text(q, 3, token_id);
    bool ok = stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = err_set(e, ERR_NOT_FOUND, "id", "there is no session %.40s", id);
    stmt_end(q);
    if (!db_write_end(c, ok, e))
        return false;
    store_revoked(s, id);
    return true;
}

bool session_sweep(struct store *s, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    return c && db_write_end(c, expire(c, clock_now_us(), e), e);
}
