/*
 * queue.c - what a long queue costs: 10,000 queued jobs of 5 teams that have asked for very different numbers.
 *
 *   build/bench/queue DIR [JOBS]        DIR must not exist; it is left for bench/claims.py to start a daemon on
 *
 * Claims, each with the commit that makes it durable, one finished job after each; how fair the first half of them was to
 * the teams; and how long opening and recovering the store takes.
 */
#include "core/base/clock.h"
#include "storage/asset.h"
#include "storage/blob.h"
#include "storage/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEAMS = 5, CLAIMS = 1000 };
static const char *const teams[TEAMS] = { "blue", "green", "red", "violet", "white" };
static const int share[TEAMS] = { 60, 20, 10, 5, 5 };          /* per cent of the queue */

static void need(bool ok, const struct err *e)
{
    if (ok)
        return;
    fprintf(stderr, "queue: %s: %s\n", e->where, e->text);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void register_asset(struct store *s, const char *team, enum asset_kind kind, char ret[ID_SIZE], struct err *e)
{
    struct blob_writer w;
    struct blob b;
    need(blob_begin(&w, s, team, NULL, 1 << 10, e) && blob_write(&w, "bytes", 5, e) && blob_finish(&w, &b, e), e);
    struct asset_file file = { .path = "file" };
    snprintf(file.digest, sizeof file.digest, "%s", b.digest);
    struct asset a = { .kind = kind, .name = "x", .format = "onnx", .files = &file, .nfiles = 1 };
    need(asset_insert(s, team, &a, NULL, e), e);
    memcpy(ret, a.id, ID_SIZE);
}

static void fill(struct store *s, int jobs, struct err *e)
{
    for (int t = 0; t < TEAMS; t++) {
        char model[ID_SIZE], data[ID_SIZE];
        register_asset(s, teams[t], ASSET_MODEL, model, e);
        register_asset(s, teams[t], ASSET_DATASET, data, e);
        struct job_request r = { .type = "quantize", .model_id = model, .dataset_id = data, .recipe = "{}" };
        for (int i = 0; i < jobs * share[t] / 100; i++) {
            struct job job;
            r.priority = i % 10;
            need(job_insert(s, teams[t], &r, &job, e), e);
            job_release(&job);
        }
    }
}

static int number_of(const char *team)
{
    int t = 0;
    while (strcmp(teams[t], team) != 0)
        t++;
    return t;
}

static void claim(struct store *s, int n, int64_t *us, int *got, struct err *e)
{
    struct claim_terms terms = { .worker = "bench", .lease_us = 30000000 };
    for (int i = 0; i < n; i++) {
        struct claim c;
        struct job job;
        int64_t begun = clock_mono_us();
        need(run_claim(s, &terms, &c, &job, e), e);
        us[i] = clock_mono_us() - begun;
        got[number_of(c.team)]++;
        job_release(&job);
        need(run_finish(s, &c, NULL, 0, "{}", e), e);
    }
    qsort(us, (size_t)n, sizeof *us, by_size);
}

int main(int argc, char **argv)
{
    static int64_t us[CLAIMS];
    int got[TEAMS] = { 0 };
    struct err e = { 0 };
    struct recovery r;
    int jobs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 10000;
    struct store *s = argc > 1 ? store_open(argv[1], &e) : NULL;
    if (!s || jobs < CLAIMS * 10) {
        fprintf(stderr, "usage: queue DIR [JOBS, %d at least]; %s\n", CLAIMS * 10, e.text);
        return 2;
    }
    int64_t begun = clock_mono_us();
    fill(s, jobs, &e);
    printf("%d jobs of %d teams queued in %.1f s\n", jobs, TEAMS, 1e-6 * (double)(clock_mono_us() - begun));
    int fair = CLAIMS / 2;                  /* while every team has some */
    claim(s, fair, us, got, &e);
    double worst = 0;
    for (int t = 0; t < TEAMS; t++) {
        double off = 100.0 * got[t] * TEAMS / fair - 100;
        worst = off > worst ? off : -off > worst ? -off : worst;
    }
    printf("claims: median %.2f ms, p99 %.2f ms, most %.2f ms; shares at most %.1f %% from fair\n", 1e-3 * (double)us[fair / 2],
           1e-3 * (double)us[fair * 99 / 100], 1e-3 * (double)us[fair - 1], worst);
    store_close(s);
    begun = clock_mono_us();
    s = store_open(argv[1], &e);
    need(s && store_recover(s, &r, &e), &e);
    printf("open and recover: %.2f s\n", 1e-6 * (double)(clock_mono_us() - begun));
    store_close(s);
    return 0;
}
