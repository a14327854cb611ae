/* Does this data set fit that model?  What users are told, and what they get. */
#include "tests/unit/core/data_files.h"

#include <math.h>

static float pixels[2 * 3 * 4 * 5];
static int64_t ids[4] = { 5, 6, 7, 8 };

static struct dataset data_of(struct array *a, size_t n) { return (struct dataset){ .arrays = a, .n = n, .format = "npz" }; }

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
        { "a model of no samples", { ARRAY("v", DT_F32, pixels, 2, 2) }, { SPEC("v", DT_F32, 0, -2) }, ERR_DATA_SHAPE, "v", "expected [" },
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

/* What is asked before a job is queued: the arrays' shapes and types, without a look at what they hold. */
static void shapes_are_checked_without_values(void **state)
{
    (void)state;
    struct array a[] = { ARRAY("input_ids", DT_I32, NULL, 2, 3), ARRAY("attention_mask", DT_I64, NULL, 2, 3) };
    struct input_spec specs[] = { SPEC("input_ids", DT_I64, -1, -2), SPEC("attention_mask", DT_I64, -1, -2) };
    struct dataset d = data_of(a, 2);
    struct arena *mem = arena_new(1 << 20);
    struct samples s;
    struct err e = { 0 };
    assert_true(dataset_shapes(mem, &d, specs, 2, &s, &e));
    assert_int_equal(s.count, 2);
    assert_int_equal(s.inputs[0]->t.dtype, DT_I64);
    assert_null(s.inputs[0]->t.data);
    a[1].t.shape.dim[1] = 4;
    assert_false(dataset_shapes(mem, &d, specs, 2, &s, &e));
    assert_int_equal(e.code, ERR_DATA_SHAPE);
    assert_string_equal(e.where, "attention_mask");
    arena_free(mem);
}

static void a_model_of_more_dimensions_than_make_sense_is_refused(void **state)
{
    (void)state;
    enum { INPUTS = 11, EACH = 6 };        /* the samples and 66 others */
    struct array a[INPUTS];
    struct input_spec specs[INPUTS];
    char names[INPUTS][8];
    for (int i = 0; i < INPUTS; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        a[i] = (struct array)ARRAY(names[i], DT_F32, pixels, 2, 1, 1, 1, 1, 1, 1);
        specs[i] = (struct input_spec)SPEC(names[i], DT_F32, -1, 0, 0, 0, 0, 0, 0);
        for (int k = 1; k <= EACH; k++)
            specs[i].shape.dim[k] = -2 - (i * EACH + k);
    }
    for (size_t n = INPUTS - 1; n <= INPUTS; n++) {
        struct dataset d = data_of(a, n);
        struct arena *mem = arena_new(1 << 20);
        struct samples s;
        struct err e = { 0 };
        assert_int_equal(dataset_samples(mem, &d, specs, n, &s, &e), n < INPUTS);
        assert_int_equal(e.code, n < INPUTS ? ERR_NONE : ERR_DATA_LIMIT);
        assert_true(n < INPUTS || (strcmp(e.where, "x10") == 0 && strstr(e.text, "more than 64 symbolic dimensions")));
        arena_free(mem);
    }
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

/* ---- padding ---- */

/* '1' is a token, '.' is padding. */
static void assert_real(const struct samples *s, const char *want, const char *label)
{
    char got[40] = "";
    for (int64_t i = 0; s->real && i < s->count * s->positions; i++)
        got[i] = s->real[i] ? '1' : '.';
    if (strcmp(got, want) != 0)
        fail_msg("%s: '%s' for '%s'", label, got, want);
}

static void padding_is_what_a_mask_or_lengths_say(void **state)
{
    (void)state;
    static int64_t tokens[6], tail[6] = { 1, 1, 0, 1, 0, 0 }, left[6] = { 0, 1, 1, 1, 0, 1 }, ones[6] = { 1, 1, 1, 1, 1, 1 };
    static int64_t other[6] = { 1, 1, 2, 1, 1, 0 };
    static float mel[12], soft[6] = { 0, 0, -1e4f, 0, -1e4f, -1e4f };
    static uint8_t flags[6] = { 1, 0, 0, 1, 1, 1 };
    static int32_t two_one[2] = { 2, 1 }, full[2] = { 3, 3 };
#define IDS ARRAY("input_ids", DT_I64, tokens, 2, 3)
#define OPEN SPEC("input_ids", DT_I64, -1, -2)
    static const struct { const char *label; struct array a[3]; struct input_spec spec[2]; const char *real; int64_t lengths[2];
                          int input, axis; } rows[] = {
        { "nothing tells", { IDS }, { OPEN }, "", { 0 }, 0, 0 },
        { "a mask", { IDS, ARRAY("attention_mask", DT_I64, tail, 2, 3) }, { OPEN, SPEC("attention_mask", DT_I64, -1, -2) }, "11.1..", { 2, 1 }, 1, 1 },
        { "a mask of ones", { IDS, ARRAY("attention_mask", DT_I64, ones, 2, 3) }, { OPEN, SPEC("attention_mask", DT_I64, -1, -2) }, "", { 0 }, 1, 1 },
        { "padding before", { IDS, ARRAY("attention_mask", DT_I64, left, 2, 3) }, { OPEN, SPEC("attention_mask", DT_I64, -1, -2) }, ".111.1", { 3, 3 }, 1, 1 },
        { "flags of a fixed length", { IDS, ARRAY("input_mask:0", DT_BOOL, flags, 2, 3) }, { SPEC("input_ids", DT_I64, -1, 3), SPEC("input_mask:0", DT_BOOL, -1, 3) },
          "1..111", { 1, 3 }, 1, 1 },
        { "numbers that are no mask", { IDS, ARRAY("attention_mask", DT_I64, other, 2, 3) }, { OPEN, SPEC("attention_mask", DT_I64, -1, -2) }, "", { 0 }, 0, 0 },
        { "a mask that is added", { IDS, ARRAY("attention_mask", DT_F32, soft, 2, 3) }, { OPEN, SPEC("attention_mask", DT_F32, -1, -2) }, "", { 0 }, 0, 0 },
        { "another input of zeros", { IDS, ARRAY("token_type_ids", DT_I64, tail, 2, 3) }, { OPEN, SPEC("token_type_ids", DT_I64, -1, -2) }, "", { 0 }, 0, 0 },
        { "lengths", { IDS, ARRAY("lengths", DT_I32, two_one, 2) }, { OPEN }, "11.1..", { 2, 1 }, 0, 1 },
        { "lengths of all", { IDS, ARRAY("lengths", DT_I32, full, 2) }, { OPEN }, "", { 0 }, 0, 1 },
        { "lengths on another axis", { ARRAY("mel", DT_F32, mel, 2, 2, 3), ARRAY("lengths", DT_I32, two_one, 2) }, { SPEC("mel", DT_F32, -1, 2, -2) }, "11.1..",
          { 2, 1 }, 0, 2 },
        { "lengths where ids are fixed", { IDS, ARRAY("lengths", DT_I32, two_one, 2) }, { SPEC("input_ids", DT_I64, -1, 3) }, "11.1..", { 2, 1 }, 0, 1 },
        { "lengths and a mask", { IDS, ARRAY("attention_mask", DT_I64, left, 2, 3), ARRAY("lengths", DT_I32, two_one, 2) },
          { OPEN, SPEC("attention_mask", DT_I64, -1, -2) }, ".1.1..", { 2, 1 }, 1, 1 },
        { "an input called so", { IDS, ARRAY("lengths", DT_I64, two_one, 1) }, { OPEN, SPEC("lengths", DT_I64, -1) }, "", { 0 }, 0, 0 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct array a[3] = { rows[i].a[0], rows[i].a[1], rows[i].a[2] };
        struct dataset d = data_of(a, rows[i].a[2].name ? 3 : rows[i].a[1].name ? 2 : 1);
        struct err e = { 0 };
        size_t n = rows[i].spec[1].name ? 2 : 1;
        const struct array *inputs[] = { &a[0], &a[1] };
        struct samples s = { .n_inputs = n, .inputs = inputs, .count = 2 };
        if (!samples_padding(mem, &d, rows[i].spec, n, &s, &e) || !samples_cut(mem, &s, &e))
            fail_msg("%s: %s: %s", rows[i].label, e.where, e.text);
        assert_real(&s, rows[i].real, rows[i].label);
        if (s.row_input != rows[i].input || s.row_axis != rows[i].axis || !s.lengths != !rows[i].lengths[0])
            fail_msg("%s: told along axis %d of input %d", rows[i].label, s.row_axis, s.row_input);
        for (int k = 0; s.lengths && k < 2; k++)
            assert_int_equal(s.lengths[k], rows[i].lengths[k]);
        arena_free(mem);
    }
}

static void lengths_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static int64_t tokens[6], gone[6] = { 1, 1, 1, 0, 0, 0 };
    static float pixels_of[24];
    static int32_t zero[2] = { 2, 0 }, long_one[2] = { 4, 1 };
    static const struct { const char *label; struct array a[3]; struct input_spec spec[2]; enum err_code code; const char *where, *says; } rows[] = {
        { "none", { IDS, ARRAY("lengths", DT_I32, zero, 2) }, { OPEN }, ERR_DATA_VALUES, "lengths", "sample 1 has length 0, which is not within 1..3" },
        { "beyond the end", { IDS, ARRAY("lengths", DT_I32, long_one, 2) }, { OPEN }, ERR_DATA_VALUES, "lengths", "sample 0 has length 4" },
        { "no numbers", { IDS, ARRAY("lengths", DT_F32, pixels_of, 2) }, { OPEN }, ERR_DATA_DTYPE, "lengths", "astype(\"int64\")" },
        { "one for each token", { IDS, ARRAY("lengths", DT_I64, tokens, 2, 3) }, { OPEN }, ERR_DATA_SHAPE, "lengths", "expected [2], one length a sample, found [2,3]" },
        { "of pictures", { ARRAY("pixels", DT_F32, pixels_of, 2, 3, 2, 2), ARRAY("lengths", DT_I32, zero, 2) }, { SPEC("pixels", DT_F32, -1, 3, 2, 2) },
          ERR_DATA_SCHEMA, "lengths", "no input of the model has an axis" },
        { "of which axis", { ARRAY("pixels", DT_F32, pixels_of, 2, 3, 2, 2), ARRAY("lengths", DT_I32, zero, 2) }, { SPEC("pixels", DT_F32, -1, 3, -2, -3) },
          ERR_DATA_SCHEMA, "lengths", "several axes of any length" },
        { "padding from end to end", { IDS, ARRAY("attention_mask", DT_I64, gone, 2, 3) }, { OPEN, SPEC("attention_mask", DT_I64, -1, -2) },
          ERR_DATA_VALUES, "attention_mask", "sample 1 is padding from end to end; leave it out" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct array a[3] = { rows[i].a[0], rows[i].a[1] };
        struct dataset d = data_of(a, 2);
        struct err e = { 0 };
        size_t n = rows[i].spec[1].name ? 2 : 1;
        const struct array *inputs[] = { &a[0], &a[1] };
        struct samples s = { .n_inputs = n, .inputs = inputs, .count = 2 };
        bool ok = samples_padding(mem, &d, rows[i].spec, n, &s, &e) && samples_cut(mem, &s, &e);
        if (ok || e.code != rows[i].code || strcmp(e.where, rows[i].where) != 0 || !strstr(e.text, rows[i].says))
            fail_msg("%s: got %s at '%s': %s", rows[i].label, ok ? "no error" : err_slug(e.code), e.where, e.text);
        arena_free(mem);
    }
#undef IDS
#undef OPEN
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
    static const uint16_t u16[4] = { 0, 1, 32768, 65535 };
    static const int16_t i16[4] = { -32768, -1, 0, 32767 };
    static const int64_t u16_as_64[4] = { 0, 1, 32768, 65535 }, i16_as_64[4] = { -32768, -1, 0, 32767 };
    static const uint32_t u32[4] = { 0, 1, 2, 2147483647 };
    static const int32_t i32[4] = { -2147483647 - 1, -1, 0, 2147483647 }, i8_as_32[4] = { -128, -1, 0, 127 }, u32_as_32[4] = { 0, 1, 2, 2147483647 };
    static const int64_t i32_as_64[4] = { -2147483648LL, -1, 0, 2147483647 };
    static const struct { enum dtype from, to; const void *data, *want; size_t size; } rows[] = {
        { DT_F64, DT_F32, d, d_want, 4 }, { DT_F16, DT_F32, half, half_want, 4 }, { DT_BF16, DT_F32, bf, bf_want, 4 },
        { DT_I8, DT_I32, i8, i8_as_32, 4 }, { DT_U32, DT_I32, u32, u32_as_32, 4 }, { DT_I32, DT_I64, i32, i32_as_64, 8 },
        { DT_U16, DT_I64, u16, u16_as_64, 8 }, { DT_I16, DT_I64, i16, i16_as_64, 8 },
        { DT_I64, DT_I32, i32_as_64, i32, 4 }, { DT_I64, DT_I64, i32_as_64, i32_as_64, 8 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct array a[] = { { .name = "x", .t = { rows[i].from, { 1, { 4 } }, (void *)(uintptr_t)rows[i].data } } };
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
    struct array a[] = { { .name = "x", .t = { DT_F32, { 1, { N } }, x } } };
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

/* Inputs of other real types are asked as they are: the model takes them so. */
static void a_value_of_another_type_that_is_not_finite_is_found(void **state)
{
    (void)state;
    static double f64[3] = { 1, 2, -INFINITY };
    static uint16_t f16[3] = { 0x3C00, 0x7BFF, 0x7E00 };
    static const struct { struct array a; const char *says; } rows[] = {
        { ARRAY("x", DT_F64, f64, 3), "-infinity at flat index 2" }, { ARRAY("x", DT_F16, f16, 3), "NaN at flat index 2" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct array a[] = { rows[i].a };
        struct input_spec spec = SPEC("x", rows[i].a.t.dtype, -1);
        struct dataset d = data_of(a, 1);
        struct arena *mem = arena_new(1 << 20);
        struct samples s;
        struct err e = { 0 };
        assert_false(dataset_samples(mem, &d, &spec, 1, &s, &e));
        assert_int_equal(e.code, ERR_DATA_VALUES);
        assert_non_null(strstr(e.text, rows[i].says));
        a[0].t.shape.dim[0] = 2;
        assert_true(dataset_samples(mem, &d, &spec, 1, &s, NULL));
        arena_free(mem);
    }
}

static void a_dataset_is_described_for_people(void **state)
{
    (void)state;
    static float x[6] = { 1, NAN, -4, INFINITY, 5, 0 };
    static int64_t big[2] = { 9007199254740993, -1 };
    struct array a[] = { ARRAY("x", DT_F32, x, 2, 3), ARRAY("labels", DT_I64, big, 2), ARRAY("none", DT_F16, NULL, 2, 0) };
    struct dataset d = data_of(a, 3);
    json_t *j = dataset_describe(&d);
    char *text = json_text(j, JSON_COMPACT);
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

    static uint64_t vast[2] = { 3, UINT64_MAX };       /* JSON has no such number: the largest that it has */
    struct array u64[] = { ARRAY("x", DT_U64, vast, 2) };
    d = data_of(u64, 1);
    j = dataset_describe(&d);
    const json_t *told = json_array_get(json_object_get(j, "arrays"), 0);
    assert_int_equal(json_integer_value(json_object_get(told, "min")), 3);
    assert_int_equal(json_integer_value(json_object_get(told, "max")), INT64_MAX);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_that_does_not_fit_is_told_what_was_expected_and_what_was_found),
        cmocka_unit_test(data_that_fits_comes_in_the_order_of_the_inputs),
        cmocka_unit_test(shapes_are_checked_without_values),
        cmocka_unit_test(a_model_of_more_dimensions_than_make_sense_is_refused),
        cmocka_unit_test(a_model_with_a_fixed_batch_takes_a_multiple_of_it),
        cmocka_unit_test(padding_is_what_a_mask_or_lengths_say),
        cmocka_unit_test(lengths_that_cannot_be_are_refused),
        cmocka_unit_test(the_array_of_a_npy_is_the_only_input),
        cmocka_unit_test(values_keep_their_meaning_when_converted),
        cmocka_unit_test(a_value_that_is_not_finite_is_found_wherever_it_is),
        cmocka_unit_test(a_value_of_another_type_that_is_not_finite_is_found),
        cmocka_unit_test(a_dataset_is_described_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
