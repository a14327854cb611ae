/* Files that would exhaust a reader, and files that are something else. */
#include "core/base/arena.h"
#include "core/onnx/message.h"
#include "core/onnx/onnx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core/wire_text.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- bombs ---- */

static void expect_limit(const char *label, const uint8_t *p, size_t n, const char *says)
{
    struct arena *mem = arena_new(4 << 20);      /* refused by count, long before this is full */
    struct onnx_file file = { "model.onnx", p, n, false };
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
        struct onnx_file file = { "model.onnx", p, n, false };
        struct onnx_model m;
        struct err e = { 0 };
        bool ok = onnx_read(mem, &file, 1, &m, &e);
        if (ok != rows[i].ok || (!ok && (e.code != ERR_MODEL_LIMIT || !strstr(e.text, "nested"))))
            fail_msg("%d graphs: %s: %s", rows[i].graphs, err_slug(e.code), e.text);
        arena_free(mem);
        free(p);
    }
}

static void graphs_side_by_side_are_not_deep(void **state)
{
    (void)state;
    struct spelled s = { .n = 0 }, graph = { .n = 0 };
    for (int i = 0; i < 2 * ONNX_MAX_DEPTH; i++)
        spell_fields(&graph, "1{2'y' 4'If' 5{1'b' 20:5 6{1{2'y' 4'Relu'}}}}");
    spell_fields(&s, "1:8 8{2:17}");
    put_payload(&s, 7, &graph);
    struct arena *mem = arena_new(1 << 20);
    struct onnx_file file = { "model.onnx", s.p, s.n, false };
    struct onnx_model m;
    struct err e = { 0 };
    if (!onnx_read(mem, &file, 1, &m, &e))
        fail_msg("%s", e.text);
    assert_int_equal(m.graph.n_nodes, 2 * ONNX_MAX_DEPTH);
    arena_free(mem);
}

/* A node with a string of n bytes. */
static uint8_t *long_string(size_t n, size_t *ret_n)
{
    struct spelled head = { .n = 0 }, attr = { .n = 0 }, node = { .n = 0 }, graph = { .n = 0 };
    spell_fields(&attr, "1'mode' 20:3");
    put(&attr, "\x22", 1);
    put_varint(&attr, n);
    put(&node, "\x22\3Pad\x2a", 6);
    put_varint(&node, attr.n + n);
    put(&node, attr.p, attr.n);
    put(&graph, "\x0a", 1);
    put_varint(&graph, node.n + n);
    put(&graph, node.p, node.n);
    spell_fields(&head, "1:8 8{2:17}");
    put(&head, "\x3a", 1);
    put_varint(&head, graph.n + n);
    put(&head, graph.p, graph.n);
    uint8_t *p = malloc(head.n + n);
    assert_non_null(p);
    memcpy(p, head.p, head.n);
    memset(p + head.n, 's', n);
    *ret_n = head.n + n;
    return p;
}

static void a_string_is_bounded(void **state)
{
    (void)state;
    enum { MOST = 1 << 20 };
    for (size_t n = MOST; n <= MOST + 1; n++) {
        size_t size;
        uint8_t *p = long_string(n, &size);
        struct arena *mem = arena_new(4 << 20);
        struct onnx_file file = { "model.onnx", p, size, false };
        struct onnx_model m;
        struct err e = { 0 };
        bool ok = onnx_read(mem, &file, 1, &m, &e);
        if (ok != (n == MOST) || (!ok && (e.code != ERR_MODEL_LIMIT || !strstr(e.where, "mode") || !strstr(e.text, "1048577 bytes"))))
            fail_msg("%zu: %s: %s: %s", n, err_slug(e.code), e.where, e.text);
        assert_true(!ok || m.graph.nodes[0].attrs[0].s_n == MOST);
        arena_free(mem);
        free(p);
    }
}

static void more_files_than_a_model_has_are_refused(void **state)
{
    (void)state;
    struct spelled s = { .n = 0 };
    spell_fields(&s, "1:8 8{2:17} 7{1{2'y' 4'Relu' 1'x'}}");
    struct onnx_file files[ONNX_MAX_FILES + 1];
    for (size_t i = 0; i < COUNT(files); i++)
        files[i] = (struct onnx_file){ i ? "weights" : "model.onnx", s.p, s.n, false };
    for (size_t n = ONNX_MAX_FILES; n <= COUNT(files); n++) {
        struct arena *mem = arena_new(1 << 20);
        struct onnx_model m;
        struct err e = { 0 };
        assert_int_equal(onnx_read(mem, files, n, &m, &e), n == ONNX_MAX_FILES);
        assert_int_equal(e.code, n == ONNX_MAX_FILES ? ERR_NONE : ERR_MODEL_LIMIT);
        assert_true(n == ONNX_MAX_FILES || strstr(e.text, "65 files; at most 64"));
        arena_free(mem);
    }
}

/* What is printed of a stranger's name fits where it goes, and is one line. */
static void a_name_is_printed_plainly_and_shortened(void **state)
{
    (void)state;
    static const struct { const char *name; size_t size; const char *want; } rows[] = {
        { "conv1.weight", 32, "conv1.weight" }, { "a\nb\\\x7f\xc3\xa9", 40, "a\\x0ab\\x5c\\x7f\\xc3\\xa9" }, { "", 8, "" },
        { "abcdefghijkl", 12, "abcde..." }, { "abcd\n\n\n\n", 12, "abcd\\x0a..." }, { "\n\n\n\n\n", 16, "\\x0a\\x0a\\x0a..." },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char buf[64];
        memset(buf, '#', sizeof buf);
        text_printable(buf, rows[i].size, rows[i].name, strlen(rows[i].name));
        assert_string_equal(buf, rows[i].want);
        assert_int_equal(buf[rows[i].size], '#');
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
        struct onnx_file file = { "model.onnx", (const uint8_t *)rows[i].bytes, rows[i].n, false };
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
        cmocka_unit_test(files_of_empty_things_are_refused_by_count),
        cmocka_unit_test(graphs_nest_32_deep_and_no_deeper),
        cmocka_unit_test(graphs_side_by_side_are_not_deep),
        cmocka_unit_test(a_string_is_bounded),
        cmocka_unit_test(more_files_than_a_model_has_are_refused),
        cmocka_unit_test(a_name_is_printed_plainly_and_shortened),
        cmocka_unit_test(a_file_that_is_not_onnx_is_told_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
