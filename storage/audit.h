/*
 * audit.h - what was done and what was refused, by whom, in an order nobody can change.
 *
 * Rows are only ever added: triggers refuse to change or delete one, and each carries the SHA-256 of itself and of the row before, so
 * a row that was taken out of a copied database shows.  The hash of a row is over these lines, joined with "\n":
 *
 *     prev, seq, at, request, team, token, session, peer, method, action, target, status, code
 *
 * each as the export writes it ("" for null); prev of the first row is "".  Bytes that are no UTF-8 are replaced before a row is written; one that
 * an older version wrote with them is shown with "?" there, and its hash is that of the bytes.
 *
 * What is kept for a time only (store_forget()) is announced first: a row `audit.forgotten` has in its target the seq of the last row that goes, and the
 * trigger lets no row behind that one go.  The log then begins behind it, with the prev that its first row always had.
 */
#ifndef STORAGE_AUDIT_H
#define STORAGE_AUDIT_H

#include "core/base/hash.h"
#include "storage/store.h"
#include "storage/ulid.h"

struct audit {
    int64_t seq;                        /* counts from 1 without gaps; set by storage, as `at` and the hashes are */
    int64_t at;                         /* whole milliseconds */
    char request[24];                   /* the request's id */
    char team[TEAM_SIZE], token[ID_SIZE], session[ID_SIZE];     /* who; "" for a stranger */
    char peer[64];                      /* the address it came from */
    char method[16];
    char action[96];                    /* the route's pattern; "" for none */
    char target[256];                   /* the path as sent */
    int status;                         /* of the answer */
    char code[48];                      /* of its problem; "" for none */
    char prev[HASH_HEX_SIZE], hash[HASH_HEX_SIZE];
};

/*
 * What this thread writes belongs to a request: the first transaction that changes something takes the request's row with it, so there is no
 * change without its row, and none where the row cannot be written.  `fill` is asked in that transaction and says how the request will be
 * answered if all goes well; storage may know better, and says so with audit_expect().
 */
struct audit_scope {
    void (*fill)(void *arg, struct audit *ret);
    void *arg;
    int expected;                       /* 0: as fill says */
    enum err_code failure;              /* likewise */
    bool written;
    int status;                         /* as written */
    char code[48];
};
/* From now on; NULL: to none.  Returns what it was. */
struct audit_scope *audit_enter(struct audit_scope *a);
void audit_expect(int status);
void audit_expect_failure(enum err_code code);      /* what is written now only cleans up */

/* On disk when it returns true: a row of its own, for what changed nothing. */
bool audit_add(struct store *s, const struct audit *row, struct err *e);

/*
 * For refusals, of which anybody can cause many: keeps the row in memory until audit_flush(), the next audit_add() or store_close().  Where
 * more come than there is room for, a row `audit.dropped` says how many are missing.
 */
void audit_later(struct store *s, const struct audit *row);
void audit_drop(struct store *s);                   /* one more that is not even kept */
bool audit_flush(struct store *s, struct err *e);

struct audit_wish {
    const char *team, *token;           /* NULL: of all and of strangers; of any token */
    bool newest_first;
    int64_t after;                      /* the seq to go on behind, in that order; 0: from its beginning */
    int limit;
};
struct audit_list { struct audit *items; size_t n; bool more; };
bool audit_list(struct store *s, const struct audit_wish *w, struct audit_list *ret, struct err *e);
void audit_list_release(struct audit_list *l);

#endif
