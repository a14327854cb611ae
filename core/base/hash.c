#include "core/base/hash.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <stdlib.h>
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

bool hash_is(const uint8_t got[HASH_SIZE], const char *text)
{
    uint8_t want[HASH_SIZE];
    return hash_parse(text, want) && hash_equal(got, want);
}

void hash_hmac(const void *key, size_t key_n, const void *p, size_t n, uint8_t ret[HASH_SIZE])
{
    struct hmac_sha256_ctx ctx;
    hmac_sha256_set_key(&ctx, key_n, key);
    hmac_sha256_update(&ctx, n, p);
    hmac_sha256_digest(&ctx, HASH_SIZE, ret);
}

/* ---- a hash that goes on elsewhere ---- */

/* The members, not the struct: its layout is the library's.  All in hexadecimal, behind a version.  What lies in the block behind the
 * bytes that wait there is zeros: it is whatever was in that memory before, and what is saved is kept. */
enum { STATE_BYTES = 32 + 8 + 1 + 64 };
_Static_assert(HASH_STATE_SIZE == 3 + 2 * STATE_BYTES + 1, "the version, the bytes in hexadecimal and the NUL");

void hash_save(const struct hash *h, char ret[HASH_STATE_SIZE])
{
    uint8_t bytes[STATE_BYTES] = { 0 }, *at = bytes;
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < 4; k++)
            *at++ = (uint8_t)(h->ctx.state[i] >> (8 * k));
    for (int k = 0; k < 8; k++)
        *at++ = (uint8_t)(h->ctx.count >> (8 * k));
    *at++ = (uint8_t)h->ctx.index;
    memcpy(at, h->ctx.block, h->ctx.index);
    memcpy(ret, "v1:", 3);
    for (int i = 0; i < STATE_BYTES; i++) {
        ret[3 + 2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        ret[4 + 2 * i] = "0123456789abcdef"[bytes[i] & 15];
    }
    ret[HASH_STATE_SIZE - 1] = '\0';
}

bool hash_load(const char *text, struct hash *ret)
{
    uint8_t bytes[STATE_BYTES], *at = bytes;
    if (strlen(text) != HASH_STATE_SIZE - 1 || memcmp(text, "v1:", 3) != 0)
        return false;
    for (int i = 0; i < STATE_BYTES; i++) {
        int hi = nibble(text[3 + 2 * i]), lo = nibble(text[4 + 2 * i]);
        if (hi < 0 || lo < 0)
            return false;
        bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    hash_init(ret);
    for (int i = 0; i < 8; i++, at += 4)
        ret->ctx.state[i] = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    ret->ctx.count = 0;
    for (int k = 0; k < 8; k++)
        ret->ctx.count |= (uint64_t)*at++ << (8 * k);
    ret->ctx.index = *at++;
    memcpy(ret->ctx.block, at, 64);
    return ret->ctx.index < 64;
}

/* ---- a client's sums ---- */

bool checksum_init(struct checksum *c, const char *name, size_t n)
{
    *c = (struct checksum){ .sha1 = n == 4 && memcmp(name, "sha1", 4) == 0 };
    if (c->sha1)
        sha1_init(&c->ctx.sha1);
    else
        sha256_init(&c->ctx.sha256);
    return c->sha1 || (n == 6 && memcmp(name, "sha256", 6) == 0);
}

void checksum_add(struct checksum *c, const void *p, size_t n)
{
    if (c->sha1)
        sha1_update(&c->ctx.sha1, n, p);
    else
        sha256_update(&c->ctx.sha256, n, p);
}

size_t checksum_end(struct checksum *c, uint8_t ret[HASH_SIZE])
{
    if (c->sha1)
        sha1_digest(&c->ctx.sha1, SHA1_DIGEST_SIZE, ret);
    else
        sha256_digest(&c->ctx.sha256, HASH_SIZE, ret);
    return c->sha1 ? SHA1_DIGEST_SIZE : HASH_SIZE;
}

size_t base64_decode(const char *text, size_t n, void *ret, size_t size)
{
    struct base64_decode_ctx ctx;
    uint8_t bytes[128];
    size_t got = sizeof bytes;
    base64_decode_init(&ctx);
    if (BASE64_DECODE_LENGTH(n) > sizeof bytes || !base64_decode_update(&ctx, &got, bytes, n, text) || !base64_decode_final(&ctx) || got > size)
        return 0;
    char again[BASE64_ENCODE_RAW_LENGTH(sizeof bytes)];        /* white space and loose bits would have been let pass */
    base64_encode_raw(again, got, bytes);
    if (n != BASE64_ENCODE_RAW_LENGTH(got) || memcmp(again, text, n) != 0)
        return 0;
    memcpy(ret, bytes, got);
    return got;
}

char *base64_encode(const void *p, size_t n)
{
    char *text = malloc(BASE64_ENCODE_RAW_LENGTH(n) + 1);
    if (!text)
        return NULL;
    base64_encode_raw(text, n, p);
    text[BASE64_ENCODE_RAW_LENGTH(n)] = '\0';
    return text;
}
