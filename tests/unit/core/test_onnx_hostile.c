/* What a stranger's file may not do: one labelled row per rule, in the notation of wire_text.h. */
#include "core/base/arena.h"
#include "core/onnx/onnx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core/wire_text.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static bool read_spelled(const char *text, const struct onnx_file *more, size_t n_more, struct arena *mem,
                         struct onnx_model *ret, struct err *e)
{
    struct spelled *s = calloc(1, sizeof *s);
    assert_non_null(s);
    spell_fields(s, text);
    struct onnx_file files[8] = { { "model.onnx", malloc(s->n ? s->n : 1), s->n, false } };    /* exact: a sanitizer sees one byte more */
    assert_non_null(files[0].data);
    memcpy((void *)files[0].data, s->p, s->n);
    for (size_t i = 0; i < n_more; i++)
        files[i + 1] = more[i];
    bool ok = onnx_read(mem, files, n_more + 1, ret, e);
    free((void *)files[0].data);
    free(s);
    return ok;
}

struct row { const char *label, *text; enum err_code code; const char *says; };

static void check_row(const struct row *row, const struct onnx_file *more, size_t n_more)
{
    struct arena *mem = arena_new(1 << 20);
    struct onnx_model m;
    struct err e = { 0 };
    bool ok = read_spelled(row->text, more, n_more, mem, &m, &e);
    if (ok != (row->code == ERR_NONE) || e.code != row->code)
        fail_msg("%s: got %s: [%s] %s", row->label, ok ? "a model" : err_slug(e.code), e.where, e.text);
    if (row->says && !strstr(e.text, row->says) && !strstr(e.where, row->says))
        fail_msg("%s: '%s' is neither in [%s] nor in '%s'", row->label, row->says, e.where, e.text);
    for (const char *p = e.text; *p; p++)
        assert_in_range((unsigned char)*p, 0x20, 0x7e);
    for (const char *p = e.where; *p; p++)
        assert_in_range((unsigned char)*p, 0x20, 0x7e);
    arena_free(mem);
}

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_row(&rows[i], NULL, 0);
}

/* A whole model around the part a row is about. */
#define MODEL(graph) "1:8 7{" graph "} 8{2:17}"
#define NODE(fields) MODEL("1{" fields "}")
#define RELU "2'y' 4'Relu'"
#define ATTR(fields) NODE(RELU "5{" fields "}")
#define TENSOR(fields) MODEL("1{" RELU "} 5{8'w'" fields "}")
#define INPUT(fields) MODEL("1{" RELU "} 11{" fields "}")
#define ANY NODE(RELU)

static void the_wire_format_is_held_to_its_rules(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "the model that the others break", ANY, ERR_NONE, NULL },
        { "unknown fields of every type are skipped", ANY "99:5 99'text' 99#01020304 99%0102030405060708", ERR_NONE, NULL },
        { "an empty file", "", ERR_MODEL_FORMAT, "the file is empty" },
        { "field number 0", ANY "0:1", ERR_MODEL_FORMAT, "field number" },
        { "a field number of 2^29", ANY "536870912:1", ERR_MODEL_FORMAT, "field number" },
        { "trailing zeros", ANY "!0000", ERR_MODEL_FORMAT, "field number" },
        { "a start-group tag", ANY "!9b06", ERR_MODEL_FORMAT, "wire type" },
        { "an end-group tag", ANY "!9c06", ERR_MODEL_FORMAT, "wire type" },
        { "nested start-group tags in an unknown field's place", ANY "!9b069b069b069b06", ERR_MODEL_FORMAT, "wire type" },
        { "wire type 6", ANY "!9e06", ERR_MODEL_FORMAT, "wire type" },
        { "wire type 7", ANY "!9f06", ERR_MODEL_FORMAT, "wire type" },
        { "a varint of 11 bytes", ANY "!9806 !8080808080808080808001", ERR_MODEL_FORMAT, "64 bits" },
        { "a varint of 65 bits", ANY "!9806 !ffffffffffffffffff02", ERR_MODEL_FORMAT, "64 bits" },
        { "a varint that is cut off", ANY "!9806 !ff", ERR_MODEL_FORMAT, "cut off" },
        { "a tag that is cut off", ANY "!98", ERR_MODEL_FORMAT, "cut off" },
        { "fixed 32 bits that are cut off", ANY "!9d06 !000000", ERR_MODEL_FORMAT, "cut off" },
        { "fixed 64 bits that are cut off", ANY "!9906 !00000000000000", ERR_MODEL_FORMAT, "cut off" },
        { "a length beyond the file", ANY "!9a06 !05 !61626364", ERR_MODEL_FORMAT, "leaves the message" },
        { "a length of 2^64 - 1", ANY "!9a06 !ffffffffffffffffff01", ERR_MODEL_FORMAT, "leaves the message" },
        { "a length beyond the parent, inside the file", NODE("!2204 !5265") "99'padding'", ERR_MODEL_FORMAT, "leaves the message" },
        { "the byte of the failure is named", "1:8 !07", ERR_MODEL_FORMAT, "at byte 2" },
        { "ir_version as text", "1'8'" MODEL(""), ERR_MODEL_FORMAT, "'ir_version' has wire type" },
        { "a graph that is a number", "1:8 7:1 8{2:17}", ERR_MODEL_FORMAT, "'graph' has wire type" },
        { "a name that is packed like a number", NODE(RELU "3:1"), ERR_MODEL_FORMAT, "'name' has wire type" },
        { "two graphs", ANY "7{1{" RELU "}}", ERR_MODEL_FORMAT, "'graph' is given twice" },
        { "two ir_versions", ANY "1:8", ERR_MODEL_FORMAT, "'ir_version' is given twice" },
        { "packed floats that are not whole", ATTR("1'a' 20:6 7=00000000ff"), ERR_MODEL_FORMAT, "whole number" },
        { "packed numbers that are nothing but cut off", ATTR("1'a' 20:7 8=ff"), ERR_MODEL_FORMAT, "cut off" },
        { "packed numbers whose last is cut off", ATTR("1'a' 20:7 8=01ff"), ERR_MODEL_FORMAT, "cut off" },
    };
    check_rows(rows, COUNT(rows));
}

static void a_model_has_what_every_model_has(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "unknown fields alone", "99:1 98'x'", ERR_MODEL_FORMAT, "not an ONNX model" },
        { "no ir_version", "7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "ir_version" },
        { "IR version 2", "1:2 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 14" },
        { "IR version 3", "1:3 7{1{" RELU "}} 8{2:17}", ERR_NONE, NULL },
        { "IR version 13", "1:13 7{1{" RELU "}} 8{2:17}", ERR_NONE, NULL },
        { "IR version 15", "1:15 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 14" },
        { "IR version 2^40", "1:1099511627776 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 14" },
        { "no opset", "1:8 7{1{" RELU "}}", ERR_MODEL_INVALID, "no operator set" },
        { "opset -5", "1:8 7{1{" RELU "}} 8{2:-5}", ERR_MODEL_INVALID, "opset version -5" },
        { "opset 0", "1:8 7{1{" RELU "}} 8{}", ERR_MODEL_INVALID, "opset version 0" },
        { "one domain twice", "1:8 7{1{" RELU "}} 8{2:17} 8{1'ai.onnx' 2:18}", ERR_MODEL_INVALID, "imported twice" },
        { "no graph", "1:8 8{2:17}", ERR_MODEL_INVALID, "no graph" },
        { "an empty graph", MODEL(""), ERR_MODEL_INVALID, "no graph" },
        { "a graph of outputs alone", MODEL("12{1'y'}"), ERR_NONE, NULL },
        { "training_info", ANY "20{}", ERR_MODEL_INVALID, "training" },
        { "functions", ANY "25{1'f' 4'x' 5'y' 6'a' 7{1'x' 2'y' 4'Elu' 5{1'alpha' 20:1 21'a'}} 9{2:17} 10'd' 13'o'} 25{1'g'}", ERR_NONE, NULL },
        { "a function that is cut off", ANY "25=ff", ERR_MODEL_FORMAT, "functions[0]" },
        { "a function without a name", ANY "25{10'd'}", ERR_MODEL_INVALID, "function has no name" },
        { "a reference that is a value too", ANY "25{1'f' 7{4'Elu' 5{1'alpha' 2#0000803f 20:1 21'a'}}}", ERR_MODEL_INVALID, "value as well" },
        { "a reference without a type", ANY "25{1'f' 7{4'Elu' 5{1'alpha' 21'a'}}}", ERR_MODEL_INVALID, "type 0" },
        { "a reference after the functions", "25{1'f'} " NODE("4'Elu' 2'y' 5{1'alpha' 20:1 21'a'}"), ERR_MODEL_INVALID, "only a function's body" },
        { "a node without an op_type", NODE("2'y' 3'n'"), ERR_MODEL_INVALID, "graph.node[0] 'n'" },
        { "an initializer without a name", MODEL("1{" RELU "} 5{2:1 9=00000000}"), ERR_MODEL_INVALID, "initializer 0 has no name" },
        { "a sparse initializer", MODEL("1{" RELU "} 15{1{8'sp'}}"), ERR_MODEL_INVALID, "'sp'" },
        { "a name that is not UTF-8", NODE(RELU "3=c328"), ERR_MODEL_INVALID, "UTF-8" },
        { "a name with an overlong sequence", NODE(RELU "3=c080"), ERR_MODEL_INVALID, "UTF-8" },
        { "a name with a surrogate", NODE(RELU "3=eda080"), ERR_MODEL_INVALID, "UTF-8" },
        { "a name above U+10FFFF", NODE(RELU "3=f4908080"), ERR_MODEL_INVALID, "UTF-8" },
        { "a name cut inside a sequence", NODE(RELU "3=e282"), ERR_MODEL_INVALID, "UTF-8" },
        { "a name with a NUL", NODE(RELU "3=610062"), ERR_MODEL_INVALID, "NUL" },
        { "a name that would drive a terminal is escaped", NODE("2'y' 3=1b5b316d"), ERR_MODEL_INVALID, "\\x1b[1m" },
        { "a name with a right-to-left override is escaped", NODE("2'y' 3=e280ae"), ERR_MODEL_INVALID, "\\xe2\\x80\\xae" },
    };
    check_rows(rows, COUNT(rows));
}

static void attributes_hold_what_their_type_says(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "a float", ATTR("1'a' 20:1 2#0000803f"), ERR_NONE, NULL },
        { "a zero that was left out", ATTR("1'a' 20:2"), ERR_NONE, NULL },
        { "ints one by one", ATTR("1'a' 20:7 8:1 8:-1"), ERR_NONE, NULL },
        { "ints packed", ATTR("1'a' 20:7 8=0102"), ERR_NONE, NULL },
        { "ints packed, but none", ATTR("1'a' 20:7 8="), ERR_NONE, NULL },
        { "no type", ATTR("1'a' 3:1"), ERR_MODEL_INVALID, "type 0" },
        { "type 99", ATTR("1'a' 20:99"), ERR_MODEL_INVALID, "type 99" },
        { "type -1", ATTR("1'a' 20:-1"), ERR_MODEL_INVALID, "type -1" },
        { "a sparse tensor", ATTR("1'a' 20:11 22{}"), ERR_MODEL_INVALID, "type 11" },
        { "no name", ATTR("20:2 3:1"), ERR_MODEL_INVALID, "no name" },
        { "a reference outside a function", ATTR("1'a' 20:2 21'b'"), ERR_MODEL_INVALID, "function" },
        { "an int of type FLOAT", ATTR("1'a' 20:1 3:1"), ERR_MODEL_INVALID, "holds a value of type INT" },
        { "two values", ATTR("1'a' 20:2 3:1 8:1"), ERR_MODEL_INVALID, "holds a value of type INTS" },
        { "no tensor", ATTR("1'a' 20:4"), ERR_MODEL_INVALID, "holds none" },
        { "no graph", ATTR("1'a' 20:5"), ERR_MODEL_INVALID, "holds none" },
        { "a NUL in a list of strings", ATTR("1'a' 20:8 9=6100"), ERR_MODEL_INVALID, "NUL" },
        { "bytes in a string", ATTR("1'a' 20:3 4=00ff"), ERR_NONE, NULL },
        { "where it was is told", ATTR("1'a' 20:4 5{8't' 2:1 1:1 9=00}"), ERR_MODEL_INVALID, "graph.node[0].attribute[0].t 't'" },
    };
    check_rows(rows, COUNT(rows));
}

static void tensors_have_exactly_the_bytes_of_their_shape(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "raw data", TENSOR("1:2 2:1 9=0000000000000000"), ERR_NONE, NULL },
        { "a byte short", TENSOR("1:2 2:1 9=00000000000000"), ERR_MODEL_INVALID, "holds 7 bytes" },
        { "a byte long", TENSOR("1:2 2:1 9=000000000000000000"), ERR_MODEL_INVALID, "holds 9 bytes" },
        { "no data", TENSOR("1:2 2:1"), ERR_MODEL_INVALID, "holds 0 values" },
        { "no elements, no data", TENSOR("1:0 2:1"), ERR_NONE, NULL },
        { "no elements, empty data", TENSOR("1:0 2:1 9=") , ERR_NONE, NULL },
        { "no elements, a byte", TENSOR("1:0 2:1 9=00"), ERR_MODEL_INVALID, "holds 1 bytes" },
        { "a scalar", TENSOR("2:7 9=0000000000000000"), ERR_NONE, NULL },
        { "int4 in an odd number", TENSOR("1:3 2:22 9=2103"), ERR_NONE, NULL },
        { "dims that wrap", TENSOR("1:4611686018427387904 1:4 2:3 9=00"), ERR_MODEL_LIMIT, "outside 0 to 2^40" },
        { "dims whose product wraps", TENSOR("1:1099511627776 1:1099511627776 2:3 9=00"), ERR_MODEL_LIMIT, "overflow" },
        { "dims of 2^31", TENSOR("1:2147483648 1:2147483648 1:2147483648 2:3"), ERR_MODEL_LIMIT, "overflow" },
        { "dims of 2^46 bytes and no data", TENSOR("1:1048576 1:33554432 2:1"), ERR_MODEL_LIMIT, "overflow" },
        { "a large shape and no data", TENSOR("1:1048576 1:1048576 2:1"), ERR_MODEL_INVALID, "holds 0 values" },
        { "dim -1", TENSOR("1:-1 2:1"), ERR_MODEL_LIMIT, "dimension 0 is -1" },
        { "dim INT64_MIN", TENSOR("1:-9223372036854775808 2:1"), ERR_MODEL_LIMIT, "outside 0 to 2^40" },
        { "rank 9", TENSOR("1=010101010101010101 2:1 9=00000000"), ERR_MODEL_LIMIT, "'dims' has 9 elements" },
        { "rank 8, one by one and packed", TENSOR("1:1 1=010101010101 1:1 2:1 9=00000000"), ERR_NONE, NULL },
        { "no type", TENSOR("9=00"), ERR_MODEL_INVALID, "data type 0" },
        { "type 255", TENSOR("2:255 9=00"), ERR_MODEL_INVALID, "data type 255" },
        { "a negative type", TENSOR("2:-1 9=00"), ERR_MODEL_INVALID, "data type -1" },
        { "a type of 2^32 + 1", TENSOR("2:4294967297 9=00000000"), ERR_MODEL_INVALID, "data type 4294967297" },
        { "complex64", TENSOR("2:14 9=0000000000000000"), ERR_MODEL_INVALID, "data type 14" },
        { "strings", TENSOR("1:1 2:8 6'a'"), ERR_MODEL_INVALID, "'w'" },
        { "strings in a float tensor", TENSOR("1:1 2:1 6'a'"), ERR_MODEL_INVALID, "strings" },
        { "a segment", TENSOR("1:1 2:1 3{} 9=00000000"), ERR_MODEL_INVALID, "segment" },
        { "data_location 2", TENSOR("1:1 2:1 9=00000000 14:2"), ERR_MODEL_INVALID, "data_location 2" },
        { "float_data packed", TENSOR("1:2 2:1 4=0000803f00000040"), ERR_NONE, NULL },
        { "float_data one by one", TENSOR("1:2 2:1 4#0000803f 4#00000040"), ERR_NONE, NULL },
        { "too few floats", TENSOR("1:2 2:1 4#0000803f"), ERR_MODEL_INVALID, "holds 1 values" },
        { "too many floats", TENSOR("1:1 2:1 4#0000803f 4#0000803f"), ERR_MODEL_INVALID, "holds 2 values" },
        { "floats in raw_data and float_data", TENSOR("1:1 2:1 4#0000803f 9=00000000"), ERR_MODEL_INVALID, "twice" },
        { "two typed fields", TENSOR("1:1 2:1 4#0000803f 5:1"), ERR_MODEL_INVALID, "twice" },
        { "floats in int32_data", TENSOR("1:1 2:1 5:1"), ERR_MODEL_INVALID, "not in float_data" },
        { "no elements, but values of another type", TENSOR("1:0 2:1 5:1"), ERR_MODEL_INVALID, "not in float_data" },
        { "int8 -128", TENSOR("1:1 2:3 5:-128"), ERR_NONE, NULL },
        { "int8 128", TENSOR("1:1 2:3 5:128"), ERR_MODEL_INVALID, "holds 128" },
        { "uint8 -1", TENSOR("1:1 2:2 5:-1"), ERR_MODEL_INVALID, "holds -1" },
        { "int16 32768", TENSOR("1:1 2:5 5:32768"), ERR_MODEL_INVALID, "holds 32768" },
        { "uint16 65536", TENSOR("1:1 2:4 5:65536"), ERR_MODEL_INVALID, "holds 65536" },
        { "bool 2", TENSOR("1:1 2:9 5:2"), ERR_MODEL_INVALID, "holds 2" },
        { "float16 bits of 65536", TENSOR("1:1 2:10 5:65536"), ERR_MODEL_INVALID, "holds 65536" },
        { "int32 2^31", TENSOR("1:1 2:6 5:2147483648"), ERR_MODEL_INVALID, "holds 2147483648" },
        { "uint32 2^32", TENSOR("1:1 2:12 11:4294967296"), ERR_MODEL_INVALID, "holds 4294967296" },
        { "uint64 2^64 - 1", TENSOR("1:1 2:13 11:18446744073709551615"), ERR_NONE, NULL },
        { "int4 pairs share a value", TENSOR("1:3 2:22 5:33 5:3"), ERR_NONE, NULL },
        { "int4 one value each", TENSOR("1:3 2:22 5:1 5:2 5:3"), ERR_MODEL_INVALID, "holds 3 values" },
        { "a typed varint of 11 bytes", TENSOR("1:1 2:7 7=8080808080808080808001"), ERR_MODEL_FORMAT, "64 bits" },
        { "a typed varint that is cut off", TENSOR("1:1 2:7 7=01ff"), ERR_MODEL_FORMAT, "cut off" },
    };
    check_rows(rows, COUNT(rows));
}

static void typed_fields_become_little_endian_elements(void **state)
{
    (void)state;
    static const struct { const char *label, *text; uint8_t want[16]; size_t n; } rows[] = {
        { "float", TENSOR("1:2 2:1 4=0000803f 4#00000040"), { 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40 }, 8 },
        { "double", TENSOR("1:1 2:11 10%000000000000f03f"), { 0, 0, 0, 0, 0, 0, 0xf0, 0x3f }, 8 },
        { "int64", TENSOR("1:1 2:7 7:-2"), { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, 8 },
        { "uint64", TENSOR("1:1 2:13 11:258"), { 2, 1 }, 8 },
        { "uint32", TENSOR("1:1 2:12 11:4294967295"), { 0xff, 0xff, 0xff, 0xff }, 4 },
        { "int32", TENSOR("1:2 2:6 5:-1 5:1"), { 0xff, 0xff, 0xff, 0xff, 1 }, 8 },
        { "int16", TENSOR("1:2 2:5 5:-2 5:3"), { 0xfe, 0xff, 3, 0 }, 4 },
        { "int8", TENSOR("1:3 2:3 5:-2 5=03 5:4"), { 0xfe, 3, 4 }, 3 },
        { "bool", TENSOR("1:2 2:9 5=0100"), { 1, 0 }, 2 },
        { "float16", TENSOR("1:2 2:10 5:15360 5:1"), { 0, 0x3c, 1, 0 }, 4 },
        { "bfloat16", TENSOR("1:1 2:16 5:16256"), { 0x80, 0x3f }, 2 },
        { "uint4", TENSOR("1:3 2:21 5:33 5:3"), { 0x21, 3 }, 2 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct onnx_model m;
        struct err e = { 0 };
        if (!read_spelled(rows[i].text, NULL, 0, mem, &m, &e))
            fail_msg("%s: %s", rows[i].label, e.text);
        if (memcmp(m.graph.initializers[0].t.data, rows[i].want, rows[i].n) != 0)
            fail_msg("%s: other bytes", rows[i].label);
        arena_free(mem);
    }
}

static void values_are_tensors_with_possible_shapes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "batch, -1, 3", INPUT("1'x' 2{1{1:1 2{1{2'batch'} 1{1:-1} 1{1:3}}}}"), ERR_NONE, NULL },
        { "no type", INPUT("1'x'"), ERR_NONE, NULL },
        { "no name", INPUT("2{1{1:1}}"), ERR_MODEL_INVALID, "no name" },
        { "dim -2", INPUT("1'x' 2{1{1:1 2{1{1:-2}}}}"), ERR_MODEL_INVALID, "dimension 0 is -2" },
        { "dim 2^41", INPUT("1'x' 2{1{1:1 2{1{1:2199023255552}}}}"), ERR_MODEL_LIMIT, "over the limit" },
        { "a dim with a value and a name", INPUT("1'x' 2{1{1:1 2{1{1:1 2'n'}}}}"), ERR_MODEL_INVALID, "a value and a name" },
        { "rank 9", INPUT("1'x' 2{1{1:1 2{1{}1{}1{}1{}1{}1{}1{}1{}1{}}}}"), ERR_MODEL_LIMIT, "'dim' has 9 elements" },
        { "type 255", INPUT("1'x' 2{1{1:255}}"), ERR_MODEL_INVALID, "type 255" },
        { "a sequence", INPUT("1'x' 2{4{}}"), ERR_MODEL_INVALID, "this is a sequence" },
        { "a map", INPUT("1'x' 2{5{}}"), ERR_MODEL_INVALID, "this is a map" },
        { "a sparse tensor", INPUT("1'x' 2{8{}}"), ERR_MODEL_INVALID, "this is a sparse tensor" },
        { "an optional", INPUT("1'x' 2{9{}}"), ERR_MODEL_INVALID, "this is an optional" },
    };
    check_rows(rows, COUNT(rows));
}

static void names_are_at_most_4096_bytes(void **state)
{
    (void)state;
    for (int n = ONNX_MAX_NAME; n <= ONNX_MAX_NAME + 1; n++) {
        char text[ONNX_MAX_NAME + 64];
        snprintf(text, sizeof text, NODE(RELU "3'%0*d'"), n, 0);
        check_row(&(struct row){ "a long name", text, n > ONNX_MAX_NAME ? ERR_MODEL_LIMIT : ERR_NONE, NULL }, NULL, 0);
    }
}

/* Packed, each dimension a byte of 1: with `n` of them the shape has one element, so that the number alone is wrong. */
static void a_tensor_of_many_axes_is_refused_by_their_number(void **state)
{
    (void)state;
    static const int ranks[] = { 8, 9, 64, 65, 1000000 };
    for (size_t i = 0; i < COUNT(ranks); i++) {
        char *dims = malloc(2 * (size_t)ranks[i] + 1), *text, says[48];
        assert_non_null(dims);
        for (int k = 0; k < ranks[i]; k++)
            memcpy(dims + 2 * (size_t)k, "01", 3);
        assert_true(asprintf(&text, TENSOR("1=%s 2:1 9=00000000"), dims) > 0);
        snprintf(says, sizeof says, "'dims' has %d elements", ranks[i]);
        bool fits = ranks[i] <= TENSOR_MAX_RANK;
        check_row(&(struct row){ "axes", text, fits ? ERR_NONE : ERR_MODEL_LIMIT, fits ? NULL : says }, NULL, 0);
        free(text);
        free(dims);
    }
}

/* ---- external data ---- */

#define EXTERNAL(entries) TENSOR("1:2 2:1 14:1 " entries)
#define AT(location) "13{1'location' 2'" location "'}"
#define OFFSET(n) "13{1'offset' 2'" n "'}"
#define LENGTH(n) "13{1'length' 2'" n "'}"
#define TWO(a, b) MODEL("1{" RELU "} 5{8'v' 1:2 2:1 14:1 " a "} 5{8'w' 1:2 2:1 14:1 " b "}")

static const uint8_t weights[20] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 };
static const struct onnx_file others[] = { { "w.bin", weights, sizeof weights, false }, { "sub/w.bin", weights, 8, false }, { "empty.bin", weights, 0, false } };

/* It is no more than a key, and told no longer than a message may be. */
static void a_location_of_5000_bytes_is_the_name_of_no_file(void **state)
{
    (void)state;
    char text[5200];
    snprintf(text, sizeof text, EXTERNAL("13{1'location' 2'%0*d'}"), 5000, 0);
    check_row(&(struct row){ "a long location", text, ERR_MODEL_EXTERNAL, "...', which is not here" }, others, COUNT(others));
}

static void external_data_is_a_key_into_the_upload_and_in_bounds(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "a file of the upload", EXTERNAL(AT("w.bin")), ERR_NONE, NULL },
        { "a file in a folder of the upload", EXTERNAL(AT("sub/w.bin") OFFSET("0") LENGTH("8")), ERR_NONE, NULL },
        { "a checksum", EXTERNAL(AT("w.bin") "13{1'checksum' 2'x'}"), ERR_NONE, NULL },
        { "the last bytes", EXTERNAL(AT("w.bin") OFFSET("12") LENGTH("8")), ERR_NONE, NULL },
        { "a byte beyond", EXTERNAL(AT("w.bin") OFFSET("13")), ERR_MODEL_EXTERNAL, "has only 20" },
        { "an offset beyond", EXTERNAL(AT("w.bin") OFFSET("21")), ERR_MODEL_EXTERNAL, "has only 20" },
        { "an offset that wraps", EXTERNAL(AT("w.bin") OFFSET("18446744073709551615")), ERR_MODEL_EXTERNAL, "has only 20" },
        { "an empty file", EXTERNAL(AT("empty.bin")), ERR_MODEL_EXTERNAL, "has only 0" },
        { "an offset of 2^64", EXTERNAL(AT("w.bin") OFFSET("18446744073709551616")), ERR_MODEL_EXTERNAL, "decimal" },
        { "a negative offset", EXTERNAL(AT("w.bin") OFFSET("-8")), ERR_MODEL_EXTERNAL, "decimal" },
        { "an offset of 1e9", EXTERNAL(AT("w.bin") OFFSET("1e9")), ERR_MODEL_EXTERNAL, "decimal" },
        { "an offset with a space", EXTERNAL(AT("w.bin") OFFSET(" 0")), ERR_MODEL_EXTERNAL, "decimal" },
        { "an offset of nothing", EXTERNAL(AT("w.bin") OFFSET("")), ERR_MODEL_EXTERNAL, "decimal" },
        { "a length that is not the shape's", EXTERNAL(AT("w.bin") LENGTH("9")), ERR_MODEL_EXTERNAL, "has 9 bytes where its shape needs 8" },
        { "a negative length", EXTERNAL(AT("w.bin") LENGTH("-1")), ERR_MODEL_EXTERNAL, "decimal" },
        { "an unknown key", EXTERNAL(AT("w.bin") "13{1'mode' 2'w'}"), ERR_MODEL_EXTERNAL, "not location" },
        { "a key twice", EXTERNAL(AT("w.bin") AT("sub/w.bin")), ERR_MODEL_EXTERNAL, "repetition" },
        { "no location", EXTERNAL(OFFSET("0")), ERR_MODEL_EXTERNAL, "without a location" },
        { "an empty location", EXTERNAL(AT("")), ERR_MODEL_EXTERNAL, "without a location" },
        { "a file that was not uploaded", EXTERNAL(AT("v.bin")), ERR_MODEL_EXTERNAL, "upload the file with the model under this name" },
        { "the tensor is named", EXTERNAL(AT("v.bin")), ERR_MODEL_EXTERNAL, "graph.initializer[0] 'w'" },
        { "the model itself", EXTERNAL(AT("model.onnx")), ERR_MODEL_EXTERNAL, "'model.onnx'" },
        { "another spelling of a file", EXTERNAL(AT("./w.bin")), ERR_MODEL_EXTERNAL, "'./w.bin'" },
        { "..", EXTERNAL(AT("../../etc/passwd")), ERR_MODEL_EXTERNAL, "outside the model's folder" },
        { ".. inside", EXTERNAL(AT("a/../../b")), ERR_MODEL_EXTERNAL, "outside the model's folder" },
        { "an absolute path", EXTERNAL(AT("/etc/passwd")), ERR_MODEL_EXTERNAL, "outside the model's folder" },
        { "backslashes", EXTERNAL(AT("..\\..\\x")), ERR_MODEL_EXTERNAL, "outside the model's folder" },
        { "a drive", EXTERNAL(AT("C:\\x")), ERR_MODEL_EXTERNAL, "outside the model's folder" },
        { "percent signs are letters", EXTERNAL(AT("%2e%2e/x")), ERR_MODEL_EXTERNAL, "'%2e%2e/x'" },
        { "a NUL", EXTERNAL("13{1'location' 2=780079}"), ERR_MODEL_INVALID, "NUL" },
        { "an escape sequence", EXTERNAL("13{1'location' 2=1b5d}"), ERR_MODEL_EXTERNAL, "\\x1b]" },
        { "data of its own as well", EXTERNAL(AT("w.bin") "9=0000000000000000"), ERR_MODEL_INVALID, "data of its own" },
        { "no elements", TENSOR("1:0 2:1 14:1 " AT("empty.bin")), ERR_NONE, NULL },
        { "two tensors side by side", TWO(AT("w.bin"), AT("w.bin") OFFSET("8")), ERR_NONE, NULL },
        { "two tensors that are the same bytes", TWO(AT("w.bin") OFFSET("4"), AT("w.bin") OFFSET("4")), ERR_NONE, NULL },
        { "two tensors that overlap", TWO(AT("w.bin") OFFSET("7"), AT("w.bin")), ERR_MODEL_EXTERNAL, "'w' and 'v' overlap" },
        { "the same range of two files", TWO(AT("w.bin"), AT("sub/w.bin")), ERR_NONE, NULL },
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        check_row(&rows[i], others, COUNT(others));
}

static void external_bytes_are_those_of_the_range(void **state)
{
    (void)state;
    struct arena *mem = arena_new(1 << 20);
    struct onnx_model m;
    struct err e = { 0 };
    assert_true(read_spelled(EXTERNAL(AT("w.bin") OFFSET("5")), others, COUNT(others), mem, &m, &e));
    assert_true(m.graph.initializers[0].external);
    assert_memory_equal(m.graph.initializers[0].t.data, weights + 5, 8);
    assert_int_equal((uintptr_t)m.graph.initializers[0].t.data % sizeof(float), 0);
    arena_free(mem);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_wire_format_is_held_to_its_rules),
        cmocka_unit_test(a_model_has_what_every_model_has),
        cmocka_unit_test(attributes_hold_what_their_type_says),
        cmocka_unit_test(tensors_have_exactly_the_bytes_of_their_shape),
        cmocka_unit_test(typed_fields_become_little_endian_elements),
        cmocka_unit_test(values_are_tensors_with_possible_shapes),
        cmocka_unit_test(names_are_at_most_4096_bytes),
        cmocka_unit_test(a_tensor_of_many_axes_is_refused_by_their_number),
        cmocka_unit_test(a_location_of_5000_bytes_is_the_name_of_no_file),
        cmocka_unit_test(external_data_is_a_key_into_the_upload_and_in_bounds),
        cmocka_unit_test(external_bytes_are_those_of_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
