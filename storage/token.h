/*
 * token.h - who may ask.  A token is "rq_" and 256 random bits in base 62; the table holds only
 * its SHA-256, so neither a reader of the database nor we can tell what it was.  No slow hash:
 * there is nothing to guess in 256 random bits.
 *
 * A token can also be made for an identity, the name under which a trusted proxy has logged somebody in.  It has no secret: where
 * the hash stands, "identity:" and the name do, which is the hash of nothing.
 */
#ifndef STORAGE_TOKEN_H
#define STORAGE_TOKEN_H

#include "storage/store.h"
#include "storage/ulid.h"

enum { TOKEN_TEXT_SIZE = 48, TOKEN_NAME_SIZE = 201, TOKEN_SCOPES_SIZE = 256, TOKEN_IDENTITY_SIZE = 128 };

struct token {
    char id[ID_SIZE], team[TEAM_SIZE];
    char name[TOKEN_NAME_SIZE];
    char scopes[TOKEN_SCOPES_SIZE];     /* words with one space between: "admin", "jobs:read jobs:write" */
    int64_t created_at, expires_at, last_used_at;       /* expires_at 0: never; last_used_at is right to a minute, see used.h */
    char created_by[ID_SIZE];           /* the token that made it; "": the daemon itself */
    char identity[TOKEN_IDENTITY_SIZE]; /* whom a trusted proxy must name; "": whoever knows the token */
};

/* The token that was made for this identity. */
bool token_of_identity(struct store *s, const char *identity, struct token *ret, struct err *e);

struct token_request {
    const char *name, *scopes;
    int64_t expires_at;                 /* 0: never */
    const char *created_by;             /* NULL: the daemon itself */
    const char *identity;               /* NULL: it has a secret */
    const char *text;                   /* the secret, from token_text(); NULL: one is made */
};

/* A token that is none yet, for who must have it in a safe place before token_issue() makes it valid. */
bool token_text(char ret[TOKEN_TEXT_SIZE], struct err *e);

/*
 * *ret_text is the token itself: shown once, stored nowhere; "" for an identity, which has none.  A team that has no row yet gets
 * one.  ERR_CONFLICT if the identity has a token already.
 */
bool token_issue(struct store *s, const char *team, const struct token_request *request, struct token *ret,
                 char ret_text[TOKEN_TEXT_SIZE], struct err *e);

/* The token's row.  Unknown, deleted, expired and malformed are one answer: ERR_AUTH_REQUIRED. */
bool token_verify(struct store *s, const char *text, struct token *ret, struct err *e);

bool token_get(struct store *s, const char *team, const char *id, struct token *ret, struct err *e);

struct token_list { struct token *items; size_t n; bool more; };
bool token_list(struct store *s, const char *team, struct page page, struct token_list *ret, struct err *e);
void token_list_release(struct token_list *l);
/* ERR_CONFLICT if nobody could administer the service afterwards. */
bool token_delete(struct store *s, const char *team, const char *id, struct err *e);

/* Whether somebody can administer the service: at the very first start nobody can. */
bool token_any_admin(struct store *s, bool *ret, struct err *e);

#endif
