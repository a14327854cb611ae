/* Pictures as a data set: labels.csv, preprocess.json, archives and folders, and what these may not be. */
#include "tests/unit/core/data_files.h"

#include "core/data/images.h"
#include "core/data/labels.h"
#include "core/data/preprocess.h"
#include "tests/unit/core/made_picture.h"

#include <unistd.h>

#define BOM "\xef\xbb\xbf"

/* ---- labels.csv ---- */

static void labels_are_found_however_the_file_was_saved(void **state)
{
    (void)state;
    static const struct { const char *csv, *file; int64_t label; } rows[] = {
        { "file,label\na.png,3\nb.png,4\n", "b.png", 4 },
        { BOM "file,label\r\na.png,3\r\n", "a.png", 3 },
        { "label,note,file\n7,\"x, y\",a.png", "a.png", 7 },
        { "file,label\n\"a \"\"one\"\", b.png\",-2\n", "a \"one\", b.png", -2 },
        { "\"file\",\"label\"\n\n\na.png,5\n\n", "a.png", 5 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct labels l;
        struct err e = { 0 };
        int64_t label = 0;
        bool ok = labels_parse(mem, rows[i].csv, strlen(rows[i].csv), &l, &e);
        if (!ok || !labels_find(&l, rows[i].file, &label) || label != rows[i].label)
            fail_msg("%s: %s: %s", rows[i].csv, e.where, e.text);
        assert_false(labels_find(&l, "c.png", &label));
        arena_free(mem);
    }
}

static void a_line_that_is_none_is_named(void **state)
{
    (void)state;
    char wide[400] = "file,label\na.png,1", columns[400] = "file,label", deep[2000] = "file,label\na.png,1\n";
    memset(wide + strlen(wide), ',', 64);
    memset(columns + strlen(columns), ',', 64);
    memset(deep + strlen(deep), 'x', 1500);
    const struct { const char *csv; size_t n; const char *where, *says; } rows[] = {
#define CSV(text) text, sizeof text - 1
        { CSV("file,label\na.png,1\n\"b.png,2\n"), "labels.csv:3", "quote is not closed" },
        { CSV("file,label\n\"a.png\"1,2\n"), "labels.csv:2", "comma is missing" },
        { CSV("file,label\na\0.png,1\n"), "labels.csv:2", "NUL" },
        { CSV("file,label\na.png\n"), "labels.csv:2", "needs a file and a label" },
        { CSV("file,label\na.png,\n"), "labels.csv:2", "whole number" },
        { CSV("file,label\na.png,99999999999999999999\n"), "labels.csv:2", "whole number" },
        { CSV("file,label\na.png,1.5\n"), "labels.csv:2", "whole number" },
        { CSV("\"file,label\n"), "labels.csv:1", "quote is not closed" },
        { CSV("file;label\na.png;1\n"), "labels.csv:1", "file,label" },
        { CSV("file,class\n\na.png,1\n"), "labels.csv:1", "file,label" },
        { CSV("\nfile,label\na.png,1\n"), "labels.csv:1", "file,label" },
        { CSV(""), "labels.csv:1", "file,label" },
#undef CSV
        { wide, strlen(wide), "labels.csv:2", "more columns" },
        { columns, strlen(columns), "labels.csv:1", "more columns" },
        { deep, strlen(deep), "labels.csv:3", "too long" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct labels l = { 0 };
        struct err e = { 0 };
        bool ok = labels_parse(mem, rows[i].csv, rows[i].n, &l, &e);
        if (ok || e.code != ERR_DATA_FORMAT || strcmp(e.where, rows[i].where) != 0 || !strstr(e.text, rows[i].says))
            fail_msg("row %zu: %s: %s", i, e.where, e.text);
        assert_null(l.items);
        arena_free(mem);
    }
}

/* ---- preprocess.json ---- */

#define SCALES "\"mean\": [0, 0, 0], \"std\": [1, 1, 1]"

static void a_preprocess_json_that_is_none_is_refused_with_its_member(void **state)
{
    (void)state;
    static const struct { const char *json, *where, *says; } rows[] = {
        { "[1, 2]", "preprocess.json", "JSON object" },
        { "7", "preprocess.json", "" },
        { "{" SCALES ", \"input\": \"\"}", "preprocess.json/input", "127 bytes" },
        { "{" SCALES ", \"input\": \"labels\"}", "preprocess.json/input", "not \"labels\"" },
        { "{" SCALES ", \"input\": 3}", "preprocess.json/input", "name of the model's input" },
        { "{" SCALES ", \"layout\": \"CHWN\"}", "preprocess.json/layout", "\"NCHW\" or \"NHWC\"" },
        { "{" SCALES ", \"layout\": 3}", "preprocess.json/layout", "\"NCHW\" or \"NHWC\"" },
        { "{" SCALES ", \"crop\": [3, 0]}", "preprocess.json/crop", "[height, width]" },
        { "{" SCALES ", \"crop\": [3, 3, 3]}", "preprocess.json/crop", "[height, width]" },
        { "{" SCALES ", \"resize\": 16385}", "preprocess.json/resize", "1 to 16384" },
        { "{\"mean\": [0, 0, 2e6], \"std\": [1, 1, 1]}", "preprocess.json/mean", "three numbers" },
        { "{\"mean\": [0, 0, \"0\"], \"std\": [1, 1, 1]}", "preprocess.json/mean", "three numbers" },
        { "{\"mean\": [0, 0, 0], \"std\": [1, 1, -1]}", "preprocess.json/std", "three positive numbers" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct preprocess p;
        struct err e = { 0 };
        bool ok = preprocess_parse(rows[i].json, strlen(rows[i].json), &p, &e);
        if (ok || e.code != ERR_DATA_FORMAT || strcmp(e.where, rows[i].where) != 0 || !strstr(e.text, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].json, e.where, e.text);
    }
}

static void a_preprocess_json_says_what_a_pixel_becomes(void **state)
{
    (void)state;
    static const char json[] = "{\"mean\": [0, 0.5, 1], \"std\": [1, 0.5, 2], \"resize\": null, \"crop\": 7, \"layout\": \"NHWC\", \"input\": \"x\"}";
    struct preprocess p;
    struct err e = { 0 };
    assert_true(preprocess_parse(json, strlen(json), &p, &e));
    assert_int_equal(p.resize.height, 0);
    assert_int_equal(p.crop.height, 7);
    assert_int_equal(p.crop.width, 7);
    assert_int_equal(p.how, RESAMPLE_BICUBIC);
    assert_true(p.nhwc);
    assert_string_equal(p.input, "x");
    static const float want[3][2] = { { 0, 1 }, { -1, 1 }, { -0.5f, 0 } };
    for (int c = 0; c < 3; c++) {
        assert_float_equal(p.value[c][0], want[c][0], 0);
        assert_float_equal(p.value[c][255], want[c][1], 0);
    }
}

/* ---- archives and folders ---- */

static struct member file_of(const char *name, const char *text)
{
    struct member m = { .name = name, .content = BYTES };
    buf_str(&m.content, text);
    return m;
}

static struct member png_of(const char *name, int side)
{
    struct member m = { .name = name, .content = BYTES };
    struct picture p = made_picture(side, side);
    assert_true(picture_png(&p, &m.content));
    picture_release(&p);
    return m;
}

static void an_archive_of_pictures_is_a_data_set(void **state)
{
    (void)state;
    static const char how[] = "{\"mean\": [0, 0, 0], \"std\": [1, 1, 1], \"crop\": [3, 4], \"input\": \"x\", \"layout\": \"%s\"}";
    for (int form = 0; form < 4; form++) {
        bool nhwc = form & 1;
        char text[160];
        snprintf(text, sizeof text, how, nhwc ? "NHWC" : "NCHW");
        struct member m[] = { png_of("set/b.png", 8), file_of("set/preprocess.json", text), file_of("set/labels.csv", "file,label\nb.png,4\na.PNG,-7\n"),
                              png_of("set/a.PNG", 6), file_of("set/notes.txt", "passed over"), file_of("elsewhere/c.png", "not of this set"),
                              file_of("__MACOSX/set/._b.png", "a fork") };
        for (size_t i = 0; i < COUNT(m); i++)
            m[i].deflate = form & 2;
        struct buf b = BYTES;
        add_npz(&b, m, COUNT(m));
        struct opened o = opened(&b, "calib.zip");
        if (!o.ok)
            fail_msg("%s: %s", o.e.where, o.e.text);
        assert_string_equal(o.d.format, "images");
        const struct array *x = dataset_find(&o.d, "x"), *labels = dataset_find(&o.d, "labels");
        const struct shape want = nhwc ? (struct shape){ 4, { 2, 3, 4, 3 } } : (struct shape){ 4, { 2, 3, 3, 4 } };
        assert_true(x && labels && shape_equal(&x->t.shape, &want));
        assert_memory_equal(labels->t.data, ((const int64_t[]){ -7, 4 }), 16);
        for (int i = 0; i < 2; i++) {
            static const int sides[] = { 6, 8 };
            struct picture p = made_picture(sides[i], sides[i]);
            int top = (sides[i] - 3) / 2, left = (sides[i] - 4) / 2;
            for (int at = 0; at < 3 * 4 * 3; at++) {
                int row = at / 12, column = at / 3 % 4, c = at % 3;
                float pixel = p.rgb[((top + row) * sides[i] + left + column) * 3 + c] / 255.0f;
                assert_float_equal(((const float *)x->t.data)[i * 36 + (nhwc ? at : c * 12 + row * 4 + column)], pixel, 0);
            }
            picture_release(&p);
        }
        assert_int_equal(o.d.n_previews, 2);
        assert_string_equal(o.d.previews[0].file, "a.PNG");
        assert_int_equal(o.d.previews[1].width, 4);
        assert_int_equal(o.d.previews[1].height, 3);
        json_t *j = dataset_describe(&o.d);
        assert_int_equal(json_array_size(json_object_get(j, "previews")), 2);
        json_decref(j);
        opened_release(&o);
        buf_release(&b);
    }
}

static void pictures_that_do_not_fit_together_are_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *how, *labels; enum err_code code; const char *where, *says; } rows[] = {
        { "{" SCALES "}", NULL, ERR_DATA_SHAPE, "b.png", "becomes 8 x 8 pixels, the first one 6 x 6" },
        { "{" SCALES ", \"crop\": 7}", NULL, ERR_DATA_SHAPE, "a.png", "6 x 6 pixels when it is to be cropped to 7 x 7" },
        { "{" SCALES ", \"resize\": 5}", "file,label\na.png,1\n", ERR_DATA_FORMAT, "labels.csv", "no label for b.png" },
        { "{" SCALES ", \"resize\": 5}", "file,label\na.png,1\na.png,1\n", ERR_DATA_FORMAT, "labels.csv", "\"a.png\" has two lines" },
        { NULL, NULL, ERR_DATA_FORMAT, "calib", "pictures without a preprocess.json" },
        { "{" SCALES "}", "file,label\nb.png,x\n", ERR_DATA_FORMAT, "labels.csv:2", "whole number" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct member m[4] = { png_of("a.png", 6), png_of("b.png", 8) };
        size_t n = 2;
        if (rows[i].how)
            m[n++] = file_of("preprocess.json", rows[i].how);
        if (rows[i].labels)
            m[n++] = file_of("labels.csv", rows[i].labels);
        struct buf b = BYTES;
        add_npz(&b, m, n);
        struct opened o = opened(&b, "calib");
        if (o.e.code != rows[i].code || strcmp(o.e.where, rows[i].where) != 0 || !strstr(o.e.text, rows[i].says))
            fail_msg("row %zu: %s: %s", i, o.e.where, o.e.text);
        opened_release(&o);
        buf_release(&b);
    }
    struct member m[] = { file_of("preprocess.json", "{" SCALES "}") };
    struct buf b = BYTES;
    add_npz(&b, m, 1);
    assert_refused(&b, "no pictures", ERR_DATA_FORMAT, "there are no .jpg");
    buf_release(&b);
}

static void an_archive_of_pictures_that_cannot_be_one_is_refused(void **state)
{
    (void)state;
    struct buf b = BYTES;
    struct member twice[] = { file_of("preprocess.json", "{" SCALES "}"), png_of("a.png", 4), png_of("b.png", 4) };
    twice[2].name = "a.png";
    add_npz(&b, twice, 3);
    assert_refused(&b, "a name twice", ERR_DATA_FORMAT, "two pictures have this name");
    buf_release(&b);

    struct member long_text[] = { { .name = "preprocess.json", .content = BYTES, .deflate = true }, png_of("a.png", 4) };
    for (int i = 0; i < (16 << 20) / 64 + 1; i++)
        buf_str(&long_text[0].content, "                                                               \n");
    for (int deflate = 0; deflate < 2; deflate++) {
        struct member copy[] = { long_text[0], long_text[1] };
        struct buf one = BYTES;
        for (int i = 0; i < 2; i++) {
            copy[i].content = BYTES;
            buf_add(&copy[i].content, long_text[i].content.p, long_text[i].content.n);
        }
        copy[0].deflate = deflate;
        add_npz(&one, copy, 2);
        assert_refused(&one, "a long preprocess.json", ERR_DATA_LIMIT, "at most 16777216 are read");
        buf_release(&one);
    }
    buf_release(&long_text[0].content);
    buf_release(&long_text[1].content);
}

static void a_folder_that_is_none_is_refused(void **state)
{
    (void)state;
    uint8_t digest[HASH_SIZE];
    struct arena *mem = arena_new(16 << 20);
    struct dataset d;
    struct err e = { 0 };
    assert_false(dataset_open_folder(mem, "/nowhere/at/all", &d, digest, &e));
    assert_int_equal(e.code, ERR_NO_FILE);
    assert_string_equal(e.where, "/nowhere/at/all");
    assert_non_null(strstr(e.text, "open the folder"));
    e = (struct err){ 0 };
    assert_false(dataset_open_folder(mem, "/dev/null", &d, digest, &e));
    assert_int_equal(e.code, ERR_NO_FILE);
    arena_free(mem);
}

/* In a folder the size is known only once the file is open. */
static void a_long_file_of_a_folder_is_refused(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_images.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    static const char *const names[] = { "a.png", "preprocess.json" };
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs("{" SCALES "}", f);
        assert_int_equal(fclose(f), 0);
    }
    assert_int_equal(truncate(path, (16 << 20) + 1), 0);       /* a hole: it takes no room */
    uint8_t digest[HASH_SIZE];
    struct arena *mem = arena_new(16 << 20);
    struct dataset d;
    struct err e = { 0 };
    assert_false(dataset_open_folder(mem, folder, &d, digest, &e));
    assert_int_equal(e.code, ERR_DATA_LIMIT);
    assert_string_equal(e.where, "preprocess.json");
    assert_non_null(strstr(e.text, "16777217 bytes, at most 16777216"));
    arena_free(mem);
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_found_however_the_file_was_saved),
        cmocka_unit_test(a_line_that_is_none_is_named),
        cmocka_unit_test(a_preprocess_json_that_is_none_is_refused_with_its_member),
        cmocka_unit_test(a_preprocess_json_says_what_a_pixel_becomes),
        cmocka_unit_test(an_archive_of_pictures_is_a_data_set),
        cmocka_unit_test(pictures_that_do_not_fit_together_are_refused_by_name),
        cmocka_unit_test(an_archive_of_pictures_that_cannot_be_one_is_refused),
        cmocka_unit_test(a_folder_that_is_none_is_refused),
        cmocka_unit_test(a_long_file_of_a_folder_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
