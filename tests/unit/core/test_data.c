/* Data files made by strangers: .npy, .safetensors, and what holds for every format. */
#include "tests/unit/core/data_files.h"

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

/* ---- safetensors ---- */

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

static void too_many_safetensors_are_refused(void **state)
{
    (void)state;
    for (int n = DATASET_MAX_ARRAYS; n <= DATASET_MAX_ARRAYS + 1; n++) {
        struct buf header = BYTES, b = BYTES;
        buf_str(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
        for (int i = 0; i < n; i++)
            buf_printf(&header, ",\"x%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i, i, i + 1);
        buf_add(&header, "}", 2);
        add_safetensors(&b, header.p, (size_t)n);
        struct opened o = opened(&b, "calib");
        assert_int_equal(o.e.code, n > DATASET_MAX_ARRAYS ? ERR_DATA_LIMIT : ERR_NONE);
        assert_true(o.ok ? o.d.n == DATASET_MAX_ARRAYS : strstr(o.e.text, "257 arrays, at most 256") != NULL);
        opened_release(&o);
        buf_release(&header);
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
            struct opened o = opened_guarded(b.p, n, "c");
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
        { "\xff\xd8\xff\xe0\0\x10JFIF", 10, "preprocess.json" },
        { "\x89PNG\r\n\x1a\n\0", 9, "preprocess.json" },
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_npy_is_read_whatever_its_version_and_spelling),
        cmocka_unit_test(every_element_type_of_the_list_is_read),
        cmocka_unit_test(a_hostile_npy_header_is_refused_with_the_remedy),
        cmocka_unit_test(a_hostile_npy_preamble_is_refused_without_taking_memory),
        cmocka_unit_test(safetensors_are_read),
        cmocka_unit_test(hostile_safetensors_are_refused),
        cmocka_unit_test(too_many_safetensors_are_refused),
        cmocka_unit_test(a_hostile_safetensors_length_is_refused_without_taking_memory),
        cmocka_unit_test(no_prefix_of_a_data_file_is_a_data_file),
        cmocka_unit_test(a_flipped_bit_never_changes_what_an_npz_holds),
        cmocka_unit_test(whatever_memory_there_is_opening_succeeds_or_says_so),
        cmocka_unit_test(other_files_are_told_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
