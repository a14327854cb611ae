/* bytes.h - little-endian numbers at any address.  The caller has checked the bounds. */
#ifndef CORE_DATA_BYTES_H
#define CORE_DATA_BYTES_H

#include <stdint.h>

static inline uint64_t le_get(const uint8_t *p, int bytes)
{
    uint64_t x = 0;
    for (int i = bytes - 1; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}
static inline uint16_t le16(const uint8_t *p) { return (uint16_t)le_get(p, 2); }
static inline uint32_t le32(const uint8_t *p) { return (uint32_t)le_get(p, 4); }
static inline uint64_t le64(const uint8_t *p) { return le_get(p, 8); }

static inline void le_put(uint8_t *p, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(x >> (8 * i));
}

#endif
