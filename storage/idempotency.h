/*
 * idempotency.h - requests that are repeated with their key make nothing twice.
 *
 * The key's row, with the answer, is written in the transaction of what the request made, so the two are there together or not at all.
 */
#ifndef STORAGE_IDEMPOTENCY_H
#define STORAGE_IDEMPOTENCY_H

#include "core/base/hash.h"
#include "storage/store.h"
#include "storage/ulid.h"

#define IDEMPOTENCY_FIELD "Idempotency-Key"

enum { IDEMPOTENCY_HOURS = 24 };    /* how long a key is remembered */

/* What a request with a key was answered, and is answered again whatever has become of what it made. */
struct answer { int status; char id[ID_SIZE]; char *body; /* JSON, malloc'd; NULL: the key is new */ };

/* The key of a request. */
struct idempotency {
    const char *key;                /* NULL: none */
    uint8_t fingerprint[HASH_SIZE]; /* of method, path and body */
    /* The answer to keep, of a struct job or struct asset, as the request makes it: malloc'd JSON, NULL without memory. */
    char *(*answer)(const void *made, int *ret_status);
};

/* ERR_IDEMPOTENCY if the key was used with another fingerprint. */
bool idempotency_find(struct store *s, const char *team, const struct idempotency *key, struct answer *ret, struct err *e);

#endif
