/*
 * webhook.h - who wants to be told, and what they are told: hooks, and the outbox of their deliveries.
 *
 * A hook is a team's, for all its jobs, or one job's (job_id).  Every event of a job is put into the outbox of the hooks that asked for its
 * type in the transaction that adds the event, so neither can exist without the other; the sender (server/sender.h) takes them from there.
 *
 *                        2xx
 *            PENDING ------------> DELIVERED
 *             |   ^  \  the last attempt failed, or 410
 *    an attempt   |   +----------> FAILED
 *    failed:  |   |   \  the address may not be connected to
 *    later    +---+    +---------> BLOCKED
 *
 * delivery_again() makes any of them PENDING once more, with the same event.  A hook is disabled by its team, by a 410, or when a delivery used
 * up its attempts and nothing has been delivered since that delivery was made.  Then nothing is sent and nothing new is put into
 * its outbox; what is PENDING stays so, and goes out when the hook is enabled again.
 */
#ifndef STORAGE_WEBHOOK_H
#define STORAGE_WEBHOOK_H

#include "storage/store.h"
#include "storage/ulid.h"

/* X(type, whether who names no types gets it) */
#define WEBHOOK_EVENTS_(X)                                                                                                      \
    X("job.queued", 1) X("job.started", 1) X("job.stage_changed", 1) X("job.progress", 0) X("job.resumed", 1)                   \
    X("job.layer_completed", 0) X("job.metric", 1) X("job.warning", 1) X("job.canceling", 1) X("job.canceled", 1)               \
    X("job.failed", 1) X("job.succeeded", 1) X("artifact.created", 1) X("webhook.disabled", 1)
extern const char *const webhook_events[];          /* NULL-terminated */
extern const char webhook_events_default[];         /* with a space between */

enum { WEBHOOK_URL_SIZE = 2049, WEBHOOK_NAME_SIZE = 201, WEBHOOK_EVENTS_SIZE = 320, WEBHOOK_ORIGIN_SIZE = 272, WEBHOOK_WHY_SIZE = 200,
       WEBHOOK_SECRET_SIZE = 96, WEBHOOK_KEY_MIN = 24, WEBHOOK_KEY_MAX = 64, WEBHOOK_LANE_SIZE = 17 };
#define WEBHOOK_OVERLAP_US (24 * 3600 * INT64_C(1000000))   /* how long the secret before still signs */

struct webhook {
    char id[ID_SIZE], team[TEAM_SIZE];
    char job_id[ID_SIZE];                           /* "": all jobs of the team */
    char name[WEBHOOK_NAME_SIZE], url[WEBHOOK_URL_SIZE], events[WEBHOOK_EVENTS_SIZE];
    char created_by[ID_SIZE];                       /* the token; "": nobody's */
    char disabled_why[WEBHOOK_WHY_SIZE];
    int64_t created_at, disabled_at, tried_at, delivered_at, rotated_until;     /* the last: until then the secret before signs, too */
    int64_t pending;                                /* deliveries that wait */
};

struct webhook_request {
    const char *name, *url;
    const char *origin;                             /* "host:port" of the URL */
    const char *events;                             /* types with a space between; NULL: the default */
    const char *secret;                             /* "whsec_..."; NULL: one is made */
    const char *created_by;                         /* NULL: nobody's */
};
/* *ret_secret is shown once.  ERR_QUOTA when the team has as many as it may. */
bool webhook_create(struct store *s, const char *team, const struct webhook_request *r, struct webhook *ret,
                    char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e);
/* Whether the text is "whsec_" and the base64 of WEBHOOK_KEY_MIN to WEBHOOK_KEY_MAX bytes; *ret_n of them are the key. */
bool webhook_key(const char *secret, uint8_t ret[WEBHOOK_KEY_MAX], size_t *ret_n);

bool webhook_get(struct store *s, const char *team, const char *id, struct webhook *ret, struct err *e);

/* Those for all jobs, or those of one job. */
struct webhook_list { struct webhook *items; size_t n; bool more; };
bool webhook_list(struct store *s, const char *team, const char *job_id, struct page page, struct webhook_list *ret, struct err *e);
void webhook_list_release(struct webhook_list *l);

struct webhook_change {
    const char *name, *url, *origin, *events;       /* NULL: as it is; url and origin together */
    int enabled;                                    /* 1, 0; -1: as it is */
};
bool webhook_change(struct store *s, const char *team, const char *id, const struct webhook_change *change, struct webhook *ret, struct err *e);
bool webhook_rotate(struct store *s, const char *team, const char *id, struct webhook *ret, char ret_secret[WEBHOOK_SECRET_SIZE], struct err *e);
/* With its deliveries. */
bool webhook_delete(struct store *s, const char *team, const char *id, struct err *e);

/* ---- deliveries ---- */

enum delivery_state { DELIVERY_PENDING, DELIVERY_DELIVERED, DELIVERY_FAILED, DELIVERY_BLOCKED, DELIVERY_STATES };
const char *delivery_state_name(enum delivery_state state);
bool delivery_state_parse(const char *text, enum delivery_state *ret);

struct delivery_attempt {
    int64_t n, at, us;                              /* n counts from 1; us: how long it took */
    int status;                                     /* 0: there was no answer */
    char *problem;                                  /* why it failed: JSON; NULL: it did not */
    char *response;                                 /* what came with the answer, the beginning of it */
};
struct delivery {
    char id[ID_SIZE], webhook_id[ID_SIZE], event_id[ID_SIZE], subject[ID_SIZE];
    char type[32];
    enum delivery_state state;
    int64_t created_at, due_at, ended_at;           /* due_at: of a pending one */
    int64_t attempts;
    char *body;                                     /* NULL in lists */
    struct delivery_attempt *log;                   /* likewise */
    size_t nlog;
};
void delivery_release(struct delivery *d);

struct delivery_list { struct delivery *items; size_t n; bool more; };
/* state NULL: any. */
bool delivery_list(struct store *s, const char *team, const char *webhook_id, const enum delivery_state *state, struct page page,
                   struct delivery_list *ret, struct err *e);
void delivery_list_release(struct delivery_list *l);
bool delivery_get(struct store *s, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e);

/* Both ERR_CONFLICT where the hook is disabled. */
bool delivery_again(struct store *s, const char *team, const char *webhook_id, const char *id, struct delivery *ret, struct err *e);
bool webhook_ping(struct store *s, const char *team, const char *webhook_id, struct delivery *ret, struct err *e);

/* ---- for the sender: not asked by a team ---- */

/* What is to be sent next. */
struct letter {
    char id[ID_SIZE], event_id[ID_SIZE], webhook_id[ID_SIZE], team[TEAM_SIZE], type[32];
    char lane[WEBHOOK_LANE_SIZE];                   /* equal for a team's hooks at one host and port: one delivery at a time */
    char url[WEBHOOK_URL_SIZE];
    char secret[WEBHOOK_SECRET_SIZE], old_secret[WEBHOOK_SECRET_SIZE];      /* old: "" when it does not sign any more */
    int64_t created_at;
    int tries;                                      /* attempts since it was last asked for */
    char *body;
};
void letter_release(struct letter *l);

/*
 * The first delivery that is due of the hook that has waited longest, whose lane is none of those in `busy` and one of those in `only` (text
 * with anything between; only NULL: any).  False without an error: there is none; *ret_due is when the next one may be, 0: not
 * before one is added.
 */
bool outbox_next(struct store *s, const char *busy, const char *only, struct letter *ret, int64_t *ret_due, struct err *e);

struct letter_result {
    enum delivery_state state;                      /* PENDING: another attempt at due_at */
    int64_t at, us, due_at;
    int status;
    bool gone;                                      /* the receiver wants nothing more: 410 */
    const char *problem, *response;                 /* of the attempt, as above; may be NULL */
};
/* Writes it down; *ret_disabled: that disabled the hook.  A delivery that has been deleted meanwhile is nobody's concern. */
bool outbox_result(struct store *s, const struct letter *l, const struct letter_result *r, bool *ret_disabled, struct err *e);

struct outbox_counts { int64_t pending, oldest_due; /* 0: none waits */ int64_t disabled; };
bool outbox_count(struct store *s, struct outbox_counts *ret, struct err *e);

#endif
