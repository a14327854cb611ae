/*
 * data_files.h - data files made byte by byte, honest and hostile, and opened under the sanitizer's eyes.
 */
#ifndef TESTS_UNIT_CORE_DATA_FILES_H
#define TESTS_UNIT_CORE_DATA_FILES_H

#include "core/base/buf.h"
#include "core/data/dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "tests/unit/core/guarded.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES BUF_INIT((size_t)64 << 20)

/* An array and a model input, their dimensions last. */
#define ARRAY(n, type, x, ...) \
    { .name = n, .t = { .dtype = type, .shape = { sizeof((int64_t[]){ __VA_ARGS__ }) / 8, { __VA_ARGS__ } }, .data = x } }
#define SPEC(name, type, ...) { name, type, { sizeof((int64_t[]){ __VA_ARGS__ }) / 8, { __VA_ARGS__ } } }

/* ---- opening ---- */

/* A dataset with the memory it stands on. */
struct opened { struct arena *mem; uint8_t *block; struct guarded guard; struct mapping file; struct dataset d; struct err e; bool ok; };

static inline void open_bytes(struct opened *o, const uint8_t *p, size_t n, const char *name, uint64_t limit)
{
    o->mem = arena_new(limit);
    o->file = (struct mapping){ .data = p, .size = n };
    o->ok = dataset_open(o->mem, &o->file, name, &o->d, &o->e);
    assert_int_equal(o->ok, o->e.code == ERR_NONE);
}

/* The bytes are copied to a block of exactly their size, so that the sanitizer sees every read beyond the file; +shift misaligns them. */
static inline struct opened opened_shifted(const void *p, size_t n, const char *name, uint64_t limit, size_t shift)
{
    struct opened o = { .block = malloc(n + shift ? n + shift : 1) };
    if (n)
        memcpy(o.block + shift, p, n);
    open_bytes(&o, o.block + shift, n, name, limit);
    return o;
}

static inline struct opened opened_guarded(const void *p, size_t n, const char *name)
{
    struct opened o = { .guard = guarded(p, n) };
    open_bytes(&o, o.guard.p, n, name, 64 << 20);
    return o;
}

static inline struct opened opened(const struct buf *b, const char *name) { return opened_guarded(b->p, b->n, name); }

static inline void opened_release(struct opened *o)
{
    arena_free(o->mem);
    free(o->block);
    if (o->guard.map)
        guarded_release(&o->guard);
}

static inline void assert_refused(const struct buf *b, const char *label, enum err_code code, const char *says)
{
    struct opened o = opened(b, "calib");
    if (o.e.code != code || !strstr(o.e.text, says))
        fail_msg("%s: got %s at '%s': %s", label, o.ok ? "no error" : err_slug(o.e.code), o.e.where, o.e.text);
    assert_true(arena_used(o.mem) < 64 << 10);
    opened_release(&o);
}

/* ---- making .npy ---- */

static inline void add(struct buf *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_add(b, &(char){ (char)(x >> (8 * i)) }, 1);
}

static inline void add_npy(struct buf *b, int version, const char *header, const void *data, size_t n)
{
    buf_add(b, "\x93NUMPY", 6);
    add(b, (uint64_t)version, 2);
    add(b, strlen(header), version == 1 ? 2 : 4);
    buf_str(b, header);
    buf_add(b, data, n);
}

static const float six[6] = { 1, -2, 3.5f, 0, 1e-30f, 6 };
static const char six_header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n";

static inline void assert_six(const struct array *a)
{
    assert_non_null(a);
    assert_int_equal(a->t.dtype, DT_F32);
    assert_true(shape_equal(&a->t.shape, &(struct shape){ 2, { 2, 3 } }));
    assert_int_equal((uintptr_t)a->t.data % 4, 0);
    assert_memory_equal(a->t.data, six, sizeof six);
}

/* ---- making .npz ---- */

struct member {
    const char *name;
    struct buf content;
    bool deflate;
    int flags, method;                     /* method 0: as `deflate` says */
    const char *central_name;              /* NULL: the same */
    int64_t unpacked_lie, central_unpacked_lie, central_crc_lie, central_start_lie;   /* added to the truth */
    bool zip64, descriptor;
    unsigned mode;                         /* 0: made on no system that has them */
    uint64_t start;                        /* out */
    struct buf packed;                     /* out */
};

static inline void pack(struct member *m)
{
    m->packed = BYTES;
    if (!m->deflate) {
        buf_add(&m->packed, m->content.p, m->content.n);
        return;
    }
    z_stream z = { 0 };
    uLong room = compressBound((uLong)m->content.n) + 64;
    char *to = malloc(room);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)m->content.p;
    z.avail_in = (uInt)m->content.n;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf_add(&m->packed, to, z.total_out);
    deflateEnd(&z);
    free(to);
}

static inline uint32_t crc_of(const struct member *m) { return (uint32_t)crc32(0, (const Bytef *)m->content.p, (uInt)m->content.n); }

static inline void add_common(struct buf *b, const struct member *m, bool central)
{
    uint64_t unpacked = m->content.n + (uint64_t)m->unpacked_lie + (central ? (uint64_t)m->central_unpacked_lie : 0);
    bool later = m->descriptor && !central;
    add(b, 20, 2);
    add(b, (uint64_t)m->flags | (m->descriptor ? 8 : 0), 2);
    add(b, m->method ? (uint64_t)m->method : m->deflate ? 8 : 0, 2);
    add(b, 0, 4);
    add(b, later ? 0 : crc_of(m) + (central ? (uint64_t)m->central_crc_lie : 0), 4);
    add(b, later ? 0 : m->zip64 ? 0xFFFFFFFF : m->packed.n, 4);
    add(b, later ? 0 : m->zip64 ? 0xFFFFFFFF : unpacked, 4);
}

static inline void add_local(struct buf *b, struct member *m)
{
    pack(m);
    m->start = b->n;
    add(b, 0x04034b50, 4);
    add_common(b, m, false);
    add(b, strlen(m->name), 2);
    add(b, m->zip64 ? 20 : 0, 2);
    buf_str(b, m->name);
    if (m->zip64) {
        add(b, 1 | 16 << 16, 4);
        add(b, m->content.n + (uint64_t)m->unpacked_lie, 8);
        add(b, m->packed.n, 8);
    }
    buf_add(b, m->packed.p, m->packed.n);
    if (m->descriptor) {
        add(b, 0x08074b50, 4);
        add(b, crc_of(m), 4);
        add(b, m->packed.n, 4);
        add(b, m->content.n, 4);
    }
}

static inline void add_central(struct buf *b, const struct member *m)
{
    const char *name = m->central_name ? m->central_name : m->name;
    add(b, 0x02014b50, 4);
    add(b, 20 | (m->mode ? 3 << 8 : 0), 2);
    add_common(b, m, true);
    add(b, strlen(name), 2);
    add(b, m->zip64 ? 28 : 0, 2);
    add(b, 0, 2 + 2 + 2);
    add(b, (uint64_t)m->mode << 16, 4);
    add(b, m->zip64 ? 0xFFFFFFFF : m->start + (uint64_t)m->central_start_lie, 4);
    buf_str(b, name);
    if (m->zip64) {
        add(b, 1 | 24 << 16, 4);
        add(b, m->content.n + (uint64_t)m->unpacked_lie + (uint64_t)m->central_unpacked_lie, 8);
        add(b, m->packed.n, 8);
        add(b, m->start, 8);
    }
}

static inline void add_end(struct buf *b, uint64_t at, uint64_t entries)
{
    add(b, 0x06054b50, 4);
    add(b, 0, 4);
    add(b, entries, 2);
    add(b, entries, 2);
    add(b, b->n - 12 - at, 4);
    add(b, at, 4);
    add(b, 0, 2);
}

static inline void member_release(struct member *m)
{
    buf_release(&m->packed);
    buf_release(&m->content);
}

static inline void add_npz(struct buf *b, struct member *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_local(b, &m[i]);
    uint64_t at = b->n;
    for (size_t i = 0; i < n; i++)
        add_central(b, &m[i]);
    add_end(b, at, n);
    for (size_t i = 0; i < n; i++)
        member_release(&m[i]);
}

static inline struct member six_member(const char *name)
{
    struct member m = { .name = name, .content = BYTES };
    add_npy(&m.content, 1, six_header, six, sizeof six);
    return m;
}

/* ---- making .safetensors ---- */

static inline void add_safetensors(struct buf *b, const char *header, size_t data_size)
{
    add(b, strlen(header), 8);
    buf_str(b, header);
    for (size_t i = 0; i < data_size; i++)
        buf_add(b, (const char *)six + i % sizeof six, 1);
}

#define ST(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

#endif
