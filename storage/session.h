/*
 * session.h - a browser that has shown a token once.
 *
 * A session is a second secret that stands for the token: the browser keeps it in a cookie no script can read, so the token itself is
 * in no page.  It can do what its token can, it ends with its token, and the table holds only its SHA-256.
 *
 *                           idle for SESSION_IDLE_US, SESSION_LIFE_US after it began,
 *   session_create() -> open ------------------------------------------------------------> not valid
 *                           session_delete(), the token's end or expiry
 */
#ifndef STORAGE_SESSION_H
#define STORAGE_SESSION_H

#include "storage/token.h"

#define SESSION_IDLE_US (8 * 3600 * INT64_C(1000000))
#define SESSION_LIFE_US (7 * 24 * 3600 * INT64_C(1000000))
enum { SESSIONS_PER_TOKEN = 64 };

struct session {
    char id[ID_SIZE], team[TEAM_SIZE], token_id[ID_SIZE];
    int64_t created_at, expires_at, last_used_at;       /* last_used_at is right to a minute, see used.h */
};

/* A session of the token `who`.  *ret_text is its secret, for the cookie.  ERR_QUOTA when the token has SESSIONS_PER_TOKEN. */
bool session_create(struct store *s, const struct token *who, struct session *ret, char ret_text[TOKEN_TEXT_SIZE], struct err *e);

/* The session and its token.  Whatever is wrong with either is one answer: ERR_AUTH_REQUIRED. */
bool session_verify(struct store *s, const char *text, struct session *ret, struct token *ret_who, struct err *e);

/*
 * Whether a token of the team, and its session unless session_id is "", is still valid; *ret: until when, as things are, 0: for ever.  Else
 * ERR_AUTH_REQUIRED.
 */
bool right_valid(struct store *s, const char *team, const char *token_id, const char *session_id, int64_t *ret, struct err *e);

/* Those of the team, or of one token of it; token_id NULL: any. */
struct session_list { struct session *items; size_t n; bool more; };
bool session_list(struct store *s, const char *team, const char *token_id, struct page page, struct session_list *ret, struct err *e);
void session_list_release(struct session_list *l);
bool session_delete(struct store *s, const char *team, const char *token_id, const char *id, struct err *e);

/* Removes what is not valid any more. */
bool session_sweep(struct store *s, struct err *e);

#endif
