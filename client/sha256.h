/*
 * sha256.h - SHA-256 (FIPS 180-4) of what the client sends and receives.
 *
 * Its own, because the client links curl and jansson only.  The API tests hold it against the daemon's with every file they move.
 */
#ifndef CLIENT_SHA256_H
#define CLIENT_SHA256_H

#include "client/failure.h"

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    uint8_t block[64];
};

enum { DIGEST_SIZE = 72 };      /* "sha256:", 64 digits, NUL */

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t n);
void sha256_end(struct sha256 *s, char ret[DIGEST_SIZE]);

/* Adds the bytes of fd from where it stands to its end, and counts them. */
bool sha256_file(struct sha256 *s, int fd, const char *path, uint64_t *ret_bytes, struct failure *f);

/* Is it "sha256:" and 64 lower-case hexadecimal digits? */
bool digest_valid(const char *text);

#endif
