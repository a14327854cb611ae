/* hash.h - SHA-256 (by nettle) and hexadecimal.  A digest is 32 bytes; in text it is "sha256:" + 64 hex digits. */
#ifndef CORE_BASE_HASH_H
#define CORE_BASE_HASH_H

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

/* A well-mixed 64-bit function of two numbers: the seeded choice of rows and samples (splitmix64). */
static inline uint64_t hash_mix(uint64_t seed, uint64_t i)
{
    uint64_t x = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#endif
