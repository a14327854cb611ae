/*
 * run.h - what the holder of a claim may write about the job it runs.
 *
 * run_claim() gives a worker one job and a token that no other claim of the job had or will have.
 * Every write below names the token; once somebody else has claimed the job, or recovery has taken it,
 * the write changes nothing and returns false with ERR_CONFLICT: the attempt is stale, its
 * process must be killed and its folder dropped.  So a supervisor that slept through its lease
 * can do no harm when it wakes.
 */
#ifndef STORAGE_RUN_H
#define STORAGE_RUN_H

#include "storage/job.h"

struct claim {
    char job[ID_SIZE], team[TEAM_SIZE];
    int64_t token;
};

struct claim_terms {
    const char *worker;             /* who claims */
    int64_t lease_us;
    int64_t memory;                 /* bytes that all running jobs may take together; 0: any */
};

/*
 * QUEUED -> RUNNING for the job whose turn it is (claim.c says how turns are found).  Jobs whose lease has expired
 * are requeued first.  False with e->code ERR_NONE (e is required): nothing may run now.
 */
bool run_claim(struct store *s, const struct claim_terms *terms, struct claim *ret_claim, struct job *ret_job, struct err *e);

/* Extends the lease; *ret_canceling: somebody asked for the end. */
bool run_heartbeat(struct store *s, const struct claim *c, int64_t lease_us, bool *ret_canceling, struct err *e);

bool run_engine(struct store *s, const struct claim *c, const char *engine_json, struct err *e);
bool run_stage(struct store *s, const struct claim *c, enum job_stage stage, struct err *e);
bool run_progress(struct store *s, const struct claim *c, int64_t done, int64_t total, int64_t samples, struct err *e);
/* The attempt goes on from a journal with so many finished sites and weights. */
bool run_resumed(struct store *s, const struct claim *c, int64_t sites, int64_t weights, struct err *e);
/* A row seen again (a resumed attempt) replaces the old one. */
bool run_layer(struct store *s, const struct claim *c, int64_t index, const char *row_json, struct err *e);
/* NaN: unknown. */
bool run_metric(struct store *s, const struct claim *c, const char *name, double x_float, double x_quantized, int64_t samples, struct err *e);
bool run_warning(struct store *s, const struct claim *c, const char *code, const char *where, const char *detail, struct err *e);

/* The ends of an attempt. */

struct result { char name[64]; char media_type[64]; char digest[HASH_TEXT_SIZE]; uint64_t size; };

/* RUNNING -> SUCCEEDED with its artifacts, in one transaction.  ERR_CANCELED if it is CANCELING: call run_canceled(). */
bool run_finish(struct store *s, const struct claim *c, const struct result *results, size_t n, const char *summary_json, struct err *e);
/* RUNNING -> FAILED, or CANCELING -> CANCELED. */
bool run_fail(struct store *s, const struct claim *c, const char *problem_json, struct err *e);
/* The attempt was lost: RUNNING -> QUEUED, or FAILED when attempts are used up; CANCELING -> CANCELED. */
bool run_lost(struct store *s, const struct claim *c, const char *problem_json, enum job_state *ret, struct err *e);
/* We shut down: RUNNING -> QUEUED and the attempt does not count; CANCELING -> CANCELED. */
bool run_requeue(struct store *s, const struct claim *c, struct err *e);
/* CANCELING -> CANCELED. */
bool run_canceled(struct store *s, const struct claim *c, struct err *e);

#endif
