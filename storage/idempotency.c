#include "storage/idempotency.h"

#include "core/base/clock.h"
#include "storage/inner.h"

#include <stdlib.h>
#include <string.h>

static int64_t oldest_key(void) { return clock_now_us() - IDEMPOTENCY_HOURS * INT64_C(3600000000); }

bool idempotency_find(struct store *s, const char *team, const struct idempotency *key, struct answer *ret, struct err *e)
{
    char want[HASH_HEX_SIZE], have[HASH_HEX_SIZE] = "";
    struct answer found = { 0 };
    struct err why = { 0 };
    *ret = found;
    if (!key->key)
        return true;
    hash_hex(key->fingerprint, want);
    struct conn *c = db_read(s->db);
    struct stmt *q = stmt_begin(c, SQL_IDEMPOTENCY_FIND);
    stmt_text(q, 1, team);
    stmt_text(q, 2, key->key);
    stmt_int(q, 3, oldest_key());
    if (stmt_row(q, &why)) {
        stmt_get_text(q, 0, have, sizeof have);
        stmt_get_text(q, 1, found.id, ID_SIZE);
        found.status = (int)stmt_get_int(q, 2);
        stmt_dup_text(q, 3, &found.body, &why);
    }
    stmt_end(q);
    db_read_end(c);
    if (why.code == ERR_NONE && have[0] && strcmp(have, want) != 0)
        err_set(&why, ERR_IDEMPOTENCY, IDEMPOTENCY_FIELD, "this key was used for another request; use a new one");
    if (why.code)
        free(found.body);
    else
        *ret = found;
    return err_clean(&why, e);
}

bool idempotency_insert(struct conn *c, const char *team, const struct idempotency *key, const char *id, const void *made, struct err *e)
{
    char fingerprint[HASH_HEX_SIZE];
    int status = 0;
    if (!key->key)
        return true;
    char *body = key->answer(made, &status);
    if (!body)
        return err_set(e, ERR_MEMORY, IDEMPOTENCY_FIELD, "no memory for the answer; try again");
    audit_expect(status);
    hash_hex(key->fingerprint, fingerprint);
    struct stmt *s = stmt_begin(c, SQL_IDEMPOTENCY_INSERT);
    stmt_text(s, 1, team);
    stmt_text(s, 2, key->key);
    stmt_text(s, 3, fingerprint);
    stmt_text(s, 4, id);
    stmt_int(s, 5, status);
    stmt_text(s, 6, body);
    stmt_int(s, 7, clock_now_us());
    stmt_int(s, 8, oldest_key());
    bool ok = stmt_run(s, e);
    if (ok && stmt_changed(s) == 0)
        ok = err_set(e, ERR_CONFLICT, IDEMPOTENCY_FIELD, "another request is using this key; ask again");
    stmt_end(s);
    free(body);
    return ok;
}

bool idempotency_expire(struct conn *c, struct err *e)
{
    struct stmt *q = stmt_begin(c, SQL_IDEMPOTENCY_EXPIRE);
    stmt_int(q, 1, oldest_key());
    bool ok = stmt_run(q, e);
    stmt_end(q);
    return ok;
}
