/* test_recent.c - what was read a moment ago is found until something is committed. */
#include "tests/unit/daemon/storage_fixture.h"

#include "storage/recent.h"
#include "storage/token.h"

#include <malloc.h>

static void put(struct fixture *f, const char *asked, uint64_t read_at, const void *p, size_t n)
{
    struct recent_key key = recent_key("test", "", asked);
    recent_put(f->store, &key, read_at, p, n);
}

static void *get(struct fixture *f, const char *asked, size_t *ret_n)
{
    struct recent_key key = recent_key("test", "", asked);
    return recent_get(f->store, &key, ret_n);
}

static void an_entry_is_true_until_the_next_commit(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    uint64_t now = recent_now(f->store);
    put(f, "a", now, "text", 5);
    char *kept = get(f, "a", &n);
    assert_int_equal(n, 5);
    assert_string_equal(kept, "text");
    free(kept);
    assert_null(get(f, "b", &n));
    fixture_blob(f, TEAM_LOCAL, "anything at all");
    assert_null(get(f, "a", &n));
    put(f, "a", now, "text", 5);          /* it was read before the commit */
    assert_null(get(f, "a", &n));
}

static void a_sweep_frees_what_is_not_true_any_more(void **state)
{
    struct fixture *f = *state;
    size_t n;
    char *large = calloc(1, RECENT_BYTES_MAX);
    for (char key[2] = "a"; key[0] <= 'h'; key[0]++)
        put(f, key, recent_now(f->store), large, RECENT_BYTES_MAX);
    fixture_blob(f, TEAM_LOCAL, "anything at all");
    put(f, "new", recent_now(f->store), large, RECENT_BYTES_MAX);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    recent_sweep(f->store);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(before == 0 || before - after >= 7 * (size_t)RECENT_BYTES_MAX);       /* 0: a sanitizer's malloc */
    char *kept = get(f, "new", &n);
    assert_non_null(kept);
    free(kept);
    free(large);
}

static void what_is_too_large_is_not_kept(void **state)
{
    struct fixture *f = *state;
    size_t n;
    char *large = calloc(1, RECENT_BYTES_MAX + 1);
    put(f, "a", recent_now(f->store), large, RECENT_BYTES_MAX + 1);
    assert_null(get(f, "a", &n));
    free(large);
}

static void keys_are_told_apart_to_their_last_byte(void **state)
{
    struct fixture *f = *state;
    size_t n;
    char a[5000], b[5000];
    memset(a, 'k', sizeof a);
    a[sizeof a - 1] = '\0';
    memcpy(b, a, sizeof a);
    b[sizeof b - 2] = 'l';
    put(f, a, recent_now(f->store), "x", 1);
    void *kept = get(f, a, &n);
    assert_non_null(kept);
    free(kept);
    assert_null(get(f, b, &n));
    const struct recent_key keys[] = { recent_key("ab", "c", "d"), recent_key("a", "bc", "d"), recent_key("a", "b", "cd"), recent_key("abcd", "", "") };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(&keys[i], &keys[k], sizeof *keys);
}

static void entries_that_share_a_place_are_told_apart(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 2000 };
    int found = 0;
    uint64_t now = recent_now(f->store);
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        put(f, key, now, &i, sizeof i);
    }
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        size_t n;
        snprintf(key, sizeof key, "%d", i);
        int *kept = get(f, key, &n);
        assert_true(!kept || *kept == i);
        found += kept != NULL;
        free(kept);
    }
    assert_in_range(found, 100, 256);
}

static void a_deleted_token_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    struct token t, found;
    char text[TOKEN_TEXT_SIZE];
    struct err e = { 0 };
    assert_true(token_create(f->store, TEAM_LOCAL, "x", "jobs:read", 0, &t, text, &e));
    for (int i = 0; i < 3; i++)
        assert_true(token_verify(f->store, text, &found, &e));
    assert_string_equal(found.id, t.id);
    assert_true(token_delete(f->store, TEAM_LOCAL, t.id, &e));
    assert_false(token_verify(f->store, text, &found, &e));
    assert_int_equal(e.code, ERR_AUTH_REQUIRED);
}

/* Two identities of the full length that differ in their last byte alone. */
static void identities_that_begin_alike_are_told_apart(void **state)
{
    struct fixture *f = *state;
    char alice[TOKEN_IDENTITY_SIZE], mallory[TOKEN_IDENTITY_SIZE], text[TOKEN_TEXT_SIZE];
    struct token t, found;
    struct err e = { 0 };
    memset(alice, 'p', sizeof alice - 1);
    alice[sizeof alice - 1] = '\0';
    memcpy(mallory, alice, sizeof alice);
    mallory[sizeof mallory - 2] = 'q';
    struct token_request request = { .name = "a", .scopes = "admin", .identity = alice };
    assert_true(token_issue(f->store, TEAM_LOCAL, &request, &t, text, &e));
    for (int i = 0; i < 3; i++) {
        e.code = ERR_NONE;
        assert_true(token_of_identity(f->store, alice, &found, &e));
        assert_string_equal(found.id, t.id);
        assert_false(token_of_identity(f->store, mallory, &found, &e));
        assert_int_equal(e.code, ERR_AUTH_REQUIRED);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(an_entry_is_true_until_the_next_commit),
        T(a_sweep_frees_what_is_not_true_any_more),
        T(what_is_too_large_is_not_kept),
        T(keys_are_told_apart_to_their_last_byte),
        T(entries_that_share_a_place_are_told_apart),
        T(a_deleted_token_is_refused_at_once),
        T(identities_that_begin_alike_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
