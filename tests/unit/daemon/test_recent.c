/* test_recent.c - what was read a moment ago is found until something is committed. */
#include "tests/unit/daemon/storage_fixture.h"

#include "storage/recent.h"
#include "storage/token.h"

#include <malloc.h>

static void an_entry_is_true_until_the_next_commit(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    uint64_t now = recent_now(f->store);
    recent_put(f->store, "a", now, "text", 5);
    char *kept = recent_get(f->store, "a", &n);
    assert_int_equal(n, 5);
    assert_string_equal(kept, "text");
    free(kept);
    assert_null(recent_get(f->store, "b", &n));
    fixture_blob(f, TEAM_LOCAL, "anything at all");
    assert_null(recent_get(f->store, "a", &n));
    recent_put(f->store, "a", now, "text", 5);          /* it was read before the commit */
    assert_null(recent_get(f->store, "a", &n));
}

static void a_sweep_frees_what_is_not_true_any_more(void **state)
{
    struct fixture *f = *state;
    size_t n;
    char *large = calloc(1, RECENT_BYTES_MAX);
    for (char key[2] = "a"; key[0] <= 'h'; key[0]++)
        recent_put(f->store, key, recent_now(f->store), large, RECENT_BYTES_MAX);
    fixture_blob(f, TEAM_LOCAL, "anything at all");
    recent_put(f->store, "new", recent_now(f->store), large, RECENT_BYTES_MAX);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    recent_sweep(f->store);
    size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(before == 0 || before - after >= 7 * (size_t)RECENT_BYTES_MAX);       /* 0: a sanitizer's malloc */
    char *kept = recent_get(f->store, "new", &n);
    assert_non_null(kept);
    free(kept);
    free(large);
}

static void what_is_too_large_is_not_kept(void **state)
{
    struct fixture *f = *state;
    size_t n;
    char key[RECENT_KEY_SIZE + 1];
    char *large = calloc(1, RECENT_BYTES_MAX + 1);
    memset(key, 'k', sizeof key);
    key[RECENT_KEY_SIZE] = '\0';
    recent_put(f->store, "a", recent_now(f->store), large, RECENT_BYTES_MAX + 1);
    recent_put(f->store, key, recent_now(f->store), "x", 1);
    assert_null(recent_get(f->store, "a", &n));
    assert_null(recent_get(f->store, key, &n));
    free(large);
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
        recent_put(f->store, key, now, &i, sizeof i);
    }
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        size_t n;
        snprintf(key, sizeof key, "%d", i);
        int *kept = recent_get(f->store, key, &n);
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(an_entry_is_true_until_the_next_commit),
        T(a_sweep_frees_what_is_not_true_any_more),
        T(what_is_too_large_is_not_kept),
        T(entries_that_share_a_place_are_told_apart),
        T(a_deleted_token_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
