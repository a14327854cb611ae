/* hash.h - SHA-256 (by nettle) and hexadecimal.  A digest is 32 bytes; in text it is "sha256:" + 64 hex digits. */
#ifndef CORE_BASE_HASH_H
#define CORE_BASE_HASH_H

#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HASH_SIZE = 32, HASH_HEX_SIZE = 65, HASH_TEXT_SIZE = 72 };

struct hash { struct sha256_ctx ctx; };

void hash_init(struct hash *h);
void hash_add(struct hash *h, const void *p, size_t n);
void hash_end(struct hash *h, uint8_t ret[HASH_SIZE]);

void hash_bytes(const void *p, size_t n, uint8_t ret[HASH_SIZE]);
void hash_hex(const uint8_t digest[HASH_SIZE], char ret[HASH_HEX_SIZE]);
void hash_text(const uint8_t digest[HASH_SIZE], char ret[HASH_TEXT_SIZE]);          /* "sha256:..." */
bool hash_parse(const char *text, uint8_t ret[HASH_SIZE]);                          /* exactly "sha256:" + 64 lower-case hex digits */

/* Equal in time that does not depend on where they differ. */
bool hash_equal(const uint8_t a[HASH_SIZE], const uint8_t b[HASH_SIZE]);
/* Whether these bytes are what a text "sha256:..." says. */
bool hash_is(const uint8_t got[HASH_SIZE], const char *text);

/* HMAC-SHA256 (RFC 2104). */
void hash_hmac(const void *key, size_t key_n, const void *p, size_t n, uint8_t ret[HASH_SIZE]);

/* A running hash as text, to go on from in another process. */
enum { HASH_STATE_SIZE = 214 };
void hash_save(const struct hash *h, char ret[HASH_STATE_SIZE]);
bool hash_load(const char *text, struct hash *ret);                                 /* false: not what hash_save() wrote */

/* The sums a client may send beside its bytes (tus): told apart by name, compared as bytes. */
struct checksum {
    bool sha1;                              /* else SHA-256 */
    union { struct sha1_ctx sha1; struct sha256_ctx sha256; } ctx;
};
#define CHECKSUM_NAMES "sha256,sha1"
bool checksum_init(struct checksum *c, const char *name, size_t n);                 /* false: no such algorithm */
void checksum_add(struct checksum *c, const void *p, size_t n);
size_t checksum_end(struct checksum *c, uint8_t ret[HASH_SIZE]);                    /* how many bytes it has */

/* Base64 with padding, exactly; returns the number of bytes, 0 if it is none or over `size` or 90. */
size_t base64_decode(const char *text, size_t n, void *ret, size_t size);

/* malloc'd and NUL-terminated; NULL without memory. */
char *base64_encode(const void *p, size_t n);

/* A well-mixed 64-bit function of two numbers: the seeded choice of rows and samples (splitmix64). */
static inline uint64_t hash_mix(uint64_t seed, uint64_t i)
{
    uint64_t x = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* A place in a table for a name: FNV-1a, mixed, as its low bits alone are poor.  Who chooses names can make them collide. */
static inline uint64_t hash_name(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return hash_mix(0, h);
}

#endif
