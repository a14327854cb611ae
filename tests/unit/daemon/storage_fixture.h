/*
 * storage_fixture.h - a data folder of its own for each test, with one model, one data set and one
 * blob of the bytes "hello".
 */
#ifndef TESTS_STORAGE_FIXTURE_H
#define TESTS_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/asset.h"
#include "storage/blob.h"
#include "storage/run.h"
#include "storage/scratch.h"
#include "storage/token.h"
#include "storage/webhook.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURE_DIGEST "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

struct fixture {
    char dir[256];
    struct store *store;
    char model[ID_SIZE], dataset[ID_SIZE];
};

static inline struct blob fixture_blob(struct fixture *f, const char *team, const char *text)
{
    struct blob_writer w;
    struct blob b;
    struct err e = { 0 };
    if (!blob_begin(&w, f->store, team, NULL, 1 << 20, &e) || !blob_write(&w, text, strlen(text), &e) || !blob_finish(&w, &b, &e))
        fail_msg("%s: %s", e.where, e.text);
    return b;
}

static inline void fixture_asset(struct fixture *f, enum asset_kind kind, char ret[ID_SIZE])
{
    struct asset_file file = { .path = "file", .digest = FIXTURE_DIGEST };
    struct asset a = { .kind = kind, .name = "x", .format = "onnx", .files = &file, .nfiles = 1 };
    struct err e = { 0 };
    if (!asset_insert(f->store, TEAM_LOCAL, &a, NULL, &e))
        fail_msg("%s: %s", e.where, e.text);
    memcpy(ret, a.id, ID_SIZE);
}

static inline struct job_request fixture_request(struct fixture *f)
{
    return (struct job_request){ .type = "quantize", .model_id = f->model, .dataset_id = f->dataset,
                                 .recipe = "{\"name\":\"repquant-w4a4\"}" };
}

static inline void fixture_job(struct fixture *f, int priority, char ret[ID_SIZE])
{
    struct job_request r = fixture_request(f);
    struct job job;
    struct err e = { 0 };
    r.priority = priority;
    if (!job_insert(f->store, TEAM_LOCAL, &r, &job, &e))
        fail_msg("%s: %s", e.where, e.text);
    memcpy(ret, job.id, ID_SIZE);
    job_release(&job);
}

/* Deliveries that wait to be sent. */
static inline int64_t fixture_pending(struct fixture *f)
{
    struct outbox_counts n;
    assert_true(outbox_count(f->store, &n, NULL));
    return n.pending;
}

static inline void fixture_reopen(struct fixture *f)
{
    struct err e = { 0 };
    store_close(f->store);
    io_sync_forget();
    if (!(f->store = store_open(f->dir, &e)))
        fail_msg("%s: %s", e.where, e.text);
}

/* A token that nobody made. */
static inline bool token_create(struct store *s, const char *team, const char *name, const char *scopes, int64_t expires_at,
                                struct token *ret, char ret_text[TOKEN_TEXT_SIZE], struct err *e)
{
    struct token_request request = { .name = name, .scopes = scopes, .expires_at = expires_at };
    return token_issue(s, team, &request, ret, ret_text, e);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.200s/repquant-test.XXXXXX", tmp ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(f->dir))
        return -1;
    fixture_reopen(f);
    fixture_blob(f, TEAM_LOCAL, "hello");
    fixture_asset(f, ASSET_MODEL, f->model);
    fixture_asset(f, ASSET_DATASET, f->dataset);
    *state = f;
    return 0;
}

static inline int fixture_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    nftw(f->dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

#endif
