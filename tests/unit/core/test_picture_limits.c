/* Pictures and what comes with them: what is too large, cut off or endless is refused before it costs anything. */
#include "tests/unit/core/data_files.h"

#include "core/data/images.h"
#include "core/data/labels.h"
#include "core/data/picture.h"

#include <jpeglib.h>
#include <sys/resource.h>

/* ---- dimensions ---- */

static void dimensions_are_bounded(void **state)
{
    (void)state;
    static const struct { uint64_t width, height; bool ok; } rows[] = {
        { 1, 1, true }, { 0, 1, false }, { 1, 0, false },
        { PICTURE_MAX_SIDE, 1, true }, { PICTURE_MAX_SIDE + 1, 1, false }, { 1, PICTURE_MAX_SIDE + 1, false },
        { PICTURE_MAX_SIDE, 2, true }, { 0, 5, false }, { 5, 0, false },
        { 8192, PICTURE_MAX_PIXELS / 8192, true }, { 8192, PICTURE_MAX_PIXELS / 8192 + 1, false },
        { PICTURE_MAX_SIDE, 2048, true }, { PICTURE_MAX_SIDE, 2049, false },
        { 1ull << 32, 1ull << 32, false }, { UINT64_MAX, UINT64_MAX, false },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct picture p;
        struct err e = { 0 };
        if (picture_alloc(&p, rows[i].width, rows[i].height, "a.png", &e) != rows[i].ok)
            fail_msg("%llu x %llu", (unsigned long long)rows[i].width, (unsigned long long)rows[i].height);
        assert_int_equal(e.code, rows[i].ok ? ERR_NONE : ERR_DATA_LIMIT);
        assert_true(rows[i].ok || strstr(e.text, "at most 16384 a side"));
        picture_release(&p);
    }
    struct picture p;
    struct err e = { 0 };
    assert_false(picture_decode("\xff\xd8\xff", (uint64_t)PICTURE_MAX_FILE + 1, "a.jpg", &p, &e));     /* refused before a byte is read */
    assert_int_equal(e.code, ERR_DATA_LIMIT);
    assert_non_null(strstr(e.text, "67108865 bytes"));
}

static long peak_kb(void)
{
    struct rusage r;
    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return r.ru_maxrss;
}

/* The weights of eight million rows would be 224 MB. */
static void a_picture_that_becomes_too_large_is_refused_before_its_weights_are_made(void **state)
{
    (void)state;
    struct picture p, large;
    struct err e = { 0 };
    assert_true(picture_alloc(&p, 1, PICTURE_MAX_SIDE, "a.png", &e));
    long before = peak_kb();
    assert_false(picture_resize(&p, 4, 8000000, RESAMPLE_BICUBIC, &large, &e));
    assert_int_equal(e.code, ERR_DATA_LIMIT);
    assert_null(large.rgb);
    if (peak_kb() - before > 100000)
        fail_msg("%ld kB were taken", peak_kb() - before);
    picture_release(&p);
}

/* ---- EXIF ---- */

enum { EXIF_SIZE = 26, ORIENTATION = 0x0112, SHORT = 3, LONG = 4 };
struct entry { uint32_t tag, type, value; };

/* One entry at offset 8, in the order of bytes that `big` says, of a directory that is said to be at `at` and to have so many. */
static size_t exif(uint8_t to[EXIF_SIZE], bool big, uint32_t at, unsigned entries, struct entry only)
{
    const struct { int bytes; uint32_t x; } parts[] = {
        { 4, at }, { 2, entries }, { 2, only.tag }, { 2, only.type }, { 4, 1 }, { 2, only.value }, { 2, 0 }, { 4, 0 },
    };
    size_t n = 4;
    memcpy(to, big ? "MM\0*" : "II*\0", 4);
    for (size_t i = 0; i < COUNT(parts); i++)
        for (int k = 0; k < parts[i].bytes; k++)
            to[n++] = (uint8_t)(parts[i].x >> 8 * (big ? parts[i].bytes - 1 - k : k));
    return n;
}

static int orientation_of(const uint8_t *p, size_t n)
{
    struct guarded g = guarded(p, n);
    int exif = exif_orientation(g.p, n);
    guarded_release(&g);
    return exif;
}

static void an_orientation_is_read_where_it_is_one_and_nowhere_else(void **state)
{
    (void)state;
    static const struct { struct entry entry; int want; } rows[] = { { { ORIENTATION, LONG, 6 }, 1 }, { { ORIENTATION + 1, SHORT, 6 }, 1 } };
    static const uint32_t places[] = { 9, 20, 23, 24, 25, 26, 27, 4096, 0x7fffffff, 0xffffffff };
    for (int big = 0; big < 2; big++) {
        uint8_t block[EXIF_SIZE];
        for (unsigned value = 0; value < 12; value++) {
            size_t n = exif(block, big, 8, 1, (struct entry){ ORIENTATION, SHORT, value });
            assert_int_equal(n, EXIF_SIZE);
            assert_int_equal(orientation_of(block, n), value >= 1 && value <= 8 ? (int)value : 1);
            for (size_t cut = 0; cut < 22; cut++)
                assert_int_equal(orientation_of(block, cut), 1);
        }
        for (size_t i = 0; i < COUNT(rows); i++)
            assert_int_equal(orientation_of(block, exif(block, big, 8, 1, rows[i].entry)), rows[i].want);
        for (size_t i = 0; i < COUNT(places); i++)
            assert_int_equal(orientation_of(block, exif(block, big, places[i], 0xffff, (struct entry){ ORIENTATION, SHORT, 6 })), 1);
        size_t n = exif(block, big, 8, 1, (struct entry){ ORIENTATION, SHORT, 6 });
        block[2] = block[3] = 0;               /* no TIFF header */
        assert_int_equal(orientation_of(block, n), 1);
    }
}

/* ---- PNG ---- */

static struct buf png_of(int width, int height)
{
    struct picture p;
    struct buf b = BYTES;
    assert_true(picture_alloc(&p, (uint64_t)width, (uint64_t)height, "", NULL));
    for (int i = 0; i < 3 * width * height; i++)
        p.rgb[i] = (uint8_t)(i * i);
    assert_true(picture_png(&p, &b));
    picture_release(&p);
    return b;
}

/* The code of the error, whose text says so, or none; the bytes end where nothing may be read. */
static enum err_code decoded(const struct buf *b, size_t n, const char *says)
{
    struct picture p;
    struct err e = { 0 };
    struct guarded g = guarded(b->p, n);
    bool ok = picture_decode(g.p, n, "a picture", &p, &e);
    assert_int_equal(ok, e.code == ERR_NONE);
    assert_int_equal(ok, p.rgb != NULL);
    if (!ok && (strcmp(e.where, "a picture") != 0 || !strstr(e.text, says)))
        fail_msg("%zu of %zu bytes: %s: %s", n, b->n, e.where, e.text);
    picture_release(&p);
    guarded_release(&g);
    return e.code;
}

static void no_part_of_a_picture_is_a_picture(void **state)
{
    (void)state;
    struct buf b = png_of(9, 7);
    assert_int_equal(decoded(&b, b.n, ""), ERR_NONE);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(decoded(&b, n, ""), ERR_DATA_FORMAT);
    buf_release(&b);
}

/* ---- JPEG ---- */

/* A grey JPEG of 8 x 8 pixels, painted in `scans` passes: the constant part, then one coefficient after the other, in two halves of their bits. */
static void add_jpeg(struct buf *b, int scans)
{
    static jpeg_scan_info script[1 + 2 * 63];
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    JSAMPLE pixels[8] = { 0, 30, 250, 60, 90, 10, 200, 5 };
    for (int i = 0; i < 1 + 2 * 63; i++) {
        int k = i ? (i - 1) % 63 + 1 : 0;
        script[i] = (jpeg_scan_info){ .comps_in_scan = 1, .Ss = k, .Se = k, .Ah = i > 63, .Al = i > 0 && i <= 63 };
    }
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = c.image_height = 8;
    c.input_components = 1;
    c.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&c);
    c.scan_info = script;
    c.num_scans = scans;
    jpeg_start_compress(&c, TRUE);
    for (JSAMPROW row = pixels; c.next_scanline < 8;)
        jpeg_write_scanlines(&c, &row, 1);
    jpeg_finish_compress(&c);
    buf_add(b, (const char *)out, size);
    jpeg_destroy_compress(&c);
    free(out);
}

static void a_picture_is_painted_a_hundred_times_and_no_more(void **state)
{
    (void)state;
    static const struct { int scans; enum err_code want; } rows[] = {
        { 64, ERR_NONE }, { 100, ERR_NONE }, { 102, ERR_DATA_LIMIT }, { 103, ERR_DATA_LIMIT }, { 127, ERR_DATA_LIMIT },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        add_jpeg(&b, rows[i].scans);
        assert_int_equal(decoded(&b, b.n, "more than 100 scans"), rows[i].want);
        buf_release(&b);
    }
}

/* ---- what comes with them ---- */

static enum err_code labels_of(const char *text, const char *says)
{
    struct arena *mem = arena_new(1 << 20);
    struct guarded g = guarded(text, strlen(text));
    struct labels l;
    struct err e = { 0 };
    labels_parse(mem, (const char *)g.p, strlen(text), &l, &e);
    if (!strstr(e.text, says))
        fail_msg("%.40s: %s", text, e.text);
    guarded_release(&g);
    arena_free(mem);
    return e.code;
}

static void a_line_of_labels_has_room_for_what_makes_sense(void **state)
{
    (void)state;
    enum { ROOM = 1024 };
    char text[3 * ROOM];
    for (int n = ROOM - 2; n < ROOM + 2; n++)
        for (int quoted = 0; quoted < 2; quoted++) {
            const char *quote = quoted ? "\"" : "";
            snprintf(text, sizeof text, "file,label\n%s%0*d%s,3\n", quote, n, 0, quote);
            assert_int_equal(labels_of(text, n < ROOM ? "" : "too long"), n < ROOM ? ERR_NONE : ERR_DATA_FORMAT);
        }
    for (int n = 62; n < 66; n++) {             /* beside file and label */
        char commas[80];
        memset(commas, ',', sizeof commas);
        snprintf(text, sizeof text, "file,label%.*s\na.png,3%.*s\n", n - 2, commas, n - 2, commas);
        assert_int_equal(labels_of(text, n <= 64 ? "" : "columns"), n <= 64 ? ERR_NONE : ERR_DATA_FORMAT);
    }
}

static void too_many_pictures_are_refused(void **state)
{
    (void)state;
    enum { N = IMAGES_MAX + 1 };
    struct member *m = calloc(N, sizeof *m);
    char (*names)[16] = calloc(N, sizeof *names);
    assert_true(m && names);
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%zu.png", i);
        m[i] = (struct member){ .name = names[i], .content = BYTES };
    }
    struct buf b = BYTES;
    add_npz(&b, m, N);
    struct opened o = opened(&b, "calib");
    assert_int_equal(o.e.code, ERR_DATA_LIMIT);
    assert_non_null(strstr(o.e.text, "more than 20000 pictures"));
    opened_release(&o);
    buf_release(&b);
    free(names);
    free(m);
}

/* What it says to unpack to is too much already; that its stream is not valid is not found out any more. */
static void a_text_that_is_too_long_is_not_unpacked(void **state)
{
    (void)state;
    struct member m[2] = { { .name = "preprocess.json", .content = BYTES, .deflate = true, .unpacked_lie = 17 << 20 }, { .name = "a.png", .content = BYTES } };
    struct buf b = BYTES;
    static const char zeros[32 << 10];
    buf_str(&m[0].content, "{}");
    buf_add(&m[1].content, zeros, sizeof zeros);      /* else it is a bomb */
    add_npz(&b, m, 2);
    assert_refused(&b, "a long preprocess.json", ERR_DATA_LIMIT, "at most 16777216");
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dimensions_are_bounded),
        cmocka_unit_test(a_picture_that_becomes_too_large_is_refused_before_its_weights_are_made),
        cmocka_unit_test(an_orientation_is_read_where_it_is_one_and_nowhere_else),
        cmocka_unit_test(no_part_of_a_picture_is_a_picture),
        cmocka_unit_test(a_picture_is_painted_a_hundred_times_and_no_more),
        cmocka_unit_test(a_line_of_labels_has_room_for_what_makes_sense),
        cmocka_unit_test(too_many_pictures_are_refused),
        cmocka_unit_test(a_text_that_is_too_long_is_not_unpacked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
