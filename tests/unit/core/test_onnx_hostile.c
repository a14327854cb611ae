/*
 * What a stranger's file may not do: one labelled row per rule.
 *
 * Rows are written in a small notation that spell() turns into wire bytes, so that they can be wrong on purpose:
 *
 *   8:17       field 8, varint          1'text'    field 1, length-delimited text
 *   3#0000803f field 3, fixed 32 bits   7{ ... }   field 7, a message
 *   3%...      field 3, fixed 64 bits   9=00ff     field 9, length-delimited, bytes in hex
 *   !0aff      these bytes as they are
 */
#include "core/base/arena.h"
#include "core/onnx/onnx.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- the notation ---- */

enum { SPELL_MAX = 16 << 10 };
struct spelled { uint8_t p[SPELL_MAX]; size_t n; };

static void put(struct spelled *s, const void *p, size_t n)
{
    assert_true(s->n + n <= SPELL_MAX);
    memcpy(s->p + s->n, p, n);
    s->n += n;
}

static void put_varint(struct spelled *s, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        put(s, &(uint8_t){ (uint8_t)(v | 0x80) }, 1);
    put(s, &(uint8_t){ (uint8_t)v }, 1);
}

static void put_payload(struct spelled *s, uint64_t number, const struct spelled *body)
{
    put_varint(s, number << 3 | 2);
    put_varint(s, body->n);
    put(s, body->p, body->n);
}

static const char *put_hex(struct spelled *s, const char *at)
{
    for (; isxdigit((unsigned char)at[0]) && isxdigit((unsigned char)at[1]); at += 2) {
        const char digits[] = { at[0], at[1], '\0' };
        put(s, &(uint8_t){ (uint8_t)strtoul(digits, NULL, 16) }, 1);
    }
    return at;
}

static const char *spell_fields(struct spelled *s, const char *at);

static const char *spell_field(struct spelled *s, const char *at)
{
    char *after;
    uint64_t number = strtoull(at, &after, 10);
    struct spelled *body = calloc(1, sizeof *body);
    const char *start = after + 1;
    assert_non_null(body);
    switch (*after) {
    case ':':
        put_varint(s, number << 3);
        put_varint(s, *start == '-' ? (uint64_t)strtoll(start, &after, 10) : strtoull(start, &after, 10));
        break;
    case '\'':
        after = strchr(start, '\'');
        put(body, start, (size_t)(after - start));
        put_payload(s, number, body);
        after++;
        break;
    case '{':
        after = (char *)spell_fields(body, start) + 1;
        put_payload(s, number, body);
        break;
    case '=':
        after = (char *)put_hex(body, start);
        put_payload(s, number, body);
        break;
    case '#': case '%':
        put_varint(s, number << 3 | (*after == '#' ? 5 : 1));
        after = (char *)put_hex(s, start);
        break;
    default:
        fail_msg("cannot spell '%s'", at);
    }
    free(body);
    return after;
}

static const char *spell_fields(struct spelled *s, const char *at)
{
    while (*at && *at != '}') {
        if (*at == ' ')
            at++;
        else if (*at == '!')
            at = put_hex(s, at + 1);
        else
            at = spell_field(s, at);
    }
    return at;
}

static bool read_spelled(const char *text, const struct onnx_file *more, size_t n_more, struct arena *mem,
                         struct onnx_model *ret, struct err *e)
{
    struct spelled *s = calloc(1, sizeof *s);
    assert_non_null(s);
    spell_fields(s, text);
    struct onnx_file files[8] = { { "model.onnx", malloc(s->n ? s->n : 1), s->n } };    /* exact: a sanitizer sees one byte more */
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
        { "IR version 2", "1:2 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 13" },
        { "IR version 3", "1:3 7{1{" RELU "}} 8{2:17}", ERR_NONE, NULL },
        { "IR version 13", "1:13 7{1{" RELU "}} 8{2:17}", ERR_NONE, NULL },
        { "IR version 14", "1:14 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 13" },
        { "IR version 2^40", "1:1099511627776 7{1{" RELU "}} 8{2:17}", ERR_MODEL_INVALID, "outside 3 to 13" },
        { "no opset", "1:8 7{1{" RELU "}}", ERR_MODEL_INVALID, "no operator set" },
        { "opset -5", "1:8 7{1{" RELU "}} 8{2:-5}", ERR_MODEL_INVALID, "opset version -5" },
        { "opset 0", "1:8 7{1{" RELU "}} 8{}", ERR_MODEL_INVALID, "opset version 0" },
        { "one domain twice", "1:8 7{1{" RELU "}} 8{2:17} 8{1'ai.onnx' 2:18}", ERR_MODEL_INVALID, "imported twice" },
        { "no graph", "1:8 8{2:17}", ERR_MODEL_INVALID, "no graph" },
        { "an empty graph", MODEL(""), ERR_MODEL_INVALID, "no graph" },
        { "a graph of outputs alone", MODEL("12{1'y'}"), ERR_NONE, NULL },
        { "training_info", ANY "20{}", ERR_MODEL_INVALID, "training" },
        { "functions are counted, not read", ANY "25=ff 25=ff", ERR_NONE, NULL },
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

/* ---- external data ---- */

#define EXTERNAL(entries) TENSOR("1:2 2:1 14:1 " entries)
#define AT(location) "13{1'location' 2'" location "'}"
#define OFFSET(n) "13{1'offset' 2'" n "'}"
#define LENGTH(n) "13{1'length' 2'" n "'}"
#define TWO(a, b) MODEL("1{" RELU "} 5{8'v' 1:2 2:1 14:1 " a "} 5{8'w' 1:2 2:1 14:1 " b "}")

static const uint8_t weights[20] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 };
static const struct onnx_file others[] = { { "w.bin", weights, sizeof weights }, { "sub/w.bin", weights, 8 }, { "empty.bin", weights, 0 } };

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

/* ---- bombs ---- */

static void expect_limit(const char *label, const uint8_t *p, size_t n, const char *says)
{
    struct arena *mem = arena_new(4 << 20);      /* refused by count, long before this is full */
    struct onnx_file file = { "model.onnx", p, n };
    struct onnx_model m;
    struct err e = { 0 };
    assert_false(onnx_read(mem, &file, 1, &m, &e));
    if (e.code != ERR_MODEL_LIMIT || !strstr(e.text, says))
        fail_msg("%s: %s: %s", label, err_slug(e.code), e.text);
    arena_free(mem);
}

/* n bytes of `pattern` over and over, as the graph's body. */
static void bomb(const char *label, size_t n, const char *pattern, size_t pattern_n, const char *says)
{
    struct spelled head = { .n = 0 };
    put(&head, "\x08\x08\x3a", 3);
    put_varint(&head, n);
    uint8_t *p = malloc(head.n + n);
    assert_non_null(p);
    memcpy(p, head.p, head.n);
    for (size_t i = 0; i < n; i++)
        p[head.n + i] = (uint8_t)pattern[i % pattern_n];
    expect_limit(label, p, head.n + n, says);
    free(p);
}

static void files_of_empty_things_are_refused_by_count(void **state)
{
    (void)state;
    bomb("nodes", 2 * (ONNX_MAX_NODES + 1), "\x0a\x00", 2, "nodes");
    bomb("initializers", 2 * (ONNX_MAX_TENSORS + 1), "\x2a\x00", 2, "tensors");
    bomb("inputs", 2 * (ONNX_MAX_TENSORS + 1), "\x5a\x00", 2, "tensors");
    bomb("sparse initializers", 2 * 1025, "\x7a\x00", 2, "'sparse_initializer' has 1025 elements");
    bomb("unknown fields", 2 * (ONNX_MAX_FIELDS + 1), "\x1a\x00", 2, "too many fields");
}

/* A chain of graphs, each in an attribute of the one around it: built from the inside out. */
static uint8_t *nested(int graphs, size_t *ret_n)
{
    size_t room = (size_t)graphs * 40 + 64, at = room;
    uint8_t *p = malloc(room);
    assert_non_null(p);
    static const char innermost[] = "\x0a\x09\x12\x01y\x22\x04Relu", around[] = "\x22\x02If";
    at -= sizeof innermost - 1;
    memcpy(p + at, innermost, sizeof innermost - 1);
    for (int i = 1; i < graphs; i++) {
        static const struct { const char *before; size_t n; uint8_t key; } levels[] = {
            { "", 0, 0x32 },                                     /* g of the attribute */
            { "\x0a\x01" "b\xa0\x01\x05", 6, 0x2a },             /* its name and type; attribute of the node */
            { around, sizeof around - 1, 0x0a },                 /* the node's op_type; node of the graph */
        };
        for (size_t k = 0; k < COUNT(levels); k++) {
            at -= levels[k].n;
            memcpy(p + at, levels[k].before, levels[k].n);
            struct spelled head = { .n = 0 };
            put(&head, &levels[k].key, 1);
            put_varint(&head, room - at);
            at -= head.n;
            memcpy(p + at, head.p, head.n);
        }
    }
    struct spelled head = { .n = 0 };
    put(&head, "\x08\x08\x42\x02\x10\x11\x3a", 7);
    put_varint(&head, room - at);
    uint8_t *ret = malloc(head.n + room - at);
    assert_non_null(ret);
    memcpy(ret, head.p, head.n);
    memcpy(ret + head.n, p + at, room - at);
    *ret_n = head.n + room - at;
    free(p);
    return ret;
}

static void graphs_nest_32_deep_and_no_deeper(void **state)
{
    (void)state;
    static const struct { int graphs; bool ok; } rows[] = { { 1, true }, { 2, true }, { 32, true }, { 33, false }, { 10000, false } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t n;
        uint8_t *p = nested(rows[i].graphs, &n);
        struct arena *mem = arena_new(4 << 20);
        struct onnx_file file = { "model.onnx", p, n };
        struct onnx_model m;
        struct err e = { 0 };
        bool ok = onnx_read(mem, &file, 1, &m, &e);
        if (ok != rows[i].ok || (!ok && (e.code != ERR_MODEL_LIMIT || !strstr(e.text, "nested"))))
            fail_msg("%d graphs: %s: %s", rows[i].graphs, err_slug(e.code), e.text);
        arena_free(mem);
        free(p);
    }
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

/* ---- other files ---- */

static void a_file_that_is_not_onnx_is_told_what_it_is(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t n; const char *says; } rows[] = {
#define ROW(bytes, says) { bytes, sizeof(bytes) - 1, says }
        ROW("PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl", "PyTorch checkpoint"),
        ROW("PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.npy", "NumPy .npz"),
        ROW("PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0x", "zip archive"),
        ROW("\x80\x02}q\0", "PyTorch pickle"),
        ROW("\x58\0\0\0\0\0\0\0{\"__metadata__\":", "safetensors"),
        ROW("GGUF\3\0\0\0", "GGUF"), ROW("GGUF", "GGUF"), ROW("\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"), ROW("\x1c\0\0\0ORTM", ".ort file"),
        ROW("\x89HDF\r\n\x1a\n\0", "Keras HDF5"), ROW("ptrt\0\0", "TensorRT"), ROW("ftrt\0\0", "TensorRT"),
        ROW("<?xml version=\"1.0\"?><net ", "OpenVINO"), ROW("<net name=\"m\"", "OpenVINO"),
        ROW("\x1f\x8b\x08\0", "gzip"), ROW("\x28\xb5\x2f\xfd\0", "zstd"), ROW("\xff\xd8\xff\xe0", "JPEG"), ROW("\x89PNG\r\n\x1a\n", "PNG"),
        ROW("\x93NUMPY\1\0", "NumPy array"), ROW("<!DOCTYPE html>", "web page"), ROW("<HTML>", "web page"), ROW("{\"error\":1}", "JSON"),
        ROW("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"), ROW("\x7f" "ELF\2\1", "program"),
        ROW("ir_version: 8\ngraph {", "text form"), ROW("", "empty"),
#undef ROW
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena *mem = arena_new(1 << 20);
        struct onnx_file file = { "model.onnx", (const uint8_t *)rows[i].bytes, rows[i].n };
        struct onnx_model m;
        struct err e = { 0 };
        assert_false(onnx_read(mem, &file, 1, &m, &e));
        if (e.code != ERR_MODEL_FORMAT || !strstr(e.text, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].says, err_slug(e.code), e.text);
        arena_free(mem);
    }
    assert_null(onnx_sniff((const uint8_t *)"\x08\x08", 2));
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
        cmocka_unit_test(external_data_is_a_key_into_the_upload_and_in_bounds),
        cmocka_unit_test(external_bytes_are_those_of_the_range),
        cmocka_unit_test(files_of_empty_things_are_refused_by_count),
        cmocka_unit_test(graphs_nest_32_deep_and_no_deeper),
        cmocka_unit_test(names_are_at_most_4096_bytes),
        cmocka_unit_test(a_file_that_is_not_onnx_is_told_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
