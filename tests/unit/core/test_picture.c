/* One picture: decoding, turning, resizing, and what a file of one may not be. */
#include "tests/unit/core/data_files.h"

#include "tests/unit/core/made_picture.h"

#include <stdio.h>

#include <jpeglib.h>

static struct picture transposed(const struct picture *p)
{
    struct picture to = made_picture(p->height, p->width);
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            memcpy(to.rgb + (x * p->height + y) * 3, p->rgb + (y * p->width + x) * 3, 3);
    return to;
}

/* Columns are resized as rows are, whether the other side changes or not. */
static void one_side_is_resized_as_the_other(void **state)
{
    (void)state;
    for (int to = 5; to <= 40; to += 7)
        for (int how = RESAMPLE_BICUBIC; how <= RESAMPLE_BILINEAR; how++) {
            struct picture p = made_picture(19, 12), turned = transposed(&p), wide, high;
            struct err e = { 0 };
            assert_true(picture_resize(&p, to, 12, (enum resample)how, &wide, &e));
            assert_true(picture_resize(&turned, 12, to, (enum resample)how, &high, &e));
            assert_int_equal(wide.width, to);
            assert_int_equal(high.height, to);
            struct picture back = transposed(&high);
            assert_memory_equal(wide.rgb, back.rgb, (size_t)to * 12 * 3);
            picture_release(&p);
            picture_release(&turned);
            picture_release(&wide);
            picture_release(&high);
            picture_release(&back);
        }
}

static void a_picture_written_as_png_is_read_back(void **state)
{
    (void)state;
    struct picture p = made_picture(23, 11), back;
    struct buf b = BYTES;
    struct err e = { 0 };
    assert_true(picture_png(&p, &b));
    assert_true(picture_decode(b.p, b.n, "a.png", &back, &e));
    assert_int_equal(back.width, 23);
    assert_int_equal(back.height, 11);
    assert_memory_equal(back.rgb, p.rgb, 23 * 11 * 3);
    picture_release(&back);
    /* Whatever is cut off, it is no picture any more, and nothing is left behind. */
    for (size_t n = 0; n < b.n; n++) {
        e = (struct err){ 0 };
        if (picture_decode(b.p, n, "a.png", &back, &e))
            fail_msg("%zu of %zu bytes are a picture", n, b.n);
        assert_int_equal(e.code, ERR_DATA_FORMAT);
        assert_string_equal(e.where, "a.png");
        assert_null(back.rgb);
    }
    buf_release(&b);
    picture_release(&p);
}

static void a_picture_too_large_is_refused_by_its_sides(void **state)
{
    (void)state;
    static const struct { uint64_t width, height; bool ok; } rows[] = {
        { 0, 5, false }, { 5, 0, false }, { PICTURE_MAX_SIDE + 1, 1, false }, { 1, PICTURE_MAX_SIDE + 1, false }, { PICTURE_MAX_SIDE, 2, true },
        { PICTURE_MAX_SIDE, 2048, true }, { PICTURE_MAX_SIDE, 2049, false }, { UINT64_MAX, UINT64_MAX, false },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct picture p;
        struct err e = { 0 };
        assert_int_equal(picture_alloc(&p, rows[i].width, rows[i].height, "a.png", &e), rows[i].ok);
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

/* EXIF data of one entry: the orientation, in either order of bytes. */
static size_t add_exif(uint8_t p[32], bool big, unsigned tag, unsigned type, unsigned value)
{
    const unsigned numbers[][2] = { { 42, 2 }, { 8, 4 }, { 1, 2 }, { tag, 2 }, { type, 2 }, { 1, 4 }, { value, 2 }, { 0, 2 }, { 0, 4 } };
    size_t n = 2;
    memcpy(p, big ? "MM" : "II", 2);
    for (size_t i = 0; i < COUNT(numbers); i++)
        for (unsigned k = 0; k < numbers[i][1]; k++)
            p[n++] = (uint8_t)(numbers[i][0] >> 8 * (big ? numbers[i][1] - 1 - k : k));
    return n;
}

static void an_orientation_is_read_and_nonsense_is_upright(void **state)
{
    (void)state;
    enum { ORIENTATION = 0x0112, SHORT = 3, LONG = 4 };
    static const struct { unsigned tag, type, value; int want; } rows[] = {
        { ORIENTATION, SHORT, 1, 1 }, { ORIENTATION, SHORT, 6, 6 }, { ORIENTATION, SHORT, 8, 8 }, { ORIENTATION, SHORT, 0, 1 },
        { ORIENTATION, SHORT, 9, 1 }, { ORIENTATION, LONG, 6, 1 }, { 0x0113, SHORT, 6, 1 },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (int big = 0; big < 2; big++) {
            uint8_t p[32];
            size_t n = add_exif(p, big, rows[i].tag, rows[i].type, rows[i].value);
            assert_int_equal(n, 26);
            assert_int_equal(exif_orientation(p, n), rows[i].want);
            for (size_t cut = 0; cut < 22; cut++) {
                uint8_t *exact = malloc(cut ? cut : 1);        /* the sanitizer sees what is read beyond */
                memcpy(exact, p, cut);
                assert_int_equal(exif_orientation(exact, cut), 1);
                free(exact);
            }
            memset(p + 4, 0xff, 4);        /* a directory beyond the end */
            assert_int_equal(exif_orientation(p, n), 1);
            p[2] = p[3] = 0;               /* no TIFF header */
            assert_int_equal(exif_orientation(p, n), 1);
        }
}

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

static void a_jpeg_painted_again_and_again_is_refused(void **state)
{
    (void)state;
    static const struct { int scans; bool ok; } rows[] = { { 64, true }, { 100, true }, { 102, false }, { 127, false } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf b = BYTES;
        struct picture p;
        struct err e = { 0 };
        add_jpeg(&b, rows[i].scans);
        bool ok = picture_decode(b.p, b.n, "a.jpg", &p, &e);
        if (ok != rows[i].ok)
            fail_msg("%d scans: %s", rows[i].scans, ok ? "taken" : e.text);
        assert_true(ok || (e.code == ERR_DATA_LIMIT && strstr(e.text, "more than 100 scans")));
        picture_release(&p);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_side_is_resized_as_the_other),
        cmocka_unit_test(a_picture_written_as_png_is_read_back),
        cmocka_unit_test(a_picture_too_large_is_refused_by_its_sides),
        cmocka_unit_test(an_orientation_is_read_and_nonsense_is_upright),
        cmocka_unit_test(a_jpeg_painted_again_and_again_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
