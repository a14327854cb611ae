/* ONNX models: what is written is what is read, byte for byte and struct for struct. */
#include "core/base/hash.h"
#include "core/base/io.h"
#include "core/onnx/onnx.h"
#include "core/onnx/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/core/onnx_same.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- a sink that keeps what it gets ---- */

struct bytes {
    uint8_t *p;
    size_t n, room;
    size_t fail_after;           /* bytes until it refuses; 0: never */
};

static bool keep(void *arg, const void *p, size_t n, struct err *e)
{
    struct bytes *b = arg;
    if (b->fail_after && b->n + n > b->fail_after)
        return err_set(e, ERR_DISK, "sink", "full");
    if (b->n + n > b->room) {
        b->room = (b->n + n) * 2;
        b->p = realloc(b->p, b->room);
        assert_non_null(b->p);
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return true;
}

static struct bytes written(const struct onnx_model *m)
{
    struct bytes b = { 0 };
    struct err e = { 0 };
    if (!onnx_write(m, &(struct onnx_sink){ keep, &b }, &e))
        fail_msg("%s: %s", e.where, e.text);
    return b;
}

static void read_back(struct arena *mem, const struct bytes *b, struct onnx_model *ret)
{
    struct onnx_file file = { "model.onnx", b->p, b->n, false };
    struct err e = { 0 };
    if (!onnx_read(mem, &file, 1, ret, &e))
        fail_msg("%s: %s", e.where, e.text);
}

/* ---- random models: everything the structs can say ---- */

struct dice { uint64_t seed, i; struct arena *mem; };

static uint64_t roll(struct dice *d, uint64_t sides) { return hash_mix(d->seed, d->i++) % sides; }

static void *many(struct dice *d, size_t n, size_t size)
{
    void *p = arena_array(d->mem, n, size, NULL);
    assert_non_null(p);
    return p;
}

static const char *random_name(struct dice *d, bool maybe_empty)
{
    static const char *const names[] = { "x", "y", "/layer.0/MatMul_output_0", "gewicht_\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "a b\"'\\", "" };
    return names[roll(d, COUNT(names) - !maybe_empty)];
}

static struct onnx_tensor random_tensor(struct dice *d)
{
    static const enum dtype dtypes[] = { DT_F32, DT_F64, DT_I64, DT_U64, DT_I32, DT_U32, DT_I16, DT_U16,
                                          DT_I8, DT_U8, DT_BOOL, DT_F16, DT_BF16, DT_I4, DT_U4 };
    struct onnx_tensor t = { .name = random_name(d, false), .t.dtype = dtypes[roll(d, COUNT(dtypes))], .t.shape.rank = (int)roll(d, 4) };
    uint64_t n;
    for (int i = 0; i < t.t.shape.rank; i++)
        t.t.shape.dim[i] = (int64_t)roll(d, 5);
    assert_true(tensor_size(t.t.dtype, &t.t.shape, "", NULL, &n, NULL));
    uint8_t *p = n ? many(d, n, 1) : NULL;
    for (uint64_t i = 0; i < n; i++)
        p[i] = (uint8_t)roll(d, 256);
    t.t.data = p;
    return t;
}

static struct onnx_value random_value(struct dice *d)
{
    struct onnx_value v = { .name = random_name(d, false), .dtype = roll(d, 4) ? DT_F32 : DT_NONE, .shape.rank = (int)roll(d, 10) - 1 };
    for (int i = 0; i < v.shape.rank; i++) {
        v.shape.dim[i] = roll(d, 2) ? (int64_t)roll(d, 1000) : -1;
        v.dim_param[i] = v.shape.dim[i] < 0 ? random_name(d, true) : "";
    }
    return v;
}

static void random_graph(struct dice *d, int depth, struct onnx_graph *ret);

static struct onnx_attr random_attr(struct dice *d, int depth)
{
    size_t n = roll(d, 4);
    struct onnx_attr a = { .name = random_name(d, false), .type = (enum onnx_attr_type)(1 + roll(d, 10)), .n = n };
    if (depth == 0 && (a.type == ONNX_GRAPH || a.type == ONNX_GRAPHS))
        a.type = ONNX_INT;
    float *floats = many(d, n, sizeof *floats);
    int64_t *ints = many(d, n, sizeof *ints);
    const char **strings = many(d, n, sizeof *strings);
    struct onnx_tensor *tensors = many(d, n + 1, sizeof *tensors);
    struct onnx_graph *graphs = many(d, n + 1, sizeof *graphs);
    for (size_t i = 0; i <= n; i++) {
        tensors[i] = random_tensor(d);
        if (a.type == ONNX_GRAPH || a.type == ONNX_GRAPHS)
            random_graph(d, depth - 1, &graphs[i]);
    }
    for (size_t i = 0; i < n; i++) {
        floats[i] = (float)roll(d, 1000) - 500;
        ints[i] = (int64_t)hash_mix(d->seed, d->i++) >> roll(d, 64);
        strings[i] = random_name(d, true);
    }
    switch (a.type) {
    case ONNX_FLOAT: a.f = (float)roll(d, 3) - 1; break;
    case ONNX_INT: a.i = (int64_t)hash_mix(d->seed, d->i++); break;
    case ONNX_STRING: a.s = "bytes\0\xff"; a.s_n = roll(d, 8); break;
    case ONNX_TENSOR: case ONNX_TENSORS: a.t = tensors; break;
    case ONNX_GRAPH: case ONNX_GRAPHS: a.g = graphs; break;
    case ONNX_FLOATS: a.floats = floats; break;
    case ONNX_INTS: a.ints = ints; break;
    case ONNX_STRINGS: a.strings = strings; break;
    }
    if (a.type <= ONNX_GRAPH)
        a.n = 0;
    return a;
}

static struct onnx_node random_node(struct dice *d, int depth)
{
    struct onnx_node n = { .name = random_name(d, true), .op_type = random_name(d, false), .domain = random_name(d, true),
                           .n_inputs = roll(d, 4), .n_outputs = 1 + roll(d, 2), .n_attrs = roll(d, 3) };
    n.inputs = many(d, n.n_inputs, sizeof *n.inputs);
    n.outputs = many(d, n.n_outputs, sizeof *n.outputs);
    n.attrs = many(d, n.n_attrs, sizeof *n.attrs);
    for (size_t i = 0; i < n.n_inputs; i++)
        n.inputs[i] = random_name(d, true);
    for (size_t i = 0; i < n.n_outputs; i++)
        n.outputs[i] = random_name(d, true);
    for (size_t i = 0; i < n.n_attrs; i++)
        n.attrs[i] = random_attr(d, depth);
    return n;
}

static struct onnx_value *random_values(struct dice *d, size_t n)
{
    struct onnx_value *v = many(d, n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = random_value(d);
    return v;
}

static void random_graph(struct dice *d, int depth, struct onnx_graph *ret)
{
    *ret = (struct onnx_graph){ .name = random_name(d, true), .n_nodes = 1 + roll(d, 3), .n_initializers = roll(d, 4),
                                .n_inputs = roll(d, 3), .n_outputs = roll(d, 3), .n_values = roll(d, 3) };
    ret->nodes = many(d, ret->n_nodes, sizeof *ret->nodes);
    ret->initializers = many(d, ret->n_initializers, sizeof *ret->initializers);
    for (size_t i = 0; i < ret->n_nodes; i++)
        ret->nodes[i] = random_node(d, depth);
    for (size_t i = 0; i < ret->n_initializers; i++)
        ret->initializers[i] = random_tensor(d);
    ret->inputs = random_values(d, ret->n_inputs);
    ret->outputs = random_values(d, ret->n_outputs);
    ret->values = random_values(d, ret->n_values);
}

static struct onnx_model random_model(struct dice *d)
{
    static struct onnx_opset opsets[] = { { "", 17 }, { "com.microsoft", 1 } };
    static struct onnx_pair metadata[] = { { "repquant.recipe", "{\"w\":8}" }, { "empty", "" } };
    struct onnx_model m = { .ir_version = 3 + (int64_t)roll(d, 11), .producer_name = random_name(d, true), .producer_version = random_name(d, true),
                            .doc = random_name(d, true), .opsets = opsets, .n_opsets = 1 + roll(d, 2),
                            .metadata = metadata, .n_metadata = roll(d, 3) };
    random_graph(d, 3, &m.graph);
    return m;
}

static void a_written_model_reads_back_equal_and_writes_the_same_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct dice d = { .seed = seed, .mem = arena_new(1 << 26) };
        struct onnx_model m = random_model(&d), back;
        struct bytes first = written(&m);
        read_back(d.mem, &first, &back);
        same_model(&m, &back);
        struct bytes second = written(&back);
        assert_int_equal(first.n, second.n);
        assert_memory_equal(first.p, second.p, first.n);
        free(first.p);
        free(second.p);
        arena_free(d.mem);
    }
}

/* ---- a small model for the rest ---- */

static float weights[4] = { 1, -2, 3, -4 };

static struct onnx_model small_model(void)
{
    static const char *inputs[] = { "x", "w" }, *outputs[] = { "y" };
    static const int64_t axes[] = { 0, -1 };
    static struct onnx_attr attrs[] = { { .name = "axes", .type = ONNX_INTS, .n = 2, .ints = axes } };
    static struct onnx_node nodes[] = { { "mm", "MatMul", "", inputs, outputs, 2, 1, attrs, 1, "" } };
    static struct onnx_tensor tensors[] = { { .name = "w", .t = { DT_F32, { 2, { 2, 2 } }, weights } } };
    static struct onnx_value in[] = { { "x", DT_F32, { 2, { -1, 2 } }, { "batch", "" } } }, out[] = { { "y", DT_F32, { -1, { 0 } }, { "" } } };
    static struct onnx_opset opsets[] = { { "", 17 } };
    return (struct onnx_model){ .ir_version = 8, .producer_name = "t", .producer_version = "", .doc = "", .opsets = opsets, .n_opsets = 1,
                                .graph = { "g", nodes, 1, tensors, 1, in, 1, out, 1, NULL, 0 } };
}

/* A copy of exactly n bytes, so that a sanitizer sees a read of one byte more. */
static bool read_exact(const uint8_t *p, size_t n, struct arena *mem, struct onnx_model *ret, struct err *e)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    struct onnx_file file = { "model.onnx", copy, n, false };
    bool ok = onnx_read(mem, &file, 1, ret, e);
    if (ok) {
        struct bytes again = written(ret);     /* what was accepted can be written */
        struct onnx_model back;
        read_back(mem, &again, &back);
        same_model(ret, &back);
        free(again.p);
    }
    free(copy);
    return ok;
}

static void no_proper_prefix_of_a_model_is_a_model(void **state)
{
    (void)state;
    struct onnx_model m = small_model(), got;
    struct bytes b = written(&m);
    for (size_t n = 0; n <= b.n; n++) {
        struct arena *mem = arena_new(1 << 20);
        struct err e = { 0 };
        bool ok = read_exact(b.p, n, mem, &got, &e);
        assert_int_equal(ok, n == b.n);
        if (!ok && e.code != ERR_MODEL_FORMAT && e.code != ERR_MODEL_INVALID)
            fail_msg("%zu bytes: %s", n, e.text);
        arena_free(mem);
    }
    free(b.p);
}

static void flipped_bits_are_refused_or_read_the_same_way_twice(void **state)
{
    (void)state;
    struct onnx_model m = small_model(), got;
    struct bytes b = written(&m);
    for (uint64_t i = 0; i < 2000; i++) {
        uint8_t bit = (uint8_t)(1u << hash_mix(7, 2 * i) % 8), *at = &b.p[hash_mix(7, 2 * i + 1) % b.n];
        struct arena *mem = arena_new(1 << 20);
        struct err e = { 0 }, again = { 0 };
        *at ^= bit;
        bool ok = read_exact(b.p, b.n, mem, &got, &e);
        assert_int_equal(read_exact(b.p, b.n, mem, &got, &again), ok);
        assert_int_equal(e.code, again.code);
        assert_string_equal(e.text, again.text);
        assert_int_equal(ok, e.code == ERR_NONE);
        *at ^= bit;
        arena_free(mem);
    }
    free(b.p);
}

static void every_arena_that_is_too_small_is_an_error_of_memory(void **state)
{
    (void)state;
    struct onnx_model m = small_model(), got;
    struct bytes b = written(&m);
    struct onnx_file file = { "model.onnx", b.p, b.n, false };
    bool ok = false;
    for (uint64_t limit = 0; !ok; limit += 64) {
        struct arena *mem = arena_new(limit);
        struct err e = { 0 };
        assert_true(limit < 1 << 20);
        ok = onnx_read(mem, &file, 1, &got, &e);
        assert_int_equal(e.code, ok ? ERR_NONE : ERR_MEMORY);
        arena_free(mem);
    }
    free(b.p);
}

static void raw_data_is_borrowed_where_it_lies_aligned_and_copied_elsewhere(void **state)
{
    (void)state;
    struct onnx_model m = small_model(), got;
    struct bytes b = written(&m);
    int borrowed = 0;
    for (size_t shift = 0; shift < sizeof(float); shift++) {
        struct arena *mem = arena_new(1 << 20);
        uint8_t *copy = malloc(b.n + shift);
        assert_non_null(copy);
        memcpy(copy + shift, b.p, b.n);
        read_back(mem, &(struct bytes){ .p = copy + shift, .n = b.n }, &got);
        const uint8_t *data = got.graph.initializers[0].t.data;
        assert_int_equal((uintptr_t)data % sizeof(float), 0);
        assert_memory_equal(data, weights, sizeof weights);
        borrowed += data >= copy && data < copy + shift + b.n;
        free(copy);
        arena_free(mem);
    }
    assert_int_equal(borrowed, 1);
    free(b.p);
}

static void a_sink_that_fails_fails_the_write_with_its_error(void **state)
{
    (void)state;
    static uint8_t big[100000];
    struct onnx_model m = small_model();
    struct onnx_tensor t = { .name = "big", .t = { DT_U8, { 1, { sizeof big } }, big } };
    m.graph.initializers = &t;
    struct bytes whole = written(&m);
    for (size_t after = 1; after < whole.n; after += 997) {
        struct bytes b = { .fail_after = after };
        struct err e = { 0 };
        assert_false(onnx_write(&m, &(struct onnx_sink){ keep, &b }, &e));
        assert_int_equal(e.code, ERR_DISK);
        free(b.p);
    }
    free(whole.p);
}

static void a_model_of_2_gib_is_refused_before_a_byte_is_written(void **state)
{
    (void)state;
    struct onnx_model m = small_model();
    struct onnx_tensor t = { .name = "huge", .t = { DT_F32, { 2, { 1 << 20, 512 } }, weights } };   /* only its size is looked at */
    m.graph.initializers = &t;
    struct bytes b = { 0 };
    struct err e = { 0 };
    assert_false(onnx_write(&m, &(struct onnx_sink){ keep, &b }, &e));
    assert_int_equal(e.code, ERR_EXPORT_FORM);
    assert_int_equal(b.n, 0);
}

static void a_tensor_that_cannot_be_written_is_refused_before_a_byte_is_written(void **state)
{
    (void)state;
    static uint8_t large[100000];        /* more than the writer holds back */
    static const struct { struct onnx_tensor t; enum err_code code; } rows[] = {
        { { .name = "no bytes", .t = { DT_F32, { 1, { 2 } }, NULL } }, ERR_BUG },
        { { .name = "strings", .t = { DT_STRING, { 1, { 1 } }, weights } }, ERR_MODEL_INVALID },
        { { .name = "negative", .t = { DT_F32, { 1, { -1 } }, weights } }, ERR_MODEL_LIMIT },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct onnx_tensor tensors[] = { { .name = "first", .t = { DT_U8, { 1, { sizeof large } }, large } }, rows[i].t };
        struct onnx_model m = small_model();
        struct bytes b = { 0 };
        struct err e = { 0 };
        m.graph.initializers = tensors;
        m.graph.n_initializers = COUNT(tensors);
        assert_false(onnx_write(&m, &(struct onnx_sink){ keep, &b }, &e));
        assert_int_equal(e.code, rows[i].code);
        assert_int_equal(b.n, 0);
    }
}

static void the_standard_opset_is_found_whatever_its_name(void **state)
{
    (void)state;
    struct onnx_opset opsets[] = { { "com.microsoft", 1 }, { "ai.onnx", 21 } };
    struct onnx_model m = small_model(), got;
    struct arena *mem = arena_new(1 << 20);
    m.opsets = opsets;
    m.n_opsets = 2;
    m.graph.nodes[0].domain = "ai.onnx";
    struct bytes b = written(&m);
    read_back(mem, &b, &got);
    assert_int_equal(onnx_opset(&got), 21);
    assert_string_equal(got.graph.nodes[0].domain, "");
    got.n_opsets = 1;
    assert_int_equal(onnx_opset(&got), 0);
    m.graph.nodes[0].domain = "";
    free(b.p);
    arena_free(mem);
}

static void numbers_of_every_length_survive_the_wire(void **state)
{
    (void)state;
    static const uint8_t last[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
    struct wire_state s = { .file = last, .fields_left = 1 };
    struct wire w = { last, last + sizeof last, &s };
    assert_int_equal(wire_count(&w, WIRE_VARINT), 1);
    uint64_t v = 0;
    assert_true(wire_item(&w, WIRE_VARINT, &v));
    assert_true(v == UINT64_MAX);
    assert_false(wire_item(&w, WIRE_VARINT, &v));        /* the end is no failure */
    assert_false(wire_failed(&s));
}

static void a_packed_list_that_is_cut_off_delivers_no_more_than_its_count(void **state)
{
    (void)state;
    static const struct { enum wire_type type; uint8_t bytes[9]; size_t n; uint64_t count; } rows[] = {
        { WIRE_VARINT, { 1, 2, 0xff }, 3, 2 }, { WIRE_VARINT, { 0xff }, 1, 0 }, { WIRE_I32, { 1, 0, 0, 0, 2 }, 5, 1 }, { WIRE_I64, { 1 }, 9, 1 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire_state s = { .file = rows[i].bytes };
        struct wire w = { rows[i].bytes, rows[i].bytes + rows[i].n, &s };
        uint64_t n = 0, v;
        assert_int_equal(wire_count(&w, rows[i].type), rows[i].count);
        while (wire_item(&w, rows[i].type, &v))
            n++;
        assert_int_equal(n, rows[i].count);
        assert_true(wire_failed(&s));
        assert_false(wire_item(&w, rows[i].type, &v));   /* sticky */
    }
}

static void the_exporters_own_files_come_back_byte_for_byte(void **state)
{
    (void)state;
    static const char *const names[] = { "vit-tiny.onnx", "deit-tiny.onnx", "stories260k.onnx" };
    const char *dir = getenv("MODELS_DIR");
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[512];
        struct mapping file;
        struct err e = { 0 };
        snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/models", names[i]);
        if (!mapping_path(&file, path, &e)) {
            print_message("skipped: %s: %s\n", path, e.text);
            skip();
        }
        struct arena *mem = arena_new(1 << 28);
        struct onnx_model m;
        read_back(mem, &(struct bytes){ .p = (uint8_t *)file.data, .n = file.size }, &m);
        struct bytes b = written(&m);
        assert_int_equal(b.n, file.size);
        assert_int_equal(memcmp(b.p, file.data, b.n), 0);
        free(b.p);
        arena_free(mem);
        mapping_release(&file);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_model_reads_back_equal_and_writes_the_same_bytes),
        cmocka_unit_test(no_proper_prefix_of_a_model_is_a_model),
        cmocka_unit_test(flipped_bits_are_refused_or_read_the_same_way_twice),
        cmocka_unit_test(every_arena_that_is_too_small_is_an_error_of_memory),
        cmocka_unit_test(raw_data_is_borrowed_where_it_lies_aligned_and_copied_elsewhere),
        cmocka_unit_test(a_sink_that_fails_fails_the_write_with_its_error),
        cmocka_unit_test(a_model_of_2_gib_is_refused_before_a_byte_is_written),
        cmocka_unit_test(a_tensor_that_cannot_be_written_is_refused_before_a_byte_is_written),
        cmocka_unit_test(the_standard_opset_is_found_whatever_its_name),
        cmocka_unit_test(numbers_of_every_length_survive_the_wire),
        cmocka_unit_test(a_packed_list_that_is_cut_off_delivers_no_more_than_its_count),
        cmocka_unit_test(the_exporters_own_files_come_back_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
