/* Data files made by strangers: what is read, what is refused and how it is told. */
#include "core/base/buf.h"
#include "core/data/dataset.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES BUF_INIT((size_t)64 << 20)

/* ---- opening ---- */

/* A dataset with the memory it stands on.  The bytes are copied to a block of exactly their size, so that the
 * sanitizer sees every read beyond the file; +shift misaligns them. */
struct opened { struct arena *mem; uint8_t *block; struct mapping file; struct dataset d; struct err e; bool ok; };

static struct opened opened_shifted(const void *p, size_t n, const char *name, uint64_t limit, size_t shift)
{
    struct opened o = { .mem = arena_new(limit), .block = malloc(n + shift ? n + shift : 1) };
    if (n)
        memcpy(o.block + shift, p, n);
    o.file = (struct mapping){ o.block + shift, n };
    o.ok = dataset_open(o.mem, &o.file, name, &o.d, &o.e);
    assert_int_equal(o.ok, o.e.code == ERR_NONE);
    return o;
}

static struct opened opened(const struct buf *b, const char *name) { return opened_shifted(b->p, b->n, name, 64 << 20, 0); }

static void opened_release(struct opened *o)
{
    arena_free(o->mem);
    free(o->block);
}

static void assert_refused(const struct buf *b, const char *label, enum err_code code, const char *says)
{
    struct opened o = opened(b, "calib");
    if (o.e.code != code || !strstr(o.e.text, says))
        fail_msg("%s: got %s at '%s': %s", label, o.ok ? "no error" : err_slug(o.e.code), o.e.where, o.e.text);
    assert_true(arena_used(o.mem) < 64 << 10);
    opened_release(&o);
}

/* ---- making .npy ---- */

static void add(struct buf *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_add(b, &(char){ (char)(x >> (8 * i)) }, 1);
}

static void add_npy(struct buf *b, int version, const char *header, const void *data, size_t n)
{
    buf_add(b, "\x93NUMPY", 6);
    add(b, (uint64_t)version, 2);
    add(b, strlen(header), version == 1 ? 2 : 4);
    buf_str(b, header);
    buf_add(b, data, n);
}

static const float six[6] = { 1, -2, 3.5f, 0, 1e-30f, 6 };
static const char six_header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n";

static void assert_six(const struct array *a)
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
    uint64_t start;                        /* out */
    struct buf packed;                     /* out */
};

static void pack(struct member *m)
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

static uint32_t crc_of(const struct member *m) { return (uint32_t)crc32(0, (const Bytef *)m->content.p, (uInt)m->content.n); }

static void add_common(struct buf *b, const struct member *m, bool central)
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

static void add_local(struct buf *b, struct member *m)
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
        add(b, m->content.n, 8);
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

static void add_central(struct buf *b, const struct member *m)
{
    const char *name = m->central_name ? m->central_name : m->name;
    add(b, 0x02014b50, 4);
    add(b, 20, 2);
    add_common(b, m, true);
    add(b, strlen(name), 2);
    add(b, m->zip64 ? 28 : 0, 2);
    add(b, 0, 2 + 2 + 2);
    add(b, 0, 4);
    add(b, m->zip64 ? 0xFFFFFFFF : m->start + (uint64_t)m->central_start_lie, 4);
    buf_str(b, name);
    if (m->zip64) {
        add(b, 1 | 24 << 16, 4);
        add(b, m->content.n, 8);
        add(b, m->packed.n, 8);
        add(b, m->start, 8);
    }
}

static void add_end(struct buf *b, uint64_t at, uint64_t entries)
{
    add(b, 0x06054b50, 4);
    add(b, 0, 4);
    add(b, entries, 2);
    add(b, entries, 2);
    add(b, b->n - 12 - at, 4);
    add(b, at, 4);
    add(b, 0, 2);
}

static void add_npz(struct buf *b, struct member *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_local(b, &m[i]);
    uint64_t at = b->n;
    for (size_t i = 0; i < n; i++)
        add_central(b, &m[i]);
    add_end(b, at, n);
    for (size_t i = 0; i < n; i++) {
        buf_release(&m[i].packed);
        buf_release(&m[i].content);
    }
}

static struct member six_member(const char *name)
{
    struct member m = { .name = name, .content = BYTES };
    add_npy(&m.content, 1, six_header, six, sizeof six);
    return m;
}

/* ---- npy ---- */

static void a_plain_npy_is_read_whatever_its_version_and_spelling(void **state)
{
    (void)state;
    static const struct { int version; const char *header; } rows[] = {
        { 1, six_header }, { 2, six_header }, { 3, six_header },
        { 1, "{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}\n" },
        { 1, "{\"shape\":(2,3,),\"descr\":\"<f4\",\"fortran_order\":False,}" },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t shift = 0; shift < 4; shift++) {
            struct buf b = BYTES;
            add_npy(&b, rows[i].version, rows[i].header, six, sizeof six);
            struct opened o = opened_shifted(b.p, b.n, "folder/pixel_values.npy", 1 << 20, shift);
            assert_true(o.ok);
            assert_string_equal(o.d.format, "npy");
            assert_six(dataset_find(&o.d, "pixel_values"));
            opened_release(&o);
            buf_release(&b);
        }
}

static void every_element_type_of_the_list_is_read(void **state)
{
    (void)state;
    static const struct { const char *descr; enum dtype t; size_t size; } rows[] = {
        { "<f2", DT_F16, 2 }, { "<f4", DT_F32, 4 }, { "<f8", DT_F64, 8 }, { "|b1", DT_BOOL, 1 },
        { "|u1", DT_U8, 1 }, { "<u2", DT_U16, 2 }, { "<u4", DT_U32, 4 }, { "<u8", DT_U64, 8 },
        { "|i1", DT_I8, 1 }, { "<i2", DT_I16, 2 }, { "<i4", DT_I32, 4 }, { "<i8", DT_I64, 8 },
    };
    static const struct { const char *text; int rank; int64_t n; } shapes[] = { { "()", 0, 1 }, { "(3,)", 1, 3 }, { "(0, 7)", 2, 0 }, { "(1, 1, 1, 1, 1, 1, 1, 2)", 8, 2 } };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t k = 0; k < COUNT(shapes); k++) {
            static const char data[64] = "0123456789012345678901234567890";
            char header[160];
            struct buf b = BYTES;
            snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", rows[i].descr, shapes[k].text);
            add_npy(&b, 1, header, data, (size_t)shapes[k].n * rows[i].size);
            struct opened o = opened(&b, "x.npy");
            assert_true(o.ok);
            assert_int_equal(o.d.arrays[0].t.dtype, rows[i].t);
            assert_int_equal(o.d.arrays[0].t.shape.rank, shapes[k].rank);
            assert_int_equal(shape_elements(&o.d.arrays[0].t.shape), shapes[k].n);
            assert_memory_equal(o.d.arrays[0].t.data, data, (size_t)shapes[k].n * rows[i].size);
            opened_release(&o);
            buf_release(&b);
        }
}

static void a_hostile_npy_header_is_refused_with_the_remedy(void **state)
{
    (void)state;
#define HEADER(descr, shape) "{'descr': " descr ", 'fortran_order': False, 'shape': " shape ", }\n"
    static const struct { const char *header; enum err_code code; const char *says; } rows[] = {
        { "", ERR_DATA_FORMAT, "plain array" },
        { "{}", ERR_DATA_FORMAT, "plain array" },
        { "__import__('os').system('id')", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'shape': (2, 3)}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4' 'fortran_order': False 'shape': (2, 3)}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", ERR_DATA_FORMAT, "plain array" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} {", ERR_DATA_FORMAT, "plain array" },
        { "{,}", ERR_DATA_FORMAT, "plain array" },
        { "{'descr", ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4", "(2, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'\\x3cf4'", "(2, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "(2, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(2, 3"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(6)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "6"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "[2, 3]"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(,)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(2 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(-1,)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(+2, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(2.0, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(0x2, 3)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(10000000000000000000,)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(9223372036854775808, 2)"), ERR_DATA_FORMAT, "plain array" },
        { HEADER("'<f4'", "(1, 1, 1, 1, 1, 1, 1, 1, 6)"), ERR_DATA_FORMAT, "8 dimensions" },
        { HEADER("'<f4'", "(999999999999999999,)"), ERR_DATA_LIMIT, "2^40" },
        { HEADER("'<f4'", "(1099511627776, 1099511627776)"), ERR_DATA_LIMIT, "overflow" },
        { HEADER("'<f4'", "(4294967296, 4294967296)"), ERR_DATA_LIMIT, "overflow" },
        { HEADER("'<f4'", "(1000000, 1000)"), ERR_DATA_FORMAT, "header says 4000000000" },
        { HEADER("'<f4'", "(2, 2)"), ERR_DATA_FORMAT, "header says 16" },
        { HEADER("'|O'", "(2, 3)"), ERR_DATA_FORMAT, "pickled object array; save plain numeric arrays with np.savez" },
        { HEADER("'O'", "(2, 3)"), ERR_DATA_FORMAT, "pickled" },
        { HEADER("'|S4294967295'", "(2, 3)"), ERR_DATA_DTYPE, "strings" },
        { HEADER("'<U5'", "(2, 3)"), ERR_DATA_DTYPE, "tokenize" },
        { HEADER("'|V8'", "(2, 3)"), ERR_DATA_DTYPE, "plain array" },
        { HEADER("[('a', '<f4'), ('b', '|O')]", "(2, 3)"), ERR_DATA_DTYPE, "structured" },
        { HEADER("'>f4'", "(2, 3)"), ERR_DATA_DTYPE, "big-endian" },
        { HEADER("'>i8'", "(2, 3)"), ERR_DATA_DTYPE, "newbyteorder" },
        { HEADER("'<c8'", "(2, 3)"), ERR_DATA_DTYPE, "'<c8'" },
        { HEADER("'<M8[ns]'", "(2, 3)"), ERR_DATA_DTYPE, "M8" },
        { HEADER("''", "(2, 3)"), ERR_DATA_DTYPE, "not supported" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", ERR_DATA_FORMAT, "np.ascontiguousarray" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        add_npy(&b, 1, rows[i].header, six, sizeof six);
        assert_refused(&b, rows[i].header, rows[i].code, rows[i].says);
        buf_release(&b);
    }
#undef HEADER
}

static void a_hostile_npy_preamble_is_refused_without_taking_memory(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t n; const char *says; } rows[] = {
        { "\x93NUMPY\2\0\xf0\xff\xff\xff", 12, "longer than 10,000" },
        { "\x93NUMPY\2\0\xf0\xff", 10, "longer than" },
        { "\x93NUMPY\1\0\xff\xff", 10, "longer than 10,000" },
        { "\x93NUMPY\1\0\x40\0", 10, "longer than the file" },
        { "\x93NUMPY\1\1\x40\0", 10, "version 1.1" },
        { "\x93NUMPY\0\0\x40\0", 10, "version 0.0" },
        { "\x93NUMPY\4\0\x40\0", 10, "version 4.0" },
        { "\x93NUMPY", 6, "not a .npy" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        buf_add(&b, rows[i].bytes, rows[i].n);
        assert_refused(&b, rows[i].says, ERR_DATA_FORMAT, rows[i].says);
        buf_release(&b);
    }
}

/* ---- npz ---- */

static void an_npz_is_read_stored_deflated_zip64_or_streamed(void **state)
{
    (void)state;
    for (int form = 0; form < 8; form++)
        for (size_t shift = 0; shift < 8; shift++) {
            struct member m[2] = { six_member("pixel_values.npy"), six_member("a/b.npy") };
            for (int i = 0; i < 2; i++) {
                m[i].deflate = form & 1;
                m[i].zip64 = form & 2;
                m[i].descriptor = form & 4 && !(form & 2);
            }
            struct buf b = BYTES;
            add_npz(&b, m, 2);
            struct opened o = opened_shifted(b.p, b.n, "calib.npz", 1 << 20, shift);
            if (!o.ok)
                fail_msg("form %d: %s", form, o.e.text);
            assert_string_equal(o.d.format, "npz");
            assert_int_equal(o.d.n, 2);
            assert_six(dataset_find(&o.d, "pixel_values"));
            assert_six(dataset_find(&o.d, "a/b"));
            assert_null(dataset_find(&o.d, "pixel"));
            opened_release(&o);
            buf_release(&b);
        }
}

/* Rows change one thing of an archive that is fine otherwise. */
static void name_escapes(struct member *m) { m->name = "../x.npy"; }
static void name_escapes_inside(struct member *m) { m->name = "a/../x.npy"; }
static void name_is_absolute(struct member *m) { m->name = "/x.npy"; }
static void name_has_backslash(struct member *m) { m->name = "..\\x.npy"; }
static void name_has_control(struct member *m) { m->name = "x\n.npy"; }
static void name_is_not_utf8(struct member *m) { m->name = "x\xff.npy"; }
static void name_is_empty(struct member *m) { m->name = ".npy"; }
static void member_is_no_array(struct member *m) { m->name = "cat.jpg"; }
static void member_is_twice(struct member *m) { m->name = "b.npy"; }
static void names_differ(struct member *m) { m->central_name = "c.npy"; }
static void is_encrypted(struct member *m) { m->flags = 1; }
static void is_strongly_encrypted(struct member *m) { m->flags = 1 << 6; }
static void directory_is_encrypted(struct member *m) { m->flags = 1 << 13; }
static void is_lzma(struct member *m) { m->method = 14; }
static void is_zstd(struct member *m) { m->method = 93; }
static void central_size_lies(struct member *m) { m->central_unpacked_lie = 1; }
static void central_size_of_deflated_lies(struct member *m) { m->deflate = true; m->central_unpacked_lie = -1; }
static void both_sizes_too_large(struct member *m) { m->deflate = true; m->unpacked_lie = 1; }
static void both_sizes_too_small(struct member *m) { m->deflate = true; m->unpacked_lie = -4; }
static void streamed_size_too_large(struct member *m) { m->deflate = m->descriptor = true; m->central_unpacked_lie = 4; }
static void both_sizes_huge(struct member *m) { m->deflate = true; m->unpacked_lie = 1 << 30; }
static void crc_differs(struct member *m) { m->central_crc_lie = 1; }
static void crc_is_wrong(struct member *m) { m->descriptor = true; m->central_crc_lie = 1; }
static void starts_elsewhere(struct member *m) { m->central_start_lie = 1; }
static void starts_behind_the_file(struct member *m) { m->central_start_lie = 1 << 30; }
static void content_is_no_npy(struct member *m) { buf_release(&m->content); buf_str(&m->content, "import os"); }
static void content_is_too_long(struct member *m) { buf_add(&m->content, "x", 1); }
static void content_is_too_short(struct member *m) { m->content.n--; }
static void content_is_cut_in_its_header(struct member *m) { m->content.n = 40; }
static void content_is_pickled(struct member *m)
{
    buf_release(&m->content);
    add_npy(&m->content, 1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n", "\x80\2]q\0.", 6);
}

static void an_archive_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct { const char *label; void (*change)(struct member *m); enum err_code code; const char *says; } rows[] = {
        { "name escapes", name_escapes, ERR_DATA_FORMAT, "name" },
        { "name escapes inside", name_escapes_inside, ERR_DATA_FORMAT, "name" },
        { "name is absolute", name_is_absolute, ERR_DATA_FORMAT, "name" },
        { "name has a backslash", name_has_backslash, ERR_DATA_FORMAT, "name" },
        { "name has a control character", name_has_control, ERR_DATA_FORMAT, "name" },
        { "name is not UTF-8", name_is_not_utf8, ERR_DATA_FORMAT, "name" },
        { "name is empty", name_is_empty, ERR_DATA_FORMAT, "" },
        { "a picture", member_is_no_array, ERR_DATA_FORMAT, "images_to_npz.py" },
        { "twice", member_is_twice, ERR_DATA_FORMAT, "twice" },
        { "names differ", names_differ, ERR_DATA_FORMAT, "two headers" },
        { "encrypted", is_encrypted, ERR_DATA_FORMAT, "encrypted" },
        { "strongly encrypted", is_strongly_encrypted, ERR_DATA_FORMAT, "encrypted" },
        { "masked headers", directory_is_encrypted, ERR_DATA_FORMAT, "encrypted" },
        { "lzma", is_lzma, ERR_DATA_FORMAT, "method 14" },
        { "zstd", is_zstd, ERR_DATA_FORMAT, "method 93" },
        { "central size", central_size_lies, ERR_DATA_FORMAT, "two sizes" },
        { "central size, deflated", central_size_of_deflated_lies, ERR_DATA_FORMAT, "two headers" },
        { "sizes too large", both_sizes_too_large, ERR_DATA_FORMAT, "compressed data" },
        { "sizes too small", both_sizes_too_small, ERR_DATA_FORMAT, "its header says" },
        { "streamed, too large", streamed_size_too_large, ERR_DATA_FORMAT, "" },
        { "sizes huge", both_sizes_huge, ERR_DATA_LIMIT, "1000 times" },
        { "crc differs", crc_differs, ERR_DATA_FORMAT, "two headers" },
        { "crc wrong", crc_is_wrong, ERR_DATA_FORMAT, "checksum" },
        { "starts elsewhere", starts_elsewhere, ERR_DATA_FORMAT, "no header" },
        { "starts behind", starts_behind_the_file, ERR_DATA_FORMAT, "outside the file" },
        { "no npy", content_is_no_npy, ERR_DATA_FORMAT, "not a .npy" },
        { "too long", content_is_too_long, ERR_DATA_FORMAT, "its header says 24" },
        { "too short", content_is_too_short, ERR_DATA_FORMAT, "its header says 24" },
        { "cut header", content_is_cut_in_its_header, ERR_DATA_FORMAT, "longer than the file" },
        { "pickled", content_is_pickled, ERR_DATA_FORMAT, "pickled object array" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct member m[2] = { six_member("a.npy"), six_member("b.npy") };
        struct buf b = BYTES;
        rows[i].change(&m[0]);
        add_npz(&b, m, 2);
        assert_refused(&b, rows[i].label, rows[i].code, rows[i].says);
        buf_release(&b);
    }
}

/* The famous bomb: many directory entries share one kernel of compressed zeros. */
static void overlapping_members_are_refused(void **state)
{
    (void)state;
    struct buf b = BYTES;
    struct member m = six_member("a.npy");
    m.deflate = true;
    add_local(&b, &m);
    uint64_t at = b.n;
    for (int i = 0; i < 100; i++)
        add_central(&b, &m);
    add_end(&b, at, 100);
    assert_refused(&b, "overlap", ERR_DATA_FORMAT, "overlap");
    buf_release(&m.packed);
    buf_release(&m.content);
    buf_release(&b);
}

static void a_bomb_is_refused_before_it_is_unpacked(void **state)
{
    (void)state;
    static char zeros[32 << 20];
    struct member m = { .name = "z.npy", .content = BYTES, .deflate = true };
    struct buf b = BYTES;
    add_npy(&m.content, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (33554432,), }\n", zeros, sizeof zeros);
    add_npz(&b, &m, 1);
    assert_true(b.n < 40000);
    assert_refused(&b, "ratio", ERR_DATA_LIMIT, "1000 times");
    buf_release(&b);
}

static void an_archive_over_the_arena_is_refused_as_memory(void **state)
{
    (void)state;
    static float data[100000];
    for (size_t i = 0; i < COUNT(data); i++)
        data[i] = (float)(i * i % 1013);
    struct member m = { .name = "big.npy", .content = BYTES, .deflate = true };
    struct buf b = BYTES;
    add_npy(&m.content, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (100000,), }\n", data, sizeof data);
    add_npz(&b, &m, 1);
    struct opened o = opened_shifted(b.p, b.n, "calib.npz", 200000, 0);
    assert_int_equal(o.e.code, ERR_MEMORY);
    assert_string_equal(o.e.where, "big");
    opened_release(&o);
    o = opened_shifted(b.p, b.n, "calib.npz", 500000, 0);
    assert_true(o.ok);
    assert_memory_equal(o.d.arrays[0].t.data, data, sizeof data);
    opened_release(&o);
    buf_release(&b);
}

static void too_many_members_are_refused(void **state)
{
    (void)state;
    struct buf b = BYTES;
    add_end(&b, 0, 0xFFFF);
    assert_refused(&b, "65535 entries", ERR_DATA_LIMIT, "at most 1024");
    buf_release(&b);
    struct member *m = calloc(DATASET_MAX_ARRAYS + 1, sizeof *m);
    char names[DATASET_MAX_ARRAYS + 1][16];
    for (size_t n = DATASET_MAX_ARRAYS; n <= DATASET_MAX_ARRAYS + 1; n++) {
        for (size_t i = 0; i < n; i++) {
            snprintf(names[i], sizeof names[i], "x%zu.npy", i);
            m[i] = six_member(names[i]);
        }
        struct buf many = BYTES;
        add_npz(&many, m, n);
        struct opened o = opened(&many, "calib.npz");
        assert_int_equal(o.e.code, n > DATASET_MAX_ARRAYS ? ERR_DATA_LIMIT : ERR_NONE);
        opened_release(&o);
        buf_release(&many);
    }
    free(m);
}

static void bytes_around_an_archive_are_refused(void **state)
{
    (void)state;
    for (int front = 0; front < 2; front++) {
        struct member m = six_member("a.npy");
        struct buf b = BYTES, all = BYTES;
        add_npz(&b, &m, 1);
        buf_add(&all, "PK\3\4", front ? 4 : 0);
        buf_add(&all, b.p, b.n);
        buf_add(&all, "x", front ? 0 : 1);
        assert_refused(&all, front ? "front" : "back", ERR_DATA_FORMAT, front ? "directory" : "no end");
        buf_release(&b);
        buf_release(&all);
    }
}

static void a_bad_zip64_end_is_refused(void **state)
{
    (void)state;
    /* The locator of the archive under test, changed at one byte. */
    for (int at = 0; at < 20 + 56; at++) {
        struct member m = six_member("a.npy");
        struct buf b = BYTES;
        add_local(&b, &m);
        uint64_t directory = b.n, end64;
        add_central(&b, &m);
        end64 = b.n;
        add(&b, 0x06064b50, 4); add(&b, 44, 8); add(&b, 45, 2); add(&b, 45, 2); add(&b, 0, 8);
        add(&b, 1, 8); add(&b, 1, 8); add(&b, end64 - directory, 8); add(&b, directory, 8);
        add(&b, 0x07064b50, 4); add(&b, 0, 4); add(&b, end64, 8); add(&b, 1, 4);
        add(&b, 0x06054b50, 4); add(&b, 0, 4); add(&b, 0xFFFFFFFF, 4); add(&b, 0xFFFFFFFF, 4); add(&b, 0xFFFFFFFF, 4); add(&b, 0, 2);
        struct opened o = opened(&b, "calib.npz");
        assert_true(o.ok);
        assert_six(&o.d.arrays[0]);
        opened_release(&o);
        b.p[end64 + (uint64_t)at] ^= 0x40;
        o = opened(&b, "calib.npz");
        /* The versions and the disk of the locator are not looked at; what is read all the same must be right. */
        if (o.ok)
            assert_six(&o.d.arrays[0]);
        else
            assert_true(o.e.code == ERR_DATA_FORMAT || o.e.code == ERR_DATA_LIMIT);
        assert_int_equal(o.ok, (at >= 12 && at < 16) || (at >= 60 && at < 64) || at >= 72);
        opened_release(&o);
        buf_release(&m.packed);
        buf_release(&m.content);
        buf_release(&b);
    }
}

/* ---- safetensors ---- */

static void add_safetensors(struct buf *b, const char *header, size_t data_size)
{
    add(b, strlen(header), 8);
    buf_str(b, header);
    for (size_t i = 0; i < data_size; i++)
        buf_add(b, (const char *)six + i % sizeof six, 1);
}

#define ST(name, dtype, shape, from, to) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void safetensors_are_read(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        struct buf b = BYTES;
        add_safetensors(&b, "{\"__metadata__\":{\"format\":\"np\"}," ST("b", "I32", "[6]", 24, 48) "," ST("a", "F32", "[2,3]", 0, 24) ","
                        ST("none", "F32", "[0,3]", 24, 24) "," ST("one", "BF16", "[]", 48, 50) "}  ", 50);
        struct opened o = opened_shifted(b.p, b.n, "c.safetensors", 1 << 20, shift);
        if (!o.ok)
            fail_msg("%s: %s", o.e.where, o.e.text);
        assert_string_equal(o.d.format, "safetensors");
        assert_int_equal(o.d.n, 4);
        assert_six(dataset_find(&o.d, "a"));
        assert_int_equal(dataset_find(&o.d, "one")->t.shape.rank, 0);
        assert_int_equal(shape_elements(&dataset_find(&o.d, "none")->t.shape), 0);
        assert_memory_equal(dataset_find(&o.d, "b")->t.data, six, sizeof six);
        opened_release(&o);
        buf_release(&b);
    }
}

static void hostile_safetensors_are_refused(void **state)
{
    (void)state;
    static const struct { const char *header; size_t data; enum err_code code; const char *says; } rows[] = {
        { "{", 0, ERR_DATA_FORMAT, "not a JSON object" },
        { "{}x", 0, ERR_DATA_FORMAT, "not a JSON object" },
        { "{}", 0, ERR_DATA_FORMAT, "no arrays" },
        { "{}", 4, ERR_DATA_FORMAT, "belong to nothing" },
        { "{\"__metadata__\":{\"a\":1}}", 0, ERR_DATA_FORMAT, "strings to strings" },
        { "{\"__metadata__\":[]}", 0, ERR_DATA_FORMAT, "strings to strings" },
        { "{\"a\":1}", 0, ERR_DATA_FORMAT, "exactly" },
        { "{\"a\":{}}", 0, ERR_DATA_FORMAT, "exactly" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24],\"x\":1}}", 24, ERR_DATA_FORMAT, "exactly" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"offsets\":[0,24]}}", 24, ERR_DATA_FORMAT, "data_offsets" },
        { "{\"a\":{\"dtype\":7,\"shape\":[6],\"data_offsets\":[0,24]}}", 24, ERR_DATA_FORMAT, "dtype" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[[[6]]],\"data_offsets\":[0,24]}}", 24, ERR_DATA_FORMAT, "deeper" },
        { "{" ST("a", "F32", "[6]", 0, 24) "," ST("a", "F32", "[6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "duplicate" },
        { "{" ST("a", "F32", "[6]", 0, 24) "," ST("b", "F32", "[6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "overlaps" },
        { "{" ST("a", "F32", "[6]", 0, 24) "," ST("b", "U8", "[6]", 23, 29) "}", 29, ERR_DATA_FORMAT, "overlaps" },
        { "{" ST("a", "F32", "[6]", 0, 24) "," ST("b", "U8", "[6]", 25, 31) "}", 31, ERR_DATA_FORMAT, "hole" },
        { "{" ST("a", "F32", "[5]", 4, 24) "}", 24, ERR_DATA_FORMAT, "hole" },
        { "{" ST("a", "F32", "[6]", 0, 24) "}", 25, ERR_DATA_FORMAT, "belong to nothing" },
        { "{" ST("a", "F32", "[6]", 0, 24) "}", 23, ERR_DATA_FORMAT, "outside" },
        { "{" ST("a", "F32", "[6]", 24, 0) "}", 24, ERR_DATA_FORMAT, "outside" },
        { "{" ST("a", "F32", "[6]", -24, 0) "}", 24, ERR_DATA_FORMAT, "outside" },
        { "{" ST("a", "F32", "[6]", 0, 9223372036854775807) "}", 24, ERR_DATA_FORMAT, "outside" },
        { "{" ST("a", "F32", "[6]", 0, 9223372036854775808) "}", 24, ERR_DATA_FORMAT, "big" },
        { "{" ST("a", "F32", "[6]", 0, 24.0) "}", 24, ERR_DATA_FORMAT, "[begin, end]" },
        { "{" ST("a", "F32", "[7]", 0, 24) "}", 24, ERR_DATA_FORMAT, "needs 28 bytes" },
        { "{" ST("a", "F64", "[6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "needs 48 bytes" },
        { "{" ST("a", "F32", "[-6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "whole numbers" },
        { "{" ST("a", "F32", "[6.0]", 0, 24) "}", 24, ERR_DATA_FORMAT, "whole numbers" },
        { "{" ST("a", "F32", "6", 0, 24) "}", 24, ERR_DATA_FORMAT, "list" },
        { "{" ST("a", "F32", "[1,1,1,1,1,1,1,1,6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "8 dimensions" },
        { "{" ST("a", "F32", "[4294967296,4294967296]", 0, 24) "}", 24, ERR_DATA_LIMIT, "overflow" },
        { "{" ST("a", "F32", "[4611686018427387904,4,0]", 0, 24) "}", 24, ERR_DATA_LIMIT, "2^40" },
        { "{" ST("a", "F8_E4M3", "[24]", 0, 24) "}", 24, ERR_DATA_DTYPE, "F8_E4M3" },
        { "{" ST("../a", "F32", "[6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "name" },
        { "{" ST("", "F32", "[6]", 0, 24) "}", 24, ERR_DATA_FORMAT, "name" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        add_safetensors(&b, rows[i].header, rows[i].data);
        assert_refused(&b, rows[i].header, rows[i].code, rows[i].says);
        buf_release(&b);
    }
}

static void a_hostile_safetensors_length_is_refused_without_taking_memory(void **state)
{
    (void)state;
    static const struct { uint64_t length; size_t spaces; enum err_code code; const char *says; } rows[] = {
        { (uint64_t)1 << 63, 0, ERR_DATA_FORMAT, "longer than the file" },
        { UINT64_MAX, 0, ERR_DATA_FORMAT, "longer than the file" },
        { UINT64_MAX - 7, 0, ERR_DATA_FORMAT, "longer than the file" },
        { 100, 0, ERR_DATA_FORMAT, "longer than the file" },
        { 0, 0, ERR_DATA_FORMAT, "not a JSON object" },
        { 8 << 20, 8 << 20, ERR_DATA_LIMIT, "at most" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        add(&b, rows[i].length, 8);
        buf_str(&b, "{}");
        for (size_t k = 0; k < rows[i].spaces; k += 64)
            buf_str(&b, "                                                                ");
        assert_refused(&b, rows[i].says, rows[i].code, rows[i].says);
        buf_release(&b);
    }
}

/* ---- laws over all formats ---- */

enum { SAMPLE_FORMATS = 4 };

static void add_sample(struct buf *b, int format)
{
    if (format == 0) {
        add_npy(b, 1, six_header, six, sizeof six);
    } else if (format == 1) {
        add_safetensors(b, "{" ST("x", "F32", "[2,3]", 0, 24) "," ST("labels", "U8", "[2]", 24, 26) "}", 26);
    } else {
        struct member m[2] = { six_member("x.npy"), six_member("y.npy") };
        m[0].deflate = m[1].deflate = format == 3;
        add_npz(b, m, 2);
    }
}

static void no_prefix_of_a_data_file_is_a_data_file(void **state)
{
    (void)state;
    for (int format = 0; format < SAMPLE_FORMATS; format++) {
        struct buf b = BYTES;
        add_sample(&b, format);
        for (size_t n = 0; n <= b.n; n++) {
            struct opened o = opened_shifted(b.p, n, "c", 1 << 20, 0);
            assert_int_equal(o.ok, n == b.n);
            assert_true(o.ok || o.e.text[0]);
            opened_release(&o);
        }
        buf_release(&b);
    }
}

static void a_flipped_bit_never_changes_what_an_npz_holds(void **state)
{
    (void)state;
    for (int format = 0; format < SAMPLE_FORMATS; format++) {
        struct buf b = BYTES;
        add_sample(&b, format);
        for (size_t bit = 0; bit < 8 * b.n; bit++) {
            b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
            struct opened o = opened(&b, "c");
            if (o.ok && format >= 2) {     /* checksums cover headers and data; the rest must agree twice */
                assert_int_equal(o.d.n, 2);
                assert_six(dataset_find(&o.d, "x"));
                assert_six(dataset_find(&o.d, "y"));
            }
            opened_release(&o);
            b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
        }
        buf_release(&b);
    }
}

static void whatever_memory_there_is_opening_succeeds_or_says_so(void **state)
{
    (void)state;
    for (int format = 0; format < SAMPLE_FORMATS; format++) {
        struct buf b = BYTES;
        bool was_ok = false;
        add_sample(&b, format);
        for (uint64_t limit = 0; limit < 2000; limit += 16) {
            struct opened o = opened_shifted(b.p, b.n, "c", limit, 1);
            assert_true(o.ok ? true : o.e.code == ERR_MEMORY && !was_ok);
            was_ok |= o.ok;
            opened_release(&o);
        }
        assert_true(was_ok);
        buf_release(&b);
    }
}

static void other_files_are_told_what_they_are(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t n; const char *says; } rows[] = {
        { "", 0, "empty" },
        { "\x80\4\x95\0\0", 5, "pickle" },
        { "\x80\2}q\0", 5, "never read" },
        { "\x89HDF\r\n\x1a\n", 8, "h5py" },
        { "\xff\xd8\xff\xe0\0\x10JFIF", 10, "images_to_npz.py" },
        { "\x89PNG\r\n\x1a\n\0", 9, "images_to_npz.py" },
        { "\x1f\x8b\x08\0", 4, "gzip" },
        { "PAR1\x15", 5, "Parquet" },
        { "file,label\n0.jpg,3\n", 19, "CSV" },
        { "{\"a\": 1, {\"b\": 2}}", 18, "JSON" },
        { "[[1,2],[{3", 10, "JSON" },
        { "\x08\x08\x12\x04onnx", 8, "np.savez" },
        { "P", 1, "" },
        { "\0\0\0\0", 4, "np.savez" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        buf_add(&b, rows[i].bytes, rows[i].n);
        assert_refused(&b, rows[i].says, ERR_DATA_FORMAT, rows[i].says);
        buf_release(&b);
    }
}

/* ---- samples ---- */

static float pixels[2 * 3 * 4 * 5];
static int64_t ids[4] = { 5, 6, 7, 8 };

static struct dataset data_of(struct array *a, size_t n) { return (struct dataset){ a, n, "npz" }; }
#define ARRAY(name, type, data, ...) { name, { type, { sizeof((int64_t[]){ __VA_ARGS__ }) / 8, { __VA_ARGS__ } }, data } }
#define SPEC(name, type, ...) { name, type, { sizeof((int64_t[]){ __VA_ARGS__ }) / 8, { __VA_ARGS__ } } }

static void data_that_does_not_fit_is_told_what_was_expected_and_what_was_found(void **state)
{
    (void)state;
    static float nan_at_7[8] = { 0, 0, 0, 0, 0, 0, 0, NAN }, inf_at_2[8] = { 0, 0, -INFINITY };
    static double too_large[2] = { 1, 1e300 };
    static int64_t large_id[2] = { 1, (int64_t)1 << 40 };
    static uint64_t huge_id[2] = { 1, UINT64_MAX };
    static uint8_t not_bool[2] = { 1, 2 };
    static const struct input_spec image = SPEC("pixel_values", DT_F32, -1, 3, 4, 5), batch2 = SPEC("pixel_values", DT_F32, 4, 3, 4, 5);
    static const struct input_spec tokens = SPEC("input_ids", DT_I64, -1, -2), mask = SPEC("attention_mask", DT_I64, -1, -2);
    static const struct input_spec small = SPEC("input_ids", DT_I32, -1), flag = SPEC("flag", DT_BOOL, -1), vector = SPEC("v", DT_F32, -1, -2);
    static const struct { const char *label; struct array a[2]; struct input_spec spec[2]; enum err_code code; const char *where, *says; } rows[] = {
        { "no such array", { ARRAY("images", DT_F32, pixels, 2, 3, 4, 5), ARRAY("labels", DT_I64, ids, 2) }, { image },
          ERR_DATA_SCHEMA, "pixel_values", "the model takes pixel_values, the file has images, labels" },
        { "half of the inputs", { ARRAY("input_ids", DT_I64, ids, 2, 2), ARRAY("mask", DT_I64, ids, 2, 2) }, { tokens, mask },
          ERR_DATA_SCHEMA, "attention_mask", "the model takes input_ids, attention_mask, the file has input_ids, mask" },
        { "channels last", { ARRAY("pixel_values", DT_F32, pixels, 2, 4, 5, 3) }, { image },
          ERR_DATA_SHAPE, "pixel_values", "expected [N,3,4,5], found [2,4,5,3]; this looks like channels last (NHWC): save a.transpose(0, 3, 1, 2)" },
        { "no sample axis", { ARRAY("pixel_values", DT_F32, pixels, 3, 4, 5) }, { image },
          ERR_DATA_SHAPE, "pixel_values", "expected [N,3,4,5], found [3,4,5]; the axis of samples is missing: save a[None]" },
        { "other size", { ARRAY("pixel_values", DT_F32, pixels, 2, 3, 5, 4) }, { image },
          ERR_DATA_SHAPE, "pixel_values", "expected [N,3,4,5], found [2,3,5,4]; resize" },
        { "other rank", { ARRAY("pixel_values", DT_F32, pixels, 120) }, { image }, ERR_DATA_SHAPE, "pixel_values", "number of dimensions" },
        { "no sample", { ARRAY("pixel_values", DT_F32, pixels, 0, 3, 4, 5) }, { image }, ERR_DATA_SHAPE, "pixel_values", "empty" },
        { "no multiple of the batch", { ARRAY("pixel_values", DT_F32, pixels, 2, 3, 4, 5) }, { batch2 },
          ERR_DATA_SHAPE, "pixel_values", "exactly 4 samples at a time" },
        { "fixed batch, other size", { ARRAY("pixel_values", DT_F32, pixels, 2, 3, 5, 4) }, { batch2 }, ERR_DATA_SHAPE, "pixel_values", "[N*4,3,4,5]" },
        { "different counts", { ARRAY("input_ids", DT_I64, ids, 2, 2), ARRAY("v", DT_F32, pixels, 3, 2) }, { tokens, SPEC("v", DT_F32, -3, -2) },
          ERR_DATA_SHAPE, "v", "3 samples, but \"input_ids\" has 2" },
        { "different lengths", { ARRAY("input_ids", DT_I64, ids, 2, 2), ARRAY("attention_mask", DT_I64, ids, 2, 1) }, { tokens, mask },
          ERR_DATA_SHAPE, "attention_mask", "axis 1 has length 1, but the same dimension has length 2 in \"input_ids\"" },
        { "uint8 pictures", { ARRAY("pixel_values", DT_U8, pixels, 2, 3, 4, 5) }, { image },
          ERR_DATA_DTYPE, "pixel_values", "the array is uint8, the model takes float32; apply the model's preprocessing" },
        { "float ids", { ARRAY("input_ids", DT_F32, pixels, 2, 2) }, { tokens }, ERR_DATA_DTYPE, "input_ids", "token ids" },
        { "bool for float", { ARRAY("v", DT_BOOL, pixels, 2, 2) }, { vector }, ERR_DATA_DTYPE, "v", "astype(\"float32\")" },
        { "NaN", { ARRAY("v", DT_F32, nan_at_7, 2, 4) }, { vector }, ERR_DATA_VALUES, "v", "NaN at flat index 7 (sample 1)" },
        { "infinity", { ARRAY("v", DT_F32, inf_at_2, 2, 4) }, { vector }, ERR_DATA_VALUES, "v", "-infinity at flat index 2 (sample 0)" },
        { "float64 overflow", { ARRAY("v", DT_F64, too_large, 2, 1) }, { vector }, ERR_DATA_VALUES, "v", "1e+300 at flat index 1" },
        { "int64 into int32", { ARRAY("input_ids", DT_I64, large_id, 2) }, { small }, ERR_DATA_VALUES, "input_ids", "flat index 1 does not fit the model's int32" },
        { "uint64 into int64", { ARRAY("input_ids", DT_U64, huge_id, 2, 1) }, { tokens }, ERR_DATA_VALUES, "input_ids", "flat index 1" },
        { "no bool", { ARRAY("flag", DT_BOOL, not_bool, 2) }, { flag }, ERR_DATA_VALUES, "flag", "neither 0 nor 1" },
        { "float labels", { ARRAY("v", DT_F32, pixels, 2, 2), ARRAY("labels", DT_F32, pixels, 2) }, { vector }, ERR_DATA_DTYPE, "labels", "integer type" },
        { "labels of another length", { ARRAY("v", DT_F32, pixels, 2, 2), ARRAY("labels", DT_I64, ids, 3) }, { vector },
          ERR_DATA_SHAPE, "labels", "expected [2], one label a sample, found [3]" },
        { "one-hot labels", { ARRAY("v", DT_F32, pixels, 2, 2), ARRAY("labels", DT_I64, ids, 2, 2) }, { vector }, ERR_DATA_SHAPE, "labels", "found [2,2]" },
        { "a scalar input", { ARRAY("v", DT_F32, pixels, 2) }, { { "v", DT_F32, { 0 } } }, ERR_DATA_SHAPE, "v", "single number" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct array a[2] = { rows[i].a[0], rows[i].a[1] };
        struct dataset d = data_of(a, rows[i].a[1].name ? 2 : 1);
        struct samples s = { 0 };
        struct err e = { 0 };
        bool ok = dataset_samples(mem, &d, rows[i].spec, rows[i].spec[1].name ? 2 : 1, &s, &e);
        if (ok || e.code != rows[i].code || strcmp(e.where, rows[i].where) != 0 || !strstr(e.text, rows[i].says))
            fail_msg("%s: got %s at '%s': %s", rows[i].label, ok ? "no error" : err_slug(e.code), e.where, e.text);
        assert_null(s.inputs);
        arena_free(mem);
    }
}

static void data_that_fits_comes_in_the_order_of_the_inputs(void **state)
{
    (void)state;
    struct array a[] = { ARRAY("labels", DT_U8, ((uint8_t[]){ 200, 3 }), 2), ARRAY("attention_mask", DT_I64, ids, 2, 2),
                         ARRAY("extra", DT_F64, pixels, 1), ARRAY("input_ids", DT_I64, ids, 2, 2) };
    struct input_spec specs[] = { SPEC("input_ids", DT_I64, -1, -2), SPEC("attention_mask", DT_I64, -1, -2) };
    struct dataset d = data_of(a, COUNT(a));
    struct arena *mem = arena_new(1 << 20);
    struct samples s;
    struct err e = { 0 };
    assert_true(dataset_samples(mem, &d, specs, 2, &s, &e));
    assert_int_equal(s.n_inputs, 2);
    assert_int_equal(s.count, 2);
    assert_string_equal(s.inputs[0]->name, "input_ids");
    assert_string_equal(s.inputs[1]->name, "attention_mask");
    assert_ptr_equal(s.inputs[0]->t.data, ids);        /* nothing to convert, nothing copied */
    assert_int_equal(s.labels[0], 200);
    assert_int_equal(s.labels[1], 3);
    arena_free(mem);
}

static void a_model_with_a_fixed_batch_takes_a_multiple_of_it(void **state)
{
    (void)state;
    struct array a[] = { ARRAY("x", DT_F32, pixels, 6, 20) };
    struct dataset d = data_of(a, 1);
    for (int64_t batch = 1; batch <= 7; batch++) {
        struct input_spec spec = SPEC("x", DT_F32, batch, 20);
        struct arena *mem = arena_new(1 << 20);
        struct samples s;
        assert_int_equal(dataset_samples(mem, &d, &spec, 1, &s, NULL), 6 % batch == 0);
        arena_free(mem);
    }
}

static void the_array_of_a_npy_is_the_only_input(void **state)
{
    (void)state;
    struct buf b = BYTES;
    add_npy(&b, 1, six_header, six, sizeof six);
    struct opened o = opened(&b, "whatever.npy");
    struct input_spec specs[] = { SPEC("pixel_values", DT_F32, -1, 3), SPEC("other", DT_F32, -1, 3) };
    struct samples s;
    assert_true(dataset_samples(o.mem, &o.d, specs, 1, &s, NULL));
    assert_string_equal(s.inputs[0]->name, "pixel_values");
    assert_int_equal(s.count, 2);
    struct err e = { 0 };
    assert_false(dataset_samples(o.mem, &o.d, specs, 2, &s, &e));
    assert_int_equal(e.code, ERR_DATA_SCHEMA);
    opened_release(&o);
    buf_release(&b);
}

static void values_keep_their_meaning_when_converted(void **state)
{
    (void)state;
    static const double d[4] = { 0.1, -3, 1e-50, 16777217 };
    static const float d_want[4] = { 0.1f, -3, 0, 16777216 };
    static const uint16_t half[4] = { 0x3C00, 0xC000, 0x0001, 0x7BFF };
    static const float half_want[4] = { 1, -2, 5.9604644775390625e-8f, 65504 };
    static const uint16_t bf[4] = { 0x3F80, 0xC040, 0x0000, 0x4348 };
    static const float bf_want[4] = { 1, -3, 0, 200 };
    static const int8_t i8[4] = { -128, -1, 0, 127 };
    static const uint32_t u32[4] = { 0, 1, 2, 2147483647 };
    static const int32_t i32[4] = { -2147483647 - 1, -1, 0, 2147483647 }, i8_as_32[4] = { -128, -1, 0, 127 }, u32_as_32[4] = { 0, 1, 2, 2147483647 };
    static const int64_t i32_as_64[4] = { -2147483648LL, -1, 0, 2147483647 };
    static const struct { enum dtype from, to; const void *data, *want; size_t size; } rows[] = {
        { DT_F64, DT_F32, d, d_want, 4 }, { DT_F16, DT_F32, half, half_want, 4 }, { DT_BF16, DT_F32, bf, bf_want, 4 },
        { DT_I8, DT_I32, i8, i8_as_32, 4 }, { DT_U32, DT_I32, u32, u32_as_32, 4 }, { DT_I32, DT_I64, i32, i32_as_64, 8 },
        { DT_I64, DT_I32, i32_as_64, i32, 4 }, { DT_I64, DT_I64, i32_as_64, i32_as_64, 8 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct array a[] = { { "x", { rows[i].from, { 1, { 4 } }, (void *)(uintptr_t)rows[i].data } } };
        struct input_spec spec = { "x", rows[i].to, { 1, { -1 } } };
        struct dataset ds = data_of(a, 1);
        struct arena *mem = arena_new(1 << 20);
        struct samples s;
        assert_true(dataset_samples(mem, &ds, &spec, 1, &s, NULL));
        assert_int_equal(s.inputs[0]->t.dtype, rows[i].to);
        assert_memory_equal(s.inputs[0]->t.data, rows[i].want, 4 * rows[i].size);
        arena_free(mem);
    }
}

static void a_value_that_is_not_finite_is_found_wherever_it_is(void **state)
{
    (void)state;
    enum { N = 10000 };
    float *x = calloc(N, sizeof *x);
    struct array a[] = { { "x", { DT_F32, { 1, { N } }, x } } };
    struct input_spec spec = SPEC("x", DT_F32, -1);
    struct dataset d = data_of(a, 1);
    for (int at = 0; at < N; at += 613) {
        char says[64];
        struct arena *mem = arena_new(1 << 20);
        struct samples s;
        struct err e = { 0 };
        x[at] = at % 2 ? NAN : INFINITY;
        x[N - 1] = NAN;                    /* the first one is told */
        assert_false(dataset_samples(mem, &d, &spec, 1, &s, &e));
        snprintf(says, sizeof says, "%s at flat index %d ", at % 2 ? "NaN" : "+infinity", at);
        assert_non_null(strstr(e.text, says));
        x[at] = x[N - 1] = 3e38f;          /* large, and finite */
        assert_true(dataset_samples(mem, &d, &spec, 1, &s, NULL));
        arena_free(mem);
    }
    free(x);
}

/* ---- describing and writing ---- */

static void a_dataset_is_described_for_people(void **state)
{
    (void)state;
    static float x[6] = { 1, NAN, -4, INFINITY, 5, 0 };
    static int64_t big[2] = { 9007199254740993, -1 };
    struct array a[] = { ARRAY("x", DT_F32, x, 2, 3), ARRAY("labels", DT_I64, big, 2), ARRAY("none", DT_F16, NULL, 2, 0) };
    struct dataset d = data_of(a, 3);
    json_t *j = dataset_describe(&d);
    char *text = json_dumps(j, JSON_COMPACT);
    assert_string_equal(text, "{\"format\":\"npz\",\"samples\":2,\"arrays\":["
        "{\"name\":\"x\",\"dtype\":\"float32\",\"shape\":[2,3],\"min\":-4.0,\"max\":5.0,\"mean\":0.5,\"nan_count\":1,\"inf_count\":1},"
        "{\"name\":\"labels\",\"dtype\":\"int64\",\"shape\":[2],\"min\":-1,\"max\":9007199254740993,\"mean\":4503599627370495.5,\"nan_count\":0,\"inf_count\":0},"
        "{\"name\":\"none\",\"dtype\":\"float16\",\"shape\":[2,0],\"min\":null,\"max\":null,\"mean\":null,\"nan_count\":0,\"inf_count\":0}],\"has_labels\":true}");
    free(text);
    json_decref(j);
    a[1].t.shape.dim[0] = 1;
    d.n = 2;
    j = dataset_describe(&d);
    assert_true(json_is_null(json_object_get(j, "samples")));
    json_decref(j);
}

static char folder[] = "/tmp/test_data.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);                  /* fails where a test left something behind */
}

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void what_is_written_is_read_back_in_place(void **state)
{
    (void)state;
    static uint8_t data[] = "the bytes of any type, sixty-four of them, and a few more of them.";
    static const enum dtype types[] = { DT_F32, DT_F64, DT_F16, DT_BOOL, DT_U8, DT_U16, DT_U32, DT_U64, DT_I8, DT_I16, DT_I32, DT_I64 };
    struct array a[COUNT(types) + 2];
    char names[COUNT(types)][32];
    for (size_t i = 0; i < COUNT(types); i++) {
        snprintf(names[i], sizeof names[i], "out/%s", dtype_name(types[i]));
        a[i] = (struct array){ names[i], { types[i], { 2, { 2, (int64_t)(1 + i % 3) } }, data } };
    }
    a[COUNT(types)] = (struct array){ "scalar", { DT_F32, { 0 }, data } };
    a[COUNT(types) + 1] = (struct array){ "empty", { DT_F32, { 2, { 0, 7 } }, NULL } };
    struct err e = { 0 };
    for (int round = 0; round < 2; round++)
        if (!npz_write(in_folder(round ? "2.npz" : "1.npz"), a, COUNT(a), &e))
            fail_msg("%s", e.text);
    struct mapping one, two;
    assert_true(mapping_path(&one, in_folder("1.npz"), &e) && mapping_path(&two, in_folder("2.npz"), &e));
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    struct arena *mem = arena_new(1 << 20);
    struct dataset d;
    if (!dataset_open(mem, &one, "1.npz", &d, &e))
        fail_msg("%s: %s", e.where, e.text);
    assert_int_equal(d.n, COUNT(a));
    for (size_t i = 0; i < COUNT(a); i++) {
        const struct array *back = dataset_find(&d, a[i].name);
        uint64_t bytes;
        assert_non_null(back);
        assert_int_equal(back->t.dtype, a[i].t.dtype);
        assert_true(shape_equal(&back->t.shape, &a[i].t.shape));
        assert_true(tensor_size(back->t.dtype, &back->t.shape, "", NULL, &bytes, NULL));
        if (bytes)
            assert_memory_equal(back->t.data, data, bytes);
        assert_true((const uint8_t *)back->t.data >= one.data && (const uint8_t *)back->t.data <= one.data + one.size);
        assert_int_equal(((const uint8_t *)back->t.data - one.data) % 64, 0);
    }
    arena_free(mem);
    mapping_release(&one);
    mapping_release(&two);
    assert_int_equal(unlink(in_folder("1.npz")), 0);
    assert_int_equal(unlink(in_folder("2.npz")), 0);
}

static int writes_left;

static ssize_t failing_write(int fd, const void *p, size_t n)
{
    if (writes_left-- > 0)
        return write(fd, p, n);
    errno = ENOSPC;
    return -1;
}

static void an_npz_is_whole_or_absent_whatever_write_fails(void **state)
{
    (void)state;
    struct array a[] = { ARRAY("x", DT_F32, pixels, 2, 3), ARRAY("y", DT_I64, ids, 4) };
    struct sys real = sys;
    sys.write = failing_write;
    int failures = 0;
    for (int n = 0;; n++) {
        struct err e = { 0 };
        writes_left = n;
        bool ok = npz_write(in_folder("x.npz"), a, 2, &e);
        assert_int_equal(access(in_folder("x.npz"), F_OK) == 0, ok);
        if (ok)
            break;
        assert_int_equal(e.code, ERR_DISK);
        failures++;
    }
    sys = real;
    assert_true(failures >= 7);            /* two headers and data for each array, and the directory */
    assert_int_equal(unlink(in_folder("x.npz")), 0);
}

static void what_an_npz_cannot_hold_is_refused(void **state)
{
    (void)state;
    struct array a[] = { ARRAY("x", DT_BF16, pixels, 2) };
    struct err e = { 0 };
    assert_false(npz_write(in_folder("x.npz"), a, 1, &e));
    assert_int_equal(e.code, ERR_DATA_DTYPE);
    assert_non_null(strstr(e.text, "bfloat16"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_npy_is_read_whatever_its_version_and_spelling),
        cmocka_unit_test(every_element_type_of_the_list_is_read),
        cmocka_unit_test(a_hostile_npy_header_is_refused_with_the_remedy),
        cmocka_unit_test(a_hostile_npy_preamble_is_refused_without_taking_memory),
        cmocka_unit_test(an_npz_is_read_stored_deflated_zip64_or_streamed),
        cmocka_unit_test(an_archive_that_lies_is_refused),
        cmocka_unit_test(overlapping_members_are_refused),
        cmocka_unit_test(a_bomb_is_refused_before_it_is_unpacked),
        cmocka_unit_test(an_archive_over_the_arena_is_refused_as_memory),
        cmocka_unit_test(too_many_members_are_refused),
        cmocka_unit_test(bytes_around_an_archive_are_refused),
        cmocka_unit_test(a_bad_zip64_end_is_refused),
        cmocka_unit_test(safetensors_are_read),
        cmocka_unit_test(hostile_safetensors_are_refused),
        cmocka_unit_test(a_hostile_safetensors_length_is_refused_without_taking_memory),
        cmocka_unit_test(no_prefix_of_a_data_file_is_a_data_file),
        cmocka_unit_test(a_flipped_bit_never_changes_what_an_npz_holds),
        cmocka_unit_test(whatever_memory_there_is_opening_succeeds_or_says_so),
        cmocka_unit_test(other_files_are_told_what_they_are),
        cmocka_unit_test(data_that_does_not_fit_is_told_what_was_expected_and_what_was_found),
        cmocka_unit_test(data_that_fits_comes_in_the_order_of_the_inputs),
        cmocka_unit_test(a_model_with_a_fixed_batch_takes_a_multiple_of_it),
        cmocka_unit_test(the_array_of_a_npy_is_the_only_input),
        cmocka_unit_test(values_keep_their_meaning_when_converted),
        cmocka_unit_test(a_value_that_is_not_finite_is_found_wherever_it_is),
        cmocka_unit_test(a_dataset_is_described_for_people),
        cmocka_unit_test(what_is_written_is_read_back_in_place),
        cmocka_unit_test(an_npz_is_whole_or_absent_whatever_write_fails),
        cmocka_unit_test(what_an_npz_cannot_hold_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
