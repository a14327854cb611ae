/*
 * account.h - which service, and with which token.
 *
 * A token is kept with the URL it was given for and is sent nowhere else.
 */
#ifndef CLIENT_ACCOUNT_H
#define CLIENT_ACCOUNT_H

#include "client/http.h"

/* Fills url, token and ca.  url and ca: of the options, or NULL. */
bool account_load(const char *url, const char *ca, struct service *ret, struct failure *f);
/* Remembers the token for its URL and makes it the service of commands that name none. */
bool account_save(const struct service *s, char *ret_path, size_t size, struct failure *f);
/* "rq_" and printable characters without space. */
bool account_token(const char *text, const char *where, char *ret, size_t size, struct failure *f);

/* "$variable/repquant", else "$HOME/fallback/repquant", made (0700) if absent. */
bool account_folder(const char *variable, const char *fallback, char *ret, size_t size, struct failure *f);

/* Writes a file of mode 0600 that exists completely or not at all. */
bool save_private(const char *path, const char *text, struct failure *f);
/* A JSON object of a file; an empty one if there is no such file; NULL with f. */
json_t *load_object(const char *path, bool private, struct failure *f);

#endif
