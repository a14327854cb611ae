/* The vocabulary: errors, arenas, buffers, files, hashes, sizes, the thread team. */
#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/io.h"
#include "core/base/json.h"
#include "core/base/name_set.h"
#include "core/base/pool.h"
#include "core/base/tensor.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void the_first_error_wins(void **state)
{
    (void)state;
    struct err e = { 0 };
    assert_false(err_set(&e, ERR_MODEL_OP, "node 3", "first %d", 1));
    assert_false(err_set(&e, ERR_IO, "", "second"));
    assert_int_equal(e.code, ERR_MODEL_OP);
    assert_string_equal(e.text, "first 1");
    assert_string_equal(e.where, "node 3");
    assert_false(err_set(NULL, ERR_IO, "", "nobody listens"));
}

static void every_code_has_a_family_status_and_exit_code(void **state)
{
    (void)state;
    for (int c = ERR_NONE + 1; c < ERR_CODES_END; c++) {
        assert_non_null(strchr(err_slug((enum err_code)c), '.'));
        assert_in_range(err_http_status((enum err_code)c), 400, 599);
        assert_in_range(err_exit_code((enum err_code)c), 1, 4);
        assert_int_equal(err_from_slug(err_slug((enum err_code)c)), c);
    }
    assert_int_equal(err_from_slug("no.such"), ERR_NONE);
}

/* What is said about a stranger's file goes into JSON, which takes whole characters only. */
static void an_error_holds_whole_characters(void **state)
{
    static const char broken[] = "a\xff\xfe z\xd0";
    char name[300], where[160];
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        struct err e = { 0 }, of_node = { 0 };
        memset(name, 'a', shift);
        for (size_t i = shift; i < sizeof name; i++)
            name[i] = "\xe4\xb8\xad"[(i - shift) % 3];
        name[sizeof name - 1 - (sizeof name - 1 - shift) % 3] = '\0';
        err_set(&e, ERR_MODEL_OP, name, "%s%s", name, name);
        err_set(&of_node, ERR_MODEL_OP, err_node(where, sizeof where, 3, name, "Foo"), "%.80s", name);
        const char *const texts[] = { e.where, e.text, of_node.where, of_node.text };
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            json_t *json = json_string(texts[i]);
            if (!json)
                fail_msg("shift %zu, text %zu: %s", shift, i, texts[i]);
            json_decref(json);
        }
        assert_in_range(strlen(e.where), sizeof e.where - 4, sizeof e.where - 1);      /* no more is lost than a character */
        assert_in_range(strlen(e.text), sizeof e.text - 4, sizeof e.text - 1);
        assert_null(strchr(of_node.where, '?'));
        assert_non_null(strstr(of_node.where, "' (Foo)"));
    }
    struct err e = { 0 };
    err_set(&e, ERR_IO, broken, "%s", broken);
    assert_string_equal(e.where, "a?? z");
    assert_string_equal(e.text, "a?? z");
}

static void errno_decides_the_code(void **state)
{
    (void)state;
    static const struct { int error; enum err_code want; } rows[] = {
        { ENOSPC, ERR_DISK }, { ENOMEM, ERR_MEMORY }, { EACCES, ERR_PERMISSION }, { ENOENT, ERR_NO_FILE }, { EIO, ERR_IO },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        errno = rows[i].error;
        err_sys(&e, "x", "open");
        assert_int_equal(e.code, rows[i].want);
    }
}

static void arena_blocks_are_aligned_zeroed_and_bounded(void **state)
{
    (void)state;
    struct arena *a = arena_new(1 << 20);
    struct err e = { 0 };
    for (uint64_t n = 0; n < 3000; n += 37) {
        unsigned char *p = arena_alloc(a, n, &e);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    assert_null(arena_alloc(a, 1 << 20, &e));
    assert_int_equal(e.code, ERR_MEMORY);
    e = (struct err){ 0 };
    assert_null(arena_alloc(a, UINT64_MAX, &e));
    assert_null(arena_array(a, UINT64_MAX / 2, 4, &e));
    assert_null(arena_array(a, UINT64_MAX / 4 + 2, 4, &e));        /* 4 bytes, if it were counted in 64 bits */
    arena_free(a);
    arena_free(NULL);
}

/* What rests is on disk, not lost; small blocks stay on the heap, where resting would lose them. */
static void large_blocks_of_a_paged_arena_rest(void **state)
{
    (void)state;
    struct arena *a = arena_new_paged((uint64_t)1 << 30, "/tmp");
    struct err e = { 0 };
    assert_false(arena_paged(a, ARENA_PAGED - 1));
    assert_true(arena_paged(a, ARENA_PAGED));
    unsigned char *small = arena_alloc(a, 1000, &e), *p = arena_alloc(a, 3 * ARENA_PAGED + 5, &e), *q = arena_alloc(a, ARENA_PAGED, &e);
    assert_true(small && p && q && (uintptr_t)p % 64 == 0);
    assert_true(p[0] == 0 && p[3 * ARENA_PAGED + 4] == 0);
    for (uint64_t i = 0; i < 3 * ARENA_PAGED + 5; i++)
        p[i] = (unsigned char)(i % 251);
    memset(q, 7, ARENA_PAGED);
    mapping_rest(p + 100, 2 * ARENA_PAGED);
    mapping_rest(q, ARENA_PAGED);
    mapping_rest(q, 0);
    for (uint64_t i = 0; i < 3 * ARENA_PAGED + 5; i++)
        if (p[i] != i % 251)
            fail_msg("byte %llu was lost", (unsigned long long)i);
    assert_int_equal(q[ARENA_PAGED - 1], 7);
    arena_free(a);

    a = arena_new_paged((uint64_t)1 << 60, "/tmp");
    assert_null(arena_alloc(a, (uint64_t)1 << 58, &e));            /* more than the disk has */
    assert_string_equal(e.where, "/tmp");
    arena_free(a);
    a = arena_new_paged((uint64_t)1 << 30, "/nowhere");
    e = (struct err){ 0 };
    assert_null(arena_alloc(a, ARENA_PAGED, &e));
    assert_string_equal(e.where, "/nowhere");
    arena_free(a);
}

static void names_are_taken_once_and_numbered_without_gaps(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct name_set s = { 0 };
    struct arena *mem = arena_new(1 << 20);
    assert_true(name_set_add(&s, "a", mem, &e) && name_set_add(&s, "a", mem, &e) && name_set_add(&s, "a#3", mem, &e) && name_set_add(&s, "", mem, &e));
    assert_string_equal(name_set_new(&s, "b", '#', mem, &e), "b");
    assert_string_equal(name_set_new(&s, "a", '#', mem, &e), "a#2");
    assert_string_equal(name_set_new(&s, "a", '#', mem, &e), "a#4");
    assert_string_equal(name_set_new(&s, "a#2", '#', mem, &e), "a#2#2");
    assert_string_equal(name_set_new(&s, "", '_', mem, &e), "_2");
    for (int i = 5; i < 1000; i++) {                    /* and still after it has grown */
        char want[16];
        snprintf(want, sizeof want, "a#%d", i);
        assert_string_equal(name_set_new(&s, "a", '#', mem, &e), want);
    }
    assert_string_equal(name_set_new(&s, "b", '#', mem, &e), "b#2");
    arena_free(mem);
    mem = arena_new(1);
    s = (struct name_set){ 0 };
    assert_false(name_set_add(&s, "a", mem, &e));
    assert_null(name_set_new(&s, "a", '#', mem, &e));
    assert_int_equal(e.code, ERR_MEMORY);
    arena_free(mem);
}

static void buf_stops_at_its_limit(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(10);
    buf_str(&b, "12345");
    buf_printf(&b, "%d", 678);
    assert_false(b.bad);
    assert_string_equal(b.p, "12345678");
    buf_str(&b, "abc");
    assert_true(b.bad);
    buf_str(&b, "a");
    assert_int_equal(b.n, 8);
    buf_release(&b);
}

static void tensor_sizes_are_checked(void **state)
{
    (void)state;
    static const struct { enum dtype t; struct shape s; bool ok; uint64_t bytes; } rows[] = {
        { DT_F32, { 2, { 3, 5 } }, true, 60 },
        { DT_I4, { 1, { 5 } }, true, 3 },
        { DT_F32, { 0, { 0 } }, true, 4 },
        { DT_F32, { 3, { 4, 0, (int64_t)1 << 40 } }, true, 0 },
        { DT_I8, { 2, { (int64_t)1 << 62, 4 } }, false, 0 },
        { DT_I8, { 3, { (int64_t)1 << 31, (int64_t)1 << 31, (int64_t)1 << 31 } }, false, 0 },
        { DT_F64, { 2, { (int64_t)1 << 40, 1 << 5 } }, false, 0 },
        { DT_F32, { 1, { -1 } }, false, 0 },
        { DT_F32, { 9, { 1 } }, false, 0 },
        { DT_STRING, { 1, { 1 } }, false, 0 },
        { (enum dtype)99, { 1, { 1 } }, false, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        uint64_t bytes = 0;
        assert_int_equal(tensor_size(rows[i].t, &rows[i].s, "t", NULL, &bytes, &e), rows[i].ok);
        assert_int_equal(bytes, rows[i].bytes);
        assert_int_equal(e.code == ERR_NONE, rows[i].ok);
    }
}

static void digests_are_parsed_strictly(void **state)
{
    (void)state;
    uint8_t d[HASH_SIZE], back[HASH_SIZE];
    char text[HASH_TEXT_SIZE];
    hash_bytes("abc", 3, d);
    hash_text(d, text);
    assert_string_equal(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(hash_parse(text, back));
    assert_true(hash_equal(d, back));
    text[10] = 'G';
    assert_false(hash_parse(text, back));
    assert_false(hash_parse("sha256:../../etc/passwd", back));
    assert_false(hash_parse("sha256:", back));
}

static void base64_is_read_as_it_is_written_only(void **state)
{
    static const char *const bad[] = { "aGVsbG8", "aGVs bG8=", "aGVsbG8=\n", " aGVsbG8=", "aGVsbG9=", "aGVsbG8==", "=", "aGVs-G8=", "" };
    char back[8] = { 0 };
    (void)state;
    assert_int_equal(base64_decode("aGVsbG8=", 8, back, sizeof back), 5);
    assert_string_equal(back, "hello");
    assert_int_equal(base64_decode("aGVsbG8=", 8, back, 4), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (base64_decode(bad[i], strlen(bad[i]), back, sizeof back) != 0)
            fail_msg("\"%s\" is taken", bad[i]);
}

/* A hash that goes on elsewhere comes from a database: what is none must not be believed. */
static void a_saved_hash_is_read_strictly(void **state)
{
    (void)state;
    enum { INDEX = 3 + 2 * (32 + 8) };          /* how many bytes of the block there are: fewer than 64 */
    struct hash h, back;
    uint8_t one[HASH_SIZE], two[HASH_SIZE];
    char text[HASH_STATE_SIZE];
    hash_init(&h);
    hash_add(&h, "abcde", 5);
    hash_save(&h, text);
    assert_true(hash_load(text, &back));
    hash_end(&h, one);
    hash_end(&back, two);
    assert_true(hash_equal(one, two));
    memcpy(text + INDEX, "3f", 2);
    assert_true(hash_load(text, &back));
    static const char *const wrong[] = { "40", "ff", "0g", "0F" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(text + INDEX, wrong[i], 2);
        assert_false(hash_load(text, &back));
    }
    memcpy(text + INDEX, "05", 2);
    text[HASH_STATE_SIZE - 2] = '\0';
    assert_false(hash_load(text, &back));
}

static void base64_fits_its_room_or_is_refused(void **state)
{
    (void)state;
    char text[1025], to[96];
    memset(text, 'A', sizeof text);
    assert_int_equal(base64_decode("QUJD", 4, to, 3), 3);
    assert_memory_equal(to, "ABC", 3);
    assert_int_equal(base64_decode("QUJD", 4, to, 2), 0);
    assert_int_equal(base64_decode("QUJ", 3, to, sizeof to), 0);
    assert_int_equal(base64_decode("Q*JD", 4, to, sizeof to), 0);
    assert_int_equal(base64_decode(text, 128, to, sizeof to), 96);
    for (size_t n = 132; n < sizeof text; n += 4)
        assert_int_equal(base64_decode(text, n, to, sizeof to), 0);
}

/* The saboteur: the n-th use of a system call fails. */
static int fail_at = -1, calls;
static bool sabotaged(void) { return calls++ == fail_at; }
static ssize_t bad_write(int fd, const void *p, size_t n) { return sabotaged() ? (errno = ENOSPC, -1) : write(fd, p, n > 3 ? 3 : n); }
static int bad_fsync(int fd) { return sabotaged() ? (errno = EIO, -1) : fsync(fd); }
static int bad_rename(int a, const char *f, int b, const char *t) { return sabotaged() ? (errno = EACCES, -1) : renameat(a, f, b, t); }

static void newfile_is_whole_or_absent_whatever_fails(void **state)
{
    (void)state;
    const struct sys real = sys;
    for (int n = 0;; n++) {
        char dir[] = "/tmp/newfile.XXXXXX", path[64];
        assert_non_null(mkdtemp(dir));
        struct err e = { 0 };
        calls = 0;
        fail_at = n;
        sys = (struct sys){ .write = bad_write, .pwritev = real.pwritev, .fsync = bad_fsync, .renameat = bad_rename, .fstatvfs = real.fstatvfs };
        bool ok = io_save(dir, "blob", "0123456789abcdef", 16, &e);
        sys = real;
        bool hit = calls > n;
        snprintf(path, sizeof path, "%s/blob", dir);
        struct mapping m = { 0 };
        if (mapping_path(&m, path, NULL)) {
            assert_int_equal(m.size, 16);
            assert_memory_equal(m.data, "0123456789abcdef", 16);
            mapping_rest(m.data, m.size);                 /* its bytes come back */
            assert_memory_equal(m.data, "0123456789abcdef", 16);
            mapping_release(&m);
            unlink(path);
        } else {
            assert_false(ok);
        }
        assert_int_equal(ok, !hit);
        assert_int_equal(rmdir(dir), 0);    /* nothing left over */
        if (!hit)
            break;
    }
}

struct tally { atomic_int runs[1000]; size_t fail; };

static bool tally_piece(void *arg, size_t piece, int thread, struct err *e)
{
    struct tally *t = arg;
    assert_in_range(thread, 0, 2);
    atomic_fetch_add(&t->runs[piece], 1);
    return piece < t->fail || err_set(e, ERR_BUG, "", "piece %zu", piece);
}

static void every_piece_runs_once(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct pool *p = pool_new(3, &e);
    assert_non_null(p);
    for (int round = 0; round < 200; round++) {
        struct tally t = { .fail = SIZE_MAX };
        assert_true(pool_run(p, 1000, tally_piece, &t, &e));
        for (int i = 0; i < 1000; i++)
            assert_int_equal(t.runs[i], 1);
    }
    struct tally t = { .fail = 10 };
    assert_false(pool_run(p, 1000, tally_piece, &t, &e));
    assert_int_equal(e.code, ERR_BUG);
    assert_true(pool_run(p, 0, tally_piece, &t, NULL));
    pool_free(p);
}

static void without_a_team_the_caller_runs_all_pieces_in_order(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct tally t = { .fail = SIZE_MAX };
    assert_int_equal(pool_threads(NULL), 1);
    assert_true(pool_run(NULL, 1000, tally_piece, &t, &e));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(t.runs[i], 1);
    t.fail = 10;
    assert_false(pool_run(NULL, 1000, tally_piece, &t, &e));
    assert_string_equal(e.text, "piece 10");
    assert_true(t.runs[10] == 2 && t.runs[11] == 1);
}

static void json_is_strict(void **state)
{
    (void)state;
    static const struct { const char *text; bool ok; } rows[] = {
        { "{\"a\":1}", true }, { "{\"a\":1,\"a\":2}", false }, { "{} x", false }, { "{\"a\":1e999}", false },
        { "\"text\"", true }, { "[[[[[[]]]]]]", false }, { "{\"a\":\"[[[[[[[[\"}", true }, { "{\"a\":\"\\u0000\"}", false }, { "", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        json_t *v = json_parse(rows[i].text, strlen(rows[i].text), 5, ERR_REQUEST_JSON, &e);
        assert_int_equal(v != NULL, rows[i].ok);
        assert_int_equal(e.code, rows[i].ok ? ERR_NONE : ERR_REQUEST_JSON);
        json_decref(v);
    }
    json_t *v = json_loads("{\"bits\":4.5,\"n\":3,\"real\":3.0,\"huge\":1e18,\"name\":\"four\"}", 0, NULL);
    struct err e = { 0 };
    int64_t n = 0;
    const char *name = NULL;
    assert_true(json_get_int(v, "n", "", false, 0, 3, &n, ERR_RECIPE_FIELD, &e));
    assert_int_equal(n, 3);
    n = 0;
    assert_true(json_get_int(v, "real", "", false, 0, 3, &n, ERR_RECIPE_FIELD, &e));
    assert_int_equal(n, 3);
    assert_false(json_get_int(v, "real", "", false, 4, 9, &n, ERR_RECIPE_FIELD, NULL));
    assert_false(json_get_int(v, "huge", "", false, 0, INT64_MAX, &n, ERR_RECIPE_FIELD, NULL));
    assert_false(json_get_int(v, "n", "", false, 0, 2, &n, ERR_RECIPE_FIELD, NULL));
    assert_false(json_get_int(v, "n", "", false, 4, 9, &n, ERR_RECIPE_FIELD, NULL));
    assert_false(json_get_int(v, "bits", "/w", false, 2, 8, &n, ERR_RECIPE_FIELD, &e));
    assert_string_equal(e.where, "/w/bits");
    assert_true(json_get_str(v, "name", "", false, 4, &name, ERR_RECIPE_FIELD, NULL));
    assert_string_equal(name, "four");
    assert_false(json_get_str(v, "name", "", false, 3, &name, ERR_RECIPE_FIELD, NULL));
    json_decref(v);
}

static void times_are_parsed_strictly(void **state)
{
    static const struct { const char *text, *same; } good[] = {
        { "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z" }, { "2026-02-28T23:59:59.9994Z", "2026-02-28T23:59:59.999Z" },
        { "2024-02-29T00:30:00+01:00", "2024-02-28T23:30:00.000Z" }, { "2106-02-07T06:28:16-05:30", "2106-02-07T11:58:16.000Z" },
        { "2030-01-31t12:00:00z", "2030-01-31T12:00:00.000Z" }, { "2026-01-01T00:00:00.5z", "2026-01-01T00:00:00.500Z" },
    };
    static const char *const bad[] = { "", "2026", "2026-01-01", "2026-01-01_00:00:00Z", "1969-12-31T23:59:59Z", "2026-01-01T00:00:00", "2026-1-1T00:00:00Z", "2026-02-30T00:00:00Z",
                                       "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Z ",
                                       "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+0a:00", "+026-01-01T00:00:00Z" };
    char text[CLOCK_RFC3339_SIZE];
    int64_t us;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!clock_parse_rfc3339(good[i].text, &us) || strcmp(clock_rfc3339(us, text), good[i].same) != 0)
            fail_msg("%s", good[i].text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (clock_parse_rfc3339(bad[i], &us))
            fail_msg("%s is taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_wins),
        cmocka_unit_test(every_code_has_a_family_status_and_exit_code),
        cmocka_unit_test(an_error_holds_whole_characters),
        cmocka_unit_test(errno_decides_the_code),
        cmocka_unit_test(arena_blocks_are_aligned_zeroed_and_bounded),
        cmocka_unit_test(large_blocks_of_a_paged_arena_rest),
        cmocka_unit_test(names_are_taken_once_and_numbered_without_gaps),
        cmocka_unit_test(buf_stops_at_its_limit),
        cmocka_unit_test(tensor_sizes_are_checked),
        cmocka_unit_test(digests_are_parsed_strictly),
        cmocka_unit_test(base64_is_read_as_it_is_written_only),
        cmocka_unit_test(a_saved_hash_is_read_strictly),
        cmocka_unit_test(base64_fits_its_room_or_is_refused),
        cmocka_unit_test(newfile_is_whole_or_absent_whatever_fails),
        cmocka_unit_test(every_piece_runs_once),
        cmocka_unit_test(without_a_team_the_caller_runs_all_pieces_in_order),
        cmocka_unit_test(json_is_strict),
        cmocka_unit_test(times_are_parsed_strictly),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
