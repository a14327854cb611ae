#include "storage/token.h"

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "storage/inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { TOKEN_BYTES = 32, TOKEN_DIGITS = 43 };       /* 62^43 > 2^256 */
static const char identity_prefix[] = "identity:";
enum { TOKEN_HASH_SIZE = sizeof identity_prefix - 1 + TOKEN_IDENTITY_SIZE };   /* either of what stands in the column */
_Static_assert((int)TOKEN_HASH_SIZE >= (int)HASH_HEX_SIZE, "a SHA-256 fits, too");
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static const int64_t USED_STEP_US = 60 * 1000000;   /* last_used_at costs a write, so at most one a minute; see used.h */

_Static_assert(TOKEN_TEXT_SIZE > 3 + TOKEN_DIGITS, "room for rq_, the digits and the NUL");

/* ---- making ---- */

/* Long division by 62, most significant byte first. */
static char next_digit(uint8_t number[TOKEN_BYTES])
{
    unsigned rest = 0;
    for (int i = 0; i < TOKEN_BYTES; i++) {
        unsigned x = rest << 8 | number[i];
        number[i] = (uint8_t)(x / 62);
        rest = x % 62;
    }
    return digits[rest];
}

bool secret_make(const char *prefix, char ret[TOKEN_TEXT_SIZE], struct err *e)
{
    uint8_t random[TOKEN_BYTES];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_sys(e, "token", "draw random bytes");
    memcpy(ret, prefix, 3);
    for (int i = 2 + TOKEN_DIGITS; i >= 3; i--)
        ret[i] = next_digit(random);
    ret[3 + TOKEN_DIGITS] = '\0';
    explicit_bzero(random, sizeof random);
    return true;
}

void secret_hash(const char *text, char ret[HASH_HEX_SIZE])
{
    uint8_t digest[HASH_SIZE];
    hash_bytes(text, strlen(text), digest);
    hash_hex(digest, ret);
}

static bool insert_token(struct conn *c, const struct token *t, const char *hash, struct err *e)
{
    struct stmt *s = stmt_begin(c, SQL_TOKEN_INSERT);
    stmt_text(s, 1, t->team);
    stmt_text(s, 2, t->id);
    stmt_text(s, 3, t->name);
    stmt_text(s, 4, t->scopes);
    stmt_text(s, 5, hash);
    stmt_int(s, 6, t->created_at);
    stmt_int(s, 7, t->expires_at);
    stmt_text(s, 8, t->created_by);
    bool ok = stmt_run(s, e);
    stmt_end(s);
    return ok;
}

static void hash_of_identity(const char *identity, char ret[TOKEN_HASH_SIZE])
{
    snprintf(ret, TOKEN_HASH_SIZE, "%s%s", identity_prefix, identity);
}

static bool is_free(struct conn *c, const char *hash, struct err *e)
{
    struct err why = { 0 };
    struct stmt *q = stmt_begin(c, SQL_TOKEN_BY_HASH);
    stmt_text(q, 1, hash);
    bool taken = stmt_row(q, &why);
    stmt_end(q);
    if (why.code)
        return err_clean(&why, e);
    return !taken || err_set(e, ERR_CONFLICT, "/identity", "this identity has a token already; delete that one first");
}

bool token_text(char ret[TOKEN_TEXT_SIZE], struct err *e) { return secret_make("rq_", ret, e); }

bool token_issue(struct store *s, const char *team, const struct token_request *request, struct token *ret,
                 char ret_text[TOKEN_TEXT_SIZE], struct err *e)
{
    char text[TOKEN_TEXT_SIZE] = "", hash[TOKEN_HASH_SIZE];
    struct token t = { .created_at = clock_now_us(), .expires_at = request->expires_at };
    if (request->text)
        snprintf(text, sizeof text, "%s", request->text);
    else if (!request->identity && !token_text(text, e))
        return false;
    id_new("tok", t.id);
    snprintf(t.team, sizeof t.team, "%s", team);
    snprintf(t.name, sizeof t.name, "%s", request->name);
    snprintf(t.scopes, sizeof t.scopes, "%s", request->scopes);
    snprintf(t.created_by, sizeof t.created_by, "%s", request->created_by ? request->created_by : "");
    snprintf(t.identity, sizeof t.identity, "%s", request->identity ? request->identity : "");
    if (request->identity)
        hash_of_identity(request->identity, hash);
    else
        secret_hash(text, hash);
    struct conn *c = db_write(s->db, e);
    bool ok = c && db_write_end(c, is_free(c, hash, e) && team_ensure(c, team, e) && insert_token(c, &t, hash, e), e);
    if (ok) {
        *ret = t;
        memcpy(ret_text, text, sizeof text);
    }
    explicit_bzero(text, sizeof text);
    return ok;
}

/* ---- verifying ---- */

static void token_of_row(struct stmt *s, struct token *t)
{
    char hash[TOKEN_HASH_SIZE];
    enum { PREFIX = sizeof identity_prefix - 1 };
    *t = (struct token){ .created_at = stmt_get_int(s, 4), .expires_at = stmt_get_int(s, 5), .last_used_at = stmt_get_int(s, 6) };
    stmt_get_text(s, 0, t->id, sizeof t->id);
    stmt_get_text(s, 1, t->team, sizeof t->team);
    stmt_get_text(s, 2, t->name, sizeof t->name);
    stmt_get_text(s, 3, t->scopes, sizeof t->scopes);
    stmt_get_text(s, 7, t->created_by, sizeof t->created_by);
    stmt_get_text(s, 8, hash, sizeof hash);
    if (strncmp(hash, identity_prefix, PREFIX) == 0)
        snprintf(t->identity, sizeof t->identity, "%s", hash + PREFIX);
}

/*
 * The index search compares hashes byte by byte, but of a value whose bits nobody can steer: what its
 * timing tells is about SHA-256 of a guess, not about a token.  The last comparison is constant all the same.
 */
static bool find(struct store *s, const char *hash, struct token *ret, struct err *why)
{
    char stored[TOKEN_HASH_SIZE] = "";
    uint8_t a[HASH_SIZE], b[HASH_SIZE];
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_TOKEN_BY_HASH);
    stmt_text(q, 1, hash);
    bool got = stmt_row(q, why);
    if (got) {
        token_of_row(q, ret);
        stmt_get_text(q, 8, stored, sizeof stored);
    }
    stmt_end(q);
    db_read_end(c);
    hash_bytes(stored, strlen(stored), a);
    hash_bytes(hash, strlen(hash), b);
    return got && hash_equal(a, b);
}

bool secret_well_formed(const char *prefix, const char *text)
{
    return strncmp(text, prefix, 3) == 0 && strspn(text + 3, digits) == TOKEN_DIGITS && text[3 + TOKEN_DIGITS] == '\0';
}

/* A token is asked about with every request.  What is kept says whose it is, as who may do what hangs on it. */
static bool find_soon(struct store *s, const char *hash, struct token *ret, struct err *e)
{
    struct row { char hash[TOKEN_HASH_SIZE]; struct token token; } row = { 0 };
    size_t n;
    struct recent_key key = recent_key("token", "", hash);
    struct row *kept = recent_get(s, &key, &n);
    uint64_t now = recent_now(s);
    bool at_hand = kept && n == sizeof row && strcmp(kept->hash, hash) == 0;
    if (at_hand)
        *ret = kept->token;
    free(kept);
    if (at_hand || !find(s, hash, ret, e))
        return at_hand;
    snprintf(row.hash, sizeof row.hash, "%s", hash);
    row.token = *ret;
    recent_put(s, &key, now, &row, sizeof row);
    return true;
}

/* hash: NULL for what cannot be one. */
static bool verify(struct store *s, const char *hash, const char *remedy, struct token *ret, struct err *e)
{
    struct token t = { 0 };
    struct err why = { 0 };
    int64_t now = clock_now_us();
    bool known = hash && find_soon(s, hash, &t, &why);
    if (!err_clean(&why, e))
        return false;
    if (!known || (t.expires_at && t.expires_at <= now))
        return err_set(e, ERR_AUTH_REQUIRED, "", "%s", remedy);
    if (now - t.last_used_at > USED_STEP_US)
        used_note(s, SQL_TOKEN_USED, t.id, now);
    *ret = t;
    return true;
}

bool token_verify(struct store *s, const char *text, struct token *ret, struct err *e)
{
    char hash[HASH_HEX_SIZE];
    secret_hash(text, hash);
    return verify(s, secret_well_formed("rq_", text) ? hash : NULL, "send a valid token: Authorization: Bearer rq_...", ret, e);
}

bool token_of_identity(struct store *s, const char *identity, struct token *ret, struct err *e)
{
    char hash[TOKEN_HASH_SIZE];
    hash_of_identity(identity, hash);
    return verify(s, strlen(identity) < TOKEN_IDENTITY_SIZE ? hash : NULL,
                  "who the proxy has logged in is unknown here; ask an administrator for a token of this identity", ret, e);
}

/* ---- lists ---- */

static bool no_token(const char *id, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "id", "there is no token %.40s", id);
}

bool token_get(struct store *s, const char *team, const char *id, struct token *ret, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_TOKEN_GET);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool got = stmt_row(q, &why);
    if (got)
        token_of_row(q, ret);
    stmt_end(q);
    db_read_end(c);
    return got || (err_clean(&why, e) && no_token(id, e));
}

bool token_list(struct store *s, const char *team, struct page page, struct token_list *ret, struct err *e)
{
    struct token_list l = { 0 };
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, page.ascending ? SQL_TOKEN_LIST_UP : SQL_TOKEN_LIST_DOWN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, page_start(page));
    stmt_int(q, 3, (int64_t)page.limit + 1);
    while (!l.more && stmt_row(q, &why)) {
        l.more = l.n == (size_t)page.limit;
        if (l.more || !list_grow(&l.items, l.n, sizeof *l.items, &why))
            break;
        token_of_row(q, &l.items[l.n++]);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code)
        token_list_release(&l);
    *ret = l;
    return err_clean(&why, e);
}

void token_list_release(struct token_list *l)
{
    free(l->items);
    *l = (struct token_list){ 0 };
}

/* Somebody must be able to make the next token; the daemon makes one only when it starts. */
static bool not_the_last(struct conn *c, const char *team, const char *id, struct err *e)
{
    struct err why = { 0 };
    struct stmt *q = stmt_begin(c, SQL_TOKEN_LAST_ADMIN);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    stmt_int(q, 3, clock_now_us());
    bool last = stmt_row(q, &why);
    stmt_end(q);
    if (why.code)
        return err_clean(&why, e);
    return !last || err_set(e, ERR_CONFLICT, "id", "this is the last administrator's token; make another one first");
}

bool token_delete(struct store *s, const char *team, const char *id, struct err *e)
{
    struct conn *c = db_write(s->db, e);
    if (!c)
        return false;
    struct stmt *q = stmt_begin(c, SQL_TOKEN_DELETE);
    stmt_text(q, 1, team);
    stmt_text(q, 2, id);
    bool ok = not_the_last(c, team, id, e) && stmt_run(q, e);
    if (ok && stmt_changed(q) == 0)
        ok = no_token(id, e);
    stmt_end(q);
    if (!db_write_end(c, ok, e))
        return false;
    store_revoked(s, id);
    return true;
}

bool token_any_admin(struct store *s, bool *ret, struct err *e)
{
    struct err why = { 0 };
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_TOKEN_ANY_ADMIN);
    stmt_int(q, 1, clock_now_us());
    *ret = stmt_row(q, &why);
    stmt_end(q);
    db_read_end(c);
    return err_clean(&why, e);
}
