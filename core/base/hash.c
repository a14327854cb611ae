#include "core/base/hash.h"

#include <nettle/memops.h>
#include <stdio.h>
#include <string.h>

void hash_init(struct hash *h) { sha256_init(&h->ctx); }
void hash_add(struct hash *h, const void *p, size_t n) { sha256_update(&h->ctx, n, p); }
void hash_end(struct hash *h, uint8_t ret[HASH_SIZE]) { sha256_digest(&h->ctx, HASH_SIZE, ret); }

void hash_bytes(const void *p, size_t n, uint8_t ret[HASH_SIZE])
{
    struct hash h;
    hash_init(&h);
    hash_add(&h, p, n);
    hash_end(&h, ret);
}

void hash_hex(const uint8_t digest[HASH_SIZE], char ret[HASH_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < HASH_SIZE; i++) {
        ret[2 * i] = digits[digest[i] >> 4];
        ret[2 * i + 1] = digits[digest[i] & 15];
    }
    ret[2 * HASH_SIZE] = '\0';
}

void hash_text(const uint8_t digest[HASH_SIZE], char ret[HASH_TEXT_SIZE])
{
    memcpy(ret, "sha256:", 7);
    hash_hex(digest, ret + 7);
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hash_parse(const char *text, uint8_t ret[HASH_SIZE])
{
    if (strncmp(text, "sha256:", 7) != 0 || strlen(text) != 7 + 2 * HASH_SIZE)
        return false;
    for (int i = 0; i < HASH_SIZE; i++) {
        int hi = nibble(text[7 + 2 * i]), lo = nibble(text[8 + 2 * i]);
        if (hi < 0 || lo < 0)
            return false;
        ret[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

bool hash_equal(const uint8_t a[HASH_SIZE], const uint8_t b[HASH_SIZE]) { return memeql_sec(a, b, HASH_SIZE); }
