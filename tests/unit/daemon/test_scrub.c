/* test_scrub.c - bytes that are altered on the disk: who finds them, what is told, and what heals them. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/metric.h"
#include "storage/inner.h"
#include "storage/scrub.h"

#include <fcntl.h>

#define HELLO FIXTURE_DIGEST
#define WORLD "sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"
static const int64_t ALL_AT_ONCE = 1000, WEEK = 7 * 86400LL * 1000000;

static const char *file_of(struct fixture *f, const char *digest)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/blobs/%.2s/%s", f->dir, digest + 7, digest + 7);
    return path;
}

/* On the disk, behind our back; NULL: it goes. */
static void alter(struct fixture *f, const char *digest, const char *text)
{
    const char *path = file_of(f, digest);
    if (!text) {
        assert_int_equal(unlink(path), 0);
        return;
    }
    assert_int_equal(chmod(path, 0600), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static enum err_code opens(struct fixture *f, const char *digest, bool rehash)
{
    struct err e = { 0 };
    int fd;
    uint64_t size;
    if (blob_open(f->store, TEAM_LOCAL, digest, rehash, &fd, &size, &e))
        close(fd);
    return e.code;
}

static int64_t marked(struct fixture *f)
{
    int64_t n = -1;
    assert_true(scrub_count(f->store, &n, NULL));
    return n;
}

static bool model_is_corrupt(struct fixture *f)
{
    struct asset a;
    struct asset_list list;
    assert_true(asset_get(f->store, TEAM_LOCAL, ASSET_MODEL, f->model, &a, NULL));
    bool corrupt = a.corrupt;
    assert_int_equal(a.files[0].corrupt, corrupt);
    asset_release(&a);
    assert_true(asset_list(f->store, TEAM_LOCAL, ASSET_MODEL, (struct page){ .limit = 10 }, &list, NULL));
    assert_int_equal(list.items[0].corrupt, corrupt);
    asset_list_release(&list);
    return corrupt;
}

/* How many it finds in some turns, one after the other. */
static int finds(struct scrub *s, int turns)
{
    int n = 0;
    for (int i = 0; i < turns; i++) {
        struct err e = { 0 };
        if (!scrub_turn(s, &e)) {
            assert_int_equal(e.code, ERR_CORRUPT);
            n++;
        }
    }
    return n;
}

static int scrubbed(struct fixture *f, int64_t period)
{
    struct scrub s;
    scrub_begin(&s, f->store, period);
    int n = finds(&s, 5);
    scrub_end(&s);
    return n;
}

static void set_checked(struct fixture *f, const char *digest, int64_t at)
{
    struct conn *c = db_write(f->store->db, NULL);
    struct stmt *q = stmt_begin(c, SQL_BLOB_CHECKED);
    stmt_text(q, 1, digest);
    stmt_int(q, 2, at);
    assert_true(stmt_run(q, NULL));
    stmt_end(q);
    assert_true(db_write_end(c, true, NULL));
}

static void what_the_scrubber_finds_is_told_once_and_an_upload_heals_it(void **state)
{
    struct fixture *f = *state;
    struct blob b;
    int64_t counted = metric_value(METRIC_ROTTED);
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 0);
    alter(f, HELLO, "hellO");
    assert_int_equal(opens(f, HELLO, false), ERR_NONE);         /* nobody has looked */
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 1);
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 0);
    assert_int_equal(opens(f, HELLO, false), ERR_CORRUPT);
    assert_false(blob_owned(f->store, TEAM_LOCAL, HELLO, &b));
    assert_true(model_is_corrupt(f));
    assert_int_equal(marked(f), 1);
    assert_int_equal(metric_value(METRIC_ROTTED), counted + 1);
    fixture_blob(f, "other", "hello");                          /* whoever brings them */
    assert_int_equal(opens(f, HELLO, false), ERR_NONE);
    assert_int_equal(opens(f, HELLO, true), ERR_NONE);
    assert_false(model_is_corrupt(f));
    assert_int_equal(marked(f), 0);
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 0);
}

static void a_file_of_another_length_or_gone_is_no_better(void **state)
{
    struct fixture *f = *state;
    alter(f, HELLO, "hell");
    assert_int_equal(opens(f, HELLO, false), ERR_CORRUPT);
    assert_int_equal(marked(f), 1);
    fixture_blob(f, TEAM_LOCAL, "hello");
    assert_int_equal(marked(f), 0);
    alter(f, HELLO, NULL);
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 1);
    assert_int_equal(opens(f, HELLO, false), ERR_CORRUPT);
    assert_int_equal(opens(f, HELLO, true), ERR_CORRUPT);
    fixture_blob(f, TEAM_LOCAL, "hello");
    assert_int_equal(opens(f, HELLO, true), ERR_NONE);
}

static void bytes_that_are_right_again_are_believed_once_they_were_read(void **state)
{
    struct fixture *f = *state;
    alter(f, HELLO, "hellO");
    assert_int_equal(opens(f, HELLO, true), ERR_CORRUPT);
    alter(f, HELLO, "hello");
    assert_int_equal(opens(f, HELLO, false), ERR_CORRUPT);
    assert_int_equal(opens(f, HELLO, true), ERR_NONE);
    assert_int_equal(opens(f, HELLO, false), ERR_NONE);
    alter(f, HELLO, "hellO");
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 1);
    alter(f, HELLO, "hello");
    assert_int_equal(scrubbed(f, ALL_AT_ONCE), 0);
    assert_int_equal(opens(f, HELLO, false), ERR_NONE);
}

/* It was read while an upload replaced it, or the sweep removed it. */
static void a_mark_is_of_the_file_that_was_read(void **state)
{
    struct fixture *f = *state;
    int removed;
    alter(f, HELLO, "hellO");
    int fd = blob_file(f->store, HELLO);
    fixture_blob(f, TEAM_LOCAL, "hello");
    assert_false(blob_mark(f->store, HELLO, fd, true));
    assert_false(blob_mark(f->store, HELLO, -1, true));
    assert_int_equal(marked(f), 0);
    close(fd);
    fixture_blob(f, TEAM_LOCAL, "world");
    fd = blob_file(f->store, WORLD);
    assert_true(store_sweep(f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_false(blob_mark(f->store, WORLD, fd, true));
    assert_false(blob_mark(f->store, WORLD, -1, true));
    assert_int_equal(marked(f), 0);
    close(fd);
    fd = blob_file(f->store, HELLO);
    assert_true(blob_mark(f->store, HELLO, fd, true));
    assert_false(blob_mark(f->store, HELLO, fd, true));         /* no news */
    assert_int_equal(marked(f), 1);
    close(fd);
}

/* What is deleted between two turns is no rot. */
static void the_scrubber_does_not_mind_the_sweep(void **state)
{
    struct fixture *f = *state;
    struct scrub s;
    int removed;
    fixture_blob(f, TEAM_LOCAL, "world");
    set_checked(f, HELLO, 1);
    scrub_begin(&s, f->store, WEEK);
    assert_int_equal(finds(&s, 1), 0);                          /* both are in its batch, the first is read */
    assert_int_equal(s.n, 2);
    assert_int_equal(s.next, 1);
    assert_true(store_sweep(f->store, -1000000, &removed, NULL));
    assert_int_equal(removed, 1);
    s.debt = 0;                                                 /* as if days had passed */
    assert_int_equal(finds(&s, 1), 0);
    assert_int_equal(s.next, 2);
    assert_int_equal(marked(f), 0);
    scrub_end(&s);
}

static void it_begins_with_what_was_looked_at_longest_ago_and_rests(void **state)
{
    struct fixture *f = *state;
    fixture_blob(f, TEAM_LOCAL, "world");
    alter(f, HELLO, "hellO");
    alter(f, WORLD, "worlD");
    set_checked(f, WORLD, 1);
    assert_int_equal(scrubbed(f, WEEK), 1);                     /* one in each half of a week */
    assert_int_equal(opens(f, WORLD, false), ERR_CORRUPT);
    assert_int_equal(opens(f, HELLO, false), ERR_NONE);
    assert_int_equal(scrubbed(f, WEEK), 1);                     /* what was looked at before a restart has its turn behind the other */
    assert_int_equal(opens(f, HELLO, false), ERR_CORRUPT);
    assert_int_equal(scrubbed(f, 0), 0);
    fixture_blob(f, TEAM_LOCAL, "world");
    fixture_blob(f, TEAM_LOCAL, "hello");
    alter(f, HELLO, "hellO");
    set_checked(f, WORLD, 1);
    assert_int_equal(scrubbed(f, WEEK), 0);                     /* the good one alike */
    assert_int_equal(scrubbed(f, WEEK), 1);
}

/* A large file takes several turns, and one that ends in the middle is begun anew. */
static void a_turn_is_short(void **state)
{
    struct fixture *f = *state;
    enum { MIB = 1 << 20, SIZE = 24 * MIB };
    struct blob_writer w;
    struct blob b;
    struct scrub s;
    char *text = calloc(1, SIZE);
    assert_true(blob_begin(&w, f->store, TEAM_LOCAL, NULL, SIZE, NULL) && blob_write(&w, text, SIZE, NULL) && blob_finish(&w, &b, NULL));
    text[SIZE - 1] = 1;
    assert_int_equal(chmod(file_of(f, b.digest), 0600), 0);
    int fd = open(file_of(f, b.digest), O_WRONLY);
    assert_int_equal(pwrite(fd, text + SIZE - 1, 1, SIZE - 1), 1);
    close(fd);
    free(text);
    set_checked(f, b.digest, 1);
    scrub_begin(&s, f->store, WEEK);
    assert_int_equal(finds(&s, 1), 0);
    assert_true(s.fd >= 0 && s.at > 0 && s.at <= 9 * MIB);
    scrub_end(&s);
    scrub_begin(&s, f->store, WEEK);
    int turns = 1;
    while (finds(&s, 1) == 0)
        assert_true(turns++ < 1000);
    assert_true(turns >= 3);
    assert_int_equal(marked(f), 1);
    scrub_end(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_the_scrubber_finds_is_told_once_and_an_upload_heals_it),
        T(a_file_of_another_length_or_gone_is_no_better),
        T(bytes_that_are_right_again_are_believed_once_they_were_read),
        T(a_mark_is_of_the_file_that_was_read),
        T(the_scrubber_does_not_mind_the_sweep),
        T(it_begins_with_what_was_looked_at_longest_ago_and_rests),
        T(a_turn_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
