/* test_db.c - writes at the same time share a commit, and only that. */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/metric.h"
#include "storage/db.h"
#include "storage/stmt.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <time.h>

enum { WRITERS = 8, PATH = 300 };
struct writer { const struct fixture *f; struct db *db; char team[16]; bool fails, ok, there; pthread_t thread; };

static void path_of(const struct fixture *f, char ret[PATH]) { snprintf(ret, PATH, "%.200s/another.db", f->dir); }

/* How many shares there are of a team ("%": of all), as a process of its own would see it. */
static int shares(const struct fixture *f, const char *team)
{
    char path[PATH];
    sqlite3 *lite = NULL;
    sqlite3_stmt *s = NULL;
    path_of(f, path);
    assert_int_equal(sqlite3_open_v2(path, &lite, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(lite, "SELECT count(*) FROM shares WHERE team LIKE ?1", -1, &s, NULL), SQLITE_OK);
    sqlite3_bind_text(s, 1, team, -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(lite);
    return n;
}

static void *write_one(void *arg)
{
    struct writer *w = arg;
    struct err e = { 0 };
    struct conn *c = db_write(w->db, &e);
    bool ok = c && stmt_exec(c, SQL_SHARE_JOIN, w->team, NULL, &e);
    w->ok = c && db_write_end(c, ok && !w->fails, &e);
    w->there = shares(w->f, w->team) == 1;
    return NULL;
}

/* `first` holds the connection until all others wait for it.  Returns how many commits it took. */
static uint64_t write_together(const struct fixture *f, struct db *db, struct writer *w, bool first_fails)
{
    struct err e = { 0 };
    uint64_t before = db_commits(db);
    struct conn *c = db_write(db, &e);
    assert_non_null(c);
    for (int i = 0; i < WRITERS; i++) {
        w[i].f = f;
        w[i].db = db;
        snprintf(w[i].team, sizeof w[i].team, "team%d", i);
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_one, &w[i]), 0);
    }
    while (metric_value(METRIC_WRITES_WAITING) < WRITERS)
        sched_yield();
    assert_true(stmt_exec(c, SQL_SHARE_JOIN, "first", NULL, &e));
    assert_int_equal(db_write_end(c, !first_fails, &e), !first_fails);
    assert_int_equal(shares(f, "first"), !first_fails);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].ok, !w[i].fails);
        assert_int_equal(w[i].there, w[i].ok);      /* from the moment it was told so */
    }
    return db_commits(db) - before;
}

static struct db *open_db(const struct fixture *f)
{
    char path[PATH];
    struct err e = { 0 };
    path_of(f, path);
    struct db *db = db_open(path, &e);
    assert_non_null(db);
    return db;
}

static void writes_that_wait_share_one_commit(void **state)
{
    struct writer w[WRITERS] = { 0 };
    struct db *db = open_db(*state);
    int before = shares(*state, "%");
    assert_int_equal(write_together(*state, db, w, false), 1);
    assert_int_equal(shares(*state, "%"), before + WRITERS + 1);
    db_close(db);
}

static bool join(struct db *db, const char *team, bool fails, struct err *e)
{
    struct conn *c = db_write(db, e);
    return c && db_write_end(c, stmt_exec(c, SQL_SHARE_JOIN, team, NULL, e) && !fails, e);
}

static void *write_only(void *arg)
{
    struct writer *w = arg;
    struct err e = { 0 };
    w->ok = join(w->db, w->team, false, &e);
    return NULL;
}

/* Else each answer would stand behind the commit of those who come later. */
static void who_is_told_of_the_commit_needs_the_connection_no_more(void **state)
{
    struct writer w[WRITERS] = { 0 };
    struct db *db = open_db(*state);
    struct err e = { 0 };
    struct conn *c = db_write(db, &e);
    assert_non_null(c);
    for (int i = 0; i < WRITERS; i++) {
        w[i].db = db;
        snprintf(w[i].team, sizeof w[i].team, "team%d", i);
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_only, &w[i]), 0);
    }
    while (metric_value(METRIC_WRITES_WAITING) < WRITERS)
        sched_yield();
    assert_true(db_write_end(c, true, &e));     /* its transaction, and those of all who waited */
    c = db_write(db, &e);
    assert_non_null(c);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(w[i].ok);
    }
    assert_true(db_write_end(c, true, &e));
    db_close(db);
}

static void a_write_that_fails_takes_back_its_own_changes_alone(void **state)
{
    for (int failing = -1; failing < WRITERS; failing += 4) {       /* the first; some, of which one may be the last */
        struct writer w[WRITERS] = { 0 };
        struct db *db = open_db(*state);
        int before = shares(*state, "%");
        if (failing >= 0)
            w[failing].fails = w[(failing + 1) % WRITERS].fails = true;
        write_together(*state, db, w, failing < 0);
        assert_int_equal(shares(*state, "%"), before + (failing < 0 ? WRITERS : WRITERS - 1));
        db_close(db);
        char path[PATH];
        path_of(*state, path);
        assert_int_equal(remove(path), 0);
    }
}

/* The first connection that db_open() makes; through it a test sees to it that a statement fails. */
static sqlite3 *writer;

static int keep_first(sqlite3 *lite, char **text, const struct sqlite3_api_routines *api)
{
    (void)text, (void)api;
    writer = writer ? writer : lite;
    return SQLITE_OK;
}

static struct db *open_with_writer(const struct fixture *f)
{
    writer = NULL;
    sqlite3_auto_extension((void (*)(void))keep_first);
    struct db *db = open_db(f);
    sqlite3_cancel_auto_extension((void (*)(void))keep_first);
    return db;
}

static int stop_it(void *arg) { return arg == NULL; }

static void once_sqlite_has_taken_all_back_nothing_more_is_written(void **state)
{
    struct db *db = open_with_writer(*state);
    struct err e = { 0 }, later = { 0 };
    struct conn *c = db_write(db, &e);
    assert_non_null(c);
    assert_true(stmt_exec(c, SQL_SHARE_JOIN, "a", NULL, &e));
    sqlite3_progress_handler(writer, 1, stop_it, NULL);
    assert_false(stmt_exec(c, SQL_SHARE_JOIN, "b", NULL, &e));
    sqlite3_progress_handler(writer, 0, NULL, NULL);
    assert_true(sqlite3_get_autocommit(writer));
    assert_false(stmt_exec(c, SQL_SHARE_JOIN, "c", NULL, &later));
    assert_int_equal(later.code, e.code);
    later = (struct err){ 0 };
    assert_false(db_write_end(c, true, &later));            /* of one who did not listen */
    assert_int_equal(later.code, e.code);
    assert_int_equal(shares(*state, "_"), 0);
    assert_true(join(db, "d", false, &later));
    assert_int_equal(shares(*state, "_"), 1);
    db_close(db);
}

static void count_call(void *arg) { ++*(int *)arg; }

static void a_full_disk_is_remembered_until_the_write_ends(void **state)
{
    enum { LONG = 1 << 20 };
    struct db *db = open_with_writer(*state);
    struct err e = { 0 };
    int heard = 0;
    char *text = calloc(1, LONG + 1);
    assert_non_null(text);
    memset(text, 'x', LONG);
    db_on_full(db, count_call, &heard);
    assert_int_equal(sqlite3_exec(writer, "PRAGMA max_page_count = 1", NULL, NULL, NULL), SQLITE_OK);   /* what there is */
    for (int listens = 0; listens < 2; listens++) {
        struct conn *c = db_write(db, &e);
        assert_non_null(c);
        assert_false(stmt_exec(c, SQL_SHARE_JOIN, text, NULL, &e));
        assert_int_equal(e.code, ERR_DISK);
        assert_true(sqlite3_get_autocommit(writer));
        assert_false(stmt_exec(c, SQL_SHARE_JOIN, "a", NULL, NULL));
        e = (struct err){ 0 };
        assert_false(db_write_end(c, !listens, &e));
        assert_int_equal(heard, listens + 1);
        assert_int_equal(e.code, listens ? 0 : ERR_DISK);
        e = (struct err){ 0 };
    }
    assert_int_equal(shares(*state, "a"), 0);
    assert_false(db_broken(db));
    free(text);
    db_close(db);
}

struct reading { struct db *db; bool serves_many; atomic_bool got; pthread_t thread; };

static void *read_often(void *arg)
{
    struct reading *r = arg;
    if (r->serves_many)
        db_serve_many();
    for (int i = 0; i < 100; i++)
        db_read_end(db_read(r->db));
    atomic_store(&r->got, true);
    return NULL;
}

static void begin_reading(struct reading *r) { assert_int_equal(pthread_create(&r->thread, NULL, read_often, r), 0); }

static void long_reads_do_not_hold_up_who_serves_many(void **state)
{
    struct db *db = open_db(*state);
    struct conn *held[DB_READERS - DB_READERS_KEPT];
    struct reading waits = { .db = db }, serve[2 * DB_READERS_KEPT];
    struct timespec end = { .tv_sec = time(NULL) + 20 };
    for (int i = 0; i < DB_READERS - DB_READERS_KEPT; i++)
        held[i] = db_read(db);
    begin_reading(&waits);
    for (int i = 0; i < 2 * DB_READERS_KEPT; i++) {
        serve[i] = (struct reading){ .db = db, .serves_many = true };
        begin_reading(&serve[i]);
    }
    for (int i = 0; i < 2 * DB_READERS_KEPT; i++)
        if (pthread_timedjoin_np(serve[i].thread, NULL, &end) != 0)
            fail_msg("it waits for the long reads");
    assert_false(atomic_load(&waits.got));
    db_read_end(held[0]);
    pthread_join(waits.thread, NULL);
    for (int i = 1; i < DB_READERS - DB_READERS_KEPT; i++)
        db_read_end(held[i]);
    db_close(db);
}

static void where_all_fail_nothing_is_committed(void **state)
{
    struct writer w[WRITERS] = { 0 };
    struct db *db = open_db(*state);
    int before = shares(*state, "%");
    for (int i = 0; i < WRITERS; i++)
        w[i].fails = true;
    assert_int_equal(write_together(*state, db, w, true), 0);
    assert_int_equal(shares(*state, "%"), before);
    db_close(db);
}

/* SQLite then leaves the transaction open, and what is in it must not be committed with the next one's. */
static void what_no_memory_was_left_to_take_back_is_not_committed_later(void **state)
{
    struct db *db = open_db(*state);
    struct err e = { 0 };
    struct conn *c = db_write(db, &e);
    assert_true(c && stmt_exec(c, SQL_SHARE_JOIN, "lost", NULL, &e));
    sqlite3_hard_heap_limit64(1);
    assert_false(db_write_end(c, false, &e));
    sqlite3_hard_heap_limit64(0);
    e = (struct err){ 0 };
    if (!join(db, "kept", false, &e))
        fail_msg("%s", e.text);
    assert_int_equal(shares(*state, "lost"), 0);
    assert_int_equal(shares(*state, "kept"), 1);
    db_close(db);
}

static ssize_t no_disk(int fd, const void *p, size_t n, off_t at)
{
    (void)fd, (void)p, (void)n, (void)at;
    errno = EIO;
    return -1;
}

/* The kernel may have dropped what it could not write, and would say "ok" to the next. */
static void after_a_write_that_failed_nothing_more_is_written(void **state)
{
    struct db *db = open_db(*state);
    struct err e = { 0 };
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    assert_true(join(db, "before", false, &e));
    assert_false(db_broken(db));
    assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)no_disk), SQLITE_OK);
    bool written = join(db, "during", false, &e);
    vfs->xSetSystemCall(vfs, "pwrite64", NULL);
    assert_false(written);
    assert_int_equal(e.code, ERR_IO);
    assert_true(db_broken(db));
    assert_null(db_write(db, &e));
    assert_int_equal(shares(*state, "before"), 1);
    assert_int_equal(shares(*state, "during"), 0);
    db_close(db);
}

int main(void)
{
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);      /* all memory counts for its limit */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_that_wait_share_one_commit, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(who_is_told_of_the_commit_needs_the_connection_no_more, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_write_that_fails_takes_back_its_own_changes_alone, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(where_all_fail_nothing_is_committed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(once_sqlite_has_taken_all_back_nothing_more_is_written, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_remembered_until_the_write_ends, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(long_reads_do_not_hold_up_who_serves_many, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_no_memory_was_left_to_take_back_is_not_committed_later, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(after_a_write_that_failed_nothing_more_is_written, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
