/*
 * job.h - one job, as it is stored and as it may change.
 *
 *              claim                    finish
 *   QUEUED ---------------> RUNNING ----------------> SUCCEEDED
 *    |  ^                    |  |  |
 *    |  |  requeue           |  |  +----------------> FAILED      the input is at fault, or the
 *    |  +--------------------+  |                                 attempts are used up
 *    |    (crash, shutdown,     | cancel
 *    |     expired lease)       v
 *    |                      CANCELING --------------> CANCELED
 *    |  cancel                        process gone       ^
 *    +---------------------------------------------------+
 *    |  its deadline passed before anybody claimed it
 *    +--------------------------------------------------------> FAILED
 *
 * The last three are terminal: nothing leaves them; a retry is a new job.  The row in table
 * `jobs` is the job, there is no second copy to keep in step, and every arrow is one transaction that
 * also inserts its event.  What a worker writes about a job it runs is in run.h.
 */
#ifndef STORAGE_JOB_H
#define STORAGE_JOB_H

#include "storage/idempotency.h"
#include "storage/webhook.h"

/* X(name, text, the states it may become) */
#define JOB_STATES_(X)                                                                       \
    X(QUEUED, "queued", JOB_BIT(RUNNING) | JOB_BIT(CANCELED) | JOB_BIT(FAILED))              \
    X(RUNNING, "running", JOB_BIT(QUEUED) | JOB_BIT(CANCELING) | JOB_BIT(FAILED) | JOB_BIT(SUCCEEDED)) \
    X(CANCELING, "canceling", JOB_BIT(CANCELED))                                             \
    X(CANCELED, "canceled", 0)                                                               \
    X(FAILED, "failed", 0)                                                                   \
    X(SUCCEEDED, "succeeded", 0)
#define JOB_BIT(state) (1u << JOB_##state)

enum job_state {
#define X(name, text, next) JOB_##name,
    JOB_STATES_(X)
#undef X
    JOB_STATES
};

/* What a running job is busy with; NONE before the child has said anything. */
#define JOB_STAGES_(X) X(NONE, "") X(PREPARING, "preparing") X(CALIBRATING, "calibrating") \
    X(QUANTIZING, "quantizing") X(EXPORTING, "exporting") X(EVALUATING, "evaluating")
enum job_stage {
#define X(name, text) STAGE_##name,
    JOB_STAGES_(X)
#undef X
    JOB_STAGES
};

bool job_may_move(enum job_state from, enum job_state to);
bool job_state_terminal(enum job_state s);
const char *job_state_name(enum job_state s);            /* "queued"; never NULL */
bool job_state_parse(const char *text, enum job_state *ret);
const char *job_stage_name(enum job_stage s);            /* "calibrating"; "" for NONE */
bool job_stage_parse(const char *text, enum job_stage *ret);

enum { JOB_MAX_ATTEMPTS = 3, JOB_TYPE_SIZE = 16 };

struct job {
    /* set once, by job_insert() */
    char id[ID_SIZE], team[TEAM_SIZE];
    char type[JOB_TYPE_SIZE];       /* "quantize" */
    char model_id[ID_SIZE];
    char dataset_id[ID_SIZE], eval_dataset_id[ID_SIZE];    /* "" if none */
    char retry_of[ID_SIZE];         /* "" if none */
    char *recipe;                   /* JSON, complete */
    char *labels;                   /* JSON object of strings */
    int priority;                   /* higher first, among the team's own */
    int max_attempts;
    int64_t not_before;             /* not to be claimed earlier; 0: at once */
    int64_t deadline_s;             /* seconds it has from then on, waiting included; 0: any */
    int64_t deadline;               /* when these are over; 0: never */
    char fingerprint[HASH_HEX_SIZE];    /* equal for jobs that end with the same bytes; "": unknown */
    char *estimate;                 /* JSON or NULL: what it was expected to take */
    int64_t memory;                 /* bytes of that; 0: unknown */

    /* changed only along the arrows */
    enum job_state state;
    int64_t at[JOB_STATES];         /* when it last entered each state */
    int64_t cancel_requested_at;
    char cancel_by[ID_SIZE];        /* the token; "": nobody's, or nobody asked */
    char *cancel_reason;            /* NULL: none was given */
    int attempt;                    /* times claimed, this one included; a shutdown's is given back */
    int64_t claim_token;            /* grows with every claim; a write with an older one changes nothing */
    int64_t lease_until;            /* on the clock of boot `boot_id`, see clock_mono_us() */
    char boot_id[40], worker[64];   /* who holds the claim */

    /* written by the worker while RUNNING */
    enum job_stage stage;
    int64_t done, total;            /* sites */
    int warnings;
    char *engine;                   /* JSON or NULL: version, threads, memory, sandbox and cgroup of the attempt */
    char *problem;                  /* JSON or NULL: why it failed, or why the last attempt was lost */
    char *summary;                  /* JSON or NULL: of a job that succeeded */

    char trace[TRACE_ID_SIZE];      /* the trace of the request that made it, 32 hex digits (W3C traceparent); "": none */

    /* set by job_insert(); no columns */
    bool reused;                    /* it found the job instead of making one */
    char webhook_id[ID_SIZE];       /* the hook it made for the request; "": none was asked for */
    char webhook_secret[WEBHOOK_SECRET_SIZE];
};
void job_release(struct job *job);

/* What to do about a job of the same fingerprint that waits, runs or has its artifacts.  X(name, text) */
#define DEDUPES_(X) X(NEW, "new") X(REUSE, "reuse") X(REJECT, "reject") X(REPLACE_QUEUED, "replace_queued")
enum dedupe {
#define X(name, text) DEDUPE_##name,
    DEDUPES_(X)
#undef X
    DEDUPES
};
bool dedupe_parse(const char *text, enum dedupe *ret);

struct job_request {
    const char *type;
    const char *model_id;
    const char *dataset_id, *eval_dataset_id;    /* NULL or "": none */
    const char *recipe, *labels;    /* JSON; labels NULL: {} */
    int priority;
    int max_attempts;               /* 0: JOB_MAX_ATTEMPTS */
    int64_t not_before, deadline_s; /* as in struct job */
    const char *fingerprint;        /* NULL: unknown, then dedupe finds nothing */
    enum dedupe dedupe;
    const char *estimate;           /* as in struct job */
    int64_t memory;
    const char *trace;              /* as in struct job; NULL: none */
    const struct webhook_request *webhook;      /* to be told of this job's events; NULL: nobody is */
    struct idempotency idempotency;
};

/*
 * Queues a job, or by its dedupe gives one there is (ret->reused).  ERR_NOT_FOUND names a model or data set the team does
 * not have; ERR_CONFLICT with where "/dedupe": there is such a job; with where "Idempotency-Key": another
 * request used the key meanwhile, look again with idempotency_find().  A webhook is told of a job that was there, too; if that has ended,
 * of its end.  ERR_QUOTA: the team may queue no more, or the job has WEBHOOKS_PER_JOB.
 */
bool job_insert(struct store *s, const char *team, const struct job_request *request, struct job *ret, struct err *e);

bool job_get(struct store *s, const char *team, const char *id, struct job *ret, struct err *e);

struct job_filter {
    unsigned states;                /* bits 1 << JOB_*; 0: any */
    const char *labels;             /* JSON object: all of these must be equal; NULL: any */
    const char *model_id;           /* NULL or "": any */
};
struct job_list { struct job *items; size_t n; bool more; };
bool job_list(struct store *s, const char *team, const struct job_filter *filter, struct page page, struct job_list *ret, struct err *e);
void job_list_release(struct job_list *l);

/*
 * Asks for the end: QUEUED becomes CANCELED, RUNNING becomes CANCELING (then tell the worker).  `by` is a token's
 * id, both texts may be NULL.  Repeating it is fine.  ERR_CONFLICT if the job has succeeded or failed.
 */
bool job_cancel(struct store *s, const char *team, const char *id, const char *by, const char *reason, struct job *ret, struct err *e);

/* Removes a job that has ended with all it left; ERR_CONFLICT if it has not. */
bool job_delete(struct store *s, const char *team, const char *id, struct err *e);

/* The estimate of the team's latest job of this fingerprint, malloc'd; NULL if there is none. */
bool job_estimate_find(struct store *s, const char *team, const char *fingerprint, char **ret, struct err *e);

/* A new job like a FAILED or CANCELED one, with retry_of set; else ERR_CONFLICT. */
bool job_retry(struct store *s, const char *team, const char *id, const struct idempotency *key, const char *trace, struct job *ret,
               struct err *e);

struct queue_counts {
    int64_t jobs[JOB_STATES];       /* of the team; of all teams if team is NULL */
    int64_t oldest_queued_at;       /* 0: none is queued */
};
bool queue_count(struct store *s, const char *team, struct queue_counts *ret, struct err *e);

/* How the team's queue was at the end of each of n equal spans up to `now`, the oldest first.  Of jobs that were queued within them, and those that wait. */
struct queue_point {
    int64_t at;                     /* the span's end */
    int64_t depth;                  /* jobs that waited then */
    int64_t started, waited_us;     /* jobs that began to run within the span, and how long they had waited, together */
};
bool queue_history(struct store *s, const char *team, int64_t now, int64_t span_us, size_t n, struct queue_point *ret, struct err *e);
/*
 * About how many queued jobs will be claimed before this one: those of its team, and as many of each other team as it
 * has; -1 if it is not queued.
 */
bool queue_position(struct store *s, const char *team, const char *id, int64_t *ret, struct err *e);

/*
 * What time alone does to queued jobs: those whose not_before has come may be claimed, those whose deadline has
 * passed fail.  *ret_released: how many may be claimed now; *ret_next: when to ask again, 0: not before a job is queued.
 */
bool queue_due(struct store *s, int *ret_released, int64_t *ret_next, struct err *e);

#endif
