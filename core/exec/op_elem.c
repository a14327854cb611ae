/*
 * op_elem.c - any element type as a double or an int64_t, for the reference kernels.
 *
 * Bytes are moved by memcpy: constants are borrowed from model files, which promise no alignment.
 */
#include "core/exec/op_internal.h"

#include <math.h>
#include <string.h>

/* Truncates towards zero.  C leaves a conversion that does not fit undefined, so it is clamped;
 * NaN becomes 0.  The upper bound is compared as hi + 1, which is exact as a double for every type. */
static int64_t real_to_int(double v, int64_t lo, int64_t hi)
{
    if (isnan(v))
        return 0;
    if (v <= (double)lo)
        return lo;
    if (v >= (double)hi + 1.0)
        return hi;
    return (int64_t)v;
}

#define LOAD(type, p, i) ({ type load_; memcpy(&load_, (const type *)(p) + (i), sizeof load_); load_; })
#define STORE(type, p, i, v) ({ type store_ = (v); memcpy((type *)(p) + (i), &store_, sizeof store_); })

#define INT_TYPE(name, type, lo, hi)                                                                          \
    static int64_t get_int_##name(const void *p, int64_t i) { return (int64_t)LOAD(type, p, i); }             \
    static void put_int_##name(void *p, int64_t i, int64_t v) { STORE(type, p, i, (type)v); }                 \
    static double get_real_##name(const void *p, int64_t i) { return (double)LOAD(type, p, i); }              \
    static void put_real_##name(void *p, int64_t i, double v) { STORE(type, p, i, (type)real_to_int(v, lo, hi)); }

INT_TYPE(U8, uint8_t, 0, UINT8_MAX)
INT_TYPE(I8, int8_t, INT8_MIN, INT8_MAX)
INT_TYPE(U16, uint16_t, 0, UINT16_MAX)
INT_TYPE(I16, int16_t, INT16_MIN, INT16_MAX)
INT_TYPE(U32, uint32_t, 0, UINT32_MAX)
INT_TYPE(I32, int32_t, INT32_MIN, INT32_MAX)
INT_TYPE(I64, int64_t, INT64_MIN, INT64_MAX)

/* The integer of a uint64 is its bits; order and division have to ask whether a type is wide. */
static int64_t get_int_U64(const void *p, int64_t i) { return LOAD(int64_t, p, i); }
static void put_int_U64(void *p, int64_t i, int64_t v) { STORE(int64_t, p, i, v); }
static double get_real_U64(const void *p, int64_t i) { return (double)LOAD(uint64_t, p, i); }
static void put_real_U64(void *p, int64_t i, double v)
{
    STORE(uint64_t, p, i, !(v > 0) ? 0 : v >= 0x1p64 ? UINT64_MAX : (uint64_t)v);
}

static int64_t get_int_BOOL(const void *p, int64_t i) { return ((const uint8_t *)p)[i] != 0; }
static void put_int_BOOL(void *p, int64_t i, int64_t v) { ((uint8_t *)p)[i] = v != 0; }
static double get_real_BOOL(const void *p, int64_t i) { return ((const uint8_t *)p)[i] != 0; }
static void put_real_BOOL(void *p, int64_t i, double v) { ((uint8_t *)p)[i] = v != 0; }

/* 4-bit types: two to a byte, the even element in the low half.  Kernels write in order, so writing
 * an even element clears its neighbour: the half byte after an odd number of elements is 0. */
static int nibble(const void *p, int64_t i) { return ((const uint8_t *)p)[i / 2] >> (i % 2 * 4) & 15; }

static int64_t get_int_U4(const void *p, int64_t i) { return nibble(p, i); }
static int64_t get_int_I4(const void *p, int64_t i) { return (nibble(p, i) ^ 8) - 8; }
static void put_int_U4(void *p, int64_t i, int64_t v)
{
    uint8_t *byte = (uint8_t *)p + i / 2;
    *byte = (uint8_t)(i % 2 ? (*byte & 15) | (v & 15) << 4 : v & 15);
}
static double get_real_U4(const void *p, int64_t i) { return (double)get_int_U4(p, i); }
static double get_real_I4(const void *p, int64_t i) { return (double)get_int_I4(p, i); }
/* A real that does not fit keeps its low bits, as ONNX's own tests have it. */
static void put_real_U4(void *p, int64_t i, double v) { put_int_U4(p, i, real_to_int(v, INT32_MIN, INT32_MAX)); }
#define put_real_I4 put_real_U4
#define put_int_I4 put_int_U4

static double get_real_F32(const void *p, int64_t i) { return (double)LOAD(float, p, i); }
static void put_real_F32(void *p, int64_t i, double v) { STORE(float, p, i, (float)v); }
static void put_int_F32(void *p, int64_t i, int64_t v) { STORE(float, p, i, (float)v); }

static double get_real_F64(const void *p, int64_t i) { return LOAD(double, p, i); }
static void put_real_F64(void *p, int64_t i, double v) { STORE(double, p, i, v); }
static void put_int_F64(void *p, int64_t i, int64_t v) { STORE(double, p, i, (double)v); }

/* bfloat16 is the upper half of a float. */
static double get_real_BF16(const void *p, int64_t i)
{
    uint32_t bits = (uint32_t)LOAD(uint16_t, p, i) << 16;
    return (double)LOAD(float, &bits, 0);
}

static void put_real_BF16(void *p, int64_t i, double v)
{
    float f = (float)v;
    uint32_t bits = LOAD(uint32_t, &f, 0);
    uint32_t half = isnan(f) ? (bits >> 16) | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    STORE(uint16_t, p, i, (uint16_t)half);
}

static double get_real_F16(const void *p, int64_t i)
{
    int bits = LOAD(uint16_t, p, i), exponent = bits >> 10 & 31, fraction = bits & 1023;
    double v = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
             : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -v : v;
}

/* The grid of float16 is 2^-24 up to 2^-14 and then 2^-10 of the leading bit: rint() onto that grid
 * rounds as the format does, and a carry into the next binade needs no care. */
static uint16_t f16_bits(double size)
{
    int exponent;
    if (isnan(size))
        return 0x7E00;
    if (size >= 65520)                              /* half a step above the largest: infinity */
        return 0x7C00;
    frexp(size, &exponent);                         /* size in [2^(exponent-1), 2^exponent) */
    exponent = size == 0 || exponent < -13 ? -13 : exponent;
    return (uint16_t)((exponent + 13) * 1024 + (int)rint(ldexp(size, 11 - exponent)));
}

static void put_real_F16(void *p, int64_t i, double v)
{
    STORE(uint16_t, p, i, (uint16_t)(f16_bits(fabs(v)) | (signbit(v) ? 0x8000 : 0)));
}

#define REAL_AS_INT(name)                                                                                     \
    static int64_t get_int_##name(const void *p, int64_t i)                                                   \
    {                                                                                                         \
        return real_to_int(get_real_##name(p, i), INT64_MIN, INT64_MAX);                                      \
    }
REAL_AS_INT(F32)
REAL_AS_INT(F64)
REAL_AS_INT(BF16)
REAL_AS_INT(F16)
static void put_int_BF16(void *p, int64_t i, int64_t v) { put_real_BF16(p, i, (double)v); }
static void put_int_F16(void *p, int64_t i, int64_t v) { put_real_F16(p, i, (double)v); }

const struct elem *elem_of(enum dtype t)
{
    static const struct elem types[] = {
#define ROW(name, is_real) [DT_##name] = { is_real, DT_##name == DT_U64, get_real_##name, put_real_##name, get_int_##name, put_int_##name }
        ROW(F32, true), ROW(F64, true), ROW(F16, true), ROW(BF16, true),
        ROW(U8, false), ROW(I8, false), ROW(U16, false), ROW(I16, false), ROW(U32, false),
        ROW(I32, false), ROW(I64, false), ROW(U64, false), ROW(BOOL, false), ROW(U4, false), ROW(I4, false),
#undef ROW
    };
    return (size_t)t < sizeof types / sizeof *types && types[t].get_real ? &types[t] : NULL;
}
