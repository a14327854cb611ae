/* Archives: what is read, which lies are found, and that writing is whole, aligned and reproducible. */
#include "tests/unit/core/data_files.h"

#include "core/data/format.h"
#include "core/data/zip.h"

#include <errno.h>
#include <unistd.h>

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
                m[i].mode = form & 1 ? 0100644 : 0;
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
static void is_a_link(struct member *m) { m->mode = 0120777; }
static void is_a_device(struct member *m) { m->mode = 0020666; }
static void is_a_pipe(struct member *m) { m->mode = 0010644; }
static void is_a_link_with_a_bad_name(struct member *m) { m->mode = 0120777; m->name = "../x"; }
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
        { "a picture", member_is_no_array, ERR_DATA_FORMAT, "preprocess.json" },
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
        { "link", is_a_link, ERR_DATA_FORMAT, "a link or a device" },
        { "device", is_a_device, ERR_DATA_FORMAT, "a link or a device" },
        { "pipe", is_a_pipe, ERR_DATA_FORMAT, "a link or a device" },
        { "link with a bad name", is_a_link_with_a_bad_name, ERR_DATA_FORMAT, "name" },
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

/* Each alone is only large; their sum begins again at 0. */
static void sizes_that_overflow_together_are_refused(void **state)
{
    (void)state;
    struct member m[3] = { six_member("a.npy"), six_member("b.npy"), six_member("c.npy") };
    for (size_t i = 0; i < COUNT(m); i++) {
        m[i].deflate = m[i].zip64 = true;
        m[i].unpacked_lie = INT64_MAX;
    }
    struct buf b = BYTES;
    add_npz(&b, m, COUNT(m));
    assert_refused(&b, "overflow", ERR_DATA_FORMAT, "sizes of the members overflow");
    buf_release(&b);
}

static void a_directory_longer_than_its_members_is_refused(void **state)
{
    (void)state;
    struct buf b = BYTES;
    struct member m[2] = { six_member("a.npy"), six_member("b.npy") };
    for (int i = 0; i < 2; i++)
        add_local(&b, &m[i]);
    uint64_t at = b.n;
    for (int i = 0; i < 2; i++)
        add_central(&b, &m[i]);
    add_end(&b, at, 1);
    assert_refused(&b, "one of two", ERR_DATA_FORMAT, "more bytes than members");
    buf_release(&b);
    for (int i = 0; i < 2; i++)
        member_release(&m[i]);
}

/* Of an archive with one member, whose name has five bytes and whose sizes and place are zip64 fields. */
enum part { LOCAL, CENTRAL, END };
struct patch { enum part part; int at, bytes; uint64_t value; };

static void patch(struct buf *b, const uint64_t begin[], struct patch x)
{
    for (int i = 0; i < x.bytes; i++)
        b->p[begin[x.part] + (uint64_t)x.at + (uint64_t)i] = (char)(x.value >> (8 * i));
}

/* Each of these lengths would lead out of the file, or out of what it is the length of. */
static void a_length_that_leads_outside_is_refused(void **state)
{
    (void)state;
    static const struct { const char *label; struct patch patch[2]; const char *says; } rows[] = {
        { "a packed size of both", { { LOCAL, 47, 8, 1 << 20 }, { CENTRAL, 63, 8, 1 << 20 } }, "outside the file" },
        { "a local name", { { LOCAL, 26, 2, 0xFFFF } }, "outside the file" },
        { "a local extra field", { { LOCAL, 28, 2, 0xFFFF } }, "outside the file" },
        { "a name", { { CENTRAL, 28, 2, 0xFFFF } }, "directory is not valid" },
        { "a comment", { { CENTRAL, 32, 2, 1 } }, "directory is not valid" },
        { "one field of the local extra field", { { LOCAL, 37, 2, 17 } }, "extra field" },
        { "one field of the extra field", { { CENTRAL, 53, 2, 25 } }, "extra field" },
        { "one field of the extra field, a byte before the last", { { CENTRAL, 53, 2, 23 } }, "extra field" },
        { "no zip64 field", { { CENTRAL, 51, 2, 7 } }, "extra field" },
        { "no local zip64 field", { { LOCAL, 35, 2, 7 } }, "extra field" },
        { "a zip64 field of two numbers of three", { { CENTRAL, 53, 2, 16 } }, "extra field" },
        { "a place", { { CENTRAL, 71, 8, 1 << 30 } }, "outside the file" },
        { "a place near the end of numbers", { { CENTRAL, 71, 8, UINT64_MAX - 3 } }, "outside the file" },
        { "more members than there are", { { END, 8, 2, 2 }, { END, 10, 2, 2 } }, "directory is not valid" },
        { "fewer members than there are", { { END, 8, 2, 0 }, { END, 10, 2, 0 } }, "more bytes than members" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct member m = six_member("a.npy");
        struct buf b = BYTES;
        m.zip64 = m.deflate = true;
        uint64_t begin[3] = { 0 };
        add_local(&b, &m);
        begin[CENTRAL] = b.n;
        add_central(&b, &m);
        begin[END] = b.n;
        add_end(&b, begin[CENTRAL], 1);
        struct opened o = opened(&b, "calib");
        assert_true(o.ok);
        opened_release(&o);
        for (int k = 0; k < 2; k++)
            patch(&b, begin, rows[i].patch[k]);
        assert_refused(&b, rows[i].label, ERR_DATA_FORMAT, rows[i].says);
        member_release(&m);
        buf_release(&b);
    }
}

/* The directory's last bytes look like the beginning of one more header. */
static void a_directory_that_ends_in_a_header_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < 46; n++) {
        struct member m = six_member("a.npy");
        struct buf b = BYTES, header = BYTES;
        add_local(&b, &m);
        uint64_t at = b.n;
        add_central(&b, &m);
        add_central(&header, &m);
        buf_add(&b, header.p, n);
        add_end(&b, at, 2);
        assert_refused(&b, "cut header", ERR_DATA_FORMAT, "directory is not valid");
        buf_release(&header);
        member_release(&m);
        buf_release(&b);
    }
}

static void a_member_gives_no_more_than_it_has(void **state)
{
    (void)state;
    for (int deflate = 0; deflate < 2; deflate++) {
        struct arena *mem = arena_new(1 << 20);
        struct member m = six_member("a.npy");
        struct buf b = BYTES;
        struct zip z;
        struct zip_reader r;
        struct err e = { 0 };
        uint8_t to[256];
        m.deflate = deflate;
        uint64_t n = m.content.n;
        add_npz(&b, &m, 1);
        struct guarded g = guarded(b.p, b.n);
        struct mapping file = { .data = g.p, .size = b.n };
        assert_true(zip_open(mem, &file, "a", &z, &e) && zip_start(&r, &z.entries[0], "a", &e));
        assert_true(zip_read(&r, to, n - 1, &e));
        assert_false(zip_read(&r, to, 2, &e));
        assert_int_equal(e.code, ERR_DATA_FORMAT);
        assert_non_null(strstr(e.text, "shorter"));
        assert_false(zip_end(&r, &(struct err){ 0 }));
        zip_stop(&r);
        guarded_release(&g);
        buf_release(&b);
        arena_free(mem);
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
    member_release(&m);
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
    assert_refused(&b, "65535 entries", ERR_DATA_LIMIT, "at most 20100");
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
        member_release(&m);
        buf_release(&b);
    }
}

/* The short record may leave a number to the long one; if it says one, it must be the same. */
static void end_records_that_differ_are_refused(void **state)
{
    (void)state;
    static const struct { uint64_t entries, size_more, at_more; bool ok; } rows[] = {
        { 1, 0, 0, true }, { 2, 0, 0, false }, { 1, 1, 0, false }, { 1, 0, 1, false },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct member m = six_member("a.npy");
        struct buf b = BYTES;
        add_local(&b, &m);
        uint64_t directory = b.n, end64;
        add_central(&b, &m);
        end64 = b.n;
        add(&b, 0x06064b50, 4); add(&b, 44, 8); add(&b, 45, 2); add(&b, 45, 2); add(&b, 0, 8);
        add(&b, 1, 8); add(&b, 1, 8); add(&b, end64 - directory, 8); add(&b, directory, 8);
        add(&b, 0x07064b50, 4); add(&b, 0, 4); add(&b, end64, 8); add(&b, 1, 4);
        add(&b, 0x06054b50, 4); add(&b, 0, 4); add(&b, rows[i].entries, 2); add(&b, rows[i].entries, 2);
        add(&b, end64 - directory + rows[i].size_more, 4); add(&b, directory + rows[i].at_more, 4); add(&b, 0, 2);
        if (!rows[i].ok)
            assert_refused(&b, "end records", ERR_DATA_FORMAT, "two end records differ");
        struct opened o = opened(&b, "calib.npz");
        assert_int_equal(o.ok, rows[i].ok);
        opened_release(&o);
        member_release(&m);
        buf_release(&b);
    }
}

/* ---- writing ---- */

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
        a[i] = (struct array){ .name = names[i], .t = { types[i], { 2, { 2, (int64_t)(1 + i % 3) } }, data } };
    }
    a[COUNT(types)] = (struct array){ .name = "scalar", .t = { DT_F32, { 0 }, data } };
    a[COUNT(types) + 1] = (struct array){ .name = "empty", .t = { DT_F32, { 2, { 0, 7 } }, NULL } };
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
    struct array a[] = { ARRAY("x", DT_F32, (void *)(uintptr_t)six, 2, 3), ARRAY("y", DT_I64, (void *)(uintptr_t)six, 3) };
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
    struct array a[] = { ARRAY("x", DT_BF16, (void *)(uintptr_t)six, 2) };
    struct err e = { 0 };
    assert_false(npz_write(in_folder("x.npz"), a, 1, &e));
    assert_int_equal(e.code, ERR_DATA_DTYPE);
    assert_non_null(strstr(e.text, "bfloat16"));

    char name[DATA_MAX_NAME + 2] = "";
    memset(name, 'n', sizeof name - 1);
    a[0] = (struct array)ARRAY(name, DT_F32, (void *)(uintptr_t)six, 2);
    e = (struct err){ 0 };
    assert_false(npz_write(in_folder("x.npz"), a, 1, &e));
    assert_int_equal(e.code, ERR_DATA_LIMIT);
    assert_non_null(strstr(e.text, "name has more than"));
    assert_int_equal(access(in_folder("x.npz"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_npz_is_read_stored_deflated_zip64_or_streamed),
        cmocka_unit_test(an_archive_that_lies_is_refused),
        cmocka_unit_test(sizes_that_overflow_together_are_refused),
        cmocka_unit_test(a_directory_longer_than_its_members_is_refused),
        cmocka_unit_test(a_length_that_leads_outside_is_refused),
        cmocka_unit_test(a_directory_that_ends_in_a_header_is_refused),
        cmocka_unit_test(a_member_gives_no_more_than_it_has),
        cmocka_unit_test(overlapping_members_are_refused),
        cmocka_unit_test(a_bomb_is_refused_before_it_is_unpacked),
        cmocka_unit_test(an_archive_over_the_arena_is_refused_as_memory),
        cmocka_unit_test(too_many_members_are_refused),
        cmocka_unit_test(bytes_around_an_archive_are_refused),
        cmocka_unit_test(a_bad_zip64_end_is_refused),
        cmocka_unit_test(end_records_that_differ_are_refused),
        cmocka_unit_test(what_is_written_is_read_back_in_place),
        cmocka_unit_test(an_npz_is_whole_or_absent_whatever_write_fails),
        cmocka_unit_test(what_an_npz_cannot_hold_is_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
