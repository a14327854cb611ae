/* test_uploads.c - uploads in parts: what is acknowledged stays, what is not is forgotten, and one writes at a time. */
#include "tests/unit/daemon/api_fixture.h"

#include "core/base/io.h"
#include "core/base/metric.h"
#include "storage/team.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/fsuid.h>

#define HELLO FIXTURE_DIGEST            /* of "hello" */
#define WORLD "sha256:486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7"     /* of "world" */
#define LIST(...) (const char *const[]){ __VA_ARGS__, NULL }

static const struct err nothing;

static void must(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s %s: %s", err_slug(e->code), e->where, e->text);
}

/* A new upload with these bytes so far. */
static struct upload begun(struct fixture *f, const char *team, int64_t length, const char *want, const char *bytes)
{
    struct upload_part p;
    struct upload u;
    struct err e = nothing;
    struct upload_wish w = { .length = length, .want = want, .metadata = "filename bQ==" };
    must(upload_begin(&p, f->store, team, &w, &e) && upload_write(&p, bytes, strlen(bytes), &e) && upload_end(&p, &u, &e), &e);
    upload_release(&u);
    return u;
}

/* Goes on with it; false with *e. */
static bool added(struct fixture *f, const char *id, uint64_t offset, const char *bytes, struct upload *ret, struct err *e)
{
    struct upload_part p;
    bool ok = upload_resume(&p, f->store, TEAM_LOCAL, id, offset, e);
    if (!ok)
        return false;
    ok = upload_write(&p, bytes, strlen(bytes), e) && upload_end(&p, ret, e);
    upload_abandon(&p);
    if (ok)
        upload_release(ret);
    return ok;
}

static struct upload looked_at(struct fixture *f, const char *id)
{
    struct upload u;
    struct err e = nothing;
    must(upload_get(f->store, TEAM_LOCAL, id, &u, &e), &e);
    upload_release(&u);
    return u;
}

static bool file_there(struct fixture *f, const char *id)
{
    char path[400];
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, id);
    return access(path, F_OK) == 0;
}

static void parts_become_a_blob_over_restarts(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, WORLD, "wo");
    struct err e = nothing;
    struct blob b;
    assert_int_equal(u.offset, 2);
    fixture_reopen(f);
    assert_int_equal(looked_at(f, u.id).offset, 2);
    assert_string_equal(looked_at(f, u.id).metadata, "filename bQ==");
    must(added(f, u.id, 2, "r", &u, &e), &e);
    fixture_reopen(f);
    must(added(f, u.id, 3, "ld", &u, &e), &e);
    assert_string_equal(u.digest, WORLD);
    must(blob_get(f->store, TEAM_LOCAL, WORLD, &b, &e), &e);
    assert_int_equal(b.size, 5);
    assert_false(file_there(f, u.id));
    assert_int_equal(looked_at(f, u.id).offset, 5);        /* a client that lost the last answer asks again */
    assert_false(added(f, u.id, 5, "", &u, &e));
    assert_int_equal(e.code, ERR_UPLOAD_OFFSET);
}

static void a_saved_hash_tells_nothing_but_the_hash(void **state)
{
    (void)state;
    struct hash h;
    char saved[2][HASH_STATE_SIZE];
    for (int i = 0; i < 2; i++) {
        memset(&h, i ? 0xaa : 0x55, sizeof h);          /* what was in that memory before */
        hash_init(&h);
        hash_add(&h, "hello", 5);
        hash_save(&h, saved[i]);
    }
    assert_string_equal(saved[0], saved[1]);
}

static void the_hash_goes_on_where_it_stopped_and_is_made_again_if_it_is_lost(void **state)
{
    static char text[1000];
    struct hash h, again;
    char saved[HASH_STATE_SIZE];
    uint8_t one[HASH_SIZE], two[HASH_SIZE];
    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t cut = 0; cut < sizeof text; cut += 37) {
        hash_init(&h);
        hash_add(&h, text, cut);
        hash_save(&h, saved);
        assert_true(hash_load(saved, &again));
        hash_add(&again, text + cut, sizeof text - cut);
        hash_end(&again, one);
        hash_bytes(text, sizeof text, two);
        assert_true(hash_equal(one, two));
    }
    assert_false(hash_load("", &h));
    saved[3] = 'g';
    assert_false(hash_load(saved, &h));
}

static void an_offset_that_is_not_the_uploads_is_refused(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    static const uint64_t wrong[] = { 0, 1, 3, 5, 6, UINT64_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct err e = nothing;
        assert_false(added(f, u.id, wrong[i], "x", &u, &e));
        assert_int_equal(e.code, ERR_UPLOAD_OFFSET);
    }
    assert_int_equal(looked_at(f, u.id).offset, 2);
}

static void more_bytes_than_declared_are_refused_and_the_rest_is_kept(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    struct err e = nothing;
    assert_false(added(f, u.id, 2, "rlds", &u, &e));
    assert_int_equal(e.code, ERR_REQUEST_TOO_LARGE);
    assert_int_equal(looked_at(f, u.id).offset, 2);
}

static void a_broken_connection_keeps_what_came_but_not_under_a_checksum(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "w");
    struct upload_part p;
    struct err e = nothing;
    must(upload_resume(&p, f->store, TEAM_LOCAL, u.id, 1, &e) && upload_write(&p, "o", 1, &e), &e);
    upload_abandon(&p);
    assert_int_equal(looked_at(f, u.id).offset, 2);
    must(upload_resume(&p, f->store, TEAM_LOCAL, u.id, 2, &e)
         && upload_expect(&p, "sha256 RUNJ5CLwUpcZHq0T4h09tSDlq+9SBV5JZLgvshP1k6E=", &e) && upload_write(&p, "r", 1, &e), &e);
    upload_abandon(&p);
    assert_int_equal(looked_at(f, u.id).offset, 2);
    must(added(f, u.id, 2, "rld", &u, &e), &e);            /* and the hash went back with the offset */
    assert_string_equal(u.digest, WORLD);
}

static void a_crash_keeps_what_was_acknowledged_and_forgets_the_rest(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    struct err e = nothing;
    char path[400];
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, u.id);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "XX", 2), 2);                /* written, never acknowledged */
    close(fd);
    fixture_reopen(f);
    assert_int_equal(looked_at(f, u.id).offset, 2);
    must(added(f, u.id, 2, "rld", &u, &e), &e);
    assert_string_equal(u.digest, WORLD);
}

/* What a crash before the commit of an upload's last part leaves: all bytes, read-only, with the digest as a second name. */
static void cut_at_the_commit(struct fixture *f, const char *id, const char *bytes, const char *digest)
{
    char path[400], name[400];
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, id);
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
    assert_int_equal(fchmod(fd, 0400), 0);
    close(fd);
    if (!digest)
        return;
    snprintf(name, sizeof name, "%s/blobs/%.2s/%s", f->dir, digest + 7, digest + 7);
    remove(name);
    assert_int_equal(link(path, name), 0);
}

static void bytes_that_are_another_teams_blob_are_never_written_to(void **state)
{
    struct fixture *f = *state;
    struct err e = nothing;
    int fd;
    uint64_t size;
    fixture_blob(f, "other", "world");
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    cut_at_the_commit(f, u.id, "world", WORLD);
    must(added(f, u.id, 2, "RLD", &u, &e), &e);
    must(blob_open(f->store, "other", WORLD, true, &fd, &size, &e), &e);
    close(fd);
    must(blob_open(f->store, TEAM_LOCAL, u.digest, true, &fd, &size, &e), &e);
    close(fd);
    u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    cut_at_the_commit(f, u.id, "world", WORLD);
    must(added(f, u.id, 2, "R", &u, &e), &e);              /* nor with a part that is not the last */
    must(blob_open(f->store, "other", WORLD, true, &fd, &size, &e), &e);
    close(fd);
    fixture_reopen(f);
    must(added(f, u.id, 3, "LD", &u, &e), &e);
    must(blob_open(f->store, TEAM_LOCAL, u.digest, true, &fd, &size, &e), &e);
    close(fd);
}

static int give_away(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return lchown(path, 65534, 65534);
}

/* With the file rights of a daemon that is not root. */
static void an_upload_cut_at_its_commit_is_finished_without_roots_rights(void **state)
{
    struct fixture *f = *state;
    struct err e = nothing;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    cut_at_the_commit(f, u.id, "world", NULL);
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(nftw(f->dir, give_away, 16, FTW_PHYS), 0);
        setfsuid(65534);                                    /* of this thread alone */
    }
    bool ok = added(f, u.id, 2, "rld", &u, &e);
    if (root)
        setfsuid(0);
    must(ok, &e);
    assert_string_equal(u.digest, WORLD);
}

static void in_the_database(struct fixture *f, const char *sql)
{
    char path[400];
    sqlite3 *lite = NULL;
    snprintf(path, sizeof path, "%s/repquant.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &lite, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(lite, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(lite);
}

static void a_last_part_whose_rows_are_refused_leaves_no_blob_and_is_sent_again(void **state)
{
    struct fixture *f = *state;
    struct err e = nothing;
    char path[400];
    struct stat before, after;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo"), done;
    in_the_database(f, "CREATE TRIGGER no BEFORE UPDATE ON uploads WHEN NEW.digest <> '' BEGIN SELECT RAISE(ABORT, 'no'); END");
    assert_false(added(f, u.id, 2, "rld", &done, &e));
    snprintf(path, sizeof path, "%s/blobs/%.2s/%s", f->dir, WORLD + 7, WORLD + 7);
    assert_int_equal(access(path, F_OK), -1);
    in_the_database(f, "DROP TRIGGER no");
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, u.id);
    assert_int_equal(stat(path, &before), 0);
    e = nothing;
    must(added(f, u.id, 2, "rld", &done, &e), &e);
    snprintf(path, sizeof path, "%s/blobs/%.2s/%s", f->dir, WORLD + 7, WORLD + 7);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);          /* nothing had to be copied */
}

static void only_the_bytes_that_were_hashed_get_the_digest(void **state)
{
    struct fixture *f = *state;
    struct err e = nothing;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    char path[400];
    int fd;
    uint64_t size;
    cut_at_the_commit(f, u.id, "worldly", NULL);            /* more than the row ever knew */
    assert_int_equal(chmod((snprintf(path, sizeof path, "%s/blobs/%s", f->dir, u.id), path), 0600), 0);
    must(added(f, u.id, 2, "rld", &u, &e), &e);
    must(blob_open(f->store, TEAM_LOCAL, WORLD, true, &fd, &size, &e), &e);
    close(fd);
}

static void an_upload_whose_bytes_are_gone_says_so(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    struct err e = nothing;
    char path[400];
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, u.id);
    assert_int_equal(truncate(path, 1), 0);
    assert_false(added(f, u.id, 2, "rld", &u, &e));
    assert_int_equal(e.code, ERR_IO);
}

static void who_asks_takes_over_from_who_writes(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "w");
    struct upload_part old, other;
    struct err e = nothing;
    must(upload_resume(&old, f->store, TEAM_LOCAL, u.id, 1, &e) && upload_write(&old, "o", 1, &e), &e);
    assert_false(upload_resume(&other, f->store, TEAM_LOCAL, u.id, 1, &e));
    assert_int_equal(e.code, ERR_UPLOAD_BUSY);
    e = nothing;
    assert_int_equal(looked_at(f, u.id).offset, 2);         /* what the old one wrote is kept */
    assert_false(upload_write(&old, "r", 1, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    e = nothing;
    must(upload_resume(&other, f->store, TEAM_LOCAL, u.id, 2, &e), &e);
    assert_false(upload_end(&old, &u, &e));
    assert_int_equal(e.code, ERR_CONFLICT);
    e = nothing;
    must(upload_write(&other, "rld", 3, &e) && upload_end(&other, &u, &e), &e);
    assert_string_equal(u.digest, WORLD);
    upload_release(&u);
}

static void another_teams_upload_does_not_exist_even_while_it_is_written(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, "other", 5, NULL, "w");
    struct upload_part p, q;
    struct err e = nothing;
    must(upload_resume(&p, f->store, "other", u.id, 1, &e), &e);
    assert_false(upload_resume(&q, f->store, TEAM_LOCAL, u.id, 1, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    e = nothing;
    assert_false(upload_get(f->store, TEAM_LOCAL, u.id, &u, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    e = nothing;
    assert_false(upload_delete(f->store, TEAM_LOCAL, p.state.id, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    e = nothing;
    must(upload_write(&p, "orld", 4, &e), &e);              /* and nobody took it over */
    upload_abandon(&p);
}

static void an_import_is_the_importers_to_write(void **state)
{
    struct api a;
    struct upload_part p;
    struct upload u;
    struct err e = nothing;
    char path[128];
    struct upload_wish w = { .length = -1, .source = "https://files.example/x" };
    api_open(&a, *state);
    must(upload_begin(&p, a.fixture->store, TEAM_LOCAL, &w, &e) && upload_end(&p, &u, &e), &e);
    upload_release(&u);
    snprintf(path, sizeof path, "/v1/uploads/%s", u.id);
    assert_int_equal(api_tus(&a, "PATCH", path, "hello", LIST("Upload-Offset", "0")), 409);
    assert_string_equal(api_text(&a, "code"), "resource.conflict");
    assert_int_equal(looked_at(a.fixture, u.id).offset, 0);
    must(upload_resume_import(&p, a.fixture->store, TEAM_LOCAL, u.id, &e), &e);
    must(upload_write(&p, "hello", 5, &e) && upload_set_length(&p, 5, &e) && upload_end(&p, &u, &e), &e);
    upload_release(&u);
    struct upload ours = begun(a.fixture, TEAM_LOCAL, 5, NULL, "w");
    assert_false(upload_resume_import(&p, a.fixture->store, TEAM_LOCAL, ours.id, &e));
    api_close(&a);
}

static void wrong_bytes_end_the_upload(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, HELLO, "wor");
    struct err e = nothing;
    char id[ID_SIZE];
    memcpy(id, u.id, sizeof id);
    assert_false(added(f, u.id, 3, "ld", &u, &e));
    assert_int_equal(e.code, ERR_UPLOAD_DIGEST);
    e = nothing;
    assert_false(upload_get(f->store, TEAM_LOCAL, id, &u, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_false(file_there(f, id));
}

static void bytes_another_team_has_are_stored_once_and_belong_to_both(void **state)
{
    struct fixture *f = *state;
    struct blob b;
    struct err e = nothing;
    struct upload u = begun(f, "other", 5, HELLO, "hello");
    assert_string_equal(u.digest, HELLO);
    must(blob_get(f->store, "other", HELLO, &b, &e) && blob_get(f->store, TEAM_LOCAL, HELLO, &b, &e), &e);
    int fd;
    uint64_t size;
    struct stat st;
    must(blob_open(f->store, TEAM_LOCAL, HELLO, true, &fd, &size, &e), &e);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(st.st_mode & 07777, 0400);
    close(fd);
}

static void uploads_expire_and_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct upload_part p;
    struct upload_wish w = { .length = 5 };
    struct err e = nothing;
    struct upload u;
    int removed;
    store_limit(f->store, &(struct store_limits){ .upload_expiry_us = 3600LL * 1000000, .uploads_per_team = 2 });
    struct upload one = begun(f, TEAM_LOCAL, 5, NULL, "w");
    begun(f, TEAM_LOCAL, 5, NULL, "w");
    begun(f, "other", 5, NULL, "w");
    assert_false(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e));
    assert_int_equal(e.code, ERR_QUOTA);
    e = nothing;
    must(upload_delete(f->store, TEAM_LOCAL, one.id, &e), &e);
    assert_false(file_there(f, one.id));
    store_limit(f->store, &(struct store_limits){ .upload_expiry_us = -1, .uploads_per_team = 2 });
    must(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e), &e);
    char id[ID_SIZE];
    memcpy(id, p.state.id, sizeof id);
    assert_false(upload_end(&p, &u, &e));                   /* over before it began */
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_true(file_there(f, id));
    e = nothing;
    must(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e), &e);
    upload_abandon(&p);
    assert_true(file_there(f, id));                         /* a request does not wait for the removal of others' bytes */
    must(store_sweep(f->store, 3600LL * 1000000, &removed, &e), &e);
    assert_false(file_there(f, id));
}

/* ---- what is under way counts ---- */

static int64_t used_by(struct fixture *f, const char *team)
{
    struct team t;
    struct err e = nothing;
    must(team_get(f->store, team, &t, &e), &e);
    return t.used.bytes;
}

static void refused_for_quota(bool ok, struct err *e)
{
    assert_false(ok);
    assert_int_equal(e->code, ERR_QUOTA);
    *e = nothing;
}

static void requests_under_way_take_no_more_than_the_quota_together(void **state)
{
    struct fixture *f = *state;
    struct upload_part one, two;
    struct blob_writer w;
    struct blob b;
    struct err e = nothing;
    struct upload_wish six = { .length = 6 }, ten = { .length = 10 };
    must(team_create(f->store, "small", &(struct quota){ QUOTA_NONE, QUOTA_NONE, 10 }, &e), &e);
    must(upload_begin(&one, f->store, "small", &six, &e), &e);
    refused_for_quota(upload_begin(&two, f->store, "small", &six, &e), &e);
    must(blob_begin(&w, f->store, "small", NULL, 100, &e), &e);
    refused_for_quota(blob_reserve(&w, 5, &e), &e);
    must(blob_reserve(&w, 4, &e) && blob_write(&w, "worl", 4, &e), &e);
    refused_for_quota(blob_write(&w, "d", 1, &e), &e);
    assert_int_equal(used_by(f, "small"), 10);
    blob_abort(&w);
    upload_abandon(&one);
    assert_int_equal(used_by(f, "small"), 0);
    must(upload_begin(&one, f->store, "small", &ten, &e) && upload_write(&one, "helloworld", 10, &e), &e);
    must(upload_begin(&two, f->store, TEAM_LOCAL, &ten, &e), &e);         /* another team's */
    upload_abandon(&two);
    struct upload u;
    must(upload_end(&one, &u, &e), &e);
    upload_release(&u);
    assert_int_equal(used_by(f, "small"), 10);
    must(blob_begin(&w, f->store, "small", u.digest, 100, &e) && blob_reserve(&w, 10, &e) && blob_write(&w, "helloworld", 10, &e)
         && blob_finish(&w, &b, &e), &e);                           /* once more, which costs nothing more */
    assert_int_equal(used_by(f, "small"), 10);
    assert_int_equal(metric_value(METRIC_UPLOAD_HELD), 0);
}

static void a_body_of_unknown_length_may_fill_the_quota_and_not_more(void **state)
{
    struct fixture *f = *state;
    struct blob_writer w;
    struct upload_part p;
    struct upload u;
    struct err e = nothing;
    struct upload_wish six = { .length = 6 }, import = { .length = -1, .source = "https://files.example/x" };
    must(team_create(f->store, "small", &(struct quota){ QUOTA_NONE, QUOTA_NONE, 10 }, &e), &e);
    must(blob_begin(&w, f->store, "small", NULL, 100, &e) && blob_write(&w, "hello", 5, &e), &e);
    refused_for_quota(upload_begin(&p, f->store, "small", &six, &e), &e);
    must(blob_write(&w, "world", 5, &e), &e);
    refused_for_quota(blob_write(&w, "!", 1, &e), &e);
    blob_abort(&w);
    must(upload_begin(&p, f->store, "small", &import, &e) && upload_end(&p, &u, &e), &e);
    upload_release(&u);
    must(upload_resume_import(&p, f->store, "small", u.id, &e), &e);
    refused_for_quota(upload_set_length(&p, 11, &e), &e);
    must(upload_write(&p, "helloworld", 10, &e), &e);
    refused_for_quota(upload_write(&p, "!", 1, &e), &e);
    must(upload_set_length(&p, 10, &e) && upload_end(&p, &u, &e), &e);
    upload_release(&u);
    assert_int_equal(used_by(f, "small"), 10);
    assert_int_equal(metric_value(METRIC_UPLOAD_HELD), 0);
}

static void what_is_held_and_has_its_rows_already_counts_once(void **state)
{
    struct fixture *f = *state;
    struct hold blob = { 0 }, upload = { 0 };
    struct err e = nothing;
    uint64_t five = 5, nine = 9;
    must(team_create(f->store, "small", &(struct quota){ QUOTA_NONE, QUOTA_NONE, 23 }, &e), &e);
    store_limit(f->store, &(struct store_limits){ .upload_expiry_us = 3600LL * 1000000, .uploads_per_team = 2 });
    must(hold_bytes(&blob, f->store, "small", 5, &five, &e), &e);
    fixture_blob(f, "small", "hello");
    assert_int_equal(used_by(f, "small"), 10);
    hold_blob(&blob, HELLO);
    assert_int_equal(used_by(f, "small"), 5);
    struct upload u = begun(f, "small", 9, NULL, "w");
    must(hold_upload(&upload, f->store, "small", u.id, &e) && hold_bytes(&upload, f->store, "small", 9, &nine, &e), &e);
    assert_int_equal(used_by(f, "small"), 14);
    begun(f, "small", 0, NULL, "");
    hold_end(&blob);
    hold_end(&upload);
    hold_end(&upload);
    assert_int_equal(used_by(f, "small"), 14);
}

static void uploads_without_a_row_are_bounded_too(void **state)
{
    struct fixture *f = *state;
    struct upload_part p[3];
    struct upload_wish w = { .length = 5 };
    struct err e = nothing;
    store_limit(f->store, &(struct store_limits){ .upload_expiry_us = 3600LL * 1000000, .uploads_per_team = 2 });
    begun(f, TEAM_LOCAL, 5, NULL, "w");
    must(upload_begin(&p[0], f->store, TEAM_LOCAL, &w, &e), &e);
    refused_for_quota(upload_begin(&p[1], f->store, TEAM_LOCAL, &w, &e), &e);
    must(upload_begin(&p[2], f->store, "other", &w, &e), &e);
    upload_abandon(&p[0]);
    must(upload_begin(&p[1], f->store, TEAM_LOCAL, &w, &e), &e);
    upload_abandon(&p[1]);
    upload_abandon(&p[2]);
}

static void a_file_without_a_row_goes_at_the_next_start(void **state)
{
    struct fixture *f = *state;
    char path[400], id[ID_SIZE];
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "w");
    id_new("upl", id);
    snprintf(path, sizeof path, "%s/blobs/%s", f->dir, id);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    fixture_reopen(f);
    assert_false(file_there(f, id));
    assert_true(file_there(f, u.id));
}

/*
 * A disk that is the data folder's alone, of a gigabyte: what is free on the real one changes meanwhile with what others do there.
 * What files take is still what the real file system says.
 */
static const char *own_folder;
static uint64_t own_taken;

static int take_own(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)path, (void)kind, (void)ftw;
    own_taken += (uint64_t)st->st_blocks * 512;
    return 0;
}

static int own_disk(int fd, struct statvfs *ret)
{
    (void)fd;
    own_taken = 0;
    if (nftw(own_folder, take_own, 16, FTW_PHYS) != 0)
        return -1;
    *ret = (struct statvfs){ .f_frsize = 1, .f_bavail = (1 << 30) - own_taken };
    return 0;
}

static int own_disk_setup(void **state)
{
    if (fixture_setup(state) != 0)
        return -1;
    own_folder = ((struct fixture *)*state)->dir;
    sys.fstatvfs = own_disk;
    return 0;
}

static int own_disk_teardown(void **state)
{
    sys.fstatvfs = fstatvfs;
    return fixture_teardown(state);
}

static void disk_space_is_taken_when_an_upload_begins(void **state)
{
    struct fixture *f = *state;
    struct upload_part p;
    struct err e = nothing;
    uint64_t before = store_room(f->store);
    struct upload_wish w = { .length = 8 << 20 };
    must(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e), &e);
    assert_true(store_room(f->store) + (7 << 20) < before);
    upload_abandon(&p);
    assert_true(store_room(f->store) + (1 << 20) > before);
    w.length = INT64_MAX;
    assert_false(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e));
    assert_int_equal(e.code, ERR_DISK);
    store_limit(f->store, &(struct store_limits){ .keep_free = UINT64_MAX, .uploads_per_team = 9 });
    e = nothing;
    w.length = 1;
    assert_false(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e));
    assert_int_equal(e.code, ERR_DISK);
}

static void a_job_is_promised_its_space_or_refused(void **state)
{
    struct fixture *f = *state;
    struct job_request r = fixture_request(f);
    struct job job;
    struct err e = nothing;
    char id[ID_SIZE];
    uint64_t before = store_room(f->store);
    fixture_job(f, 5, id);
    uint64_t promised = before - store_room(f->store);
    assert_true(promised >= 64 << 10 && promised < 8 << 20);
    must(job_cancel(f->store, TEAM_LOCAL, id, NULL, NULL, &job, &e), &e);
    job_release(&job);
    assert_true(before - store_room(f->store) < promised);         /* but for what the log of the database grew by */
    struct asset_file file = { .path = "data", .digest = HELLO };
    struct asset pictures = { .kind = ASSET_DATASET, .name = "p", .format = "images", .files = &file, .nfiles = 1,
                              .inventory = strdup("{\"arrays\":[{\"shape\":[10,3,224,224]}]}") };
    must(asset_insert(f->store, TEAM_LOCAL, &pictures, NULL, &e), &e);
    free(pictures.inventory);
    r.dataset_id = pictures.id;
    before = store_room(f->store);
    must(job_insert(f->store, TEAM_LOCAL, &r, &job, &e), &e);
    job_release(&job);
    assert_true(before - store_room(f->store) >= 10 * 3 * 224 * 224 * 4);      /* what they unpack to, not what they are */
    store_limit(f->store, &(struct store_limits){ .keep_free = store_free_bytes(f->store) + (1 << 20) });
    assert_false(job_insert(f->store, TEAM_LOCAL, &r, &job, &e));
    assert_int_equal(e.code, ERR_DISK);
    assert_string_equal(e.where, "/model_id");
}

/* Large enough that threads follow the writer; in pieces of odd sizes, taken over and broken off in between. */
static void the_hash_follows_a_large_upload(void **state)
{
    enum { SIZE = 50 << 20, PIECE = 99991 };
    struct fixture *f = *state;
    struct upload_part p;
    struct upload_wish w = { .length = SIZE };
    struct upload u;
    struct err e = nothing;
    char want[HASH_TEXT_SIZE];
    uint8_t digest[HASH_SIZE];
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)hash_mix(1, i);
    hash_bytes(bytes, SIZE, digest);
    hash_text(digest, want);
    must(upload_begin(&p, f->store, TEAM_LOCAL, &w, &e) && upload_end(&p, &u, &e), &e);
    for (size_t at = 0, part = 0; at < SIZE; part++) {
        must(upload_resume(&p, f->store, TEAM_LOCAL, u.id, at, &e), &e);
        size_t end = SIZE - at < 17 << 20 ? SIZE : at + (17 << 20);
        for (size_t n; at < end; at += n) {
            n = end - at < PIECE ? end - at : PIECE;
            must(upload_write(&p, bytes + at, n, &e), &e);
        }
        if (at == SIZE)
            must(upload_end(&p, &u, &e), &e);
        else if (part % 2)
            upload_abandon(&p);
        else {
            assert_int_equal(looked_at(f, u.id).offset, at);
            upload_abandon(&p);
        }
    }
    assert_string_equal(u.digest, want);
    struct blob_writer b;
    struct blob stored;
    must(blob_begin(&b, f->store, TEAM_LOCAL, want, SIZE, &e), &e);
    for (size_t at = 0; at < SIZE; at += PIECE)
        must(blob_write(&b, bytes + at, SIZE - at < PIECE ? SIZE - at : PIECE, &e), &e);
    must(blob_finish(&b, &stored, &e), &e);
    must(blob_begin(&b, f->store, TEAM_LOCAL, want, SIZE, &e) && blob_write(&b, bytes, 20 << 20, &e), &e);
    blob_abort(&b);                                         /* while threads may be at it */
    free(bytes);
}

/* ---- a disk that fails ---- */

static int fail_fsync(int fd)
{
    (void)fd;
    errno = EIO;
    return -1;
}

static void nothing_is_acknowledged_that_could_not_be_synced(void **state)
{
    struct fixture *f = *state;
    struct upload u = begun(f, TEAM_LOCAL, 5, NULL, "wo");
    struct err e = nothing;
    sys.fsync = fail_fsync;
    bool ok = added(f, u.id, 2, "rld", &u, &e);
    sys.fsync = fsync;
    assert_false(ok);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(looked_at(f, u.id).offset, 2);
    assert_true(store_broken(f->store));                    /* for good: the daemon ends, and its next start looks at the disk */
    e = nothing;
    assert_false(added(f, u.id, 2, "rld", &u, &e));         /* though a sync would say "ok" now */
    assert_int_equal(e.code, ERR_IO);
    fixture_reopen(f);
    e = nothing;
    must(added(f, u.id, 2, "rld", &u, &e), &e);
    assert_string_equal(u.digest, WORLD);
}

/* ---- over HTTP's rules ---- */

static void the_protocol_is_kept(void **state)
{
    struct api a;
    char path[128];
    api_open(&a, *state);
    assert_int_equal(api_call(&a, "OPTIONS", "/v1/uploads", NULL), 204);
    assert_string_equal(api_field(&a, "Tus-Version"), "1.0.0");
    assert_string_equal(api_field(&a, "Tus-Extension"), "creation,creation-with-upload,checksum,expiration,termination");
    assert_string_equal(api_field(&a, "Tus-Max-Size"), "1048576");
    assert_string_equal(api_field(&a, "Tus-Checksum-Algorithm"), "sha256,sha1");
    assert_int_equal(api_call_with(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5")), 412);
    assert_string_equal(api_field(&a, "Tus-Version"), "1.0.0");
    assert_int_equal(api_call_with(&a, "POST", "/v1/uploads", NULL, LIST("Tus-Resumable", "0.2.2", "Upload-Length", "5")), 412);
    static const char *const lengths[] = { "-1", "5x", "", "18446744073709551615", NULL };
    for (const char *const *l = lengths; *l; l++)
        assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", *l)), 400);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "1048577")), 413);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", "sha256 eA==")), 400);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", "filename bQ==, private")), 201);
    assert_string_equal(api_field(&a, "Tus-Resumable"), "1.0.0");
    assert_string_equal(api_field(&a, "Upload-Offset"), "0");
    assert_true(strstr(api_field(&a, "Upload-Expires"), " GMT"));
    snprintf(path, sizeof path, "%s", api_field(&a, "Location"));
    assert_int_equal(api_tus(&a, "HEAD", path, NULL, LIST("X", "y")), 200);
    assert_string_equal(api_field(&a, "Upload-Length"), "5");
    assert_string_equal(api_field(&a, "Upload-Metadata"), "filename bQ==, private");
    assert_int_equal(api_tus(&a, "PATCH", path, "wo", LIST("Upload-Offset", "1")), 409);
    assert_int_equal(api_call_with(&a, "PATCH", path, "wo", LIST("Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "text/plain")), 415);
    assert_int_equal(api_call_with(&a, "PATCH", path, NULL, LIST("Tus-Resumable", "1.0.0", "Upload-Offset", "0")), 415);
    assert_int_equal(api_tus(&a, "PATCH", path, "wo", LIST("Upload-Length", "5")), 400);         /* no offset */
    assert_int_equal(api_tus(&a, "PATCH", path, "wo", LIST("Upload-Offset", "0", "Upload-Checksum", "md5 eA==")), 400);
    assert_int_equal(api_tus(&a, "PATCH", path, "wo", LIST("Upload-Offset", "0", "Upload-Checksum", "sha1 eA==")), 460);
    assert_int_equal(api_tus(&a, "HEAD", path, NULL, LIST("X", "y")), 200);
    assert_string_equal(api_field(&a, "Upload-Offset"), "0");
    assert_int_equal(api_tus(&a, "PATCH", path, "wo", LIST("Upload-Offset", "0", "Upload-Checksum", "sha1 0p8YDxuwS8/rk+QkPVQtVuG1BMw=")), 204);
    assert_string_equal(api_field(&a, "Upload-Offset"), "2");
    assert_int_equal(api_tus(&a, "PATCH", path, "rlds", LIST("Upload-Offset", "2")), 413);
    assert_int_equal(api_tus(&a, "PATCH", path, "rld", LIST("Upload-Offset", "2")), 204);
    assert_string_equal(api_field(&a, "Blob-Digest"), WORLD);
    assert_int_equal(api_call(&a, "GET", path, NULL), 200);
    assert_string_equal(api_text(&a, "digest"), WORLD);
    assert_int_equal(api_call(&a, "DELETE", path, NULL), 412);
    assert_int_equal(api_tus(&a, "DELETE", path, NULL, LIST("X", "y")), 204);
    assert_int_equal(api_tus(&a, "HEAD", path, NULL, LIST("X", "y")), 404);
    assert_int_equal(api_call(&a, "GET", "/v1/blobs/" WORLD, NULL), 200);
    api_close(&a);
}

static void an_upload_can_begin_with_its_bytes_or_be_empty(void **state)
{
    struct api a;
    api_open(&a, *state);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", "wor", LIST("Upload-Length", "5")), 201);
    assert_string_equal(api_field(&a, "Upload-Offset"), "3");
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", "world", LIST("Upload-Length", "5")), 201);
    assert_string_equal(api_field(&a, "Blob-Digest"), WORLD);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", "worlds", LIST("Upload-Length", "5")), 413);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", "wor", LIST("Upload-Length", "5", "Upload-Checksum", "sha1 eA==")), 460);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Checksum", "md5 eA==")), 400);      /* of no bytes, too */
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Checksum", "sha1 eA==")), 460);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Checksum", "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=")), 201);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "0")), 201);
    assert_string_equal(api_field(&a, "Blob-Digest"), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    api_close(&a);
}

/* sha256 of "hello", in base64, as metadata. */
#define HELLO_METADATA "sha256 MmNmMjRkYmE1ZmIwYTMwZTI2ZTgzYjJhYzViOWUyOWUxYjE2MWU1YzFmYTc0MjVlNzMwNDMzNjI5MzhiOTgyNA=="

/* Every header field and the body of the last answer, but for what differs between any two uploads. */
static void outline(const struct api *a, char *ret, size_t size)
{
    size_t n = (size_t)snprintf(ret, size, "%d", a->status);
    for (int i = 0; i < a->reply.fields && n < size; i++) {
        bool own = route_lists("Location Upload-Expires", a->reply.field[i].name);
        n += (size_t)snprintf(ret + n, size - n, "|%s: %s", a->reply.field[i].name, own ? "" : a->reply.field[i].value);
    }
}

static void a_digest_tells_another_team_nothing(void **state)
{
    struct api a;
    struct token token;
    char text[TOKEN_TEXT_SIZE], known[2000], unknown[2000];
    static const char unknown_metadata[] = "sha256 NDg2ZWE0NjIyNGQxYmI0ZmI2ODBmMzRmN2M5YWQ5NmE4ZjI0ZWM4OGJlNzNlYThlNWE2YzY1MjYwZTljYjhhNw==";
    api_open(&a, *state);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", HELLO_METADATA)), 201);
    assert_string_equal(api_field(&a, "Upload-Offset"), "5");           /* ours: no transfer */
    assert_string_equal(api_field(&a, "Blob-Digest"), HELLO);
    assert_int_equal(api_call_with(&a, "PUT", "/v1/blobs/" HELLO, "hello", LIST("Expect", "100-continue")), 200);
    assert_int_equal(a.req.received, 0);
    assert_true(token_create(a.fixture->store, "other", "o", "admin", 0, &token, text, NULL));
    a.token = text;
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", HELLO_METADATA)), 201);
    outline(&a, known, sizeof known);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", unknown_metadata)), 201);
    outline(&a, unknown, sizeof unknown);
    assert_string_equal(known, unknown);
    assert_int_equal(api_call_with(&a, "PUT", "/v1/blobs/" HELLO, "hellO", LIST("Expect", "100-continue")), 422);
    assert_int_equal(a.req.received, 5);                                /* all bytes were wanted, and looked at */
    assert_int_equal(api_call_with(&a, "PUT", "/v1/blobs/" HELLO, "hello", LIST("Expect", "100-continue")), 201);
    assert_int_equal(a.req.received, 5);
    api_close(&a);
}

static void what_is_said_to_be_known_is_kept_as_if_it_had_been_sent(void **state)
{
    struct api a;
    struct blob b;
    struct err e = nothing;
    int removed;
    static const char old[] = "UPDATE blob_owners SET created_at = 1";
    static const char metadata[] = "sha256 NDg2ZWE0NjIyNGQxYmI0ZmI2ODBmMzRmN2M5YWQ5NmE4ZjI0ZWM4OGJlNzNlYThlNWE2YzY1MjYwZTljYjhhNw==";
    api_open(&a, *state);
    struct store *s = a.fixture->store;
    fixture_blob(a.fixture, TEAM_LOCAL, "world");
    in_the_database(a.fixture, old);
    assert_int_equal(api_call_with(&a, "PUT", "/v1/blobs/" WORLD, "world", LIST("Expect", "100-continue")), 200);
    assert_int_equal(a.req.received, 0);
    assert_true(a.closed);
    must(store_sweep(s, 3600LL * 1000000, &removed, &e) && blob_get(s, TEAM_LOCAL, WORLD, &b, &e), &e);
    in_the_database(a.fixture, old);
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", metadata)), 201);
    assert_string_equal(api_field(&a, "Upload-Offset"), "5");
    must(store_sweep(s, 3600LL * 1000000, &removed, &e) && blob_get(s, TEAM_LOCAL, WORLD, &b, &e), &e);
    in_the_database(a.fixture, old);
    assert_int_equal(api_call(&a, "POST", "/v1/imports", "{\"url\":\"https://files.example/x\",\"digest\":\"" WORLD "\"}"), 202);
    must(store_sweep(s, 3600LL * 1000000, &removed, &e) && blob_get(s, TEAM_LOCAL, WORLD, &b, &e), &e);
    in_the_database(a.fixture, old);
    must(store_sweep(s, 3600LL * 1000000, &removed, &e), &e);
    assert_false(blob_get(s, TEAM_LOCAL, WORLD, &b, &e));
    e = nothing;
    assert_false(blob_keep(s, TEAM_LOCAL, WORLD, &b, &e));
    assert_int_equal(e.code, ERR_BUSY);
    api_close(&a);
}

static void a_data_set_is_held_against_a_model(void **state)
{
    struct api a;
    char path[128], body[128];
    api_open(&a, *state);
    snprintf(path, sizeof path, "/v1/datasets/%s/validations", a.fixture->dataset);
    snprintf(body, sizeof body, "{\"model_id\":\"%s\"}", a.fixture->model);
    assert_int_equal(api_call(&a, "POST", path, body), 200);
    assert_true(json_is_true(json_object_get(a.json, "ok")));
    assert_int_equal(api_call(&a, "POST", path, "{\"model_id\":\"mdl_00000000000000000000000000\"}"), 422);
    assert_string_equal(api_text(&a, "pointer"), "/model_id");
    assert_int_equal(api_call(&a, "POST", "/v1/datasets/ds_00000000000000000000000000/validations", body), 404);
    assert_int_equal(api_call(&a, "POST", path, "{}"), 400);
    assert_int_equal(a.server.inspections, 1);
    api_close(&a);
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
#define ON_A_DISK(f) cmocka_unit_test_setup_teardown(f, own_disk_setup, own_disk_teardown)

/* What a field brings back is JSON and a field again: neither takes any bytes. */
static void metadata_are_ascii(void **state)
{
    static const char *const bad[] = { "name \xff\xfe", "na\xd0\x96 bQ==", "name bQ==,x\x80 bQ==", "name\tbQ==", "name bQ==\x7f" };
    struct api a;
    char path[80];
    api_open(&a, *state);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", bad[i])) != 400
            || strcmp(api_text(&a, "where"), "Upload-Metadata") != 0)
            fail_msg("%s: %d", bad[i], a.status);
    }
    assert_int_equal(api_tus(&a, "POST", "/v1/uploads", NULL, LIST("Upload-Length", "5", "Upload-Metadata", "name bQ==,empty, a~ bQ==")), 201);
    snprintf(path, sizeof path, "%s", api_field(&a, "Location"));
    assert_int_equal(api_tus(&a, "HEAD", path, NULL, LIST(NULL)), 200);
    api_close(&a);
}

/* As one could be made before only ASCII was taken. */
static void an_upload_with_other_metadata_is_shown_still(void **state)
{
    struct api a;
    struct upload_part part;
    struct upload u;
    char path[80];
    api_open(&a, *state);
    struct upload_wish w = { .length = 5, .metadata = "name \xff\xfe" };
    assert_true(upload_begin(&part, a.fixture->store, TEAM_LOCAL, &w, NULL) && upload_end(&part, &u, NULL));
    snprintf(path, sizeof path, "/v1/uploads/%s", u.id);
    upload_release(&u);
    assert_int_equal(api_tus(&a, "GET", path, NULL, LIST(NULL)), 200);
    assert_string_equal(api_text(&a, "metadata"), "name ??");
    api_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_hash_tells_nothing_but_the_hash),
        cmocka_unit_test(the_hash_goes_on_where_it_stopped_and_is_made_again_if_it_is_lost),
        WITH_STORE(metadata_are_ascii),
        WITH_STORE(an_upload_with_other_metadata_is_shown_still),
        WITH_STORE(parts_become_a_blob_over_restarts),
        WITH_STORE(an_offset_that_is_not_the_uploads_is_refused),
        WITH_STORE(more_bytes_than_declared_are_refused_and_the_rest_is_kept),
        WITH_STORE(a_broken_connection_keeps_what_came_but_not_under_a_checksum),
        WITH_STORE(a_crash_keeps_what_was_acknowledged_and_forgets_the_rest),
        WITH_STORE(bytes_that_are_another_teams_blob_are_never_written_to),
        WITH_STORE(an_upload_cut_at_its_commit_is_finished_without_roots_rights),
        WITH_STORE(a_last_part_whose_rows_are_refused_leaves_no_blob_and_is_sent_again),
        WITH_STORE(only_the_bytes_that_were_hashed_get_the_digest),
        WITH_STORE(an_upload_whose_bytes_are_gone_says_so),
        WITH_STORE(who_asks_takes_over_from_who_writes),
        WITH_STORE(another_teams_upload_does_not_exist_even_while_it_is_written),
        WITH_STORE(an_import_is_the_importers_to_write),
        WITH_STORE(wrong_bytes_end_the_upload),
        WITH_STORE(bytes_another_team_has_are_stored_once_and_belong_to_both),
        WITH_STORE(uploads_expire_and_are_bounded),
        WITH_STORE(requests_under_way_take_no_more_than_the_quota_together),
        WITH_STORE(a_body_of_unknown_length_may_fill_the_quota_and_not_more),
        WITH_STORE(what_is_held_and_has_its_rows_already_counts_once),
        WITH_STORE(uploads_without_a_row_are_bounded_too),
        WITH_STORE(a_file_without_a_row_goes_at_the_next_start),
        ON_A_DISK(disk_space_is_taken_when_an_upload_begins),
        ON_A_DISK(a_job_is_promised_its_space_or_refused),
        WITH_STORE(the_hash_follows_a_large_upload),
        WITH_STORE(nothing_is_acknowledged_that_could_not_be_synced),
        WITH_STORE(the_protocol_is_kept),
        WITH_STORE(an_upload_can_begin_with_its_bytes_or_be_empty),
        WITH_STORE(a_digest_tells_another_team_nothing),
        WITH_STORE(what_is_said_to_be_known_is_kept_as_if_it_had_been_sent),
        WITH_STORE(a_data_set_is_held_against_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
